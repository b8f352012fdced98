//! A connector's folder in memory: shipped with the binary, or read from a project.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::Diagnostic;
use crate::base::hash::sha256_parts;

include!(concat!(env!("OUT_DIR"), "/connectors.rs"));

/// The largest file that is read from a connector's folder.
const MOST_BYTES: u64 = 1 << 20;
/// The most files that are read from a connector's folder.
const MOST_FILES: usize = 1000;

/// A connector's folder: its name and its files by path within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder's name, which is the connector's.
    pub name: String,
    /// Content by path, with `/` between the steps.
    pub files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl Folder {
    /// The folders that the binary carries.
    pub fn embedded() -> Vec<Folder> {
        let folder = |(name, files): &Shipped| Folder {
            name: (*name).to_owned(),
            files: files.iter().map(|(path, content)| ((*path).to_owned(), Cow::Borrowed(*content))).collect(),
        };
        EMBEDDED.iter().map(folder).collect()
    }

    /// Reads a folder from disk. Hidden files and what is no plain file are left out.
    ///
    /// # Errors
    ///
    /// A diagnostic that names the file that cannot be read or is too large.
    pub fn read(path: &Path) -> Result<Folder, Diagnostic> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut folder = Folder { name: name.clone(), files: BTreeMap::new() };
        let mut todo = vec![(path.to_owned(), String::new(), 0)];
        while let Some((directory, prefix, depth)) = todo.pop() {
            let broken = |error: std::io::Error| Diagnostic::of_file(format!("{name}/{prefix}"), error.to_string());
            for entry in std::fs::read_dir(&directory).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let file = entry.file_name().to_string_lossy().into_owned();
                let metadata = entry.metadata().map_err(broken)?;
                let inner = format!("{prefix}{file}");
                if file.starts_with('.') || depth > 4 {
                    continue;
                }
                if metadata.is_dir() {
                    todo.push((entry.path(), format!("{inner}/"), depth + 1));
                } else if metadata.is_file() {
                    if metadata.len() > MOST_BYTES || folder.files.len() >= MOST_FILES {
                        return Err(Diagnostic::of_file(format!("{name}/{inner}"), "too large, or one file too many"));
                    }
                    let content = std::fs::read(entry.path()).map_err(broken)?;
                    folder.files.insert(inner, Cow::Owned(content));
                }
            }
        }
        Ok(folder)
    }

    /// A file as text.
    pub(super) fn text(&self, path: &str) -> Option<Result<&str, Diagnostic>> {
        let content = self.files.get(path)?;
        Some(
            std::str::from_utf8(content).map_err(|_| Diagnostic::of_file(format!("{}/{path}", self.name), "not UTF-8")),
        )
    }

    /// The files that rule, by path: not the samples, not the README.
    pub fn ruling(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let ruling = |path: &str| !path.starts_with("samples/") && path != "README.md";
        self.files.iter().filter(move |(path, _)| ruling(path)).map(|(path, content)| (path.as_str(), content.as_ref()))
    }

    /// A digest over the files that rule: equal folders behave alike.
    pub fn digest(&self) -> [u8; 32] {
        let parts: Vec<&[u8]> = self.ruling().flat_map(|(path, content)| [path.as_bytes(), content]).collect();
        sha256_parts(&parts)
    }
}
