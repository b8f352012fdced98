//! The two forms in which mail is hashed for DKIM: `simple` and `relaxed` (RFC 6376, section 3.4).
//!
//! One pass over the bytes, with a buffer of fixed size for the body.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};

use super::fields::{Field, Fields};

/// A form, of the header or of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Canon {
    /// As it stands.
    Simple,
    /// Blanks and folds do not matter.
    Relaxed,
}

/// The most bytes of header that one signature may cover. Ten of them are kept at a time.
const LONGEST_HEADER: usize = 1 << 20;

/// A mail's fields by name, for choosing what a signature covers.
pub(super) struct Header<'a>(HashMap<String, Vec<Field<'a>>>);

impl<'a> Header<'a> {
    /// Sorts the fields by their names.
    pub(super) fn new(fields: &Fields<'a>) -> Header<'a> {
        let mut by_name: HashMap<String, Vec<Field<'a>>> = HashMap::new();
        for field in fields.iter() {
            by_name.entry(field.name.to_ascii_lowercase()).or_default().push(*field);
        }
        Header(by_name)
    }

    /// The fields named, in that form, each with CRLF: of several with one name the last first, and nothing for a name
    /// that has no more (section 5.4.2). `names` are in lower case. Gives nothing if they are too long together.
    pub(super) fn covered<'n>(&self, canon: Canon, names: impl Iterator<Item = &'n str>) -> Option<Vec<u8>> {
        let mut taken: HashMap<&str, usize> = HashMap::new();
        let mut out = Vec::new();
        for name in names {
            let Some((name, fields)) = self.0.get_key_value(name) else { continue };
            let taken = taken.entry(name).or_default();
            let Some(next) = fields.iter().rev().nth(*taken) else { continue };
            *taken += 1;
            field(canon, next, next.value, &mut out);
            out.extend_from_slice(b"\r\n");
            if out.len() > LONGEST_HEADER {
                return None;
            }
        }
        Some(out)
    }
}

/// Adds one field in its form with this value, without the end of its last line.
pub(super) fn field(canon: Canon, field: &Field<'_>, value: &[u8], out: &mut Vec<u8>) {
    match canon {
        Canon::Simple => {
            let colon = memchr::memchr(b':', field.whole).unwrap_or_default();
            out.extend(field.whole.iter().take(colon + 1));
            with_crlf(value, out);
        }
        Canon::Relaxed => {
            out.extend(field.name.bytes().map(|byte| byte.to_ascii_lowercase()));
            out.push(b':');
            relaxed_value(value, out);
        }
    }
}

/// Adds `value` with every line's end as CRLF.
fn with_crlf(value: &[u8], out: &mut Vec<u8>) {
    let mut before = 0;
    for byte in value {
        match (before, byte) {
            (b'\r', b'\n') => {}
            (_, b'\r' | b'\n') => out.extend_from_slice(b"\r\n"),
            _ => out.push(*byte),
        }
        before = *byte;
    }
}

/// Adds `value` unfolded, with runs of blanks as one space and none at its ends. Also what a `DKIM-Signature` made here
/// is signed as.
pub(super) fn relaxed_value(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut blank = false;
    for byte in value {
        match byte {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => blank = true,
            _ => {
                if std::mem::take(&mut blank) && out.len() > start {
                    out.push(b' ');
                }
                out.push(*byte);
            }
        }
    }
}

/// SHA-256 of the body in its form. Lines end at CRLF, and at LF too if `lf` says that the mail was stored so.
pub(super) fn body_hash(canon: Canon, body: &[u8], lf: bool) -> [u8; 32] {
    let mut sink = Sink { context: Context::new(&SHA256), buffer: Vec::with_capacity(BUFFER), empty: true };
    let mut rest = body;
    let mut empty_lines = 0_u64;
    while !rest.is_empty() {
        let (line, after) = body_line(rest, lf);
        rest = after;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let empty = line.is_empty() || (canon == Canon::Relaxed && line.iter().all(blank));
        if empty {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            sink.write(b"\r\n");
        }
        match canon {
            Canon::Simple => sink.write(line),
            Canon::Relaxed => relaxed_line(line, &mut sink),
        }
        sink.write(b"\r\n");
    }
    if canon == Canon::Simple && sink.empty {
        sink.write(b"\r\n");
    }
    sink.finish()
}

/// The first line without its end, and what follows.
fn body_line(body: &[u8], lf: bool) -> (&[u8], &[u8]) {
    for at in memchr::memchr_iter(b'\n', body) {
        let line = body.get(..at).unwrap_or_default();
        let after = body.get(at + 1..).unwrap_or_default();
        match line.strip_suffix(b"\r") {
            Some(line) => return (line, after),
            None if lf => return (line, after),
            None => {}
        }
    }
    (body, &[])
}

fn relaxed_line(line: &[u8], sink: &mut Sink) {
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let mut rest = line.get(..end).unwrap_or_default();
    while !rest.is_empty() {
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if blanks > 0 {
            sink.write(b" ");
        }
        rest = rest.get(blanks..).unwrap_or_default();
        let word = memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
        sink.write(rest.get(..word).unwrap_or_default());
        rest = rest.get(word..).unwrap_or_default();
    }
}

/// Small writes are gathered: a hash is slow on single bytes.
const BUFFER: usize = 8192;

/// Hashes what is written.
struct Sink {
    context: Context,
    buffer: Vec<u8>,
    empty: bool,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.empty = false;
        if self.buffer.len() + bytes.len() > BUFFER {
            self.context.update(&self.buffer);
            self.buffer.clear();
        }
        if bytes.len() > BUFFER {
            self.context.update(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.context.update(&self.buffer);
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(self.context.finish().as_ref()) {
            *to = *from;
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(bytes: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(ring::digest::digest(&SHA256, bytes).as_ref());
        out
    }

    /// RFC 6376, section 3.4.5: the header and body of the example in both forms.
    #[test]
    fn the_examples_of_the_rfc() {
        let mail = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n";
        let (fields, body) = Fields::read(mail);
        let header = |canon| {
            let mut out = Vec::new();
            for one in fields.iter() {
                field(canon, one, one.value, &mut out);
                out.extend_from_slice(b"\r\n");
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(header(Canon::Relaxed), "a:X\r\nb:Y Z\r\n");
        assert_eq!(header(Canon::Simple), "A: X\r\nB : Y\t\r\n\tZ  \r\n");
        assert_eq!(body_hash(Canon::Relaxed, body, false), hash(b" C\r\nD E\r\n"));
        assert_eq!(body_hash(Canon::Simple, body, false), hash(b" C \r\nD \t E\r\n"));
    }

    #[test]
    fn empty_bodies_and_ends() {
        for body in [&b""[..], b"\r\n", b"\r\n\r\n"] {
            assert_eq!(body_hash(Canon::Simple, body, false), hash(b"\r\n"));
            assert_eq!(body_hash(Canon::Relaxed, body, false), hash(b""));
        }
        assert_eq!(body_hash(Canon::Relaxed, b" \t\r\n", false), hash(b""));
        assert_eq!(body_hash(Canon::Simple, b"a", false), hash(b"a\r\n"));
        assert_eq!(body_hash(Canon::Simple, b"a\n\nb\n\n", true), hash(b"a\r\n\r\nb\r\n"));
        assert_eq!(body_hash(Canon::Simple, b"a\nb\r\n", false), hash(b"a\nb\r\n"));
    }

    #[test]
    fn lines_longer_than_the_buffer() {
        let long = [b"ab".repeat(3 * BUFFER), b"\r\n".to_vec(), b"c \r\n".repeat(BUFFER)].concat();
        assert_eq!(body_hash(Canon::Simple, &long, false), hash(&long));
        let relaxed = String::from_utf8(long.clone()).unwrap().replace(" \r", "\r");
        assert_eq!(body_hash(Canon::Relaxed, &long, false), hash(relaxed.as_bytes()));
    }

    proptest! {
        #[test]
        fn relaxed_equals_the_slow_way(body in "[ab \t\r\n]{0,80}") {
            let mut slow = String::new();
            let mut lines: Vec<&str> = body.split("\r\n").collect();
            if lines.last() == Some(&"") { lines.pop(); }
            let mut lines: Vec<String> = lines.iter().map(|line| {
                let line = line.replace('\t', " ");
                let mut out = String::new();
                for c in line.trim_end_matches(' ').chars() {
                    if !(c == ' ' && out.ends_with(' ')) { out.push(c); }
                }
                out
            }).collect();
            while lines.last().is_some_and(String::is_empty) { lines.pop(); }
            for line in lines { slow.push_str(&line); slow.push_str("\r\n"); }
            prop_assert_eq!(body_hash(Canon::Relaxed, body.as_bytes(), false), hash(slow.as_bytes()));
        }
    }
}
