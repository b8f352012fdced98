//! The files of a policy and the facts beside them: what a bundle is made of, read once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::{Error, Kind, Result};

/// The largest file of a policy, in bytes. Compiling cannot be interrupted, so what is compiled is bounded.
const MAX_FILE: u64 = 1 << 20;
/// The largest policy, in bytes.
const MAX_TOTAL: u64 = 8 << 20;
/// The most files a policy may have.
const MAX_FILES: usize = 500;

/// What decisions depend on besides scripts; part of the bundle's hash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyFacts {
    /// The queues that exist. Empty means that any name is taken.
    pub queues: Vec<String>,
    /// The queue that takes what nothing else takes.
    pub default_queue: String,
    /// The names of the answer templates.
    pub templates: Vec<String>,
    /// The skills that exist. Empty means that any name is taken.
    pub skills: Vec<String>,
    /// Values for `param(name, default)`.
    pub params: BTreeMap<String, serde_json::Value>,
}

/// The files of a policy, sorted by name: `*.lua`, `data/*.{csv,json,toml}`, `tests/*.lua`, `fixtures/*.json`.
#[derive(Debug, Clone, Default)]
pub struct PolicyFiles {
    root: PathBuf,
    files: Vec<(String, Vec<u8>)>,
}

impl PolicyFiles {
    /// Reads the policy in the folder `dir`. A folder that does not exist is an empty policy's error, not an empty policy.
    ///
    /// # Errors
    ///
    /// `Io` if a folder or file cannot be read, `Limit` if a file or the whole is too large.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut total = 0u64;
        for (folder, endings) in
            [("", &["lua"][..]), ("data", &["csv", "json", "toml"]), ("tests", &["lua"]), ("fixtures", &["json"])]
        {
            let path = if folder.is_empty() { dir.to_owned() } else { dir.join(folder) };
            if !folder.is_empty() && !path.is_dir() {
                continue;
            }
            read_folder(&path, folder, endings, &mut files, &mut total)?;
        }
        Ok(PolicyFiles { root: dir.to_owned(), ..Self::from_memory(files) })
    }

    /// A policy from files in memory, by relative path.
    pub fn from_memory(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort();
        files.dedup_by(|a, b| a.0 == b.0);
        PolicyFiles { root: PathBuf::new(), files }
    }

    /// The folder it was read from; empty for a policy from memory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All files, sorted by relative path.
    pub fn all(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// The rule files in the order they run: by name.
    pub(super) fn rules(&self) -> impl Iterator<Item = &(String, Vec<u8>)> {
        self.files.iter().filter(|(path, _)| !path.contains('/') && path.ends_with(".lua"))
    }

    /// The test files by name.
    pub(super) fn tests(&self) -> impl Iterator<Item = &(String, Vec<u8>)> {
        self.files.iter().filter(|(path, _)| path.starts_with("tests/") && path.ends_with(".lua"))
    }

    /// The data files, each with the name that `table(...)` and `fixture(...)` know it by.
    pub(super) fn data<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str, &'a [u8])> {
        self.files.iter().filter_map(move |(path, bytes)| {
            let file = path.strip_prefix(folder)?.strip_prefix('/')?;
            let (name, _) = file.rsplit_once('.')?;
            Some((name, path.as_str(), bytes.as_slice()))
        })
    }

    /// Whether a rule or test file holds `text` word for word: then it is the author's text, and nobody else's.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".lua"))
            .any(|(_, source)| memchr::memmem::find(source, text.as_bytes()).is_some())
    }
}

fn read_folder(
    path: &Path,
    folder: &str,
    endings: &[&str],
    files: &mut Vec<(String, Vec<u8>)>,
    total: &mut u64,
) -> Result<()> {
    let failed = |what: &Path, e: std::io::Error| Error::io(format!("cannot read `{}`", what.display()), e);
    for entry in std::fs::read_dir(path).map_err(|e| failed(path, e))? {
        let entry = entry.map_err(|e| failed(path, e))?;
        let file = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let ending = name.rsplit_once('.').map(|(_, ending)| ending);
        if name.starts_with('.') || !ending.is_some_and(|ending| endings.contains(&ending)) || !file.is_file() {
            continue;
        }
        let size = std::fs::metadata(&file).map_err(|e| failed(&file, e))?.len();
        *total = total.saturating_add(size);
        if size > MAX_FILE || *total > MAX_TOTAL || files.len() >= MAX_FILES {
            let limits = format!("{MAX_FILES} files, {MAX_FILE} bytes each, {MAX_TOTAL} bytes in all");
            return Err(Error::new(
                Kind::Limit,
                format!("`{}` goes past the limits of a policy: {limits}", file.display()),
            )
            .on_side(crate::base::Side::Operator));
        }
        let bytes = std::fs::read(&file).map_err(|e| failed(&file, e))?;
        files.push((if folder.is_empty() { name } else { format!("{folder}/{name}") }, bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_belongs_to_a_policy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for (name, text) in
            [("b.lua", "--b"), ("a.lua", "--a"), ("notes.txt", "x"), (".a.lua", "x"), ("data/vip.csv", "id\n1")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let files = PolicyFiles::read(dir.path()).unwrap();
        let names: Vec<_> = files.all().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.lua", "b.lua", "data/vip.csv"]);
        assert!(PolicyFiles::read(&dir.path().join("absent")).is_err());
    }
}
