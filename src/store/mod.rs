//! Floor 3: journal, state and outbox behind small capabilities.
//!
//! The rooms above see traits and plain rows, never SQL. [`Journal`] takes entries and says when they are durable;
//! [`StateRead`] is what a decision reads; [`StateWrite`] commits whole [`Changeset`]s, each in one transaction with the
//! applied record of its entry; [`Outbox`] holds what is still to be delivered; [`Catalog`] answers the questions of
//! people. Two invariants live here: what a future of this room has reported as done is on disk, and a changeset whose
//! assertions no longer hold changes nothing.

pub mod archive;
pub mod blob;
mod bundles;
mod changeset;
mod code;
#[cfg(test)]
mod differential;
mod history;
mod hot;
pub mod layout;
pub mod lease;
pub mod postgres;
mod rows;
pub mod seal;
pub mod sqlite;
mod subscribers;
#[cfg(test)]
mod suite;
mod tail;

pub use blob::BlobRows;
pub use bundles::{BundleRow, Bundles, NewPublication, Publication};
pub use changeset::{
    Assert, BlobUse, Changeset, Committed, ConversationWrite, CustomerWrite, EventWrite, InteractionUpdate,
    InteractionWrite, MediaWrite, MessageStateWrite, SendWrite,
};
pub use history::{History, PastApplied, PastEntry, engine};
pub use lease::{Hold, Leases};
pub use rows::{
    Appended, AppliedRow, BlobRow, Claim, ConversationRow, Cursor, CustomerProfile, CustomerRow, DeadLetter, DueEvent,
    DueMedia, DueSend, FeedEvent, FolderRow, FoundEntry, IdentifierKey, InteractionRow, MailBatch, MessageKey,
    MessageState, Most, NewEntry, Numbers, QuarantineRow, SideRow, Stretch, ThreadKey, TokenRow,
};
pub use tail::{Tail, Weigh};

use std::sync::Arc;

use futures_util::future::BoxFuture;

use zeroize::Zeroizing;

use crate::base::id::{ConversationId, CustomerId, EntryId, EventId, InteractionId, SendId};
use crate::base::{Error, Kind, Result, Retry, Side, Timestamp};
use crate::model::{Entry, ItemKey};

/// How many open conversations of a customer a decision is shown: so many are kept in memory.
pub const STORIES_SHOWN: usize = 5;

/// Told how far long work has come: what it does, how much is done and of how much.
pub trait Progress: Send + Sync {
    /// Called now and then.
    fn step(&self, what: &str, done: u64, total: u64);
}

/// Tells nobody.
pub struct Unwatched;

impl Unwatched {
    /// As it is handed to those who open a store.
    pub fn shared() -> Arc<dyn Progress> {
        Arc::new(Unwatched)
    }
}

impl Progress for Unwatched {
    fn step(&self, _: &str, _: u64, _: u64) {}
}

/// The capabilities together. Cloning shares them.
#[derive(Clone)]
pub struct Store {
    /// Entries: the acknowledgement point.
    pub journal: Arc<dyn Journal>,
    /// The state as it is.
    pub state: Arc<dyn StateRead>,
    /// What decisions read.
    pub snapshots: Arc<dyn Snapshots>,
    /// Where decisions are committed.
    pub commits: Arc<dyn StateWrite>,
    /// What is still to be delivered, sent or fetched.
    pub outbox: Arc<dyn Outbox>,
    /// What people and programs look up.
    pub catalog: Arc<dyn Catalog>,
    /// What grows old.
    pub retention: Arc<dyn Retention>,
    /// What decisions depend on, as it was published.
    pub bundles: Arc<dyn Bundles>,
    /// The journal in the order in which it was applied.
    pub history: Arc<dyn History>,
    /// Where large content is; see [`blob::Blobs`], which uses it.
    pub blobs: Arc<dyn BlobRows>,
    /// How far mailboxes were read.
    pub mailboxes: Arc<dyn Mailboxes>,
    /// Which part of the work is this node's.
    pub leases: Arc<dyn Leases>,
}

/// A store that is open.
pub struct Opened {
    /// The capabilities.
    pub store: Store,
    /// Keys of large content, from the key store beside the store.
    pub blob_keys: Arc<dyn blob::BlobKeys>,
    /// 32 secret bytes for the tokens in our mails, as lasting as the key store.
    pub mail_secret: Zeroizing<[u8; 32]>,
    /// Ends the writer when dropped last, after everything that waits is written.
    pub guard: Arc<dyn std::any::Any + Send + Sync>,
    /// Set once the disk refused in a way that must not be retried (a failed sync): stop and restart.
    pub broken: tokio::sync::watch::Receiver<bool>,
}

/// The durable log.
pub trait Journal: Send + Sync {
    /// Appends an entry. When the future is ready the entry is on disk, or was there already under the same delivery
    /// key: then the original's place is given and nothing is appended.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the journal takes nothing now (the caller must not acknowledge), `Io` if the disk refused.
    fn append(&self, entry: NewEntry) -> BoxFuture<'static, Result<Appended>>;

    /// Entries that this node appended and is to apply, in order, as they are committed; see [`Tail`].
    fn tail(&self) -> Arc<Tail<Entry>>;

    /// Interactive entries that were committed: somebody waits for them. They come here and not through [`Journal::tail`].
    fn urgent(&self) -> Arc<Tail<Entry>>;

    /// Entries after `position` that are not applied, oldest first; of one channel only, if one is named.
    fn pending(&self, after: i64, channel: Option<String>, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>>>;

    /// Positions of entries that are not applied and whose buckets this node holds, oldest first; only those that
    /// somebody waits for, if asked for.
    fn mine(&self, interactive: bool, limit: usize) -> BoxFuture<'_, Result<Vec<i64>>>;

    /// Those of the entries at these positions, which rise, that are not applied: at least one, and more while they do not
    /// weigh too much. Gives also of how many positions that tells.
    fn pending_at(&self, positions: Vec<i64>) -> BoxFuture<'_, Result<(Vec<Entry>, usize)>>;

    /// Entries that are not applied and that `entry` may have to wait for: all with one of its keys are among them.
    fn before<'a>(&'a self, entry: &'a Entry, limit: usize) -> BoxFuture<'a, Result<Vec<Entry>>>;

    /// Wakes when [`Journal::mine`] may give something that the tails did not.
    fn others(&self) -> Arc<tokio::sync::Notify>;

    /// One entry by its id, with whether it is applied.
    fn entry(&self, id: EntryId) -> BoxFuture<'_, Result<Option<FoundEntry>>>;

    /// One entry by its delivery key.
    fn entry_by_key(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<FoundEntry>>>;

    /// How many entries wait to be applied.
    fn pending_count(&self) -> BoxFuture<'_, Result<u64>>;

    /// Whether the journal takes entries now.
    fn healthy(&self) -> bool;
}

/// How far mailboxes were read.
///
/// A folder's cursor moves in the transaction that appends the mails before it: whatever a cursor has passed is in the
/// journal, whoever dies when.
pub trait Mailboxes: Send + Sync {
    /// Appends what was read of a folder and moves its cursor: both are on disk when the future is ready, or neither is. A
    /// mail that is in the journal already, by its delivery key, is not appended again.
    ///
    /// # Errors
    ///
    /// `Conflict` if the cursor is not where the batch begins, since somebody else has read on; `Unavailable` if nothing
    /// is taken now, `Io` if the disk refused.
    fn append(&self, batch: MailBatch) -> BoxFuture<'static, Result<Vec<Appended>>>;

    /// How far the folders of a channel were read, by name.
    fn folders(&self, channel: String) -> BoxFuture<'_, Result<Vec<FolderRow>>>;

    /// Takes note that up to `done` that is done which follows once mails are in the journal. Says nothing of a folder whose
    /// UIDs mean something else by now.
    fn acted(&self, channel: String, folder: String, done: Cursor) -> BoxFuture<'static, Result<()>>;

    /// The refresh token that an endpoint put in the place of the channel's configured one, as it was kept.
    fn grant(&self, channel: String) -> BoxFuture<'_, Result<Option<Zeroizing<Vec<u8>>>>>;

    /// Keeps it, in the place of what was kept before. It is on disk when the future is ready.
    fn keep_grant(&self, channel: String, kept: Zeroizing<Vec<u8>>) -> BoxFuture<'static, Result<()>>;
}

/// What a folder's row says by its `since`: the time, and whether its UIDs were given anew (below 0).
fn since(column: i64) -> (Timestamp, bool) {
    (Timestamp::from_millis(column.saturating_abs()), column < 0)
}

/// The error of whoever would move a cursor that somebody else has moved.
fn read_on() -> Error {
    Error::new(Kind::Conflict, "somebody else has read this folder on").with_retry(Retry::Now)
}

/// Views of the state for decisions.
pub trait Snapshots: Send + Sync {
    /// The state as it is about now, for many reads in a row: cheaper than as many single ones. What it shows may be
    /// stale; the commit asserts what matters.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `Io` if the store cannot be read.
    fn snapshot(&self) -> Result<Box<dyn StateRead>>;
}

/// The state of customers, conversations and messages. Reads are consistent per row.
pub trait StateRead: Send + Sync {
    /// Fresh numbers for rows that are about to be made. Gaps do no harm.
    fn numbers(&self) -> Arc<dyn Numbers>;

    /// Numbers of the customers that hold any of these identifiers, with the place of the identifier in `keys`.
    fn holders<'a>(&'a self, keys: &'a [IdentifierKey]) -> BoxFuture<'a, Result<Vec<(usize, i64)>>>;

    /// One customer.
    fn customer(&self, no: i64) -> BoxFuture<'_, Result<Option<CustomerRow>>>;

    /// The conversation that a provider's thread belongs to.
    fn conversation_by_thread(&self, key: ThreadKey) -> BoxFuture<'_, Result<Option<ConversationRow>>>;

    /// The customer's open conversations, the latest first; decisions ask for [`STORIES_SHOWN`].
    /// `version` is that of the customer's row as it was read: what is answered from memory must be as of it.
    fn open_conversations(
        &self,
        customer: i64,
        version: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationRow>>>;

    /// One conversation by number.
    fn conversation(&self, no: i64) -> BoxFuture<'_, Result<Option<ConversationRow>>>;

    /// One conversation by id.
    fn conversation_by_id(&self, id: ConversationId) -> BoxFuture<'_, Result<Option<ConversationRow>>>;

    /// The interaction that an item became.
    fn interaction_by_item(&self, item: ItemKey) -> BoxFuture<'_, Result<Option<InteractionRow>>>;

    /// One interaction by id.
    fn interaction_by_id(&self, id: InteractionId) -> BoxFuture<'_, Result<Option<InteractionRow>>>;

    /// The interactions of a conversation, the latest first, with `seq` below `before`.
    fn timeline(&self, conversation: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>>;

    /// What is known of a provider's message apart from its own content.
    fn message_state(&self, key: MessageKey) -> BoxFuture<'_, Result<Option<MessageState>>>;

    /// A planned send.
    fn send(&self, id: SendId) -> BoxFuture<'_, Result<Option<DueSend>>>;

    /// The latest outbound messages to a thread sent up to a time and not yet in `state`: whom a watermark covers.
    fn sent_in_thread(&self, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>>;

    /// The notes of the gateway under a name: when a once-per reply was last sent, and the like.
    fn side(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<SideRow>>>;
}

/// Where decisions become state.
pub trait StateWrite: Send + Sync {
    /// Commits changesets, each whole or not at all, in their order. When the future is ready the outcome is on disk.
    ///
    /// # Errors
    ///
    /// An error concerns the whole batch and leaves none of it; a conflict of one changeset is a [`Committed`] value.
    fn commit(&self, batch: Vec<Changeset>) -> BoxFuture<'static, Result<Vec<Committed>>>;
}

/// What is still to be delivered, sent or fetched.
///
/// What goes by a lease is written in the term ([`Leases::term`]) in which it was begun; in a later one it is refused as
/// `Unavailable`, since another node may have done it meanwhile.
pub trait Outbox: Send + Sync {
    /// Tells the store which help desks exist and what they subscribe to. From when the future is ready, no event that
    /// they want passes them by.
    fn subscribe(&self, helpdesks: Vec<Subscription>) -> BoxFuture<'static, Result<()>>;

    /// Due events of a help desk in feed order, as they are committed; see [`Tail`].
    fn due_tail(&self, helpdesk: &str) -> Arc<Tail<DueEvent>>;

    /// Up to which feed number a help desk's events are settled. A help desk that is new begins at the end of the feed.
    fn settled(&self, helpdesk: String) -> BoxFuture<'static, Result<i64>>;

    /// Moves that number. Grouped with other writes; losing it costs repeated deliveries, nothing else.
    fn settle_through(&self, helpdesk: &str, event: i64);

    /// Events after a feed number that a help desk wants, oldest first, with the number up to which the feed was read.
    fn wanted_events(&self, helpdesk: String, after: i64, limit: usize) -> BoxFuture<'_, Result<(Vec<DueEvent>, i64)>>;

    /// Conversations with events set aside, each with the time of its next attempt.
    fn set_aside_conversations(&self, helpdesk: String) -> BoxFuture<'_, Result<Vec<(i64, Timestamp)>>>;

    /// Events of one conversation that were set aside, oldest first.
    fn set_aside_of(&self, helpdesk: String, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>>>;

    /// Sets events aside, to be tried after those before them in their conversation.
    fn set_aside(&self, helpdesk: String, events: Vec<DueEvent>, term: u64) -> BoxFuture<'static, Result<()>>;

    /// Tells that events that were set aside are delivered.
    fn delivered(&self, helpdesk: &str, events: Vec<i64>);

    /// Records a failed attempt and when to try again; the event is set aside.
    fn attempt_failed(
        &self,
        helpdesk: String,
        event: DueEvent,
        next_at: Timestamp,
        error: String,
        term: u64,
    ) -> BoxFuture<'static, Result<()>>;

    /// Gives an event up: it becomes a dead letter.
    fn dead_letter(
        &self,
        helpdesk: String,
        event: DueEvent,
        error: String,
        term: u64,
    ) -> BoxFuture<'static, Result<()>>;

    /// Makes dead letters due again; all of a help desk, or one event. Gives how many.
    fn revive(&self, helpdesk: Option<String>, event: Option<EventId>) -> BoxFuture<'static, Result<u64>>;

    /// Sends to customers that are due by `now`.
    fn due_sends(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueSend>>>;

    /// Commits the intent to send, before the wire. False if somebody else has it.
    fn intend(&self, send: SendId, term: u64) -> BoxFuture<'static, Result<bool>>;

    /// Takes an intent back: certainly nothing was sent. Tried again at `next_at`.
    fn withdraw(&self, send: SendId, next_at: Timestamp, error: String, term: u64) -> BoxFuture<'static, Result<()>>;

    /// Sends whose intent was committed and whose outcome is unknown, from before this process.
    fn unresolved_sends(&self) -> BoxFuture<'_, Result<Vec<DueSend>>>;

    /// Files that are due to be fetched by `now`.
    fn due_media(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueMedia>>>;

    /// Puts the fetching of a file off.
    fn media_failed(&self, media: DueMedia, next_at: Timestamp) -> BoxFuture<'static, Result<()>>;

    /// How many events are not yet delivered, over all help desks.
    fn due_count(&self) -> BoxFuture<'_, Result<u64>>;

    /// Wakes when sends or files may have become due.
    fn wake(&self) -> Arc<tokio::sync::Notify>;
}

/// What a help desk subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The help desk's name.
    pub helpdesk: String,
    /// Numbers of event types.
    pub types: Vec<u8>,
    /// Channels; all, if empty.
    pub channels: Vec<String>,
}

impl Subscription {
    /// Whether an event of this type from this channel is wanted.
    pub fn wants(&self, kind: u8, channel: &str) -> bool {
        self.types.contains(&kind) && (self.channels.is_empty() || self.channels.iter().any(|c| c == channel))
    }
}

/// What people and programs look up.
pub trait Catalog: Send + Sync {
    /// Events after a feed number, oldest first; never past one that is not yet committed.
    fn feed(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>>;

    /// The same of a store that nobody writes to: every event that is committed. On PostgreSQL the feed waits for the
    /// transactions of its whole server, also where none of them can bring an event.
    fn all_events(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>>;

    /// One event by id, as soon as it is committed.
    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<FeedEvent>>>;

    /// The highest feed number.
    fn feed_end(&self) -> tokio::sync::watch::Receiver<i64>;

    /// The feed number of an event.
    fn feed_position(&self, id: EventId) -> BoxFuture<'_, Result<Option<i64>>>;

    /// One customer by id.
    fn customer_by_id(&self, id: CustomerId) -> BoxFuture<'_, Result<Option<CustomerRow>>>;

    /// A customer's interactions, the latest first, below a number.
    fn customer_timeline(&self, latest: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>>;

    /// Quarantined items, the latest first.
    fn quarantine(&self, before: i64, limit: usize) -> BoxFuture<'_, Result<Vec<QuarantineRow>>>;

    /// What of an entry is quarantined, in the order it was set aside; empty if nothing is.
    fn quarantine_of(&self, entry: EntryId) -> BoxFuture<'_, Result<Vec<QuarantineRow>>>;

    /// Dead letters, the latest first.
    fn dead_letters(
        &self,
        helpdesk: Option<String>,
        before: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>>;

    /// API tokens.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>>>;

    /// Keeps a token's hash.
    fn add_token(&self, token: TokenRow) -> BoxFuture<'static, Result<()>>;

    /// Ends a token. False if there is none of this id.
    fn revoke_token(&self, id: String) -> BoxFuture<'static, Result<bool>>;

    /// Counts of rows by table, for tests and for people.
    fn counts(&self) -> BoxFuture<'_, Result<std::collections::BTreeMap<String, i64>>>;
}

/// What grows old.
pub trait Retention: Send + Sync {
    /// Takes out one batch of what is older than its class allows; gives how many rows went.
    fn prune(&self, before: Cutoffs, batch: usize) -> BoxFuture<'static, Result<u64>>;

    /// Whether an original from before `raw` waits for a checkpoint: its entry was applied after number `covered`.
    fn waits_for_checkpoint(&self, raw: Timestamp, covered: i64) -> BoxFuture<'_, Result<bool>>;

    /// Takes out those of these events that are older than `before`, as pruning did elsewhere; gives how many.
    fn forget_events(&self, events: Vec<i64>, before: Timestamp) -> BoxFuture<'static, Result<u64>>;

    /// Empties the originals of applied entries at somebody's wish; gives how many there were. A checkpoint must cover
    /// them.
    fn empty(&self, entries: Vec<EntryId>) -> BoxFuture<'static, Result<u64>>;
}

/// Until when each class of data is kept.
#[derive(Debug, Clone, Copy)]
pub struct Cutoffs {
    /// Raw requests older than this become stubs.
    pub raw: Timestamp,
    /// The apply number up to which a checkpoint covers the journal: what was applied later keeps its raw request.
    pub covered: i64,
    /// Delivery keys older than this are forgotten.
    pub dedupe: Timestamp,
    /// Events older than this that are delivered everywhere go.
    pub events: Timestamp,
}

/// How many bytes of entries are read at once, but for the last one.
const READ_BYTES: usize = 8 << 20;

/// The error of work that was begun in a term that is over.
fn taken_over() -> Error {
    Error::new(Kind::Unavailable, "this node lost its leases meanwhile; whoever has them now does this")
        .on_side(Side::Us)
}

/// The error of a caller while the store cannot write, or too much waits.
fn unavailable() -> Error {
    Error::new(Kind::Unavailable, "the store takes nothing now").on_side(Side::Us)
}
