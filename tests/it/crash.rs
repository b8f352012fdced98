//! Killed anywhere, at random and at every sync, while signed webhooks arrive from several connections, one in five
//! repeated and some in another grouping: what was acknowledged is there exactly once, is delivered at least once under
//! one id with the same bytes, is in order, and nothing is said to a customer twice.
//!
//! The same oracle must find fault with a gateway that acknowledges before it commits; else it could find nothing.

use std::time::Duration;

use crate::support::database::on_postgres;
use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::HelpDesk;
use crate::support::oracle::{self, COPIES, Outcome};
use crate::support::server::Reply;
use crate::support::stub::Provider;
use crate::support::traffic::{POLICY, Traffic};
use crate::support::{Random, seed, size, wait};

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

/// The exit code of a shell's child, and of a tracer's, that was killed by `kill -9`.
const KILLED: i32 = 128 + 9;

/// Carries a plan out, until everything is sent, applied and delivered. Gives what it left and how often the gateway died.
async fn run(plan: Plan) -> (Outcome, usize) {
    let (desk, api) = (HelpDesk::start().await, Provider::start().await);
    let mut random = Random(plan.seed);
    // The help desk is out of order now and then, too.
    let mut moods = Random(plan.seed ^ 1);
    desk.behave(move |_| Reply::status(if moods.below(20) == 0 { 503 } else { 200 }));
    let project = Project::new()
        .helpdesk("desk", &desk, &oracle::EVENTS)
        .whatsapp("whatsapp", &api.url())
        .policy("templates = { answer = \"answer to {text}\" }")
        .script(POLICY);
    let (traffic, mut connections) = Traffic::start(plan.connections, plan.messages, &mut random);

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
        traffic.open(vec![gateway.base().to_owned()]);
        // Ends when all is sent, or with the gateway.
        let alive = wait::until("the end of the run", Duration::from_secs(600), async || {
            if gateway.ended().is_some() {
                return Some(false);
            }
            let due = next_kill.is_some_and(|after| traffic.ledger().count() >= mark + after);
            if due {
                gateway.kill();
                mark = traffic.ledger().count();
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
    loop {
        let done = wait::until("everything is applied, delivered and sent", Duration::from_secs(120), async || {
            if gateway.ended().is_some() {
                return Some(false);
            }
            oracle::unended(&project).is_empty().then_some(true)
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
    let outcome = Outcome { project, desk, api, ledger: traffic.into_ledger(), copies: deaths * COPIES };
    (outcome, deaths)
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
    let (outcome, deaths) = run(plan).await;
    assert!(deaths >= count, "{deaths} of {count} kills happened");
    oracle::judge(&outcome, &format!("seed {seed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_before_the_commit_is_found_out() {
    let seed = seed();
    let env = vec![("SEGUE_TEST_ACK_BEFORE_COMMIT", "1")];
    // A sync finds everything written already, which outlives a killed process; a write in the middle of a commit does
    // not. The first three hundred writes make the tables.
    let (calls, first, tries) = if on_postgres() { (SOCKET_WRITES, 60, 40) } else { ("pwrite64", 330, 12) };
    for at in (first..).step_by(17).take(tries) {
        let first = Start { env: env.clone(), ..traced(calls, at) };
        let plan = Plan { seed, connections: 6, messages: 30, first, again: Start::default(), kills: Vec::new() };
        let (outcome, _) = run(plan).await;
        if oracle::faults(&outcome).iter().any(|fault| fault.starts_with("lost: ")) {
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
        let (outcome, deaths) = run(plan).await;
        oracle::judge(&outcome, &format!("seed {seed}, killed at sync {at}"));
        if deaths == 0 {
            break;
        }
        points += 1;
        at = step(at);
    }
    println!("killed at {points} syncs");
    assert!(points >= 4, "the tracer killed the gateway {points} times only");
}
