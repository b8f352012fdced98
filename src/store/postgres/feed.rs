//! Following the feed: events reach the tails of the help desks and the end of the feed only once none can come before.
//!
//! An event's number is made of the number of its transaction. Transactions of several nodes commit in any order, so a
//! reader sees only numbers below those of the oldest transaction that still runs: `HORIZON`. What it has passed is
//! therefore complete, and nobody waits for a lock. The price is that a long-running writing transaction anywhere in the
//! server holds the feed up.
//!
//! One task a node reads the feed on when this node has committed, when another one says so (NOTIFY, sent outside the
//! commit and at most every 20 ms), and each second whatever was said. It also draws numbers for new rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_postgres::Row;

use super::judge::bytes16;
use super::lease::Nodes;
use super::numbers::{Blocks, Unfilled};
use super::place::Place;
use super::session::{OnNotice, PgError, Role, Session};
use crate::base::id::EventId;
use crate::base::{Result, Timestamp};
use crate::store::lease::helpdesk;
use crate::store::seal::Codec;
use crate::store::seal::stored::StoredDue;
use crate::store::subscribers::{Subscriber, Subscribers};
use crate::store::{DueEvent, Subscription};

/// The first feed number that may still be given out.
macro_rules! horizon {
    () => {
        "(SELECT ((pg_snapshot_xmin(pg_current_snapshot())::text::int8
                   + (SELECT value FROM setting WHERE name = 'feed_offset')) << 20))"
    };
}
/// Complete events with what tells the event before each in its conversation.
macro_rules! due {
    () => {
        concat!(
            "SELECT e.no, e.id, e.conversation, e.kind, e.channel, e.at, e.body, p.kind, p.channel, p.sequence, p.before
               FROM event e LEFT JOIN event p ON p.no = e.before
              WHERE e.no > $1 AND e.no < ",
            horizon!()
        )
    };
}

/// The end of the feed as far as it is complete.
pub(super) const END: &str = concat!("SELECT coalesce(max(no), 0) FROM event WHERE no < ", horizon!());
/// The feed as it is shown.
pub(super) const SHOWN: &str = concat!(
    "SELECT no, kind, channel, body, id FROM event WHERE no > $1 AND no < ",
    horizon!(),
    " ORDER BY no LIMIT $2"
);
/// The feed with what tells the event before it in the conversation.
const PAGE: &str = concat!(due!(), " ORDER BY e.no LIMIT $2");
/// The same, only what a help desk wants.
const WANTED: &str = concat!(
    due!(),
    " AND e.kind = ANY($3) AND (cardinality($4::text[]) = 0 OR e.channel = ANY($4)) ORDER BY e.no LIMIT $2"
);
/// A help desk that is not known yet is settled up to the present end of the feed: whatever is numbered beyond may still
/// be under way, and comes to it.
pub(super) const BEGIN_AT_THE_END: &str = concat!(
    "INSERT INTO settled (helpdesk, event) SELECT $1, coalesce(max(no), 0) FROM event WHERE no < ",
    horizon!(),
    " ON CONFLICT (helpdesk) DO UPDATE SET used_at = now()"
);

/// How many events are read at once.
const PAGE_ROWS: i64 = 512;
/// How often it is looked whether a new day has come, which has a key of its own.
const DAYS_EVERY: Duration = Duration::from_secs(5);
/// How often others are told at most.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// How often the feed is looked at, whatever was told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is told when a bundle was published.
const BUNDLE: &str = "bundle";
/// What is told when something lies before what readers have passed.
const REWIND: &str = "rewind";
/// What is told when there are entries for other nodes.
const ENTRIES: &str = "entries";
/// What is told when leases are to be divided anew.
const LEASES: &str = "leases";

/// What the feed's task shares with everybody else.
pub(super) struct Feed {
    /// The end of the feed, as far as it is complete.
    pub(super) end: watch::Sender<i64>,
    pub(super) subscribers: Subscribers,
    /// Wakes those who send and fetch.
    pub(super) wake: Arc<Notify>,
    /// Changes when a bundle may have been published.
    pub(super) bundles: watch::Sender<u64>,
    /// Wakes the task.
    moved: Notify,
    /// The highest event that was committed, here or as others told.
    committed: AtomicI64,
    /// How often this node committed something that others should look at.
    news: AtomicU64,
    rewind: AtomicBool,
    /// Whether this node appended entries that others are to apply and were not told of.
    entries: AtomicBool,
    nodes: Arc<Nodes>,
}

impl Feed {
    pub(super) fn new(nodes: Arc<Nodes>) -> Feed {
        Feed {
            end: watch::Sender::new(0),
            subscribers: Subscribers::default(),
            wake: Arc::default(),
            bundles: watch::Sender::new(0),
            moved: Notify::new(),
            committed: AtomicI64::new(0),
            news: AtomicU64::new(0),
            rewind: AtomicBool::new(false),
            entries: AtomicBool::new(false),
            nodes,
        }
    }

    /// Takes up what this node committed: its highest event, and whether there is something to send or fetch.
    pub(super) fn committed(&self, event: Option<i64>, wake: bool) {
        if wake {
            self.wake.notify_waiters();
            self.wake.notify_one();
        }
        if let Some(no) = event {
            self.committed.fetch_max(no, Ordering::Relaxed);
        }
        if wake || event.is_some() {
            self.news.fetch_add(1, Ordering::Relaxed);
            self.moved.notify_one();
        }
    }

    /// Takes up that a bundle was published.
    pub(super) fn published(&self) {
        self.bundles.send_modify(|count| *count += 1);
    }

    /// Has other nodes be told that there are entries for them.
    pub(super) fn entries_for_others(&self) {
        self.entries.store(true, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// Takes up what another node told.
    fn told(&self, what: &str) {
        for word in what.split(' ') {
            match word {
                ENTRIES => self.nodes.entries.notify_one(),
                LEASES => self.nodes.poke.notify_one(),
                BUNDLE => self.published(),
                REWIND => self.rewind.store(true, Ordering::Relaxed),
                number => {
                    let Ok(no) = number.parse() else { continue };
                    self.committed.fetch_max(no, Ordering::Relaxed);
                    self.wake.notify_waiters();
                    self.wake.notify_one();
                }
            }
        }
        self.moved.notify_one();
    }
}

/// The statement that has all nodes rewind. It goes with the transaction, being rare.
pub(super) const TELL_REWIND: &str = "SELECT pg_notify('segue', 'rewind')";
/// The statement that has all nodes look for a published bundle.
pub(super) const TELL_BUNDLE: &str = "SELECT pg_notify('segue', 'bundle')";

/// The task.
pub(super) struct Follower {
    pub(super) place: Place,
    pub(super) feed: Arc<Feed>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) codec: Arc<Codec>,
    pub(super) last: i64,
}

impl Follower {
    /// Connects, draws the first numbers and finds the end of the feed.
    pub(super) async fn connect(&self) -> Result<(Session, i64)> {
        let own = Arc::new(AtomicI64::new(0));
        let (feed, pid) = (self.feed.clone(), own.clone());
        let on_notice: OnNotice = Arc::new(move |sender, what| {
            if i64::from(sender) != pid.load(Ordering::Relaxed) {
                feed.told(what);
            }
        });
        let session = Session::connect(&self.place, Role::Helper, Some(on_notice)).await?;
        let begin = async {
            if let Some(row) = session.row("SELECT pg_backend_pid()::int8", &[]).await? {
                own.store(row.try_get(0)?, Ordering::Relaxed);
            }
            session.plain("LISTEN segue").await?;
            self.blocks.fill(&session).await?;
            Ok(session.row(END, &[]).await?.map_or(Ok(0), |row| row.try_get(0))?)
        };
        let end = begin.await.map_err(Unfilled::told)?;
        Ok((session, end))
    }

    /// Follows the feed for as long as the runtime runs.
    pub(super) async fn run(mut self, session: Session) {
        let mut session = session;
        loop {
            if let Err(error) = self.follow(&session).await {
                let error = error.told();
                tracing::warn!(target: "segue::deliver", error = %error.full(), "the feed cannot be followed now");
            }
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                match self.connect().await {
                    Ok((next, _)) => {
                        session = next;
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(target: "segue::deliver", error = %error.full(), "the feed is not connected");
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                }
            }
        }
    }

    /// Until the connection fails.
    async fn follow(&mut self, session: &Session) -> std::result::Result<(), Unfilled> {
        const SHORTEST: Duration = Duration::from_millis(1);
        let (mut told, mut told_at) = (self.feed.news.load(Ordering::Relaxed), Instant::now());
        let (mut pause, mut looked) = (SHORTEST, Instant::now());
        loop {
            if self.feed.rewind.swap(false, Ordering::Relaxed) {
                self.feed.subscribers.rewind();
            }
            self.blocks.fill(session).await?;
            let read = self.page(session).await?;
            if looked.elapsed() >= DAYS_EVERY {
                looked = Instant::now();
                self.codec.keep_days().await.map_err(Unfilled::Keys)?;
            }
            let news = self.feed.news.load(Ordering::Relaxed);
            if (news != told || self.feed.entries.load(Ordering::Relaxed)) && told_at.elapsed() >= TELL_EVERY {
                let mut what = self.feed.committed.load(Ordering::Relaxed).to_string();
                if self.feed.entries.swap(false, Ordering::Relaxed) {
                    what.push(' ');
                    what.push_str(ENTRIES);
                }
                session.run("SELECT pg_notify('segue', $1)", &[&what]).await?;
                (told, told_at) = (news, Instant::now());
            }
            if read == PAGE_ROWS as usize {
                continue;
            }
            // What is committed already and not yet visible waits for a transaction that ends soon.
            let expected = self.feed.committed.load(Ordering::Relaxed) > self.last;
            pause = if expected && read == 0 { (pause * 2).min(Duration::from_millis(50)) } else { SHORTEST };
            let wait = if expected {
                pause
            } else if news != told || self.feed.entries.load(Ordering::Relaxed) {
                TELL_EVERY
            } else {
                LOOK_EVERY
            };
            tokio::select! {
                () = self.feed.moved.notified() => {}
                () = self.blocks.low.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = session.ended() => {}
            }
        }
    }

    /// Reads one page on and hands it out. Gives how many events it held.
    async fn page(&mut self, session: &Session) -> std::result::Result<usize, Unfilled> {
        // Deliveries of another node are none of ours.
        let all = self.feed.subscribers.all();
        let own = |desk: &&Subscriber| self.feed.nodes.named(&helpdesk(&desk.subscription.helpdesk)).may_go_on();
        let (subscribers, others): (Vec<&Subscriber>, Vec<&Subscriber>) = all.iter().partition(own);
        if subscribers.is_empty() {
            let end = session.row(END, &[]).await?.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
            self.pass(end, &all, &others);
            return Ok(0);
        }
        let rows = session.rows(PAGE, &[&self.last, &PAGE_ROWS]).await?;
        let Some(last) = rows.last() else { return Ok(0) };
        let last: i64 = last.try_get(0)?;
        for subscriber in subscribers {
            let mut events = Vec::new();
            for row in &rows {
                if wants(&subscriber.subscription, row)? {
                    events.push(due_event(session, &subscriber.subscription, row).await?);
                }
            }
            if !events.is_empty() {
                subscriber.tail.push(self.codec.open_all(events).await.map_err(Unfilled::Keys)?);
            }
        }
        self.pass(last, &all, &others);
        Ok(rows.len())
    }

    /// Goes on from `end`. Whoever was handed nothing of what lies before it goes by the disk: this node may have got its
    /// deliveries while the page was read, and then its reader has read the disk too early to find the page there.
    fn pass(&mut self, end: i64, all: &Arc<Vec<Subscriber>>, others: &[&Subscriber]) {
        if end <= self.last {
            return;
        }
        others.iter().for_each(|desk| desk.tail.fall_behind());
        let now = self.feed.subscribers.all();
        if !Arc::ptr_eq(all, &now) {
            now.iter().for_each(|desk| desk.tail.fall_behind());
        }
        self.last = end;
        self.feed.end.send_if_modified(|known| {
            let moved = *known < self.last;
            *known = (*known).max(self.last);
            moved
        });
    }
}

fn wants(subscription: &Subscription, row: &Row) -> std::result::Result<bool, PgError> {
    Ok(subscription.wants(kind(row, 3)?, row.try_get(4)?))
}

fn kind(row: &Row, column: usize) -> std::result::Result<u8, PgError> {
    Ok(u8::try_from(row.try_get::<_, i16>(column)?).unwrap_or_default())
}

/// Reads a row of [`PAGE`] or [`WANTED`].
async fn due_event(
    session: &Session,
    subscription: &Subscription,
    row: &Row,
) -> std::result::Result<StoredDue, PgError> {
    let previous = match row.try_get::<_, Option<i16>>(7)? {
        None => 0,
        Some(_) if subscription.wants(kind(row, 7)?, row.try_get(8)?) => row.try_get(9)?,
        Some(_) => previous_wanted(session, subscription, row.try_get(10)?).await?,
    };
    Ok(StoredDue(DueEvent {
        no: row.try_get(0)?,
        id: EventId::from_bytes(bytes16(row, 1)?),
        conversation: row.try_get(2)?,
        attempts: 0,
        next_at: Timestamp::from_millis(row.try_get(5)?),
        body: Bytes::from(row.try_get::<_, Vec<u8>>(6)?),
        previous,
        aside: false,
    }))
}

/// The sequence of the event before it in the conversation that this help desk wants, going back by the chain.
async fn previous_wanted(
    session: &Session,
    subscription: &Subscription,
    mut before: i64,
) -> std::result::Result<i64, PgError> {
    const FAR_ENOUGH: usize = 1000;
    for _ in 0..FAR_ENOUGH {
        if before == 0 {
            break;
        }
        let sql = "SELECT kind, channel, sequence, before FROM event WHERE no = $1";
        match session.row(sql, &[&before]).await? {
            None => break,
            Some(row) if subscription.wants(kind(&row, 0)?, row.try_get(1)?) => return row.try_get(2),
            Some(row) => before = row.try_get(3)?,
        }
    }
    Ok(0)
}

/// Reads the feed on from `after`: what the help desk wants of it, and how far it was read.
pub(super) async fn wanted(
    session: &Session,
    subscription: &Subscription,
    after: i64,
    limit: usize,
) -> std::result::Result<(Vec<StoredDue>, i64), PgError> {
    // The end is asked for first: what becomes complete in between is read, and never passed unread.
    let end = session.row(END, &[]).await?.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
    let kinds: Vec<i16> = subscription.types.iter().map(|kind| i16::from(*kind)).collect();
    let rows = session.rows(WANTED, &[&after, &(limit as i64), &kinds, &subscription.channels]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.push(due_event(session, subscription, row).await?);
    }
    let last = events.last().map_or(after, |event| event.0.no);
    let read = if events.len() < limit { last.max(end).max(after) } else { last };
    Ok((events, read))
}
