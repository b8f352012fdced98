//! Bundles and the past, on SQLite. Content is written in [`keep`] and read in [`content`], and nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::watch;

use super::journal::{ENTRY, entry, with_applied};
use super::read::Readers;
use super::writer::Writer;
use crate::base::{Result, Timestamp};
use crate::store::bundles::PUBLICATIONS;
use crate::store::code::ENGINE;
use crate::store::seal::stored::{StoredBundle, StoredEntry};
use crate::store::seal::{Codec, Column};
use crate::store::{BundleRow, Bundles, History, NewPublication, PastApplied, PastEntry, Publication, history};

pub(super) struct SqliteBundles {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) codec: Arc<Codec>,
}

fn keep(connection: &Connection, hash: &str, sealed: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO bundle (hash, content, used) VALUES (?1, ?2, 0)
             ON CONFLICT (hash) DO UPDATE SET content = coalesce(content, excluded.content)",
        )?
        .execute((hash, sealed))?;
    Ok(())
}

fn content(connection: &Connection, hash: &str) -> rusqlite::Result<Option<StoredBundle>> {
    connection
        .prepare_cached("SELECT hash, content FROM bundle WHERE hash = ?1 AND content IS NOT NULL")?
        .query_row([hash], |row| Ok(StoredBundle { hash: row.get(0)?, content: row.get(1)? }))
        .optional()
}

fn publication(row: &Row<'_>) -> rusqlite::Result<Publication> {
    Ok(Publication {
        version: row.get(0)?,
        hash: row.get(1)?,
        at: Timestamp::from_millis(row.get(2)?),
        by: row.get(3)?,
        engine: row.get(4)?,
    })
}

fn latest(connection: &Connection, limit: i64) -> rusqlite::Result<Vec<Publication>> {
    connection
        .prepare_cached("SELECT version, hash, at, by, engine FROM publication ORDER BY version DESC LIMIT ?1")?
        .query_map([limit], publication)?
        .collect()
}

impl Bundles for SqliteBundles {
    fn put(&self, hash: String, content: Bytes) -> BoxFuture<'static, Result<()>> {
        match self.codec.seal_house(Column::Bundle, hash.as_bytes(), &content) {
            Ok(sealed) => self.writer.job(move |connection| keep(connection, &hash, &sealed)),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn get(&self, hash: String) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let found = self.readers.apart(move |connection| content(connection, &hash));
        async move { self.codec.open_one(found.await?).await }.boxed()
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<BundleRow>>> {
        self.readers.apart(|connection| {
            connection
                .prepare_cached("SELECT hash, length(content), used FROM bundle ORDER BY no DESC")?
                .query_map([], |row| {
                    let bytes = row.get::<_, Option<i64>>(1)?.map(i64::unsigned_abs);
                    Ok(BundleRow { hash: row.get(0)?, bytes, applied: row.get(2)? })
                })?
                .collect()
        })
    }

    fn publish(&self, new: NewPublication) -> BoxFuture<'static, Result<Publication>> {
        let changed = self.changed.clone();
        let published = self.writer.job(move |connection| {
            if let Some(current) = latest(connection, 1)?.into_iter().next().filter(|current| current.hash == new.hash)
            {
                return Ok(current);
            }
            let version = connection
                .prepare_cached("INSERT INTO publication (hash, at, by, engine) VALUES (?1, ?2, ?3, ?4)")?
                .insert((&new.hash, new.at.millis(), &new.by, ENGINE))?;
            connection
                .prepare_cached("DELETE FROM publication WHERE version <= ?1")?
                .execute([version - PUBLICATIONS])?;
            let NewPublication { hash, at, by, .. } = new;
            Ok(Publication { version, hash, at, by, engine: ENGINE.to_owned() })
        });
        async move {
            let published = published.await?;
            changed.send_modify(|count| *count += 1);
            Ok(published)
        }
        .boxed()
    }

    fn current(&self) -> BoxFuture<'_, Result<Option<Publication>>> {
        self.readers.apart(|connection| Ok(latest(connection, 1)?.into_iter().next()))
    }

    fn publications(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Publication>>> {
        self.readers.apart(move |connection| latest(connection, limit as i64))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn prune(&self) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(|connection| {
            // The newest may be about to be published.
            let sql = "DELETE FROM bundle WHERE used = 0 AND no < (SELECT max(no) FROM bundle)
                       AND hash NOT IN (SELECT hash FROM publication)";
            connection.execute(sql, []).map(|gone| gone as u64)
        })
    }
}

pub(super) struct SqliteHistory {
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

impl History for SqliteHistory {
    fn applied(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastApplied>>> {
        let page = self.readers.apart(move |connection| {
            let sql = format!(
                "SELECT {ENTRY}, a.apply_no, b.hash, a.facts, a.wrap, a.engine FROM applied a
                 JOIN bundle b ON b.no = a.bundle JOIN entry e ON e.position = a.position
                 WHERE a.apply_no > ?1 ORDER BY a.apply_no LIMIT ?2"
            );
            connection
                .prepare_cached(&sql)?
                .query_map((after, limit as i64), |row| Ok((with_applied(row)?, row.get(13)?)))?
                .collect()
        });
        async move { history::open_applied(&self.codec, page.await?).await }.boxed()
    }

    fn entries(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastEntry>>> {
        let page = self.readers.apart(move |connection| {
            let sql = format!(
                "SELECT {ENTRY}, a.wrap, e.delivery FROM entry e LEFT JOIN applied a ON a.position = e.position
                 WHERE e.position > ?1 ORDER BY e.position LIMIT ?2"
            );
            connection
                .prepare_cached(&sql)?
                .query_map((after, limit as i64), |row| {
                    Ok((StoredEntry { applied_wrap: row.get(9)?, ..entry(row)? }, row.get(10)?))
                })?
                .collect()
        });
        async move { history::open_entries(&self.codec, page.await?).await }.boxed()
    }

    fn ends(&self) -> BoxFuture<'_, Result<(i64, i64)>> {
        self.readers.apart(|connection| {
            let sql = "SELECT (SELECT coalesce(max(apply_no), 0) FROM applied), (SELECT coalesce(max(position), 0) FROM entry)";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }
}
