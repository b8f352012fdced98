//! The phases of a run, and the wires between load, sink and this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::compare::Way;
use crate::gateway::{APP_SECRET, Gateway, SINK_SECRET, Stage};
use crate::load::{Heard, Orders, Pace};
use crate::process::{Helper, Owned, cpu, cpu_by_thread, machine, peak_rss_mb, tell};
use crate::report::{OLDEST_MS, OpenLoop, Report, Throughput};
use crate::server::Server;
use crate::{Args, Result, load, sink};

/// How often a window whose oldest event grew too old is begun again, with half the backlog each time.
const ATTEMPTS: u32 = 3;

/// What load and sink said last. The sink's words are passed on to the load that runs.
#[derive(Default)]
struct Board {
    sink: Mutex<sink::Told>,
    load: Mutex<load::Told>,
    feed: Mutex<Option<ChildStdin>>,
    aim_ms: AtomicU64,
    /// The highest age seen since it was last set to 0, by either.
    oldest_ms: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    fn sink(&self) -> sink::Told {
        *lock(&self.sink)
    }

    fn load(&self) -> load::Told {
        *lock(&self.load)
    }

    fn oldest(&self) -> u64 {
        self.oldest_ms.load(Ordering::Relaxed)
    }

    fn hear_sink(&self, told: sink::Told) {
        *lock(&self.sink) = told;
        self.oldest_ms.fetch_max(told.lag_ms, Ordering::Relaxed);
        if let Some(feed) = lock(&self.feed).as_mut() {
            let aim_ms = self.aim_ms.load(Ordering::Relaxed);
            tell(feed, &Heard { verified: told.verified, low: told.low, aim_ms });
        }
    }

    fn hear_load(&self, told: load::Told) {
        *lock(&self.load) = told;
        self.oldest_ms.fetch_max(told.oldest_ms, Ordering::Relaxed);
    }
}

/// A load that runs.
struct Load {
    process: Owned,
    reader: JoinHandle<()>,
    board: Arc<Board>,
}

impl Load {
    fn start(orders: &Orders, board: &Arc<Board>) -> Result<Self> {
        *lock(&board.load) = load::Told { next: orders.first, ..load::Told::default() };
        let Helper { process, input, lines } = Helper::start("load", &serde_json::to_string(orders)?)?;
        *lock(&board.feed) = Some(input);
        let reader = {
            let board = board.clone();
            std::thread::spawn(move || {
                let told = lines.map_while(std::result::Result::ok).map_while(|line| serde_json::from_str(&line).ok());
                told.for_each(|told| board.hear_load(told));
            })
        };
        Ok(Load { process, reader, board: board.clone() })
    }

    /// Ends it after what is in flight; gives its last words.
    fn stop(self) -> Result<load::Told> {
        *lock(&self.board.feed) = None;
        self.reader.join().map_err(|_| "the reader of the load failed")?;
        let told = self.board.load();
        if told.latency.is_none() {
            return Err("the load ended early".into());
        }
        Ok(told)
    }
}

/// Requests a second of the empty server under the same load.
pub(crate) fn empty_server(args: &Args) -> Result<f64> {
    let (_server, port) = Helper::serving("empty", "")?;
    let board = Arc::new(Board::default());
    let orders = Orders {
        targets: vec![format!("127.0.0.1:{port}")],
        secret: APP_SECRET.to_owned(),
        connections: args.connections,
        first: 0,
        pace: Pace::Full,
    };
    let load = Load::start(&orders, &board)?;
    std::thread::sleep(args.seconds(2, 1));
    let (start, before) = (Instant::now(), board.load().accepted);
    std::thread::sleep(args.seconds(6, 2));
    let rate = (board.load().accepted - before) as f64 / start.elapsed().as_secs_f64();
    load.stop()?;
    Ok(rate)
}

/// Everything that runs while something is measured, but for the load.
pub(crate) struct Stand {
    /// The nodes of the gateway.
    pub(crate) nodes: Vec<Gateway>,
    server: Option<Server>,
    sink: Owned,
    board: Arc<Board>,
    orders: Orders,
    _input: ChildStdin,
}

impl Stand {
    /// Starts sink, database and nodes on a new project in `root`.
    pub(crate) fn start(args: &Args, way: Way, root: &Path) -> Result<Stand> {
        let (Helper { process: sink, input, lines }, port) = Helper::serving("sink", SINK_SECRET)?;
        let board = Arc::new(Board::default());
        let hearing = board.clone();
        std::thread::spawn(move || {
            let told = lines.map_while(std::result::Result::ok).map_while(|line| serde_json::from_str(&line).ok());
            told.for_each(|told| hearing.hear_sink(told));
        });
        let server = if way.postgres { Some(Server::start()?) } else { None };
        Gateway::prepare(root, port, server.as_ref().map(|server| server.url.as_str()))?;
        let mut nodes = Vec::new();
        for _ in 0..way.nodes {
            let node = Gateway::start(&args.gateway, root, way.env)?;
            eprintln!("gateway: process {} at {}", node.process.id(), node.address);
            nodes.push(node);
        }
        let orders = Orders {
            targets: nodes.iter().map(|node| node.address.to_string()).collect(),
            secret: APP_SECRET.to_owned(),
            connections: args.connections,
            first: 0,
            pace: Pace::Window(args.aim_ms),
        };
        Ok(Stand { nodes, server, sink, board, orders, _input: input })
    }

    /// Waits until every message below `next` has been verified, or nothing has moved for 10 s.
    pub(crate) fn drain(&self, next: u64) {
        let (mut moved, mut low) = (Instant::now(), 0);
        while low < next && moved.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.board.sink().low;
            if now > low {
                (moved, low) = (Instant::now(), now);
            }
        }
    }

    /// Stops everything. Gives what the sink told last, or an error if a node did not end by itself.
    pub(crate) fn stop(self) -> Result<sink::Told> {
        let mut stopped = true;
        for node in self.nodes {
            stopped &= node.process.stop(Duration::from_secs(15));
        }
        drop(self.server);
        if stopped { Ok(self.board.sink()) } else { Err("a node had to be ended by force".into()) }
    }

    fn peak_rss_mb(&self) -> f64 {
        self.nodes.iter().map(|node| peak_rss_mb(node.process.id())).fold(0.0, f64::max)
    }
}

/// Throughput, then latency, of the gateway.
pub(crate) fn gateway(args: &Args, way: Way, root: &Path, report: &mut Report) -> Result<()> {
    let stand = Stand::start(args, way, root)?;
    let told = throughput(args, &stand, &mut report.throughput)?;
    report.accepted = told.accepted;
    stand.drain(told.next);
    let rate = report.throughput.per_second / 2.0;
    if rate > 0.0 {
        let orders = Orders { first: told.next, pace: Pace::Open(rate), ..stand.orders.clone() };
        let (open, told) = latency(args, &orders, rate, &stand.board)?;
        report.latency = open;
        report.accepted += told.accepted;
        stand.drain(told.next);
    }
    report.rss_mb = stand.peak_rss_mb();
    let board = stand.board.clone();
    report.stopped = stand.stop().is_ok();
    let told = board.sink();
    (report.verified, report.repeats, report.bad) = (told.verified, told.repeats, told.bad);
    Ok(())
}

/// Everything that is read at the beginning and at the end of a window.
struct Sample {
    at: Instant,
    verified: u64,
    /// Of the nodes, the load, the sink and PostgreSQL.
    cpu: [f64; 4],
    threads: BTreeMap<String, f64>,
    stages: BTreeMap<String, Stage>,
    machine: (f64, f64),
}

impl Sample {
    fn take(stand: &Stand, load: &Load) -> Self {
        let (mut own, mut threads, mut stages) = (0.0, BTreeMap::new(), BTreeMap::new());
        for node in &stand.nodes {
            own += cpu(node.process.id());
            for (name, seconds) in cpu_by_thread(node.process.id()) {
                *threads.entry(name).or_default() += seconds;
            }
            for (name, stage) in node.stages() {
                let all: &mut Stage = stages.entry(name).or_default();
                (all.seconds, all.count) = (all.seconds + stage.seconds, all.count + stage.count);
            }
        }
        let server = stand.server.as_ref().map_or(0.0, Server::cpu);
        Sample {
            at: Instant::now(),
            verified: stand.board.sink().verified,
            cpu: [own, cpu(load.process.id()), cpu(stand.sink.id()), server],
            threads,
            stages,
            machine: machine(),
        }
    }
}

/// Loads the stand fully for a while. Gives what the load told last.
pub(crate) fn throughput(args: &Args, stand: &Stand, found: &mut Throughput) -> Result<load::Told> {
    let board = &stand.board;
    board.aim_ms.store(args.aim_ms, Ordering::Relaxed);
    let load = Load::start(&stand.orders, board)?;
    watch(stand, "warm", args.seconds(5, 2), u64::MAX);
    for attempt in 1..=ATTEMPTS {
        board.oldest_ms.store(0, Ordering::Relaxed);
        let before = Sample::take(stand, &load);
        // The last attempt is seen through, so that there is a figure in any case.
        let most = if attempt < ATTEMPTS { OLDEST_MS } else { u64::MAX };
        let held = watch(stand, "full", args.seconds(30, 5), most);
        let after = Sample::take(stand, &load);
        *found = between(&before, &after);
        found.oldest_ms = board.oldest();
        found.begun_again = attempt - 1;
        if held {
            break;
        }
        let aim_ms = args.aim_ms >> attempt;
        eprintln!("an event waited {} ms: again, with a backlog of {aim_ms} ms", board.oldest());
        board.aim_ms.store(aim_ms, Ordering::Relaxed);
        watch(stand, "settle", Duration::from_secs(3), u64::MAX);
    }
    let told = load.stop()?;
    found.refused = told.refused + told.cut;
    found.ack = told.latency.unwrap_or_default();
    Ok(told)
}

/// Waits and says each second how it goes; false as soon as an undelivered event is older than `most` milliseconds.
fn watch(stand: &Stand, phase: &str, length: Duration, most: u64) -> bool {
    let board = &stand.board;
    let start = Instant::now();
    let mut last = (start, board.sink().verified);
    while start.elapsed() < length {
        let left = length.saturating_sub(start.elapsed());
        std::thread::sleep(left.min(Duration::from_secs(1)));
        let (now, verified) = (Instant::now(), board.sink().verified);
        let rate = (verified - last.1) as f64 / now.duration_since(last.0).as_secs_f64();
        last = (now, verified);
        let (load, oldest) = (board.load(), board.oldest());
        eprintln!(
            "{phase} {:>4.1} s: {rate:>6.0}/s, waiting {}, oldest so far {oldest} ms, refused {}, RSS {:.0} MB",
            start.elapsed().as_secs_f64(),
            load.next.saturating_sub(verified),
            load.refused + load.cut,
            stand.peak_rss_mb()
        );
        if oldest > most {
            return false;
        }
    }
    true
}

/// What happened between two samples, for 1,000 interactions.
fn between(before: &Sample, after: &Sample) -> Throughput {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let verified = (after.verified - before.verified) as f64;
    // Seconds of the whole window to milliseconds for 1,000 interactions.
    let each = |seconds: f64| if verified > 0.0 { seconds * 1e6 / verified } else { 0.0 };
    let [gateway, load, sink, server] = [0, 1, 2, 3].map(|at| {
        let of = |sample: &Sample| sample.cpu.get(at).copied().unwrap_or_default();
        of(after) - of(before)
    });
    let (busy, all) = (after.machine.0 - before.machine.0, after.machine.1 - before.machine.1);
    let thread = |(name, seconds): (&String, &f64)| {
        let earlier = before.threads.get(name).copied().unwrap_or_default();
        (name.clone(), each(seconds - earlier))
    };
    let stage = |(name, stage): (&String, &Stage)| {
        let earlier = before.stages.get(name).copied().unwrap_or_default();
        let seconds = stage.seconds - earlier.seconds;
        // Stages that wait are timed now and then, once for each interaction.
        let sampled = matches!(name.as_str(), "intake" | "deliver");
        let all = if sampled { seconds / (stage.count - earlier.count).max(1.0) * verified } else { seconds };
        (name.clone(), each(all))
    };
    Throughput {
        seconds,
        per_second: verified / seconds,
        cpu: each(gateway),
        cpu_by_thread: after.threads.iter().map(thread).collect(),
        by_stage: after.stages.iter().map(stage).collect(),
        cpu_of_server: each(server),
        cpu_of_load: each(load),
        cpu_of_sink: each(sink),
        others: ((busy - gateway - load - sink - server) / all.max(0.01)).max(0.0),
        idle: ((all - busy) / all.max(0.01)).max(0.0),
        ..Throughput::default()
    }
}

fn latency(args: &Args, orders: &Orders, rate: f64, board: &Arc<Board>) -> Result<(OpenLoop, load::Told)> {
    board.oldest_ms.store(0, Ordering::Relaxed);
    let length = args.seconds(15, 5);
    eprintln!("open loop: {rate:.0}/s for {} s", length.as_secs());
    let load = Load::start(orders, board)?;
    std::thread::sleep(length);
    let told = load.stop()?;
    let ack = told.latency.unwrap_or_default();
    Ok((OpenLoop { per_second: rate, ack, oldest_ms: board.oldest() }, told))
}
