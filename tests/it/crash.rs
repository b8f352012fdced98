//! Killed anywhere, at random and at every sync, while signed webhooks arrive from several connections, one in five
//! repeated and some in another grouping: what was acknowledged is there exactly once, is delivered at least once under
//! one id with the same bytes, is in order, and nothing is said to a customer twice.
//!
//! The same oracle must find fault with a gateway that acknowledges before it commits; else it could find nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::database::on_postgres;
use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::http::{Call, Client};
use crate::support::server::Reply;
use crate::support::stub::Provider;
use crate::support::{Random, provider, seed, size, wait};

/// Customers that one connection speaks for.
const SENDERS: usize = 4;
/// Answers every message that begins with "ask".
const POLICY: &str = r#"
policy { name = "crash", version = 1, owner = "tests@example.org" }
rule("answers what is asked", { on = "interaction.received" }, function(e, d)
  d:queue("general")
  if e.ix.text:sub(1, 3) == "ask" then d:reply("answer", { text = e.ix.text }) end
end)
"#;

/// One run.
struct Plan {
    seed: u64,
    connections: usize,
    /// Messages that each connection sends.
    messages: usize,
    /// How the gateway is started the first time, and after each death.
    first: Start,
    again: Start,
    /// The gateway is killed each time when so many more requests were acknowledged.
    kills: Vec<usize>,
}

/// What a run left.
struct Outcome {
    project: Project,
    desk: HelpDesk,
    api: Provider,
    /// Provider ids of the messages that were acknowledged, for each customer in the order in which they were sent.
    acknowledged: BTreeMap<String, Vec<String>>,
    deaths: usize,
}

/// What the connections share.
struct Traffic {
    base: watch::Receiver<String>,
    acknowledged: Mutex<BTreeMap<String, Vec<String>>>,
    count: AtomicUsize,
}

impl Traffic {
    /// Sends a request until it is acknowledged, as providers do.
    async fn until_acknowledged(&self, client: &Client, call: &Call) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let base = self.base.borrow().clone();
            if client.send(&base, call).await.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            assert!(Instant::now() < deadline, "a request is not acknowledged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// One connection: its customers write in turn.
    async fn connection(self: Arc<Self>, number: usize, messages: usize, mut random: Random) {
        let client = Client::new();
        let mut previous: BTreeMap<usize, Value> = BTreeMap::new();
        for message in 0..messages {
            let sender = random.below(SENDERS);
            let from = format!("1555{number:03}{sender:04}");
            let id = format!("wamid.{number}.{message}");
            let text = if random.below(4) == 0 { format!("ask {number} {message}") } else { format!("say {message}") };
            let new = provider::whatsapp_message(&from, &id, &text);
            // Now and then the one before comes again, in one request with the new one.
            let regrouped = previous.get(&sender).filter(|_| random.below(6) == 0).cloned();
            let items: Vec<Value> = regrouped.into_iter().chain([new.clone()]).collect();
            let call = provider::whatsapp("whatsapp", &items);
            self.until_acknowledged(&client, &call).await;
            self.acknowledged.lock().unwrap().entry(from).or_default().push(id);
            if random.below(5) == 0 {
                self.until_acknowledged(&client, &call).await;
            }
            previous.insert(sender, new);
        }
    }
}

/// The exit code of a shell's child, and of a tracer's, that was killed by `kill -9`.
const KILLED: i32 = 128 + 9;

/// Carries a plan out, until everything is sent, applied and delivered.
async fn run(plan: Plan) -> Outcome {
    let (desk, api) = (HelpDesk::start().await, Provider::start().await);
    let mut random = Random(plan.seed);
    // The help desk is out of order now and then, too.
    let mut moods = Random(plan.seed ^ 1);
    desk.behave(move |_| Reply::status(if moods.below(20) == 0 { 503 } else { 200 }));
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .whatsapp("whatsapp", &api.url())
        .policy("templates = { answer = \"answer to {text}\" }")
        .script(POLICY);
    let (tell, base) = watch::channel(String::from("http://127.0.0.1:9"));
    let traffic = Arc::new(Traffic { base, acknowledged: Mutex::default(), count: AtomicUsize::new(0) });
    let mut connections = JoinSet::new();
    for number in 0..plan.connections {
        connections.spawn(traffic.clone().connection(number, plan.messages, Random(random.next())));
    }

    let (mut deaths, mut kills, mut mark) = (0, plan.kills.into_iter(), 0);
    let mut start = plan.first;
    let mut next_kill = kills.next();
    let mut gateway = loop {
        let Ok(mut gateway) = Gateway::start_as(&project, &start).await else {
            // A tracer may kill it before it is ready; it must come up the next time.
            deaths += 1;
            start = Start::default();
            assert!(deaths < 3, "the gateway does not start again");
            continue;
        };
        tell.send_replace(gateway.base().to_owned());
        // Ends when all is sent, or with the gateway.
        let alive = wait::until("the end of the run", Duration::from_secs(600), async || {
            if gateway.ended().is_some() {
                return Some(false);
            }
            let due = next_kill.is_some_and(|after| traffic.count.load(Ordering::SeqCst) >= mark + after);
            if due {
                gateway.kill();
                mark = traffic.count.load(Ordering::SeqCst);
                next_kill = kills.next();
                return Some(false);
            }
            while connections.try_join_next().map(|joined| joined.unwrap()).is_some() {}
            connections.is_empty().then_some(true)
        })
        .await;
        if alive {
            break gateway;
        }
        assert!(gateway.was_killed(), "the gateway ended by itself:\n{}", gateway.log());
        deaths += 1;
        start = plan.again.clone();
    };
    // What is under way may still die with a traced gateway, and so may its end.
    let open = "SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM due) + (SELECT count(*) FROM event e JOIN settled s ON e.no > s.event WHERE e.kind = 1) + (SELECT count(*) FROM send WHERE state < 2)";
    loop {
        let done = wait::until("everything is applied, delivered and sent", Duration::from_secs(120), async || {
            if gateway.ended().is_some() {
                return Some(false);
            }
            (project.number(open) == 0).then_some(true)
        })
        .await;
        if done {
            match gateway.stop().await {
                Some(0) => break,
                None | Some(KILLED) => {}
                Some(code) => panic!("told to stop, the gateway ends with {code}"),
            }
        }
        deaths += 1;
        assert!(deaths < 1000, "the gateway dies again and again");
        gateway = Gateway::start(&project).await;
    }
    let acknowledged = std::mem::take(&mut *traffic.acknowledged.lock().unwrap());
    Outcome { project, desk, api, acknowledged, deaths }
}

/// The oracle: everything that is not as promised.
fn faults(outcome: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(damage) = outcome.project.database().damage() {
        faults.push(format!("the database is damaged: {damage}"));
    }
    let taken = outcome.desk.taken();
    told_once(outcome, &taken, &mut faults);
    few_copies(outcome, &mut faults);
    in_order(outcome, &taken, &mut faults);
    stored_once(outcome, &mut faults);
    answered_once(outcome, &mut faults);
    faults
}

/// Every acknowledged message is one event at the help desk, and nothing else is.
fn told_once(outcome: &Outcome, taken: &[Delivery], faults: &mut Vec<String>) {
    let mut events: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in taken {
        *events.entry(delivery.provider_id()).or_default() += 1;
    }
    let acknowledged: BTreeSet<&str> = outcome.acknowledged.values().flatten().map(String::as_str).collect();
    for id in &acknowledged {
        match events.get(id) {
            None => faults.push(format!("lost: {id} was acknowledged and never delivered")),
            Some(1) => {}
            Some(count) => faults.push(format!("twice: {id} was delivered as {count} events")),
        }
    }
    for id in events.keys().filter(|id| !acknowledged.contains(*id)) {
        faults.push(format!("unknown: {id} was delivered and never sent"));
    }
}

/// How many deliveries a kill may have repeated at most: those under way (the help desk's `concurrency`), and those that
/// were answered while the mark behind them was being written.
const COPIES: usize = 16 * 4;

/// A help desk sees what it has taken again only after a kill, and then not much of it. That copies are byte-equal under
/// one id is seen where they are collected.
fn few_copies(outcome: &Outcome, faults: &mut Vec<String>) {
    let (mut taken, mut copies) = (BTreeSet::new(), 0);
    for delivery in outcome.desk.attempts() {
        copies += usize::from(taken.contains(&delivery.id));
        if delivery.taken() {
            taken.insert(delivery.id);
        }
    }
    println!("{copies} copies after {} deaths", outcome.deaths);
    if copies > outcome.deaths * COPIES {
        faults.push(format!("copies: {copies} deliveries were repeated after {} deaths", outcome.deaths));
    }
}

/// Each customer's messages are one conversation, gap-free, in the order in which they were sent and delivered.
fn in_order(outcome: &Outcome, taken: &[Delivery], faults: &mut Vec<String>) {
    let mut conversations: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in taken {
        conversations.entry(delivery.conversation()).or_default().push(delivery);
    }
    if conversations.len() != outcome.acknowledged.len() {
        faults.push(format!("{} conversations for {} customers", conversations.len(), outcome.acknowledged.len()));
    }
    for (conversation, deliveries) in conversations {
        let sequences: Vec<u64> = deliveries.iter().map(|delivery| delivery.sequence()).collect();
        if !sequences.is_sorted() {
            faults.push(format!("order: {conversation} was delivered as {sequences:?}"));
        }
        let ids: Vec<&str> = deliveries.iter().map(|delivery| delivery.provider_id()).collect();
        if !outcome.acknowledged.values().any(|sent| *sent == ids) {
            faults.push(format!("order: {conversation} was told as {ids:?}"));
        }
    }
}

/// The state holds each message once.
fn stored_once(outcome: &Outcome, faults: &mut Vec<String>) {
    let stored = outcome.project.number("SELECT count(*) FROM interaction WHERE outbound = 0");
    let sent: usize = outcome.acknowledged.values().map(Vec::len).sum();
    if stored != sent as i64 {
        faults.push(format!("stored: {stored} interactions for {sent} messages"));
    }
    let gaps = "SELECT count(*) FROM (SELECT conversation, max(seq) AS last, count(*) AS n FROM interaction GROUP BY conversation) AS story WHERE last <> n";
    let gaps = outcome.project.number(gaps);
    if gaps != 0 {
        faults.push(format!("stored: {gaps} conversations have gaps"));
    }
}

/// No customer was told anything twice, and whoever was not told has a send whose outcome is shown as uncertain.
fn answered_once(outcome: &Outcome, faults: &mut Vec<String>) {
    let mut sends: BTreeMap<String, usize> = BTreeMap::new();
    for text in outcome.api.texts() {
        *sends.entry(text).or_default() += 1;
    }
    for (text, count) in sends.iter().filter(|(_, count)| **count > 1) {
        faults.push(format!("repeated: `{text}` was sent {count} times"));
    }
    let planned = outcome.project.number("SELECT count(*) FROM send");
    // Nobody knows a provider's id of such a send: its own interaction shows it.
    let bodies = outcome.project.database().texts("SELECT body FROM interaction WHERE outbound = 1");
    let uncertain = bodies.iter().filter(|body| body.contains("\"state\":\"uncertain\"")).count() as i64;
    let missing = planned - sends.len() as i64;
    if missing > uncertain {
        faults.push(format!(
            "silent: {missing} of {planned} answers were not sent, and {uncertain} are shown as uncertain"
        ));
    }
}

/// Kills after random numbers of acknowledgements.
fn random_kills(random: &mut Random, count: usize) -> Vec<usize> {
    (0..count).map(|_| 5 + random.below(60)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_it_loses_and_repeats_nothing() {
    let seed = seed();
    let kills = size(5, 50);
    let kills = random_kills(&mut Random(seed), kills);
    // Twice what the kills wait for, since more is sent while the gateway comes up again.
    let messages = kills.iter().sum::<usize>() / 3 + 60;
    let count = kills.len();
    let start = Start::default();
    let plan = Plan { seed, connections: 6, messages, first: start.clone(), again: start, kills };
    let outcome = run(plan).await;
    assert!(outcome.deaths >= count, "{} of {count} kills happened", outcome.deaths);
    let faults = faults(&outcome);
    assert!(faults.is_empty(), "seed {seed}, {} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_before_the_commit_is_found_out() {
    let seed = seed();
    let env = vec![("SEGUE_TEST_ACK_BEFORE_COMMIT", "1")];
    // A sync finds everything written already, which outlives a killed process; a write in the middle of a commit does
    // not.
    let (calls, tries) = if on_postgres() { (SOCKET_WRITES, 40) } else { ("pwrite64", 12) };
    for at in (60..).step_by(17).take(tries) {
        let first = Start { env: env.clone(), ..traced(calls, at) };
        let plan = Plan { seed, connections: 6, messages: 30, first, again: Start::default(), kills: Vec::new() };
        let outcome = run(plan).await;
        if faults(&outcome).iter().any(|fault| fault.starts_with("lost: ")) {
            return;
        }
    }
    panic!("seed {seed}: the oracle finds no loss");
}

/// The calls that send something to a server, on which a gateway has no file of its own to sync.
const SOCKET_WRITES: &str = "write,writev,sendto,sendmsg";

/// A start under a tracer that kills the gateway at the `at`th of these calls of one of its threads.
fn traced(calls: &str, at: usize) -> Start {
    // Without `--seccomp-bpf`, under which the count is not kept.
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].into_iter().map(str::to_owned);
    let what = [format!("trace={calls}"), "-e".to_owned(), format!("inject={calls}:signal=KILL:when={at}")];
    Start { wrapper: words.chain(what).collect(), ..Start::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_sync_it_loses_and_repeats_nothing() {
    let seed = seed();
    // A full run takes every sync; a short one takes the first ones, among them those of the start, and then fewer.
    let step = |at: usize| match (crate::support::full(), on_postgres()) {
        (true, false) => at + 1,
        (true, true) => at + 1 + at / 10,
        (false, _) => at + 1 + at / 2,
    };
    let calls = if on_postgres() { SOCKET_WRITES } else { "fsync,fdatasync" };
    // What is sent before the first tables are made are some dozens of small messages.
    let (mut at, mut points) = (if on_postgres() { 20 } else { 1 }, 0);
    loop {
        let first = traced(calls, at);
        let plan = Plan { seed, connections: 3, messages: 8, first, again: Start::default(), kills: Vec::new() };
        let outcome = run(plan).await;
        let faults = faults(&outcome);
        assert!(faults.is_empty(), "seed {seed}, killed at sync {at}, {} faults:\n{}", faults.len(), faults.join("\n"));
        if outcome.deaths == 0 {
            break;
        }
        points += 1;
        at = step(at);
    }
    println!("killed at {points} syncs");
    assert!(points >= 4, "the tracer killed the gateway {points} times only");
}
