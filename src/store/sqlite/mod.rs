//! The default backend: SQLite in WAL mode with `synchronous=FULL`.
//!
//! One writer thread owns the only connection that writes and groups whatever waits into one transaction; readers have
//! connections of their own. One process per data directory, held by a lock on a file in it.

pub mod archive;
mod blob;
mod bundles;
mod catalog;
mod checkpoint;
mod commit;
mod events;
mod journal;
mod keys;
mod keystore;
mod mailbox;
mod numbers;
mod open;
mod outbox;
mod queues;
mod read;
mod retention;
mod sealing;
mod state;
mod worker;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::seal::{Codec, KeyChest, Sealing};
use super::{Numbers, Opened, Progress, Store, hot};
use crate::base::telemetry::Metrics;
use crate::base::{Error, Result};

pub use open::{Locked, Options};

/// Opens or creates the store in `directory`.
///
/// # Errors
///
/// `Config` if another process holds the directory, if the schema is newer than this program, or if SQLite did not take
/// the settings that durability needs; `Io` if the disk refused.
pub fn open(
    directory: &Path,
    options: Options,
    sealing: &Sealing,
    progress: &Arc<dyn Progress>,
    metrics: Metrics,
) -> Result<Opened> {
    let lock = open::Locked::take(directory)?;
    let broken = watch::Sender::new(false);
    let keystore = keystore::KeyFile::open(directory, broken.clone())?;
    let codec = Arc::new(numbers::at_once(Codec::open(keystore, sealing))?);
    let files = open::Files::open(directory, &options, lock, &codec, &**progress)?;
    let numbers: Arc<dyn Numbers> = Arc::new(numbers::Counters::start(&files.connection, codec.clone())?);
    let hot_bytes = options.hot_kib * 1024;
    let readers = Arc::new(read::Readers::new(files.path.clone(), options.readers, options.reader_cache_kib));
    let keys = Arc::new(keys::Keys::load(&files.connection).map_err(open::failed)?);
    let writer = writer::Writer::start(files, &options, keys.clone(), codec.clone(), broken.clone(), metrics)?;
    let broken = broken.subscribe();
    let store = Store {
        journal: Arc::new(journal::SqliteJournal {
            writer: writer.clone(),
            readers: readers.clone(),
            keys: keys.clone(),
            codec: codec.clone(),
        }),
        state: Arc::new(state::SqliteState {
            source: state::Source::Now(readers.clone()),
            numbers: numbers.clone(),
            keys: keys.clone(),
            codec: codec.clone(),
        }),
        snapshots: Arc::new(state::SqliteSnapshots {
            readers: readers.clone(),
            numbers,
            keys: keys.clone(),
            codec: codec.clone(),
        }),
        commits: Arc::new(commit::SqliteCommits {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        outbox: Arc::new(outbox::SqliteOutbox {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        catalog: Arc::new(catalog::SqliteCatalog {
            writer: writer.clone(),
            readers: readers.clone(),
            codec: codec.clone(),
        }),
        retention: Arc::new(retention::SqliteRetention {
            writer: writer.clone(),
            readers: readers.clone(),
            keys: keys.clone(),
            codec: codec.clone(),
        }),
        blobs: Arc::new(blob::SqliteBlobs { writer: writer.clone(), readers: readers.clone(), codec: codec.clone() }),
        mailboxes: Arc::new(mailbox::SqliteMailboxes {
            writer: writer.clone(),
            readers: readers.clone(),
            keys,
            codec: codec.clone(),
        }),
        leases: Arc::new(super::lease::Alone::new(crate::base::Clock::system().now())),
        bundles: Arc::new(bundles::SqliteBundles {
            writer: writer.clone(),
            readers: readers.clone(),
            changed: tokio::sync::watch::Sender::new(0),
            codec: codec.clone(),
        }),
        history: Arc::new(bundles::SqliteHistory { readers, codec: codec.clone() }),
    };
    let mail_secret = codec.mail_secret.clone();
    Ok(Opened { store: hot::over(store, hot_bytes), blob_keys: codec, mail_secret, guard: writer, broken })
}

/// The key store in the data directory, for those who keep the keys; with `create`, made if there is none. A gateway may use it
/// at the same time.
///
/// # Errors
///
/// `NotFound` if there is none; `Io` if it cannot be read.
pub fn key_chest(directory: &Path, create: bool) -> Result<KeyChest> {
    if !create && !directory.join(keystore::FILE).is_file() {
        let missing = Error::not_found("there is no key store: no gateway has run here yet");
        return Err(missing.context(directory.display().to_string()));
    }
    Ok(KeyChest::new(keystore::KeyFile::open(directory, watch::Sender::new(false))?))
}
