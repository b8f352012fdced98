//! The journal on PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::read::{Readers, all, first, get, id16};
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Error, Result, Timestamp};
use crate::model::{Entry, EntryBody, EntryKind};
use crate::store::{Appended, AppliedRow, FoundEntry, Journal, NewEntry, Tail, code};

pub(super) struct PgJournal {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
}

pub(super) const ENTRY: &str = "e.position, e.id, e.kind, e.channel, e.at, e.interactive, e.head, e.raw";

pub(super) fn entry(row: &Row) -> Result<Entry> {
    let kind: i16 = get(row, 2)?;
    let known = u8::try_from(kind).ok().and_then(EntryKind::from_number);
    Ok(Entry {
        position: get(row, 0)?,
        id: EntryId::from_bytes(id16(row, 1)?),
        kind: known.ok_or_else(|| Error::internal(format!("an entry of the journal has the unknown kind {kind}")))?,
        channel: get(row, 3)?,
        at: Timestamp::from_millis(get(row, 4)?),
        interactive: get::<i16>(row, 5)? != 0,
        body: EntryBody {
            head: Bytes::from(get::<Vec<u8>>(row, 6)?),
            raw: Bytes::from(get::<Option<Vec<u8>>>(row, 7)?.unwrap_or_default()),
        },
    })
}

fn with_applied(row: &Row) -> Result<FoundEntry> {
    let applied = match get::<Option<i64>>(row, 8)? {
        None => None,
        Some(apply_no) => Some(AppliedRow {
            apply_no,
            bundle: get::<Option<String>>(row, 9)?.unwrap_or_default(),
            facts: get::<Option<&[u8]>>(row, 10)?.map(code::text),
        }),
    };
    Ok((entry(row)?, applied))
}

impl PgJournal {
    async fn find(&self, column: &str, key: [u8; 16]) -> Result<Option<FoundEntry>> {
        let sql = format!(
            "SELECT {ENTRY}, a.apply_no, b.hash, a.facts FROM entry e
             LEFT JOIN applied a ON a.position = e.position LEFT JOIN bundle b ON b.no = a.bundle
             WHERE e.{column} = $1"
        );
        first(self.readers.rows(&sql, &[&key.as_slice()]).await?, with_applied)
    }
}

impl Journal for PgJournal {
    fn append(&self, entry: NewEntry) -> BoxFuture<'static, Result<Appended>> {
        self.writer.append(entry)
    }

    fn tail(&self) -> Arc<Tail<Entry>> {
        self.writer.tail.clone()
    }

    fn urgent(&self) -> Arc<Tail<Entry>> {
        self.writer.urgent.clone()
    }

    fn pending(&self, after: i64, channel: Option<String>, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move {
            let by_channel = if channel.is_some() { "p.channel = $3" } else { "$3::text IS NULL" };
            let sql = format!(
                "SELECT {ENTRY} FROM pending p JOIN entry e ON e.position = p.position
                 WHERE p.position > $1 AND {by_channel} ORDER BY p.position LIMIT $2"
            );
            all(self.readers.rows(&sql, &[&after, &(limit as i64), &channel]).await?, entry)
        }
        .boxed()
    }

    fn entry(&self, id: EntryId) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        async move { self.find("id", *id.as_bytes()).await }.boxed()
    }

    fn entry_by_key(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        async move { self.find("delivery", key).await }.boxed()
    }

    fn pending_count(&self) -> BoxFuture<'_, Result<u64>> {
        async move {
            let rows = self.readers.rows("SELECT count(*) FROM pending", &[]).await?;
            Ok(first(rows, |row| get::<i64>(row, 0))?.unwrap_or(0).max(0) as u64)
        }
        .boxed()
    }

    fn healthy(&self) -> bool {
        self.writer.healthy()
    }
}
