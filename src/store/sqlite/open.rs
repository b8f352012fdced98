//! Opening: the lock, the settings that durability needs, the schema.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::sealing;
use crate::base::{Error, Kind, Result, Retry, Side};
use crate::store::Progress;
use crate::store::archive;
use crate::store::seal::Codec;

/// The oldest SQLite that is free of the WAL-reset bug (<https://sqlite.org/wal.html>).
const OLDEST_SQLITE: i32 = 3_051_003;
/// The files of the schema in order; the first makes schema 1.
const STEPS: [&str; 6] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];
/// The schema this program reads and writes.
const SCHEMA: i64 = STEPS.len() as i64;
/// The schema from which on personal data is sealed.
const SEALED: i64 = 2;

/// Settings that matter for speed and memory, never for durability.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many reading connections are kept.
    pub readers: usize,
    /// Page cache of the writer in KiB.
    pub writer_cache_kib: i64,
    /// Page cache of each reader in KiB.
    pub reader_cache_kib: i64,
    /// How much is kept in memory of what decisions read, in KiB.
    pub hot_kib: u64,
    /// How many entries the tail of the journal holds in memory.
    pub tail: usize,
    /// How long a group may collect before it is committed, in milliseconds.
    pub group_ms: u64,
    /// After how many entries and changesets the write-ahead log is moved into the database.
    pub checkpoint_after: u64,
    /// Whether an append is reported before it is on disk. Exists only so that the crash test can show that it notices.
    pub acknowledge_before_commit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            readers: 8,
            writer_cache_kib: 16 * 1024,
            reader_cache_kib: 1024,
            hot_kib: 16 * 1024,
            tail: 8192,
            group_ms: 4,
            checkpoint_after: 1000,
            acknowledge_before_commit: false,
        }
    }
}

/// Proof that this process alone uses the data directory; held as long as the store is open.
pub struct Locked(#[allow(dead_code, reason = "held for its lock")] File);

/// The opened database with its lock.
pub(super) struct Files {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) lock: Locked,
}

/// Translates an error of SQLite.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    // Growing the index of the log on a full disk has a code of its own.
    let shared = error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    let (kind, retry) = match error.sqlite_error_code() {
        _ if shared => (Kind::Unavailable, Retry::Later),
        Some(ErrorCode::DiskFull) => (Kind::Unavailable, Retry::Later),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (Kind::Unavailable, Retry::Now),
        Some(ErrorCode::ConstraintViolation) => (Kind::Conflict, Retry::Now),
        _ => (Kind::Io, Retry::Later),
    };
    Error::new(kind, "the database refused").on_side(Side::Us).with_retry(retry).because(error)
}

impl Files {
    pub(super) fn open(
        directory: &Path,
        options: &Options,
        lock: Locked,
        codec: &Arc<Codec>,
        progress: &dyn Progress,
    ) -> Result<Files> {
        let files = Files::open_to_fill(directory, options, lock, codec, progress)?;
        if is_loading(&files.connection)? {
            return Err(archive::half_loaded().context(format!("data directory {}", directory.display())));
        }
        Ok(files)
    }

    /// Opens it although it may have been filled only in part.
    pub(super) fn open_to_fill(
        directory: &Path,
        options: &Options,
        lock: Locked,
        codec: &Arc<Codec>,
        progress: &dyn Progress,
    ) -> Result<Files> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(Error::config(format!("SQLite {} can lose data in WAL mode", rusqlite::version())));
        }
        let place = || format!("data directory {}", directory.display());
        let path = directory.join("segue.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|e| failed(e).context(place()))?;
        settle(&connection, options).map_err(|e| e.context(place()))?;
        renew_log(&connection).map_err(|e| e.context(place()))?;
        migrate(&mut connection, codec, progress).map_err(|e| e.context(place()))?;
        // The names of the database and its log are durable only once their directory is.
        for directory in
            [Some(directory), directory.parent().filter(|p| !p.as_os_str().is_empty())].into_iter().flatten()
        {
            sync_directory(directory).map_err(|e| e.context(place()))?;
        }
        Ok(Files { path, connection, lock })
    }
}

impl Locked {
    /// Takes the directory for this process; makes it if it is not there.
    pub(super) fn take(directory: &Path) -> Result<Locked> {
        let place = || format!("data directory {}", directory.display());
        std::fs::create_dir_all(directory).map_err(|e| Error::io("failed to create", e).context(place()))?;
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io("failed to open the lock", e).context(path.display().to_string()))?;
        let taken = "another segue process uses this data directory; stop it first, or give this one its own `data`";
        file.try_lock().map_err(|_| Error::config(taken).context(directory.display().to_string()))?;
        Ok(Locked(file))
    }
}

/// Whether the store is being filled from elsewhere, and is not whole yet.
pub(super) fn is_loading(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
    connection.prepare_cached(sql).and_then(|mut select| select.exists([archive::LOADING])).map_err(failed)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io("failed to sync the directory", e).context(directory.display().to_string()))
}

fn settle(connection: &Connection, options: &Options) -> Result<()> {
    let set = |name: &str, value: String| connection.pragma_update(None, name, value).map_err(failed);
    let mode = set_journal_mode(connection, "WAL")?;
    set("synchronous", "FULL".into())?;
    set("mmap_size", "0".into())?;
    set("cell_size_check", "ON".into())?;
    set("trusted_schema", "OFF".into())?;
    set("cache_size", format!("-{}", options.writer_cache_kib))?;
    set("wal_autocheckpoint", "0".into())?;
    // What a savepoint needs to be taken back belongs in memory: its file would cost a fifth of all writing.
    set("temp_store", "MEMORY".into())?;
    keep_plans(connection)?;
    let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |r| r.get(0)).map_err(failed)?;
    if mode != "wal" || synchronous != 2 {
        return Err(Error::config(format!(
            "the file system does not support durable storage (journal_mode {mode}, synchronous {synchronous})"
        )));
    }
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// Sets the journal mode and gives the one that holds then.
///
/// The statement is run to its end, past the row that it gives: switching is a transaction that commits only there, so
/// whoever stops at the row never learns that the disk refused, and SQLite says `wal` while it goes on without a log.
pub(super) fn set_journal_mode(connection: &Connection, mode: &str) -> Result<String> {
    let mut set = connection.prepare(&format!("PRAGMA journal_mode = {mode}")).map_err(failed)?;
    let modes = set.query_map([], |row| row.get(0)).and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>);
    Ok(modes.map_err(failed)?.pop().unwrap_or_default())
}

/// Keeps compiled statements as they are. Else SQLite compiles a statement anew for each value bound to its `LIMIT`.
fn keep_plans(connection: &Connection) -> Result<()> {
    use rusqlite::config::DbConfig;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    Ok(())
}

/// Moves the log that the last process left into the database and begins a new one. If that process ended because a sync
/// failed, the end of its log may be in memory and not on the disk, and nothing written behind it would outlive a failure
/// of the power.
fn renew_log(connection: &Connection) -> Result<()> {
    match connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed) {
        Err(error) if error.kind() == Kind::Unavailable => {
            tracing::warn!(target: "segue::journal", error = %error.full(), "the log could not be moved into the database");
            Ok(())
        }
        moved => moved,
    }
}

/// Has the log stay where it is when the connection is closed.
pub(super) fn keep_log(connection: &Connection) -> Result<()> {
    use rusqlite::config::DbConfig;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    Ok(())
}

/// A connection that only moves the log into the database.
pub(super) fn checkpointer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", "0").map_err(failed)?;
    connection.pragma_update(None, "cache_size", "-256").map_err(failed)?;
    // It may be the last one to be closed; whether the log can go is for the writer to say.
    keep_log(&connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, codec: &Arc<Codec>, progress: &dyn Progress) -> Result<()> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(failed)?;
    if found > SCHEMA {
        return Err(Error::config(format!(
            "the database has schema {found} and this program knows {SCHEMA}; use a newer segue"
        )));
    }
    if found > 0 && found < SEALED && codec.is_unused() {
        return Err(Error::config(
            "this store was written before personal data was sealed; start the gateway on it once",
        ));
    }
    let steps = (1..).zip(STEPS).filter(|(number, _)| *number > found);
    if found < SEALED {
        sealing::lend(connection, codec)?;
    }
    let transaction = connection.transaction().map_err(failed)?;
    for (number, step) in steps {
        if number == SEALED {
            sealing::make_keys(&transaction, codec)?;
        }
        transaction.execute_batch(step).map_err(failed)?;
        if number == SEALED {
            sealing::seal_tables(&transaction, progress)?;
        }
    }
    transaction.pragma_update(None, "user_version", SCHEMA).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    if found < SEALED {
        sealing::clean_up(connection)?;
    }
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path, cache_kib: i64) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.pragma_update(None, "query_only", "ON").map_err(failed)?;
    connection.pragma_update(None, "cache_size", format!("-{cache_kib}")).map_err(failed)?;
    keep_plans(&connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
