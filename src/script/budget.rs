//! What a script may use, and the meter that stops it.
//!
//! Luau calls the interrupt at every call, at every loop's end and inside its pattern matcher. The callback only reads
//! two numbers; the time comes from a thread that moves a shared hand every two milliseconds while scripts run. Once a
//! budget is passed the meter stays broken: every further interrupt raises again, so that a script which catches the
//! error cannot go on.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// What one call of a script may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes beyond what the loaded policy itself takes.
    pub memory: usize,
    /// Time by the wall clock.
    pub wall: Duration,
    /// Calls and loop turns (Luau's interrupts). Unlike time, the same on every machine.
    pub interrupts: u64,
}

impl Default for Budget {
    /// 16 MiB, 50 ms, two million calls and loop turns.
    fn default() -> Self {
        Budget { memory: 16 << 20, wall: Duration::from_millis(50), interrupts: 2_000_000 }
    }
}

impl Budget {
    /// What building a bundle and running one test may use, given what one decision may use.
    pub(super) fn for_build(self) -> Budget {
        Budget {
            memory: self.memory.saturating_mul(4),
            wall: self.wall.saturating_mul(20).max(Duration::from_secs(1)),
            interrupts: self.interrupts.saturating_mul(20),
        }
    }
}

/// Which budget was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Over {
    /// The wall clock.
    Time = 1,
    /// Calls and loop turns.
    Work = 2,
    /// Memory.
    Memory = 3,
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Over::Time => "took longer than its time budget",
            Over::Work => "made more calls and loop turns than its budget",
            Over::Memory => "used more memory than its budget",
        })
    }
}

impl std::error::Error for Over {}

/// Whether `reason` ends by saying that a budget was passed. What scripts themselves say never reaches a reason in
/// those words alone.
pub fn is_over_budget(reason: &str) -> bool {
    [Over::Time, Over::Work, Over::Memory].iter().any(|over| reason.ends_with(&over.to_string()))
}

/// The meter of one machine.
pub(super) struct Meter {
    deadline: AtomicU64,
    left: AtomicU64,
    broken: AtomicU8,
}

impl Meter {
    /// A meter that lets everything pass until [`Meter::start`].
    pub(super) fn new() -> Arc<Meter> {
        Arc::new(Meter { deadline: AtomicU64::new(u64::MAX), left: AtomicU64::new(u64::MAX), broken: AtomicU8::new(0) })
    }

    /// Begins a call.
    pub(super) fn start(&self, budget: &Budget) {
        let wall = u64::try_from(budget.wall.as_millis()).unwrap_or(u64::MAX).max(1);
        self.deadline.store(watch().deadline(wall), Ordering::Relaxed);
        self.left.store(budget.interrupts, Ordering::Relaxed);
        self.broken.store(0, Ordering::Relaxed);
    }

    /// Ends a call: which budget was passed, if any.
    pub(super) fn stop(&self) -> Option<Over> {
        self.deadline.store(u64::MAX, Ordering::Relaxed);
        self.left.store(u64::MAX, Ordering::Relaxed);
        self.over()
    }

    /// Which budget has been passed so far.
    pub(super) fn over(&self) -> Option<Over> {
        match self.broken.load(Ordering::Relaxed) {
            1 => Some(Over::Time),
            2 => Some(Over::Work),
            3 => Some(Over::Memory),
            _ => None,
        }
    }

    /// Marks the budget as passed; everything from here on raises.
    pub(super) fn breach(&self, over: Over) {
        // The first reason is the true one: later ones follow from it.
        let _ = self.broken.compare_exchange(0, over as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// One interrupt.
    ///
    /// # Errors
    ///
    /// The budget that was passed, as an external error of mlua.
    pub(super) fn tick(&self) -> mlua::Result<()> {
        // Only the machine's own thread writes `left`, so a plain load and store is enough and cheaper than `fetch_sub`.
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            self.breach(Over::Work);
        } else {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        if watch().now() >= self.deadline.load(Ordering::Relaxed) {
            self.breach(Over::Time);
        }
        self.over().map_or(Ok(()), |over| Err(mlua::Error::external(over)))
    }
}

/// The shared hand of the clock: milliseconds since the process first ran a script.
struct Watch {
    epoch: Instant,
    hand: AtomicU64,
    busy_until: AtomicU64,
    parked: AtomicBool,
    thread: OnceLock<Option<Thread>>,
}

/// How often the hand moves.
const TICK: Duration = Duration::from_millis(2);
/// How long the thread goes on after the last deadline before it parks.
const LINGER_MS: u64 = 500;

fn watch() -> &'static Watch {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    WATCH.get_or_init(|| Watch {
        epoch: Instant::now(),
        hand: AtomicU64::new(0),
        busy_until: AtomicU64::new(0),
        parked: AtomicBool::new(false),
        thread: OnceLock::new(),
    })
}

impl Watch {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The hand; where no thread could be started, the clock itself.
    fn now(&self) -> u64 {
        match self.thread.get() {
            Some(None) => self.elapsed(),
            _ => self.hand.load(Ordering::Relaxed),
        }
    }

    /// The hand's place `wall` milliseconds from now; wakes the thread that moves it.
    fn deadline(&'static self, wall: u64) -> u64 {
        let deadline = self.elapsed().saturating_add(wall);
        self.busy_until.fetch_max(deadline, Ordering::SeqCst);
        let thread = self.thread.get_or_init(|| {
            let spawned = std::thread::Builder::new().name("script-watch".to_owned()).spawn(|| watch().run());
            spawned.ok().map(|handle| handle.thread().clone())
        });
        if self.parked.load(Ordering::SeqCst)
            && let Some(thread) = thread
        {
            thread.unpark();
        }
        deadline
    }

    fn run(&self) {
        loop {
            self.hand.store(self.elapsed(), Ordering::Relaxed);
            if self.idle() {
                self.parked.store(true, Ordering::SeqCst);
                // Asked again after the flag is up: whoever began in between has either seen it or is seen here.
                if self.idle() {
                    std::thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
            } else {
                std::thread::sleep(TICK);
            }
        }
    }

    fn idle(&self) -> bool {
        self.elapsed() > self.busy_until.load(Ordering::SeqCst).saturating_add(LINGER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_meter_stays_broken_until_the_next_start() {
        let meter = Meter::new();
        meter.start(&Budget { interrupts: 2, ..Budget::default() });
        assert!(meter.tick().is_ok() && meter.tick().is_ok());
        assert!(meter.tick().is_err() && meter.tick().is_err());
        assert_eq!(meter.stop(), Some(Over::Work));
        meter.start(&Budget::default());
        assert!(meter.tick().is_ok());
        assert_eq!(meter.stop(), None);
    }

    #[test]
    fn time_passes_while_a_script_runs() {
        let meter = Meter::new();
        let begun = Instant::now();
        meter.start(&Budget { wall: Duration::from_millis(5), interrupts: u64::MAX, ..Budget::default() });
        while meter.tick().is_ok() {
            std::hint::spin_loop();
        }
        assert!(begun.elapsed() >= Duration::from_millis(4));
        assert_eq!(meter.stop(), Some(Over::Time));
    }
}
