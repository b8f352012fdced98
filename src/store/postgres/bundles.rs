//! Bundles and the past, on PostgreSQL. Content is written in [`keep`] and read in [`content`], and nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_postgres::Row;

use super::feed::TELL_BUNDLE;
use super::journal::{ENTRY, entry, with_applied};
use super::judge::bytes16;
use super::read::{Readers, all, first, get};
use super::session::{PgError, Session, failed};
use super::writer::Writer;
use super::written::text;
use crate::base::{Error, Result, Timestamp};
use crate::store::bundles::PUBLICATIONS;
use crate::store::code::ENGINE;
use crate::store::seal::stored::{StoredBundle, StoredEntry};
use crate::store::seal::{Codec, Column};
use crate::store::{BundleRow, Bundles, History, NewPublication, PastApplied, PastEntry, Publication, history};

pub(super) struct PgBundles {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

const LATEST: &str = "SELECT version, hash, at, by, engine FROM publication ORDER BY version DESC LIMIT $1";

async fn keep(session: &Session, hash: &str, sealed: &[u8]) -> std::result::Result<(), PgError> {
    let sql = "INSERT INTO bundle AS b (hash, content, used) VALUES ($1, $2, 0)
         ON CONFLICT (hash) DO UPDATE SET content = excluded.content WHERE b.content IS NULL";
    session.run(sql, &[&hash, &sealed]).await?;
    Ok(())
}

fn content(row: &Row) -> Result<StoredBundle> {
    Ok(StoredBundle { hash: get(row, 0)?, content: get(row, 1)? })
}

fn publication(row: &Row) -> std::result::Result<Publication, PgError> {
    Ok(Publication {
        version: row.try_get(0)?,
        hash: row.try_get(1)?,
        at: Timestamp::from_millis(row.try_get(2)?),
        by: row.try_get(3)?,
        engine: row.try_get(4)?,
    })
}

/// Publishes, unless this call did so before or the bundle rules already. The lock makes publications one after another,
/// so that versions are in the order of commits.
async fn publish(session: &Session, new: &NewPublication) -> std::result::Result<Option<Publication>, PgError> {
    session.plain("LOCK TABLE publication IN SHARE ROW EXCLUSIVE MODE").await?;
    let own = "SELECT version, hash, at, by, engine FROM publication WHERE id = $1";
    if let Some(row) = session.row(own, &[&new.id.as_slice()]).await? {
        return publication(&row).map(Some);
    }
    if let Some(row) = session.row(LATEST, &[&1i64]).await? {
        let current = publication(&row)?;
        if current.hash == new.hash {
            return Ok(Some(current));
        }
    }
    let sql = "INSERT INTO publication (id, hash, at, by, engine) VALUES ($1, $2, $3, $4, $5)
         RETURNING version, hash, at, by, engine";
    let by = text(&new.by);
    let row = session.row(sql, &[&new.id.as_slice(), &new.hash, &new.at.millis(), &by.as_ref(), &ENGINE]).await?;
    session
        .run("DELETE FROM publication WHERE version <= (SELECT max(version) FROM publication) - $1", &[&PUBLICATIONS])
        .await?;
    session.plain(TELL_BUNDLE).await?;
    row.as_ref().map(publication).transpose()
}

impl Bundles for PgBundles {
    fn put(&self, hash: String, content: Bytes) -> BoxFuture<'static, Result<()>> {
        let sealed = match self.codec.seal_house(Column::Bundle, hash.as_bytes(), &content) {
            Ok(sealed) => Bytes::from(sealed),
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        self.writer.job(move |session| {
            let (hash, sealed) = (hash.clone(), sealed.clone());
            async move { keep(session, &hash, &sealed).await }.boxed()
        })
    }

    fn get(&self, hash: String) -> BoxFuture<'_, Result<Option<Bytes>>> {
        async move {
            let sql = "SELECT hash, content FROM bundle WHERE hash = $1 AND content IS NOT NULL";
            let found = first(self.readers.rows(sql, &[&hash]).await?, content)?;
            self.codec.open_one(found).await
        }
        .boxed()
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<BundleRow>>> {
        async move {
            let sql = "SELECT hash, length(content)::int8, used FROM bundle ORDER BY no DESC";
            all(self.readers.rows(sql, &[]).await?, |row| {
                let bytes = get::<Option<i64>>(row, 1)?.map(i64::unsigned_abs);
                Ok(BundleRow { hash: get(row, 0)?, bytes, applied: get::<i16>(row, 2)? != 0 })
            })
        }
        .boxed()
    }

    fn publish(&self, new: NewPublication) -> BoxFuture<'static, Result<Publication>> {
        let published = self.writer.job(move |session| {
            let new = new.clone();
            async move { publish(session, &new).await }.boxed()
        });
        let feed = self.writer.feed.clone();
        async move {
            let published = published.await?.ok_or_else(|| Error::internal("a publication has no version"))?;
            feed.published();
            Ok(published)
        }
        .boxed()
    }

    fn current(&self) -> BoxFuture<'_, Result<Option<Publication>>> {
        async move {
            let rows = self.readers.rows(LATEST, &[&1i64]).await?;
            rows.first().map(publication).transpose().map_err(|e| failed(&e))
        }
        .boxed()
    }

    fn publications(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Publication>>> {
        async move {
            let rows = self.readers.rows(LATEST, &[&(limit as i64)]).await?;
            rows.iter().map(publication).collect::<std::result::Result<_, _>>().map_err(|e| failed(&e))
        }
        .boxed()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.writer.feed.bundles.subscribe()
    }

    fn prune(&self) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(|session| {
            async move {
                // A bundle that was put a moment ago is about to be published, perhaps by another node: the newest stays.
                let sql = "DELETE FROM bundle b WHERE b.used = 0 AND b.no < (SELECT max(no) FROM bundle)
                           AND NOT EXISTS (SELECT 1 FROM publication p WHERE p.hash = b.hash)";
                session.run(sql, &[]).await
            }
            .boxed()
        })
    }
}

pub(super) struct PgHistory {
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

impl History for PgHistory {
    fn applied(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastApplied>>> {
        async move {
            let sql = format!(
                "SELECT {ENTRY}, a.apply_no, b.hash, a.facts, a.wrap, a.engine FROM applied a
                 JOIN bundle b ON b.no = a.bundle JOIN entry e ON e.position = a.position
                 WHERE a.apply_no > $1 ORDER BY a.apply_no LIMIT $2"
            );
            let page = all(self.readers.rows(&sql, &[&after, &(limit as i64)]).await?, |row| {
                Ok((with_applied(row)?, get(row, 13)?))
            })?;
            history::open_applied(&self.codec, page).await
        }
        .boxed()
    }

    fn entries(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastEntry>>> {
        async move {
            let sql = format!(
                "SELECT {ENTRY}, a.wrap, e.delivery FROM entry e LEFT JOIN applied a ON a.position = e.position
                 WHERE e.position > $1 ORDER BY e.position LIMIT $2"
            );
            let page = all(self.readers.rows(&sql, &[&after, &(limit as i64)]).await?, |row| {
                let key = get::<Option<&[u8]>>(row, 10)?.map(|_| bytes16(row, 10)).transpose();
                let key = key.map_err(|e| failed(&e))?;
                Ok((StoredEntry { applied_wrap: get(row, 9)?, ..entry(row)? }, key))
            })?;
            history::open_entries(&self.codec, page).await
        }
        .boxed()
    }

    fn ends(&self) -> BoxFuture<'_, Result<(i64, i64)>> {
        async move {
            let sql = "SELECT (SELECT coalesce(max(apply_no), 0) FROM applied),
                              (SELECT coalesce(max(position), 0) FROM entry)";
            let ends = first(self.readers.rows(sql, &[]).await?, |row| Ok((get(row, 0)?, get(row, 1)?)))?;
            Ok(ends.unwrap_or_default())
        }
        .boxed()
    }
}
