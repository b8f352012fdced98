//! One backend, driven by operations: what each did is told in words that are the same for both.

use super::super::suite::{Open, everything, outbound, soon};
use super::super::*;
use super::event;
use super::ops::Op;
use crate::base::Pii;
use crate::base::hash::key16;
use crate::base::id::SendId;
use crate::model::entry::PlannedSend;
use crate::model::{ConversationState, EntryBody, EntryKind, EventType, ItemKey};
use crate::store::archive::Place;

fn at(n: usize) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + n as i64)
}

/// An id or key for what the `n`th operation makes.
fn own(kind: &str, n: usize) -> [u8; 16] {
    key16(&[kind.as_bytes(), &n.to_be_bytes()])
}

/// One backend with the numbers that it gave to what both know.
pub(super) struct Backend {
    reopen: Box<dyn Fn() -> Open>,
    open: Option<Open>,
    pub(super) place: Place,
    pending: Vec<i64>,
    quarantined: Vec<i64>,
    /// Customer and conversation.
    stories: Vec<(i64, i64)>,
    interactions: Vec<(i64, InteractionId)>,
    sends: Vec<SendId>,
    files: Vec<(i64, usize)>,
    last_event: Option<EventId>,
}

const DESK: &str = "desk";

fn pick<T: Copy>(from: &[T], which: u8) -> Option<T> {
    from.get(usize::from(which) % from.len().max(1)).copied()
}

impl Backend {
    pub(super) async fn new(reopen: Box<dyn Fn() -> Open>, place: Place) -> Backend {
        let open = reopen();
        open.store.outbox.subscribe(vec![everything(DESK)]).await.unwrap();
        Backend {
            reopen,
            open: Some(open),
            place,
            pending: Vec::new(),
            quarantined: Vec::new(),
            stories: Vec::new(),
            interactions: Vec::new(),
            sends: Vec::new(),
            files: Vec::new(),
            last_event: None,
        }
    }

    pub(super) fn store(&self) -> Store {
        self.open.as_ref().unwrap().store.clone()
    }

    async fn append(&mut self, n: usize, key: Option<u8>, head: &[u8], raw: &[u8]) -> String {
        let entry = NewEntry {
            id: EntryId::from_bytes(own("entry", n)),
            kind: EntryKind::Webhook,
            channel: if n.is_multiple_of(3) { "wa".to_owned() } else { "tel".to_owned() },
            at: at(n),
            interactive: n.is_multiple_of(5),
            keys: Vec::new(),
            key: key.map(|key| [key; 16]),
            body: EntryBody { head: head.to_vec().into(), raw: raw.to_vec().into() },
        };
        let appended = self.store().journal.append(entry).await.unwrap();
        if !appended.repeat {
            self.pending.push(appended.position);
        }
        format!("{} {}", appended.id, appended.repeat)
    }

    /// An entry that is to be applied by the `n`th operation.
    async fn entry(&mut self, n: usize) -> Changeset {
        if self.pending.is_empty() {
            self.append(n, None, b"{}", b"").await;
        }
        let position = self.pending[n % self.pending.len()];
        let facts = (n.is_multiple_of(4)).then(|| format!("{{\"n\":{n}}}"));
        Changeset { position, bundle: format!("b{}", n % 3), facts, ..Changeset::default() }
    }

    /// Commits; gives whether it was done, and how else it ended. A key that was not asserted may fail the whole group.
    async fn commit(&mut self, set: Changeset) -> &'static str {
        let position = set.position;
        let event = set.events.last().map(|event| event.id);
        match self.store().commits.commit(vec![set]).await.map(|outcomes| outcomes[0]) {
            Ok(Committed::Done(_)) => {
                self.pending.retain(|pending| *pending != position);
                self.last_event = event.or(self.last_event);
                "done"
            }
            Ok(Committed::AlreadyApplied) => "applied",
            Ok(Committed::Conflict | Committed::Early | Committed::Fenced) | Err(_) => "conflict",
        }
    }

    fn interaction(
        set: &mut Changeset,
        n: usize,
        no: i64,
        story: (i64, i64),
        seq: i64,
        before: (i64, i64),
        text: &str,
    ) {
        let item = ItemKey(own("item", n));
        set.asserts.push(Assert::ItemFree(item));
        set.interactions.push(InteractionWrite {
            no,
            id: InteractionId::from_bytes(own("interaction", n)),
            item: (!n.is_multiple_of(4)).then_some(item),
            conversation: story.1,
            seq,
            before_in_conversation: before.0,
            customer: story.0,
            before_of_customer: before.1,
            outbound: n.is_multiple_of(2),
            body: text.to_owned(),
            decision: (n.is_multiple_of(3)).then(|| text.to_owned()),
        });
    }

    fn event(set: &mut Changeset, n: usize, ordinal: usize, conversation: i64, body: &[u8]) {
        let kind = if ordinal == 0 { EventType::InteractionReceived } else { EventType::RoutingAssigned };
        set.events.push(EventWrite {
            id: EventId::from_bytes(own("event", n * 2 + ordinal)),
            kind,
            conversation,
            channel: "wa".to_owned(),
            at: at(n),
            body: body.to_vec().into(),
        });
    }

    async fn contact(&mut self, n: usize, seed: u8, text: &str, body: &[u8]) -> &'static str {
        let (store, mut set) = (self.store(), self.entry(n).await);
        let numbers = store.state.numbers();
        let story = (numbers.customer().unwrap(), numbers.conversation().unwrap());
        let no = numbers.interaction().unwrap();
        let identifier = IdentifierKey([seed; 16]);
        set.asserts.push(Assert::IdentifierFree(identifier));
        set.identifiers.push((identifier, story.0));
        let profile = CustomerProfile { names: vec![Pii::new(text.to_owned())], identifiers: Vec::new() };
        let id = CustomerId::from_bytes(own("customer", n));
        let row =
            CustomerRow { no: story.0, id, version: 1, created_at: at(n), latest: no, profile, recent: Vec::new() };
        set.customers.push(CustomerWrite { row, new: true, profile_changed: true });
        let row = ConversationRow {
            no: story.1,
            id: ConversationId::from_bytes(own("conversation", n)),
            version: 1,
            customer: story.0,
            state: ConversationState::Open,
            public: n.is_multiple_of(7),
            seq: 1,
            event_seq: 2,
            opened_at: at(n),
            updated_at: at(n),
            latest: no,
            queue: Some("general".to_owned()),
            owner: None,
            links: Vec::new(),
        };
        set.conversations.push(ConversationWrite { row, new: true });
        set.threads.push((ThreadKey(own("thread", usize::from(seed) / 2)), story.1));
        Self::interaction(&mut set, n, no, story, 1, (0, 0), text);
        Self::event(&mut set, n, 0, story.1, body);
        Self::event(&mut set, n, 1, story.1, body);
        let outcome = self.commit(set).await;
        if outcome == "done" {
            self.stories.push(story);
            self.interactions.push((no, InteractionId::from_bytes(own("interaction", n))));
        }
        outcome
    }

    async fn further(&mut self, n: usize, op: &Op) -> &'static str {
        let Op::Further { story, stale, resolve, owner, text } = op else { return "" };
        let Some(story) = pick(&self.stories, *story) else { return "none" };
        let (store, mut set) = (self.store(), self.entry(n).await);
        let customer = store.state.customer(story.0).await.unwrap().unwrap();
        let conversation = store.state.conversation(story.1).await.unwrap().unwrap();
        let version = conversation.version - i64::from(*stale);
        set.asserts.push(Assert::Customer(customer.no, customer.version));
        set.asserts.push(Assert::Conversation { no: conversation.no, customer: customer.no, version });
        let no = store.state.numbers().interaction().unwrap();
        let (seq, before) = (conversation.seq + 1, (conversation.latest, customer.latest));
        let names = vec![Pii::new(text.clone())];
        let row = CustomerRow {
            version: customer.version + 1,
            latest: no,
            profile: CustomerProfile { names, ..customer.profile.clone() },
            ..customer
        };
        set.customers.push(CustomerWrite { row, new: false, profile_changed: n.is_multiple_of(2) });
        let row = ConversationRow {
            version: conversation.version + 1,
            state: if *resolve { ConversationState::Resolved } else { ConversationState::Open },
            seq,
            event_seq: conversation.event_seq + 1,
            updated_at: at(n),
            latest: no,
            owner: owner.clone(),
            ..conversation
        };
        set.conversations.push(ConversationWrite { row, new: false });
        Self::interaction(&mut set, n, no, story, seq, before, text);
        Self::event(&mut set, n, n % 2, story.1, text.as_bytes());
        let outcome = self.commit(set).await;
        if outcome == "done" {
            self.interactions.push((no, InteractionId::from_bytes(own("interaction", n))));
        }
        outcome
    }

    /// Another customer with an identifier that is taken, which nothing asserts.
    async fn clash(&mut self, n: usize, seed: u8) -> &'static str {
        let taken = self.store().state.holders(&[IdentifierKey([seed; 16])]).await.unwrap();
        if taken.is_empty() {
            return "free";
        }
        let mut set = self.entry(n).await;
        set.identifiers.push((IdentifierKey([seed; 16]), taken[0].1));
        self.commit(set).await
    }

    async fn message(&mut self, n: usize, key: u8, right: bool) -> &'static str {
        let key = MessageKey([key; 16]);
        let known = self.store().state.message_state(key).await.unwrap();
        let mut set = self.entry(n).await;
        let mark = if right { known.as_ref().map(MessageState::mark) } else { Some([1; 16]) };
        set.asserts.push(Assert::Message(key, mark));
        let state = MessageState {
            deleted: Some((at(n), InteractionId::from_bytes(own("gone", n)))),
            counted: vec![u64::MAX - n as u64],
            ..MessageState::default()
        };
        set.messages.push(MessageStateWrite { key, state });
        self.commit(set).await
    }

    /// Changesets of one kind of thing.
    async fn small(&mut self, n: usize, op: &Op) -> String {
        let mut set = self.entry(n).await;
        let position = set.position;
        let (mut send, mut file) = (None, None);
        match op {
            Op::Update { interaction, text } => {
                let Some((no, id)) = pick(&self.interactions, *interaction) else { return "none".to_owned() };
                let customer = self.store().state.interaction_by_id(id).await.unwrap().unwrap().customer;
                set.updates.push(InteractionUpdate { no, customer, body: text.clone() });
            }
            Op::Quarantine { reason } => set.quarantined.extend([reason.clone(), format!("{reason}2")]),
            Op::Release { which } => set.released.extend(pick(&self.quarantined, *which)),
            Op::Note { key } => set.sides.push(([*key; 16], at(n))),
            Op::Send { text } => {
                let id = SendId::from_bytes(own("send", n));
                let message = outbound(id, text);
                let interaction = InteractionId::from_bytes(own("interaction", n));
                let conversation = self.stories.first().map_or(0, |story| story.1);
                let planned = PlannedSend { message, interaction };
                set.sends.push(SendWrite { planned, conversation, at: at(n) });
                send = Some(id);
            }
            Op::Sent { which } => set.sends_done.extend(pick(&self.sends, *which)),
            Op::File { part } => {
                let Some((interaction, interaction_id)) = pick(&self.interactions, *part) else {
                    return "none".to_owned();
                };
                let part = usize::from(*part);
                set.media.push(MediaWrite { interaction, interaction_id, part, channel: "wa".to_owned(), at: at(n) });
                file = Some((interaction, part));
            }
            _ => set.media_done.extend(self.files.pop()),
        }
        let outcome = self.commit(set).await;
        if outcome == "done" {
            self.sends.extend(send);
            self.files.extend(file);
            if matches!(op, Op::Quarantine { .. }) {
                self.quarantined.push(position);
            }
        }
        outcome.to_owned()
    }

    /// Waits until the feed shows what was committed.
    async fn caught_up(&self) {
        let store = self.store();
        let Some(last) = self.last_event else { return };
        if let Some(no) = store.catalog.feed_position(last).await.unwrap() {
            let mut end = store.catalog.feed_end();
            soon(end.wait_for(|end| *end >= no)).await.unwrap();
        }
    }

    /// The first event that was set aside.
    async fn first_aside(&self) -> Option<DueEvent> {
        let store = self.store();
        let conversations = store.outbox.set_aside_conversations(DESK.to_owned()).await.unwrap();
        let first = conversations.iter().map(|(no, _)| *no).min()?;
        store.outbox.set_aside_of(DESK.to_owned(), first, 1).await.unwrap().into_iter().next()
    }

    async fn outbox(&mut self, n: usize, op: &Op) -> String {
        let (store, desk) = (self.store(), DESK.to_owned());
        self.caught_up().await;
        match op {
            Op::Deliver { through } | Op::SetAside { count: through } => {
                let settled = store.outbox.settled(desk.clone()).await.unwrap();
                let limit = 1 + usize::from(*through % 8);
                let (events, _) = store.outbox.wanted_events(desk.clone(), settled, limit).await.unwrap();
                let Some(last) = events.last() else { return "none".to_owned() };
                let (last, told) = (last.no, format!("{:?}", events.iter().map(event).collect::<Vec<_>>()));
                if matches!(op, Op::SetAside { .. }) {
                    store.outbox.set_aside(desk.clone(), events, 0).await.unwrap();
                }
                store.outbox.settle_through(DESK, last);
                // What is marked goes with the group of the first question, perhaps after it.
                store.outbox.settled(desk.clone()).await.unwrap();
                assert_eq!(store.outbox.settled(desk).await.unwrap(), last);
                told
            }
            Op::Revive => store.outbox.revive(None, None).await.unwrap().to_string(),
            _ => {
                let Some(first) = self.first_aside().await else { return "none".to_owned() };
                let told = event(&first);
                match op {
                    Op::Failed { error } => {
                        store.outbox.attempt_failed(desk, first, at(n), error.clone(), 0).await.unwrap()
                    }
                    Op::GiveUp { error } => store.outbox.dead_letter(desk, first, error.clone(), 0).await.unwrap(),
                    _ => {
                        store.outbox.delivered(DESK, vec![first.no]);
                        store.outbox.settled(desk).await.unwrap();
                    }
                }
                told
            }
        }
    }

    async fn other(&mut self, n: usize, op: &Op) -> String {
        let store = self.store();
        match op {
            Op::Intend { which } => match pick(&self.sends, *which) {
                Some(id) => store.outbox.intend(id, 0).await.unwrap().to_string(),
                None => "none".to_owned(),
            },
            Op::Withdraw { which, error } => match pick(&self.sends, *which) {
                Some(id) => format!("{}", store.outbox.withdraw(id, at(n), error.clone(), 0).await.is_ok()),
                None => "none".to_owned(),
            },
            Op::FileFailed => {
                let due = store.outbox.due_media(at(n), 99).await.unwrap();
                let Some(first) = due.into_iter().min_by_key(|file| (file.interaction_id, file.part)) else {
                    return "none".to_owned();
                };
                let told = format!("{} {} {}", first.interaction_id, first.part, first.attempts);
                store.outbox.media_failed(first, at(n + 3)).await.unwrap();
                told
            }
            Op::Token { id } => {
                let token = TokenRow {
                    id: format!("t{id}"),
                    name: "desk".to_owned(),
                    scopes: vec!["read".to_owned()],
                    hash: [n as u8; 32],
                    created_at: at(n),
                    revoked_at: None,
                };
                store.catalog.add_token(token).await.is_ok().to_string()
            }
            Op::Revoke { id } => store.catalog.revoke_token(format!("t{id}")).await.unwrap().to_string(),
            Op::Prune { age } => {
                self.caught_up().await;
                let before = at(n.saturating_sub(usize::from(*age)));
                let cutoffs = Cutoffs { raw: before, covered: i64::MAX, dedupe: before, events: before };
                while store.retention.prune(cutoffs, 1 + n % 50).await.unwrap() > 0 {}
                String::new()
            }
            _ => {
                drop((store, self.open.take()));
                let open = (self.reopen)();
                open.store.outbox.subscribe(vec![everything(DESK)]).await.unwrap();
                self.open = Some(open);
                String::new()
            }
        }
    }

    pub(super) async fn step(&mut self, n: usize, op: &Op) -> String {
        match op {
            Op::Append { key, head, raw } => self.append(n, *key, head, raw).await,
            Op::Contact { seed, text, event } => self.contact(n, *seed, text, event).await.to_owned(),
            Op::Further { .. } => self.further(n, op).await.to_owned(),
            Op::Clash { seed } => self.clash(n, *seed).await.to_owned(),
            Op::Message { key, right } => self.message(n, *key, *right).await.to_owned(),
            Op::Update { .. } | Op::Quarantine { .. } | Op::Release { .. } | Op::Note { .. } | Op::Send { .. } => {
                self.small(n, op).await
            }
            Op::Sent { .. } | Op::File { .. } | Op::FileFetched => self.small(n, op).await,
            Op::Deliver { .. } | Op::SetAside { .. } | Op::Failed { .. } | Op::GiveUp { .. } => {
                self.outbox(n, op).await
            }
            Op::Revive | Op::Delivered => self.outbox(n, op).await,
            _ => self.other(n, op).await,
        }
    }
}
