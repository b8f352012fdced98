//! `segue connector`: look at connectors and run their samples.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `segue connector`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue connector list\n  segue connector test connectors/slack")]
pub struct ConnectorArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConnectorCommand,
}

/// Commands about connectors.
#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Run the samples of connectors
    Test(ConnectorTestArgs),
    /// List the connectors, built in and of this project
    List(ConnectorListArgs),
    /// Show one connector: what it can do, its options with help
    Show(ConnectorShowArgs),
}

/// Arguments of `segue connector test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue connector test\n  segue connector test telegram\n  \
segue connector test ./connectors/mine --filter forged")]
pub struct ConnectorTestArgs {
    /// Folders or names of connectors; all of them if none is given
    #[arg(value_name = "DIR|NAME")]
    pub targets: Vec<PathBuf>,
    /// Only samples whose name holds this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print one JSON object a sample
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue connector list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue connector list --json")]
pub struct ConnectorListArgs {
    /// Print one JSON object a connector
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue connector show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue connector show whatsapp")]
pub struct ConnectorShowArgs {
    /// The connector's name
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
