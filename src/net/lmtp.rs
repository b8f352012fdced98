//! An LMTP server (RFC 2033), by which the operator's own MTA hands mails over.
//!
//! It speaks RFC 5321's syntax with PIPELINING (RFC 2920), ENHANCEDSTATUSCODES (RFC 2034), 8BITMIME (RFC 6152), SMTPUTF8
//! (RFC 6531), SIZE (RFC 1870) and, with a certificate, STARTTLS (RFC 3207). It has no queue: each mail goes to the one
//! [`Deliver`], and its verdicts are what the client is told.
//!
//! The invariants: 250 for a recipient after the content means that [`Deliver`] has said [`Verdict::Taken`]; a mail
//! whose end has not come is never delivered; one whose end has come is delivered to the end, even if the client goes
//! away. Nothing a client does, by size, number, slowness or silence, makes this program hold more than [`Settings`]
//! say. Nothing of an envelope or a content is written to the log.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `command`, `path` | the lines of a client, and the addresses in them |
//! | `reply` | what is said to it |
//! | `dots` | where a content ends |
//! | `intake` | a content on its way in: its size, its pace, its share of the memory |
//! | `stream` | lines and pieces of a connection, with their deadlines |
//! | `session` | one connection from its greeting to its end |
//! | `door` | where connections come from: TCP, or a socket in the file system |

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

mod command;
mod door;
mod dots;
mod intake;
mod path;
mod reply;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use door::Address;

use door::Door;
use session::{Shared, Stage};

/// The pause after a failed accept, when the process is out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A mail that has come in whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The sender of the envelope as the client wrote it, without brackets and source route; `None` for `<>`.
    pub from: Option<String>,
    /// The recipients that were accepted, in their order, at least one. A client may name one twice; then it stands here
    /// twice. Postmaster may come without a domain.
    pub to: Vec<String>,
    /// The content: as sent, with the doubled dots undone. Bare CR and LF are left as they are.
    pub raw: Bytes,
}

/// Tells counts only: the rest is personal.
impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrived { from, to, raw } = self;
        write!(f, "Arrived {{ from: {}, to: {}, raw: {} bytes }}", usize::from(from.is_some()), to.len(), raw.len())
    }
}

/// What became of a mail for one recipient. The texts are for the client's log: one line, cut at 400 characters, anything
/// but printable ASCII made `?`. They must not have personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored and will not be lost: 250.
    Taken,
    /// The client is to try again: 451.
    Later(Cow<'static, str>),
    /// It will never be taken, the client is to bounce it: 550.
    Refused(Cow<'static, str>),
}

/// Where mails go.
pub trait Deliver: Send + Sync + 'static {
    /// Whether mails for this address are taken here. Asked for each `RCPT`, so it must not block; an address that is
    /// unknown is answered with 550. It comes as the client wrote it: quotes and upper case are left as they are.
    fn knows(&self, recipient: &str) -> bool;

    /// Stores a mail durably. One verdict for each of `mail.to`, in its order; where one is missing, or if this panics,
    /// the client is told to try again.
    ///
    /// This must come to an end by itself, within a few minutes: clients wait ten (RFC 5321, section 4.5.3.2.6), then
    /// send the mail again. It runs as a task of its own, which nothing but the end of the runtime cancels.
    fn deliver(&self, mail: Arrived) -> BoxFuture<'_, Vec<Verdict>>;
}

/// What a listener needs to know, with its limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name it greets with: printable ASCII without blanks.
    pub name: String,
    /// The networks that may connect; others get 554. Sockets in the file system are guarded by their mode instead.
    /// Default: this machine.
    pub admitted: Vec<IpNet>,
    /// What makes `STARTTLS` available. Must offer no application protocol (ALPN).
    pub tls: Option<Arc<ServerConfig>>,
    /// Bytes of a content; more get 552. Less than 4 GiB. Default 50 MiB.
    pub most_bytes: usize,
    /// Recipients of one mail; more get 452, and the client sends them later. Default 100, which clients may rely on.
    pub most_recipients: usize,
    /// Open connections; more get 421. Default 100.
    pub most_connections: usize,
    /// Bytes of all contents together, from their `DATA` to their verdicts. At least one of `most_bytes` fits, however
    /// small this is. Default 200 MiB.
    pub most_held: usize,
    /// How long `DATA` waits for its share of `most_held` before it is answered with 452. Default 30 s.
    pub room_timeout: Duration,
    /// From one command's end to the next one's. Default 5 minutes (RFC 5321, section 4.5.3.2.7).
    pub command_timeout: Duration,
    /// How long a client may be silent within a content. Default 3 minutes.
    pub content_timeout: Duration,
    /// Bytes a second a content must bring on average after `content_grace`. 0 asks for nothing. Default 1 KiB/s.
    pub content_rate: u32,
    /// How long a content may be slower than `content_rate`. Default 1 minute.
    pub content_grace: Duration,
    /// How long a client may refuse to take what is written to it, and how long a TLS handshake may take. Default 1
    /// minute.
    pub write_timeout: Duration,
}

impl Settings {
    /// The defaults, greeting with `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let loopback = [(Ipv4Addr::new(127, 0, 0, 0), 8)].map(|(net, bits)| Ipv4Net::new_assert(net, bits).into());
        let loopback = loopback.into_iter().chain([Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into()]);
        Settings {
            name: name.into(),
            admitted: loopback.collect(),
            tls: None,
            most_bytes: 50 << 20,
            most_recipients: 100,
            most_connections: 100,
            most_held: 200 << 20,
            room_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            content_timeout: Duration::from_secs(180),
            content_rate: 1024,
            content_grace: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because they were not done in time.
    pub cut: usize,
    /// Deliveries among them that go on, though their clients will not hear of it and send the mail again.
    pub delivering: usize,
}

/// A running listener.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    stage: Arc<watch::Sender<Stage>>,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
    deliveries: TaskTracker,
}

impl Listener {
    /// Binds and begins to accept. A socket in the file system that no one listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, naming it, or if the name in the settings cannot be said.
    pub async fn start(settings: Settings, at: Address, deliver: Arc<dyn Deliver>) -> io::Result<Listener> {
        if settings.name.is_empty() || settings.name.len() > 255 || !settings.name.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name to greet with is not printable ASCII"));
        }
        let door = Door::open(&at)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {at}: {error}")))?;
        let address = door.address(at);
        let (stage, _) = watch::channel(Stage::Serving);
        let (stage, connections, deliveries) = (Arc::new(stage), TaskTracker::new(), TaskTracker::new());
        let shared = Arc::new(Shared::new(settings, deliver, deliveries.clone()));
        let accepting = tokio::spawn(accept(door, shared, Arc::clone(&stage), connections.clone()));
        Ok(Listener { address, stage, accepting, connections, deliveries })
    }

    /// Where it really listens: port 0 has become the one that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Stops accepting, says goodbye where no mail is open, lets open ones be finished for at most `patience`, then cuts
    /// what is left: contents without an end are dropped, deliveries go on without their clients.
    pub async fn drain(mut self, patience: Duration) -> Drained {
        self.address.remove();
        self.accepting.abort();
        // The socket is closed when the loop is really gone.
        let _ = (&mut self.accepting).await;
        self.stage.send_replace(Stage::Draining);
        self.connections.close();
        if tokio::time::timeout(patience, self.connections.wait()).await.is_ok() {
            return Drained { cut: 0, delivering: 0 };
        }
        let cut = self.connections.len();
        self.stage.send_replace(Stage::Cut);
        self.connections.wait().await;
        Drained { cut, delivering: self.deliveries.len() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // After a drain the path may be another listener's.
        if !self.accepting.is_finished() {
            self.address.remove();
        }
        self.accepting.abort();
        self.stage.send_replace(Stage::Cut);
    }
}

/// Accepts until aborted. No error ends it: each is about one connection, or passes when others close.
async fn accept(door: Door, shared: Arc<Shared>, stage: Arc<watch::Sender<Stage>>, connections: TaskTracker) {
    loop {
        let guest = match door.accept().await {
            Ok(guest) => guest,
            Err(error) => {
                tracing::warn!(target: "segue::net", %error, "an LMTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !shared.admits(guest.ip()) {
            tracing::debug!(target: "segue::net", peer = ?guest.ip(), "an LMTP client is from no admitted network");
            guest.turn_away(reply::FOREIGN);
        } else if let Some(place) = shared.place() {
            let (shared, stages) = (Arc::clone(&shared), stage.subscribe());
            connections.spawn(async move {
                session::converse(guest.into_io(), shared, stages).await;
                drop(place);
            });
        } else {
            guest.turn_away(reply::CROWDED);
        }
    }
}

/// Serves one connection that is no socket, to its end: a way in for [`crate::fuzzing`].
#[cfg(any(test, fuzzing))]
pub(crate) async fn serve<S>(connection: S, settings: Settings, deliver: Arc<dyn Deliver>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (_stage, stages) = watch::channel(Stage::Serving);
    let shared = Shared::new(settings, deliver, TaskTracker::new());
    session::converse(Box::new(connection), Arc::new(shared), stages).await;
}
