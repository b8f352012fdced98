//! What waits to be written.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::base::{Error, Result};
use crate::store::seal::{SealedEntry, SealedSet};
use crate::store::subscribers::Marks;
use crate::store::{Appended, Committed, NewEntry};

/// Where an outcome goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;
/// What hands a job's value over once it is on disk.
pub(super) type Done = Box<dyn FnOnce() + Send>;

/// A piece of writing that is neither an append nor a changeset.
pub(super) type Job = Box<dyn FnOnce(&Connection) -> rusqlite::Result<Done> + Send>;

/// What waits to be written, shared by those who ask and the thread that writes.
pub(super) struct Queues {
    pub(super) inner: Mutex<Waiting>,
    pub(super) ready: Condvar,
}

impl Queues {
    /// Whether nothing more is written.
    pub(super) fn is_over(&self) -> bool {
        let waiting = self.inner.lock();
        waiting.closing || waiting.dead
    }

    /// Takes nothing any more, and has nobody wait for what is not written: the disk refused, only a restart mends that.
    pub(super) fn give_up(&self, broken: &watch::Sender<bool>, error: &Error) {
        tracing::error!(target: "segue::journal", error = %error.full(), "the store is broken; a restart is needed");
        // First, so that whoever is told that nothing is written can learn why.
        broken.send_replace(true);
        let mut waiting = self.inner.lock();
        waiting.dead = true;
        waiting.appends.clear();
        waiting.commits.clear();
        waiting.jobs.clear();
        drop(waiting);
        self.ready.notify_one();
    }
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) appends: VecDeque<Append>,
    pub(super) commits: VecDeque<(Vec<SealedSet>, Reply<Vec<Committed>>)>,
    pub(super) jobs: VecDeque<(Job, Reply<()>)>,
    pub(super) marks: HashMap<String, Marks>,
    pub(super) closing: bool,
    pub(super) dead: bool,
}

pub(super) struct Append {
    pub(super) entry: NewEntry,
    pub(super) sealed: SealedEntry,
    pub(super) reply: Reply<Appended>,
}
