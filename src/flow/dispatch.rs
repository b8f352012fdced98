//! One help desk's deliveries: what is due, under way, waiting after a failure.
//!
//! Part of the deliver stage, which turns it. Events of one conversation are in one lane; an event that fails takes those
//! behind it out of the lane and onto the disk.

use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Context;
use super::attempt::{Attempt, Destination, attempt};
use super::lanes::{Key, Lanes, Ticket};
use crate::base::Timestamp;
use crate::base::telemetry::By;
use crate::net::Client;
use crate::rules::retry::{Breaker, wait};
use crate::store::{DueEvent, lease};

/// How many events of one help desk are held in memory.
const HELD: usize = 2048;
/// How many events of one conversation are taken up at once after a pause.
const PAGE: usize = 256;
/// How far events may be looked at beyond the settled ones. A crash repeats at most as many deliveries.
const AHEAD: usize = 2 * HELD;

pub(super) type Ended = (Ticket, DueEvent, Attempt);

/// What one help desk's deliveries have under way.
pub(super) struct Dispatcher {
    context: Arc<Context>,
    client: Client,
    destination: Arc<Destination>,
    /// The name of the lease without which nothing is sent.
    lease: String,
    /// In which term of this node they began.
    term: u64,
    lanes: Lanes<DueEvent>,
    pub(super) attempts: JoinSet<Ended>,
    /// The feed number up to which events were looked at.
    seen: i64,
    /// The number that was last marked as settled.
    settled: i64,
    /// Events that were looked at and are neither delivered nor set aside.
    open: BTreeSet<i64>,
    /// Events that were looked at and are beyond the settled ones. Counted, since feed numbers may have gaps of any size.
    unsettled: VecDeque<i64>,
    /// Events that wait behind a failed one of their conversation and are not yet on the disk as set aside.
    aside: Vec<DueEvent>,
    /// Conversations that wait after a failure, with the time of the next attempt.
    parked: HashMap<i64, Timestamp>,
    /// The same by time, the earliest first.
    wakes: BinaryHeap<std::cmp::Reverse<(Timestamp, i64)>>,
    breaker: Breaker,
    begun: Instant,
    /// Events that were set aside and are delivered now.
    delivered: Vec<i64>,
}

fn key(conversation: i64) -> Key {
    let mut key = [0; 16];
    key.iter_mut().zip(conversation.to_be_bytes()).for_each(|(to, from)| *to = from);
    key
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, client: Client, destination: Destination) -> Self {
        Dispatcher {
            lease: lease::helpdesk(&destination.name),
            term: context.store.leases.term(),
            breaker: Breaker::new(destination.breaker.0, destination.breaker.1),
            context,
            client,
            destination: Arc::new(destination),
            lanes: Lanes::default(),
            attempts: JoinSet::new(),
            seen: 0,
            settled: 0,
            open: BTreeSet::new(),
            unsettled: VecDeque::new(),
            aside: Vec::new(),
            parked: HashMap::new(),
            wakes: BinaryHeap::new(),
            begun: Instant::now(),
            delivered: Vec::new(),
        }
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many events may be taken up.
    pub(super) fn room(&mut self) -> usize {
        let settled = self.settled_now();
        while self.unsettled.front().is_some_and(|no| *no <= settled) {
            self.unsettled.pop_front();
        }
        let held = HELD.saturating_sub(self.lanes.len());
        let ahead = AHEAD.saturating_sub(self.unsettled.len());
        held.min(ahead)
    }

    /// Finds where the deliveries stand. False if the store cannot tell now.
    pub(super) async fn begin(&mut self) -> bool {
        let outbox = self.context.store.outbox.clone();
        let name = self.destination.name.clone();
        match (outbox.settled(name.clone()).await, outbox.set_aside_conversations(name).await) {
            (Ok(settled), Ok(waiting)) => {
                (self.seen, self.settled) = (settled, settled);
                self.parked.clear();
                self.wakes.clear();
                for (conversation, at) in waiting {
                    self.park(conversation, at);
                }
                true
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(target: "segue::deliver", helpdesk = %self.destination.name, error = %error.full(), "deliveries cannot begin yet");
                false
            }
        }
    }

    /// Takes up new events. Gives whether there may be more on the disk.
    pub(super) async fn fill(&mut self, tail: &crate::store::Tail<DueEvent>) -> bool {
        if tail.take_rewound() {
            self.take_back().await;
        }
        let room = self.room();
        if room == 0 {
            return false;
        }
        let (events, behind) = tail.take(room);
        for event in events {
            self.take_up(event);
        }
        if !behind {
            return false;
        }
        tail.catch_up();
        match self.context.store.outbox.wanted_events(self.destination.name.clone(), self.seen, room).await {
            Ok((page, read)) => {
                let more = page.len() == room;
                for event in page {
                    self.take_up(event);
                }
                self.seen = self.seen.max(read);
                if more {
                    tail.fall_behind();
                }
                more
            }
            Err(error) => {
                tracing::error!(target: "segue::deliver", helpdesk = %self.destination.name, error = %error.full(), "events cannot be read");
                tail.fall_behind();
                false
            }
        }
    }

    /// Dead letters came back: they are set aside on the disk, and their conversations are to be looked at.
    async fn take_back(&mut self) {
        let outbox = self.context.store.outbox.clone();
        match outbox.set_aside_conversations(self.destination.name.clone()).await {
            Ok(waiting) => {
                for (conversation, at) in waiting {
                    if !self.parked.contains_key(&conversation) {
                        self.park(conversation, at);
                    }
                }
            }
            Err(error) => {
                tracing::error!(target: "segue::deliver", error = %error.full(), "dead letters cannot be taken back yet");
            }
        }
    }

    fn take_up(&mut self, event: DueEvent) {
        if event.no <= self.seen {
            return;
        }
        self.seen = event.no;
        self.open.insert(event.no);
        self.unsettled.push_back(event.no);
        if self.parked.contains_key(&event.conversation) {
            self.aside.push(event);
        } else {
            self.line_up(event);
        }
    }

    fn line_up(&mut self, event: DueEvent) {
        let key = key(event.conversation);
        self.lanes.push(event, vec![key], false);
    }

    fn park(&mut self, conversation: i64, until: Timestamp) {
        self.parked.insert(conversation, until);
        self.wakes.push(std::cmp::Reverse((until, conversation)));
    }

    /// Puts on the disk what waits behind failed events, so that the settled number can pass it.
    pub(super) async fn put_aside(&mut self) {
        if self.aside.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.aside);
        let numbers: Vec<i64> = events.iter().map(|event| event.no).collect();
        let outbox = self.context.store.outbox.clone();
        match outbox.set_aside(self.destination.name.clone(), events.clone(), self.term).await {
            Ok(()) => numbers.iter().for_each(|no| {
                self.open.remove(no);
            }),
            Err(error) => {
                tracing::error!(target: "segue::deliver", error = %error.full(), "events could not be set aside; will be tried again");
                self.aside = events;
            }
        }
    }

    /// Takes conversations up again whose pause is over.
    pub(super) async fn unpark(&mut self) {
        let now = self.context.clock.now();
        while let Some(std::cmp::Reverse((at, conversation))) = self.wakes.peek().copied() {
            if at > now || self.lanes.len() >= HELD {
                return;
            }
            self.put_aside().await;
            let outbox = self.context.store.outbox.clone();
            let page = outbox.set_aside_of(self.destination.name.clone(), conversation, PAGE).await;
            let (Ok(page), true) = (page, self.aside.is_empty()) else { return };
            self.wakes.pop();
            if self.parked.get(&conversation) != Some(&at) {
                continue;
            }
            self.parked.remove(&conversation);
            let full = page.len() == PAGE;
            for event in page {
                self.line_up(event);
            }
            if full {
                // More than one page waits: it stays parked, and is looked at again once this page is through.
                self.park(conversation, now.plus_millis(1000));
            }
        }
    }

    /// Whether these deliveries are still this node's.
    fn may_go_on(&self) -> bool {
        let leases = &self.context.store.leases;
        leases.named(&self.lease).may_go_on() && leases.term() == self.term
    }

    pub(super) fn start(&mut self) {
        let now = self.clock();
        // Asked for each: this process may have been stopped for long between two of them.
        while self.may_go_on()
            && self.attempts.len() < self.destination.concurrency
            && self.breaker.open_until().is_none_or(|u| u <= now)
        {
            let Some((ticket, event)) = self.lanes.take() else { return };
            if !self.breaker.allows(now) {
                self.lanes.put_back(ticket, event);
                return;
            }
            let (client, destination, at) = (self.client.clone(), self.destination.clone(), self.context.clock.now());
            let metrics = self.context.metrics.clone();
            self.attempts.spawn(async move {
                let outcome = metrics.metered("deliver", attempt(&client, &destination, &event, at)).await;
                (ticket, event, outcome)
            });
        }
    }

    pub(super) async fn ended(&mut self, ended: std::result::Result<Ended, tokio::task::JoinError>) {
        let Ok((ticket, event, outcome)) = ended else { return };
        let result = match &outcome {
            Attempt::Delivered => "delivered",
            Attempt::Failed { .. } => "failed",
            Attempt::Gone => "gone",
        };
        self.context.metrics.delivered.get_or_create(&By::new(&self.destination.name, result)).inc();
        if outcome != Attempt::Delivered && !self.may_go_on() {
            // Another node has the event by now, and may have delivered it.
            return;
        }
        match outcome {
            Attempt::Delivered => {
                self.breaker.succeeded();
                if event.aside {
                    self.delivered.push(event.no);
                }
                self.finish(ticket, event.no);
            }
            Attempt::Failed { reason, retry_after } => {
                self.breaker.failed(self.clock());
                self.put_off(ticket, event, reason, retry_after).await;
            }
            Attempt::Gone => {
                self.breaker.failed(self.clock());
                let reason = "the help desk answered 410: it wants no more events".to_owned();
                self.give_up(ticket, event, reason).await;
            }
        }
    }

    fn finish(&mut self, ticket: Ticket, no: i64) {
        self.lanes.done(ticket);
        self.open.remove(&no);
    }

    async fn put_off(&mut self, ticket: Ticket, event: DueEvent, reason: String, retry_after: Option<u64>) {
        let destination = self.destination.clone();
        let chance = f64::from(event.id.as_bytes().last().copied().unwrap_or(128)) / 255.0;
        let next = wait(&destination.schedule, event.attempts + 1, destination.jitter, chance, retry_after);
        let Some(next) = next else {
            return self.give_up(ticket, event, reason).await;
        };
        let next_at = self.context.clock.now().plus_millis(i64::try_from(next).unwrap_or(i64::MAX));
        tracing::info!(target: "segue::deliver", helpdesk = %destination.name, event = %event.id, attempt = event.attempts + 1, %reason, again = %next_at, "not delivered");
        let outbox = self.context.store.outbox.clone();
        let (no, conversation) = (event.no, event.conversation);
        if let Err(error) =
            outbox.attempt_failed(destination.name.clone(), event.clone(), next_at, reason, self.term).await
        {
            tracing::error!(target: "segue::deliver", error = %error.full(), "a failed attempt could not be recorded; it is tried again at once");
            self.lanes.put_back(ticket, event);
            return;
        }
        // What was set aside before stays so; the rest joins it.
        self.aside.extend(self.lanes.drop_behind(ticket).into_iter().filter(|waiting| !waiting.aside));
        self.finish(ticket, no);
        self.park(conversation, next_at);
    }

    async fn give_up(&mut self, ticket: Ticket, event: DueEvent, reason: String) {
        tracing::warn!(target: "segue::deliver", helpdesk = %self.destination.name, event = %event.id, %reason, "given up; a dead letter now");
        let outbox = self.context.store.outbox.clone();
        if let Err(error) = outbox.dead_letter(self.destination.name.clone(), event.clone(), reason, self.term).await {
            tracing::error!(target: "segue::deliver", error = %error.full(), "a dead letter could not be recorded; the event is tried again");
            self.lanes.put_back(ticket, event);
            return;
        }
        self.finish(ticket, event.no);
    }

    /// Up to where everything is delivered or set aside.
    fn settled_now(&self) -> i64 {
        self.open.first().map_or(self.seen, |open| open - 1)
    }

    pub(super) fn mark(&mut self) {
        let outbox = &self.context.store.outbox;
        if !self.delivered.is_empty() {
            outbox.delivered(&self.destination.name, std::mem::take(&mut self.delivered));
        }
        let settled = self.settled_now();
        if settled > self.settled {
            self.settled = settled;
            outbox.settle_through(&self.destination.name, settled);
        }
    }

    /// How long there is nothing to do unless something happens.
    pub(super) fn pause(&self) -> Duration {
        let now = self.context.clock.now();
        let parked = self.wakes.peek().map(|std::cmp::Reverse((at, _))| at.since(now).max(1) as u64);
        let open = self.breaker.open_until().map(|until| until.saturating_sub(self.clock()).max(1));
        let wait = parked.into_iter().chain(open.filter(|_| self.lanes.len() > 0)).min().unwrap_or(60_000);
        Duration::from_millis(wait.min(60_000))
    }
}
