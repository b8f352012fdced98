//! `segue restore`: a store filled from a backup, which serves only once all of it was found whole.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;

use super::backup::keys_beside;
use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::moving::{open_archive, open_file, place, root_keys};
use super::progress::Bar;
use super::{Global, report};
use crate::base::{Error, Result};
use crate::store::archive::{Place, Saved, load, restore_keys, verify_keys};
use crate::store::seal::RootKeys;

/// Arguments of `segue restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue restore --from /backup/segue-2026-11-22 --into data\n  \
segue restore --from /backup/segue-2026-11-22 --keys /vault/segue-2026-11-22.keys --into postgres://segue@db/segue\n\n\
If it is stopped in the middle, run it again; until it is done, no gateway starts on the store.")]
pub struct RestoreArgs {
    /// The file that `segue backup` wrote
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Its keys, if they do not lie beside it
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The store to fill instead of the configured one: a data folder, a postgres:// URL, or file:PATH of a file that
    /// holds one. It must be empty, or hold what an earlier run has left
    #[arg(long, value_name = "STORE")]
    pub into: Option<String>,
    /// Only look whether the files are whole
    #[arg(long, conflicts_with = "into")]
    pub verify: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If a file is damaged, the store holds anything else or is in use, or one of them cannot be read or written.
pub fn run(global: &Global, args: &RestoreArgs) -> Outcome {
    let keys = args.keys.clone().unwrap_or_else(|| keys_beside(&args.from));
    let saved = verified(&args.from, &keys)?;
    if args.verify {
        return tell(&saved, None, args.json);
    }
    let into = place(global, args.into.as_deref())?;
    let roots = root_keys(global)?;
    let mut bar = Bar::new("restoring");
    let restored = block_on(restored(&args.from, &keys, &saved, (&into, &roots), &mut bar));
    bar.end();
    restored?;
    tell(&saved, Some(&into), args.json)
}

/// Reads both files whole, before anything is done.
fn verified(from: &Path, keys: &Path) -> Result<Saved> {
    let archive = || from.display().to_string();
    let reader = open_archive(from)?;
    if reader.header().checkpoint {
        let error = Error::invalid("this is a checkpoint, which lacks the journal's content; name a backup");
        return Err(error.context(archive()));
    }
    let saved = reader.verify().map_err(|e| e.context(archive()))?;
    verify_keys(open_file(keys)?, &saved.sha256).map_err(|e| e.context(keys.display().to_string()))?;
    Ok(saved)
}

async fn restored(
    from: &Path,
    keys: &Path,
    verified: &Saved,
    (into, roots): (&Place, &RootKeys),
    bar: &mut Bar,
) -> Result<()> {
    let target = into.target().await?;
    let mark = format!("restore {}", HEXLOWER.encode(&verified.sha256));
    let saved = load(open_archive(from)?, &mark, &*target, bar).await?;
    if saved.sha256 != verified.sha256 {
        return Err(Error::invalid("the file changed while it was read").context(from.display().to_string()));
    }
    restore_keys(into, open_file(keys)?, &saved.sha256).await?;
    // A store whose keys nobody can open must not serve.
    into.chest(true).await?.verify(roots).await?;
    target.finish().await
}

fn tell(saved: &Saved, into: Option<&Place>, as_json: bool) -> Outcome {
    let (rows, at, apply_no): (u64, _, _) = (saved.rows.values().sum(), saved.header.at, saved.header.apply_no);
    if as_json {
        report::json(&json!({
            "sha256": HEXLOWER.encode(&saved.sha256), "at": at, "apply_no": apply_no, "rows": rows,
            "tables": saved.rows, "restored": into.is_some(),
        }))?;
    } else {
        let what = match into {
            Some(into) => format!("restored into {}", into.shown()),
            None => "whole".to_owned(),
        };
        report::line(&format!("{what}: {rows} rows as of {at}, up to applied entry {apply_no}"))?;
    }
    Ok(Exit::Ok)
}
