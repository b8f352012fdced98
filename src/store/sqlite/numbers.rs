//! Numbers for new rows: counted up in memory from what the tables hold. A customer's number is given out only once the
//! customer's key is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::Connection;

use super::open::failed;
use crate::base::{Error, Result};
use crate::store::seal::Codec;
use crate::store::{Numbers, unavailable};

/// How many customers' keys are made at once.
const BLOCK: i64 = 1024;
/// How often it is looked whether a new day has come.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Counters, one for each kind of row.
pub(super) struct Counters {
    customers: Arc<Customers>,
    conversation: AtomicI64,
    interaction: AtomicI64,
    /// Wakes the thread that makes keys; dropping it ends that thread.
    low: SyncSender<()>,
}

struct Customers {
    next: AtomicI64,
    /// The first number whose key is not durable yet.
    end: AtomicI64,
}

impl Counters {
    /// Reads what the tables hold, and starts the thread that makes keys.
    pub(super) fn start(connection: &Connection, codec: Arc<Codec>) -> Result<Counters> {
        let next = |table: &str| -> Result<i64> {
            let sql = format!("SELECT coalesce(max(no), 0) + 1 FROM {table}");
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(failed)
        };
        let first = next("customer")?;
        let customers = Arc::new(Customers { next: AtomicI64::new(first), end: AtomicI64::new(first) });
        customers.fill(&codec)?;
        let (low, woken) = sync_channel(1);
        let own = customers.clone();
        std::thread::Builder::new()
            .name("segue-keys".to_owned())
            .spawn(move || make_keys(&own, &codec, &woken))
            .map_err(|e| Error::io("failed to start the thread that makes keys", e))?;
        let (conversation, interaction) = (next("conversation")?.into(), next("interaction")?.into());
        Ok(Counters { customers, conversation, interaction, low })
    }
}

fn make_keys(customers: &Customers, codec: &Codec, woken: &Receiver<()>) {
    loop {
        let ended = matches!(woken.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Disconnected));
        if ended {
            return;
        }
        if let Err(error) = customers.fill(codec).and_then(|()| at_once(codec.keep_days())) {
            tracing::error!(target: "segue::journal", error = %error.full(), "keys cannot be made; will be tried again");
        }
    }
}

/// The key store of this backend answers at once.
pub(super) fn at_once<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    answer.now_or_never().unwrap_or_else(|| Err(Error::internal("the key store did not answer at once")))
}

impl Customers {
    fn fill(&self, codec: &Codec) -> Result<()> {
        loop {
            let (next, end) = (self.next.load(Ordering::Acquire), self.end.load(Ordering::Acquire));
            if end.saturating_sub(next) >= 2 * BLOCK {
                return Ok(());
            }
            // After a stall numbers may have been drawn in vain; they are gaps.
            let from = end.max(next);
            at_once(codec.reserve(from..from + BLOCK))?;
            self.end.store(from + BLOCK, Ordering::Release);
        }
    }
}

impl Numbers for Counters {
    fn customer(&self) -> Result<i64> {
        let no = self.customers.next.fetch_add(1, Ordering::AcqRel);
        let left = self.customers.end.load(Ordering::Acquire).saturating_sub(no);
        if left < BLOCK + BLOCK / 2 {
            let _ = self.low.try_send(());
        }
        if left <= 0 { Err(unavailable().context("no key is ready for a new customer")) } else { Ok(no) }
    }

    fn conversation(&self) -> Result<i64> {
        Ok(self.conversation.fetch_add(1, Ordering::Relaxed))
    }

    fn interaction(&self) -> Result<i64> {
        Ok(self.interaction.fetch_add(1, Ordering::Relaxed))
    }
}
