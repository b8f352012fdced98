//! All of a store row by row, on SQLite: reading beside a gateway that runs, and filling an empty store.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql};

use super::keys::Key;
use super::open::{Files, Locked, Options, failed, is_loading, reader, sync_directory};
use crate::base::{Error, Result};
use crate::model::ItemKey;
use crate::store::Unwatched;
use crate::store::archive::{
    Area, Finding, LOADING, PAGE_BYTES, Row, Target, Value, View, half_loaded, must_be_empty, not_empty,
};
use crate::store::layout::{Backend, Table};
use crate::store::seal::Codec;

/// The name of the database in a data directory.
const FILE: &str = "segue.db";
/// Page cache of a connection that walks over everything, in KiB.
const CACHE_KIB: i64 = 8 * 1024;

/// The store in `directory` as of now, whether or not a gateway runs on it.
///
/// # Errors
///
/// `NotFound` if there is none, `Config` if it was filled only in part.
pub fn view(directory: &Path) -> Result<Box<dyn View>> {
    let path = directory.join(FILE);
    if !path.is_file() {
        let place = directory.display();
        return Err(Error::not_found(format!("no data at `{place}`: no gateway has run there yet")));
    }
    let connection = reader(&path, CACHE_KIB)?;
    if is_loading(&connection)? {
        return Err(half_loaded().context(directory.display().to_string()));
    }
    // The first read begins the snapshot, so it belongs here.
    connection.execute_batch("BEGIN DEFERRED; SELECT 1 FROM sqlite_schema LIMIT 1").map_err(failed)?;
    Ok(Box::new(SqliteView(shared(connection))))
}

/// The data directory as one that no gateway may use meanwhile.
///
/// # Errors
///
/// `Config` if one does.
pub fn quiet(directory: &Path) -> Result<Locked> {
    Locked::take(directory)
}

/// The store in `directory`, made if there is none, to be filled.
///
/// # Errors
///
/// As [`super::open`].
pub async fn target(directory: &Path) -> Result<Box<dyn Target>> {
    let (lock, codec) = (Locked::take(directory)?, Arc::new(Codec::unused().await?));
    let files = Files::open_to_fill(directory, &Options::default(), lock, &codec, &Unwatched)?;
    let Files { connection, lock, .. } = files;
    connection.pragma_update(None, "wal_autocheckpoint", "4000").map_err(failed)?;
    // Sorting for an index may need more than memory.
    connection.pragma_update(None, "temp_store", "DEFAULT").map_err(failed)?;
    Ok(Box::new(SqliteTarget { view: SqliteView(shared(connection)), _lock: lock, directory: directory.to_owned() }))
}

type Shared = Arc<Mutex<Connection>>;

fn shared(connection: Connection) -> Shared {
    Arc::new(Mutex::new(connection))
}

/// Runs `query` on a thread for blocking work.
fn apart<T: Send + 'static>(
    connection: &Shared,
    query: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let connection = connection.clone();
    async move {
        tokio::task::spawn_blocking(move || query(&mut connection.lock()))
            .await
            .map_err(|e| Error::internal("a read ended early").because(e))?
    }
    .boxed()
}

struct SqliteView(Shared);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        // No table holds one.
        ValueRef::Real(number) => Value::Integer(number as i64),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

fn rows(connection: &Connection, sql: &str, parameters: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut select = connection.prepare_cached(sql)?;
    let columns = select.column_count();
    let mut found = select.query(rusqlite::params_from_iter(parameters))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = found.next()?
    {
        let row: Row = (0..columns).map(|column| row.get_ref(column).map(value)).collect::<rusqlite::Result<_>>()?;
        bytes += row.iter().map(Value::size).sum::<usize>();
        rows.push(row);
    }
    Ok(rows)
}

impl View for SqliteView {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>> {
        let (sql, parameters) = (sql.to_owned(), parameters.to_vec());
        apart(&self.0, move |connection| rows(connection, &sql, &parameters).map_err(failed))
    }
}

struct SqliteTarget {
    view: SqliteView,
    _lock: Locked,
    directory: std::path::PathBuf,
}

impl View for SqliteTarget {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>> {
        self.view.rows(sql, parameters)
    }
}

impl Target for SqliteTarget {
    fn begin<'a>(&'a self, mark: &'a str) -> BoxFuture<'a, Result<()>> {
        let mark = mark.to_owned();
        apart(&self.view.0, move |connection| begin(connection, &mark))
    }

    fn reached<'a>(&'a self, table: &'static Table) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        apart(&self.view.0, |connection| remembered(connection, table.name).map_err(failed))
    }

    fn load<'a>(&'a self, table: &'static Table, rows: Vec<Row>, reached: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        apart(&self.view.0, move |connection| load(connection, table, &rows, &reached).map_err(failed))
    }

    fn finish(&self) -> BoxFuture<'_, Result<()>> {
        let directory = self.directory.clone();
        apart(&self.view.0, move |connection| {
            let end = format!("DROP TABLE {LOADING}; PRAGMA wal_checkpoint(TRUNCATE)");
            connection.execute_batch(&end).map_err(failed)?;
            sync_directory(&directory)
        })
    }
}

fn begin(connection: &Connection, mark: &str) -> Result<()> {
    if is_loading(connection)? {
        return match remembered(connection, "").map_err(failed)? {
            Some(found) if found == mark.as_bytes() => Ok(()),
            _ => Err(not_empty()),
        };
    }
    for table in must_be_empty(Backend::Sqlite) {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", table.name);
        if connection.query_row(&sql, [], |_| Ok(())).optional().map_err(failed)?.is_some() {
            return Err(not_empty());
        }
    }
    let sql = format!("BEGIN IMMEDIATE; CREATE TABLE {LOADING} (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT");
    connection.execute_batch(&sql).map_err(failed)?;
    remember(connection, "", mark.as_bytes()).map_err(failed)?;
    connection.execute_batch("COMMIT").map_err(failed)
}

fn remembered(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = format!("SELECT value FROM {LOADING} WHERE name = ?1");
    connection.prepare_cached(&sql)?.query_row([name], |row| row.get(0)).optional()
}

fn remember(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO {LOADING} (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    );
    connection.prepare_cached(&sql)?.execute((name, value)).map(drop)
}

fn load(connection: &mut Connection, table: &'static Table, rows: &[Row], reached: &[u8]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let columns: Vec<&str> = table.moved().map(|column| column.name).collect();
    let places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), places.join(", "));
    {
        let mut insert = transaction.prepare_cached(&sql)?;
        for row in rows {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
    }
    see(&transaction, table, rows)?;
    remember(&transaction, table.name, reached)?;
    transaction.commit()
}

/// Enters the keys by which entries and interactions are found, which PostgreSQL finds by indexes of their tables.
fn see(connection: &Connection, table: &'static Table, rows: &[Row]) -> rusqlite::Result<()> {
    let (column, key): (_, fn([u8; 16]) -> Key) = match table.name {
        "entry" => ("delivery", |key| Key::delivery(&key)),
        "interaction" => ("item", |key| Key::item(&ItemKey(key))),
        _ => return Ok(()),
    };
    let Some(place) = table.place(column) else { return Ok(()) };
    let seen = |row: &Row| {
        let bytes: [u8; 16] = row.get(place)?.bytes()?.try_into().ok()?;
        Some((key(bytes), row.first()?.integer()?))
    };
    let mut seen: Vec<(Key, i64)> = rows.iter().filter_map(seen).collect();
    seen.sort_unstable();
    let mut insert = connection.prepare_cached("INSERT INTO seen (key, no) VALUES (?1, ?2)")?;
    for (key, no) in seen {
        insert.execute((key.bytes(), no))?;
    }
    Ok(())
}

/// What SQLite tells of the database in `directory`; with `deep`, indexes are compared with their tables.
///
/// # Errors
///
/// If it cannot be opened.
pub fn health(directory: &Path, deep: bool) -> Result<Vec<Finding>> {
    let connection = reader(&directory.join(FILE), CACHE_KIB)?;
    let mut findings = Vec::new();
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
    findings.push(match mode.as_str() {
        "wal" => Finding::good(Area::Settings, format!("SQLite {}, write-ahead log", rusqlite::version())),
        _ => Finding::bad(
            Area::Settings,
            format!("the database has the journal mode {mode}"),
            "no other program may change it; the next start of the gateway sets it right",
        ),
    });
    let pragma = if deep { "PRAGMA integrity_check(20)" } else { "PRAGMA quick_check(20)" };
    let mut check = connection.prepare(pragma).map_err(failed)?;
    let told: rusqlite::Result<Vec<String>> = check.query_map([], |row| row.get(0)).map_err(failed)?.collect();
    let told = told.unwrap_or_else(|error| vec![error.to_string()]);
    let advice =
        "the disk or its driver loses data: stop the gateway, copy the folder, and restore the latest backup elsewhere";
    let bad = told.iter().filter(|line| *line != "ok").map(|line| Finding::bad(Area::Integrity, line.clone(), advice));
    findings.extend(bad);
    if told.iter().all(|line| line == "ok") {
        findings.push(Finding::good(Area::Integrity, "SQLite finds no damaged page"));
    }
    Ok(findings)
}
