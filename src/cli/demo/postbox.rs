//! The demo's own mail server: one account, from which the gateway takes mails by IMAP and through which it sends by SMTP;
//! and the name server that is asked about their senders.
//!
//! All listen on this machine only; IMAP and SMTP speak TLS from the first byte. The certificate, the user's name and the
//! password are made anew for each run. The invariant: what is said to be taken is kept byte for byte; what a peer sends is bounded
//! in size, number and time; and nothing here shows what a mail holds.

mod command;
mod folder;
mod imap;
mod lines;
mod names;
mod smtp;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::project::random;
use crate::base::{Error, Result};
use folder::{Folders, INBOX};
use lines::Lines;

/// Connections at once, by protocol; more wait.
const CONNECTIONS: usize = 16;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The wait after a connection that could not be accepted, or a question that could not be received.
const PAUSE: Duration = Duration::from_millis(100);
/// How many sent mails are kept; older ones are dropped.
const KEPT: usize = 50;
/// Wrong passwords on one connection.
const STRIKES: u8 = 3;

/// A mail that was sent through the postbox.
pub(super) struct SentMail {
    /// The address of MAIL; empty for `<>`.
    pub(super) from: String,
    /// The addresses of RCPT, in their order.
    pub(super) to: Vec<String>,
    /// The mail, as it was sent: lines end in CRLF.
    pub(super) raw: Vec<u8>,
}

/// The postbox; closed when dropped.
pub(super) struct Postbox {
    shared: Arc<Shared>,
    imap: SocketAddr,
    smtp: SocketAddr,
    names: SocketAddr,
    root: String,
    listeners: JoinSet<()>,
}

impl Postbox {
    /// Opens the postbox at free ports of this machine.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if no port can be had, [`Kind::Internal`](crate::base::Kind) if no certificate can be
    /// made.
    pub(super) async fn open() -> Result<Postbox> {
        let (acceptor, root) = tls::certify()?;
        let shared = Arc::new(Shared::new()?);
        let mut listeners = JoinSet::new();
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 2];
        for (address, protocol) in addresses.iter_mut().zip([Protocol::Imap, Protocol::Smtp]) {
            let failed = |error| Error::io("failed to open a port for the demo's mails", error);
            let listener = TcpListener::bind(*address).await.map_err(failed)?;
            *address = listener.local_addr().map_err(failed)?;
            listeners.spawn(accept(listener, acceptor.clone(), Arc::clone(&shared), protocol));
        }
        let [imap, smtp] = addresses;
        let (socket, names) = names::open().await?;
        listeners.spawn(names::serve(socket));
        Ok(Postbox { shared, imap, smtp, names, root, listeners })
    }

    /// Where IMAP is spoken, with TLS from the first byte.
    pub(super) fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// Where mails can be submitted by SMTP, with TLS from the first byte.
    pub(super) fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    /// Where the name server is asked, over UDP. It knows no name.
    pub(super) fn names(&self) -> SocketAddr {
        self.names
    }

    /// The certificate to trust, as PEM. It is for `localhost` and `127.0.0.1`.
    pub(super) fn root_pem(&self) -> &str {
        &self.root
    }

    /// The user's name, for both.
    pub(super) fn user(&self) -> &str {
        &self.shared.user
    }

    /// The password, for both.
    pub(super) fn password(&self) -> &str {
        &self.shared.password
    }

    /// A mail arrives in INBOX; whoever waits in IDLE is told.
    pub(super) fn put(&self, raw: Vec<u8>) {
        self.shared.change(|folders| folders.add(INBOX, raw));
    }

    /// Takes the oldest sent mail that was not taken yet; waits for one if there is none, at most for `patience`.
    pub(super) async fn next_sent(&self, patience: Duration) -> Option<SentMail> {
        timeout(patience, self.shared.take_sent()).await.ok()
    }

    /// Closes all ports and all connections.
    pub(super) async fn close(mut self) {
        self.listeners.shutdown().await;
    }
}

/// What all connections have in common.
struct Shared {
    user: String,
    password: String,
    folders: Mutex<Folders>,
    /// How often the folders changed.
    news: watch::Sender<u64>,
    sent: Mutex<Sent>,
    more: Notify,
}

#[derive(Default)]
struct Sent {
    kept: VecDeque<SentMail>,
    /// How many there were.
    count: u64,
}

impl Shared {
    fn new() -> Result<Shared> {
        let ([a, b, c, d, ..], password) = (random()?, HEXLOWER.encode(&random()?));
        let user = format!("demo-{}", HEXLOWER.encode(&[a, b, c, d]));
        let folders = Mutex::new(Folders::new(random()?));
        Ok(Shared { user, password, folders, news: watch::channel(0).0, sent: Mutex::default(), more: Notify::new() })
    }

    /// Whether this is the answer to PLAIN (RFC 4616), in Base64, of the one who may come in.
    fn admits(&self, answer: &[u8]) -> bool {
        plain(&self.user, &self.password).as_bytes().ct_eq(answer).into()
    }

    /// Changes the folders and tells all who wait for news.
    fn change<T>(&self, change: impl FnOnce(&mut Folders) -> T) -> T {
        let changed = change(&mut self.folders.lock());
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        changed
    }

    /// Keeps a sent mail; gives its number.
    fn keep_sent(&self, mail: SentMail) -> u64 {
        let mut sent = self.sent.lock();
        sent.kept.push_back(mail);
        if sent.kept.len() > KEPT {
            sent.kept.pop_front();
        }
        sent.count = sent.count.saturating_add(1);
        self.more.notify_one();
        sent.count
    }

    async fn take_sent(&self) -> SentMail {
        loop {
            let more = self.more.notified();
            if let Some(mail) = self.sent.lock().kept.pop_front() {
                return mail;
            }
            more.await;
        }
    }
}

fn plain(user: &str, password: &str) -> String {
    BASE64.encode(format!("\0{user}\0{password}").as_bytes())
}

#[derive(Clone, Copy)]
enum Protocol {
    Imap,
    Smtp,
}

/// Accepts until aborted; then the connections end too.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>, protocol: Protocol) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, acceptor.clone(), Arc::clone(&shared), protocol));
                }
                Err(error) => {
                    tracing::warn!(target: "segue::demo", %error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from its acceptance to its end.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>, protocol: Protocol) {
    // Answers are small and complete: waiting to fill a packet only adds delay.
    let _ = stream.set_nodelay(true);
    let ended = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(secured)) => serve(secured, &shared, protocol).await,
        Ok(Err(error)) => Err(error),
        Err(late) => Err(late.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(target: "segue::demo", %error, "a connection of the postbox ended early");
    }
}

/// Speaks a protocol on a private stream to its end.
async fn serve<S>(stream: S, shared: &Shared, protocol: Protocol) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut lines = Lines::new(stream);
    let (ended, fault) = match protocol {
        Protocol::Imap => (imap::serve(&mut lines, shared).await, "* BYE this is no line of IMAP"),
        Protocol::Smtp => (smtp::serve(&mut lines, shared).await, "500 5.5.2 this is no line of SMTP"),
    };
    match ended {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => lines.say(fault).await?,
        ended => ended?,
    }
    lines.close().await
}

#[cfg(test)]
mod tests;
