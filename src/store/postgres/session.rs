//! One connection: how it is made, what is demanded of the server, and what its errors mean.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::place::{Place, Told};
use crate::base::{Error, Kind, Result, Retry, Side};

/// An error of the driver.
pub(super) type PgError = tokio_postgres::Error;
/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The oldest server that is used: the first with all that is relied on here and still maintained by its makers.
const OLDEST_SERVER: i32 = 140_000;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It writes the groups.
    Writer,
    /// It only reads.
    Reader,
    /// It follows the feed and draws numbers.
    Helper,
    /// It walks over everything, which takes as long as it takes.
    Archive,
}

/// Called for each notification: the sender's process and what it says.
pub(super) type OnNotice = Arc<dyn Fn(i32, &str) + Send + Sync>;

/// A connection with its prepared statements. Its traffic is carried by a task of the runtime that made it.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    ended: watch::Receiver<bool>,
}

impl Session {
    /// Connects, and checks that the server keeps what it confirms.
    ///
    /// # Errors
    ///
    /// `Config` if a setting of the server must be changed first, `Unavailable` if it cannot be reached now.
    pub(super) async fn connect(place: &Place, role: Role, on_notice: Option<OnNotice>) -> Result<Session> {
        let (client, mut connection) =
            place.config.connect(place.tls()?).await.map_err(|e| unreachable(&e).context(place.shown()))?;
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                match (message, &on_notice) {
                    (Ok(AsyncMessage::Notification(notice)), Some(told)) => told(notice.process_id(), notice.payload()),
                    (Ok(_), _) => {}
                    (Err(error), _) => {
                        tracing::warn!(target: "segue::journal", error = %Told::of(&error), "a connection to PostgreSQL is lost");
                        break;
                    }
                }
            }
            end.send_replace(true);
        });
        let session = Session { client, statements: Mutex::default(), ended };
        session.demand().await.map_err(|e| e.context(place.shown()))?;
        session.settle(place, role).await.map_err(|e| match e.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => taken().context(place.shown()),
            _ => failed(&e).context(place.shown()),
        })?;
        Ok(session)
    }

    /// Refuses a server that may lose what it confirmed, or that is not the one that decides.
    async fn demand(&self) -> Result<()> {
        let sql = "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery(), current_setting('fsync'),
                          current_setting('full_page_writes'), current_setting('synchronous_commit')";
        let row = self.client.query_one(sql, &[]).await.map_err(|e| failed(&e))?;
        let read = || -> std::result::Result<_, PgError> {
            Ok((
                row.try_get::<_, i32>(0)?,
                row.try_get::<_, bool>(1)?,
                [("fsync", row.try_get::<_, String>(2)?), ("full_page_writes", row.try_get(3)?)],
                row.try_get::<_, String>(4)?,
            ))
        };
        let (version, replica, switches, synchronous) = read().map_err(|e| failed(&e))?;
        if version < OLDEST_SERVER {
            let (found, oldest) = (version / 10_000, OLDEST_SERVER / 10_000);
            return Err(Error::config(format!("the server is PostgreSQL {found}; use {oldest} or a later one")));
        }
        if replica {
            return Err(Error::config("the server is a replica; name the primary in `store`"));
        }
        for (name, value) in switches {
            if value != "on" {
                return Err(refused(name, &value));
            }
        }
        if synchronous == "off" || synchronous == "local" {
            return Err(refused("synchronous_commit", &synchronous));
        }
        Ok(())
    }

    async fn settle(&self, place: &Place, role: Role) -> std::result::Result<(), PgError> {
        // Statements are planned once, while the tables are small, and serve until they are large: each must go by an index
        // from the beginning. Compiling plans that are run for microseconds does not pay.
        let mut sql = format!(
            "SET search_path TO \"{}\"; SET client_min_messages TO warning; SET jit TO off;
             SET enable_seqscan TO off; SET plan_cache_mode TO force_generic_plan;",
            place.schema
        );
        if role == Role::Writer {
            // A node that is stopped in the middle of a transaction must not hold the others up for long. As long as it is
            // connected, nobody moves the store or restores into it.
            sql.push_str("SET idle_in_transaction_session_timeout TO '5s'; SET lock_timeout TO '10s';");
            sql.push_str(&format!("SELECT pg_advisory_lock_shared({});", place.node_lock()));
        }
        sql.push_str(match role {
            Role::Writer => "",
            Role::Reader => "SET default_transaction_read_only TO on; SET statement_timeout TO '30s';",
            Role::Helper => "SET statement_timeout TO '30s';",
            Role::Archive => {
                "SET lock_timeout TO '10s'; SET statement_timeout TO 0; SET idle_in_transaction_session_timeout TO 0;"
            }
        });
        self.client.batch_execute(&sql).await
    }

    /// Prepares statements, all at once.
    pub(super) async fn prepare(&self, all: &[&str]) -> std::result::Result<(), PgError> {
        futures_util::future::try_join_all(all.iter().map(|sql| self.statement(sql))).await?;
        Ok(())
    }

    async fn statement(&self, sql: &str) -> std::result::Result<Statement, PgError> {
        let known = self.statements.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The rows of a query. Of calls that are polled together, those whose statements are prepared go out in the order of
    /// their first poll, before any is answered.
    pub(super) async fn rows(&self, sql: &str, parameters: Params<'_>) -> std::result::Result<Vec<Row>, PgError> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, parameters).await
    }

    /// The rows of a query until they pass so many bytes, and at least the first one. The others are thrown away.
    pub(super) async fn some_rows(
        &self,
        sql: &str,
        parameters: &[Box<dyn ToSql + Sync + Send>],
        bytes: usize,
    ) -> std::result::Result<Vec<Row>, PgError> {
        let statement = self.statement(sql).await?;
        let parameters = parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync));
        let mut stream = std::pin::pin!(self.client.query_raw(&statement, parameters.collect::<Vec<_>>()).await?);
        let (mut rows, mut size) = (Vec::new(), 0);
        while size < bytes
            && let Some(row) = stream.try_next().await?
        {
            size += row.raw_size_bytes();
            rows.push(row);
        }
        Ok(rows)
    }

    /// The first row of a query.
    pub(super) async fn row(&self, sql: &str, parameters: Params<'_>) -> std::result::Result<Option<Row>, PgError> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// How many rows a statement changed.
    pub(super) async fn run(&self, sql: &str, parameters: Params<'_>) -> std::result::Result<u64, PgError> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, parameters).await
    }

    /// Runs statements without parameters.
    pub(super) async fn plain(&self, sql: &str) -> std::result::Result<(), PgError> {
        self.client.batch_execute(sql).await
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ready once the connection has ended.
    pub(super) async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

fn refused(setting: &str, value: &str) -> Error {
    Error::config(format!(
        "the server runs with `{setting} = {value}` and may lose what it confirmed; set `{setting} = on` and reload it"
    ))
}

/// The error of a gateway that comes while somebody has the store alone.
fn taken() -> Error {
    Error::new(Kind::Unavailable, "the database is being moved or restored; start again when that is done")
        .on_side(Side::Operator)
        .with_retry(Retry::Later)
}

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The connection or the server is gone: whether the transaction was committed is unknown. Connect and try again.
    Lost,
    /// Another transaction was in the way, or a resource is short for now: try again.
    Again,
    /// A unique key was met.
    Unique,
    /// The statement itself is refused.
    Refused,
}

/// What is to be done about `error`.
pub(super) fn fate(error: &PgError) -> Fate {
    let Some(code) = error.code() else {
        return if error.is_closed() { Fate::Lost } else { Fate::Refused };
    };
    match code.code().get(..2) {
        _ if *code == SqlState::UNIQUE_VIOLATION => Fate::Unique,
        // A server that became a replica while we were connected.
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Fate::Lost,
        _ if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => Fate::Again,
        Some("08" | "57" | "25" | "58") => Fate::Lost,
        Some("40" | "53") => Fate::Again,
        _ => Fate::Refused,
    }
}

/// Translates an error of the driver.
pub(super) fn failed(error: &PgError) -> Error {
    let (kind, retry) = match fate(error) {
        Fate::Lost => (Kind::Unavailable, Retry::Later),
        Fate::Again => (Kind::Unavailable, Retry::Now),
        Fate::Unique => (Kind::Conflict, Retry::Now),
        Fate::Refused => (Kind::Io, Retry::Later),
    };
    Error::new(kind, "the database refused").on_side(Side::Us).with_retry(retry).because(Told::of(error))
}

fn unreachable(error: &PgError) -> Error {
    let told = Told::of(error);
    let wrong = error.code().is_some_and(|code| matches!(code.code().get(..2), Some("28" | "3D")));
    if wrong {
        return Error::config("the server refused the user, the password or the database of `store`").because(told);
    }
    Error::new(Kind::Unavailable, "the server cannot be reached; is it running, and `store` right?")
        .on_side(Side::Us)
        .because(told)
}
