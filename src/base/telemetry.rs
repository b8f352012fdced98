//! Names of what is measured. Every counter and every log target carries the name of its stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The label of a gauge of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Name {
    /// The channel.
    pub name: String,
}

/// The label of a counter that is split by one thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct By {
    /// The connector, channel or help desk concerned; empty where there is none.
    pub name: String,
    /// What came of it.
    pub result: String,
}

impl By {
    /// A label pair.
    pub fn new(name: &str, result: &str) -> Self {
        By { name: name.to_owned(), result: result.to_owned() }
    }
}

/// A counter split by name and result.
pub type Counts = Family<By, Counter<u64, AtomicU64>>;

/// Everything that is measured. Cloning shares the counters.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Requests at `/in/<channel>` by channel and outcome.
    pub intake: Counts,
    /// Mails that were one of too many, by channel.
    pub storms: Counts,
    /// Seconds from the end of a provider's request to our answer.
    pub acknowledgement: Histogram,
    /// Outcomes of normalizing by connector and outcome.
    pub normalized: Counts,
    /// Decisions by queue and result (`policy`, `fallback`, `breach`).
    pub decided: Counts,
    /// Attempts to deliver to help desks by name and result.
    pub delivered: Counts,
    /// Sends to customers by channel and result.
    pub sent: Counts,
    /// Files fetched by channel and result.
    pub media: Counts,
    /// Entries journaled and not yet applied.
    pub pending_entries: Gauge<i64, AtomicI64>,
    /// Events not yet delivered, over all help desks.
    pub pending_events: Gauge<i64, AtomicI64>,
    /// Buckets of the work that this node holds, of 256; 0 where it shares with nobody.
    pub buckets: Gauge<i64, AtomicI64>,
    /// Nodes that share the work, as this one last saw them; 0 where it shares with nobody.
    pub nodes: Gauge<i64, AtomicI64>,
    /// Mailboxes by channel and state, 1 for the state that each is in.
    pub mailboxes: Family<By, Gauge<i64, AtomicI64>>,
    /// UIDs of mailboxes that were not looked at yet, by channel.
    pub mailbox_behind: Family<Name, Gauge<i64, AtomicI64>>,
    /// When each mailbox was last read to its end, as a Unix time in seconds, by channel.
    pub mailbox_read: Family<Name, Gauge<i64, AtomicI64>>,
    /// CPU seconds by stage.
    pub stage_seconds: Family<Stage, Histogram>,
    /// Counts what might be timed.
    turn: Arc<AtomicU64>,
}

/// One in so many futures is timed by [`Metrics::metered`].
pub const SAMPLED: u64 = 16;

/// CPU time of the thread that asks: what a stage costs, whoever else the machine is busy with.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The label of a figure that is split by stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Stage {
    /// The stage's name, as in the architecture.
    pub stage: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics at zero, registered.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("segue");
        let counts = |registry: &mut Registry, name: &str, help: &str| {
            let counts = Counts::default();
            registry.register(name, help, counts.clone());
            counts
        };
        let storms =
            counts(&mut registry, "storm_interactions", "Interactions that were one of too many, by channel and kind");
        let intake = counts(&mut registry, "intake_requests", "Requests at /in/ by channel and outcome");
        let normalized = counts(&mut registry, "normalized_items", "Items of payloads by connector and outcome");
        let decided = counts(&mut registry, "decisions", "Decisions by queue and by who decided");
        let delivered = counts(&mut registry, "deliveries", "Attempts to deliver by help desk and result");
        let sent = counts(&mut registry, "sends", "Sends to customers by channel and result");
        let media = counts(&mut registry, "media", "Files fetched by channel and result");
        let acknowledgement = Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]);
        registry.register_with_unit(
            "acknowledgement",
            "Time from the end of a provider's request to our answer",
            Unit::Seconds,
            acknowledgement.clone(),
        );
        let (pending_entries, pending_events) = (Gauge::default(), Gauge::default());
        registry.register("pending_entries", "Entries journaled and not yet applied", pending_entries.clone());
        registry.register("pending_events", "Events not yet delivered, over all help desks", pending_events.clone());
        let (buckets, nodes) = (Gauge::default(), Gauge::default());
        registry.register("buckets", "Buckets of the work that this node holds", buckets.clone());
        registry.register("nodes", "Nodes that share the work", nodes.clone());
        let mailboxes = Family::<By, Gauge<i64, AtomicI64>>::default();
        registry.register("mailboxes", "Mailboxes by channel and state", mailboxes.clone());
        let mailbox_behind = Family::<Name, Gauge<i64, AtomicI64>>::default();
        registry.register("mailbox_behind", "UIDs that were not looked at yet", mailbox_behind.clone());
        let mailbox_read = Family::<Name, Gauge<i64, AtomicI64>>::default();
        registry.register("mailbox_read_timestamp", "When it was last read to its end", mailbox_read.clone());
        let stage_seconds = Family::<Stage, Histogram>::new_with_constructor(|| {
            Histogram::new([0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1])
        });
        registry.register_with_unit("stage", "CPU time spent in a stage", Unit::Seconds, stage_seconds.clone());
        Metrics {
            registry: Arc::new(registry),
            intake,
            storms,
            acknowledgement,
            normalized,
            decided,
            delivered,
            sent,
            media,
            pending_entries,
            pending_events,
            buckets,
            nodes,
            mailboxes,
            mailbox_behind,
            mailbox_read,
            stage_seconds,
            turn: Arc::default(),
        }
    }

    /// Adds CPU time to a stage's account.
    pub fn stage(&self, stage: &'static str, cpu: Duration) {
        self.stage_seconds.get_or_create(&Stage { stage }).observe(cpu.as_secs_f64());
    }

    /// Runs a future and adds the CPU time of all its turns to a stage's account: for stages that wait in between. One in
    /// [`SAMPLED`] is timed, since asking for the time twice a turn is not free.
    pub async fn metered<F: Future>(&self, stage: &'static str, future: F) -> F::Output {
        if !self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLED) {
            return future.await;
        }
        let mut future = std::pin::pin!(future);
        let mut cpu = Duration::ZERO;
        let output = std::future::poll_fn(|context| {
            let begun = thread_cpu();
            let polled = future.as_mut().poll(context);
            cpu += thread_cpu().saturating_sub(begun);
            polled
        });
        let output = output.await;
        self.stage(stage, cpu);
        output
    }

    /// Tells no more of a mailbox that is not read any more, in any of these states: its last figures would stay for ever.
    pub fn forget_mailbox<const N: usize>(&self, name: &str, states: [&str; N]) {
        for state in states {
            self.mailboxes.remove(&By::new(name, state));
        }
        let name = Name { name: name.to_owned() };
        self.mailbox_behind.remove(&name);
        self.mailbox_read.remove(&name);
    }

    /// The figures in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
