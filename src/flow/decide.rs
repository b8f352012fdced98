//! Stage 7: where an interaction goes.
//!
//! Takes an item with its conversation, gives it with its decision. The policy has its say under a budget; then the
//! host guarantees a destination, whatever the rules did.

use std::sync::Arc;

use super::arise::Asked;
use super::attach::Attached;
use super::draft::Draft;
use super::event::{Told, emit};
use super::{Context, Setup};
use crate::base::Result;
use crate::base::telemetry::{By, thread_cpu};
use crate::model::decision::CallAnswer;
use crate::model::event::PolicyFailure;
use crate::model::{Conversation, Customer, Decision, Direction, EventType, Flag, Interaction, MailLevel};
use crate::rules::destination;
use crate::script::{Breach, PolicyInput, Verdict};

/// The event that every interaction of a customer is.
const RECEIVED: &str = "interaction.received";

/// An item with its decision.
pub(crate) struct Decided {
    pub(crate) attached: Attached,
    /// The interaction as the policy saw it.
    pub(crate) interaction: Arc<Interaction>,
    /// The customer as the policy saw it.
    pub(crate) customer: Option<Arc<Customer>>,
    /// Absent for our own words.
    pub(crate) decision: Option<Decision>,
    /// How the policy failed, if it did.
    pub(crate) failure: Option<PolicyFailure>,
    /// What the rules said about the story's opening, if it opened and rules are for that.
    pub(crate) opening: Option<Asked>,
}

/// Asks the policy.
pub(crate) async fn step(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    attached: Attached,
    interaction: Interaction,
    opening: Option<Asked>,
) -> Result<Decided> {
    let interaction = Arc::new(interaction);
    let customer = draft.snapshot(attached.identified.customer).await?.map(Arc::new);
    let conversation = draft.shown(attached.conversation).map(Arc::new);
    let ours = interaction.direction != Direction::Inbound || interaction.flags.contains(&Flag::Echo);
    let (mut decision, failure) = match ours {
        true => (None, None),
        false => {
            let (mut decision, failure) = ask(context, setup, draft, &interaction, conversation, customer.clone());
            if is_not_answered(&interaction) {
                decision.replies.clear();
            }
            (Some(decision), failure)
        }
    };
    // The first writer wins, and a story opens before something is received in it.
    if let Some(decision) = decision.as_mut().filter(|decision| decision.breach.is_none())
        && let Some(queue) = opening.as_ref().and_then(|opening| opening.named.clone())
    {
        decision.queue = queue;
    }
    Ok(Decided { attached, interaction, customer, decision, failure, opening })
}

/// Whether an automatic answer might reach a program that answers in turn, or somebody who never wrote.
fn is_not_answered(interaction: &Interaction) -> bool {
    let unproven = interaction.mail.as_ref().is_some_and(|mail| mail.level < MailLevel::Authenticated);
    unproven || interaction.flags.contains(&Flag::Automated)
}

fn ask(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    interaction: &Arc<Interaction>,
    conversation: Option<Arc<Conversation>>,
    customer: Option<Arc<Customer>>,
) -> (Decision, Option<PolicyFailure>) {
    let begun = thread_cpu();
    let input =
        PolicyInput { now: draft.now(), kind: RECEIVED, interaction: interaction.clone(), conversation, customer };
    let hash = &setup.hash;
    let channel_queue = setup.channels.get(&draft.entry.channel).and_then(|c| c.queue.as_deref());
    let (decision, failure, by) = match draft.decide(&input) {
        Verdict::Decided(opinion) => {
            let by = if opinion.queue.is_some() { "policy" } else { "default" };
            (destination::guarantee(*opinion, channel_queue, &setup.default_queue, hash), None, by)
        }
        Verdict::Breach(breach) => {
            let decision = destination::fallback(&setup.default_queue, hash, breach.message());
            let failure = failed(draft, RECEIVED, breach, interaction, &decision.queue, &decision.bundle);
            (decision, Some(failure), "breach")
        }
    };
    context.metrics.decided.get_or_create(&By::new(&decision.queue, by)).inc();
    context.stage_seconds("decide", begun);
    (decision, failure)
}

/// Logs that the policy failed, and gives what is told of it.
pub(crate) fn failed(
    draft: &Draft<'_>,
    event: &str,
    breach: Breach,
    about: &Interaction,
    queue: &str,
    bundle: &str,
) -> PolicyFailure {
    let rule = breach.rule.as_deref().unwrap_or_default();
    tracing::warn!(target: "segue::decide", entry = %draft.entry.id, event, what = ?breach.what, %rule, breach = %breach.message(), "the policy failed; the fallback was taken");
    PolicyFailure {
        event: event.to_owned(),
        what: breach.what,
        rule: breach.rule,
        file: breach.file,
        line: breach.line,
        reason: breach.reason,
        interaction_id: about.id,
        queue: queue.to_owned(),
        bundle: bundle.to_owned(),
    }
}

/// What a caller who waits hears next, as the policy sees the call now. The first decision about the call stands.
pub(crate) async fn again(setup: &Setup, draft: &mut Draft<'_>, call: Interaction) -> Result<Option<CallAnswer>> {
    let call = Arc::new(call);
    let input =
        PolicyInput { now: draft.now(), kind: RECEIVED, interaction: call.clone(), conversation: None, customer: None };
    let breach = match draft.decide(&input) {
        Verdict::Decided(opinion) => return Ok(opinion.answer),
        Verdict::Breach(breach) => breach,
    };
    let at = match call.conversation_id {
        Some(id) => draft.conversation_by_id(id).await?,
        None => None,
    };
    if let Some(at) = at {
        let queue = draft.conversation(at).and_then(|row| row.queue.clone());
        let queue = queue.unwrap_or_else(|| setup.default_queue.clone());
        let bundle = destination::named(&setup.hash);
        let failure = failed(draft, RECEIVED, breach, &call, &queue, bundle);
        emit(draft, at, EventType::PolicyFailed, &Told { failure: Some(&failure), ..Told::default() });
    }
    Ok(None)
}
