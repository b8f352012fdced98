//! The key store beside SQLite: a small database of its own.
//!
//! It keeps no write-ahead log and overwrites what is deleted, so that a destroyed key is nowhere. Other processes may use
//! it at the same time: the commands that rotate the root key and that make backups.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use tokio::sync::watch;

use super::open::{failed, set_journal_mode};
use crate::base::{Kind, Result};
use crate::store::seal::{KeyId, KeyStore, WrappedKey};

/// The file's name.
pub(super) const FILE: &str = "keys.db";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS key (id INTEGER PRIMARY KEY, root BLOB NOT NULL, wrap BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS root (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL) STRICT;";

/// Keys in a file.
pub(super) struct KeyFile {
    connection: Mutex<Connection>,
    /// Set once the disk refused in a way that only a restart mends.
    broken: watch::Sender<bool>,
}

impl KeyFile {
    /// Opens or creates the key store in `directory`. `broken` is set should the disk refuse in a way that only a restart
    /// mends.
    pub(super) fn open(directory: &Path, broken: watch::Sender<bool>) -> Result<Arc<KeyFile>> {
        let path = directory.join(FILE);
        let connection = Connection::open(&path).map_err(|e| failed(e).context(path.display().to_string()))?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        set_journal_mode(&connection, "TRUNCATE")?;
        for (name, value) in [("synchronous", "EXTRA"), ("secure_delete", "ON")] {
            connection.pragma_update(None, name, value).map_err(failed)?;
        }
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Arc::new(KeyFile { connection: Mutex::new(connection), broken }))
    }

    /// Asks here and now: the answer comes from a small file.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let answer = question(&mut self.connection.lock()).map_err(failed);
        if let Err(error) = &answer
            && error.kind() == Kind::Io
        {
            tracing::error!(target: "segue::journal", error = %error.full(), "the key store is broken; a restart is needed");
            self.broken.send_replace(true);
        }
        std::future::ready(answer).boxed()
    }

    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        self.ask(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }
}

fn root(connection: &Connection) -> rusqlite::Result<Option<[u8; 8]>> {
    connection.query_row("SELECT id FROM root", [], |row| row.get(0)).optional()
}

fn key(row: &Row<'_>) -> rusqlite::Result<(KeyId, WrappedKey)> {
    Ok((KeyId(row.get(0)?), WrappedKey { root: row.get(1)?, bytes: row.get(2)? }))
}

impl KeyStore for KeyFile {
    fn load(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        self.ask(|connection| {
            let mut select = connection.prepare_cached("SELECT id, root, wrap FROM key WHERE id = ?1")?;
            let found = ids.iter().map(|id| select.query_row([id.0], key).optional());
            Ok(found.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    fn root(&self) -> BoxFuture<'_, Result<Option<[u8; 8]>>> {
        self.ask(|connection| root(connection))
    }

    fn add(&self, by: [u8; 8], keys: Vec<(KeyId, WrappedKey)>) -> BoxFuture<'_, Result<bool>> {
        self.change(|connection| {
            match root(connection)? {
                Some(found) if found != by => return Ok(false),
                Some(_) => {}
                None => drop(connection.execute("INSERT INTO root (one, id) VALUES (1, ?1)", [by.as_slice()])?),
            }
            let mut insert = connection
                .prepare_cached("INSERT INTO key (id, root, wrap) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
            for (id, wrapped) in &keys {
                insert.execute((id.0, wrapped.root.as_slice(), &wrapped.bytes))?;
            }
            Ok(true)
        })
    }

    fn page(&self, after: Option<KeyId>, limit: usize) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        self.ask(|connection| {
            let after = after.map_or(i64::MIN, |id| id.0);
            let mut select =
                connection.prepare_cached("SELECT id, root, wrap FROM key WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            select.query_map((after, limit as i64), key)?.collect()
        })
    }

    fn go_by(&self, by: [u8; 8]) -> BoxFuture<'_, Result<()>> {
        self.change(|connection| {
            connection.execute(
                "INSERT INTO root (one, id) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET id = excluded.id",
                [by.as_slice()],
            )?;
            Ok(())
        })
    }

    fn rewrap(&self, keys: Vec<(KeyId, [u8; 8], WrappedKey)>) -> BoxFuture<'_, Result<()>> {
        self.change(|connection| {
            let mut update =
                connection.prepare_cached("UPDATE key SET root = ?3, wrap = ?4 WHERE id = ?1 AND root = ?2")?;
            for (id, was, wrapped) in &keys {
                update.execute((id.0, was.as_slice(), wrapped.root.as_slice(), &wrapped.bytes))?;
            }
            Ok(())
        })
    }

    fn destroy(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<()>> {
        self.change(|connection| {
            let mut delete = connection.prepare_cached("DELETE FROM key WHERE id = ?1")?;
            for id in &ids {
                delete.execute([id.0])?;
            }
            Ok(())
        })
    }
}
