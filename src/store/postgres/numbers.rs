//! Numbers for new rows: blocks of them, reserved from sequences in good time.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::session::{PgError, Session};
use crate::base::Result;
use crate::store::{Numbers, unavailable};

/// Numbers in a block; the `INCREMENT` of the sequences.
const BLOCK: i64 = 1024;
/// Blocks of each kind that are held when all is well.
const BLOCKS: usize = 16;

/// The sequences, in the order of the pools.
const SEQUENCES: [&str; 3] = ["customer_no", "conversation_no", "interaction_no"];

/// The numbers that this node may give out. What is left when it ends is lost, which does no harm.
#[derive(Default)]
pub(super) struct Blocks {
    customers: Pool,
    conversations: Pool,
    interactions: Pool,
    /// Told when a pool runs low.
    pub(super) low: Arc<Notify>,
}

/// Ranges, each from its next number to the one after its last.
#[derive(Default)]
struct Pool(Mutex<VecDeque<(i64, i64)>>);

impl Pool {
    fn take(&self, low: &Notify) -> Result<i64> {
        let mut ranges = self.0.lock();
        let Some((next, end)) = ranges.front_mut() else {
            low.notify_one();
            return Err(unavailable().context("numbers for new rows have run out for the moment"));
        };
        let number = *next;
        *next += 1;
        if *next >= *end {
            ranges.pop_front();
            if ranges.len() <= BLOCKS / 2 {
                low.notify_one();
            }
        }
        Ok(number)
    }
}

impl Blocks {
    /// Reserves as many blocks as are missing.
    pub(super) async fn fill(&self, session: &Session) -> std::result::Result<(), PgError> {
        for (sequence, pool) in SEQUENCES.iter().zip([&self.customers, &self.conversations, &self.interactions]) {
            let missing = BLOCKS.saturating_sub(pool.0.lock().len()) as i64;
            if missing == 0 {
                continue;
            }
            let sql = format!("SELECT nextval('{sequence}') FROM generate_series(1, $1::int8)");
            let rows = session.rows(&sql, &[&missing]).await?;
            let mut ranges = pool.0.lock();
            for row in rows {
                let first: i64 = row.try_get(0)?;
                ranges.push_back((first, first + BLOCK));
            }
        }
        Ok(())
    }
}

impl Numbers for Blocks {
    fn customer(&self) -> Result<i64> {
        self.customers.take(&self.low)
    }

    fn conversation(&self) -> Result<i64> {
        self.conversations.take(&self.low)
    }

    fn interaction(&self) -> Result<i64> {
        self.interactions.take(&self.low)
    }
}
