//! `segue check`: everything that is wrong with a project, at once.

use clap::Args;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::report::{self, Paint, Style};
use crate::app::setup::{self, Loaded};
use crate::config::{self, Config, Problem};
use crate::connector::Registry;

/// Arguments of `segue check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue check\n  segue check --config /etc/segue/segue.toml\n  segue check --json")]
pub struct CheckArgs {
    /// Print one JSON object with all problems instead of text
    #[arg(long)]
    pub json: bool,
}

/// Checks configuration, connectors, channels and policy, and prints everything that is wrong with them.
///
/// # Errors
///
/// If the output cannot be written. Problems are no error here but [`Exit::Config`], or [`Exit::NoInput`] where there is
/// no file to check.
pub fn run(global: &Global, args: &CheckArgs) -> Outcome {
    let (summary, problems) = check(global);
    let exit = match summary {
        Some(_) => Exit::Ok,
        None if !global.exists() => Exit::NoInput,
        None => Exit::Config,
    };
    if args.json {
        report::json(&json!({ "ok": exit == Exit::Ok, "problems": problems }))?;
        return Ok(exit);
    }
    report::problems(&problems);
    let path = global.config.display();
    match summary {
        Some(summary) => {
            report::line(&format!("{path}: {}, {summary}", Paint::stdout().paint(Style::Good, "ok")))?;
        }
        None => {
            let bad = Paint::stderr()
                .paint(Style::Bad, &count(problems.iter().filter(|p| Problem::is_error(p)).count(), "error"));
            report::note(&format!("{path}: {bad}"));
        }
    }
    Ok(exit)
}

/// What there is, unless something is wrong, and every problem.
fn check(global: &Global) -> (Option<String>, Vec<Problem>) {
    let config = match config::load(&global.config) {
        Ok(config) => config,
        Err(mut problems) => {
            // Connectors depend on no setting, so their mistakes can be told all the same.
            if global.exists() {
                problems.extend(setup::connectors(&global.connectors_dir(), &Registry::default()).1);
            }
            return (None, problems);
        }
    };
    let mut problems = config.warnings.clone();
    match setup::load(&config) {
        Ok(loaded) => {
            problems.extend(loaded.warnings.iter().cloned());
            (Some(summary(&config, &loaded, problems.len())), problems)
        }
        Err(found) => {
            problems.extend(found);
            (None, problems)
        }
    }
}

fn summary(config: &Config, loaded: &Loaded, warnings: usize) -> String {
    let parts = [
        count(config.listen.len(), "listener"),
        count(config.channels.len(), "channel"),
        count(config.helpdesks.len(), "help desk"),
        count(loaded.registry.iter().count(), "connector"),
        count(loaded.setup.policy.rules().len(), "rule"),
        count(warnings, "warning"),
    ];
    parts.join(", ")
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
