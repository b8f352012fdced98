//! Stage 9, for files: fetching what a message refers to, at once after the commit, before the provider lets it go.
//!
//! The request is the connector's, the way out is the guarded client, the file is named by its content. The outcome is an
//! entry that updates the interaction.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::commit::{FETCH_WITHIN, fetch_again};
use super::messages::read;
use super::outcome::head;
use super::send::to_request;
use super::{ChannelSetup, Context};
use crate::base::hash::key16;
use crate::base::id::EntryId;
use crate::base::telemetry::By;
use crate::base::{Error, Result};
use crate::model::entry::MediaOutcome;
use crate::model::part::FetchState;
use crate::model::{Blob, EntryBody, EntryKind, Interaction};
use crate::net::client::Downloaded;
use crate::net::{Client, Fault};
use crate::store::{DueMedia, Hold, NewEntry, lease};

/// How many files are fetched side by side.
const CONCURRENCY: usize = 8;
/// How many requests lead to a file at most.
const STEPS: usize = 4;

/// What came of trying to fetch a file.
enum Fetched {
    Here { blob: Box<Blob>, mediatype: Option<String> },
    Never(String),
    NotNow(String),
}

/// Fetches what is due while this node holds the lease on it, until `stop` is true.
pub async fn run(context: Arc<Context>, client: Client, most_bytes: u64, mut stop: tokio::sync::watch::Receiver<bool>) {
    let (wake, leases) = (context.store.outbox.wake(), context.store.leases.clone());
    let mut changed = leases.changed();
    let mut running: JoinSet<(i64, usize)> = JoinSet::new();
    let mut busy: std::collections::HashSet<(i64, usize)> = std::collections::HashSet::new();
    loop {
        let notified = wake.notified();
        let hold = leases.named(lease::MEDIA);
        if hold == Hold::Leaving && running.is_empty() {
            leases.let_go(lease::MEDIA);
        }
        let due = match hold {
            Hold::Yes => context.store.outbox.due_media(context.clock.now(), CONCURRENCY * 4).await.unwrap_or_default(),
            Hold::Leaving | Hold::No => Vec::new(),
        };
        for media in due {
            if running.len() < CONCURRENCY && busy.insert((media.interaction, media.part)) {
                let (context, client) = (context.clone(), client.clone());
                running.spawn(async move {
                    let which = (media.interaction, media.part);
                    one(&context, &client, media, most_bytes).await;
                    which
                });
            }
        }
        tokio::select! {
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
            Some(ended) = running.join_next() => {
                if let Ok(which) = ended {
                    busy.remove(&which);
                }
            }
            () = notified => {}
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(1000)) => {}
        }
    }
    running.shutdown().await;
}

async fn one(context: &Arc<Context>, client: &Client, media: DueMedia, most_bytes: u64) {
    let outcome = fetch(context, client, &media, most_bytes).await;
    let outcome = outcome.unwrap_or_else(|error| Fetched::NotNow(error.to_string()));
    let now = context.clock.now();
    let label = match &outcome {
        Fetched::Here { .. } => "fetched",
        Fetched::Never(_) => "failed",
        Fetched::NotNow(_) => "put_off",
    };
    context.metrics.media.get_or_create(&By::new(&media.channel, label)).inc();
    let (blob, mediatype) = match outcome {
        Fetched::Here { blob, mediatype } => (*blob, mediatype),
        Fetched::Never(reason) => (failed(context, &media, reason).await, None),
        Fetched::NotNow(reason) if now.since(media.interaction_id.time()) > FETCH_WITHIN => {
            (failed(context, &media, reason).await, None)
        }
        Fetched::NotNow(reason) => {
            tracing::info!(target: "segue::deliver", interaction = %media.interaction_id, %reason, "a file was not fetched yet");
            let again = fetch_again(now, media.attempts);
            if let Err(error) = context.store.outbox.media_failed(media, again).await {
                tracing::error!(target: "segue::deliver", error = %error.full(), "a fetch was not put off");
            }
            return;
        }
    };
    let outcome = MediaOutcome { interaction: media.interaction_id, part: media.part, mediatype, blob };
    let Ok(head) = head(&outcome) else { return };
    let entry = NewEntry {
        id: EntryId::random(now),
        kind: EntryKind::Media,
        channel: media.channel.clone(),
        at: now,
        interactive: false,
        keys: Vec::new(),
        key: Some(key16(&[b"media", media.interaction_id.as_bytes(), &media.part.to_be_bytes()])),
        body: EntryBody { head, raw: bytes::Bytes::new() },
    };
    if let Err(error) = context.store.journal.append(entry).await {
        tracing::error!(target: "segue::journal", error = %error.full(), "a fetched file was not journaled; will be fetched again");
    }
}

async fn failed(context: &Arc<Context>, media: &DueMedia, reason: String) -> Blob {
    let mut blob = part(context, media).await.ok().and_then(|(_, blob)| blob).unwrap_or_default();
    blob.fetch = Some(FetchState::Failed);
    blob.fetch_error = Some(reason);
    blob
}

async fn part(context: &Context, media: &DueMedia) -> Result<(Interaction, Option<Blob>)> {
    let row = context.store.state.interaction_by_id(media.interaction_id).await?;
    let row = row.ok_or_else(|| Error::not_found("the interaction of a file is gone"))?;
    let interaction = read(&row)?;
    let blob = interaction.parts.get(media.part).and_then(|part| part.blob.clone());
    Ok((interaction, blob))
}

async fn fetch(context: &Context, client: &Client, media: &DueMedia, most_bytes: u64) -> Result<Fetched> {
    let setup = context.setup.load_full();
    let Some(channel) = setup.channels.get(&media.channel) else {
        return Ok(Fetched::NotNow(format!("channel `{}` is not configured", media.channel)));
    };
    let (_, Some(blob)) = part(context, media).await? else {
        return Ok(Fetched::Never("the part has no file".to_owned()));
    };
    let folder = context.files.clone();
    tokio::fs::create_dir_all(&folder).await.map_err(|e| Error::io("failed to create the folder of files", e))?;
    let partial = folder.join(format!("{}-{}.fetching", media.interaction_id, media.part));
    walk(client, channel, blob, &folder, &partial, most_bytes).await
}

/// Follows the connector's steps to the file.
async fn walk(
    client: &Client,
    channel: &ChannelSetup,
    mut blob: Blob,
    folder: &Path,
    partial: &PathBuf,
    most_bytes: u64,
) -> Result<Fetched> {
    let mut previous: Option<bytes::Bytes> = None;
    for step in 0..STEPS {
        let call = match channel.connector.media_call(&blob, &channel.account, step, previous.as_deref()) {
            Ok(Some(call)) => call,
            Ok(None) => return Ok(Fetched::Never("the connector has no way to this file".to_owned())),
            Err(error) => return Ok(Fetched::Never(error.to_string())),
        };
        let request = to_request(&call.call)?.timeout(Duration::from_secs(60));
        if !call.last {
            match client.send(request).await {
                Ok(response) if response.status.is_success() => previous = Some(response.body),
                Ok(response) => return Ok(refused(response.status.as_u16())),
                Err(error) => return Ok(unreachable(error.fault(), error.to_string())),
            }
            continue;
        }
        return match client.download(request, partial, most_bytes).await {
            Ok(Downloaded::Saved(saved)) => {
                let name: String = saved.sha512.chars().take(64).collect();
                tokio::fs::rename(partial, folder.join(&name))
                    .await
                    .map_err(|e| Error::io("failed to keep a file", e))?;
                blob.id = Some(name);
                blob.size = Some(saved.size);
                blob.sha512 = Some(saved.sha512);
                blob.fetch = Some(FetchState::Fetched);
                blob.fetch_error = None;
                Ok(Fetched::Here { blob: Box::new(blob), mediatype: saved.content_type })
            }
            Ok(Downloaded::Answered(response)) => Ok(refused(response.status.as_u16())),
            Err(error) => Ok(unreachable(error.fault(), error.to_string())),
        };
    }
    Ok(Fetched::Never("the connector's way to this file has no end".to_owned()))
}

fn refused(status: u16) -> Fetched {
    let reason = format!("the provider answered {status}");
    match status {
        400 | 403 | 404 | 410 => Fetched::Never(reason),
        _ => Fetched::NotNow(reason),
    }
}

fn unreachable(fault: Fault, reason: String) -> Fetched {
    match fault {
        Fault::TooLarge | Fault::Refused(_) => Fetched::Never(reason),
        _ => Fetched::NotNow(reason),
    }
}
