//! The clock of the micro-benchmarks: short rounds, the best and the median of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How many rounds are timed.
const ROUNDS: usize = 25;
/// About how long a round takes.
const ROUND: Duration = Duration::from_millis(20);

/// Times things and prints a line for each.
pub(crate) struct Timer {
    only: Option<String>,
    yardstick: Option<f64>,
}

impl Timer {
    /// A timer that runs only what has `only` in its name, if that is given.
    pub(crate) fn new(only: Option<String>) -> Self {
        println!("{:<44} {:>12} {:>12} {:>9}", "", "best", "median", "ratio");
        Timer { only, yardstick: None }
    }

    /// Whether what is called `name` is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Times what the others are compared with.
    pub(crate) fn yardstick<T>(&mut self, name: &str, run: impl FnMut() -> T) {
        let rounds = rounds(run);
        self.yardstick = rounds.first().copied();
        self.tell(name, rounds);
    }

    /// Times `run`.
    pub(crate) fn time<T>(&mut self, name: &str, run: impl FnMut() -> T) {
        if self.wants(name) {
            self.tell(name, rounds(run));
        }
    }

    /// Prints what rounds took, in seconds for one each.
    pub(crate) fn tell(&self, name: &str, mut rounds: Vec<f64>) {
        rounds.sort_by(f64::total_cmp);
        let at = |place: usize| rounds.get(place).copied().unwrap_or_default();
        let (best, median) = (at(0), at(rounds.len() / 2));
        let ratio = self.yardstick.map_or(1.0, |yardstick| best / yardstick);
        println!("{name:<44} {:>9.2} us {:>9.2} us {ratio:>9.2}", best * 1e6, median * 1e6);
    }
}

/// Seconds that one run takes, over rounds of many runs, the shortest first.
fn rounds<T>(mut run: impl FnMut() -> T) -> Vec<f64> {
    let mut round = |runs: u32| {
        let start = Instant::now();
        for _ in 0..runs {
            black_box(run());
        }
        start.elapsed()
    };
    let mut runs = 1;
    while round(runs) < ROUND / 2 {
        runs *= 2;
    }
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| round(runs).as_secs_f64() / f64::from(runs)).collect();
    all.sort_by(f64::total_cmp);
    all
}
