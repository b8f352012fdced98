//! The client that mails leave by, against a server that says anything.
//!
//! The invariants: accepted means sent to the end, a mail is sent only when it is asked for, and reasons are one bounded
//! line without the password.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use data_encoding::BASE64;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::peer::{CUT, Peer, TURN};
use super::stopped_clock;

use crate::net::login::{Login, Security};
use crate::net::smtp::{self, Deadlines, Envelope, Outcome, Server, Session};

const USER: &str = "shop-user";
const PASSWORD: &str = "canary-pass-4711";
const MAIL: &[u8] = b"Subject: canary\r\n\r\n.\r\n..dots\r\ncanary-text\r\n";

/// Never used: a script has no certificate.
static TLS: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
});

/// What an SMTP server says, in turns (see `peer`). The first byte says how the client begins.
pub fn smtp_reply(bytes: &[u8]) {
    let (Some((&kind, script)), Some(tls)) = (bytes.split_first(), TLS.clone()) else { return };
    let has = |bit: u8| kind & (1 << bit) != 0;
    let (user, secret) = (USER.to_owned(), Zeroizing::new(PASSWORD.to_owned()));
    let login = if has(2) { Login::Bearer { user, token: secret } } else { Login::Password { user, password: secret } };
    let server = Server {
        host: "mx.shop.example".to_owned(),
        security: if has(0) { Security::StartTls } else { Security::Implicit },
        tls,
        hello: "gate.example".to_owned(),
        login: has(1).then_some(login),
        deadlines: Deadlines::default(),
    };
    stopped_clock(async {
        before_tls(script).await;
        session(&server, script).await;
    });
}

/// In clear nothing is said but what leads to TLS.
async fn before_tls(script: &[u8]) {
    let (peer, heard) = Peer::new(script);
    let consents = timeout(Duration::from_secs(30), smtp::start_tls(peer)).await.is_ok_and(|ended| ended.is_ok());
    let (said, all) = (heard.bytes(), b"EHLO gate.example\r\nSTARTTLS\r\n");
    assert!(all.starts_with(&said) && (!consents || said == all));
}

async fn session(server: &Server, script: &[u8]) {
    let (peer, heard) = Peer::new(script);
    let mut accepted = 0;
    match Session::bare(server, peer).await {
        Err(why) => check_login_failure(&why, &heard.bytes()),
        Ok(mut session) => {
            for from in [Some("shop@shop.example".to_owned()), None] {
                let to = ["anna@customer.example", "ben@customer.example"].map(str::to_owned).to_vec();
                let outcomes = session.send(&Envelope { from, to }, MAIL).await;
                assert_eq!(outcomes.len(), 2);
                outcomes.iter().for_each(check_outcome);
                accepted += usize::from(outcomes.iter().any(|one| matches!(one, Outcome::Accepted(_))));
                if !session.is_reusable() || !session.is_alive().await {
                    break;
                }
            }
            session.quit().await;
        }
    }
    let heard = heard.bytes();
    let ends = memchr::memmem::find_iter(&heard, b"canary-text\r\n.\r\n").count();
    assert!(accepted <= ends, "accepted, but never sent to its end");
    let said: Vec<u8> = script.iter().copied().filter(|byte| !matches!(*byte, TURN | CUT)).collect();
    let sent = memchr::memmem::find(&heard, b"canary-text").is_some();
    assert!(!sent || memchr::memmem::find(&said, b"354").is_some(), "sent without being asked for");
}

fn check_outcome(outcome: &Outcome) {
    let text = match outcome {
        Outcome::Accepted(text) | Outcome::Refused(.., text) | Outcome::Uncertain(text) => text,
        Outcome::NotSent(_, reason) | Outcome::Barred(.., reason) => &reason.words,
    };
    assert!(text.len() <= 600 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
    if let Outcome::Refused(code, enhanced, _) | Outcome::Barred(code, enhanced, _) = outcome {
        assert!((500..600).contains(code) && enhanced.as_ref().is_none_or(|code| code.starts_with('5')));
    }
}

/// Why the login failed is told without the secret, in each form in which the server was told it. One who knows it anyway may
/// say so in others.
fn check_login_failure(why: &Outcome, heard: &[u8]) {
    check_outcome(why);
    let shown = format!("{why:?}");
    let plain = BASE64.encode(format!("\0{USER}\0{PASSWORD}").as_bytes());
    let login = BASE64.encode(PASSWORD.as_bytes());
    for told in
        [plain.as_str(), &login].into_iter().filter(|form| memchr::memmem::find(heard, form.as_bytes()).is_some())
    {
        for secret in [PASSWORD, told] {
            let mut parts = secret.as_bytes().windows(8);
            assert!(!parts.any(|part| memchr::memmem::find(shown.as_bytes(), part).is_some()), "{shown}");
        }
    }
}
