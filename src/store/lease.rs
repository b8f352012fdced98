//! Which of several nodes does which part of the work.
//!
//! A lease is a name that one node at a time holds, on the clock of the database. Entries are divided into
//! [`BUCKETS`] by what orders them, and whoever holds an entry's bucket applies it. Other work that must not be done
//! twice goes by leases with a name: the deliveries to a help desk ([`helpdesk`]), sends ([`SENDS`]), fetches
//! ([`MEDIA`]), pruning ([`UPKEEP`]).
//!
//! What the store itself writes is guarded by the commit, which checks the leases once more. [`Leases`] tells those who
//! act on the world outside whether they may.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::base::id::NodeId;
use crate::base::{Result, Timestamp};

/// Into how many buckets entries are divided.
pub const BUCKETS: usize = 256;
/// The lease on sending to customers.
pub const SENDS: &str = "sends";
/// The lease on fetching files.
pub const MEDIA: &str = "media";
/// The lease on taking out what has grown old. It is let go by itself.
pub const UPKEEP: &str = "upkeep";

/// The name of the lease on a help desk's deliveries.
pub fn helpdesk(name: &str) -> String {
    format!("helpdesk/{name}")
}

/// The name of the lease on reading a mailbox.
pub fn mailbox(channel: &str) -> String {
    format!("mailbox/{channel}")
}

/// How a lease stands with this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Another node has it, or nobody, or it cannot be told.
    #[default]
    No,
    /// This node has it and is to let it go: what was begun may be finished, nothing new be begun.
    Leaving,
    /// This node has it.
    Yes,
}

impl Hold {
    /// Whether something new may be begun.
    pub fn may_begin(self) -> bool {
        self == Hold::Yes
    }

    /// Whether what was begun may go on.
    pub fn may_go_on(self) -> bool {
        self != Hold::No
    }
}

/// The leases of this node.
pub trait Leases: Send + Sync {
    /// Whether other nodes may work on the same data.
    fn shared(&self) -> bool;

    /// Takes part in the work: from now on this node takes its share of the buckets and of the leases named. To be called
    /// again when the names change. A store that takes no part acts as if it were alone, and must not be applied to.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the store cannot be reached; the node goes on trying.
    fn join(&self, named: Vec<String>) -> BoxFuture<'static, Result<()>>;

    /// How a bucket stands with this node now.
    fn bucket(&self, bucket: u8) -> Hold;

    /// How the lease of this name stands with this node now.
    fn named(&self, name: &str) -> Hold;

    /// Rises whenever this node loses everything that it held: others may have done its work since, also where it holds
    /// the same again.
    fn term(&self) -> u64;

    /// The buckets that are to be let go.
    fn leaving(&self) -> Vec<u8>;

    /// Lets buckets go. Nothing of them may be under way.
    fn let_buckets_go(&self, buckets: &[u8]);

    /// Lets a lease go. Nothing of it may be under way.
    fn let_go(&self, name: &str);

    /// Changes whenever what this node holds may have changed.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Who works on the data, this node first.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the store cannot be read.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>>>;
}

/// A node and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, drawn when its process began.
    pub id: NodeId,
    /// Whether it is this one.
    pub own: bool,
    /// Since when it takes part; none if it takes no part now.
    pub since: Option<Timestamp>,
    /// How many buckets it holds.
    pub buckets: usize,
    /// The names of its other leases.
    pub named: Vec<String>,
}

/// The only process on its data: it holds everything.
pub(super) struct Alone {
    id: NodeId,
    since: Timestamp,
    changed: watch::Sender<u64>,
}

impl Alone {
    pub(super) fn new(now: Timestamp) -> Self {
        Alone { id: NodeId::random(now), since: now, changed: watch::Sender::new(0) }
    }
}

impl Leases for Alone {
    fn shared(&self) -> bool {
        false
    }

    fn join(&self, _: Vec<String>) -> BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn bucket(&self, _: u8) -> Hold {
        Hold::Yes
    }

    fn named(&self, _: &str) -> Hold {
        Hold::Yes
    }

    fn term(&self) -> u64 {
        0
    }

    fn leaving(&self) -> Vec<u8> {
        Vec::new()
    }

    fn let_buckets_go(&self, _: &[u8]) {}

    fn let_go(&self, _: &str) {}

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>>> {
        let node = Node { id: self.id, own: true, since: Some(self.since), buckets: BUCKETS, named: Vec::new() };
        std::future::ready(Ok(vec![node])).boxed()
    }
}
