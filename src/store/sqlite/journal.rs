//! The journal on SQLite.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row};

use super::keys::{Key, Keys};
use super::read::Readers;
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Result, Timestamp};
use crate::model::{Entry, EntryBody, EntryKind};
use crate::store::{Appended, AppliedRow, FoundEntry, Journal, NewEntry, Tail, code};

pub(super) struct SqliteJournal {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) keys: Arc<Keys>,
}

/// Appends inside the writer's transaction. Gives no entry if it was there already.
pub(super) fn append(
    connection: &Connection,
    keys: &Keys,
    entry: NewEntry,
) -> rusqlite::Result<(Appended, Option<Entry>)> {
    if let Some(key) = &entry.key
        && let Some(position) = keys.find(connection, Key::delivery(key))?
    {
        let id = connection
            .prepare_cached("SELECT id FROM entry WHERE position = ?1")?
            .query_row([position], |row| row.get::<_, [u8; 16]>(0))?;
        return Ok((Appended { position, id: EntryId::from_bytes(id), repeat: true }, None));
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO entry (id, kind, channel, at, interactive, delivery, head, raw)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let position = insert.insert((
        entry.id.as_bytes().as_slice(),
        entry.kind as u8,
        &entry.channel,
        entry.at.millis(),
        entry.interactive,
        entry.key.as_ref().map(|key| key.as_slice()),
        entry.body.head.as_ref(),
        entry.body.raw.as_ref(),
    ))?;
    if let Some(key) = &entry.key {
        keys.add(connection, Key::delivery(key), position)?;
    }
    connection
        .prepare_cached("INSERT INTO pending (position, channel) VALUES (?1, ?2)")?
        .execute((position, &entry.channel))?;
    let appended = Appended { position, id: entry.id, repeat: false };
    let entry = Entry {
        position,
        id: entry.id,
        kind: entry.kind,
        channel: entry.channel,
        at: entry.at,
        interactive: entry.interactive,
        body: entry.body,
    };
    Ok((appended, Some(entry)))
}

pub(super) const ENTRY: &str = "e.position, e.id, e.kind, e.channel, e.at, e.interactive, e.head, e.raw";

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let kind: u8 = row.get(2)?;
    let kind = EntryKind::from_number(kind).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, kind.into()))?;
    Ok(Entry {
        position: row.get(0)?,
        id: EntryId::from_bytes(row.get(1)?),
        kind,
        channel: row.get(3)?,
        at: Timestamp::from_millis(row.get(4)?),
        interactive: row.get(5)?,
        body: EntryBody {
            head: Bytes::from(row.get::<_, Vec<u8>>(6)?),
            raw: Bytes::from(row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default()),
        },
    })
}

fn with_applied(row: &Row<'_>) -> rusqlite::Result<FoundEntry> {
    let applied = match row.get::<_, Option<i64>>(8)? {
        None => None,
        Some(apply_no) => Some(AppliedRow {
            apply_no,
            bundle: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
            facts: row.get::<_, Option<Vec<u8>>>(10)?.map(|facts| code::text(&facts)),
        }),
    };
    Ok((entry(row)?, applied))
}

fn find(connection: &Connection, column: &str, key: impl rusqlite::ToSql) -> rusqlite::Result<Option<FoundEntry>> {
    let sql = format!(
        "SELECT {ENTRY}, a.apply_no, b.hash, a.facts FROM entry e
         LEFT JOIN applied a ON a.position = e.position LEFT JOIN bundle b ON b.no = a.bundle
         WHERE e.{column} = ?1"
    );
    connection.prepare_cached(&sql)?.query_row([key], with_applied).optional()
}

impl Journal for SqliteJournal {
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
        self.readers.apart(move |connection| {
            let by_channel = if channel.is_some() { "AND p.channel = ?3" } else { "AND ?3 IS NULL" };
            let sql = format!(
                "SELECT {ENTRY} FROM pending p JOIN entry e ON e.position = p.position
                 WHERE p.position > ?1 {by_channel} ORDER BY p.position LIMIT ?2"
            );
            let mut select = connection.prepare_cached(&sql)?;
            select.query_map((after, limit as i64, &channel), entry)?.collect()
        })
    }

    fn entry(&self, id: EntryId) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        self.readers.apart(move |connection| find(connection, "id", id.as_bytes().as_slice()))
    }

    fn entry_by_key(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<FoundEntry>>> {
        // A few microseconds on an indexed row: cheaper here than handed to another thread.
        async move {
            self.readers.with(|connection| match self.keys.find(connection, Key::delivery(&key))? {
                Some(position) => find(connection, "position", position),
                None => Ok(None),
            })
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
