//! Several gateways on one database: each takes every request, and together they do everything once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::http::{Call, Client};
use crate::support::stub::Provider;
use crate::support::{Random, provider, seed, size, wait};

/// Every fourth message is answered, so that a send that is done twice shows.
const POLICY: &str = r#"
policy { name = "nodes", version = 1, owner = "tests@example.org" }
rule("questions are answered", { on = "interaction.received" }, function(e, d)
  if e.ix.kind == "call" then
    d:queue("phone")
    d:answer("say", { text = "Hello, caller " .. e.ix.author.identifier.value })
    return
  end
  d:queue("general")
  if e.ix:mentions { "ask" } then d:reply("answer", { text = e.ix.text }) end
end)
"#;

/// How long the leases of a test last, in milliseconds.
const LEASE: &str = "1500";

/// Who is told: a help desk of messages, one of what became of answers, and the customers.
struct Peers {
    desk: HelpDesk,
    outcomes: HelpDesk,
    api: Provider,
}

impl Peers {
    async fn start() -> Peers {
        Peers { desk: HelpDesk::start().await, outcomes: HelpDesk::start().await, api: Provider::start().await }
    }
}

fn project(peers: &Peers) -> Project {
    Project::shared()
        .helpdesk("desk", &peers.desk, &["interaction.received"])
        .helpdesk("outcomes", &peers.outcomes, &["delivery.updated"])
        .whatsapp("whatsapp", &peers.api.url())
        .voice("voice")
        .limits("per_peer_per_second = 100000\nper_channel_per_second = 100000")
        .policy("templates = { answer = \"answer to {text}\" }")
        // A busy machine is no breach.
        .policy("budget.time = \"1s\"")
        .script(POLICY)
}

async fn node(project: &Project) -> Gateway {
    let start = Start { env: vec![("SEGUE_TEST_LEASE_MS", LEASE)], ..Start::default() };
    Gateway::start_as(project, &start).await.expect("the gateway starts")
}

/// Three that have divided the work.
async fn three(project: &Project) -> Vec<Gateway> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(project).await);
    }
    divided(project, 3).await;
    nodes
}

/// Waits until so many nodes have divided all buckets among them.
async fn divided(project: &Project, nodes: i64) {
    // A node that has the deliveries to help desks may have no bucket.
    let holders =
        "SELECT count(DISTINCT n.no) FROM lease l JOIN node n ON n.no = l.node AND n.until > clock_timestamp()
                   HAVING count(*) FILTER (WHERE l.name LIKE 'bucket/%') = 256";
    let found = format!("SELECT coalesce(({holders}), 0)");
    wait::until_true(&format!("{nodes} nodes share the work"), wait::SOON, async || project.number(&found) == nodes)
        .await;
}

/// People who write in turn, to whichever node.
struct Traffic {
    bases: Mutex<Vec<String>>,
    sent: Mutex<BTreeMap<String, Vec<String>>>,
    count: AtomicUsize,
}

impl Traffic {
    fn new(nodes: &[Gateway]) -> Arc<Traffic> {
        let bases = nodes.iter().map(|node| node.base().to_owned()).collect();
        Arc::new(Traffic { bases: Mutex::new(bases), sent: Mutex::default(), count: AtomicUsize::new(0) })
    }

    /// Takes a node out of those that are written to.
    fn avoid(&self, node: &Gateway) {
        self.bases.lock().unwrap().retain(|base| base != node.base());
    }

    /// One person: each message after the one before was acknowledged, and to another node.
    async fn person(self: Arc<Self>, number: usize, messages: usize, mut random: Random) {
        let (client, from) = (Client::new(), format!("1555{number:07}"));
        for message in 0..messages {
            let id = format!("wamid.{number}.{message}");
            let text = if message % 4 == 0 { format!("ask {number} {message}") } else { format!("say {message}") };
            let call = provider::whatsapp("whatsapp", &[provider::whatsapp_message(&from, &id, &text)]);
            self.until_acknowledged(&client, &call, &mut random).await;
            self.sent.lock().unwrap().entry(from.clone()).or_default().push(id);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn until_acknowledged(&self, client: &Client, call: &Call, random: &mut Random) {
        let acknowledged = async {
            loop {
                let base = {
                    let bases = self.bases.lock().unwrap();
                    bases[random.below(bases.len())].clone()
                };
                // A node that hangs answers nothing: the provider gives up and tries again.
                let sent = tokio::time::timeout(Duration::from_secs(2), client.send(&base, call)).await;
                if sent.is_ok_and(|sent| sent.is_ok_and(|answer| answer.status == 200)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), acknowledged).await.expect("a request is not acknowledged");
    }

    /// Has `people` write `messages` each, beside each other.
    fn begin(self: &Arc<Self>, first: usize, people: usize, messages: usize, random: &mut Random) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for number in first..first + people {
            running.spawn(self.clone().person(number, messages, Random(random.next())));
        }
        running
    }

    async fn reached(&self, count: usize) {
        wait::until_true("enough is acknowledged", wait::SOON, async || self.count.load(Ordering::SeqCst) >= count)
            .await;
    }
}

async fn ended(mut running: JoinSet<()>) {
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Waits until everything is applied, delivered and sent.
async fn done(project: &Project) {
    let open = "SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM due) + (SELECT count(*) FROM send WHERE state < 2)
                + (SELECT count(*) FROM event e JOIN settled s ON e.no > s.event
                 WHERE e.kind = 1 AND s.helpdesk = 'desk')";
    wait::until_true("everything is applied, delivered and sent", Duration::from_secs(60), async || {
        project.number(open) == 0
    })
    .await;
    assert_eq!(project.number("SELECT count(*) FROM pending_more"), 0);
}

/// Everything that is not as promised.
async fn faults(project: &Project, traffic: &Traffic, peers: &Peers) -> Vec<String> {
    let mut faults = Vec::new();
    let taken = peers.desk.taken();
    let mut told: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &taken {
        told.entry(delivery.conversation()).or_default().push(delivery);
    }
    let sent = traffic.sent.lock().unwrap().clone();
    let mut missing: BTreeSet<&Vec<String>> = sent.values().collect();
    for (conversation, deliveries) in told {
        let ids: Vec<String> = deliveries.iter().map(|delivery| delivery.provider_id().to_owned()).collect();
        if !missing.remove(&ids) {
            faults.push(format!("{conversation} was told as {ids:?}"));
        }
        if !deliveries.iter().map(|delivery| delivery.sequence()).is_sorted() {
            faults.push(format!("{conversation} was delivered out of order"));
        }
    }
    faults.extend(missing.iter().map(|ids| format!("never told in order: {ids:?}")));
    let stored = project.number("SELECT count(*) FROM interaction WHERE outbound = 0");
    let count: usize = sent.values().map(Vec::len).sum();
    if stored != count as i64 {
        faults.push(format!("{stored} interactions for {count} messages"));
    }
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for text in peers.api.texts() {
        *answers.entry(text).or_default() += 1;
    }
    faults.extend(answers.iter().filter(|(_, n)| **n > 1).map(|(text, n)| format!("`{text}` was sent {n} times")));
    // Whoever was not told has an answer that is shown as uncertain.
    let missing = project.number("SELECT count(*) FROM send") - answers.len() as i64;
    wait::until_true("every answer was sent or is shown as uncertain", wait::SOON, async || {
        let told = peers.outcomes.taken();
        let uncertain = told.iter().filter(|told| told.event["data"].to_string().contains("\"uncertain\""));
        uncertain.count() as i64 >= missing
    })
    .await;
    faults
}

/// How many deliveries were repeated.
fn copies(desk: &HelpDesk) -> usize {
    desk.attempts().len() - desk.taken().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_person_writes_to_several_nodes_stays_in_order_and_is_done_once() {
    let mut random = Random(seed());
    let peers = Peers::start().await;
    let project = project(&peers);
    let nodes = three(&project).await;
    let traffic = Traffic::new(&nodes);
    ended(traffic.begin(0, size(12, 40), size(20, 100), &mut random)).await;
    done(&project).await;
    let faults = faults(&project, &traffic, &peers).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(copies(&peers.desk), 0, "in quiet times each event is delivered once");
    assert_eq!(peers.api.texts().len() as i64, project.number("SELECT count(*) FROM send"));
    // Each took its part.
    let parts = "SELECT count(DISTINCT l.node) FROM lease l";
    assert_eq!(project.number(parts), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_is_killed_the_others_take_its_part() {
    let mut random = Random(seed());
    let peers = Peers::start().await;
    let project = project(&peers);
    let mut nodes = three(&project).await;
    let traffic = Traffic::new(&nodes);
    let (people, messages, kills) = (8, size(30, 200), size(2, 8));
    let running = traffic.begin(0, people, messages, &mut random);
    for kill in 1..=kills {
        traffic.reached(kill * people * messages / (kills + 2)).await;
        let mut victim = nodes.remove(random.below(nodes.len()));
        victim.kill();
        traffic.avoid(&victim);
        let next = node(&project).await;
        traffic.bases.lock().unwrap().push(next.base().to_owned());
        nodes.push(next);
    }
    ended(running).await;
    done(&project).await;
    let faults = faults(&project, &traffic, &peers).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(copies(&peers.desk) <= kills * 64, "{} deliveries were repeated", copies(&peers.desk));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_stopped_past_its_lease_changes_nothing() {
    let mut random = Random(seed());
    let peers = Peers::start().await;
    let project = project(&peers);
    let nodes = three(&project).await;
    let traffic = Traffic::new(&nodes);
    for round in 0..size(3, 20) {
        // Each is stopped once, whatever it holds; the others go on.
        let stopped = &nodes[round % nodes.len()];
        let running = traffic.begin(round * 10, 6, 12, &mut random);
        traffic.reached(round * 72 + 20).await;
        stopped.pause();
        divided(&project, 2).await;
        ended(running).await;
        done(&project).await;
        // What it had begun to send when it was stopped may still go out, once more and under its own id.
        let seen = || (peers.desk.taken().len(), peers.api.texts().len());
        let before = (seen(), project.number("SELECT max(apply_no) FROM applied"));
        stopped.resume();
        divided(&project, 3).await;
        let after = (seen(), project.number("SELECT max(apply_no) FROM applied"));
        assert_eq!(before, after, "the node that was stopped did something on its own");
    }
    done(&project).await;
    let faults = faults(&project, &traffic, &peers).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_hears_the_policy_whichever_node_takes_the_call() {
    let peers = Peers::start().await;
    let project = project(&peers);
    let nodes = three(&project).await;
    for number in 0..12 {
        let (sid, from) = (format!("CA{number:032}"), format!("+1415555{number:04}"));
        let call = provider::twilio_call("voice", &sid, &from, "ringing", &[]);
        let answer = nodes[number % 3].send(&call).await;
        assert!(answer.text().contains(&format!("Hello, caller {from}")), "not by policy: {}", answer.text());
        // A repeat at another node hears the same.
        assert_eq!(nodes[(number + 1) % 3].send(&call).await.body, answer.body);
    }
    done(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_hands_over_at_once() {
    let mut random = Random(seed());
    let peers = Peers::start().await;
    let project = project(&peers);
    let mut nodes = three(&project).await;
    let traffic = Traffic::new(&nodes);
    let running = traffic.begin(0, 6, size(30, 200), &mut random);
    traffic.reached(30).await;
    let leaving = nodes.remove(0);
    traffic.avoid(&leaving);
    assert_eq!(leaving.stop().await, Some(0));
    divided(&project, 2).await;
    ended(running).await;
    done(&project).await;
    let faults = faults(&project, &traffic, &peers).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(copies(&peers.desk), 0, "nothing is delivered twice when work is handed over");
}
