//! What may be wrong with a store, found by reading it beside whoever uses it.
//!
//! References lead somewhere, chains are whole, every entry is either applied or pending, and nothing waits too long. What
//! only the database itself can tell of (damaged pages, settings, its clock) the backends look for.

use serde::Serialize;

use super::{Place, Progress, Value, View, number};
use crate::base::{Result, Timestamp};
use crate::store::layout::{self, Show, Table};
use crate::store::{postgres, sqlite};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Configuration, and settings of the database.
    Settings,
    /// Who can read the files.
    Files,
    /// Whether what is sealed can be opened.
    Keys,
    /// Whether the data is whole and agrees with itself.
    Integrity,
    /// What waits.
    Lag,
    /// Room on the disk.
    Disk,
    /// Whether clocks agree.
    Clock,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// To be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    /// Something is as it should be.
    pub fn good(area: Area, found: impl Into<String>) -> Finding {
        Finding { area, level: Level::Good, found: found.into(), advice: String::new() }
    }

    /// Something is worth a look.
    pub fn doubtful(area: Area, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { area, level: Level::Doubtful, found: found.into(), advice: advice.into() }
    }

    /// Something is to be mended.
    pub fn bad(area: Area, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { area, level: Level::Bad, found: found.into(), advice: advice.into() }
    }
}

/// What is to be done where the data does not agree with itself.
const MEND: &str = "stop the gateway, keep a copy of the store, and restore the latest backup that `segue restore --verify` \
    and this check find whole; then tell the makers of Segue";

/// Rules that hold between rows, each a query that counts what breaks it.
const RULES: [(&str, &str); 6] = [
    (
        "entries that are neither applied nor pending",
        "SELECT count(*) FROM entry e LEFT JOIN applied a ON a.position = e.position
           LEFT JOIN pending p ON p.position = e.position WHERE a.position IS NULL AND p.position IS NULL",
    ),
    (
        "entries that are applied and pending at once",
        "SELECT count(*) FROM pending p JOIN applied a ON a.position = p.position",
    ),
    (
        "interactions whose conversation goes on before them from elsewhere",
        "SELECT count(*) FROM interaction i JOIN interaction b ON b.no = i.before_in_conversation
          WHERE b.conversation <> i.conversation OR b.seq >= i.seq",
    ),
    (
        "conversations whose latest interaction is not theirs",
        "SELECT count(*) FROM conversation c JOIN interaction i ON i.no = c.latest
          WHERE i.conversation <> c.no OR i.seq <> c.seq",
    ),
    (
        "interactions of another customer than their conversation's",
        "SELECT count(*) FROM interaction i JOIN conversation c ON c.no = i.conversation WHERE i.customer <> c.customer",
    ),
    (
        "events out of their order",
        "SELECT count(*) FROM event e JOIN event b ON b.no = e.before
          WHERE b.conversation <> e.conversation OR b.sequence >= e.sequence OR b.no >= e.no",
    ),
];

/// Looks for what does not agree with itself, all over the store, and for what waits.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn check(
    view: &dyn View,
    now: Timestamp,
    deep: bool,
    progress: &mut (dyn Progress + Send),
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if deep {
        let references: Vec<_> = layout::moved().flat_map(|table| references(table).map(move |r| (table, r))).collect();
        progress.table("agreement", (references.len() + RULES.len()) as u64);
        for (table, (column, other)) in references {
            let broken = number(view, &lost(table, column, other)).await?.unwrap_or(0);
            progress.rows(1);
            if broken > 0 {
                let found = format!("{broken} rows of {}.{column} name a {} that is not there", table.name, other.name);
                findings.push(Finding::bad(Area::Integrity, found, MEND));
            }
        }
        for (what, sql) in RULES {
            let broken = number(view, sql).await?.unwrap_or(0);
            progress.rows(1);
            if broken > 0 {
                findings.push(Finding::bad(Area::Integrity, format!("{broken} {what}"), MEND));
            }
        }
        if findings.is_empty() {
            findings.push(Finding::good(
                Area::Integrity,
                "references lead to rows, chains are whole, every entry is accounted for",
            ));
        }
    }
    findings.extend(lag(view, now).await?);
    Ok(findings)
}

/// The columns of a table that refer to another one. Events may have grown old and gone.
fn references(table: &'static Table) -> impl Iterator<Item = (&'static str, &'static Table)> {
    let lasting = |column: &'static layout::Column| match column.show {
        Show::Of("event") => None,
        Show::Of(name) => Table::named(name).map(|other| (column.name, other)),
        _ => None,
    };
    let kept = [("due", "event"), ("dead", "event")].into_iter().filter(move |(name, _)| *name == table.name);
    table.columns.iter().filter_map(lasting).chain(kept.filter_map(|(_, other)| Some((other, Table::named(other)?))))
}

/// Counts the rows of a table whose reference leads nowhere; 0 refers to nothing.
fn lost(table: &Table, column: &str, other: &Table) -> String {
    format!(
        "SELECT count(*) FROM {} t LEFT JOIN {} r ON r.{inner} = t.{column} WHERE t.{column} <> 0 AND r.{inner} IS NULL",
        table.name,
        other.name,
        inner = other.inner()
    )
}

async fn lag(view: &dyn View, now: Timestamp) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let pending = number(view, "SELECT count(*) FROM pending").await?.unwrap_or(0);
    let oldest = number(view, "SELECT min(e.at) FROM pending p JOIN entry e ON e.position = p.position").await?;
    findings.push(waits(
        pending,
        "entries wait to be applied",
        age(oldest, now),
        "look into the log of the gateway; does it run?",
    ));
    let settled =
        "SELECT s.helpdesk, count(e.no), min(e.at) FROM settled s JOIN event e ON e.no > s.event GROUP BY s.helpdesk";
    let rows = view.rows(settled, &[]).await?;
    for row in &rows {
        if let [Value::Text(name), count, at] = row.as_slice() {
            let what = format!("events come after what `{name}` has settled");
            let advice = format!("`segue helpdesk test {name}` tries its door");
            findings.push(waits(count.integer().unwrap_or(0), &what, age(at.integer(), now), &advice));
        }
    }
    for (table, what, advice) in [
        ("due", "events wait for another attempt", "`segue helpdesk test` tries the door of a help desk"),
        (
            "dead",
            "events were given up",
            "`segue deadletter list` shows them, `segue deadletter retry` delivers them again",
        ),
        ("quarantine", "requests could not be understood", "`segue quarantine list` shows them with their reasons"),
    ] {
        let count = number(view, &format!("SELECT count(*) FROM {table}")).await?.unwrap_or(0);
        findings.push(match count {
            0 => Finding::good(Area::Lag, format!("no {what}")),
            _ => Finding::doubtful(Area::Lag, format!("{count} {what}"), advice),
        });
    }
    let unresolved = number(view, "SELECT count(*) FROM send WHERE state = 1").await?.unwrap_or(0);
    if unresolved > 0 {
        let found = format!("{unresolved} sends to customers have begun and not ended");
        findings.push(Finding::doubtful(
            Area::Lag,
            found,
            "they are told as uncertain at the next start, if no gateway runs",
        ));
    }
    Ok(findings)
}

/// How many milliseconds ago something was.
fn age(at: Option<i64>, now: Timestamp) -> i64 {
    at.map_or(0, |at| now.millis().saturating_sub(at).max(0))
}

fn waits(count: i64, what: &str, age: i64, advice: &str) -> Finding {
    const A_MINUTE: i64 = 60_000;
    const AN_HOUR: i64 = 60 * A_MINUTE;
    if count == 0 {
        return Finding::good(Area::Lag, format!("no {what}"));
    }
    let found = format!("{count} {what}, the oldest for {} s", age / 1000);
    match age {
        ..A_MINUTE => Finding::good(Area::Lag, found),
        A_MINUTE..AN_HOUR => Finding::doubtful(Area::Lag, found, advice),
        _ => Finding::bad(Area::Lag, found, advice),
    }
}

/// Compares two clocks, in milliseconds.
pub fn clocks(whose: &str, theirs: i64, ours: i64) -> Finding {
    let apart = theirs.abs_diff(ours);
    let found = format!("the clock of {whose} and that of this machine are {apart} ms apart");
    let advice = "have both follow NTP";
    match apart {
        ..2_000 => Finding::good(Area::Clock, found),
        2_000..60_000 => Finding::doubtful(Area::Clock, found, advice),
        _ => Finding::bad(Area::Clock, found, advice),
    }
}

/// What only the database itself can tell; with `deep`, every page is read.
///
/// # Errors
///
/// If it cannot be opened.
pub async fn local(place: &Place, deep: bool) -> Result<Vec<Finding>> {
    match place {
        Place::Folder(folder) => {
            let folder = folder.clone();
            let looked = tokio::task::spawn_blocking(move || sqlite::archive::health(&folder, deep));
            looked.await.map_err(|e| crate::base::Error::internal("a check ended early").because(e))?
        }
        Place::Server(server) => postgres::archive::health(server, deep).await,
    }
}
