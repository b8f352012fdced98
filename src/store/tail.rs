//! The end of a durable queue, kept in memory: what was just committed reaches its worker without being read again.
//!
//! The tail is bounded. When its reader falls behind, the tail forgets and says so, and the reader goes back to the
//! disk until it has caught up; see [`Tail::take`]. Nothing is lost, because everything in a tail is durable already.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many bytes of content a tail holds: entries may be whole mails.
const BYTES: usize = 16 << 20;

/// What takes memory beside its own size.
pub trait Weigh {
    /// How many bytes of content it holds.
    fn weight(&self) -> usize;
}

/// A bounded copy in memory of the latest items of a durable queue.
pub struct Tail<T> {
    inner: Mutex<Inner<T>>,
    notify: Notify,
    capacity: usize,
}

struct Inner<T> {
    items: VecDeque<T>,
    /// What the items weigh.
    bytes: usize,
    behind: bool,
    rewound: bool,
}

impl<T: Weigh> Tail<T> {
    /// A tail that holds at most `capacity` items, and not many MiB. It starts out behind: whatever is on disk comes first.
    pub fn new(capacity: usize) -> Self {
        Tail {
            inner: Mutex::new(Inner { items: VecDeque::new(), bytes: 0, behind: true, rewound: false }),
            notify: Notify::new(),
            capacity,
        }
    }

    /// Adds what was committed, in order. Past the capacity it is left to the disk.
    pub fn push(&self, items: impl IntoIterator<Item = T>) {
        {
            let mut inner = self.inner.lock();
            for item in items {
                if inner.behind {
                    break;
                }
                if inner.items.len() >= self.capacity || inner.bytes >= BYTES {
                    inner.behind = true;
                } else {
                    inner.bytes += item.weight();
                    inner.items.push_back(item);
                }
            }
        }
        self.notify.notify_one();
    }

    /// Takes up to `limit` items. The flag tells that the tail is empty and has forgotten some: read the disk.
    pub fn take(&self, limit: usize) -> (Vec<T>, bool) {
        let mut inner = self.inner.lock();
        let count = inner.items.len().min(limit);
        let items: Vec<T> = inner.items.drain(..count).collect();
        inner.bytes -= items.iter().map(Weigh::weight).sum::<usize>().min(inner.bytes);
        let behind = inner.behind && inner.items.is_empty();
        (items, behind)
    }

    /// Says that the reader is about to read the disk to its end: from now on the tail collects again. What is committed
    /// meanwhile may be seen twice, once from the disk and once from here; the reader skips by position.
    pub fn catch_up(&self) {
        self.inner.lock().behind = false;
    }

    /// Says that the reader could not follow: go by the disk.
    pub fn fall_behind(&self) {
        let mut inner = self.inner.lock();
        inner.behind = true;
        inner.items.clear();
        inner.bytes = 0;
        drop(inner);
        self.notify.notify_one();
    }

    /// Says that something came back that lies before what the reader has seen: go by the disk, from its beginning.
    pub fn rewind(&self) {
        self.inner.lock().rewound = true;
        self.fall_behind();
    }

    /// Whether the tail was rewound since this was last asked.
    pub fn take_rewound(&self) -> bool {
        std::mem::take(&mut self.inner.lock().rewound)
    }

    /// Waits until something was pushed since the last wait.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for i32 {
        fn weight(&self) -> usize {
            if *self < 0 { BYTES / 2 } else { 0 }
        }
    }

    #[test]
    fn holds_as_many_bytes_as_it_may() {
        let tail = Tail::new(9);
        tail.catch_up();
        tail.push([-1, -1, -1]);
        assert_eq!(tail.take(1), (vec![-1], false));
        assert_eq!(tail.take(9), (vec![-1], true));
        tail.catch_up();
        tail.push([-1, -1]);
        assert_eq!(tail.take(9), (vec![-1, -1], false), "what was taken weighs nothing any more");
    }

    #[test]
    fn forgets_past_its_capacity_and_says_so_when_empty() {
        let tail = Tail::new(3);
        assert_eq!(tail.take(9), (Vec::<i32>::new(), true));
        tail.catch_up();
        tail.push(1..=5);
        assert_eq!(tail.take(2), (vec![1, 2], false));
        assert_eq!(tail.take(9), (vec![3], true));
        tail.push([6]);
        assert_eq!(tail.take(9), (vec![], true));
        tail.catch_up();
        tail.push([7]);
        assert_eq!(tail.take(9), (vec![7], false));
    }
}
