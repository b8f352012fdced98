//! `[[listen]]`: the doors of the gateway.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use url::Url;

use super::reader::{Field, Section, shown};
use super::secret;

/// One door: an address, its TLS, and how the world names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `address`: IP address and port; port 0 takes a free one. Default: `127.0.0.1:8080`.
    pub address: SocketAddr,
    /// `tls`: certificate and key. Default: none, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// `public_url`: how the world reaches this door, without a slash at its end; URL signatures are checked against it.
    /// Default: the gateway's `public_url`, else what the request and trusted proxies say.
    pub public_url: Option<String>,
    /// `trusted_proxies`: networks whose forwarding headers are believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// `forwarded_header`: which forwarding headers these proxies write. Default: `x-forwarded`.
    pub forwarded_header: ForwardedHeader,
}

/// Which headers the trusted proxies write. Only one family is believed: a proxy that writes one of them passes the other
/// through as a stranger sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `x-forwarded`: `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `forwarded`: `Forwarded` (RFC 7239).
    Forwarded,
}

/// Certificate and key of a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `cert`: the PEM file of the certificate and its chain.
    pub cert: PathBuf,
    /// `key`: the PEM file of the private key.
    pub key: PathBuf,
}

/// Where a gateway listens that was told nothing.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

impl Default for Listen {
    fn default() -> Self {
        Listen {
            address: DEFAULT_ADDRESS,
            tls: None,
            public_url: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
        }
    }
}

impl Listen {
    /// Reads every `[[listen]]` of the file's top.
    pub(super) fn read_all(top: &Section<'_>, on: &secret::Place<'_>) -> Vec<Self> {
        let mut doors: Vec<Listen> = Vec::new();
        let sections = top.tables("listen");
        if sections.is_empty() {
            return vec![Listen::default()];
        }
        for section in sections {
            let address = section.get("address");
            let door = Listen {
                address: address.as_ref().and_then(read_address).unwrap_or(DEFAULT_ADDRESS),
                tls: section.get("tls").and_then(|field| field.table()).and_then(|tls| TlsFiles::read(tls, on)),
                public_url: section.get("public_url").and_then(|field| read_public_url(&field)),
                trusted_proxies: section.get("trusted_proxies").map(|f| f.set(read_network)).unwrap_or_default(),
                forwarded_header: section.get("forwarded_header").and_then(|f| read_header(&f)).unwrap_or_default(),
            };
            if door.address.port() != 0 && doors.iter().any(|other| other.address == door.address) {
                section.error("address", format!("two doors at `{}`", door.address), "");
            }
            if let Some(field) = address.filter(|_| door.is_bare()) {
                let problem = field.problem("this door takes unencrypted requests from the network");
                field.add(problem.expected("`tls`, or a proxy in front named in `trusted_proxies`").warning());
            }
            section.finish();
            doors.push(door);
        }
        doors
    }

    /// Whether passwords would cross a network unencrypted.
    fn is_bare(&self) -> bool {
        self.tls.is_none() && self.trusted_proxies.is_empty() && !self.address.ip().is_loopback()
    }
}

impl TlsFiles {
    pub(super) fn read(section: Section<'_>, on: &secret::Place<'_>) -> Option<Self> {
        let pem = |key| section.need(key, "the path of a PEM file").and_then(|field| read_file(&field, on));
        let (cert, key) = (pem("cert"), pem("key"));
        section.finish();
        Some(TlsFiles { cert: cert?, key: key? })
    }
}

/// The path of a file that must be readable.
pub(super) fn read_file(field: &Field<'_>, on: &secret::Place<'_>) -> Option<PathBuf> {
    let path = on.root.join(field.text()?);
    match on.host.file(&path) {
        Ok(_) => Some(path),
        Err(reason) => {
            field.error(format!("file `{}`: {reason}", path.display()));
            None
        }
    }
}

/// The path of a folder that must exist if `exists` asks for it.
pub(super) fn read_folder(field: &Field<'_>, root: &Path, exists: bool) -> Option<PathBuf> {
    let path = root.join(field.text()?);
    if exists && !path.is_dir() {
        field.error(format!("no folder `{}`", path.display()));
        return None;
    }
    Some(path)
}

pub(super) fn read_address(field: &Field<'_>) -> Option<SocketAddr> {
    let expected = "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:443\"";
    field.parse(expected, |text| text.parse().ok())
}

fn read_header(field: &Field<'_>) -> Option<ForwardedHeader> {
    const NAMES: [(&str, ForwardedHeader); 2] =
        [("x-forwarded", ForwardedHeader::XForwarded), ("forwarded", ForwardedHeader::Forwarded)];
    let text = field.text()?;
    let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, header)| *header);
    if found.is_none() {
        let problem = field.problem(format!("no forwarding header {} is read", shown(text)));
        field.add(problem.near(text, NAMES.map(|(name, _)| name)).expected("`x-forwarded` or `forwarded`"));
    }
    found
}

/// A network, or a single address.
pub(super) fn read_network(field: &Field<'_>) -> Option<IpNet> {
    let expected = "a network such as \"10.0.0.0/8\", or an IP address";
    field.parse(expected, |text| {
        let network: Option<IpNet> = text.parse().ok();
        network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|network| network.trunc())
    })
}

/// A URL at which the world reaches us: scheme, host, and at most a path.
pub(super) fn read_public_url(field: &Field<'_>) -> Option<String> {
    let url = read_url(field)?;
    if url.query().is_some() || url.fragment().is_some() {
        field.error("a public URL has no query and no fragment");
        return None;
    }
    // As written, not as the parser normalizes it: a signature over a URL covers its exact spelling.
    field.text().map(|text| text.trim_end_matches('/').to_owned())
}

/// An `http` or `https` URL without credentials. What was written is not repeated, as it may hold a password.
pub(super) fn read_url(field: &Field<'_>) -> Option<Url> {
    let text = field.text()?;
    let expected = "a URL such as \"https://segue.example.org\"";
    let Some(url) = Url::parse(text).ok().filter(|url| url.has_host() && text.contains("://")) else {
        field.add(field.problem("not a URL").expected(expected));
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") {
        field.add(field.problem(format!("scheme `{}` is not served", url.scheme())).expected("`https` or `http`"));
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        field.error("a URL here must not hold a user name or password");
        return None;
    }
    if text.contains(char::is_whitespace) {
        field.error("a URL holds no white space");
        return None;
    }
    Some(url)
}
