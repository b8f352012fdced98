//! The journal read back in the order in which it was applied: what replay walks.

use futures_util::future::BoxFuture;

use super::rows::AppliedRow;
use crate::base::Result;
use crate::model::Entry;

/// An entry with its delivery key, as it was appended.
pub struct PastEntry {
    /// The entry.
    pub entry: Entry,
    /// Its delivery key, unless it had none or the key was forgotten since.
    pub key: Option<[u8; 16]>,
}

/// An applied entry.
pub struct PastApplied {
    /// The entry.
    pub entry: Entry,
    /// The record.
    pub applied: AppliedRow,
    /// The program that applied it, with its version.
    pub engine: String,
}

/// The past of a store.
pub trait History: Send + Sync {
    /// Applied records after an apply number, in order.
    fn applied(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastApplied>>>;

    /// Entries after a position, applied or not, in order of their positions.
    fn entries(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastEntry>>>;

    /// The highest apply number and the highest position; 0 where there is none.
    fn ends(&self) -> BoxFuture<'_, Result<(i64, i64)>>;
}

/// The program that applies now, as applied records name it.
pub fn engine() -> &'static str {
    super::code::ENGINE
}
