//! Who waits for the effect of an entry: callers who want an answer, API clients who want a result.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{CommandResult, Context};
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::model::decision::CallAnswer;
use crate::model::{Entry, EntryKind};
use crate::store::AppliedRow;

/// How long a waiting caller's entry is left to this node before the journal is asked what another one made of it.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// Under which name an applied record holds what a caller is to hear.
const ANSWER: &str = "answer";

/// What applying an entry tells whoever waits for it.
#[derive(Clone, Default)]
pub struct Told {
    /// What the policy said a caller should hear.
    pub answer: Option<CallAnswer>,
    /// What became of a command.
    pub result: Option<CommandResult>,
}

/// Those who wait, by entry. Bounded by the requests in flight, since each is one of them.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<EntryId, oneshot::Sender<Told>>>);

/// Somebody's place among those who wait; given up when dropped.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    entry: EntryId,
    pub(crate) told: oneshot::Receiver<Told>,
}

impl Waiting {
    /// Waits for an entry. To be called before the entry is appended, so that its effect cannot be missed.
    pub(crate) fn enter(&self, entry: EntryId) -> Place<'_> {
        let (sender, told) = oneshot::channel();
        self.0.lock().insert(entry, sender);
        Place { waiting: self, entry, told }
    }

    /// Tells of an effect that is on disk.
    pub(crate) fn tell(&self, entry: EntryId, told: Told) {
        if let Some(sender) = self.0.lock().remove(&entry) {
            let _ = sender.send(told);
        }
    }
}

/// Waits for the effect of an entry, until `deadline`. Another node may apply it: then the applied record tells.
pub(crate) async fn effect(
    context: &Context,
    place: &mut Place<'_>,
    entry: EntryId,
    deadline: Instant,
) -> Option<Told> {
    let shared = context.store.leases.shared();
    loop {
        let until = if shared { deadline.min(Instant::now() + ASK_EVERY) } else { deadline };
        if let Ok(told) = tokio::time::timeout_at(until, &mut place.told).await {
            return told.ok();
        }
        if until >= deadline {
            return None;
        }
        let found = context.store.journal.entry(entry).await.ok().flatten();
        if let Some((entry, Some(applied))) = found {
            return Some(recorded(&entry, &applied));
        }
    }
}

/// What an applied record tells whoever waits for its entry.
fn recorded(entry: &Entry, applied: &AppliedRow) -> Told {
    let facts = applied.facts.as_deref().unwrap_or("null");
    match entry.kind {
        EntryKind::Command => Told { answer: None, result: serde_json::from_str(facts).ok() },
        _ => {
            let answer = serde_json::from_str(facts).ok().and_then(|facts: Map<String, Value>| {
                facts.get(ANSWER).cloned().and_then(|answer| serde_json::from_value(answer).ok())
            });
            Told { answer, result: None }
        }
    }
}

/// Writes what a caller is to hear into the facts of an applied record.
pub(crate) fn record(facts: &mut Option<String>, answer: &CallAnswer) -> Result<()> {
    let failed = |e: serde_json::Error| Error::internal("failed to write JSON").because(e);
    let mut all: Map<String, Value> =
        facts.as_deref().map(serde_json::from_str).transpose().map_err(failed)?.unwrap_or_default();
    all.insert(ANSWER.to_owned(), serde_json::to_value(answer).map_err(failed)?);
    *facts = Some(Value::Object(all).to_string());
    Ok(())
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.0.lock().remove(&self.entry);
    }
}

#[cfg(test)]
impl Place<'_> {
    /// Waits until the entry is applied; false if it never will be.
    pub(crate) async fn applied(mut self) -> bool {
        (&mut self.told).await.is_ok()
    }
}
