//! The load: a process of its own with one thread and a fixed number of keep-alive connections.
//!
//! Three ways to drive it. `Full` sends as fast as answers come. `Window` holds the number of messages that are sent and
//! not yet verified so that the oldest of them stays young: a closed loop fed by the sink. `Open` sends on a fixed
//! schedule and counts latency from the scheduled moment, so that a stall is paid for by every message it delayed.
//! What is refused (429, 503, a cut connection) is sent again unchanged, as Meta would.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::wire::{Wire, status};
use crate::{Result, message::Requests, now_ms};

/// How the load is driven.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Full,
    /// So that the oldest unverified message is about this old, in milliseconds.
    Window(u64),
    /// So many a second, whatever comes back.
    Open(f64),
}

/// What the load is to do, given to it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Where to send: `127.0.0.1:PORT` each. Connections take them in turn.
    pub(crate) targets: Vec<String>,
    /// The app secret.
    pub(crate) secret: String,
    /// How many connections.
    pub(crate) connections: usize,
    /// The number of the first message.
    pub(crate) first: u64,
    /// How it is driven.
    pub(crate) pace: Pace,
}

/// What the load is told on standard input, one JSON object a line. The end of the input ends the load.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// How many messages the sink verified, ever.
    pub(crate) verified: u64,
    /// Every message below this number was verified.
    pub(crate) low: u64,
    /// The age to aim at, in milliseconds.
    pub(crate) aim_ms: u64,
}

/// What the load tells, one JSON object a line, every 100 ms and at its end.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The number of the next message.
    pub(crate) next: u64,
    /// Messages answered with a 2xx.
    pub(crate) accepted: u64,
    /// Answers of 429 and 503.
    pub(crate) refused: u64,
    /// Connections that were cut and made again.
    pub(crate) cut: u64,
    /// The highest age of the oldest unverified message since the last line, in milliseconds.
    pub(crate) oldest_ms: u64,
    /// Set in the last line: latencies of acknowledgement.
    pub(crate) latency: Option<Latency>,
}

/// Latencies of acknowledgement, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half were faster.
    pub(crate) p50: f64,
    /// 99 of 100 were faster.
    pub(crate) p99: f64,
    /// The slowest.
    pub(crate) max: f64,
}

/// The least messages a window lets out: enough to fill a group commit.
const LEAST_WINDOW: f64 = 512.0;
/// How long a refused message waits.
const AGAIN: Duration = Duration::from_millis(10);

/// The state that the connections share; one thread holds it.
struct Shared {
    orders: Orders,
    start: Instant,
    told: RefCell<Told>,
    done: Cell<bool>,
    turn: Notify,
    window: RefCell<Window>,
    latencies: RefCell<Vec<u32>>,
}

/// What a closed loop knows.
struct Window {
    /// How many may be sent and not verified.
    size: f64,
    /// Verified a second, smoothed.
    rate: f64,
    verified: u64,
    /// What was verified when the rate was last taken, and when that was.
    marked: (u64, Instant),
    held: bool,
    /// When each message from number `low` on was sent.
    sent: VecDeque<u64>,
    low: u64,
}

/// Carries the orders out until standard input ends.
pub(crate) fn run(orders: &str) -> Result<()> {
    let orders: Orders = serde_json::from_str(orders)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(orders))
}

async fn drive(orders: Orders) -> Result<()> {
    let now = Instant::now();
    let first = orders.first;
    let window = Window {
        size: LEAST_WINDOW,
        rate: 0.0,
        verified: first,
        marked: (first, now),
        held: false,
        sent: VecDeque::new(),
        low: first,
    };
    let shared = Rc::new(Shared {
        start: now,
        told: RefCell::new(Told { next: first, ..Told::default() }),
        done: Cell::new(false),
        turn: Notify::new(),
        window: RefCell::new(window),
        latencies: RefCell::default(),
        orders,
    });
    let mut connections: Vec<_> =
        (0..shared.orders.connections).map(|no| tokio::task::spawn_local(connection(shared.clone(), no))).collect();
    let mut heard = listen();
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            line = heard.recv() => match line {
                Some(line) => shared.hear(line),
                None => break,
            },
            _ = every.tick() => shared.tell(None)?,
        }
    }
    shared.done.set(true);
    shared.turn.notify_waiters();
    for connection in connections.drain(..) {
        connection.await??;
    }
    let latency = shared.latency();
    shared.tell(Some(latency))
}

/// Lines of standard input as they come.
fn listen() -> mpsc::Receiver<Heard> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            let Ok(heard) = serde_json::from_str(&line) else { continue };
            if sender.blocking_send(heard).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One connection: takes turns until there are none.
async fn connection(shared: Rc<Shared>, number: usize) -> Result<()> {
    let orders = &shared.orders;
    let target = orders.targets.get(number % orders.targets.len().max(1)).ok_or("there is nowhere to send to")?;
    let mut requests = Requests::new(target, &orders.secret)?;
    let mut wire = Wire::new(TcpStream::connect(target).await?)?;
    while let Some((number, scheduled)) = shared.turn().await {
        let request = requests.write(number, now_ms());
        loop {
            match exchange(&mut wire, request).await {
                Ok(200..=299) => break,
                Ok(429 | 503) => shared.told.borrow_mut().refused += 1,
                Ok(status) => return Err(format!("message {number} was answered with status {status}").into()),
                Err(error) => {
                    shared.told.borrow_mut().cut += 1;
                    if shared.done.get() || shared.told.borrow().cut > 10_000 {
                        return Err(error);
                    }
                    wire = Wire::new(TcpStream::connect(target).await?)?;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        let micros = u32::try_from(scheduled.elapsed().as_micros()).unwrap_or(u32::MAX);
        shared.latencies.borrow_mut().push(micros);
        shared.told.borrow_mut().accepted += 1;
    }
    Ok(())
}

async fn exchange(wire: &mut Wire, request: &[u8]) -> Result<u16> {
    wire.send(request).await?;
    let answer = wire.receive().await?.ok_or("the connection was closed")?;
    let status = status(wire.head(answer)).ok_or("the answer has no status")?;
    wire.forget(answer);
    Ok(status)
}

impl Shared {
    /// The next message's number and the moment it is due; none at the end.
    async fn turn(&self) -> Option<(u64, Instant)> {
        loop {
            if self.done.get() {
                return None;
            }
            match self.orders.pace {
                Pace::Full => return Some((self.draw(), Instant::now())),
                Pace::Open(rate) => {
                    let number = self.draw();
                    let after = (number - self.orders.first) as f64 / rate;
                    let due = self.start + Duration::from_secs_f64(after);
                    tokio::time::sleep_until(due).await;
                    return Some((number, due));
                }
                Pace::Window(_) => {
                    let waiting = self.turn.notified();
                    if let Some(number) = self.draw_within() {
                        return Some((number, Instant::now()));
                    }
                    waiting.await;
                }
            }
        }
    }

    fn draw(&self) -> u64 {
        let mut told = self.told.borrow_mut();
        let number = told.next;
        told.next += 1;
        number
    }

    fn draw_within(&self) -> Option<u64> {
        let mut window = self.window.borrow_mut();
        let outstanding = self.told.borrow().next.saturating_sub(window.verified);
        if window.held || outstanding as f64 >= window.size {
            return None;
        }
        window.sent.push_back(now_ms());
        drop(window);
        Some(self.draw())
    }

    /// Takes up how far the sink is, and opens or closes the window.
    fn hear(&self, heard: Heard) {
        let mut window = self.window.borrow_mut();
        let (marked, since) = window.marked;
        let past = since.elapsed().as_secs_f64();
        if past > 0.1 {
            let rate = heard.verified.saturating_sub(marked) as f64 / past;
            window.rate = if window.rate == 0.0 { rate } else { 0.7 * window.rate + 0.3 * rate };
            window.marked = (heard.verified, Instant::now());
            window.size = (window.rate * heard.aim_ms as f64 / 1000.0).max(LEAST_WINDOW);
        }
        window.verified = heard.verified;
        while window.low < heard.low && window.sent.pop_front().is_some() {
            window.low += 1;
        }
        let oldest = window.sent.front().map_or(0, |sent| now_ms().saturating_sub(*sent));
        // The window follows the rate and is slow to see a stall; past this age nothing more is sent until it ends.
        window.held = oldest > heard.aim_ms * 3 / 2;
        drop(window);
        let mut told = self.told.borrow_mut();
        told.oldest_ms = told.oldest_ms.max(oldest);
        drop(told);
        self.turn.notify_waiters();
    }

    fn tell(&self, latency: Option<Latency>) -> Result<()> {
        let mut told = self.told.borrow_mut();
        told.latency = latency;
        let line = serde_json::to_string(&*told)?;
        told.oldest_ms = 0;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    fn latency(&self) -> Latency {
        let mut all = self.latencies.borrow_mut();
        all.sort_unstable();
        let at = |share: f64| {
            let rank = (all.len() as f64 * share) as usize;
            all.get(rank.min(all.len().saturating_sub(1))).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        Latency { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}
