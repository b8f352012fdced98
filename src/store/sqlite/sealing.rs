//! Sealing a database that was written before personal data was sealed.
//!
//! One transaction: a process that ends in the middle leaves the database as it was. Afterwards the file is written anew, so
//! that no page keeps what was readable.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::numbers::at_once;
use super::open::failed;
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::model::EntryBody;
use crate::store::seal::{Codec, KeyId, SealedEntry};
use crate::store::{MessageState, Progress};

/// How many rows are sealed at once.
const PIECE: i64 = 2000;

/// The large tables: what is counted, and how a piece of them is sealed.
const TABLES: [(&str, &str, &str); 5] = [
    (
        "entry",
        "position",
        "UPDATE entry SET wrap = seal_entry(0, id, head, raw), head = seal_entry(1, id, head, raw),
                          raw = seal_entry(2, id, head, raw), delivery = blind(delivery)
          WHERE position > ?1 AND position <= ?2 AND (head != x'' OR raw IS NOT NULL)",
    ),
    (
        "applied",
        "apply_no",
        "UPDATE applied SET facts = seal(4, 2, position, facts) WHERE apply_no > ?1 AND apply_no <= ?2 AND facts IS NOT NULL",
    ),
    (
        "customer",
        "no",
        "UPDATE customer SET profile = seal(5, no << 2, no, profile), recent = seal(6, no << 2, no, recent)
          WHERE no > ?1 AND no <= ?2",
    ),
    (
        "interaction",
        "no",
        "UPDATE interaction SET body = seal(8, customer << 2, no, body), decision = seal(9, customer << 2, no, decision),
                                item = blind(item)
          WHERE no > ?1 AND no <= ?2",
    ),
    (
        "event",
        "no",
        "UPDATE event SET body = seal(11, (SELECT v.customer << 2 FROM conversation v WHERE v.no = event.conversation), id, body)
          WHERE no > ?1 AND no <= ?2",
    ),
];

/// Lends the functions that the second step of the schema calls.
pub(super) fn lend(connection: &Connection, codec: &Arc<Codec>) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    let own = codec.clone();
    connection.create_scalar_function("seal", 4, flags, move |c| seal(&own, c)).map_err(failed)?;
    let own = codec.clone();
    let blind = move |c: &Context<'_>| -> rusqlite::Result<Option<Vec<u8>>> {
        let key: Option<[u8; 16]> = c.get(0)?;
        Ok(key.map(|key| own.blind(&key).to_vec()))
    };
    connection.create_scalar_function("blind", 1, flags, blind).map_err(failed)?;
    let own = codec.clone();
    let blind_key = move |c: &Context<'_>| -> rusqlite::Result<Vec<u8>> {
        let key: [u8; 17] = c.get(0)?;
        let [of, rest @ ..] = key;
        Ok(std::iter::once(of).chain(own.blind(&rest)).collect())
    };
    connection.create_scalar_function("blind_key", 1, flags, blind_key).map_err(failed)?;
    let own = codec.clone();
    let mark = move |c: &Context<'_>| -> rusqlite::Result<Vec<u8>> {
        let state: Vec<u8> = c.get(0)?;
        let state: MessageState =
            serde_json::from_slice(&state).map_err(|e| user(Error::internal("damaged").because(e)))?;
        Ok(own.blind(&state.mark()).to_vec())
    };
    connection.create_scalar_function("mark", 1, flags, mark).map_err(failed)?;
    lend_entries(connection, codec)
}

/// `seal_entry(part, id, head, raw)`: wrap, head and raw of a sealed entry, in this order from 0. SQLite asks for them in an
/// order of its own, and all three must be of one key.
fn lend_entries(connection: &Connection, codec: &Arc<Codec>) -> Result<()> {
    let own = codec.clone();
    let latest: Mutex<Option<(EntryId, SealedEntry)>> = Mutex::new(None);
    let part = move |c: &Context<'_>| -> rusqlite::Result<Vec<u8>> {
        let (part, id): (i64, _) = (c.get(0)?, EntryId::from_bytes(c.get(1)?));
        let mut latest = latest.lock();
        if latest.as_ref().is_none_or(|(latest, _)| *latest != id) {
            let (head, raw): (Vec<u8>, Option<Vec<u8>>) = (c.get(2)?, c.get(3)?);
            let body = EntryBody { head: head.into(), raw: raw.unwrap_or_default().into() };
            // The wrap of its day would soon be worthless, and whose it was is not known any more.
            *latest = Some((id, own.seal_entry_for_house(id, &body).map_err(user)?));
        }
        let sealed = latest.as_ref().map(|(_, sealed)| match part {
            0 => sealed.wrap.clone(),
            1 => sealed.head.clone(),
            _ => sealed.raw.clone(),
        });
        Ok(sealed.unwrap_or_default())
    };
    connection.create_scalar_function("seal_entry", 4, FunctionFlags::SQLITE_UTF8, part).map_err(failed)
}

/// `seal(column, key, row, value)`; nothing stays nothing.
fn seal(codec: &Codec, c: &Context<'_>) -> rusqlite::Result<Option<Vec<u8>>> {
    let column =
        crate::store::seal::Column::from_number(c.get(0)?).ok_or_else(|| user(Error::internal("no such column")))?;
    let id = KeyId(c.get(1)?);
    let row = match c.get_raw(2) {
        ValueRef::Integer(no) => no.to_be_bytes().to_vec(),
        other => other.as_blob().map(<[u8]>::to_vec).map_err(|e| rusqlite::Error::UserFunctionError(Box::new(e)))?,
    };
    let plain = match c.get_raw(3) {
        ValueRef::Null => return Ok(None),
        other => other.as_bytes().map_err(|e| rusqlite::Error::UserFunctionError(Box::new(e)))?,
    };
    at_once(codec.keys([id].into())).and_then(|ring| codec.seal(&ring, id, column, &row, plain)).map(Some).map_err(user)
}

fn user(error: Error) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(Box::new(error))
}

/// Makes keys for the customers that there are.
pub(super) fn make_keys(connection: &Connection, codec: &Codec) -> Result<()> {
    const BLOCK: i64 = 4096;
    let last: i64 =
        connection.query_row("SELECT coalesce(max(no), 0) FROM customer", [], |row| row.get(0)).map_err(failed)?;
    let mut from = 1;
    while from <= last {
        at_once(codec.reserve(from..(from + BLOCK).min(last + 1)))?;
        from += BLOCK;
    }
    Ok(())
}

/// Seals the large tables, within the caller's transaction.
pub(super) fn seal_tables(connection: &Connection, progress: &dyn Progress) -> Result<()> {
    for (table, key, sql) in TABLES {
        let last = |after: i64| -> rusqlite::Result<Option<i64>> {
            let sql = format!(
                "SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > ?1 ORDER BY {key} LIMIT {PIECE})"
            );
            connection.prepare_cached(&sql)?.query_row([after], |row| row.get(0)).optional().map(Option::flatten)
        };
        let total: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).map_err(failed)?;
        let (mut from, mut done) = (0, 0);
        while let Some(to) = last(from).map_err(failed)? {
            done += connection.prepare_cached(sql).and_then(|mut s| s.execute((from, to))).map_err(failed)? as u64;
            progress.step(&format!("sealing {table}"), done, total.max(0) as u64);
            from = to;
        }
    }
    Ok(())
}

/// Writes the file anew, without the pages that held what was readable, and takes the functions back.
pub(super) fn clean_up(connection: &Connection) -> Result<()> {
    for (name, arguments) in [("seal", 4), ("blind", 1), ("blind_key", 1), ("mark", 1), ("seal_entry", 4)] {
        connection.remove_function(name, arguments).map_err(failed)?;
    }
    connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").map_err(failed)
}
