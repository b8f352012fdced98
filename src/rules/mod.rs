//! Floor 2: what Segue knows about customers, stories, calls and receipts, as pure functions.
//!
//! No I/O, no clock, no SQL, no Lua: everything these functions look at is handed to them, which is what makes them
//! testable as functions and a replay equal to the first run.

pub mod attach;
pub mod call;
pub mod destination;
pub mod identity;
pub mod mail_loop;
pub mod mail_thread;
pub mod mail_trust;
pub mod receipt;
pub mod retry;
pub mod template;
