//! Framed records, as archives and files of keys are made of.
//!
//! A first line tells what the file is. Each frame is a length (32 bits, big-endian), a tag of one byte and as many bytes of
//! content. The last 32 bytes of the file are the SHA-256 of everything before them. A row is its values, each a tag and
//! then for a number 8 bytes (big-endian), for text and bytes a length (32 bits) and the bytes.

use std::io::{Read, Write};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use serde::Serialize;

use super::{Row, Value};
use crate::base::{Error, Result};

/// The longest frame that is believed, in bytes: PostgreSQL's longest value and a little.
const LONGEST: u32 = (1 << 30) + (1 << 20);

/// Appends a row's values.
pub(super) fn encode(row: &[Value], to: &mut Vec<u8>) {
    let long = |tag: u8, bytes: &[u8], to: &mut Vec<u8>| {
        to.push(tag);
        to.extend((bytes.len() as u32).to_be_bytes());
        to.extend(bytes);
    };
    for value in row {
        match value {
            Value::Null => to.push(0),
            Value::Integer(number) => {
                to.push(1);
                to.extend(number.to_be_bytes());
            }
            Value::Text(text) => long(2, text.as_bytes(), to),
            Value::Bytes(bytes) => long(3, bytes, to),
        }
    }
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Row> {
    let mut row = Row::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (value, rest) = one(*tag, rest).ok_or_else(|| damaged("a row ends in the middle of a value"))?;
        row.push(value);
        bytes = rest;
    }
    Ok(row)
}

fn one(tag: u8, bytes: &[u8]) -> Option<(Value, &[u8])> {
    if tag == 0 {
        return Some((Value::Null, bytes));
    }
    if tag == 1 {
        let (number, rest) = bytes.split_first_chunk()?;
        return Some((Value::Integer(i64::from_be_bytes(*number)), rest));
    }
    let (length, rest) = bytes.split_first_chunk()?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    match tag {
        2 => Some((Value::Text(std::str::from_utf8(content).ok()?.to_owned()), rest)),
        3 => Some((Value::Bytes(Bytes::copy_from_slice(content)), rest)),
        _ => None,
    }
}

/// The error of a file that is not what was written.
pub(super) fn damaged(what: &str) -> Error {
    Error::invalid(format!("the file is damaged or cut off: {what}; use another copy"))
}

fn sum(digest: Context) -> [u8; 32] {
    digest.finish().as_ref().try_into().unwrap_or_default()
}

/// Writes frames and sums them up.
pub(super) struct Frames<'a> {
    out: &'a mut (dyn Write + Send),
    digest: Context,
}

impl<'a> Frames<'a> {
    /// Begins with the first line.
    pub(super) fn begin(out: &'a mut (dyn Write + Send), magic: &[u8]) -> Result<Self> {
        let mut frames = Frames { out, digest: Context::new(&SHA256) };
        frames.write(magic)?;
        Ok(frames)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(|e| Error::io("failed to write the file", e))
    }

    /// Writes one frame.
    pub(super) fn frame(&mut self, tag: u8, content: &[u8]) -> Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| Error::internal("a row is too long for an archive"))?;
        self.write(&length.to_be_bytes())?;
        self.write(&[tag])?;
        self.write(content)
    }

    /// Writes one frame of JSON.
    pub(super) fn json(&mut self, tag: u8, content: &impl Serialize) -> Result<()> {
        let content = serde_json::to_vec(content)
            .map_err(|e| Error::internal("an archive's header cannot be written").because(e))?;
        self.frame(tag, &content)
    }

    /// Ends with the sum, which it gives.
    pub(super) fn end(self) -> Result<[u8; 32]> {
        let sha256 = sum(self.digest);
        let written = self.out.write_all(&sha256).and_then(|()| self.out.flush());
        written.map_err(|e| Error::io("failed to write the file", e))?;
        Ok(sha256)
    }
}

/// Reads frames and sums them up.
pub(super) struct Unframed<R> {
    from: R,
    digest: Context,
}

impl<R: Read> Unframed<R> {
    /// Reads the first line; where it is another, `otherwise` is said.
    pub(super) fn begin(mut from: R, magic: &[u8], otherwise: &'static str) -> Result<Self> {
        let mut found = vec![0; magic.len()];
        if from.read_exact(&mut found).is_err() || found != magic {
            return Err(Error::invalid(otherwise));
        }
        let mut digest = Context::new(&SHA256);
        digest.update(magic);
        Ok(Unframed { from, digest })
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.from.read_exact(&mut head).map_err(|_| damaged("it ends early"))?;
        self.digest.update(&head);
        let [a, b, c, d, tag] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length > LONGEST {
            return Err(damaged("a record is longer than any can be"));
        }
        let mut content = Vec::new();
        // Grows with what is there, whatever length is claimed.
        let read = (&mut self.from).take(length.into()).read_to_end(&mut content);
        read.map_err(|e| Error::io("failed to read the file", e))?;
        if content.len() != length as usize {
            return Err(damaged("it ends early"));
        }
        self.digest.update(&content);
        Ok((tag, content))
    }

    /// Reads the sum, which must be that of what was read and the last of the file.
    pub(super) fn end(&mut self) -> Result<[u8; 32]> {
        let sha256 = sum(std::mem::replace(&mut self.digest, Context::new(&SHA256)));
        let mut last = Vec::new();
        let read = (&mut self.from).take(33).read_to_end(&mut last);
        read.map_err(|e| Error::io("failed to read the file", e))?;
        if last != sha256 { Err(damaged("its sum is not that of its content")) } else { Ok(sha256) }
    }
}
