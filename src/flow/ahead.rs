//! What entries say, read before they are appended.
//!
//! Where several nodes share the work, the journal must know what orders an entry when it takes it. That is known only
//! once the entry is read; what was read waits here for the stage that applies it, so that nothing is read twice. Bounded in
//! number and in bytes: what was put in longest ago goes first, and is then read again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Setup;
use super::lanes::Key;
use super::normalize::Normalized;
use crate::base::id::EntryId;

/// How many entries are kept.
const MOST: usize = 4096;
/// How many bytes the entries that are kept weigh together.
const BYTES: usize = 8 << 20;

/// What an entry says, as connectors and channels were when it was read.
pub(crate) struct Read {
    pub(crate) setup: Arc<Setup>,
    pub(crate) items: Vec<Normalized>,
    pub(crate) keys: Vec<Key>,
}

/// What was read ahead, by entry.
#[derive(Default)]
pub struct Ahead(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What was read, with what its entry weighs.
    read: HashMap<EntryId, (Read, usize)>,
    order: VecDeque<EntryId>,
    bytes: usize,
}

impl Inner {
    fn remove(&mut self, entry: EntryId) -> Option<Read> {
        let (read, weight) = self.read.remove(&entry)?;
        self.bytes -= weight;
        Some(read)
    }
}

impl Ahead {
    /// Keeps what was read of an entry of so many bytes.
    pub(crate) fn put(&self, entry: EntryId, read: Read, weight: usize) {
        let mut inner = self.0.lock();
        while inner.order.len() >= MOST || inner.bytes >= BYTES {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.remove(oldest);
        }
        inner.order.push_back(entry);
        inner.bytes += weight;
        inner.read.insert(entry, (read, weight));
    }

    /// Takes out what was read of an entry, if it is still here.
    pub(crate) fn take(&self, entry: EntryId) -> Option<Read> {
        self.0.lock().remove(entry)
    }
}
