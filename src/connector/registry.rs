//! The connectors by name: an immutable snapshot, replaced as a whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::{BuildMap, Connector, Folder};

/// The connectors that are in force.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<String, Arc<Connector>>,
}

impl Registry {
    /// Loads the shipped folders and those of a project's `connectors/`; a project's folder of the same name replaces a
    /// shipped one whole. Broken folders are left out and described.
    pub fn load(embedded: &[Folder], project: Option<&Path>, map: Option<&BuildMap>) -> (Registry, Vec<Diagnostic>) {
        Registry::default().reload(embedded, project, map)
    }

    /// The next snapshot. A folder that did not change keeps its connector, and so does one that is broken now.
    pub fn reload(
        &self,
        embedded: &[Folder],
        project: Option<&Path>,
        map: Option<&BuildMap>,
    ) -> (Registry, Vec<Diagnostic>) {
        let mut wrong = Vec::new();
        let mut folders: BTreeMap<String, Option<Folder>> =
            embedded.iter().map(|folder| (folder.name.clone(), Some(folder.clone()))).collect();
        if let Some(project) = project {
            read_project(project, &mut folders, &mut wrong);
        }
        let mut next = Registry::default();
        for (name, folder) in folders {
            let old = self.connectors.get(&name);
            let loaded = match (folder, old) {
                (Some(folder), Some(old)) if folder.digest() == old.folder().digest() => Some(Arc::clone(old)),
                (Some(folder), old) => match Connector::load(Arc::new(folder), map) {
                    Ok(connector) => Some(Arc::new(connector)),
                    Err(found) => {
                        wrong.extend(found);
                        old.cloned()
                    }
                },
                (None, old) => old.cloned(),
            };
            next.connectors.extend(loaded.map(|connector| (name, connector)));
        }
        (next, wrong)
    }

    /// The connector of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Connector>> {
        self.connectors.get(name)
    }

    /// All of them, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Connector>> {
        self.connectors.values()
    }

    /// The name closest to one that is not there, as a sentence.
    pub fn nearest(&self, name: &str) -> Option<String> {
        super::diagnostic::nearest(name, self.connectors.keys().map(String::as_str))
    }
}

/// Adds a project's folders; one that cannot be read is marked, so that it does not fall back to a shipped one.
fn read_project(project: &Path, folders: &mut BTreeMap<String, Option<Folder>>, wrong: &mut Vec<Diagnostic>) {
    let entries = match std::fs::read_dir(project) {
        Ok(entries) => entries,
        // A project without connectors of its own has no such folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return wrong.push(Diagnostic::of_file(project.display().to_string(), error.to_string())),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        match Folder::read(&entry.path()) {
            Ok(folder) => folders.insert(name, Some(folder)),
            Err(diagnostic) => {
                wrong.push(diagnostic);
                folders.insert(name, None)
            }
        };
    }
}
