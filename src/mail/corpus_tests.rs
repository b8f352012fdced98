//! Real mails, written by others, as far as they lie beside the project.

mod reading;
mod replies;

use std::path::{Path, PathBuf};

/// Where they lie: in the folder that `SEGUE_CORPUS` names, which must then be there, or beside the project.
pub(super) fn folder() -> Option<PathBuf> {
    let is_there = |place: &PathBuf| place.join("MANIFEST.tsv").is_file();
    if let Some(named) = std::env::var_os("SEGUE_CORPUS").map(PathBuf::from) {
        assert!(is_there(&named), "SEGUE_CORPUS names no folder with a MANIFEST.tsv");
        return Some(named);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = ["../shared/corpus", "../../shared/corpus"].map(|way| here.join(way)).into_iter().find(is_there);
    if found.is_none() {
        println!("there is no corpus of mails: nothing was compared");
    }
    found
}
