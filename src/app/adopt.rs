//! Files from before there were blobs: those in `data/files`, in the clear, become blobs of their customers.
//!
//! Their interactions keep the ids that were told outside; the file is found by the part that names it. The walk may end
//! anywhere and begins anew at the next start: a file goes only once every interaction was looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use tokio::io::AsyncReadExt;

use crate::base::{Clock, Error, Result};
use crate::model::Interaction;
use crate::store::blob::Blobs;
use crate::store::{BlobUse, InteractionRow, Progress};

/// How many interactions are read at once.
const PAGE: usize = 500;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Moves what is in `folder` into `blobs` and removes the folder. Does nothing if there is none.
///
/// # Errors
///
/// `Io` if a file cannot be read, or what the store says.
pub(super) async fn files(folder: &Path, blobs: &Blobs, clock: &Clock, progress: &dyn Progress) -> Result<()> {
    let failed = |e| Error::io("failed to move files into blobs", e).context(folder.display().to_string());
    if !tokio::fs::try_exists(folder).await.map_err(failed)? {
        return Ok(());
    }
    let mut waiting = names(folder).await.map_err(failed)?;
    let all = waiting.len();
    let (mut after, mut moved) = (0, 0);
    while !waiting.is_empty() {
        let page = blobs.rows().interactions(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.no;
        for row in &page {
            moved += of_interaction(row, &mut waiting, blobs, clock).await?;
        }
        progress.step("moving files into blobs", moved, all as u64);
    }
    tokio::fs::remove_dir_all(folder).await.map_err(failed)?;
    tracing::info!(target: "segue::store", moved, unnamed = all as u64 - moved, "the files of `data/files` are blobs now");
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

/// Moves the files of an interaction. Gives how many were moved for the first time.
async fn of_interaction(
    row: &InteractionRow,
    waiting: &mut BTreeMap<String, Waiting>,
    blobs: &Blobs,
    clock: &Clock,
) -> Result<u64> {
    // Most name no file, and are not worth reading as JSON.
    if !row.body.contains("\"sha512\"") {
        return Ok(0);
    }
    let Ok(interaction) = serde_json::from_str::<Interaction>(&row.body) else { return Ok(0) };
    let mut first = 0;
    for (part, content) in interaction.parts.iter().enumerate() {
        let id = content.blob.as_ref().and_then(|blob| blob.id.as_ref());
        let Some(file) = id.and_then(|id| waiting.get_mut(id)) else { continue };
        // The same file of another customer is another blob, so it is read again for each.
        let opened = tokio::fs::File::open(&file.path).await;
        let opened = opened.map_err(|e| Error::io("failed to open a fetched file", e))?;
        let stored = blobs.put(Some(row.customer), u64::MAX, clock.now(), pieces(opened)).await?;
        blobs.rows().adopt(BlobUse { interaction: row.no, part, name: stored.name }).await?;
        first += u64::from(!std::mem::replace(&mut file.moved, true));
    }
    Ok(first)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::{EntryId, InteractionId};
    use crate::base::telemetry::Metrics;
    use crate::model::part::FetchState;
    use crate::model::{Blob, ChannelKind, EntryBody, EntryKind, Part, PartType};
    use crate::store::blob::collect;
    use crate::store::seal::Sealing;
    use crate::store::{Changeset, InteractionWrite, NewEntry, Store, Unwatched, sqlite};

    /// An interaction with a file that is called as files were.
    async fn interaction(store: &Store, no: i64, customer: i64, file: &str) {
        let at = Timestamp::from_millis(1_700_000_000_000 + no);
        let body = EntryBody { head: Bytes::new(), raw: Bytes::new() };
        let entry = NewEntry {
            id: EntryId::random(at),
            kind: EntryKind::Webhook,
            channel: String::new(),
            at,
            interactive: false,
            keys: Vec::new(),
            key: None,
            body,
        };
        let position = store.journal.append(entry).await.unwrap().position;
        let blob = Blob {
            id: Some(file.to_owned()),
            sha512: Some(file.repeat(2)),
            fetch: Some(FetchState::Fetched),
            ..Blob::default()
        };
        let file = Part { blob: Some(blob), ..Part::new(PartType::File) };
        let parts = vec![Part::text("see"), file];
        let interaction = Interaction { parts, ..Interaction::blank(ChannelKind::Whatsapp, "whatsapp", "1") };
        let write = InteractionWrite {
            no,
            id: InteractionId::random(at),
            item: None,
            conversation: 1,
            seq: no,
            before_in_conversation: 0,
            customer,
            before_of_customer: 0,
            outbound: false,
            body: serde_json::to_string(&interaction).unwrap(),
            decision: None,
        };
        let set = Changeset { position, bundle: "b".to_owned(), interactions: vec![write], ..Changeset::default() };
        store.commits.commit(vec![set]).await.unwrap();
    }

    #[tokio::test]
    async fn files_in_the_clear_become_blobs_of_their_customers() {
        let project = tempfile::tempdir().unwrap();
        let old = project.path().join("files");
        let sealing = Sealing::at(project.path().join("root.key"));
        let (data, options) = (project.path().join("data"), sqlite::Options::default());
        let opened = sqlite::open(&data, options, &sealing, &Unwatched::shared(), Metrics::new()).unwrap();
        let store = &opened.store;
        let blobs =
            Blobs::in_folder(&project.path().join("blobs"), opened.blob_keys.clone(), store.blobs.clone()).unwrap();
        files(&old, &blobs, &Clock::system(), &Unwatched).await.unwrap();
        let (first, second, stray) = ("a1".repeat(32), "b2".repeat(32), "c3".repeat(32));
        std::fs::create_dir(&old).unwrap();
        let content = |seed: u8| vec![seed; 200_000];
        std::fs::write(old.join(&first), content(1)).unwrap();
        std::fs::write(old.join(&second), content(2)).unwrap();
        std::fs::write(old.join(&stray), content(3)).unwrap();
        std::fs::write(old.join("ix_1-0.fetching.part"), "half").unwrap();
        interaction(store, 1, 10, &first).await;
        interaction(store, 2, 10, &second).await;
        interaction(store, 3, 20, &first).await;
        interaction(store, 4, 20, &"d4".repeat(32)).await;
        files(&old, &blobs, &Clock::system(), &Unwatched).await.unwrap();
        assert!(!old.exists());
        for (no, id, seed) in [(1, &first, 1), (2, &second, 2), (3, &first, 1)] {
            let found = blobs.of_part(no, 1, id).await.unwrap().unwrap();
            assert!(collect(found.open().await.unwrap(), 1 << 20).await.unwrap() == content(seed));
        }
        assert!(blobs.of_part(4, 1, &"d4".repeat(32)).await.unwrap().is_none());
        let counts = store.catalog.counts().await.unwrap();
        assert_eq!((counts["blob"], counts["blob_use"], counts["loose"]), (3, 3, 0));
    }
}
