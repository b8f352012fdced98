//! Content-Transfer-Encoding: from the bytes of a part to its content (RFC 2045, section 6), and uuencode.
//!
//! Every function takes broken input and gives what can be read of it, in one pass. Padding may be missing or stand in
//! the middle, bytes outside the alphabet are passed over, `=` without digits stays.

use std::borrow::Cow;

/// How the content of a part is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is: 7bit, 8bit, binary and whatever nobody knows.
    Identity,
    /// Base64.
    Base64,
    /// Quoted-printable.
    QuotedPrintable,
    /// Uuencode, with its `begin` line.
    Uuencode,
}

impl Encoding {
    /// Reads the value of a Content-Transfer-Encoding field. Comments, parameters and blanks do not count.
    pub fn of(value: &str) -> Encoding {
        let name: String = value
            .chars()
            .take_while(|c| !matches!(c, ';' | '('))
            .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '"'))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        match name.as_str() {
            "base64" => Encoding::Base64,
            "quotedprintable" => Encoding::QuotedPrintable,
            "xuuencode" | "uuencode" | "xuue" | "uue" => Encoding::Uuencode,
            _ => Encoding::Identity,
        }
    }
}

/// The content of `body` and whether something in it was broken.
pub fn decode(encoding: Encoding, body: &[u8]) -> (Cow<'_, [u8]>, bool) {
    match encoding {
        Encoding::Identity => (Cow::Borrowed(body), false),
        Encoding::Base64 if !is_base64(body) => (Cow::Borrowed(body), true),
        Encoding::Base64 => owned(base64(body)),
        Encoding::QuotedPrintable => owned(quoted_printable(body)),
        Encoding::Uuencode => match uu_blocks(body).next() {
            Some(block) => (Cow::Owned(block.content()), false),
            None => (Cow::Borrowed(body), true),
        },
    }
}

fn owned((content, damaged): (Vec<u8>, bool)) -> (Cow<'static, [u8]>, bool) {
    (Cow::Owned(content), damaged)
}

/// Whether most of `body` can be base64 at all: plain words under a wrong label are better left as they are.
fn is_base64(body: &[u8]) -> bool {
    let start = body.get(..4096).unwrap_or(body);
    let (mut good, mut bad, mut before) = (0_usize, 0_usize, b'\n');
    for &byte in start {
        match byte {
            b' ' | b'\t' if sextet(before).is_some() => bad += 1,
            b' ' | b'\t' | b'\r' | b'\n' | b'=' => {}
            _ if sextet(byte).is_some() => good += 1,
            _ => bad += 1,
        }
        before = byte;
    }
    good >= bad * 8
}

/// The value of a base64 digit.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Decodes base64, and says whether it was broken. What follows the padding is read on only if its line looks like
/// base64: mailing lists put their words there.
pub fn base64(body: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::with_capacity(body.len() / 4 * 3 + 3);
    let (mut bits, mut held, mut damaged, mut padded) = (0_u32, 0_u8, false, false);
    for (at, &byte) in body.iter().enumerate() {
        let Some(value) = sextet(byte) else {
            if byte == b'=' {
                flush(&mut content, bits, held);
                (bits, held, padded) = (0, 0, true);
            } else {
                damaged |= !byte.is_ascii_whitespace();
            }
            continue;
        };
        if std::mem::take(&mut padded) && !goes_on(body, at) {
            return (content, true);
        }
        bits = (bits << 6) | u32::from(value);
        held += 1;
        if held == 4 {
            flush(&mut content, bits, held);
            (bits, held) = (0, 0);
        }
    }
    flush(&mut content, bits, held);
    (content, damaged || held == 1)
}

/// Writes what `held` digits of base64 give.
fn flush(content: &mut Vec<u8>, bits: u32, held: u8) {
    let [_, a, b, c] = match held {
        2 => (bits << 12).to_be_bytes(),
        3 => (bits << 6).to_be_bytes(),
        _ => bits.to_be_bytes(),
    };
    let whole = [a, b, c];
    content.extend(whole.iter().take(usize::from(held.saturating_sub(1))));
}

/// Whether what stands behind padding, from `at`, is base64 again: right behind it, or a line of nothing else.
fn goes_on(body: &[u8], at: usize) -> bool {
    match at.checked_sub(1).and_then(|before| body.get(before)) {
        Some(b'=') => true,
        Some(b'\n' | b'\r') => {
            let line = body.get(at..).unwrap_or_default();
            let line = line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let line = line.get(..100).unwrap_or(line).trim_ascii_end();
            line.len() % 4 == 0 && line.iter().all(|byte| sextet(*byte).is_some() || *byte == b'=')
        }
        _ => false,
    }
}

/// Decodes quoted-printable, and says whether it was broken. Line ends stay as they are; blanks before them go.
pub fn quoted_printable(body: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::with_capacity(body.len());
    let mut damaged = false;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let end = if line.ends_with(b"\r\n") {
            &b"\r\n"[..]
        } else if line.ends_with(b"\n") {
            &b"\n"[..]
        } else {
            &b""[..]
        };
        let (text, end) = match text.strip_suffix(b"=") {
            Some(text) => (text, &b""[..]),
            None => (text, end),
        };
        damaged |= escapes(text, &mut content);
        content.extend_from_slice(end);
    }
    (content, damaged)
}

/// Writes `text` with its `=XX` read. True if an `=` had no two digits.
fn escapes(text: &[u8], content: &mut Vec<u8>) -> bool {
    let mut damaged = false;
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let (plain, after) = rest.split_at(at);
        content.extend_from_slice(plain);
        match after.get(1..3).and_then(hex) {
            Some(byte) => {
                content.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                damaged = true;
                content.push(b'=');
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
    content.extend_from_slice(rest);
    damaged
}

/// The byte that two hexadecimal digits stand for.
pub fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// How many zeros that are missing are put into a uuencoded file; into a larger one as many as it has bytes.
const ZEROS_MOST: usize = 64 << 10;

/// A uuencoded file within text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UuBlock<'a> {
    /// The name on its `begin` line.
    pub name: &'a [u8],
    /// Where the block stands in the text: from its `begin` line to behind its `end` line, in bytes.
    pub start: usize,
    /// See `start`.
    pub end: usize,
    lines: &'a [u8],
}

impl UuBlock<'_> {
    /// What the file holds.
    pub fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.lines.len() / 4 * 3);
        let mut zeros_left = self.lines.len().max(ZEROS_MOST);
        for line in self.lines.split(|byte| *byte == b'\n') {
            let Some((&count, digits)) = line.trim_ascii_end().split_first() else { continue };
            let count = usize::from(count.wrapping_sub(32) & 63);
            let from = content.len();
            for group in digits.chunks(4) {
                let bits = (0..4).fold(0_u32, |bits, n| {
                    let digit = group.get(n).map_or(0, |byte| byte.wrapping_sub(32) & 63);
                    (bits << 6) | u32::from(digit)
                });
                let [_, bytes @ ..] = bits.to_be_bytes();
                content.extend_from_slice(&bytes);
            }
            content.truncate(from + count);
            // Blanks at the end of a line, which stand for zeros, are often lost. Nobody is to make a file of nothing else.
            let zeros = (from + count).saturating_sub(content.len()).min(zeros_left);
            zeros_left -= zeros;
            content.resize(content.len() + zeros, 0);
        }
        content
    }
}

/// The uuencoded files in `text`, in order. A block without its `end` line is none.
pub fn uu_blocks(text: &[u8]) -> impl Iterator<Item = UuBlock<'_>> {
    let mut at = 0;
    let mut no_end = false;
    std::iter::from_fn(move || {
        while !no_end && let Some((start, after, name)) = begin(text, at) {
            at = after;
            if !first_line_fits(text.get(after..).unwrap_or_default()) {
                continue;
            }
            let Some((lines, end)) = uu_end(text, after) else {
                // Without an end behind this one there is none behind a later one either.
                no_end = true;
                break;
            };
            at = end;
            return Some(UuBlock { name, start, end, lines });
        }
        None
    })
}

/// The next `begin 644 name` line at or behind `from`: where it starts, where the next line starts, the name.
fn begin(text: &[u8], from: usize) -> Option<(usize, usize, &[u8])> {
    let rest = text.get(from..)?;
    for at in memchr::memmem::find_iter(rest, b"begin ") {
        if at > 0 && rest.get(at - 1) != Some(&b'\n') {
            continue;
        }
        let line_end = memchr::memchr(b'\n', rest.get(at..)?).map_or(rest.len(), |end| at + end + 1);
        let line = rest.get(at + 6..line_end)?.trim_ascii();
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let (3..=5, Some((b' ', name))) = (digits, line.get(digits..)?.split_first())
            && !name.is_empty()
        {
            return Some((from + at, from + line_end, name));
        }
    }
    None
}

/// The lines up to an `end` line behind `from`, and where the text goes on.
fn uu_end(text: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = text.get(from..)?;
    for at in memchr::memmem::find_iter(rest, b"end") {
        let line_end = memchr::memchr(b'\n', rest.get(at..)?).map_or(rest.len(), |end| at + end + 1);
        let starts = at == 0 || rest.get(at - 1) == Some(&b'\n');
        if starts && rest.get(at..line_end)?.trim_ascii_end() == b"end" {
            return Some((rest.get(..at)?, from + line_end));
        }
    }
    None
}

/// Whether the first line is as long as its first byte says; prose is not.
fn first_line_fits(lines: &[u8]) -> bool {
    let line = lines.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let Some((&count, digits)) = line.split_first() else { return true };
    let wanted = usize::from(count.wrapping_sub(32) & 63).div_ceil(3) * 4;
    // Blanks at the end, which stand for zero, are often lost; a checksum may follow.
    (32..=96).contains(&count) && digits.len() <= wanted + 2 && digits.len() + 8 >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_encodings() {
        assert_eq!(Encoding::of("Base64 (text)"), Encoding::Base64);
        assert_eq!(Encoding::of("quoted printable"), Encoding::QuotedPrintable);
        assert_eq!(Encoding::of("quoted-printable;"), Encoding::QuotedPrintable);
        assert_eq!(Encoding::of("X-uuencode"), Encoding::Uuencode);
        assert_eq!(Encoding::of("8 bit"), Encoding::Identity);
    }

    #[test]
    fn base64_broken_in_the_usual_ways() {
        assert_eq!(base64(b"aGVs\r\nbG8="), (b"hello".to_vec(), false));
        assert_eq!(base64(b"aGVsbG8"), (b"hello".to_vec(), false));
        assert_eq!(base64(b"aGk=aGk="), (b"hihi".to_vec(), false));
        assert_eq!(base64(b"aGk=\r\n_____\r\nto leave the list"), (b"hi".to_vec(), true));
        assert_eq!(base64(b"aGk= words"), (b"hi".to_vec(), true));
        assert_eq!(base64(b"aGk=\naGk=\n"), (b"hihi".to_vec(), false));
        assert_eq!(base64(b"aG*k="), (b"hi".to_vec(), true));
        assert_eq!(
            decode(Encoding::Base64, b"These are plain words, nothing else."),
            (Cow::Borrowed(&b"These are plain words, nothing else."[..]), true)
        );
    }

    #[test]
    fn quoted_printable_broken_in_the_usual_ways() {
        assert_eq!(
            quoted_printable(b"caf=C3=a9 =\r\nau lait  \r\nx"),
            ("caf\u{e9} au lait\r\nx".as_bytes().to_vec(), false)
        );
        assert_eq!(quoted_printable(b"a = b=zz"), (b"a = b=zz".to_vec(), true));
        assert_eq!(quoted_printable(b"a=  \nb"), (b"ab".to_vec(), false));
        assert_eq!(quoted_printable(b"end="), (b"end".to_vec(), false));
    }

    #[test]
    fn uuencoded_files_are_found_in_text() {
        let text = b"see this\nbegin 644 cat.txt\n#0V%T\n`\nend\nbye\nbegin 644 talk\nno code here at all\nend\n";
        let blocks: Vec<_> = uu_blocks(text).collect();
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].name, blocks[0].content()), (&b"cat.txt"[..], b"Cat".to_vec()));
        assert_eq!(&text[blocks[0].end..][..4], b"bye\n");
    }

    #[test]
    fn zeros_that_were_lost_at_the_ends_of_lines_are_put_in_within_bounds() {
        let content = |lines: &str| {
            let text = format!("begin 644 a\n#0V%T\n{lines}`\nend\n");
            uu_blocks(text.as_bytes()).next().map(|block| block.content()).unwrap()
        };
        assert_eq!(content("#0V\n#\n#0V%T\n"), b"CatC\x60\0\0\0\0Cat");
        let many = content(&"_\n".repeat(1 << 20));
        assert_eq!(
            (many.len(), many.iter().all(|byte| *byte == 0 || b"Cat".contains(byte))),
            (3 + (2 << 20) + 8, true)
        );
        assert!(content(&("_\n".repeat(1 << 20) + "#0V%T\n")).ends_with(b"Cat"), "what is there is never lost");
    }

    proptest! {
        #[test]
        fn base64_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let written = data_encoding::BASE64_MIME.encode(&bytes);
            prop_assert_eq!(base64(written.as_bytes()), (bytes, false));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'\n'), Just(b'e'), any::<u8>()], 0..300)) {
            base64(&bytes);
            quoted_printable(&bytes);
            let mut text = b"begin 644 x\n".to_vec();
            text.extend_from_slice(&bytes);
            text.extend_from_slice(b"\nend\n");
            for block in uu_blocks(&text) {
                block.content();
            }
        }
    }
}
