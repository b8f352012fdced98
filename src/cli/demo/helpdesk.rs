//! The sample help desk: a small HTTP server that takes events as a careful help desk would.
//!
//! It checks the signature itself, as Standard Webhooks 1.0.0 says, with no code of the deliver stage; it knows an event
//! that comes twice by its id; and it sees whether the events of a conversation come in order and without a gap.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::Value;
use tokio::sync::watch;

use crate::base::{Clock, Error, Result};
use crate::net::server::{Server, Settings};
use crate::net::{Body, Handler, Request, Response};

/// How many events are kept; older ones are only counted.
const KEPT: usize = 1000;
/// The largest event that is taken.
const MOST_BYTES: usize = 1 << 20;
/// How old a signature may be, in seconds.
const TOLERANCE: i64 = 300;

/// An event that was verified.
pub(super) struct Received {
    /// Its id.
    pub(super) id: String,
    /// Its type without `dev.segue.` and version.
    pub(super) kind: String,
    /// Its conversation.
    conversation: String,
    /// Its place in the conversation.
    pub(super) sequence: u64,
    /// Whether it followed directly on the one before it.
    pub(super) in_order: bool,
    /// How many attempts it took.
    pub(super) attempts: u32,
    /// When it came.
    pub(super) at: Instant,
    /// The whole event.
    pub(super) event: Value,
    /// Its bytes.
    body: Bytes,
}

impl Received {
    /// The value at a JSON pointer, as text.
    pub(super) fn text(&self, pointer: &str) -> Option<String> {
        match self.event.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Events taken.
    pub(super) taken: u64,
    /// Attempts whose signature did not hold.
    pub(super) forged: u64,
    /// Attempts of events that had been taken already.
    pub(super) repeated: u64,
    /// Of these, how many had another body than the first time.
    pub(super) changed: u64,
    /// Events that did not follow on the one before.
    pub(super) out_of_order: u64,
    /// Attempts that were declined on purpose.
    pub(super) declined: u64,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Received>>,
    tally: Tally,
    /// Whether the next event is declined.
    down: bool,
    /// The event that was declined last, with its body: it must come again unchanged.
    declined: Option<(String, Bytes)>,
}

/// The help desk.
pub(super) struct HelpDesk {
    key: hmac::Key,
    clock: Clock,
    state: Mutex<State>,
    /// How many events were taken.
    taken: watch::Sender<u64>,
}

impl HelpDesk {
    /// Opens the help desk at a free port of this machine; `secret` is the text that begins with `whsec_`.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if no port can be had, [`Kind::Internal`](crate::base::Kind) if the secret is none.
    pub(super) async fn open(secret: &str) -> Result<(Server, Arc<HelpDesk>)> {
        let broken = || Error::internal("the help desk's secret is malformed");
        let key = secret.strip_prefix("whsec_").ok_or_else(broken)?;
        let key = BASE64.decode(key.as_bytes()).map_err(|error| broken().because(error))?;
        let desk = Arc::new(HelpDesk {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            clock: Clock::system(),
            state: Mutex::default(),
            taken: watch::channel(0).0,
        });
        let server = Server::start(Settings::new(SocketAddr::from(([127, 0, 0, 1], 0))), desk.clone()).await?;
        Ok((server, desk))
    }

    /// How many events were taken so far.
    pub(super) fn mark(&self) -> u64 {
        *self.taken.borrow()
    }

    /// What was counted so far.
    pub(super) fn tally(&self) -> Tally {
        self.state.lock().tally
    }

    /// Declines the next event, as if the help desk were down for a moment.
    pub(super) fn go_down(&self) {
        self.state.lock().down = true;
    }

    /// The events that were taken after a mark, those that are not kept any more left out.
    pub(super) fn after(&self, mark: u64) -> Vec<Arc<Received>> {
        let state = self.state.lock();
        let kept = usize::try_from(state.tally.taken.saturating_sub(mark)).unwrap_or(usize::MAX);
        let skip = state.events.len().saturating_sub(kept);
        state.events.iter().skip(skip).cloned().collect()
    }

    /// Waits for an event after a mark that `is_it`; none if it does not come in time.
    pub(super) async fn wait(
        &self,
        mark: u64,
        patience: Duration,
        is_it: impl Fn(&Received) -> bool,
    ) -> Option<Arc<Received>> {
        let mut taken = self.taken.subscribe();
        let search = async {
            loop {
                taken.borrow_and_update();
                if let Some(found) = self.after(mark).into_iter().find(|received| is_it(received)) {
                    return Some(found);
                }
                if taken.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    /// Waits until there are events after a mark.
    pub(super) async fn more(&self, mark: u64) {
        let mut taken = self.taken.subscribe();
        let _ = taken.wait_for(|taken| *taken > mark).await;
    }

    /// Whether the signature holds: HMAC-SHA256 over id, time and body, of one of the stated signatures, and not too old.
    fn verified(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (id, time) = (text("webhook-id")?, text("webhook-timestamp")?);
        let age = self.clock.now().seconds().saturating_sub(time.parse().ok()?);
        if age.abs() > TOLERANCE {
            return None;
        }
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
        let stated = text("webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let holds =
            |one: &str| BASE64.decode(one.as_bytes()).is_ok_and(|tag| hmac::verify(&self.key, &signed, &tag).is_ok());
        stated.into_iter().any(holds).then(|| id.to_owned())
    }

    /// Takes an attempt and gives the status to answer.
    fn take(&self, headers: &HeaderMap, body: Bytes) -> StatusCode {
        let mut state = self.state.lock();
        let Some(id) = self.verified(headers, &body) else {
            state.tally.forged += 1;
            return StatusCode::UNAUTHORIZED;
        };
        if let Some(known) = state.events.iter().find(|known| known.id == id) {
            let changed = known.body != body;
            state.tally.repeated += 1;
            state.tally.changed += u64::from(changed);
            return StatusCode::OK;
        }
        let Some(event) = serde_json::from_slice::<Value>(&body).ok().filter(|event| event.is_object()) else {
            return StatusCode::BAD_REQUEST;
        };
        if std::mem::take(&mut state.down) {
            state.tally.declined += 1;
            state.declined = Some((id, body));
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let mut attempts = 1;
        if let Some((_, first)) = state.declined.take_if(|(declined, _)| *declined == id) {
            attempts = 2;
            state.tally.changed += u64::from(first != body);
        }
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conversation = text("subject");
        let sequence = text("sequence").parse().unwrap_or(0);
        let before = state.events.iter().rev().find(|known| known.conversation == conversation);
        let before = before.map_or(0, |known| known.sequence);
        // The help desk subscribes to everything, so it sees each number of a conversation.
        let in_order = sequence == before + 1;
        let kind = text("type");
        let kind =
            kind.strip_prefix("dev.segue.").and_then(|kind| kind.strip_suffix(".v1")).unwrap_or(&kind).to_owned();
        let at = Instant::now();
        state.tally.taken += 1;
        state.tally.out_of_order += u64::from(!in_order);
        let received = Received { id, kind, conversation, sequence, in_order, attempts, at, event, body };
        state.events.push_back(Arc::new(received));
        if state.events.len() > KEPT {
            state.events.pop_front();
        }
        self.taken.send_replace(state.tally.taken);
        StatusCode::OK
    }
}

impl Handler for HelpDesk {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        async move {
            if request.overloaded {
                return Request::overload();
            }
            let status = match request.body.read(MOST_BYTES).await {
                Ok(body) => self.take(&request.headers, body),
                Err(error) => error.status(),
            };
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn desk() -> Arc<HelpDesk> {
        HelpDesk::open(SECRET).await.unwrap().1
    }

    fn signed(desk: &HelpDesk, id: &str, body: &str) -> HeaderMap {
        let time = desk.clock.now().seconds().to_string();
        let tag = hmac::sign(&desk.key, format!("{id}.{time}.{body}").as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", time.parse().unwrap());
        headers.insert("webhook-signature", format!("v1,xx v1,{}", BASE64.encode(tag.as_ref())).parse().unwrap());
        headers
    }

    fn body(conversation: &str, sequence: u64) -> String {
        format!(r#"{{"type":"dev.segue.x.y.v1","subject":"{conversation}","sequence":"{sequence:012}"}}"#)
    }

    fn give(desk: &HelpDesk, id: &str, text: &str) -> StatusCode {
        desk.take(&signed(desk, id, text), Bytes::from(text.to_owned()))
    }

    #[tokio::test]
    async fn takes_only_what_is_signed() {
        let desk = desk().await;
        let text = body("a", 1);
        let other = Bytes::from(body("a", 2));
        assert_eq!(desk.take(&signed(&desk, "1", &text), other), StatusCode::UNAUTHORIZED);
        let mut stale = signed(&desk, "1", &text);
        stale.insert("webhook-timestamp", "1000000000".parse().unwrap());
        assert_eq!(desk.take(&stale, Bytes::from(text.clone())), StatusCode::UNAUTHORIZED);
        assert_eq!(give(&desk, "1", &text), StatusCode::OK);
        assert_eq!(desk.tally(), Tally { taken: 1, forged: 2, ..Tally::default() });
        assert_eq!(desk.after(0)[0].kind, "x.y");
    }

    #[tokio::test]
    async fn knows_repeats_changes_and_gaps() {
        let desk = desk().await;
        for (id, text) in [("1", body("a", 1)), ("2", body("b", 1)), ("1", body("a", 1)), ("1", body("a", 9))] {
            assert_eq!(give(&desk, id, &text), StatusCode::OK);
        }
        assert_eq!(desk.tally(), Tally { taken: 2, repeated: 2, changed: 1, ..Tally::default() });
        give(&desk, "3", &body("a", 3));
        assert_eq!(desk.tally().out_of_order, 1);
        let mark = desk.mark();
        give(&desk, "4", &body("b", 2));
        let seen = desk.wait(mark, Duration::from_secs(5), |r| r.in_order).await.unwrap();
        assert_eq!((seen.id.as_str(), seen.sequence), ("4", 2));
    }

    #[tokio::test]
    async fn expects_the_same_again_after_it_was_down() {
        let desk = desk().await;
        desk.go_down();
        assert_eq!(give(&desk, "1", &body("a", 1)), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(give(&desk, "1", &body("a", 1)), StatusCode::OK);
        assert_eq!((desk.after(0)[0].attempts, desk.tally().changed), (2, 0));
        desk.go_down();
        give(&desk, "2", &body("a", 2));
        give(&desk, "2", &body("a", 3));
        assert_eq!(desk.tally().changed, 1);
    }
}
