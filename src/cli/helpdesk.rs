//! `segue helpdesk`: try out a help desk's door.

use clap::{Args, Subcommand};

/// Arguments of `segue helpdesk`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue helpdesk test main")]
pub struct HelpdeskArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: HelpdeskCommand,
}

/// Commands about help desks.
#[derive(Debug, Subcommand)]
pub enum HelpdeskCommand {
    /// Send a signed sample event and show the answer
    Test(HelpdeskTestArgs),
}

/// Arguments of `segue helpdesk test`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue helpdesk test main --json")]
pub struct HelpdeskTestArgs {
    /// The help desk's name in the configuration
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
