//! The tables that lead to large content, on SQLite.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row};

use super::read::Readers;
use super::state::{INTERACTION, interaction};
use super::writer::Writer;
use crate::base::{Result, Timestamp};
use crate::model::EntryKind;
use crate::store::blob::{BlobName, Object};
use crate::store::seal::Codec;
use crate::store::{BlobRow, BlobRows, BlobUse, Claim, InteractionRow, code};

pub(super) struct SqliteBlobs {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

const BLOB: &str = "name, object, customer, size, made_at";

fn blob(row: &Row<'_>) -> rusqlite::Result<BlobRow> {
    Ok(BlobRow {
        name: BlobName(row.get(0)?),
        object: Object(row.get(1)?),
        customer: row.get(2)?,
        size: row.get(3)?,
        made_at: Timestamp::from_millis(row.get(4)?),
    })
}

/// Writes what a part names.
pub(super) fn write_use(connection: &Connection, used: &BlobUse) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO blob_use (interaction, part, name) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute((used.interaction, used.part as i64, used.name.0.as_slice()))?;
    Ok(())
}

fn loosen(connection: &Connection, object: Object, at: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO loose (object, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute((object.0.as_slice(), at))?;
    Ok(())
}

fn forget(connection: &Connection, object: Object) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM loose WHERE object = ?1")?.execute([object.0.as_slice()])?;
    Ok(())
}

fn claim(connection: &Connection, new: &BlobRow) -> rusqlite::Result<Claim> {
    let holder: Option<[u8; 16]> = connection
        .prepare_cached("UPDATE blob SET made_at = max(made_at, ?2) WHERE name = ?1 RETURNING object")?
        .query_row((new.name.0.as_slice(), new.made_at.millis()), |row| row.get(0))
        .optional()?;
    match holder {
        Some(holder) if holder == new.object.0 => return Ok(Claim::Ours),
        Some(_) => return Ok(Claim::Known),
        None => {}
    }
    let spared = connection
        .prepare_cached("DELETE FROM loose WHERE object = ?1 AND at > 0")?
        .execute([new.object.0.as_slice()])?;
    if spared == 0 {
        return Ok(Claim::Gone);
    }
    connection
        .prepare_cached("INSERT INTO blob (name, object, customer, size, made_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((new.name.0.as_slice(), new.object.0.as_slice(), new.customer, new.size, new.made_at.millis()))?;
    Ok(Claim::Ours)
}

fn condemn(connection: &Connection, before: i64, limit: i64) -> rusqlite::Result<Vec<Object>> {
    let found = |row: &Row<'_>| row.get(0).map(Object);
    let unnamed: Vec<Object> = connection
        .prepare_cached(
            "DELETE FROM blob WHERE name IN (
                 SELECT b.name FROM blob b WHERE b.made_at < ?1
                    AND NOT EXISTS (SELECT 1 FROM blob_use u WHERE u.name = b.name)
                    AND NOT EXISTS (SELECT 1 FROM pending p JOIN entry e ON e.position = p.position
                                     WHERE e.kind = ?3 AND e.at < ?1 + ?4)
                  ORDER BY b.made_at LIMIT ?2)
             RETURNING object",
        )?
        .query_map((before, limit, EntryKind::Media as i64, code::TELLS_WITHIN), found)?
        .collect::<rusqlite::Result<_>>()?;
    for object in unnamed {
        loosen(connection, object, 0)?;
    }
    connection
        .prepare_cached(
            "UPDATE loose SET at = 0 WHERE object IN (SELECT object FROM loose WHERE at < ?1 ORDER BY at LIMIT ?2)
             RETURNING object",
        )?
        .query_map((before, limit), found)?
        .collect()
}

impl BlobRows for SqliteBlobs {
    fn announce(&self, object: Object, at: Timestamp) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| loosen(connection, object, at.millis()))
    }

    fn claim(&self, new: BlobRow) -> BoxFuture<'static, Result<Claim>> {
        self.writer.job(move |connection| claim(connection, &new))
    }

    fn blob(&self, name: BlobName) -> BoxFuture<'_, Result<Option<BlobRow>>> {
        self.readers.apart(move |connection| {
            let sql = format!("SELECT {BLOB} FROM blob WHERE name = ?1");
            connection.prepare_cached(&sql)?.query_row([name.0.as_slice()], blob).optional()
        })
    }

    fn used_by(&self, interaction: i64, part: usize) -> BoxFuture<'_, Result<Option<BlobName>>> {
        self.readers.apart(move |connection| {
            connection
                .prepare_cached(
                    "SELECT u.name FROM blob_use u JOIN blob b ON b.name = u.name
                      WHERE u.interaction = ?1 AND u.part = ?2 ORDER BY b.made_at DESC LIMIT 1",
                )?
                .query_row((interaction, part as i64), |row| row.get(0).map(BlobName))
                .optional()
        })
    }

    fn adopt(&self, used: BlobUse) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| write_use(connection, &used))
    }

    fn drop_blob(&self, name: BlobName) -> BoxFuture<'static, Result<Option<Object>>> {
        self.writer.job(move |connection| {
            connection.prepare_cached("DELETE FROM blob_use WHERE name = ?1")?.execute([name.0.as_slice()])?;
            let object = connection
                .prepare_cached("DELETE FROM blob WHERE name = ?1 RETURNING object")?
                .query_row([name.0.as_slice()], |row| row.get(0).map(Object))
                .optional()?;
            object.iter().try_for_each(|object| loosen(connection, *object, 0))?;
            Ok(object)
        })
    }

    fn condemn(&self, before: Timestamp, limit: usize) -> BoxFuture<'static, Result<Vec<Object>>> {
        self.writer.job(move |connection| condemn(connection, before.millis(), limit as i64))
    }

    fn forget(&self, objects: Vec<Object>) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| objects.iter().try_for_each(|object| forget(connection, *object)))
    }

    fn interactions(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        self.readers.opened(&self.codec, move |connection| {
            let sql = format!("SELECT {INTERACTION} FROM interaction i WHERE i.no > ?1 ORDER BY i.no LIMIT ?2");
            connection.prepare_cached(&sql)?.query_map((after, limit as i64), interaction)?.collect()
        })
    }
}
