//! How the gateway is: for people, for load balancers, for monitoring.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::call::{Answer, Call, json, typed};
use super::{Api, BundleReport};
use crate::base::telemetry::{By, Name};
use crate::base::{Result, Timestamp};
use crate::flow::Context;
use crate::flow::mailbox::{State, Told};
use crate::flow::sending::HeldUp;
use crate::store::lease::{self, Node};

/// How the gateway is set up and how it does.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub(super) struct Status {
    /// The program's version.
    version: &'static str,
    /// The hash of what decisions depend on: connectors, channels, policy.
    bundle: String,
    /// Where the gateway is reached from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    /// Connectors in force.
    connectors: Vec<ConnectorStatus>,
    /// Configured channels.
    channels: Vec<ChannelStatus>,
    /// Configured help desks.
    helpdesks: Vec<String>,
    /// The bundle that rules all nodes, and whether it is run here.
    publication: PublicationStatus,
    /// How taking up changed files went the last time.
    reload: ReloadStatus,
    /// What is still to be done.
    pending: Pending,
    /// Who works on this data, the node that answers first.
    nodes: Vec<NodeStatus>,
}

/// A node and its part of the work.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NodeStatus")]
struct NodeStatus {
    /// Its id, drawn when its process began.
    id: String,
    /// Since when it has a part in the work; absent if it has none now.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// How many of the 256 shares of the entries it applies.
    buckets: usize,
    /// What else it alone does: `sends`, `media`, `upkeep`, `helpdesk/<name>`. Empty where one node does everything.
    leases: Vec<String>,
}

/// A connector in force.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConnectorStatus")]
struct ConnectorStatus {
    /// Its name.
    name: String,
    /// Its version.
    version: String,
}

/// A configured channel.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChannelStatus")]
struct ChannelStatus {
    /// Its name: deliveries go to `/in/` and this.
    name: String,
    /// Its connector.
    connector: String,
    /// Whether it takes nothing for now.
    paused: bool,
    /// Whether its requests go unchecked, which they should not outside of trials.
    unverified: bool,
    /// How its mailbox does, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<MailboxStatus>,
    /// How sending does, if answers leave by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sending: Option<SendingStatus>,
}

/// How sending does on a channel.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SendingStatus")]
struct SendingStatus {
    /// `ok`, `held_up` (nothing was taken since the first try that was put off) or `elsewhere` (another node sends, and knows
    /// how it does).
    state: &'static str,
    /// What is known of being held up.
    #[serde(flatten)]
    held_up: Option<HeldUpStatus>,
}

/// Why nothing gets out on a channel.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HeldUpStatus")]
struct HeldUpStatus {
    /// Since when.
    since: Timestamp,
    /// How many tries were put off in a row.
    put_off: u64,
    /// When the last of them was.
    tried_at: Timestamp,
    /// Why it was put off, with the step and the code, and without the words of the other side.
    reason: String,
    /// What helps.
    help: &'static str,
}

/// How a mailbox does.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MailboxStatus")]
struct MailboxStatus {
    /// `ok`, `degraded` (it is tried again), `stalled` (nothing was read for ten minutes), `broken` (somebody has to change
    /// something), `paused` (its channel is) or `elsewhere` (another node reads it and knows how it does).
    state: &'static str,
    /// When this node last read it to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<Timestamp>,
    /// How many UIDs of its folders were not looked at yet.
    behind: u64,
    /// What went wrong last and what helps; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What will go wrong if nobody does something: until when, and what helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
}

/// The bundle that was published last.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublicationStatus")]
struct PublicationStatus {
    /// The version of the publication; the newest one rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// The hash of the bundle.
    hash: String,
    /// When it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// The hash of what the files of this node say, where that is not what rules; `segue bundle publish` publishes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_files: Option<String>,
    /// Why it cannot be run here: entries stay pending on this node.
    refused: Vec<String>,
}

/// How taking up changed files went.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReloadStatus")]
struct ReloadStatus {
    /// When it was; absent if nothing changed since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    /// Whether what was read then is in force.
    in_force: bool,
    /// What is wrong, each with file, line and reason; what was there before goes on.
    problems: Vec<String>,
    /// Changes that only a restart takes up.
    needs_restart: Vec<String>,
}

/// What is still to be done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Pending")]
struct Pending {
    /// Entries that are not applied.
    entries: u64,
    /// Events that are not delivered, over all help desks.
    events: u64,
}

/// Whether requests can be taken.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
pub(super) struct Readiness {
    /// Whether they can.
    ready: bool,
    /// Why not.
    reasons: Vec<&'static str>,
    /// How the mailboxes do, by channel. One that is not well keeps nobody else from being served, so it is no reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mailboxes: BTreeMap<String, MailboxReadiness>,
}

/// How a mailbox does, for everybody; the words are in the status.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MailboxReadiness")]
struct MailboxReadiness {
    /// `ok`, `degraded`, `stalled`, `broken`, `paused` or `elsewhere`.
    state: &'static str,
    /// When this node last read it to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<Timestamp>,
    /// How many UIDs of its folders were not looked at yet.
    behind: u64,
}

/// `GET /v1/status`
pub(super) async fn status(call: Call) -> Answer {
    let pending = pending(&call.api).await?;
    let (setup, loaded) = (call.api.context().setup.load_full(), call.api.state.loaded.load_full());
    let mut connectors: BTreeMap<String, String> = loaded.connectors.iter().cloned().collect();
    let mut channels: Vec<ChannelStatus> = Vec::new();
    let context = call.api.context();
    let mut mailboxes = mailboxes(context);
    for (name, channel) in &setup.channels {
        let connector = &channel.connector;
        connectors.entry(connector.name().to_owned()).or_insert_with(|| connector.version().to_owned());
        channels.push(ChannelStatus {
            name: name.clone(),
            connector: connector.name().to_owned(),
            paused: channel.paused,
            unverified: connector.unverified(),
            mailbox: mailboxes.remove(name).map(mailbox),
            sending: connector.can_send(&channel.account).then(|| sending(context, name)),
        });
    }
    channels.sort_by(|a, b| a.name.cmp(&b.name));
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        bundle: setup.hash.clone(),
        public_url: call.api.state.public_url.clone(),
        connectors: connectors.into_iter().map(|(name, version)| ConnectorStatus { name, version }).collect(),
        channels,
        helpdesks: loaded.helpdesks.clone(),
        publication: publication(&loaded.bundle),
        reload: ReloadStatus {
            at: loaded.at,
            in_force: loaded.in_force,
            problems: loaded.problems.clone(),
            needs_restart: loaded.needs_restart.clone(),
        },
        pending,
        nodes: call.api.context().store.leases.nodes().await?.into_iter().map(node).collect(),
    };
    json(StatusCode::OK, &status)
}

/// How the mailboxes do, those of paused channels among them.
fn mailboxes(context: &Context) -> BTreeMap<String, Told> {
    let mut all = context.mailboxes.all(context.clock.now());
    for (name, channel) in context.setup.load().channels.iter().filter(|(_, channel)| channel.paused) {
        if channel.connector.mailbox(&channel.account).is_ok_and(|mailbox| mailbox.is_some()) {
            all.insert(name.clone(), Told::paused());
        }
    }
    all
}

fn mailbox(told: Told) -> MailboxStatus {
    MailboxStatus {
        state: told.state.word(),
        read_at: told.read_at,
        behind: told.behind,
        error: told.error,
        alarm: told.alarm,
    }
}

fn sending(context: &Context, channel: &str) -> SendingStatus {
    if !context.store.leases.named(lease::SENDS).may_go_on() {
        return SendingStatus { state: "elsewhere", held_up: None };
    }
    let held_up = context.sending.held_up(channel).map(|HeldUp { since, put_off, tried_at, reason, help }| {
        HeldUpStatus { since, put_off, tried_at, reason, help }
    });
    SendingStatus { state: if held_up.is_some() { "held_up" } else { "ok" }, held_up }
}

fn publication(bundle: &BundleReport) -> PublicationStatus {
    PublicationStatus {
        version: bundle.version,
        hash: bundle.hash.clone(),
        at: bundle.published_at,
        by: bundle.published_by.clone(),
        own_files: bundle.own.clone(),
        refused: bundle.refused.clone(),
    }
}

fn node(node: Node) -> NodeStatus {
    NodeStatus { id: node.id.to_string(), since: node.since, buckets: node.buckets, leases: node.named }
}

async fn pending(api: &Api) -> Result<Pending> {
    let store = &api.context().store;
    Ok(Pending { entries: store.journal.pending_count().await?, events: store.outbox.due_count().await? })
}

/// `GET /healthz`
pub(super) async fn alive(_: Call) -> Answer {
    Ok(typed(StatusCode::OK, "text/plain", "ok\n"))
}

/// `GET /readyz`
pub(super) async fn ready(call: Call) -> Answer {
    let state = &call.api.state;
    let mut reasons = Vec::new();
    if !state.context.store.journal.healthy() {
        reasons.push("the journal takes nothing");
    }
    if !state.working.load(Ordering::Relaxed) {
        reasons.push("entries are not applied");
    }
    if state.context.held.load(Ordering::Relaxed) {
        reasons.push("the published bundle cannot be run here; the status says why");
    }
    if *state.stopping.borrow() {
        reasons.push("the gateway is stopping");
    }
    if let Err(error) = state.context.store.journal.pending_count().await {
        tracing::warn!(target: "segue::api", error = %error.full(), "the store cannot be read");
        reasons.push("the store cannot be read");
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mailboxes = mailboxes(&state.context).into_iter().map(|(name, told)| {
        let state = told.state.word();
        (name, MailboxReadiness { state, read_at: told.read_at, behind: told.behind })
    });
    json(status, &Readiness { ready: reasons.is_empty(), reasons, mailboxes: mailboxes.collect() })
}

/// `GET /metrics`
pub(super) async fn metrics(call: Call) -> Answer {
    let metrics = &call.api.context().metrics;
    // The gauges are counted along while entries are applied; what waits on disk is counted here.
    if let Ok(pending) = pending(&call.api).await {
        metrics.pending_entries.set(i64::try_from(pending.entries).unwrap_or(i64::MAX));
        metrics.pending_events.set(i64::try_from(pending.events).unwrap_or(i64::MAX));
    }
    let context = call.api.context();
    for (name, told) in mailboxes(context) {
        for state in State::ALL {
            metrics.mailboxes.get_or_create(&By::new(&name, state.word())).set(i64::from(state == told.state));
        }
        let name = Name { name };
        metrics.mailbox_behind.get_or_create(&name).set(i64::try_from(told.behind).unwrap_or(i64::MAX));
        if let Some(at) = told.read_at {
            metrics.mailbox_read.get_or_create(&name).set(at.seconds());
        }
    }
    const MEDIA: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(typed(StatusCode::OK, MEDIA, metrics.encode()))
}
