//! Rows that decisions read most, kept in memory as they were last committed.
//!
//! Lies over a backend: reads for a decision look here first, commits leave here what they wrote. What is kept may be
//! stale, because another node or a race changed the row meanwhile. That is safe: a changeset asserts the version of every
//! row that was read for it, and a conflict throws out what it asserted, so that the next try reads the store itself. What
//! is absent is never kept, and whoever asserts nothing reads the store itself. Memory is bounded; what was not used
//! longest goes first.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::{
    Assert, Changeset, Committed, ConversationRow, CustomerRow, DueSend, IdentifierKey, InteractionRow, MessageKey,
    MessageState, Numbers, SideRow, Snapshots, StateRead, StateWrite, Store, ThreadKey,
};
use crate::base::id::{ConversationId, CustomerId, InteractionId, SendId};
use crate::base::{Error, Result, Timestamp};
use crate::model::{ConversationState, ItemKey, Recent};

/// How many open conversations are kept of a customer.
const SHOWN: usize = 5;

/// Puts a memory of about `bytes` over a backend.
pub(super) fn over(store: Store, bytes: u64) -> Store {
    let hot = Arc::new(Hot::new(bytes));
    Store {
        snapshots: Arc::new(HotSnapshots { below: store.snapshots, numbers: store.state.numbers(), hot: hot.clone() }),
        commits: Arc::new(HotCommits { below: store.commits, hot }),
        ..store
    }
}

/// What is kept.
struct Hot {
    customers: Cache<i64, Arc<Known>, Weight>,
    /// Identifiers and threads, by their key.
    keys: Cache<[u8; 16], Owner, Weight>,
}

/// What is kept of a customer, as of one version of its row.
#[derive(Clone)]
struct Known {
    id: CustomerId,
    version: i64,
    created_at: Timestamp,
    latest: i64,
    /// [`super::CustomerProfile`] as JSON: a third of the size that it has when read.
    profile: Arc<[u8]>,
    /// The open conversations, the latest first. One may have ended meanwhile, which its own version tells.
    open: Vec<ConversationRow>,
}

/// Whose an identifier or a thread is.
#[derive(Clone, Copy)]
struct Owner {
    customer: i64,
    /// Of a thread; 0 for an identifier.
    conversation: i64,
}

#[derive(Clone)]
struct Weight;

/// What an entry of a cache weighs beside its value.
const ENTRY: usize = 64;

impl Weighter<i64, Arc<Known>> for Weight {
    fn weight(&self, _: &i64, known: &Arc<Known>) -> u64 {
        let open = known.open.len() * (size_of::<ConversationRow>() + 32);
        (ENTRY + size_of::<Known>() + known.profile.len() + open) as u64
    }
}

impl Weighter<[u8; 16], Owner> for Weight {
    fn weight(&self, _: &[u8; 16], _: &Owner) -> u64 {
        ENTRY as u64
    }
}

/// A cache that takes about `items` of together `bytes`.
fn cache<K, V>(items: u64, bytes: u64) -> Cache<K, V, Weight>
where
    K: Eq + std::hash::Hash + Clone,
    V: Clone,
    Weight: Weighter<K, V>,
{
    let made = OptionsBuilder::new()
        .estimated_items_capacity(items as usize)
        .weight_capacity(bytes)
        .ghost_allocation(0.1)
        .shards(8)
        .build();
    match made {
        Ok(options) => {
            Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
        }
        Err(_) => Cache::with_weighter(items as usize, bytes, Weight),
    }
}

impl Hot {
    fn new(bytes: u64) -> Self {
        const CUSTOMER: u64 = 640;
        // A customer has two or three: identifiers and a thread.
        let keys = bytes / 4;
        Hot { customers: cache((bytes - keys) / CUSTOMER, bytes - keys), keys: cache(keys / ENTRY as u64, keys) }
    }

    fn customer_of(&self, key: &[u8; 16]) -> Option<(i64, Arc<Known>)> {
        let owner = self.keys.get(key)?;
        Some((owner.customer, self.customers.get(&owner.customer)?))
    }

    fn conversation_of(&self, key: &ThreadKey) -> Option<ConversationRow> {
        let owner = self.keys.get(&key.0)?;
        let known = self.customers.get(&owner.customer)?;
        known.open.iter().find(|row| row.no == owner.conversation).cloned()
    }

    /// Drops what a changeset asserted in vain.
    fn forget(&self, asserts: &[Assert]) {
        for assert in asserts {
            match assert {
                Assert::Customer(no, _) => drop(self.customers.remove(no)),
                Assert::Conversation { customer, .. } => drop(self.customers.remove(customer)),
                Assert::IdentifierFree(key) => drop(self.keys.remove(&key.0)),
                Assert::Thread(key, _) => drop(self.keys.remove(&key.0)),
                Assert::ItemFree(_) | Assert::Message(..) => {}
            }
        }
    }

    /// Takes in what a committed changeset left.
    fn take_in(&self, left: Left) {
        for customer in left.customers {
            let known = match customer.profile.clone() {
                Some(profile) if customer.new => Some(customer.known(profile, Vec::new())),
                profile => self.customers.peek(&customer.no).filter(|known| known.version == customer.before).map(|known| {
                    let profile = profile.unwrap_or_else(|| known.profile.clone());
                    customer.known(profile, known.open.clone())
                }),
            };
            match known {
                Some(mut known) => {
                    left.conversations.iter().filter(|row| row.customer == customer.no).for_each(|row| known.put(row));
                    self.customers.insert(customer.no, Arc::new(known));
                }
                None => drop(self.customers.remove(&customer.no)),
            }
        }
        for row in &left.conversations {
            let untouched = self.customers.peek(&row.customer).filter(|known| !known.open.contains(row));
            if let Some(known) = untouched {
                let mut known = Known::clone(&known);
                known.put(row);
                self.customers.insert(row.customer, Arc::new(known));
            }
        }
        for (key, owner) in left.keys {
            self.keys.insert(key, owner);
        }
    }
}

impl Known {
    fn row(&self, no: i64) -> Result<CustomerRow> {
        Ok(CustomerRow {
            no,
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            latest: self.latest,
            profile: serde_json::from_slice(&self.profile)
                .map_err(|e| Error::internal("a customer cannot be read back").because(e))?,
        })
    }

    /// Puts a conversation in its place among the open ones, or out of them.
    fn put(&mut self, row: &ConversationRow) {
        // Two commits may be told in another order than they were made.
        if self.open.iter().any(|known| known.no == row.no && known.version >= row.version) {
            return;
        }
        self.open.retain(|known| known.no != row.no);
        if row.state == ConversationState::Open {
            self.open.push(row.clone());
            self.open.sort_by_key(|row| std::cmp::Reverse((row.updated_at, row.no)));
        }
        self.open.shrink_to_fit();
    }
}

/// What a changeset leaves here once it is committed.
struct Left {
    customers: Vec<LeftCustomer>,
    conversations: Vec<ConversationRow>,
    keys: Vec<([u8; 16], Owner)>,
    asserts: Vec<Assert>,
}

struct LeftCustomer {
    no: i64,
    id: CustomerId,
    version: i64,
    /// The version that it replaces.
    before: i64,
    created_at: Timestamp,
    latest: i64,
    new: bool,
    /// If it changed.
    profile: Option<Arc<[u8]>>,
}

impl LeftCustomer {
    fn known(&self, profile: Arc<[u8]>, open: Vec<ConversationRow>) -> Known {
        Known {
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            latest: self.latest,
            profile,
            open,
        }
    }
}

impl Left {
    fn by(set: &Changeset) -> Self {
        let customer = |write: &super::CustomerWrite| LeftCustomer {
            no: write.row.no,
            id: write.row.id,
            version: write.row.version,
            before: write.row.version - 1,
            created_at: write.row.created_at,
            latest: write.row.latest,
            new: write.new,
            profile: (write.new || write.profile_changed).then(|| super::rows::json(&write.row.profile).into()),
        };
        let conversation_owner = |no: i64| {
            let write = set.conversations.iter().find(|write| write.row.no == no)?;
            Some(Owner { customer: write.row.customer, conversation: no })
        };
        let identifiers = set.identifiers.iter().map(|(key, no)| (key.0, Owner { customer: *no, conversation: 0 }));
        let threads = set.threads.iter().filter_map(|(key, no)| Some((key.0, conversation_owner(*no)?)));
        Left {
            customers: set.customers.iter().map(customer).collect(),
            conversations: set.conversations.iter().map(|write| write.row.clone()).collect(),
            keys: identifiers.chain(threads).collect(),
            asserts: set.asserts.clone(),
        }
    }
}

struct HotCommits {
    below: Arc<dyn StateWrite>,
    hot: Arc<Hot>,
}

impl StateWrite for HotCommits {
    fn commit(&self, batch: Vec<Changeset>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        let left: Vec<Left> = batch.iter().map(Left::by).collect();
        let (done, hot) = (self.below.commit(batch), self.hot.clone());
        async move {
            let outcome = done.await;
            match &outcome {
                Ok(committed) => {
                    for (left, committed) in left.into_iter().zip(committed) {
                        match committed {
                            Committed::Done(_) => hot.take_in(left),
                            Committed::Conflict | Committed::AlreadyApplied => hot.forget(&left.asserts),
                        }
                    }
                }
                Err(_) => left.iter().for_each(|left| hot.forget(&left.asserts)),
            }
            outcome
        }
        .boxed()
    }
}

struct HotSnapshots {
    below: Arc<dyn Snapshots>,
    numbers: Arc<dyn Numbers>,
    hot: Arc<Hot>,
}

impl Snapshots for HotSnapshots {
    fn snapshot(&self) -> Result<Box<dyn StateRead>> {
        Ok(Box::new(HotState {
            below: self.below.clone(),
            taken: OnceLock::new(),
            numbers: self.numbers.clone(),
            hot: self.hot.clone(),
        }))
    }
}

/// The state as it is kept, and where nothing is kept as one snapshot of the store shows it.
struct HotState {
    below: Arc<dyn Snapshots>,
    /// Taken when the first read is not answered from memory.
    taken: OnceLock<Box<dyn StateRead>>,
    numbers: Arc<dyn Numbers>,
    hot: Arc<Hot>,
}

impl HotState {
    fn below(&self) -> Result<&dyn StateRead> {
        if self.taken.get().is_none() {
            // One thread works with a snapshot, so nobody comes between.
            let _ = self.taken.set(self.below.snapshot()?);
        }
        self.taken.get().map(AsRef::as_ref).ok_or_else(|| Error::internal("a snapshot is missing"))
    }

    /// Keeps a customer, with what is shown of it, all of one snapshot: the version of the row vouches for the rest.
    async fn keep(&self, row: &CustomerRow) -> Result<()> {
        if self.hot.customers.peek(&row.no).is_some_and(|known| known.version == row.version) {
            return Ok(());
        }
        let open = self.below()?.open_conversations(row.no, SHOWN).await?;
        let known = Known {
            id: row.id,
            version: row.version,
            created_at: row.created_at,
            latest: row.latest,
            profile: super::rows::json(&row.profile).into(),
            open,
        };
        self.hot.customers.insert(row.no, Arc::new(known));
        Ok(())
    }
}

impl StateRead for HotState {
    fn numbers(&self) -> Arc<dyn Numbers> {
        self.numbers.clone()
    }

    fn customers_by_identifier<'a>(
        &'a self,
        keys: &'a [IdentifierKey],
    ) -> BoxFuture<'a, Result<Vec<(usize, CustomerRow)>>> {
        async move {
            let (mut found, mut unknown) = (Vec::new(), Vec::new());
            for (place, key) in keys.iter().enumerate() {
                match self.hot.customer_of(&key.0) {
                    Some((no, known)) => found.push((place, known.row(no)?)),
                    None => unknown.push((place, *key)),
                }
            }
            if unknown.is_empty() {
                return Ok(found);
            }
            let asked: Vec<IdentifierKey> = unknown.iter().map(|(_, key)| *key).collect();
            for (place, row) in self.below()?.customers_by_identifier(&asked).await? {
                let Some((place, key)) = unknown.get(place) else { continue };
                self.keep(&row).await?;
                self.hot.keys.insert(key.0, Owner { customer: row.no, conversation: 0 });
                found.push((*place, row));
            }
            found.sort_unstable_by_key(|(place, _)| *place);
            Ok(found)
        }
        .boxed()
    }

    fn customer(&self, no: i64) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        async move {
            if let Some(known) = self.hot.customers.get(&no) {
                return known.row(no).map(Some);
            }
            let found = self.below()?.customer(no).await?;
            if let Some(row) = &found {
                self.keep(row).await?;
            }
            Ok(found)
        }
        .boxed()
    }

    fn conversation_by_thread(&self, key: ThreadKey) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        async move {
            if let Some(row) = self.hot.conversation_of(&key) {
                return Ok(Some(row));
            }
            let found = self.below()?.conversation_by_thread(key).await?;
            if let Some(row) = &found {
                self.hot.keys.insert(key.0, Owner { customer: row.customer, conversation: row.no });
            }
            Ok(found)
        }
        .boxed()
    }

    fn open_conversations(&self, customer: i64, limit: usize) -> BoxFuture<'_, Result<Vec<ConversationRow>>> {
        async move {
            match self.hot.customers.get(&customer).filter(|_| limit <= SHOWN) {
                Some(known) => Ok(known.open.iter().take(limit).cloned().collect()),
                None => self.below()?.open_conversations(customer, limit).await,
            }
        }
        .boxed()
    }

    // What follows is not kept.

    fn conversation(&self, no: i64) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        self.ask(move |below| below.conversation(no))
    }

    fn conversation_by_id(&self, id: ConversationId) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        self.ask(move |below| below.conversation_by_id(id))
    }

    fn interaction_by_item(&self, item: ItemKey) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        self.ask(move |below| below.interaction_by_item(item))
    }

    fn interaction_by_id(&self, id: InteractionId) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        self.ask(move |below| below.interaction_by_id(id))
    }

    fn timeline(&self, conversation: i64, before: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        self.ask(move |below| below.timeline(conversation, before, limit))
    }

    /// Up to a kilobyte and a half of text a customer: memory is better spent on knowing more customers.
    fn recent(&self, latest: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<Recent>>>> {
        self.ask(move |below| below.recent(latest, limit))
    }

    fn message_state(&self, key: MessageKey) -> BoxFuture<'_, Result<Option<MessageState>>> {
        self.ask(move |below| below.message_state(key))
    }

    fn send(&self, id: SendId) -> BoxFuture<'_, Result<Option<DueSend>>> {
        self.ask(move |below| below.send(id))
    }

    fn sent_in_thread(&self, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        self.ask(move |below| below.sent_in_thread(conversation, limit))
    }

    fn side(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<SideRow>>> {
        self.ask(move |below| below.side(key))
    }
}

impl HotState {
    fn ask<'a, T: Send + 'a>(
        &'a self,
        question: impl FnOnce(&'a dyn StateRead) -> BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        match self.below() {
            Ok(below) => question(below),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}
