//! All of a store row by row, on PostgreSQL: reading beside gateways that run, and filling an empty store.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type as PgType};

use super::place::{Place, Told};
use super::schema;
use super::session::{Fate, PgError, Role, Session, failed, fate};
use crate::base::{Error, Result};
use crate::store::Unwatched;
use crate::store::archive::{
    Area, Finding, LOADING, PAGE_BYTES, Row, Target, Value, View, clocks, half_loaded, must_be_empty, not_empty,
    portable,
};
use crate::store::layout::{Backend, Table, Type};
use crate::store::seal::Codec;

/// The store at `place` as of now.
///
/// # Errors
///
/// `NotFound` if there is none, `Config` if it was filled only in part; else as [`super::open`].
pub async fn view(place: &Place) -> Result<Box<dyn View>> {
    let session = Session::connect(place, Role::Archive, None).await?;
    if !schema::is_there(&session, place).await? {
        return Err(Error::not_found("no data: no gateway has run there yet").context(place.shown()));
    }
    if schema::is_loading(&session, place).await? {
        return Err(half_loaded().context(place.shown()));
    }
    // A snapshot is taken by the first query, so it belongs here.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";
    session.plain(begin).await.map_err(|e| failed(&e))?;
    Ok(Box::new(PgView(session)))
}

/// A connection during which no gateway may use the store.
pub struct Quiet(#[allow(dead_code, reason = "held for its lock")] Session);

/// The store as one that no gateway may use as long as what is given is kept.
///
/// # Errors
///
/// `Config` if one does.
pub async fn quiet(place: &Place) -> Result<Quiet> {
    let session = Session::connect(place, Role::Archive, None).await?;
    alone(&session, place).await?;
    Ok(Quiet(session))
}

/// Takes the store for this connection alone. Waits a moment: the server may not have noticed yet that a connection ended.
async fn alone(session: &Session, place: &Place) -> Result<()> {
    let take = format!("SET lock_timeout TO '5s'; SELECT pg_advisory_lock({}); RESET lock_timeout", place.node_lock());
    session.plain(&take).await.map_err(|error| match fate(&error) {
        Fate::Again => Error::config("a gateway or a command uses this database; stop it first").context(place.shown()),
        _ => failed(&error).context(place.shown()),
    })
}

/// The store at `place`, made if there is none, to be filled.
///
/// # Errors
///
/// As [`super::open`].
pub async fn target(place: &Place) -> Result<Box<dyn Target>> {
    let session = Session::connect(place, Role::Archive, None).await?;
    alone(&session, place).await?;
    schema::migrate_to_fill(&session, place, &Codec::unused().await?, &Unwatched)
        .await
        .map_err(|e| e.context(place.shown()))?;
    let writing = Session::connect(place, Role::Archive, None).await?;
    Ok(Box::new(PgTarget { view: PgView(session), writing: Mutex::new(writing), place: place.clone() }))
}

struct PgView(Session);

fn value(row: &tokio_postgres::Row, column: usize) -> std::result::Result<Value, PgError> {
    let ty = row.columns().get(column).map_or(PgType::TEXT, |column| column.type_().clone());
    let integer = |found: Option<i64>| found.map_or(Value::Null, Value::Integer);
    Ok(match ty {
        PgType::INT2 => integer(row.try_get::<_, Option<i16>>(column)?.map(i64::from)),
        PgType::INT4 => integer(row.try_get::<_, Option<i32>>(column)?.map(i64::from)),
        PgType::INT8 => integer(row.try_get(column)?),
        PgType::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Value::Null, |b| Value::Bytes(b.into())),
        _ => row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Text),
    })
}

type Parameter = Box<dyn ToSql + Sync + Send>;

fn parameter(value: &Value) -> Parameter {
    match value {
        Value::Null => Box::new(None::<i64>),
        Value::Integer(number) => Box::new(*number),
        Value::Text(text) => Box::new(text.clone()),
        Value::Bytes(bytes) => Box::new(bytes.to_vec()),
    }
}

async fn rows(session: &Session, sql: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, PgError> {
    let parameters: Vec<Parameter> = parameters.iter().map(parameter).collect();
    let read = |row: &tokio_postgres::Row| (0..row.len()).map(|column| value(row, column)).collect();
    session.some_rows(sql, &parameters, PAGE_BYTES).await?.iter().map(read).collect()
}

impl View for PgView {
    fn backend(&self) -> Backend {
        Backend::Postgres
    }

    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>> {
        async move { rows(&self.0, sql, parameters).await.map_err(|e| failed(&e)) }.boxed()
    }
}

struct PgTarget {
    view: PgView,
    /// A transaction of its own must not end in the middle of another.
    writing: Mutex<Session>,
    place: Place,
}

impl View for PgTarget {
    fn backend(&self) -> Backend {
        Backend::Postgres
    }

    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>> {
        self.view.rows(sql, parameters)
    }
}

impl Target for PgTarget {
    fn begin<'a>(&'a self, mark: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            if schema::is_loading(&self.view.0, &self.place).await? {
                return match self.remembered("").await? {
                    Some(found) if found == mark.as_bytes() => Ok(()),
                    _ => Err(not_empty()),
                };
            }
            for table in must_be_empty(Backend::Postgres) {
                let found = self.view.rows(&format!("SELECT 1 FROM {} LIMIT 1", table.name), &[]).await?;
                if !found.is_empty() {
                    return Err(not_empty());
                }
            }
            let session = self.writing.lock().await;
            let make = format!("BEGIN; CREATE TABLE {LOADING} (name text PRIMARY KEY, value bytea NOT NULL)");
            let made = async {
                session.plain(&make).await?;
                remember(&session, "", mark.as_bytes()).await
            };
            finished(&session, made.await).await
        }
        .boxed()
    }

    fn reached<'a>(&'a self, table: &'static Table) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.remembered(table.name).boxed()
    }

    fn load<'a>(&'a self, table: &'static Table, rows: Vec<Row>, reached: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        async move {
            let session = self.writing.lock().await;
            let loaded = async {
                session.plain("BEGIN").await?;
                insert(&session, table, &rows).await?;
                remember(&session, table.name, &reached).await
            };
            finished(&session, loaded.await).await
        }
        .boxed()
    }

    fn finish(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let session = self.writing.lock().await;
            let done = async {
                session.plain("BEGIN").await?;
                session.plain(NUMBERS).await?;
                session.plain(&format!("DROP TABLE {LOADING}")).await
            };
            finished(&session, done.await).await?;
            session.plain("ANALYZE").await.map_err(|e| failed(&e))
        }
        .boxed()
    }
}

/// What new numbers begin at. Feed numbers are made of transaction numbers, so where those of this cluster are behind, an
/// offset lifts them above every event that is there.
const NUMBERS: &str = "
SELECT setval('entry_position', greatest((SELECT max(position) FROM entry), 1));
SELECT setval('customer_no', greatest((SELECT max(no) FROM customer), 1));
SELECT setval('conversation_no', greatest((SELECT max(no) FROM conversation), 1));
SELECT setval('interaction_no', greatest((SELECT max(no) FROM interaction), 1));
SELECT setval(pg_get_serial_sequence('applied', 'apply_no'), greatest((SELECT max(apply_no) FROM applied), 1));
SELECT setval(pg_get_serial_sequence('bundle', 'no'), greatest((SELECT max(no) FROM bundle), 1));
SELECT setval(pg_get_serial_sequence('quarantine', 'no'), greatest((SELECT max(no) FROM quarantine), 1));
UPDATE setting SET value = greatest(0, (
    SELECT (greatest((SELECT max(no) FROM event), (SELECT max(event) FROM settled),
                     (SELECT max(latest_event) FROM conversation), 0) >> 20) + 1
         - pg_snapshot_xmin(pg_current_snapshot())::text::int8))
 WHERE name = 'feed_offset'";

impl PgTarget {
    async fn remembered(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let sql = format!("SELECT value FROM {LOADING} WHERE name = $1");
        let row = self.view.0.row(&sql, &[&name]).await.map_err(|e| failed(&e))?;
        row.map(|row| row.try_get(0)).transpose().map_err(|e| failed(&e))
    }
}

async fn remember(session: &Session, name: &str, value: &[u8]) -> std::result::Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {LOADING} (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    );
    session.run(&sql, &[&name, &value]).await.map(drop)
}

/// Ends a transaction as it went.
async fn finished(session: &Session, outcome: std::result::Result<(), PgError>) -> Result<()> {
    match outcome {
        Ok(()) => session.plain("COMMIT").await.map_err(|e| failed(&e)),
        Err(error) => {
            let _ = session.plain("ROLLBACK").await;
            Err(failed(&error))
        }
    }
}

/// Inserts rows: one statement, each column an array.
async fn insert(session: &Session, table: &'static Table, rows: &[Row]) -> std::result::Result<(), PgError> {
    let (mut names, mut arrays, mut columns): (Vec<&str>, Vec<String>, Vec<Parameter>) = Default::default();
    for (place, column) in table.moved().enumerate().filter(|(_, column)| column.is_in(Backend::Postgres)) {
        let values = || rows.iter().map(|row| row.get(place).unwrap_or(&Value::Null));
        let (ty, array): (_, Parameter) = match column.ty {
            Type::Integer | Type::Moment => ("int8", Box::new(values().map(Value::integer).collect::<Vec<_>>())),
            Type::Text => ("text", Box::new(values().map(text).collect::<Vec<_>>())),
            // No list is moved.
            Type::List => continue,
            Type::Bytes => ("bytea", Box::new(values().map(|v| v.bytes().map(<[u8]>::to_vec)).collect::<Vec<_>>())),
        };
        names.push(column.name);
        columns.push(array);
        arrays.push(format!("${}::{ty}[]", columns.len()));
    }
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({})",
        table.name,
        names.join(", "),
        arrays.join(", ")
    );
    let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect();
    session.run(&sql, &parameters).await.map(drop)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(portable(text).into_owned()),
        _ => None,
    }
}

/// What PostgreSQL tells of itself and of the database at `place`; with `deep` and the extension `amcheck`, indexes are
/// checked. Settings with which it may lose data are refused when connecting.
///
/// # Errors
///
/// As [`Session::connect`].
pub async fn health(place: &Place, deep: bool) -> Result<Vec<Finding>> {
    let session = Session::connect(place, Role::Archive, None).await?;
    let text = async |sql: &str| -> Result<String> {
        let row = session.row(sql, &[]).await.map_err(|e| failed(&e))?;
        row.map_or(Ok(String::new()), |row| row.try_get(0)).map_err(|e| failed(&e))
    };
    let mut findings = Vec::new();
    let settings = "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')
        || ', full_page_writes ' || current_setting('full_page_writes')
        || ', synchronous_commit ' || current_setting('synchronous_commit')";
    findings.push(Finding::good(Area::Settings, text(settings).await?));
    let sums = text("SELECT current_setting('data_checksums')").await?;
    findings.push(match sums.as_str() {
        "on" => Finding::good(Area::Settings, "pages have checksums"),
        _ => Finding::doubtful(
            Area::Settings,
            "pages have no checksums, so that a damaged one may go unnoticed",
            "stop the server and run `pg_checksums --enable`",
        ),
    });
    let before = now_millis();
    let clock: i64 =
        text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8::text").await?.parse().unwrap_or(0);
    findings.push(clocks("the database", clock, (before + now_millis()) / 2));
    let long = "SELECT count(*)::text FROM pg_stat_activity
                 WHERE backend_xid IS NOT NULL AND xact_start < clock_timestamp() - interval '1 minute'";
    let long = text(long).await?;
    findings.push(match long.as_str() {
        "0" => Finding::good(Area::Lag, "no transaction holds the feed of events up"),
        _ => Finding::bad(
            Area::Lag,
            format!("{long} writing transactions have run for more than a minute and hold the feed of events up"),
            "`SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL` names them; have their owners end them",
        ),
    });
    findings.push(pages(&session, place, deep).await?);
    Ok(findings)
}

/// Whether indexes are whole, where the server can tell.
async fn pages(session: &Session, place: &Place, deep: bool) -> Result<Finding> {
    let there = session.row("SELECT 1::int8 FROM pg_extension WHERE extname = 'amcheck'", &[]).await;
    if there.map_err(|e| failed(&e))?.is_none() || !deep {
        let found = "indexes were not compared with their tables";
        return Ok(match deep {
            true => {
                Finding::doubtful(Area::Integrity, found, "`CREATE EXTENSION amcheck` in this database lets them be")
            }
            false => Finding::good(Area::Integrity, found),
        });
    }
    let sql = "SELECT c.oid::int8, c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
                WHERE n.nspname = $1 AND a.amname = 'btree'";
    let indexes = session.rows(sql, &[&place.schema]).await.map_err(|e| failed(&e))?;
    for index in &indexes {
        let (oid, name): (i64, String) =
            (index.try_get(0).map_err(|e| failed(&e))?, index.try_get(1).map_err(|e| failed(&e))?);
        let checked = session.plain(&format!("SELECT bt_index_check({oid}::oid::regclass, true)")).await;
        let Err(error) = checked else { continue };
        let damaged = [&SqlState::INDEX_CORRUPTED, &SqlState::DATA_CORRUPTED];
        if error.code().is_some_and(|code| damaged.contains(&code)) {
            let advice = format!("`REINDEX INDEX {name}`, then look into the server's log and its disk");
            return Ok(Finding::bad(Area::Integrity, format!("the index {name} is damaged"), advice));
        }
        let found = format!("indexes could not be compared with their tables: {}", Told::of(&error));
        let advice = "let the user of `store` execute the function bt_index_check";
        return Ok(Finding::doubtful(Area::Integrity, found, advice));
    }
    Ok(Finding::good(Area::Integrity, format!("{} indexes agree with their tables", indexes.len())))
}

fn now_millis() -> i64 {
    crate::base::Clock::system().now().millis()
}
