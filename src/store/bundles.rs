//! Bundles: what decisions depend on, kept by hash, and which of them was published last.
//!
//! The content is a document that this room does not read. It is kept as long as an applied record or a publication
//! names it, so that a decision can be repeated; see `app/bundle.rs`.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::base::{Result, Timestamp};

/// How many publications are kept. What applied records name is kept all the same.
pub(super) const PUBLICATIONS: i64 = 200;

/// A bundle that was made the one to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Rises with each publication; gaps allowed. The newest one rules.
    pub version: i64,
    /// Which bundle.
    pub hash: String,
    /// When it was published, by the clock of whoever did.
    pub at: Timestamp,
    /// Who did: words for people.
    pub by: String,
    /// The program that did, with its version.
    pub engine: String,
}

/// A bundle that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPublication {
    /// Tells this call from any other, so that it can be tried again after a lost connection.
    pub id: [u8; 16],
    /// Which bundle; its content must be kept already.
    pub hash: String,
    /// Now.
    pub at: Timestamp,
    /// Who publishes: words for people.
    pub by: String,
}

/// A bundle as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRow {
    /// Its hash.
    pub hash: String,
    /// The size of its content in bytes as it is kept, sealed; none where only the hash was kept.
    pub bytes: Option<u64>,
    /// Whether an applied record names it.
    pub applied: bool,
}

/// Bundles by hash, and which one rules.
pub trait Bundles: Send + Sync {
    /// Keeps a content under its hash. Doing so again changes nothing.
    fn put(&self, hash: String, content: Bytes) -> BoxFuture<'static, Result<()>>;

    /// The content of a bundle; none if there is none of this hash, or its content was never kept.
    fn get(&self, hash: String) -> BoxFuture<'_, Result<Option<Bytes>>>;

    /// All bundles that are kept, the latest first.
    fn all(&self) -> BoxFuture<'_, Result<Vec<BundleRow>>>;

    /// Makes a bundle the one to run, and tells every node. Where it is so already, nothing is published and what stands
    /// is given.
    fn publish(&self, publication: NewPublication) -> BoxFuture<'static, Result<Publication>>;

    /// The publication that rules; none before the first one.
    fn current(&self) -> BoxFuture<'_, Result<Option<Publication>>>;

    /// Publications, the latest first.
    fn publications(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Publication>>>;

    /// Changes when something may have been published. Whoever must know looks now and then all the same.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Takes out bundles that neither a publication nor an applied record names. Gives how many.
    fn prune(&self) -> BoxFuture<'static, Result<u64>>;
}
