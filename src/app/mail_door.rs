//! The door by which mail servers hand mails over, as the settings say.

use std::sync::Arc;

use super::size;
use crate::base::{Error, Result};
use crate::config::{Config, Lmtp, LmtpAddress};
use crate::flow::handover::Handover;
use crate::net::ServerTls;
use crate::net::lmtp::{Address, Listener, Settings};

/// Who may use a socket in the file system: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Opens the door. Its certificate is added to those that are watched.
pub(super) async fn open(
    config: &Config,
    lmtp: &Lmtp,
    handover: Arc<Handover>,
    certificates: &mut Vec<Arc<ServerTls>>,
) -> Result<Listener> {
    let mut settings = Settings { most_bytes: size(config.limits.mail), ..Settings::new("segue") };
    if !lmtp.networks.is_empty() {
        settings.admitted.clone_from(&lmtp.networks);
    }
    if let Some(files) = &lmtp.tls {
        let tls = Arc::new(ServerTls::load(&files.cert, &files.key)?);
        settings.tls = Some(tls.without_protocols());
        certificates.push(tls);
    }
    let address = match &lmtp.address {
        LmtpAddress::Port(address) => Address::Tcp(*address),
        LmtpAddress::Socket(path) => Address::Unix { path: path.clone(), mode: SOCKET_MODE },
    };
    let shown = address.to_string();
    let opened = Listener::start(settings, address, handover).await;
    opened.map_err(|error| Error::io(format!("failed to listen for mails at {shown}"), error))
}
