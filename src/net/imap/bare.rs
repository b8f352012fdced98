//! Ways in without TLS, for [`crate::fuzzing`] alone: the program has none.

use super::error::ImapError;
use super::secure::{Times, greeting};
use super::session::Session;
use super::tokens::Caps;
use super::wire::{Duplex, Wire};
use super::{login, plain};
use crate::net::login::Login;

/// What is said before STARTTLS.
pub(crate) async fn start_tls<S: Duplex>(mut stream: S) -> Result<(), ImapError> {
    plain::start_tls(&mut stream).await
}

/// Hears the greeting and logs in.
pub(crate) async fn log_in<S: Duplex>(stream: S, login: &Login, caps: Caps) -> Result<Session, ImapError> {
    let mut wire = Wire::new(Box::new(stream), caps, Times::default());
    greeting(&mut wire).await?;
    let able = login::log_in(&mut wire, login).await?;
    Ok(Session::new(wire, able))
}

/// A session that is logged in already, at a server with these capabilities.
pub(crate) fn session<S: Duplex>(stream: S, able: Vec<String>, caps: Caps) -> Session {
    Session::new(Wire::new(Box::new(stream), caps, Times::default()), able)
}
