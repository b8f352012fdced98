//! The recording view: what one entry reads and what it is going to change.
//!
//! Stages read customers, conversations and messages through a [`Draft`]. It remembers what was read, shows later stages
//! of the same entry what earlier ones changed, and in the end becomes the [`Changeset`] whose assertions say: all this
//! was still so when it was committed.

use std::sync::Arc;

use super::Setup;
use super::facts::Facts;
use crate::base::id::{ConversationId, CustomerId, EventId, Id, InteractionId, Named, SendId};
use crate::base::{Result, Timestamp};
use crate::model::{
    Conversation, ConversationState, Customer, Entry, Identifier, ItemKey, Link, LinkKind, OpenIssue, RecentJson,
};
use crate::script::{PolicyInput, Verdict};
use crate::store::{
    Assert, Changeset, ConversationRow, ConversationWrite, CustomerProfile, CustomerRow, CustomerWrite, IdentifierKey,
    InteractionRow, InteractionUpdate, MessageKey, MessageState, MessageStateWrite, Numbers, STORIES_SHOWN, StateRead,
    ThreadKey,
};

/// How many links of a story are kept.
const MOST_LINKS: usize = 20;

/// A customer in the draft, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CustomerAt(pub(crate) usize);

/// A conversation in the draft, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConversationAt(pub(crate) usize);

struct LoadedCustomer {
    row: CustomerRow,
    /// The version that was read; none for a new customer.
    read: Option<i64>,
    changed: bool,
    profile_changed: bool,
}

struct LoadedConversation {
    row: ConversationRow,
    read: Option<i64>,
    changed: bool,
    /// Whether it is open now and was not before.
    opened: bool,
}

/// What one entry reads and changes.
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a dyn StateRead,
    pub(crate) entry: &'a Entry,
    /// What decisions depend on.
    pub(crate) setup: &'a Setup,
    pub(crate) numbers: Arc<dyn Numbers>,
    /// What is to be written, but for customers and conversations.
    pub(crate) set: Changeset,
    customers: Vec<LoadedCustomer>,
    conversations: Vec<LoadedConversation>,
    /// Customers (by number) whose open conversations were loaded.
    stories_loaded: Vec<i64>,
    ordinals: [u32; 5],
    /// Whether to look before assuming that an item is new: something was assumed in vain.
    careful: bool,
    /// What applying found out.
    pub(crate) facts: Facts,
    /// What it found out when this entry was applied before, in another store.
    recorded: Option<&'a Facts>,
    /// How many questions the policy was asked.
    asks: u32,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        state: &'a dyn StateRead,
        entry: &'a Entry,
        setup: &'a Setup,
        careful: bool,
        recorded: Option<&'a Facts>,
    ) -> Self {
        Draft {
            state,
            entry,
            setup,
            numbers: state.numbers(),
            set: Changeset { position: entry.position, ..Changeset::default() },
            customers: Vec::new(),
            conversations: Vec::new(),
            stories_loaded: Vec::new(),
            ordinals: [0; 5],
            careful,
            facts: Facts::default(),
            recorded,
            asks: 0,
        }
    }

    /// Asks the policy. Where it failed when this entry was applied before, it fails in the same way: whether a budget is
    /// passed depends on the machine.
    pub(crate) fn decide(&mut self, input: &PolicyInput<'_>) -> Verdict {
        let ask = self.asks;
        self.asks += 1;
        let verdict = match self.recorded.and_then(|recorded| recorded.breach(ask)) {
            Some(breach) => Verdict::Breach(breach),
            None => self.setup.policy.decide(input),
        };
        if let Verdict::Breach(breach) = &verdict {
            self.facts.note_breach(ask, breach);
        }
        verdict
    }

    /// The time of the entry: the present, as far as applying it is concerned.
    pub(crate) fn now(&self) -> Timestamp {
        self.entry.at
    }

    fn derive<T: Named>(&mut self, slot: usize) -> Id<T> {
        let ordinal = self.ordinals.get_mut(slot).map_or(0, |next| {
            *next += 1;
            *next - 1
        });
        Id::derive(self.entry.id, self.entry.at, T::PREFIX, ordinal)
    }

    pub(crate) fn interaction_id(&mut self) -> InteractionId {
        self.derive(0)
    }

    pub(crate) fn event_id(&mut self) -> EventId {
        self.derive(1)
    }

    pub(crate) fn send_id(&mut self) -> SendId {
        self.derive(2)
    }

    // === customers ===

    /// Which of these identifiers belong to whom, and which are free.
    pub(crate) async fn holders(&mut self, identifiers: &[Identifier]) -> Result<Vec<(usize, CustomerAt)>> {
        let keys: Vec<IdentifierKey> = identifiers.iter().map(IdentifierKey::of).collect();
        let mut holders = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            if let Some((_, no)) = self.set.identifiers.iter().find(|(k, _)| k == key)
                && let Some(at) = self.customers.iter().position(|c| c.row.no == *no)
            {
                holders.push((place, CustomerAt(at)));
            }
        }
        let unknown: Vec<usize> =
            (0..keys.len()).filter(|place| !holders.iter().any(|(known, _)| known == place)).collect();
        let asked: Vec<IdentifierKey> = unknown.iter().filter_map(|place| keys.get(*place).copied()).collect();
        for (place, no) in self.state.holders(&asked).await? {
            if let Some(at) = self.customer_by_no(no).await? {
                holders.push((unknown.get(place).copied().unwrap_or_default(), at));
            }
        }
        holders.sort_unstable_by_key(|(place, _)| *place);
        Ok(holders)
    }

    fn load_customer(&mut self, row: CustomerRow) -> CustomerAt {
        if let Some(at) = self.customers.iter().position(|c| c.row.no == row.no) {
            return CustomerAt(at);
        }
        let read = Some(row.version);
        self.customers.push(LoadedCustomer { row, read, changed: false, profile_changed: false });
        CustomerAt(self.customers.len() - 1)
    }

    pub(crate) async fn customer_by_no(&mut self, no: i64) -> Result<Option<CustomerAt>> {
        if let Some(at) = self.customers.iter().position(|c| c.row.no == no) {
            return Ok(Some(CustomerAt(at)));
        }
        Ok(self.state.customer(no).await?.map(|row| self.load_customer(row)))
    }

    pub(crate) fn new_customer(&mut self) -> Result<CustomerAt> {
        let id: CustomerId = self.derive(3);
        let row = CustomerRow {
            no: self.numbers.customer()?,
            id,
            version: 0,
            created_at: self.now(),
            latest: 0,
            profile: CustomerProfile::default(),
            recent: Vec::new(),
        };
        self.customers.push(LoadedCustomer { row, read: None, changed: true, profile_changed: true });
        Ok(CustomerAt(self.customers.len() - 1))
    }

    pub(crate) fn customer(&self, at: CustomerAt) -> Option<&CustomerRow> {
        self.customers.get(at.0).map(|c| &c.row)
    }

    /// Changes a customer's profile; `change` says whether it did.
    pub(crate) fn change_profile(&mut self, at: CustomerAt, change: impl FnOnce(&mut CustomerProfile) -> bool) {
        if let Some(customer) = self.customers.get_mut(at.0)
            && change(&mut customer.row.profile)
        {
            customer.changed = true;
            customer.profile_changed = true;
        }
    }

    /// Makes an interaction the customer's latest. Gives the number of the one before it; 0 if there was none.
    pub(crate) fn add_to_customer(&mut self, at: CustomerAt, interaction: i64, brief: RecentJson) -> i64 {
        const SHOWN: usize = 5;
        match self.customers.get_mut(at.0) {
            Some(customer) => {
                customer.changed = true;
                customer.row.recent.truncate(SHOWN - 1);
                customer.row.recent.insert(0, brief);
                std::mem::replace(&mut customer.row.latest, interaction)
            }
            None => 0,
        }
    }

    /// Gives identifiers to a customer.
    pub(crate) fn give_identifiers<'i>(&mut self, at: CustomerAt, identifiers: impl Iterator<Item = &'i Identifier>) {
        let Some(no) = self.customer(at).map(|row| row.no) else { return };
        for identifier in identifiers {
            let key = IdentifierKey::of(identifier);
            if !self.set.identifiers.iter().any(|(known, _)| *known == key) {
                self.set.asserts.push(Assert::IdentifierFree(key));
                self.set.identifiers.push((key, no));
            }
        }
    }

    /// The customer as policies and help desks see it.
    pub(crate) async fn snapshot(&mut self, at: CustomerAt) -> Result<Option<Customer>> {
        let Some(row) = self.customer(at).cloned() else { return Ok(None) };
        let open = self.open_conversations(at).await?;
        let open_issues = open.iter().filter_map(|at| self.conversation(*at)).map(|story| OpenIssue {
            conversation_id: story.id,
            opened_at: story.opened_at,
            queue: story.queue.clone(),
            owner: story.owner.clone(),
        });
        let open_issues = open_issues.collect();
        Ok(Some(Customer {
            id: row.id,
            names: row.profile.names,
            identifiers: row.profile.identifiers,
            open_issues,
            recent: row.recent,
            created_at: row.created_at,
        }))
    }

    // === conversations ===

    fn load_conversation(&mut self, row: ConversationRow) -> ConversationAt {
        if let Some(at) = self.conversations.iter().position(|c| c.row.no == row.no) {
            return ConversationAt(at);
        }
        let read = Some(row.version);
        self.conversations.push(LoadedConversation { row, read, changed: false, opened: false });
        ConversationAt(self.conversations.len() - 1)
    }

    pub(crate) fn conversation(&self, at: ConversationAt) -> Option<&ConversationRow> {
        self.conversations.get(at.0).map(|c| &c.row)
    }

    pub(crate) async fn conversation_by_no(&mut self, no: i64) -> Result<Option<ConversationAt>> {
        if let Some(at) = self.conversations.iter().position(|c| c.row.no == no) {
            return Ok(Some(ConversationAt(at)));
        }
        Ok(self.state.conversation(no).await?.map(|row| self.load_conversation(row)))
    }

    pub(crate) async fn conversation_by_id(&mut self, id: ConversationId) -> Result<Option<ConversationAt>> {
        if let Some(at) = self.conversations.iter().position(|c| c.row.id == id) {
            return Ok(Some(ConversationAt(at)));
        }
        Ok(self.state.conversation_by_id(id).await?.map(|row| self.load_conversation(row)))
    }

    /// The conversation of a provider's thread.
    pub(crate) async fn conversation_by_thread(&mut self, key: ThreadKey) -> Result<Option<ConversationAt>> {
        if let Some((_, no)) = self.set.threads.iter().find(|(k, _)| *k == key) {
            let no = *no;
            return self.conversation_by_no(no).await;
        }
        let found = self.state.conversation_by_thread(key).await?;
        self.set.asserts.push(Assert::Thread(key, found.as_ref().map(|row| row.no)));
        Ok(found.map(|row| self.load_conversation(row)))
    }

    /// The customer's open conversations, the latest first.
    pub(crate) async fn open_conversations(&mut self, customer: CustomerAt) -> Result<Vec<ConversationAt>> {
        let Some((no, read)) = self.customers.get(customer.0).map(|c| (c.row.no, c.read)) else {
            return Ok(Vec::new());
        };
        if let Some(version) = read
            && !self.stories_loaded.contains(&no)
        {
            self.stories_loaded.push(no);
            for row in self.state.open_conversations(no, version, STORIES_SHOWN).await? {
                self.load_conversation(row);
            }
        }
        let mut open: Vec<ConversationAt> = (0..self.conversations.len()).map(ConversationAt).collect();
        open.retain(|at| {
            self.conversation(*at).is_some_and(|row| row.customer == no && row.state == ConversationState::Open)
        });
        open.sort_by_key(|at| std::cmp::Reverse(self.conversation(*at).map(|row| (row.updated_at, row.id))));
        open.truncate(STORIES_SHOWN);
        Ok(open)
    }

    pub(crate) fn new_conversation(&mut self, customer: CustomerAt, public: bool) -> Result<ConversationAt> {
        let id: ConversationId = self.derive(4);
        let row = ConversationRow {
            no: self.numbers.conversation()?,
            id,
            version: 0,
            customer: self.customer(customer).map_or(0, |row| row.no),
            state: ConversationState::Open,
            public,
            seq: 0,
            event_seq: 0,
            opened_at: self.now(),
            updated_at: self.now(),
            latest: 0,
            queue: None,
            owner: None,
            links: Vec::new(),
        };
        self.conversations.push(LoadedConversation { row, read: None, changed: true, opened: true });
        Ok(ConversationAt(self.conversations.len() - 1))
    }

    /// Changes a conversation. Its time never runs backwards.
    pub(crate) fn change<T>(
        &mut self,
        at: ConversationAt,
        change: impl FnOnce(&mut ConversationRow) -> T,
    ) -> Option<T> {
        let now = self.now();
        let conversation = self.conversations.get_mut(at.0)?;
        conversation.changed = true;
        conversation.row.updated_at = conversation.row.updated_at.max(now);
        let before = conversation.row.state;
        let given = change(&mut conversation.row);
        conversation.opened |= before != ConversationState::Open && conversation.row.state == ConversationState::Open;
        Some(given)
    }

    /// Links two conversations, each to the other. Gives whether the first has a link more.
    pub(crate) fn link(&mut self, from: ConversationAt, to: ConversationAt, to_is: LinkKind) -> bool {
        let back = match to_is {
            LinkKind::Public => LinkKind::Private,
            LinkKind::Private => LinkKind::Public,
            LinkKind::Related => LinkKind::Related,
            LinkKind::Mentioned => return self.mention(from, to),
        };
        let ids = (self.conversation(from).map(|row| row.id), self.conversation(to).map(|row| row.id));
        let (Some(from_id), Some(to_id)) = ids else { return false };
        self.add_link(to, Link { kind: back, conversation_id: from_id });
        self.add_link(from, Link { kind: to_is, conversation_id: to_id })
    }

    /// Notes on a story that it names another one, of which nothing is changed.
    fn mention(&mut self, from: ConversationAt, to: ConversationAt) -> bool {
        let conversation_id = self.conversation(to).map(|row| row.id);
        conversation_id
            .is_some_and(|conversation_id| self.add_link(from, Link { kind: LinkKind::Mentioned, conversation_id }))
    }

    fn add_link(&mut self, at: ConversationAt, link: Link) -> bool {
        let has_room = |row: &ConversationRow| !row.links.contains(&link) && row.links.len() < MOST_LINKS;
        if !self.conversation(at).is_some_and(has_room) {
            return false;
        }
        self.change(at, |row| row.links.push(link));
        true
    }

    pub(crate) fn give_thread(&mut self, key: ThreadKey, conversation: ConversationAt) {
        if let Some(no) = self.conversation(conversation).map(|row| row.no) {
            self.set.threads.retain(|(known, _)| *known != key);
            self.set.threads.push((key, no));
        }
    }

    /// The conversation as policies and people see it.
    pub(crate) fn shown(&self, at: ConversationAt) -> Option<Conversation> {
        let row = self.conversation(at)?;
        let customer = self.customers.iter().find(|c| c.row.no == row.customer)?;
        Some(Conversation {
            id: row.id,
            customer_id: customer.row.id,
            state: row.state,
            seq: row.seq.max(0) as u64,
            opened_at: row.opened_at,
            updated_at: row.updated_at,
            queue: row.queue.clone(),
            owner: row.owner.clone(),
            links: row.links.clone(),
        })
    }

    // === messages ===

    /// What is known of a provider's message, with what this entry added.
    pub(crate) async fn message(&mut self, key: MessageKey) -> Result<MessageState> {
        if let Some(known) = self.set.messages.iter().find(|m| m.key == key) {
            return Ok(known.state.clone());
        }
        let found = self.state.message_state(key).await?;
        self.set.asserts.push(Assert::Message(key, found.as_ref().map(MessageState::mark)));
        Ok(found.unwrap_or_default())
    }

    /// The same of a message that comes with this entry: nothing as a rule, so the first try does not look.
    pub(crate) async fn message_that_comes(&mut self, key: MessageKey) -> Result<MessageState> {
        if self.careful || self.set.messages.iter().any(|m| m.key == key) {
            return self.message(key).await;
        }
        self.set.asserts.push(Assert::Message(key, None));
        Ok(MessageState::default())
    }

    pub(crate) fn set_message(&mut self, key: MessageKey, state: MessageState) {
        self.set.messages.retain(|known| known.key != key);
        self.set.messages.push(MessageStateWrite { key, state });
    }

    /// The interaction that an item became: in this very entry, or before.
    pub(crate) async fn interaction_by_item(&mut self, item: ItemKey) -> Result<Option<InteractionRow>> {
        if let Some(made) = self.set.interactions.iter().find(|i| i.item == Some(item)) {
            return Ok(Some(InteractionRow {
                no: made.no,
                id: made.id,
                conversation: made.conversation,
                seq: made.seq,
                customer: made.customer,
                body: made.body.clone(),
                decision: made.decision.clone(),
            }));
        }
        let mut found = self.state.interaction_by_item(item).await?;
        if let Some(row) = &mut found
            && let Some(update) = self.set.updates.iter().find(|u| u.no == row.no)
        {
            row.body.clone_from(&update.body);
        }
        // That it is not there yet is a fact that decides: it must still hold.
        if found.is_none() {
            self.set.asserts.push(Assert::ItemFree(item));
        }
        Ok(found)
    }

    /// Whether an item has become an interaction. As a rule it has not, so the first try does not look; the commit does.
    pub(crate) async fn has_item(&self, item: ItemKey) -> Result<bool> {
        if self.set.interactions.iter().any(|i| i.item == Some(item)) {
            return Ok(true);
        }
        Ok(self.careful && self.state.interaction_by_item(item).await?.is_some())
    }

    /// Replaces the content of an interaction, made in this entry or before.
    pub(crate) fn rewrite(&mut self, no: i64, customer: i64, body: String) {
        if let Some(made) = self.set.interactions.iter_mut().find(|i| i.no == no) {
            made.body = body;
            return;
        }
        self.set.updates.retain(|u| u.no != no);
        self.set.updates.push(InteractionUpdate { no, customer, body });
    }

    // === the end ===

    /// What is to be committed, with what must still be true.
    pub(crate) fn finish(mut self) -> Changeset {
        self.set.facts = self.facts.written();
        // Whoever read the customer's open stories asserted the customer: one more must be a new version of it.
        for conversation in self.conversations.iter().filter(|c| c.opened) {
            self.customers.iter_mut().filter(|c| c.row.no == conversation.row.customer).for_each(|c| c.changed = true);
        }
        for mut customer in self.customers {
            if let Some(read) = customer.read {
                self.set.asserts.push(Assert::Customer(customer.row.no, read));
            }
            if customer.changed {
                customer.row.version += 1;
                self.set.customers.push(CustomerWrite {
                    new: customer.read.is_none(),
                    profile_changed: customer.profile_changed,
                    row: customer.row,
                });
            }
        }
        for mut conversation in self.conversations {
            if let Some(version) = conversation.read {
                let (no, customer) = (conversation.row.no, conversation.row.customer);
                self.set.asserts.push(Assert::Conversation { no, customer, version });
            }
            if !conversation.changed {
                continue;
            }
            conversation.row.version += 1;
            self.set.conversations.push(ConversationWrite { new: conversation.read.is_none(), row: conversation.row });
        }
        self.set
    }
}
