//! Listeners and clients with their limits built in.
//!
//! This room carries bytes and knows nothing of what they mean. Everything that comes in over HTTP passes
//! [`server`], everything that goes out over it passes [`client`]; mails come and go by [`lmtp`], [`imap`] and [`smtp`].
//! There is no other listener and no other client, so a limit that holds here holds for the whole program. The invariant: nothing a peer does, by size, number, slowness or
//! silence, makes this program hold more than the [`Limits`] and [`client::Settings`] say.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`limit`] | the limits of a listener |
//! | [`server`] | the listener: HTTP/1.1 and HTTP/2 on one port, plain or TLS, drained on shutdown |
//! | [`handler`] | what a listener hands over, and to whom |
//! | [`body`] | bodies that come in (capped, timed) and go out (whole or streamed) |
//! | [`peer`] | who is calling, and under which URL, behind trusted proxies |
//! | [`rate`] | rate limits by peer and by channel |
//! | [`tls`] | certificates that are replaced while connections go on; roots for the client |
//! | [`guard`] | which addresses the client may dial |
//! | [`dns`] | TXT records, by which domains say who speaks for them |
//! | [`imap`] | the client of mailboxes |
//! | [`smtp`] | the client that mails leave by |
//! | [`lmtp`] | the door by which mail servers hand mails over |
//! | [`token_source`] | access tokens of mailboxes, renewed before they end |
//! | [`login`] | how both tell a server who we are |
//! | [`dial`] | connections to hosts by their names, for all that goes out |
//! | [`client`] | the one HTTP client |
//! | [`failure`] | how a request of the client failed, and whether it may have reached its peer |

mod answer;
pub mod body;
pub mod client;
pub mod dial;
pub mod dns;
pub mod failure;
pub mod guard;
pub mod handler;
pub mod imap;
pub mod limit;
pub mod lmtp;
pub mod login;
pub mod peer;
mod pool;
pub mod rate;
pub mod server;
pub mod smtp;
mod socket;
pub mod tls;
pub mod token_source;

pub use body::{Body, BodyError, BoxError, Inbound};
pub use client::Client;
pub use dial::{DialError, Dialer};
pub use failure::{ClientError, Fault, Phase};
pub use handler::{Handler, Request, Response, Tower};
pub use limit::Limits;
pub use peer::{PublicUrl, TrustedProxies};
pub use rate::{RateLimits, RetryAfter};
pub use server::Server;
pub use tls::ServerTls;
