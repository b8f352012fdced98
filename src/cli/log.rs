//! Log lines: to standard error, filtered, as text or JSON, with a filter that a reload can change.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::base::{Error, Result};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Changes the filter of a running program.
#[derive(Clone)]
pub struct Handle(reload::Handle<EnvFilter, Registry>);

impl Handle {
    /// Puts `filter` in place of the present one.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::base::Kind) if it is not a filter; the present one stays.
    pub fn set(&self, filter: &str) -> Result<()> {
        let filter = parse(filter)?;
        self.0.reload(filter).map_err(|error| Error::internal("failed to change the log filter").because(error))
    }
}

/// Starts writing log lines to standard error. Called once, before anything is logged.
///
/// # Errors
///
/// [`Kind::Config`](crate::base::Kind) if `filter` is not a filter; [`Kind::Internal`](crate::base::Kind) if logging was
/// started before.
pub fn start(filter: &str, format: Format) -> Result<Handle> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let base = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Json => base.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        Format::Text => {
            let color =
                std::io::stderr().is_terminal() && super::report::Paint::stderr() != super::report::Paint::plain();
            base.with(fmt::layer().with_ansi(color).with_writer(std::io::stderr)).try_init()
        }
    };
    started.map_err(|error| Error::internal("failed to start logging").because(error))?;
    std::panic::set_hook(Box::new(tell_of_panic));
    Ok(Handle(handle))
}

/// Logs where the program failed. Not in which words: they may quote what customers wrote.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(target: "segue", at, trace, "this program failed; please report it");
}

fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| Error::config(format!("log filter `{filter}` is not valid")).because(error))
}
