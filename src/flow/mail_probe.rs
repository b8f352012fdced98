//! Trying out a channel of mail: a mail that it sends to itself goes the whole way and comes in again.
//!
//! A probe is no interaction. It is known by its Message-ID and its sender, and what is noted when it comes is that the mail of
//! this id has arrived, as for any other that we sent; so it does not matter which node sends, and which reads the mailbox.

use super::Context;
use super::send_mail::Mailer;
use crate::base::id::SendId;
use crate::base::{Error, Kind, Result, Retry, Timestamp};
use crate::mail::write::{Letter, Mailbox};
use crate::model::mail::PROBE;
use crate::store::MessageKey;

/// Sends a probe through a channel, and gives its Message-ID.
///
/// # Errors
///
/// `NotFound` if there is no such channel, `Conflict` if it sends no mail, else why its server did not take the mail.
pub async fn send(context: &Context, mailer: &Mailer, channel: &str) -> Result<String> {
    let setup = context.setup.load_full();
    let found =
        setup.channels.get(channel).ok_or_else(|| Error::not_found(format!("there is no channel `{channel}`")))?;
    let submission = found.connector.submission(&found.account)?.ok_or_else(|| {
        let reason = format!("channel `{channel}` sends no mail: it has no `smtp_host`");
        Error::new(Kind::Conflict, reason).with_retry(Retry::Never)
    })?;
    let now = context.clock.now();
    let id = SendId::random(now);
    let domain = submission.address.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
    let message_id = format!("{PROBE}{id}@{domain}");
    let own = Mailbox { name: String::new(), address: submission.address.clone() };
    let letter = Letter {
        message_id: message_id.clone(),
        date: now.seconds(),
        from: own.clone(),
        to: vec![own],
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: "Probe of Segue".to_owned(),
        in_reply_to: None,
        references: Vec::new(),
        text: "Segue sent this mail to itself to try out the way of mails. It may be deleted.".to_owned(),
        html: None,
        attachments: Vec::new(),
        automatic: true,
        loop_mark: None,
        seed: *id.as_bytes(),
    };
    mailer.submit(channel, &submission, &letter, now).await?;
    context.sending.came_through(channel);
    Ok(message_id)
}

/// When the probe of this Message-ID came in; nothing if it has not yet.
///
/// # Errors
///
/// `NotFound` if there is no such channel or the id is none of a probe; else if the store cannot be read.
pub async fn arrived(context: &Context, channel: &str, message_id: &str) -> Result<Option<Timestamp>> {
    let setup = context.setup.load_full();
    let found = setup.channels.get(channel).filter(|_| message_id.starts_with(PROBE));
    let found = found.ok_or_else(|| Error::not_found(format!("channel `{channel}` sent no such probe")))?;
    let key = MessageKey::of(found.connector.name(), found.account.known_as(), message_id);
    let state = context.store.state.message_state(key).await?;
    Ok(state.and_then(|state| state.delivery).map(|delivery| delivery.at))
}
