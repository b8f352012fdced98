//! Sending by SMTP against a server that fails on purpose at every step.

mod cases;
mod random;
#[allow(dead_code)]
#[path = "../../../../tests/it/support/scripted_smtp.rs"]
mod script;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::net::login::{Login, Security};
use crate::net::smtp::Dial;
use crate::net::smtp::{Again, Deadlines, Envelope, Outcome, Server, Session};
use futures_util::future::BoxFuture;
use script::{Act, ScriptSmtp, Step};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const USER: &str = "shop-user";
const PASSWORD: &str = "canary-pass-4711";

fn deadlines(short: bool) -> Deadlines {
    let all = Duration::from_millis(if short { 400 } else { 20_000 });
    let reuse = Duration::from_secs(2);
    Deadlines {
        tls: Duration::from_secs(20),
        hello: all,
        login: all,
        command: all,
        data: all,
        body: all,
        dot: all,
        reuse,
    }
}

fn server(script: &ScriptSmtp, security: Security, short: bool) -> Server {
    Server {
        host: "localhost".to_owned(),
        security,
        tls: Arc::clone(&script.tls),
        hello: "gateway.example.org".to_owned(),
        login: Some(Login::Password { user: USER.to_owned(), password: Zeroizing::new(PASSWORD.to_owned()) }),
        deadlines: deadlines(short),
    }
}

fn envelope(to: &[&str]) -> Envelope {
    let to = to.iter().map(|each| each.to_string()).collect();
    Envelope { from: Some("shop@example.org".to_owned()), to }
}

fn mail(size: usize) -> Vec<u8> {
    let head = b"Subject: canary-subject\r\n\r\n.\r\n..dots\r\n".to_vec();
    [head, b"canary-text line of the mail\r\n".repeat(size / 30)].concat()
}

struct To(SocketAddr);

impl Dial for To {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// Sends one mail to one recipient over a new connection.
async fn send(server: &Server, address: SocketAddr, mail: &[u8]) -> Outcome {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut session = match Session::open(server, socket).await {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    let outcomes = session.send(&envelope(&["anna@example.net"]), mail).await;
    session.quit().await;
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().unwrap()
}

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Accepted,
    Later,
    Mend,
    Refused,
    Barred,
    Uncertain,
}

fn class(outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Accepted(_) => Class::Accepted,
        Outcome::NotSent(Again::WhenMended, _) => Class::Mend,
        Outcome::NotSent(..) => Class::Later,
        Outcome::Refused(..) => Class::Refused,
        Outcome::Barred(..) => Class::Barred,
        Outcome::Uncertain(_) => Class::Uncertain,
    }
}

fn assert_no_secret(outcome: &Outcome, clear: &[u8]) {
    let shown = format!("{outcome:?} {}", String::from_utf8_lossy(clear));
    let encoded = data_encoding::BASE64.encode(format!("\0{USER}\0{PASSWORD}").as_bytes());
    for secret in [PASSWORD, "canary", &encoded, &encoded[..12]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}
