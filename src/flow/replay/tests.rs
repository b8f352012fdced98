//! Whatever is entered in whatever order, and however many workers apply it: the replayed state is the live one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::connector::{Connector, Folder};
use crate::flow::work::Workers;
use crate::flow::{ChannelSetup, outcome};
use crate::model::entry::{Command, ReplyMessage, RequestHead, SendOutcome, SendResult};
use crate::model::{EntryBody, EntryKind};
use crate::script::{Budget, Bundle, PolicyFacts, PolicyFiles};
use crate::store::archive::{Opener, Place};
use crate::store::seal::Sealing;
use crate::store::{Opened, Unwatched, sqlite};

/// Messages, echoes, edits, deletions and receipts of several accounts.
const MANIFEST: &str = r#"
[connector]
name = "probe"
version = "7"
summary = "A channel for trials"
docs = "https://probe.example/docs"
transport = "webhook"
channel = "chat"

[[verify]]
kind = "none"

[ack]
budget_ms = 5000

[capabilities]
text_limit = 100
text_unit = "characters"

[payload]
each = ["batch in body.batches"]

[[item]]
each = "msg in batch.messages"

[[item.case]]
when = "msg.poison"
outcome = "quarantined"
reason = "poison"

[[item.case]]
when = "msg.status"
outcome = "receipt"
account = "'inbox'"
provider_id = "msg.id"
state = "msg.status"

[[item.case]]
when = "msg.edits"
kind = "edit"
account = "'inbox'"
provider_id = "msg.id"
reply_to = "msg.edits"
text = "msg.text"
author = { name = "msg.name", identifiers = [{ type = "tel", value = "msg.from", trust = "verified" }] }

[[item.case]]
account = "'inbox'"
provider_id = "msg.id"
reply_to = "msg.answers"
text = "msg.text"
author = { name = "msg.name", identifiers = [{ type = "tel", value = "msg.from", trust = "verified" }] }

[[send]]
carries = "text"
url = "https://probe.example/send"
json = { to = "{out.to}", text = "{out.text}" }

[response]
ids = ["body.id"]
"#;

/// A policy that answers, raises errors and passes its budget.
const POLICY: &str = r#"
policy { name = "trial", version = 1, owner = "tests@example.org" }
rule("routes", { on = "interaction.received" }, function(e, d)
  if e.ix.text == "loop" then while true do end end
  if e.ix.text == "error" then error("on purpose") end
  if e.ix.text == "hello" then d:reply("welcome", {}, { once_per = "1h" }) end
  d:queue(e.ix.text == "vip" and "vip" or "general")
end)
rule("opened", { on = "conversation.opened" }, function(e, d) d:tag("opened") end)
"#;

fn setup(policy: &str) -> Setup {
    let files = BTreeMap::from([("connector.toml".to_owned(), Cow::Borrowed(MANIFEST.as_bytes()))]);
    let folder = Arc::new(Folder { name: "probe".to_owned(), files });
    let connector = Arc::new(Connector::load(folder, None).unwrap_or_else(|wrong| panic!("{wrong:?}")));
    let channel = |name: &str| {
        let account = connector.account(name, &serde_json::Map::new(), None).unwrap();
        (name.to_owned(), ChannelSetup { connector: connector.clone(), account, queue: None, paused: false })
    };
    let facts = PolicyFacts {
        queues: vec!["general".to_owned(), "vip".to_owned()],
        default_queue: "general".to_owned(),
        templates: vec!["welcome".to_owned()],
        ..PolicyFacts::default()
    };
    let files = PolicyFiles::from_memory([("a.lua".to_owned(), policy.as_bytes().to_vec())]);
    let budget = Budget { interrupts: 20_000, ..Budget::default() };
    Setup {
        channels: ["one", "two"].map(channel).into_iter().collect(),
        policy: Bundle::build(files, facts, budget).unwrap_or_else(|wrong| panic!("{}", wrong[0])),
        default_queue: "general".to_owned(),
        templates: HashMap::from([("welcome".to_owned(), "hi".to_owned())]),
        source: "segue".to_owned(),
        hash: "c0ffee".repeat(10),
    }
}

/// From the first entry on.
const WHOLE: Span = Span { after: 0, events: Timestamp::from_millis(0) };

fn sealing(folder: &std::path::Path) -> Sealing {
    Sealing::at(folder.with_extension("key"))
}

fn store(folder: &std::path::Path) -> Opened {
    sqlite::open(folder, sqlite::Options::default(), &sealing(folder), &Unwatched::shared(), Metrics::new()).unwrap()
}

fn context(store: &Store) -> Arc<Context> {
    Arc::new(Context {
        store: store.clone(),
        setup: ArcSwap::from_pointee(setup(POLICY)),
        clock: Clock::system(),
        metrics: Metrics::new(),
        waiting: Waiting::default(),
        ahead: Ahead::default(),
        mailboxes: Default::default(),
        sending: Default::default(),
        blobs: None,
        held: AtomicBool::new(false),
    })
}

/// Something that enters.
#[derive(Debug, Clone)]
enum Step {
    Messages(&'static str, Vec<Value>),
    Retry(usize),
    Note(usize),
    Reply(usize),
    Resolve(usize),
    Outcomes,
}

fn message() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["hello", "vip", "error", "loop", "\u{0}x"]);
    (0..12u8, 0..4u8, text, 0..8u8).prop_map(|(id, from, text, kind)| {
        let mut message = json!({ "id": format!("m{id}"), "from": format!("+1555000{from}"), "name": format!("N{id}"), "text": text });
        match kind {
            0 => message["edits"] = json!(format!("m{}", (id + 1) % 12)),
            1 => message["answers"] = json!(format!("m{}", (id + 5) % 12)),
            2 => message["status"] = json!("delivered"),
            3 => message["poison"] = json!(true),
            _ => {}
        }
        message
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::sample::select(vec!["one", "two"]), prop::collection::vec(message(), 1..4))
            .prop_map(|(channel, messages)| Step::Messages(channel, messages)),
        1 => (0..8usize).prop_map(Step::Retry),
        1 => (0..8usize).prop_map(Step::Note),
        1 => (0..8usize).prop_map(Step::Reply),
        1 => (0..8usize).prop_map(Step::Resolve),
        1 => Just(Step::Outcomes),
    ]
}

struct Live {
    context: Arc<Context>,
    entered: Vec<EntryId>,
    at: i64,
}

impl Live {
    /// Enters something and does not wait for it.
    async fn enter(&mut self, kind: EntryKind, channel: &str, body: EntryBody) {
        self.at += 1;
        let at = Timestamp::from_millis(1_700_000_000_000 + self.at / 3);
        let id = EntryId::random(at);
        self.entered.push(id);
        let interactive = kind == EntryKind::Command;
        let entry =
            NewEntry { id, kind, channel: channel.to_owned(), at, interactive, keys: Vec::new(), key: None, body };
        self.context.store.journal.append(entry).await.unwrap();
    }

    async fn command(&mut self, command: Command) {
        let body = EntryBody { head: outcome::head(&command).unwrap(), raw: Bytes::new() };
        self.enter(EntryKind::Command, "", body).await;
    }

    async fn conversations(&self) -> Vec<crate::base::id::ConversationId> {
        let mut found = Vec::new();
        for event in self.context.store.catalog.feed(0, 1000).await.unwrap() {
            let event: Value = serde_json::from_slice(&event.body).unwrap();
            let id = event["subject"].as_str().unwrap().parse().unwrap();
            if !found.contains(&id) {
                found.push(id);
            }
        }
        found
    }

    async fn step(&mut self, step: Step) {
        let known = self.conversations().await;
        let at = |index: usize| known.get(index % known.len().max(1)).copied();
        match step {
            Step::Messages(channel, messages) => {
                let head = RequestHead {
                    method: "POST".to_owned(),
                    url: "https://gateway.example/in/x".to_owned(),
                    headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                    verified_by: "none".to_owned(),
                    sender: None,
                };
                let raw = json!({ "batches": [{ "messages": messages }] }).to_string();
                let body = EntryBody { head: outcome::head(&head).unwrap(), raw: raw.into() };
                self.enter(EntryKind::Webhook, channel, body).await;
            }
            Step::Retry(index) => {
                if let Some(entry) = self.entered.get(index % self.entered.len().max(1)).copied() {
                    self.command(Command::RetryQuarantined { entry }).await;
                }
            }
            Step::Note(index) => {
                if let Some(conversation) = at(index) {
                    let text = crate::base::Pii::new("note".to_owned());
                    self.command(Command::Note { conversation, agent: None, text }).await;
                }
            }
            Step::Reply(index) => {
                if let Some(conversation) = at(index) {
                    let text = Some(crate::base::Pii::new("answer".to_owned()));
                    let message = ReplyMessage { text, parts: Vec::new(), in_reply_to: None, public: false };
                    self.command(Command::Reply { conversation, agent: None, message }).await;
                }
            }
            Step::Resolve(index) => {
                if let Some(conversation) = at(index) {
                    self.command(Command::Resolve { conversation, agent: None, disposition: None }).await;
                }
            }
            Step::Outcomes => {
                for send in self.context.store.outbox.due_sends(Timestamp::from_millis(i64::MAX), 5).await.unwrap() {
                    let result = SendResult::Accepted { provider_ids: vec![format!("sent.{}", send.id)] };
                    let head = outcome::head(&SendOutcome { send: send.id, result }).unwrap();
                    self.enter(EntryKind::SendOutcome, "one", EntryBody { head, raw: Bytes::new() }).await;
                }
            }
        }
    }

    async fn settled(&self) {
        while self.context.store.journal.pending_count().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn lived(folder: &std::path::Path, steps: Vec<Step>) -> Opened {
    let opened = store(folder);
    let mut live = Live { context: context(&opened.store), entered: Vec::new(), at: 0 };
    let workers = Workers::start(live.context.clone(), 3).unwrap();
    let many = steps.len();
    for (number, step) in steps.into_iter().enumerate() {
        live.step(step).await;
        // Now and then everything is applied before more comes; else entries meet each other.
        if number % 5 == 4 && number + 1 < many {
            live.settled().await;
        }
        // What comes last stays pending.
        if number + 2 == many {
            live.settled().await;
            live.context.held.store(true, Ordering::SeqCst);
        }
    }
    workers.stop().await;
    opened
}

/// What the canonical dumps of two stores differ in.
async fn dumped(folder: &std::path::Path, was: &str, is: &str) -> Differences {
    let (was, is) = (folder.join(was), folder.join(is));
    let (from, to) = (Place::Folder(was.clone()), Place::Folder(is.clone()));
    let opens_source = Opener::at(&from, &sealing(&was)).await.unwrap();
    let opens_target = Opener::at(&to, &sealing(&is)).await.unwrap();
    let (source, target) = (from.view().await.unwrap(), to.view().await.unwrap());
    compare_dumps((&*source, &opens_source), (&*target, &opens_target), false).await.unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_replayed_state_is_the_live_one(steps in prop::collection::vec(step(), 3..25)) {
        let folder = tempfile::tempdir().unwrap();
        let (walked, differences, bytes) = run(async {
            let live = lived(&folder.path().join("live"), steps).await;
            let again = store(&folder.path().join("again"));
            // What is recorded rules, whatever the policy would take today.
            let patient = |_: String| -> BoxFuture<'static, Result<Setup>> { Box::pin(async { Ok(setup(POLICY)) }) };
            let walked = walk(&live.store, &again.store, WHOLE, Under::Recorded(Box::new(patient)), &mut |_, _| {}).await.unwrap();
            let rows = compare(&live.store, &again.store).await.unwrap();
            (walked, rows, dumped(folder.path(), "live", "again").await)
        });
        prop_assert!(walked.exact);
        prop_assert!(differences.is_empty(), "{differences:?}");
        prop_assert!(bytes.is_empty(), "{bytes:?}");
    }
}

#[test]
fn a_breach_is_honored_and_a_rehearsal_tells_what_is_decided_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let said = |id: &str, text: &str| {
        Step::Messages("one", vec![json!({ "id": id, "from": format!("+1555000{id}"), "name": "A", "text": text })])
    };
    run(async {
        let steps = vec![said("1", "loop"), said("2", "hello"), said("3", "vip"), said("4", "x"), said("5", "late")];
        let live = lived(&folder.path().join("live"), steps).await;
        // The same policy on a machine that is fast enough.
        let faster = |_: String| -> BoxFuture<'static, Result<Setup>> {
            Box::pin(async { Ok(setup(&POLICY.replace("while true do end", "local x = 1"))) })
        };
        let again = store(&folder.path().join("again"));
        walk(&live.store, &again.store, WHOLE, Under::Recorded(Box::new(faster)), &mut |_, _| {}).await.unwrap();
        let page = again.store.history.applied(0, 10).await.unwrap();
        // Whichever of them was applied first: several workers did.
        let breaches = page.iter().map(|past| Facts::read(past.applied.facts.as_deref()).unwrap().breaches.len());
        assert_eq!((page.len(), breaches.sum::<usize>()), (4, 1), "the breach of the first time stands");
        assert_eq!(again.store.journal.pending_count().await.unwrap(), 1);
        let differences = compare(&live.store, &again.store).await.unwrap();
        assert!(differences.is_empty(), "{differences:?}");
        let bytes = dumped(folder.path(), "live", "again").await;
        assert!(bytes.is_empty(), "{bytes:?}");

        // A policy that decides otherwise and never fails.
        let calm = "rule(\"calm\", { on = \"interaction.received\" }, function(e, d) d:queue(\"vip\") end)";
        let trial = store(&folder.path().join("trial"));
        let walked =
            walk(&live.store, &trial.store, WHOLE, Under::One(Arc::new(setup(calm))), &mut |_, _| {}).await.unwrap();
        assert!(!walked.exact);
        assert_eq!(walked.differences.counts.get("queue"), Some(&3), "{:?}", walked.differences);
        assert_eq!(walked.differences.counts.get("replies"), Some(&1), "{:?}", walked.differences);
        assert!(!compare(&live.store, &trial.store).await.unwrap().is_empty());
        assert!(dumped(folder.path(), "live", "trial").await.counts["dump"] > 0);
        let error = walk(&live.store, &trial.store, WHOLE, Under::One(Arc::new(setup(calm))), &mut |_, _| {}).await;
        assert_eq!(error.err().map(|error| error.kind()), Some(Kind::Config), "it is not empty any more");
    });
}
