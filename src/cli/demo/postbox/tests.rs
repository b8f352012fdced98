//! The postbox and those who talk to it: the gateway's own clients over TLS, and dialogs word by word.

mod imap;
mod smtp;

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::*;
use crate::net::imap::{self as client, Access, Ask, Caps, Fetched, Fetcher, Plan, Session, Sizes, Times, Wake};
use crate::net::login::{Login, Security};
use crate::net::smtp as outgoing;

const PATIENCE: Duration = Duration::from_secs(10);
const MAIL: &[u8] = b"From: Ada <ada@example.org>\r\nSubject: Kettle\r\n\r\nIt hums.\r\n.\r\n..two\r\n\xc3\xa9\r\n";

fn tls(postbox: &Postbox) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(postbox.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn login(postbox: &Postbox, password: &str) -> Login {
    Login::Password { user: postbox.user().to_owned(), password: Zeroizing::new(password.to_owned()) }
}

async fn taking(postbox: &Postbox, password: &str) -> Result<Session, client::ImapError> {
    let login = login(postbox, password);
    let (tls, security) = (tls(postbox), Security::Implicit);
    let plan =
        Plan { host: "localhost".to_owned(), security, tls, login, times: Times::default(), caps: Caps::default() };
    client::connect(&plan, TcpStream::connect(postbox.imap()).await.unwrap()).await
}

async fn sending(postbox: &Postbox, password: &str) -> Result<outgoing::Session, outgoing::Outcome> {
    let server = outgoing::Server {
        host: "127.0.0.1".to_owned(),
        security: Security::Implicit,
        tls: tls(postbox),
        hello: "gateway.example".to_owned(),
        login: Some(login(postbox, password)),
        deadlines: outgoing::Deadlines::default(),
    };
    outgoing::Session::open(&server, TcpStream::connect(postbox.smtp()).await.unwrap()).await
}

async fn fetched(session: &mut Session, validity: u32, sizes: Sizes) -> Vec<Vec<u8>> {
    let listed = session.list(1, 1000, Ask::All).await.unwrap();
    let mut fetcher = Fetcher::new(validity, listed, sizes);
    let mut mails = Vec::new();
    while let Some(fetched) = fetcher.next(session).await.unwrap() {
        let Fetched::Got(mail) = fetched else { panic!("a mail does not come") };
        mails.push(mail.bytes);
    }
    mails
}

#[tokio::test]
async fn the_gateway_takes_waits_and_moves() {
    let postbox = Postbox::open().await.unwrap();
    let large = [MAIL, &b"x\r\n".repeat(30_000)].concat();
    postbox.put(MAIL.to_vec());
    postbox.put(large.clone());
    let mut session = taking(&postbox, postbox.password()).await.unwrap();
    let folder = session.open("INBOX", Access::Select).await.unwrap();
    assert_eq!((folder.exists, folder.next, folder.writable), (2, Some(3), true));
    for sizes in [Sizes::default(), Sizes { whole: 1, piece: 16 << 10, ..Sizes::default() }] {
        assert_eq!(fetched(&mut session, folder.validity, sizes).await, [MAIL.to_vec(), large.clone()]);
    }
    let listed = session.list(1, 9, Ask::All).await.unwrap();
    assert!(listed.iter().all(|mail| mail.arrived.is_some_and(|at| (jiff::Timestamp::now() - at).get_seconds() < 60)));

    let (woken, ()) = tokio::join!(session.wait(2, PATIENCE, PATIENCE), async { postbox.put(b"third\r\n".to_vec()) });
    assert_eq!(woken.unwrap(), Wake::News);
    session.flag(&[1, 3], "$Taken").await.unwrap();
    session.move_to(&[1, 2, 77], "Done/demo").await.unwrap();
    assert_eq!(session.noop().await.unwrap(), 1);
    let done = session.open("Done/demo", Access::Examine).await.unwrap();
    assert_eq!((done.exists, done.writable, done.validity), (2, false, folder.validity));
    assert_eq!(fetched(&mut session, done.validity, Sizes::default()).await, [MAIL.to_vec(), large]);
    session.leave().await;
    postbox.close().await;
}

#[tokio::test]
async fn the_gateway_sends() {
    let postbox = Postbox::open().await.unwrap();
    let mut session = sending(&postbox, postbox.password()).await.unwrap();
    let to = vec!["ada@example.org".to_owned(), "bo@example.org".to_owned()];
    let mut envelope = outgoing::Envelope { from: Some("help@shop.example".to_owned()), to: to.clone() };
    for outcome in session.send(&envelope, MAIL).await {
        assert!(matches!(outcome, outgoing::Outcome::Accepted(_)), "{outcome:?}");
    }
    assert!(session.is_alive().await);
    envelope.from = None;
    assert!(matches!(session.send(&envelope, b"second\r\n").await.as_slice(), [outgoing::Outcome::Accepted(_), _]));
    session.quit().await;
    let first = postbox.next_sent(PATIENCE).await.unwrap();
    assert_eq!((first.from.as_str(), first.to, first.raw.as_slice()), ("help@shop.example", to, MAIL));
    let second = postbox.next_sent(PATIENCE).await.unwrap();
    assert_eq!((second.from.as_str(), second.raw.as_slice()), ("", b"second\r\n".as_slice()));
    assert!(postbox.next_sent(Duration::ZERO).await.is_none());
}

#[tokio::test]
async fn nobody_else_comes_in() {
    let (postbox, other) = (Postbox::open().await.unwrap(), Postbox::open().await.unwrap());
    assert_ne!((postbox.user(), postbox.password()), (other.user(), other.password()));
    let error = taking(&postbox, other.password()).await.unwrap_err();
    assert_eq!(error.fault(), client::Fault::Auth);
    let refused = sending(&postbox, other.password()).await.unwrap_err();
    assert!(matches!(refused, outgoing::Outcome::NotSent(outgoing::Again::WhenMended, _)), "{refused:?}");
    // Whoever trusts another certificate does not even say who he is.
    let (imap, address) = (postbox.imap(), other.imap());
    let swapped = Postbox { imap: address, ..other };
    let fault = taking(&Postbox { imap, ..swapped }, "x").await.unwrap_err().fault();
    assert_eq!(fault, client::Fault::Tls);
}

#[tokio::test]
async fn who_finds_no_place_waits_for_one() {
    let postbox = Postbox::open().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(taking(&postbox, postbox.password()).await.unwrap());
    }
    let mut waiting = Box::pin(taking(&postbox, postbox.password()));
    let talk = async {
        for session in &mut held {
            session.noop().await.unwrap();
        }
    };
    tokio::select! {
        _ = &mut waiting => panic!("one too many"),
        () = talk => {}
    }
    held.pop();
    waiting.await.unwrap().leave().await;
}

/// A dialog with one of the servers, without TLS.
struct Talk {
    near: BufReader<DuplexStream>,
    server: JoinHandle<io::Result<()>>,
    shared: Arc<Shared>,
}

impl Talk {
    fn open(shared: &Arc<Shared>, protocol: Protocol) -> Talk {
        let (near, far) = duplex(1 << 20);
        let theirs = Arc::clone(shared);
        let server = tokio::spawn(async move { serve(far, &theirs, protocol).await });
        Talk { near: BufReader::new(near), server, shared: Arc::clone(shared) }
    }

    /// Open, greeted and logged in.
    async fn logged_in(shared: &Arc<Shared>, protocol: Protocol) -> Talk {
        let mut talk = Talk::open(shared, protocol);
        let plain = BASE64.encode(format!("\0{}\0{}", shared.user, shared.password).as_bytes());
        match protocol {
            Protocol::Imap => {
                talk.hears("* OK").await;
                talk.ask(&format!("a AUTHENTICATE PLAIN {plain}"), "a OK").await;
            }
            Protocol::Smtp => {
                talk.hears("220 ").await;
                talk.ask("EHLO here.example", "250 AUTH PLAIN").await;
                talk.ask(&format!("AUTH PLAIN {plain}"), "235 ").await;
            }
        }
        talk
    }

    async fn say(&mut self, text: &str) {
        self.near.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.near.read_line(&mut line)).await.unwrap().unwrap();
        line
    }

    /// Hears lines until one begins so; gives those before it.
    async fn hears(&mut self, beginning: &str) -> String {
        let mut before = String::new();
        loop {
            let line = self.line().await;
            assert!(!line.is_empty(), "closed before {beginning:?}, after {before:?}");
            if line.starts_with(beginning) {
                return before;
            }
            before.push_str(&line);
        }
    }

    /// Says a line and hears lines until one begins so; gives those before it.
    async fn ask(&mut self, line: &str, beginning: &str) -> String {
        self.say(&format!("{line}\r\n")).await;
        self.hears(beginning).await
    }

    /// Everything to the end of the connection.
    async fn rest(mut self) -> String {
        let mut rest = String::new();
        timeout(PATIENCE, self.near.read_to_string(&mut rest)).await.unwrap().unwrap();
        self.server.await.unwrap().unwrap();
        rest
    }
}

fn shared() -> Arc<Shared> {
    let shared = Arc::new(Shared::new().unwrap());
    for text in ["one\r\n", "two\r\n", "three\r\n"] {
        shared.change(|folders| folders.add(INBOX, text.as_bytes().to_vec()));
    }
    shared
}

#[tokio::test]
async fn a_full_folder_and_a_full_tray_drop_the_oldest() {
    let shared = shared();
    let mut talk = Talk::logged_in(&shared, Protocol::Imap).await;
    talk.ask("b EXAMINE INBOX", "b OK").await;
    for _ in 0..998 {
        shared.change(|folders| folders.add(INBOX, Vec::new()));
    }
    assert_eq!(talk.ask("c NOOP", "c OK").await, "* 1 EXPUNGE\r\n* 1000 EXISTS\r\n");
    for number in 0..KEPT + 2 {
        shared.keep_sent(SentMail { from: number.to_string(), to: Vec::new(), raw: Vec::new() });
    }
    assert_eq!(shared.sent.lock().kept.len(), KEPT);
    assert_eq!(timeout(PATIENCE, shared.take_sent()).await.unwrap().from, "2");
}
