//! Floor 8: the command line. Arguments in, output and exit code out; no logic of its own.
//!
//! One file per command, each with its arguments and the function that runs it. Results go to standard output, everything
//! else to standard error; commands whose output programs read take `--json`. How a command ends is an [`exit::Exit`].

pub mod backup;
pub mod bundle;
pub mod channel;
pub mod check;
pub mod connector;
pub mod deadletter;
pub mod demo;
pub mod doctor;
pub mod dump;
pub mod entry;
pub mod exit;
pub mod gateway;
pub mod helpdesk;
pub mod init;
mod input;
pub mod keys;
pub mod log;
pub mod migrate;
mod moving;
pub mod normalize;
pub mod policy;
mod progress;
pub mod quarantine;
pub mod replay;
pub mod report;
pub mod restore;
pub mod schema;
pub mod serve;
pub mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::base::{Error, Result};
use crate::config::{self, Config};
use crate::connector::Registry;
use exit::{Exit, Outcome};

/// Channel-connector gateway: many customer channels, one interaction format, one story, one signed feed.
#[derive(Debug, Parser)]
#[command(name = "segue", version, arg_required_else_help = true, after_help = exit::HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration file, or the folder that holds segue.toml
    #[arg(long, global = true, value_name = "PATH", env = "SEGUE_CONFIG", default_value = "segue.toml")]
    pub config: PathBuf,
    /// Which log lines to write, such as "info" or "warn,segue::flow=debug"; overrides the configuration
    #[arg(long, global = true, value_name = "FILTER", env = "SEGUE_LOG")]
    pub log: Option<String>,
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = log::Format::Text)]
    pub log_format: log::Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Check the configuration and say everything that is wrong with it
    Check(check::CheckArgs),
    /// Write a small commented project to begin with
    Init(init::InitArgs),
    /// Play the whole way of an interaction on one screen, with nothing but this binary
    Demo(demo::DemoArgs),
    /// Turn payloads of a provider into interactions, one JSON object a line
    Normalize(normalize::NormalizeArgs),
    /// Look at connectors and run their samples
    Connector(connector::ConnectorArgs),
    /// Try out a configured channel
    Channel(channel::ChannelArgs),
    /// Test the Lua policy, run it on an interaction, write stubs for editors
    Policy(policy::PolicyArgs),
    /// Look at published bundles of policy and configuration, publish, go back to an earlier one
    Bundle(bundle::BundleArgs),
    /// Apply the whole journal again in an empty store, and compare; or rehearse another bundle
    Replay(replay::ReplayArgs),
    /// Print the JSON Schemas of the formats
    Schema(schema::SchemaArgs),
    /// Look at payloads that could not be understood, and try them again
    Quarantine(quarantine::QuarantineArgs),
    /// Take originals out of the journal for good
    Entry(entry::EntryArgs),
    /// Look at events that a help desk did not take, and deliver them again
    Deadletter(deadletter::DeadletterArgs),
    /// Try out a help desk's door
    Helpdesk(helpdesk::HelpdeskArgs),
    /// Make, list and revoke the bearer tokens of the API
    Token(token::TokenArgs),
    /// Look after the keys that personal data is sealed under
    Keys(keys::KeysArgs),
    /// Look whether everything is as it should be, and say what to do where it is not
    Doctor(doctor::DoctorArgs),
    /// Print the whole state in a form in which two stores can be compared
    Dump(dump::DumpArgs),
    /// Move everything from one store to another, such as from SQLite to PostgreSQL
    Migrate(migrate::MigrateArgs),
    /// Write a backup while the gateway runs
    Backup(backup::BackupArgs),
    /// Fill an empty store from a backup
    Restore(restore::RestoreArgs),
    /// Write the state that a replay begins from once the journal's content is gone
    Checkpoint(backup::CheckpointArgs),
}

impl Global {
    /// Loads the configuration. Its problems, and its warnings, are printed to standard error.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::base::Kind) if it cannot be used; [`Kind::NotFound`](crate::base::Kind) if there is no
    /// such file.
    pub fn load(&self) -> Result<Config> {
        match config::load(&self.config) {
            Ok(config) => {
                report::problems(&config.warnings);
                Ok(config)
            }
            Err(problems) => {
                report::problems(&problems);
                Err(self.refused(&problems))
            }
        }
    }

    /// The folder of the project's own connectors, which may not exist. What else is wrong with the configuration does not
    /// matter for it.
    fn connectors_dir(&self) -> PathBuf {
        match config::load(&self.config) {
            Ok(config) => config.connectors,
            Err(_) if self.config.is_dir() => self.config.join("connectors"),
            Err(_) => self.config.parent().unwrap_or(&self.config).join("connectors"),
        }
    }

    /// Says that there is no connector of this name, or what is wrong with it, and gives how to end.
    fn no_connector(&self, name: &str, registry: &Registry, problems: &[config::Problem]) -> Exit {
        let key = format!("connector.{name}");
        let broken: Vec<config::Problem> = problems.iter().filter(|problem| problem.key == key).cloned().collect();
        if !broken.is_empty() {
            report::problems(&broken);
            return Exit::Config;
        }
        let hint = match registry.nearest(name) {
            Some(hint) => hint,
            None => "`segue connector list` names them".to_owned(),
        };
        report::error(&Error::not_found(format!("there is no connector `{name}`; {hint}")));
        Exit::Usage
    }

    /// Whether there is a configuration file at all.
    pub fn exists(&self) -> bool {
        self.config.is_file() || self.config.join(config::FILE_NAME).is_file()
    }

    /// The error that sums up `problems`, at least one of which is an error.
    fn refused(&self, problems: &[config::Problem]) -> Error {
        let path = self.config.display();
        if !self.exists() {
            return Error::not_found(format!("no configuration at `{path}`; `segue init` writes one"));
        }
        let count = problems.iter().filter(|problem| problem.is_error()).count();
        let noun = if count == 1 { "error" } else { "errors" };
        Error::config(format!("configuration `{path}` has {count} {noun}"))
    }
}

/// Runs the program: what `main` calls.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => finish(run(cli)).into(),
        Err(error) => {
            // Help and version are asked for and go to standard output; the rest is wrong usage.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            code.into()
        }
    }
}

fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Serve(args) => serve::run(&cli.global, &args),
        Command::Check(args) => check::run(&cli.global, &args),
        Command::Init(args) => init::run(&args),
        Command::Demo(args) => demo::run(&cli.global, &args),
        Command::Normalize(args) => normalize::run(&cli.global, &args),
        Command::Connector(args) => connector::run(&cli.global, &args),
        Command::Policy(args) => policy::run(&cli.global, &args),
        Command::Bundle(args) => bundle::run(&cli.global, &args),
        Command::Replay(args) => replay::run(&cli.global, &args),
        Command::Schema(args) => schema::run(&args),
        Command::Quarantine(args) => quarantine::run(&cli.global, &args),
        Command::Entry(args) => entry::run(&cli.global, &args),
        Command::Channel(args) => channel::run(&cli.global, &args),
        Command::Deadletter(args) => deadletter::run(&cli.global, &args),
        Command::Helpdesk(args) => helpdesk::run(&cli.global, &args),
        Command::Token(args) => token::run(&cli.global, &args),
        Command::Keys(args) => keys::run(&cli.global, &args),
        Command::Doctor(args) => doctor::run(&cli.global, &args),
        Command::Dump(args) => dump::run(&cli.global, &args),
        Command::Migrate(args) => migrate::run(&cli.global, &args),
        Command::Backup(args) => backup::run(&cli.global, &args),
        Command::Restore(args) => restore::run(&cli.global, &args),
        Command::Checkpoint(args) => backup::checkpoint(&cli.global, &args),
    }
}

/// The text with every line moved to the right.
fn indent(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}

fn finish(outcome: Outcome) -> Exit {
    outcome.unwrap_or_else(|error| {
        report::error(&error);
        Exit::from(&error)
    })
}

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;
