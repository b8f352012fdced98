//! The canonical dump: domain state as it is meant, one JSON object a line, the same whatever keeps it.
//!
//! Each line is canonical JSON (RFC 8785). Tables follow each other as in the layout, and within a table lines are sorted by
//! the bytes of an id or a key. Numbers that are used inside only never appear, nor does any order depend on them, so two
//! stores that went through the same entries print the same bytes.

use std::collections::BTreeMap;
use std::io::Write;

use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value as Json, json};

use super::{PAGE_ROWS, Progress, Row, Seal, Value, View, count, expression, opened, portable};
use crate::base::{Error, Result, Timestamp};
use crate::store::layout::{Order, Show, TABLES, Table};

/// How many keys are sorted in memory at once: 64 MB of them.
const SORTED: u64 = 1 << 20;
/// The largest integer that a double holds with all its neighbors: 2^53.
const LARGEST: u64 = 1 << 53;

/// What was dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// How many records there are of each kind.
    pub records: BTreeMap<&'static str, u64>,
    /// SHA-256 of all lines.
    pub sha256: [u8; 32],
}

/// Writes lines and counts them.
struct Lines<'a> {
    out: &'a mut (dyn Write + Send),
    digest: Context,
    records: BTreeMap<&'static str, u64>,
}

impl Lines<'_> {
    fn write(&mut self, table: &'static Table, record: &Json) -> Result<()> {
        let mut line = serde_json_canonicalizer::to_vec(record)
            .map_err(|e| Error::internal("a record cannot be written as canonical JSON").because(e))?;
        line.push(b'\n');
        self.digest.update(&line);
        *self.records.entry(table.name).or_default() += 1;
        self.out.write_all(&line).map_err(|e| Error::io("failed to write the dump", e))
    }
}

/// Writes the canonical dump of a view. Without `entries`, the journal's entries are left out.
///
/// # Errors
///
/// If the store cannot be read or opened, or `out` cannot be written.
pub async fn dump(
    view: &dyn View,
    seal: &dyn Seal,
    entries: bool,
    out: &mut (dyn Write + Send),
    progress: &mut (dyn Progress + Send),
) -> Result<Dumped> {
    let mut lines = Lines { out, digest: Context::new(&SHA256), records: BTreeMap::new() };
    for table in TABLES.iter().filter(|table| entries || table.name != "entry") {
        if table.order == Order::None {
            continue;
        }
        lines.records.insert(table.name, 0);
        let total = count(view, table).await?;
        progress.table(table.name, total);
        match table.order {
            Order::Key => by_key(view, seal, table, total, &mut lines, progress).await?,
            _ => by_outer(view, seal, table, &mut lines, progress).await?,
        }
    }
    lines.out.flush().map_err(|e| Error::io("failed to write the dump", e))?;
    let sha256 = lines.digest.finish().as_ref().try_into().unwrap_or_default();
    Ok(Dumped { records: lines.records, sha256 })
}

/// The query for a table's records: all that is moved, then for each reference what it leads to.
struct Query {
    select: String,
    from: String,
}

impl Query {
    fn of(view: &dyn View, table: &Table) -> Query {
        let mut columns: Vec<String> = table.moved().map(|column| expression(column, view.backend())).collect();
        let mut from = format!("FROM {} t", table.name);
        for (number, column) in table.moved().enumerate() {
            if let Show::Of(name) = column.show
                && let Some(other) = Table::named(name)
            {
                columns.push(format!("r{number}.{}", other.outer()));
                let inner = other.inner();
                from.push_str(&format!(" LEFT JOIN {name} r{number} ON r{number}.{inner} = t.{}", column.name));
            }
        }
        Query { select: columns.join(", "), from }
    }
}

/// Records that the database sorts: by their id, or by that of their entry.
async fn by_outer(
    view: &dyn View,
    seal: &dyn Seal,
    table: &'static Table,
    lines: &mut Lines<'_>,
    progress: &mut (dyn Progress + Send),
) -> Result<()> {
    let Query { select, from } = Query::of(view, table);
    // Several records of one entry follow each other as they were made, which is the same everywhere.
    let (from, keys) = match table.order {
        Order::Entry => {
            (format!("{from} JOIN entry o ON o.position = t.position"), format!("o.id, t.{}", table.inner()))
        }
        _ => (from, "t.id".to_owned()),
    };
    let width = 1 + usize::from(table.order == Order::Entry);
    // The first comparison alone tells PostgreSQL where to begin.
    let after = if width == 2 { "o.id >= $1 AND (o.id, t.KEY) > ($1, $2)" } else { "t.id > $1" };
    let after = after.replace("KEY", table.inner());
    let first = format!("SELECT {select}, {keys} {from} ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let next = format!("SELECT {select}, {keys} {from} WHERE {after} ORDER BY {keys} LIMIT {PAGE_ROWS}");
    let (mut last, mut ordinal, mut before) = (Vec::new(), 0_u64, None);
    loop {
        let rows = view.rows(if last.is_empty() { &first } else { &next }, &last).await?;
        let Some(end) = rows.last() else { return Ok(()) };
        last = end.iter().skip(end.len().saturating_sub(width)).cloned().collect();
        let count = rows.len() as u64;
        seal.prepare(view, table, &rows).await?;
        for row in rows {
            let outer = row.get(row.len().saturating_sub(width)).cloned();
            ordinal = if outer == before { ordinal + 1 } else { 0 };
            before = outer;
            let mut record = record(seal, table, row)?;
            if table.order == Order::Entry {
                record.insert("ordinal".to_owned(), ordinal.into());
            }
            lines.write(table, &Json::Object(record))?;
        }
        progress.rows(count);
    }
}

/// Records that are sorted by a key which lies blinded: the keys are opened and sorted here, as many at once as memory
/// may hold, those with the lowest first bytes first.
async fn by_key(
    view: &dyn View,
    seal: &dyn Seal,
    table: &'static Table,
    total: u64,
    lines: &mut Lines<'_>,
    progress: &mut (dyn Progress + Send),
) -> Result<()> {
    const CHUNK: usize = 256;
    let Query { select, from } = Query::of(view, table);
    let parts = (total / SORTED + 1).min(1 << 16) as u32;
    for part in 0..parts {
        let bound = |part: u32| part * (1 << 16) / parts;
        let keys = keys_between(view, seal, table, bound(part)..bound(part + 1)).await?;
        for chunk in keys.chunks(CHUNK) {
            let mut found: BTreeMap<Value, Row> = BTreeMap::new();
            let mut wanted: Vec<Value> = chunk.iter().map(|(_, lying)| lying.clone()).collect();
            // A page may end before all of them are there.
            while !wanted.is_empty() {
                let places: Vec<String> = (1..=wanted.len()).map(|n| format!("${n}")).collect();
                let sql = format!("SELECT {select} {from} WHERE t.key IN ({})", places.join(", "));
                let rows = view.rows(&sql, &wanted).await?;
                seal.prepare(view, table, &rows).await?;
                if rows.is_empty() {
                    return Err(Error::internal(format!("rows of {} went away while they were read", table.name)));
                }
                found.extend(rows.into_iter().filter_map(|row| Some((row.first()?.clone(), row))));
                wanted.retain(|key| !found.contains_key(key));
            }
            for (_, lying) in chunk {
                if let Some(row) = found.remove(lying) {
                    lines.write(table, &Json::Object(record(seal, table, row)?))?;
                }
            }
            progress.rows(chunk.len() as u64);
        }
    }
    Ok(())
}

/// The keys whose first two bytes are in `range` once they are opened, sorted, each with itself as it lies.
async fn keys_between(
    view: &dyn View,
    seal: &dyn Seal,
    table: &'static Table,
    range: std::ops::Range<u32>,
) -> Result<Vec<(Vec<u8>, Value)>> {
    let Some(column) = table.columns.iter().find(|column| column.name == "key") else { return Ok(Vec::new()) };
    let first = format!("SELECT t.key FROM {} t ORDER BY t.key LIMIT {PAGE_ROWS}", table.name);
    let next = format!("SELECT t.key FROM {} t WHERE t.key > $1 ORDER BY t.key LIMIT {PAGE_ROWS}", table.name);
    let (mut last, mut keys): (Row, _) = (Vec::new(), Vec::new());
    loop {
        let rows = view.rows(if last.is_empty() { &first } else { &next }, &last).await?;
        let Some(end) = rows.last() else { break };
        last.clone_from(end);
        for lying in rows.into_iter().flatten() {
            let Value::Bytes(bytes) = &lying else { continue };
            let opened = seal.open(table, column, std::slice::from_ref(&lying), bytes.clone())?;
            let leading = opened.iter().take(2).fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            if range.contains(&leading) {
                keys.push((opened.to_vec(), lying));
            }
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

/// The record of a row as [`Query`] reads it.
fn record(seal: &dyn Seal, table: &'static Table, mut row: Row) -> Result<Map<String, Json>> {
    let led = row.split_off(table.moved().count().min(row.len()));
    let row = opened(seal, table, row)?;
    let mut record = Map::new();
    record.insert("record".to_owned(), table.name.into());
    // What was emptied by age or at somebody's wish.
    let stub =
        table.name == "entry" && table.place("head").and_then(|at| row.get(at)?.bytes()).is_some_and(<[u8]>::is_empty);
    let mut led = led.iter();
    for (column, value) in table.moved().zip(&row) {
        let shown = match column.show {
            Show::Operational | Show::Inside => continue,
            Show::Json | Show::Bytes if stub => continue,
            Show::Of(name) => match (Table::named(name), led.next()) {
                (Some(other), Some(outer)) => outer_name(other, outer),
                _ => Json::Null,
            },
            show => shown(show, value),
        };
        record.insert(column.name.to_owned(), shown);
    }
    if table.name == "entry" {
        record.insert("stub".to_owned(), stub.into());
    }
    Ok(record)
}

/// The outer name of the row that a reference leads to.
fn outer_name(other: &Table, outer: &Value) -> Json {
    let column = other.columns.iter().find(|column| column.name == other.outer());
    column.map_or(Json::Null, |column| shown(column.show_as_name(), outer))
}

fn shown(show: Show, value: &Value) -> Json {
    match (show, value) {
        (_, Value::Null) => Json::Null,
        (Show::Number, Value::Integer(number)) => exact((*number).into()),
        (Show::Flag, Value::Integer(number)) => (*number != 0).into(),
        (Show::Time, Value::Integer(millis)) => Timestamp::from_millis(*millis).to_string().into(),
        (Show::Word(word), Value::Integer(number)) => word(*number).into(),
        (Show::Id(name), value) => match value.bytes().and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => name(bytes).into(),
            None => bytes(value),
        },
        (Show::Key, value) => HEXLOWER.encode(value.bytes().unwrap_or_default()).into(),
        (Show::Text, Value::Text(text)) => portable(text).into_owned().into(),
        (Show::Json, value) => match serde_json::from_slice(value.bytes().unwrap_or_default()) {
            Ok(json) => exact(json),
            Err(_) => bytes(value),
        },
        (_, Value::Integer(number)) => exact((*number).into()),
        (_, value) => bytes(value),
    }
}

/// Text as text, anything else in base64.
fn bytes(value: &Value) -> Json {
    let bytes = value.bytes().unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// The same value with each integer that a double cannot hold as a string, so that no digit is lost.
fn exact(value: Json) -> Json {
    match value {
        Json::Number(number) => {
            let large = number.as_i64().map(i64::unsigned_abs).or(number.as_u64()).is_some_and(|n| n > LARGEST);
            if large { number.to_string().into() } else { Json::Number(number) }
        }
        Json::Array(items) => items.into_iter().map(exact).collect(),
        Json::Object(members) => {
            members.into_iter().map(|(name, value)| (name, exact(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn line(text: &str) -> String {
        let value = shown(Show::Json, &Value::Bytes(text.as_bytes().to_vec().into()));
        serde_json_canonicalizer::to_string(&value).unwrap()
    }

    /// The examples of RFC 8785, section 3.2, and what is beyond it.
    #[test]
    fn json_is_canonical() {
        let given = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let told = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
            \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(line(given), told);
        let sorted = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew","1":"One","\ud83d\ude00":"Emoji","\u0080":"Control","\u00f6":"o"}"#;
        let values: Vec<String> = serde_json::from_str::<Map<String, Json>>(&line(sorted))
            .unwrap()
            .values()
            .map(|value| value.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(values, ["Carriage Return", "One", "Control", "o", "Euro Sign", "Emoji", "Hebrew"]);
        assert_eq!(
            line("[9007199254740992,9007199254740993,-9007199254740993]"),
            r#"[9007199254740992,"9007199254740993","-9007199254740993"]"#
        );
    }

    #[test]
    fn what_is_no_json_is_shown_all_the_same() {
        assert_eq!(line("not json\u{0}"), r#""not json\u0000""#);
        assert_eq!(line(r#"{"a":"\ud800"}"#), r#""{\"a\":\"\\ud800\"}""#);
        assert_eq!(shown(Show::Bytes, &Value::Bytes(Bytes::from_static(b"\xff\0"))), json!({ "base64": "/wA=" }));
        assert_eq!(shown(Show::Text, &Value::Text("a\0b".to_owned())), json!("a\u{fffd}b"));
    }
}
