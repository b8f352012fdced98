//! Reading connections, lent out one at a time.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::open::{failed, reader};
use crate::base::{Error, Result};
use crate::store::seal::Codec;
use crate::store::seal::stored::Stored;

/// Connections that only read. When all are lent another is opened; at most `keep` come back to stay.
pub(super) struct Readers {
    path: PathBuf,
    keep: usize,
    cache_kib: i64,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, keep: usize, cache_kib: i64) -> Self {
        Readers { path, keep, cache_kib, idle: Mutex::new(Vec::new()) }
    }

    fn lend(&self) -> Result<Connection> {
        let lent = self.idle.lock().pop();
        match lent {
            Some(connection) => Ok(connection),
            None => reader(&self.path, self.cache_kib),
        }
    }

    fn take_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.keep {
            idle.push(connection);
        }
    }

    /// Runs `query` here and now.
    pub(super) fn with<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let connection = self.lend()?;
        let answer = query(&connection).map_err(failed);
        self.take_back(connection);
        answer
    }

    /// A view of the store as it is now, for many reads in a row. Each read by itself would begin a snapshot of its own
    /// and find its page cache void, because somebody has written meanwhile.
    pub(super) fn snapshot(self: &Arc<Self>) -> Result<Snapshot> {
        let connection = self.lend()?;
        connection.execute_batch("BEGIN DEFERRED").map_err(failed)?;
        Ok(Snapshot { readers: self.clone(), connection: Mutex::new(Some(connection)) })
    }

    /// Runs `query` on a thread for blocking work: for everybody else.
    pub(super) fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let readers = self.clone();
        async move {
            tokio::task::spawn_blocking(move || readers.with(query))
                .await
                .map_err(|e| Error::internal("a read ended early").because(e))?
        }
        .boxed()
    }

    /// The same for rows that are sealed.
    pub(super) fn opened<'a, S: Stored + Send + 'static>(
        self: &Arc<Self>,
        codec: &'a Codec,
        query: impl FnOnce(&Connection) -> rusqlite::Result<Vec<S>> + Send + 'static,
    ) -> BoxFuture<'a, Result<Vec<S::Row>>> {
        let rows = self.apart(query);
        async move { codec.open_all(rows.await?).await }.boxed()
    }
}

/// One connection within one read transaction, given back when dropped.
pub(super) struct Snapshot {
    readers: Arc<Readers>,
    connection: Mutex<Option<Connection>>,
}

impl Snapshot {
    /// Runs `query` here and now.
    pub(super) fn with<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        match self.connection.lock().as_ref() {
            Some(connection) => query(connection).map_err(failed),
            None => Err(Error::internal("a snapshot was used after its end")),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.lock().take()
            && connection.execute_batch("COMMIT").is_ok()
        {
            self.readers.take_back(connection);
        }
    }
}
