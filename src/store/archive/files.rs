//! Whether every file that the tables name is where files are kept.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use object_store::client::HttpConnector;

use super::{Area, Finding, Progress, Row, View, count, page};
use crate::base::Result;
use crate::store::blob::Object;
use crate::store::blob::place::{Objects, Place};
use crate::store::layout::Table;

const LOST: &str = "copy the missing files back from where `[blobs]` is backed up; what names them stays as it is";

/// Compares the table of files with what the folder or bucket lists. Takes about 32 bytes of memory for each file.
///
/// # Errors
///
/// If the store, the folder or the bucket cannot be read.
pub async fn check_files(
    view: &dyn View,
    place: &Place,
    connector: impl HttpConnector,
    progress: &mut (dyn Progress + Send),
) -> Result<Finding> {
    let Some(table) = Table::named("blob") else { return Ok(Finding::good(Area::Integrity, "there are no files")) };
    let total = count(view, table).await?;
    let kept = match place {
        // It is made with the first file.
        Place::Folder(folder) if !folder.is_dir() => HashSet::new(),
        // Nothing is asked of a bucket for nothing.
        _ if total == 0 => HashSet::new(),
        place => listed(&Objects::open(place, connector)?).await?,
    };
    progress.table("files", total);
    let (mut after, mut lost) = (None::<Row>, 0_u64);
    loop {
        let rows = page(view, table, after.as_deref()).await?;
        let Some(last) = rows.last() else { break };
        after = last.first().cloned().map(|name| vec![name]);
        progress.rows(rows.len() as u64);
        let object = |row: &Row| Some(Object(row.get(table.place("object")?)?.bytes()?.try_into().ok()?));
        lost += rows.iter().filter(|row| object(row).is_none_or(|object| !kept.contains(&object))).count() as u64;
    }
    Ok(match lost {
        0 => Finding::good(Area::Integrity, format!("{total} files of messages are in their place")),
        _ => Finding::bad(Area::Integrity, format!("{lost} of {total} files of messages are gone"), LOST),
    })
}

async fn listed(objects: &Objects) -> Result<HashSet<Object>> {
    objects.list().map_ok(|listed| listed.object).try_collect().await
}
