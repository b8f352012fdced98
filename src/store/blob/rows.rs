//! What a backend does for large content: the tables that lead to it.

use futures_util::future::BoxFuture;

use super::{BlobName, Object};
use crate::base::{Result, Timestamp};
use crate::store::{BlobRow, BlobUse, Claim, InteractionRow};

/// The tables that lead to large content; the ideas behind them are those of [`blob`](super). Each call is one transaction, and
/// may be repeated.
pub trait BlobRows: Send + Sync {
    /// Puts an object that is about to be written into the table of loose ones.
    fn announce(&self, object: Object, at: Timestamp) -> BoxFuture<'static, Result<()>>;

    /// Gives an object that is whole a name, unless the name has one: that is made young then, and this one stays loose.
    fn claim(&self, blob: BlobRow) -> BoxFuture<'static, Result<Claim>>;

    /// Where the content of a name is.
    fn blob(&self, name: BlobName) -> BoxFuture<'_, Result<Option<BlobRow>>>;

    /// What the part of an interaction (by number) names; the latest, if it named several.
    fn used_by(&self, interaction: i64, part: usize) -> BoxFuture<'_, Result<Option<BlobName>>>;

    /// Writes what a part names, for content from before there were blobs. Entries write theirs in their commit.
    fn adopt(&self, used: BlobUse) -> BoxFuture<'static, Result<()>>;

    /// Takes the name and whatever names it away, and gives the object, which is loose from now on.
    fn drop_blob(&self, name: BlobName) -> BoxFuture<'static, Result<Option<Object>>>;

    /// Makes objects loose whose blob is from before `before` and named by nothing, then gives loose ones from before
    /// `before`; at most so many of each.
    fn condemn(&self, before: Timestamp, limit: usize) -> BoxFuture<'static, Result<Vec<Object>>>;

    /// Forgets loose objects, which are deleted.
    fn forget(&self, objects: Vec<Object>) -> BoxFuture<'static, Result<()>>;

    /// Interactions with a number above `after`, in order, for a walk over all of them.
    fn interactions(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>>;
}
