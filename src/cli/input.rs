//! Input files: read whole, up to a bound, with `-` for standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::{Error, Kind, Result, Side};

/// The largest input that is read, in bytes.
const MOST_BYTES: u64 = 64 << 20;

/// The bytes of a file, or of standard input if its name is `-`.
///
/// # Errors
///
/// [`Kind::NotFound`] if it cannot be opened, [`Kind::Io`] if it cannot be read, [`Kind::Limit`] if it is larger than
/// 64 MiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if is_stdin(path) {
        return all(std::io::stdin().lock(), "standard input");
    }
    let name = format!("`{}`", path.display());
    let file = File::open(path).map_err(|error| Error::not_found(format!("cannot open {name}")).because(error))?;
    all(file, &name)
}

/// Whether a name stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn all(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(format!("failed to read {name}"), error))?;
    if bytes.len() as u64 > MOST_BYTES {
        let reason = format!("{name} is larger than {} MiB", MOST_BYTES >> 20);
        return Err(Error::new(Kind::Limit, reason).on_side(Side::Operator).with_retry(crate::base::Retry::Never));
    }
    Ok(bytes)
}
