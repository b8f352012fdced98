//! `segue quarantine`: payloads that could not be understood.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::exit::{Exit, Outcome};
use super::gateway::{Gateway, Reach, block_on, text};
use super::report::{self, Paint, Style};
use super::{Global, indent};
use crate::base::Result;
use crate::base::id::EntryId;

/// Arguments of `segue quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue quarantine list\n  segue quarantine retry --all")]
pub struct QuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: QuarantineCommand,
    /// How a running gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// Commands about quarantined payloads.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what is quarantined, the latest first
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

/// Runs the command.
///
/// # Errors
///
/// If there is no way to the data, an id is none or names nothing, or the output cannot be written.
pub fn run(global: &Global, args: &QuarantineArgs) -> Outcome {
    block_on(async {
        let gateway = Gateway::find(global, &args.reach, false)?;
        match &args.command {
            QuarantineCommand::List(args) => list(&gateway, args).await,
            QuarantineCommand::Show(args) => show(&gateway, args).await,
            QuarantineCommand::Retry(args) => retry(&gateway, args).await,
        }
    })
}

async fn list(gateway: &Gateway, args: &QuarantineListArgs) -> Outcome {
    let rows = gateway.quarantine(args.channel.as_deref(), args.limit as usize).await?;
    report::rows(&rows, args.json, line, "nothing is quarantined")?;
    Ok(Exit::Ok)
}

fn line(row: &Value) -> String {
    let paint = Paint::stdout();
    let (entry, at) = (text(row, &["entry", "id"]), text(row, &["at"]));
    let (channel, reason) = (text(row, &["channel"]), text(row, &["reason"]));
    format!("{} {at} {channel:<12} {reason}", paint.paint(Style::Strong, &entry))
}

async fn show(gateway: &Gateway, args: &QuarantineShowArgs) -> Outcome {
    let row = gateway.quarantined(args.id.parse::<EntryId>()?).await?;
    if args.json {
        report::json(&row)?;
        return Ok(Exit::Ok);
    }
    report::line(&line(&row))?;
    let request = row.get("request").unwrap_or(&row);
    let (method, url) = (text(request, &["method"]), text(request, &["url"]));
    if !method.is_empty() {
        report::line(&format!("{method} {url}"))?;
    }
    let (folder, uid) = (text(request, &["folder"]), text(request, &["uid"]));
    if !folder.is_empty() {
        report::line(&format!("a mail of the folder {folder}, UID {uid}"))?;
    }
    let body = text(request, &["body", "raw", "body_base64"]);
    if !body.is_empty() {
        report::line(&indent(&body, 2))?;
    }
    Ok(Exit::Ok)
}

async fn retry(gateway: &Gateway, args: &QuarantineRetryArgs) -> Outcome {
    let ids = match args.all {
        false => args.ids.iter().map(|id| id.parse()).collect::<Result<Vec<EntryId>>>()?,
        true => {
            let rows = gateway.quarantine(None, usize::from(u16::MAX)).await?;
            let mut ids =
                rows.iter().map(|row| text(row, &["entry", "id"]).parse()).collect::<Result<Vec<EntryId>>>()?;
            // An entry may hold several items that were set aside; the oldest entry goes first.
            ids.dedup();
            ids.reverse();
            ids
        }
    };
    for id in &ids {
        let outcome = gateway.retry_quarantined(*id).await?;
        if args.json {
            report::json(&outcome)?;
            continue;
        }
        let released = match outcome.get("released").and_then(Value::as_bool) {
            Some(true) => "understood now",
            Some(false) => "still not understood",
            None => match gateway {
                Gateway::Store(_) => "entered; the gateway applies it when it starts",
                Gateway::Api(_) => "done",
            },
        };
        report::line(&format!("{id} {released}"))?;
    }
    if ids.is_empty() {
        report::note("nothing is quarantined");
    }
    Ok(Exit::Ok)
}
