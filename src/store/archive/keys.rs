//! The file of keys that goes with an archive: without it, what is sealed stays closed.
//!
//! It begins with the line `segue keys 1`. Then follow frames (see [`frames`](super::frames)): `R` a row of the key store,
//! wrapped as it lies there; `E` the sum of the archive that it goes with, which ends them.

use std::io::{Read, Write};

use super::frames::{Frames, Unframed, damaged, decode, encode};
use super::{Place, Row};
use crate::base::Result;

/// The first line.
const MAGIC: &[u8] = b"segue keys 1\n";

/// Writes the rows of a key store beside the archive of this sum. Gives how many there are.
///
/// # Errors
///
/// If a row cannot be read or `out` not be written.
pub fn save_keys(
    rows: impl Iterator<Item = Result<Row>>,
    archive: &[u8; 32],
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let (mut frames, mut content, mut count) = (Frames::begin(out, MAGIC)?, Vec::new(), 0);
    for row in rows {
        content.clear();
        encode(&row?, &mut content);
        frames.frame(b'R', &content)?;
        count += 1;
    }
    frames.frame(b'E', archive)?;
    frames.end()?;
    Ok(count)
}

/// Reads the rows of a key store, each into `take`, which must do nothing that lasts before this has found the file whole.
/// Gives how many there are.
///
/// # Errors
///
/// `Invalid` if the file is damaged or goes with another archive than that of this sum.
pub fn load_keys(from: impl Read, archive: &[u8; 32], mut take: impl FnMut(Row) -> Result<()>) -> Result<u64> {
    let mut frames = Unframed::begin(from, MAGIC, "this is no file of keys of segue, or one of another format")?;
    let mut count = 0;
    loop {
        match frames.next()? {
            (b'R', content) => {
                take(decode(&content)?)?;
                count += 1;
            }
            (b'E', found) if found == archive => break,
            (b'E', _) => return Err(damaged("these keys go with another archive")),
            _ => return Err(damaged("it has a record of an unknown kind")),
        }
    }
    frames.end()?;
    Ok(count)
}

/// The rows of the key store that goes with the store at a place, wrapped as they lie. Values lie as they are meant so far,
/// so there is none.
///
/// # Errors
///
/// If the key store cannot be read.
pub async fn key_rows(_: &Place) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
    Ok(std::iter::empty())
}

/// Fills the key store that goes with the store at a place, and finds whether its keys cover what the store holds.
///
/// # Errors
///
/// `Invalid` if the file is damaged, of another archive, or lacks a key.
pub async fn restore_keys(_: &Place, from: impl Read, archive: &[u8; 32]) -> Result<u64> {
    load_keys(from, archive, |_| Ok(()))
}
