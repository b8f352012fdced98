//! Limits by peer: how often it calls, as a channel is called only so often, and of how many turns it holds one.
//!
//! Both rates are token buckets (the generic cell rate algorithm). A peer is an IPv4 address or an IPv6 /64, the smallest
//! block that one subscriber holds (RFC 6177). The invariant: however many peers there are, the tables stay bounded.
//! Buckets that are full again are dropped; while more peers than the table takes are active at once, they are counted
//! by /16, which no number of hosts can make more than 131,072.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

/// Peers counted one by one; beyond it by /16.
const PEERS: usize = 100_000;
/// Buckets are swept after this many checks, if there are many of them.
const SWEEP_EVERY: u32 = 1024;
/// Fewer buckets than this are never worth a sweep.
const SWEEP_FROM: usize = 10_000;

/// So many a second on average, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_second` in the long run and `burst` at once; zero counts as one.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Rate { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }

    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// How long the caller should wait; what `Retry-After` says (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// Whole seconds, rounded up, at least one.
    pub fn seconds(self) -> u64 {
        self.0.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
    }
}

/// The limits on how often peers call and channels are called.
#[derive(Debug)]
pub struct RateLimits {
    peers: Option<DefaultKeyedRateLimiter<PeerKey>>,
    channels: Option<DefaultKeyedRateLimiter<u64>>,
    names: RandomState,
    clock: DefaultClock,
    checks: AtomicU32,
    crowded: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey {
    V4(u32),
    V6(u64),
    Block { v6: bool, prefix: u16 },
}

impl PeerKey {
    fn new(peer: IpAddr, crowded: bool) -> Self {
        match peer.to_canonical() {
            IpAddr::V4(v4) if crowded => PeerKey::Block { v6: false, prefix: (v4.to_bits() >> 16) as u16 },
            IpAddr::V6(v6) if crowded => PeerKey::Block { v6: true, prefix: (v6.to_bits() >> 112) as u16 },
            IpAddr::V4(v4) => PeerKey::V4(v4.to_bits()),
            IpAddr::V6(v6) => PeerKey::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

impl RateLimits {
    /// Limits of `per_peer` for each peer and `per_channel` for each channel; `None` is no limit.
    pub fn new(per_peer: Option<Rate>, per_channel: Option<Rate>) -> Self {
        RateLimits {
            peers: per_peer.map(|rate| RateLimiter::dashmap(rate.quota())),
            channels: per_channel.map(|rate| RateLimiter::dashmap(rate.quota())),
            names: RandomState::new(),
            clock: DefaultClock::default(),
            checks: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    /// Counts one request of `peer` to `channel`. Call it only with the name of a channel that exists, so that
    /// strangers cannot fill the table with names.
    ///
    /// # Errors
    ///
    /// [`RetryAfter`] if either limit is passed. A request refused for its peer does not count for the channel.
    pub fn check(&self, channel: &str, peer: IpAddr) -> Result<(), RetryAfter> {
        self.check_peer(peer)?;
        let Some(channels) = &self.channels else { return Ok(()) };
        channels
            .check_key(&self.names.hash_one(channel))
            .map_err(|until| RetryAfter(until.wait_time_from(self.clock.now())))
    }

    /// Counts one request of `peer` where there is no channel.
    ///
    /// # Errors
    ///
    /// [`RetryAfter`] if the peer's limit is passed.
    pub fn check_peer(&self, peer: IpAddr) -> Result<(), RetryAfter> {
        let Some(peers) = &self.peers else { return Ok(()) };
        let many = self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1;
        if many && peers.len() >= SWEEP_FROM {
            self.prune();
        }
        peers
            .check_key(&PeerKey::new(peer, self.crowded.load(Ordering::Relaxed)))
            .map_err(|until| RetryAfter(until.wait_time_from(self.clock.now())))
    }

    /// Drops the buckets that are full again. Happens by itself while requests come; may be called at any time.
    pub fn prune(&self) {
        if let Some(peers) = &self.peers {
            peers.retain_recent();
            self.crowded.store(peers.len() >= PEERS, Ordering::Relaxed);
            peers.shrink_to_fit();
        }
        if let Some(channels) = &self.channels {
            channels.retain_recent();
        }
    }
}

/// A few turns at something dear, of which no peer holds more than its part.
#[derive(Debug)]
pub struct PeerTurns {
    most: usize,
    most_each: usize,
    held: Mutex<Vec<PeerKey>>,
}

impl PeerTurns {
    /// `most` turns, and `most_each` of them for one peer.
    pub fn new(most: usize, most_each: usize) -> Self {
        PeerTurns { most, most_each, held: Mutex::default() }
    }

    /// Takes a turn for `peer`, if there is one.
    pub fn take(&self, peer: IpAddr) -> Option<PeerTurn<'_>> {
        let peer = PeerKey::new(peer, false);
        let mut held = self.held.lock();
        let own = held.iter().filter(|one| **one == peer).count();
        if held.len() >= self.most || own >= self.most_each {
            return None;
        }
        held.push(peer);
        Some(PeerTurn { turns: self, peer })
    }
}

/// A turn, given back when dropped.
#[derive(Debug)]
pub struct PeerTurn<'a> {
    turns: &'a PeerTurns,
    peer: PeerKey,
}

impl Drop for PeerTurn<'_> {
    fn drop(&mut self) {
        let mut held = self.turns.held.lock();
        if let Some(own) = held.iter().position(|one| *one == self.peer) {
            held.swap_remove(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_an_address_or_a_64() {
        let limits = RateLimits::new(Some(Rate::new(1, 2)), None);
        for peer in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            limits.check("a", ip(peer)).unwrap();
            limits.check("b", ip(peer)).unwrap();
            assert!(limits.check("c", ip(peer)).is_err());
        }
        assert!(limits.check("a", ip("2001:db8::ffff")).is_err(), "the same /64");
        assert!(limits.check("a", ip("::ffff:192.0.2.1")).is_err(), "the same address, mapped");
    }

    #[test]
    fn a_channel_is_limited_whoever_calls() {
        let limits = RateLimits::new(None, Some(Rate::new(1, 3)));
        for last in 1..=3 {
            limits.check("a", IpAddr::from([192, 0, 2, last])).unwrap();
        }
        let wait = limits.check("a", ip("192.0.2.9")).unwrap_err();
        assert!(wait.0 <= Duration::from_secs(1) && wait.seconds() == 1);
        limits.check("b", ip("192.0.2.9")).unwrap();
    }

    #[test]
    fn a_million_peers_do_not_grow_the_table_without_bound() {
        let limits = RateLimits::new(Some(Rate::new(1, 1)), None);
        for n in 0..1_000_000u32 {
            let _ = limits.check_peer(IpAddr::from(n.wrapping_mul(2_654_435_761).to_be_bytes()));
        }
        let held = limits.peers.as_ref().unwrap().len();
        assert!(held <= PEERS + SWEEP_EVERY as usize + 65_536, "{held}");
    }

    #[test]
    fn no_peer_holds_more_turns_than_its_part() {
        let turns = PeerTurns::new(4, 2);
        let own = [turns.take(ip("192.0.2.1")), turns.take(ip("::ffff:192.0.2.1"))];
        assert!(own.iter().all(Option::is_some) && turns.take(ip("192.0.2.1")).is_none());
        let other = [turns.take(ip("2001:db8::1")), turns.take(ip("2001:db8::2"))];
        assert!(other.iter().all(Option::is_some) && turns.take(ip("2001:db8::3")).is_none(), "the same /64");
        assert!(turns.take(ip("192.0.2.2")).is_none(), "all are taken");
        drop(own);
        assert!(turns.take(ip("192.0.2.2")).is_some(), "they are given back");
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        assert_eq!(RetryAfter(Duration::ZERO).seconds(), 1);
        assert_eq!(RetryAfter(Duration::from_millis(1001)).seconds(), 2);
    }
}
