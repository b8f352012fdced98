//! Moving the write-ahead log into the database, beside the writer.
//!
//! A thread and a connection of its own, so that writing does not wait for it; safe from SQLite 3.51.3 on, and older ones
//! are refused when the store is opened.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::open::{checkpointer, failed};
use crate::base::{Error, Kind, Result};

/// Pages in the log at which writing pauses until all of it is in the database: 128 MiB. The file keeps that size until
/// the store is closed, since cutting it takes a tenth of a second.
const LONGEST_LOG: i64 = 32_768;

/// Moves the write-ahead log into the database beside the writer, so that writing does not wait for it.
struct Checkpointer {
    connection: Connection,
    database: File,
    /// After how many writes the log is moved.
    after: u64,
    /// How many there were since.
    written: Arc<AtomicU64>,
    closed: Box<dyn Fn() -> bool + Send>,
    /// Told what the disk refused in a way that only a restart mends.
    broken: Box<dyn Fn(&Error) + Send>,
    log_too_long: Arc<AtomicBool>,
}

/// Starts moving the log of the database at `path` after every `after` writes, until `closed` says so. Where the log has
/// grown too long nevertheless, `log_too_long` asks the writer to pause for it. `broken` is told when the disk refused in a
/// way that only a restart mends.
///
/// # Errors
///
/// `Io` if the database cannot be opened or the operating system gives no thread.
pub(super) fn start(
    path: &Path,
    after: u64,
    written: Arc<AtomicU64>,
    log_too_long: Arc<AtomicBool>,
    closed: impl Fn() -> bool + Send + 'static,
    broken: impl Fn(&Error) + Send + 'static,
) -> Result<()> {
    let checkpointer = Checkpointer {
        connection: checkpointer(path)?,
        database: File::open(path).map_err(|e| Error::io("failed to open the database", e))?,
        after,
        written,
        closed: Box::new(closed),
        broken: Box::new(broken),
        log_too_long,
    };
    std::thread::Builder::new()
        .name("segue-checkpoint".to_owned())
        .spawn(move || checkpointer.run())
        .map(drop)
        .map_err(|e| Error::io("failed to start the checkpointing thread", e))
}

impl Checkpointer {
    fn run(self) {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        /// When a little is moved after all.
        const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
        let (mut last, mut longest) = (Instant::now(), LONGEST_LOG);
        loop {
            std::thread::sleep(LOOK_EVERY);
            if (self.closed)() {
                return;
            }
            // Often and little: the disk syncs what was moved, and whatever the writer syncs meanwhile waits for that.
            let written = self.written.load(Ordering::Relaxed);
            if written == 0 || (written < self.after && last.elapsed() < AT_LEAST_EVERY) {
                continue;
            }
            self.written.store(0, Ordering::Relaxed);
            last = Instant::now();
            match self.move_log() {
                Ok(length) if length > longest => {
                    self.log_too_long.store(true, Ordering::Relaxed);
                    // Whoever reads for long, such as a backup, keeps the log from beginning anew: asking again at once
                    // would hold the writer up and gain nothing.
                    longest = length + LONGEST_LOG;
                }
                Ok(length) if length <= LONGEST_LOG => longest = LONGEST_LOG,
                Ok(_) => {}
                Err(error) if error.kind() == Kind::Unavailable => {
                    tracing::warn!(target: "segue::journal", error = %error.full(), "the log could not be moved into the database");
                }
                Err(error) => return (self.broken)(&error),
            }
        }
    }

    /// Moves what it may and syncs it. Gives the length of the log in pages.
    ///
    /// A sync that failed must not be tried again: the system forgets what it could not write, and the next sync succeeds
    /// without it. The log still has it, and a restart moves all of the log again.
    fn move_log(&self) -> Result<i64> {
        let length = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1));
        let length = length.map_err(failed)?;
        // SQLite syncs the database only when the whole log is moved, which under load is when the writer waits for it.
        // Syncing what was moved now leaves little for then.
        self.database.sync_data().map_err(|e| Error::io("failed to sync the database", e))?;
        Ok(length)
    }
}
