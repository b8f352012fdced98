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
    MessageState, Most, Numbers, STORIES_SHOWN, SideRow, Snapshots, StateRead, StateWrite, Store, Stretch, ThreadKey,
};
use crate::base::id::{ConversationId, InteractionId, SendId};
use crate::base::{Error, Result};
use crate::model::{ConversationState, ItemKey};

/// Puts a memory of about `bytes` over a backend.
pub(super) fn over(store: Store, bytes: u64) -> Store {
    let hot = Arc::new(Hot::new(bytes));
    Store {
        snapshots: Arc::new(HotSnapshots { below: store.snapshots, numbers: store.state.numbers(), hot: hot.clone() }),
        commits: Arc::new(HotCommits { below: store.commits, hot }),
        ..store
    }
}

/// What is kept. Customers themselves are not: a decision shows the texts of their latest interactions, and memory is
/// better spent on knowing more customers.
struct Hot {
    /// Stories by customer.
    stories: Cache<i64, Arc<Stories>, Weight>,
    /// Identifiers and threads, by their key.
    keys: Cache<[u8; 16], Owner, Weight>,
}

/// The open conversations of a customer, the latest first, as of one version of the customer's row: opening one makes a
/// new version. One may have ended meanwhile, which its own version tells.
struct Stories {
    version: i64,
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

impl Weighter<i64, Arc<Stories>> for Weight {
    fn weight(&self, _: &i64, stories: &Arc<Stories>) -> u64 {
        (ENTRY + size_of::<Stories>() + stories.open.len() * (size_of::<ConversationRow>() + 32)) as u64
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
        Ok(options) => Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default()),
        Err(_) => Cache::with_weighter(items as usize, bytes, Weight),
    }
}

impl Hot {
    fn new(bytes: u64) -> Self {
        const STORIES: u64 = 360;
        // A customer has two or three keys: identifiers and a thread.
        let keys = bytes / 3;
        Hot { stories: cache((bytes - keys) / STORIES, bytes - keys), keys: cache(keys / ENTRY as u64, keys) }
    }

    fn conversation_of(&self, key: &ThreadKey) -> Option<ConversationRow> {
        let owner = self.keys.get(&key.0)?;
        let stories = self.stories.get(&owner.customer)?;
        stories.open.iter().find(|row| row.no == owner.conversation).cloned()
    }

    /// Drops what a changeset asserted in vain.
    fn forget(&self, asserts: &[Assert]) {
        for assert in asserts {
            match assert {
                Assert::Customer(no, _) => drop(self.stories.remove(no)),
                Assert::Conversation { customer, .. } => drop(self.stories.remove(customer)),
                Assert::IdentifierFree(key) => drop(self.keys.remove(&key.0)),
                Assert::Thread(key, _) => drop(self.keys.remove(&key.0)),
                Assert::ItemFree(_) | Assert::Message(..) => {}
            }
        }
    }

    /// Takes in what a committed changeset left.
    fn take_in(&self, left: Left) {
        for (customer, version, new) in left.customers {
            let known = if new {
                Some(Vec::new())
            } else {
                let known = self.stories.peek(&customer).filter(|known| known.version == version - 1);
                known.map(|known| known.open.clone())
            };
            match known {
                Some(mut open) => {
                    left.conversations
                        .iter()
                        .filter(|row| row.customer == customer)
                        .for_each(|row| put(&mut open, row));
                    self.stories.insert(customer, Arc::new(Stories { version, open }));
                }
                None => drop(self.stories.remove(&customer)),
            }
        }
        for row in &left.conversations {
            if let Some(known) = self.stories.peek(&row.customer).filter(|known| !known.open.contains(row)) {
                let mut open = known.open.clone();
                put(&mut open, row);
                self.stories.insert(row.customer, Arc::new(Stories { version: known.version, open }));
            }
        }
        for (key, owner) in left.keys {
            self.keys.insert(key, owner);
        }
    }
}

/// Puts a conversation in its place among the open ones, or out of them.
fn put(open: &mut Vec<ConversationRow>, row: &ConversationRow) {
    // Two commits may be told in another order than they were made.
    if open.iter().any(|known| known.no == row.no && known.version >= row.version) {
        return;
    }
    open.retain(|known| known.no != row.no);
    if row.state == ConversationState::Open {
        open.push(row.clone());
        open.sort_by_key(|row| std::cmp::Reverse((row.updated_at, row.no)));
        open.truncate(STORIES_SHOWN);
    }
    open.shrink_to_fit();
}

/// What a changeset leaves here once it is committed.
struct Left {
    /// Customers with their new version, and whether they are new themselves.
    customers: Vec<(i64, i64, bool)>,
    conversations: Vec<ConversationRow>,
    keys: Vec<([u8; 16], Owner)>,
    asserts: Vec<Assert>,
}

impl Left {
    fn by(set: &Changeset) -> Self {
        let thread_owner = |no: i64| {
            let write = set.conversations.iter().find(|write| write.row.no == no)?;
            Some(Owner { customer: write.row.customer, conversation: no })
        };
        let identifiers = set.identifiers.iter().map(|(key, no)| (key.0, Owner { customer: *no, conversation: 0 }));
        let threads = set.threads.iter().filter_map(|(key, no)| Some((key.0, thread_owner(*no)?)));
        Left {
            customers: set.customers.iter().map(|write| (write.row.no, write.row.version, write.new)).collect(),
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
                            _ => hot.forget(&left.asserts),
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

impl StateRead for HotState {
    fn numbers(&self) -> Arc<dyn Numbers> {
        self.numbers.clone()
    }

    fn holders<'a>(&'a self, keys: &'a [IdentifierKey]) -> BoxFuture<'a, Result<Vec<(usize, i64)>>> {
        async move {
            let (mut found, mut unknown) = (Vec::new(), Vec::new());
            for (place, key) in keys.iter().enumerate() {
                match self.hot.keys.get(&key.0) {
                    Some(owner) => found.push((place, owner.customer)),
                    None => unknown.push((place, *key)),
                }
            }
            if unknown.is_empty() {
                return Ok(found);
            }
            let asked: Vec<IdentifierKey> = unknown.iter().map(|(_, key)| *key).collect();
            for (place, customer) in self.below()?.holders(&asked).await? {
                let Some((place, key)) = unknown.get(place) else { continue };
                self.hot.keys.insert(key.0, Owner { customer, conversation: 0 });
                found.push((*place, customer));
            }
            found.sort_unstable_by_key(|(place, _)| *place);
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

    fn open_conversations(
        &self,
        customer: i64,
        version: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationRow>>> {
        async move {
            if let Some(known) =
                self.hot.stories.get(&customer).filter(|k| k.version == version && limit <= STORIES_SHOWN)
            {
                return Ok(known.open.iter().take(limit).cloned().collect());
            }
            let open = self.below()?.open_conversations(customer, version, limit).await?;
            if limit == STORIES_SHOWN {
                self.hot.stories.insert(customer, Arc::new(Stories { version, open: open.clone() }));
            }
            Ok(open)
        }
        .boxed()
    }

    // What follows is not kept.

    fn customer(&self, no: i64) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        self.ask(move |below| below.customer(no))
    }

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

    fn timeline(&self, conversation: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>> {
        self.ask(move |below| below.timeline(conversation, before, most))
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
