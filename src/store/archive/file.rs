//! The archive file: what a view holds, written as framed records (see [`frames`](super::frames)).
//!
//! The file begins with the line `segue archive 1`. Then follow frames: `H` the [`Header`] as JSON; `T` the name of a table;
//! `R` a row of it, in the order of the header's columns; `E` the counts of rows as JSON, which ends them. Sealed values are
//! written as they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::frames::{Frames, Unframed, damaged, decode, encode};
use super::{Progress, Row, Value, View, apply_number, count, key_of, page};
use crate::base::{Error, Result, Timestamp};
use crate::store::code::ENGINE;
use crate::store::layout::{self, Backend, Table};

/// The first line.
const MAGIC: &[u8] = b"segue archive 1\n";
/// The layout of tables that is written and read.
const SCHEMA: u32 = 1;

/// What an archive says of itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The layout of the tables.
    pub schema: u32,
    /// The program that wrote it.
    pub engine: String,
    /// What kept the store.
    pub backend: String,
    /// When it was begun.
    pub at: Timestamp,
    /// The latest applied entry in it: the state that it is of.
    pub apply_no: i64,
    /// Whether the journal's applied entries are stubs in it: then it is a checkpoint, to begin a replay from.
    pub checkpoint: bool,
    /// The columns by table, in the order of rows' values.
    pub columns: BTreeMap<String, Vec<String>>,
}

/// What an archive says of itself in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// What it said first.
    pub header: Header,
    /// How many rows it has by table.
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 of the file but for this sum itself.
    pub sha256: [u8; 32],
}

/// How the journal's entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// With their content.
    Whole,
    /// As stubs, but for those that are not applied or lie in quarantine: what a replay begins from needs no more.
    Stubs,
}

fn columns() -> BTreeMap<String, Vec<String>> {
    let names = |table: &Table| table.moved().map(|column| column.name.to_owned()).collect();
    layout::moved().map(|table| (table.name.to_owned(), names(table))).collect()
}

/// Writes all of a view to `out`, as it is. Blocks where `out` blocks.
///
/// # Errors
///
/// If the store cannot be read or `out` not be written.
pub async fn save(
    view: &dyn View,
    entries: Entries,
    now: Timestamp,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Progress + Send),
) -> Result<Saved> {
    let backend = match view.backend() {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
    };
    let header = Header {
        schema: SCHEMA,
        engine: ENGINE.to_owned(),
        backend: backend.to_owned(),
        at: now,
        apply_no: apply_number(view).await?,
        checkpoint: entries == Entries::Stubs,
        columns: columns(),
    };
    let mut frames = Frames::begin(out, MAGIC)?;
    frames.json(b'H', &header)?;
    let spared = match entries {
        Entries::Whole => None,
        Entries::Stubs => Some(spared(view).await?),
    };
    let mut rows = BTreeMap::new();
    for table in layout::moved() {
        progress.table(table.name, count(view, table).await?);
        frames.frame(b'T', table.name.as_bytes())?;
        let written = write_table(view, table, spared.as_ref(), &mut frames, progress).await?;
        rows.insert(table.name.to_owned(), written);
    }
    frames.json(b'E', &rows)?;
    let sha256 = frames.end()?;
    Ok(Saved { header, rows, sha256 })
}

async fn write_table(
    view: &dyn View,
    table: &'static Table,
    spared: Option<&BTreeSet<i64>>,
    frames: &mut Frames<'_>,
    progress: &mut (dyn Progress + Send),
) -> Result<u64> {
    let (mut after, mut written, mut content) = (None::<Row>, 0, Vec::new());
    loop {
        let page = page(view, table, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(written) };
        after = Some(key_of(table, last));
        written += page.len() as u64;
        progress.rows(page.len() as u64);
        for mut row in page {
            if let Some(spared) = spared.filter(|_| table.name == "entry") {
                make_stub(table, &mut row, spared);
            }
            content.clear();
            encode(&row, &mut content);
            frames.frame(b'R', &content)?;
        }
    }
}

/// The positions of entries whose content is still needed.
async fn spared(view: &dyn View) -> Result<BTreeSet<i64>> {
    let mut found = BTreeSet::new();
    for name in ["pending", "quarantine"] {
        let Some(table) = Table::named(name) else { continue };
        let (place, mut after) = (table.place("position"), None::<Row>);
        loop {
            let page = page(view, table, after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(key_of(table, last));
            found.extend(page.iter().filter_map(|row| row.get(place?)?.integer()));
        }
    }
    Ok(found)
}

fn make_stub(table: &Table, row: &mut Row, spared: &BTreeSet<i64>) {
    let position = row.first().and_then(Value::integer).unwrap_or_default();
    if spared.contains(&position) {
        return;
    }
    for (name, empty) in [("head", Value::Bytes(Bytes::new())), ("raw", Value::Null)] {
        if let Some(value) = table.place(name).and_then(|place| row.get_mut(place)) {
            *value = empty;
        }
    }
}

/// Reads an archive, row by row; what it gives is to be used only once [`Reader::end`] has found it whole.
pub struct Reader<R> {
    frames: Unframed<R>,
    header: Header,
    table: Option<&'static Table>,
    rows: BTreeMap<String, u64>,
    ended: Option<Saved>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// `Invalid` if this is no archive, or one of another layout.
    pub fn open(from: R) -> Result<Self> {
        let mut frames = Unframed::begin(from, MAGIC, "this is no archive of segue, or one of another format")?;
        let header: Header = match frames.next()? {
            (b'H', content) => serde_json::from_slice(&content).map_err(|_| damaged("its header cannot be read"))?,
            _ => return Err(damaged("it has no header")),
        };
        if header.schema != SCHEMA || header.columns != columns() {
            let engine = &header.engine;
            return Err(Error::invalid(format!(
                "the archive was written by {engine} and its tables are not those of {ENGINE}; restore it with that \
                 version, then upgrade"
            )));
        }
        Ok(Reader { frames, header, table: None, rows: BTreeMap::new(), ended: None })
    }

    /// What the archive said first.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next row with its table; nothing at the end.
    ///
    /// # Errors
    ///
    /// `Invalid` if the archive is damaged, `Io` if it cannot be read.
    pub fn next_row(&mut self) -> Result<Option<(&'static Table, Row)>> {
        while self.ended.is_none() {
            let (tag, content) = self.frames.next()?;
            match (tag, self.table) {
                (b'T', _) => {
                    let name = std::str::from_utf8(&content).unwrap_or_default();
                    let table = layout::moved().find(|table| table.name == name);
                    let table = table.ok_or_else(|| damaged("it has a table that is none"))?;
                    if self.rows.insert(name.to_owned(), 0).is_some() {
                        return Err(damaged("it has a table twice"));
                    }
                    self.table = Some(table);
                }
                (b'R', Some(table)) => {
                    let row = decode(&content)?;
                    if row.len() != table.moved().count() {
                        return Err(damaged("a row has not the columns of its table"));
                    }
                    *self.rows.entry(table.name.to_owned()).or_default() += 1;
                    return Ok(Some((table, row)));
                }
                (b'E', _) => self.close(&content)?,
                _ => return Err(damaged("it has a record of an unknown kind")),
            }
        }
        Ok(None)
    }

    fn close(&mut self, content: &[u8]) -> Result<()> {
        let told: BTreeMap<String, u64> =
            serde_json::from_slice(content).map_err(|_| damaged("its counts cannot be read"))?;
        if told != self.rows || self.rows.len() != layout::moved().count() {
            return Err(damaged("it does not hold the rows that it counts"));
        }
        let sha256 = self.frames.end()?;
        self.ended = Some(Saved { header: self.header.clone(), rows: self.rows.clone(), sha256 });
        Ok(())
    }

    /// What the archive said in the end; it is whole.
    ///
    /// # Errors
    ///
    /// `Invalid` if it was not read to its end.
    pub fn end(self) -> Result<Saved> {
        self.ended.ok_or_else(|| damaged("it was not read to its end"))
    }

    /// Reads all of it and gives what it says in the end.
    ///
    /// # Errors
    ///
    /// As [`Reader::next_row`].
    pub fn verify(mut self) -> Result<Saved> {
        while self.next_row()?.is_some() {}
        self.end()
    }
}
