//! The file of keys that goes with an archive: without it, what is sealed stays closed.
//!
//! It begins with the line `segue keys 1`. Then follow frames (see [`frames`](super::frames)): `K` the root key
//! that the key store goes by; `R` a key, wrapped as it lies there: its number, its root key, the wrap; `E` the sum of the archive that it goes with, which ends them.

use std::io::{Read, Write};

use bytes::Bytes;

use super::frames::{Frames, Unframed, damaged, decode, encode};
use super::{Place, Row, Value};
use crate::base::Result;
use crate::store::seal::{KeyChest, KeyId, WrappedKey};

/// The first line.
const MAGIC: &[u8] = b"segue keys 1\n";
/// How many keys are taken at once.
const PIECE: usize = 1000;

/// Writes a key store beside the archive of this sum. Gives how many keys there are.
///
/// # Errors
///
/// If a key cannot be read or `out` not be written.
pub async fn save_keys(chest: &KeyChest, archive: &[u8; 32], out: &mut (dyn Write + Send)) -> Result<u64> {
    let (mut frames, mut content, mut count) = (Frames::begin(out, MAGIC)?, Vec::new(), 0);
    frames.frame(b'K', &chest.root().await?.unwrap_or_default())?;
    let mut after = None;
    loop {
        let some = chest.some(after).await?;
        let Some((last, _)) = some.last() else { break };
        after = Some(*last);
        for (id, key) in &some {
            content.clear();
            encode(&row(*id, key), &mut content);
            frames.frame(b'R', &content)?;
        }
        count += some.len() as u64;
    }
    frames.frame(b'E', archive)?;
    frames.end()?;
    Ok(count)
}

fn row(id: KeyId, key: &WrappedKey) -> Row {
    let bytes = |bytes: &[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
    vec![Value::Integer(id.0), bytes(&key.root), bytes(&key.bytes)]
}

/// Reads a file of keys.
struct Reader<R> {
    frames: Unframed<R>,
    archive: [u8; 32],
    root: [u8; 8],
}

impl<R: Read> Reader<R> {
    fn begin(from: R, archive: &[u8; 32]) -> Result<Reader<R>> {
        let mut frames = Unframed::begin(from, MAGIC, "this is no file of keys of segue, or one of another format")?;
        match frames.next()? {
            (b'K', root) => {
                let root = root.as_slice().try_into().map_err(|_| damaged("it names no root key"))?;
                Ok(Reader { frames, archive: *archive, root })
            }
            _ => Err(damaged("it does not begin with a root key")),
        }
    }

    /// The next keys; none once the file was found whole.
    fn some(&mut self) -> Result<Vec<(KeyId, WrappedKey)>> {
        let mut keys = Vec::new();
        while keys.len() < PIECE {
            match self.frames.next()? {
                (b'R', content) => keys.push(key(&decode(&content)?)?),
                (b'E', found) if found == self.archive => {
                    self.frames.end()?;
                    // Whoever asks again hears that there are no more.
                    return Ok(keys);
                }
                (b'E', _) => return Err(damaged("these keys go with another archive")),
                _ => return Err(damaged("it has a record of an unknown kind")),
            }
        }
        Ok(keys)
    }
}

fn key(row: &[Value]) -> Result<(KeyId, WrappedKey)> {
    match row {
        [Value::Integer(id), Value::Bytes(root), Value::Bytes(wrap)] => {
            let root = root.as_ref().try_into().map_err(|_| damaged("a key names no root key"))?;
            Ok((KeyId(*id), WrappedKey { root, bytes: wrap.to_vec() }))
        }
        _ => Err(damaged("a key has another form")),
    }
}

/// Reads a file of keys to its end. Gives how many there are.
///
/// # Errors
///
/// `Invalid` if the file is damaged or goes with another archive than that of this sum.
pub fn verify_keys(from: impl Read, archive: &[u8; 32]) -> Result<u64> {
    let (mut reader, mut count) = (Reader::begin(from, archive)?, 0);
    loop {
        let some = reader.some()?;
        count += some.len() as u64;
        if some.len() < PIECE {
            return Ok(count);
        }
    }
}

/// Fills the key store that goes with the store at a place from a file that was found whole.
///
/// # Errors
///
/// `Invalid` if the file is damaged or of another archive, `Conflict` if the key store goes by another root key.
pub async fn restore_keys(into: &Place, from: impl Read, archive: &[u8; 32]) -> Result<u64> {
    let (mut reader, chest, mut count) = (Reader::begin(from, archive)?, into.chest(true).await?, 0);
    loop {
        let some = reader.some()?;
        let (read, last) = (some.len() as u64, some.len() < PIECE);
        if !some.is_empty() {
            chest.take(reader.root, some).await?;
        }
        count += read;
        if last {
            return Ok(count);
        }
    }
}

/// Copies the key store of one store to that of another, as the keys lie: both go by the same root key.
///
/// # Errors
///
/// `Conflict` if the other goes by another root key.
pub async fn move_keys(from: &Place, to: &Place) -> Result<u64> {
    let (from, to) = (from.chest(false).await?, to.chest(true).await?);
    let Some(root) = from.root().await? else { return Ok(0) };
    let (mut after, mut count) = (None, 0);
    loop {
        let some = from.some(after).await?;
        let Some((last, _)) = some.last() else { return Ok(count) };
        after = Some(*last);
        count += some.len() as u64;
        to.take(root, some).await?;
    }
}
