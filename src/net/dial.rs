//! Going out: a connection to a host by its name, for HTTP and for mail.
//!
//! Every connection that this process makes to a peer begins here. The invariant: only addresses that the
//! [`guard`](super::guard) admits are dialed, and a name that leads to one that it does not is not dialed at all.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::guard::{Guard, Refusal};
use super::tls;
use crate::base::{Error, Result};

/// Names resolved at once; each look-up may hold a thread for as long as the system's resolver likes.
const LOOKUPS: usize = 32;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// What went wrong on the way to a peer. Nothing was sent to it.
#[derive(Debug)]
pub enum DialError {
    /// The name leads nowhere, or not in time.
    Name(Option<std::io::Error>),
    /// The address may not be dialed.
    Refused(Refusal),
    /// Nobody answers at the address.
    Connect(std::io::Error),
    /// The connection cannot be made private.
    Tls(Option<Error>),
}

/// Makes connections.
pub struct Dialer {
    guard: Guard,
    roots: RootCertStore,
    /// Made at the first use: reading the system's roots takes time that a plain gateway need not spend.
    tls: OnceCell<Arc<ClientConfig>>,
    lookups: Arc<Semaphore>,
}

impl Dialer {
    /// One that may dial the networks `allow` beside public addresses, and trusts the roots in these PEM files beside the
    /// system's.
    ///
    /// # Errors
    ///
    /// `Config` naming a file that holds no root.
    pub fn new(allow: Vec<IpNet>, roots: &[PathBuf]) -> Result<Self> {
        let roots = tls::read_roots(roots)?;
        Ok(Dialer { guard: Guard::new(allow), roots, tls: OnceCell::new(), lookups: Arc::new(Semaphore::new(LOOKUPS)) })
    }

    /// Resolves, checks and connects until `until`. `admit` says whether TLS follows and whether the port is a usual one.
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    pub async fn connect(
        &self,
        host: &Host<String>,
        port: u16,
        admit: (bool, bool),
        until: Instant,
    ) -> Result<TcpStream, DialError> {
        let addresses = timeout_at(until, self.resolve(host, port)).await.map_err(|_| DialError::Name(None))??;
        self.guard.admit(&addresses, admit.0, admit.1).map_err(DialError::Refused)?;
        let stream = connect(&addresses, until).await.map_err(DialError::Connect)?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// The settings of TLS towards peers: the roots of the system and the extra ones.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no root at all.
    pub async fn tls(&self) -> Result<Arc<ClientConfig>> {
        let config = self.tls.get_or_try_init(|| async {
            let roots = self.roots.clone();
            let made = tokio::task::spawn_blocking(move || tls::client_config(&roots)).await;
            made.map_err(|error| Error::internal("reading the trust roots ended early").because(error))?
        });
        config.await.cloned()
    }

    /// Makes a connection private until `until`; `protocol` is what is asked for by ALPN.
    ///
    /// # Errors
    ///
    /// `Tls` if the peer does not prove who it is, or not in time.
    pub async fn secure(
        &self,
        host: &Host<String>,
        stream: TcpStream,
        protocol: Option<&[u8]>,
        until: Instant,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let mut config = self.tls().await.map_err(|error| DialError::Tls(Some(error)))?;
        if let Some(protocol) = protocol {
            let mut speaking = ClientConfig::clone(&config);
            speaking.alpn_protocols = vec![protocol.to_vec()];
            config = Arc::new(speaking);
        }
        let failed = |reason: Option<std::io::Error>| {
            DialError::Tls(reason.map(|error| Error::io("no private connection", error)))
        };
        let shaken = TlsConnector::from(config).connect(server_name(host)?, stream);
        timeout_at(until, shaken).await.map_err(|_| failed(None))?.map_err(|error| failed(Some(error)))
    }

    async fn resolve(&self, host: &Host<String>, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let name = match host {
            Host::Ipv4(v4) => return Ok(vec![SocketAddr::from((*v4, port))]),
            Host::Ipv6(v6) => return Ok(vec![SocketAddr::from((*v6, port))]),
            Host::Domain(name) => name.clone(),
        };
        let closed = |_| DialError::Name(None);
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(closed)?;
        // A task of its own, so that the permit lasts as long as the resolver's thread even if nobody waits any more.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name.as_str(), port)).await.map(Vec::from_iter);
            drop(permit);
            found
        });
        let found = lookup.await.map_err(|_| DialError::Name(None))?.map_err(|error| DialError::Name(Some(error)))?;
        if found.is_empty() { Err(DialError::Name(None)) } else { Ok(found) }
    }
}

/// The name that a peer's certificate must be for.
///
/// # Errors
///
/// `Tls` if no certificate can be for it.
pub fn server_name(host: &Host<String>) -> Result<ServerName<'static>, DialError> {
    match host {
        Host::Ipv4(v4) => Ok(ServerName::from(IpAddr::from(*v4))),
        Host::Ipv6(v6) => Ok(ServerName::from(IpAddr::from(*v6))),
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| DialError::Tls(None)),
    }
}

/// Tries the addresses in turn; each gets an equal share of the time that is left.
async fn connect(addresses: &[SocketAddr], until: Instant) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    let tried = addresses.len().min(ADDRESSES);
    for (done, address) in addresses.iter().take(tried).enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(tried - done).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
    }
    Err(last)
}
