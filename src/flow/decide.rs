//! Stage 7: where an interaction goes.
//!
//! Takes an item with its conversation, gives it with its decision. The policy has its say under a budget; then the
//! host guarantees a destination, whatever the rules did.

use std::sync::Arc;

use super::attach::Attached;
use super::draft::Draft;
use super::{Context, Setup};
use crate::base::Result;
use crate::base::telemetry::{By, thread_cpu};
use crate::model::{Conversation, Customer, Decision, Direction, Flag, Interaction};
use crate::rules::destination;
use crate::script::{PolicyInput, Verdict};

/// An item with its decision.
pub(crate) struct Decided {
    pub(crate) attached: Attached,
    /// The interaction as the policy saw it.
    pub(crate) interaction: Arc<Interaction>,
    /// The customer as the policy saw it.
    pub(crate) customer: Option<Arc<Customer>>,
    /// Absent for our own words.
    pub(crate) decision: Option<Decision>,
}

/// Asks the policy.
pub(crate) async fn step(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    attached: Attached,
    interaction: Interaction,
) -> Result<Decided> {
    let interaction = Arc::new(interaction);
    let customer = draft.snapshot(attached.identified.customer).await?.map(Arc::new);
    let conversation = draft.shown(attached.conversation).map(Arc::new);
    let ours = interaction.direction != Direction::Inbound || interaction.flags.contains(&Flag::Echo);
    let decision = (!ours).then(|| ask(context, setup, draft, &interaction, conversation, customer.clone()));
    Ok(Decided { attached, interaction, customer, decision })
}

fn ask(
    context: &Context,
    setup: &Setup,
    draft: &Draft<'_>,
    interaction: &Arc<Interaction>,
    conversation: Option<Arc<Conversation>>,
    customer: Option<Arc<Customer>>,
) -> Decision {
    let begun = thread_cpu();
    let input = PolicyInput {
        now: draft.now(),
        kind: "interaction.received",
        interaction: interaction.clone(),
        conversation,
        customer,
    };
    let hash = setup.policy.hash();
    let channel_queue = setup.channels.get(&draft.entry.channel).and_then(|c| c.queue.as_deref());
    let (decision, by) = match setup.policy.decide(&input) {
        Verdict::Decided(opinion) => {
            let by = if opinion.queue.is_some() { "policy" } else { "default" };
            (destination::guarantee(*opinion, channel_queue, &setup.default_queue, hash), by)
        }
        Verdict::Breach { what, rule, message } => {
            let rule = rule.unwrap_or_default();
            tracing::warn!(target: "segue::decide", entry = %draft.entry.id, ?what, %rule, breach = %message, "the policy failed; the fallback was taken");
            (destination::fallback(&setup.default_queue, hash, message), "breach")
        }
    };
    context.metrics.decided.get_or_create(&By::new(&decision.queue, by)).inc();
    context.stage_seconds("decide", begun);
    decision
}

/// What a caller who waits hears next, as the policy sees the call now. The first decision about the call stands.
pub(crate) fn again(setup: &Setup, draft: &Draft<'_>, call: Interaction) -> Option<crate::model::decision::CallAnswer> {
    let input = PolicyInput {
        now: draft.now(),
        kind: "interaction.received",
        interaction: Arc::new(call),
        conversation: None,
        customer: None,
    };
    match setup.policy.decide(&input) {
        Verdict::Decided(opinion) => opinion.answer,
        Verdict::Breach { .. } => None,
    }
}
