//! A configuration file as text, with what is needed to say where something stands in it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};

/// The largest configuration file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// One file, read whole.
#[derive(Debug)]
pub(super) struct Source {
    /// The path, as it is shown.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// Whether everybody on this machine can read it.
    pub(super) open_to_all: bool,
}

impl Source {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Box<Problem>> {
        let refused = |reason: String| Box::new(Problem::new(Place::file(path), "", reason));
        let meta = std::fs::metadata(path).map_err(|error| refused(format!("cannot be read: {}", told(&error))))?;
        if meta.len() > MAX_BYTES {
            return Err(refused(format!("larger than {} MiB", MAX_BYTES >> 20)));
        }
        let bytes = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {}", told(&error))))?;
        let mut source = Source::from_bytes(path, &bytes)?;
        source.open_to_all = open_to_all(&meta);
        Ok(source)
    }

    /// Takes `bytes` for the content of `path`.
    pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Box<Problem>> {
        match std::str::from_utf8(bytes) {
            // Editors on Windows put a byte order mark in front; it is no part of the text.
            Ok(text) => Ok(Source {
                path: path.to_owned(),
                text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
                open_to_all: false,
            }),
            Err(error) => {
                let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
                let (line, column) = position(&before, before.len());
                let place = Place { file: path.to_owned(), line, column };
                Err(Box::new(Problem::new(place, "", "not UTF-8 text")))
            }
        }
    }

    /// Where the byte range `span` begins.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = position(&self.text, span.start);
        Place { file: self.path.clone(), line, column }
    }
}

/// Line and column, both from 1, of the byte `offset` in `text`.
fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let before = text.get(..end).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The operating system's reason in the words of a message: lower case, without the number.
pub(super) fn told(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        kind => kind.to_string(),
    }
}

#[cfg(unix)]
fn open_to_all(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn open_to_all(_: &std::fs::Metadata) -> bool {
    false
}
