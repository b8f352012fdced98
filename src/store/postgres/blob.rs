//! The tables that lead to large content, on PostgreSQL.
//!
//! Several nodes may give the same name at once: then the name's row decides, under its lock. A claim that made a blob young
//! takes it out of a deletion that was waiting for that row, since the deletion looks at the age again.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::judge::bytes16;
use super::read::{Readers, all, first, get, id16};
use super::session::{PgError, Session};
use super::state::{INTERACTION, interaction};
use super::writer::Writer;
use super::written::BLOB_USE;
use crate::base::{Error, Result, Timestamp};
use crate::model::EntryKind;
use crate::store::blob::{BlobName, Object};
use crate::store::seal::Codec;
use crate::store::{BlobRow, BlobRows, BlobUse, Claim, InteractionRow, code};

pub(super) struct PgBlobs {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

type Written<T> = std::result::Result<T, PgError>;

const LOOSEN: &str = "INSERT INTO loose (object, at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const FORGET: &str = "DELETE FROM loose WHERE object = ANY($1)";

fn name(row: &Row, column: usize) -> Result<BlobName> {
    let name = get::<&[u8]>(row, column)?.try_into();
    name.map(BlobName).map_err(|_| Error::internal("a row of the store cannot be read"))
}

fn blob(row: &Row) -> Result<BlobRow> {
    Ok(BlobRow {
        name: name(row, 0)?,
        object: Object(id16(row, 1)?),
        customer: get(row, 2)?,
        size: get(row, 3)?,
        made_at: Timestamp::from_millis(get(row, 4)?),
    })
}

/// Object names in a column.
fn objects(rows: &[Row]) -> Written<Vec<Object>> {
    rows.iter().map(|row| bytes16(row, 0).map(Object)).collect()
}

async fn claim(session: &Session, new: &BlobRow) -> Written<Claim> {
    let own = new.object.0.as_slice();
    let sql = "SELECT 1::int8 FROM loose WHERE object = $1 AND at > 0 FOR UPDATE";
    let there = session.row(sql, &[&own]).await?.is_some();
    let sql = "INSERT INTO blob AS b (name, object, customer, size, made_at)
               SELECT $1, $2, $3::int8, $4::int8, $5::int8 WHERE $6 OR EXISTS (SELECT 1 FROM blob WHERE name = $1)
               ON CONFLICT (name) DO UPDATE SET made_at = GREATEST(b.made_at, excluded.made_at) RETURNING object";
    let name = new.name.0.as_slice();
    let row = session.row(sql, &[&name, &own, &new.customer, &new.size, &new.made_at.millis(), &there]).await?;
    let Some(holder) = row.map(|row| bytes16(&row, 0)).transpose()? else { return Ok(Claim::Gone) };
    if holder != new.object.0 {
        return Ok(Claim::Known);
    }
    session.run(FORGET, &[&vec![own]]).await?;
    Ok(Claim::Ours)
}

async fn condemn(session: &Session, before: i64, limit: i64) -> Written<Vec<Object>> {
    let sql = "DELETE FROM blob b WHERE b.made_at < $1
                  AND NOT EXISTS (SELECT 1 FROM blob_use u WHERE u.name = b.name)
                  AND b.name IN (
                      SELECT c.name FROM blob c WHERE c.made_at < $1
                         AND NOT EXISTS (SELECT 1 FROM blob_use u WHERE u.name = c.name)
                         AND NOT EXISTS (SELECT 1 FROM pending p JOIN entry e ON e.position = p.position
                                          WHERE e.kind = $3 AND e.at < $1 + $4)
                       ORDER BY c.made_at LIMIT $2)
               RETURNING object";
    let kind = EntryKind::Media as i16;
    let rows = session.rows(sql, &[&before, &limit, &kind, &code::TELLS_WITHIN]).await?;
    for object in objects(&rows)? {
        session.run(LOOSEN, &[&object.0.as_slice(), &0i64]).await?;
    }
    let sql = "UPDATE loose SET at = 0 WHERE at < $1
                  AND object IN (SELECT object FROM loose WHERE at < $1 ORDER BY at LIMIT $2) RETURNING object";
    objects(&session.rows(sql, &[&before, &limit]).await?)
}

async fn drop_blob(session: &Session, name: BlobName) -> Written<Option<Object>> {
    let name = name.0.as_slice();
    session.run("DELETE FROM blob_use WHERE name = $1", &[&name]).await?;
    let row = session.row("DELETE FROM blob WHERE name = $1 RETURNING object", &[&name]).await?;
    let object = row.map(|row| bytes16(&row, 0)).transpose()?.map(Object);
    if let Some(object) = object {
        session.run(LOOSEN, &[&object.0.as_slice(), &0i64]).await?;
    }
    Ok(object)
}

impl BlobRows for PgBlobs {
    fn announce(&self, object: Object, at: Timestamp) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |session| {
            async move { session.run(LOOSEN, &[&object.0.as_slice(), &at.millis()]).await.map(drop) }.boxed()
        })
    }

    fn claim(&self, new: BlobRow) -> BoxFuture<'static, Result<Claim>> {
        self.writer.job(move |session| {
            let new = new.clone();
            async move { claim(session, &new).await }.boxed()
        })
    }

    fn blob(&self, name: BlobName) -> BoxFuture<'_, Result<Option<BlobRow>>> {
        async move {
            let sql = "SELECT name, object, customer, size, made_at FROM blob WHERE name = $1";
            first(self.readers.rows(sql, &[&name.0.as_slice()]).await?, blob)
        }
        .boxed()
    }

    fn used_by(&self, interaction: i64, part: usize) -> BoxFuture<'_, Result<Option<BlobName>>> {
        async move {
            let sql = "SELECT u.name FROM blob_use u JOIN blob b ON b.name = u.name
                        WHERE u.interaction = $1 AND u.part = $2 ORDER BY b.made_at DESC LIMIT 1";
            first(self.readers.rows(sql, &[&interaction, &(part as i64)]).await?, |row| name(row, 0))
        }
        .boxed()
    }

    fn adopt(&self, used: BlobUse) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |session| {
            async move {
                let name = vec![used.name.0.as_slice()];
                session.run(BLOB_USE, &[&vec![used.interaction], &vec![used.part as i64], &name]).await.map(drop)
            }
            .boxed()
        })
    }

    fn drop_blob(&self, name: BlobName) -> BoxFuture<'static, Result<Option<Object>>> {
        self.writer.job(move |session| async move { drop_blob(session, name).await }.boxed())
    }

    fn condemn(&self, before: Timestamp, limit: usize) -> BoxFuture<'static, Result<Vec<Object>>> {
        self.writer.job(move |session| async move { condemn(session, before.millis(), limit as i64).await }.boxed())
    }

    fn forget(&self, objects: Vec<Object>) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |session| {
            let objects: Vec<Vec<u8>> = objects.iter().map(|object| object.0.to_vec()).collect();
            async move { session.run(FORGET, &[&objects]).await.map(drop) }.boxed()
        })
    }

    fn interactions(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        async move {
            let sql = format!("SELECT {INTERACTION} FROM interaction i WHERE i.no > $1 ORDER BY i.no LIMIT $2");
            let rows = all(self.readers.rows(&sql, &[&after, &(limit as i64)]).await?, interaction)?;
            self.codec.open_all(rows).await
        }
        .boxed()
    }
}
