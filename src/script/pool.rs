//! The pool that keeps machines for the next call.

use parking_lot::Mutex;

/// Machines waiting for their next call; never more than `limit`.
pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
    limit: usize,
}

impl<T> Pool<T> {
    /// An empty pool, sized for this computer.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Pool { idle: Mutex::new(Vec::new()), limit: cores + 2 }
    }

    /// The machine that was used last.
    pub(super) fn take(&self) -> Option<T> {
        self.idle.lock().pop()
    }

    /// Keeps a machine for the next call, or drops it if there are enough.
    pub(super) fn give(&self, machine: T) {
        let mut idle = self.idle.lock();
        if idle.len() < self.limit {
            idle.push(machine);
        }
    }
}
