//! The suite that every backend must pass, ending in "nothing left behind".

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::Pii;
use crate::base::id::{ConversationId, CustomerId, EventId, SendId};
use crate::model::entry::PlannedSend;
use crate::model::{
    ChannelKind, ConversationState, Direction, EntryBody, EntryKind, EventType, Identifier, ItemKey, Outbound, Recent,
    RecentJson, Role,
};

/// The server of this test process; it ends with the process. Connects to `database`, which is made if it is new.
pub(super) fn server(database: &str) -> crate::base::Secret {
    static SERVER: std::sync::OnceLock<(std::process::Child, String)> = std::sync::OnceLock::new();
    let (_, url) = SERVER.get_or_init(|| start_server(&[]));
    let client = (url.clone(), format!("CREATE DATABASE \"{database}\""));
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_on(&format!("{}/postgres", client.0), &client.1))
    });
    if let Err(error) = made.join().unwrap() {
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::DUPLICATE_DATABASE), "{error}");
    }
    crate::base::Secret::new(format!("{url}/{database}"))
}

/// Starts a server, which ends when its program is dropped; gives what it says: its URL without a database.
pub(super) fn start_server(settings: &[&str]) -> (std::process::Child, String) {
    use std::io::BufRead;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres");
    let mut command = std::process::Command::new(script);
    command.args(settings).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut said, lines) = (String::new(), if settings.first() == Some(&"--tls") { 2 } else { 1 });
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    for _ in 0..lines {
        output.read_line(&mut said).unwrap();
    }
    assert!(said.starts_with("postgres://"), "PostgreSQL does not start; `tests/env` installs what is needed");
    (child, said.trim_end().to_owned())
}

/// Runs statements as somebody else.
pub(super) async fn run_on(url: &str, sql: &str) -> std::result::Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(sql).await
}

/// The root key of this test process.
pub(super) fn sealing() -> seal::Sealing {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    static MADE: std::sync::Once = std::sync::Once::new();
    let path = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().join("root.key");
    MADE.call_once(|| drop(seal::RootKeys::create(&path).unwrap()));
    seal::Sealing::at(path)
}

pub(super) fn on_postgres(database: &str) -> Open {
    let place = postgres::Place::parse(&server(database)).unwrap();
    let metrics = crate::base::telemetry::Metrics::new();
    let opened =
        postgres::open(&place, postgres::Options::default(), &sealing(), &Unwatched::shared(), metrics).unwrap();
    Open { store: opened.store, _guard: Box::new(opened.guard) }
}

/// A store in a database that is named as the folder.
fn postgres(directory: &Path) -> Open {
    on_postgres(&directory.file_name().unwrap().to_string_lossy())
}

/// A store that is open for a test, with whatever keeps it open.
pub(super) struct Open {
    pub(super) store: Store,
    pub(super) _guard: Box<dyn std::any::Any>,
}

pub(super) fn opened(directory: &Path) -> Opened {
    let metrics = crate::base::telemetry::Metrics::new();
    sqlite::open(directory, sqlite::Options::default(), &sealing(), &Unwatched::shared(), metrics).unwrap()
}

pub(super) fn sqlite(directory: &Path) -> Open {
    let opened = opened(directory);
    Open { store: opened.store, _guard: Box::new(opened.guard) }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

pub(super) fn webhook(key: Option<u8>, raw: &'static [u8]) -> NewEntry {
    NewEntry {
        id: EntryId::random(at(0)),
        kind: EntryKind::Webhook,
        channel: "wa".to_owned(),
        at: at(0),
        interactive: false,
        keys: Vec::new(),
        key: key.map(|k| [k; 16]),
        body: EntryBody { head: bytes::Bytes::from_static(b"{}"), raw: bytes::Bytes::from_static(raw) },
    }
}

/// A changeset that opens a story of a new customer with one interaction and one event.
pub(super) fn first_contact(store: &Store, position: i64, seed: u8) -> Changeset {
    let numbers = store.state.numbers();
    let (customer, conversation) = (numbers.customer().unwrap(), numbers.conversation().unwrap());
    let interaction = numbers.interaction().unwrap();
    let mut set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
    let key = IdentifierKey::of(&Identifier::new("tel", format!("+49{seed}")));
    set.asserts.push(Assert::IdentifierFree(key));
    set.identifiers.push((key, customer));
    set.customers.push(CustomerWrite {
        row: CustomerRow {
            no: customer,
            id: CustomerId::from_bytes([seed; 16]),
            version: 1,
            created_at: at(0),
            latest: interaction,
            profile: CustomerProfile::default(),
            recent: vec![RecentJson::of(&brief(seed)).unwrap()],
        },
        new: true,
        profile_changed: true,
    });
    set.conversations.push(ConversationWrite {
        row: ConversationRow {
            no: conversation,
            id: ConversationId::from_bytes([seed; 16]),
            version: 1,
            customer,
            state: ConversationState::Open,
            public: false,
            seq: 1,
            event_seq: 1,
            opened_at: at(0),
            updated_at: at(0),
            latest: interaction,
            queue: Some("general".to_owned()),
            owner: None,
            links: Vec::new(),
        },
        new: true,
    });
    set.threads.push((ThreadKey([seed; 16]), conversation));
    add_interaction(&mut set, interaction, conversation, customer, seed, 1, (0, 0));
    set
}

fn add_interaction(
    set: &mut Changeset,
    no: i64,
    conversation: i64,
    customer: i64,
    seed: u8,
    seq: i64,
    before: (i64, i64),
) {
    let item = ItemKey([seed; 16]);
    set.asserts.push(Assert::ItemFree(item));
    set.interactions.push(InteractionWrite {
        no,
        id: InteractionId::from_bytes([seed; 16]),
        item: Some(item),
        conversation,
        seq,
        before_in_conversation: before.0,
        customer,
        before_of_customer: before.1,
        outbound: false,
        body: format!("{{\"n\":{seed},\"nul\":\"\\u0000\"}}"),
        decision: None,
    });
    set.events.push(EventWrite {
        id: EventId::from_bytes([seed; 16]),
        kind: EventType::InteractionReceived,
        conversation,
        channel: "wa".to_owned(),
        at: at(0),
        body: bytes::Bytes::from(vec![seed, 0, 255]),
    });
}

fn brief(seed: u8) -> Recent {
    Recent {
        interaction_id: InteractionId::from_bytes([seed; 16]),
        conversation_id: ConversationId::from_bytes([1; 16]),
        channel: ChannelKind::Chat,
        direction: Direction::Inbound,
        at: at(0),
        text: Pii::new(format!("text {seed}")),
        author_role: Role::Customer,
    }
}

/// A second interaction in the story of `first_contact(.., seed 1)`.
pub(super) async fn second(store: &Store, position: i64, seed: u8, customer_version: i64) -> Changeset {
    let story = store.state.conversation_by_thread(ThreadKey([1; 16])).await.unwrap().unwrap();
    let customer = store.state.customer(story.customer).await.unwrap().unwrap();
    let mut set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
    set.asserts.push(Assert::Customer(customer.no, customer_version));
    set.asserts.push(Assert::Conversation { no: story.no, customer: customer.no, version: story.version });
    let no = store.state.numbers().interaction().unwrap();
    let before = (story.latest, customer.latest);
    let (conversation_no, customer_no, seq) = (story.no, customer.no, story.seq + 1);
    let mut recent = vec![RecentJson::of(&brief(seed)).unwrap()];
    recent.extend(customer.recent.clone());
    let row = CustomerRow { version: customer.version + 1, latest: no, recent, ..customer };
    set.customers.push(CustomerWrite { row, new: false, profile_changed: false });
    let row = ConversationRow { version: story.version + 1, seq, event_seq: story.event_seq + 1, latest: no, ..story };
    set.conversations.push(ConversationWrite { row, new: false });
    add_interaction(&mut set, no, conversation_no, customer_no, seed, seq, before);
    set
}

/// Waits for something that must not take long.
/// A message to a customer who has written before.
pub(super) fn outbound(id: SendId, text: &str) -> Outbound {
    Outbound {
        id,
        channel: "wa".to_owned(),
        account: "1".to_owned(),
        to: Some(Identifier::new("tel", "+49")),
        thread_id: None,
        reply_to: None,
        public: false,
        text: Some(Pii::new(text.to_owned())),
        parts: Vec::new(),
        mail: None,
    }
}

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), what).await.expect("it is not there in time")
}

pub(super) async fn commit(store: &Store, set: Changeset) -> Committed {
    store.commits.commit(vec![set]).await.unwrap()[0]
}

pub(super) fn everything(helpdesk: &str) -> Subscription {
    Subscription {
        helpdesk: helpdesk.to_owned(),
        types: vec![EventType::InteractionReceived as u8],
        channels: Vec::new(),
    }
}

async fn a_repeat_is_appended_once(store: &Store) -> i64 {
    let first = store.journal.append(webhook(Some(1), b"one")).await.unwrap();
    let again = store.journal.append(webhook(Some(1), b"two")).await.unwrap();
    assert!(!first.repeat && again.repeat);
    assert_eq!((first.position, first.id), (again.position, again.id));
    let (entry, applied) = store.journal.entry(first.id).await.unwrap().unwrap();
    assert_eq!(&entry.body.raw[..], b"one");
    assert!(applied.is_none());
    assert_eq!(store.journal.pending(0, None, 9).await.unwrap().len(), 1);
    assert_eq!(store.journal.pending(0, Some("other".to_owned()), 9).await.unwrap().len(), 0);
    first.position
}

async fn an_entry_is_applied_once(store: &Store, position: i64) {
    assert!(matches!(commit(store, first_contact(store, position, 1)).await, Committed::Done(_)));
    assert_eq!(commit(store, first_contact(store, position, 1)).await, Committed::AlreadyApplied);
    assert_eq!(store.journal.pending_count().await.unwrap(), 0);
    let (_, applied) = store.journal.entry_by_key([1; 16]).await.unwrap().unwrap();
    assert_eq!(applied.unwrap().bundle, "b1");
}

async fn a_conflict_changes_nothing_and_spares_its_batch(store: &Store) {
    let stale = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let good = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let before = store.catalog.counts().await.unwrap();
    let batch = vec![second(store, stale, 2, 99).await, second(store, good, 3, 1).await];
    let outcome = store.commits.commit(batch).await.unwrap();
    assert_eq!(outcome[0], Committed::Conflict);
    assert!(matches!(outcome[1], Committed::Done(_)));
    let after = store.catalog.counts().await.unwrap();
    assert_eq!(after["interaction"], before["interaction"] + 1);
    assert_eq!(after["pending"], 1);
    // A key that nobody asserted may first fail its whole group; tried again, it takes back its own changeset alone.
    let same_identifier = || {
        let mut set = first_contact(store, stale, 4);
        set.identifiers = vec![(IdentifierKey::of(&Identifier::new("tel", "+491")), 7)];
        set.asserts.clear();
        set
    };
    let first = store.commits.commit(vec![same_identifier()]).await;
    assert!(first.is_err() || first.is_ok_and(|outcomes| outcomes == [Committed::Conflict]));
    assert_eq!(commit(store, same_identifier()).await, Committed::Conflict);
    assert_eq!(store.catalog.counts().await.unwrap()["customer"], after["customer"]);
    assert!(matches!(commit(store, second(store, stale, 5, 2).await).await, Committed::Done(_)));
}

async fn chains_lead_back(store: &Store) {
    let story = store.state.conversation_by_thread(ThreadKey([1; 16])).await.unwrap().unwrap();
    let seqs = |part: &Stretch| part.rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    let part = async |before, rows, bytes| {
        store.state.timeline(story.no, before, Most { rows, bytes }).await.map(|part| (seqs(&part), part.more)).unwrap()
    };
    assert_eq!(part(i64::MAX, 9, usize::MAX).await, (vec![3, 2, 1], false));
    assert_eq!(part(3, 1, usize::MAX).await, (vec![2], true));
    assert_eq!(part(1, 9, usize::MAX).await, (vec![], false));
    // It ends with the interaction that reaches the bytes, and nothing is passed over.
    for (before, wanted) in [(i64::MAX, (vec![3], true)), (3, (vec![2], true)), (2, (vec![1], false))] {
        assert_eq!(part(before, 9, 1).await, wanted);
    }
    let customer = store.state.customer(story.customer).await.unwrap().unwrap();
    let (mut seen, mut from) = (Vec::new(), (customer.latest, i64::MAX));
    loop {
        let one = Most { rows: 9, bytes: 1 };
        let part = store.catalog.customer_timeline(from.0, from.1, one).await.unwrap();
        seen.extend(seqs(&part));
        match part.rows.last().filter(|_| part.more) {
            Some(last) => from = (last.no, last.no),
            None => break,
        }
    }
    let whole = Most { rows: 9, bytes: usize::MAX };
    assert_eq!(seen, seqs(&store.catalog.customer_timeline(customer.latest, i64::MAX, whole).await.unwrap()));
    assert_eq!(
        customer.recent.iter().map(|r| r.read().unwrap().text.into_inner()).collect::<Vec<_>>(),
        ["text 5", "text 3", "text 1"]
    );
    let found = store.state.interaction_by_item(ItemKey([3; 16])).await.unwrap().unwrap();
    assert_eq!(found.body, "{\"n\":3,\"nul\":\"\\u0000\"}");
    let open = store.state.open_conversations(customer.no, customer.version, 5).await.unwrap();
    assert_eq!(open.len(), 1);
}

/// What decisions are shown, from memory or not, is what is stored.
async fn decisions_see_what_is_stored(store: &Store) {
    let key = IdentifierKey::of(&Identifier::new("tel", "+491"));
    for _ in 0..2 {
        let view = store.snapshots.snapshot().unwrap();
        let (_, no) = view.holders(&[key]).await.unwrap().remove(0);
        let seen = view.customer(no).await.unwrap().unwrap();
        assert!(store.state.customer(seen.no).await.unwrap().is_some_and(|stored| stored == seen));
        let story = view.conversation_by_thread(ThreadKey([1; 16])).await.unwrap().unwrap();
        assert!(store.state.conversation(story.no).await.unwrap().is_some_and(|stored| stored == story));
        let open = view.open_conversations(seen.no, seen.version, 5).await.unwrap();
        assert!(open == store.state.open_conversations(seen.no, seen.version, 5).await.unwrap());
    }
}

/// What a message is known to be is asserted, whether something is known or nothing.
async fn a_message_that_changed_is_a_conflict(store: &Store) {
    let key = MessageKey([9; 16]);
    let deleted = |text: &str| MessageState {
        deleted: Some((at(0), InteractionId::from_bytes([text.len() as u8; 16]))),
        ..MessageState::default()
    };
    let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let set = |known: Option<MessageState>, state| Changeset {
        position,
        bundle: "b1".to_owned(),
        asserts: vec![Assert::Message(key, known.as_ref().map(MessageState::mark))],
        messages: vec![MessageStateWrite { key, state }],
        ..Changeset::default()
    };
    assert_eq!(commit(store, set(Some(deleted("a")), deleted("b"))).await, Committed::Conflict);
    assert!(matches!(commit(store, set(None, deleted("a"))).await, Committed::Done(_)));
    let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let again = |known| Changeset { position, ..set(known, deleted("bb")) };
    assert_eq!(commit(store, again(None)).await, Committed::Conflict);
    assert_eq!(commit(store, again(Some(deleted("bb")))).await, Committed::Conflict);
    assert!(matches!(commit(store, again(Some(deleted("a")))).await, Committed::Done(_)));
}

async fn events_are_due_in_order_until_they_are_settled(store: &Store) {
    let desk = || "desk".to_owned();
    assert_eq!(store.outbox.settled(desk()).await.unwrap(), 0);
    // What is committed comes into the feed when no transaction before it runs any more.
    let mut end = store.catalog.feed_end();
    soon(async {
        while store.outbox.wanted_events(desk(), 0, 9).await.unwrap().0.len() < 3 {
            tokio::task::yield_now().await;
        }
        let last = store.catalog.feed(0, 9).await.unwrap()[2].no;
        end.wait_for(|end| *end == last).await.unwrap();
    })
    .await;
    let (due, read) = store.outbox.wanted_events(desk(), 0, 9).await.unwrap();
    assert_eq!(due.iter().map(|e| e.previous).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((&due[0].body[..], read), (&[1, 0, 255][..], due[2].no));
    assert!(due.windows(2).all(|pair| pair[0].no < pair[1].no));
    assert_eq!(store.outbox.due_count().await.unwrap(), 3);
    store.outbox.attempt_failed(desk(), due[0].clone(), at(5), "answered 500".to_owned(), 0).await.unwrap();
    store.outbox.set_aside(desk(), due[1..].to_vec(), 0).await.unwrap();
    store.outbox.settle_through("desk", due[2].no);
    store.outbox.dead_letter(desk(), due[1].clone(), "answered 500".to_owned(), 0).await.unwrap();
    assert_eq!(store.outbox.settled(desk()).await.unwrap(), due[2].no);
    let conversation = due[0].conversation;
    assert_eq!(store.outbox.set_aside_conversations(desk()).await.unwrap(), [(conversation, at(5))]);
    let left = store.outbox.set_aside_of(desk(), conversation, 9).await.unwrap();
    assert_eq!(left.iter().map(|e| (e.no, e.attempts)).collect::<Vec<_>>(), [(due[0].no, 1), (due[2].no, 0)]);
    assert_eq!(store.catalog.dead_letters(None, i64::MAX, 9).await.unwrap().len(), 1);
    assert_eq!(store.outbox.revive(Some("other".to_owned()), None).await.unwrap(), 0);
    assert_eq!(store.outbox.revive(None, Some(due[1].id)).await.unwrap(), 1);
    assert_eq!(store.outbox.due_count().await.unwrap(), 3);
    let feed = store.catalog.feed(0, 9).await.unwrap();
    assert_eq!(feed.len(), 3);
    assert_eq!(*store.catalog.feed_end().borrow(), feed[2].no);
    assert_eq!(store.catalog.feed_position(due[2].id).await.unwrap(), Some(due[2].no));
    assert!(store.catalog.all_events(feed[0].no, 9).await.unwrap() == feed[1..]);
    assert!(store.catalog.event(due[1].id).await.unwrap().as_ref() == Some(&feed[1]));
    assert!(store.catalog.event(EventId::from_bytes([0xee; 16])).await.unwrap().is_none());
    store.outbox.delivered("desk", due.iter().map(|e| e.no).collect());
    store.outbox.settled(desk()).await.unwrap();
    assert_eq!(store.outbox.due_count().await.unwrap(), 0);
    // A help desk that comes later begins at the end.
    assert_eq!(store.outbox.settled("late".to_owned()).await.unwrap(), due[2].no);
}

async fn a_send_is_intended_once(store: &Store) {
    let id = SendId::from_bytes([9; 16]);
    let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let mut set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
    let message = outbound(id, "hello");
    let interaction = InteractionId::from_bytes([3; 16]);
    set.sends.push(SendWrite { planned: PlannedSend { message, interaction }, conversation: 1, at: at(0) });
    assert!(matches!(commit(store, set).await, Committed::Done(_)));
    assert_eq!(store.outbox.due_sends(at(-1), 9).await.unwrap().len(), 0);
    assert_eq!(store.outbox.due_sends(at(0), 9).await.unwrap().len(), 1);
    assert!(store.outbox.intend(id, 0).await.unwrap());
    assert!(!store.outbox.intend(id, 0).await.unwrap());
    assert_eq!(store.outbox.unresolved_sends().await.unwrap().len(), 1);
    store.outbox.withdraw(id, at(50), "refused".to_owned(), 0).await.unwrap();
    assert_eq!(store.outbox.due_sends(at(49), 9).await.unwrap().len(), 0);
    assert!(store.outbox.intend(id, 0).await.unwrap());
    let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let done = Changeset { position, sends_done: vec![id], bundle: "b2".to_owned(), ..Changeset::default() };
    assert!(matches!(commit(store, done).await, Committed::Done(_)));
    assert_eq!(store.outbox.unresolved_sends().await.unwrap().len(), 0);
    assert_eq!(store.state.send(id).await.unwrap().unwrap().state, "done");
}

async fn files_are_fetched_and_items_set_aside(store: &Store) {
    let position = store.journal.append(webhook(None, b"odd")).await.unwrap().position;
    let mut set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
    set.quarantined.push("not JSON".to_owned());
    set.sides.push(([1; 16], at(7)));
    set.media.push(MediaWrite {
        interaction: 1,
        interaction_id: InteractionId::from_bytes([1; 16]),
        part: 2,
        channel: "wa".to_owned(),
        at: at(0),
    });
    set.messages.push(MessageStateWrite { key: MessageKey([1; 16]), state: MessageState::default() });
    assert!(matches!(commit(store, set).await, Committed::Done(_)));
    assert_eq!(store.catalog.quarantine(i64::MAX, 9).await.unwrap()[0].reason, "not JSON");
    assert_eq!(store.state.side([1; 16]).await.unwrap().unwrap().at, at(7));
    assert!(store.state.message_state(MessageKey([1; 16])).await.unwrap().is_some());
    let due = store.outbox.due_media(at(0), 9).await.unwrap();
    assert_eq!((due.len(), due[0].part), (1, 2));
    store.outbox.media_failed(due[0].clone(), at(90)).await.unwrap();
    assert_eq!(store.outbox.due_media(at(89), 9).await.unwrap().len(), 0);
    let next = store.journal.append(webhook(None, b"")).await.unwrap().position;
    let done = Changeset {
        position: next,
        media_done: vec![(1, 2)],
        released: vec![position],
        bundle: "b1".to_owned(),
        ..Changeset::default()
    };
    assert!(matches!(commit(store, done).await, Committed::Done(_)));
}

async fn content_that_may_still_be_named_is_spared(store: &Store) {
    use super::blob::{BlobName, Object};
    let (name, object) = (BlobName([9; 32]), Object([9; 16]));
    store.blobs.announce(object, at(0)).await.unwrap();
    let row = BlobRow { name, object, customer: Some(1), size: 1, made_at: at(0) };
    assert_eq!(store.blobs.claim(row).await.unwrap(), Claim::Ours);
    let told = NewEntry { kind: EntryKind::Media, at: at(5), ..webhook(None, b"") };
    let position = store.journal.append(told).await.unwrap().position;
    assert!(store.blobs.condemn(at(90_000_000), 9).await.unwrap().is_empty());
    let used = BlobUse { interaction: 1, part: 0, name };
    let blobs = vec![used, BlobUse { part: 1, ..used }, used];
    let set = Changeset { position, bundle: "b1".to_owned(), blobs, ..Changeset::default() };
    assert!(matches!(commit(store, set).await, Committed::Done(_)));
    assert!(store.blobs.condemn(at(90_000_000), 9).await.unwrap().is_empty());
    let all = store.blobs.interactions(0, 100).await.unwrap();
    assert!(!all.is_empty() && all.windows(2).all(|pair| pair[0].no < pair[1].no));
    let after = store.blobs.interactions(all[0].no, 1).await.unwrap();
    assert!(after.first() == all.get(1) && after.len() == all.len().saturating_sub(1).min(1));
    assert_eq!(store.catalog.counts().await.unwrap()["blob_use"], 2);
    assert_eq!(store.blobs.drop_blob(name).await.unwrap(), Some(object));
    store.blobs.forget(vec![object]).await.unwrap();
}

async fn large_entries_are_read_a_few_at_a_time(store: &Store) {
    let large = || NewEntry {
        body: EntryBody { head: bytes::Bytes::from_static(b"{}"), raw: vec![7; READ_BYTES * 2 / 3].into() },
        ..webhook(None, b"")
    };
    let mut positions = Vec::new();
    for _ in 0..3 {
        positions.push(store.journal.append(large()).await.unwrap().position);
    }
    let mut left = [&[i64::MIN], &positions[..], &[i64::MAX]].concat();
    let mut pages = Vec::new();
    while !left.is_empty() {
        let (entries, looked) = store.journal.pending_at(left.clone()).await.unwrap();
        left.drain(..looked);
        pages.push(entries.len());
        assert!(entries.iter().all(|entry| entry.body.weight() > READ_BYTES / 2));
    }
    assert_eq!(pages, [2, 1]);
    for position in positions {
        let set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
        assert!(matches!(commit(store, set).await, Committed::Done(_)));
    }
}

/// Mails move their folder's cursor with them, or neither moves.
async fn a_folder_is_read_on_by_one(store: &Store) {
    let mail = |key: u8| NewEntry { kind: EntryKind::Mail, channel: "box".to_owned(), ..webhook(Some(key), b"mail") };
    let anew = std::cell::Cell::new(false);
    let read = |from: Option<(i64, u32)>, to: (i64, u32), entries: Vec<NewEntry>| {
        let cursor = |(validity, uid)| Cursor { validity, uid };
        let (channel, folder) = ("box".to_owned(), "INBOX".to_owned());
        store.mailboxes.append(MailBatch {
            channel,
            folder,
            entries,
            from: from.map(cursor),
            to: cursor(to),
            at: at(1),
            since: at(5),
            anew: anew.get(),
        })
    };
    let stands = async || {
        let folders = store.mailboxes.folders("box".to_owned()).await.unwrap();
        assert!(folders.iter().all(|row| row.since == at(5) && row.anew == anew.get()));
        folders.iter().map(|row| (row.cursor.validity, row.cursor.uid, row.acted)).collect::<Vec<_>>()
    };
    let journaled = async || store.catalog.counts().await.unwrap()["entry"];
    let before = journaled().await;
    assert_eq!(stands().await, []);
    let told = store.journal.tail();
    told.catch_up();
    let first = read(None, (7, 12), vec![mail(200), mail(201)]).await.unwrap();
    assert_eq!(first.iter().map(|appended| appended.repeat).collect::<Vec<_>>(), [false, false]);
    assert!(first[0].position < first[1].position);
    let handed: Vec<i64> = told.take(100).0.iter().map(|entry| entry.position).collect();
    assert!(first.iter().all(|appended| handed.contains(&appended.position)), "{handed:?}");
    // Whoever read the same at the same time, or comes too late, adds nothing.
    for stale in [None, Some((7, 11)), Some((6, 12))] {
        let error = read(stale, (7, 13), vec![mail(202)]).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict, "{stale:?}");
    }
    assert_eq!((stands().await, journaled().await), (vec![(7, 12, 0)], before + 2));
    // A mail that is there already moves the cursor all the same, and so does none.
    let again = read(Some((7, 12)), (7, 14), vec![mail(200), mail(202)]).await.unwrap();
    assert_eq!((again[0].repeat, again[0].id, again[1].repeat), (true, first[0].id, false));
    assert!(read(Some((7, 14)), (7, 20), Vec::new()).await.unwrap().is_empty());
    // What is done with them afterwards goes up to the cursor and never back, and begins anew with new UIDs.
    let acted = |validity, uid| store.mailboxes.acted("box".to_owned(), "INBOX".to_owned(), Cursor { validity, uid });
    for (validity, uid, then) in [(7, 15, 15), (7, 14, 15), (7, 21, 15), (6, 20, 15), (7, 20, 20)] {
        acted(validity, uid).await.unwrap();
        assert_eq!(stands().await, [(7, 20, then)]);
    }
    assert!(read(Some((7, 20)), (9, 1), vec![mail(201)]).await.unwrap()[0].repeat);
    assert_eq!((stands().await, journaled().await), (vec![(9, 1, 0)], before + 3));
    // Whether UIDs are new goes with the cursor, to and fro, and also where that stands still.
    for (now, to) in [(true, (10, 0)), (true, (10, 4)), (false, (10, 4)), (true, (11, 4)), (false, (11, 5))] {
        let (validity, uid, _) = stands().await[0];
        anew.set(now);
        read(Some((validity, uid)), to, Vec::new()).await.unwrap();
        assert_eq!(stands().await, [(to.0, to.1, 0)]);
    }
    assert!(store.mailboxes.folders("other".to_owned()).await.unwrap().is_empty());
    let grant = async || store.mailboxes.grant("box".to_owned()).await.unwrap().map(|kept| kept.to_vec());
    assert_eq!(grant().await, None);
    for kept in [b"first".to_vec(), b"second\0".to_vec()] {
        store.mailboxes.keep_grant("box".to_owned(), zeroize::Zeroizing::new(kept.clone())).await.unwrap();
        assert_eq!(grant().await, Some(kept));
    }
    for position in store.journal.pending(0, Some("box".to_owned()), 9).await.unwrap().iter().map(|e| e.position) {
        let set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
        assert!(matches!(commit(store, set).await, Committed::Done(_)));
    }
}

async fn tokens_come_and_go(store: &Store) {
    let token = TokenRow {
        id: "t1".to_owned(),
        name: "desk".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        hash: [7; 32],
        created_at: at(0),
        revoked_at: None,
    };
    store.catalog.add_token(token.clone()).await.unwrap();
    assert!(store.catalog.tokens().await.unwrap() == [token]);
    assert!(store.catalog.revoke_token("t1".to_owned()).await.unwrap());
    assert!(!store.catalog.revoke_token("t1".to_owned()).await.unwrap());
}

async fn bundles_are_kept_as_long_as_they_are_named(store: &Store) {
    let bundles = &store.bundles;
    let mut changed = bundles.changed();
    let new =
        |id: u8, hash: &str| NewPublication { id: [id; 16], hash: hash.to_owned(), at: at(7), by: "me\0".to_owned() };
    for hash in ["a", "b"] {
        bundles.put(hash.to_owned(), bytes::Bytes::from_static(b"\0one")).await.unwrap();
    }
    // The same content under the same hash once more, and a publication tried again.
    bundles.put("a".to_owned(), bytes::Bytes::from_static(b"\0one")).await.unwrap();
    let first = bundles.publish(new(1, "a")).await.unwrap();
    assert_eq!((first.hash.as_str(), first.at, first.engine.as_str()), ("a", at(7), engine()));
    soon(changed.changed()).await.unwrap();
    assert_eq!(bundles.publish(new(2, "a")).await.unwrap(), first, "what rules is not published again");
    bundles.put("c".to_owned(), bytes::Bytes::from_static(b"two")).await.unwrap();
    let second = bundles.publish(new(3, "c")).await.unwrap();
    assert!(second.version > first.version);
    assert_eq!(bundles.current().await.unwrap(), Some(second.clone()));
    assert_eq!(bundles.publications(5).await.unwrap(), [second, first]);
    assert_eq!(bundles.get("a".to_owned()).await.unwrap().as_deref(), Some(&b"\0one"[..]));
    assert_eq!(bundles.get("z".to_owned()).await.unwrap(), None);
    bundles.put("d".to_owned(), bytes::Bytes::from_static(b"three")).await.unwrap();
    // An applied record names one by its hash alone; its content comes later.
    let position = store.journal.append(webhook(None, b"x")).await.unwrap().position;
    let set = Changeset { position, bundle: "e".to_owned(), ..Changeset::default() };
    assert!(matches!(commit(store, set).await, Committed::Done(_)));
    assert_eq!(bundles.get("e".to_owned()).await.unwrap(), None);
    bundles.put("e".to_owned(), bytes::Bytes::from_static(b"four")).await.unwrap();
    assert!(bundles.get("e".to_owned()).await.unwrap().is_some());
    bundles.put("f".to_owned(), bytes::Bytes::from_static(b"five")).await.unwrap();
    assert_eq!(bundles.prune().await.unwrap(), 2, "neither b nor d is named");
    let left: Vec<(String, bool)> = bundles.all().await.unwrap().into_iter().map(|b| (b.hash, b.applied)).collect();
    for (hash, applied) in [("a", false), ("c", false), ("e", true), ("f", false)] {
        assert!(left.contains(&(hash.to_owned(), applied)), "{hash}: {left:?}");
    }
    let (last, _) = store.history.ends().await.unwrap();
    let past = store.history.applied(last - 1, 5).await.unwrap();
    assert_eq!(past.len(), 1);
    assert_eq!((past[0].entry.position, past[0].applied.bundle.as_str()), (position, "e"));
}

async fn what_is_old_goes_in_batches(store: &Store) {
    let newest = webhook(None, b"unwanted");
    let unwanted = newest.id;
    let position = store.journal.append(newest).await.unwrap().position;
    assert_eq!(store.retention.empty(vec![unwanted]).await.unwrap(), 0, "it is not applied yet");
    assert!(matches!(commit(store, first_contact(store, position, 77)).await, Committed::Done(_)));
    assert_eq!(store.retention.empty(vec![unwanted]).await.unwrap(), 1);
    assert_eq!(store.retention.empty(vec![unwanted]).await.unwrap(), 0, "it is a stub already");
    assert!(store.journal.entry(unwanted).await.unwrap().unwrap().0.body.raw.is_empty());
    // What no checkpoint covers keeps its original.
    let originals = async || {
        let past = store.history.entries(0, 99).await.unwrap();
        past.iter().filter(|past| !past.entry.body.head.is_empty()).count()
    };
    let (whole, early) = (originals().await, Cutoffs { raw: at(1), covered: 0, dedupe: at(0), events: at(0) });
    while store.retention.prune(early, 2).await.unwrap() > 0 {}
    assert_eq!((originals().await, store.retention.waits_for_checkpoint(at(1), 0).await.unwrap()), (whole, true));
    assert!(!store.retention.waits_for_checkpoint(at(1), i64::MAX).await.unwrap());
    let cutoffs = Cutoffs { raw: at(1), covered: i64::MAX, dedupe: at(1), events: at(1) };
    while store.retention.prune(cutoffs, 2).await.unwrap() > 0 {}
    let (entry, _) =
        store.journal.entry(store.journal.append(webhook(Some(8), b"new")).await.unwrap().id).await.unwrap().unwrap();
    assert_eq!(&entry.body.raw[..], b"new");
    assert!(store.journal.entry_by_key([1; 16]).await.unwrap().is_none());
    assert!(
        store.journal.entry_by_key([200; 16]).await.unwrap().is_some(),
        "a mail is known as long as it may come again"
    );
    assert_eq!(store.catalog.feed(0, 9).await.unwrap().len(), 1);
    let left = Changeset { position: entry.position, bundle: "b1".to_owned(), ..Changeset::default() };
    assert!(matches!(commit(store, left).await, Committed::Done(_)));
}

async fn nothing_is_left_behind(store: &Store) {
    let counts = store.catalog.counts().await.unwrap();
    for table in ["pending", "due", "dead", "media", "quarantine", "blob", "blob_use", "loose"] {
        assert_eq!(counts[table], 0, "{table}");
    }
    assert_eq!(counts["entry"], counts["applied"]);
}

async fn suite(open: fn(&Path) -> Open) {
    let directory = tempfile::Builder::new().prefix("segue").rand_bytes(12).tempdir().unwrap();
    let opened = open(directory.path());
    opened.store.outbox.subscribe(vec![everything("desk")]).await.unwrap();
    let position = a_repeat_is_appended_once(&opened.store).await;
    drop(opened);
    // What was reported is there after a restart.
    let Open { store, _guard } = open(directory.path());
    store.outbox.subscribe(vec![everything("desk")]).await.unwrap();
    assert_eq!(store.journal.pending(0, None, 9).await.unwrap()[0].position, position);
    an_entry_is_applied_once(&store, position).await;
    a_conflict_changes_nothing_and_spares_its_batch(&store).await;
    chains_lead_back(&store).await;
    decisions_see_what_is_stored(&store).await;
    a_message_that_changed_is_a_conflict(&store).await;
    events_are_due_in_order_until_they_are_settled(&store).await;
    a_send_is_intended_once(&store).await;
    files_are_fetched_and_items_set_aside(&store).await;
    super::blob::tests::rows_lead_to_objects(&store.blobs).await;
    content_that_may_still_be_named_is_spared(&store).await;
    a_folder_is_read_on_by_one(&store).await;
    large_entries_are_read_a_few_at_a_time(&store).await;
    tokens_come_and_go(&store).await;
    bundles_are_kept_as_long_as_they_are_named(&store).await;
    what_is_old_goes_in_batches(&store).await;
    nothing_is_left_behind(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_the_suite() {
    suite(sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_suite() {
    suite(postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let _held = sqlite(directory.path());
    let metrics = crate::base::telemetry::Metrics::new();
    let second = sqlite::open(directory.path(), sqlite::Options::default(), &sealing(), &Unwatched::shared(), metrics);
    assert_eq!(second.err().unwrap().kind(), crate::base::Kind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_appends_at_once_are_all_there_in_order() {
    let directory = tempfile::tempdir().unwrap();
    many_appends(sqlite(directory.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_appends_at_once_are_all_there_in_order_on_postgres() {
    many_appends(on_postgres("many_appends")).await;
}

async fn many_appends(Open { store, _guard }: Open) {
    let tail = store.journal.tail();
    tail.catch_up();
    let journal: Arc<dyn Journal> = store.journal.clone();
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(webhook(None, b"x")).await.unwrap().position })
        })
        .collect();
    let mut positions = Vec::new();
    for task in tasks {
        positions.push(task.await.unwrap());
    }
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 500);
    let (seen, behind) = tail.take(1000);
    assert!(!behind);
    assert_eq!(seen.iter().map(|e| e.position).collect::<Vec<_>>(), positions);
}

/// Strings that must not be found in any file.
fn canaries_in(directory: &Path, canaries: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(directory).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        for canary in canaries {
            if memchr::memmem::find(&bytes, canary.as_bytes()).is_some() {
                found.push(format!("{canary} in {}", file.file_name().display()));
            }
        }
    }
    found
}

/// What a gateway of schema 1 left: one customer with a story, an entry, a message, a quarantined one.
const UNSEALED: &str = r#"
INSERT INTO entry (position, id, kind, channel, at, interactive, delivery, head, raw) VALUES
    (1, x'01010101010101010101010101010101', 1, 'wa', 5, 0, x'07070707070707070707070707070707', CAST('{"m":"canary-head"}' AS BLOB), CAST('canary-raw' AS BLOB)),
    (2, x'02020202020202020202020202020202', 1, 'wa', 6, 0, NULL, x'', NULL);
INSERT INTO fresh (key, no) VALUES (x'6407070707070707070707070707070707', 1);
INSERT INTO fresh (key, no) VALUES (x'690b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', 1);
INSERT INTO bundle (no, hash) VALUES (1, 'b');
INSERT INTO applied (apply_no, position, bundle, engine, facts) VALUES (1, 1, 1, 'e', CAST('"canary-facts"' AS BLOB));
INSERT INTO customer (no, id, version, created_at, latest, profile, recent)
    VALUES (1, x'03030303030303030303030303030303', 4, 5, 1, CAST('{"n":["canary-name"]}' AS BLOB), CAST('[]' AS BLOB));
INSERT INTO identifier VALUES (x'09090909090909090909090909090909', 1);
INSERT INTO conversation (no, id, version, customer, state, public, seq, event_seq, opened_at, updated_at, latest, latest_event,
                          latest_kind, latest_channel, queue, owner, links)
    VALUES (1, x'04040404040404040404040404040404', 2, 1, 0, 0, 1, 1, 5, 5, 1, 1, 1, 'wa', 'q', 'canary-agent', NULL);
INSERT INTO thread VALUES (x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 1);
INSERT INTO interaction VALUES (1, x'05050505050505050505050505050505', x'0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', 1, 1, 0, 1, 0, 0,
                                CAST('canary-body' AS BLOB), CAST('canary-decision' AS BLOB));
INSERT INTO message VALUES (x'0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c', CAST('{}' AS BLOB));
INSERT INTO event VALUES (1, x'06060606060606060606060606060606', 1, 1, 1, 0, 'wa', 5, CAST('canary-event' AS BLOB));
INSERT INTO dead VALUES (1, 'crm', 1, 0, 3, 'canary-error', 5);
INSERT INTO quarantine VALUES (1, 1, 'canary-reason', 5);
"#;
const CANARIES: [&str; 10] = [
    "canary-head",
    "canary-raw",
    "canary-facts",
    "canary-name",
    "canary-agent",
    "canary-body",
    "canary-decision",
    "canary-event",
    "canary-error",
    "canary-reason",
];

/// What [`UNSEALED`] is once it is sealed.
async fn is_all_there(store: &Store) {
    let (entry, applied) = store.journal.entry_by_key([7; 16]).await.unwrap().unwrap();
    assert_eq!(
        (&entry.body.raw[..], applied.unwrap().facts.unwrap().as_str()),
        (&b"canary-raw"[..], "\"canary-facts\"")
    );
    let stub = store.journal.entry(EntryId::from_bytes([2; 16])).await.unwrap().unwrap().0;
    assert!(stub.body.head.is_empty());
    let key = IdentifierKey([9; 16]);
    assert_eq!(store.state.holders(&[key]).await.unwrap(), [(0, 1)]);
    let customer = store.state.customer(1).await.unwrap().unwrap();
    assert_eq!(customer.profile.names[0].expose(), "canary-name");
    let story = store.state.conversation_by_thread(ThreadKey([10; 16])).await.unwrap().unwrap();
    assert_eq!(story.owner.as_deref(), Some("canary-agent"));
    let said = store.state.interaction_by_item(ItemKey([11; 16])).await.unwrap().unwrap();
    assert_eq!((said.body.as_str(), said.decision.as_deref()), ("canary-body", Some("canary-decision")));
    assert!(store.state.message_state(MessageKey([12; 16])).await.unwrap().is_some());
    assert_eq!(store.catalog.feed(0, 9).await.unwrap()[0].body, "canary-event");
    assert_eq!(store.catalog.dead_letters(None, i64::MAX, 9).await.unwrap()[0].error, "canary-error");
    assert_eq!(store.catalog.quarantine(i64::MAX, 9).await.unwrap()[0].reason, "canary-reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_sealing_is_sealed_and_nothing_of_it_is_left_readable() {
    let directory = tempfile::tempdir().unwrap();
    let before = rusqlite::Connection::open(directory.path().join("segue.db")).unwrap();
    before.execute_batch(include_str!("sqlite/schema/1.sql")).unwrap();
    before.execute_batch(UNSEALED).unwrap();
    before.pragma_update(None, "user_version", 1).unwrap();
    drop(before);
    assert_eq!(canaries_in(directory.path(), &CANARIES).len(), CANARIES.len());
    let Open { store, _guard } = sqlite(directory.path());
    is_all_there(&store).await;
    drop((store, _guard));
    assert_eq!(canaries_in(directory.path(), &CANARIES), Vec::<String>::new());
    is_all_there(&sqlite(directory.path()).store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_sealing_is_sealed_on_postgres() {
    let url = server("unsealed");
    let blob = |text: &str| {
        let text = text.lines().filter(|line| !line.contains("INTO fresh")).collect::<Vec<_>>().join("\n");
        let text = text.replace(
            "latest_event,\n                          latest_kind, latest_channel, queue",
            "latest_event, queue",
        );
        let text = text.replace("1, 1, 1, 'wa', 'q', 'canary-agent'", "1, 1, 'q', 'canary-agent'");
        let text =
            text.replace("INSERT INTO bundle (no, hash)", "INSERT INTO bundle (no, hash) OVERRIDING SYSTEM VALUE");
        let text = text.replace("engine, facts) VALUES (1,", "engine, facts) OVERRIDING SYSTEM VALUE VALUES (1,");
        let text =
            text.replace("INSERT INTO quarantine VALUES", "INSERT INTO quarantine OVERRIDING SYSTEM VALUE VALUES");
        text.replace("CAST('", "convert_to('").replace("' AS BLOB)", "', 'UTF8')").replace("x'", "'\\x")
    };
    run_on(url.expose(), include_str!("postgres/schema/1.sql")).await.unwrap();
    run_on(url.expose(), &blob(UNSEALED)).await.unwrap();
    is_all_there(&on_postgres("unsealed").store).await;
    is_all_there(&on_postgres("unsealed").store).await;
}
