//! `segue channel`: trying out configured channels.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::{Gateway, Reach, block_on};
use super::report;
use crate::base::{Error, Kind, Retry, Side};
use crate::config::units;

/// How often it is asked whether a probe has arrived.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `segue channel`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue channel probe support-mail")]
pub struct ChannelArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ChannelCommand,
    /// How a running gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// Commands about channels.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Send a mail through a channel to itself, and wait for it to come in
    Probe(ProbeArgs),
}

/// Arguments of `segue channel probe`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue channel probe support-mail --within 2m")]
pub struct ProbeArgs {
    /// The channel's name
    pub name: String,
    /// How long to wait for the mail
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time)]
    pub within: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    units::duration(text).map_err(|error| error.message().to_owned())
}

/// Runs the command.
///
/// # Errors
///
/// If no gateway runs, the channel sends no mail, its server does not take the mail, or it does not come in in time.
pub fn run(global: &Global, args: &ChannelArgs) -> Outcome {
    let ChannelCommand::Probe(probe) = &args.command;
    let Gateway::Api(api) = Gateway::find(global, &args.reach, false)? else {
        let reason = "a probe goes through a running gateway: start it by `segue serve`, or name it by --url";
        return Err(Error::new(Kind::Unavailable, reason).on_side(Side::Operator));
    };
    block_on(async {
        let path = format!("/v1/channels/{}/probes", probe.name);
        let begun = Instant::now();
        let sent = api.post(&path, &json!({})).await?;
        let id = sent.get("message_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !probe.json {
            report::line(&format!("sent: the server took the mail after {}", seconds(begun.elapsed())))?;
        }
        loop {
            let state = api.get(&format!("{path}/{id}")).await?;
            if state.get("arrived_at").is_some_and(|at| !at.is_null()) {
                break;
            }
            if begun.elapsed() > probe.within {
                return Err(late(&probe.name, probe.within));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let took = begun.elapsed();
        match probe.json {
            true => report::line(&json!({ "message_id": id, "took_ms": took.as_millis() as u64 }).to_string())?,
            false => report::line(&format!("arrived: it came in again after {}", seconds(took)))?,
        }
        Ok(Exit::Ok)
    })
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn late(name: &str, within: Duration) -> Error {
    let reason = format!(
        "the mail was taken and did not come in within {}; look at the mailbox of channel `{name}` in `/v1/status`, at its folder \
         for unwanted mail, and whether `address` is delivered to it",
        seconds(within)
    );
    Error::new(Kind::Timeout, reason).on_side(Side::Peer).with_retry(Retry::Later)
}
