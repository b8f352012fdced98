//! Pruning in batches, on SQLite.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::Connection;

use super::keys::{Key, Keys};
use super::read::Readers;
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Result, Timestamp};
use crate::model::EntryKind;
use crate::store::seal::{Codec, DayEntry, Unmatched};
use crate::store::{Cutoffs, Retention};

pub(super) struct SqliteRetention {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) keys: Arc<Keys>,
    pub(super) codec: Arc<Codec>,
}

impl SqliteRetention {
    /// Wraps the keys of entries that no customer owns by that of the house, then destroys the keys of days past.
    fn end_days(&self, batch: usize) -> BoxFuture<'static, Result<u64>> {
        let (writer, readers, codec) = (self.writer.clone(), self.readers.clone(), self.codec.clone());
        async move {
            let from = readers.with(|connection| came_to(connection, "days"))?;
            let page = readers.with(|connection| days(connection, from, batch))?;
            let found = codec.unmatched(page, from, batch).await?;
            let last = found.last;
            if found.to > from {
                writer.job(move |connection| write_days(connection, &found)).await?;
            }
            if last {
                codec.destroy_days(codec.day_past()).await?;
            }
            Ok(u64::from(!last))
        }
        .boxed()
    }
}

fn came_to(connection: &Connection, class: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce((SELECT position FROM pruned WHERE class = ?1), 0)";
    connection.prepare_cached(sql)?.query_row([class], |row| row.get(0))
}

fn come_to(connection: &Connection, class: &str, position: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO pruned (class, position) VALUES (?1, ?2)
             ON CONFLICT (class) DO UPDATE SET position = excluded.position",
        )?
        .execute((class, position))?;
    Ok(())
}

fn days(connection: &Connection, from: i64, batch: usize) -> rusqlite::Result<Vec<DayEntry>> {
    connection
        .prepare_cached(
            "SELECT e.position, e.id, e.wrap, a.wrap IS NOT NULL FROM entry e
             LEFT JOIN applied a ON a.position = e.position WHERE e.position > ?1 ORDER BY e.position LIMIT ?2",
        )?
        .query_map((from, batch as i64), |row| {
            Ok((row.get(0)?, EntryId::from_bytes(row.get(1)?), row.get(2)?, row.get(3)?))
        })?
        .collect()
}

fn write_days(connection: &Connection, found: &Unmatched) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE entry SET wrap = ?2 WHERE position = ?1")?;
    for (position, wrap) in &found.wraps {
        update.execute((position, wrap))?;
    }
    come_to(connection, "days", found.to)
}

impl Retention for SqliteRetention {
    fn prune(&self, before: Cutoffs, batch: usize) -> BoxFuture<'static, Result<u64>> {
        let (keys, days) = (self.keys.clone(), self.end_days(batch));
        let pruned = self.writer.job(move |connection| {
            // What waits in quarantine keeps its original until somebody has looked at it.
            let spared = "position NOT IN (SELECT position FROM quarantine)";
            let raw = walk(connection, "raw", (before.raw.millis(), before.covered), batch, |from, to| {
                connection
                    .prepare_cached(&format!(
                        "UPDATE entry SET head = x'', raw = NULL WHERE position > ?1 AND position <= ?2 AND {spared}"
                    ))?
                    .execute((from, to))
            })?;
            // A folder whose UIDs are given anew shows mails of any age once more.
            let forgotten = format!("position > ?1 AND position <= ?2 AND kind <> {}", EntryKind::Mail as u8);
            let dedupe = walk(connection, "dedupe", (before.dedupe.millis(), i64::MAX), batch, |from, to| {
                connection
                    .prepare_cached(&format!("SELECT delivery FROM entry WHERE {forgotten} AND delivery IS NOT NULL"))?
                    .query_map((from, to), |row| row.get::<_, [u8; 16]>(0))?
                    .try_for_each(|key| keys.forget(connection, Key::delivery(&key?)))?;
                connection
                    .prepare_cached(&format!("UPDATE entry SET delivery = NULL WHERE {forgotten}"))?
                    .execute((from, to))
            })?;
            let events = connection
                .prepare_cached(
                    "DELETE FROM event WHERE no IN (
                         SELECT e.no FROM event e WHERE e.at < ?1
                            AND NOT EXISTS (SELECT 1 FROM due d WHERE d.event = e.no)
                            AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.event = e.no)
                            AND e.no < (SELECT max(no) FROM event)
                            AND e.no <= coalesce((SELECT min(event) FROM settled), e.no)
                         ORDER BY e.no LIMIT ?2)",
                )?
                .execute((before.events.millis(), batch as i64))?;
            Ok((raw + dedupe + events) as u64)
        });
        async move { Ok(pruned.await? + days.await?) }.boxed()
    }

    fn waits_for_checkpoint(&self, raw: Timestamp, covered: i64) -> BoxFuture<'_, Result<bool>> {
        self.readers.apart(move |connection| {
            let from = came_to(connection, "raw")?;
            let sql =
                format!("SELECT EXISTS (SELECT 1 FROM ({OLD}) o JOIN applied a USING (position) WHERE apply_no > ?4)");
            connection.prepare_cached(&sql)?.query_row((from, raw.millis(), 1, covered), |row| row.get(0))
        })
    }

    fn forget_events(&self, events: Vec<i64>, before: Timestamp) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM event WHERE no = ?1 AND at < ?2")?;
            let gone: rusqlite::Result<usize> = events.iter().map(|no| delete.execute((no, before.millis()))).sum();
            Ok(gone? as u64)
        })
    }

    fn empty(&self, entries: Vec<EntryId>) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(move |connection| {
            // The keys go too, so that what may be left of it on the disk stays closed.
            let mut update = connection.prepare_cached(
                "UPDATE entry SET head = x'', raw = NULL, wrap = x'00' WHERE id = ?1 AND head <> x''
                    AND position IN (SELECT position FROM applied)",
            )?;
            let mut wrap = connection.prepare_cached(
                "UPDATE applied SET wrap = x'00'
                  WHERE wrap IS NOT NULL AND position = (SELECT position FROM entry WHERE id = ?1)",
            )?;
            let mut emptied = 0;
            for id in &entries {
                let changed = update.execute([id.as_bytes()])?;
                if changed > 0 {
                    wrap.execute([id.as_bytes()])?;
                    emptied += 1;
                }
            }
            Ok(emptied)
        })
    }
}

/// The next entries after a position that are old enough. The walk stops at the first one that is still pending or too
/// young, so that nothing is passed over.
const OLD: &str = "SELECT position FROM entry WHERE position > ?1 AND at < ?2
     AND position < coalesce((SELECT min(position) FROM pending), 9223372036854775807) ORDER BY position LIMIT ?3";

/// Takes the next entries of a class that are old enough and were applied by number `covered`, and empties what the class
/// covers.
fn walk(
    connection: &Connection,
    class: &str,
    (before, covered): (i64, i64),
    batch: usize,
    empty: impl FnOnce(i64, i64) -> rusqlite::Result<usize>,
) -> rusqlite::Result<usize> {
    let from = came_to(connection, class)?;
    let sql = format!(
        "WITH old AS ({OLD})
         SELECT coalesce(max(position), ?1) FROM old WHERE position < coalesce(
             (SELECT min(position) FROM old JOIN applied USING (position) WHERE apply_no > ?4), 9223372036854775807)"
    );
    let to: i64 =
        connection.prepare_cached(&sql)?.query_row((from, before, batch as i64, covered), |row| row.get(0))?;
    if to <= from {
        return Ok(0);
    }
    let changed = empty(from, to)?;
    come_to(connection, class, to)?;
    // Counted as at least one row, so that a batch of spared rows does not end the round.
    Ok(changed.max(1))
}
