//! Taking up what changed: files (policy, connectors, channels, help desks, certificates) and bundles that others published.
//!
//! Files are looked at a few times a second and taken up once they have stopped changing, so that a half-saved file is
//! never read. Everything is read, compiled and tested first and swapped in as one; what is broken never replaces what
//! works, and is reported with file, line and reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Report;
use super::bundle::Ruling;
use super::keeper::Keeper;
use super::setup;
use crate::base::{Error, Timestamp};
use crate::config::{self, Config, Effect};
use crate::connector::Registry;
use crate::flow::Context;
use crate::net::ServerTls;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a published bundle is looked for, whatever is told.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How many files are looked at, at most.
const MOST_FILES: usize = 20_000;

/// What was loaded, for people and programs to see.
pub(super) fn report(
    config: &Config,
    ruling: &Ruling,
    at: Timestamp,
    problems: &[config::Problem],
    in_force: bool,
) -> Report {
    Report {
        at: Some(at),
        in_force,
        problems: problems.iter().map(ToString::to_string).collect(),
        needs_restart: Vec::new(),
        connectors: ruling.registry.iter().map(|c| (c.name().to_owned(), c.version().to_owned())).collect(),
        helpdesks: config.helpdesks.iter().map(|helpdesk| helpdesk.name.clone()).collect(),
        bundle: ruling.report(),
    }
}

/// Follows the files of a project.
pub(super) struct Reloader {
    pub(super) config: Config,
    /// The connectors as the files have them, broken ones as they were.
    pub(super) registry: Registry,
    pub(super) ruling: Ruling,
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
        let mut published = self.context.store.bundles.changed();
        let mut followed = Instant::now();
        loop {
            tokio::select! {
                changed = stop.changed() => {
                    if changed.is_err() || *stop.borrow() {
                        break;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Ok(()) = published.changed() => followed = followed.checked_sub(FOLLOW_EVERY).unwrap_or(followed),
            }
            if followed.elapsed() >= FOLLOW_EVERY {
                followed = Instant::now();
                self.follow().await;
            }
            let now = self.signature().await;
            if now != in_force && now == before && self.reload().await {
                in_force = now.clone();
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

    /// Takes up what another node published.
    async fn follow(&mut self) {
        match self.ruling.follow(&self.context, &self.config).await {
            Ok(false) => {}
            Ok(true) => {
                let before = self.report.load_full();
                let connectors = self.ruling.registry.iter().map(|c| (c.name().to_owned(), c.version().to_owned()));
                let next =
                    Report { connectors: connectors.collect(), bundle: self.ruling.report(), ..Report::clone(&before) };
                self.report.store(Arc::new(next));
                // Its channels may be others.
                if let Err(error) = self.keeper.follow(&self.config).await {
                    tracing::warn!(target: "segue::reload", error = %error.full(), "mailboxes are not followed yet");
                }
            }
            Err(error) => {
                tracing::warn!(target: "segue::reload", error = %error.full(), "what is published cannot be read now");
            }
        }
    }

    /// Reads the files anew. False if the store did not take what they say: it is to be tried again.
    async fn reload(&mut self) -> bool {
        let (file, old) = (self.config.file.clone(), self.registry.clone());
        let read = tokio::task::spawn_blocking(move || {
            let config = config::load(&file)?;
            let loaded = setup::reload(&config, &old)?;
            Ok::<_, Vec<config::Problem>>((config, loaded))
        });
        let (now, mut taken) = (self.context.clock.now(), true);
        let mut report = match read.await {
            Ok(Ok((config, loaded))) => {
                let warnings = loaded.warnings.clone();
                let (swapped, needs_restart) = self.swap(config, loaded).await;
                let mut report = report(&self.config, &self.ruling, now, &warnings, swapped.is_ok());
                report.needs_restart = needs_restart;
                if let Err((error, again)) = swapped {
                    report.problems.push(error.full());
                    (report.in_force, taken) = (!again, !again);
                }
                report
            }
            Ok(Err(problems)) => report(&self.config, &self.ruling, now, &problems, false),
            Err(error) => {
                let mut report = report(&self.config, &self.ruling, now, &[], false);
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
        if !report.in_force {
            tracing::error!(target: "segue::reload", "refused; what was in force stays in force");
        }
        self.report.store(Arc::new(report));
        taken
    }

    /// Puts what was read in force. Gives what went wrong, with whether it is to be tried again, and what needs a restart.
    async fn swap(&mut self, config: Config, loaded: setup::Loaded) -> (Result<(), (Error, bool)>, Vec<String>) {
        let registry = loaded.registry.clone();
        if let Err(error) = self.ruling.changed(&self.context, &config, loaded).await {
            return (Err((error, true)), Vec::new());
        }
        self.registry = registry;
        let changes = config::diff(&self.config, &config);
        let restart = changes.iter().filter(|change| change.effect == Effect::Restart);
        let needs_restart: Vec<String> = restart.map(|change| format!("{}: {}", change.key, change.what)).collect();
        for change in &needs_restart {
            tracing::warn!(target: "segue::reload", %change, "takes effect at the next start");
        }
        let followed = self.keeper.follow(&config).await;
        // What needs a restart stays as it is until then; the rest of the new configuration is the present one.
        self.config = config;
        (followed.map_err(|error| (error.context("help desks"), false)), needs_restart)
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
