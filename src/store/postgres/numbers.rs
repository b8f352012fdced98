//! Numbers for new rows: blocks of them, reserved from sequences in good time.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::session::{PgError, Session, failed};
use crate::base::{Error, Result};
use crate::store::seal::Codec;
use crate::store::{Numbers, unavailable};

/// Numbers in a block; the `INCREMENT` of the sequences.
const BLOCK: i64 = 1024;
/// Blocks of each kind that are held when all is well.
const BLOCKS: usize = 16;
/// The same for customers, whose keys are made with their numbers.
const CUSTOMER_BLOCKS: usize = 4;

/// The numbers that this node may give out. What is left when it ends is lost, which does no harm.
pub(super) struct Blocks {
    codec: Arc<Codec>,
    customers: Pool,
    conversations: Pool,
    interactions: Pool,
    /// Told when a pool runs low.
    pub(super) low: Arc<Notify>,
}

/// Ranges, each from its next number to the one after its last.
#[derive(Default)]
struct Pool(Mutex<VecDeque<(i64, i64)>>);

/// What may fail when blocks are reserved.
pub(super) enum Unfilled {
    /// The connection.
    Session(PgError),
    /// The key store.
    Keys(Error),
}

impl Unfilled {
    /// The error of either.
    pub(super) fn told(self) -> Error {
        match self {
            Unfilled::Session(error) => failed(&error),
            Unfilled::Keys(error) => error,
        }
    }
}

impl From<PgError> for Unfilled {
    fn from(error: PgError) -> Self {
        Unfilled::Session(error)
    }
}

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
            if ranges.len() <= CUSTOMER_BLOCKS / 2 {
                low.notify_one();
            }
        }
        Ok(number)
    }
}

impl Blocks {
    pub(super) fn new(codec: Arc<Codec>) -> Blocks {
        let (customers, conversations, interactions) = Default::default();
        Blocks { codec, customers, conversations, interactions, low: Arc::default() }
    }

    /// Reserves as many blocks as are missing. Customers' keys are durable before their numbers are given out.
    pub(super) async fn fill(&self, session: &Session) -> std::result::Result<(), Unfilled> {
        let customers = draw(session, "customer_no", &self.customers, CUSTOMER_BLOCKS).await?;
        for (first, end) in customers {
            self.codec.reserve(first..end).await.map_err(Unfilled::Keys)?;
            self.customers.0.lock().push_back((first, end));
        }
        for (sequence, pool) in [("conversation_no", &self.conversations), ("interaction_no", &self.interactions)] {
            let blocks = draw(session, sequence, pool, BLOCKS).await?;
            pool.0.lock().extend(blocks);
        }
        Ok(())
    }
}

/// Draws the blocks that a pool is missing.
async fn draw(
    session: &Session,
    sequence: &str,
    pool: &Pool,
    blocks: usize,
) -> std::result::Result<Vec<(i64, i64)>, PgError> {
    let missing = blocks.saturating_sub(pool.0.lock().len()) as i64;
    if missing == 0 {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT nextval('{sequence}') FROM generate_series(1, $1::int8)");
    let rows = session.rows(&sql, &[&missing]).await?;
    rows.iter().map(|row| row.try_get(0).map(|first: i64| (first, first + BLOCK))).collect()
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
