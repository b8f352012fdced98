//! What the commands share that read or fill a whole store: where it is, what opens it, files of it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::Global;
use crate::app::place_of;
use crate::base::{Error, Result};
use crate::store::archive::{Place, Reader};
use crate::store::seal::{RootKeys, Sealing};

/// The store at `named`, or else that of the configuration.
///
/// # Errors
///
/// If the configuration cannot be used, or the place is none.
pub(super) fn place(global: &Global, named: Option<&str>) -> Result<Place> {
    match named {
        Some(text) => Place::parse(text),
        None => place_of(&global.load()?),
    }
}

/// The file of the root key: the one that SEGUE_ROOT_KEY_FILE names, or that of the configuration.
fn root_key(global: &Global) -> PathBuf {
    let named = std::env::var_os("SEGUE_ROOT_KEY_FILE").map(PathBuf::from);
    let configured = || crate::config::load(&global.config).ok().map(|config| config.root_key);
    named.or_else(configured).unwrap_or_else(|| PathBuf::from("secrets/root.key"))
}

/// What opens the store.
pub(super) fn sealing(global: &Global) -> Sealing {
    Sealing::at(root_key(global))
}

/// The root keys themselves.
///
/// # Errors
///
/// If there is no such file, or others may read it.
pub(super) fn root_keys(global: &Global) -> Result<RootKeys> {
    RootKeys::read(&root_key(global))
}

/// An archive, read from its beginning.
///
/// # Errors
///
/// `NotFound` if it cannot be read, `Invalid` if it is none.
pub(super) fn open_archive(path: &Path) -> Result<Reader<BufReader<File>>> {
    Reader::open(open_file(path)?).map_err(|e| e.context(path.display().to_string()))
}

/// A file to be read from its beginning.
///
/// # Errors
///
/// `NotFound` if it cannot be read.
pub(super) fn open_file(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path);
    let file = file.map_err(|e| Error::not_found(format!("`{}` cannot be read", path.display())).because(e))?;
    Ok(BufReader::with_capacity(1 << 18, file))
}
