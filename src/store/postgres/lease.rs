//! What this node holds, as it knows it: for everybody who asks between two looks at the database.
//!
//! What is held here is a part of what the database says, never more: a lease is taken in here after the database gave it
//! and taken out before the database is told that it is free. Its time is counted from before it was asked for, on a clock
//! that goes on while the machine sleeps. That this node may still write is checked in each commit all the same ([`FENCE`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, watch};

use super::read::{Readers, all, get, id16};
use super::session::{PgError, Session};
use crate::base::id::NodeId;
use crate::base::telemetry::Metrics;
use crate::base::{Result, Timestamp};
use crate::store::lease::{BUCKETS, Hold, Leases, Node};
use crate::store::unavailable;

/// Whether a membership still stands: locked, so that nobody ends it before the transaction is over. Renewals pass.
pub(super) const FENCE: &str = "SELECT 1::int8 FROM node WHERE no = $1 AND until > clock_timestamp() FOR KEY SHARE";

/// The name of a bucket's lease.
pub(super) fn bucket_name(bucket: u8) -> String {
    format!("bucket/{bucket}")
}

/// The bucket of a lease's name.
pub(super) fn bucket_of(name: &str) -> Option<u8> {
    name.strip_prefix("bucket/")?.parse().ok()
}

/// What orders an entry among others, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// The first key; its last eight bits are the entry's bucket.
    pub(super) key: i64,
    /// The other keys.
    pub(super) more: Vec<i64>,
}

impl Order {
    /// Of an entry with these keys. One without any goes by itself, into `bucket`.
    pub(super) fn of(keys: &[[u8; 16]], bucket: u8, id: &[u8; 16]) -> Order {
        let mut keys = keys.iter().map(short);
        // The last bytes of an id are its random ones.
        let own =
            || (short(&std::array::from_fn(|at| id.get(15 - at).copied().unwrap_or(0))) & !0xff) | i64::from(bucket);
        let key = keys.next().unwrap_or_else(own);
        let mut more: Vec<i64> = keys.filter(|other| *other != key).collect();
        more.sort_unstable();
        more.dedup();
        Order { key, more }
    }

    pub(super) fn bucket(&self) -> u8 {
        bucket(self.key)
    }

    /// The other keys as PostgreSQL writes an array; none if there are none.
    pub(super) fn more_text(&self) -> Option<String> {
        let keys: Vec<String> = self.more.iter().map(i64::to_string).collect();
        (!keys.is_empty()).then(|| format!("{{{}}}", keys.join(",")))
    }
}

fn bucket(key: i64) -> u8 {
    let [.., last] = key.to_be_bytes();
    last
}

/// Eight bytes of a key: two keys that share them are kept in order for nothing, which does no harm.
fn short(key: &[u8; 16]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What may be written of which bucket, as of the beginning of a group.
pub(super) struct Fence {
    /// Whether it matters: a store that did not join is not held back.
    pub(super) joined: bool,
    /// The number under which this node is a member, if it is.
    pub(super) member: Option<i32>,
    pub(super) buckets: Box<[bool; BUCKETS]>,
}

/// What this node holds.
pub(super) struct Nodes {
    pub(super) id: NodeId,
    /// How long a lease lasts unless it is renewed.
    pub(super) time: Duration,
    pub(super) state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Has the members' task look at once.
    pub(super) poke: Notify,
    /// Wakes whoever applies entries: there may be some of other nodes.
    pub(super) entries: Arc<Notify>,
    turn: AtomicU64,
    metrics: Metrics,
}

pub(super) struct State {
    pub(super) joined: bool,
    /// Whether this node is leaving for good.
    pub(super) closing: bool,
    pub(super) member: Option<i32>,
    /// How often everything was lost.
    pub(super) term: u64,
    /// Until when what is held may be believed, on [`now`].
    pub(super) until: Duration,
    pub(super) buckets: Box<[Hold; BUCKETS]>,
    pub(super) named: BTreeMap<String, Hold>,
    pub(super) wanted: Vec<String>,
    /// What the database is still to be told is free.
    pub(super) let_go: Vec<String>,
}

/// The time since the machine was started, sleep included.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl State {
    fn holds(&self, hold: Option<Hold>) -> Hold {
        match (self.joined, hold) {
            (false, _) => Hold::Yes,
            (true, Some(hold)) if now() < self.until => hold,
            (true, _) => Hold::No,
        }
    }

    /// Forgets everything: this node is no member any more.
    pub(super) fn lose(&mut self) {
        self.member = None;
        self.term += 1;
        self.until = Duration::ZERO;
        self.buckets.fill(Hold::No);
        self.named.clear();
        self.let_go.clear();
    }
}

impl Nodes {
    pub(super) fn new(time: Duration, metrics: Metrics) -> Nodes {
        let state = State {
            joined: false,
            closing: false,
            member: None,
            term: 0,
            until: Duration::ZERO,
            buckets: Box::new([Hold::No; BUCKETS]),
            named: BTreeMap::new(),
            wanted: Vec::new(),
            let_go: Vec::new(),
        };
        Nodes {
            id: NodeId::random(crate::base::Clock::system().now()),
            time,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            poke: Notify::new(),
            entries: Arc::default(),
            turn: AtomicU64::new(0),
            metrics,
        }
    }

    /// Tells everybody that what is held may have changed.
    pub(super) fn tell(&self) {
        let held = {
            let state = self.state.lock();
            state.buckets.iter().filter(|hold| hold.may_go_on()).count()
        };
        self.metrics.buckets.set(i64::try_from(held).unwrap_or_default());
        self.changed.send_modify(|turn| *turn = turn.wrapping_add(1));
        self.entries.notify_one();
    }

    /// Shows how many nodes there are.
    pub(super) fn alive(&self, nodes: usize) {
        self.metrics.nodes.set(i64::try_from(nodes).unwrap_or_default());
    }

    pub(super) fn bucket(&self, bucket: u8) -> Hold {
        let state = self.state.lock();
        state.holds(state.buckets.get(usize::from(bucket)).copied())
    }

    pub(super) fn named(&self, name: &str) -> Hold {
        let state = self.state.lock();
        state.holds(state.named.get(name).copied())
    }

    /// A bucket for what nothing orders: one that this node holds, in turn; any, if it holds none.
    pub(super) fn any_bucket(&self) -> u8 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let [.., first] = turn.to_be_bytes();
        let state = self.state.lock();
        let held = |bucket: &u8| state.buckets.get(usize::from(*bucket)) == Some(&Hold::Yes);
        (0..=u8::MAX).map(|step| first.wrapping_add(step)).find(held).unwrap_or(first)
    }

    /// The buckets of which entries may be begun, a bit each.
    pub(super) fn mask(&self) -> [u8; BUCKETS / 8] {
        let state = self.state.lock();
        let mut mask = [0; BUCKETS / 8];
        for (bucket, hold) in state.buckets.iter().enumerate() {
            if let (true, Some(byte)) = (state.holds(Some(*hold)).may_begin(), mask.get_mut(bucket / 8)) {
                *byte |= 1 << (bucket % 8);
            }
        }
        mask
    }

    pub(super) fn fence(&self) -> Fence {
        let state = self.state.lock();
        let mut buckets = Box::new([false; BUCKETS]);
        buckets.iter_mut().zip(state.buckets.iter()).for_each(|(may, hold)| *may = hold.may_go_on());
        Fence { joined: state.joined, member: state.member, buckets }
    }

    pub(super) fn term(&self) -> u64 {
        self.state.lock().term
    }

    /// Whether this node may still write what goes by a lease that it had in `term`, within the transaction of `session`.
    pub(super) async fn may_write(&self, session: &Session, term: u64) -> std::result::Result<bool, PgError> {
        let member = {
            let state = self.state.lock();
            if !state.joined {
                return Ok(true);
            }
            state.member.filter(|_| state.term == term)
        };
        match member {
            Some(member) => Ok(session.row(FENCE, &[&member]).await?.is_some()),
            None => Ok(false),
        }
    }
}

/// The leases as other rooms see them.
pub(super) struct PgLeases {
    pub(super) nodes: Arc<Nodes>,
    pub(super) readers: Arc<Readers>,
}

impl Leases for PgLeases {
    fn shared(&self) -> bool {
        true
    }

    fn join(&self, mut named: Vec<String>) -> BoxFuture<'static, Result<()>> {
        named.sort_unstable();
        named.dedup();
        let mut changed = self.nodes.changed.subscribe();
        let first = {
            let mut state = self.nodes.state.lock();
            state.wanted = named;
            !std::mem::replace(&mut state.joined, true)
        };
        self.nodes.poke.notify_one();
        let nodes = self.nodes.clone();
        async move {
            let member = async {
                while first && nodes.state.lock().member.is_none() {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(10), member).await.map_err(|_| unavailable())
        }
        .boxed()
    }

    fn bucket(&self, bucket: u8) -> Hold {
        self.nodes.bucket(bucket)
    }

    fn named(&self, name: &str) -> Hold {
        self.nodes.named(name)
    }

    fn term(&self) -> u64 {
        self.nodes.term()
    }

    fn leaving(&self) -> Vec<u8> {
        let state = self.nodes.state.lock();
        let leaving = |bucket: &u8| state.buckets.get(usize::from(*bucket)) == Some(&Hold::Leaving);
        (0..=u8::MAX).filter(leaving).collect()
    }

    fn let_buckets_go(&self, buckets: &[u8]) {
        {
            let mut state = self.nodes.state.lock();
            for bucket in buckets {
                // It may have been lost, or wanted again, meanwhile.
                if let Some(hold @ Hold::Leaving) = state.buckets.get_mut(usize::from(*bucket)) {
                    *hold = Hold::No;
                    state.let_go.push(bucket_name(*bucket));
                }
            }
        }
        self.nodes.poke.notify_one();
    }

    fn let_go(&self, name: &str) {
        {
            let mut state = self.nodes.state.lock();
            if state.named.remove(name).is_some() {
                state.let_go.push(name.to_owned());
            }
        }
        self.nodes.poke.notify_one();
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.nodes.changed.subscribe()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>>> {
        async move {
            let sql = "SELECT n.id, (extract(epoch FROM n.joined_at) * 1000)::int8,
                              (SELECT count(*) FROM lease l WHERE l.node = n.no AND l.name LIKE 'bucket/%'),
                              ARRAY(SELECT l.name FROM lease l
                                     WHERE l.node = n.no AND l.name NOT LIKE 'bucket/%' ORDER BY l.name)
                         FROM node n WHERE n.until > clock_timestamp() ORDER BY n.no";
            let own = self.nodes.id;
            let mut nodes = all(self.readers.rows(sql, &[]).await?, |row| {
                let id = NodeId::from_bytes(id16(row, 0)?);
                Ok(Node {
                    id,
                    own: id == own,
                    since: Some(Timestamp::from_millis(get(row, 1)?)),
                    buckets: usize::try_from(get::<i64>(row, 2)?).unwrap_or_default(),
                    named: get(row, 3)?,
                })
            })?;
            if !nodes.iter().any(|node| node.own) {
                nodes.push(Node { id: own, own: true, since: None, buckets: 0, named: Vec::new() });
            }
            nodes.sort_by_key(|node| !node.own);
            Ok(nodes)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_decides_about_the_bucket() {
        let key = |first: u8, eighth: u8| {
            std::array::from_fn(|at| [first, 0, 0, 0, 0, 0, 0, eighth].get(at).copied().unwrap_or(9))
        };
        let order = Order::of(&[key(1, 200), key(0, 7), key(0, 7), key(1, 200)], 3, &[0; 16]);
        assert_eq!((order.bucket(), order.more.as_slice()), (200, [7].as_slice()));
        assert_eq!(order.more_text().unwrap(), "{7}");
        let alone = Order::of(&[], 3, &[0xff; 16]);
        assert_eq!((alone.bucket(), alone.more_text()), (3, None));
        assert_ne!(alone.key, Order::of(&[], 3, &[0xfe; 16]).key);
    }

    #[test]
    fn what_is_held_ends_with_its_time() {
        let nodes = Nodes::new(Duration::from_secs(5), Metrics::new());
        assert_eq!(nodes.bucket(9), Hold::Yes, "a store that takes no part is alone");
        {
            let mut state = nodes.state.lock();
            state.joined = true;
            state.buckets.fill(Hold::Yes);
            state.until = now() + Duration::from_secs(60);
        }
        assert_eq!((nodes.bucket(9), nodes.mask()), (Hold::Yes, [255; 32]));
        nodes.state.lock().until = now();
        assert_eq!((nodes.bucket(9), nodes.mask()), (Hold::No, [0; 32]));
    }
}
