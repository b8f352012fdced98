//! `segue quarantine`: payloads that could not be understood.

use clap::{Args, Subcommand};

/// Arguments of `segue quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue quarantine list\n  segue quarantine retry --all")]
pub struct QuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

/// Commands about quarantined payloads.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what is quarantined, the oldest first
    List(QuarantineListArgs),
    /// Show one payload with the reason
    Show(QuarantineShowArgs),
    /// Normalize payloads again, after a connector was mended
    Retry(QuarantineRetryArgs),
}

/// Arguments of `segue quarantine list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue quarantine list --channel support --json")]
pub struct QuarantineListArgs {
    /// Only of this channel
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a payload
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue quarantine show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue quarantine show en_01jn4...")]
pub struct QuarantineShowArgs {
    /// The entry's id
    pub id: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue quarantine retry`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue quarantine retry en_01jn4...\n  segue quarantine retry --all")]
pub struct QuarantineRetryArgs {
    /// The entries' ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object a payload
    #[arg(long)]
    pub json: bool,
}
