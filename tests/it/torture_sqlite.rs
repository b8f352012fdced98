//! SQLite on a disk that fails: while it is full the gateway says so, goes on reading and takes up writing as soon as there
//! is space; when it cannot sync, nothing more is acknowledged and the gateway ends, and what was acknowledged is there
//! after a start on what such a disk would have kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::database::Database;
use crate::support::disk::Disk;
use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::HelpDesk;
use crate::support::http::Answer;
use crate::support::oracle::{self, COPIES, Outcome};
use crate::support::server::Reply;
use crate::support::stub::Provider;
use crate::support::synced::{self, Record};
use crate::support::traffic::{POLICY, Traffic};
use crate::support::{Random, provider, seed, size, wait};

/// How soon the gateway takes messages again once the disk has space.
const RESUMED: Duration = Duration::from_secs(5);

/// A gateway's project with its peers, its data in a folder of the test's choice.
struct Site {
    project: Project,
    desk: HelpDesk,
    api: Provider,
}

impl Site {
    async fn new(data: PathBuf) -> Site {
        let (desk, api) = (HelpDesk::start().await, Provider::start().await);
        let mut count = 0;
        // The help desk is out of order now and then, too.
        desk.behave(move |_| {
            count += 1;
            Reply::status(if count % 20 == 0 { 503 } else { 200 })
        });
        let project = Project::on(Database::Sqlite(data))
            .helpdesk("desk", &desk, &oracle::EVENTS)
            .whatsapp("whatsapp", &api.url())
            .policy("templates = { answer = \"answer to {text}\" }")
            .script(POLICY);
        project.write_config();
        Site { project, desk, api }
    }

    /// Has the customers end, waits for the end of everything, stops the gateway and gives what is left.
    async fn end(self, gateway: Gateway, traffic: Arc<Traffic>, mut customers: JoinSet<()>, copies: usize) -> Outcome {
        traffic.end();
        while let Some(ended) = customers.join_next().await {
            ended.unwrap();
        }
        oracle::all_to_end(&self.project).await;
        assert_eq!(gateway.stop().await, Some(0), "the gateway is told to stop");
        Outcome { project: self.project, desk: self.desk, api: self.api, ledger: traffic.into_ledger(), copies }
    }
}

/// One more customer, who sees what the gateway answers.
struct Prober {
    number: usize,
}

impl Prober {
    /// Sends the next message; one that was not taken is sent again the next time.
    async fn probe(&mut self, gateway: &Gateway, traffic: &Traffic) -> Answer {
        let (from, id) = ("15559990000", format!("wamid.probe.{}", self.number));
        let answer = gateway.send(&provider::whatsapp_text("whatsapp", from, &id, "is anybody there?")).await;
        if answer.status == 200 {
            traffic.ledger().note(from, &id);
            self.number += 1;
        }
        answer
    }

    /// Sends messages until one is answered with `status`.
    async fn until(&mut self, status: u16, limit: Duration, gateway: &mut Gateway, traffic: &Traffic) -> Answer {
        wait::until(&format!("a message is answered with {status}"), limit, async || {
            assert!(gateway.ended().is_none(), "the gateway ended by itself:\n{}", gateway.log());
            let answer = self.probe(gateway, traffic).await;
            assert!([200, 503].contains(&answer.status), "{}: {}", answer.status, answer.text());
            (answer.status == status).then_some(answer)
        })
        .await
    }
}

/// Reading goes on.
async fn reads(gateway: &Gateway, token: &str, conversation: &str) {
    let story = format!("/v1/conversations/{conversation}/timeline");
    for target in ["/v1/status", "/v1/events?limit=10", "/v1/dead-letters", &story] {
        let answer = gateway.get(token, target).await;
        assert_eq!(answer.status, 200, "{target} with a full disk: {}", answer.text());
    }
}

async fn heard(traffic: &Traffic, more: usize) {
    let due = traffic.ledger().count() + more;
    wait::until_true("customers are heard", wait::SOON, async || traffic.ledger().count() >= due).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_it_says_so_and_goes_on_when_there_is_space() {
    let seed = seed();
    // Where nothing may be mounted, a tracer makes writes fail as a full disk does, for a while.
    let disk = Disk::mount();
    let folder = tempfile::tempdir().unwrap();
    let data = disk.as_ref().map_or(folder.path().to_owned(), Disk::path).join("data");
    let site = Site::new(data).await;
    let token = site.project.token();
    let start = if disk.is_some() { Start::default() } else { no_space() };
    let mut gateway = Gateway::join(&site.project, &start).await.unwrap();
    let (traffic, customers) = Traffic::start(6, usize::MAX, &mut Random(seed));
    traffic.open(vec![gateway.base().to_owned()]);
    let mut prober = Prober { number: 0 };
    let rounds = size(3, 20);
    for round in 1..=rounds {
        heard(&traffic, 30).await;
        site.desk.wait_for(20 * round).await;
        if let Some(disk) = &disk {
            disk.fill();
        }
        let refused = prober.until(503, wait::SOON, &mut gateway, &traffic).await;
        assert!(!refused.header("retry-after").is_empty(), "a refusal says when to come again");
        reads(&gateway, &token, site.desk.taken()[0].conversation()).await;
        if let Some(disk) = &disk {
            // Full is full: it goes on saying so, as long as that lasts.
            for _ in 0..20 {
                prober.until(503, wait::SOON, &mut gateway, &traffic).await;
            }
            disk.free();
        }
        let freed = Instant::now();
        prober.until(200, wait::SOON, &mut gateway, &traffic).await;
        let waited = freed.elapsed();
        assert!(waited <= RESUMED, "messages were taken again only {waited:?} after there was space");
    }
    let outcome = site.end(gateway, traffic, customers, rounds * COPIES).await;
    oracle::judge(&outcome, &format!("seed {seed}"));
}

/// A start under a tracer that has the writes of each thread fail in turn for want of space, and then no more.
fn no_space() -> Start {
    let calls = "inject=pwrite64:error=ENOSPC:when=600..640";
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", calls];
    Start { wrapper: words.map(str::to_owned).to_vec(), ..Start::default() }
}

/// How soon it happens that a sync fails, and that the gateway has ended then: what is under way gets its time.
const ENDS: Duration = Duration::from_secs(120);
/// What `sysexits.h` calls `EX_IOERR`.
const IO_ERROR: i32 = 74;

/// Which syncs fail.
#[derive(Clone, Copy, Debug)]
enum Failing {
    /// So many of each thread go well: the writer's, mostly, which are of the log.
    Any(usize),
    /// So many of the database go well, into which the log is moved now and then.
    Database(usize),
    /// So many of the key store.
    Keys(usize),
}

/// Has a sync fail and the disk lose what that leaves unsure, starts again and gives what is left in `folder`.
async fn with_a_failed_sync(folder: &Path, seed: u64, what: Failing, env: &[(&'static str, &'static str)]) -> Outcome {
    let (log, data) = (folder.join("log"), folder.join("data"));
    let site = Site::new(data.clone()).await;
    let (traffic, customers) = Traffic::start(6, usize::MAX, &mut Random(seed));
    let traced = match what {
        Failing::Any(well) => synced::failing(&log, well + 1, &[]),
        Failing::Database(well) => synced::failing(&log, well + 1, &[data.join("segue.db")]),
        Failing::Keys(well) => synced::failing(&log, well + 1, &[data.join("keys.db"), data.join("keys.db-journal")]),
    };
    let start = Start { env: env.to_vec(), ..traced };
    match Gateway::join(&site.project, &start).await {
        Ok(mut gateway) => {
            traffic.open(vec![gateway.base().to_owned()]);
            let ended = wait::until("the gateway ends by itself", ENDS, async || gateway.ended()).await;
            assert_eq!(ended.code(), Some(IO_ERROR), "{what:?}: how the gateway ends:\n{}", gateway.log());
        }
        Err(ended) => {
            assert!(ended.contains(&format!("exit status: {IO_ERROR}:")), "{what:?}: how the start ends: {ended}");
        }
    }
    let record = Record::read(&log);
    assert!(record.failed > 0, "no sync failed");
    let lost = record.lose();
    println!(
        "{what:?}: {} syncs, {lost} bytes lost, {} messages acknowledged",
        record.synced,
        traffic.ledger().count()
    );
    let gateway = Gateway::join(&site.project, &Start::default()).await.unwrap();
    traffic.open(vec![gateway.base().to_owned()]);
    heard(&traffic, 20).await;
    site.end(gateway, traffic, customers, 2 * COPIES).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_sync_fails_it_ends_and_has_lost_nothing() {
    let seed = seed();
    let mut random = Random(seed);
    for run in 0..size(3, 50) {
        // Of the database and the keys less is synced, much of it at the start.
        let what = match run % 3 {
            0 => Failing::Any(random.below(100)),
            1 => Failing::Database(size(3, random.below(6))),
            _ => Failing::Keys(random.below(4)),
        };
        let folder = tempfile::tempdir().unwrap();
        let outcome = with_a_failed_sync(folder.path(), random.next(), what, &[]).await;
        oracle::judge(&outcome, &format!("seed {seed}, {what:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_sync_fails_while_the_database_is_made_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let site = Site::new(data.clone()).await;
    for (at, what) in [(1, "switching to a log"), (2, "moving the first log into the database")] {
        let log = folder.path().join("log");
        let start = synced::failing(&log, at, &[data.join("segue.db")]);
        let refused = Gateway::join(&site.project, &start).await.err().unwrap_or_else(|| panic!("{what}: it starts"));
        assert!(refused.contains(&format!("exit status: {IO_ERROR}:")), "{what}: {refused}");
        Record::read(&log).lose();
    }
    assert_eq!(Gateway::join(&site.project, &Start::default()).await.unwrap().stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_before_the_sync_is_found_out() {
    let seed = seed();
    let mut random = Random(seed);
    for _ in 0..10 {
        let what = Failing::Any(20 + random.below(40));
        let folder = tempfile::tempdir().unwrap();
        let outcome =
            with_a_failed_sync(folder.path(), random.next(), what, &[("SEGUE_TEST_ACK_BEFORE_COMMIT", "1")]).await;
        if oracle::faults(&outcome).iter().any(|fault| fault.starts_with("lost: ")) {
            return;
        }
    }
    panic!("seed {seed}: the oracle finds no loss");
}
