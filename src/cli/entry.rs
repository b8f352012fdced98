//! `segue entry`: the journal's entries one by one.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::{block_on, open_store};
use super::report;
use crate::app::checkpoints::Checkpoints;
use crate::base::id::EntryId;
use crate::base::{Clock, Error, Kind, Result, Retry, Side};
use crate::config::Config;
use crate::store::Store;

/// Arguments of `segue entry`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue entry erase en_01jn4...")]
pub struct EntryArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EntryCommand,
}

/// Commands about entries.
#[derive(Debug, Subcommand)]
pub enum EntryCommand {
    /// Take the originals of entries out for good, such as one that holds a password
    Erase(EraseArgs),
}

/// Arguments of `segue entry erase`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue entry erase en_01jn4...\n\n\
Leaves a stub: the entry's id and what was decided. What was understood of it stays with its interaction, and older \
backups hold the original. Writes a checkpoint first, so that the journal can still be replayed. With data in a folder no \
gateway may be running.")]
pub struct EraseArgs {
    /// The entries' ids
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If there is no such entry, one is not applied yet, or the store or the checkpoint cannot be written.
pub fn run(global: &Global, args: &EntryArgs) -> Outcome {
    let EntryCommand::Erase(args) = &args.command;
    let ids = args.ids.iter().map(|id| id.parse::<EntryId>()).collect::<Result<Vec<EntryId>>>()?;
    let config = global.load()?;
    let opened = open_store(&config)?;
    let (erased, checkpoint) = block_on(erase(&config, &opened.store, ids))?;
    if args.json {
        report::json(&json!({ "erased": erased, "checkpoint": checkpoint }))?;
    } else {
        let originals = if erased == 1 { "original" } else { "originals" };
        report::line(&format!("erased {erased} {originals}; checkpoint {checkpoint} covers the journal"))?;
    }
    Ok(Exit::Ok)
}

async fn erase(config: &Config, store: &Store, ids: Vec<EntryId>) -> Result<(u64, i64)> {
    for id in &ids {
        match store.journal.entry(*id).await? {
            None => return Err(Error::not_found(format!("there is no entry {id}"))),
            Some((_, None)) => {
                let error =
                    Error::new(Kind::Conflict, format!("entry {id} is not applied yet; its original is needed"));
                return Err(error.on_side(Side::Operator).with_retry(Retry::Later));
            }
            Some((_, Some(_))) => {}
        }
    }
    let checkpoint = Checkpoints::of(config)?.write(Clock::system().now()).await?;
    Ok((store.retention.empty(ids).await?, checkpoint))
}
