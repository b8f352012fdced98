//! Who waits for the effect of an entry: callers who want an answer, API clients who want a result.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::CommandResult;
use crate::base::id::EntryId;
use crate::model::decision::CallAnswer;

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
