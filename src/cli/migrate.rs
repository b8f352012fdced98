//! `segue migrate`: a whole store moved from one place to another.

use clap::Args;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::progress::Bar;
use super::report;
use crate::base::Result;
use crate::store::archive::{Digests, Place, Plain, Source, apply_number, copy, move_keys};

/// Arguments of `segue migrate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue migrate --from data --to postgres://segue@db.example.org/segue\n  \
segue migrate --from file:/run/secrets/store-url --to data\n\n\
Moves everything: the journal, the state, and what is still to be delivered. Stop every gateway first. If it is stopped in\n\
the middle, run it again. The source stays as it is.")]
pub struct MigrateArgs {
    /// From where: a data folder, a postgres:// URL, or file:PATH of a file that holds one
    #[arg(long, value_name = "STORE")]
    pub from: String,
    /// To where, in the same form; it must be empty, or hold what an earlier run has left
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If a gateway uses either store, the target holds anything else, or one of them cannot be used.
pub fn run(_: &Global, args: &MigrateArgs) -> Outcome {
    let (from, to) = (Place::parse(&args.from)?, Place::parse(&args.to)?);
    let mut bar = Bar::new("moving");
    let moved = block_on(moved(&from, &to, &mut bar));
    bar.end();
    let moved = moved?;
    let rows: u64 = moved.0.values().map(|(rows, _)| rows).sum();
    if args.json {
        let tables: serde_json::Map<String, serde_json::Value> =
            moved.0.iter().map(|(table, (rows, _))| ((*table).to_owned(), json!(rows))).collect();
        report::json(&json!({ "rows": rows, "tables": tables, "equal": true }))?;
    } else {
        report::line(&format!("moved {rows} rows to {}; both were read again and are equal", to.shown()))?;
        report::note("set `store` in segue.toml to the new place before the gateway starts");
    }
    Ok(Exit::Ok)
}

async fn moved(from: &Place, to: &Place, bar: &mut Bar) -> Result<Digests> {
    let _quiet = from.quiet().await?;
    let view = from.view().await?;
    let target = to.target().await?;
    move_keys(from, to).await?;
    // With the latest applied entry in it, what an earlier run has moved is recognized as of the same state.
    let entries = crate::store::archive::last_position(&*view).await?;
    let mark = format!("migrate {} {} {entries}", from.shown(), apply_number(&*view).await?);
    let source = Source { view: &*view, seal: &Plain, mark: &mark };
    copy(source, &*target, &Plain, bar).await
}
