//! Whether two stores hold the same state: every event with its bytes, every conversation with its interactions, every
//! customer. What is operational (attempts, cursors, numbers inside) does not count.

use std::io::Write;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::Differences;
use crate::base::Result;
use crate::base::id::{ConversationId, EventId};
use crate::store::archive::{Progress, Seal, View, dump};
use crate::store::{ConversationRow, CustomerRow, FeedEvent, Most, Store};

/// How many rows are read at once.
const PAGE: usize = 256;
/// The tables whose rows are the state, beside those that are compared one by one.
const TABLES: [&str; 14] = [
    "entry",
    "pending",
    "applied",
    "customer",
    "identifier",
    "conversation",
    "thread",
    "interaction",
    "message",
    "event",
    "send",
    "media",
    "quarantine",
    "side",
];

/// What of an event says where it belongs.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) id: EventId,
    subject: ConversationId,
    sequence: String,
}

/// What differs between what `source` holds and what `target` holds.
///
/// # Errors
///
/// If one of them cannot be read.
pub async fn compare(source: &Store, target: &Store) -> Result<Differences> {
    let mut found = Differences::default();
    let (was, is) = (source.catalog.counts().await?, target.catalog.counts().await?);
    for table in TABLES {
        let count = |counts: &std::collections::BTreeMap<String, i64>| counts.get(table).copied().unwrap_or_default();
        if count(&was) != count(&is) {
            found.add("rows", table, count(&was), count(&is));
        }
    }
    let mut after = 0;
    loop {
        let page = target.catalog.all_events(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.no;
        for event in &page {
            compare_event(source, target, event, &mut found).await?;
        }
    }
    Ok(found)
}

/// The tables of which two canonical dumps differ, in whichever byte. With `stubs`, originals of entries do not count: one
/// of the two began from a checkpoint, which has none.
///
/// # Errors
///
/// If one of the stores cannot be read or opened.
pub async fn compare_dumps(
    (source, opens_source): (&dyn View, &dyn Seal),
    (target, opens_target): (&dyn View, &dyn Seal),
    stubs: bool,
) -> Result<Differences> {
    let (was, is) = (digests(source, opens_source, !stubs).await?, digests(target, opens_target, !stubs).await?);
    let mut found = Differences::default();
    for ((table, was), (_, is)) in was.iter().zip(&is).filter(|(was, is)| was != is) {
        found.add("dump", table, was, is);
    }
    Ok(found)
}

/// The digest of each table's part of a dump, in their order.
async fn digests(view: &dyn View, seal: &dyn Seal, entries: bool) -> Result<Vec<(String, String)>> {
    let parts = Parts::default();
    dump(view, seal, entries, &mut parts.clone(), &mut parts.clone()).await?;
    let parts = std::mem::take(&mut *parts.0.lock());
    let digest = |(table, digest): (String, Context)| (table, HEXLOWER.encode(digest.finish().as_ref()));
    Ok(parts.into_iter().map(digest).collect())
}

/// Takes a dump and keeps a digest of each table's part.
#[derive(Clone, Default)]
struct Parts(Arc<Mutex<Vec<(String, Context)>>>);

impl Progress for Parts {
    fn table(&mut self, name: &str, _: u64) {
        self.0.lock().push((name.to_owned(), Context::new(&SHA256)));
    }

    fn rows(&mut self, _: u64) {}
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some((_, digest)) = self.0.lock().last_mut() {
            digest.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn compare_event(source: &Store, target: &Store, event: &FeedEvent, found: &mut Differences) -> Result<()> {
    let Ok(head) = serde_json::from_slice::<Head>(&event.body) else {
        found.add("events", event.no, "an event", "no JSON");
        return Ok(());
    };
    match source.catalog.event(head.id).await? {
        None => found.add("events", head.id, "none", "one"),
        Some(before) if (before.kind, &before.channel, &before.body) != (event.kind, &event.channel, &event.body) => {
            found.add("events", head.id, format!("{} bytes", before.body.len()), format!("{} bytes", event.body.len()));
        }
        Some(_) => {}
    }
    let Some(now) = target.state.conversation_by_id(head.subject).await? else {
        found.add("conversations", head.subject, "one", "none");
        return Ok(());
    };
    // Each conversation once: at its latest event.
    if head.sequence.parse() != Ok(now.event_seq) {
        return Ok(());
    }
    let Some(before) = source.state.conversation_by_id(head.subject).await? else {
        found.add("conversations", head.subject, "none", "one");
        return Ok(());
    };
    if outer(&before) != outer(&now) {
        found.add(
            "conversations",
            head.subject,
            format!("version {}", before.version),
            format!("version {}", now.version),
        );
    }
    compare_timeline(source, target, (&before, &now), found).await?;
    let customers = (source.state.customer(before.customer).await?, target.state.customer(now.customer).await?);
    if customers.0.as_ref().map(person) != customers.1.as_ref().map(person) {
        found.add("customers", head.subject, "the customer of this conversation", "another state of it");
    }
    Ok(())
}

/// A conversation without the numbers inside.
fn outer(row: &ConversationRow) -> ConversationRow {
    ConversationRow { no: 0, customer: 0, latest: 0, ..row.clone() }
}

/// A customer without the numbers inside.
fn person(row: &CustomerRow) -> impl PartialEq {
    let recent: Vec<String> = row.recent.iter().map(|r| serde_json::to_string(r).unwrap_or_default()).collect();
    (row.id, row.version, row.created_at, serde_json::to_string(&row.profile).unwrap_or_default(), recent)
}

async fn compare_timeline(
    source: &Store,
    target: &Store,
    (before, now): (&ConversationRow, &ConversationRow),
    found: &mut Differences,
) -> Result<()> {
    const MOST: Most = Most { rows: PAGE, bytes: 4 << 20 };
    let mut below = i64::MAX;
    loop {
        let was = source.state.timeline(before.no, below, MOST).await?;
        let is = target.state.timeline(now.no, below, MOST).await?;
        for (was, is) in was.rows.iter().zip(&is.rows) {
            if (was.id, was.seq, &was.body, &was.decision) != (is.id, is.seq, &is.body, &is.decision) {
                found.add("interactions", was.id, format!("seq {}", was.seq), format!("seq {}", is.seq));
            }
        }
        match next((was.rows.len(), was.more), (is.rows.len(), is.more)) {
            Next::Behind(both) => below = is.rows.get(both - 1).map_or(below, |row| row.seq),
            Next::Same => return Ok(()),
            Next::Differs => {
                found.add("interactions", now.id, was.rows.len(), is.rows.len());
                return Ok(());
            }
        }
    }
}

/// How a comparison of two timelines goes on.
#[derive(Debug, PartialEq)]
enum Next {
    /// Both ended.
    Same,
    /// One ended before the other.
    Differs,
    /// With what is behind so many rows, at least one.
    Behind(usize),
}

/// What comes behind two pages of so many rows, with or without more behind them, of which the rows that both have were
/// compared. A page ends by bytes, which depend on the numbers inside as well, so one may have more rows than the other.
fn next(was: (usize, bool), is: (usize, bool)) -> Next {
    let both = was.0.min(is.0);
    let ended = |(rows, more): (usize, bool)| !more && rows == both;
    match (ended(was), ended(is)) {
        (true, true) => Next::Same,
        (false, false) if both > 0 => Next::Behind(both),
        _ => Next::Differs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_end_elsewhere_are_no_difference() {
        for (was, is, wanted) in [
            ((3, true), (2, true), Next::Behind(2)),
            ((2, true), (3, false), Next::Behind(2)),
            ((2, true), (2, true), Next::Behind(2)),
            ((1, false), (1, false), Next::Same),
            ((0, false), (0, false), Next::Same),
            ((1, false), (2, false), Next::Differs),
            ((1, false), (1, true), Next::Differs),
        ] {
            assert_eq!(next(was, is), wanted, "{was:?} {is:?}");
        }
    }
}
