//! Applying what an API client or a person at the command line asks for.
//!
//! A command that the state does not allow is refused with its reason; the refusal is the command's outcome and is stored
//! with its applied record, so that asking again under the same key gets the same answer.

use serde::{Deserialize, Serialize};

use super::Setup;
use super::answering::{Speaker, plan, target};
use super::arise::{announce, react};
use super::commit::{place, raw, write};
use super::draft::{ConversationAt, Draft};
use super::event::{Told, emit};
use crate::base::id::{ConversationId, EntryId};
use crate::base::{Error, Kind, Pii, Result};
use crate::model::entry::Command;
use crate::model::{
    ChannelKind, ConversationState, Direction, EntryKind, EventType, Interaction, InteractionKind, Role, Trust,
    Visibility,
};
use crate::store::Journal;

/// What became of a command: what the API answers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    /// The HTTP status.
    pub status: u16,
    /// The body: what was made or changed, or a problem.
    pub body: serde_json::Value,
}

impl CommandResult {
    fn refused(error: &Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            _ => 422,
        };
        CommandResult { status, body: serde_json::json!({ "detail": error.message() }) }
    }
}

/// Applies a command to the draft. Errors of this program are errors; refusals are results.
pub(crate) async fn apply(
    draft: &mut Draft<'_>,
    setup: &Setup,
    journal: &dyn Journal,
    command: &Command,
) -> Result<CommandResult> {
    let outcome = match command {
        Command::Reply { conversation, agent, message } => {
            let at = find(draft, *conversation).await?;
            match at {
                Some(at) => reply(draft, setup, at, agent.clone(), message).await,
                None => Err(unknown(*conversation)),
            }
        }
        Command::Note { conversation, agent, text } => match find(draft, *conversation).await? {
            Some(at) => note(draft, at, agent.clone(), text.clone()).await,
            None => Err(unknown(*conversation)),
        },
        Command::Assign { conversation, agent } => match find(draft, *conversation).await? {
            Some(at) => {
                draft.change(at, |row| row.owner.clone_from(agent));
                emit(draft, at, EventType::RoutingAssigned, &Told::default());
                shown(draft, at)
            }
            None => Err(unknown(*conversation)),
        },
        Command::Resolve { conversation, disposition, .. } => {
            let told = Told { disposition: disposition.as_deref(), ..Told::default() };
            turn(draft, *conversation, ConversationState::Resolved, EventType::ConversationResolved, &told).await
        }
        Command::Reopen { conversation, .. } => {
            let told = Told::default();
            turn(draft, *conversation, ConversationState::Open, EventType::ConversationReopened, &told).await
        }
        Command::RetryQuarantined { entry } => known_entry(journal, *entry).await,
        Command::Done { result } => Ok(CommandResult { status: 200, body: result.clone() }),
    };
    match outcome {
        Ok(result) => Ok(result),
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Limit) => {
            Ok(CommandResult::refused(&error))
        }
        Err(error) => Err(error),
    }
}

async fn find(draft: &mut Draft<'_>, id: ConversationId) -> Result<Option<ConversationAt>> {
    let found = draft.conversation_by_id(id).await?;
    if let Some(customer) = found.and_then(|at| draft.conversation(at)).map(|row| row.customer) {
        draft.customer_by_no(customer).await?;
    }
    Ok(found)
}

fn unknown(id: ConversationId) -> Error {
    Error::not_found(format!("there is no conversation {id}"))
}

fn shown(draft: &Draft<'_>, at: ConversationAt) -> Result<CommandResult> {
    let conversation = draft.shown(at).ok_or_else(|| Error::internal("a conversation is missing"))?;
    let body = serde_json::to_value(&conversation).map_err(|e| Error::internal("failed to write JSON").because(e))?;
    Ok(CommandResult { status: 200, body })
}

fn made(interaction: &Interaction) -> Result<CommandResult> {
    let body = serde_json::to_value(interaction).map_err(|e| Error::internal("failed to write JSON").because(e))?;
    Ok(CommandResult { status: 201, body })
}

async fn reply(
    draft: &mut Draft<'_>,
    setup: &Setup,
    at: ConversationAt,
    agent: Option<String>,
    message: &crate::model::entry::ReplyMessage,
) -> Result<CommandResult> {
    let (_, to) = target(draft, setup, at, message).await?;
    let interaction = plan(draft, setup, at, &to, message, Speaker::Agent(agent)).await?;
    made(&interaction)
}

async fn note(
    draft: &mut Draft<'_>,
    at: ConversationAt,
    agent: Option<String>,
    text: Pii<String>,
) -> Result<CommandResult> {
    if text.expose().trim().is_empty() {
        return Err(Error::invalid("a note needs `text`"));
    }
    let no = draft.conversation(at).map_or(0, |row| row.customer);
    let customer = draft.customer_by_no(no).await?.ok_or_else(|| Error::internal("a customer is missing"))?;
    let mut interaction = Interaction::blank(ChannelKind::Internal, "api", "segue");
    interaction.kind = InteractionKind::Note;
    interaction.direction = Direction::Internal;
    interaction.visibility = Visibility::Internal;
    interaction.author.role = Role::Agent;
    interaction.author.agent_id = agent;
    interaction.author.trust = Trust::Asserted;
    interaction.text = text;
    place(draft, customer, at, &mut interaction);
    let body = raw(&interaction)?;
    let told = Told { interaction: Some((&interaction, &body)), ..Told::default() };
    announce(draft, at, EventType::InteractionSent, &told).await?;
    write(draft, customer, at, None, &interaction, &body, None)?;
    made(&interaction)
}

async fn turn(
    draft: &mut Draft<'_>,
    id: ConversationId,
    to: ConversationState,
    kind: EventType,
    told: &Told<'_>,
) -> Result<CommandResult> {
    let Some(at) = find(draft, id).await? else { return Err(unknown(id)) };
    let already = draft.conversation(at).is_some_and(|row| row.state == to);
    if !already {
        draft.change(at, |row| row.state = to);
        react(draft, at, kind, told).await?;
    }
    shown(draft, at)
}

async fn known_entry(journal: &dyn Journal, id: EntryId) -> Result<CommandResult> {
    match journal.entry(id).await? {
        Some((entry, _)) if matches!(entry.kind, EntryKind::Webhook | EntryKind::Mail) => {
            Ok(CommandResult { status: 200, body: serde_json::json!({ "entry": id }) })
        }
        _ => Err(Error::not_found(format!("there is no received entry {id}"))),
    }
}
