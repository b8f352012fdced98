//! `segue replay`: the journal once more, into an empty store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures_util::FutureExt;
use serde_json::json;

use super::exit::{Exit, Outcome};
use super::gateway::{block_on, open_store};
use super::moving::open_archive;
use super::progress::{Bar, Shown};
use super::report::{self, Paint, Style};
use super::{Global, bundle as bundles};
use crate::app::bundle::{self, Own, Trial};
use crate::app::checkpoints::Checkpoints;
use crate::app::{self, Start, setup};
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Error, Result};
use crate::config::Config;
use crate::connector::Registry;
use crate::flow::Setup;
use crate::flow::replay::{self, Differences, Span, Under, Walked};
use crate::store::archive::{Opener, Place, load, move_keys};
use crate::store::seal::Sealing;
use crate::store::{Bundles, Progress as _, Store};

/// Arguments of `segue replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue replay --into ./again\n  segue replay --into ./trial --bundle current\n  \
segue replay --into ./again --from /backup/checkpoint-2026-11-22\n\n\
Applies every entry under the bundle that ruled, sends nothing, and compares the two states. Once originals have gone by \
age, it begins from the newest checkpoint, which pruning has written. With --bundle it rehearses another bundle and tells \
what is decided otherwise. No gateway may be running. Exit code 65 if anything differs.")]
pub struct ReplayArgs {
    /// A folder, a postgres:// URL, or file:PATH of a file that holds one, where nothing is yet
    #[arg(long, value_name = "EMPTY_STORE")]
    pub into: String,
    /// Rehearse under this bundle: `current` for what the files of the project say, a version, or the beginning of a hash
    #[arg(long, value_name = "BUNDLE")]
    pub bundle: Option<String>,
    /// Begin from this checkpoint instead of the newest in the data directory
    #[arg(long, value_name = "CHECKPOINT")]
    pub from: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If a store cannot be opened, the target is not empty, a bundle is not kept, or an original is gone that no checkpoint
/// covers. Differences are no error but [`Exit::Data`].
pub fn run(global: &Global, args: &ReplayArgs) -> Outcome {
    let config = global.load()?;
    let source = open_store(&config)?;
    let (from, into) = (app::place_of(&config)?, Place::parse(&args.into)?);
    refuse_used(&config, &into)?;
    let checkpoint = match &args.from {
        Some(path) => Some(path.clone()),
        None => Checkpoints::of(&config)?.newest()?.map(|(path, _)| path),
    };
    let after = match &checkpoint {
        Some(path) => block_on(begin_from(path, &from, &into))?,
        None => 0,
    };
    // Its keys go by the same root key as those of the source.
    let target = app::open_store_at(&into, &config, &Start::default(), Metrics::new())?;
    let span = Span { after, events: Clock::system().now().minus(config.retention.events) };
    let (walked, differences) = block_on(async {
        let bundles = source.store.bundles.clone();
        let walked = match &args.bundle {
            Some(wanted) => {
                let setup = rehearsed(global, &config, bundles.as_ref(), wanted).await?;
                walk((&source.store, &target.store), span, Under::One(Arc::new(setup))).await?
            }
            None => {
                let setups = |hash: String| past(bundles.as_ref(), hash).boxed();
                walk((&source.store, &target.store), span, Under::Recorded(Box::new(setups))).await?
            }
        };
        let differences = match args.bundle {
            Some(_) => walked.differences.clone(),
            None => compare(&config, (&source.store, &from), (&target.store, &into), checkpoint.is_some()).await?,
        };
        Ok((walked, differences))
    })?;
    tell(args, after, &walked, &differences)
}

/// Fills the target from a checkpoint of the source, with the keys of the source. Gives its apply number.
async fn begin_from(checkpoint: &Path, from: &Place, into: &Place) -> Result<i64> {
    let target = into.target().await?;
    let mut bar = Bar::new("loading");
    let reader = open_archive(checkpoint)?;
    let mark = format!("replay {}", reader.header().apply_no);
    let loaded = load(reader, &mark, &*target, &mut bar).await;
    bar.end();
    let loaded = loaded.map_err(|e| e.context(checkpoint.display().to_string()))?;
    move_keys(from, into).await?;
    target.finish().await?;
    Ok(loaded.header.apply_no)
}

async fn walk((source, target): (&Store, &Store), span: Span, under: Under<'_>) -> Result<Walked> {
    let shown = Shown::new();
    let mut progress = |done: u64, total: u64| shown.step("applying entries", done, total.max(done));
    replay::walk(source, target, span, under, &mut progress).await
}

/// The setup of a bundle that ruled before.
async fn past(bundles: &dyn Bundles, hash: String) -> Result<Setup> {
    let content = bundle::fetch(bundles, &hash).await?;
    let built = bundle::build(&content, &Own::default(), &Registry::default(), Trial::Replayed);
    built.map(|built| built.setup).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::config(format!("bundle {hash} cannot be built by this program: {}", faults.join("; ")))
    })
}

/// The setup to rehearse under.
async fn rehearsed(global: &Global, config: &Config, bundles: &dyn Bundles, wanted: &str) -> Result<Setup> {
    if wanted == "current" {
        let loaded = setup::load(config).map_err(|problems| {
            report::problems(&problems);
            global.refused(&problems)
        })?;
        return Ok(loaded.setup);
    }
    past(bundles, bundles::find(bundles, Some(wanted)).await?).await
}

/// Whether the two states are the same to the byte. What differs is looked for row by row first, which tells more.
async fn compare(
    config: &Config,
    (source, was): (&Store, &Place),
    (target, is): (&Store, &Place),
    stubs: bool,
) -> Result<Differences> {
    let found = replay::compare(source, target).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let sealing = Sealing::at(&config.root_key);
    let (was_opener, is_opener) = (Opener::at(was, &sealing).await?, Opener::at(is, &sealing).await?);
    let (was, is) = (was.view().await?, is.view().await?);
    replay::compare_dumps((&*was, &was_opener), (&*is, &is_opener), stubs).await
}

/// Refuses a target that holds a store. A database is found out once it is open.
fn refuse_used(config: &Config, into: &Place) -> Result<()> {
    match into {
        Place::Folder(folder) if *folder == config.data || folder.join("segue.db").exists() => Err(Error::config(
            format!("`{}` holds a store already; name a folder that does not exist", folder.display()),
        )),
        Place::Folder(_) | Place::Server(_) => Ok(()),
    }
}

fn tell(args: &ReplayArgs, after: i64, walked: &Walked, differences: &Differences) -> Outcome {
    let exit = if differences.is_empty() { Exit::Ok } else { Exit::Data };
    if args.json {
        report::json(&json!({
            "after": after,
            "applied": walked.applied,
            "pending": walked.pending,
            "exact": walked.exact,
            "equal": differences.is_empty(),
            "differences": differences,
        }))?;
        return Ok(exit);
    }
    let paint = Paint::stdout();
    let kind = if walked.exact { "replayed" } else { "rehearsed" };
    let since = if after > 0 { format!(" after checkpoint {after}") } else { String::new() };
    report::line(&format!("{kind} {} entries{since}, {} pending", walked.applied, walked.pending))?;
    if differences.is_empty() {
        let word = if args.bundle.is_some() { "nothing is decided otherwise" } else { "the states are equal" };
        report::line(&paint.paint(Style::Good, word))?;
        return Ok(exit);
    }
    for (what, count) in &differences.counts {
        report::line(&format!("{} {count} differ", paint.paint(Style::Bad, what)))?;
    }
    for example in &differences.examples {
        report::line(&format!("  {} {}: {} -> {}", example.what, example.at, example.was, example.is))?;
    }
    Ok(exit)
}
