//! Floor 0: what every room needs and no room owns.
//!
//! Errors, ids, time, secrets and the names of what is measured. No domain word lives here, and nothing here does I/O
//! beyond reading the clock.

pub mod clock;
#[cfg(test)]
pub(crate) mod ends;
pub mod error;
pub mod hash;
pub mod id;
pub mod json;
pub mod secret;
pub mod telemetry;
pub mod time;

pub use clock::Clock;
pub use error::{Error, Kind, Result, Retry, Side};
pub use secret::{Pii, Secret};
pub use time::Timestamp;
