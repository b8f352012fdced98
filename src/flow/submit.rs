//! Entering what an API client asks for: the way of a command into the journal and of its outcome back.
//!
//! A command is an entry like any other. Whoever submits one waits a moment for its applied record, so that an answer
//! of success means that it is applied. A repeat under the same key never enters twice: it is told what the first was
//! told, read from the applied record. Keys follow
//! [the Idempotency-Key header field](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/) and
//! live as long as delivery keys do.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::outcome::head;
use super::{CommandResult, Context, wait};
use crate::base::hash::key16;
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::model::entry::Command;
use crate::model::{EntryBody, EntryKind};
use crate::store::{FoundEntry, NewEntry};

/// Who asks, and how a repeat of the request is recognized.
#[derive(Clone)]
pub struct Asker {
    /// The id of the caller's token: keys of different callers never meet.
    pub caller: String,
    /// The caller's idempotency key. Without one every request is a request of its own.
    pub key: Option<String>,
    /// A digest of what is asked (method, path and body), in lower-case hex: one key stands for one request.
    pub fingerprint: String,
}

/// What became of a submitted command.
pub enum Submitted {
    /// It is applied: now, or when it was first asked for.
    Applied {
        /// The entry.
        entry: EntryId,
        /// Its outcome, which may be a refusal.
        result: CommandResult,
    },
    /// It is in the journal and will be applied.
    Pending(EntryId),
    /// It is a repeat of a request that is not applied yet.
    InProgress(EntryId),
    /// The key was used for another request.
    Mismatch,
}

/// The head of a command's entry: the command with the fingerprint of the request beside it.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    command: &'a Command,
    #[serde(rename = "fingerprint")]
    fingerprint: &'a str,
}

#[derive(Deserialize)]
struct Fingerprint {
    #[serde(default)]
    fingerprint: String,
}

impl Asker {
    fn delivery_key(&self) -> Option<[u8; 16]> {
        let key = self.key.as_ref()?;
        Some(key16(&[b"command", self.caller.as_bytes(), key.as_bytes()]))
    }
}

/// Enters a command and waits at most `within` until it is applied. The command is carried out whether or not the future
/// is waited for to its end.
///
/// # Errors
///
/// `Unavailable` or `Io` if the journal does not take it: then it was not entered.
pub async fn submit(context: &Context, command: &Command, asker: &Asker, within: Duration) -> Result<Submitted> {
    let deadline = tokio::time::Instant::now() + within;
    let at = context.clock.now();
    let id = EntryId::random(at);
    let written = Written { command, fingerprint: &asker.fingerprint };
    let entry = NewEntry {
        id,
        kind: EntryKind::Command,
        channel: String::new(),
        at,
        interactive: true,
        keys: Vec::new(),
        key: asker.delivery_key(),
        body: EntryBody { head: head(&written)?, raw: Bytes::new() },
    };
    let mut place = context.waiting.enter(id);
    let appended = context.store.journal.append(entry).await?;
    if appended.repeat {
        drop(place);
        let found = context.store.journal.entry(appended.id).await?;
        let found = found.ok_or_else(|| Error::internal(format!("entry {} is gone", appended.id)))?;
        return repeat(&found, asker);
    }
    let told = wait::effect(context, &mut place, id, deadline).await;
    Ok(match told.and_then(|told| told.result) {
        Some(result) => Submitted::Applied { entry: id, result },
        None => Submitted::Pending(id),
    })
}

/// What an earlier request of the same key was told, for requests whose conditions hold only the first time.
///
/// # Errors
///
/// If the journal cannot be read.
pub async fn earlier(context: &Context, asker: &Asker) -> Result<Option<Submitted>> {
    let Some(key) = asker.delivery_key() else { return Ok(None) };
    match context.store.journal.entry_by_key(key).await? {
        None => Ok(None),
        Some(found) => repeat(&found, asker).map(Some),
    }
}

/// What is known of a command by the id of its entry; none if there is no such command.
///
/// # Errors
///
/// If the journal cannot be read, or the applied record not be understood.
pub async fn outcome(context: &Context, id: EntryId) -> Result<Option<Submitted>> {
    let Some(found) = context.store.journal.entry(id).await? else { return Ok(None) };
    if found.0.kind != EntryKind::Command {
        return Ok(None);
    }
    Ok(Some(match recorded(&found)? {
        Some(result) => Submitted::Applied { entry: id, result },
        None => Submitted::Pending(id),
    }))
}

fn repeat(found: &FoundEntry, asker: &Asker) -> Result<Submitted> {
    let id = found.0.id;
    let first: Fingerprint = serde_json::from_slice(&found.0.body.head)
        .map_err(|e| Error::internal(format!("command {id} cannot be read back")).because(e))?;
    if first.fingerprint != asker.fingerprint {
        return Ok(Submitted::Mismatch);
    }
    Ok(match recorded(found)? {
        Some(result) => Submitted::Applied { entry: id, result },
        None => Submitted::InProgress(id),
    })
}

/// The outcome in the applied record of a command.
fn recorded((entry, applied): &FoundEntry) -> Result<Option<CommandResult>> {
    let Some(applied) = applied else { return Ok(None) };
    let wrong = || Error::internal(format!("the outcome of command {} cannot be read back", entry.id));
    let facts = applied.facts.as_deref().ok_or_else(wrong)?;
    serde_json::from_str(facts).map(Some).map_err(|e| wrong().because(e))
}
