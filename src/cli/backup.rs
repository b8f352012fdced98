//! `segue backup` and `segue checkpoint`: a whole store in a file, as of one moment, while the gateway runs.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::moving::place;
use super::progress::Bar;
use super::report;
use crate::base::{Clock, Error, Result};
use crate::store::archive::{Entries, Part, Place, Saved, save, save_keys};

/// Arguments of `segue backup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue backup --to /backup/segue-2026-11-22\n\n\
Works beside a running gateway. Writes FILE with the data and FILE.keys with the keys that open it; keep the two apart.")]
pub struct BackupArgs {
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// This store instead of the configured one: a data folder, a postgres:// URL, or file:PATH of a file that holds one
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue checkpoint`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue checkpoint --to /backup/checkpoint-2026-11-22\n\n\
A checkpoint is the state without the content of the journal's entries: what a replay begins from once they are gone.")]
pub struct CheckpointArgs {
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// This store instead of the configured one: a data folder, a postgres:// URL, or file:PATH of a file that holds one
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs `segue backup`.
///
/// # Errors
///
/// If the store cannot be read, or a file not be written.
pub fn run(global: &Global, args: &BackupArgs) -> Outcome {
    let keys = keys_beside(&args.to);
    let saved = write(global, args.from.as_deref(), &args.to, Some(&keys), Entries::Whole)?;
    tell(&saved, &args.to, Some(&keys), args.json)
}

/// Runs `segue checkpoint`.
///
/// # Errors
///
/// As [`run`].
pub fn checkpoint(global: &Global, args: &CheckpointArgs) -> Outcome {
    let saved = write(global, args.from.as_deref(), &args.to, None, Entries::Stubs)?;
    tell(&saved, &args.to, None, args.json)
}

/// The file of keys that goes with an archive.
pub(super) fn keys_beside(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".keys");
    PathBuf::from(name)
}

fn write(global: &Global, from: Option<&str>, to: &Path, keys: Option<&Path>, entries: Entries) -> Result<Saved> {
    let place = place(global, from)?;
    for path in [Some(to), keys].into_iter().flatten() {
        if path.exists() {
            let path = path.display();
            return Err(Error::config(format!("`{path}` is there already; name another file, or move it away")));
        }
    }
    let mut bar = Bar::new("saving");
    let saved = block_on(save_all(&place, to, keys, entries, &mut bar));
    bar.end();
    saved
}

async fn save_all(place: &Place, to: &Path, keys: Option<&Path>, entries: Entries, bar: &mut Bar) -> Result<Saved> {
    let view = place.view().await?;
    let mut data = Part::create(to)?;
    let saved = save(&*view, entries, Clock::system().now(), data.out(), bar).await?;
    // The keys are read after the data: whatever the data is sealed with was there before it.
    if let Some(keys) = keys {
        let mut part = Part::create(keys)?;
        save_keys(&place.chest(false).await?, &saved.sha256, part.out()).await?;
        part.finish()?;
    }
    data.finish()?;
    Ok(saved)
}

fn tell(saved: &Saved, to: &Path, keys: Option<&Path>, as_json: bool) -> Outcome {
    let (rows, sha256): (u64, _) = (saved.rows.values().sum(), HEXLOWER.encode(&saved.sha256));
    let apply_no = saved.header.apply_no;
    if as_json {
        report::json(&json!({
            "file": to, "keys": keys, "sha256": sha256, "apply_no": apply_no, "rows": rows, "tables": saved.rows,
        }))?;
        return Ok(Exit::Ok);
    }
    report::line(&format!("{}: {rows} rows, up to applied entry {apply_no}, sha256 {sha256}", to.display()))?;
    if let Some(keys) = keys {
        report::line(&format!("{}: the keys; keep them apart from the data", keys.display()))?;
    }
    Ok(Exit::Ok)
}
