//! The HTTP client's connections: kept for the next request, thrown away when old.
//!
//! Built straight on hyper's connections and not on a ready-made pooling client, because only the connection itself can
//! tell whether a request that failed was ever begun. The invariant: a connection in the pool goes to an address that
//! was admitted for exactly this scheme, host and port; the pool never holds more than its two bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use url::{Host, Url};

use super::client::Settings;
use super::dial::Dialer;
use super::failure::{ClientError, Fault};
use super::guard::Refusal;

/// Bytes of an answer's head.
const HEAD_BYTES: usize = 64 * 1024;

/// A connection on which a request can be sent.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// A URL, taken apart.
#[derive(Debug)]
pub(super) struct Target {
    https: bool,
    host: Host<String>,
    port: u16,
    /// Scheme, host and port: what connections are kept under.
    pub(super) key: String,
    /// What the `Host` field says.
    pub(super) authority: HeaderValue,
    /// Path and query.
    pub(super) path: Uri,
    /// The host alone, for messages.
    pub(super) name: String,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        // The URL standard reads every odd notation of an IPv4 address (octal, hexadecimal, short, full-width digits)
        // as that address, so none of them passes for a name.
        let url = Url::parse(text).map_err(|_| ClientError::before(Fault::Refused(Refusal::BadUrl), ""))?;
        let name = url.host_str().unwrap_or_default().to_owned();
        let refused = |refusal| ClientError::before(Fault::Refused(refusal), &name);
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refused(Refusal::Scheme)),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(Refusal::UserInfo));
        }
        let bad = |_| refused(Refusal::BadUrl);
        let host = url.host().ok_or(()).map_err(bad)?.to_owned();
        let port = url.port_or_known_default().ok_or(()).map_err(bad)?;
        let authority = url.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Ok(Target {
            https,
            host,
            port,
            key: format!("{}://{authority}", url.scheme()),
            authority: authority.parse().map_err(|_| refused(Refusal::BadUrl))?,
            path: path.parse().map_err(|_| refused(Refusal::BadUrl))?,
            name,
        })
    }
}

/// Resolves, checks, connects and, for `https`, shakes hands, all within `patience`.
pub(super) async fn dial(
    dialer: &Dialer,
    target: &Target,
    usual: &[u16],
    patience: Duration,
) -> Result<Sender, ClientError> {
    let failed = |fault| ClientError::before(fault, &target.name);
    let until = Instant::now() + patience;
    let usual = usual.contains(&target.port);
    let stream = dialer.connect(&target.host, target.port, (target.https, usual), until).await;
    let stream = stream.map_err(|error| ClientError::dialing(error, &target.name))?;
    if !target.https {
        return shake(stream).await.map_err(|error| failed(Fault::Connect).because(error));
    }
    let secured = dialer.secure(&target.host, stream, Some(b"http/1.1"), until).await;
    let secured = secured.map_err(|error| ClientError::dialing(error, &target.name))?;
    shake(secured).await.map_err(|error| failed(Fault::Connect).because(error))
}

/// Begins HTTP/1.1 and drives the connection until it closes, which it does when its [`Sender`] is dropped.
async fn shake<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO) -> hyper::Result<Sender> {
    let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(target: "segue::net", %error, "outgoing connection ended early");
        }
    });
    Ok(sender)
}

/// Connections that wait for the next request.
pub(super) struct Pool {
    shelf: Mutex<Shelf>,
    per_host: usize,
    total: usize,
    keep: Duration,
    swept: AtomicBool,
}

#[derive(Default)]
struct Shelf {
    hosts: HashMap<String, Vec<Idle>>,
    count: usize,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Pool {
            shelf: Mutex::default(),
            per_host: settings.idle_per_host,
            total: settings.idle_total,
            keep: settings.idle_timeout,
            swept: AtomicBool::new(false),
        })
    }

    /// The connection to `key` that was used last.
    pub(super) fn take(&self, key: &str) -> Option<Sender> {
        let mut shelf = self.shelf.lock();
        let shelf = &mut *shelf;
        let idle = shelf.hosts.get_mut(key)?;
        while let Some(last) = idle.pop() {
            shelf.count = shelf.count.saturating_sub(1);
            if !last.sender.is_closed() && last.since.elapsed() < self.keep {
                return Some(last.sender);
            }
        }
        shelf.hosts.remove(key);
        None
    }

    /// Keeps `sender` for the next request to `key`, if there is room.
    pub(super) fn give(self: &Arc<Self>, key: &str, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        self.start_sweeping();
        let mut shelf = self.shelf.lock();
        if shelf.count >= self.total {
            shelf.sweep(self.keep);
        }
        if shelf.count >= self.total {
            return;
        }
        let entry = Idle { sender, since: Instant::now() };
        match shelf.hosts.get_mut(key) {
            Some(idle) if idle.len() >= self.per_host => return,
            Some(idle) => idle.push(entry),
            None => drop(shelf.hosts.insert(key.to_owned(), vec![entry])),
        }
        shelf.count += 1;
    }

    /// Closes old connections in the background for as long as the pool lives.
    fn start_sweeping(self: &Arc<Self>) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, every): (Weak<Pool>, _) = (Arc::downgrade(self), (self.keep / 2).max(Duration::from_millis(100)));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.shelf.lock().sweep(pool.keep);
            }
        });
    }

    /// Connections kept that their peer has not closed.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.shelf.lock().hosts.values().flatten().filter(|idle| !idle.sender.is_closed()).count()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shelf.lock().count
    }
}

impl Shelf {
    fn sweep(&mut self, keep: Duration) {
        self.hosts.retain(|_, idle| {
            idle.retain(|entry| !entry.sender.is_closed() && entry.since.elapsed() < keep);
            !idle.is_empty()
        });
        self.count = self.hosts.values().map(Vec::len).sum();
    }
}
