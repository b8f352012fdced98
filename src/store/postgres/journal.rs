//! The journal on PostgreSQL.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::group::Param;
use super::read::{Readers, all, first, get, id16};
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Error, Result, Timestamp};
use crate::model::{Entry, EntryKind};
use crate::store::seal::Codec;
use crate::store::seal::stored::{StoredEntry, StoredFound};
use crate::store::{Appended, AppliedRow, FoundEntry, Journal, NewEntry, READ_BYTES, Tail};

pub(super) struct PgJournal {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

pub(super) const ENTRY: &str = "e.position, e.id, e.kind, e.channel, e.at, e.interactive, e.head, e.raw, e.wrap";
/// The same of one that is pending.
const PENDING: &str =
    "SELECT e.position, e.id, e.kind, e.channel, e.at, e.interactive, e.head, e.raw, e.wrap, (p.key & 255)::int2
     FROM pending p JOIN entry e ON e.position = p.position";

pub(super) fn entry(row: &Row) -> Result<StoredEntry> {
    let kind: i16 = get(row, 2)?;
    let known = u8::try_from(kind).ok().and_then(EntryKind::from_number);
    Ok(StoredEntry {
        position: get(row, 0)?,
        id: EntryId::from_bytes(id16(row, 1)?),
        kind: known.ok_or_else(|| Error::internal(format!("an entry of the journal has the unknown kind {kind}")))?,
        channel: get(row, 3)?,
        bucket: 0,
        at: Timestamp::from_millis(get(row, 4)?),
        interactive: get::<i16>(row, 5)? != 0,
        head: get(row, 6)?,
        raw: get::<Option<_>>(row, 7)?.unwrap_or_default(),
        wrap: get(row, 8)?,
        applied_wrap: None,
    })
}

fn pending_entry(row: &Row) -> Result<StoredEntry> {
    Ok(StoredEntry { bucket: u8::try_from(get::<i16>(row, 9)?).unwrap_or_default(), ..entry(row)? })
}

pub(super) fn with_applied(row: &Row) -> Result<StoredFound> {
    let (apply_no, bundle): (Option<i64>, Option<String>) = (get(row, 9)?, get(row, 10)?);
    let applied = apply_no.map(|apply_no| AppliedRow { apply_no, bundle: bundle.unwrap_or_default(), facts: None });
    let entry = StoredEntry { applied_wrap: get(row, 12)?, ..entry(row)? };
    Ok(StoredFound { entry, applied, facts: get(row, 11)? })
}

/// The wraps of entries that are to be applied.
pub(super) async fn wraps(readers: &Readers, positions: &[i64]) -> Result<Vec<(i64, EntryId, Vec<u8>)>> {
    let sql = "SELECT position, id, wrap FROM entry WHERE position = ANY($1) AND wrap != ''::bytea";
    all(readers.rows(sql, &[&positions]).await?, |row| {
        Ok((get(row, 0)?, EntryId::from_bytes(id16(row, 1)?), get(row, 2)?))
    })
}

impl PgJournal {
    async fn find(&self, column: &str, key: [u8; 16]) -> Result<Option<FoundEntry>> {
        let sql = format!(
            "SELECT {ENTRY}, a.apply_no, b.hash, a.facts, a.wrap FROM entry e
             LEFT JOIN applied a ON a.position = e.position LEFT JOIN bundle b ON b.no = a.bundle
             WHERE e.{column} = $1"
        );
        let found = first(self.readers.rows(&sql, &[&key.as_slice()]).await?, with_applied)?;
        self.codec.open_one(found).await
    }
}

impl Journal for PgJournal {
    fn append(&self, entry: NewEntry) -> BoxFuture<'static, Result<Appended>> {
        match self.codec.seal_entry(&entry) {
            Ok(sealed) => self.writer.append(entry, sealed),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
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
            let sql = format!("{PENDING} WHERE p.position > $1 AND {by_channel} ORDER BY p.position LIMIT $2");
            let rows = self.readers.rows(&sql, &[&after, &(limit as i64), &channel]).await?;
            self.codec.open_all(all(rows, pending_entry)?).await
        }
        .boxed()
    }

    fn mine(&self, interactive: bool, limit: usize) -> BoxFuture<'_, Result<Vec<i64>>> {
        let mask = self.writer.nodes.mask();
        async move {
            let which = if interactive { "interactive AND" } else { "" };
            let sql = format!(
                "SELECT position FROM pending
                 WHERE {which} get_bit($1::bytea, (key & 255)::int4) = 1 ORDER BY position LIMIT $2"
            );
            all(self.readers.rows(&sql, &[&mask.as_slice(), &(limit as i64)]).await?, |row| get(row, 0))
        }
        .boxed()
    }

    fn pending_at(&self, positions: Vec<i64>) -> BoxFuture<'_, Result<(Vec<Entry>, usize)>> {
        async move {
            let sql = format!("{PENDING} WHERE p.position = ANY($1) ORDER BY p.position");
            let wanted: Vec<Param<'static>> = vec![Box::new(positions.clone())];
            let read =
                self.readers.with(|session| async move { session.some_rows(&sql, &wanted, READ_BYTES).await }.boxed());
            let rows = read.await?;
            let cut = rows.iter().map(Row::raw_size_bytes).sum::<usize>() >= READ_BYTES;
            let found = all(rows, pending_entry)?;
            let last = found.last().map(|entry| entry.position).filter(|_| cut);
            let looked = last.map_or(positions.len(), |last| positions.partition_point(|position| *position <= last));
            Ok((self.codec.open_all(found).await?, looked))
        }
        .boxed()
    }

    fn before<'a>(&'a self, entry: &'a Entry, limit: usize) -> BoxFuture<'a, Result<Vec<Entry>>> {
        async move {
            let sql = format!(
                "{PENDING} WHERE p.position IN (
                     SELECT earlier.position FROM pending own,
                            LATERAL unnest(array_prepend(own.key, own.more)) AS k (key),
                            LATERAL (SELECT o.position FROM pending o WHERE o.key = k.key AND o.position < own.position
                                     UNION ALL
                                     SELECT m.position FROM pending_more m
                                      WHERE m.key = k.key AND m.position < own.position) AS earlier
                      WHERE own.position = $1)
                 ORDER BY p.position LIMIT $2"
            );
            let rows = self.readers.rows(&sql, &[&entry.position, &(limit as i64)]).await?;
            self.codec.open_all(all(rows, pending_entry)?).await
        }
        .boxed()
    }

    fn others(&self) -> Arc<tokio::sync::Notify> {
        self.writer.nodes.entries.clone()
    }

    fn entry(&self, id: EntryId) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        async move { self.find("id", *id.as_bytes()).await }.boxed()
    }

    fn entry_by_key(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        async move { self.find("delivery", self.codec.blind(&key)).await }.boxed()
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
