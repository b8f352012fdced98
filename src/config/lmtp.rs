//! `[lmtp]`: the door by which an organization's own mail server hands mails over.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::listen::{TlsFiles, read_network};
use super::reader::{Field, Section};
use super::secret;

/// Where mails are handed over by LMTP (RFC 2033).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lmtp {
    /// `address`: IP address and port, or `unix:PATH` for a socket in the file system. Default: none, no such door.
    pub address: LmtpAddress,
    /// `networks`: who may connect. Default: this machine only.
    pub networks: Vec<IpNet>,
    /// `tls`: certificate and key, with which STARTTLS is offered. Default: none.
    pub tls: Option<TlsFiles>,
}

/// Where the door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LmtpAddress {
    /// At a port.
    Port(SocketAddr),
    /// A socket in the file system, which its owner and group may use.
    Socket(PathBuf),
}

impl Lmtp {
    /// Reads the table; nothing if there is no address.
    pub(super) fn read(section: Section<'_>, on: &secret::Place<'_>) -> Option<Lmtp> {
        let address = section.get("address").and_then(|field| read_place(&field, on));
        let networks = section.get("networks").map(|field| field.set(read_network)).unwrap_or_default();
        let tls = section.get("tls").and_then(|field| field.table()).and_then(|tls| TlsFiles::read(tls, on));
        section.finish();
        Some(Lmtp { address: address?, networks, tls })
    }
}

fn read_place(field: &Field<'_>, on: &secret::Place<'_>) -> Option<LmtpAddress> {
    field.parse("an address such as \"127.0.0.1:2003\", or \"unix:PATH\"", |text| match text.strip_prefix("unix:") {
        Some(path) => (!path.is_empty()).then(|| LmtpAddress::Socket(on.root.join(path))),
        None => text.parse().ok().map(LmtpAddress::Port),
    })
}
