//! `segue deadletter`: deliveries that were given up.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::{Gateway, Reach, block_on, text};
use super::report::{self, Paint, Style};
use crate::base::id::EventId;
use crate::base::{Error, Result};

/// Arguments of `segue deadletter`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue deadletter list\n  segue deadletter retry --all --helpdesk main")]
pub struct DeadletterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadletterCommand,
    /// How a running gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// Commands about dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadletterCommand {
    /// List what was given up, the latest first
    List(DeadletterListArgs),
    /// Show one with what its last attempt met
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
    /// The event's id
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
    /// The events' ids
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

/// Runs the command.
///
/// # Errors
///
/// If there is no way to the data, an id is none or names nothing, or the output cannot be written.
pub fn run(global: &Global, args: &DeadletterArgs) -> Outcome {
    block_on(async {
        let gateway = Gateway::find(global, &args.reach, false)?;
        match &args.command {
            DeadletterCommand::List(args) => list(&gateway, args).await,
            DeadletterCommand::Show(args) => show(&gateway, args).await,
            DeadletterCommand::Retry(args) => retry(&gateway, args).await,
        }
    })
}

async fn list(gateway: &Gateway, args: &DeadletterListArgs) -> Outcome {
    let rows = gateway.dead_letters(args.helpdesk.as_deref(), args.limit as usize).await?;
    report::rows(&rows, args.json, line, "there are no dead letters")?;
    Ok(Exit::Ok)
}

fn line(row: &Value) -> String {
    let paint = Paint::stdout();
    let (event, at) = (text(row, &["event", "id"]), text(row, &["at"]));
    let (helpdesk, attempts, error) = (text(row, &["helpdesk"]), text(row, &["attempts"]), text(row, &["error"]));
    format!("{} {at} {helpdesk:<12} {attempts} attempts: {error}", paint.paint(Style::Strong, &event))
}

async fn show(gateway: &Gateway, args: &DeadletterShowArgs) -> Outcome {
    let id: EventId = args.id.parse()?;
    let name = id.to_string();
    let rows = gateway.dead_letters(args.helpdesk.as_deref(), usize::from(u16::MAX)).await?;
    let rows: Vec<Value> = rows.into_iter().filter(|row| text(row, &["event", "id"]) == name).collect();
    if rows.is_empty() {
        return Err(Error::not_found(format!("event {id} is no dead letter; `segue deadletter list` shows them")));
    }
    report::rows(&rows, args.json, line, "")?;
    Ok(Exit::Ok)
}

async fn retry(gateway: &Gateway, args: &DeadletterRetryArgs) -> Outcome {
    let helpdesk = args.helpdesk.as_deref();
    let events = match args.all {
        true => vec![None],
        false => args.ids.iter().map(|id| id.parse().map(Some)).collect::<Result<Vec<Option<EventId>>>>()?,
    };
    let when = match gateway {
        Gateway::Store(_) => "delivered again when the gateway starts",
        Gateway::Api(_) => "delivered again now",
    };
    let mut exit = Exit::Ok;
    for event in events {
        let count = gateway.revive(helpdesk, event).await?;
        let name = event.map_or_else(|| "all".to_owned(), |event| event.to_string());
        match count {
            _ if args.json => report::json(&json!({ "event": event, "helpdesk": helpdesk, "revived": count }))?,
            // Nobody waits for nothing, but a name that fits nothing is a mistake.
            Some(0) if event.is_some() => {
                report::note(&format!("{name} is no dead letter"));
                exit = Exit::NoInput;
            }
            Some(count) => report::line(&format!("{name}: {count} {when}"))?,
            None => report::line(&format!("{name}: {when}"))?,
        }
    }
    Ok(exit)
}
