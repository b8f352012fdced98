//! The feed of events by page: everything that happened, in the order it was committed.
//!
//! The invariant: a cursor never skips an event. `next` is the number of the last event that was looked at, and nothing
//! is looked at before everything ahead of it is committed. A cursor so old that events after it may be gone is
//! refused, since reading on from it would pass them over silently.

use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::call::{Answer, Call, bad, typed};
use super::problem::Problem;
use super::{Api, stream};
use crate::base::Result;
use crate::model::{Event, EventType};
use crate::store::FeedEvent;

/// The most bytes of events, or of a timeline, in one page, but for an event that is larger alone.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// How many events are read from the store at once.
const READ: usize = 200;
/// How many reads one page may take: past that it ends, found or not, and says where to go on.
const READS: usize = 25;
/// The longest wait for events, in seconds.
const MOST_WAIT: i64 = 30;

/// One page of the feed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Events")]
pub(super) struct Events {
    /// The events, oldest first, byte for byte as they were written.
    events: Vec<Event>,
    /// The cursor for the next page: give it as `after`.
    next: Cursor,
    /// Whether there is more already.
    has_more: bool,
}

/// A place in the feed. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor(i64);

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Cursor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A place in the feed. Opaque." })
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    types: Vec<u8>,
    channels: Vec<String>,
}

impl Filter {
    /// Reads `types` and `channels`.
    pub(super) fn read(call: &Call) -> Result<Self, Problem> {
        let listed = |name| call.query(name).into_iter().flat_map(|text| text.split(',')).map(str::trim);
        let kind = |name: &str| {
            let kind = EventType::parse(name)
                .ok_or_else(|| bad(format!("`types` are of {}", EventType::ALL.map(EventType::name).join(", "))))?;
            Ok(kind as u8)
        };
        let types = listed("types").map(kind).collect::<Result<_, Problem>>()?;
        Ok(Filter { types, channels: listed("channels").map(str::to_owned).collect() })
    }

    fn wants(&self, event: &FeedEvent) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (self.channels.is_empty() || self.channels.contains(&event.channel))
    }

    fn is_all(&self) -> bool {
        self.types.is_empty() && self.channels.is_empty()
    }
}

/// A stretch of the feed.
pub(super) struct Page {
    /// The events that are wanted.
    pub(super) events: Vec<FeedEvent>,
    /// How far was looked.
    pub(super) next: i64,
    /// Whether the end was not reached.
    pub(super) more: bool,
}

/// Reads the feed after a place.
pub(super) async fn scan(api: &Api, filter: &Filter, after: i64, limit: usize) -> Result<Page> {
    let read = if filter.is_all() { (limit + 1).min(READ) } else { READ };
    let mut page = Page { events: Vec::new(), next: after, more: true };
    let mut bytes = 0;
    for _ in 0..READS {
        let rows = api.context().store.catalog.feed(page.next, read).await?;
        let last = rows.len() < read;
        for row in rows {
            if filter.wants(&row) {
                bytes += row.body.len();
                if page.events.len() >= limit || (bytes > MOST_BYTES && !page.events.is_empty()) {
                    return Ok(page);
                }
                page.next = row.no;
                page.events.push(row);
            } else {
                page.next = row.no;
            }
        }
        if last {
            page.more = false;
            break;
        }
    }
    Ok(page)
}

/// Reads a cursor.
///
/// # Errors
///
/// 400 if it is none, or beyond the feed; 410 if events after it may be gone.
pub(super) async fn place(api: &Api, text: &str) -> Result<i64, Problem> {
    let wrong = || bad("this is no cursor of this feed");
    // As it was given out: no sign, no leading zero.
    let after: i64 = text.parse().map_err(|_| wrong())?;
    if after < 0 || after.to_string() != text {
        return Err(wrong());
    }
    if after > 0 {
        let own = api.context().store.catalog.feed(after - 1, 1).await?;
        if own.first().is_none_or(|event| event.no != after) {
            // Another node may have given it out before this one has heard of its event, so the end that is known here
            // tells only of events that are not there.
            if after > *api.context().store.catalog.feed_end().borrow() {
                return Err(wrong());
            }
            let detail = "the cursor is older than what is kept: events after it may be gone; read from the start";
            return Err(Problem::new(StatusCode::GONE, detail));
        }
    }
    Ok(after)
}

/// Takes a place among those who follow or wait.
pub(super) fn seat(api: &Api) -> Result<OwnedSemaphorePermit, Problem> {
    api.seats
        .clone()
        .try_acquire_owned()
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many follow the feed at once").retry_after(5))
}

/// Waits until the gateway stops.
pub(super) async fn stopped(api: &Api) {
    let mut stopping = api.state.stopping.clone();
    // Without a sender there is nobody left to stop: that is the end as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// `GET /v1/events`
pub(super) async fn list(call: Call) -> Answer {
    if wants_stream(&call.headers) {
        return stream::follow(call).await;
    }
    let (filter, limit) = (Filter::read(&call)?, call.limit()?);
    let wait = call.number("wait", 0, MOST_WAIT)?.unwrap_or(0);
    let api = &call.api;
    let mut after = match call.query("after") {
        None => 0,
        Some(text) => place(api, text).await?,
    };
    let _seat = if wait > 0 { Some(seat(api)?) } else { None };
    let until = Instant::now() + Duration::from_secs(wait.unsigned_abs());
    let mut end = api.context().store.catalog.feed_end();
    loop {
        end.borrow_and_update();
        let page = scan(api, &filter, after, limit).await?;
        if !page.events.is_empty() || page.more || wait == 0 {
            return Ok(write(&page));
        }
        after = page.next;
        let changed = tokio::select! {
            changed = end.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(until) => false,
            () = stopped(api) => false,
        };
        if !changed {
            return Ok(write(&page));
        }
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| {
        media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// The page as JSON. The bodies are JSON already and are put in as they are: parsing and writing them again could
/// change a byte.
fn write(page: &Page) -> axum::response::Response {
    let size = page.events.iter().map(|event| event.body.len() + 1).sum::<usize>() + 64;
    let mut text = Vec::with_capacity(size);
    text.extend_from_slice(b"{\"events\":[");
    for (at, event) in page.events.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&event.body);
    }
    text.extend_from_slice(format!("],\"next\":\"{}\",\"has_more\":{}}}", page.next, page.more).as_bytes());
    typed(StatusCode::OK, "application/json", text)
}
