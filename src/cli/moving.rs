//! What the commands share that read or fill a whole store: where it is, and how far they are.

use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Global, report};
use crate::app::checkpoints::place_of;
use crate::base::{Error, Result};
use crate::store::archive::{Place, Progress, Reader};
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

/// An archive, read from its beginning.
///
/// # Errors
///
/// `NotFound` if it cannot be read, `Invalid` if it is none.
pub(super) fn open_archive(path: &Path) -> Result<Reader<BufReader<File>>> {
    Reader::open(open_file(path)?).map_err(|e| e.context(path.display().to_string()))
}

/// A file to be read from its beginning.
///
/// # Errors
///
/// `NotFound` if it cannot be read.
pub(super) fn open_file(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path);
    let file = file.map_err(|e| Error::not_found(format!("`{}` cannot be read", path.display())).because(e))?;
    Ok(BufReader::with_capacity(1 << 18, file))
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
