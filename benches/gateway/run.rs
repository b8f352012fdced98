//! The phases of a run, and the wires between load, sink and this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::gateway::{APP_SECRET, Gateway, SINK_SECRET, Stage};
use crate::load::{Heard, Orders, Pace};
use crate::process::{Helper, Owned, cpu, cpu_by_thread, machine, peak_rss_mb, tell};
use crate::report::{OLDEST_MS, OpenLoop, Report, Throughput};
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
        target: format!("127.0.0.1:{port}"),
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

/// Throughput, then latency, of the gateway.
pub(crate) fn gateway(args: &Args, root: &Path, report: &mut Report) -> Result<()> {
    let (Helper { process: sink, input: _input, lines }, port) = Helper::serving("sink", SINK_SECRET)?;
    let board = Arc::new(Board::default());
    let hearing = board.clone();
    std::thread::spawn(move || {
        let told = lines.map_while(std::result::Result::ok).map_while(|line| serde_json::from_str(&line).ok());
        told.for_each(|told| hearing.hear_sink(told));
    });
    let gateway = Gateway::start(&args.gateway, root, port)?;
    eprintln!("gateway: process {} at {}", gateway.process.id(), gateway.address);
    let orders = Orders {
        target: gateway.address.to_string(),
        secret: APP_SECRET.to_owned(),
        connections: args.connections,
        first: 0,
        pace: Pace::Window(args.aim_ms),
    };
    let told = throughput(args, &gateway, &sink, &orders, &board, &mut report.throughput)?;
    report.accepted = told.accepted;
    drain(&board, told.next);
    let rate = report.throughput.per_second / 2.0;
    if rate > 0.0 {
        let orders = Orders { first: told.next, pace: Pace::Open(rate), ..orders };
        let (open, told) = latency(args, &orders, rate, &board)?;
        report.latency = open;
        report.accepted += told.accepted;
        drain(&board, told.next);
    }
    report.rss_mb = peak_rss_mb(gateway.process.id());
    report.stopped = gateway.process.stop(Duration::from_secs(15));
    let told = board.sink();
    (report.verified, report.repeats, report.bad) = (told.verified, told.repeats, told.bad);
    Ok(())
}

/// Waits until every message below `next` has been verified, or nothing has moved for 10 s.
fn drain(board: &Board, next: u64) {
    let (mut moved, mut low) = (Instant::now(), 0);
    while low < next && moved.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
        let now = board.sink().low;
        if now > low {
            (moved, low) = (Instant::now(), now);
        }
    }
}

/// Everything that is read at the beginning and at the end of a window.
struct Sample {
    at: Instant,
    verified: u64,
    cpu: [f64; 3],
    threads: BTreeMap<String, f64>,
    stages: BTreeMap<String, Stage>,
    machine: (f64, f64),
}

impl Sample {
    fn take(board: &Board, gateway: &Gateway, load: &Load, sink: &Owned) -> Self {
        let pid = gateway.process.id();
        Sample {
            at: Instant::now(),
            verified: board.sink().verified,
            cpu: [pid, load.process.id(), sink.id()].map(cpu),
            threads: cpu_by_thread(pid),
            stages: gateway.stages(),
            machine: machine(),
        }
    }
}

fn throughput(
    args: &Args,
    gateway: &Gateway,
    sink: &Owned,
    orders: &Orders,
    board: &Arc<Board>,
    found: &mut Throughput,
) -> Result<load::Told> {
    board.aim_ms.store(args.aim_ms, Ordering::Relaxed);
    let load = Load::start(orders, board)?;
    watch(board, gateway, "warm", args.seconds(5, 2), u64::MAX);
    for attempt in 1..=ATTEMPTS {
        board.oldest_ms.store(0, Ordering::Relaxed);
        let before = Sample::take(board, gateway, &load, sink);
        // The last attempt is seen through, so that there is a figure in any case.
        let most = if attempt < ATTEMPTS { OLDEST_MS } else { u64::MAX };
        let held = watch(board, gateway, "full", args.seconds(30, 5), most);
        let after = Sample::take(board, gateway, &load, sink);
        *found = between(&before, &after);
        found.oldest_ms = board.oldest();
        found.begun_again = attempt - 1;
        if held {
            break;
        }
        let aim_ms = args.aim_ms >> attempt;
        eprintln!("an event waited {} ms: again, with a backlog of {aim_ms} ms", board.oldest());
        board.aim_ms.store(aim_ms, Ordering::Relaxed);
        watch(board, gateway, "settle", Duration::from_secs(3), u64::MAX);
    }
    let told = load.stop()?;
    found.refused = told.refused + told.cut;
    found.ack = told.latency.unwrap_or_default();
    Ok(told)
}

/// Waits and says each second how it goes; false as soon as an undelivered event is older than `most` milliseconds.
fn watch(board: &Board, gateway: &Gateway, phase: &str, length: Duration, most: u64) -> bool {
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
            peak_rss_mb(gateway.process.id())
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
    let [gateway, load, sink] = [0, 1, 2].map(|at| {
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
        cpu_of_load: each(load),
        cpu_of_sink: each(sink),
        others: ((busy - gateway - load - sink) / all.max(0.01)).max(0.0),
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
