//! The way of entries to the workers: from the journal's tails what this node appended, from the disk all other.
//!
//! The disk is read where the tail could not follow, and for entries that other nodes appended: when they say so, and each
//! second whatever was said. What is found is read in order of position, and the tail waits until it is through.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::journal::Journaled;
use super::work::{PREPARED, Shared};
use super::{prepare, read};
use crate::base::{Error, Result};
use crate::model::Entry;
use crate::store::Tail;

/// How many are read from the disk at once.
const PAGE: usize = 1024;
/// How many positions are listed at once: more than can be in the lanes, so that there is always a new one among them.
const LISTED: usize = 2 * PREPARED;
/// How often the disk is looked at for entries of other nodes, whatever was told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at, at most.
const LOOK_PACE: Duration = Duration::from_millis(15);
/// How often it is looked at whether buckets can be let go.
const LETTING_GO: Duration = Duration::from_millis(5);
/// For how long entries are read in a row before it is looked for callers again, who must not wait for all of them.
const READING: Duration = Duration::from_millis(10);
/// How far back in the backlog an interactive entry looks for earlier ones of its own keys.
const LOOK_BACK: usize = 256;

/// What is left on the disk for this node, as it was last looked at.
#[derive(Default)]
struct Backlog {
    /// What is still to be read.
    positions: VecDeque<i64>,
    /// All that was found: it is read from the disk, and not taken from the tail as well.
    found: HashSet<i64>,
}

/// Brings entries from the journal into the lanes: from its tails what this node appended, from the disk all other.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    tail: Arc<Tail<Entry>>,
    urgent: Arc<Tail<Entry>>,
    /// Whether others may append entries that this node is to apply.
    among_others: bool,
    backlog: Backlog,
    /// What was taken from the tail or the disk and is not read yet.
    taken: VecDeque<Entry>,
    /// Whether the disk must be read before the tail is: the tail has forgotten some.
    behind: bool,
    /// Whether the disk is to be looked at: for all entries, and for those that somebody waits for at another node.
    look: bool,
    look_for_callers: bool,
    looked: Instant,
    looked_for_callers: Instant,
}

impl Feeder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let store = &shared.context.store;
        Feeder {
            tail: store.journal.tail(),
            urgent: store.journal.urgent(),
            among_others: store.leases.shared(),
            backlog: Backlog::default(),
            taken: VecDeque::new(),
            behind: true,
            look: false,
            look_for_callers: false,
            looked: Instant::now(),
            looked_for_callers: Instant::now(),
            shared,
        }
    }

    /// Feeds until it is aborted.
    pub(super) async fn run(mut self) {
        let others = self.shared.others.clone();
        loop {
            if others.notified().now_or_never().is_some() || self.among_others && self.looked.elapsed() >= LOOK_EVERY {
                (self.look, self.look_for_callers) = (true, self.among_others);
            }
            self.take_urgent().await;
            let leaving = self.shared.let_go();
            let full = self.shared.is_full();
            if !full && self.step().await {
                continue;
            }
            let paced = LOOK_PACE.saturating_sub(self.looked.elapsed().min(self.looked_for_callers.elapsed()));
            let pause = match (self.look && !full || self.look_for_callers, leaving, self.among_others) {
                (true, ..) => paced,
                (_, true, _) => LETTING_GO,
                (_, _, true) => LOOK_EVERY,
                _ => Duration::from_secs(60),
            };
            tokio::select! {
                () = self.shared.room.notified() => {}
                () = self.tail.changed(), if !full => {}
                () = self.urgent.changed() => {}
                () = others.notified() => (self.look, self.look_for_callers) = (true, self.among_others),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn take_urgent(&mut self) {
        let (callers, missed) = self.urgent.take(PAGE);
        if missed {
            // Interactive entries are few; those that were forgotten come with all others from the disk.
            self.urgent.catch_up();
            self.look = true;
        }
        for entry in callers {
            pull_ahead(&self.shared, &entry).await;
            self.shared.add(entry);
        }
        if self.look_for_callers && self.looked_for_callers.elapsed() >= LOOK_PACE {
            (self.look_for_callers, self.looked_for_callers) = (false, Instant::now());
            if let Err(error) = self.take_callers_of_others().await {
                self.cannot_read(&error).await;
            }
        }
    }

    /// Brings in what somebody waits for at another node, ahead of all that is left on the disk.
    async fn take_callers_of_others(&mut self) -> Result<()> {
        let journal = &self.shared.context.store.journal;
        let mut found = journal.mine(true, PAGE).await?;
        {
            let known = self.shared.known.lock();
            found.retain(|position| !known.contains(position));
        }
        if found.is_empty() {
            return Ok(());
        }
        for entry in journal.pending_at(found).await?.0 {
            pull_ahead(&self.shared, &entry).await;
            self.shared.add(entry);
        }
        Ok(())
    }

    /// Brings in the next, the oldest first. Gives whether there was anything to do.
    async fn step(&mut self) -> bool {
        if !self.taken.is_empty() {
            self.add_for_a_while().await;
            return true;
        }
        if !self.backlog.positions.is_empty() {
            self.read().await;
            return true;
        }
        if self.behind || self.look && self.looked.elapsed() >= LOOK_PACE {
            self.list().await;
            return true;
        }
        let (entries, behind) = self.tail.take(PAGE / 8);
        if behind {
            // From now on the tail collects again: nothing falls between it and the disk.
            self.tail.catch_up();
            self.behind = true;
            return true;
        }
        let some = !entries.is_empty();
        let found = &self.backlog.found;
        self.taken.extend(entries.into_iter().filter(|entry| !found.contains(&entry.position)));
        some
    }

    async fn add_for_a_while(&mut self) {
        let begun = Instant::now();
        while let Some(entry) = self.taken.pop_front() {
            self.shared.add(entry);
            if begun.elapsed() >= READING || self.shared.is_full() {
                break;
            }
        }
        tokio::task::yield_now().await;
    }

    /// Looks what the disk holds for this node.
    async fn list(&mut self) {
        (self.look, self.looked) = (false, Instant::now());
        match self.shared.context.store.journal.mine(false, LISTED).await {
            Ok(found) => {
                let known = self.shared.known.lock();
                let new: VecDeque<i64> = found.iter().copied().filter(|position| !known.contains(position)).collect();
                drop(known);
                self.behind = found.len() == LISTED && !new.is_empty();
                self.backlog = Backlog { positions: new, found: found.into_iter().collect() };
            }
            Err(error) => self.cannot_read(&error).await,
        }
    }

    /// Reads a page of what was found.
    async fn read(&mut self) {
        let page: Vec<i64> = self.backlog.positions.iter().copied().take(PAGE).collect();
        match self.shared.context.store.journal.pending_at(page.clone()).await {
            Ok((entries, looked)) => {
                self.backlog.positions.drain(..looked.min(page.len()));
                self.taken.extend(entries);
            }
            Err(error) => self.cannot_read(&error).await,
        }
    }

    async fn cannot_read(&mut self, error: &Error) {
        tracing::error!(target: "segue::journal", error = %error.full(), "the backlog cannot be read");
        (self.look, self.look_for_callers) = (true, self.among_others);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Puts earlier entries that share a key with an interactive one before it.
async fn pull_ahead(shared: &Arc<Shared>, entry: &Entry) {
    if entry.channel.is_empty() {
        return;
    }
    let Ok(earlier) = shared.context.store.journal.before(entry, LOOK_BACK).await else { return };
    let mut own = None;
    for entry_before in earlier.into_iter().filter(|earlier| earlier.position < entry.position) {
        let known = shared.known.lock().contains(&entry_before.position);
        if known || !shared.may_begin(&entry_before) {
            continue;
        }
        let own = own.get_or_insert_with(|| read(&shared.context, &Journaled::reloaded(entry.clone())).keys);
        let prepared = prepare(&shared.context, Journaled::reloaded(entry_before));
        if prepared.keys.iter().any(|key| own.contains(key)) {
            shared.put(prepared);
        }
    }
}
