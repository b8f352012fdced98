use std::path::Path;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::*;
use crate::app::setup::build_map;
use crate::base::id::{ConversationId, EventId, InteractionId};
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Error, Kind, Timestamp};
use crate::connector::{Connector, Folder};
use crate::flow::mail_login::Logins;
use crate::flow::wait::Waiting;
use crate::flow::{Ahead, ChannelSetup, Setup};
use crate::mail::token::TokenKey;
use crate::model::entry::PlannedSend;
use crate::net::client;
use crate::script::{Budget, Bundle, PolicyFacts, PolicyFiles};
use crate::store::{DueEvent, DueMedia, Outbox, Store, Subscription, Tail, Unwatched, seal::Sealing, sqlite};

/// How often the intent of the first send cannot be written.
const FAILURES: usize = 3;

/// An outbox of two sends: the intent of the first is not written at once, and that of the other never.
struct Stubborn {
    sends: [DueSend; 2],
    tries: Mutex<Vec<SendId>>,
}

impl Stubborn {
    fn tries(&self, send: &DueSend) -> usize {
        self.tries.lock().iter().filter(|tried| **tried == send.id).count()
    }
}

impl Outbox for Stubborn {
    fn due_sends(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        let due = self.sends.iter().filter(|send| self.tries(send) <= FAILURES);
        ready(Ok(due.cloned().collect())).boxed()
    }

    fn intend(&self, send: SendId, _: u64) -> BoxFuture<'static, Result<bool>> {
        self.tries.lock().push(send);
        let [first, _] = &self.sends;
        match self.tries(first) {
            _ if send != first.id => pending().boxed(),
            tries if tries <= FAILURES => ready(Err(Error::new(Kind::Io, "the disk is full"))).boxed(),
            _ => ready(Ok(false)).boxed(),
        }
    }

    fn unresolved_sends(&self) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn wake(&self) -> Arc<Notify> {
        Arc::default()
    }

    fn withdraw(&self, _: SendId, _: Timestamp, _: String, _: u64) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn subscribe(&self, _: Vec<Subscription>) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn due_tail(&self, _: &str) -> Arc<Tail<DueEvent>> {
        unreachable!()
    }

    fn settled(&self, _: String) -> BoxFuture<'static, Result<i64>> {
        unreachable!()
    }

    fn settle_through(&self, _: &str, _: i64) {
        unreachable!()
    }

    fn wanted_events(&self, _: String, _: i64, _: usize) -> BoxFuture<'_, Result<(Vec<DueEvent>, i64)>> {
        unreachable!()
    }

    fn set_aside_conversations(&self, _: String) -> BoxFuture<'_, Result<Vec<(i64, Timestamp)>>> {
        unreachable!()
    }

    fn set_aside_of(&self, _: String, _: i64, _: usize) -> BoxFuture<'_, Result<Vec<DueEvent>>> {
        unreachable!()
    }

    fn set_aside(&self, _: String, _: Vec<DueEvent>, _: u64) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn delivered(&self, _: &str, _: Vec<i64>) {
        unreachable!()
    }

    fn attempt_failed(
        &self,
        _: String,
        _: DueEvent,
        _: Timestamp,
        _: String,
        _: u64,
    ) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn dead_letter(&self, _: String, _: DueEvent, _: String, _: u64) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn revive(&self, _: Option<String>, _: Option<EventId>) -> BoxFuture<'static, Result<u64>> {
        unreachable!()
    }

    fn due_media(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<Vec<DueMedia>>> {
        unreachable!()
    }

    fn media_failed(&self, _: DueMedia, _: Timestamp) -> BoxFuture<'static, Result<()>> {
        unreachable!()
    }

    fn due_count(&self) -> BoxFuture<'_, Result<u64>> {
        unreachable!()
    }
}

fn send() -> DueSend {
    let at = Timestamp::from_seconds(1_790_000_000);
    let id = SendId::random(at);
    let message = json!({
        "id": id, "channel": "mail", "account": "us@shop.example", "text": "Hello.",
        "to": { "type": "mailto", "value": "ada@customer.example" },
        "mail": { "conversation": ConversationId::random(at), "at": at },
    });
    let message = serde_json::from_value(message).unwrap();
    let planned = PlannedSend { message, interaction: InteractionId::random(at) };
    DueSend { id, planned, attempts: 0, created_at: at, conversation: 1, state: "planned".to_owned() }
}

fn setup() -> Setup {
    let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/email")).unwrap();
    let connector = Connector::load(Arc::new(folder), Some(&build_map)).unwrap_or_else(|found| panic!("{found:?}"));
    let options = json!({ "address": "us@shop.example", "smtp_host": "smtp.shop.example", "smtp_login": "none" });
    let account = connector.account("mail", options.as_object().unwrap(), None).unwrap();
    let channel = ChannelSetup { connector: Arc::new(connector), account, queue: None, paused: false };
    let facts = PolicyFacts { default_queue: "general".to_owned(), ..PolicyFacts::default() };
    Setup {
        channels: HashMap::from([("mail".to_owned(), channel)]),
        policy: Bundle::build(PolicyFiles::from_memory([]), facts, Budget::default()).unwrap(),
        default_queue: "general".to_owned(),
        templates: HashMap::new(),
        source: "segue".to_owned(),
        hash: "c0ffee".repeat(10),
    }
}

/// Whatever else is under way, a send whose intent was not written is looked at again, each time after a pause.
#[tokio::test(start_paused = true)]
async fn a_send_whose_intent_was_not_written_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let (sealing, metrics) = (Sealing::at(folder.path().join("root.key")), Metrics::new());
    let path = folder.path().join("data");
    let opened = sqlite::open(&path, sqlite::Options::default(), &sealing, &Unwatched::shared(), metrics).unwrap();
    let outbox = Arc::new(Stubborn { sends: [send(), send()], tries: Mutex::default() });
    let context = Arc::new(Context {
        store: Store { outbox: outbox.clone(), ..opened.store.clone() },
        setup: ArcSwap::from_pointee(setup()),
        clock: Clock::system(),
        metrics: Metrics::new(),
        waiting: Waiting::default(),
        ahead: Ahead::default(),
        held: AtomicBool::new(false),
        mailboxes: Default::default(),
        sending: Default::default(),
        blobs: None,
    });
    let client = Client::new(client::Settings::default()).unwrap();
    let logins = Logins::new(client.clone(), opened.store.mailboxes.clone(), Clock::system());
    let mailer = Mailer::new(client.clone(), Arc::new(TokenKey::new(Zeroizing::new([7; 32]))), logins);
    let (_stop, stopped) = watch::channel(false);
    let begun = Instant::now();
    let running = tokio::spawn(run(context, client, mailer, stopped));
    let again = async {
        while outbox.tries(&outbox.sends[0]) <= FAILURES {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), again).await.expect("it is begun again within seconds");
    assert!(begun.elapsed() >= AFTER_FAILURE * FAILURES as u32, "by the paused clock");
    assert_eq!(outbox.tries(&outbox.sends[1]), 1);
    running.abort();
}
