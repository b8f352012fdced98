//! What is counted of mails: automatic answers that were sent, and mails that came.
//!
//! The counts are rows like those of messages, read and asserted with the rest of a changeset, so that entries that are
//! applied at once count one another, and a replay counts as the first run did.

use super::draft::Draft;
use crate::base::Result;
use crate::base::hash::key16;
use crate::model::Interaction;
use crate::rules::mail_loop;
use crate::store::MessageKey;

/// Texts shorter than this are written by everybody.
const TELLING: usize = 24;

/// Counts an automatic answer to a mail; in words, why it must not be sent. One that is not sent counts for nothing.
pub(super) async fn answer(draft: &mut Draft<'_>, to: &Interaction) -> Result<Option<&'static str>> {
    let address = to.author.identifier.as_ref().map(|one| one.value.expose().clone()).unwrap_or_default();
    let domain = address.rsplit_once('@').map(|(_, domain)| domain.to_owned()).unwrap_or_default();
    let mailbox = (to.channel.connector.as_str(), to.channel.account.as_str());
    let all = ("", "");
    let rules = [
        (all, format!("to {address}"), mail_loop::TO_ADDRESS, "its sender had an automatic answer within a day"),
        (
            all,
            format!("at {domain}"),
            mail_loop::TO_DOMAIN,
            "its sender's domain had many automatic answers within an hour",
        ),
        (
            mailbox,
            "from".to_owned(),
            mail_loop::FROM_MAILBOX,
            "this mailbox sent many automatic answers within an hour",
        ),
        (all, "all".to_owned(), mail_loop::FROM_ALL, "the gateway sent many automatic answers within an hour"),
    ];
    let mut counted = Vec::with_capacity(rules.len());
    for ((connector, account), what, limit, silence) in rules {
        let key = MessageKey::of(connector, account, &format!("automatic answers {what}"));
        let mut state = draft.message(key).await?;
        if !limit.admit(&mut state.times, draft.now()) {
            return Ok(Some(silence));
        }
        counted.push((key, state));
    }
    counted.into_iter().for_each(|(key, state)| draft.set_message(key, state));
    Ok(None)
}

/// Counts a mail that came. Gives whether it is part of a storm.
pub(super) async fn arrival(draft: &mut Draft<'_>, ix: &Interaction) -> Result<Storm> {
    let sender = ix.author.identifier.as_ref().map(|one| one.value.expose().as_str()).unwrap_or_default();
    let of_sender = arrived(draft, ix, "of", sender).await?;
    let text = ix.text.expose();
    let of_content = text.chars().count() >= TELLING && arrived(draft, ix, "that say", text).await?;
    Ok(Storm { of_sender, of_content })
}

/// Counts one more mail with this in common. Gives whether it is one of too many. What is counted lies in one of 65,536 slots
/// of the mailbox, so that counting leaves no row for each mail; what meets in a slot begins anew.
async fn arrived(draft: &mut Draft<'_>, ix: &Interaction, what: &str, common: &str) -> Result<bool> {
    let hash = key16(&[b"arrived", common.as_bytes()]);
    let [a, b, rest @ ..] = hash;
    let [c, d, e, f, g, h, i, j, ..] = rest;
    let mark = u64::from_be_bytes([c, d, e, f, g, h, i, j]);
    let slot = format!("mails {what} {:04x}", u16::from_be_bytes([a, b]));
    let key = MessageKey::of(&ix.channel.connector, &ix.channel.account, &slot);
    let mut state = draft.message(key).await?;
    if state.counted != [mark] {
        (state.counted, state.times) = (vec![mark], Vec::new());
    }
    // What comes at once after an outage did not arrive at once.
    let arrived_at = ix.mail.as_ref().and_then(|mail| mail.arrived_at).unwrap_or_else(|| draft.now());
    let exceeded = mail_loop::STORM.exceeded(&mut state.times, arrived_at);
    draft.set_message(key, state);
    Ok(exceeded)
}

/// Whether a mail is one of too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    /// By its sender.
    pub(super) of_sender: bool,
    /// By what it says.
    pub(super) of_content: bool,
}

#[cfg(test)]
mod tests;
