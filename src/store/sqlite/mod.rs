//! The default backend: SQLite in WAL mode with `synchronous=FULL`.
//!
//! One writer thread owns the only connection that writes and groups whatever waits into one transaction; readers have
//! connections of their own. One process per data directory, held by a lock on a file in it.

mod blob;
mod catalog;
mod checkpoint;
mod commit;
mod journal;
mod keys;
mod open;
mod outbox;
mod read;
mod retention;
mod state;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{Numbers, Opened, Store, hot};
use crate::base::Result;
use crate::base::telemetry::Metrics;

pub use open::{Locked, Options};

/// Opens or creates the store in `directory`.
///
/// # Errors
///
/// `Config` if another process holds the directory, if the schema is newer than this program, or if SQLite did not take
/// the settings that durability needs; `Io` if the disk refused.
pub fn open(directory: &Path, options: Options, metrics: Metrics) -> Result<Opened> {
    let files = open::Files::open(directory, &options)?;
    let (numbers, hot_bytes): (Arc<dyn Numbers>, u64) = (Arc::new(Counters::read(&files)?), options.hot_kib * 1024);
    let readers = Arc::new(read::Readers::new(files.path.clone(), options.readers, options.reader_cache_kib));
    let keys = Arc::new(keys::Keys::load(&files.connection).map_err(open::failed)?);
    let writer = writer::Writer::start(files, &options, keys.clone(), metrics)?;
    let broken = writer.broken();
    let store = Store {
        journal: Arc::new(journal::SqliteJournal {
            writer: writer.clone(),
            readers: readers.clone(),
            keys: keys.clone(),
        }),
        state: Arc::new(state::SqliteState {
            source: state::Source::Now(readers.clone()),
            numbers: numbers.clone(),
            keys: keys.clone(),
        }),
        snapshots: Arc::new(state::SqliteSnapshots { readers: readers.clone(), numbers, keys: keys.clone() }),
        commits: Arc::new(commit::SqliteCommits { writer: writer.clone() }),
        outbox: Arc::new(outbox::SqliteOutbox { writer: writer.clone(), readers: readers.clone() }),
        catalog: Arc::new(catalog::SqliteCatalog { writer: writer.clone(), readers: readers.clone() }),
        retention: Arc::new(retention::SqliteRetention { writer: writer.clone(), keys }),
        blobs: Arc::new(blob::SqliteBlobs { writer: writer.clone(), readers }),
    };
    Ok(Opened { store: hot::over(store, hot_bytes), guard: writer, broken })
}

/// Numbers for new rows: counted up in memory from what the tables hold.
struct Counters {
    customer: AtomicI64,
    conversation: AtomicI64,
    interaction: AtomicI64,
}

impl Counters {
    fn read(files: &open::Files) -> Result<Self> {
        let highest = |table: &str| -> Result<AtomicI64> {
            let sql = format!("SELECT coalesce(max(no), 0) FROM {table}");
            let highest = files.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(open::failed)?;
            Ok(AtomicI64::new(highest))
        };
        Ok(Counters {
            customer: highest("customer")?,
            conversation: highest("conversation")?,
            interaction: highest("interaction")?,
        })
    }
}

impl Numbers for Counters {
    fn customer(&self) -> Result<i64> {
        Ok(self.customer.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn conversation(&self) -> Result<i64> {
        Ok(self.conversation.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn interaction(&self) -> Result<i64> {
        Ok(self.interaction.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
