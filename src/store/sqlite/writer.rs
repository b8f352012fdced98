//! The one thread that writes: group commit.
//!
//! Whatever waits goes into one transaction: appends to the journal first, since a provider waits for them, then
//! changesets and marks until the group has collected long enough. Nobody is told anything before the commit is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::{Notify, oneshot, watch};

use super::checkpoint;
use super::keys::Keys;
use super::open::{Files, Options, failed};
use super::queues::{Append, Job, Queues, Waiting};
use super::worker::Worker;
use crate::base::telemetry::Metrics;
use crate::base::{Error, Result};
use crate::model::Entry;
use crate::store::seal::{Codec, SealedEntry, SealedSet};
use crate::store::subscribers::{Marks, Subscribers};
use crate::store::{Appended, Committed, NewEntry, Tail, unavailable};

/// How many appends may wait; past it the journal says that it is full.
const MAX_WAITING_APPENDS: usize = 8192;
/// How many interactive entries the tail of theirs holds.
const URGENT: usize = 1024;

/// Handle of the writing thread.
pub(super) struct Writer {
    queues: Arc<Queues>,
    broken: watch::Sender<bool>,
    /// Committed entries, for the stage that applies them.
    pub(super) tail: Arc<Tail<Entry>>,
    /// Committed entries that somebody waits for.
    pub(super) urgent: Arc<Tail<Entry>>,
    /// What help desks subscribe to, with the tail of each.
    pub(super) subscribers: Arc<Subscribers>,
    /// The end of the feed.
    pub(super) feed: watch::Sender<i64>,
    /// Wakes those who send and fetch.
    pub(super) wake: Arc<Notify>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        files: Files,
        options: &Options,
        keys: Arc<Keys>,
        codec: Arc<Codec>,
        broken: watch::Sender<bool>,
        metrics: Metrics,
    ) -> Result<Arc<Writer>> {
        let end: i64 = files
            .connection
            .query_row("SELECT coalesce(max(no), 0) FROM event", [], |row| row.get(0))
            .map_err(failed)?;
        let writer = Arc::new(Writer {
            queues: Arc::new(Queues { inner: Mutex::new(Waiting::default()), ready: Condvar::new() }),
            broken,
            tail: Arc::new(Tail::new(options.tail)),
            urgent: Arc::new(Tail::new(URGENT)),
            subscribers: Arc::default(),
            feed: watch::Sender::new(end),
            wake: Arc::new(Notify::new()),
            thread: Mutex::new(None),
        });
        let path = files.path.clone();
        let (log_too_long, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let worker = Worker {
            connection: files.connection,
            _lock: files.lock,
            queues: writer.queues.clone(),
            broken: writer.broken.clone(),
            tail: writer.tail.clone(),
            urgent: writer.urgent.clone(),
            subscribers: writer.subscribers.clone(),
            feed: writer.feed.clone(),
            wake: writer.wake.clone(),
            group: Duration::from_millis(options.group_ms),
            early: options.acknowledge_before_commit,
            bundles: HashMap::new(),
            keys,
            codec,
            careful: 0,
            log_too_long: log_too_long.clone(),
            cut_log: false,
            written: written.clone(),
            metrics,
        };
        let thread = std::thread::Builder::new()
            .name("segue-writer".to_owned())
            .spawn(move || worker.run())
            .map_err(|e| Error::io("failed to start the writing thread", e))?;
        *writer.thread.lock() = Some(thread);
        let (closed, ended) = (Arc::downgrade(&writer.queues), Arc::downgrade(&writer.queues));
        let broken = writer.broken.clone();
        checkpoint::start(
            &path,
            options.checkpoint_after,
            written,
            log_too_long,
            move || closed.upgrade().is_none_or(|queues| queues.is_over()),
            move |error| {
                if let Some(queues) = ended.upgrade() {
                    queues.give_up(&broken, error);
                }
            },
        )?;
        Ok(writer)
    }

    pub(super) fn healthy(&self) -> bool {
        !*self.broken.borrow() && self.queues.inner.lock().appends.len() < MAX_WAITING_APPENDS
    }

    pub(super) fn append(&self, entry: NewEntry, sealed: SealedEntry) -> BoxFuture<'static, Result<Appended>> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.queues.inner.lock();
            if waiting.dead || waiting.closing || waiting.appends.len() >= MAX_WAITING_APPENDS {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.appends.push_back(Append { entry, sealed, reply });
        }
        self.queues.ready.notify_one();
        async move { answer.await.unwrap_or_else(|_| Err(unavailable())) }.boxed()
    }

    pub(super) fn commit(&self, batch: Vec<SealedSet>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.queues.inner.lock();
            if waiting.dead {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.commits.push_back((batch, reply));
        }
        self.queues.ready.notify_one();
        async move { answer.await.unwrap_or_else(|_| Err(unavailable())) }.boxed()
    }

    /// Runs `work` in the next group; its value is given once the group is on disk.
    pub(super) fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        self.job_then(work, |value| value)
    }

    /// The same, with what is to be done first of all once the group is on disk, whether or not the caller still waits.
    pub(super) fn job_then<V: Send + 'static, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<V> + Send + 'static,
        then: impl FnOnce(V) -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (value_out, value_in) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let value = work(connection)?;
            Ok(Box::new(move || {
                let _ = value_out.send(then(value));
            }))
        });
        {
            let mut waiting = self.queues.inner.lock();
            if waiting.dead {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.jobs.push_back((job, reply));
        }
        self.queues.ready.notify_one();
        async move {
            answer.await.unwrap_or_else(|_| Err(unavailable()))?;
            value_in.await.map_err(|_| unavailable())
        }
        .boxed()
    }

    /// Adds to a help desk's marks. They do not wake the writer at once: they go with the next group, at the latest after
    /// its pause.
    pub(super) fn mark(&self, helpdesk: &str, change: impl FnOnce(&mut Marks)) {
        let mut waiting = self.queues.inner.lock();
        match waiting.marks.get_mut(helpdesk) {
            Some(marks) => change(marks),
            None => change(waiting.marks.entry(helpdesk.to_owned()).or_default()),
        }
        drop(waiting);
        self.queues.ready.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queues.inner.lock().closing = true;
        self.queues.ready.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}
