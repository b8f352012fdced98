//! Stage 8: the interaction, its story, its events, all in one changeset.
//!
//! Takes a decided item and writes into the draft what will be committed in one transaction with the applied record of
//! its entry.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::arise::{announce, tell};
use super::decide::Decided;
use super::draft::{ConversationAt, CustomerAt, Draft};
use super::event::{Told, emit, shorten};
use crate::base::{Error, Pii, Result, Timestamp};
use crate::connector::is_mail_part;
use crate::model::part::FetchState;
use crate::model::{Blob, Direction, EventType, Interaction, InteractionKind, ItemKey, OpenIssue, Recent, RecentJson};
use crate::store::{Assert, InteractionWrite, MediaWrite};

/// How much of a text a brief holds.
const BRIEF_TEXT: usize = 200;

/// Writes an interaction with its decision and its events.
pub(crate) async fn step(draft: &mut Draft<'_>, mut decided: Decided) -> Result<Decided> {
    route(draft, &mut decided);
    let attached = &decided.attached;
    let (identified, conversation) = (&attached.identified, &attached.conversation);
    let interaction = &decided.interaction;
    let decision = decided.decision.as_ref().map(raw).transpose()?;
    if attached.opened {
        tell(draft, *conversation, EventType::ConversationOpened, &Told::default(), decided.opening.as_ref())?;
    }
    if attached.reopened {
        tell(draft, *conversation, EventType::ConversationReopened, &Told::default(), decided.opening.as_ref())?;
    }
    if attached.linked {
        emit(draft, *conversation, EventType::ConversationLinked, &Told::default());
    }
    draft.set.asserts.push(Assert::ItemFree(identified.item.key));
    let body = raw(interaction.as_ref())?;
    let kind = match interaction.direction {
        Direction::Inbound => EventType::InteractionReceived,
        Direction::Outbound | Direction::Internal => EventType::InteractionSent,
    };
    let told = Told {
        interaction: Some((interaction, &body)),
        customer: decided.customer.as_deref(),
        decision: decision.as_deref(),
        ..Told::default()
    };
    match kind {
        EventType::InteractionSent => announce(draft, *conversation, kind, &told).await?,
        _ => emit(draft, *conversation, kind, &told),
    }
    if let Some(failure) = &decided.failure {
        emit(draft, *conversation, EventType::PolicyFailed, &Told { failure: Some(failure), ..Told::default() });
    }
    write(
        draft,
        identified.customer,
        *conversation,
        Some(identified.item.key),
        interaction,
        &body,
        decision.as_deref(),
    )?;
    Ok(decided)
}

/// Puts the story into the queue that was decided, also where the customer's open issues show it: they were read before
/// the decision.
fn route(draft: &mut Draft<'_>, decided: &mut Decided) {
    let Some(decision) = &decided.decision else { return };
    let id = draft.change(decided.attached.conversation, |row| {
        row.queue = Some(decision.queue.clone());
        row.id
    });
    let Some(customer) = decided.customer.as_mut() else { return };
    let stale = |issue: &OpenIssue| Some(issue.conversation_id) == id && issue.queue.as_ref() != Some(&decision.queue);
    if customer.open_issues.iter().any(stale) {
        for issue in Arc::make_mut(customer).open_issues.iter_mut().filter(|issue| stale(issue)) {
            issue.queue = Some(decision.queue.clone());
        }
    }
}

/// JSON of one of our own types.
pub(crate) fn raw<T: serde::Serialize>(value: &T) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|e| Error::internal("failed to write JSON").because(e))
}

/// Gives an interaction its place: ids and the next `seq` of its conversation.
pub(crate) fn place(
    draft: &mut Draft<'_>,
    customer: CustomerAt,
    conversation: ConversationAt,
    interaction: &mut Interaction,
) {
    interaction.id = Some(draft.interaction_id());
    interaction.received_at = Some(draft.now());
    interaction.author.customer_id = match interaction.direction {
        Direction::Inbound => draft.customer(customer).map(|row| row.id),
        Direction::Outbound | Direction::Internal => None,
    };
    let seq = draft.change(conversation, |row| {
        row.seq += 1;
        (row.id, row.seq)
    });
    if let Some((id, seq)) = seq {
        interaction.conversation_id = Some(id);
        interaction.seq = Some(seq.max(0) as u64);
    }
}

/// Writes a placed interaction.
pub(crate) fn write(
    draft: &mut Draft<'_>,
    customer: CustomerAt,
    conversation: ConversationAt,
    item: Option<ItemKey>,
    interaction: &Interaction,
    body: &RawValue,
    decision: Option<&RawValue>,
) -> Result<()> {
    let (Some(id), Some(conversation_id)) = (interaction.id, interaction.conversation_id) else {
        return Err(Error::internal("an interaction is written before it has its place"));
    };
    let no = draft.numbers.interaction()?;
    let before_in_conversation = draft.change(conversation, |row| std::mem::replace(&mut row.latest, no)).unwrap_or(0);
    let mut text = interaction.text.expose().clone();
    shorten(&mut text, BRIEF_TEXT);
    let brief = RecentJson::of(&Recent {
        interaction_id: id,
        conversation_id,
        channel: interaction.channel.kind,
        direction: interaction.direction,
        at: interaction.sent_at.unwrap_or(draft.now()),
        text: Pii::new(text),
        author_role: interaction.author.role,
    })?;
    let before_of_customer = draft.add_to_customer(customer, no, brief);
    let write = InteractionWrite {
        no,
        id,
        item,
        conversation: draft.conversation(conversation).map_or(0, |row| row.no),
        seq: interaction.seq.map_or(0, |seq| seq as i64),
        before_in_conversation,
        customer: draft.customer(customer).map_or(0, |row| row.no),
        before_of_customer,
        outbound: interaction.direction == Direction::Outbound,
        body: body.get().to_owned(),
        decision: decision.map(|d| d.get().to_owned()),
    };
    draft.set.interactions.push(write);
    fetch_later(draft, no, interaction, 0);
    Ok(())
}

/// Plans the fetching of files that are elsewhere, of the parts after the first `from`. Those that lie in one mail are
/// taken out of it together: the first stands for all.
pub(crate) fn fetch_later(draft: &mut Draft<'_>, no: i64, interaction: &Interaction, from: usize) {
    let (Some(interaction_id), at) = (interaction.id, draft.now()) else { return };
    let channel = draft.entry.channel.clone();
    let mut mail_planned = false;
    for (part, content) in interaction.parts.iter().enumerate().skip(from) {
        let Some(blob) = content.blob.as_ref().filter(|blob| blob.fetch == Some(FetchState::Pending)) else { continue };
        if in_mail(interaction, blob) && std::mem::replace(&mut mail_planned, true) {
            continue;
        }
        draft.set.media.push(MediaWrite { interaction: no, interaction_id, part, channel: channel.clone(), at });
    }
}

/// Whether a file of `interaction` lies in the mail that this was.
pub(crate) fn in_mail(interaction: &Interaction, blob: &Blob) -> bool {
    interaction.mail.is_some() && blob.provider_ref.as_ref().is_some_and(|place| is_mail_part(place.expose()))
}

/// Marks files that can be fetched as still to be fetched.
pub(crate) fn mark_files(interaction: &mut Interaction) {
    if interaction.direction != Direction::Inbound || interaction.kind == InteractionKind::Delete {
        return;
    }
    for part in &mut interaction.parts {
        if let Some(blob) = &mut part.blob
            && blob.id.is_none()
            && blob.fetch.is_none()
            && (blob.provider_ref.is_some() || blob.url.is_some())
        {
            blob.fetch = Some(FetchState::Pending);
        }
    }
}

/// Until when a file may be fetched in vain before it is given up, from the time of its entry.
pub(crate) const FETCH_WITHIN: i64 = 24 * 3600 * 1000;

/// The time at which fetching is tried again after `attempts` failures.
pub(crate) fn fetch_again(now: Timestamp, attempts: u32) -> Timestamp {
    let wait = 2_000i64.saturating_mul(1 << attempts.min(10));
    now.plus_millis(wait.min(900_000))
}
