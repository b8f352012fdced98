//! The journal on SQLite.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row};

use super::keys::{Key, Keys};
use super::read::Readers;
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Result, Timestamp};
use crate::model::{Entry, EntryKind};
use crate::store::seal::stored::{StoredEntry, StoredFound};
use crate::store::seal::{Codec, SealedEntry};
use crate::store::{Appended, AppliedRow, FoundEntry, Journal, NewEntry, READ_BYTES, Tail};

pub(super) struct SqliteJournal {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) keys: Arc<Keys>,
    pub(super) codec: Arc<Codec>,
}

/// Appends inside the writer's transaction. Gives no entry if it was there already.
pub(super) fn append(
    connection: &Connection,
    keys: &Keys,
    entry: NewEntry,
    sealed: &SealedEntry,
) -> rusqlite::Result<(Appended, Option<Entry>)> {
    if let Some(key) = &sealed.key
        && let Some(position) = keys.find(connection, Key::delivery(key))?
    {
        let id = connection
            .prepare_cached("SELECT id FROM entry WHERE position = ?1")?
            .query_row([position], |row| row.get::<_, [u8; 16]>(0))?;
        return Ok((Appended { position, id: EntryId::from_bytes(id), repeat: true, here: false }, None));
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO entry (id, kind, channel, at, interactive, delivery, head, raw, wrap)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let position = insert.insert((
        entry.id.as_bytes().as_slice(),
        entry.kind as u8,
        &entry.channel,
        entry.at.millis(),
        entry.interactive,
        sealed.key.as_ref().map(|key| key.as_slice()),
        &sealed.head,
        &sealed.raw,
        &sealed.wrap,
    ))?;
    if let Some(key) = &sealed.key {
        keys.add(connection, Key::delivery(key), position)?;
    }
    connection
        .prepare_cached("INSERT INTO pending (position, channel) VALUES (?1, ?2)")?
        .execute((position, &entry.channel))?;
    let appended = Appended { position, id: entry.id, repeat: false, here: true };
    let entry = Entry {
        position,
        id: entry.id,
        kind: entry.kind,
        channel: entry.channel,
        bucket: 0,
        at: entry.at,
        interactive: entry.interactive,
        body: entry.body,
    };
    Ok((appended, Some(entry)))
}

pub(super) const ENTRY: &str = "e.position, e.id, e.kind, e.channel, e.at, e.interactive, e.head, e.raw, e.wrap";

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    let kind: u8 = row.get(2)?;
    let kind = EntryKind::from_number(kind).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, kind.into()))?;
    Ok(StoredEntry {
        position: row.get(0)?,
        id: EntryId::from_bytes(row.get(1)?),
        kind,
        channel: row.get(3)?,
        bucket: 0,
        at: Timestamp::from_millis(row.get(4)?),
        interactive: row.get(5)?,
        head: row.get(6)?,
        raw: row.get::<_, Option<_>>(7)?.unwrap_or_default(),
        wrap: row.get(8)?,
        applied_wrap: None,
    })
}

pub(super) fn with_applied(row: &Row<'_>) -> rusqlite::Result<StoredFound> {
    let apply_no: Option<i64> = row.get(9)?;
    let bundle: Option<String> = row.get(10)?;
    let applied = apply_no.map(|apply_no| AppliedRow { apply_no, bundle: bundle.unwrap_or_default(), facts: None });
    let entry = StoredEntry { applied_wrap: row.get(12)?, ..entry(row)? };
    Ok(StoredFound { entry, applied, facts: row.get(11)? })
}

fn find(connection: &Connection, column: &str, key: impl rusqlite::ToSql) -> rusqlite::Result<Option<StoredFound>> {
    let sql = format!(
        "SELECT {ENTRY}, a.apply_no, b.hash, a.facts, a.wrap FROM entry e
         LEFT JOIN applied a ON a.position = e.position LEFT JOIN bundle b ON b.no = a.bundle
         WHERE e.{column} = ?1"
    );
    connection.prepare_cached(&sql)?.query_row([key], with_applied).optional()
}

/// The wraps of entries that are to be applied.
pub(super) fn wraps(connection: &Connection, positions: &[i64]) -> rusqlite::Result<Vec<(i64, EntryId, Vec<u8>)>> {
    let mut select = connection.prepare_cached("SELECT id, wrap FROM entry WHERE position = ?1 AND wrap != x''")?;
    let wrap = |position: &i64| {
        select.query_row([position], |row| Ok((*position, EntryId::from_bytes(row.get(0)?), row.get(1)?))).optional()
    };
    Ok(positions.iter().map(wrap).collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

impl Journal for SqliteJournal {
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
        self.readers.opened(&self.codec, move |connection| {
            let by_channel = if channel.is_some() { "AND p.channel = ?3" } else { "AND ?3 IS NULL" };
            let sql = format!(
                "SELECT {ENTRY} FROM pending p JOIN entry e ON e.position = p.position
                 WHERE p.position > ?1 {by_channel} ORDER BY p.position LIMIT ?2"
            );
            let mut select = connection.prepare_cached(&sql)?;
            select.query_map((after, limit as i64, &channel), entry)?.collect()
        })
    }

    fn mine(&self, interactive: bool, limit: usize) -> BoxFuture<'_, Result<Vec<i64>>> {
        self.readers.apart(move |connection| {
            let sql = "SELECT p.position FROM pending p JOIN entry e ON e.position = p.position
                       WHERE e.interactive OR NOT ?1 ORDER BY p.position LIMIT ?2";
            connection.prepare_cached(sql)?.query_map((interactive, limit as i64), |row| row.get(0))?.collect()
        })
    }

    fn pending_at(&self, positions: Vec<i64>) -> BoxFuture<'_, Result<(Vec<Entry>, usize)>> {
        let read = self.readers.apart(move |connection| {
            let sql =
                format!("SELECT {ENTRY} FROM pending p JOIN entry e ON e.position = p.position WHERE p.position = ?1");
            let mut select = connection.prepare_cached(&sql)?;
            let (mut found, mut looked, mut bytes) = (Vec::new(), 0, 0);
            for position in positions {
                if bytes >= READ_BYTES {
                    break;
                }
                looked += 1;
                if let Some(entry) = select.query_row([position], entry).optional()? {
                    bytes += entry.head.len() + entry.raw.len();
                    found.push(entry);
                }
            }
            Ok((found, looked))
        });
        async move {
            let (found, looked) = read.await?;
            Ok((self.codec.open_all(found).await?, looked))
        }
        .boxed()
    }

    fn before<'a>(&'a self, entry: &'a Entry, limit: usize) -> BoxFuture<'a, Result<Vec<Entry>>> {
        // Keys are not kept here: the backlog of its channel must do.
        self.pending(0, Some(entry.channel.clone()), limit)
    }

    fn others(&self) -> Arc<tokio::sync::Notify> {
        Arc::default()
    }

    fn entry(&self, id: EntryId) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        let found = self.readers.apart(move |connection| find(connection, "id", id.as_bytes().as_slice()));
        async move { self.codec.open_one(found.await?).await }.boxed()
    }

    fn entry_by_key(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        // A few microseconds on an indexed row: cheaper here than handed to another thread.
        async move {
            let key = Key::delivery(&self.codec.blind(&key));
            let found = self.readers.with(|connection| match self.keys.find(connection, key)? {
                Some(position) => find(connection, "position", position),
                None => Ok(None),
            })?;
            self.codec.open_one(found).await
        }
        .boxed()
    }

    fn pending_count(&self) -> BoxFuture<'_, Result<u64>> {
        self.readers.apart(|connection| {
            connection
                .prepare_cached("SELECT count(*) FROM pending")?
                .query_row([], |row| row.get::<_, i64>(0))
                .map(|count| count.max(0) as u64)
        })
    }

    fn healthy(&self) -> bool {
        self.writer.healthy()
    }
}
