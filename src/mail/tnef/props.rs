//! The blocks of MAPI properties in a TNEF stream (MS-OXTNEF, section 2.1.3.4).

use encoding_rs::{Encoding, UTF_16LE};

/// Bytes read from the front, little-endian.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// The next `count` bytes, and what fills them up to a multiple of four.
    fn padded(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.take(count)?;
        self.take((4 - count % 4) % 4)?;
        Some(taken)
    }
}

/// A property's value, the first of several.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// A number of at most four bytes.
    Number(u32),
    /// A text in the stream's code page.
    Narrow(&'a [u8]),
    /// A text in UTF-16.
    Wide(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An object, with the 16 bytes that name its interface.
    Object(&'a [u8]),
    /// Anything else.
    Other,
}

impl Value<'_> {
    /// The value as text up to its closing zero, if it is one or bytes. `None` if it is empty.
    pub(super) fn text(self, codepage: &'static Encoding) -> Option<String> {
        match self {
            Value::Narrow(data) | Value::Bytes(data) => super::text(data, codepage),
            Value::Wide(data) => {
                let text = UTF_16LE.decode_without_bom_handling(data).0;
                let text = text.split('\0').next().unwrap_or_default();
                (!text.is_empty()).then(|| text.to_owned())
            }
            Value::Number(_) | Value::Object(_) | Value::Other => None,
        }
    }
}

/// A property.
pub(super) struct Prop<'a> {
    /// Its id; named ones have an id from 0x8000 on.
    pub(super) id: u16,
    /// Its value.
    pub(super) value: Value<'a>,
}

/// The properties of a block, at most `most`, up to the first that cannot be read.
pub(super) fn read(data: &[u8], most: usize) -> impl Iterator<Item = Prop<'_>> {
    let mut bytes = Bytes(data);
    let count = bytes.u32().unwrap_or(0) as usize;
    (0..count.min(most)).map_while(move |_| prop(&mut bytes))
}

fn prop<'a>(bytes: &mut Bytes<'a>) -> Option<Prop<'a>> {
    let (kind, id) = (bytes.u16()?, bytes.u16()?);
    if id >= 0x8000 {
        bytes.take(16)?;
        let by_name = bytes.u32()? == 1;
        let length = bytes.u32()? as usize;
        // By number the four bytes just read are the number itself.
        if by_name {
            bytes.padded(length)?;
        }
    }
    let several = kind & 0x1000 != 0;
    let base = kind & 0x0FFF;
    let counted = several || matches!(base, 0x000D | 0x001E | 0x001F | 0x0102);
    let count = if counted { bytes.u32()? } else { 1 };
    let mut first = None;
    // Each value takes bytes, so that the block's length bounds this.
    for _ in 0..count {
        let value = value(bytes, base)?;
        first.get_or_insert(value);
    }
    Some(Prop { id, value: first.unwrap_or(Value::Other) })
}

fn value<'a>(bytes: &mut Bytes<'a>, base: u16) -> Option<Value<'a>> {
    let variable = |bytes: &mut Bytes<'a>| {
        let length = bytes.u32()? as usize;
        bytes.padded(length)
    };
    Some(match base {
        0x0002 | 0x0003 | 0x000A | 0x000B => Value::Number(bytes.u32()?),
        0x0001 | 0x0004 => {
            bytes.take(4)?;
            Value::Other
        }
        0x0005 | 0x0006 | 0x0007 | 0x0014 | 0x0040 => {
            bytes.take(8)?;
            Value::Other
        }
        0x0048 => {
            bytes.take(16)?;
            Value::Other
        }
        0x000D => Value::Object(variable(bytes)?),
        0x001E => Value::Narrow(variable(bytes)?),
        0x001F => Value::Wide(variable(bytes)?),
        0x0102 => Value::Bytes(variable(bytes)?),
        _ => return None,
    })
}
