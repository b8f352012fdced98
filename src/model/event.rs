//! Events: what help desks are sent and what the feed holds. CloudEvents 1.0 in structured JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conversation::{ConversationState, Link};
use super::customer::Customer;
use super::decision::Decision;
use super::delivery::Delivery;
use super::interaction::Interaction;
use crate::base::Timestamp;
use crate::base::id::{ConversationId, EventId, InteractionId};

/// The prefix of every event type.
pub const TYPE_PREFIX: &str = "dev.segue.";

/// Types of event. The number is what the store keeps; it is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventType {
    /// A customer did something; the complete event, and the default subscription.
    InteractionReceived = 1,
    /// We did something.
    InteractionSent = 2,
    /// An interaction gained something: a call state, a fetched file, an edit, a deletion.
    InteractionUpdated = 3,
    /// Something that we sent got further, or failed.
    DeliveryUpdated = 4,
    /// A story began.
    ConversationOpened = 5,
    /// A story was closed.
    ConversationResolved = 6,
    /// A story was opened again.
    ConversationReopened = 7,
    /// Two stories were linked.
    ConversationLinked = 8,
    /// A story was given to somebody.
    RoutingAssigned = 9,
    /// A rule failed, or went beyond its budget; the documented fallback was taken.
    PolicyFailed = 10,
}

impl EventType {
    /// All of them.
    pub const ALL: [EventType; 10] = [
        EventType::InteractionReceived,
        EventType::InteractionSent,
        EventType::InteractionUpdated,
        EventType::DeliveryUpdated,
        EventType::ConversationOpened,
        EventType::ConversationResolved,
        EventType::ConversationReopened,
        EventType::ConversationLinked,
        EventType::RoutingAssigned,
        EventType::PolicyFailed,
    ];

    /// The name without prefix and version, as subscriptions write it.
    pub const fn name(self) -> &'static str {
        match self {
            EventType::InteractionReceived => "interaction.received",
            EventType::InteractionSent => "interaction.sent",
            EventType::InteractionUpdated => "interaction.updated",
            EventType::DeliveryUpdated => "delivery.updated",
            EventType::ConversationOpened => "conversation.opened",
            EventType::ConversationResolved => "conversation.resolved",
            EventType::ConversationReopened => "conversation.reopened",
            EventType::ConversationLinked => "conversation.linked",
            EventType::RoutingAssigned => "routing.assigned",
            EventType::PolicyFailed => "policy.failed",
        }
    }

    /// The type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// The type that the store keeps under `number`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == number)
    }
}

/// A CloudEvents 1.0 event with Segue's data.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: String,
    /// The event's id: the same on every attempt and in every copy, and the `webhook-id`.
    pub id: EventId,
    /// The gateway's `public_url`, or `segue` where none is set.
    pub source: String,
    /// `dev.segue.`, the name, and `.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The conversation.
    pub subject: String,
    /// When the cause was received.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Where the JSON Schema of `data` is published.
    pub dataschema: String,
    /// The conversation again: events of one conversation are in order.
    pub partitionkey: String,
    /// The event's place among the events of its conversation, from 1, gap-free in the feed; twelve digits, so that it
    /// sorts as text.
    pub sequence: String,
    /// What happened.
    pub data: EventData,
}

/// What happened, with what is needed to act on it without asking back.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// The interaction concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction: Option<Interaction>,
    /// The story.
    pub conversation: EventConversation,
    /// The customer, with open issues and at most five recent interactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
    /// What the policy decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// For `delivery.updated`: how far it got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// For `conversation.resolved`: with what result it was closed, in the words of whoever closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// For `policy.failed`: which rule failed, how, and what was done instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<PolicyFailure>,
    /// Set if something was left out to keep the event below 20 kB: where the whole is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// A policy that failed while it decided. Says where and why, and nothing that a person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFailure {
    /// The event that the rules were asked about, such as `interaction.received`.
    pub event: String,
    /// What happened.
    pub what: BreachKind,
    /// The rule that was running, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The file, relative to the policy's folder.
    pub file: String,
    /// The line, from 1; 0 if it is not known.
    pub line: u32,
    /// Why, in plain words.
    pub reason: String,
    /// The interaction that the rules were asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction_id: Option<InteractionId>,
    /// The queue in which the conversation lies now: the fallback, or where it lay already.
    pub queue: String,
    /// The first 12 hex digits of the hash of the bundle that failed.
    pub bundle: String,
}

/// Ways for a policy to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreachKind {
    /// The time budget was passed.
    Time,
    /// The budget of calls and loop turns was passed.
    Work,
    /// The memory budget was passed.
    Memory,
    /// A rule raised an error.
    Error,
}

/// The story as events show it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventConversation {
    /// The id.
    pub id: ConversationId,
    /// The `seq` of its latest interaction.
    pub seq: u64,
    /// Where it stands.
    pub state: ConversationState,
    /// The queue it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Other stories it has to do with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}
