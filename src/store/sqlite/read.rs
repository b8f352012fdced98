//! Reading connections, lent out one at a time.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::open::{failed, reader};
use crate::base::{Error, Result};

/// Connections that only read. When all are lent another is opened; at most `keep` come back to stay.
pub(super) struct Readers {
    path: PathBuf,
    keep: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, keep: usize) -> Self {
        Readers { path, keep, idle: Mutex::new(Vec::new()) }
    }

    /// Runs `query` here and now.
    pub(super) fn with<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let lent = self.idle.lock().pop();
        let connection = match lent {
            Some(connection) => connection,
            None => reader(&self.path, 4 * 1024)?,
        };
        let answer = query(&connection).map_err(failed);
        let mut idle = self.idle.lock();
        if idle.len() < self.keep {
            idle.push(connection);
        }
        answer
    }

    /// Runs `query` when polled, on the thread that polls: for the threads that apply entries, which may block.
    pub(super) fn here<'a, T: Send + 'a>(
        &'a self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        async move { self.with(query) }.boxed()
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
}
