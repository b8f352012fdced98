//! Two ways of running the gateway, measured in turn in one run, and what one gives of the other.
//!
//! A figure alone says as much about the machine and the hour as about the gateway. What two ways give in alternating
//! rounds on the same machine can be divided.

use std::path::Path;

use serde::Serialize;

use crate::cap::Capped;
use crate::process::peak_rss_mb;
use crate::report::Throughput;
use crate::run::{Stand, throughput};
use crate::{Args, Result};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// PostgreSQL on the same machine with SQLite.
    Stores,
    /// Two nodes with one, each held to [`SHARE`] of a core, on PostgreSQL.
    Nodes,
    /// Sealed with unsealed, on SQLite.
    Sealing,
}

/// The share of a core that a node gets where nodes are compared.
const SHARE: f64 = 0.3;
/// Set for a gateway that is to leave everything unsealed.
const UNSEALED: (&str, &str) = ("SEGUE_TEST_UNSEALED", "1");

/// One way of running the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    name: &'static str,
    /// Whether on a PostgreSQL server of its own.
    pub(crate) postgres: bool,
    /// How many nodes.
    pub(crate) nodes: usize,
    /// The share of a core that each node gets; none for no limit.
    share: Option<f64>,
    /// A variable of the gateway's environment.
    pub(crate) env: Option<(&'static str, &'static str)>,
}

impl Way {
    /// One node by itself, with nothing held back.
    pub(crate) fn alone(postgres: bool) -> Way {
        let name = if postgres { "PostgreSQL" } else { "SQLite" };
        Way { name, postgres, nodes: 1, share: None, env: None }
    }
}

impl Question {
    /// The question of that name.
    pub(crate) fn parse(name: &str) -> Result<Question> {
        match name {
            "stores" => Ok(Question::Stores),
            "nodes" => Ok(Question::Nodes),
            "sealing" => Ok(Question::Sealing),
            _ => Err(format!("`{name}` cannot be compared: say `stores`, `nodes` or `sealing`").into()),
        }
    }

    /// What is divided by, what is divided, and what at least is to come out.
    fn ways(self) -> (Way, Way, f64) {
        let plain = Way::alone(false);
        match self {
            Question::Stores => (plain, Way::alone(true), 0.5),
            Question::Nodes => {
                let one = Way { name: "one node", postgres: true, share: Some(SHARE), ..plain };
                (one, Way { name: "two nodes", nodes: 2, ..one }, 1.7)
            }
            Question::Sealing => {
                (Way { name: "unsealed", env: Some(UNSEALED), ..plain }, Way { name: "sealed", ..plain }, 0.85)
            }
        }
    }
}

/// What one round of one way gave.
#[derive(Debug, Serialize)]
struct Round {
    way: &'static str,
    #[serde(flatten)]
    throughput: Throughput,
    /// The most memory that a node had resident, in MB.
    rss_mb: f64,
    /// How the nodes were held to their share.
    held_by: Option<&'static str>,
    /// Messages answered with a 2xx that the sink had not verified in the end.
    lost: u64,
    /// Events that came again.
    repeats: u64,
}

/// What came of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    rounds: Vec<Round>,
    /// What the second way gives of the first, by interactions a second, each the mean of its rounds.
    ratio: f64,
    target: f64,
    pass: bool,
}

/// Measures both ways in turn.
pub(crate) fn run(args: &Args, question: Question, root: &Path) -> Result<Comparison> {
    let (base, other, target) = question.ways();
    let mut rounds = Vec::new();
    for number in 0..if args.short { 1 } else { 3 } {
        // Which comes first changes: the machine may grow slower or faster meanwhile.
        for way in if number % 2 == 0 { [base, other] } else { [other, base] } {
            eprintln!("round {}: {}", number + 1, way.name);
            rounds.push(round(args, way, &root.join(format!("{}-{number}", way.name.replace(' ', "-"))))?);
        }
    }
    let mean = |way: Way| {
        let of: Vec<f64> = rounds.iter().filter(|r| r.way == way.name).map(|r| r.throughput.per_second).collect();
        of.iter().sum::<f64>() / of.len().max(1) as f64
    };
    let ratio = mean(other) / mean(base).max(1.0);
    Ok(Comparison { rounds, ratio, target, pass: ratio >= target })
}

fn round(args: &Args, way: Way, root: &Path) -> Result<Round> {
    let stand = Stand::start(args, way, root)?;
    let share = |share| stand.nodes.iter().map(|node| Capped::new(node.process.id(), share)).collect();
    let caps: Vec<Capped> = way.share.map(share).unwrap_or_default();
    let mut found = Throughput::default();
    let told = throughput(args, &stand, &mut found)?;
    stand.drain(told.next);
    let held_by = caps.first().map(Capped::how);
    drop(caps);
    let rss_mb = stand.nodes.iter().map(|node| peak_rss_mb(node.process.id())).fold(0.0, f64::max);
    let sink = stand.stop()?;
    Ok(Round {
        way: way.name,
        throughput: found,
        rss_mb,
        held_by,
        lost: told.accepted.saturating_sub(sink.verified),
        repeats: sink.repeats,
    })
}

impl Comparison {
    /// The comparison for people.
    pub(crate) fn print(&self) {
        println!();
        for round in &self.rounds {
            let run = &round.throughput;
            println!(
                "{:<12} {:>6.0}/s; CPU per 1,000: gateway {:.0} ms, PostgreSQL {:.0} ms, load {:.0} ms, sink {:.0} ms; \
                 others {:.0} %, idle {:.0} %; ack p99 {:.1} ms; oldest {} ms; RSS {:.0} MB; lost {}, repeated {}{}",
                round.way,
                run.per_second,
                run.cpu,
                run.cpu_of_server,
                run.cpu_of_load,
                run.cpu_of_sink,
                run.others * 100.0,
                run.idle * 100.0,
                run.ack.p99,
                run.oldest_ms,
                round.rss_mb,
                round.lost,
                round.repeats,
                round.held_by.map(|how| format!("; held by {how}")).unwrap_or_default()
            );
        }
        let word = if self.pass { "PASS" } else { "MISS" };
        println!("{word} ratio {:.2}, target {:.2}", self.ratio, self.target);
    }
}
