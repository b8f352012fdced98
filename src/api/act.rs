//! Commands: what changes a story.
//!
//! An answer of success means that the command is applied. One that is not applied in time is 202 with the URL that
//! tells; one that the story does not allow is 404, 409 or 422 with the reason. A repeat under the same
//! `Idempotency-Key` hears the first answer.

use axum::response::Response;
use http::header::{HeaderValue, LOCATION};
use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::call::{Answer, Call, bad, json, missing};
use super::problem::Problem;
use crate::base::Pii;
use crate::base::id::{EntryId, InteractionId};
use crate::flow::CommandResult;
use crate::flow::submit::{self, Submitted};
use crate::model::OutboundPart;
use crate::model::entry::{Command, ReplyMessage};

/// The longest name of an agent, or disposition, in characters.
const MOST_WORDS: usize = 200;
/// The most parts of a reply.
const MOST_PARTS: usize = 10;

/// An answer to the customer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reply")]
pub(super) struct Reply {
    /// Who answers, in the help desk's words.
    #[serde(default)]
    agent: Option<String>,
    /// The text; needed unless there are parts.
    #[serde(default)]
    text: Option<Pii<String>>,
    /// Media, buttons and the like; at most ten.
    #[serde(default)]
    parts: Vec<OutboundPart>,
    /// The interaction to answer; the customer's latest if absent.
    #[serde(default)]
    in_reply_to: Option<InteractionId>,
    /// Whether to answer in public where the interaction is public.
    #[serde(default)]
    public: bool,
}

/// An internal note.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Note")]
pub(super) struct Note {
    /// Who writes.
    #[serde(default)]
    agent: Option<String>,
    /// The note.
    text: Pii<String>,
}

/// A change of owner.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Assign")]
pub(super) struct Assign {
    /// The new owner; null takes the owner away.
    #[serde(deserialize_with = "said")]
    #[schemars(required)]
    agent: Option<String>,
}

/// A field that must be there, be it null: leaving it out must not mean to take something away.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Closing a story.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resolve")]
pub(super) struct Resolve {
    /// Who closes it.
    #[serde(default)]
    agent: Option<String>,
    /// With what result, in the operator's words.
    #[serde(default)]
    disposition: Option<String>,
}

/// Opening a story again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reopen")]
pub(super) struct Reopen {
    /// Who opens it.
    #[serde(default)]
    agent: Option<String>,
}

/// What became of a command.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CommandState")]
pub(super) struct CommandState {
    /// The command's entry.
    id: EntryId,
    /// `pending` until it is applied.
    state: Progress,
    /// The status it was, or would have been, answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What it made or changed, or `detail` with the reason of its refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<serde_json::Value>,
}

/// Where a command stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Progress")]
enum Progress {
    /// In the journal; it will be applied.
    Pending,
    /// Done, or refused.
    Applied,
}

/// `POST /v1/conversations/{id}/replies`
pub(super) async fn reply(mut call: Call) -> Answer {
    let conversation = call.id("id")?;
    let body: Reply = call.read().await?;
    if body.parts.len() > MOST_PARTS {
        return Err(bad(format!("a reply has at most {MOST_PARTS} parts")));
    }
    let message =
        ReplyMessage { text: body.text, parts: body.parts, in_reply_to: body.in_reply_to, public: body.public };
    submitted(&call, &Command::Reply { conversation, agent: words(body.agent)?, message }).await
}

/// `POST /v1/conversations/{id}/notes`
pub(super) async fn note(mut call: Call) -> Answer {
    let conversation = call.id("id")?;
    let body: Note = call.read().await?;
    submitted(&call, &Command::Note { conversation, agent: words(body.agent)?, text: body.text }).await
}

/// `POST /v1/conversations/{id}/assign`
pub(super) async fn assign(mut call: Call) -> Answer {
    let conversation = call.id("id")?;
    let body: Assign = call.read().await?;
    submitted(&call, &Command::Assign { conversation, agent: words(body.agent)? }).await
}

/// `POST /v1/conversations/{id}/resolve`
pub(super) async fn resolve(mut call: Call) -> Answer {
    let conversation = call.id("id")?;
    let body: Resolve = call.read().await?;
    let command = Command::Resolve { conversation, agent: words(body.agent)?, disposition: words(body.disposition)? };
    submitted(&call, &command).await
}

/// `POST /v1/conversations/{id}/reopen`
pub(super) async fn reopen(mut call: Call) -> Answer {
    let conversation = call.id("id")?;
    let body: Reopen = call.read().await?;
    submitted(&call, &Command::Reopen { conversation, agent: words(body.agent)? }).await
}

/// `GET /v1/commands/{id}`
pub(super) async fn show(call: Call) -> Answer {
    let id: EntryId = call.id("id")?;
    let outcome = submit::outcome(call.api.context(), id).await?;
    let shown = match outcome.ok_or_else(|| missing("command", id))? {
        Submitted::Applied { result, .. } => {
            CommandState { id, state: Progress::Applied, status: Some(result.status), result: Some(result.body) }
        }
        _ => CommandState { id, state: Progress::Pending, status: None, result: None },
    };
    json(StatusCode::OK, &shown)
}

fn words(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.trim().is_empty() || text.chars().count() > MOST_WORDS => {
            Err(bad(format!("`agent` and `disposition` have 1 to {MOST_WORDS} characters")))
        }
        text => Ok(text),
    }
}

/// Submits a command and answers what became of it.
pub(super) async fn submitted(call: &Call, command: &Command) -> Answer {
    let asker = call.asker()?;
    answer(submit::submit(call.api.context(), command, &asker, call.api.timing.command).await?)
}

/// The answer to a command, the first time and every time after.
pub(super) fn answer(submitted: Submitted) -> Answer {
    match submitted {
        Submitted::Applied { result, .. } => applied(&result),
        Submitted::Pending(id) => {
            let pending = CommandState { id, state: Progress::Pending, status: None, result: None };
            let mut response = json(StatusCode::ACCEPTED, &pending)?;
            locate(&mut response, &format!("/v1/commands/{id}"));
            Ok(response)
        }
        Submitted::InProgress(id) => {
            let detail =
                format!("the first request under this `Idempotency-Key` is not applied yet: /v1/commands/{id}");
            Err(Problem::new(StatusCode::CONFLICT, detail).retry_after(1))
        }
        Submitted::Mismatch => {
            let detail = "this `Idempotency-Key` was used for another request";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        }
    }
}

fn applied(result: &CommandResult) -> Answer {
    let status = StatusCode::from_u16(result.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !status.is_success() {
        let detail = result.body.get("detail").and_then(|detail| detail.as_str()).unwrap_or("refused").to_owned();
        return Err(Problem::new(status, detail));
    }
    let mut response = json(status, &result.body)?;
    if status == StatusCode::CREATED
        && let Some(id) = result.body.get("id").and_then(|id| id.as_str())
    {
        locate(&mut response, &format!("/v1/interactions/{id}"));
    }
    Ok(response)
}

fn locate(response: &mut Response, url: &str) {
    const NAME: HeaderName = LOCATION;
    if let Ok(value) = HeaderValue::from_str(url) {
        response.headers_mut().insert(NAME, value);
    }
}
