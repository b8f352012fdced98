//! Compressed rich text (MS-OXRTFCP): runs of literals and of references into a window of 4096 bytes.

use super::props::Bytes;

/// What the window holds at the start.
const START: &[u8] = b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \
\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";
const COMPRESSED: u32 = 0x7546_5A4C;
const PLAIN: u32 = 0x414C_454D;
const WINDOW: usize = 4096;

/// Unpacks `data` into at most `most` bytes. `None` if it does not begin like compressed rich text. Data that breaks off
/// gives what stood before.
pub(super) fn unpack(data: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut bytes = Bytes(data);
    let _packed_size = bytes.u32()?;
    let size = (bytes.u32()? as usize).min(most);
    let magic = bytes.u32()?;
    let _checksum = bytes.u32()?;
    match magic {
        PLAIN => Some(bytes.0.get(..size).unwrap_or(bytes.0).to_vec()),
        COMPRESSED => Some(inflate(bytes, size)),
        _ => None,
    }
}

fn inflate(mut bytes: Bytes<'_>, size: usize) -> Vec<u8> {
    // The window is the last 4096 bytes of the start and of all that was unpacked.
    let mut out = START.to_vec();
    let end = START.len() + size;
    while out.len() < end {
        let Some([control]) = bytes.take(1) else { break };
        for bit in 0..8 {
            let more =
                if control >> bit & 1 == 0 { literal(&mut bytes, &mut out) } else { copied(&mut bytes, &mut out, end) };
            if more.is_none() || out.len() >= end {
                out.truncate(end);
                return out.split_off(START.len().min(out.len()));
            }
        }
    }
    out.split_off(START.len().min(out.len()))
}

fn literal(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(bytes.take(1)?);
    Some(())
}

/// Copies 2 to 17 bytes from the window. `None` at the end: a reference to where the next byte goes.
fn copied(bytes: &mut Bytes<'_>, out: &mut Vec<u8>, end: usize) -> Option<()> {
    let [high, low] = bytes.take(2)? else { return None };
    let reference = usize::from(u16::from_be_bytes([*high, *low]));
    let (offset, length) = (reference >> 4, (reference & 0xF) + 2);
    // How far back it lies: offsets count in a ring in which the next byte goes to `out.len() % WINDOW`.
    let back = (WINDOW + out.len() % WINDOW - offset) % WINDOW;
    if back == 0 {
        return None;
    }
    for _ in 0..length {
        // Places that were never written hold zero.
        let byte = out.len().checked_sub(back).and_then(|at| out.get(at)).copied().unwrap_or(0);
        out.push(byte);
        if out.len() >= end {
            break;
        }
    }
    Some(())
}
