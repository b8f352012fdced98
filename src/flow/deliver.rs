//! Stage 9: events to help desks.
//!
//! Takes events that are due, gives outcomes. One dispatcher for each help desk: events of one conversation go strictly
//! in order, all others side by side. The body is the event's own bytes; an attempt adds only timestamp and signature
//! (Standard Webhooks 1.0.0). A conversation whose event failed waits with all that follows it, on the disk and not in
//! memory; the others go on.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, StatusCode};
use ring::hmac;
use tokio::task::JoinSet;

use super::Context;
use super::lanes::{Key, Lanes, Ticket};
use crate::base::telemetry::By;
use crate::base::{Result, Timestamp};
use crate::net::{Client, client};
use crate::rules::retry::{Breaker, wait};
use crate::store::DueEvent;

/// How many events of one help desk are held in memory.
const HELD: usize = 2048;
/// How many events of one conversation are taken up at once after a pause.
const PAGE: usize = 256;

/// One help desk, checked.
#[derive(Clone)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Where events go.
    pub url: String,
    /// Keys to sign with: the present one, and during a rotation the one before.
    pub keys: Vec<hmac::Key>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How many attempts run side by side.
    pub concurrency: usize,
    /// Waits before each attempt, in milliseconds.
    pub schedule: Vec<u64>,
    /// The greatest part by which a wait is stretched or shortened.
    pub jitter: f64,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// A 2xx.
    Delivered,
    /// It may succeed later.
    Failed {
        /// What happened, in plain words.
        reason: String,
        /// When the other side wants to be asked again, in milliseconds.
        retry_after: Option<u64>,
    },
    /// The other side wants no more events at all (410).
    Gone,
}

/// The headers that authenticate an event (Standard Webhooks 1.0.0).
pub fn signed_headers(destination: &Destination, id: &str, at: Timestamp, body: &[u8]) -> HeaderMap {
    let timestamp = at.seconds().to_string();
    let mut signatures = String::new();
    for key in &destination.keys {
        let mut context = hmac::Context::with_key(key);
        for piece in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(piece);
        }
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        signatures.push_str("v1,");
        BASE64.encode_append(context.sign().as_ref(), &mut signatures);
    }
    let mut headers = HeaderMap::with_capacity(8);
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    add(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8");
    add(USER_AGENT, concat!("Segue/", env!("CARGO_PKG_VERSION")));
    add(HeaderName::from_static("webhook-id"), id);
    add(HeaderName::from_static("webhook-timestamp"), &timestamp);
    add(HeaderName::from_static("webhook-signature"), &signatures);
    headers
}

/// Delivers one event once.
pub async fn attempt(client: &Client, destination: &Destination, event: &DueEvent, at: Timestamp) -> Attempt {
    let mut headers = signed_headers(destination, &event.id.to_string(), at, &event.body);
    if let Ok(previous) = HeaderValue::from_str(&format!("{:012}", event.previous)) {
        headers.insert(HeaderName::from_static("segue-previous-sequence"), previous);
    }
    let request = client::Request::post(destination.url.clone(), event.body.clone())
        .headers(headers)
        .timeout(destination.timeout);
    match client.send(request).await {
        Ok(response) if response.status.is_success() => Attempt::Delivered,
        Ok(response) if response.status == StatusCode::GONE => Attempt::Gone,
        Ok(response) => Attempt::Failed {
            reason: format!("answered {}", response.status.as_u16()),
            retry_after: retry_after(&response.headers, at),
        },
        Err(error) => Attempt::Failed { reason: error.to_string(), retry_after: None },
    }
}

/// `Retry-After` in milliseconds: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
    u64::try_from(date.saturating_sub(now.millis())).ok()
}

/// Runs one help desk's deliveries until `stop` is true; then waits for the attempts that are under way.
pub async fn run(
    context: Arc<Context>,
    client: Client,
    destination: Destination,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let tail = context.store.outbox.due_tail(&destination.name);
    let mut dispatcher = Dispatcher {
        context,
        client,
        destination: Arc::new(destination),
        lanes: Lanes::default(),
        attempts: JoinSet::new(),
        seen: 0,
        parked: HashMap::new(),
        due: BinaryHeap::new(),
        breaker: Breaker::default(),
        begun: Instant::now(),
        delivered: Vec::new(),
        known: HashSet::new(),
    };
    loop {
        dispatcher.unpark().await;
        let behind = dispatcher.fill(&tail).await;
        dispatcher.start();
        dispatcher.tell_delivered();
        let pause = dispatcher.pause();
        tokio::select! {
            biased;
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
            Some(ended) = dispatcher.attempts.join_next() => dispatcher.ended(ended).await,
            () = tail.changed(), if dispatcher.lanes.len() < HELD => {}
            () = tokio::time::sleep(pause) => {}
            () = std::future::ready(()), if behind && dispatcher.lanes.len() < HELD => {}
        }
    }
    while let Some(ended) = dispatcher.attempts.join_next().await {
        dispatcher.ended(ended).await;
    }
    dispatcher.tell_delivered();
}

type Ended = (Ticket, DueEvent, Attempt);

struct Dispatcher {
    context: Arc<Context>,
    client: Client,
    destination: Arc<Destination>,
    lanes: Lanes<DueEvent>,
    attempts: JoinSet<Ended>,
    /// The feed number up to which due events were looked at.
    seen: i64,
    /// Conversations that wait after a failure, with the time of the next attempt.
    parked: HashMap<i64, Timestamp>,
    /// The same by time, the earliest first.
    due: BinaryHeap<std::cmp::Reverse<(Timestamp, i64)>>,
    breaker: Breaker,
    begun: Instant,
    delivered: Vec<i64>,
    /// Feed numbers of the events in the lanes.
    known: HashSet<i64>,
}

fn key(conversation: i64) -> Key {
    let mut key = [0; 16];
    key.iter_mut().zip(conversation.to_be_bytes()).for_each(|(to, from)| *to = from);
    key
}

impl Dispatcher {
    fn clock(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes up due events. Gives whether there may be more on the disk.
    async fn fill(&mut self, tail: &crate::store::Tail<DueEvent>) -> bool {
        let room = HELD.saturating_sub(self.lanes.len());
        if room == 0 {
            return false;
        }
        if tail.take_rewound() {
            // Dead letters came back: look at everything that is due, once what was delivered is no longer among it.
            self.tell_delivered();
            self.recorded(self.context.store.outbox.settle().await);
            self.seen = 0;
        }
        let (events, behind) = tail.take(room);
        for event in events {
            self.take_up(event);
        }
        if !behind {
            return false;
        }
        tail.catch_up();
        match self.context.store.outbox.due_events(self.destination.name.clone(), self.seen, room).await {
            Ok(page) => {
                let more = page.len() == room;
                for event in page {
                    self.take_up(event);
                }
                if more {
                    tail.fall_behind();
                }
                more
            }
            Err(error) => {
                tracing::error!(target: "segue::deliver", helpdesk = %self.destination.name, error = %error.full(), "due events cannot be read");
                tail.fall_behind();
                false
            }
        }
    }

    fn take_up(&mut self, event: DueEvent) {
        if event.no <= self.seen {
            return;
        }
        self.seen = event.no;
        if self.parked.contains_key(&event.conversation) {
            return;
        }
        let now = self.context.clock.now();
        if event.attempts > 0 && event.next_at > now {
            self.park(event.conversation, event.next_at);
            return;
        }
        self.line_up(event);
    }

    fn line_up(&mut self, event: DueEvent) {
        if self.known.insert(event.no) {
            let key = key(event.conversation);
            self.lanes.push(event, vec![key], false);
        }
    }

    fn park(&mut self, conversation: i64, until: Timestamp) {
        self.parked.insert(conversation, until);
        self.due.push(std::cmp::Reverse((until, conversation)));
    }

    /// Takes conversations up again whose pause is over.
    async fn unpark(&mut self) {
        let now = self.context.clock.now();
        while let Some(std::cmp::Reverse((at, conversation))) = self.due.peek().copied() {
            if at > now || self.lanes.len() >= HELD {
                return;
            }
            let outbox = self.context.store.outbox.clone();
            let page = outbox.due_of_conversation(self.destination.name.clone(), conversation, PAGE).await;
            let Ok(page) = page else { return };
            self.due.pop();
            if self.parked.get(&conversation) != Some(&at) {
                continue;
            }
            self.parked.remove(&conversation);
            let full = page.len() == PAGE;
            // What lies beyond what was looked at comes by the tail.
            let seen = self.seen;
            for event in page.into_iter().filter(|event| event.no <= seen) {
                self.line_up(event);
            }
            if full {
                // More than one page waits: look again once this one is through.
                self.park(conversation, now.plus_millis(1000));
            }
        }
    }

    fn start(&mut self) {
        let now = self.clock();
        while self.attempts.len() < self.destination.concurrency && self.breaker.open_until().is_none_or(|u| u <= now) {
            let Some((ticket, event)) = self.lanes.take() else { return };
            if !self.breaker.allows(now) {
                self.lanes.put_back(ticket, event);
                return;
            }
            let (client, destination, at) = (self.client.clone(), self.destination.clone(), self.context.clock.now());
            self.attempts.spawn(async move {
                let outcome = attempt(&client, &destination, &event, at).await;
                (ticket, event, outcome)
            });
        }
    }

    async fn ended(&mut self, ended: std::result::Result<Ended, tokio::task::JoinError>) {
        let Ok((ticket, event, outcome)) = ended else { return };
        let name = self.destination.name.clone();
        let result = match &outcome {
            Attempt::Delivered => "delivered",
            Attempt::Failed { .. } => "failed",
            Attempt::Gone => "gone",
        };
        self.context.metrics.delivered.get_or_create(&By::new(&name, result)).inc();
        match outcome {
            Attempt::Delivered => {
                self.breaker.succeeded();
                self.delivered.push(event.no);
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
        if self.delivered.len() >= 64 {
            self.tell_delivered();
        }
    }

    fn finish(&mut self, ticket: Ticket, no: i64) {
        self.lanes.done(ticket);
        self.known.remove(&no);
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
        self.recorded(outbox.attempt_failed(destination.name.clone(), event.no, next_at, reason).await);
        for waiting in self.lanes.drop_behind(ticket) {
            self.known.remove(&waiting.no);
        }
        self.finish(ticket, event.no);
        self.park(event.conversation, next_at);
    }

    async fn give_up(&mut self, ticket: Ticket, event: DueEvent, reason: String) {
        tracing::warn!(target: "segue::deliver", helpdesk = %self.destination.name, event = %event.id, %reason, "given up; a dead letter now");
        let outbox = self.context.store.outbox.clone();
        self.recorded(outbox.dead_letter(self.destination.name.clone(), event.no, reason).await);
        self.finish(ticket, event.no);
    }

    fn recorded(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::error!(target: "segue::deliver", error = %error.full(), "an attempt could not be recorded");
        }
    }

    fn tell_delivered(&mut self) {
        if !self.delivered.is_empty() {
            let events = std::mem::take(&mut self.delivered);
            self.context.store.outbox.delivered(&self.destination.name, events);
        }
    }

    /// How long there is nothing to do unless something happens.
    fn pause(&self) -> Duration {
        let now = self.context.clock.now();
        let parked = self.due.peek().map(|std::cmp::Reverse((at, _))| at.since(now).max(1) as u64);
        let open = self.breaker.open_until().map(|until| until.saturating_sub(self.clock()).max(1));
        let wait = parked.into_iter().chain(open.filter(|_| self.lanes.len() > 0)).min().unwrap_or(60_000);
        Duration::from_millis(wait.min(60_000))
    }
}
