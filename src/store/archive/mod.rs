//! All that a store holds, row by row: what dumps, moves, backups and checks are made of.
//!
//! A [`View`] shows every table as of one moment, in the order of its key and a page at a time; a [`Target`] takes such
//! rows into an empty store, in batches that are each whole, and remembers how far it came. The SQL follows from
//! [`layout`](super::layout), so that both backends do the same. Pages end at a number of bytes: memory is bounded,
//! whatever the size of the store or of a row.

mod check;
mod copy;
mod dump;
mod file;
mod files;
mod frames;
mod keys;
mod opener;
mod part;
mod place;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use check::{Area, Finding, Level, check, clocks, local};
pub use copy::{Digests, Source, copy, digests, load};
pub use dump::{Dumped, dump};
pub use file::{Entries, Header, Reader, Saved, save};
pub use files::check_files;
pub use keys::{move_keys, restore_keys, save_keys, verify_keys};
pub use opener::Opener;
pub use part::{Part, checkpoint, newest_checkpoint, remove_older_checkpoints};
pub use place::{Place, Quiet};

use super::layout::{self, Backend, Class, Column, Table, Type};
use crate::base::{Error, Result};

/// How many bytes of rows a page holds at most, unless its first row alone is longer.
pub const PAGE_BYTES: usize = 4 << 20;
/// How many rows a page holds at most.
pub const PAGE_ROWS: i64 = 2048;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// None.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
}

/// The values of a row in the order of [`Table::moved`], or of what a query asks for.
pub type Row = Vec<Value>;

impl Value {
    /// The number, if it is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The bytes of text or bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            Value::Null | Value::Integer(_) => None,
        }
    }

    /// How many bytes it takes, about.
    pub fn size(&self) -> usize {
        16 + self.bytes().map_or(0, <[u8]>::len)
    }
}

/// A store as of one moment.
pub trait View: Send + Sync {
    /// What keeps it.
    fn backend(&self) -> Backend;

    /// The rows of a query whose parameters are `$1`, `$2` and so on, in the order of their first use. It ends early where
    /// the rows pass [`PAGE_BYTES`], but not before the first row.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `Io` if the store cannot be read.
    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>>;
}

/// A store that is being filled: nothing else opens it until [`Target::finish`]. As a view it shows what it holds.
pub trait Target: View {
    /// Begins, or goes on with what was begun under the same `mark`.
    ///
    /// # Errors
    ///
    /// `Conflict` if it holds anything else.
    fn begin<'a>(&'a self, mark: &'a str) -> BoxFuture<'a, Result<()>>;

    /// What was last remembered for this table.
    fn reached<'a>(&'a self, table: &'static Table) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

    /// Takes rows, all or none of them, and remembers how far that is.
    fn load<'a>(&'a self, table: &'static Table, rows: Vec<Row>, reached: Vec<u8>) -> BoxFuture<'a, Result<()>>;

    /// Sets what new numbers begin at, and lets the store be opened.
    fn finish(&self) -> BoxFuture<'_, Result<()>>;
}

/// What stands between a value as it lies and as it is meant. Every sealed and every blind value passes through here.
pub trait Seal: Send + Sync {
    /// Fetches what is needed to open these rows of a table.
    ///
    /// # Errors
    ///
    /// If the key store cannot be read.
    fn prepare<'a>(
        &'a self,
        _view: &'a dyn View,
        _table: &'static Table,
        _rows: &'a [Row],
    ) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Opens a sealed value of a row, or gives the hash behind a blind one. The row is as it lies.
    ///
    /// # Errors
    ///
    /// If the key is missing, or the value was tampered with.
    fn open(&self, table: &Table, column: &Column, row: &[Value], bytes: Bytes) -> Result<Bytes>;

    /// Seals a value, or blinds a hash, of the row of this key.
    ///
    /// # Errors
    ///
    /// If there is no key for it.
    fn seal(&self, table: &Table, column: &Column, key: &[Value], bytes: Bytes) -> Result<Bytes>;
}

/// Values that lie as they are meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Seal for Plain {
    fn open(&self, _: &Table, _: &Column, _: &[Value], bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }

    fn seal(&self, _: &Table, _: &Column, _: &[Value], bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }
}

/// What became of something that takes long: called now and then.
pub trait Progress {
    /// A table begins; it has about so many rows.
    fn table(&mut self, name: &str, rows: u64);

    /// So many rows more are done.
    fn rows(&mut self, count: u64);
}

/// Nobody looks on.
impl Progress for () {
    fn table(&mut self, _: &str, _: u64) {}

    fn rows(&mut self, _: u64) {}
}

/// The values of the key of a row of `table`.
fn key_of(table: &Table, row: &[Value]) -> Vec<Value> {
    let places = table.key.iter().filter_map(|name| table.place(name));
    places.filter_map(|place| row.get(place).cloned()).collect()
}

/// Opens what is sealed or blind in a row.
fn opened(seal: &dyn Seal, table: &Table, row: Row) -> Result<Row> {
    let lying = row.clone();
    through(table, row, |column, bytes| seal.open(table, column, &lying, bytes))
}

/// Seals what is to be sealed in a row, and blinds what is to be blind. The key it is sealed under is the key as it will
/// lie.
fn sealed(seal: &dyn Seal, table: &Table, row: Row) -> Result<Row> {
    let plain = key_of(table, &row);
    let blinded = through(table, row, |column, bytes| match (column.class, table.key.contains(&column.name)) {
        (Class::Blind, _) => seal.seal(table, column, &plain, bytes),
        _ => Ok(bytes),
    })?;
    let key = key_of(table, &blinded);
    through(table, blinded, |column, bytes| match column.class {
        Class::Sealed => seal.seal(table, column, &key, bytes),
        Class::Blind | Class::Clear => Ok(bytes),
    })
}

/// Puts every value that is not clear through `change`; text stays text.
fn through(table: &Table, row: Row, mut change: impl FnMut(&Column, Bytes) -> Result<Bytes>) -> Result<Row> {
    let change = |(column, value): (&Column, Value)| match (column.class, value) {
        (Class::Clear, value) => Ok(value),
        (_, Value::Bytes(bytes)) => change(column, bytes).map(Value::Bytes),
        (_, Value::Text(text)) => {
            let changed = change(column, Bytes::from(text))?;
            let text = String::from_utf8(changed.into());
            text.map(Value::Text).map_err(|_| Error::internal(format!("{}.{} is no text", table.name, column.name)))
        }
        (_, value) => Ok(value),
    };
    table.moved().zip(row).map(change).collect()
}

/// What gives a column's value on a backend.
fn expression(column: &Column, backend: Backend) -> String {
    match column.is_in(backend) {
        true => format!("t.{}", column.name),
        false => column.instead.unwrap_or("NULL").to_owned(),
    }
}

/// A key column as it is compared: by its bytes, whatever the language of the database.
fn compared(table: &Table, name: &str, backend: Backend) -> String {
    let is_text = table.columns.iter().any(|column| column.name == name && column.ty == Type::Text);
    match backend {
        Backend::Postgres if is_text => format!("t.{name} COLLATE \"C\""),
        _ => format!("t.{name}"),
    }
}

/// The statement that gives the rows of a table in the order of its key; with `after`, those after the key of the
/// parameters.
fn page_sql(table: &Table, backend: Backend, after: bool) -> String {
    let columns: Vec<String> = table.moved().map(|column| expression(column, backend)).collect();
    let keys: Vec<String> = table.key.iter().map(|name| compared(table, name, backend)).collect();
    let keys = keys.join(", ");
    let from = if after {
        let parameters: Vec<String> = (1..=table.key.len()).map(|n| format!("${n}")).collect();
        format!("WHERE ({keys}) > ({})", parameters.join(", "))
    } else {
        String::new()
    };
    format!("SELECT {} FROM {} t {from} ORDER BY {keys} LIMIT {PAGE_ROWS}", columns.join(", "), table.name)
}

/// One page of a table in the order of its key: the rows after `after`, or the first ones. Empty at the end.
///
/// # Errors
///
/// As [`View::rows`].
pub async fn page(view: &dyn View, table: &Table, after: Option<&[Value]>) -> Result<Vec<Row>> {
    let sql = page_sql(table, view.backend(), after.is_some());
    view.rows(&sql, after.unwrap_or_default()).await
}

/// How many rows a table has.
///
/// # Errors
///
/// As [`View::rows`].
pub async fn count(view: &dyn View, table: &Table) -> Result<u64> {
    let count = number(view, &format!("SELECT count(*) FROM {}", table.name)).await?;
    Ok(count.unwrap_or(0).max(0) as u64)
}

/// The one number that a query gives.
async fn number(view: &dyn View, sql: &str) -> Result<Option<i64>> {
    let rows = view.rows(sql, &[]).await?;
    Ok(rows.first().and_then(|row| row.first()).and_then(Value::integer))
}

/// The number of the latest applied entry: what state the store is in. 0 if none was applied.
///
/// # Errors
///
/// As [`View::rows`].
pub async fn apply_number(view: &dyn View) -> Result<i64> {
    Ok(number(view, "SELECT coalesce(max(apply_no), 0) FROM applied").await?.unwrap_or(0))
}

/// The position of the latest entry. 0 if there is none.
///
/// # Errors
///
/// As [`View::rows`].
pub async fn last_position(view: &dyn View) -> Result<i64> {
    Ok(number(view, "SELECT coalesce(max(position), 0) FROM entry").await?.unwrap_or(0))
}

/// Text as both backends can hold it: PostgreSQL's `text` has no NUL.
pub(super) fn portable(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// The name of the table in which a store that is being filled remembers how far it came. As long as it is there, nobody
/// else opens the store.
pub(super) const LOADING: &str = "loading";

/// The error of whoever opens a store that was not filled to its end.
pub(super) fn half_loaded() -> Error {
    Error::config(
        "a restore or a migration into this store did not come to its end; run the same command again, or empty the store",
    )
}

/// The error of a target that holds something else.
pub(super) fn not_empty() -> Error {
    Error::new(
        crate::base::Kind::Conflict,
        "the store holds data that does not come from here as it is now; name an empty one, or empty this one",
    )
    .on_side(crate::base::Side::Operator)
    .with_retry(crate::base::Retry::Never)
}

/// The tables that must be empty where something is to be loaded.
pub(super) fn must_be_empty(backend: Backend) -> impl Iterator<Item = &'static Table> {
    layout::TABLES.iter().filter(move |table| {
        let made_with_the_schema = matches!(table.name, "setting" | "lease" | "node");
        table.only.is_none_or(|only| only == backend) && !made_with_the_schema
    })
}

#[cfg(test)]
mod tests;
