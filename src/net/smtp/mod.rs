//! The client's side of SMTP submission (RFC 5321, RFC 6409): from an open socket to what became of a mail.
//!
//! [`Session`] secures the connection and sends over it, [`Pool`] keeps sessions for the next mail. Between them and the
//! socket lie `hello`, what comes before the first mail, `stream`, which knows when the end of a mail left us, `reply`,
//! what a server may say, and `reason`, why it took no mail.
//!
//! The invariants: nothing of an account or a mail is written before TLS stands; every wait has an end; what became of a
//! mail is told as it is, and if nobody can know then that.

mod hello;
mod pool;
mod reason;
mod reply;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use pool::{Dial, Pool};
pub use reason::{Concern, Reason};
pub use session::{Again, Deadlines, Envelope, Outcome, Server, Session};

/// What is said before STARTTLS, for [`crate::fuzzing`].
#[cfg(any(test, fuzzing))]
pub(crate) async fn start_tls<S>(mut stream: S) -> Result<(), Outcome>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    hello::start_tls(&mut stream, "gate.example").await
}
