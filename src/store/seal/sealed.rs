//! A changeset as it is written: personal columns sealed, looked-up keys enciphered, everything in bytes.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::codec::{Codec, Keyring};
use super::{Column, KeyId};
use crate::base::Result;
use crate::base::id::{CustomerId, EventId, InteractionId, SendId};
use crate::model::ItemKey;
use crate::store::rows::json;
use crate::store::{
    Assert, BlobUse, Changeset, ConversationRow, ConversationWrite, CustomerWrite, EventWrite, IdentifierKey,
    InteractionUpdate, InteractionWrite, MediaWrite, MessageKey, MessageStateWrite, SendWrite, ThreadKey,
};

/// What both backends write of a changeset; see [`Changeset`] for what is what.
pub(in crate::store) struct SealedSet {
    pub(in crate::store) position: i64,
    pub(in crate::store) asserts: Vec<Assert>,
    pub(in crate::store) bundle: String,
    pub(in crate::store) facts: Option<Vec<u8>>,
    /// The key of the entry under those of its customers.
    pub(in crate::store) wrap: Option<Vec<u8>>,
    pub(in crate::store) customers: Vec<SealedCustomer>,
    pub(in crate::store) identifiers: Vec<(IdentifierKey, i64)>,
    pub(in crate::store) conversations: Vec<SealedConversation>,
    pub(in crate::store) threads: Vec<(ThreadKey, i64)>,
    pub(in crate::store) interactions: Vec<SealedInteraction>,
    /// Number and body.
    pub(in crate::store) updates: Vec<(i64, Vec<u8>)>,
    pub(in crate::store) messages: Vec<SealedMessage>,
    pub(in crate::store) events: Vec<SealedEvent>,
    pub(in crate::store) sends: Vec<SealedSend>,
    pub(in crate::store) sends_done: Vec<SendId>,
    pub(in crate::store) media: Vec<MediaWrite>,
    pub(in crate::store) media_done: Vec<(i64, usize)>,
    pub(in crate::store) blobs: Vec<BlobUse>,
    /// Reasons.
    pub(in crate::store) quarantined: Vec<Vec<u8>>,
    pub(in crate::store) released: Vec<i64>,
    /// Key and milliseconds.
    pub(in crate::store) sides: Vec<([u8; 16], i64)>,
}

pub(in crate::store) struct SealedCustomer {
    pub(in crate::store) no: i64,
    pub(in crate::store) id: CustomerId,
    pub(in crate::store) version: i64,
    pub(in crate::store) created_at: i64,
    pub(in crate::store) latest: i64,
    /// Written only if the customer is new or the profile changed.
    pub(in crate::store) profile: Vec<u8>,
    pub(in crate::store) recent: Vec<u8>,
    pub(in crate::store) new: bool,
    pub(in crate::store) profile_changed: bool,
}

pub(in crate::store) struct SealedConversation {
    /// The row; its owner is in `owner`.
    pub(in crate::store) row: ConversationRow,
    pub(in crate::store) owner: Option<Vec<u8>>,
    pub(in crate::store) links: Option<Vec<u8>>,
    pub(in crate::store) new: bool,
}

pub(in crate::store) struct SealedInteraction {
    pub(in crate::store) no: i64,
    pub(in crate::store) id: InteractionId,
    pub(in crate::store) item: Option<ItemKey>,
    pub(in crate::store) conversation: i64,
    pub(in crate::store) seq: i64,
    pub(in crate::store) before_in_conversation: i64,
    pub(in crate::store) customer: i64,
    pub(in crate::store) before_of_customer: i64,
    pub(in crate::store) outbound: bool,
    pub(in crate::store) body: Vec<u8>,
    pub(in crate::store) decision: Option<Vec<u8>>,
}

pub(in crate::store) struct SealedMessage {
    pub(in crate::store) key: MessageKey,
    /// Tells the state from any other, as asserts name it.
    pub(in crate::store) mark: [u8; 16],
    pub(in crate::store) state: Vec<u8>,
}

pub(in crate::store) struct SealedEvent {
    pub(in crate::store) id: EventId,
    pub(in crate::store) kind: u8,
    pub(in crate::store) conversation: i64,
    pub(in crate::store) channel: String,
    pub(in crate::store) at: i64,
    pub(in crate::store) body: Vec<u8>,
    /// The event itself, for those who deliver it.
    pub(in crate::store) plain: Bytes,
}

pub(in crate::store) struct SealedSend {
    pub(in crate::store) id: SendId,
    pub(in crate::store) conversation: i64,
    pub(in crate::store) at: i64,
    pub(in crate::store) planned: Vec<u8>,
}

impl Codec {
    /// Seals changesets. The keys of their entries must be at hand; see [`Codec::unknown`].
    pub(in crate::store) async fn seal_sets(&self, sets: Vec<Changeset>) -> Result<Vec<SealedSet>> {
        let concerned: Vec<BTreeSet<i64>> = sets.iter().map(concerned).collect();
        let ring = self.keys(concerned.iter().flatten().map(|no| KeyId::customer(*no)).collect()).await?;
        let sealed = sets.into_iter().zip(concerned);
        sealed.map(|(set, concerned)| Sealer::new(self, &ring, &set, concerned).seal(set)).collect()
    }
}

/// The customers that a changeset is about.
fn concerned(set: &Changeset) -> BTreeSet<i64> {
    let asserted = set.asserts.iter().filter_map(|assert| match assert {
        Assert::Customer(no, _) => Some(*no),
        Assert::Conversation { customer, .. } => Some(*customer),
        _ => None,
    });
    let written = set.customers.iter().map(|write| write.row.no);
    let stories = set.conversations.iter().map(|write| write.row.customer);
    let said = set.interactions.iter().map(|write| write.customer);
    let gained = set.updates.iter().map(|update| update.customer);
    asserted.chain(written).chain(stories).chain(said).chain(gained).collect()
}

/// Seals one changeset.
struct Sealer<'c> {
    codec: &'c Codec,
    ring: &'c Keyring,
    concerned: Vec<i64>,
    /// The key of what cannot be said to be of one story: the customer's if there is only one, else that of the house.
    shared: KeyId,
    /// Stories and their customers.
    owners: Vec<(i64, KeyId)>,
}

impl<'c> Sealer<'c> {
    fn new(codec: &'c Codec, ring: &'c Keyring, set: &Changeset, concerned: BTreeSet<i64>) -> Sealer<'c> {
        let concerned: Vec<i64> = concerned.into_iter().collect();
        let shared = match concerned.as_slice() {
            [no] => KeyId::customer(*no),
            _ => KeyId::HOUSE,
        };
        let owners = set.conversations.iter().map(|write| (write.row.no, KeyId::customer(write.row.customer)));
        Sealer { codec, ring, concerned, shared, owners: owners.collect() }
    }

    fn of(&self, conversation: i64) -> KeyId {
        self.owners.iter().find(|(no, _)| *no == conversation).map_or(self.shared, |(_, owner)| *owner)
    }

    fn value(&self, id: KeyId, column: Column, row: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        match id {
            KeyId::HOUSE => self.codec.seal_house(column, row, plain),
            id => self.codec.seal(self.ring, id, column, row, plain),
        }
    }

    fn seal(&self, set: Changeset) -> Result<SealedSet> {
        let position = set.position.to_be_bytes();
        let blind = |key: &[u8; 16]| self.codec.blind(key);
        let facts = set.facts.as_ref().map(|facts| self.value(self.shared, Column::Facts, &position, facts.as_bytes()));
        let reasons =
            set.quarantined.iter().map(|reason| self.codec.seal_house(Column::Reason, &position, reason.as_bytes()));
        Ok(SealedSet {
            position: set.position,
            asserts: set.asserts.into_iter().map(|assert| self.assert(assert)).collect(),
            facts: facts.transpose()?,
            wrap: self.codec.wrap_for(self.ring, set.position, &self.concerned)?,
            quarantined: reasons.collect::<Result<_>>()?,
            customers: set.customers.into_iter().map(|write| self.customer(write)).collect::<Result<_>>()?,
            identifiers: set.identifiers.iter().map(|(key, no)| (IdentifierKey(blind(&key.0)), *no)).collect(),
            conversations: set
                .conversations
                .into_iter()
                .map(|write| self.conversation(write))
                .collect::<Result<_>>()?,
            threads: set.threads.iter().map(|(key, no)| (ThreadKey(blind(&key.0)), *no)).collect(),
            interactions: set.interactions.into_iter().map(|write| self.interaction(write)).collect::<Result<_>>()?,
            updates: set.updates.into_iter().map(|update| self.update(update)).collect::<Result<_>>()?,
            messages: set.messages.iter().map(|write| self.message(write)).collect::<Result<_>>()?,
            events: set.events.into_iter().map(|write| self.event(write)).collect::<Result<_>>()?,
            sends: set.sends.iter().map(|write| self.send(write)).collect::<Result<_>>()?,
            sends_done: set.sends_done,
            media: set.media,
            media_done: set.media_done,
            blobs: set.blobs,
            released: set.released,
            sides: set.sides.iter().map(|(key, at)| (blind(key), at.millis())).collect(),
            bundle: set.bundle,
        })
    }

    fn assert(&self, assert: Assert) -> Assert {
        let blind = |key: &[u8; 16]| self.codec.blind(key);
        match assert {
            Assert::Customer(..) | Assert::Conversation { .. } => assert,
            Assert::IdentifierFree(key) => Assert::IdentifierFree(IdentifierKey(blind(&key.0))),
            Assert::Thread(key, owner) => Assert::Thread(ThreadKey(blind(&key.0)), owner),
            Assert::ItemFree(item) => Assert::ItemFree(ItemKey(blind(&item.0))),
            Assert::Message(key, mark) => Assert::Message(MessageKey(blind(&key.0)), mark.as_ref().map(blind)),
        }
    }

    fn customer(&self, write: CustomerWrite) -> Result<SealedCustomer> {
        let row = write.row;
        let (id, name) = (KeyId::customer(row.no), row.no.to_be_bytes());
        let profile = match write.new || write.profile_changed {
            true => self.value(id, Column::Profile, &name, &json(&row.profile))?,
            false => Vec::new(),
        };
        Ok(SealedCustomer {
            no: row.no,
            id: row.id,
            version: row.version,
            created_at: row.created_at.millis(),
            latest: row.latest,
            profile,
            recent: self.value(id, Column::Recent, &name, &json(&row.recent))?,
            new: write.new,
            profile_changed: write.profile_changed,
        })
    }

    fn conversation(&self, write: ConversationWrite) -> Result<SealedConversation> {
        let mut row = write.row;
        let (id, name) = (KeyId::customer(row.customer), row.no.to_be_bytes());
        let owner = row.owner.take().map(|owner| self.value(id, Column::Owner, &name, owner.as_bytes()));
        let links = (!row.links.is_empty()).then(|| json(&row.links));
        Ok(SealedConversation { owner: owner.transpose()?, links, row, new: write.new })
    }

    fn interaction(&self, write: InteractionWrite) -> Result<SealedInteraction> {
        let (id, name) = (KeyId::customer(write.customer), write.no.to_be_bytes());
        let decision = write.decision.map(|decision| self.value(id, Column::Decision, &name, decision.as_bytes()));
        Ok(SealedInteraction {
            no: write.no,
            id: write.id,
            item: write.item.map(|item| ItemKey(self.codec.blind(&item.0))),
            conversation: write.conversation,
            seq: write.seq,
            before_in_conversation: write.before_in_conversation,
            customer: write.customer,
            before_of_customer: write.before_of_customer,
            outbound: write.outbound,
            body: self.value(id, Column::Body, &name, write.body.as_bytes())?,
            decision: decision.transpose()?,
        })
    }

    fn update(&self, update: InteractionUpdate) -> Result<(i64, Vec<u8>)> {
        let id = KeyId::customer(update.customer);
        Ok((update.no, self.value(id, Column::Body, &update.no.to_be_bytes(), update.body.as_bytes())?))
    }

    fn message(&self, write: &MessageStateWrite) -> Result<SealedMessage> {
        let key = self.codec.blind(&write.key.0);
        Ok(SealedMessage {
            key: MessageKey(key),
            mark: self.codec.blind(&write.state.mark()),
            state: self.value(self.shared, Column::Message, &key, &json(&write.state))?,
        })
    }

    fn event(&self, write: EventWrite) -> Result<SealedEvent> {
        Ok(SealedEvent {
            id: write.id,
            kind: write.kind as u8,
            conversation: write.conversation,
            channel: write.channel,
            at: write.at.millis(),
            body: self.value(self.of(write.conversation), Column::Event, write.id.as_bytes(), &write.body)?,
            plain: write.body,
        })
    }

    fn send(&self, write: &SendWrite) -> Result<SealedSend> {
        let id = write.planned.message.id;
        Ok(SealedSend {
            id,
            conversation: write.conversation,
            at: write.at.millis(),
            planned: self.value(self.of(write.conversation), Column::Planned, id.as_bytes(), &json(&write.planned))?,
        })
    }
}
