//! The feed as [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html).
//!
//! A stream holds one small page of events at most and is asked for the next only when its reader has room: a slow
//! reader simply reads on from the store, later. It ends when the gateway stops or the token is revoked; the reader
//! comes back with `Last-Event-ID` and misses nothing.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Api;
use super::call::{Answer, Call, bad};
use super::feed::{Filter, place, scan, seat, stopped};
use super::problem::Problem;
use super::token::{Caller, Scope};
use crate::model::EventType;
use crate::model::event::TYPE_PREFIX;
use crate::store::FeedEvent;

/// How many events are held for a reader.
const HELD: usize = 50;
/// What a stream begins with: when to come back after it broke off, in milliseconds.
const GREETING: &[u8] = b"retry: 2000\n\n";
/// A comment, so that neither side nor anything between takes the connection for dead.
const HEARTBEAT: &[u8] = b":\n\n";

/// One who follows.
struct Follower {
    api: Arc<Api>,
    caller: Caller,
    filter: Filter,
    after: i64,
    end: watch::Receiver<i64>,
    greeted: bool,
    _seat: OwnedSemaphorePermit,
}

/// `GET /v1/events/stream`, or `GET /v1/events` with `Accept: text/event-stream`
pub(super) async fn follow(call: Call) -> Answer {
    let filter = Filter::read(&call)?;
    let end = call.api.context().store.catalog.feed_end();
    let resumed = call.headers.get("last-event-id");
    let resumed = resumed.map(|id| id.to_str().map_err(|_| bad("`Last-Event-ID` is no cursor of this feed")));
    let after = match (resumed.transpose()?, call.query("after")) {
        // What the reader saw last tells more than where it once began.
        (Some(cursor), _) | (None, Some(cursor)) => place(&call.api, cursor).await?,
        (None, None) => *end.borrow(),
    };
    let caller = call.caller().cloned().ok_or_else(Problem::no_token)?;
    let seat = seat(&call.api)?;
    let follower = Follower { api: call.api.clone(), caller, filter, after, end, greeted: false, _seat: seat };
    let chunks = stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), follower))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // Some proxies hold answers back until they are whole, unless told not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl Follower {
    /// The next thing to write; none at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Bytes::from_static(GREETING));
        }
        let heartbeat = tokio::time::Instant::now() + self.api.timing.heartbeat;
        loop {
            if *self.api.state.stopping.borrow() || !self.still_welcome().await {
                return None;
            }
            self.end.borrow_and_update();
            let page = match scan(&self.api, &self.filter, self.after, HELD).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(target: "segue::api", error = %error.full(), "a stream of events ended early");
                    return None;
                }
            };
            self.after = page.next;
            if !page.events.is_empty() {
                return Some(page.events.iter().fold(Vec::new(), write).into());
            }
            if page.more {
                continue;
            }
            tokio::select! {
                changed = self.end.changed() => changed.ok()?,
                () = tokio::time::sleep_until(heartbeat) => return Some(Bytes::from_static(HEARTBEAT)),
                () = stopped(&self.api) => return None,
            }
        }
    }

    /// Whether the token still holds. Asked before anything is given, of a copy that is seconds old at most.
    async fn still_welcome(&self) -> bool {
        self.api.tokens.still(&self.caller, Scope::Feed).await.unwrap_or(false)
    }
}

/// Adds one event. Bodies are JSON without line breaks; should one have any, each line is a `data` line of its own.
fn write(mut text: Vec<u8>, event: &FeedEvent) -> Vec<u8> {
    let kind = EventType::from_number(event.kind).map_or("unknown", EventType::name);
    text.extend_from_slice(format!("id: {}\nevent: {TYPE_PREFIX}{kind}.v1\n", event.no).as_bytes());
    for line in event.body.split(|byte| *byte == b'\n') {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.push(b'\n');
    text
}
