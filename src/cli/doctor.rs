//! `segue doctor`: whether everything is as it should be, and what to do where it is not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::progress::Bar;
use super::report::{self, Paint, Style};
use super::{Global, indent};
use crate::app::{objects, place_of, setup};
use crate::base::{Clock, Error, Result};
use crate::config::Config;
use crate::store::archive::{Area, Finding, Level, Place, check, clocks, local};
use crate::store::seal::RootKeys;

/// Arguments of `segue doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue doctor\n  segue doctor --quick --json\n\n\
Works beside a running gateway. Ends with 0 if all is well, 75 if something is worth a look, and else with the code of the\n\
worst it found: 65 damaged data, 69 something waits too long or clocks differ, 74 the disk, 78 settings or file modes.")]
pub struct DoctorArgs {
    /// Leave out what reads the whole store
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON object a finding
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If the output cannot be written. What is wrong is a finding, not an error.
pub fn run(global: &Global, args: &DoctorArgs) -> Outcome {
    let config = global.load()?;
    let mut findings = settings(&config);
    let mut bar = Bar::new("checking");
    let looked = place_of(&config).and_then(|place| {
        findings.extend(host(&config, &place));
        findings.push(keys(&config, &place));
        block_on(store(&config, &place, !args.quick, &mut bar))
    });
    bar.end();
    match looked {
        Ok(found) => findings.extend(found),
        Err(error) => {
            findings.push(Finding::bad(Area::Settings, error.full(), "nothing of the store could be looked at"))
        }
    }
    findings.sort_by_key(|finding| finding.area);
    for finding in &findings {
        tell(finding, args.json)?;
    }
    Ok(worst(&findings))
}

fn tell(finding: &Finding, as_json: bool) -> Result<()> {
    if as_json {
        return report::json(&json!(finding));
    }
    let (word, style) = match finding.level {
        Level::Good => ("ok", Style::Good),
        Level::Doubtful => ("look", Style::Doubtful),
        Level::Bad => ("bad", Style::Bad),
    };
    report::line(&format!("{:<6}{}", Paint::stdout().paint(style, word), finding.found))?;
    if finding.advice.is_empty() { Ok(()) } else { report::line(&indent(&finding.advice, 6)) }
}

fn worst(findings: &[Finding]) -> Exit {
    let bad = findings.iter().filter(|finding| finding.level == Level::Bad).map(|finding| finding.area);
    let code = |area| match area {
        Area::Integrity => Exit::Data,
        Area::Disk => Exit::Io,
        Area::Settings | Area::Files | Area::Keys => Exit::Config,
        Area::Lag | Area::Clock => Exit::Unavailable,
    };
    // Damage first, for whoever looks at the code alone.
    let rank = |area: &Area| {
        [Area::Integrity, Area::Disk, Area::Keys, Area::Settings, Area::Files].iter().position(|a| a == area)
    };
    match bad.min_by_key(|area| rank(area).unwrap_or(usize::MAX)) {
        Some(area) => code(area),
        None if findings.iter().any(|finding| finding.level == Level::Doubtful) => Exit::TempFail,
        None => Exit::Ok,
    }
}

/// Whether a gateway would start with this project.
fn settings(config: &Config) -> Vec<Finding> {
    match setup::load(config) {
        Ok(_) => vec![Finding::good(Area::Settings, "the configuration, connectors and policy can be used")],
        Err(problems) => {
            let count = problems.iter().filter(|problem| problem.is_error()).count();
            let found = format!("the project has {count} errors");
            vec![Finding::bad(Area::Settings, found, "`segue check` names each with its line")]
        }
    }
}

/// What the machine tells: who can read the files, the room on the disk, the clock of the file system.
fn host(config: &Config, place: &Place) -> Vec<Finding> {
    let mut findings = vec![modes(config, place)];
    if config.data.is_dir() {
        findings.extend(room(&config.data));
        findings.extend(clock(&config.data));
    }
    findings
}

fn modes(config: &Config, place: &Place) -> Finding {
    let mut open = Vec::new();
    let mut look = |path: &Path| {
        let others = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
        if others {
            open.push(path.display().to_string());
        }
    };
    if let Place::Folder(folder) = place {
        // A folder that others cannot enter shields what is in it.
        let shielded = std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 == 0);
        for name in ["segue.db", "segue.db-wal"].iter().filter(|_| !shielded) {
            look(&folder.join(name));
        }
    }
    for path in config.watched() {
        let secret =
            path.is_file() && path != config.file && !path.extension().is_some_and(|e| e == "toml" || e == "lua");
        if secret && !is_certificate(config, &path) {
            look(&path);
        }
    }
    match open.is_empty() {
        true => Finding::good(Area::Files, "data and secrets are readable by their owner and group alone"),
        false => {
            let advice = format!("chmod o= {}", open.join(" "));
            Finding::doubtful(Area::Files, format!("anybody on this machine can read {}", open.join(", ")), advice)
        }
    }
}

/// Whether every key of the key store opens.
fn keys(config: &Config, place: &Place) -> Finding {
    let opened = block_on(async {
        let roots = RootKeys::read(&config.root_key)?;
        let chest = place.chest(false).await?;
        Ok((chest.verify(&roots).await?, chest.counts().await?.by_root.len(), roots.count()))
    });
    match opened {
        Ok((count, 0 | 1, 1)) => Finding::good(Area::Keys, format!("{count} keys open with the root key")),
        Ok(_) => {
            let found = "a rotation of the root key was begun and did not end";
            Finding::doubtful(Area::Keys, found, "run `segue keys rotate` again")
        }
        Err(error) => {
            let advice = "put the root key that was in use in its place; without it nothing can be read";
            Finding::bad(Area::Keys, error.full(), advice)
        }
    }
}

fn is_certificate(config: &Config, path: &Path) -> bool {
    config.listen.iter().filter_map(|door| door.tls.as_ref()).any(|tls| tls.cert == path)
}

fn room(folder: &Path) -> Vec<Finding> {
    const A_MEGABYTE: u64 = 1 << 20;
    let Ok(found) = rustix::fs::statvfs(folder) else { return Vec::new() };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let share = found.f_bavail.saturating_mul(100) / found.f_blocks.max(1);
    let told = format!("{} MB are free where {} lies, {share} %", free / A_MEGABYTE, folder.display());
    let advice = "make room, or shorten `[retention]`; with a full disk the gateway takes nothing more";
    vec![match (share, free / A_MEGABYTE) {
        (..2, _) | (_, ..100) => Finding::bad(Area::Disk, told, advice),
        (..10, _) | (_, ..1024) => Finding::doubtful(Area::Disk, told, advice),
        _ => Finding::good(Area::Disk, told),
    }]
}

/// The time that the file system gives a new file.
fn clock(folder: &Path) -> Option<Finding> {
    let file = tempfile::tempfile_in(folder).ok()?;
    let made = file.metadata().and_then(|found| found.modified()).ok()?;
    let millis = made.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    Some(clocks("the file system", i64::try_from(millis).ok()?, Clock::system().now().millis()))
}

async fn store(config: &Config, place: &Place, deep: bool, bar: &mut Bar) -> Result<Vec<Finding>> {
    let view = place.view().await.map_err(|error: Error| error.context("the store"))?;
    let mut findings = local(place, deep).await?;
    findings.extend(check(&*view, Clock::system().now(), deep, bar).await?);
    if deep {
        let files = objects::check(config, &*view, bar).await;
        findings.push(files.unwrap_or_else(|error| {
            Finding::bad(Area::Files, error.full(), "the files of messages could not be looked at; see `[blobs]`")
        }));
    }
    Ok(findings)
}
