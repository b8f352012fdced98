//! The room's own tests: a real store, real workers, a connector for trials, and the router called as listeners call it.

mod events;
mod feed;
mod mailboxes;
mod story;
mod surface;
mod upkeep;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_service::Service;

use super::token::{Scope, mint};
use super::{ApiState, ReloadReport, Timing, router_with};
use crate::base::Clock;
use crate::base::id::EntryId;
use crate::base::telemetry::Metrics;
use crate::connector::{Connector, Folder};
use crate::flow::mail_login::Logins;
use crate::flow::send_mail::Mailer;
use crate::flow::wait::Waiting;
use crate::flow::work::Workers;
use crate::flow::{ChannelSetup, Context, Setup};
use crate::mail::token::TokenKey;
use crate::model::entry::RequestHead;
use crate::model::{EntryBody, EntryKind};
use crate::net::{Client, client};
use crate::script::{Budget, Bundle, PolicyFacts, PolicyFiles};
use crate::store::blob::Blobs;
use crate::store::{NewEntry, sqlite};

/// A connector for trials: messages with text, a file if they have one, and poison that it does not understand.
const MANIFEST: &str = r#"
[connector]
name = "probe"
version = "7"
summary = "A channel for trials"
docs = "https://probe.example/docs"
transport = "webhook"
channel = "chat"

[[verify]]
kind = "none"

[ack]
budget_ms = 5000

[capabilities]
text_limit = 100
text_unit = "characters"
public_reply = true
public_to_thread = true

[payload]
each = ["batch in body.batches"]

[[item]]
each = "msg in batch.messages"

[[item.case]]
when = "POISON"
outcome = "quarantined"
reason = "poison"

[[item.case]]
account = "'inbox'"
provider_id = "msg.id"
text = "msg.text"
thread_id = "msg.thread"
direction = "if(msg.ours, 'outbound', 'inbound')"
visibility = "if(msg.public, 'public', 'private')"
author = { name = "msg.name", identifiers = [{ type = "tel", value = "msg.from", trust = "verified" }] }
[[item.case.part]]
when = "msg.file"
type = "file"
ref = "msg.file"
filename = "msg.filename"

[[send]]
carries = "text"
url = "https://probe.example/send"
json = { to = "{out.to}", text = "{out.text}" }

[response]
ids = ["body.id"]
"#;

/// A gateway without doors.
struct Gateway {
    context: Arc<Context>,
    router: Router,
    workers: Option<Workers>,
    stop: watch::Sender<bool>,
    loaded: Arc<ArcSwap<ReloadReport>>,
    working: Arc<AtomicBool>,
    tokens: HashMap<Scope, String>,
    count: std::sync::atomic::AtomicU64,
    _store: crate::store::Opened,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of a success.
    #[track_caller]
    fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The detail of a problem of this status.
    #[track_caller]
    fn problem(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let document = self.json();
        assert_eq!(document["status"], status);
        assert_eq!(document["type"], "about:blank");
        document["detail"].as_str().unwrap().to_owned()
    }
}

fn setup(poison: &str) -> Setup {
    let manifest = MANIFEST.replace("POISON", poison).into_bytes();
    let files = BTreeMap::from([("connector.toml".to_owned(), Cow::Owned(manifest))]);
    let folder = Arc::new(Folder { name: "probe".to_owned(), files });
    let connector = Connector::load(folder, None).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let account = connector.account("trial", &serde_json::Map::new(), None).unwrap();
    let channel = ChannelSetup { connector: Arc::new(connector), account, queue: None, paused: false };
    let facts = PolicyFacts { default_queue: "general".to_owned(), ..PolicyFacts::default() };
    Setup {
        channels: HashMap::from([("trial".to_owned(), channel)]),
        policy: Bundle::build(PolicyFiles::from_memory([]), facts, Budget::default()).unwrap(),
        default_queue: "general".to_owned(),
        templates: HashMap::new(),
        source: "segue".to_owned(),
        hash: "c0ffee".repeat(10),
    }
}

impl Gateway {
    async fn start() -> Gateway {
        let mut gateway = Gateway::idle(Timing::default(), 4).await;
        gateway.work();
        gateway
    }

    /// A gateway that applies nothing yet.
    async fn idle(timing: Timing, subscribers: usize) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite::open(
            &folder.path().join("data"),
            sqlite::Options::default(),
            &crate::store::seal::Sealing::at(folder.path().join("root.key")),
            &crate::store::Unwatched::shared(),
            crate::base::telemetry::Metrics::new(),
        )
        .unwrap();
        let context = Arc::new(Context {
            store: store.store.clone(),
            setup: ArcSwap::from_pointee(setup("msg.poison")),
            clock: Clock::system(),
            metrics: Metrics::new(),
            waiting: Waiting::default(),
            ahead: crate::flow::Ahead::default(),
            mailboxes: Default::default(),
            sending: Default::default(),
            held: AtomicBool::new(false),
            blobs: Some(
                Blobs::in_folder(&folder.path().join("blobs"), store.blob_keys.clone(), store.store.blobs.clone())
                    .unwrap(),
            ),
        });
        let mut tokens = HashMap::new();
        for scope in Scope::ALL {
            let (text, row) = mint(scope.name(), &[scope], context.clock.now()).unwrap();
            context.store.catalog.add_token(row).await.unwrap();
            tokens.insert(scope, text.expose().to_owned());
        }
        let (stop, stopping) = watch::channel(false);
        let (loaded, working) = (Arc::new(ArcSwap::default()), Arc::new(AtomicBool::new(true)));
        let client = Client::new(client::Settings::default()).unwrap();
        let key = Arc::new(TokenKey::new(store.mail_secret.clone()));
        let logins = Logins::new(client.clone(), store.store.mailboxes.clone(), Clock::system());
        let state = ApiState {
            context: context.clone(),
            mailer: Mailer::new(client, key, logins),
            public_url: None,
            loaded: loaded.clone(),
            working: working.clone(),
            stopping,
            subscribers,
        };
        let router = router_with(state, timing);
        let count = std::sync::atomic::AtomicU64::new(0);
        Gateway { context, router, workers: None, stop, loaded, working, tokens, count, _store: store, _folder: folder }
    }

    fn work(&mut self) {
        self.workers = Some(Workers::start(self.context.clone(), 2).unwrap());
    }

    /// A call as it comes, its answer yet to be read.
    async fn raw(&self, request: Request<Body>) -> Response {
        self.router.clone().call(request).await.unwrap()
    }

    async fn call(&self, request: Request<Body>) -> Reply {
        let (head, body) = self.raw(request).await.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(60), body.collect()).await.unwrap().unwrap().to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    fn request(&self, method: &str, path: &str, scope: Scope) -> http::request::Builder {
        let token = format!("Bearer {}", self.tokens[&scope]);
        Request::builder().method(method).uri(path).header("authorization", token)
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(self.request("GET", path, Scope::Admin).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.post_as(Scope::Admin, None, path, &body.to_string()).await
    }

    async fn post_as(&self, scope: Scope, key: Option<&str>, path: &str, body: &str) -> Reply {
        let mut request = self.request("POST", path, scope).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// A provider's delivery, applied when this returns.
    async fn deliver(&self, messages: Value) -> EntryId {
        let at = self.context.clock.now();
        let id = EntryId::random(at);
        let head = RequestHead {
            method: "POST".to_owned(),
            url: "https://gateway.example/in/trial".to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            verified_by: "none".to_owned(),
            sender: None,
        };
        let raw = json!({ "batches": [{ "messages": messages }] }).to_string();
        let body = EntryBody { head: serde_json::to_vec(&head).unwrap().into(), raw: raw.into() };
        self.enter(id, EntryKind::Webhook, "trial", body).await;
        id
    }

    async fn enter(&self, id: EntryId, kind: EntryKind, channel: &str, body: EntryBody) {
        let place = self.context.waiting.enter(id);
        let at = self.context.clock.now();
        let entry = NewEntry {
            id,
            kind,
            channel: channel.to_owned(),
            at,
            interactive: false,
            keys: Vec::new(),
            key: None,
            body,
        };
        self.context.store.journal.append(entry).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), place.applied()).await.unwrap());
    }

    /// A message from a customer; gives the conversation.
    async fn message(&self, from: &str, text: &str) -> String {
        let id = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.deliver(json!([{ "id": format!("m{id}"), "from": from, "name": "Ana", "text": text }])).await;
        let found = self.get(&format!("/v1/customers?identifier=tel:{}", from.replace('+', "%2B"))).await.ok(200);
        found["customers"][0]["recent"][0]["conversation_id"].as_str().unwrap().to_owned()
    }

    /// How many rows a table has.
    async fn rows(&self, table: &str) -> i64 {
        self.context.store.catalog.counts().await.unwrap()[table]
    }
}

/// Holds an answer to its schema in the OpenAPI document.
#[track_caller]
fn fits(name: &str, value: &Value) {
    let mut document: Value = serde_json::from_str(&super::openapi::document(None)).unwrap();
    let schemas = document["components"]["schemas"].take();
    assert!(schemas.get(name).is_some(), "{name}");
    let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": { "schemas": schemas } });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{name}: {wrong:?}");
}

const UNKNOWN: StatusCode = StatusCode::NOT_FOUND;
