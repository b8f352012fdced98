//! When to try again: a schedule with jitter, the other side's wish, and a breaker for destinations that are down.

/// The wait before an attempt, in milliseconds.
///
/// `attempt` counts the attempts made. None means that the schedule is used up. `jitter` is the greatest part by which a
/// wait is stretched or shortened, `chance` a number from 0 to 1. A `retry_after` of the other side is honored up to the
/// longest wait of the schedule or twice the scheduled one, so that nobody can put us off for good.
pub fn wait(schedule: &[u64], attempt: u32, jitter: f64, chance: f64, retry_after: Option<u64>) -> Option<u64> {
    let scheduled = *schedule.get(attempt as usize)?;
    let spread = 1.0 + jitter * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    let wait = (scheduled as f64 * spread) as u64;
    Some(match retry_after {
        Some(wish) => {
            let longest = schedule.iter().copied().max().unwrap_or_default();
            wish.clamp(wait, longest.max(scheduled.saturating_mul(2)).max(wait))
        }
        None => wait,
    })
}

/// Stops trying a destination that only fails, and lets single probes through.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// Failures in a row that open it.
    threshold: u32,
    /// The first pause, in milliseconds; doubled with every further failure.
    first_pause: u64,
    failures: u32,
    open_until: Option<u64>,
}

/// The longest pause, in milliseconds.
const LONGEST_PAUSE: u64 = 300_000;

impl Breaker {
    /// A closed breaker that opens after `threshold` failures in a row, at first for `first_pause` milliseconds.
    pub fn new(threshold: u32, first_pause: u64) -> Self {
        Breaker { threshold: threshold.max(1), first_pause, failures: 0, open_until: None }
    }

    /// Whether an attempt may be made at `now` (any steady clock in milliseconds). While the breaker is open one probe
    /// is let through at the end of each pause.
    pub fn allows(&mut self, now: u64) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until => {
                self.open_until = Some(now + self.pause());
                true
            }
            Some(_) => false,
        }
    }

    /// When the next probe may be made, if the breaker is open.
    pub fn open_until(&self) -> Option<u64> {
        self.open_until
    }

    /// Tells of a success.
    pub fn succeeded(&mut self) {
        *self = Breaker::new(self.threshold, self.first_pause);
    }

    /// Tells of a failure at `now`.
    pub fn failed(&mut self, now: u64) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.threshold {
            self.open_until = Some(now + self.pause());
        }
    }

    fn pause(&self) -> u64 {
        let doublings = self.failures.saturating_sub(self.threshold).min(16);
        self.first_pause.saturating_mul(1 << doublings).min(LONGEST_PAUSE.max(self.first_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_stay_within_the_jitter(attempt in 0u32..12, chance in 0.0f64..1.0) {
            let schedule = [0, 5_000, 300_000, 1_800_000];
            match wait(&schedule, attempt, 0.2, chance, None) {
                None => prop_assert!(attempt >= 4),
                Some(wait) => {
                    let scheduled = schedule[attempt as usize] as f64;
                    prop_assert!((scheduled * 0.8 - 1.0..=scheduled * 1.2 + 1.0).contains(&(wait as f64)));
                }
            }
        }
    }

    #[test]
    fn honors_the_other_sides_wish_within_reason() {
        assert_eq!(wait(&[5_000], 0, 0.0, 0.5, Some(7_000)), Some(7_000));
        assert_eq!(wait(&[5_000], 0, 0.0, 0.5, Some(1)), Some(5_000));
        assert_eq!(wait(&[5_000], 0, 0.0, 0.5, Some(u64::MAX)), Some(10_000));
        // Early in a schedule a wish may be many times the scheduled wait.
        assert_eq!(wait(&[0, 5_000, 300_000], 1, 0.2, 0.5, Some(120_000)), Some(120_000));
    }

    #[test]
    fn opens_after_failures_in_a_row_and_probes() {
        const FIRST_PAUSE: u64 = 1000;
        let mut breaker = Breaker::new(8, FIRST_PAUSE);
        for _ in 0..8 {
            assert!(breaker.allows(0));
            breaker.failed(0);
        }
        assert!(!breaker.allows(FIRST_PAUSE - 1));
        assert!(breaker.allows(FIRST_PAUSE));
        assert!(!breaker.allows(FIRST_PAUSE));
        breaker.succeeded();
        assert!(breaker.allows(FIRST_PAUSE));
    }
}
