//! Stage 3: the durable append. **The acknowledgement point.**
//!
//! Takes a verified request, gives a journaled one. Whoever waits is told only after the entry is on disk.

use super::verify::Verified;
use crate::base::Result;
use crate::base::id::EntryId;
use crate::model::entry::RequestHead;
use crate::model::{Entry, EntryBody, EntryKind};
use crate::store::{Appended, Journal, NewEntry};

/// An entry of the journal. Made by appending, or by reloading the journal.
pub(crate) struct Journaled(Entry);

impl Journaled {
    /// An entry as the journal gives it back.
    pub(crate) fn reloaded(entry: Entry) -> Self {
        Journaled(entry)
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.0
    }
}

/// Appends a verified request.
pub(crate) async fn step(journal: &dyn Journal, id: EntryId, verified: Verified) -> Result<Appended> {
    let head = RequestHead {
        method: verified.request.method,
        url: verified.request.url,
        headers: verified.kept_headers,
        verified_by: verified.verified_by,
    };
    let entry = NewEntry {
        id,
        kind: EntryKind::Webhook,
        channel: verified.channel,
        at: verified.at,
        interactive: verified.waits,
        key: Some(verified.delivery_key),
        body: EntryBody { head: serde_json::to_vec(&head).unwrap_or_default().into(), raw: verified.request.body },
    };
    journal.append(entry).await
}
