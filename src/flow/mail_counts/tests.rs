//! Floods of mails through the whole flow: what they open and what is answered is bounded, however long they last.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::app::setup::build_map;
use crate::base::telemetry::{By, Metrics};
use crate::base::{Clock, Timestamp};
use crate::connector::{Connector, Folder};
use crate::flow::replay::{Span, Under, compare, walk};
use crate::flow::verify::{ReceivedMail, step_mail};
use crate::flow::wait::Waiting;
use crate::flow::work::Workers;
use crate::flow::{Ahead, ChannelSetup, Context, Setup};
use crate::model::MailLevel;
use crate::model::entry::MailHead;
use crate::script::{Budget, Bundle, PolicyFacts, PolicyFiles};
use crate::store::seal::Sealing;
use crate::store::{Appended, Opened, Unwatched, sqlite};

const POLICY: &str = r#"
policy { name = "answers", version = 1, owner = "tests@example.org" }
rule("everything", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue("general")
  d:reply("We have your mail.")
end)
"#;

/// When the first mail comes, in seconds.
const BEGIN: i64 = 1_700_000_000;
const HOUR: i64 = 3600;

/// Channels `box0`, `box1` and so on, whose addresses are `box0@shop.example` and so on.
fn setup(policy: &str, boxes: usize) -> Setup {
    let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/email")).unwrap();
    let connector = Connector::load(Arc::new(folder), Some(&build_map)).unwrap_or_else(|found| panic!("{found:?}"));
    let connector = Arc::new(connector);
    let channel = |number: usize| {
        let name = format!("box{number}");
        let options = json!({
            "address": format!("{name}@shop.example"), "smtp_host": "smtp.shop.example", "smtp_user": "u",
            "smtp_password": "p",
        });
        let account = connector.account(&name, options.as_object().unwrap(), None).unwrap();
        (name, ChannelSetup { connector: connector.clone(), account, queue: None, paused: false })
    };
    let facts = PolicyFacts {
        queues: vec!["general".to_owned()],
        default_queue: "general".to_owned(),
        ..PolicyFacts::default()
    };
    // What is counted is told by no clock.
    let budget = Budget { wall: Duration::from_secs(60), ..Budget::default() };
    let files = PolicyFiles::from_memory([("a.lua".to_owned(), policy.as_bytes().to_vec())]);
    Setup {
        channels: (0..boxes).map(channel).collect(),
        policy: Bundle::build(files, facts, budget).unwrap_or_else(|wrong| panic!("{}", wrong[0])),
        default_queue: "general".to_owned(),
        templates: HashMap::new(),
        source: "segue".to_owned(),
        hash: "c0ffee".repeat(10),
    }
}

fn store(folder: &Path) -> Opened {
    let sealing = Sealing::at(folder.with_extension("key"));
    sqlite::open(folder, sqlite::Options::default(), &sealing, &Unwatched::shared(), Metrics::new()).unwrap()
}

/// A gateway that answers every mail that a program may answer.
struct Flood {
    context: Arc<Context>,
    workers: Workers,
    store: Opened,
    boxes: usize,
    number: usize,
    folder: tempfile::TempDir,
}

impl Flood {
    fn over(boxes: usize) -> Flood {
        Flood::under(POLICY, boxes)
    }

    fn under(policy: &str, boxes: usize) -> Flood {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder.path().join("live"));
        let context = Arc::new(Context {
            store: store.store.clone(),
            setup: ArcSwap::from_pointee(setup(policy, boxes)),
            clock: Clock::system(),
            metrics: Metrics::new(),
            waiting: Waiting::default(),
            ahead: Ahead::default(),
            mailboxes: Default::default(),
            sending: Default::default(),
            blobs: None,
            held: AtomicBool::new(false),
        });
        let workers = Workers::start(context.clone(), 2).unwrap();
        Flood { context, workers, store, boxes, number: 0, folder }
    }

    /// A mail comes to a mailbox, so many seconds after the first.
    fn mail(
        &mut self,
        to: usize,
        from: &str,
        level: MailLevel,
        text: &str,
        seconds: i64,
    ) -> BoxFuture<'static, Result<Appended>> {
        self.number += 1;
        let (number, name) = (self.number, format!("box{to}"));
        let raw = format!(
            "Message-ID: <{number}@somewhere.example>\r\nReturn-Path: <{from}>\r\nFrom: {from}\r\n\
             To: {name}@shop.example\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nSubject: About {number}\r\n\r\n{text}\r\n"
        );
        let mut head = MailHead::unchecked();
        head.sender.level = level;
        let at = Timestamp::from_millis((BEGIN + seconds) * 1000);
        let entry = step_mail(ReceivedMail { channel: name, head, raw: raw.into(), at, account: 0 });
        self.context.store.journal.append(entry)
    }

    async fn settled(&self) {
        let applied = async {
            while self.context.store.journal.pending_count().await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(300), applied).await.expect("what came is applied");
    }

    async fn rows(&self, table: &str) -> i64 {
        self.settled().await;
        self.context.store.catalog.counts().await.unwrap()[table]
    }

    /// How many answers were planned.
    async fn answers(&self) -> usize {
        self.settled().await;
        self.context.store.outbox.due_sends(Timestamp::from_millis(i64::MAX), 10_000).await.unwrap().len()
    }

    fn storms(&self) -> u64 {
        self.context.metrics.storms.get_or_create(&By::new("box0", "mail")).get()
    }

    /// A replay comes to the same state.
    async fn replays(self) {
        self.workers.stop().await;
        let (again, boxes) = (store(&self.folder.path().join("again")), self.boxes);
        let same =
            move |_: String| -> BoxFuture<'static, Result<Setup>> { Box::pin(async move { Ok(setup(POLICY, boxes)) }) };
        let whole = Span { after: 0, events: Timestamp::from_millis(0) };
        let under = Under::Recorded(Box::new(same));
        walk(&self.store.store, &again.store, whole, under, &mut |_, _| {}).await.unwrap();
        let differences = compare(&self.store.store, &again.store).await.unwrap();
        assert!(differences.is_empty(), "{differences:?}");
    }
}

/// How many answers go out when as many people of these domains are made to write to mailboxes in turn, one each second.
async fn answered(flood: &mut Flood, mails: usize, domain: impl Fn(usize) -> String, begin: i64) -> usize {
    let before = flood.answers().await;
    let come = (0..mails).map(|number| {
        let from = format!("victim{begin}n{number}@{}", domain(number));
        let (to, seconds) = (number % flood.boxes, begin + number as i64);
        flood.mail(to, &from, MailLevel::Authenticated, &format!("Number {number}."), seconds)
    });
    futures_util::future::try_join_all(come.collect::<Vec<_>>()).await.unwrap();
    flood.answers().await - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_full_of_victims_gets_five_answers_an_hour() {
    let mut flood = Flood::over(1);
    assert_eq!(answered(&mut flood, 300, |_| "victims.example".to_owned(), 0).await, 5);
    assert_eq!(
        answered(&mut flood, 3, |number| format!("other{number}.example"), 1001).await,
        3,
        "others are answered"
    );
    assert_eq!(answered(&mut flood, 20, |_| "victims.example".to_owned(), 2 * HOUR).await, 5, "the next hour's");
}

/// A domain proves itself, and not who of it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_victim_gets_one_answer_of_all_mailboxes_together() {
    let mut flood = Flood::over(7);
    for number in 0..7 {
        let text = format!("Number {number}.");
        flood.mail(number, "victim@uni.example", MailLevel::Authenticated, &text, number as i64).await.unwrap();
    }
    assert_eq!(flood.answers().await, 1);
    let due = flood.context.store.outbox.due_sends(Timestamp::from_millis(i64::MAX), 10).await.unwrap();
    let mail = due[0].planned.message.mail.as_ref().unwrap();
    let subject = mail.subject.as_ref().unwrap().expose();
    assert!(subject.contains("@shop.example") && !subject.contains("About"), "nobody's words but ours: {subject}");
}

/// What a limit holds back is no answer: its address has one to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_held_back_for_the_domain_is_answered_later() {
    let mut flood = Flood::over(1);
    assert_eq!(answered(&mut flood, 6, |_| "customers.example".to_owned(), 0).await, 5);
    // Which of them it was is of no matter: the others had theirs today.
    for number in 0..6 {
        let again = format!("victim0n{number}@customers.example");
        flood.mail(0, &again, MailLevel::Authenticated, "Hello again.", 2 * HOUR).await.unwrap();
    }
    assert_eq!(flood.answers().await, 6);
}

/// Nor is it one for a rule that answers each customer once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_held_back_is_answered_later_also_by_a_rule_that_answers_once() {
    let once = POLICY.replace("mail.\")", "mail.\", nil, { once_per = \"7d\" })");
    let mut flood = Flood::under(&once, 1);
    assert_eq!(answered(&mut flood, 6, |_| "customers.example".to_owned(), 0).await, 5);
    for number in 0..6 {
        let again = format!("victim0n{number}@customers.example");
        flood.mail(0, &again, MailLevel::Authenticated, "Hello again.", 30 * HOUR).await.unwrap();
    }
    assert_eq!(flood.answers().await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_answers_a_hundred_of_a_thousand_victims_an_hour() {
    let mut flood = Flood::over(1);
    assert_eq!(answered(&mut flood, 1000, |number| format!("victim{number}.example"), 0).await, 100);
    assert_eq!(answered(&mut flood, 20, |number| format!("victim{number}.example"), 2 * HOUR).await, 20);
    flood.replays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_mailboxes_together_answer_five_hundred_an_hour() {
    let mut flood = Flood::over(7);
    assert_eq!(answered(&mut flood, 630, |number| format!("victim{number}.example"), 0).await, 500);
    assert_eq!(answered(&mut flood, 70, |number| format!("victim{number}.example"), 2 * HOUR).await, 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_one_sender_is_one_until_it_calms_down() {
    let mut flood = Flood::over(1);
    // Thirty in ten minutes, for two hours: those that make it a storm, and the story that all others go into.
    for number in 0..360 {
        flood
            .mail(0, "flood@stranger.example", MailLevel::Unknown, &format!("Mail {number}."), 20 * number)
            .await
            .unwrap();
    }
    assert_eq!((flood.rows("conversation").await, flood.storms()), (20, 340));
    // After a rest it is a mail like any other.
    flood.mail(0, "flood@stranger.example", MailLevel::Unknown, "Sorry.", 3 * HOUR).await.unwrap();
    assert_eq!((flood.rows("conversation").await, flood.storms()), (21, 340));
    assert_eq!(flood.answers().await, 0, "nobody who is not proven is answered");
    flood.replays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_one_content_brings_about_no_answers_as_long_as_it_lasts() {
    let mut flood = Flood::over(1);
    for number in 0..120 {
        let from = format!("proven@d{number}.example");
        flood.mail(0, &from, MailLevel::Authenticated, "The very same words of everybody.", 20 * number).await.unwrap();
        // Those whom nothing orders are applied in any order; here the count tells.
        flood.settled().await;
    }
    assert_eq!((flood.answers().await, flood.storms()), (20, 100));
}
