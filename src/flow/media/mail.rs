//! Of files: those that lie in a mail, which the journal holds on its own or in a request.
//!
//! The invariant: they come out of it together. A mail is read, taken apart and told of once, however many files it has;
//! one of them is in memory at a time beside the mail, but for those that another file or a text holds: these are
//! unpacked together.

use super::{Into, kept, never};
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::connector::MailFiles;
use crate::flow::ChannelSetup;
use crate::flow::journal::Journaled;
use crate::flow::normalize;
use crate::model::entry::FileOutcome;
use crate::model::{Blob, Interaction};

/// Takes `files`, with the numbers of their parts, out of the mail that `interaction` was.
///
/// # Errors
///
/// What the store, the folder or the bucket says; then nothing is told of any of them.
pub(super) async fn fetch(
    channel: &ChannelSetup,
    interaction: &Interaction,
    files: Vec<(usize, Blob)>,
    into: Into<'_>,
) -> Result<Vec<FileOutcome>> {
    let none =
        |files: Vec<(usize, Blob)>, reason| files.into_iter().map(|(part, blob)| never(part, blob, reason)).collect();
    if !channel.connector.brings_mails() {
        return Ok(none(files, "the channel takes no mails any more"));
    }
    let entry = interaction.raw.as_ref().and_then(|raw| raw.entry.parse::<EntryId>().ok());
    let Some(entry) = entry else {
        return Ok(none(files, "the interaction does not name its original"));
    };
    let Some((entry, _)) = into.context.store.journal.entry(entry).await? else {
        return Ok(none(files, "the original is gone"));
    };
    let Some(raw) = normalize::mail(channel, &Journaled::reloaded(entry)) else {
        return Ok(none(files, "the original is gone"));
    };
    // The mail was let in at its size, and no part of it need be less welcome. One that was packed may unpack to more.
    let most = into.most_bytes.max(raw.len() as u64);
    let mut mail = MailFiles::new(&raw);
    let mut outcomes = Vec::with_capacity(files.len());
    for (part, blob) in files {
        let place = blob.provider_ref.as_ref().map(|place| place.expose().clone()).unwrap_or_default();
        outcomes.push(match mail.content(&place) {
            None => never(part, blob, "the original has no such part"),
            Some(content) if content.len() as u64 > most => never(part, blob, "the file is larger than allowed"),
            Some(content) => FileOutcome { part, mediatype: None, blob: keep(&content, blob, most, &into).await? },
        });
    }
    Ok(outcomes)
}

async fn keep(content: &[u8], mut blob: Blob, most: u64, into: &Into<'_>) -> Result<Blob> {
    let now = into.context.clock.now();
    let blobs = into.context.blobs.as_ref().ok_or_else(|| Error::internal("there is no place for files"))?;
    let mut writing = blobs.begin(Some(into.customer), most).await?;
    writing.push(content, now).await?;
    kept(&mut blob, writing.finish(now).await?);
    Ok(blob)
}
