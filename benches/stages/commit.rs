//! Journal and commit: one returning customer's message, in groups as the writer makes them. On SQLite, or in the empty
//! PostgreSQL database at the URL in `SEGUE_BENCH_STORE`.

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use segue::base::hash::key16;
use segue::base::id::{ConversationId, CustomerId, EntryId, EventId, InteractionId};
use segue::base::{Clock, Secret, Timestamp};
use segue::model::entry::{EntryBody, RequestHead};
use segue::model::{ConversationState, EntryKind, EventType, Interaction, ItemKey, Recent, RecentJson};
use segue::store::postgres::{self, Place};
use segue::store::seal::Sealing;
use segue::store::sqlite;
use segue::store::{
    Assert, Changeset, Committed, ConversationRow, ConversationWrite, CustomerProfile, CustomerRow, CustomerWrite,
    EventWrite, IdentifierKey, InteractionWrite, NewEntry, Store, Subscription, ThreadKey, Unwatched,
};

use crate::Result;
use crate::time::Timer;

/// How many customers take turns.
const CUSTOMERS: usize = 4_000;
/// Items in one round.
const ITEMS: usize = 1_024;
/// Rounds of each size of group.
const ROUNDS: usize = 5;

/// A store with customers whose messages come one after another.
struct Bench {
    store: Store,
    now: Timestamp,
    people: Vec<(CustomerRow, ConversationRow)>,
    next: usize,
    body: String,
    /// What a customer's row shows of each interaction.
    brief: RecentJson,
}

/// Times appends and commits in groups of 1, 16, 64 and 256.
pub(crate) fn run(timer: &mut Timer, interaction: &Interaction) -> Result<()> {
    if !timer.wants("journal: append") && !timer.wants("commit: changeset") {
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("stages-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let metrics = segue::base::telemetry::Metrics::new();
    let sealing = match std::env::var_os("SEGUE_TEST_UNSEALED") {
        Some(_) => Sealing::off(),
        None => Sealing::at(folder.path().join("root.key")),
    };
    let opened = match std::env::var("SEGUE_BENCH_STORE") {
        Ok(url) => {
            let place = Place::parse(&Secret::new(url))?;
            postgres::open(&place, postgres::Options::default(), &sealing, &Unwatched::shared(), metrics)?
        }
        Err(_) => sqlite::open(folder.path(), sqlite::Options::default(), &sealing, &Unwatched::shared(), metrics)?,
    };
    let types = vec![EventType::InteractionReceived as u8];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(opened.store.outbox.subscribe(vec![Subscription {
        helpdesk: "desk".to_owned(),
        types,
        channels: Vec::new(),
    }]))?;
    let body = serde_json::to_string(interaction)?;
    let now = Clock::system().now();
    let brief = RecentJson::of(&Recent {
        interaction_id: InteractionId::derive(EntryId::random(now), now, "interaction", 0),
        conversation_id: ConversationId::derive(EntryId::random(now), now, "conversation", 0),
        channel: interaction.channel.kind,
        direction: interaction.direction,
        at: now,
        text: interaction.text.clone(),
        author_role: interaction.author.role,
    })?;
    let mut bench = Bench { store: opened.store.clone(), now, people: Vec::new(), next: 0, body, brief };
    runtime.block_on(async {
        // Every customer's first message makes the customer; that is no part of what is timed.
        for _ in 0..CUSTOMERS / 500 {
            bench.round(500, 500).await?;
        }
        for group in [1, 16, 64, 256] {
            let items = if group == 1 { ITEMS / 8 } else { ITEMS };
            let (mut appends, mut commits) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (append, commit) = bench.round(items, group).await?;
                appends.push(append);
                commits.push(commit);
            }
            timer.tell(&format!("journal: append, {group} waiting"), appends);
            timer.tell(&format!("commit: changeset, {group} in a batch"), commits);
        }
        Ok(())
    })
}

impl Bench {
    /// Appends and commits `items` in groups; seconds for one item each.
    async fn round(&mut self, items: usize, group: usize) -> Result<(f64, f64)> {
        let (mut append, mut commit) = (0.0, 0.0);
        for _ in 0..items / group {
            let entries: Vec<NewEntry> = (0..group).map(|at| self.entry(self.next + at)).collect();
            let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
            let begun = Instant::now();
            let appended = try_join_all(entries.into_iter().map(|entry| self.store.journal.append(entry))).await?;
            append += begun.elapsed().as_secs_f64();
            let batch = ids.into_iter().zip(appended).map(|(id, place)| self.changeset(id, place.position)).collect();
            let begun = Instant::now();
            let outcomes = self.store.commits.commit(batch).await?;
            commit += begun.elapsed().as_secs_f64();
            if !outcomes.iter().all(|outcome| matches!(outcome, Committed::Done(_))) {
                return Err("a changeset was not committed".into());
            }
        }
        let done = (items / group * group) as f64;
        Ok((append / done, commit / done))
    }

    fn entry(&self, number: usize) -> NewEntry {
        let head = RequestHead {
            method: "POST".to_owned(),
            url: "https://segue.example.org/in/whatsapp".to_owned(),
            headers: Vec::new(),
            verified_by: "hmac X-Hub-Signature-256".to_owned(),
            sender: None,
        };
        NewEntry {
            id: EntryId::random(self.now),
            kind: EntryKind::Webhook,
            channel: "whatsapp".to_owned(),
            at: self.now,
            interactive: false,
            keys: vec![key16(&[b"person", &number.to_be_bytes()])],
            key: Some(key16(&[b"delivery", &number.to_be_bytes()])),
            body: EntryBody {
                head: serde_json::to_vec(&head).unwrap_or_default().into(),
                raw: Bytes::from(vec![b'r'; 700]),
            },
        }
    }

    /// What one message of the next customer changes.
    fn changeset(&mut self, entry: EntryId, position: i64) -> Changeset {
        let number = self.next;
        self.next += 1;
        let no = self.store.state.numbers().interaction().unwrap_or_default();
        let mut set = Changeset { position, bundle: "b".repeat(64), ..Changeset::default() };
        let new = number < CUSTOMERS;
        if new {
            let person = self.person(entry);
            let key = [number.to_be_bytes(), [0; 8]].concat();
            let (identifier, thread) = (key16(&[b"i", &key]), key16(&[b"t", &key]));
            set.identifiers.push((IdentifierKey(identifier), person.0.no));
            set.threads.push((ThreadKey(thread), person.1.no));
            set.asserts.push(Assert::IdentifierFree(IdentifierKey(identifier)));
            self.people.push(person);
        }
        let Some((customer, conversation)) = self.people.get_mut(number % CUSTOMERS) else { return set };
        let (before_customer, before_conversation) = (customer.latest, conversation.latest);
        if !new {
            set.asserts.push(Assert::Customer(customer.no, customer.version));
            set.asserts.push(Assert::Conversation {
                no: conversation.no,
                customer: customer.no,
                version: conversation.version,
            });
            customer.version += 1;
            conversation.version += 1;
        }
        (customer.latest, conversation.latest) = (no, no);
        customer.recent.truncate(4);
        customer.recent.insert(0, self.brief.clone());
        conversation.seq += 1;
        conversation.event_seq += 1;
        let item = ItemKey(key16(&[b"item", &number.to_be_bytes()]));
        set.asserts.push(Assert::ItemFree(item));
        set.customers.push(CustomerWrite { row: customer.clone(), new, profile_changed: false });
        set.conversations.push(ConversationWrite { row: conversation.clone(), new });
        set.interactions.push(InteractionWrite {
            no,
            id: InteractionId::derive(entry, self.now, "interaction", 0),
            item: Some(item),
            conversation: conversation.no,
            seq: conversation.seq,
            before_in_conversation: before_conversation,
            customer: customer.no,
            before_of_customer: before_customer,
            outbound: false,
            body: self.body.clone(),
            decision: Some("d".repeat(150)),
        });
        set.events.push(EventWrite {
            id: EventId::derive(entry, self.now, "event", 0),
            kind: EventType::InteractionReceived,
            conversation: conversation.no,
            channel: "whatsapp".to_owned(),
            at: self.now,
            body: Bytes::from(vec![b'e'; 2048]),
        });
        set
    }

    fn person(&self, entry: EntryId) -> (CustomerRow, ConversationRow) {
        let numbers = self.store.state.numbers();
        let customer = CustomerRow {
            no: numbers.customer().unwrap_or_default(),
            id: CustomerId::derive(entry, self.now, "customer", 0),
            version: 1,
            created_at: self.now,
            latest: 0,
            profile: CustomerProfile::default(),
            recent: Vec::new(),
        };
        let conversation = ConversationRow {
            no: numbers.conversation().unwrap_or_default(),
            id: ConversationId::derive(entry, self.now, "conversation", 0),
            version: 1,
            customer: customer.no,
            state: ConversationState::Open,
            public: false,
            seq: 0,
            event_seq: 0,
            opened_at: self.now,
            updated_at: self.now,
            latest: 0,
            queue: Some("general".to_owned()),
            owner: None,
            links: Vec::new(),
        };
        (customer, conversation)
    }
}
