//! What is done with bytes that nobody wrote: each target reads them as a stranger's and checks what must hold of
//! whatever was read. Not in the program: compiled for `fuzz/run`, which makes the bytes up, and for the tests, which take
//! those in `fuzz/corpus`.
//!
//! The invariants: a target knows no clock and no chance, so that what failed fails again; and it fails by a panic and
//! by nothing else.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

mod header;
mod imap;
mod lmtp;
mod mail_write;
mod mime;
mod peer;
mod reply;
mod smtp_reply;
#[cfg(test)]
mod tests;

pub use header::header;
pub use imap::imap;
pub use lmtp::lmtp;
pub use mail_write::mail_write;
pub use mime::mime;
pub use reply::reply;
pub use smtp_reply::smtp_reply;

/// A moment in 2026, in seconds since 1970: now, for all targets.
const NOW: u64 = 1_790_000_000;

/// Longer than anything may wait.
const DAY: Duration = Duration::from_secs(86_400);

/// Runs `work` where time passes only while everybody waits, and then at once.
fn stopped_clock(work: impl Future<Output = ()>) {
    let runtime: std::io::Result<Runtime> = Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => assert!(runtime.block_on(async { timeout(DAY, work).await }).is_ok(), "it waits for ever"),
        Err(error) => unreachable!("a runtime without a driver cannot fail: {error}"),
    }
}
