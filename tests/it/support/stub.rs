//! A provider's API: counts what is sent to customers through it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::server::{Arrived, Reply, Server};

type Behavior = Box<dyn FnMut(&Arrived) -> Reply + Send>;

struct State {
    sends: Vec<Arrived>,
    behavior: Behavior,
}

/// The stub.
pub(crate) struct Provider {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Provider {
    /// One that accepts every send, with ids of its own, in the shape of Meta's Graph API.
    pub(crate) async fn start() -> Provider {
        Provider::answering(|count| accepted(&format!("wamid.SENT{count}"))).await
    }

    /// One that accepts every send with what `body` makes of its number, which is from 1.
    pub(crate) async fn answering(body: impl Fn(usize) -> Value + Send + 'static) -> Provider {
        let mut count = 0;
        let behavior: Behavior = Box::new(move |_| {
            count += 1;
            Reply::json(200, &body(count))
        });
        let state = Arc::new(Mutex::new(State { sends: Vec::new(), behavior }));
        let shared = state.clone();
        let server = Server::start(Arc::new(move |request: Arrived| {
            let mut state = shared.lock().unwrap();
            let reply = (state.behavior)(&request);
            state.sends.push(request);
            Box::pin(std::future::ready(reply))
        }));
        Provider { server: server.await, state }
    }

    /// What `api_base` of a channel is set to.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Arrived> {
        self.state.lock().unwrap().sends.clone()
    }

    /// The texts sent so far through the Graph API.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |request: &Arrived| {
            let body: Value = serde_json::from_slice(&request.body).ok()?;
            body["text"]["body"].as_str().map(str::to_owned)
        };
        self.requests().iter().filter_map(text).collect()
    }
}

/// The Graph API's answer to a message that it took.
pub(crate) fn accepted(id: &str) -> Value {
    json!({
        "messaging_product": "whatsapp",
        "contacts": [{ "input": "15550001000", "wa_id": "15550001000" }],
        "messages": [{ "id": id }],
    })
}
