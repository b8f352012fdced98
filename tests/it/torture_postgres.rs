//! Three nodes on one PostgreSQL under load, each customer's messages spread over all of them, while nodes are killed, the
//! server is restarted, connections are cut between COMMIT and its confirmation, and nodes are stopped past their leases:
//! nothing acknowledged is lost, no effect is doubled, nothing stale is written, each conversation stays in order.
//!
//! And a reader of the feed misses nothing, whatever transaction is held open meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::support::database::{Database, Server};
use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::HelpDesk;
use crate::support::oracle::{self, COPIES, Outcome};
use crate::support::proxy::{Cut, Proxy};
use crate::support::stub::Provider;
use crate::support::traffic::{POLICY, Traffic};
use crate::support::{Random, seed, size, wait};

/// How many nodes share the database.
const NODES: usize = 3;
/// How long the leases of a node last that is struck, in milliseconds: shorter than by default, so that much is struck in
/// little time.
const LEASE_MS: &str = "1500";
/// How long a node is stopped: well past its leases.
const STOPPED: Duration = Duration::from_secs(4);
/// How long a strike may take to be overcome.
const OVERCOME: Duration = Duration::from_secs(60);

/// What is done to the nodes, again and again.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One is killed and started again.
    Kill,
    /// The server ends at once and comes back.
    Restart,
    /// A connection is cut after COMMIT was sent, before the confirmation is back.
    Cut,
    /// One is stopped past its leases and goes on.
    Stop,
}

impl Fault {
    /// How many deliveries it may repeat.
    fn copies(self) -> usize {
        match self {
            // Whoever delivers may change, and takes up what was not marked. So it is with a restart that takes longer than
            // what is left of leases as short as these.
            Fault::Kill | Fault::Stop | Fault::Restart => COPIES,
            // Marks wait in the nodes until they are connected again.
            Fault::Cut => COPIES / 8,
        }
    }
}

/// The nodes, and what they talk to.
struct Cluster {
    server: Server,
    proxy: Proxy,
    project: Project,
    desk: HelpDesk,
    api: Provider,
    nodes: Vec<Gateway>,
    /// How each node is started.
    how: Start,
}

impl Cluster {
    /// A server of its own, and nodes on a new database that they reach through the proxy.
    async fn start(how: Start) -> Cluster {
        let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
        let (desk, api, proxy) =
            (HelpDesk::start().await, Provider::start().await, Proxy::start(&server.socket()).await);
        let database = server.database();
        let way = proxy.url(&database.name());
        let project = Project::on(database)
            .reached_at(way)
            .helpdesk("desk", &desk, &oracle::EVENTS)
            .whatsapp("whatsapp", &api.url())
            .policy("templates = { answer = \"answer to {text}\" }")
            .script(POLICY);
        project.write_config();
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Gateway::join(&project, &how).await.unwrap());
        }
        Cluster { server, proxy, project, desk, api, nodes, how }
    }

    fn doors(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.base().to_owned()).collect()
    }

    /// Does it once, and waits until all nodes are ready again.
    async fn strike(&mut self, fault: Fault, random: &mut Random, traffic: &Traffic) {
        let (which, began) = (random.below(NODES), Instant::now());
        match fault {
            Fault::Kill => {
                self.nodes[which].kill();
                self.nodes[which] = Gateway::join(&self.project, &self.how).await.unwrap();
                traffic.open(self.doors());
            }
            Fault::Restart => tokio::task::block_in_place(|| self.server.restart()),
            Fault::Cut => {
                let before = self.proxy.cuts();
                self.proxy.cut_next(if random.below(2) == 0 { Cut::Confirmed } else { Cut::AtOnce });
                let cut = async || self.proxy.cuts() > before;
                wait::until_true("a connection is cut", OVERCOME, cut).await;
            }
            Fault::Stop => {
                self.nodes[which].pause();
                // A lease ends with time and nothing else.
                tokio::time::sleep(STOPPED).await;
                self.nodes[which].resume();
            }
        }
        for node in &mut self.nodes {
            let ready = wait::until("a node is ready again", OVERCOME, async || match node.ended() {
                Some(status) => Some(Err(status)),
                None => node.is_ready().await.then_some(Ok(())),
            });
            if let Err(status) = ready.await {
                panic!("after {fault:?} a node ended by itself with {status}:\n{}", node.log());
            }
        }
        println!("{fault:?}: all are ready again after {:?}", began.elapsed());
    }

    /// Has the customers end and waits for the end of everything that they caused.
    async fn quiet(&self, traffic: &Traffic, mut customers: JoinSet<()>) {
        traffic.end();
        while let Some(ended) = customers.join_next().await {
            ended.unwrap();
        }
        oracle::all_to_end(&self.project).await;
    }

    /// Stops the nodes and judges what is left.
    async fn judge(self, traffic: Arc<Traffic>, copies: usize, run: &str) {
        for node in self.nodes {
            assert_eq!(node.stop().await, Some(0), "a node is told to stop");
        }
        let ledger = traffic.into_ledger();
        oracle::judge(&Outcome { project: self.project, desk: self.desk, api: self.api, ledger, copies }, run);
    }
}

/// Waits until so many more messages are acknowledged.
async fn heard(traffic: &Traffic, more: usize) {
    let due = traffic.ledger().count() + more;
    wait::until_true("customers are heard", OVERCOME, async || traffic.ledger().count() >= due).await;
}

/// Strikes so often while customers write, and judges what is left.
async fn endure(fault: Fault, strikes: usize) {
    let seed = seed();
    let mut random = Random(seed);
    let how = Start { env: vec![("SEGUE_TEST_LEASE_MS", LEASE_MS)], ..Start::default() };
    let mut cluster = Cluster::start(how).await;
    let (traffic, customers) = Traffic::start(6, usize::MAX, &mut random);
    traffic.open(cluster.doors());
    for _ in 0..strikes {
        heard(&traffic, 30 + random.below(60)).await;
        cluster.strike(fault, &mut random, &traffic).await;
    }
    heard(&traffic, 30).await;
    cluster.quiet(&traffic, customers).await;
    cluster.judge(traffic, strikes * fault.copies(), &format!("seed {seed}, {strikes} times {fault:?}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_every_few_seconds() {
    endure(Fault::Kill, size(3, 50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_at_once_and_comes_back() {
    endure(Fault::Restart, size(2, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_after_commit_was_sent() {
    endure(Fault::Cut, size(10, 200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_stopped_past_its_leases_and_goes_on() {
    endure(Fault::Stop, size(1, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_quiet_times_every_event_is_sent_once() {
    let seed = seed();
    let cluster = Cluster::start(Start::default()).await;
    let (traffic, customers) = Traffic::start(6, usize::MAX, &mut Random(seed));
    traffic.open(cluster.doors());
    heard(&traffic, size(600, 6000)).await;
    cluster.quiet(&traffic, customers).await;
    cluster.judge(traffic, 0, &format!("seed {seed}")).await;
}

/// Reads the feed on from `after`, asking the nodes in turn, and notes the ids of all it sees. Gives the new cursor.
async fn read_on(cluster: &Cluster, token: &str, mut after: String, seen: &mut Vec<String>) -> String {
    for node in cluster.nodes.iter().cycle().skip(seen.len() % NODES) {
        let answer = node.get(token, &format!("/v1/events?limit=100&after={after}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        seen.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        after = page["next"].as_str().unwrap().to_owned();
        if page["has_more"] == false {
            break;
        }
    }
    after
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_feed_misses_nothing_while_a_transaction_is_open() {
    let seed = seed();
    let mut random = Random(seed);
    let cluster = Cluster::start(Start::default()).await;
    let token = cluster.project.token();
    let (traffic, customers) = Traffic::start(6, usize::MAX, &mut random);
    traffic.open(cluster.doors());
    heard(&traffic, 50).await;
    let Database::Postgres(url) = cluster.project.database() else { panic!("these tests are for PostgreSQL") };
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);

    let (mut after, mut seen) = (String::from("0"), Vec::new());
    for round in 0..size(3, 30) {
        let held = client.transaction().await.unwrap();
        // A number is taken now, as by any writer.
        held.execute("SELECT pg_current_xact_id()", &[]).await.unwrap();
        if round % 2 == 1 {
            // One node waits in the middle of its own transaction, its number taken and its events not committed, while the
            // others commit later ones.
            held.execute("SELECT no FROM conversation ORDER BY no LIMIT 1 FOR UPDATE", &[]).await.unwrap();
        }
        for _ in 0..4 {
            // Who speaks to a node that waits is not heard: nobody is waited for longer than a moment.
            let _ = tokio::time::timeout(Duration::from_secs(1), heard(&traffic, 20)).await;
            after = read_on(&cluster, &token, after, &mut seen).await;
        }
        held.rollback().await.unwrap();
        heard(&traffic, 20).await;
        after = read_on(&cluster, &token, after, &mut seen).await;
    }
    drop(client);
    cluster.quiet(&traffic, customers).await;
    let all = cluster.project.number("SELECT count(*) FROM event");
    wait::until_true("the reader is at the end", OVERCOME, async || {
        after = read_on(&cluster, &token, after.clone(), &mut seen).await;
        seen.len() as i64 >= all
    })
    .await;
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len() as i64, distinct.len() as i64), (all, all), "seed {seed}: the feed was read in full, once");
    cluster.judge(traffic, 0, &format!("seed {seed}")).await;
}
