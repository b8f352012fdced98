//! Stage 2: whether a request is really the provider's.
//!
//! Takes what intake received, gives it verified, or a refusal with its reason. Over the raw bytes, in constant time,
//! and mandatory: a channel without verification has to say so in its connector's manifest.

use bytes::Bytes;

use super::ChannelSetup;
use super::intake::Received;
use crate::base::Timestamp;
use crate::base::hash::key16;
use crate::base::id::EntryId;
use crate::connector::{Refusal, Request};
use crate::mail::canon;
use crate::model::entry::{MailHead, SenderFound};
use crate::model::{EntryBody, EntryKind};
use crate::store::NewEntry;

/// A request that is the provider's. Only [`step`] makes one.
pub(crate) struct Verified {
    pub(crate) channel: String,
    pub(crate) request: Request,
    pub(crate) at: Timestamp,
    pub(crate) verified_by: String,
    /// The headers that the connector asked to keep.
    pub(crate) kept_headers: Vec<(String, String)>,
    /// What makes a repeat of this request recognizable.
    pub(crate) delivery_key: [u8; 16],
    /// Whether the provider waits for an answer that policy decides on.
    pub(crate) waits: bool,
    /// What was found out about the sender of the mail in it: see [`super::mail_check`].
    pub(crate) sender: Option<SenderFound>,
}

/// A mail that was fetched or handed over. What it says is not yet believed.
pub(crate) struct ReceivedMail {
    pub(super) channel: String,
    pub(super) head: MailHead,
    pub(super) raw: Bytes,
    pub(super) at: Timestamp,
    /// Whose mailbox it lay in; 0 if in none. UIDs of another account are other mails.
    pub(super) account: u32,
}

/// Makes a mail an entry. The same mail is the same entry wherever it lay and whichever server gave it out.
pub(super) fn step_mail(mail: ReceivedMail) -> NewEntry {
    let ReceivedMail { channel, head, raw, at, account } = mail;
    let key = match (&head.failed, head.uid) {
        (Some(_), Some(place)) => key_of_place(&channel, account, head.folder.as_deref().unwrap_or_default(), place),
        _ => key16(&[b"mail", channel.as_bytes(), &key16(&[b"content", &canon::hash(&raw)])]),
    };
    NewEntry {
        id: EntryId::random(at),
        kind: EntryKind::Mail,
        key: Some(key),
        channel,
        at,
        interactive: false,
        keys: Vec::new(),
        body: EntryBody { head: serde_json::to_vec(&head).unwrap_or_default().into(), raw },
    }
}

/// The delivery key of a mail that could not be fetched: nothing of it is here, so it is known by where it lies.
pub(super) fn key_of_place(channel: &str, account: u32, folder: &str, (validity, uid): (u32, u32)) -> [u8; 16] {
    let [account, validity, uid] = [account, validity, uid].map(u32::to_be_bytes);
    let place = key16(&[b"place", &account, folder.as_bytes(), &validity, &uid]);
    key16(&[b"mail", channel.as_bytes(), &place])
}

/// Checks a request.
pub(crate) fn step(channel: &ChannelSetup, received: Received) -> Result<Verified, Refusal> {
    let Received { channel: name, request, at } = received;
    let verified = channel.connector.verify(&request, &channel.account, at)?;
    let key = channel.connector.delivery_key(&request, &channel.account);
    let kept =
        |header: &(String, String)| header.0 == "content-type" || channel.connector.keep_headers().contains(&header.0);
    let kept_headers = request.headers.iter().filter(|header| kept(header)).cloned().collect();
    let waits = channel.connector.waits(&request, &channel.account).is_some();
    Ok(Verified {
        delivery_key: key16(&[b"delivery", name.as_bytes(), &key]),
        channel: name,
        request,
        at,
        verified_by: verified.0,
        kept_headers,
        waits,
        sender: None,
    })
}
