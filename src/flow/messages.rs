//! What later facts do to a message: edits, deletions, receipts and call states, in any order.
//!
//! A provider's message has a small state of its own beside the interaction, kept under its provider id, because facts
//! about a message may come before the message itself.

use super::arise::react;
use super::commit::{fetch_later, mark_files, raw};
use super::draft::Draft;
use super::event::Told;
use super::normalize::Item;
use crate::base::id::InteractionId;
use crate::base::{Error, Result, Timestamp};
use crate::model::Delivery;
use crate::model::{Direction, EventType, Flag, Interaction, InteractionKind, ItemKey, Part, Receipt, Role};
use crate::rules::{call, receipt as receipts};
use crate::store::{InteractionRow, MessageKey, ThreadKey};

/// Reads an interaction that this program wrote.
pub(crate) fn read(row: &InteractionRow) -> Result<Interaction> {
    serde_json::from_str(&row.body).map_err(|e| Error::internal("an interaction cannot be read back").because(e))
}

fn key_of(interaction: &Interaction, provider_id: &str) -> MessageKey {
    MessageKey::of(&interaction.channel.connector, &interaction.channel.account, provider_id)
}

/// Finds the interaction of a provider's message: what we received, or what we sent.
async fn find(
    draft: &mut Draft<'_>,
    connector: &str,
    account: &str,
    provider_id: &str,
    sent: Option<InteractionId>,
) -> Result<Option<InteractionRow>> {
    let item = ItemKey::of(connector, account, provider_id, InteractionKind::Message, "");
    match (draft.interaction_by_item(item).await?, sent) {
        (Some(row), _) => Ok(Some(row)),
        (None, Some(id)) => draft.state.interaction_by_id(id).await,
        (None, None) => Ok(None),
    }
}

/// Completes an interaction that is about to be placed: what it refers to, and what is already known of it.
pub(crate) async fn complete(draft: &mut Draft<'_>, item: &mut Item) -> Result<()> {
    let interaction = &mut item.interaction;
    let (connector, account) = (interaction.channel.connector.clone(), interaction.channel.account.clone());
    if let Some(target) = interaction.reply_to.as_ref().and_then(|r| r.provider_id.clone()) {
        let sent = draft.message(key_of(interaction, &target)).await?.interaction;
        let found = find(draft, &connector, &account, &target, sent).await?.map(|row| row.id);
        if let Some(reply_to) = &mut interaction.reply_to {
            reply_to.interaction_id = found;
        }
    }
    let Some(own) = interaction.channel.provider_id.clone() else { return Ok(()) };
    if interaction.kind == InteractionKind::Call {
        let known = draft.message(call_key(interaction)).await?;
        if let Some(told) = known.call {
            call::fold(interaction.call.get_or_insert_default(), &told);
        }
        let mut parts = known.parts;
        parts.retain(|part| !interaction.parts.iter().any(|own| same(own, part)));
        interaction.parts.extend(parts);
    }
    if interaction.kind != InteractionKind::Message {
        return Ok(());
    }
    let known = draft.message_that_comes(key_of(interaction, &own)).await?;
    if known.edited.is_some() {
        interaction.flags.insert(Flag::Edited);
    }
    if known.deleted.is_some() {
        interaction.flags.insert(Flag::Deleted);
    }
    if interaction.direction == Direction::Outbound && known.delivery.is_some() {
        interaction.delivery = known.delivery;
    }
    Ok(())
}

/// Whether an item is what we sent ourselves, coming back: the story has it already.
pub(crate) async fn is_own_echo(draft: &mut Draft<'_>, item: &Item) -> Result<bool> {
    let interaction = &item.interaction;
    let ours = interaction.direction == Direction::Outbound && interaction.kind == InteractionKind::Message;
    match interaction.channel.provider_id.as_deref().filter(|_| ours) {
        Some(id) => Ok(draft.message(key_of(interaction, id)).await?.interaction.is_some()),
        None => Ok(false),
    }
}

/// Tells the target of an edit or a deletion that it was changed.
pub(crate) async fn mark_target(draft: &mut Draft<'_>, interaction: &Interaction) -> Result<()> {
    let flag = match interaction.kind {
        InteractionKind::Edit => Flag::Edited,
        InteractionKind::Delete => Flag::Deleted,
        _ => return Ok(()),
    };
    let (Some(target), Some(own)) =
        (interaction.reply_to.as_ref().and_then(|r| r.provider_id.as_deref()), interaction.id)
    else {
        return Ok(());
    };
    let key = key_of(interaction, target);
    let mut state = draft.message(key).await?;
    let at = interaction.sent_at.unwrap_or(draft.now());
    let slot = if flag == Flag::Edited { &mut state.edited } else { &mut state.deleted };
    if slot.is_none_or(|known| (at, own) > known) {
        *slot = Some((at, own));
    }
    let sent = state.interaction;
    draft.set_message(key, state);
    let channel = &interaction.channel;
    if let Some(row) = find(draft, &channel.connector, &channel.account, target, sent).await? {
        update(draft, &row, |target| target.flags.insert(flag), EventType::InteractionUpdated).await?;
    }
    Ok(())
}

/// Changes a stored interaction and tells of it; `change` says whether it did.
pub(crate) async fn update(
    draft: &mut Draft<'_>,
    row: &InteractionRow,
    change: impl FnOnce(&mut Interaction) -> bool,
    kind: EventType,
) -> Result<Option<Interaction>> {
    let mut interaction = read(row)?;
    if !change(&mut interaction) {
        return Ok(None);
    }
    let body = raw(&interaction)?;
    draft.rewrite(row.no, row.customer, body.get().to_owned());
    if let Some(at) = draft.conversation_by_no(row.conversation).await? {
        let told = Told {
            interaction: Some((&interaction, &body)),
            delivery: interaction.delivery.as_ref().filter(|_| kind == EventType::DeliveryUpdated),
            ..Told::default()
        };
        react(draft, at, kind, &told).await?;
    }
    Ok(Some(interaction))
}

/// The key of a call's state: by the provider's id alone, as its item key.
fn call_key(interaction: &Interaction) -> MessageKey {
    let id = interaction.channel.provider_id.as_deref().unwrap_or_default();
    MessageKey::of(&interaction.channel.connector, "", id)
}

/// Keeps what a callback told of a call that is not known yet, where the callback says nothing of the caller. Gives
/// whether this was one.
pub(crate) async fn keep_for_later(draft: &mut Draft<'_>, item: &Item) -> Result<bool> {
    let interaction = &item.interaction;
    if interaction.author.role != Role::System || interaction.author.identifier.is_some() {
        return Ok(false);
    }
    const MOST: usize = 50;
    let key = call_key(interaction);
    let mut state = draft.message(key).await?;
    let told = interaction.call.clone().unwrap_or_default();
    let mut changed = call::fold(state.call.get_or_insert_default(), &told);
    for part in &interaction.parts {
        if state.parts.len() < MOST && !state.parts.iter().any(|known| same(known, part)) {
            state.parts.push(part.clone());
            changed = true;
        }
    }
    if changed {
        draft.set_message(key, state);
    }
    Ok(true)
}

/// Adds a callback to the call it belongs to. Gives the call as it now stands, if it was known.
pub(crate) async fn fold_call(draft: &mut Draft<'_>, item: &Item) -> Result<Option<Interaction>> {
    let Some(row) = draft.interaction_by_item(item.key).await? else { return Ok(None) };
    let known = read(&row)?;
    let first_time = count(draft, item).await?;
    let told = item.interaction.call.clone().unwrap_or_default();
    let mut new_parts = item.interaction.parts.clone();
    new_parts.retain(|part| !known.parts.iter().any(|known| same(known, part)));
    let from = known.parts.len();
    let fold = |interaction: &mut Interaction| {
        let call = interaction.call.get_or_insert_default();
        let mut changed = call::fold(call, &told);
        if first_time && !told.ivr_path.is_empty() {
            call.ivr_path.extend(told.ivr_path);
            changed = true;
        }
        changed |= !new_parts.is_empty();
        interaction.parts.extend(new_parts);
        mark_files(interaction);
        changed
    };
    let changed = update(draft, &row, fold, EventType::InteractionUpdated).await?;
    if let Some(interaction) = &changed {
        fetch_later(draft, row.no, interaction, from);
    }
    Ok(Some(changed.unwrap_or(known)))
}

/// Remembers that a callback was counted. Gives whether it was not before.
async fn count(draft: &mut Draft<'_>, item: &Item) -> Result<bool> {
    const MOST: usize = 200;
    if item.interaction.call.as_ref().is_none_or(|call| call.ivr_path.is_empty()) {
        return Ok(false);
    }
    let key = call_key(&item.interaction);
    let mut state = draft.message(key).await?;
    if state.counted.contains(&item.revision) || state.counted.len() >= MOST {
        return Ok(false);
    }
    state.counted.push(item.revision);
    draft.set_message(key, state);
    Ok(true)
}

/// Whether two parts are one told twice, whatever became of its file meanwhile.
fn same(known: &Part, told: &Part) -> bool {
    let file = |part: &Part| part.blob.as_ref().map(|blob| (blob.provider_ref.clone(), blob.url.clone()));
    known.kind == told.kind && file(known) == file(told) && known.text == told.text && known.data == told.data
}

/// Applies a receipt: to one message, or to everything sent up to a time.
pub(crate) async fn receipt(draft: &mut Draft<'_>, receipt: &Receipt) -> Result<()> {
    let at = receipt.at.unwrap_or(draft.now());
    if let Some(sent) = receipt.sent {
        let Some(send) = draft.state.send(sent).await? else { return Ok(()) };
        let Some(row) = draft.state.interaction_by_id(send.planned.interaction).await? else { return Ok(()) };
        let told = Delivery { state: receipt.state, at, error: receipt.error.clone() };
        return set_delivery(draft, &row, Some(told)).await;
    }
    if let Some(provider_id) = &receipt.provider_id {
        return one_receipt(draft, receipt, provider_id, at).await;
    }
    let (Some(up_to), Some(recipient)) = (receipt.up_to, &receipt.recipient) else { return Ok(()) };
    let thread = format!("{}:{}", recipient.kind.0, recipient.value.expose());
    let key = ThreadKey::of(&receipt.connector, &receipt.account, &thread);
    let Some(at_conversation) = draft.conversation_by_thread(key).await? else { return Ok(()) };
    let Some(no) = draft.conversation(at_conversation).map(|row| row.no) else { return Ok(()) };
    const COVERED: usize = 50;
    for row in draft.state.sent_in_thread(no, COVERED).await? {
        let state = receipt.state;
        let covered = |sent: &mut Interaction| {
            let before = sent.sent_at.or(sent.received_at).is_some_and(|sent_at| sent_at <= up_to);
            let reached = sent.delivery.as_ref().is_some_and(|d| d.state >= crate::model::DeliveryState::Sent);
            before
                && reached
                && sent.channel.account == receipt.account
                && receipts::advance(&mut sent.delivery, state, at, None)
        };
        update(draft, &row, covered, EventType::DeliveryUpdated).await?;
    }
    Ok(())
}

async fn one_receipt(draft: &mut Draft<'_>, receipt: &Receipt, provider_id: &str, at: Timestamp) -> Result<()> {
    let key = MessageKey::of(&receipt.connector, &receipt.account, provider_id);
    let mut state = draft.message(key).await?;
    if !receipts::advance(&mut state.delivery, receipt.state, at, receipt.error.clone()) {
        return Ok(());
    }
    let (delivery, sent) = (state.delivery.clone(), state.interaction);
    draft.set_message(key, state);
    if let Some(row) = find(draft, &receipt.connector, &receipt.account, provider_id, sent).await? {
        set_delivery(draft, &row, delivery).await?;
    }
    Ok(())
}

/// Moves the delivery of a stored interaction forward.
pub(crate) async fn set_delivery(draft: &mut Draft<'_>, row: &InteractionRow, to: Option<Delivery>) -> Result<()> {
    let Some(to) = to else { return Ok(()) };
    let advance = |interaction: &mut Interaction| {
        interaction.direction == Direction::Outbound
            && receipts::advance(&mut interaction.delivery, to.state, to.at, to.error)
    };
    update(draft, row, advance, EventType::DeliveryUpdated).await?;
    Ok(())
}
