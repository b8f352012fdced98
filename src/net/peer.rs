//! Who is calling, and under which URL.
//!
//! Some providers sign the URL they called, so behind a proxy the listener must know the URL as the provider wrote it:
//! from the operator's `public_url`, or from what a *trusted* proxy tells, or from the request itself. The invariant:
//! a header can change the caller's address or URL only if the socket's own peer is a trusted proxy. The path and query
//! are given back as they were on the wire; nothing is decoded or encoded again.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderMap, HeaderName};
use http::uri::{Authority, Scheme};
use ipnet::IpNet;

use crate::base::{Error, Result};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Which headers the trusted proxies write.
///
/// Only one family is believed. A proxy that writes one of them passes the other through as a stranger sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies that may speak for others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    nets: Vec<IpNet>,
    headers: ProxyHeaders,
}

impl TrustedProxies {
    /// Trusts proxies in `nets` that write `headers`.
    pub fn new(nets: Vec<IpNet>, headers: ProxyHeaders) -> Self {
        TrustedProxies { nets, headers }
    }

    /// Whether `address` is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Finds out who called through `socket`, the other end of the connection.
    fn forwarding(&self, socket: IpAddr, headers: &HeaderMap) -> Forwarding {
        let direct = Forwarding { client: socket, scheme: None, host: None };
        if self.nets.is_empty() || !self.trusts(socket) {
            return direct;
        }
        match self.headers {
            ProxyHeaders::XForwarded => self.x_forwarded(direct, headers),
            ProxyHeaders::Forwarded => self.forwarded(direct, headers),
        }
    }

    fn x_forwarded(&self, direct: Forwarding, headers: &HeaderMap) -> Forwarding {
        let hops: Vec<&str> = list(headers, &X_FORWARDED_FOR).collect();
        let mut client = direct.client;
        // How many proxies stand between the outermost trusted one and us.
        let mut behind = 0usize;
        for hop in hops.iter().rev() {
            let Some(address) = node(hop) else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
            behind += 1;
        }
        // Proxies either replace these two or append to them: count from the right, but not past the left end.
        let edge = |name| {
            let values: Vec<&str> = list(headers, name).collect();
            values.len().checked_sub(1).and_then(|last| values.get(last.saturating_sub(behind)).copied())
        };
        Forwarding {
            client,
            scheme: edge(&X_FORWARDED_PROTO).and_then(scheme),
            host: edge(&X_FORWARDED_HOST).and_then(authority),
        }
    }

    fn forwarded(&self, direct: Forwarding, headers: &HeaderMap) -> Forwarding {
        let lines: Vec<&str> =
            headers.get_all(http::header::FORWARDED).iter().filter_map(|line| line.to_str().ok()).collect();
        let all = lines.join(",");
        let mut found = direct;
        for element in split(&all, b',').into_iter().rev() {
            let mut address = None;
            (found.scheme, found.host) = (None, None);
            for pair in split(element, b';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                let value = unquote(value.trim());
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => address = node(&value),
                    "proto" => found.scheme = scheme(&value),
                    "host" => found.host = authority(&value),
                    _ => {}
                }
            }
            let Some(address) = address else { break };
            found.client = address;
            if !self.trusts(address) {
                break;
            }
        }
        found
    }
}

/// What proxies told about a request.
#[derive(Debug, PartialEq, Eq)]
struct Forwarding {
    client: IpAddr,
    scheme: Option<Scheme>,
    host: Option<Authority>,
}

/// The members of a comma-separated header over all its lines, trimmed, the empty ones left out.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// Splits at `at`, but not inside a quoted string.
fn split(text: &str, at: u8) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == at && !quoted => {
                parts.push(text.get(from..position).unwrap_or_default().trim());
                from = position + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default().trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        plain.extend(if next == '\\' { chars.next() } else { Some(next) });
    }
    plain
}

/// An address with or without port and brackets; `None` for names and for what hides itself (RFC 7239, section 6).
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

fn scheme(text: &str) -> Option<Scheme> {
    [Scheme::HTTPS, Scheme::HTTP].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
}

fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    (!authority.host().is_empty() && !authority.as_str().contains('@')).then_some(authority)
}

/// The operator's word on where a listener is reached, such as `https://gw.example.com` or `https://example.com/gw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Reads the setting.
    ///
    /// # Errors
    ///
    /// [`crate::base::Kind::Config`] unless it is an `http` or `https` URL without user, query or fragment.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::config(format!("`public_url`: {why}"));
        let url = url::Url::parse(text).map_err(|_| wrong("not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not contain a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must not contain a query or fragment"));
        }
        // As written, not as normalized: a port that was written stays.
        Ok(PublicUrl(text.trim().trim_end_matches('/').to_owned()))
    }

    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who called, and where they think they called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The address of the caller: the other end of the socket, or the right-most untrusted hop behind trusted proxies.
    pub peer: IpAddr,
    /// Scheme and host, with a path if the operator's `public_url` has one; no slash at the end. `None` if the request
    /// names no usable host and there is no setting.
    base: Option<Base>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    Set(PublicUrl),
    Seen { scheme: Scheme, authority: Authority },
}

impl Caller {
    /// Resolves the caller of a request that came through `socket` to a listener that itself speaks `own` scheme.
    pub fn resolve(
        socket: IpAddr,
        own: Scheme,
        uri: &http::Uri,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
        public: Option<&PublicUrl>,
    ) -> Self {
        let told = proxies.forwarding(socket.to_canonical(), headers);
        if let Some(public) = public {
            return Caller { peer: told.client, base: Some(Base::Set(public.clone())) };
        }
        // The `:authority` of HTTP/2 is in the URI.
        let host = || headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(authority);
        let in_uri = || uri.authority().and_then(|found| authority(found.as_str()));
        let authority = told.host.or_else(in_uri).or_else(host);
        let scheme = told.scheme.unwrap_or(own);
        Caller { peer: told.client, base: authority.map(|authority| Base::Seen { scheme, authority }) }
    }

    /// The URL as the caller wrote it: the base, then `uri`'s path and query exactly as they came.
    pub fn url(&self, uri: &http::Uri) -> Option<String> {
        let wire = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(match self.base.as_ref()? {
            Base::Set(public) => format!("{public}{wire}"),
            Base::Seen { scheme, authority } => format!("{scheme}://{authority}{wire}"),
        })
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
