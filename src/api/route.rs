//! The one table of routes. The router and the OpenAPI document are both made from it, so no route is undocumented and
//! nothing is documented that is not there.

use futures_util::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};

use super::call::{Answer, Call};
use super::token::Scope;
use super::{act, feed, health, keys, openapi, part, people, probe, story, stream, upkeep};
use crate::model::{Conversation, Customer, Interaction};

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
}

/// A query parameter.
pub(super) struct Param {
    pub(super) name: &'static str,
    /// The JSON Schema type.
    pub(super) kind: &'static str,
    pub(super) about: &'static str,
}

/// Makes the schema of a body.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
pub(super) struct Route {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    /// The operation's name, unique.
    pub(super) name: &'static str,
    /// What a token must reach; none for open routes.
    pub(super) scope: Option<Scope>,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Param],
    pub(super) takes: Option<Shape>,
    /// The status of success, and its representations by media type.
    pub(super) gives: (u16, &'static [(&'static str, Option<Shape>)]),
    /// Whether it is a command: applied in its turn, and so perhaps only accepted.
    pub(super) command: bool,
    pub(super) handler: fn(Call) -> BoxFuture<'static, Answer>,
}

const fn param(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param { name, kind, about }
}

/// A list of one kind of body.
macro_rules! json {
    ($type:ty) => {
        &[("application/json", Some((|g| g.subschema_for::<$type>()) as Shape))]
    };
}

/// A route that reads.
macro_rules! get {
    ($path:literal, $name:literal, $scope:expr, $summary:literal, [$($query:expr),*], $gives:expr, $handler:path) => {
        Route { verb: Verb::Get, path: $path, name: $name, scope: $scope, summary: $summary, query: &[$($query),*],
            takes: None, gives: (200, $gives), command: false, handler: |call| Box::pin($handler(call)) }
    };
}

/// A route that changes something.
macro_rules! post {
    ($path:literal, $name:literal, $scope:expr, $summary:literal, $takes:ty, $status:literal, $gives:expr, $command:literal, $handler:path) => {
        Route {
            verb: Verb::Post,
            path: $path,
            name: $name,
            scope: Some($scope),
            summary: $summary,
            query: &[],
            takes: Some(|g| g.subschema_for::<$takes>()),
            gives: ($status, $gives),
            command: $command,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

const LIMIT: Param = param("limit", "integer", "How many at most, 1 to 200; 50 unless said");
const AFTER: Param = param("after", "string", "Cursor: give what comes after it; from the oldest kept event if absent");
const TYPES: Param = param("types", "string", "Only these types, such as `interaction.received`, separated by commas");
const CHANNELS: Param = param("channels", "string", "Only events from these configured channels, separated by commas");
const EVENTS: &[(&str, Option<Shape>)] =
    &[("application/json", Some((|g| g.subschema_for::<feed::Events>()) as Shape)), ("text/event-stream", None)];

/// Every route.
#[rustfmt::skip]
pub(super) static ROUTES: &[Route] = &[
    get!("/v1/customers", "find_customers", Some(Scope::Read), "Find customers by an identifier, exactly",
        [param("identifier", "string", "Type and value, such as `tel:+4930123456` or `mailto:ana@example.com`")],
        json!(people::Customers), people::find),
    get!("/v1/customers/{id}", "show_customer", Some(Scope::Read), "Show a customer with open stories and recent interactions",
        [], json!(Customer), people::show),
    get!("/v1/customers/{id}/timeline", "list_customer_timeline", Some(Scope::Read), "List a customer's interactions over all channels, the latest first",
        [param("before", "string", "The id of an interaction of this customer: list what came before it"), LIMIT],
        json!(story::Timeline), people::timeline),
    get!("/v1/conversations/{id}", "show_conversation", Some(Scope::Read), "Show a story",
        [], json!(Conversation), story::show),
    get!("/v1/conversations/{id}/timeline", "list_conversation_timeline", Some(Scope::Read), "List a story's interactions with their decisions, the latest first",
        [param("before_seq", "integer", "List what has a lower `seq`"), LIMIT],
        json!(story::Timeline), story::timeline),
    post!("/v1/conversations/{id}/replies", "reply", Scope::Write, "Answer the customer by their own channel",
        act::Reply, 201, json!(Interaction), true, act::reply),
    post!("/v1/conversations/{id}/notes", "note", Scope::Write, "Write an internal note",
        act::Note, 201, json!(Interaction), true, act::note),
    post!("/v1/conversations/{id}/assign", "assign", Scope::Write, "Give a story an owner, or take the owner away",
        act::Assign, 200, json!(Conversation), true, act::assign),
    post!("/v1/conversations/{id}/resolve", "resolve", Scope::Write, "Close a story",
        act::Resolve, 200, json!(Conversation), true, act::resolve),
    post!("/v1/conversations/{id}/reopen", "reopen", Scope::Write, "Open a story again",
        act::Reopen, 200, json!(Conversation), true, act::reopen),
    get!("/v1/commands/{id}", "show_command", Some(Scope::Write), "Show what became of a command that was not applied at once",
        [], json!(act::CommandState), act::show),
    get!("/v1/interactions/{id}", "show_interaction", Some(Scope::Read), "Show an interaction, its decision and how it stands now",
        [], json!(story::InteractionView), story::interaction),
    get!("/v1/interactions/{id}/parts/{part}", "fetch_part", Some(Scope::Read), "Fetch the file of a part; parts are counted from 0",
        [], &[("*/*", None)], part::fetch),
    get!("/v1/events", "list_events", Some(Scope::Feed), "Read the feed of events; with `Accept: text/event-stream` as a stream",
        [AFTER, param("limit", "integer", "How many at most, 1 to 200; 50 unless said"), TYPES, CHANNELS,
         param("wait", "integer", "Wait so many seconds, at most 30, if there is nothing yet")],
        EVENTS, feed::list),
    get!("/v1/events/stream", "stream_events", Some(Scope::Feed), "Follow the feed as server-sent events; `Last-Event-ID` resumes. Starts at the end unless told where",
        [AFTER, TYPES, CHANNELS], &[("text/event-stream", None)], stream::follow),
    get!("/v1/quarantine", "list_quarantine", Some(Scope::Read), "List payloads that could not be understood, the latest first",
        [param("before", "string", "Cursor: `next` of the page before"), LIMIT],
        json!(upkeep::Quarantine), upkeep::quarantine),
    get!("/v1/quarantine/{entry}", "show_quarantined", Some(Scope::Read), "Show one; the original request only with the scope `admin`",
        [], json!(upkeep::Quarantined), upkeep::quarantined),
    post!("/v1/quarantine/{entry}/retry", "retry_quarantined", Scope::Write, "Read it again, as its connector reads now",
        upkeep::Nothing, 200, json!(upkeep::Retried), true, upkeep::retry_quarantined),
    get!("/v1/dead-letters", "list_dead_letters", Some(Scope::Read), "List events that a help desk did not take, the latest first",
        [param("helpdesk", "string", "Only of this help desk"), param("before", "string", "Cursor: `next` of the page before"), LIMIT],
        json!(upkeep::DeadLetters), upkeep::dead_letters),
    post!("/v1/dead-letters/retry", "retry_dead_letters", Scope::Write, "Deliver dead letters again: one event, those of one help desk, or all",
        upkeep::RetryDead, 200, json!(upkeep::Revived), true, upkeep::retry_dead),
    get!("/v1/tokens", "list_tokens", Some(Scope::Admin), "List tokens, without their secrets",
        [], json!(keys::TokenList), keys::tokens),
    post!("/v1/tokens", "create_token", Scope::Admin, "Make a token; it is shown this once",
        keys::NewToken, 201, json!(keys::Token), false, keys::create_token),
    post!("/v1/tokens/{id}/revoke", "revoke_token", Scope::Admin, "End a token; it stops working within seconds",
        upkeep::Nothing, 200, json!(keys::Token), false, keys::revoke_token),
    get!("/v1/status", "show_status", Some(Scope::Read), "Show version, connectors, channels, help desks, failed reloads and what is pending",
        [], json!(health::Status), health::status),
    post!("/v1/channels/{name}/probes", "probe_channel", Scope::Admin, "Send a mail through a channel to itself, to try out the way",
        upkeep::Nothing, 201, json!(probe::Probe), false, probe::send),
    get!("/v1/channels/{name}/probes/{message_id}", "show_probe", Some(Scope::Admin), "Show whether such a mail has come in",
        [], json!(probe::Probe), probe::show),
    get!("/v1/openapi.json", "show_openapi", None, "This document", [], &[("application/json", None)], openapi::serve),
    get!("/v1/schemas/{name}", "show_schema", None, "A JSON Schema of a format, such as `interaction.json`",
        [], &[("application/schema+json", None)], openapi::schema),
    get!("/healthz", "healthz", None, "200 as long as the process serves", [], &[("text/plain", None)], health::alive),
    get!("/readyz", "readyz", None, "200 if requests can be taken, else 503 with the reasons",
        [], json!(health::Readiness), health::ready),
    get!("/metrics", "metrics", None, "Figures as OpenMetrics text",
        [], &[("application/openmetrics-text; version=1.0.0; charset=utf-8", None)], health::metrics),
];
