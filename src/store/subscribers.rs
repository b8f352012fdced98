//! The help desks that a backend hands events to: what each subscribes to, the tail of its due events, and what its
//! deliveries came to.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{DueEvent, Subscription, Tail};

/// How many due events the tail of a help desk holds.
const DUE_TAIL: usize = 4096;

/// A help desk with the tail of its due events.
pub(super) struct Subscriber {
    pub(super) subscription: Subscription,
    pub(super) tail: Arc<Tail<DueEvent>>,
}

/// The help desks as they are subscribed now.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<Arc<Vec<Subscriber>>>);

impl Subscribers {
    /// All of them.
    pub(super) fn all(&self) -> Arc<Vec<Subscriber>> {
        self.0.lock().clone()
    }

    /// Puts these in the place of those before, and gives their names. Whoever stays keeps its tail.
    pub(super) fn replace(&self, subscriptions: Vec<Subscription>) -> Vec<String> {
        let names = subscriptions.iter().map(|subscription| subscription.helpdesk.clone()).collect();
        let mut known = self.0.lock();
        let renew = |subscription: Subscription| {
            let before = known.iter().find(|s| s.subscription.helpdesk == subscription.helpdesk);
            let tail = before.map_or_else(|| Arc::new(Tail::new(DUE_TAIL)), |s| s.tail.clone());
            Subscriber { subscription, tail }
        };
        let next = subscriptions.into_iter().map(renew).collect();
        *known = Arc::new(next);
        names
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.all().iter().map(|s| s.subscription.helpdesk.clone()).collect()
    }

    /// What a help desk subscribes to.
    pub(super) fn subscription(&self, helpdesk: &str) -> Option<Subscription> {
        self.all().iter().find(|s| s.subscription.helpdesk == helpdesk).map(|s| s.subscription.clone())
    }

    /// The tail of a help desk; one that nothing is pushed to, where there is no such help desk.
    pub(super) fn tail(&self, helpdesk: &str) -> Arc<Tail<DueEvent>> {
        let known = self.all();
        let found = known.iter().find(|s| s.subscription.helpdesk == helpdesk);
        found.map_or_else(|| Arc::new(Tail::new(1)), |s| s.tail.clone())
    }

    /// Has every help desk look at its events that were set aside.
    pub(super) fn rewind(&self) {
        self.all().iter().for_each(|s| s.tail.rewind());
    }
}

/// What a help desk's deliveries came to since the last group.
#[derive(Default)]
pub(super) struct Marks {
    /// Up to where events are settled.
    pub(super) through: Option<i64>,
    /// Events that were set aside and are delivered now.
    pub(super) delivered: Vec<i64>,
}

impl Marks {
    /// Adds what others say; the order does not matter.
    pub(super) fn add(&mut self, others: Marks) {
        self.through = self.through.max(others.through);
        self.delivered.extend(others.delivered);
    }
}
