//! `segue deadletter`: deliveries that were given up.

use clap::{Args, Subcommand};

/// Arguments of `segue deadletter`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue deadletter list\n  segue deadletter retry --all --helpdesk main")]
pub struct DeadletterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadletterCommand,
}

/// Commands about dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadletterCommand {
    /// List what was given up, the oldest first
    List(DeadletterListArgs),
    /// Show one with its attempts
    Show(DeadletterShowArgs),
    /// Deliver again
    Retry(DeadletterRetryArgs),
}

/// Arguments of `segue deadletter list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue deadletter list --helpdesk main --json")]
pub struct DeadletterListArgs {
    /// Only for this help desk
    #[arg(long, value_name = "NAME")]
    pub helpdesk: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a letter
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue deadletter show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue deadletter show ev_01jn4... --helpdesk main")]
pub struct DeadletterShowArgs {
    /// The event's or send's id
    pub id: String,
    /// For this help desk, where several gave the same event up
    #[arg(long, value_name = "NAME")]
    pub helpdesk: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue deadletter retry`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  segue deadletter retry ev_01jn4...\n  segue deadletter retry --all --helpdesk main"
)]
pub struct DeadletterRetryArgs {
    /// The events' or sends' ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Only for this help desk
    #[arg(long, value_name = "NAME")]
    pub helpdesk: Option<String>,
    /// Print one JSON object a letter
    #[arg(long)]
    pub json: bool,
}
