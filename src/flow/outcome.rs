//! Applying outcomes: of sends to customers, of fetched files, of answers to callers who waited.

use super::attach_mail;
use super::commit::raw;
use super::draft::Draft;
use super::messages::{set_delivery, update};
use crate::base::{Pii, Result};
use crate::model::entry::{Answered, MediaOutcome, SendOutcome, SendResult};
use crate::model::part::FetchState;
use crate::model::{Delivery, DeliveryError};
use crate::model::{DeliveryState, EventType, Interaction};
use crate::rules::receipt;
use crate::store::{BlobUse, InteractionRow, MessageKey};

/// What became of a send: the story shows it, and the provider's id of it is known from now on.
pub(crate) async fn sent(draft: &mut Draft<'_>, outcome: &SendOutcome) -> Result<()> {
    let Some(send) = draft.state.send(outcome.send).await? else { return Ok(()) };
    if send.state == "done" {
        return Ok(());
    }
    draft.set.sends_done.push(outcome.send);
    let Some(row) = draft.state.interaction_by_id(send.planned.interaction).await? else { return Ok(()) };
    match &outcome.result {
        SendResult::Accepted { provider_ids } => {
            let account = &send.planned.message.account;
            known_by(draft, &row, account, provider_ids, DeliveryState::Sent, None).await
        }
        SendResult::Refused { code, title } => {
            let error = DeliveryError { code: code.clone(), title: title.clone(), permanent: true };
            end(draft, &row, DeliveryState::Failed, Some(error)).await
        }
        SendResult::Uncertain { title, provider_ids } => {
            let error = DeliveryError { code: None, title: title.clone(), permanent: false };
            let account = &send.planned.message.account;
            known_by(draft, &row, account, provider_ids, DeliveryState::Uncertain, Some(error)).await
        }
    }
}

async fn end(
    draft: &mut Draft<'_>,
    row: &InteractionRow,
    state: DeliveryState,
    error: Option<DeliveryError>,
) -> Result<()> {
    let at = draft.now();
    set_delivery(draft, row, Some(Delivery { state, at, error })).await
}

/// It left, or may have: from now on it is known by these ids. A receipt may have come before the provider's answer to the
/// send: what it told is kept.
async fn known_by(
    draft: &mut Draft<'_>,
    row: &InteractionRow,
    account: &str,
    ids: &[String],
    reached: DeliveryState,
    error: Option<DeliveryError>,
) -> Result<()> {
    let interaction: Interaction = super::messages::read(row)?;
    let mut delivery = Some(Delivery { state: reached, at: draft.now(), error });
    for id in ids {
        let key = MessageKey::of(&interaction.channel.connector, account, id);
        let mut state = draft.message(key).await?;
        state.interaction = Some(row.id);
        if let Some(known) = state.delivery.clone() {
            receipt::advance(&mut delivery, known.state, known.at, known.error);
        }
        state.delivery.clone_from(&delivery);
        draft.set_message(key, state);
    }
    if let Some(at) = draft.conversation_by_no(row.conversation).await? {
        attach_mail::leave_keys_of_sent(draft, &interaction, ids, at).await?;
    }
    let first = ids.first().cloned();
    let at = draft.now();
    let change = |sent: &mut Interaction| {
        if let Some(mail) = &mut sent.mail {
            mail.message_id.clone_from(&first);
        }
        sent.channel.provider_id = first.or(sent.channel.provider_id.take());
        if reached == DeliveryState::Sent {
            sent.sent_at = Some(at);
        }
        if let Some(delivery) = delivery {
            receipt::advance(&mut sent.delivery, delivery.state, delivery.at, delivery.error);
        }
        true
    };
    update(draft, row, change, EventType::DeliveryUpdated).await?;
    Ok(())
}

/// Files are here, or cannot be had.
pub(crate) async fn fetched(draft: &mut Draft<'_>, outcome: &MediaOutcome) -> Result<()> {
    let Some(row) = draft.state.interaction_by_id(outcome.interaction).await? else { return Ok(()) };
    draft.set.media_done.extend(outcome.files.iter().map(|file| (row.no, file.part)));
    let mut here = Vec::new();
    let change = |interaction: &mut Interaction| {
        let mut changed = false;
        for file in &outcome.files {
            let Some(part) = interaction.parts.get_mut(file.part) else { continue };
            if part.blob.as_ref().is_some_and(|blob| blob.fetch == Some(FetchState::Fetched)) {
                continue;
            }
            if part.mediatype.is_none() {
                part.mediatype.clone_from(&file.mediatype);
            }
            part.blob = Some(file.blob.clone());
            changed = true;
            let name = file.blob.id.as_deref().filter(|_| file.blob.fetch == Some(FetchState::Fetched));
            let name = name.and_then(|id| id.parse().ok());
            here.extend(name.map(|name| BlobUse { interaction: row.no, part: file.part, name }));
        }
        changed
    };
    update(draft, &row, change, EventType::InteractionUpdated).await?;
    draft.set.blobs.extend(here);
    Ok(())
}

/// A caller was answered: the call shows what was really said, and who decided it.
pub(crate) async fn answered(
    draft: &mut Draft<'_>,
    answered: &Answered,
    call: Option<crate::model::ItemKey>,
) -> Result<()> {
    let Some(item) = call else { return Ok(()) };
    let Some(row) = draft.interaction_by_item(item).await? else { return Ok(()) };
    let note = if answered.source == "policy" { None } else { Some(answered.source.as_str()) };
    let change = |interaction: &mut Interaction| {
        let call = interaction.call.get_or_insert_default();
        let said = Some(Pii::new(answered.body.clone()));
        let changed = call.answer != said;
        call.answer = said;
        if let Some(note) = note {
            call.answered_by = Some(note.to_owned());
        }
        changed
    };
    update(draft, &row, change, EventType::InteractionUpdated).await?;
    Ok(())
}

/// JSON for the head of an entry of this program's own making.
pub(crate) fn head<T: serde::Serialize>(value: &T) -> Result<bytes::Bytes> {
    raw(value).map(|json| bytes::Bytes::from(json.get().to_owned()))
}
