//! Whether a changeset may be written: its asserts against the locked rows, and against what was written before it in the
//! same group.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;

use super::lease::Fence;
use super::session::PgError;
use crate::store::lease::BUCKETS;
use crate::store::seal::SealedSet;
use crate::store::{Assert, Committed};

/// How many events one transaction may number: feed numbers are transaction numbers times this, plus an ordinal.
pub(super) const EVENTS: i64 = 1 << 20;

/// The rows that a group's changesets assert or change, as they are within its transaction.
#[derive(Default, Clone)]
pub(super) struct Seen {
    /// The number of the transaction with the feed's offset.
    transaction: i64,
    /// How many events were numbered.
    events: i64,
    /// Pending entries with their buckets.
    pending: HashMap<i64, u8>,
    /// Entries that others wait for, by those.
    before: HashMap<i64, Vec<i64>>,
    /// The buckets that this node may not write for, if there are any.
    kept_out: Option<Box<[bool; BUCKETS]>>,
    /// Entries that were written.
    taken: HashSet<i64>,
    customers: HashMap<i64, i64>,
    /// Version and latest event.
    conversations: HashMap<i64, (i64, i64)>,
    threads: HashMap<[u8; 16], i64>,
    identifiers: HashSet<[u8; 16]>,
    items: HashSet<[u8; 16]>,
    /// What is known of messages, by the marks of their states.
    messages: HashMap<[u8; 16], [u8; 16]>,
    /// Threads that have a row, and messages that have one.
    pub(super) stored_threads: HashSet<[u8; 16]>,
    pub(super) stored_messages: HashSet<[u8; 16]>,
}

/// A key or id of 16 bytes.
pub(super) fn bytes16(row: &Row, column: usize) -> Result<[u8; 16], PgError> {
    Ok(row.try_get::<_, &[u8]>(column)?.try_into().unwrap_or_default())
}

impl Seen {
    /// Reads the answers of the first round: transaction, pending, customers, conversations, threads, identifiers, items,
    /// messages.
    pub(super) fn read(answers: [Vec<Row>; 8]) -> Result<Seen, PgError> {
        let [transaction, pending, customers, conversations, threads, identifiers, items, messages] = answers;
        let mut seen = Seen::default();
        for row in transaction {
            seen.transaction = row.try_get(0)?;
        }
        for row in pending {
            let bucket: i16 = row.try_get(1)?;
            seen.pending.insert(row.try_get(0)?, u8::try_from(bucket).unwrap_or_default());
        }
        for row in customers {
            seen.customers.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for row in conversations {
            seen.conversations.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
        }
        for row in threads {
            seen.threads.insert(bytes16(&row, 0)?, row.try_get(1)?);
        }
        for row in identifiers {
            seen.identifiers.insert(bytes16(&row, 0)?);
        }
        for row in items {
            seen.items.insert(bytes16(&row, 0)?);
        }
        for row in messages {
            seen.messages.insert(bytes16(&row, 0)?, bytes16(&row, 1)?);
        }
        seen.stored_threads = seen.threads.keys().copied().collect();
        seen.stored_messages = seen.messages.keys().copied().collect();
        Ok(seen)
    }

    /// Takes in which entries are still before which.
    pub(super) fn keep_order(&mut self, before: Vec<Row>) -> Result<(), PgError> {
        for row in before {
            self.before.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        }
        Ok(())
    }

    /// Takes in what this node holds, and whether its membership stands.
    pub(super) fn keep_out(&mut self, fence: Fence, stands: bool) {
        if fence.joined {
            let mut out = fence.buckets;
            out.iter_mut().for_each(|may| *may = !(*may && stands));
            self.kept_out = Some(out);
        }
    }

    /// Why a changeset may not be written; none if it may.
    pub(super) fn judge(&self, set: &SealedSet) -> Option<Committed> {
        let Some(bucket) = self.pending.get(&set.position) else { return Some(Committed::AlreadyApplied) };
        if self.kept_out.as_ref().is_some_and(|out| out.get(usize::from(*bucket)) == Some(&true)) {
            return Some(Committed::Fenced);
        }
        // What was before it and is written in the same group is in the way no more.
        let waits = |earlier: &i64| !self.taken.contains(earlier);
        if self.before.get(&set.position).is_some_and(|before| before.iter().any(waits)) {
            return Some(Committed::Early);
        }
        (!set.asserts.iter().all(|assert| self.holds(assert))).then_some(Committed::Conflict)
    }

    fn holds(&self, assert: &Assert) -> bool {
        match assert {
            Assert::Customer(no, expected) => self.customers.get(no) == Some(expected),
            Assert::Conversation { no, version, .. } => {
                self.conversations.get(no).map(|found| found.0) == Some(*version)
            }
            Assert::IdentifierFree(key) => !self.identifiers.contains(&key.0),
            Assert::Thread(key, expected) => self.threads.get(&key.0) == expected.as_ref(),
            Assert::ItemFree(item) => !self.items.contains(&item.0),
            Assert::Message(key, expected) => self.messages.get(&key.0) == expected.as_ref(),
        }
    }

    /// Takes a changeset as written.
    pub(super) fn take(&mut self, set: &SealedSet) {
        self.pending.remove(&set.position);
        self.taken.insert(set.position);
        self.customers.extend(set.customers.iter().map(|row| (row.no, row.version)));
        for write in &set.conversations {
            self.conversations.entry(write.row.no).or_default().0 = write.row.version;
        }
        self.threads.extend(set.threads.iter().map(|(key, conversation)| (key.0, *conversation)));
        self.identifiers.extend(set.identifiers.iter().map(|(key, _)| key.0));
        self.items.extend(set.interactions.iter().filter_map(|write| write.item.map(|item| item.0)));
        self.messages.extend(set.messages.iter().map(|write| (write.key.0, write.mark)));
    }

    /// Numbers the next event of a conversation. Gives its number and that of the event before it; 0 if there is none.
    pub(super) fn number(&mut self, conversation: i64) -> (i64, i64) {
        self.events += 1;
        let no = self.transaction.saturating_mul(EVENTS).saturating_add(self.events - 1);
        let latest = &mut self.conversations.entry(conversation).or_default().1;
        (no, std::mem::replace(latest, no))
    }

    /// A conversation's latest event.
    pub(super) fn latest_event(&self, conversation: i64) -> i64 {
        self.conversations.get(&conversation).map_or(0, |found| found.1)
    }

    /// The highest number that was given to an event.
    pub(super) fn last_event(&self) -> Option<i64> {
        (self.events > 0).then(|| self.transaction.saturating_mul(EVENTS).saturating_add(self.events - 1))
    }

    /// The same rows once what came after was taken back; the numbers that it used stay used.
    pub(super) fn after(self, later: &Seen) -> Seen {
        Seen { events: later.events, ..self }
    }
}
