//! The task behind the writer: one group after the other, over a connection that may be lost.
//!
//! A group whose commit was not confirmed is kept and tried again as it is, which is safe since every write is keyed. Nobody
//! is told anything before the commit is confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::group::{self, Group, Outcome};
use super::place::{Place, Told};
use super::session::{Fate, PgError, Role, Session, failed, fate};
use super::statements::STATEMENTS;
use super::writer::Writer;
use crate::base::Result;
use crate::base::telemetry::{Metrics, thread_cpu};
use crate::store::unavailable;

/// The task.
pub(super) struct Worker {
    pub(super) writer: Arc<Writer>,
    pub(super) place: Place,
    pub(super) session: Option<Session>,
    /// Whether an append is reported before it is on disk. Exists only so that the crash test can show that it notices.
    pub(super) early: bool,
    pub(super) metrics: Metrics,
    /// Numbers of bundles by hash.
    pub(super) bundles: HashMap<String, i64>,
}

impl Worker {
    /// Prepares a connection for writing.
    pub(super) async fn connect(place: &Place) -> Result<Session> {
        let session = Session::connect(place, Role::Writer, None).await?;
        session.prepare(&STATEMENTS).await.map_err(|e| failed(&e))?;
        Ok(session)
    }

    /// Writes until the store is closed.
    pub(super) async fn run(mut self) {
        while let Some(mut group) = self.writer.next().await {
            let mut careful = false;
            loop {
                self.connected().await;
                let Some(session) = &self.session else {
                    // The store is being closed and the server cannot be reached: whoever waits is told so.
                    group.refuse();
                    return self.writer.refuse();
                };
                let cpu = thread_cpu();
                let fence = self.writer.nodes.fence();
                let outcome = group::write(session, &mut group, &self.bundles, fence, careful, self.early).await;
                match outcome {
                    Ok(outcome) => {
                        self.metrics.stage("commit", thread_cpu().saturating_sub(cpu));
                        self.tell(group, outcome);
                        break;
                    }
                    Err(error) => {
                        if !self.again(&error, &mut careful).await {
                            let error = failed(&error);
                            tracing::error!(target: "segue::journal", error = %error.full(), "a group was not written");
                            group.refuse();
                            break;
                        }
                    }
                }
            }
        }
    }

    /// After a failure: whether the same group is to be tried again.
    async fn again(&mut self, error: &PgError, careful: &mut bool) -> bool {
        self.bundles.clear();
        let fate = fate(error);
        tracing::warn!(target: "segue::journal", error = %Told::of(error), ?fate, "a group was not confirmed");
        if fate == Fate::Lost {
            self.session = None;
            return true;
        }
        let rolled_back = match &self.session {
            Some(session) => session.plain("ROLLBACK").await,
            None => Ok(()),
        };
        if rolled_back.is_err() {
            self.session = None;
        }
        match fate {
            Fate::Again => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                true
            }
            _ if *careful => false,
            _ => {
                *careful = true;
                true
            }
        }
    }

    /// Makes the connection anew if it was lost, unless that is hopeless and the store is being closed.
    async fn connected(&mut self) {
        const LONGEST_PAUSE: Duration = Duration::from_secs(2);
        const LAST_TRIES: Duration = Duration::from_secs(5);
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(20));
        if self.session.as_ref().is_some_and(|session| session.is_closed()) {
            self.session = None;
        }
        while self.session.is_none() {
            self.writer.connected.store(false, Ordering::Relaxed);
            match Worker::connect(&self.place).await {
                Ok(session) => {
                    tracing::info!(target: "segue::journal", "connected to PostgreSQL again");
                    self.session = Some(session);
                }
                Err(error) => {
                    tracing::error!(target: "segue::journal", error = %error.full(), "the store is not connected");
                    if self.writer.is_closing() && begun.elapsed() > LAST_TRIES {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        self.writer.connected.store(true, Ordering::Relaxed);
    }

    /// Hands on what is now on disk: entries before the answers, so that nobody who was answered can ask for something
    /// that its stage has not been given.
    fn tell(&mut self, group: Group, outcome: Outcome) {
        self.bundles.extend(outcome.bundles);
        let mut places = outcome.appended;
        self.writer.hand_on(&group.appends, &mut places);
        self.writer.feed.committed(outcome.feed, outcome.wake);
        for (append, place) in group.appends.into_iter().zip(places) {
            if let Some(reply) = append.reply {
                let _ = reply.send(place.ok_or_else(unavailable));
            }
        }
        for ((_, reply), outcome) in group.commits.into_iter().zip(outcome.committed) {
            let _ = reply.send(outcome);
        }
        for ((_, reply), outcome) in group.jobs.into_iter().zip(outcome.jobs) {
            let _ = reply.send(outcome.map(|done| done()));
        }
    }
}

impl Group {
    /// Tells everybody that nothing was written. Marks are lost, which costs repeated deliveries at most.
    fn refuse(self) {
        for reply in self.appends.into_iter().filter_map(|append| append.reply) {
            let _ = reply.send(Err(unavailable()));
        }
        for (_, reply) in self.commits {
            let _ = reply.send(Err(unavailable()));
        }
        for (_, reply) in self.jobs {
            let _ = reply.send(Err(unavailable()));
        }
    }
}
