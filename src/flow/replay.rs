//! Applying a journal again in an empty store.
//!
//! Walks the applied records of a source in apply order. Entries are appended to the target in the order of their
//! positions, under their own ids, times and keys, so that the journal looks as it did to whoever reads it; then each is
//! applied under the bundle of its record, with the facts of its record, and committed before the next. Nothing is sent,
//! fetched or delivered. Under the same engine and bundles the two states are equal ([`compare`]); under others the walk
//! is a rehearsal, and what is decided otherwise is counted.
//!
//! Entries whose original is gone cannot be applied again: the walk begins from a checkpoint that was loaded into the target,
//! and what retention took out of the source since is taken out of the target in the end.

mod compare;
#[cfg(test)]
mod tests;

pub use compare::{compare, compare_dumps};

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::facts::Facts;
use super::journal::Journaled;
use super::wait::Waiting;
use super::{Ahead, Applied, Context, Setup, apply, prepare_under};
use crate::base::id::{EntryId, InteractionId};
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Error, Kind, Result, Retry, Timestamp};
use crate::model::decision::PolicyReply;
use crate::model::{Decision, Entry};
use crate::store::{Committed, NewEntry, PastApplied, Store, engine};

/// How many rows are read at once.
const PAGE: usize = 256;
/// How many examples of differences are kept.
const EXAMPLES: usize = 20;
/// How many setups are kept ready.
const SETUPS: usize = 4;

/// Gives the setup of a bundle by its hash.
pub type Setups<'a> = dyn Fn(String) -> BoxFuture<'a, Result<Setup>> + Send + Sync + 'a;

/// Under what entries are applied again.
pub enum Under<'a> {
    /// Each under the bundle that its record names.
    Recorded(Box<Setups<'a>>),
    /// All under one: a rehearsal.
    One(Arc<Setup>),
}

/// How far the walk is: entries applied, and the number expected at its end.
pub type Progress<'p> = dyn FnMut(u64, u64) + Send + 'p;

/// What came out otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// By what differs: `queue`, `priority`, `replies`, `commands`, `interactions`, or a table of the state.
    pub counts: std::collections::BTreeMap<&'static str, u64>,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// One thing that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// What differs.
    pub what: &'static str,
    /// The entry, conversation, event or table.
    pub at: String,
    /// What it was, without anything that a person said.
    pub was: String,
    /// What it is now.
    pub is: String,
}

impl Differences {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn add(&mut self, what: &'static str, at: impl ToString, was: impl ToString, is: impl ToString) {
        *self.counts.entry(what).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            let (at, was, is) = (at.to_string(), was.to_string(), is.to_string());
            self.examples.push(Example { what, at, was, is });
        }
    }
}

/// What the walk did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Walked {
    /// Entries applied.
    pub applied: u64,
    /// Entries copied that are pending.
    pub pending: u64,
    /// Whether every record names this engine, and its own bundle was used: then the states must be equal.
    pub exact: bool,
    /// What a rehearsal decided otherwise.
    pub differences: Differences,
}

/// Where a walk begins, and what is too old to be in the state at its end.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The apply number of the checkpoint that the target holds; 0 if it is empty.
    pub after: i64,
    /// Events from before this that the source has taken out are taken out of the target too.
    pub events: Timestamp,
}

/// Walks `source` into `target`, which must be empty or hold the checkpoint of `span` and nothing else.
///
/// # Errors
///
/// `Config` if the target holds anything else, `NotFound` if a bundle is not kept, `Conflict` at an entry whose original
/// is gone; else what the stores refuse.
pub async fn walk(
    source: &Store,
    target: &Store,
    span: Span,
    under: Under<'_>,
    progress: &mut Progress<'_>,
) -> Result<Walked> {
    /// How far positions may lie apart that were given at the same time.
    const REACH: i64 = 8192;
    let (begun, known) = target.history.ends().await?;
    if begun != span.after || (span.after == 0 && known != 0) {
        return Err(Error::config("the store to replay into is not empty; name a new one"));
    }
    let (end, _) = source.history.ends().await?;
    let total = (applied(source).await? - applied(target).await?).unsigned_abs();
    let mut walk = Walk {
        source,
        target,
        setups: HashMap::new(),
        copied: known.saturating_sub(REACH).max(0),
        known,
        context: None,
        walked: Walked { exact: matches!(under, Under::Recorded(_)), ..Walked::default() },
    };
    let mut last = span.after;
    while last < end {
        let page = source.history.applied(last, PAGE).await?;
        let Some(newest) = page.last() else { break };
        let newest = newest.applied.apply_no;
        for past in page.into_iter().filter(|past| past.applied.apply_no <= end) {
            walk.apply(past, &under).await?;
            progress(walk.walked.applied, total);
        }
        last = newest;
    }
    walk.copy(i64::MAX).await?;
    // What was on the wire when the source stopped may have been sent: it is not to be sent again from here.
    for send in source.outbox.unresolved_sends().await? {
        target.outbox.intend(send.id, target.leases.term()).await?;
    }
    forget_events(source, target, span.events).await?;
    walk.walked.pending = target.journal.pending_count().await?;
    Ok(walk.walked)
}

async fn applied(store: &Store) -> Result<i64> {
    Ok(store.catalog.counts().await?.get("applied").copied().unwrap_or_default())
}

/// Takes out of `target` what retention took out of `source`.
async fn forget_events(source: &Store, target: &Store, before: Timestamp) -> Result<()> {
    let mut after = 0;
    loop {
        let page = target.catalog.all_events(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.no;
        let mut gone = Vec::new();
        for event in &page {
            // What is no event is left to the comparison.
            let Ok(head) = serde_json::from_slice::<compare::Head>(&event.body) else { continue };
            if source.catalog.feed_position(head.id).await?.is_none() {
                gone.push(event.no);
            }
        }
        if !gone.is_empty() {
            target.retention.forget_events(gone, before).await?;
        }
    }
}

struct Walk<'a> {
    source: &'a Store,
    target: &'a Store,
    setups: HashMap<String, Arc<Setup>>,
    /// Up to which position of the source entries are copied.
    copied: i64,
    /// Up to which position the target may hold entries from its checkpoint.
    known: i64,
    context: Option<Arc<Context>>,
    walked: Walked,
}

impl Walk<'_> {
    /// Appends the entries of the source up to a position.
    async fn copy(&mut self, to: i64) -> Result<()> {
        while self.copied < to {
            let (before, page) = (self.copied, self.source.history.entries(self.copied, PAGE).await?);
            let mut appends = Vec::with_capacity(page.len());
            for past in page.into_iter().take_while(|past| past.entry.position <= to) {
                self.copied = past.entry.position;
                if self.copied <= self.known && self.target.journal.entry(past.entry.id).await?.is_some() {
                    continue;
                }
                let Entry { id, kind, channel, at, interactive, body, .. } = past.entry;
                let entry = NewEntry { id, kind, channel, at, interactive, keys: Vec::new(), key: past.key, body };
                appends.push((id, self.target.journal.append(entry)));
            }
            for (id, appended) in appends {
                if appended.await?.repeat {
                    return Err(Error::internal(format!("entry {id} of the source is there twice")));
                }
            }
            if self.copied == before {
                break;
            }
        }
        Ok(())
    }

    async fn setup(&mut self, hash: &str, under: &Under<'_>) -> Result<Arc<Setup>> {
        let setups = match under {
            Under::One(setup) => return Ok(setup.clone()),
            Under::Recorded(setups) => setups,
        };
        if let Some(setup) = self.setups.get(hash) {
            return Ok(setup.clone());
        }
        if self.setups.len() >= SETUPS {
            self.setups.clear();
        }
        let setup = Arc::new(setups(hash.to_owned()).await?);
        if let Some(content) = self.source.bundles.get(hash.to_owned()).await? {
            self.target.bundles.put(hash.to_owned(), content).await?;
        }
        self.setups.insert(hash.to_owned(), setup.clone());
        Ok(setup)
    }

    fn context(&mut self, setup: &Arc<Setup>) -> Arc<Context> {
        let target = self.target;
        let context = self.context.get_or_insert_with(|| {
            Arc::new(Context {
                store: target.clone(),
                setup: ArcSwap::new(setup.clone()),
                clock: Clock::fixed(Timestamp::default()),
                metrics: Metrics::new(),
                waiting: Waiting::default(),
                ahead: Ahead::default(),
                mailboxes: Default::default(),
                sending: Default::default(),
                blobs: None,
                held: AtomicBool::new(false),
            })
        });
        context.setup.store(setup.clone());
        context.clone()
    }

    async fn apply(&mut self, past: PastApplied, under: &Under<'_>) -> Result<()> {
        const TRIES: usize = 3;
        let PastApplied { entry, applied: record, engine: applied_by } = past;
        let (id, rehearsed) = (entry.id, matches!(under, Under::One(_)));
        self.walked.exact &= applied_by == engine();
        if entry.body.head.is_empty() {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "the original of entry {id} is gone; begin from a checkpoint that was written after it was applied"
                ),
            )
            .with_retry(Retry::Never));
        }
        self.copy(entry.position).await?;
        let setup = self.setup(&record.bundle, under).await?;
        let context = self.context(&setup);
        let found = self.target.journal.entry(id).await?;
        let (entry, _) = found.ok_or_else(|| Error::internal(format!("entry {id} was not copied")))?;
        let facts = Facts::read(record.facts.as_deref())?;
        let honored = match rehearsed {
            false => facts.clone(),
            // How rules of another bundle fail is theirs; that somebody had hung up is not.
            true => Facts { heard: facts.heard, ..Facts::default() },
        };
        let prepared = prepare_under(&context, setup, Journaled::reloaded(entry), honored);
        for _ in 0..TRIES {
            let snapshot = self.target.snapshots.snapshot()?;
            let outcome = apply(&context, snapshot.as_ref(), &prepared).await;
            drop(snapshot);
            let outcome = outcome.map_err(|error| error.context(format!("entry {id}")))?;
            let found = if rehearsed { self.judge(id, &facts, &outcome).await? } else { Differences::default() };
            match self.target.commits.commit(vec![outcome.changeset]).await?.first() {
                Some(Committed::Conflict) => prepared.met_conflict.store(true, Ordering::Relaxed),
                Some(Committed::Done(_)) => {
                    self.walked.applied += 1;
                    self.take(found);
                    return Ok(());
                }
                Some(Committed::Early | Committed::Fenced) => {
                    return Err(Error::internal(format!("entry {id} is not applied: others work on the target")));
                }
                Some(Committed::AlreadyApplied) | None => {
                    return Err(Error::internal(format!("entry {id} was applied already")));
                }
            }
        }
        Err(Error::internal(format!("entry {id} conflicts with a state that nobody else changes")))
    }

    fn take(&mut self, found: Differences) {
        for (what, count) in found.counts {
            *self.walked.differences.counts.entry(what).or_default() += count;
        }
        let room = EXAMPLES.saturating_sub(self.walked.differences.examples.len());
        self.walked.differences.examples.extend(found.examples.into_iter().take(room));
    }

    /// What a rehearsal decides otherwise about an entry.
    async fn judge(&self, id: EntryId, was: &Facts, outcome: &Applied) -> Result<Differences> {
        let mut found = Differences::default();
        let status = |facts: &Facts| facts.result.as_ref().map_or(0, |result| result.status);
        let facts = Facts::read(outcome.changeset.facts.as_deref())?;
        if status(was) != status(&facts) {
            found.add("commands", id, status(was), status(&facts));
        }
        for made in &outcome.changeset.interactions {
            let Some(before) = self.source.state.interaction_by_id(made.id).await? else {
                found.add("interactions", made.id, "none", "one");
                continue;
            };
            let (before, now) = (decision(before.decision.as_deref())?, decision(made.decision.as_deref())?);
            differ(&mut found, made.id, before.as_ref(), now.as_ref());
        }
        Ok(found)
    }
}

fn decision(json: Option<&str>) -> Result<Option<Decision>> {
    json.map(serde_json::from_str).transpose().map_err(|e| Error::internal("a decision cannot be read back").because(e))
}

fn differ(found: &mut Differences, id: InteractionId, was: Option<&Decision>, is: Option<&Decision>) {
    let queue = |d: Option<&Decision>| d.map_or("none".to_owned(), |d| d.queue.clone());
    let priority = |d: Option<&Decision>| d.map_or(0, |d| d.priority);
    // Templates are the operator's words; what fills them is not.
    let template = |reply: &PolicyReply| reply.template.clone();
    let replies = |d: Option<&Decision>| d.map_or(Vec::new(), |d| d.replies.iter().map(template).collect::<Vec<_>>());
    if queue(was) != queue(is) {
        found.add("queue", id, queue(was), queue(is));
    }
    if priority(was) != priority(is) {
        found.add("priority", id, priority(was), priority(is));
    }
    if replies(was) != replies(is) {
        found.add("replies", id, replies(was).join(", "), replies(is).join(", "));
    }
}
