//! The content of a mail in `DATA` (RFC 5321, sections 4.1.1.4 and 4.5.2): where it ends, and its doubled dots undone.
//!
//! Only CR LF ends a line here. A dot after a bare LF or a bare CR is content like any other, and so are those
//! themselves: a server that takes them for line ends lets one mail smuggle in another (CVE-2023-51764). What comes out
//! does not depend on how the bytes were cut on their way.

use memchr::memchr;

/// Reads the content piece by piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dots(At);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    Start,
    /// Behind the dot that a line starts with; it is not content.
    Dot,
    /// Behind that dot and a CR, which is content unless a LF follows.
    DotCr,
    /// Within a line; whether the last byte was a CR.
    Within { cr: bool },
}

impl Dots {
    pub(super) fn new() -> Self {
        Dots(At::Start)
    }

    /// Reads `input` and hands its content to `part`, in order. Returns what stands behind the end once that has come;
    /// then the reader is at the start of another mail.
    pub(super) fn feed<'a>(&mut self, input: &'a [u8], mut part: impl FnMut(&'a [u8])) -> Option<&'a [u8]> {
        let mut rest = input;
        while let Some((&first, behind)) = rest.split_first() {
            match (self.0, first) {
                (At::Start, b'.') => (self.0, rest) = (At::Dot, behind),
                (At::Dot, b'\r') => (self.0, rest) = (At::DotCr, behind),
                (At::DotCr, b'\n') => {
                    self.0 = At::Start;
                    return Some(behind);
                }
                (At::DotCr, _) => {
                    part(b"\r");
                    self.0 = At::Within { cr: true };
                }
                (At::Start | At::Dot, _) => self.0 = At::Within { cr: false },
                (At::Within { cr }, _) => rest = self.line(rest, cr, &mut part),
            }
        }
        None
    }

    /// Hands on what `rest` has of the line, and returns the rest of it.
    fn line<'a>(&mut self, rest: &'a [u8], cr: bool, part: &mut impl FnMut(&'a [u8])) -> &'a [u8] {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        part(line);
        self.0 = match line {
            [b'\n'] if cr => At::Start,
            [.., b'\r', b'\n'] => At::Start,
            [.., last] => At::Within { cr: *last == b'\r' },
            [] => At::Within { cr },
        };
        behind
    }
}

/// The client's side: doubles dots at the start of lines that CR LF ends, and ends the content.
#[cfg(test)]
pub(super) fn stuff(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = *b"\r\n";
    for &byte in content {
        if byte == b'.' && last == *b"\r\n" {
            out.push(b'.');
        }
        out.push(byte);
        last = [last[1], byte];
    }
    out.extend_from_slice(if last == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" });
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content and what stands behind its end, read in pieces of `size`.
    fn read(input: &[u8], size: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut dots, mut content) = (Dots::new(), Vec::new());
        for (at, piece) in input.chunks(size.max(1)).enumerate() {
            if let Some(behind) = dots.feed(piece, |part| content.extend_from_slice(part)) {
                let later = input.get((at + 1) * size.max(1)..).unwrap_or_default();
                return (content, Some([behind, later].concat()));
            }
        }
        (content, None)
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_mail() {
        for (input, content) in [
            ("a\n.\nb\r\n.\r\n", "a\n.\nb\r\n"),
            ("a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n"),
            ("a\r.\rb\r\n.\r\n", "a\r.\rb\r\n"),
            ("a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n"),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n"),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n"),
            ("a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\n"),
            ("a\r\r\n.\r\n", "a\r\r\n"),
            ("a\n\r\n.\r\n", "a\n\r\n"),
            ("a\r\n\0.\r\nb\r\n.\r\n", "a\r\n\0.\r\nb\r\n"),
            ("a\r\n..\r\n.\r\n", "a\r\n.\r\n"),
            ("..a\r\n....\r\n.\r\n", ".a\r\n...\r\n"),
            (".\r\n", ""),
            ("\r\n.\r\n", "\r\n"),
            (".a\r\n.\r\n", "a\r\n"),
        ] {
            for size in 1..=input.len() {
                let (got, behind) = read(input.as_bytes(), size);
                assert_eq!(String::from_utf8(got).unwrap(), content, "{input:?} by {size}");
                assert_eq!(behind.as_deref(), Some(&[][..]), "{input:?} by {size}");
            }
        }
        for input in ["a\n.\n", "a\r\n.\n", "a\r\n.\r", "a\r.\r", "a\n.\r\n", "a\r\n", "a\r\n.", "", ".\n", ".\r\r\n"] {
            assert_eq!(read(input.as_bytes(), 1).1, None, "{input:?}");
        }
    }

    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()];
        proptest::collection::vec(byte, 0..300)
    }

    proptest! {
        #[test]
        fn what_was_sent_arrives_however_it_is_cut(content in awkward(), size in 1usize..40) {
            let mut sent = stuff(&content);
            sent.extend_from_slice(b"QUIT\r\n");
            let (got, behind) = read(&sent, size);
            let mut expected = content;
            if !expected.is_empty() && !expected.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(behind.unwrap(), b"QUIT\r\n");
        }

        #[test]
        fn raw_bytes_read_the_same_in_any_pieces(input in awkward(), size in 1usize..40) {
            prop_assert_eq!(read(&input, size), read(&input, usize::MAX));
        }
    }
}
