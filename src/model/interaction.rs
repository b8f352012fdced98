//! The canonical interaction, `interaction.v1`: one thing that one party did on one channel at one time.
//!
//! An interaction is immutable. What comes later (a status, an edit, a deletion, a fetched file) is an interaction or a
//! receipt of its own that refers to it, or, for a call, another state of the same call.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::Call;
use super::delivery::Delivery;
use super::identifier::{Evidence, Identifier, Trust};
use super::mail::Mail;
use super::part::Part;
use crate::base::id::{ConversationId, CustomerId, InteractionId};
use crate::base::{Pii, Timestamp};

/// The name of this format, as carried in `schema`.
pub const SCHEMA: &str = "interaction.v1";

/// One thing that one party did on one channel at one time.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interaction {
    /// Its id. Absent in what `segue normalize` prints: ids are given when it is journaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<InteractionId>,
    /// Always `interaction.v1`.
    pub schema: String,
    /// The story it belongs to; absent until it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The provider's thread within the story: what the connector's answers must name to land in the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<Pii<String>>,
    /// Where it happened.
    pub channel: Channel,
    /// Towards us, from us, or among us.
    pub direction: Direction,
    /// Who could see it.
    pub visibility: Visibility,
    /// Who did it.
    pub author: Author,
    /// To whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Recipient>,
    /// When it was sent, by the provider's or sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When it was durable in our journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// Its place in the story, from 1, gap-free; absent until it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What it answers, quotes, edits, deletes or reacts to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// What was done.
    pub kind: InteractionKind,
    /// The subject line, where the channel has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pii<String>>,
    /// A plain rendering of the whole, never absent: where there is no text it is a description such as `[photo]`.
    pub text: Pii<String>,
    /// The text without quotes and signature, where that differs from `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_new: Option<Pii<String>>,
    /// Its parts in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What only mails have, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Box<Mail>>,
    /// The call, if `kind` is `call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// The language, if the provider or an enrichment told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<Lang>,
    /// Enrichments by name: intent, urgency, topic, sentiment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub enrich: BTreeMap<String, Enrichment>,
    /// Until when the provider lets us answer freely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_until: Option<Timestamp>,
    /// For what we send: how far it got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// What is special about it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub flags: BTreeSet<Flag>,
    /// Where the original lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Raw>,
    /// What the provider told beyond this format and a policy may want to read (a referral, an ad, a team id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Pii<Map<String, Value>>>,
    /// Trace context (W3C) and causality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// Where an interaction happened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The kind of channel.
    pub kind: ChannelKind,
    /// The connector's name.
    pub connector: String,
    /// Our address on it: number, page, bot, inbox.
    pub account: String,
    /// The provider's id of the message, comment or call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The configured channel it came through; absent in what `segue normalize` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Kinds of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ChannelKind {
    Email,
    Chat,
    Sms,
    Whatsapp,
    Messenger,
    Instagram,
    SocialPublic,
    Review,
    Voice,
    Voicemail,
    Callback,
    Form,
    Api,
    Internal,
}

/// Which way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a customer to us.
    Inbound,
    /// From us to a customer.
    Outbound,
    /// Among us.
    Internal,
}

/// Who could see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// The people in the conversation.
    Private,
    /// Everybody.
    Public,
    /// Our own people only.
    Internal,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InteractionKind {
    /// Something was said.
    Message,
    /// A call, all of its states folded into one.
    Call,
    /// A reaction to a message, set or taken back.
    Reaction,
    /// A message was changed; `text` and `parts` are the new content, `reply_to` names the message.
    Edit,
    /// A message was deleted; `reply_to` names it.
    Delete,
    /// A delivery receipt.
    Receipt,
    /// Somebody is typing.
    Typing,
    /// A form was filled in.
    FormResponse,
    /// A change of state on the channel.
    Status,
    /// An internal note.
    Note,
    /// Anything else that happened and matters to the story (joined, started the bot, shared consent).
    Event,
}

/// Who did it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// In what role.
    pub role: Role,
    /// The customer, once identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// The agent, for what our people do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// How the channel names them. Absent only for anonymous callers and the system itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// Further names of the same person that the same delivery carried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Identifier>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Pii<String>>,
    /// How far `identifier` is proven.
    pub trust: Trust,
    /// Why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// Roles of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A customer.
    Customer,
    /// One of our people, through Segue.
    Agent,
    /// A bot.
    Bot,
    /// The provider or Segue itself.
    System,
    /// One of our people or programs, around Segue (an echo).
    ExternalApp,
}

/// To whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// `to`, `cc`, `bcc` or `mention`.
    pub role: RecipientRole,
    /// Who.
    pub identifier: Identifier,
}

/// Roles of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RecipientRole {
    To,
    Cc,
    Bcc,
    Mention,
}

/// What an interaction refers to.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyTo {
    /// Our id of it, once it is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction_id: Option<InteractionId>,
    /// The provider's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Message-IDs, for mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message_ids: Vec<String>,
}

/// A language with how sure we are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lang {
    /// BCP 47 tag.
    pub tag: String,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// One enrichment, with where it comes from.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrichment {
    /// The value.
    pub value: Pii<String>,
    /// From 0 to 1.
    pub confidence: f64,
    /// What made it.
    pub by: String,
    /// In which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What is special about an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Made by a machine.
    Automated,
    /// A bounce.
    Bounce,
    /// Our own words coming back: never triggers an automatic answer.
    Echo,
    /// Probably unwanted.
    SpamSuspect,
    /// Set aside.
    Quarantined,
    /// Content was taken out.
    Redacted,
    /// Must not be deleted.
    LegalHold,
    /// Changed by its author since.
    Edited,
    /// Deleted by its author since.
    Deleted,
    /// Passed on from elsewhere, not written by its sender.
    Forwarded,
    /// The provider could not hand over all of it.
    Incomplete,
}

/// Where the original lies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The journal entry that holds it.
    pub entry: String,
    /// How its authenticity was checked.
    pub verified_by: String,
    /// The version of the connector that read it.
    pub connector_version: String,
}

/// Trace context and causality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// What caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
}

impl Interaction {
    /// Whom our own words are for: the first recipient who is not just mentioned.
    pub fn addressed(&self) -> Option<&Recipient> {
        self.recipients.iter().find(|recipient| recipient.role != RecipientRole::Mention)
    }

    /// A private inbound message with empty text: the starting point of every mapping.
    pub fn blank(kind: ChannelKind, connector: &str, account: &str) -> Self {
        Interaction {
            id: None,
            schema: SCHEMA.to_owned(),
            conversation_id: None,
            thread_id: None,
            channel: Channel {
                kind,
                connector: connector.to_owned(),
                account: account.to_owned(),
                provider_id: None,
                name: None,
            },
            direction: Direction::Inbound,
            visibility: Visibility::Private,
            author: Author {
                role: Role::Customer,
                customer_id: None,
                agent_id: None,
                identifier: None,
                also: Vec::new(),
                display_name: None,
                trust: Trust::Anonymous,
                evidence: Vec::new(),
            },
            recipients: Vec::new(),
            sent_at: None,
            received_at: None,
            seq: None,
            reply_to: None,
            kind: InteractionKind::Message,
            subject: None,
            text: Pii::default(),
            text_new: None,
            parts: Vec::new(),
            mail: None,
            call: None,
            lang: None,
            enrich: BTreeMap::new(),
            reply_until: None,
            delivery: None,
            flags: BTreeSet::new(),
            raw: None,
            context: None,
            trace: None,
        }
    }
}
