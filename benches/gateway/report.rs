//! What was measured, what was to be reached, and how both are told.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Latency;

/// What is to be reached where the references are at least what they should be.
const INTERACTIONS: f64 = 5_000.0;
/// Requests a second of the empty server below which the target shrinks in proportion.
const EMPTY: f64 = 50_000.0;
/// Items a second of the SQLite loop below which the target shrinks in proportion.
const SQLITE: f64 = 8_000.0;
/// The oldest undelivered event may be this old, in milliseconds.
pub(crate) const OLDEST_MS: u64 = 2_000;
/// Acknowledgement at the 99th percentile, in milliseconds.
const ACK_MS: f64 = 50.0;
/// Resident memory in MB.
const RSS_MB: f64 = 150.0;

/// Everything that one run found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Requests a second of the empty server; none if it was left out.
    pub(crate) empty_per_second: Option<f64>,
    /// Items a second of the SQLite loop; none if it was left out.
    pub(crate) sqlite_per_second: Option<f64>,
    /// The throughput phase.
    pub(crate) throughput: Throughput,
    /// The latency phase.
    pub(crate) latency: OpenLoop,
    /// The most memory the gateway had resident, in MB.
    pub(crate) rss_mb: f64,
    /// Messages answered with a 2xx, over all phases.
    pub(crate) accepted: u64,
    /// Events verified, each once.
    pub(crate) verified: u64,
    /// Events that came again.
    pub(crate) repeats: u64,
    /// Requests at the sink that did not verify.
    pub(crate) bad: u64,
    /// Whether the gateway stopped by itself, with code 0, when asked to.
    pub(crate) stopped: bool,
}

/// What the throughput phase found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Throughput {
    /// Length of the window in seconds.
    pub(crate) seconds: f64,
    /// Interactions verified a second.
    pub(crate) per_second: f64,
    /// The highest age of an undelivered event in the window, in milliseconds.
    pub(crate) oldest_ms: u64,
    /// How often the window had to be begun again because an event grew too old.
    pub(crate) begun_again: u32,
    /// Answers of 429 and 503 in all of the phase, and connections cut.
    pub(crate) refused: u64,
    /// Acknowledgement under full load.
    pub(crate) ack: Latency,
    /// CPU milliseconds of the gateway for 1,000 interactions.
    pub(crate) cpu: f64,
    /// The same, by thread name.
    pub(crate) cpu_by_thread: BTreeMap<String, f64>,
    /// CPU milliseconds of the gateway for 1,000 interactions by stage, as it counts them. `intake` holds `verify`; what is
    /// in no stage is the runtime, the HTTP connections and moving the log into the database.
    pub(crate) by_stage: BTreeMap<String, f64>,
    /// CPU milliseconds of PostgreSQL for 1,000 interactions; 0 without.
    pub(crate) cpu_of_server: f64,
    /// CPU milliseconds of load and sink for 1,000 interactions.
    pub(crate) cpu_of_load: f64,
    /// See `cpu_of_load`.
    pub(crate) cpu_of_sink: f64,
    /// The share of the machine that neither gateway, load nor sink used but somebody did, 0 to 1.
    pub(crate) others: f64,
    /// The share of the machine that nobody used, 0 to 1.
    pub(crate) idle: f64,
}

/// What the latency phase found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct OpenLoop {
    /// Arrivals a second.
    pub(crate) per_second: f64,
    /// Acknowledgement, from the scheduled moment.
    pub(crate) ack: Latency,
    /// The highest age of an undelivered event, in milliseconds.
    pub(crate) oldest_ms: u64,
}

/// One target and whether it was reached.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// What it is about.
    pub(crate) name: &'static str,
    /// What was found.
    pub(crate) found: f64,
    /// What was to be reached.
    pub(crate) target: f64,
    /// Whether it was.
    pub(crate) pass: bool,
}

impl Report {
    /// Interactions a second to be reached on this machine: the full figure, or where a reference falls short of what it
    /// should be, the same proportion of that reference.
    pub(crate) fn target(&self) -> f64 {
        let share = |found: Option<f64>, full: f64| found.map_or(1.0, |found| (found / full).min(1.0));
        INTERACTIONS * share(self.empty_per_second, EMPTY).min(share(self.sqlite_per_second, SQLITE))
    }

    /// Every target with what was found.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let at_least = |name, found, target| Verdict { name, found, target, pass: found >= target };
        let at_most = |name, found, target| Verdict { name, found, target, pass: found <= target };
        let lost = self.accepted.saturating_sub(self.verified) as f64;
        vec![
            at_least("interactions a second", self.throughput.per_second, self.target()),
            at_most("oldest undelivered event, ms", self.throughput.oldest_ms as f64, OLDEST_MS as f64),
            at_most("acknowledgement p99, ms", self.latency.ack.p99, ACK_MS),
            at_most("resident memory, MB", self.rss_mb, RSS_MB),
            at_most("accepted and not delivered", lost, 0.0),
            at_most("deliveries that did not verify", self.bad as f64, 0.0),
        ]
    }

    /// The report as one JSON object.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&serde_json::json!({
            "report": self, "target_per_second": self.target(), "verdicts": self.verdicts()
        }))
    }

    /// The report for people.
    pub(crate) fn print(&self) {
        let run = &self.throughput;
        println!("\ninteractions: {:.0}/s", run.per_second);
        println!(
            "  verified over {:.1} s, oldest undelivered event {} ms, begun again {} times, refused {}",
            run.seconds, run.oldest_ms, run.begun_again, run.refused
        );
        for (name, reference, full) in [
            ("empty hyper server", self.empty_per_second, EMPTY),
            ("SQLite, seven writes", self.sqlite_per_second, SQLITE),
        ] {
            if let Some(reference) = reference {
                let ratio = run.per_second / reference;
                println!("reference: {name} {reference:.0}/s; ratio {ratio:.3}, wanted {:.3}", INTERACTIONS / full);
            }
        }
        println!("ack at full load: {}", latency(run.ack));
        let open = &self.latency;
        println!("ack at {:.0}/s, open loop: {}; oldest {} ms", open.per_second, latency(open.ack), open.oldest_ms);
        println!("RSS max: {:.1} MB", self.rss_mb);
        println!("CPU per 1,000 interactions: {:.0} ms, in PostgreSQL {:.0} ms", run.cpu, run.cpu_of_server);
        print_costs("thread", &run.cpu_by_thread);
        println!(
            "by stage per 1,000 interactions (intake holds verify; the rest is runtime, connections and the log):"
        );
        print_costs("stage", &run.by_stage);
        println!(
            "CPU per 1,000 of load {:.0} ms, of sink {:.0} ms; the machine: {:.0} % others, {:.0} % idle",
            run.cpu_of_load,
            run.cpu_of_sink,
            run.others * 100.0,
            run.idle * 100.0
        );
        println!(
            "accepted {}, verified {}, repeated {}, bad {}; stopped {}",
            self.accepted,
            self.verified,
            self.repeats,
            self.bad,
            if self.stopped { "by itself" } else { "by force" }
        );
        for verdict in self.verdicts() {
            let word = if verdict.pass { "PASS" } else { "MISS" };
            println!("{word} {}: {:.1}, target {:.1}", verdict.name, verdict.found, verdict.target);
        }
    }
}

fn latency(of: Latency) -> String {
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", of.p50, of.p99, of.max)
}

fn print_costs(what: &str, costs: &BTreeMap<String, f64>) {
    let mut costs: Vec<_> = costs.iter().filter(|(_, cost)| **cost >= 0.05).collect();
    costs.sort_by(|a, b| b.1.total_cmp(a.1));
    costs.iter().for_each(|(name, cost)| println!("  {what} {name:<20} {cost:>8.1} ms"));
}
