//! Taking up changed files: policy, connectors, channels, help desks, certificates.
//!
//! Files are looked at a few times a second and taken up once they have stopped changing, so that a half-saved file is
//! never read. Everything is read, compiled and tested first and swapped in as one; what is broken never replaces what
//! works, and is reported with file, line and reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Report;
use super::keeper::Keeper;
use super::setup;
use crate::base::Timestamp;
use crate::config::{self, Config, Effect};
use crate::connector::Registry;
use crate::flow::Context;
use crate::net::ServerTls;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How many files are looked at, at most.
const MOST_FILES: usize = 20_000;

/// What was loaded, for people and programs to see.
pub(super) fn report(
    config: &Config,
    registry: &Registry,
    at: Timestamp,
    problems: &[config::Problem],
    in_force: bool,
) -> Report {
    Report {
        at: Some(at),
        in_force,
        problems: problems.iter().map(ToString::to_string).collect(),
        needs_restart: Vec::new(),
        connectors: registry.iter().map(|c| (c.name().to_owned(), c.version().to_owned())).collect(),
        helpdesks: config.helpdesks.iter().map(|helpdesk| helpdesk.name.clone()).collect(),
    }
}

/// Follows the files of a project.
pub(super) struct Reloader {
    pub(super) config: Config,
    pub(super) registry: Registry,
    pub(super) context: Arc<Context>,
    pub(super) keeper: Keeper,
    pub(super) certificates: Vec<Arc<ServerTls>>,
    pub(super) report: Arc<ArcSwap<Report>>,
}

type Signature = Vec<(PathBuf, u64, SystemTime)>;

impl Reloader {
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut in_force = self.signature().await;
        let mut before = in_force.clone();
        loop {
            tokio::select! {
                changed = stop.changed() => {
                    if changed.is_err() || *stop.borrow() {
                        break;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.signature().await;
            if now != in_force && now == before {
                in_force = now.clone();
                self.reload().await;
            }
            before = now;
        }
        self.keeper.stop().await;
    }

    async fn signature(&self) -> Signature {
        let mut roots = self.config.watched();
        roots.push(self.config.file.clone());
        roots.extend([&self.config.scripts, &self.config.connectors, &self.config.channels_dir].map(Clone::clone));
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            for root in roots {
                walk(&root, &mut found, 0);
            }
            found.sort();
            found.dedup();
            found
        });
        walked.await.unwrap_or_default()
    }

    async fn reload(&mut self) {
        let (file, old) = (self.config.file.clone(), self.registry.clone());
        let read = tokio::task::spawn_blocking(move || {
            let config = config::load(&file)?;
            let loaded = setup::reload(&config, &old)?;
            Ok::<_, Vec<config::Problem>>((config, loaded))
        });
        let now = self.context.clock.now();
        let mut report = match read.await {
            Ok(Ok((config, loaded))) => {
                let mut report = report(&config, &loaded.registry, now, &loaded.warnings, true);
                self.swap(config, loaded, &mut report).await;
                report
            }
            Ok(Err(problems)) => report(&self.config, &self.registry, now, &problems, false),
            Err(error) => {
                let mut report = report(&self.config, &self.registry, now, &[], false);
                report.problems.push(format!("reloading ended early: {error}"));
                report
            }
        };
        for certificate in &self.certificates {
            if let Err(error) = certificate.reload() {
                report.problems.push(error.full());
            }
        }
        for problem in &report.problems {
            tracing::error!(target: "segue::reload", "{problem}");
        }
        if report.in_force {
            tracing::info!(target: "segue::reload", bundle = %self.context.setup.load().hash.get(..12).unwrap_or_default(), "in force");
        } else {
            tracing::error!(target: "segue::reload", "refused; what was in force stays in force");
        }
        self.report.store(Arc::new(report));
    }

    async fn swap(&mut self, config: Config, loaded: setup::Loaded, report: &mut Report) {
        let changes = config::diff(&self.config, &config);
        let restart = changes.iter().filter(|change| change.effect == Effect::Restart);
        report.needs_restart = restart.map(|change| format!("{}: {}", change.key, change.what)).collect();
        for change in &report.needs_restart {
            tracing::warn!(target: "segue::reload", %change, "takes effect at the next start");
        }
        self.registry = loaded.registry;
        self.context.setup.store(Arc::new(loaded.setup));
        if let Err(error) = self.keeper.follow(&config).await {
            report.problems.push(format!("help desks: {}", error.full()));
        }
        // What needs a restart stays as it is until then; the rest of the new configuration is the present one.
        self.config = config;
    }
}

fn walk(path: &Path, found: &mut Signature, depth: usize) {
    const DEEPEST: usize = 8;
    if found.len() >= MOST_FILES || depth > DEEPEST {
        return;
    }
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.is_dir() {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            walk(&entry.path(), found, depth + 1);
        }
        return;
    }
    found.push((path.to_owned(), metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
}
