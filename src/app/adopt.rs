//! Files from before there were blobs: those in `data/files`, in the clear, become blobs of their customers.
//!
//! Their interactions keep the ids that were told outside; the file is found by the part that names it. The walk may end
//! anywhere and begins anew at the next start: a file goes only once every interaction was looked at.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncReadExt;

use crate::base::{Clock, Error, Result};
use crate::model::Interaction;
use crate::store::blob::Blobs;
use crate::store::{BlobUse, InteractionRow};

/// How many interactions are read at once.
const PAGE: usize = 500;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 64 * 1024;
/// How often the walk is told of where nobody watches, in interactions.
const TOLD_EVERY: u64 = 100_000;

/// Moves what is in `folder` into `blobs` and removes the folder. Does nothing if there is none.
///
/// # Errors
///
/// `Io` if a file cannot be read, or what the store says.
pub(super) async fn files(folder: &Path, blobs: &Blobs, clock: &Clock) -> Result<()> {
    let failed = |e| Error::io("failed to move files into blobs", e).context(folder.display().to_string());
    if !tokio::fs::try_exists(folder).await.map_err(failed)? {
        return Ok(());
    }
    let mut waiting = names(folder).await.map_err(failed)?;
    let all = waiting.len();
    let bar = bar(all as u64);
    let (mut after, mut seen) = (0, 0u64);
    while !waiting.is_empty() {
        let page = blobs.rows().interactions(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.no;
        for row in &page {
            of_interaction(row, &mut waiting, blobs, clock, &bar).await?;
        }
        seen += page.len() as u64;
        if seen.is_multiple_of(TOLD_EVERY) && !std::io::stderr().is_terminal() {
            tracing::info!(target: "segue::store", interactions = seen, "moving files into blobs");
        }
    }
    let moved = waiting.values().filter(|file| file.moved).count();
    bar.finish_and_clear();
    tokio::fs::remove_dir_all(folder).await.map_err(failed)?;
    tracing::info!(target: "segue::store", moved, unnamed = all - moved, "the files of `data/files` are blobs now");
    Ok(())
}

/// A file that waits to be moved.
struct Waiting {
    path: PathBuf,
    moved: bool,
}

/// The files by their names. What was never finished goes with the folder.
async fn names(folder: &Path) -> std::io::Result<BTreeMap<String, Waiting>> {
    let mut names = BTreeMap::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().into_string().unwrap_or_default();
        let whole = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if whole && entry.file_type().await?.is_file() {
            names.insert(name, Waiting { path: entry.path(), moved: false });
        }
    }
    Ok(names)
}

async fn of_interaction(
    row: &InteractionRow,
    waiting: &mut BTreeMap<String, Waiting>,
    blobs: &Blobs,
    clock: &Clock,
    bar: &ProgressBar,
) -> Result<()> {
    // Most name no file, and are not worth reading as JSON.
    if !row.body.contains("\"sha512\"") {
        return Ok(());
    }
    let Ok(interaction) = serde_json::from_str::<Interaction>(&row.body) else { return Ok(()) };
    for (part, content) in interaction.parts.iter().enumerate() {
        let id = content.blob.as_ref().and_then(|blob| blob.id.as_ref());
        let Some(file) = id.and_then(|id| waiting.get_mut(id)) else { continue };
        // The same file of another customer is another blob, so it is read again for each.
        let opened = tokio::fs::File::open(&file.path).await;
        let opened = opened.map_err(|e| Error::io("failed to open a fetched file", e))?;
        let stored = blobs.put(Some(row.customer), u64::MAX, clock.now(), pieces(opened)).await?;
        blobs.rows().adopt(BlobUse { interaction: row.no, part, name: stored.name }).await?;
        if !file.moved {
            file.moved = true;
            bar.inc(1);
        }
    }
    Ok(())
}

/// The content of a file.
fn pieces(file: tokio::fs::File) -> impl futures_util::Stream<Item = Result<Bytes>> + Send {
    let read = |mut file: tokio::fs::File| async move {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    };
    stream::try_unfold(file, read).map_err(|e| Error::io("failed to read a fetched file", e))
}

fn bar(files: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(files);
    if let Ok(style) = ProgressStyle::with_template("moving files into blobs [{bar:40}] {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}
