//! Rules for what happens beside a new interaction of a customer: a story opens or ends, something of ours is sent or
//! fails, an interaction gains something.
//!
//! The rules are asked as the event arises, within the entry that causes it, and what they say travels in the event. They
//! change what stands already: where no rule names a queue the story stays where it lies. Where no rule is for an event,
//! asking costs one look into a set.

use std::sync::Arc;

use super::answering::{look_back, policy_reply, target};
use super::attach::Attached;
use super::commit::raw;
use super::decide::failed;
use super::draft::{ConversationAt, Draft};
use super::event::{Told, emit};
use crate::base::{Kind, Pii, Result};
use crate::model::entry::ReplyMessage;
use crate::model::event::PolicyFailure;
use crate::model::{Decision, DeliveryState, Direction, EventType, Flag, Interaction};
use crate::rules::destination;
use crate::script::{PolicyInput, Verdict};

/// What the rules for an event said.
pub(crate) struct Asked {
    pub(crate) decision: Decision,
    /// The queue, where a rule named one.
    pub(crate) named: Option<String>,
    failure: Option<PolicyFailure>,
}

/// The name by which rules know an event, if they may be asked about it here.
fn name(kind: EventType, told: &Told<'_>) -> Option<&'static str> {
    match kind {
        EventType::InteractionSent
        | EventType::InteractionUpdated
        | EventType::ConversationOpened
        | EventType::ConversationReopened
        | EventType::ConversationResolved => Some(kind.name()),
        EventType::DeliveryUpdated => {
            told.delivery.is_some_and(|delivery| delivery.state == DeliveryState::Failed).then_some("delivery.failed")
        }
        // Asked about by the decide stage, or by nobody.
        EventType::InteractionReceived
        | EventType::ConversationLinked
        | EventType::RoutingAssigned
        | EventType::PolicyFailed => None,
    }
}

/// Asks the rules about the opening of the story that an interaction opens or opens again.
pub(crate) async fn opening(
    draft: &mut Draft<'_>,
    attached: &Attached,
    interaction: &Interaction,
) -> Result<Option<Asked>> {
    let kind = match (attached.opened, attached.reopened) {
        (true, _) => EventType::ConversationOpened,
        (_, true) => EventType::ConversationReopened,
        _ => return Ok(None),
    };
    if !draft.setup.policy.hears(kind.name()) {
        return Ok(None);
    }
    let mut asked = ask(draft, kind.name(), attached.conversation, &Arc::new(interaction.clone())).await?;
    if is_ours(interaction) {
        asked.unanswered();
    }
    Ok(Some(asked))
}

/// Whether these are words of our own, which nobody is to be answered for.
fn is_ours(interaction: &Interaction) -> bool {
    interaction.direction != Direction::Inbound || interaction.flags.contains(&Flag::Echo)
}

/// Asks the rules about words of our own and tells of them. Answers that rules ask for are not sent: an answer to our own
/// words might be answered for ever.
pub(crate) async fn announce(
    draft: &mut Draft<'_>,
    at: ConversationAt,
    kind: EventType,
    told: &Told<'_>,
) -> Result<()> {
    let mut asked = consult(draft, at, kind, told).await?;
    if let Some((_, asked)) = &mut asked {
        asked.unanswered();
    }
    tell(draft, at, kind, told, asked.as_ref().map(|(_, asked)| asked))
}

/// Asks the rules about an event, tells it, and sends the answers that the rules asked for.
pub(crate) async fn react(draft: &mut Draft<'_>, at: ConversationAt, kind: EventType, told: &Told<'_>) -> Result<()> {
    let Some((about, mut asked)) = consult(draft, at, kind, told).await? else {
        emit(draft, at, kind, told);
        return Ok(());
    };
    // That a rule's answer failed must not lead to the next one.
    if about.flags.contains(&Flag::Automated) {
        asked.unanswered();
    }
    tell(draft, at, kind, told, Some(&asked))?;
    if asked.decision.replies.is_empty() {
        return Ok(());
    }
    let to = match is_ours(&about) {
        false => Some(Interaction::clone(&about)),
        true => answerable(draft, at).await?,
    };
    if let Some(to) = to {
        for reply in &asked.decision.replies {
            policy_reply(draft, at, &to, reply).await?;
        }
    }
    Ok(())
}

/// Tells an event with what the rules said about it, and that they failed, if they did.
pub(crate) fn tell(
    draft: &mut Draft<'_>,
    at: ConversationAt,
    kind: EventType,
    told: &Told<'_>,
    asked: Option<&Asked>,
) -> Result<()> {
    let Some(asked) = asked else {
        emit(draft, at, kind, told);
        return Ok(());
    };
    if let Some(queue) = &asked.named {
        draft.change(at, |row| row.queue = Some(queue.clone()));
    }
    let decision = raw(&asked.decision)?;
    emit(draft, at, kind, &Told { decision: Some(&decision), ..*told });
    if let Some(failure) = &asked.failure {
        emit(draft, at, EventType::PolicyFailed, &Told { failure: Some(failure), ..Told::default() });
    }
    Ok(())
}

impl Asked {
    fn unanswered(&mut self) {
        if !self.decision.replies.is_empty() {
            self.decision.replies.clear();
            let why = "the reply was not sent: this event is about words of our own";
            self.decision.because.push(Pii::new(why.to_owned()));
        }
    }
}

/// What the rules say about an event, with the interaction that they were shown; nothing where no rule is for it.
async fn consult(
    draft: &mut Draft<'_>,
    at: ConversationAt,
    kind: EventType,
    told: &Told<'_>,
) -> Result<Option<(Arc<Interaction>, Asked)>> {
    let Some(event) = name(kind, told).filter(|event| draft.setup.policy.hears(event)) else { return Ok(None) };
    let about = match told.interaction {
        Some((interaction, _)) => Some(interaction.clone()),
        None => latest(draft, at).await?,
    };
    let Some(about) = about.map(Arc::new) else { return Ok(None) };
    let asked = ask(draft, event, at, &about).await?;
    Ok(Some((about, asked)))
}

async fn ask(
    draft: &mut Draft<'_>,
    event: &'static str,
    at: ConversationAt,
    about: &Arc<Interaction>,
) -> Result<Asked> {
    let no = draft.conversation(at).map_or(0, |row| row.customer);
    let customer = match draft.customer_by_no(no).await? {
        Some(customer) => draft.snapshot(customer).await?,
        None => None,
    };
    let input = PolicyInput {
        now: draft.now(),
        kind: event,
        interaction: about.clone(),
        conversation: draft.shown(at).map(Arc::new),
        customer: customer.map(Arc::new),
    };
    let setup = draft.setup;
    let channel = about.channel.name.as_deref().and_then(|name| setup.channels.get(name));
    let lies_in = draft.conversation(at).and_then(|row| row.queue.clone());
    let stays = lies_in.or_else(|| channel?.queue.clone()).unwrap_or_else(|| setup.default_queue.clone());
    Ok(match draft.decide(&input) {
        Verdict::Decided(mut opinion) => {
            // Nobody waits on the line for what happens beside a call.
            opinion.answer = None;
            let named = opinion.queue.clone();
            Asked { decision: destination::guarantee(*opinion, None, &stays, &setup.hash), named, failure: None }
        }
        Verdict::Breach(breach) => {
            let decision = destination::fallback(&stays, &setup.hash, breach.message());
            let failure = failed(draft, event, breach, about, &stays, &decision.bundle);
            Asked { decision, named: None, failure: Some(failure) }
        }
    })
}

/// The customer's latest words in a story, else the latest of anybody: what `e.ix` is where an event is about the story
/// as a whole.
async fn latest(draft: &Draft<'_>, at: ConversationAt) -> Result<Option<Interaction>> {
    const LOOK_BACK: usize = 20;
    let mut first = None;
    let found = look_back(draft, at, LOOK_BACK, |_, interaction| {
        if !is_ours(&interaction) {
            return Some(interaction);
        }
        first.get_or_insert(interaction);
        None
    });
    Ok(found.await?.or(first))
}

/// The customer's message that an answer can go to, if there is one.
async fn answerable(draft: &Draft<'_>, at: ConversationAt) -> Result<Option<Interaction>> {
    let any = ReplyMessage { text: None, parts: Vec::new(), in_reply_to: None, public: false };
    match target(draft, draft.setup, at, &any).await {
        Ok((_, interaction)) => Ok(Some(interaction)),
        Err(error) if error.kind() == Kind::Conflict => Ok(None),
        Err(error) => Err(error),
    }
}
