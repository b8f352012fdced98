//! A help desk: takes deliveries, verifies each as Standard Webhooks 1.0.0 says, and remembers them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use ring::hmac;
use serde_json::Value;
use tokio::time::Instant;

use super::server::{Arrived, Reply, Server};
use super::wait;

/// The secret that the gateway of a test signs with.
pub(crate) const SECRET: &str = "whsec_U2VndWUgaW50ZWdyYXRpb24gdGVzdHMsIDI2";

/// One delivery whose signature held.
#[derive(Clone)]
pub(crate) struct Delivery {
    /// `webhook-id`.
    pub(crate) id: String,
    /// `webhook-timestamp`, seconds.
    pub(crate) timestamp: u64,
    /// The request.
    pub(crate) request: Arrived,
    /// The body as JSON.
    pub(crate) event: Value,
    /// When it came.
    pub(crate) at: Instant,
    /// What it was answered; 0 if it was not.
    pub(crate) answered: u16,
}

impl Delivery {
    /// The conversation.
    pub(crate) fn conversation(&self) -> &str {
        self.event["subject"].as_str().unwrap_or_default()
    }

    /// Its place among the events of its conversation.
    pub(crate) fn sequence(&self) -> u64 {
        self.event["sequence"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The provider's id of the interaction.
    pub(crate) fn provider_id(&self) -> &str {
        self.event["data"]["interaction"]["channel"]["provider_id"].as_str().unwrap_or_default()
    }

    /// The interaction.
    pub(crate) fn interaction(&self) -> &Value {
        &self.event["data"]["interaction"]
    }

    /// Whether the help desk took it.
    pub(crate) fn taken(&self) -> bool {
        (200..300).contains(&self.answered)
    }
}

type Behavior = Box<dyn FnMut(&Delivery) -> Reply + Send>;

struct State {
    deliveries: Vec<Delivery>,
    forged: Vec<String>,
    behavior: Behavior,
}

/// The help desk.
pub(crate) struct HelpDesk {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl HelpDesk {
    /// One that takes everything.
    pub(crate) async fn start() -> HelpDesk {
        let behavior: Behavior = Box::new(|_| Reply::status(204));
        let state = Arc::new(Mutex::new(State { deliveries: Vec::new(), forged: Vec::new(), behavior }));
        let shared = state.clone();
        let server = Server::start(Arc::new(move |request| {
            let reply = shared.lock().unwrap().receive(request);
            Box::pin(std::future::ready(reply))
        }));
        HelpDesk { server: server.await, state }
    }

    /// Where deliveries go.
    pub(crate) fn url(&self) -> String {
        format!("{}/events", self.server.url())
    }

    /// Decides from now on what deliveries are answered.
    pub(crate) fn behave(&self, behavior: impl FnMut(&Delivery) -> Reply + Send + 'static) {
        self.state.lock().unwrap().behavior = Box::new(behavior);
    }

    /// Every delivery so far, in order of arrival, attempts that were not taken among them.
    pub(crate) fn attempts(&self) -> Vec<Delivery> {
        let state = self.state.lock().unwrap();
        assert!(state.forged.is_empty(), "deliveries whose signature does not hold: {:?}", state.forged);
        state.deliveries.clone()
    }

    /// What was taken, each event once, in the order in which it was first taken. Checks that copies are byte-equal.
    pub(crate) fn taken(&self) -> Vec<Delivery> {
        let mut first: BTreeMap<String, Delivery> = BTreeMap::new();
        let mut order = Vec::new();
        for delivery in self.attempts() {
            match first.get(&delivery.id) {
                Some(known) => {
                    assert_eq!(known.request.body, delivery.request.body, "two bodies under the id {}", delivery.id);
                }
                None if delivery.taken() => {
                    order.push(delivery.id.clone());
                    first.insert(delivery.id.clone(), delivery);
                }
                None => {}
            }
        }
        order.into_iter().filter_map(|id| first.remove(&id)).collect()
    }

    /// Waits until `count` different events were taken, and gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        wait::until(&format!("{count} events at the help desk"), wait::SOON, async || {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }

    /// Waits until an event was taken for which `probe` is true.
    pub(crate) async fn wait_until(&self, what: &str, probe: impl Fn(&Delivery) -> bool) -> Delivery {
        wait::until(what, wait::SOON, async || self.taken().into_iter().find(|delivery| probe(delivery))).await
    }
}

impl State {
    fn receive(&mut self, request: Arrived) -> Reply {
        let id = request.header("webhook-id").to_owned();
        if let Err(reason) = verify(&request) {
            self.forged.push(format!("{id}: {reason}"));
            return Reply::status(401);
        }
        let Ok(event) = serde_json::from_slice::<Value>(&request.body) else {
            self.forged.push(format!("{id}: the body is no JSON"));
            return Reply::status(400);
        };
        let timestamp = request.header("webhook-timestamp").parse().unwrap_or_default();
        let mut delivery = Delivery { id, timestamp, request, event, at: Instant::now(), answered: 0 };
        let reply = (self.behavior)(&delivery);
        if let Reply::Answer { status, .. } = &reply {
            delivery.answered = *status;
        }
        self.deliveries.push(delivery);
        reply
    }
}

/// Checks a delivery: `v1` is HMAC-SHA256 over `id.timestamp.body`, and the timestamp is at most five minutes off.
fn verify(request: &Arrived) -> Result<(), &'static str> {
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    if id.is_empty() || id.contains('.') {
        return Err("the id is missing or holds a full stop");
    }
    let seconds: u64 = timestamp.parse().map_err(|_| "the timestamp is no number")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is wrong")?;
    if now.abs_diff(Duration::from_secs(seconds)) > Duration::from_secs(300) {
        return Err("the timestamp is too far off");
    }
    let secret =
        BASE64.decode(SECRET.trim_start_matches("whsec_").as_bytes()).map_err(|_| "the secret is no base64")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body].concat();
    let holds = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|text| BASE64.decode(text.as_bytes()).ok());
        tag.is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    };
    if request.header("webhook-signature").split(' ').any(holds) { Ok(()) } else { Err("no signature holds") }
}
