//! Rows as they lie in the tables of both backends, and what they are once they are opened.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::codec::{Codec, Keyring};
use super::entry::keys_of_wrap;
use super::{Column, KeyId};
use zeroize::Zeroizing;

use crate::base::id::{ConversationId, CustomerId, EntryId, EventId, SendId};
use crate::base::{Error, Result, Timestamp};
use crate::model::{Entry, EntryBody, EntryKind};
use crate::store::{
    AppliedRow, ConversationRow, CustomerRow, DeadLetter, DueEvent, DueSend, FeedEvent, FoundEntry, InteractionRow,
    MessageState, QuarantineRow, Stretch, code,
};

/// A row that a backend read.
pub(in crate::store) trait Stored {
    /// What it is to the rooms above.
    type Row;

    /// Adds the keys that it needs.
    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()>;

    /// Opens it.
    fn open(self, codec: &Codec, ring: &Keyring) -> Result<Self::Row>;
}

fn need(codec: &Codec, ids: &mut BTreeSet<KeyId>, sealed: &[u8]) -> Result<()> {
    ids.insert(codec.key_of(sealed)?);
    Ok(())
}

/// JSON that this program wrote.
fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::internal("a row of the store cannot be read").because(e))
}

/// A customer; profile and recent are sealed.
pub(in crate::store) struct StoredCustomer {
    pub(in crate::store) no: i64,
    pub(in crate::store) id: CustomerId,
    pub(in crate::store) version: i64,
    pub(in crate::store) created_at: Timestamp,
    pub(in crate::store) latest: i64,
    pub(in crate::store) profile: Vec<u8>,
    pub(in crate::store) recent: Vec<u8>,
}

impl Stored for StoredCustomer {
    type Row = CustomerRow;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.profile)?;
        need(codec, ids, &self.recent)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<CustomerRow> {
        let open = |column, sealed: &[u8]| codec.open_value(ring, column, &self.no.to_be_bytes(), sealed);
        Ok(CustomerRow {
            no: self.no,
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            latest: self.latest,
            profile: json(&open(Column::Profile, &self.profile)?)?,
            recent: json(&open(Column::Recent, &self.recent)?)?,
        })
    }
}

/// A conversation, its owner apart.
pub(in crate::store) struct StoredConversation {
    pub(in crate::store) row: ConversationRow,
    pub(in crate::store) owner: Option<Vec<u8>>,
}

impl Stored for StoredConversation {
    type Row = ConversationRow;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        self.owner.iter().try_for_each(|owner| need(codec, ids, owner))
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<ConversationRow> {
        let row = self.row.no.to_be_bytes();
        let owner = self.owner.map(|owner| codec.open_value(ring, Column::Owner, &row, &owner)).transpose()?;
        Ok(ConversationRow { owner: owner.as_deref().map(code::text), ..self.row })
    }
}

/// Reads the links of a conversation, which are clear.
pub(in crate::store) fn links(bytes: Option<&[u8]>) -> Result<Vec<crate::model::Link>> {
    bytes.map_or_else(|| Ok(Vec::new()), json)
}

/// A conversation without its owner, as the columns tell it.
#[derive(Default)]
pub(in crate::store) struct ConversationColumns {
    pub(in crate::store) no: i64,
    pub(in crate::store) id: [u8; 16],
    pub(in crate::store) version: i64,
    pub(in crate::store) customer: i64,
    pub(in crate::store) state: i64,
    pub(in crate::store) public: bool,
    pub(in crate::store) seq: i64,
    pub(in crate::store) event_seq: i64,
    pub(in crate::store) opened_at: i64,
    pub(in crate::store) updated_at: i64,
    pub(in crate::store) latest: i64,
    pub(in crate::store) queue: Option<String>,
    pub(in crate::store) owner: Option<Vec<u8>>,
    pub(in crate::store) links: Option<Vec<u8>>,
}

impl ConversationColumns {
    /// The row, its owner still sealed.
    pub(in crate::store) fn stored(self) -> StoredConversation {
        let row = ConversationRow {
            no: self.no,
            id: ConversationId::from_bytes(self.id),
            version: self.version,
            customer: self.customer,
            state: code::state_of(self.state),
            public: self.public,
            seq: self.seq,
            event_seq: self.event_seq,
            opened_at: Timestamp::from_millis(self.opened_at),
            updated_at: Timestamp::from_millis(self.updated_at),
            latest: self.latest,
            queue: self.queue,
            owner: None,
            // Links that cannot be read are none: they lead to other stories and decide nothing.
            links: links(self.links.as_deref()).unwrap_or_default(),
        };
        StoredConversation { row, owner: self.owner }
    }
}

/// An interaction; the texts of `row` are still empty.
pub(in crate::store) struct StoredInteraction {
    pub(in crate::store) row: InteractionRow,
    pub(in crate::store) body: Vec<u8>,
    pub(in crate::store) decision: Option<Vec<u8>>,
}

impl Stored for StoredInteraction {
    type Row = InteractionRow;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.body)?;
        self.decision.iter().try_for_each(|decision| need(codec, ids, decision))
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<InteractionRow> {
        let row = self.row.no.to_be_bytes();
        let open = |column, sealed: &[u8]| codec.open_value(ring, column, &row, sealed);
        let decision = self.decision.map(|decision| open(Column::Decision, &decision)).transpose()?;
        let body = code::text(&open(Column::Body, &self.body)?);
        Ok(InteractionRow { body, decision: decision.as_deref().map(code::text), ..self.row })
    }
}

impl StoredInteraction {
    /// How many bytes it has.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.body.len() + self.decision.as_ref().map_or(0, Vec::len)
    }
}

/// A part of a timeline.
pub(in crate::store) struct StoredStretch {
    pub(in crate::store) rows: Vec<StoredInteraction>,
    pub(in crate::store) more: bool,
}

impl Stored for StoredStretch {
    type Row = Stretch;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        self.rows.iter().try_for_each(|row| row.keys(codec, ids))
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<Stretch> {
        let rows = self.rows.into_iter().map(|row| row.open(codec, ring)).collect::<Result<_>>()?;
        Ok(Stretch { rows, more: self.more })
    }
}

/// What is known of a message, under its enciphered key.
pub(in crate::store) struct StoredMessage {
    pub(in crate::store) key: [u8; 16],
    pub(in crate::store) state: Vec<u8>,
}

impl Stored for StoredMessage {
    type Row = MessageState;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.state)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<MessageState> {
        json(&codec.open_value(ring, Column::Message, &self.key, &self.state)?)
    }
}

/// What decisions depended on, under its hash.
pub(in crate::store) struct StoredBundle {
    pub(in crate::store) hash: String,
    pub(in crate::store) content: Vec<u8>,
}

impl Stored for StoredBundle {
    type Row = Bytes;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.content)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<Bytes> {
        codec.open_value(ring, Column::Bundle, self.hash.as_bytes(), &self.content).map(Bytes::from)
    }
}

/// A refresh token under its channel.
pub(in crate::store) struct StoredGrant {
    pub(in crate::store) channel: String,
    pub(in crate::store) kept: Vec<u8>,
}

impl Stored for StoredGrant {
    type Row = Zeroizing<Vec<u8>>;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.kept)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<Zeroizing<Vec<u8>>> {
        codec.open_value(ring, Column::Grant, self.channel.as_bytes(), &self.kept).map(Zeroizing::new)
    }
}

/// A send.
pub(in crate::store) struct StoredSend {
    pub(in crate::store) id: SendId,
    pub(in crate::store) planned: Vec<u8>,
    pub(in crate::store) attempts: u32,
    pub(in crate::store) created_at: Timestamp,
    pub(in crate::store) conversation: i64,
    pub(in crate::store) state: i64,
}

impl Stored for StoredSend {
    type Row = DueSend;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.planned)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<DueSend> {
        Ok(DueSend {
            planned: json(&codec.open_value(ring, Column::Planned, self.id.as_bytes(), &self.planned)?)?,
            id: self.id,
            attempts: self.attempts,
            created_at: self.created_at,
            conversation: self.conversation,
            state: code::send_state(self.state),
        })
    }
}

/// An event that is due: its body is still sealed.
pub(in crate::store) struct StoredDue(pub(in crate::store) DueEvent);

impl Stored for StoredDue {
    type Row = DueEvent;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.0.body)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<DueEvent> {
        let body = codec.open_value(ring, Column::Event, self.0.id.as_bytes(), &self.0.body)?;
        Ok(DueEvent { body: Bytes::from(body), ..self.0 })
    }
}

/// An event of the feed: its body is still sealed.
pub(in crate::store) struct StoredFeedEvent {
    pub(in crate::store) id: EventId,
    pub(in crate::store) event: FeedEvent,
}

impl Stored for StoredFeedEvent {
    type Row = FeedEvent;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.event.body)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<FeedEvent> {
        let body = codec.open_value(ring, Column::Event, self.id.as_bytes(), &self.event.body)?;
        Ok(FeedEvent { body: Bytes::from(body), ..self.event })
    }
}

/// Something set aside: its reason is still sealed.
pub(in crate::store) struct StoredQuarantine {
    pub(in crate::store) position: i64,
    pub(in crate::store) row: QuarantineRow,
    pub(in crate::store) reason: Vec<u8>,
}

impl Stored for StoredQuarantine {
    type Row = QuarantineRow;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.reason)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<QuarantineRow> {
        let reason = codec.open_value(ring, Column::Reason, &self.position.to_be_bytes(), &self.reason)?;
        Ok(QuarantineRow { reason: code::text(&reason), ..self.row })
    }
}

/// A dead letter: its error is still sealed.
pub(in crate::store) struct StoredDead {
    pub(in crate::store) row: DeadLetter,
    pub(in crate::store) error: Vec<u8>,
}

impl Stored for StoredDead {
    type Row = DeadLetter;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        need(codec, ids, &self.error)
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<DeadLetter> {
        let error = codec.open_value(ring, Column::DeliveryError, &self.row.no.to_be_bytes(), &self.error)?;
        Ok(DeadLetter { error: code::text(&error), ..self.row })
    }
}

/// An entry. Where it is a stub, or never said anything, head and raw are empty.
pub(in crate::store) struct StoredEntry {
    pub(in crate::store) position: i64,
    pub(in crate::store) id: EntryId,
    pub(in crate::store) kind: EntryKind,
    pub(in crate::store) channel: String,
    pub(in crate::store) bucket: u8,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) interactive: bool,
    pub(in crate::store) head: Vec<u8>,
    pub(in crate::store) raw: Vec<u8>,
    pub(in crate::store) wrap: Vec<u8>,
    /// The wrap of its applied record, which counts if there is one.
    pub(in crate::store) applied_wrap: Option<Vec<u8>>,
}

impl StoredEntry {
    fn body(&self, codec: &Codec, ring: &Keyring) -> Result<EntryBody> {
        if self.head.is_empty() && self.raw.is_empty() {
            return Ok(EntryBody::default());
        }
        let own = match &self.applied_wrap {
            Some(wrap) => codec.unwrap_entry(ring, Column::AppliedWrap, &self.position.to_be_bytes(), wrap)?,
            None if codec.is_off() => Default::default(),
            None => codec.unwrap_entry(ring, Column::EntryWrap, self.id.as_bytes(), &self.wrap)?,
        };
        let open = |column, sealed: &[u8]| match sealed {
            [] => Ok(Bytes::new()),
            sealed => codec.open_entry(&own, self.id, column, sealed).map(Bytes::from),
        };
        Ok(EntryBody { head: open(Column::EntryHead, &self.head)?, raw: open(Column::EntryRaw, &self.raw)? })
    }
}

impl Stored for StoredEntry {
    type Row = Entry;

    fn keys(&self, _: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        if !self.head.is_empty() || !self.raw.is_empty() {
            ids.extend(keys_of_wrap(self.applied_wrap.as_ref().unwrap_or(&self.wrap))?);
        }
        Ok(())
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<Entry> {
        let body = self.body(codec, ring)?;
        Ok(Entry {
            position: self.position,
            id: self.id,
            kind: self.kind,
            channel: self.channel,
            bucket: self.bucket,
            at: self.at,
            interactive: self.interactive,
            body,
        })
    }
}

/// An entry with its applied record, whose facts are still sealed.
pub(in crate::store) struct StoredFound {
    pub(in crate::store) entry: StoredEntry,
    pub(in crate::store) applied: Option<AppliedRow>,
    pub(in crate::store) facts: Option<Vec<u8>>,
}

impl Stored for StoredFound {
    type Row = FoundEntry;

    fn keys(&self, codec: &Codec, ids: &mut BTreeSet<KeyId>) -> Result<()> {
        self.entry.keys(codec, ids)?;
        self.facts.iter().try_for_each(|facts| need(codec, ids, facts))
    }

    fn open(self, codec: &Codec, ring: &Keyring) -> Result<FoundEntry> {
        let row = self.entry.position.to_be_bytes();
        let facts = self.facts.map(|facts| codec.open_value(ring, Column::Facts, &row, &facts)).transpose()?;
        let facts = facts.as_deref().map(code::text);
        let applied = self.applied.map(|applied| AppliedRow { facts, ..applied });
        Ok((self.entry.open(codec, ring)?, applied))
    }
}
