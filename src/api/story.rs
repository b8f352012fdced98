//! Conversations and interactions, as they are stored: interactions and decisions are given byte for byte.

use std::borrow::Cow;
use std::marker::PhantomData;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::apart;
use super::call::{Answer, Call, json, missing};
use super::feed::MOST_BYTES;
use crate::base::id::{ConversationId, InteractionId};
use crate::base::{Error, Result, Timestamp};
use crate::flow::Context;
use crate::model::{Conversation, Decision, Delivery, Flag, Interaction};
use crate::store::{ConversationRow, InteractionRow, MessageKey, MessageState, Most, Stretch};

/// JSON as it was stored, known to be a `T`.
pub(super) struct Stored<T>(Box<RawValue>, PhantomData<fn() -> T>);

impl<T> Stored<T> {
    fn of(json: String) -> Result<Self> {
        let raw = RawValue::from_string(json);
        let raw = raw.map_err(|e| Error::internal("what is stored cannot be read back").because(e))?;
        Ok(Stored(raw, PhantomData))
    }
}

impl<T> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Stored<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A stretch of a story or of a customer's history, the latest first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Timeline")]
pub(super) struct Timeline {
    /// The interactions.
    interactions: Vec<TimelineItem>,
    /// What to give as `before` or `before_seq` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Timeline {
    /// How much is in one page: the interaction that makes it so large is its last.
    pub(super) fn most(limit: usize) -> Most {
        Most { rows: limit, bytes: MOST_BYTES }
    }

    /// The page with these, behind the last of which the next one begins.
    pub(super) fn of(found: Stretch, cursor: impl FnOnce(&InteractionRow) -> String) -> Result<Self> {
        let next = found.rows.last().filter(|_| found.more).map(cursor);
        let interactions = found.rows.into_iter().map(TimelineItem::of).collect::<Result<_>>()?;
        Ok(Timeline { interactions, next })
    }
}

/// One interaction of a timeline.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TimelineItem")]
pub(super) struct TimelineItem {
    /// The interaction.
    interaction: Stored<Interaction>,
    /// What was decided about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Stored<Decision>>,
}

impl TimelineItem {
    fn of(row: InteractionRow) -> Result<Self> {
        Ok(TimelineItem { interaction: Stored::of(row.body)?, decision: row.decision.map(Stored::of).transpose()? })
    }
}

/// An interaction with all that is known of it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InteractionView")]
pub(super) struct InteractionView {
    /// The interaction.
    interaction: Stored<Interaction>,
    /// What was decided about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Stored<Decision>>,
    /// How it stands now.
    current: Current,
}

/// How an interaction stands now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Current")]
struct Current {
    /// Whether its author changed it since.
    edited: bool,
    /// Whether its author deleted it since.
    deleted: bool,
    /// The latest edit, which carries the new content.
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<Later>,
    /// The deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion: Option<Later>,
    /// For what we sent: how far it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

/// A later interaction that concerns this one.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Later")]
struct Later {
    /// When it happened.
    at: Timestamp,
    /// Which.
    interaction_id: InteractionId,
}

impl From<(Timestamp, InteractionId)> for Later {
    fn from((at, interaction_id): (Timestamp, InteractionId)) -> Self {
        Later { at, interaction_id }
    }
}

/// `GET /v1/conversations/{id}`
pub(super) async fn show(call: Call) -> Answer {
    let id: ConversationId = call.id("id")?;
    let context = call.api.context().clone();
    let found = apart(async move {
        let Some(row) = context.store.state.conversation_by_id(id).await? else { return Ok(None) };
        view(&context, row).await.map(Some)
    });
    json(StatusCode::OK, &found.await?.ok_or_else(|| missing("conversation", id))?)
}

async fn view(context: &Context, row: ConversationRow) -> Result<Conversation> {
    let customer = context.store.state.customer(row.customer).await?;
    let customer = customer.ok_or_else(|| Error::internal(format!("the customer of {} is missing", row.id)))?;
    Ok(Conversation {
        id: row.id,
        customer_id: customer.id,
        state: row.state,
        seq: row.seq.max(0) as u64,
        opened_at: row.opened_at,
        updated_at: row.updated_at,
        queue: row.queue,
        owner: row.owner,
        links: row.links,
    })
}

/// `GET /v1/conversations/{id}/timeline`
pub(super) async fn timeline(call: Call) -> Answer {
    let id: ConversationId = call.id("id")?;
    let limit = call.limit()?;
    let before = call.number("before_seq", 1, i64::MAX)?.unwrap_or(i64::MAX);
    let context = call.api.context().clone();
    let found = apart(async move {
        let state = &context.store.state;
        let Some(row) = state.conversation_by_id(id).await? else { return Ok(None) };
        state.timeline(row.no, before, Timeline::most(limit)).await.map(Some)
    });
    let found = found.await?.ok_or_else(|| missing("conversation", id))?;
    json(StatusCode::OK, &Timeline::of(found, |last| last.seq.to_string())?)
}

/// `GET /v1/interactions/{id}`
pub(super) async fn interaction(call: Call) -> Answer {
    let id: InteractionId = call.id("id")?;
    let context = call.api.context().clone();
    let found = apart(async move {
        let Some(row) = context.store.state.interaction_by_id(id).await? else { return Ok(None) };
        let interaction = parse(&row)?;
        let state = match interaction.channel.provider_id.as_deref() {
            None => None,
            Some(own) => {
                let channel = &interaction.channel;
                let key = MessageKey::of(&channel.connector, &channel.account, own);
                context.store.state.message_state(key).await?
            }
        };
        Ok(Some((row, current(interaction, state.unwrap_or_default(), id))))
    });
    let (row, current) = found.await?.ok_or_else(|| missing("interaction", id))?;
    let TimelineItem { interaction, decision } = TimelineItem::of(row)?;
    json(StatusCode::OK, &InteractionView { interaction, decision, current })
}

/// Reads a stored interaction.
pub(super) fn parse(row: &InteractionRow) -> Result<Interaction> {
    serde_json::from_str(&row.body).map_err(|e| Error::internal(format!("{} cannot be read back", row.id)).because(e))
}

/// An edit and the message that it changes may share a provider id: what is said of the message is then no news of the
/// edit itself.
fn current(interaction: Interaction, state: MessageState, own: InteractionId) -> Current {
    let (edited, deleted) = (interaction.flags.contains(&Flag::Edited), interaction.flags.contains(&Flag::Deleted));
    Current {
        edited,
        deleted,
        edit: state.edited.filter(|(_, id)| edited && *id != own).map(Later::from),
        deletion: state.deleted.filter(|(_, id)| deleted && *id != own).map(Later::from),
        delivery: interaction.delivery,
    }
}
