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

    /// An entry as it will be once it is appended, so that the journal can be told what orders it. Nothing may be done
    /// upon it before.
    pub(crate) fn to_be(entry: &NewEntry) -> Self {
        Journaled(Entry {
            position: 0,
            id: entry.id,
            kind: entry.kind,
            channel: entry.channel.clone(),
            bucket: 0,
            at: entry.at,
            interactive: entry.interactive,
            body: entry.body.clone(),
        })
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.0
    }
}

/// A verified request as an entry.
pub(crate) fn entry(id: EntryId, verified: Verified) -> NewEntry {
    let head = RequestHead {
        method: verified.request.method,
        url: verified.request.url,
        headers: verified.kept_headers,
        verified_by: verified.verified_by,
        sender: verified.sender,
    };
    NewEntry {
        id,
        kind: EntryKind::Webhook,
        channel: verified.channel,
        at: verified.at,
        interactive: verified.waits,
        keys: Vec::new(),
        key: Some(verified.delivery_key),
        body: EntryBody { head: serde_json::to_vec(&head).unwrap_or_default().into(), raw: verified.request.body },
    }
}

/// Appends the entry of a verified request.
pub(crate) async fn step(journal: &dyn Journal, entry: NewEntry) -> Result<Appended> {
    journal.append(entry).await
}
