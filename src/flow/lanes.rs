//! Work in order: items that share a key run strictly one after another, all others side by side.
//!
//! Pure data, no threads. An item may have several keys (one request of a provider can hold messages of several people);
//! it is ready once it is the first in line of every one of them. Interactive items go before all others that are ready,
//! never before an earlier item of their own key.

use std::collections::{HashMap, VecDeque};

/// A key that orders work.
pub(crate) type Key = [u8; 16];

/// The handle of an item that was taken out to be worked on.
pub(crate) type Ticket = u64;

/// Items in order of their keys.
pub(crate) struct Lanes<T> {
    lines: HashMap<Key, VecDeque<Ticket>>,
    items: HashMap<Ticket, Waiting<T>>,
    ready: VecDeque<Ticket>,
    ready_interactive: VecDeque<Ticket>,
    next: Ticket,
    taken: usize,
}

struct Waiting<T> {
    item: Option<T>,
    keys: Vec<Key>,
    /// In how many lines it is not yet first.
    behind: usize,
    interactive: bool,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Lanes {
            lines: HashMap::new(),
            items: HashMap::new(),
            ready: VecDeque::new(),
            ready_interactive: VecDeque::new(),
            next: 0,
            taken: 0,
        }
    }
}

impl<T> Lanes<T> {
    /// How many items there are, waiting or being worked on.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many are being worked on.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Adds an item at the end of its lines.
    pub(crate) fn push(&mut self, item: T, mut keys: Vec<Key>, interactive: bool) {
        keys.sort_unstable();
        keys.dedup();
        let ticket = self.next;
        self.next += 1;
        let mut behind = 0;
        for key in &keys {
            let line = self.lines.entry(*key).or_default();
            behind += usize::from(!line.is_empty());
            line.push_back(ticket);
        }
        self.items.insert(ticket, Waiting { item: Some(item), keys, behind, interactive });
        if behind == 0 {
            self.make_ready(ticket, interactive);
        }
    }

    fn make_ready(&mut self, ticket: Ticket, interactive: bool) {
        if interactive { &mut self.ready_interactive } else { &mut self.ready }.push_back(ticket);
    }

    /// Takes the next item that may run. It keeps its keys busy until [`Lanes::done`].
    pub(crate) fn take(&mut self) -> Option<(Ticket, T)> {
        let ticket = self.ready_interactive.pop_front().or_else(|| self.ready.pop_front())?;
        let item = self.items.get_mut(&ticket)?.item.take()?;
        self.taken += 1;
        Some((ticket, item))
    }

    /// Puts an item back that could not be finished: it is the first to run again.
    pub(crate) fn put_back(&mut self, ticket: Ticket, item: T) {
        if let Some(waiting) = self.items.get_mut(&ticket) {
            waiting.item = Some(item);
            self.taken -= 1;
            if waiting.interactive { &mut self.ready_interactive } else { &mut self.ready }.push_front(ticket);
        }
    }

    /// Ends an item: the next in its lines move up.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        let Some(ended) = self.items.remove(&ticket) else { return };
        self.taken -= usize::from(ended.item.is_none());
        for key in ended.keys {
            let Some(line) = self.lines.get_mut(&key) else { continue };
            line.pop_front();
            match line.front().copied() {
                None => {
                    self.lines.remove(&key);
                }
                Some(next) => {
                    let Some(waiting) = self.items.get_mut(&next) else { continue };
                    waiting.behind -= 1;
                    if waiting.behind == 0 {
                        let interactive = waiting.interactive;
                        self.make_ready(next, interactive);
                    }
                }
            }
        }
    }

    /// Takes out everything that waits behind the item of `ticket` in its lines, without running it.
    pub(crate) fn drop_behind(&mut self, ticket: Ticket) -> Vec<T> {
        let Some(holder) = self.items.get(&ticket) else { return Vec::new() };
        let keys = holder.keys.clone();
        let mut dropped = Vec::new();
        for key in keys {
            let line = self.lines.get(&key).cloned().unwrap_or_default();
            for waiting in line.into_iter().skip(1).rev() {
                dropped.extend(self.forget(waiting));
            }
        }
        dropped.reverse();
        dropped
    }

    fn forget(&mut self, ticket: Ticket) -> Option<T> {
        let gone = self.items.remove(&ticket)?;
        for key in &gone.keys {
            if let Some(line) = self.lines.get_mut(key) {
                line.retain(|t| *t != ticket);
            }
        }
        gone.item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> Key {
        [n; 16]
    }

    #[test]
    fn interactive_items_go_first_but_not_before_their_own_key() {
        let mut lanes = Lanes::default();
        lanes.push("backlog", vec![key(1)], false);
        lanes.push("earlier of the caller", vec![key(2)], false);
        lanes.push("call", vec![key(2)], true);
        lanes.push("other call", vec![key(3)], true);
        assert_eq!(lanes.take().unwrap().1, "other call");
        assert_eq!(lanes.take().unwrap().1, "backlog");
        let (earlier, name) = lanes.take().unwrap();
        assert_eq!(name, "earlier of the caller");
        assert!(lanes.take().is_none());
        lanes.done(earlier);
        assert_eq!(lanes.take().unwrap().1, "call");
    }

    #[test]
    fn what_waits_behind_can_be_let_go() {
        let mut lanes = Lanes::default();
        for n in 0..4 {
            lanes.push(n, vec![key(7)], false);
        }
        lanes.push(9, vec![key(8)], false);
        let (first, _) = lanes.take().unwrap();
        assert_eq!(lanes.drop_behind(first), vec![1, 2, 3]);
        assert_eq!(lanes.len(), 2);
        lanes.done(first);
        assert!(!lanes.lines.contains_key(&key(7)));
        assert_eq!(lanes.take().unwrap().1, 9);
    }

    proptest! {
        #[test]
        fn items_of_one_key_run_in_order_and_alone(
            items in prop::collection::vec((prop::collection::vec(0u8..5, 1..4), any::<bool>()), 1..60),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut lanes = Lanes::default();
            for (n, (keys, interactive)) in items.iter().enumerate() {
                lanes.push(n, keys.iter().map(|k| key(*k)).collect(), *interactive);
            }
            let mut running: Vec<(Ticket, usize)> = Vec::new();
            let mut begun: Vec<usize> = Vec::new();
            let mut choices = choices.into_iter();
            while lanes.len() > 0 {
                let take = choices.next().is_none_or(|c| c.index(3) > 0);
                match if take { lanes.take() } else { None } {
                    Some((ticket, n)) => {
                        for (_, other) in &running {
                            prop_assert!(items[*other].0.iter().all(|k| !items[n].0.contains(k)));
                        }
                        running.push((ticket, n));
                        begun.push(n);
                    }
                    None => {
                        if running.is_empty() { continue }
                        let at = choices.next().map_or(0, |c| c.index(running.len()));
                        let (ticket, _) = running.swap_remove(at);
                        lanes.done(ticket);
                    }
                }
            }
            prop_assert_eq!(begun.len(), items.len());
            for k in 0u8..5 {
                let order: Vec<_> = begun.iter().filter(|n| items[**n].0.contains(&k)).collect();
                prop_assert!(order.windows(2).all(|w| w[0] < w[1]));
            }
        }
    }
}
