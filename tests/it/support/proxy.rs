//! A proxy between the gateway and PostgreSQL that cuts connections where it hurts: after COMMIT was sent, before the
//! confirmation is back. It understands just enough of the protocol for that
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// How a connection is cut once a COMMIT has gone to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server has committed and said so; the gateway never hears it.
    Confirmed,
    /// At once: the server may or may not commit.
    AtOnce,
}

/// The running proxy. Gone when dropped, with its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: PathBuf,
    /// What is to happen at the next COMMIT.
    armed: Mutex<Option<Cut>>,
    cuts: AtomicUsize,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 for the server at the socket `server`.
    pub(crate) async fn start(server: &Path) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { server: server.to_owned(), armed: Mutex::new(None), cuts: AtomicUsize::new(0) });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // How a connection ends is for its two ends to notice.
                connections.spawn(carry(serving.clone(), client));
            }
        });
        Proxy { address, shared, task }
    }

    /// The URL of a database by way of the proxy.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://segue@{}/{database}?sslmode=disable", self.address)
    }

    /// Cuts the connection on which the next writing transaction commits.
    pub(crate) fn cut_next(&self, cut: Cut) {
        *self.shared.armed.lock() = Some(cut);
    }

    /// How many were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

/// Carries one connection until either end closes or it is cut.
async fn carry(shared: Arc<Shared>, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = UnixStream::connect(&shared.server).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut from_client = BufReader::new(from_client);
    // The first message has no type: length and the rest.
    let length = from_client.read_u32().await?;
    let mut rest = vec![0; length.saturating_sub(4) as usize];
    from_client.read_exact(&mut rest).await?;
    to_server.write_u32(length).await?;
    to_server.write_all(&rest).await?;

    let withheld = AtomicBool::new(false);
    tokio::select! {
        end = requests(&shared, from_client, to_server, &withheld) => end,
        end = answers(BufReader::new(from_server), to_client, &withheld) => end,
    }
}

/// One message: its type, and all of its bytes.
async fn message(from: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<u8> {
    let (kind, length) = (from.read_u8().await?, from.read_u32().await?);
    bytes.clear();
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(1 + length as usize, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok(kind)
}

/// From the gateway to the server, until the connection is to be cut.
async fn requests(
    shared: &Shared,
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    withheld: &AtomicBool,
) -> io::Result<()> {
    let (mut bytes, mut writing) = (Vec::new(), false);
    loop {
        let kind = message(&mut from, &mut bytes).await?;
        let said = if kind == b'Q' { &bytes[5..] } else { &[] };
        let mut cut = None;
        if said.starts_with(b"BEGIN") {
            writing = !said.windows(9).any(|part| part == b"READ ONLY");
        } else if said.starts_with(b"COMMIT") && std::mem::take(&mut writing) {
            cut = shared.armed.lock().take();
        }
        // From here on no answer goes back, so none to this COMMIT does.
        withheld.store(cut.is_some(), Ordering::SeqCst);
        to.write_all(&bytes).await?;
        if let Some(cut) = cut {
            shared.cuts.fetch_add(1, Ordering::SeqCst);
            if cut == Cut::AtOnce {
                return Ok(());
            }
            // The other direction ends the connection.
            return std::future::pending().await;
        }
    }
}

/// From the server to the gateway, until the commit that is withheld has ended.
async fn answers(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    withheld: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let kind = message(&mut from, &mut bytes).await?;
        if !withheld.load(Ordering::SeqCst) {
            to.write_all(&bytes).await?;
        } else if kind == b'C' && matches!(&bytes[5..], b"COMMIT\0" | b"ROLLBACK\0") {
            return Ok(());
        }
    }
}
