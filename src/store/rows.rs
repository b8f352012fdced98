//! Rows as the rooms above see them.

use serde::{Deserialize, Serialize};

use super::blob::{BlobName, Object};
use super::tail::Weigh;
use crate::base::hash::key16;
use crate::base::id::{ConversationId, CustomerId, EntryId, EventId, InteractionId, SendId};
use crate::base::{Pii, Result, Timestamp};
use crate::model::Delivery;
use crate::model::entry::PlannedSend;
use crate::model::{
    Call, ConversationState, CustomerIdentifier, Entry, EntryBody, EntryKind, Identifier, Link, Part, RecentJson,
};

/// An entry that is to be appended.
#[derive(Clone)]
pub struct NewEntry {
    /// Its id, drawn by the caller.
    pub id: EntryId,
    /// What kind of thing it is.
    pub kind: EntryKind,
    /// The configured channel it came by; empty if by none.
    pub channel: String,
    /// When it was received.
    pub at: Timestamp,
    /// Whether somebody waits for its effect.
    pub interactive: bool,
    /// The keys that order it among others, the one that decides about its bucket first. Empty if nothing orders it; a
    /// store that is not shared needs none.
    pub keys: Vec<[u8; 16]>,
    /// The delivery key: a second entry under the same key is not appended.
    pub key: Option<[u8; 16]>,
    /// What entered.
    pub body: EntryBody,
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.body.weight()
    }
}

impl Weigh for DueEvent {
    fn weight(&self) -> usize {
        self.body.len()
    }
}

/// Where an entry is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub position: i64,
    /// Its id: the original's, if this was a repeat.
    pub id: EntryId,
    /// Whether it was there already.
    pub repeat: bool,
    /// Whether it went to this node's tail: no other node is to apply it.
    pub here: bool,
}

/// Up to where a folder of a mailbox was read. UIDs mean something only beside their validity (RFC 9051, 2.3.1.1), and that
/// only in its own account: many servers give out the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which account it is, by a hash of 31 bits, and below that the folder's UIDVALIDITY.
    pub validity: i64,
    /// The last UID that was taken; 0 if none was.
    pub uid: u32,
}

/// What was read of a folder at once.
pub struct MailBatch {
    /// The configured channel.
    pub channel: String,
    /// The folder's name, as people write it.
    pub folder: String,
    /// The mails, which may be none where UIDs are gone.
    pub entries: Vec<NewEntry>,
    /// Where the cursor was when this was read; none if the folder is new.
    pub from: Option<Cursor>,
    /// Where it is once they are in the journal.
    pub to: Cursor,
    /// When this was read.
    pub at: Timestamp,
    /// Noted with a folder that is new: of what is there before it is looked at first, only mails that the server took from
    /// then on are wanted.
    pub since: Timestamp,
    /// Whether the folder's UIDs were given anew and it is not looked through since; see [`FolderRow::anew`].
    pub anew: bool,
}

/// How far a folder was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRow {
    /// The folder's name, as people write it.
    pub folder: String,
    /// Up to where its mails are in the journal.
    pub cursor: Cursor,
    /// Up to which UID that is done which follows once mails are in the journal.
    pub acted: u32,
    /// Mails that the server took before are not wanted where UIDs were given [anew](Self::anew).
    pub since: Timestamp,
    /// Whether UIDs were given anew and the folder is not looked through since: what was there before the first look stands
    /// above the cursor once more, and only its age tells it from what is new. Rows tell it by the sign of `since`.
    pub anew: bool,
    /// When the cursor was moved last.
    pub moved_at: Timestamp,
}

/// The record that an entry was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRow {
    /// The serial order of applying.
    pub apply_no: i64,
    /// The hash of the bundle that ruled.
    pub bundle: String,
    /// What applying answered to whoever asked, as JSON; sampled facts and breaches.
    pub facts: Option<String>,
}

/// An entry read back, with its applied record if it has one.
pub type FoundEntry = (Entry, Option<AppliedRow>);

/// Draws numbers for new rows.
pub trait Numbers: Send + Sync {
    /// For a customer.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is none just now.
    fn customer(&self) -> Result<i64>;

    /// For a conversation.
    ///
    /// # Errors
    ///
    /// As [`Numbers::customer`].
    fn conversation(&self) -> Result<i64>;

    /// For an interaction.
    ///
    /// # Errors
    ///
    /// As [`Numbers::customer`].
    fn interaction(&self) -> Result<i64>;
}

/// The key of an identifier: 16 bytes from its type and canonical value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentifierKey(pub [u8; 16]);

impl IdentifierKey {
    /// The key of `identifier`.
    pub fn of(identifier: &Identifier) -> Self {
        IdentifierKey(key16(&[b"identifier", identifier.kind.0.as_bytes(), identifier.value.expose().as_bytes()]))
    }
}

/// The key of a provider's thread: connector, account, thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadKey(pub [u8; 16]);

impl ThreadKey {
    /// The key of a thread on an account of a connector.
    pub fn of(connector: &str, account: &str, thread: &str) -> Self {
        ThreadKey(key16(&[b"thread", connector.as_bytes(), account.as_bytes(), thread.as_bytes()]))
    }
}

/// The key of a provider's message: connector, account, provider id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey(pub [u8; 16]);

impl MessageKey {
    /// The key of a message on an account of a connector.
    pub fn of(connector: &str, account: &str, provider_id: &str) -> Self {
        MessageKey(key16(&[b"message", connector.as_bytes(), account.as_bytes(), provider_id.as_bytes()]))
    }
}

/// What is known of a provider's message apart from its own content: it may be known before the message itself.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageState {
    /// How far it got, for what we sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The latest edit: its time and the interaction that carries the new content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<(Timestamp, InteractionId)>,
    /// The deletion: its time and the interaction that tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<(Timestamp, InteractionId)>,
    /// What was told of a call before the call itself was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Files and the like that were told of a call before the call itself was known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Callbacks of a call that were counted, by a hash of their revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<u64>,
    /// When what is counted happened lately, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<Timestamp>,
    /// The interaction itself, once it is known under another key than its item's (what we sent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction: Option<InteractionId>,
}

impl MessageState {
    /// Tells this state from any other.
    pub fn mark(&self) -> [u8; 16] {
        key16(&[b"message state", &json(self)])
    }
}

/// JSON of our own plain types, which always serialize.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A customer as stored.
#[derive(Clone, PartialEq)]
pub struct CustomerRow {
    /// The number inside.
    pub no: i64,
    /// The name outside.
    pub id: CustomerId,
    /// Rises with every change.
    pub version: i64,
    /// When the customer was first seen.
    pub created_at: Timestamp,
    /// The latest interaction's number; 0 if there is none.
    pub latest: i64,
    /// Who they are.
    pub profile: CustomerProfile,
    /// Their latest interactions in brief, the latest first. Kept with the customer, because every decision and every
    /// event shows them, and to gather them from the interactions would cost more than all other reading.
    pub recent: Vec<RecentJson>,
}

/// Who a customer is, as far as it is known.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CustomerProfile {
    /// Names, the latest first.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pii<String>>,
    /// Identifiers, oldest first.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<CustomerIdentifier>,
}

/// A conversation as stored.
#[derive(Clone, PartialEq)]
pub struct ConversationRow {
    /// The number inside.
    pub no: i64,
    /// The name outside.
    pub id: ConversationId,
    /// Rises with every change.
    pub version: i64,
    /// Whose story it is.
    pub customer: i64,
    /// Where it stands.
    pub state: ConversationState,
    /// Whether it is the public side of a matter.
    pub public: bool,
    /// The `seq` of its latest interaction.
    pub seq: i64,
    /// The `sequence` of its latest event.
    pub event_seq: i64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When something last happened in it; never runs backwards.
    pub updated_at: Timestamp,
    /// The latest interaction's number; 0 if there is none.
    pub latest: i64,
    /// The queue it lies in.
    pub queue: Option<String>,
    /// Who has it.
    pub owner: Option<String>,
    /// Links to other conversations.
    pub links: Vec<Link>,
}

/// An interaction as stored.
#[derive(Clone, PartialEq)]
pub struct InteractionRow {
    /// The number inside.
    pub no: i64,
    /// The name outside.
    pub id: InteractionId,
    /// The conversation's number.
    pub conversation: i64,
    /// Its place in the conversation.
    pub seq: i64,
    /// The customer's number.
    pub customer: i64,
    /// The interaction as JSON.
    pub body: String,
    /// The decision as JSON, if there was one.
    pub decision: Option<String>,
}

/// How much of a timeline is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// So many interactions.
    pub rows: usize,
    /// So many bytes of them: the one that reaches it is the last.
    pub bytes: usize,
}

/// A part of a timeline, the latest first.
#[derive(Default)]
pub struct Stretch {
    /// The interactions.
    pub rows: Vec<InteractionRow>,
    /// Whether there are earlier ones.
    pub more: bool,
}

/// An event that is due at a help desk.
#[derive(Clone, PartialEq)]
pub struct DueEvent {
    /// Its number in the feed.
    pub no: i64,
    /// Its id.
    pub id: EventId,
    /// The conversation's number: events of one conversation go in order.
    pub conversation: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this time.
    pub next_at: Timestamp,
    /// The event, byte for byte.
    pub body: bytes::Bytes,
    /// The `sequence` of the event before it in this conversation that this help desk was due; 0 if there was none.
    pub previous: i64,
    /// Whether it was set aside before, and so has a row to be deleted when it is delivered.
    pub aside: bool,
}

/// An event as the feed shows it.
#[derive(Clone, PartialEq)]
pub struct FeedEvent {
    /// Its number in the feed.
    pub no: i64,
    /// Its type's number.
    pub kind: u8,
    /// The channel of its cause; empty if none.
    pub channel: String,
    /// The event, byte for byte.
    pub body: bytes::Bytes,
}

/// A send to a customer.
#[derive(Clone, PartialEq)]
pub struct DueSend {
    /// Its id.
    pub id: SendId,
    /// What is to be sent.
    pub planned: PlannedSend,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was planned.
    pub created_at: Timestamp,
    /// The conversation's number.
    pub conversation: i64,
    /// `planned`, `intended`, `done`.
    pub state: String,
}

/// A file to be fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct DueMedia {
    /// The interaction's number.
    pub interaction: i64,
    /// The interaction's id.
    pub interaction_id: InteractionId,
    /// Which part.
    pub part: usize,
    /// The configured channel.
    pub channel: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Something set aside.
#[derive(Clone, PartialEq)]
pub struct QuarantineRow {
    /// Its number.
    pub no: i64,
    /// The entry that holds the original.
    pub entry: EntryId,
    /// The configured channel.
    pub channel: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// An event that a help desk did not take.
#[derive(Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number in the feed.
    pub no: i64,
    /// The help desk.
    pub helpdesk: String,
    /// The event's id.
    pub event: EventId,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt met.
    pub error: String,
    /// When it was given up.
    pub at: Timestamp,
}

/// Content under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// Its name.
    pub name: BlobName,
    /// The object that holds it.
    pub object: Object,
    /// Whose it is, by number; nobody's yet, if none.
    pub customer: Option<i64>,
    /// Its size in bytes.
    pub size: i64,
    /// When it was stored, or last found to be there already.
    pub made_at: Timestamp,
}

/// What became of an object that asked for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It has it.
    Ours,
    /// Another object has it.
    Known,
    /// It was not loose any more: it was taken for garbage.
    Gone,
}

/// A note of the gateway under a hashed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRow {
    /// When it was written.
    pub at: Timestamp,
}

/// An API token as stored: never the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The public half.
    pub id: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// SHA-256 of the secret half.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}
