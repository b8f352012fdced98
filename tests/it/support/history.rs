//! A long history in no time: what a gateway has written is multiplied in the database, row by row, under new keys.
//!
//! The copies are what their originals are: applied, delivered, of the same customers. What is sealed in them is bound to the
//! place of the original and cannot be opened; a start has no business doing so.

use super::database::Database;

/// The tables that grow with every message, and the columns of each that make a row another one.
const TABLES: [(&str, &[&str]); 7] = [
    ("entry", &["position", "id", "delivery"]),
    ("applied", &["apply_no", "position"]),
    ("customer", &["no", "id"]),
    ("conversation", &["no", "id"]),
    ("interaction", &["no", "id", "item"]),
    ("event", &["no", "id"]),
    ("seen", &["key"]),
];

/// Copies until there are at least `entries` entries, and as much of everything else as belongs to them. No gateway may be
/// running.
pub(crate) fn multiply(database: &Database, entries: usize) {
    let present = database.number("SELECT count(*) FROM entry").max(1);
    let copies = entries as i64 / present + 1;
    for (table, keys) in TABLES {
        let columns = database.columns(table);
        // One backend keeps keys of what was seen in a table of their own, the other in indexes.
        if columns.is_empty() {
            continue;
        }
        let copied: Vec<(&str, String)> = columns
            .iter()
            .map(|name| (name.as_str(), value(database, table, keys, name)))
            .filter(|c| !c.1.is_empty())
            .collect();
        let (names, values): (Vec<&str>, Vec<String>) = copied.into_iter().unzip();
        let (names, values) = (names.join(", "), values.join(", "));
        let series = format!(
            "WITH RECURSIVE series (copy) AS (SELECT 1 UNION ALL SELECT copy + 1 FROM series WHERE copy < {copies})"
        );
        let from = format!("(SELECT *, row_number() OVER () AS row FROM {table}) AS original, series");
        database.fill(&format!("{series} INSERT INTO {table} ({names}) SELECT {values} FROM {from}"));
    }
    let settled = "UPDATE settled SET event = (SELECT max(no) FROM event)";
    match database {
        Database::Sqlite(_) => database.fill(settled),
        // Numbers of the feed there are made of transaction numbers: copies lie before their originals.
        Database::Postgres(_) => database.fill("SELECT setval('entry_position', (SELECT max(position) FROM entry))"),
    }
}

/// What a copy has in a column; nothing for a number that the database gives.
fn value(database: &Database, table: &str, keys: &[&str], column: &str) -> String {
    let on_sqlite = matches!(database, Database::Sqlite(_));
    if !keys.contains(&column) {
        return column.to_owned();
    }
    let random = if on_sqlite {
        format!("randomblob(length({column}))")
    } else {
        format!(
            "substring(decode(md5({column}::text || copy) || md5(copy || {column}::text), 'hex') FROM 1 FOR length({column}))"
        )
    };
    match (column, on_sqlite) {
        ("id" | "delivery" | "item" | "key", _) => format!("CASE WHEN {column} IS NULL THEN NULL ELSE {random} END"),
        ("apply_no", false) => String::new(),
        ("no", false) if table == "event" => "copy * 1000 + row".to_owned(),
        // Far from the numbers that nodes draw, but for positions, which go on behind the last.
        ("no", false) => "1099511627776 + copy * 1000 + row".to_owned(),
        _ => format!("{column} + copy * 1000"),
    }
}
