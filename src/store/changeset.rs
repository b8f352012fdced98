//! What one applied entry changes: plain data, committed whole or not at all.

use bytes::Bytes;

use super::blob::BlobName;
use super::rows::{ConversationRow, CustomerRow, IdentifierKey, MessageKey, MessageState, ThreadKey};
use crate::base::Timestamp;
use crate::base::id::{EventId, InteractionId};
use crate::model::entry::PlannedSend;
use crate::model::{EventType, ItemKey};

/// All that one entry changes, with what must still be true for it to be right.
#[derive(Default)]
pub struct Changeset {
    /// The entry, which must still be pending.
    pub position: i64,
    /// What was read and must still hold.
    pub asserts: Vec<Assert>,
    /// The hash of the bundle that ruled.
    pub bundle: String,
    /// What applying answered, sampled facts and breaches, as JSON.
    pub facts: Option<String>,
    /// Customers made or changed.
    pub customers: Vec<CustomerWrite>,
    /// Identifiers given to customers (by number).
    pub identifiers: Vec<(IdentifierKey, i64)>,
    /// Conversations made or changed.
    pub conversations: Vec<ConversationWrite>,
    /// Threads given to conversations (by number).
    pub threads: Vec<(ThreadKey, i64)>,
    /// Interactions made.
    pub interactions: Vec<InteractionWrite>,
    /// Interactions that gained something.
    pub updates: Vec<InteractionUpdate>,
    /// What became known of providers' messages.
    pub messages: Vec<MessageStateWrite>,
    /// Events, in order.
    pub events: Vec<EventWrite>,
    /// Sends planned.
    pub sends: Vec<SendWrite>,
    /// Sends that reached an end.
    pub sends_done: Vec<crate::base::id::SendId>,
    /// Files to fetch.
    pub media: Vec<MediaWrite>,
    /// Files that were fetched or given up: interaction number and part.
    pub media_done: Vec<(i64, usize)>,
    /// What parts of interactions name from now on.
    pub blobs: Vec<BlobUse>,
    /// Items set aside, each with its reason.
    pub quarantined: Vec<String>,
    /// Quarantined entries that were taken up again.
    pub released: Vec<i64>,
    /// Notes under hashed names, with their time.
    pub sides: Vec<([u8; 16], Timestamp)>,
}

/// Something that was read and must still hold when the changeset is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assert {
    /// The customer of this number still has this version.
    Customer(i64, i64),
    /// A conversation still has this version.
    Conversation {
        /// Its number.
        no: i64,
        /// Whose it is.
        customer: i64,
        /// The version that was read.
        version: i64,
    },
    /// No customer has this identifier.
    IdentifierFree(IdentifierKey),
    /// The thread belongs to this conversation, or to none.
    Thread(ThreadKey, Option<i64>),
    /// The item has not become an interaction.
    ItemFree(ItemKey),
    /// What is known of a provider's message is still this ([`MessageState::mark`]), or still nothing.
    Message(MessageKey, Option<[u8; 16]>),
}

/// A customer made or changed.
pub struct CustomerWrite {
    /// The row as it is to be; its `version` is the new one.
    pub row: CustomerRow,
    /// Whether it is new.
    pub new: bool,
    /// Whether the profile changed (most changes only move version, latest and recent).
    pub profile_changed: bool,
}

/// A conversation made or changed.
pub struct ConversationWrite {
    /// The row as it is to be; its `version` is the new one.
    pub row: ConversationRow,
    /// Whether it is new.
    pub new: bool,
}

/// An interaction made.
pub struct InteractionWrite {
    /// Its number, drawn before.
    pub no: i64,
    /// Its id.
    pub id: InteractionId,
    /// The item it is, if it came from a provider.
    pub item: Option<ItemKey>,
    /// The conversation's number.
    pub conversation: i64,
    /// Its place in the conversation.
    pub seq: i64,
    /// The number of the interaction before it in the conversation; 0 if none.
    pub before_in_conversation: i64,
    /// The customer's number.
    pub customer: i64,
    /// The number of the customer's interaction before it; 0 if none.
    pub before_of_customer: i64,
    /// Whether we sent it.
    pub outbound: bool,
    /// The interaction as JSON.
    pub body: String,
    /// The decision as JSON.
    pub decision: Option<String>,
}

/// An interaction that gained something.
pub struct InteractionUpdate {
    /// Its number.
    pub no: i64,
    /// The customer's number.
    pub customer: i64,
    /// The interaction as JSON, whole.
    pub body: String,
}

/// What became known of a provider's message.
pub struct MessageStateWrite {
    /// Which message.
    pub key: MessageKey,
    /// All that is known now.
    pub state: MessageState,
}

/// An event.
pub struct EventWrite {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub kind: EventType,
    /// The conversation's number.
    pub conversation: i64,
    /// The channel of its cause; empty if none.
    pub channel: String,
    /// The time of its cause.
    pub at: Timestamp,
    /// The event, as it will be delivered.
    pub body: Bytes,
}

/// A send planned.
pub struct SendWrite {
    /// What is to be sent.
    pub planned: PlannedSend,
    /// The conversation's number.
    pub conversation: i64,
    /// When it was planned.
    pub at: Timestamp,
}

/// A file to fetch.
pub struct MediaWrite {
    /// The interaction's number.
    pub interaction: i64,
    /// The interaction's id.
    pub interaction_id: InteractionId,
    /// Which part.
    pub part: usize,
    /// The configured channel.
    pub channel: String,
    /// Not before this time.
    pub at: Timestamp,
}

/// A part of an interaction that names large content. The content stays as long as this does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobUse {
    /// The interaction's number.
    pub interaction: i64,
    /// Which part.
    pub part: usize,
    /// What it names.
    pub name: BlobName,
}

/// What became of one changeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is on disk, with this number in the serial order of applying.
    Done(i64),
    /// Something that it asserts no longer holds; nothing of it was written. Apply the entry again.
    Conflict,
    /// The entry was applied before; nothing was written.
    AlreadyApplied,
    /// An earlier entry of one of its keys is not applied yet; nothing was written.
    Early,
    /// This node does not hold the entry's bucket any more; nothing was written. Whoever holds it applies the entry.
    Fenced,
}
