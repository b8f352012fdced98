//! The backend for several nodes: PostgreSQL, 14 or later.
//!
//! One task a node writes and groups whatever waits into one transaction, as the writer of SQLite does; reads go to the
//! primary on connections of their own. Nothing here assumes that this process is the only writer: what a changeset
//! asserts is locked, numbers come from sequences, cursors only move forward, and what others append to the feed is
//! followed. Correctness rests on unique keys, compared versions and row locks at READ COMMITTED, not on a higher
//! isolation level.
//!
//! All of it runs on a runtime of its own, so that opening and closing need none and a busy gateway does not hold the
//! writer up.

pub mod archive;
mod blob;
mod bundles;
mod catalog;
mod commits;
mod feed;
mod group;
mod journal;
mod judge;
mod keystore;
mod lease;
#[cfg(test)]
mod lease_tests;
mod mailbox;
mod members;
mod numbers;
mod outbox;
mod place;
mod read;
mod retention;
mod schema;
mod sealing;
mod session;
mod state;
mod statements;
#[cfg(test)]
mod tests;
mod worker;
mod writer;
mod written;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::seal::{Codec, KeyChest, Sealing};
use super::{Opened, Progress, Store, hot};
use crate::base::telemetry::Metrics;
use crate::base::{Error, Result};

pub use place::Place;

/// Settings that matter for speed and memory, never for durability.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many reading connections are kept for everybody.
    pub readers: usize,
    /// How many are kept for snapshots: at least as many as threads that decide.
    pub snapshots: usize,
    /// How much is kept in memory of what decisions read, in KiB.
    pub hot_kib: u64,
    /// How many entries the tail of the journal holds in memory.
    pub tail: usize,
    /// How long a lease of this node lasts unless it is renewed.
    pub lease: Duration,
    /// Whether an append is reported before it is on disk. Exists only so that the crash test can show that it notices.
    pub acknowledge_before_commit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            readers: 3,
            snapshots: 4,
            hot_kib: 24 * 1024,
            tail: 8192,
            lease: Duration::from_secs(5),
            acknowledge_before_commit: false,
        }
    }
}

/// Connects to the database at `place` and brings its schema up to date. Takes as long as the network does; where that
/// must not block, it belongs on a thread for blocking work.
///
/// # Errors
///
/// `Config` if the server is no primary, too old, or set so that it may lose what it confirmed, or if the schema is newer
/// than this program; `Unavailable` if it cannot be reached.
pub fn open(
    place: &Place,
    options: Options,
    sealing: &Sealing,
    progress: &Arc<dyn Progress>,
    metrics: Metrics,
) -> Result<Opened> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("segue-postgres")
        .enable_all()
        .build()
        .map_err(|e| Error::io("failed to start the runtime of the store", e))?;
    let (place, sealing, progress) = (place.clone(), sealing.clone(), progress.clone());
    let (answer, opened) = mpsc::sync_channel(1);
    // Not `block_on`, which must not be called where another runtime runs.
    runtime.spawn(async move {
        let _ = answer.send(begin(place, options, sealing, progress, metrics).await);
    });
    let ended = || Error::internal("the store could not be opened");
    let opened = opened.recv().map_err(|_| ended()).and_then(|opened| opened);
    match opened {
        Ok((store, blob_keys, writer, ended)) => {
            let guard = Guard { writer, ended: parking_lot::Mutex::new(ended), runtime: Some(runtime) };
            let mail_secret = blob_keys.mail_secret.clone();
            let broken = watch::Sender::new(false).subscribe();
            Ok(Opened { store, blob_keys, mail_secret, guard: Arc::new(guard), broken })
        }
        Err(error) => {
            // Dropping it would wait for its threads, which is not allowed where another runtime runs.
            runtime.shutdown_background();
            Err(error)
        }
    }
}

async fn begin(
    place: Place,
    options: Options,
    sealing: Sealing,
    progress: Arc<dyn Progress>,
    metrics: Metrics,
) -> Result<(Store, Arc<Codec>, Arc<writer::Writer>, mpsc::Receiver<()>)> {
    let first = session::Session::connect(&place, session::Role::Helper, None).await?;
    keystore::prepare(&first, &place).await.map_err(|e| e.context(place.shown()))?;
    let readers = Arc::new(read::Readers::new(options.readers.max(1), options.snapshots.max(1)));
    readers.connect(&place).await?;
    let keys = Arc::new(keystore::KeySchema::new(place.clone(), readers.clone()));
    let codec = Arc::new(Codec::open(keys, &sealing).await?);
    schema::migrate(&first, &place, &codec, &*progress).await.map_err(|e| e.context(place.shown()))?;
    drop(first);
    let nodes = Arc::new(lease::Nodes::new(options.lease, metrics.clone()));
    let feed = Arc::new(feed::Feed::new(nodes.clone()));
    let writer = Arc::new(writer::Writer::new(feed.clone(), nodes.clone(), options.tail, codec.clone()));
    let blocks = Arc::new(numbers::Blocks::new(codec.clone()));
    let mut follower = feed::Follower {
        place: place.clone(),
        feed: feed.clone(),
        blocks: blocks.clone(),
        codec: codec.clone(),
        last: 0,
    };
    let (session, end) = follower.connect().await?;
    follower.last = end;
    feed.end.send_replace(end);
    let worker = worker::Worker {
        writer: writer.clone(),
        session: Some(worker::Worker::connect(&place).await?),
        place: place.clone(),
        early: options.acknowledge_before_commit,
        metrics,
        bundles: HashMap::new(),
    };
    tokio::spawn(follower.run(session));
    tokio::spawn(members::Members { place: place.clone(), nodes: nodes.clone() }.run());
    let (end, ended) = mpsc::sync_channel(1);
    let leaving = nodes.clone();
    tokio::spawn(async move {
        worker.run().await;
        members::Members::leave(&place, &leaving).await;
        drop(end);
    });
    let source = state::Source::Now(readers.clone());
    let numbers = blocks.clone();
    let store = Store {
        journal: Arc::new(journal::PgJournal {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        state: Arc::new(state::PgState { source, numbers, codec: codec.clone() }),
        snapshots: Arc::new(state::PgSnapshots { readers: readers.clone(), numbers: blocks, codec: codec.clone() }),
        commits: Arc::new(commits::PgCommits {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        outbox: Arc::new(outbox::PgOutbox { writer: writer.clone(), readers: readers.clone(), codec: codec.clone() }),
        catalog: Arc::new(catalog::PgCatalog {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        retention: Arc::new(retention::PgRetention {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        blobs: Arc::new(blob::PgBlobs { writer: writer.clone(), readers: readers.clone(), codec: codec.clone() }),
        mailboxes: Arc::new(mailbox::PgMailboxes {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        leases: Arc::new(lease::PgLeases { nodes, readers: readers.clone() }),
        bundles: Arc::new(bundles::PgBundles {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        history: Arc::new(bundles::PgHistory { readers, codec: codec.clone() }),
    };
    Ok((hot::over(store, options.hot_kib.saturating_mul(1024)), codec, writer, ended))
}

/// The key store in the database at `place`, for those who keep the keys. Its connections belong to the runtime that this is
/// called on.
///
/// # Errors
///
/// As [`open`].
pub async fn key_chest(place: &Place) -> Result<KeyChest> {
    let first = session::Session::connect(place, session::Role::Helper, None).await?;
    keystore::prepare(&first, place).await.map_err(|e| e.context(place.shown()))?;
    let readers = Arc::new(read::Readers::new(1, 0));
    readers.connect(place).await?;
    Ok(KeyChest::new(Arc::new(keystore::KeySchema::new(place.clone(), readers))))
}

/// Ends the writer when dropped, after everything that waits is written.
struct Guard {
    writer: Arc<writer::Writer>,
    ended: parking_lot::Mutex<mpsc::Receiver<()>>,
    runtime: Option<Runtime>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(15);
        self.writer.close();
        let _ = self.ended.get_mut().recv_timeout(PATIENCE);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
