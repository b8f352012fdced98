//! How a request of the client failed, and whether it may have reached its peer.
//!
//! A send to a customer must never be repeated silently, so the one thing that must be certain is [`Phase`]: only
//! [`Phase::BeforeSend`] allows a caller to try again without asking anybody.

use std::fmt;

use super::body::BoxError;
use super::dial::DialError;
use super::guard::Refusal;
use crate::base::{Error, Kind, Retry, Side};

/// Whether the peer may have seen the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Certainly not one byte of the request was written to a connection.
    BeforeSend,
    /// Some or all of it may have arrived and may have been acted upon.
    Uncertain,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// This client refuses to make the request.
    Refused(Refusal),
    /// The name could not be resolved.
    Dns,
    /// No connection came about.
    Connect,
    /// No TLS session came about: a certificate that cannot be trusted, a protocol mismatch.
    Tls,
    /// It did not finish in its time.
    Timeout,
    /// The answer has more bytes than the cap.
    TooLarge,
    /// The connection broke off or the answer is not HTTP.
    Protocol,
    /// What the answer was given to refused a piece of it.
    Taken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Refused(refusal) => return refusal.fmt(f),
            Fault::Dns => "the name could not be resolved",
            Fault::Connect => "no connection came about",
            Fault::Tls => "no TLS session came about",
            Fault::Timeout => "no complete answer in time",
            Fault::TooLarge => "the answer is larger than allowed",
            Fault::Protocol => "the connection broke off or the answer is not HTTP",
            Fault::Taken => "the answer could not be kept",
        })
    }
}

/// A failed request. It names the host and never the path, which may hold a credential.
#[derive(Debug)]
pub struct ClientError {
    phase: Phase,
    fault: Fault,
    host: Box<str>,
    source: Option<BoxError>,
}

impl ClientError {
    pub(super) fn new(phase: Phase, fault: Fault, host: &str) -> Self {
        ClientError { phase, fault, host: host.into(), source: None }
    }

    pub(super) fn before(fault: Fault, host: &str) -> Self {
        ClientError::new(Phase::BeforeSend, fault, host)
    }

    /// A connection that did not come about.
    pub(super) fn dialing(error: DialError, host: &str) -> Self {
        let before = |fault| ClientError::before(fault, host);
        match error {
            DialError::Name(None) => before(Fault::Dns),
            DialError::Name(Some(error)) => before(Fault::Dns).because(error),
            DialError::Refused(refusal) => before(Fault::Refused(refusal)),
            DialError::Connect(error) => before(Fault::Connect).because(error),
            DialError::Tls(None) => before(Fault::Tls),
            DialError::Tls(Some(error)) => before(Fault::Tls).because(error),
        }
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the peer may have seen the request.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What went wrong.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The host that was to be asked; empty if the URL has none.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host `{}`: {}", self.host, self.fault)
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let (kind, side, retry) = match error.fault {
            Fault::Refused(_) => (Kind::Forbidden, Side::Operator, Retry::Never),
            Fault::Dns | Fault::Connect | Fault::Tls => (Kind::Unavailable, Side::Peer, Retry::Later),
            Fault::Timeout => (Kind::Timeout, Side::Peer, Retry::Later),
            Fault::TooLarge => (Kind::Limit, Side::Peer, Retry::Never),
            Fault::Protocol => (Kind::Unavailable, Side::Peer, Retry::Later),
            Fault::Taken => (Kind::Io, Side::Us, Retry::Later),
        };
        Error::new(kind, error.to_string()).on_side(side).with_retry(retry).because(error)
    }
}
