//! The oracle: what must hold after a run, whatever was done to the gateway meanwhile.
//!
//! What was acknowledged stands in a ledger, which is on disk before it counts. Everything else is what the peers saw and
//! what the database holds once nothing is open any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::database::Database;
use super::gateway::Project;
use super::helpdesk::{Delivery, HelpDesk};
use super::stub::Provider;

/// The messages that were acknowledged.
pub(crate) struct Ledger {
    file: File,
    count: AtomicUsize,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ledger {
    /// An empty one.
    pub(crate) fn new() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let file = File::options().create(true).append(true).open(&path).unwrap();
        Ledger { file, count: AtomicUsize::new(0), path, _folder: folder }
    }

    /// Writes down that `customer`'s message `id` was acknowledged.
    pub(crate) fn note(&self, customer: &str, id: &str) {
        // One line in one write: lines of several writers do not mix.
        (&self.file).write_all(format!("{customer} {id}\n").as_bytes()).unwrap();
        self.file.sync_data().unwrap();
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Ids of the messages, for each customer in the order in which they were sent.
    pub(crate) fn acknowledged(&self) -> BTreeMap<String, Vec<String>> {
        let mut acknowledged: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(&self.path).unwrap().lines() {
            let (customer, id) = line.split_once(' ').expect("the ledger has whole lines");
            acknowledged.entry(customer.to_owned()).or_default().push(id.to_owned());
        }
        acknowledged
    }
}

/// What a run left, once the gateway has ended.
pub(crate) struct Outcome {
    pub(crate) project: Project,
    pub(crate) desk: HelpDesk,
    pub(crate) api: Provider,
    pub(crate) ledger: Ledger,
    /// How many deliveries may have been made again: see [`COPIES`].
    pub(crate) copies: usize,
}

/// How many deliveries a death may repeat at most: those under way (the help desk's `concurrency`), and those that were
/// answered while the mark behind them was being written.
pub(crate) const COPIES: usize = 16 * 4;

/// What the help desk of a run is sent: what customers said, and how far answers to them got.
pub(crate) const EVENTS: [&str; 2] = ["interaction.received", "delivery.updated"];

/// What has not ended: entries, deliveries of [`EVENTS`] to the help desk, and sends.
const OPEN: [(&str, &str); 4] = [
    ("entries are not applied", "SELECT count(*) FROM pending"),
    ("events are set aside", "SELECT count(*) FROM due"),
    ("events are not settled", "SELECT count(*) FROM event e JOIN settled s ON e.no > s.event WHERE e.kind IN (1, 4)"),
    ("sends have no outcome", "SELECT count(*) FROM send WHERE state < 2"),
];

/// What of the journal and of what follows from it has not ended, in words.
pub(crate) fn unended(project: &Project) -> Vec<String> {
    let open = OPEN.iter().map(|(what, sql)| (project.number(sql), what)).filter(|(count, _)| *count != 0);
    open.map(|(count, what)| format!("{count} {what}")).collect()
}

/// Waits for the end of everything: every entry applied, and all that followed from it delivered or sent.
///
/// # Panics
///
/// If that takes too long.
pub(crate) async fn all_to_end(project: &Project) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let open = unended(project);
        if open.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "not ended: {}", open.join(", "));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything that is not as promised.
pub(crate) fn faults(outcome: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(damage) = outcome.project.database().damage() {
        faults.push(format!("the database is damaged: {damage}"));
    }
    let (acknowledged, told) = (outcome.ledger.acknowledged(), outcome.desk.taken());
    let (taken, updates): (Vec<Delivery>, Vec<Delivery>) =
        told.into_iter().partition(|delivery| delivery.event["type"] == "dev.segue.interaction.received.v1");
    told_once(&acknowledged, &taken, &mut faults);
    few_copies(outcome, &mut faults);
    in_order(&acknowledged, &taken, &mut faults);
    stored_once(outcome, &acknowledged, &mut faults);
    answered_once(outcome, &updates, &mut faults);
    all_ended(&outcome.project, &mut faults);
    nothing_left(&outcome.project, &mut faults);
    faults
}

/// Fails if something is not as promised.
///
/// # Panics
///
/// With all of it.
pub(crate) fn judge(outcome: &Outcome, run: &str) {
    let mut faults = faults(outcome);
    replays_to_the_same(&outcome.project, &mut faults);
    let some = faults.iter().take(25).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{run}, {} faults:\n{some}", faults.len());
}

/// The whole journal, applied again in an empty store, gives the same state.
fn replays_to_the_same(project: &Project, faults: &mut Vec<String>) {
    let into = project.folder().join(format!("replayed-{}", project.number("SELECT count(*) FROM applied")));
    let (code, told) = project.try_run(&["replay", "--json", "--into", into.to_str().unwrap()]);
    if code != Some(0) {
        faults.push(format!("replayed, the state is another: {told}"));
    }
}

type Acknowledged = BTreeMap<String, Vec<String>>;

/// Every acknowledged message is one event at the help desk, and nothing else is.
fn told_once(acknowledged: &Acknowledged, taken: &[Delivery], faults: &mut Vec<String>) {
    let mut events: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in taken {
        *events.entry(delivery.provider_id()).or_default() += 1;
    }
    let acknowledged: BTreeSet<&str> = acknowledged.values().flatten().map(String::as_str).collect();
    for id in &acknowledged {
        match events.get(id) {
            None => faults.push(format!("lost: {id} was acknowledged and never delivered")),
            Some(1) => {}
            Some(count) => faults.push(format!("twice: {id} was delivered as {count} events")),
        }
    }
    for id in events.keys().filter(|id| !acknowledged.contains(*id)) {
        faults.push(format!("unknown: {id} was delivered and never sent"));
    }
}

/// A help desk sees what it has taken again only after something broke, and then not much of it. That copies are
/// byte-equal under one id is seen where they are collected.
fn few_copies(outcome: &Outcome, faults: &mut Vec<String>) {
    let (mut taken, mut copies) = (BTreeSet::new(), 0);
    for delivery in outcome.desk.attempts() {
        copies += usize::from(taken.contains(&delivery.id));
        if delivery.taken() {
            taken.insert(delivery.id);
        }
    }
    println!("{} events taken, {copies} copies; at most {}", taken.len(), outcome.copies);
    if copies > outcome.copies {
        faults.push(format!("copies: {copies} deliveries were repeated, and {} may have been", outcome.copies));
    }
}

/// Each customer's messages are one conversation, gap-free, in the order in which they were sent and delivered.
fn in_order(acknowledged: &Acknowledged, taken: &[Delivery], faults: &mut Vec<String>) {
    let mut conversations: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in taken {
        conversations.entry(delivery.conversation()).or_default().push(delivery);
    }
    if conversations.len() != acknowledged.len() {
        faults.push(format!("{} conversations for {} customers", conversations.len(), acknowledged.len()));
    }
    for (conversation, deliveries) in conversations {
        let sequences: Vec<u64> = deliveries.iter().map(|delivery| delivery.sequence()).collect();
        if let Some(at) = sequences.windows(2).position(|pair| pair[0] >= pair[1]) {
            let around = &sequences[at.saturating_sub(2)..sequences.len().min(at + 4)];
            faults.push(format!("order: {conversation} was delivered as ..{around:?}.."));
        }
        let told: Vec<&str> = deliveries.iter().map(|delivery| delivery.provider_id()).collect();
        let sent = acknowledged.values().find(|sent| sent.iter().any(|id| id == told[0]));
        let sent: Vec<&str> = sent.into_iter().flatten().map(String::as_str).collect();
        if let Some(at) = (0..told.len().max(sent.len())).find(|at| told.get(*at) != sent.get(*at)) {
            let from = |ids: &[&str]| ids.iter().skip(at).take(4).map(|id| (*id).to_owned()).collect::<Vec<_>>();
            let (told, sent) = (from(&told), from(&sent));
            faults.push(format!("order: from message {at} on {conversation} was told as {told:?}, sent as {sent:?}"));
        }
    }
}

/// The state holds each message once.
fn stored_once(outcome: &Outcome, acknowledged: &Acknowledged, faults: &mut Vec<String>) {
    let stored = outcome.project.number("SELECT count(*) FROM interaction WHERE outbound = 0");
    let sent: usize = acknowledged.values().map(Vec::len).sum();
    if stored != sent as i64 {
        faults.push(format!("stored: {stored} interactions for {sent} messages"));
    }
    for (what, gaps) in [
        ("interactions", "SELECT conversation, max(seq) AS last, count(*) AS n FROM interaction GROUP BY conversation"),
        ("events", "SELECT conversation, max(sequence) AS last, count(*) AS n FROM event GROUP BY conversation"),
    ] {
        let gaps = outcome.project.number(&format!("SELECT count(*) FROM ({gaps}) AS story WHERE last <> n"));
        if gaps != 0 {
            faults.push(format!("stored: {gaps} conversations have gaps among their {what}"));
        }
    }
}

/// No customer was told anything twice, and whoever was not told has a send whose outcome is shown as uncertain.
fn answered_once(outcome: &Outcome, updates: &[Delivery], faults: &mut Vec<String>) {
    let mut sends: BTreeMap<String, usize> = BTreeMap::new();
    for text in outcome.api.texts() {
        *sends.entry(text).or_default() += 1;
    }
    for (text, count) in sends.iter().filter(|(_, count)| **count > 1) {
        faults.push(format!("repeated: `{text}` was sent {count} times"));
    }
    let planned = outcome.project.number("SELECT count(*) FROM send");
    let uncertain =
        updates.iter().filter(|update| update.interaction()["delivery"]["state"] == "uncertain").count() as i64;
    let missing = planned - sends.len() as i64;
    if missing > uncertain {
        faults.push(format!(
            "silent: {missing} of {planned} answers were not sent, and {uncertain} are shown as uncertain"
        ));
    }
}

/// Every entry has ended: applied and all that followed from it delivered or sent, and nothing given up or set aside.
fn all_ended(project: &Project, faults: &mut Vec<String>) {
    faults.extend(unended(project).into_iter().map(|open| format!("open: {open}")));
    let unapplied =
        "SELECT count(*) FROM entry e LEFT JOIN applied a ON a.position = e.position WHERE a.position IS NULL";
    for (what, sql) in [
        ("entries have no applied record", unapplied),
        ("entries are quarantined", "SELECT count(*) FROM quarantine"),
        ("events are dead letters", "SELECT count(*) FROM dead"),
    ] {
        match project.number(sql) {
            0 => {}
            count => faults.push(format!("ended badly: {count} {what}")),
        }
    }
}

/// No lease, no connection and no temporary file outlives the gateway.
fn nothing_left(project: &Project, faults: &mut Vec<String>) {
    match project.database() {
        Database::Sqlite(data) => {
            let names = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
            for name in names.map(|name| name.to_string_lossy().into_owned()) {
                if name.contains("tmp") || name.contains('~') || name.ends_with(".new") || name.ends_with(".part") {
                    faults.push(format!("left: {name} in the data folder"));
                }
            }
        }
        Database::Postgres(_) => {
            // A node that was killed is a member until its lease is over, unless another takes it out before.
            let deadline = Instant::now() + LEASES_END;
            let mut left = left_on_server(project);
            while !left.is_empty() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(100));
                left = left_on_server(project);
            }
            faults.extend(left);
        }
    }
}

/// How soon the leases of a node that died are over.
const LEASES_END: Duration = Duration::from_secs(20);

fn left_on_server(project: &Project) -> Vec<String> {
    let connected = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'segue'";
    let leases = "SELECT count(*) FROM lease l JOIN node n ON n.no = l.node WHERE n.until > clock_timestamp()";
    let looked = [
        ("connections to the database", "setting", connected),
        ("nodes that share the work", "node", "SELECT count(*) FROM node WHERE until > clock_timestamp()"),
        ("leases", "lease", leases),
        ("keys of pending entries", "pending_more", "SELECT count(*) FROM pending_more"),
    ];
    let there = looked.into_iter().filter(|(_, table, _)| !project.database().columns(table).is_empty());
    let counted = there.map(|(what, _, sql)| (project.number(sql), what));
    counted.filter(|(count, _)| *count > 0).map(|(count, what)| format!("left: {count} {what}")).collect()
}
