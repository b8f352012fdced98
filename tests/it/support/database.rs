//! The project's database, looked into as no part of the gateway: what is really stored.
//!
//! `SEGUE_TEST_STORE=postgres` runs every test on a PostgreSQL server that this process starts for itself; without it, on
//! SQLite. The tables are the same, so most questions are put in the same words.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use super::source;

/// Where a project's data is.
#[derive(Clone)]
pub(crate) enum Database {
    /// In the data folder of the project.
    Sqlite(PathBuf),
    /// At this URL.
    Postgres(String),
}

/// Whether the tests run on PostgreSQL.
pub(crate) fn on_postgres() -> bool {
    match std::env::var("SEGUE_TEST_STORE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") | Err(_) => false,
        Ok(other) => panic!("SEGUE_TEST_STORE={other}: it is `sqlite` or `postgres`"),
    }
}

/// A PostgreSQL server of its own. It ends when it is dropped, at the latest with this process.
pub(crate) struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    /// Starts a new, empty one.
    pub(crate) fn start() -> Server {
        let mut command = Command::new(source::root().join("tests/postgres"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Server { child, input, output, url: String::new() };
        server.url = server.line();
        let started = server.url.starts_with("postgres://");
        assert!(started, "PostgreSQL does not start; `tests/env` installs what is needed");
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Stops it at once, as `pg_ctl stop -m immediate` does, and starts it again.
    pub(crate) fn restart(&mut self) {
        writeln!(self.input.as_mut().unwrap(), "restart").unwrap();
        assert_eq!(self.line(), "restarted");
    }

    /// The socket that it listens at.
    pub(crate) fn socket(&self) -> PathBuf {
        let folder = self.url.trim_start_matches("postgres://segue@");
        let folder = percent_encoding::percent_decode_str(folder).decode_utf8().unwrap().into_owned();
        PathBuf::from(folder).join(".s.PGSQL.5432")
    }

    /// A new, empty database on it.
    pub(crate) fn database(&self) -> Database {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("project_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        ask(&format!("{}/postgres", self.url), &format!("CREATE DATABASE {name}"));
        Database::Postgres(format!("{}/{name}", self.url))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Database {
    /// A new one, for the project in `folder`.
    pub(crate) fn new(folder: &Path) -> Database {
        if on_postgres() { Database::shared() } else { Database::Sqlite(folder.join("data")) }
    }

    /// A new one that several gateways can share, whatever the other tests run on.
    pub(crate) fn shared() -> Database {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Server::start).database()
    }

    /// A new one of the kind that the tests do not run on, in `folder` if that is a folder.
    pub(crate) fn of_the_other_kind(folder: &Path) -> Database {
        if on_postgres() {
            return Database::Sqlite(folder.to_owned());
        }
        Database::shared()
    }

    /// The folder that its files lie in.
    pub(crate) fn folder(&self) -> PathBuf {
        match self {
            Database::Sqlite(data) => data.clone(),
            Database::Postgres(url) => {
                let server = url.trim_start_matches("postgres://segue@").split('/').next().unwrap();
                PathBuf::from(percent_encoding::percent_decode_str(server).decode_utf8().unwrap().into_owned())
            }
        }
    }

    /// Where it is, as commands take it.
    pub(crate) fn place(&self) -> String {
        match self {
            Database::Sqlite(data) => data.display().to_string(),
            Database::Postgres(url) => url.clone(),
        }
    }

    /// Changes it behind the gateway's back, which must not be running.
    pub(crate) fn change(&self, sql: &str) {
        match self {
            Database::Sqlite(data) => {
                rusqlite::Connection::open(data.join("segue.db")).unwrap().execute_batch(sql).unwrap();
            }
            Database::Postgres(url) => drop(ask(url, sql)),
        }
    }

    /// The line of `segue.toml` that names it.
    pub(crate) fn setting(&self) -> String {
        match self {
            Database::Sqlite(data) => format!("data = \"{}\"\n", data.display()),
            Database::Postgres(url) => format!("store = \"{url}\"\n"),
        }
    }

    /// The name of the database on its server, or of the folder.
    pub(crate) fn name(&self) -> String {
        match self {
            Database::Sqlite(data) => data.display().to_string(),
            Database::Postgres(url) => url.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        match self {
            Database::Sqlite(data) => open(data).query_row(sql, [], |row| row.get(0)).unwrap(),
            Database::Postgres(url) => ask(url, sql).first().unwrap().get(0),
        }
    }

    /// The first column of every row, which is text or the bytes of text.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match self {
            Database::Sqlite(data) => {
                let database = open(data);
                let mut select = database.prepare(sql).unwrap();
                let rows = select.query_map([], |row| Ok(text(row.get_ref(0)?.as_bytes()?))).unwrap();
                rows.map(Result::unwrap).collect()
            }
            Database::Postgres(url) => {
                let rows = ask(url, sql);
                let column = |row: &tokio_postgres::Row| match *row.columns()[0].type_() {
                    Type::BYTEA => text(row.get(0)),
                    _ => row.get(0),
                };
                rows.iter().map(column).collect()
            }
        }
    }

    /// The columns of a table; none if there is no such table.
    pub(crate) fn columns(&self, table: &str) -> Vec<String> {
        self.texts(&match self {
            Database::Sqlite(_) => format!("SELECT name FROM pragma_table_info('{table}')"),
            Database::Postgres(_) => format!(
                "SELECT column_name::text FROM information_schema.columns
                 WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
            ),
        })
    }

    /// Changes what is stored, while no gateway runs.
    pub(crate) fn fill(&self, sql: &str) {
        match self {
            Database::Sqlite(data) => {
                let database = rusqlite::Connection::open(file(data)).unwrap();
                database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").unwrap();
                database.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            Database::Postgres(url) => {
                ask(url, sql);
            }
        }
    }

    /// A transaction that somebody else begins on the same server, in a database of their own. It runs until it is dropped.
    pub(crate) async fn others_at_work(&self) -> Option<tokio_postgres::Client> {
        let Database::Postgres(url) = self else { return None };
        let (server, _) = url.rsplit_once('/').unwrap();
        let (client, connection) = tokio_postgres::connect(&format!("{server}/postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        Some(client)
    }

    /// What is wrong with the tables and their indexes.
    pub(crate) fn damage(&self) -> Option<String> {
        let url = match self {
            Database::Sqlite(_) => {
                return self.texts("PRAGMA integrity_check").into_iter().find(|told| told != "ok");
            }
            Database::Postgres(url) => url,
        };
        ask(url, "CREATE EXTENSION IF NOT EXISTS amcheck");
        let damaged =
            "SELECT format('%s: block %s, %s', c.relname, d.blkno, d.msg) FROM pg_class c, verify_heapam(c.oid) d
            WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace";
        // It fails at the first index that is damaged, or that lacks a row of its table, and says which.
        let indexes = "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
            WHERE c.relkind = 'i' AND a.amname = 'btree' AND c.relnamespace = 'public'::regnamespace";
        try_ask(url, indexes).err().or_else(|| self.texts(damaged).into_iter().next())
    }
}

/// The database in a data folder.
fn file(data: &Path) -> PathBuf {
    data.join("segue.db")
}

fn open(data: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open_with_flags(file(data), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn ask(url: &str, sql: &str) -> Vec<tokio_postgres::Row> {
    try_ask(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Asks a server from a thread of its own, since the tests ask from within their runtimes.
fn try_ask(url: &str, sql: &str) -> Result<Vec<tokio_postgres::Row>, String> {
    let asked = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            let said = |error: tokio_postgres::Error| match error.as_db_error() {
                Some(told) => told.message().to_owned(),
                None => error.to_string(),
            };
            client.query(sql, &[]).await.map_err(said)
        })
    };
    std::thread::scope(|scope| scope.spawn(asked).join().unwrap())
}
