//! Filling a store from another one or from an archive, so that it may end at any point and go on later.
//!
//! The target remembers with every batch how far it came. In the end what it holds is compared with where it came from;
//! before that, nobody else can open it.

use std::collections::BTreeMap;
use std::io::Read;

use ring::digest::{SHA256, digest};

use super::file::{Reader, Saved};
use super::frames::{decode, encode};
use super::{
    PAGE_BYTES, PAGE_ROWS, Plain, Progress, Row, Seal, Target, Value, View, count, key_of, opened, page, portable,
    sealed,
};
use crate::base::{Error, Kind, Result, Retry, Side};
use crate::store::layout::{self, Table};

/// What a store holds, in one sum for each table.
///
/// A sum is that of the SHA-256 of its rows, modulo 2^256: the order, which may differ where keys lie blinded, does not
/// matter to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digests(pub BTreeMap<&'static str, (u64, [u8; 32])>);

impl Digests {
    /// Takes a row up.
    fn add(&mut self, table: &'static Table, row: &[Value], scratch: &mut Vec<u8>) {
        scratch.clear();
        for (column, value) in table.moved().zip(row) {
            // What one backend derives may differ where what it is derived from has grown old and gone.
            match value {
                _ if column.only.is_some() => {}
                Value::Text(text) => encode(&[Value::Text(portable(text).into_owned())], scratch),
                other => encode(std::slice::from_ref(other), scratch),
            }
        }
        let (rows, sum) = self.0.entry(table.name).or_default();
        *rows += 1;
        let hash = digest(&SHA256, scratch);
        let mut carry = 0_u16;
        for (to, from) in sum.iter_mut().zip(hash.as_ref()) {
            carry += u16::from(*to) + u16::from(*from);
            *to = carry as u8;
            carry >>= 8;
        }
    }

    /// The tables in which two stores differ.
    pub fn differing(&self, other: &Digests) -> Vec<&'static str> {
        let here = layout::moved().map(|table| table.name);
        here.filter(|name| self.0.get(name) != other.0.get(name)).collect()
    }
}

/// Sums up all that a store holds, as it is meant.
///
/// # Errors
///
/// If the store cannot be read or opened.
pub async fn digests(view: &dyn View, seal: &dyn Seal, progress: &mut (dyn Progress + Send)) -> Result<Digests> {
    let (mut sums, mut scratch) = (Digests::default(), Vec::new());
    for table in layout::moved() {
        progress.table(table.name, count(view, table).await?);
        let mut after = None::<Row>;
        loop {
            let rows = page(view, table, after.as_deref()).await?;
            let Some(last) = rows.last() else { break };
            after = Some(key_of(table, last));
            progress.rows(rows.len() as u64);
            seal.prepare(view, table, &rows).await?;
            for row in rows {
                sums.add(table, &opened(seal, table, row)?, &mut scratch);
            }
        }
    }
    Ok(sums)
}

/// A store that another one is filled from.
pub struct Source<'a> {
    /// All of it.
    pub view: &'a dyn View,
    /// What opens it.
    pub seal: &'a dyn Seal,
    /// Tells it from any other store and from itself at another time.
    pub mark: &'a str,
}

/// How far a table came: how many rows, and the key of the last one as it lies in the source.
struct Reached {
    rows: u64,
    key: Option<Row>,
}

impl Reached {
    async fn of(target: &dyn Target, table: &'static Table) -> Result<Reached> {
        let Some(bytes) = target.reached(table).await? else { return Ok(Reached { rows: 0, key: None }) };
        let mut values = decode(&bytes)?;
        let rows = values.first().and_then(Value::integer).unwrap_or(0).max(0) as u64;
        let key = values.split_off(1.min(values.len()));
        Ok(Reached { rows, key: Some(key) })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&[Value::Integer(self.rows as i64)], &mut bytes);
        encode(self.key.as_deref().unwrap_or_default(), &mut bytes);
        bytes
    }
}

/// Fills `target` with all of another store, compares the two, and lets it be opened. Gives the sums of both.
///
/// # Errors
///
/// `Conflict` if the target holds anything else or the two differ in the end; else as [`View::rows`].
pub async fn copy(
    source: Source<'_>,
    target: &dyn Target,
    seal: &dyn Seal,
    progress: &mut (dyn Progress + Send),
) -> Result<Digests> {
    target.begin(source.mark).await?;
    for table in layout::moved() {
        let mut reached = Reached::of(target, table).await?;
        progress.table(table.name, count(source.view, table).await?);
        progress.rows(reached.rows);
        loop {
            let rows = page(source.view, table, reached.key.as_deref()).await?;
            let Some(last) = rows.last() else { break };
            reached = Reached { rows: reached.rows + rows.len() as u64, key: Some(key_of(table, last)) };
            progress.rows(rows.len() as u64);
            source.seal.prepare(source.view, table, &rows).await?;
            let again = |row| sealed(seal, table, opened(source.seal, table, row)?);
            let rows = rows.into_iter().map(again).collect::<Result<Vec<Row>>>()?;
            target.load(table, rows, reached.bytes()).await?;
        }
    }
    let (from, to) = (digests(source.view, source.seal, progress).await?, digests(target, seal, progress).await?);
    equal(&from, &to)?;
    target.finish().await?;
    Ok(to)
}

fn equal(from: &Digests, to: &Digests) -> Result<()> {
    let differing = from.differing(to);
    if differing.is_empty() {
        return Ok(());
    }
    let tables = differing.join(", ");
    let error = format!("what was written is not what was read, in {tables}; empty the target and begin again");
    Err(Error::new(Kind::Conflict, error).on_side(Side::Us).with_retry(Retry::Never))
}

/// Fills `target` from an archive, sealed values as they lie, and compares. The store is not opened to others yet:
/// [`Target::finish`] does that, once the caller has found that its keys cover it. Gives what the archive said.
///
/// # Errors
///
/// `Invalid` if the archive is damaged, `Conflict` if the target holds anything else.
pub async fn load<R: Read>(
    mut reader: Reader<R>,
    mark: &str,
    target: &dyn Target,
    progress: &mut (dyn Progress + Send),
) -> Result<Saved> {
    target.begin(mark).await?;
    let (mut from, mut scratch) = (Digests::default(), Vec::new());
    let mut batch: Option<Batch> = None;
    while let Some((table, row)) = reader.next_row()? {
        from.add(table, &row, &mut scratch);
        if batch.as_ref().is_none_or(|batch| batch.table.name != table.name) {
            flush(batch.take(), target).await?;
            progress.table(table.name, 0);
            let reached = Reached::of(target, table).await?.rows;
            batch = Some(Batch { table, reached, seen: 0, rows: Vec::new(), bytes: 0 });
        }
        let Some(open) = &mut batch else { continue };
        progress.rows(1);
        open.seen += 1;
        // What an earlier run has loaded is only read.
        if open.seen <= open.reached {
            continue;
        }
        open.bytes += row.iter().map(Value::size).sum::<usize>();
        open.rows.push(row);
        if open.bytes >= PAGE_BYTES || open.rows.len() >= PAGE_ROWS as usize {
            open.write(target).await?;
        }
    }
    flush(batch, target).await?;
    let saved = reader.end()?;
    equal(&from, &digests(target, &Plain, progress).await?)?;
    Ok(saved)
}

/// Rows of a table that were read and not yet loaded.
struct Batch {
    table: &'static Table,
    reached: u64,
    seen: u64,
    rows: Vec<Row>,
    bytes: usize,
}

impl Batch {
    async fn write(&mut self, target: &dyn Target) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let reached = Reached { rows: self.seen, key: None };
        self.bytes = 0;
        target.load(self.table, std::mem::take(&mut self.rows), reached.bytes()).await
    }
}

async fn flush(batch: Option<Batch>, target: &dyn Target) -> Result<()> {
    match batch {
        Some(mut batch) => batch.write(target).await,
        None => Ok(()),
    }
}
