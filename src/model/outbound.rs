//! What we send to a customer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identifier::Identifier;
use super::part::PartType;
use crate::base::id::{ConversationId, SendId};
use crate::base::{Pii, Timestamp};

/// One message to a customer, as the core hands it to a connector for rendering.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Its id: goes out as the idempotency key where the provider takes one.
    pub id: SendId,
    /// The configured channel that it leaves by.
    pub channel: String,
    /// Our address on it.
    pub account: String,
    /// To whom. Absent only for a public answer that goes to a thread or a comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Identifier>,
    /// The provider's thread to answer in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<Pii<String>>,
    /// The provider's id of the message to quote or to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Whether the answer is itself public.
    #[serde(default)]
    pub public: bool,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Pii<String>>,
    /// Media, buttons and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<OutboundPart>,
    /// What a mail has beside that, where it leaves as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Box<OutboundMail>>,
}

/// What a mail of ours says beside its text. All of it is settled when the mail is planned, so that every try of sending it
/// makes the same bytes.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboundMail {
    /// The story that an answer to it belongs to.
    pub conversation: ConversationId,
    /// Its date.
    pub at: Timestamp,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pii<String>>,
    /// The Message-ID that it answers, without angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// The mails before it, the oldest first, that one included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Whether a program wrote it (RFC 3834).
    #[serde(default)]
    pub automatic: bool,
    /// How often gateways have answered one another on the way to it, this answer included.
    #[serde(default)]
    pub loops: u32,
}

/// One part of an outbound message.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboundPart {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: PartType,
    /// Where the provider can fetch it; for a mail the gateway does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Pii<String>>,
    /// Its caption, or its text where it cannot be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Pii<String>>,
    /// For choices: what can be chosen, id to title, in order of id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, Pii<String>>,
}
