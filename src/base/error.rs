//! The one public error type.
//!
//! An error answers four questions for whoever must act on it: what kind of thing went wrong, on whose side it lies,
//! whether trying again can help, and where it happened. Listeners turn it into an outward answer in one function each;
//! nothing ever matches on the text of a message.
//!
//! Messages are lower case, carry no full stop, name the file, key or id concerned, and never hold a secret or anything
//! a person said.

use std::borrow::Cow;
use std::fmt;

/// Shorthand for results whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input is not what its format demands.
    Invalid,
    /// The credentials or the signature do not hold.
    Unauthorized,
    /// The caller is known but may not do this.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The state does not allow it, or somebody else changed it first.
    Conflict,
    /// A declared limit on size, count or rate was passed.
    Limit,
    /// It did not finish in its time.
    Timeout,
    /// The other end, or a part of this program, is not able to serve now.
    Unavailable,
    /// The disk, the database or the operating system refused.
    Io,
    /// The configuration, a connector or a script is wrong.
    Config,
    /// A script passed its budget or failed.
    Script,
    /// This program broke one of its own rules.
    Internal,
}

/// On whose side the cause lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The remote end: a provider, a help desk, an API client.
    Peer,
    /// This program or its machine.
    Us,
    /// Whoever wrote the configuration, a connector or a script.
    Operator,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same attempt will fail the same way.
    Never,
    /// It may succeed after a wait.
    Later,
    /// It may succeed at once (a lost race, a stale connection).
    Now,
}

/// An error with its kind, side, retry advice, context and source.
///
/// # Example
///
/// ```
/// use segue::base::{Error, Kind, Retry};
/// let error = Error::invalid("timestamp is not a number").context("connector `acme`");
/// assert_eq!(error.kind(), Kind::Invalid);
/// assert_eq!(error.retry(), Retry::Never);
/// assert_eq!(error.to_string(), "connector `acme`: timestamp is not a number");
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    side: Side,
    retry: Retry,
    message: Cow<'static, str>,
    context: Vec<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` with the side and retry advice that are usual for it.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let (side, retry) = match kind {
            Kind::Invalid | Kind::Unauthorized | Kind::Forbidden | Kind::NotFound => (Side::Peer, Retry::Never),
            Kind::Conflict => (Side::Peer, Retry::Now),
            Kind::Limit => (Side::Peer, Retry::Later),
            Kind::Timeout | Kind::Unavailable => (Side::Peer, Retry::Later),
            Kind::Io => (Side::Us, Retry::Later),
            Kind::Config | Kind::Script => (Side::Operator, Retry::Never),
            Kind::Internal => (Side::Us, Retry::Never),
        };
        Error(Box::new(Inner { kind, side, retry, message: message.into(), context: Vec::new(), source: None }))
    }

    /// Malformed input from a peer.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Invalid, message)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::NotFound, message)
    }

    /// A mistake in configuration, a connector or a script.
    pub fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Config, message)
    }

    /// A broken rule of this program.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// A refusal by the disk, the database or the operating system.
    pub fn io(message: impl Into<Cow<'static, str>>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::new(Kind::Io, message).because(source)
    }

    /// Names the cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds what only this layer knows; the outermost context is printed first.
    #[must_use]
    pub fn context(mut self, context: impl Into<Cow<'static, str>>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// Overrides the side.
    #[must_use]
    pub fn on_side(mut self, side: Side) -> Self {
        self.0.side = side;
        self
    }

    /// Overrides the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// On whose side it lies.
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The innermost message, without context or source: what an API client is shown.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The error and its chain of sources on one line, for a log or a terminal.
    pub fn full(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Adds context to the error of a result.
pub trait ResultExt<T> {
    /// Adds what only the caller knows to the error, if there is one.
    fn context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn context<C: Into<Cow<'static, str>>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.context(context()))
    }
}
