//! From an open socket to a session that is private and logged in.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::ImapError;
use super::session::Session;
use super::tokens::Caps;
use super::wire::{Answer, Duplex, Wire};
use super::{login, plain};
use crate::net::login::{Login, Security};

/// How long to wait for the server.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For all from the open socket to the session.
    pub connect: Duration,
    /// For the next byte.
    pub quiet: Duration,
    /// For the end of a command, counted from the end of the one before; only time spent waiting counts.
    pub command: Duration,
}

impl Default for Times {
    /// 30 s to connect, 60 s for a byte, 5 min for a command.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Times { connect: seconds(30), quiet: seconds(60), command: seconds(300) }
    }
}

/// What is needed to make a session of a socket.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's name, which its certificate must show.
    pub host: String,
    /// How the connection becomes private.
    pub security: Security,
    /// Roots and versions of TLS; no ALPN.
    pub tls: Arc<ClientConfig>,
    /// Who we are.
    pub login: Login,
    /// How long to wait.
    pub times: Times,
    /// What a response may hold.
    pub caps: Caps,
}

/// Makes a session of `stream`, an open socket to the server. Nothing is written in clear but CAPABILITY and STARTTLS.
/// The socket should have TCP_NODELAY: commands are small, and under way while answers come.
///
/// # Errors
///
/// `Tls` if the connection cannot be made private, `Auth` if the server refuses the credentials, `Network` if it does
/// not answer in time, closes or says that it cannot serve now, `Protocol` and `Limit` if it does not keep to IMAP.
pub async fn connect<S: Duplex>(plan: &Plan, stream: S) -> Result<Session, ImapError> {
    let whole = timeout(plan.times.connect, open(plan, stream));
    whole.await.unwrap_or_else(|_| Err(ImapError::network("the server did not let us in in time").late()))
}

async fn open<S: Duplex>(plan: &Plan, mut stream: S) -> Result<Session, ImapError> {
    let name = ServerName::try_from(plan.host.clone())
        .map_err(|_| ImapError::tls("the server's name cannot be that of a certificate"))?;
    if plan.security == Security::StartTls {
        plain::start_tls(&mut stream).await?;
    }
    let connector = TlsConnector::from(Arc::clone(&plan.tls));
    let secured = connector.connect(name, stream).await.map_err(|error| of_handshake(&error))?;
    let mut wire = Wire::new(Box::new(secured), plan.caps, plan.times);
    if plan.security == Security::Implicit {
        greeting(&mut wire).await?;
    }
    let able = login::log_in(&mut wire, &plan.login).await?;
    Ok(Session::new(wire, able))
}

fn of_handshake(error: &std::io::Error) -> ImapError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => ImapError::tls(format!("the TLS handshake failed: {tls}")),
        None => ImapError::network(format!("the connection broke in the TLS handshake: {}", error.kind())),
    }
}

pub(super) async fn greeting(wire: &mut Wire) -> Result<(), ImapError> {
    match wire.receive().await? {
        Answer::Remark(_) => Ok(()),
        Answer::Bye(text) => Err(ImapError::network("the server turned us away").saying(&text)),
        // Whose mailbox it would be, nobody could tell.
        Answer::PreAuth => Err(ImapError::protocol("the server logged us in without asking who we are")),
        _ => Err(ImapError::protocol("the server's greeting is not that of IMAP")),
    }
}
