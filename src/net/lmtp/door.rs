//! Where connections come from: a TCP port, or a socket in the file system.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Io;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port; 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket in the file system. The folder must be one in which only trusted users may make files.
    Unix {
        /// Where the socket is made; it is removed at the end.
        path: PathBuf,
        /// The mode of the socket: who may write to it may send mails. Such as `0o660`.
        mode: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

impl Address {
    /// Removes the socket from the file system. To be called before it is closed: afterwards the path may be another
    /// listener's.
    pub(super) fn remove(&self) {
        if let Address::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket that is listened on.
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    pub(super) async fn open(at: &Address) -> io::Result<Door> {
        match at {
            // Takes a port that old connections still linger on, so that a restart need not wait.
            Address::Tcp(address) => TcpListener::bind(address).await.map(Door::Tcp),
            Address::Unix { path, mode } => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path).await => {
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    other => other?,
                };
                std::fs::set_permissions(path, Permissions::from_mode(*mode))?;
                Ok(Door::Unix(listener))
            }
        }
    }

    /// The address that was asked for, with the port that the system chose.
    pub(super) fn address(&self, asked: Address) -> Address {
        match self {
            Door::Tcp(listener) => listener.local_addr().map_or(asked, Address::Tcp),
            Door::Unix(_) => asked,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Guest> {
        match self {
            Door::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Guest::Tcp(stream, peer.ip())),
            Door::Unix(listener) => listener.accept().await.map(|(stream, _)| Guest::Unix(stream)),
        }
    }
}

/// Whether this is a socket that no process listens on any more.
async fn is_left_behind(path: &Path) -> bool {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    socket && UnixStream::connect(path).await.is_err_and(refused)
}

/// A connection that was accepted.
pub(super) enum Guest {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Guest {
    /// Where it comes from; `None` for this machine's file system.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Guest::Tcp(_, ip) => Some(ip.to_canonical()),
            Guest::Unix(_) => None,
        }
    }

    /// Says one line and closes, without waiting for anything: a new connection has room for it.
    pub(super) fn turn_away(self, reply: &str) {
        let line = format!("{reply}\r\n");
        // A failure means that the client is gone.
        let _ = match self {
            Guest::Tcp(stream, _) => stream.into_std().and_then(|mut stream| stream.write_all(line.as_bytes())),
            Guest::Unix(stream) => stream.into_std().and_then(|mut stream| stream.write_all(line.as_bytes())),
        };
    }

    pub(super) fn into_io(self) -> Box<dyn Io> {
        match self {
            Guest::Tcp(stream, _) => {
                // Replies are small and complete: waiting to fill a packet only adds delay.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Guest::Unix(stream) => Box::new(stream),
        }
    }
}
