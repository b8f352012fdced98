//! The project's database, looked into as no part of the gateway: what is really stored.
//!
//! `SEGUE_TEST_STORE=postgres` runs every test on a PostgreSQL server that this process starts for itself; without it, on
//! SQLite. The tables are the same, so most questions are put in the same words.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use super::source;

/// Where a project's data is.
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

/// The URL of this process's server, without a database. The server ends with the process.
fn server() -> &'static str {
    static SERVER: OnceLock<(Child, String)> = OnceLock::new();
    let (_, url) = SERVER.get_or_init(|| {
        let mut command = Command::new(source::root().join("tests/postgres"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("postgres://"), "PostgreSQL does not start; `tests/env` installs what is needed");
        (child, url.trim_end().to_owned())
    });
    url
}

impl Database {
    /// A new one, for the project in `folder`.
    pub(crate) fn new(folder: &Path) -> Database {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if !on_postgres() {
            return Database::Sqlite(folder.join("data"));
        }
        let name = format!("project_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        ask(&format!("{}/postgres", server()), &format!("CREATE DATABASE {name}"));
        Database::Postgres(format!("{}/{name}", server()))
    }

    /// The line of `segue.toml` that names it.
    pub(crate) fn setting(&self) -> String {
        match self {
            Database::Sqlite(_) => String::new(),
            Database::Postgres(url) => format!("store = \"{url}\"\n"),
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

    /// Changes what is stored, as no gateway does. None may be running.
    pub(crate) fn change(&self, sql: &str) {
        match self {
            Database::Sqlite(data) => {
                let database = rusqlite::Connection::open(data.join("segue.db")).unwrap();
                database.execute_batch(sql).unwrap();
            }
            Database::Postgres(url) => drop(ask(url, sql)),
        }
    }

    /// What is wrong with the files, where they are the gateway's to keep.
    pub(crate) fn damage(&self) -> Option<String> {
        match self {
            Database::Sqlite(_) => self.texts("PRAGMA integrity_check").into_iter().find(|told| told != "ok"),
            Database::Postgres(_) => None,
        }
    }
}

fn open(data: &Path) -> rusqlite::Connection {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let is_database = |path: &PathBuf| path.extension().is_some_and(|e| e == "db" || e == "sqlite" || e == "sqlite3");
    let path = files.into_iter().find(is_database).expect("there is a database in the data folder");
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Asks a server from a thread of its own, since the tests ask from within their runtimes.
fn ask(url: &str, sql: &str) -> Vec<tokio_postgres::Row> {
    let asked = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
        })
    };
    std::thread::scope(|scope| scope.spawn(asked).join().unwrap())
}
