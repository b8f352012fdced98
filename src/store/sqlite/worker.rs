//! The thread behind the writer: one group after the other, each in one transaction.
//!
//! Nobody is told anything before the group is on disk. A group that the disk refuses is taken back whole; a refusal that
//! leaves in doubt what is on disk breaks the store, which only a restart mends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{Notify, watch};

use super::commit;
use super::journal;
use super::keys::Keys;
use super::open::{failed, keep_log};
use super::queues::{Append, Done, Queues, Reply};
use crate::base::telemetry::{Metrics, thread_cpu};
use crate::base::{Error, Kind, Result};
use crate::model::Entry;
use crate::store::seal::Codec;
use crate::store::subscribers::{Marks, Subscriber, Subscribers};
use crate::store::{Appended, Committed, DueEvent, Tail, unavailable};

/// How many changesets go into one group at most.
const MAX_GROUP: usize = 512;

/// The thread.
pub(super) struct Worker {
    pub(super) connection: Connection,
    pub(super) _lock: super::Locked,
    pub(super) queues: Arc<Queues>,
    pub(super) broken: watch::Sender<bool>,
    pub(super) tail: Arc<Tail<Entry>>,
    pub(super) urgent: Arc<Tail<Entry>>,
    pub(super) subscribers: Arc<Subscribers>,
    pub(super) feed: watch::Sender<i64>,
    pub(super) wake: Arc<Notify>,
    pub(super) group: Duration,
    pub(super) early: bool,
    /// Numbers of bundles by hash.
    pub(super) bundles: HashMap<String, i64>,
    /// Keys of what was seen before.
    pub(super) keys: Arc<Keys>,
    /// Keeps the keys of entries until they are applied.
    pub(super) codec: Arc<Codec>,
    /// For how many groups more each changeset gets a savepoint of its own.
    pub(super) careful: u32,
    /// Set by the checkpointer when the log has grown so long that writing must pause for it.
    pub(super) log_too_long: Arc<AtomicBool>,
    /// Whether the disk was full since the log was last cut.
    pub(super) cut_log: bool,
    /// Entries and changesets written since the log was last moved into the database.
    pub(super) written: Arc<AtomicU64>,
    pub(super) metrics: Metrics,
}

/// What is to be told and handed on once a group is on disk.
#[derive(Default)]
struct Told {
    appended: Vec<(Reply<Appended>, Appended)>,
    entries: Vec<Entry>,
    committed: Vec<(Reply<Vec<Committed>>, Vec<Committed>)>,
    jobs: Vec<(Reply<()>, Done)>,
    /// The help desks as the group saw them, and what is due for each: they may be subscribed anew meanwhile.
    subscribers: Arc<Vec<Subscriber>>,
    due: Vec<Vec<DueEvent>>,
    feed: Option<i64>,
    wake: bool,
    /// The marks that the group holds. Nobody says them again, so they go with another group should this one fail.
    marks: Vec<(String, Marks)>,
}

impl Worker {
    /// Writes until the store is closed, or broken.
    pub(super) fn run(mut self) {
        while self.wait() {
            let mut told = Told::default();
            match self.group(&mut told) {
                Ok(()) => {
                    self.tell(told);
                    self.careful = self.careful.saturating_sub(1);
                    self.shorten_log();
                }
                Err(error) => {
                    if !self.fail(told, error) {
                        break;
                    }
                }
            }
        }
        self.end();
    }

    /// Moves the whole log into the database, unless the disk cannot be trusted any more: then the log is all there is.
    fn end(&self) {
        if !*self.broken.borrow() {
            match self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed) {
                Ok(()) => return,
                Err(error) if error.kind() == Kind::Unavailable => {
                    tracing::warn!(target: "segue::journal", error = %error.full(), "the log stays beside the database");
                }
                Err(error) => self.queues.give_up(&self.broken, &error),
            }
        }
        // Else closing the last connection moves and removes it.
        if let Err(error) = keep_log(&self.connection) {
            tracing::error!(target: "segue::journal", error = %error.full(), "the log may not have been kept");
        }
    }

    /// Waits for work. False when there is none and the store is being closed, or when the disk refused.
    fn wait(&self) -> bool {
        /// How long marks may wait for other work to go with.
        const MARKS_WAIT: Duration = Duration::from_millis(20);
        let mut waiting = self.queues.inner.lock();
        let mut marks_since: Option<Instant> = None;
        loop {
            if waiting.dead {
                return false;
            }
            if !waiting.appends.is_empty() || !waiting.commits.is_empty() || !waiting.jobs.is_empty() {
                return true;
            }
            if waiting.marks.is_empty() {
                if waiting.closing {
                    return false;
                }
                self.queues.ready.wait(&mut waiting);
                continue;
            }
            let waited = marks_since.get_or_insert_with(Instant::now).elapsed();
            if waiting.closing || waited >= MARKS_WAIT {
                return true;
            }
            self.queues.ready.wait_for(&mut waiting, MARKS_WAIT.saturating_sub(waited));
        }
    }

    /// One transaction.
    fn group(&mut self, told: &mut Told) -> Result<()> {
        let (begun, cpu) = (Instant::now(), thread_cpu());
        let mut appending = Duration::ZERO;
        let subscribers = self.subscribers.all();
        told.due = subscribers.iter().map(|_| Vec::new()).collect();
        told.subscribers = subscribers.clone();
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let mut count = 0;
        loop {
            let (appends, commit, jobs, marks) = {
                let mut waiting = self.queues.inner.lock();
                (
                    std::mem::take(&mut waiting.appends),
                    waiting.commits.pop_front(),
                    std::mem::take(&mut waiting.jobs),
                    std::mem::take(&mut waiting.marks),
                )
            };
            if appends.is_empty() && commit.is_none() && jobs.is_empty() && marks.is_empty() {
                break;
            }
            if !appends.is_empty() {
                let before = thread_cpu();
                for append in appends {
                    self.append(append, told)?;
                }
                appending += thread_cpu().saturating_sub(before);
            }
            let written = told.marks.len();
            told.marks.extend(marks);
            for (helpdesk, marks) in told.marks.iter().skip(written) {
                write_marks(&self.connection, helpdesk, marks).map_err(failed)?;
            }
            for (job, reply) in jobs {
                match job(&self.connection) {
                    Ok(done) => told.jobs.push((reply, done)),
                    // The disk may refuse so that SQLite takes the whole group back.
                    Err(error) if self.connection.is_autocommit() => return Err(failed(error)),
                    Err(error) => {
                        let _ = reply.send(Err(failed(error)));
                    }
                }
            }
            if let Some((batch, reply)) = commit {
                count += batch.len();
                let mut outcome = Vec::with_capacity(batch.len());
                for changeset in batch {
                    let mut sink = commit::Sink { due: &mut told.due, feed: &mut told.feed, wake: &mut told.wake };
                    outcome.push(commit::apply(
                        &self.connection,
                        changeset,
                        &subscribers,
                        &self.keys,
                        &mut self.bundles,
                        &mut sink,
                        self.careful > 0,
                    )?);
                }
                told.committed.push((reply, outcome));
            }
            if begun.elapsed() >= self.group || count >= MAX_GROUP {
                break;
            }
        }
        self.keys.sweep(&self.connection).map_err(failed)?;
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        self.keys.committed();
        self.metrics.stage("journal", appending);
        self.metrics.stage("commit", thread_cpu().saturating_sub(cpu).saturating_sub(appending));
        Ok(())
    }

    fn append(&self, append: Append, told: &mut Told) -> Result<()> {
        match journal::append(&self.connection, &self.keys, append.entry, &append.sealed).map_err(failed) {
            Ok((appended, entry)) => {
                if entry.is_some() {
                    self.codec.keep(appended.position, &append.sealed);
                }
                told.entries.extend(entry);
                if self.early {
                    let _ = append.reply.send(Ok(appended));
                } else {
                    told.appended.push((append.reply, appended));
                }
                Ok(())
            }
            Err(error) if error.kind() == Kind::Conflict => {
                let _ = append.reply.send(Err(error));
                Ok(())
            }
            Err(error) => {
                let _ = append.reply.send(Err(unavailable()));
                Err(error)
            }
        }
    }

    /// Hands on what is now on disk: entries and events before the answers, so that nobody who was answered can ask for
    /// something that its stage has not been given.
    fn tell(&self, told: Told) {
        let changesets: usize = told.committed.iter().map(|(_, outcomes)| outcomes.len()).sum();
        let written = told.entries.len() + changesets + told.jobs.len();
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        let (urgent, others): (Vec<Entry>, Vec<Entry>) = told.entries.into_iter().partition(|e| e.interactive);
        if !urgent.is_empty() {
            self.urgent.push(urgent);
        }
        if !others.is_empty() {
            self.tail.push(others);
        }
        for (subscriber, events) in told.subscribers.iter().zip(told.due) {
            if !events.is_empty() {
                subscriber.tail.push(events);
            }
        }
        if let Some(end) = told.feed {
            self.feed.send_replace(end);
        }
        for (reply, appended) in told.appended {
            let _ = reply.send(Ok(appended));
        }
        for (reply, outcome) in told.committed {
            let _ = reply.send(Ok(outcome));
        }
        for (reply, done) in told.jobs {
            done();
            let _ = reply.send(Ok(()));
        }
        if told.wake {
            self.wake.notify_waiters();
            self.wake.notify_one();
        }
    }

    /// Moves the whole log into the database, if the checkpointer could not keep up: it has little left to move. Readers that
    /// use the log's beginning are waited for, but not for long: a backup may take minutes. After the disk was full the log
    /// is cut as well, since it may be what fills it.
    fn shorten_log(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(250);
        const USUAL: Duration = Duration::from_secs(5);
        if !self.log_too_long.swap(false, Ordering::Relaxed) && !self.cut_log {
            return;
        }
        let how = if self.cut_log { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(RESTART)" };
        let _ = self.connection.busy_timeout(PATIENCE);
        let moved = self.connection.query_row(how, [], |row| row.get::<_, i64>(0)).map_err(failed);
        let _ = self.connection.busy_timeout(USUAL);
        match moved {
            // Readers may be in the way; then it is tried after the next group.
            Ok(busy) => self.cut_log &= busy != 0,
            Err(error) if error.kind() == Kind::Unavailable => {
                tracing::warn!(target: "segue::journal", error = %error.full(), "the log could not be moved into the database");
            }
            Err(error) => self.queues.give_up(&self.broken, &error),
        }
    }

    /// Nothing of the group is on disk. Gives whether writing can go on.
    fn fail(&mut self, mut told: Told, error: Error) -> bool {
        let _ = self.connection.execute_batch("ROLLBACK");
        let reloaded = self.keys.reload(&self.connection);
        {
            let mut waiting = self.queues.inner.lock();
            for (helpdesk, marks) in std::mem::take(&mut told.marks) {
                waiting.marks.entry(helpdesk).or_default().add(marks);
            }
        }
        self.bundles.clear();
        // A full disk passes. Any other refusal by the disk may have left pages in an unknown state: the only safe way
        // on is a restart, which recovers from the log.
        if error.kind() == Kind::Conflict {
            const CAREFUL_GROUPS: u32 = 100;
            self.careful = CAREFUL_GROUPS;
        }
        if reloaded.is_ok() && (error.kind() == Kind::Unavailable || error.kind() == Kind::Conflict) {
            tracing::error!(target: "segue::journal", error = %error.full(), "a group was not written");
            drop(told);
            if error.kind() == Kind::Unavailable {
                self.cut_log = true;
                self.shorten_log();
            }
            std::thread::sleep(Duration::from_millis(50));
            return true;
        }
        self.queues.give_up(&self.broken, &error);
        false
    }
}

fn write_marks(connection: &Connection, helpdesk: &str, marks: &Marks) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM due WHERE helpdesk = ?1 AND event = ?2")?;
    for event in &marks.delivered {
        delete.execute((helpdesk, event))?;
    }
    if let Some(through) = marks.through {
        connection
            .prepare_cached("UPDATE settled SET event = ?2 WHERE helpdesk = ?1 AND event < ?2")?
            .execute((helpdesk, through))?;
    }
    Ok(())
}
