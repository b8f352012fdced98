//! The client's side of IMAP (RFC 3501, RFC 9051): from an open socket to mails by their UIDs.
//!
//! `secure` makes the connection private and logs in, [`Session`] works in one folder, [`fetch`] brings mails over,
//! `after` moves or flags what was taken, `idle` waits for more. Between them and the socket lie `wire`, the only place
//! that knows the parser in use, and [`guard`], which refuses what the parser could not bear.
//!
//! The invariants: no byte of a credential is written before TLS stands; every wait has an end; nothing that was not
//! answered with a tagged OK is taken for done; a server can break its connection and nothing else.

mod after;
#[cfg(any(test, fuzzing))]
pub(crate) mod bare;
mod error;
mod fetch;
mod guard;
mod idle;
mod list;
mod login;
mod name;
mod plain;
mod refusal;
mod secure;
mod session;
mod tokens;
mod wire;

pub use error::{Fault, ImapError};
pub use fetch::{Fetched, Fetcher, Mail, Reason, Sizes};
pub use guard::Guard;
pub use idle::Wake;
pub use list::{Ask, Listed};
pub use name::{decode as decode_folder, encode as encode_folder};
pub use secure::{Plan, Times, connect};
pub use session::{Access, Folder, Session};
pub use tokens::{Caps, Refused};
pub use wire::Duplex;

#[cfg(test)]
mod tests;
