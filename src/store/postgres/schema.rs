//! The schema: numbered files, forward only, each in a transaction of its own under a lock that all nodes share.

use super::place::Place;
use super::sealing;
use super::session::{PgError, Session, failed};
use crate::base::{Error, Result};
use crate::store::Progress;
use crate::store::archive::{LOADING, half_loaded};
use crate::store::seal::Codec;

/// The files in order; the first makes schema 1.
const STEPS: [&str; 7] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];
/// The schema that this program reads and writes.
const NEWEST: i64 = STEPS.len() as i64;
/// The schema from which on personal data is sealed.
const SEALED: i64 = 2;
/// The advisory lock under which the schema changes: "segue" in ASCII.
pub(super) const LOCK: i64 = 0x0073_6567_7565;

/// Brings the schema up to date.
///
/// # Errors
///
/// `Config` if it is newer than this program or may not be made.
pub(super) async fn migrate(session: &Session, place: &Place, codec: &Codec, progress: &dyn Progress) -> Result<()> {
    migrate_to_fill(session, place, codec, progress).await?;
    if is_loading(session, place).await? { Err(half_loaded()) } else { Ok(()) }
}

/// Brings the schema up to date although the store may have been filled only in part.
///
/// # Errors
///
/// As [`migrate`].
pub(super) async fn migrate_to_fill(
    session: &Session,
    place: &Place,
    codec: &Codec,
    progress: &dyn Progress,
) -> Result<()> {
    let found = version(session, place).await?;
    if found == NEWEST {
        return Ok(());
    }
    session.plain("BEGIN").await.map_err(|e| failed(&e))?;
    let made = steps(session, place, codec, progress).await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    session.plain(end).await.map_err(|e| failed(&e))?;
    if made? {
        sealing::clean_up(session).await?;
    }
    Ok(())
}

/// Gives whether there was something to be sealed.
async fn steps(session: &Session, place: &Place, codec: &Codec, progress: &dyn Progress) -> Result<bool> {
    let refused = |e: PgError| failed(&e).context("the tables cannot be made");
    session
        .plain(&format!("SELECT pg_advisory_xact_lock({LOCK}); SET LOCAL statement_timeout TO 0"))
        .await
        .map_err(refused)?;
    // Another node may have been faster.
    let found = version(session, place).await?;
    if found == 0 && place.schema != "public" {
        session.plain(&format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", place.schema)).await.map_err(refused)?;
    }
    let old = found > 0 && found < SEALED;
    if old && codec.is_unused() {
        return Err(Error::config(
            "this store was written before personal data was sealed; start the gateway on it once",
        ));
    }
    for (step, number) in STEPS.iter().zip(1..) {
        if number > found {
            session.plain(step).await.map_err(refused)?;
            if number == SEALED && old {
                sealing::seal(session, codec, progress).await?;
            }
            let set = format!("UPDATE setting SET value = {number} WHERE name = 'schema'");
            session.plain(&set).await.map_err(refused)?;
        }
    }
    Ok(old)
}

/// Whether the store is there at all.
pub(super) async fn is_there(session: &Session, place: &Place) -> Result<bool> {
    has_table(session, place, "setting").await
}

/// Whether the store is being filled from elsewhere, and is not whole yet.
pub(super) async fn is_loading(session: &Session, place: &Place) -> Result<bool> {
    has_table(session, place, LOADING).await
}

async fn has_table(session: &Session, place: &Place, table: &str) -> Result<bool> {
    let sql = "SELECT 1::int8 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = $2";
    let found = session.row(sql, &[&place.schema, &table]).await.map_err(|e| failed(&e))?;
    Ok(found.is_some())
}

async fn version(session: &Session, place: &Place) -> Result<i64> {
    if !is_there(session, place).await? {
        return Ok(0);
    }
    let row = session.row("SELECT value FROM setting WHERE name = 'schema'", &[]).await.map_err(|e| failed(&e))?;
    let found = row.map(|row| row.try_get::<_, i64>(0)).transpose().map_err(|e| failed(&e))?.unwrap_or(0);
    if found > NEWEST {
        return Err(Error::config(format!(
            "the database has schema {found} and this program knows {NEWEST}; use a newer segue"
        )));
    }
    Ok(found)
}
