//! The threads that apply entries.
//!
//! A feeder takes committed entries from the journal's tail, or from the disk where the tail could not follow, reads what
//! they say and puts them into lanes. Workers take what is ready, apply it and commit in batches; an entry keeps its keys
//! busy until its changeset is on disk. A conflict puts the entry back to be applied again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::journal::Journaled;
use super::lanes::{Lanes, Ticket};
use super::{Context, Prepared, apply, prepare, refreshed, wait};
use crate::base::Result;
use crate::model::Entry;
use crate::store::Committed;

/// How many entries are prepared at most.
const PREPARED: usize = 4096;
/// How many may be between applying and commit.
const UNCOMMITTED: usize = 1024;
/// How many a worker applies before it commits.
const BATCH: usize = 32;
/// After how long a worker applies no more before it commits.
const BATCH_TIME: Duration = Duration::from_millis(10);
/// How many are read from the disk at once.
const PAGE: usize = 1024;
/// How far back in a channel's backlog an interactive entry looks for earlier ones of its own keys.
const LOOK_BACK: usize = 256;

/// The running threads. Stops them when dropped, after what they hold is committed.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    feeder: Option<tokio::task::JoinHandle<()>>,
}

struct Shared {
    context: Arc<Context>,
    lanes: Mutex<Lanes<Arc<Prepared>>>,
    /// Positions of the entries in the lanes.
    known: Mutex<HashSet<i64>>,
    ready: Condvar,
    room: tokio::sync::Notify,
    stopping: AtomicBool,
    runtime: Handle,
}

impl Workers {
    /// Starts `count` workers and the feeder.
    ///
    /// # Errors
    ///
    /// `Io` if the operating system gives no threads.
    pub fn start(context: Arc<Context>, count: usize) -> Result<Workers> {
        let shared = Arc::new(Shared {
            context,
            lanes: Mutex::new(Lanes::default()),
            known: Mutex::new(HashSet::new()),
            ready: Condvar::new(),
            room: tokio::sync::Notify::new(),
            stopping: AtomicBool::new(false),
            runtime: Handle::current(),
        });
        let mut threads = Vec::new();
        for number in 0..count {
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("segue-apply-{number}"))
                .spawn(move || shared.work())
                .map_err(|e| crate::base::Error::io("failed to start a thread", e))?;
            threads.push(thread);
        }
        let feeder = Some(tokio::spawn(feed(shared.clone())));
        Ok(Workers { shared, threads, feeder })
    }

    /// Ends the threads. What is not applied stays pending in the journal.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.ready.notify_all();
        if let Some(feeder) = self.feeder.take() {
            feeder.abort();
        }
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

// === feeding ===

async fn feed(shared: Arc<Shared>) {
    let journal = shared.context.store.journal.clone();
    let (tail, urgent) = (journal.tail(), journal.urgent());
    let mut last = 0;
    loop {
        let (waiting_callers, missed) = urgent.take(PAGE);
        if missed {
            // Interactive entries are few; those that were forgotten come with all others from the disk.
            urgent.catch_up();
        }
        for entry in waiting_callers {
            pull_ahead(&shared, &entry).await;
            shared.add(entry);
        }
        if shared.is_full() {
            tokio::select! {
                () = shared.room.notified() => {}
                () = urgent.changed() => {}
            }
            continue;
        }
        let (entries, behind) = tail.take(BATCH * 4);
        if !entries.is_empty() {
            for entry in entries.into_iter().filter(|entry| entry.position > last).collect::<Vec<_>>() {
                last = entry.position;
                shared.add(entry);
            }
            continue;
        }
        if behind {
            if tail.take_rewound() {
                // Something was left lying before what was read: by a node that died, or late from a lost connection.
                last = 0;
            }
            tail.catch_up();
            match from_disk(&shared, last).await {
                Ok((position, more)) => {
                    last = position;
                    if more {
                        tail.fall_behind();
                    }
                }
                Err(error) => {
                    tracing::error!(target: "segue::journal", error = %error.full(), "the backlog cannot be read");
                    tail.fall_behind();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            continue;
        }
        tokio::select! {
            () = tail.changed() => {}
            () = urgent.changed() => {}
        }
    }
}

/// Takes one page of the backlog. Gives the last position and whether there may be more.
async fn from_disk(shared: &Arc<Shared>, after: i64) -> Result<(i64, bool)> {
    let page = shared.context.store.journal.pending(after, None, PAGE).await?;
    let more = page.len() == PAGE;
    let mut last = after;
    for entry in page {
        last = entry.position;
        shared.add(entry);
    }
    Ok((last, more))
}

/// Puts earlier entries of the same channel that share a key with an interactive one before it.
async fn pull_ahead(shared: &Arc<Shared>, entry: &Entry) {
    if entry.channel.is_empty() {
        return;
    }
    let pending = shared.context.store.journal.pending(0, Some(entry.channel.clone()), LOOK_BACK).await;
    let Ok(earlier) = pending else { return };
    let own = prepare(&shared.context, Journaled::reloaded(entry.clone())).keys;
    for entry in earlier.into_iter().filter(|earlier| earlier.position < entry.position) {
        if shared.known.lock().contains(&entry.position) {
            continue;
        }
        let prepared = prepare(&shared.context, Journaled::reloaded(entry));
        if prepared.keys.iter().any(|key| own.contains(key)) {
            shared.put(prepared);
        }
    }
}

impl Shared {
    fn is_full(&self) -> bool {
        self.lanes.lock().len() >= PREPARED
    }

    fn add(&self, entry: Entry) {
        if self.known.lock().contains(&entry.position) {
            return;
        }
        let prepared = prepare(&self.context, Journaled::reloaded(entry));
        self.put(prepared);
    }

    fn put(&self, prepared: Prepared) {
        let entry = prepared.journaled.entry();
        let interactive = entry.interactive;
        if !self.known.lock().insert(entry.position) {
            return;
        }
        let keys = prepared.keys.clone();
        self.lanes.lock().push(Arc::new(prepared), keys, interactive);
        self.context.metrics.pending_entries.inc();
        self.ready.notify_one();
    }

    // === applying ===

    fn work(self: Arc<Self>) {
        while let Some(batch) = self.next() {
            let snapshot = match self.context.store.snapshots.snapshot() {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    tracing::error!(target: "segue::commit", error = %error.full(), "the state cannot be read; will be tried again");
                    batch.into_iter().for_each(|(ticket, prepared)| self.later(ticket, prepared));
                    continue;
                }
            };
            let mut changesets = Vec::with_capacity(batch.len());
            let mut applied = Vec::with_capacity(batch.len());
            let begun = Instant::now();
            for (ticket, prepared) in batch {
                // Slow scripts must not keep a caller waiting behind a whole batch: the rest goes back to its lanes.
                if begun.elapsed() >= BATCH_TIME {
                    self.again(ticket, prepared);
                    continue;
                }
                // Applying only reads, so running the future to its end here keeps scripts off the runtime's threads.
                let prepared = refreshed(&self.context, prepared);
                match self.runtime.block_on(apply(&self.context, snapshot.as_ref(), &prepared)) {
                    Ok(outcome) => {
                        changesets.push(outcome.changeset);
                        applied.push((ticket, prepared, outcome.told));
                    }
                    Err(error) => {
                        let entry = prepared.journaled.entry();
                        tracing::error!(target: "segue::commit", entry = %entry.id, error = %error.full(), "not applied; will be tried again");
                        self.later(ticket, prepared);
                    }
                }
            }
            drop(snapshot);
            if !changesets.is_empty() {
                let commit = self.context.store.commits.commit(changesets);
                let shared = self.clone();
                self.runtime.spawn(async move {
                    let outcome = commit.await;
                    shared.settle(applied, outcome);
                });
            }
        }
    }

    /// The next entries to apply; none when the threads are to end.
    fn next(&self) -> Option<Vec<(Ticket, Arc<Prepared>)>> {
        let mut lanes = self.lanes.lock();
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return None;
            }
            if lanes.taken() < UNCOMMITTED && !self.context.held.load(Ordering::SeqCst) {
                let batch: Vec<_> = std::iter::from_fn(|| lanes.take()).take(BATCH).collect();
                if !batch.is_empty() {
                    return Some(batch);
                }
            }
            self.ready.wait_for(&mut lanes, Duration::from_millis(500));
        }
    }

    fn settle(self: &Arc<Self>, applied: Vec<(Ticket, Arc<Prepared>, wait::Told)>, outcome: Result<Vec<Committed>>) {
        match outcome {
            Ok(outcomes) => {
                for ((ticket, prepared, told), outcome) in applied.into_iter().zip(outcomes) {
                    match outcome {
                        Committed::Conflict => {
                            prepared.met_conflict.store(true, Ordering::Relaxed);
                            self.again(ticket, prepared);
                        }
                        Committed::Done(_) | Committed::AlreadyApplied => {
                            let entry = prepared.journaled.entry();
                            self.end(ticket, entry.position);
                            self.context.waiting.tell(entry.id, told);
                        }
                    }
                }
            }
            Err(error) => {
                tracing::error!(target: "segue::commit", error = %error.full(), "a batch was not committed; will be tried again");
                for (ticket, prepared, _) in applied {
                    self.later(ticket, prepared);
                }
            }
        }
    }

    fn end(&self, ticket: Ticket, position: i64) {
        self.lanes.lock().done(ticket);
        self.known.lock().remove(&position);
        self.context.metrics.pending_entries.dec();
        self.ready.notify_one();
        self.room.notify_one();
    }

    fn again(&self, ticket: Ticket, prepared: Arc<Prepared>) {
        self.lanes.lock().put_back(ticket, prepared);
        self.ready.notify_one();
    }

    /// Tries again after a pause: the store, not the entry, is what fails.
    fn later(self: &Arc<Self>, ticket: Ticket, prepared: Arc<Prepared>) {
        let shared = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            shared.again(ticket, prepared);
        });
    }
}
