//! Stage 9, for files: fetching what a message refers to, at once after the commit, before the provider lets it go.
//!
//! The request is the connector's, the way out is the guarded client; on its way the file is sealed, and named by its
//! content. The outcome is an entry that updates the interaction.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::commit::{FETCH_WITHIN, fetch_again, in_mail};
use super::messages::read;
use super::outcome::head;
use super::send_http::to_request;
use super::{ChannelSetup, Context};
use crate::base::hash::key16;
use crate::base::id::EntryId;
use crate::base::telemetry::By;
use crate::base::{Error, Result, Timestamp};
use crate::model::entry::{FileOutcome, MediaOutcome};
use crate::model::part::FetchState;
use crate::model::{Blob, EntryBody, EntryKind, Interaction};
use crate::net::client::{Pour, Poured, Request};
use crate::net::{Client, Fault};
use crate::store::blob::{Stored, Writing};
use crate::store::{DueMedia, Hold, InteractionRow, NewEntry, lease};

mod mail;

/// How many files are fetched side by side.
const CONCURRENCY: usize = 8;
/// How many requests lead to a file at most.
const STEPS: usize = 4;

/// What came of a try.
enum Tried {
    Done(Vec<FileOutcome>),
    NotNow(String),
}

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
    let mut running: JoinSet<((i64, usize), bool)> = JoinSet::new();
    let mut busy: HashSet<(i64, usize)> = HashSet::new();
    // Files whose outcome is journaled and not applied yet: they are due still, and need not be fetched twice.
    let mut told: HashSet<(i64, usize)> = HashSet::new();
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
        told.retain(|which| due.iter().any(|media| (media.interaction, media.part) == *which));
        for media in due {
            let which = (media.interaction, media.part);
            if running.len() < CONCURRENCY && !told.contains(&which) && busy.insert(which) {
                let (context, client) = (context.clone(), client.clone());
                running.spawn(async move { (which, one(&context, &client, media, most_bytes).await) });
            }
        }
        tokio::select! {
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
            Some(ended) = running.join_next() => {
                if let Ok((which, journaled)) = ended {
                    busy.remove(&which);
                    if journaled {
                        told.insert(which);
                    }
                }
            }
            () = notified => {}
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(1000)) => {}
        }
    }
    running.shutdown().await;
}

/// Fetches what is due; gives whether what came of it is journaled.
async fn one(context: &Arc<Context>, client: &Client, media: DueMedia, most_bytes: u64) -> bool {
    let tried = fetch(context, client, &media, most_bytes).await;
    let now = context.clock.now();
    let files = match tried.unwrap_or_else(|error| Tried::NotNow(error.to_string())) {
        Tried::Done(files) => files,
        Tried::NotNow(reason) if now.since(media.interaction_id.time()) > FETCH_WITHIN => {
            given_up(context, &media, &reason).await
        }
        Tried::NotNow(reason) => {
            context.metrics.media.get_or_create(&By::new(&media.channel, "put_off")).inc();
            tracing::info!(target: "segue::deliver", interaction = %media.interaction_id, %reason, "a file was not fetched yet");
            let again = fetch_again(now, media.attempts);
            if let Err(error) = context.store.outbox.media_failed(media, again).await {
                tracing::error!(target: "segue::deliver", error = %error.full(), "a fetch was not put off");
            }
            return false;
        }
    };
    for file in &files {
        let label = if file.blob.fetch == Some(FetchState::Fetched) { "fetched" } else { "failed" };
        context.metrics.media.get_or_create(&By::new(&media.channel, label)).inc();
    }
    let Ok(head) = head(&MediaOutcome { interaction: media.interaction_id, files }) else { return false };
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
    let appended = context.store.journal.append(entry).await;
    if let Err(error) = &appended {
        tracing::error!(target: "segue::journal", error = %error.full(), "a fetched file was not journaled; will be fetched again");
    }
    appended.is_ok()
}

/// A file that cannot be had.
fn never(part: usize, mut blob: Blob, reason: &str) -> FileOutcome {
    blob.fetch = Some(FetchState::Failed);
    blob.fetch_error = Some(reason.to_owned());
    FileOutcome { part, mediatype: None, blob }
}

/// What was due, and is not tried again.
async fn given_up(context: &Context, media: &DueMedia, reason: &str) -> Vec<FileOutcome> {
    let found = match row(context, media).await {
        Ok(row) => read(&row).map(|interaction| wanted(&interaction, media.part)).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let found = if found.is_empty() { vec![(media.part, Blob::default())] } else { found };
    found.into_iter().map(|(part, blob)| never(part, blob, reason)).collect()
}

async fn row(context: &Context, media: &DueMedia) -> Result<InteractionRow> {
    let row = context.store.state.interaction_by_id(media.interaction_id).await?;
    row.ok_or_else(|| Error::not_found("the interaction of a file is gone"))
}

/// The files to fetch where that of `part` is due: with one in a mail, all that lie in it.
fn wanted(interaction: &Interaction, part: usize) -> Vec<(usize, Blob)> {
    let blobs = interaction.parts.iter().map(|part| part.blob.as_ref()).enumerate();
    let mut files: Vec<(usize, Blob)> = blobs.filter_map(|(part, blob)| Some((part, blob?.clone()))).collect();
    if files.iter().any(|(number, blob)| *number == part && in_mail(interaction, blob)) {
        files.retain(|(_, blob)| blob.fetch == Some(FetchState::Pending) && in_mail(interaction, blob));
    } else {
        files.retain(|(number, _)| *number == part);
    }
    files
}

async fn fetch(context: &Context, client: &Client, media: &DueMedia, most_bytes: u64) -> Result<Tried> {
    let setup = context.setup.load_full();
    let Some(channel) = setup.channels.get(&media.channel) else {
        return Ok(Tried::NotNow(format!("channel `{}` is not configured", media.channel)));
    };
    let row = row(context, media).await?;
    let interaction = read(&row)?;
    let mut files = wanted(&interaction, media.part);
    let into = Into { context, customer: row.customer, most_bytes };
    if files.iter().any(|(_, blob)| in_mail(&interaction, blob)) {
        return mail::fetch(channel, &interaction, files, into).await.map(Tried::Done);
    }
    let Some((part, blob)) = files.pop() else {
        return Ok(Tried::Done(vec![never(media.part, Blob::default(), "the part has no file")]));
    };
    Ok(match walk(client, channel, blob.clone(), into).await? {
        Fetched::Here { blob, mediatype } => Tried::Done(vec![FileOutcome { part, mediatype, blob: *blob }]),
        Fetched::Never(reason) => Tried::Done(vec![never(part, blob, &reason)]),
        Fetched::NotNow(reason) => Tried::NotNow(reason),
    })
}

/// Where a file goes.
struct Into<'a> {
    context: &'a Context,
    customer: i64,
    most_bytes: u64,
}

/// Follows the connector's steps to the file.
async fn walk(client: &Client, channel: &ChannelSetup, blob: Blob, into: Into<'_>) -> Result<Fetched> {
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
        return keep(client, request, blob, into).await;
    }
    Ok(Fetched::Never("the connector's way to this file has no end".to_owned()))
}

/// A file in the making as the client fills it.
struct Filling {
    writing: Writing,
    now: Timestamp,
}

impl Pour for Filling {
    fn pour(&mut self, piece: bytes::Bytes) -> BoxFuture<'_, Result<()>> {
        async move { self.writing.push(&piece, self.now).await }.boxed()
    }
}

/// Makes the last request and keeps what it answers.
async fn keep(client: &Client, request: Request, mut blob: Blob, into: Into<'_>) -> Result<Fetched> {
    let now = into.context.clock.now();
    let blobs = into.context.blobs.as_ref().ok_or_else(|| Error::internal("there is no place for files"))?;
    let writing = blobs.begin(Some(into.customer), into.most_bytes).await?;
    let mut filling = Filling { writing, now };
    let poured = client.pour(request, into.most_bytes, &mut filling).await;
    let mediatype = match poured {
        Ok(Poured::Whole(mediatype)) => mediatype,
        Ok(Poured::Answered(response)) => return Ok(refused(response.status.as_u16())),
        Err(error) => {
            filling.writing.abandon().await;
            return Ok(unreachable(error.fault(), Error::from(error).full()));
        }
    };
    let stored = filling.writing.finish(now).await?;
    kept(&mut blob, stored);
    Ok(Fetched::Here { blob: Box::new(blob), mediatype })
}

fn kept(blob: &mut Blob, stored: Stored) {
    blob.id = Some(stored.name.to_string());
    blob.size = Some(stored.size);
    blob.sha512 = Some(stored.sha512);
    blob.fetch = Some(FetchState::Fetched);
    blob.fetch_error = None;
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
