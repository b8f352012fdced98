//! Trying out channels.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::call::{Answer, Call, json};
use super::upkeep::Nothing;
use crate::base::Timestamp;
use crate::flow::mail_probe;

/// A mail that a channel sent to itself.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Probe")]
pub(super) struct Probe {
    /// Its Message-ID, without angle brackets.
    message_id: String,
    /// When it came in again; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrived_at: Option<Timestamp>,
}

/// `POST /v1/channels/{name}/probes`
pub(super) async fn send(mut call: Call) -> Answer {
    let Nothing {} = call.read().await?;
    let message_id = mail_probe::send(call.api.context(), &call.api.state.mailer, call.param("name")).await?;
    json(StatusCode::CREATED, &Probe { message_id, arrived_at: None })
}

/// `GET /v1/channels/{name}/probes/{message_id}`
pub(super) async fn show(call: Call) -> Answer {
    let message_id = call.param("message_id").to_owned();
    let arrived_at = mail_probe::arrived(call.api.context(), call.param("name"), &message_id).await?;
    json(StatusCode::OK, &Probe { message_id, arrived_at })
}
