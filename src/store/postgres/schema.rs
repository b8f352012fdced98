//! The schema: numbered files, forward only, each in a transaction of its own under a lock that all nodes share.

use super::place::Place;
use super::session::{PgError, Session, failed};
use crate::base::{Error, Result};

/// The files in order; the first makes schema 1.
const STEPS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// The schema that this program reads and writes.
const NEWEST: i64 = STEPS.len() as i64;
/// The advisory lock under which the schema changes: "segue" in ASCII.
const LOCK: i64 = 0x0073_6567_7565;

/// Brings the schema up to date.
///
/// # Errors
///
/// `Config` if it is newer than this program or may not be made.
pub(super) async fn migrate(session: &Session, place: &Place) -> Result<()> {
    let found = version(session, place).await?;
    if found == NEWEST {
        return Ok(());
    }
    session.plain("BEGIN").await.map_err(|e| failed(&e))?;
    let made = steps(session, place).await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    session.plain(end).await.map_err(|e| failed(&e))?;
    made
}

async fn steps(session: &Session, place: &Place) -> Result<()> {
    let refused = |e: PgError| failed(&e).context("the tables cannot be made");
    session.plain(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await.map_err(refused)?;
    // Another node may have been faster.
    let found = version(session, place).await?;
    if found == 0 && place.schema != "public" {
        session.plain(&format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", place.schema)).await.map_err(refused)?;
    }
    for (step, number) in STEPS.iter().zip(1..) {
        if number > found {
            session.plain(step).await.map_err(refused)?;
            let set = format!("UPDATE setting SET value = {number} WHERE name = 'schema'");
            session.plain(&set).await.map_err(refused)?;
        }
    }
    Ok(())
}

async fn version(session: &Session, place: &Place) -> Result<i64> {
    let there = session
        .row(
            "SELECT 1::int8 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'setting'",
            &[&place.schema],
        )
        .await
        .map_err(|e| failed(&e))?;
    if there.is_none() {
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
