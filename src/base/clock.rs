//! Where the present comes from, so that tests, samples and replay can say what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Timestamp;

/// A source of the present: the machine's clock, or one that is set by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Clock(None)
    }

    /// A clock that stands at `at` until [`Clock::set`] moves it. Clones share the hand.
    pub fn fixed(at: Timestamp) -> Self {
        Clock(Some(Arc::new(AtomicI64::new(at.millis()))))
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(hand) => Timestamp::from_millis(hand.load(Ordering::Relaxed)),
            None => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a fixed clock; the machine's clock is left alone.
    pub fn set(&self, at: Timestamp) {
        if let Some(hand) = &self.0 {
            hand.store(at.millis(), Ordering::Relaxed);
        }
    }
}
