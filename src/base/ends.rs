//! For tests: work on input that is made to take for ever.
//!
//! Nothing is timed: the input is so large that work which grows faster than it does not come to its end in hours, while
//! work that grows as it does takes a second where little else goes on. Between the two any patience will do.

use std::sync::mpsc;
use std::time::Duration;

/// How long nobody waits for work that ends.
const PATIENCE: Duration = Duration::from_secs(120);
/// Far less than a thread of the gateway has: whoever nests as deep as the input says meets its end.
const STACK: usize = 256 * 1024;

/// Does `work` on a thread of its own with a small stack; gives what it gave. Panics if it does not end.
pub(crate) fn ends<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, hears) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || drop(told.send(work())));
    drop(thread.unwrap());
    hears.recv_timeout(PATIENCE).unwrap_or_else(|why| panic!("{name}: {why}"))
}
