//! The one task that writes: group commit, over a connection that may be lost.
//!
//! Whatever waits goes into one transaction, and what arrives meanwhile into the next. Nobody is told anything before the
//! commit is confirmed. Where the connection is lost, whether the group was committed is unknown: it is kept and tried
//! again as it is, which is safe since every write is keyed. Its callers wait; past a bound new ones are refused.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::feed::Feed;
use super::group::Group;
use super::lease::{Nodes, Order};
use super::session::{PgError, Session};
use crate::base::Result;
use crate::model::Entry;
use crate::store::seal::{Codec, SealedEntry, SealedSet};
use crate::store::subscribers::Marks;
use crate::store::{Appended, Committed, NewEntry, Tail, taken_over, unavailable};

/// How many appends may wait; past it the journal says that it is full.
const MAX_WAITING_APPENDS: usize = 8192;
/// How many jobs, and how many batches of changesets, may wait.
const MAX_WAITING: usize = 8192;
/// How many interactive entries the tail of theirs holds.
const URGENT: usize = 1024;
/// How many appends, changesets and jobs of each kind go into one group at most, but for the last batch.
const MAX_GROUP: usize = 512;
/// How many bytes of entries go into one group at most, but for the last entry.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// How long marks may wait for other work to go with.
const MARKS_WAIT: Duration = Duration::from_millis(20);

/// Where an outcome goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;
/// What hands a job's value over once it is on disk.
pub(super) type Done = Box<dyn FnOnce() + Send>;
/// A piece of writing that is neither an append nor a changeset. It may run several times and must be keyed.
pub(super) type Job =
    Box<dyn for<'a> Fn(&'a Session) -> BoxFuture<'a, std::result::Result<Done, PgError>> + Send + Sync>;

pub(super) struct Append {
    pub(super) entry: NewEntry,
    pub(super) sealed: SealedEntry,
    pub(super) order: Order,
    pub(super) reply: Option<Reply<Appended>>,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    commits: VecDeque<(Vec<SealedSet>, Reply<Vec<Committed>>)>,
    jobs: VecDeque<(Job, Reply<()>)>,
    marks: HashMap<String, Marks>,
    closing: bool,
}

impl Waiting {
    fn has_work(&self) -> bool {
        !self.appends.is_empty() || !self.commits.is_empty() || !self.jobs.is_empty()
    }
}

/// Handle of the writing task.
pub(super) struct Writer {
    waiting: Mutex<Waiting>,
    ready: Notify,
    pub(super) connected: AtomicBool,
    /// Committed entries of this node, for the stage that applies them.
    pub(super) tail: Arc<Tail<Entry>>,
    /// Those that somebody waits for.
    pub(super) urgent: Arc<Tail<Entry>>,
    pub(super) feed: Arc<Feed>,
    pub(super) nodes: Arc<Nodes>,
    /// Keeps the keys of entries until they are applied.
    pub(super) codec: Arc<Codec>,
}

impl Writer {
    pub(super) fn new(feed: Arc<Feed>, nodes: Arc<Nodes>, tail: usize, codec: Arc<Codec>) -> Writer {
        Writer {
            waiting: Mutex::default(),
            ready: Notify::new(),
            connected: AtomicBool::new(true),
            tail: Arc::new(Tail::new(tail)),
            urgent: Arc::new(Tail::new(URGENT)),
            feed,
            nodes,
            codec,
        }
    }

    pub(super) fn healthy(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && self.waiting.lock().appends.len() < MAX_WAITING_APPENDS
    }

    /// Says that nothing more comes: the task ends after what waits.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.ready.notify_one();
    }

    /// Tells everybody who waits that nothing is written any more.
    pub(super) fn refuse(&self) {
        let left = std::mem::take(&mut *self.waiting.lock());
        self.waiting.lock().closing = true;
        drop(left);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.waiting.lock().closing
    }

    pub(super) fn append(&self, entry: NewEntry, sealed: SealedEntry) -> BoxFuture<'static, Result<Appended>> {
        let (reply, answer) = oneshot::channel();
        let append = self.ordered(entry, sealed, Some(reply));
        {
            let mut waiting = self.waiting.lock();
            if waiting.closing || waiting.appends.len() >= MAX_WAITING_APPENDS {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.appends.push_back(append);
        }
        self.ready.notify_one();
        answered(answer)
    }

    /// An entry with what orders it among others.
    pub(super) fn ordered(&self, entry: NewEntry, sealed: SealedEntry, reply: Option<Reply<Appended>>) -> Append {
        // What orders entries tells as much of a sender as what finds them; the byte that is the bucket tells little.
        let blind = |key: &[u8; 16]| {
            let ([a, b, c, d, e, f, g, _, rest @ ..], [.., bucket, _, _, _, _, _, _, _, _]) =
                (self.codec.blind(key), *key);
            let mut blind = [a, b, c, d, e, f, g, bucket, 0, 0, 0, 0, 0, 0, 0, 0];
            blind.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
            blind
        };
        let keys: Vec<[u8; 16]> = entry.keys.iter().map(blind).collect();
        let order = Order::of(&keys, self.nodes.any_bucket(), entry.id.as_bytes());
        Append { entry, sealed, order, reply }
    }

    /// Hands on entries that are on disk now: those of this node's buckets to the stage that applies them, and a word of the
    /// others to the other nodes. Notes in the places which are which.
    pub(super) fn hand_on(&self, appends: &[Append], places: &mut [Option<Appended>]) {
        let (mut urgent, mut others, mut for_others) = (Vec::new(), Vec::new(), false);
        for (append, place) in appends.iter().zip(places) {
            let Some(place) = place.as_mut().filter(|place| !place.repeat) else { continue };
            let (entry, bucket) = (&append.entry, append.order.bucket());
            place.here = self.nodes.bucket(bucket).may_begin();
            if !place.here {
                for_others = true;
                continue;
            }
            self.codec.keep(place.position, &append.sealed);
            let to = if entry.interactive { &mut urgent } else { &mut others };
            to.push(Entry {
                position: place.position,
                id: place.id,
                kind: entry.kind,
                channel: entry.channel.clone(),
                bucket,
                at: entry.at,
                interactive: entry.interactive,
                body: entry.body.clone(),
            });
        }
        if !urgent.is_empty() {
            self.urgent.push(urgent);
        }
        if !others.is_empty() {
            others.sort_by_key(|entry: &Entry| entry.position);
            self.tail.push(others);
        }
        if for_others {
            self.feed.entries_for_others();
        }
    }

    pub(super) fn commit(&self, batch: Vec<SealedSet>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.closing || waiting.commits.len() >= MAX_WAITING {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.commits.push_back((batch, reply));
        }
        self.ready.notify_one();
        answered(answer)
    }

    /// Runs `work` in the next group; its value is given once the group is on disk.
    pub(super) fn job<T: Send + 'static>(
        &self,
        work: impl for<'a> Fn(&'a Session) -> BoxFuture<'a, std::result::Result<T, PgError>> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        self.job_then(work, |value| value)
    }

    /// The same, with what is to be done first of all once the group is on disk, whether or not the caller still waits.
    pub(super) fn job_then<V: Send + 'static, T: Send + 'static>(
        &self,
        work: impl for<'a> Fn(&'a Session) -> BoxFuture<'a, std::result::Result<V, PgError>> + Send + Sync + 'static,
        then: impl FnOnce(V) -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (value_out, value_in) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let (work, end) = (Arc::new(work), Arc::new(Mutex::new(Some((then, value_out)))));
        let job: Job = Box::new(move |session| {
            let (work, end) = (work.clone(), end.clone());
            async move {
                let value = work(session).await?;
                let done: Done = Box::new(move || {
                    let end = end.lock().take();
                    if let Some((then, out)) = end {
                        let _ = out.send(then(value));
                    }
                });
                Ok(done)
            }
            .boxed()
        });
        {
            let mut waiting = self.waiting.lock();
            if waiting.closing || waiting.jobs.len() >= MAX_WAITING {
                return std::future::ready(Err(unavailable())).boxed();
            }
            waiting.jobs.push_back((job, reply));
        }
        self.ready.notify_one();
        async move {
            answer.await.unwrap_or_else(|_| Err(unavailable()))?;
            value_in.await.map_err(|_| unavailable())
        }
        .boxed()
    }

    /// The same for work that goes by a lease: refused unless this node is still the member that it was in `term`.
    pub(super) fn job_in<T: Send + 'static>(
        &self,
        term: u64,
        work: impl for<'a> Fn(&'a Session) -> BoxFuture<'a, std::result::Result<T, PgError>> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (nodes, work) = (self.nodes.clone(), Arc::new(work));
        let written = self.job(move |session| {
            let (nodes, work) = (nodes.clone(), work.clone());
            async move {
                match nodes.may_write(session, term).await? {
                    true => work(session).await.map(Some),
                    false => Ok(None),
                }
            }
            .boxed()
        });
        async move { written.await?.ok_or_else(taken_over) }.boxed()
    }

    /// Adds to a help desk's marks. They go with the next group, at the latest after their pause.
    pub(super) fn mark(&self, helpdesk: &str, change: impl FnOnce(&mut Marks)) {
        change(self.waiting.lock().marks.entry(helpdesk.to_owned()).or_default());
        self.ready.notify_one();
    }

    /// Takes the next group; none when the store is being closed and nothing waits.
    pub(super) async fn next(&self) -> Option<Group> {
        let mut marks_since: Option<Instant> = None;
        loop {
            let pause = {
                let mut waiting = self.waiting.lock();
                let waited = match waiting.marks.is_empty() {
                    true => None,
                    false => Some(marks_since.get_or_insert_with(Instant::now).elapsed()),
                };
                if waiting.has_work() || waited.is_some_and(|w| w >= MARKS_WAIT || waiting.closing) {
                    return Some(take(&mut waiting));
                }
                if waiting.closing {
                    return None;
                }
                waited.map(|waited| MARKS_WAIT.saturating_sub(waited))
            };
            match pause {
                None => self.ready.notified().await,
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, self.ready.notified()).await;
                }
            }
        }
    }
}

fn answered<T: Send + 'static>(answer: oneshot::Receiver<Result<T>>) -> BoxFuture<'static, Result<T>> {
    async move { answer.await.unwrap_or_else(|_| Err(unavailable())) }.boxed()
}

fn take(waiting: &mut Waiting) -> Group {
    let mut group = Group { marks: std::mem::take(&mut waiting.marks), ..Group::default() };
    let mut bytes = 0;
    while bytes < MAX_GROUP_BYTES && group.appends.len() < MAX_GROUP {
        let Some(append) = waiting.appends.pop_front() else { break };
        bytes += append.sealed.raw.len() + append.sealed.head.len();
        group.appends.push(append);
    }
    let mut changesets = 0;
    while changesets < MAX_GROUP {
        let Some(batch) = waiting.commits.pop_front() else { break };
        changesets += batch.0.len();
        group.commits.push(batch);
    }
    while group.jobs.len() < MAX_GROUP {
        let Some(job) = waiting.jobs.pop_front() else { break };
        group.jobs.push(job);
    }
    group
}
