//! The gateway's data, for the commands that look at it or change it.
//!
//! One process holds a data directory. Where no gateway runs, a command opens the store itself; where one runs, or a URL
//! is named, it asks that gateway's API with a token. Both ways speak in the JSON objects that `--json` prints.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ipnet::IpNet;
use serde_json::{Value, json};
use url::Url;

use super::Global;
use crate::app::{self, Start};
use crate::base::id::{EntryId, EventId};
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Error, Kind, Result, Retry, Secret, Side};
use crate::config::{Config, Listen, Store};
use crate::model::entry::{Command, MailHead, RequestHead};
use crate::model::{EntryBody, EntryKind};
use crate::net::{Client, client};
use crate::store::{DeadLetter, NewEntry, Opened, QuarantineRow, TokenRow};

/// The largest answer of the API that is read, in bytes.
const MOST_BYTES: usize = 32 << 20;
/// How many rows are read at once.
const PAGE: usize = 500;

/// How a running gateway is reached.
#[derive(Debug, Clone, Default, Args)]
pub struct Reach {
    /// Ask the gateway at this URL; without it the data directory is opened, or the configured gateway asked if it runs
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<Url>,
    /// The API token to ask with
    #[arg(long, global = true, value_name = "TOKEN", env = "SEGUE_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// The store of a gateway that does not run, or the API of one that does.
pub(super) enum Gateway {
    /// Nobody else holds the data directory.
    Store(Box<Opened>),
    /// Somebody does.
    Api(Box<Api>),
}

/// The API of a running gateway.
pub(super) struct Api {
    client: Client,
    base: String,
    token: Secret,
}

/// Runs a future to its end.
///
/// # Errors
///
/// The future's own; [`Kind::Internal`] if the system gives no runtime.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::internal("failed to start the runtime").because(error))?.block_on(future)
}

/// Opens the store of a gateway that does not run.
///
/// # Errors
///
/// `NotFound` if no gateway has run here yet; else as [`app::open_store`].
pub(super) fn open_store(config: &Config) -> Result<Opened> {
    if config.store == Store::Sqlite && !config.data.join("segue.db").is_file() {
        let data = config.data.display();
        return Err(Error::not_found(format!("no data at `{data}`: no gateway has run here yet")));
    }
    make_store(config)
}

/// Opens the store of a gateway that does not run, or makes it.
///
/// # Errors
///
/// As [`app::open_store`].
pub(super) fn make_store(config: &Config) -> Result<Opened> {
    let start = Start { progress: super::progress::watched(), ..Start::default() };
    app::open_store(config, &start, Metrics::new())
}

impl Gateway {
    /// Finds the way to the data of the configured gateway. With `create`, a store that does not exist yet is made.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be used, there is no data, or a gateway runs and no token is given.
    pub(super) fn find(global: &Global, reach: &Reach, create: bool) -> Result<Gateway> {
        if let Some(url) = &reach.url {
            // A gateway elsewhere needs no configuration here; if there is one, its networks and roots count.
            let config = if global.exists() { crate::config::load(&global.config).ok() } else { None };
            return Api::new(url.as_str(), reach, config.as_ref()).map(Box::new).map(Gateway::Api);
        }
        let config = global.load()?;
        // PostgreSQL is for several processes: there is no need to ask the one that runs.
        let alone = config.store == Store::Sqlite;
        if alone && held(&config.data) {
            let url = url_of(config.listen.first())?;
            return Api::new(&url, reach, Some(&config)).map(Box::new).map(Gateway::Api);
        }
        let opened = if create { make_store(&config) } else { open_store(&config) };
        opened.map(Box::new).map(Gateway::Store)
    }

    /// What is quarantined, the latest first: `entry`, `channel`, `reason`, `at`.
    pub(super) async fn quarantine(&self, channel: Option<&str>, limit: usize) -> Result<Vec<Value>> {
        let wanted = |name: &str| channel.is_none_or(|channel| channel == name);
        match self {
            Gateway::Store(opened) => {
                let (mut found, mut before) = (Vec::new(), i64::MAX);
                while found.len() < limit {
                    let page = opened.store.catalog.quarantine(before, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    before = last.no;
                    found.extend(page.iter().filter(|row| wanted(&row.channel)).map(quarantined));
                }
                found.truncate(limit);
                Ok(found)
            }
            Gateway::Api(api) => {
                let found = api.list("/v1/quarantine", &[("limit", limit.to_string())]).await?;
                Ok(found.into_iter().filter(|row| wanted(&text(row, &["channel"]))).collect())
            }
        }
    }

    /// One quarantined payload with its request: as in the list, and `request` with `method`, `url`, `headers`, and
    /// `body` or, where it is no text, `body_base64`.
    pub(super) async fn quarantined(&self, id: EntryId) -> Result<Value> {
        let opened = match self {
            Gateway::Api(api) => return api.get(&format!("/v1/quarantine/{id}")).await,
            Gateway::Store(opened) => opened,
        };
        let name = id.to_string();
        let all = self.quarantine(None, usize::MAX).await?;
        let row = all.into_iter().find(|row| text(row, &["entry"]) == name);
        let mut row = row.ok_or_else(|| Error::not_found(format!("entry {id} is not quarantined")))?;
        let entry = opened.store.journal.entry(id).await?;
        if let (Some((entry, _)), Value::Object(members)) = (entry, &mut row) {
            members.insert("request".to_owned(), request(&entry.body));
        }
        Ok(row)
    }

    /// Has a quarantined entry normalized again. Gives what came of it; a gateway that does not run does it when it
    /// starts.
    pub(super) async fn retry_quarantined(&self, id: EntryId) -> Result<Value> {
        let opened = match self {
            Gateway::Api(api) => return api.post(&format!("/v1/quarantine/{id}/retry"), &json!({})).await,
            Gateway::Store(opened) => opened,
        };
        if opened.store.journal.entry(id).await?.is_none() {
            return Err(Error::not_found(format!("there is no entry {id}")));
        }
        let at = Clock::system().now();
        let head = serde_json::to_vec(&Command::RetryQuarantined { entry: id })
            .map_err(|error| Error::internal("failed to write a command").because(error))?;
        let entry = NewEntry {
            id: EntryId::random(at),
            kind: EntryKind::Command,
            channel: String::new(),
            at,
            interactive: false,
            keys: Vec::new(),
            key: None,
            body: EntryBody { head: head.into(), raw: Bytes::new() },
        };
        opened.store.journal.append(entry).await?;
        Ok(json!({ "entry": id, "state": "applied at the next start" }))
    }

    /// Dead letters, the latest first: `event`, `helpdesk`, `attempts`, `error`, `at`.
    pub(super) async fn dead_letters(&self, helpdesk: Option<&str>, limit: usize) -> Result<Vec<Value>> {
        match self {
            Gateway::Store(opened) => {
                let (mut found, mut before) = (Vec::new(), i64::MAX);
                while found.len() < limit {
                    let page = opened.store.catalog.dead_letters(helpdesk.map(str::to_owned), before, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    before = last.no;
                    found.extend(page.iter().map(dead));
                }
                found.truncate(limit);
                Ok(found)
            }
            Gateway::Api(api) => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(helpdesk.map(|name| ("helpdesk", name.to_owned())));
                api.list("/v1/dead-letters", &query).await
            }
        }
    }

    /// Makes dead letters due again: one event, or all; of one help desk, or all. Gives how many, or nothing if the
    /// gateway does not say.
    pub(super) async fn revive(&self, helpdesk: Option<&str>, event: Option<EventId>) -> Result<Option<u64>> {
        match self {
            Gateway::Store(opened) => opened.store.outbox.revive(helpdesk.map(str::to_owned), event).await.map(Some),
            Gateway::Api(api) => {
                let mut body = serde_json::Map::new();
                body.extend(helpdesk.map(|name| ("helpdesk".to_owned(), json!(name))));
                body.extend(event.map(|event| ("event".to_owned(), json!(event))));
                let answer = api.post("/v1/dead-letters/retry", &Value::Object(body)).await?;
                let count = ["revived", "retried", "count"].iter().find_map(|name| answer.get(name)?.as_u64());
                Ok(count)
            }
        }
    }

    /// The tokens: `id`, `name`, `scopes`, `created_at`, `revoked_at`.
    pub(super) async fn tokens(&self) -> Result<Vec<Value>> {
        match self {
            Gateway::Store(opened) => Ok(opened.store.catalog.tokens().await?.iter().map(token).collect()),
            Gateway::Api(api) => api.list("/v1/tokens", &[]).await,
        }
    }

    /// Ends a token. False if there is none of this id that holds.
    pub(super) async fn revoke_token(&self, id: &str) -> Result<bool> {
        match self {
            Gateway::Store(opened) => opened.store.catalog.revoke_token(id.to_owned()).await,
            Gateway::Api(api) => match api.post(&format!("/v1/tokens/{id}/revoke"), &json!({})).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == Kind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// Whether another process holds the data directory.
fn held(data: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(data.join("lock"));
    // The lock is given back at once; should a gateway start in between, opening the store says so.
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Where the first door of a gateway on this machine is reached.
fn url_of(door: Option<&Listen>) -> Result<String> {
    let door = door.cloned().unwrap_or_default();
    let mut address = door.address;
    if address.port() == 0 {
        return Err(Error::config("the running gateway listens at port 0, which says nothing; name it by --url"));
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    // A certificate is made out to a name, so behind TLS the door's public name is the one to call.
    match (&door.tls, &door.public_url) {
        (Some(_), Some(url)) => Ok(url.clone()),
        (Some(_), None) => Ok(format!("https://{address}")),
        (None, _) => Ok(format!("http://{address}")),
    }
}

impl Api {
    fn new(url: &str, reach: &Reach, config: Option<&Config>) -> Result<Api> {
        let base = url.trim_end_matches('/').to_owned();
        let Some(token) = reach.token.clone().filter(|token| !token.is_empty()) else {
            let reason = format!(
                "a gateway is to be asked at {base}; give its token by --token or SEGUE_TOKEN \
                 (while it is stopped, `segue token create --name me --scope admin` makes one)"
            );
            return Err(Error::new(Kind::Unauthorized, reason).on_side(Side::Operator));
        };
        let mut settings = client::Settings { response_bytes: MOST_BYTES, ..client::Settings::default() };
        let loopback = [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];
        settings.allow.extend(loopback.into_iter().filter_map(|(ip, length)| IpNet::new(ip, length).ok()));
        if let Some(config) = config {
            settings.allow.extend(config.outbound.allow.iter().copied());
            settings.allow.extend(config.listen.iter().map(|door| IpNet::from(door.address.ip())));
            settings.extra_roots.clone_from(&config.outbound.roots);
        }
        settings.ports.extend(Url::parse(&base).ok().and_then(|url| url.port()));
        Ok(Api { client: Client::new(settings)?, base, token })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Posts JSON under an idempotency key of its own.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// A list: the answer itself, or the list in it.
    async fn list(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<Value>> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let list = match self.get(&path).await? {
            Value::Array(list) => Some(list),
            Value::Object(members) => members.into_iter().find_map(|(_, member)| match member {
                Value::Array(list) => Some(list),
                _ => None,
            }),
            _ => None,
        };
        list.ok_or_else(|| Error::invalid(format!("{}: the answer holds no list", self.base)))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.expose()));
        let mut bearer = bearer.map_err(|_| Error::invalid("the token is none: it holds characters of no token"))?;
        bearer.set_sensitive(true);
        let mut request = client::Request::new(method, format!("{}{path}", self.base))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .timeout(Duration::from_secs(30));
        if let Some(body) = body {
            let key = EntryId::random(Clock::system().now()).to_string();
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .header(
                    HeaderName::from_static("idempotency-key"),
                    HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static("0")),
                )
                .body(body.to_string());
        }
        let response = self.client.send(request).await.map_err(Error::from)?;
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        if response.status.is_success() {
            return Ok(answer);
        }
        Err(self.refused(response.status, &answer))
    }

    /// The error of an answer that is no success; `problem` is its problem document (RFC 9457), if it has one.
    fn refused(&self, status: StatusCode, problem: &Value) -> Error {
        let (kind, way_out) = match status.as_u16() {
            401 => (Kind::Unauthorized, "; is the token right, and not revoked?"),
            403 => (Kind::Forbidden, "; the token lacks a scope for this"),
            404 => (Kind::NotFound, ""),
            409 => (Kind::Conflict, ""),
            400 | 422 => (Kind::Invalid, ""),
            429 => (Kind::Limit, ""),
            _ => (Kind::Unavailable, ""),
        };
        let detail = text(problem, &["detail", "title"]);
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        let error = Error::new(kind, format!("{} answered {}{detail}{way_out}", self.base, status.as_u16()));
        if kind == Kind::Conflict { error.with_retry(Retry::Never) } else { error }
    }
}

/// The first of the members `names` that is a text or a number, as text; empty if there is none.
pub(super) fn text(value: &Value, names: &[&str]) -> String {
    let member = names.iter().find_map(|name| match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    });
    member.unwrap_or_default()
}

fn quarantined(row: &QuarantineRow) -> Value {
    json!({ "entry": row.entry, "channel": row.channel, "reason": row.reason, "at": row.at })
}

fn dead(row: &DeadLetter) -> Value {
    json!({
        "event": row.event, "helpdesk": row.helpdesk, "attempts": row.attempts, "error": row.error, "at": row.at,
    })
}

fn token(row: &TokenRow) -> Value {
    json!({
        "id": row.id, "name": row.name, "scopes": row.scopes, "created_at": row.created_at,
        "revoked_at": row.revoked_at,
    })
}

/// A stored request or mail. After its time in retention only stubs are left of it.
fn request(body: &EntryBody) -> Value {
    let mail = || serde_json::from_slice::<MailHead>(&body.head).ok();
    let mut request = match serde_json::from_slice::<RequestHead>(&body.head) {
        Ok(head) => json!({ "method": head.method, "url": head.url, "headers": head.headers }),
        Err(_) => match mail() {
            Some(head) => json!({ "folder": head.folder, "uid": head.uid.map(|(_, uid)| uid) }),
            None => return Value::Null,
        },
    };
    if let Value::Object(members) = &mut request {
        match std::str::from_utf8(&body.raw) {
            Ok(text) => members.insert("body".to_owned(), text.into()),
            Err(_) => members.insert("body_base64".to_owned(), BASE64.encode(&body.raw).into()),
        };
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    fn project() -> (tempfile::TempDir, Global) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("segue.toml"), "").unwrap();
        let config = folder.path().to_owned();
        (folder, Global { config, log: None, log_format: super::super::log::Format::Text })
    }

    fn kind(found: Result<Gateway>) -> Kind {
        found.err().map(|error| error.kind()).unwrap()
    }

    #[test]
    fn the_store_is_opened_where_no_gateway_runs_and_the_api_asked_where_one_does() {
        let (folder, global) = project();
        let reach = Reach::default();
        assert_eq!(kind(Gateway::find(&global, &reach, false)), Kind::NotFound);
        assert!(!folder.path().join("data").exists(), "looking makes nothing");
        let opened = Gateway::find(&global, &reach, true).ok().unwrap();
        assert!(matches!(opened, Gateway::Store(_)));
        assert_eq!(kind(Gateway::find(&global, &reach, true)), Kind::Unauthorized, "held, and no token given");
        let reach = Reach { token: Some(Secret::new("sg_x")), ..reach };
        assert!(
            matches!(Gateway::find(&global, &reach, true), Ok(Gateway::Api(api)) if api.base == "http://127.0.0.1:8080")
        );
        drop(opened);
        assert!(matches!(Gateway::find(&global, &reach, false), Ok(Gateway::Store(_))));
    }

    #[test]
    fn a_retry_is_entered_for_the_next_start() {
        let (_folder, global) = project();
        let gateway = Gateway::find(&global, &Reach::default(), true).ok().unwrap();
        let Gateway::Store(opened) = &gateway else { panic!("not the store") };
        block_on(async {
            let at = Timestamp::from_seconds(1);
            let id = EntryId::random(at);
            assert_eq!(gateway.retry_quarantined(id).await.err().unwrap().kind(), Kind::NotFound);
            let body = EntryBody { head: Bytes::from_static(b"{}"), raw: Bytes::new() };
            let entry = NewEntry {
                id,
                kind: EntryKind::Webhook,
                channel: "a".into(),
                at,
                interactive: false,
                keys: Vec::new(),
                key: None,
                body,
            };
            opened.store.journal.append(entry).await?;
            gateway.retry_quarantined(id).await?;
            let pending = opened.store.journal.pending(0, None, 10).await?;
            let kinds: Vec<EntryKind> = pending.iter().map(|entry| entry.kind).collect();
            assert_eq!(kinds, [EntryKind::Webhook, EntryKind::Command]);
            assert!(gateway.quarantine(None, 10).await?.is_empty());
            assert_eq!(gateway.revive(None, None).await?, Some(0));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_door_is_called_by_an_address_that_can_be_called() {
        let door = |address: &str| Listen { address: address.parse().unwrap(), ..Listen::default() };
        assert_eq!(url_of(Some(&door("0.0.0.0:80"))).unwrap(), "http://127.0.0.1:80");
        assert_eq!(url_of(Some(&door("[::]:80"))).unwrap(), "http://[::1]:80");
        assert_eq!(url_of(None).unwrap(), "http://127.0.0.1:8080");
        assert!(url_of(Some(&door("127.0.0.1:0"))).is_err());
    }
}
