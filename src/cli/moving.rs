//! What the commands share that read or fill a whole store: where it is, and how far they are.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Global, report};
use crate::base::Result;
use crate::config::{Config, Store};
use crate::store::archive::{Place, Progress};
use crate::store::postgres;
use crate::store::seal::{RootKeys, Sealing};

/// How often a line is written where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The store at `named`, or else that of the configuration.
///
/// # Errors
///
/// If the configuration cannot be used, or the place is none.
pub(super) fn place(global: &Global, named: Option<&str>) -> Result<Place> {
    match named {
        Some(text) => Place::parse(text),
        None => place_of(&global.load()?),
    }
}

/// The file of the root key: the one that SEGUE_ROOT_KEY_FILE names, or that of the configuration.
fn root_key(global: &Global) -> PathBuf {
    let named = std::env::var_os("SEGUE_ROOT_KEY_FILE").map(PathBuf::from);
    let configured = || crate::config::load(&global.config).ok().map(|config| config.root_key);
    named.or_else(configured).unwrap_or_else(|| PathBuf::from("secrets/root.key"))
}

/// What opens the store.
pub(super) fn sealing(global: &Global) -> Sealing {
    Sealing::at(root_key(global))
}

/// The root keys themselves.
///
/// # Errors
///
/// If there is no such file, or others may read it.
pub(super) fn root_keys(global: &Global) -> Result<RootKeys> {
    RootKeys::read(&root_key(global))
}

/// The store of a configuration.
///
/// # Errors
///
/// If its URL is none.
pub(super) fn place_of(config: &Config) -> Result<Place> {
    match &config.store {
        Store::Sqlite => Ok(Place::Folder(config.data.clone())),
        Store::Postgres(url) => postgres::Place::parse(url).map(Box::new).map(Place::Server),
    }
}

/// A bar on a terminal, now and then a line elsewhere; both on standard error.
pub(super) struct Bar {
    bar: ProgressBar,
    shown: bool,
    what: &'static str,
    told: Instant,
}

impl Bar {
    /// A bar for a piece of work.
    pub(super) fn new(what: &'static str) -> Bar {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:30} {human_pos}/{human_len} {per_sec}") {
            bar.set_style(style);
        }
        Bar { bar, shown, what, told: Instant::now() }
    }

    /// Takes it off the screen.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn table(&mut self, name: &str, rows: u64) {
        self.bar.set_message(format!("{}: {name}", self.what));
        self.bar.set_length(rows);
        self.bar.set_position(0);
    }

    fn rows(&mut self, count: u64) {
        self.bar.inc(count);
        if self.bar.position() > self.bar.length().unwrap_or(0) {
            self.bar.set_length(self.bar.position());
        }
        if !self.shown && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            report::note(&format!("{} {done} of {all}", self.bar.message()));
        }
    }
}
