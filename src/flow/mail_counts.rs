//! What is counted of mails: automatic answers that were sent, and mails that came.
//!
//! The counts are rows like those of messages, read and asserted with the rest of a changeset, so that entries that are
//! applied at once count one another, and a replay counts as the first run did.

use ring::digest::{SHA256, digest};

use super::draft::Draft;
use crate::base::Result;
use crate::model::Interaction;
use crate::rules::mail_loop::{self, Limit};
use crate::store::MessageKey;

/// Texts shorter than this are written by everybody.
const TELLING: usize = 24;

/// Counts an automatic answer to a mail; in words, why it must not be sent.
pub(super) async fn answer(draft: &mut Draft<'_>, to: &Interaction) -> Result<Option<&'static str>> {
    let mailbox = (to.channel.connector.clone(), to.channel.account.clone());
    let address = to.author.identifier.as_ref().map(|one| one.value.expose().clone()).unwrap_or_default();
    let domain = address.rsplit_once('@').map(|(_, domain)| domain.to_owned()).unwrap_or_default();
    let rules = [
        (format!("to {address}"), mail_loop::TO_ADDRESS, "its sender had an automatic answer within a day"),
        (format!("at {domain}"), mail_loop::TO_DOMAIN, "its sender's domain had many automatic answers within an hour"),
        ("from".to_owned(), mail_loop::FROM_MAILBOX, "this mailbox sent many automatic answers within an hour"),
        ("all".to_owned(), mail_loop::FROM_ALL, "the gateway sent many automatic answers within an hour"),
    ];
    for (what, limit, silence) in rules {
        let (connector, account) = if what == "all" { ("", "") } else { (mailbox.0.as_str(), mailbox.1.as_str()) };
        if !count(draft, MessageKey::of(connector, account, &format!("automatic answers {what}")), limit).await? {
            return Ok(Some(silence));
        }
    }
    Ok(None)
}

/// Counts a mail that came. Gives whether it is part of a storm.
pub(super) async fn arrival(draft: &mut Draft<'_>, ix: &Interaction) -> Result<Storm> {
    let key = |what: &str| MessageKey::of(&ix.channel.connector, &ix.channel.account, what);
    let sender = ix.author.identifier.as_ref().map(|one| one.value.expose().as_str()).unwrap_or_default();
    let of_sender = !count(draft, key(&format!("mails of {sender}")), mail_loop::STORM).await?;
    let text = ix.text.expose();
    let of_content = text.chars().count() >= TELLING && {
        let content = data_encoding::HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref());
        !count(draft, key(&format!("mails that say {content}")), mail_loop::STORM).await?
    };
    Ok(Storm { of_sender, of_content })
}

/// Whether a mail is one of too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    /// By its sender.
    pub(super) of_sender: bool,
    /// By what it says.
    pub(super) of_content: bool,
}

async fn count(draft: &mut Draft<'_>, key: MessageKey, limit: Limit) -> Result<bool> {
    let mut state = draft.message(key).await?;
    let admitted = limit.admit(&mut state.times, draft.now());
    if admitted {
        draft.set_message(key, state);
    }
    Ok(admitted)
}
