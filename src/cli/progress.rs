//! Progress of long work: a bar on a terminal, a line every few seconds elsewhere. Always on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::report;
use crate::app::Watched;
use crate::store::{Progress, archive};

/// How often a line is written where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(2);

/// Shows how far work has come.
pub(super) struct Shown {
    bar: ProgressBar,
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    what: String,
    told: Instant,
}

impl Shown {
    pub(super) fn new() -> Shown {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:40} {human_pos}/{human_len} {eta}") {
            bar.set_style(style);
        }
        Shown { bar, terminal, state: Mutex::new(State { what: String::new(), told: Instant::now() }) }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.end();
    }
}

impl Progress for Shown {
    fn step(&self, what: &str, done: u64, total: u64) {
        let mut state = self.state.lock();
        let new = state.what != what;
        if new {
            what.clone_into(&mut state.what);
            self.bar.set_message(what.to_owned());
        }
        if self.terminal {
            self.bar.set_length(total);
            self.bar.set_position(done);
        } else if state.told.elapsed() >= LINES_EVERY {
            state.told = Instant::now();
            report::note(&format!("{what}: {done} of {total}"));
        }
    }
}

/// The same for work that goes table by table.
pub(super) struct Bar {
    shown: Shown,
    verb: &'static str,
    what: String,
    done: u64,
    total: u64,
}

impl Bar {
    /// For a piece of work, named by its verb.
    pub(super) fn new(verb: &'static str) -> Bar {
        Bar { shown: Shown::new(), verb, what: String::new(), done: 0, total: 0 }
    }

    /// Takes it off the screen.
    pub(super) fn end(self) {
        self.shown.end();
    }
}

impl archive::Progress for Bar {
    fn table(&mut self, name: &str, rows: u64) {
        (self.what, self.done, self.total) = (format!("{} {name}", self.verb), 0, rows);
        self.shown.step(&self.what, 0, rows);
    }

    fn rows(&mut self, count: u64) {
        self.done += count;
        // How many there are is not always known before.
        self.shown.step(&self.what, self.done, self.total.max(self.done));
    }
}

/// For opening a store, which may have to be brought up to date.
pub(super) fn watched() -> Watched {
    Watched(Arc::new(Shown::new()))
}
