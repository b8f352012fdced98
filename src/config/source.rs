//! A configuration file as text, with what is needed to say where something stands in it.

use std::io::Read;
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
    /// Where its lines begin, so that a file full of faults costs no more than its length.
    lines: Vec<usize>,
    /// Whether everybody on this machine can read it.
    pub(super) open_to_all: bool,
}

impl Source {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Box<Problem>> {
        let refused = |reason: String| Box::new(Problem::new(Place::file(path), "", reason));
        let meta = std::fs::metadata(path).map_err(|error| refused(format!("cannot be read: {}", told(&error))))?;
        let bytes = read_capped(path, MAX_BYTES).map_err(|reason| refused(format!("cannot be read: {reason}")))?;
        let mut source = Source::from_bytes(path, &bytes)?;
        source.open_to_all = open_to_all(&meta);
        Ok(source)
    }

    /// Takes `bytes` for the content of `path`.
    pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Box<Problem>> {
        let valid = std::str::from_utf8(bytes);
        let fault = valid.err().map(|error| error.valid_up_to());
        let text = String::from_utf8_lossy(fault.and_then(|end| bytes.get(..end)).unwrap_or(bytes));
        // Editors on Windows put a byte order mark in front; it is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let source = Source { path: path.to_owned(), text, lines, open_to_all: false };
        match fault {
            None => Ok(source),
            Some(_) => {
                let end = source.text.len();
                Err(Box::new(Problem::new(source.place(&(end..end)), "", "not UTF-8 text")))
            }
        }
    }

    /// Where the byte range `span` begins.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let offset = span.start.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // Every character has exactly one byte that is not a continuation of it.
        let column = before.iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: self.path.clone(), line: number(line), column: number(column) }
    }
}

/// The content of a file of at most `most` bytes. What the file system says of its size is not believed: devices and
/// pipes have none.
pub(super) fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| told(&error))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| told(&error))?;
    if bytes.len() as u64 > most { Err(format!("larger than {} MiB", most >> 20)) } else { Ok(bytes) }
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
