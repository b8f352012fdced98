//! What an operator looks after: payloads that were not understood, events that were not taken.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::act::{answer, submitted};
use super::call::{Answer, Call, json, missing};
use super::problem::Problem;
use super::token::Scope;
use crate::base::Timestamp;
use crate::base::id::{EntryId, EventId};
use crate::flow::submit::{self, Submitted};
use crate::model::entry::{Command, MailHead, RequestHead};
use crate::model::{Entry, EntryKind};
use crate::store::{DeadLetter, QuarantineRow};

/// How many rows beside a page are read, so that rows of one event at several help desks stay on one page.
const SAME_EVENT: usize = 100;

/// Takes nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Nothing")]
pub(super) struct Nothing {}

// === quarantine ===

/// Payloads that could not be understood.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Quarantine")]
pub(super) struct Quarantine {
    /// The latest first.
    quarantined: Vec<QuarantinedItem>,
    /// What to give as `before` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One item that could not be understood.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "QuarantinedItem")]
struct QuarantinedItem {
    /// The entry that holds the original.
    entry: EntryId,
    /// The configured channel.
    channel: String,
    /// Why.
    reason: String,
    /// Since when.
    at: Timestamp,
}

/// A quarantined entry.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Quarantined")]
pub(super) struct Quarantined {
    /// The entry.
    entry: EntryId,
    /// The configured channel.
    channel: String,
    /// When it was received.
    received_at: Timestamp,
    /// Why, for each item that could not be understood.
    reasons: Vec<String>,
    /// The request as it came. Only with the scope `admin`: it holds what a person said.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
}

/// A provider's request, or a mail.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Original")]
struct Original {
    /// The method of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// The URL of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The headers of a request that its connector keeps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    /// The folder that a mail lay in.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    /// The UID of a mail there.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The body.
    body: String,
    /// How `body` is written: `text`, or `base64` where it is not UTF-8.
    encoding: &'static str,
}

/// What came of reading an entry again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Retried")]
pub(super) struct Retried {
    /// The entry.
    entry: EntryId,
    /// Whether it was understood now; if not, it stays where it is.
    released: bool,
}

/// `GET /v1/quarantine`
pub(super) async fn quarantine(call: Call) -> Answer {
    let limit = call.limit()?;
    let before = call.number("before", 1, i64::MAX)?.unwrap_or(i64::MAX);
    let mut rows = call.api.context().store.catalog.quarantine(before, limit + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|row| row.no.to_string()) } else { None };
    let item = |row: QuarantineRow| {
        let QuarantineRow { entry, channel, reason, at, .. } = row;
        QuarantinedItem { entry, channel, reason, at }
    };
    json(StatusCode::OK, &Quarantine { quarantined: rows.into_iter().map(item).collect(), next })
}

/// `GET /v1/quarantine/{entry}`
pub(super) async fn quarantined(call: Call) -> Answer {
    let id: EntryId = call.id("entry")?;
    let store = &call.api.context().store;
    let rows = store.catalog.quarantine_of(id).await?;
    if rows.is_empty() {
        return Err(missing("quarantined entry", id));
    }
    let (entry, _) = store.journal.entry(id).await?.ok_or_else(|| missing("entry", id))?;
    let original = if call.may(Scope::Admin) { original(&entry) } else { None };
    let reasons = rows.into_iter().map(|row| row.reason).collect();
    json(StatusCode::OK, &Quarantined { entry: id, channel: entry.channel, received_at: entry.at, reasons, original })
}

/// The request or mail of an entry, if it is one and was not pruned.
fn original(entry: &Entry) -> Option<Original> {
    let empty = Original {
        method: None,
        url: None,
        headers: Vec::new(),
        folder: None,
        uid: None,
        body: String::new(),
        encoding: "text",
    };
    let known = match entry.kind {
        EntryKind::Webhook => {
            let head: RequestHead = serde_json::from_slice(&entry.body.head).ok()?;
            Original { method: Some(head.method), url: Some(head.url), headers: head.headers, ..empty }
        }
        EntryKind::Mail => {
            let head: MailHead = serde_json::from_slice(&entry.body.head).ok()?;
            Original { folder: head.folder, uid: head.uid.map(|(_, uid)| uid), ..empty }
        }
        _ => return None,
    };
    let (body, encoding) = match std::str::from_utf8(&entry.body.raw) {
        Ok(text) => (text.to_owned(), "text"),
        Err(_) => (data_encoding::BASE64.encode(&entry.body.raw), "base64"),
    };
    Some(Original { body, encoding, ..known })
}

/// `POST /v1/quarantine/{entry}/retry`
pub(super) async fn retry_quarantined(mut call: Call) -> Answer {
    let entry: EntryId = call.id("entry")?;
    let Nothing {} = call.read().await?;
    // Once it is released it is no longer quarantined: a repeat is answered before that is looked at.
    if let Some(earlier) = submit::earlier(call.api.context(), &call.asker()?).await? {
        return answer(earlier);
    }
    if call.api.context().store.catalog.quarantine_of(entry).await?.is_empty() {
        return Err(missing("quarantined entry", entry));
    }
    submitted(&call, &Command::RetryQuarantined { entry }).await
}

// === dead letters ===

/// Events that a help desk did not take.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeadLetters")]
pub(super) struct DeadLetters {
    /// The latest first.
    dead_letters: Vec<DeadLetterItem>,
    /// What to give as `before` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An event that a help desk did not take.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
struct DeadLetterItem {
    /// The event.
    event: EventId,
    /// The help desk.
    helpdesk: String,
    /// How often it was tried.
    attempts: u32,
    /// What the last attempt met.
    error: String,
    /// When it was given up.
    at: Timestamp,
}

/// Which dead letters to deliver again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetryDeadLetters")]
pub(super) struct RetryDead {
    /// Only those of this help desk.
    #[serde(default)]
    helpdesk: Option<String>,
    /// Only this event.
    #[serde(default)]
    event: Option<EventId>,
}

/// How many are delivered again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Revived")]
pub(super) struct Revived {
    /// How many.
    revived: u64,
}

/// `GET /v1/dead-letters`
pub(super) async fn dead_letters(call: Call) -> Answer {
    let limit = call.limit()?;
    let before = call.number("before", 1, i64::MAX)?.unwrap_or(i64::MAX);
    let helpdesk = call.query("helpdesk").map(str::to_owned);
    let rows = call.api.context().store.catalog.dead_letters(helpdesk, before, limit + SAME_EVENT).await?;
    let (shown, next) = page(rows, limit);
    let item = |row: DeadLetter| {
        let DeadLetter { helpdesk, event, attempts, error, at, .. } = row;
        DeadLetterItem { event, helpdesk, attempts, error, at }
    };
    json(StatusCode::OK, &DeadLetters { dead_letters: shown.into_iter().map(item).collect(), next })
}

/// Cuts a page. The cursor is an event's number, so a page never ends between two help desks of one event.
fn page(mut rows: Vec<DeadLetter>, limit: usize) -> (Vec<DeadLetter>, Option<String>) {
    let Some(last) = rows.get(limit.saturating_sub(1)).map(|row| row.no) else { return (rows, None) };
    let end = rows.iter().take_while(|row| row.no >= last).count();
    let more = end < rows.len();
    rows.truncate(end);
    (rows, more.then(|| last.to_string()))
}

/// `POST /v1/dead-letters/retry`
pub(super) async fn retry_dead(mut call: Call) -> Answer {
    let body: RetryDead = call.read().await?;
    let asker = call.asker()?;
    let context = call.api.context();
    if let Some(earlier) = submit::earlier(context, &asker).await? {
        return answer(earlier);
    }
    let revived = Revived { revived: context.store.outbox.revive(body.helpdesk, body.event).await? };
    if asker.key.is_some() {
        // Reviving twice does no harm, so it comes first: an answer that is on record was always earned.
        let result = serde_json::to_value(&revived)
            .map_err(|e| Problem::from(crate::base::Error::internal("failed to write an answer").because(e)))?;
        let done = Command::Done { result };
        match submit::submit(context, &done, &asker, call.api.timing.command).await? {
            Submitted::Pending(_) => {}
            recorded => return answer(recorded),
        }
    }
    json(StatusCode::OK, &revived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letters(events: &[i64]) -> Vec<DeadLetter> {
        let letter = |no: &i64| DeadLetter {
            no: *no,
            helpdesk: String::new(),
            event: EventId::from_bytes([0; 16]),
            attempts: 1,
            error: String::new(),
            at: Timestamp::default(),
        };
        events.iter().map(letter).collect()
    }

    proptest! {
        #[test]
        fn pages_of_dead_letters_skip_nothing(mut events in proptest::collection::vec(1i64..12, 0..60), limit in 1usize..9) {
            events.sort_unstable_by(|a, b| b.cmp(a));
            let (mut seen, mut before) = (Vec::new(), i64::MAX);
            loop {
                let rest: Vec<i64> = events.iter().copied().filter(|no| *no < before).take(limit + SAME_EVENT).collect();
                let (shown, next) = page(letters(&rest), limit);
                seen.extend(shown.iter().map(|row| row.no));
                match next {
                    Some(next) => before = next.parse().unwrap(),
                    None => break,
                }
            }
            prop_assert_eq!(seen, events);
        }
    }
}
