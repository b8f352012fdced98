//! Sealing a database that was written before personal data was sealed.
//!
//! All in the transaction that makes the second step of the schema: whatever interrupts it leaves the database as it was.
//! Afterwards the tables are written anew, so that no page keeps what was readable.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::session::{Session, failed};
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::model::EntryBody;
use crate::store::seal::{Codec, Column, KeyId};
use crate::store::{MessageState, Progress};

/// How many rows are sealed at once.
const PIECE: i64 = 1000;
/// The key of the house, as SQL.
const HOUSE: &str = "2::int8";
/// That of a customer in the column `customer`.
const CUSTOMER: &str = "t.customer << 2";
/// That of the customer of a conversation.
const STORY: &str = "(SELECT v.customer << 2 FROM conversation v WHERE v.no = t.conversation)";

/// What is done to a column.
#[derive(Clone, Copy)]
enum Change {
    /// Sealed as the value of this column.
    Seal(Column),
    /// Enciphered.
    Blind,
}

/// One table: the key that its rows are sealed under, what names a row, and its columns.
struct Plan {
    table: &'static str,
    key: &'static str,
    row: &'static str,
    columns: &'static [(&'static str, Change)],
}

const PLANS: [Plan; 11] = [
    Plan { table: "identifier", key: HOUSE, row: "t.key", columns: &[("key", Change::Blind)] },
    Plan { table: "thread", key: HOUSE, row: "t.key", columns: &[("key", Change::Blind)] },
    Plan { table: "side", key: HOUSE, row: "t.key", columns: &[("key", Change::Blind)] },
    Plan {
        table: "customer",
        key: "t.no << 2",
        row: "int8send(t.no)",
        columns: &[("profile", Change::Seal(Column::Profile)), ("recent", Change::Seal(Column::Recent))],
    },
    Plan {
        table: "conversation",
        key: CUSTOMER,
        row: "int8send(t.no)",
        columns: &[("owner", Change::Seal(Column::Owner))],
    },
    Plan {
        table: "interaction",
        key: CUSTOMER,
        row: "int8send(t.no)",
        columns: &[
            ("item", Change::Blind),
            ("body", Change::Seal(Column::Body)),
            ("decision", Change::Seal(Column::Decision)),
        ],
    },
    Plan { table: "event", key: STORY, row: "t.id", columns: &[("body", Change::Seal(Column::Event))] },
    Plan { table: "send", key: STORY, row: "t.id", columns: &[("planned", Change::Seal(Column::Planned))] },
    Plan {
        table: "applied",
        key: HOUSE,
        row: "int8send(t.position)",
        columns: &[("facts", Change::Seal(Column::Facts))],
    },
    Plan {
        table: "quarantine",
        key: HOUSE,
        row: "int8send(t.position)",
        columns: &[("reason", Change::Seal(Column::Reason))],
    },
    Plan {
        table: "dead",
        key: HOUSE,
        row: "int8send(t.event)",
        columns: &[("error", Change::Seal(Column::DeliveryError))],
    },
];

/// Seals everything, within the caller's transaction.
pub(super) async fn seal(session: &Session, codec: &Codec, progress: &dyn Progress) -> Result<()> {
    let row = session.row("SELECT coalesce(max(no), 0) FROM customer", &[]).await.map_err(|e| failed(&e))?;
    let last: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(|e| failed(&e))?;
    let mut from = 1;
    while from <= last {
        codec.reserve(from..(from + 4096).min(last + 1)).await?;
        from += 4096;
    }
    // What has no worth for long is not worth sealing: the texts of attempts that are tried again.
    session.plain("UPDATE due SET error = NULL; UPDATE send SET error = NULL").await.map_err(|e| failed(&e))?;
    for plan in &PLANS {
        plan.carry_out(session, codec, progress).await?;
    }
    seal_messages(session, codec, progress).await?;
    seal_entries(session, codec, progress).await
}

/// Writes the tables anew. Not in a transaction, which the server does not allow.
pub(super) async fn clean_up(session: &Session) -> Result<()> {
    let tables = ["entry", "applied", "message", "due", "dead", "send", "quarantine"];
    let planned = PLANS.iter().map(|plan| plan.table);
    for table in tables.into_iter().chain(planned).collect::<BTreeSet<_>>() {
        session.plain(&format!("VACUUM FULL {table}")).await.map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// Rows of a table, a piece at a time.
struct Walk<'w> {
    session: &'w Session,
    progress: &'w dyn Progress,
    table: &'static str,
    done: u64,
    total: u64,
}

impl<'w> Walk<'w> {
    async fn begin(
        session: &'w Session,
        table: &'static str,
        select: &str,
        progress: &'w dyn Progress,
    ) -> Result<Walk<'w>> {
        let count = session.row(&format!("SELECT count(*) FROM {table}"), &[]).await.map_err(|e| failed(&e))?;
        let total: i64 = count.map_or(Ok(0), |row| row.try_get(0)).map_err(|e| failed(&e))?;
        // The cursor shows the rows as they were when it was opened, whatever is written meanwhile.
        session.plain(&format!("DECLARE piece_of_{table} CURSOR FOR {select}")).await.map_err(|e| failed(&e))?;
        Ok(Walk { session, progress, table, done: 0, total: total.max(0) as u64 })
    }

    /// The next rows; none at the end.
    async fn next(&mut self) -> Result<Vec<Row>> {
        self.progress.step(&format!("sealing {}", self.table), self.done, self.total);
        let fetch = format!("FETCH {PIECE} FROM piece_of_{}", self.table);
        let rows = self.session.rows(&fetch, &[]).await.map_err(|e| failed(&e))?;
        if rows.is_empty() {
            self.session.plain(&format!("CLOSE piece_of_{}", self.table)).await.map_err(|e| failed(&e))?;
        }
        self.done += rows.len() as u64;
        Ok(rows)
    }

    async fn write(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<()> {
        self.session.run(sql, parameters).await.map(|_| ()).map_err(|e| failed(&e))
    }
}

fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|e| failed(&e))
}

impl Plan {
    async fn carry_out(&self, session: &Session, codec: &Codec, progress: &dyn Progress) -> Result<()> {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let values: String = names.iter().map(|name| format!(", t.{name}")).collect();
        let Plan { table, key, row, .. } = self;
        let select = format!("SELECT t.ctid::text, {key}, {row}{values} FROM {table} t");
        let set: Vec<String> = names.iter().map(|name| format!("{name} = u.{name}")).collect();
        let arrays: String = (2..names.len() + 2).map(|n| format!(", ${n}::bytea[]")).collect();
        let update = format!(
            "UPDATE {table} t SET {} FROM unnest($1::text[]{arrays}) AS u (place, {}) WHERE t.ctid = u.place::tid",
            set.join(", "),
            names.join(", ")
        );
        let mut walk = Walk::begin(session, table, &select, progress).await?;
        loop {
            let rows = walk.next().await?;
            if rows.is_empty() {
                return Ok(());
            }
            let ids: Result<BTreeSet<KeyId>> = rows.iter().map(|row| get::<i64>(row, 1).map(KeyId)).collect();
            let ring = codec.keys(ids?).await?;
            let mut places: Vec<String> = Vec::new();
            let mut columns: Vec<Vec<Option<Vec<u8>>>> = vec![Vec::new(); self.columns.len()];
            for row in &rows {
                places.push(get(row, 0)?);
                let (id, name) = (KeyId(get(row, 1)?), get::<&[u8]>(row, 2)?);
                for ((place, (_, change)), column) in (3..).zip(self.columns).zip(&mut columns) {
                    let value: Option<&[u8]> = get(row, place)?;
                    column.push(match (change, value) {
                        (_, None) => None,
                        (Change::Seal(column), Some(value)) => Some(codec.seal(&ring, id, *column, name, value)?),
                        (Change::Blind, Some(value)) => Some(codec.blind(&key16(value)?).to_vec()),
                    });
                }
            }
            let parameters: Vec<&(dyn ToSql + Sync)> =
                std::iter::once(&places as &(dyn ToSql + Sync)).chain(columns.iter().map(|c| c as _)).collect();
            walk.write(&update, &parameters).await?;
        }
    }
}

fn key16(bytes: &[u8]) -> Result<[u8; 16]> {
    bytes.try_into().map_err(|_| Error::internal("a key of the store has the wrong length"))
}

async fn seal_messages(session: &Session, codec: &Codec, progress: &dyn Progress) -> Result<()> {
    let select = "SELECT ctid::text, key, state FROM message";
    let mut walk = Walk::begin(session, "message", select, progress).await?;
    loop {
        let rows = walk.next().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let (mut places, mut keys, mut marks, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let key = codec.blind(&key16(get(row, 1)?)?);
            let plain: &[u8] = get(row, 2)?;
            let state: MessageState = serde_json::from_slice(plain)
                .map_err(|e| Error::internal("the state of a message cannot be read").because(e))?;
            places.push(get::<String>(row, 0)?);
            keys.push(key.to_vec());
            marks.push(codec.blind(&state.mark()).to_vec());
            states.push(codec.seal_house(Column::Message, &key, plain)?);
        }
        let sql = "UPDATE message m SET key = u.key, mark = u.mark, state = u.state
             FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS u (place, key, mark, state)
             WHERE m.ctid = u.place::tid";
        walk.write(sql, &[&places, &keys, &marks, &states]).await?;
    }
}

async fn seal_entries(session: &Session, codec: &Codec, progress: &dyn Progress) -> Result<()> {
    let select = "SELECT ctid::text, id, delivery, head, raw FROM entry";
    let mut walk = Walk::begin(session, "entry", select, progress).await?;
    loop {
        let rows = walk.next().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let (mut places, mut keys): (Vec<String>, Vec<Option<Vec<u8>>>) = Default::default();
        let [mut heads, mut raws, mut wraps]: [Vec<Vec<u8>>; 3] = Default::default();
        for row in &rows {
            let id = EntryId::from_bytes(key16(get(row, 1)?)?);
            let key: Option<&[u8]> = get(row, 2)?;
            let (head, raw): (Vec<u8>, Option<Vec<u8>>) = (get(row, 3)?, get(row, 4)?);
            places.push(get(row, 0)?);
            keys.push(key.map(|key| Ok::<_, Error>(codec.blind(&key16(key)?).to_vec())).transpose()?);
            let stub = head.is_empty();
            let body = EntryBody { head: head.into(), raw: raw.unwrap_or_default().into() };
            // Whose it was is not known any more.
            let sealed = codec.seal_entry_for_house(id, &body)?;
            heads.push(if stub { Vec::new() } else { sealed.head });
            raws.push(if stub { Vec::new() } else { sealed.raw });
            wraps.push(if stub { Vec::new() } else { sealed.wrap });
        }
        let sql = "UPDATE entry e SET delivery = u.delivery, head = u.head, raw = u.raw, wrap = u.wrap
             FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[])
               AS u (place, delivery, head, raw, wrap) WHERE e.ctid = u.place::tid";
        walk.write(sql, &[&places, &keys, &heads, &raws, &wraps]).await?;
    }
}
