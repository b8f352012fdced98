//! The threads that apply entries.
//!
//! The [feeder](super::feeder) puts committed entries into lanes. Workers take what is ready, apply it and commit in
//! batches; an entry keeps its keys busy until its changeset is on disk. A conflict puts the entry back to be applied
//! again.
//!
//! Only entries of buckets that this node holds are taken up. An entry that the commit finds to be early, because one
//! before it came by another node, is let go of and found again on the disk, in order. A bucket that is to be left is let
//! go once none of its entries is here any more.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::feeder::Feeder;
use super::journal::Journaled;
use super::lanes::{Lanes, Ticket};
use super::{Applied, Context, Prepared, apply, prepare, refreshed, wait};
use crate::base::{Error, Result};
use crate::model::Entry;
use crate::store::lease::BUCKETS;
use crate::store::{Changeset, Committed, StateRead};

/// How many entries are prepared at most.
pub(super) const PREPARED: usize = 4096;
/// How many bytes they weigh together, but for what is read from the disk at once.
const PREPARED_BYTES: usize = 8 << 20;
/// How many may be between applying and commit.
const UNCOMMITTED: usize = 1024;
/// How many a worker applies before it commits.
const BATCH: usize = 32;
/// After how long a worker applies no more before it commits.
const BATCH_TIME: Duration = Duration::from_millis(10);
/// After how long an entry that was early is tried again at first.
const EARLY: Duration = Duration::from_millis(10);
/// After how long what failed is tried again at first, and at most.
const FAILED: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The running threads. Stops them when dropped, after what they hold is committed.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    feeder: Option<tokio::task::JoinHandle<()>>,
}

/// What the feeder and the workers share.
pub(super) struct Shared {
    pub(super) context: Arc<Context>,
    lanes: Mutex<Lanes<Arc<Prepared>>>,
    /// How many bytes the entries in the lanes weigh.
    bytes: AtomicUsize,
    /// Positions of the entries in the lanes, and of those that were early a moment ago.
    pub(super) known: Mutex<HashSet<i64>>,
    ready: Condvar,
    pub(super) room: tokio::sync::Notify,
    /// Has the feeder look at the disk.
    pub(super) others: Arc<tokio::sync::Notify>,
    /// How many entries of each bucket are in the lanes.
    buckets: Mutex<Box<[usize; BUCKETS]>>,
    /// How often entries were early, by position.
    early: Mutex<HashMap<i64, u32>>,
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
        let others = context.store.journal.others();
        let shared = Arc::new(Shared {
            context,
            lanes: Mutex::new(Lanes::default()),
            bytes: AtomicUsize::new(0),
            known: Mutex::new(HashSet::new()),
            ready: Condvar::new(),
            room: tokio::sync::Notify::new(),
            others,
            buckets: Mutex::new(Box::new([0; BUCKETS])),
            early: Mutex::default(),
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
        let feeder = Some(tokio::spawn(Feeder::new(shared.clone()).run()));
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

impl Shared {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= PREPARED_BYTES || self.lanes.lock().len() >= PREPARED
    }

    pub(super) fn may_begin(&self, entry: &Entry) -> bool {
        self.context.store.leases.bucket(entry.bucket).may_begin()
    }

    /// Lets buckets go that are to be left and have nothing here. Gives whether there are others to be left.
    pub(super) fn let_go(&self) -> bool {
        let leases = &self.context.store.leases;
        let leaving = leases.leaving();
        if leaving.is_empty() {
            return false;
        }
        let (busy, free): (Vec<u8>, Vec<u8>) = {
            let counts = self.buckets.lock();
            leaving.into_iter().partition(|bucket| counts.get(usize::from(*bucket)).is_some_and(|count| *count > 0))
        };
        if !free.is_empty() {
            leases.let_buckets_go(&free);
        }
        !busy.is_empty()
    }

    fn counted(&self, bucket: u8, change: impl FnOnce(&mut usize)) {
        if let Some(count) = self.buckets.lock().get_mut(usize::from(bucket)) {
            change(count);
        }
    }

    pub(super) fn add(&self, entry: Entry) {
        if self.known.lock().contains(&entry.position) || !self.may_begin(&entry) {
            return;
        }
        let prepared = prepare(&self.context, Journaled::reloaded(entry));
        self.put(prepared);
    }

    pub(super) fn put(&self, prepared: Prepared) {
        let entry = prepared.journaled.entry();
        let interactive = entry.interactive;
        if !self.known.lock().insert(entry.position) {
            return;
        }
        self.counted(entry.bucket, |count| *count += 1);
        self.bytes.fetch_add(entry.body.weight(), Ordering::Relaxed);
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
                let prepared = refreshed(&self.context, prepared);
                match self.apply(snapshot.as_ref(), &prepared) {
                    // What failed before takes no others along again.
                    Ok(Applied { changeset, told }) if prepared.failed.load(Ordering::Relaxed) > 0 => {
                        self.commit(vec![changeset], vec![(ticket, prepared, told)]);
                    }
                    Ok(Applied { changeset, told }) => {
                        changesets.push(changeset);
                        applied.push((ticket, prepared, told));
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
                self.commit(changesets, applied);
            }
        }
    }

    /// Applying only reads, so running the future to its end here keeps scripts off the runtime's threads.
    fn apply(&self, state: &dyn StateRead, prepared: &Prepared) -> Result<Applied> {
        let applying = || self.runtime.block_on(apply(&self.context, state, prepared));
        // Without its thread nothing would be applied any more.
        let failed = |_| Err(Error::internal("applying an entry failed, which is a fault of this program"));
        catch_unwind(AssertUnwindSafe(applying)).unwrap_or_else(failed)
    }

    fn commit(self: &Arc<Self>, changesets: Vec<Changeset>, applied: Vec<(Ticket, Arc<Prepared>, wait::Told)>) {
        let commit = self.context.store.commits.commit(changesets);
        let shared = self.clone();
        self.runtime.spawn(async move {
            let outcome = commit.await;
            shared.settle(applied, outcome);
        });
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
                            self.end(ticket, entry);
                            self.context.waiting.tell(entry.id, told);
                        }
                        Committed::Early => self.put_off(ticket, prepared.journaled.entry()),
                        Committed::Fenced => {
                            let entry = prepared.journaled.entry();
                            tracing::debug!(target: "segue::commit", entry = %entry.id, bucket = entry.bucket, "left to another node");
                            self.end(ticket, entry);
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

    /// Ends an entry here: it is applied, or another node's.
    fn end(&self, ticket: Ticket, entry: &Entry) {
        self.drop_from_lanes(ticket, entry);
        let mut early = self.early.lock();
        if !early.is_empty() {
            early.remove(&entry.position);
        }
        drop(early);
        self.known.lock().remove(&entry.position);
    }

    fn drop_from_lanes(&self, ticket: Ticket, entry: &Entry) {
        self.lanes.lock().done(ticket);
        self.counted(entry.bucket, |count| *count = count.saturating_sub(1));
        self.bytes.fetch_sub(entry.body.weight(), Ordering::Relaxed);
        self.context.metrics.pending_entries.dec();
        self.ready.notify_one();
        self.room.notify_one();
    }

    /// Lets go of an entry whose turn has not come: what is before it may not be here yet, and would be put behind it. It
    /// is found again on the disk after a pause, with what is before it.
    fn put_off(self: &Arc<Self>, ticket: Ticket, entry: &Entry) {
        self.drop_from_lanes(ticket, entry);
        let tries = {
            let mut early = self.early.lock();
            let tries = early.entry(entry.position).or_default();
            *tries += 1;
            *tries
        };
        let (shared, position, pause) = (self.clone(), entry.position, EARLY * (1 << tries.min(6)) / 2);
        self.others.notify_one();
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            shared.known.lock().remove(&position);
            shared.others.notify_one();
        });
    }

    fn again(&self, ticket: Ticket, prepared: Arc<Prepared>) {
        self.lanes.lock().put_back(ticket, prepared);
        self.ready.notify_one();
    }

    /// Tries again after a pause, which grows: mostly the store, not the entry, is what fails.
    fn later(self: &Arc<Self>, ticket: Ticket, prepared: Arc<Prepared>) {
        let shared = self.clone();
        let failed = prepared.failed.fetch_add(1, Ordering::Relaxed).min(8);
        let (first, most) = FAILED;
        self.runtime.spawn(async move {
            tokio::time::sleep(most.min(first * (1 << failed))).await;
            shared.again(ticket, prepared);
        });
    }
}
