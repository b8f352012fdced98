//! Files that appear whole or not at all, and the checkpoints that are such files.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Entries, Progress, View, apply_number, save};
use crate::base::{Error, Result, Timestamp};

/// A file under another name until it is whole, that only its owner can read.
pub struct Part {
    out: BufWriter<File>,
    path: PathBuf,
    to: PathBuf,
}

impl Part {
    /// Begins it beside `to`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be made.
    pub fn create(to: &Path) -> Result<Part> {
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Error::io("failed to create", e).context(path.display().to_string()))?;
        Ok(Part { out: BufWriter::with_capacity(1 << 18, file), path, to: to.to_owned() })
    }

    /// Where its content goes.
    pub fn out(&mut self) -> &mut (dyn Write + Send) {
        &mut self.out
    }

    /// Gives it its name, once its content and its name are durable.
    ///
    /// # Errors
    ///
    /// `Io` if the disk refused.
    pub fn finish(mut self) -> Result<()> {
        let place = || self.path.display().to_string();
        self.out.flush().map_err(|e| Error::io("failed to write", e).context(place()))?;
        self.out.get_ref().sync_all().map_err(|e| Error::io("failed to sync", e).context(place()))?;
        std::fs::rename(&self.path, &self.to).map_err(|e| Error::io("failed to rename", e).context(place()))?;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::io("failed to sync the folder", e).context(folder.display().to_string()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What was not finished is of no use; what was, has another name by now.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What the name of a checkpoint begins with; the apply number follows.
const CHECKPOINT: &str = "checkpoint-";

/// Writes a checkpoint into `folder`, unless there is one of this state already. Called before entries become stubs: a
/// replay begins from the newest one. Gives its path and its apply number. Blocks where the disk does.
///
/// # Errors
///
/// If the store cannot be read, or the file not be written.
pub async fn checkpoint(
    view: &dyn View,
    folder: &Path,
    now: Timestamp,
    progress: &mut (dyn Progress + Send),
) -> Result<(PathBuf, i64)> {
    let apply_no = apply_number(view).await?;
    let path = folder.join(format!("{CHECKPOINT}{apply_no:020}"));
    if path.exists() {
        return Ok((path, apply_no));
    }
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::io("failed to create the folder", e).context(folder.display().to_string()))?;
    let mut part = Part::create(&path)?;
    save(view, Entries::Stubs, now, part.out(), progress).await?;
    part.finish()?;
    Ok((path, apply_no))
}

/// Takes out the checkpoints in `folder` that are older than that of this apply number.
///
/// # Errors
///
/// `Io` if one cannot be taken out.
pub fn remove_older_checkpoints(folder: &Path, apply_no: i64) -> Result<()> {
    for (number, path) in checkpoints(folder)? {
        if number < apply_no {
            std::fs::remove_file(&path)
                .map_err(|e| Error::io("failed to remove", e).context(path.display().to_string()))?;
        }
    }
    Ok(())
}

/// The newest checkpoint in `folder`, with its apply number.
///
/// # Errors
///
/// `Io` if the folder is there and cannot be read.
pub fn newest_checkpoint(folder: &Path) -> Result<Option<(PathBuf, i64)>> {
    Ok(checkpoints(folder)?.into_iter().max().map(|(number, path)| (path, number)))
}

/// The checkpoints in a folder by apply number; none if there is no such folder.
fn checkpoints(folder: &Path) -> Result<Vec<(i64, PathBuf)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e| Error::io("failed to read the folder", e).context(folder.display().to_string());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(CHECKPOINT)?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    Ok(found)
}
