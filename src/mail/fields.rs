//! The header fields of a mail or of a part, as they stand in the bytes.
//!
//! Everything that must not be fooled (who sent it, what was signed, which answer it is) reads fields from here and not
//! from a parser that picks one of several. RFC 5322, section 2.2; what real mail breaks of it is let through: bare LF and
//! bare CR end lines, and lines that are no field are passed over, as the one that mailbox files put before a mail.
//!
//! A field costs many times its bytes, so that only so much of a header is kept, and whoever has such a part of it knows.
//! The invariant: who shows a mail and who judges its sender keep the same fields of it, and of a header that was kept in
//! part nothing is proven: a second From, or a field that a signature covers, may stand in what was passed over.

use std::borrow::Cow;

/// The most fields of a header that are kept.
const FIELDS_MOST: usize = 10_000;
/// The most bytes in all of them.
const BYTES_MOST: usize = 1024 * 1024;

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written.
    pub name: &'a str,
    /// What stands behind the colon, folded as it was, without the last line's end.
    pub value: &'a [u8],
    /// The whole field, with its name and its last line's end.
    pub whole: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether this is the field `name`, whatever its case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value unfolded and trimmed. Bytes that are no UTF-8 are read as windows-1252; encoded words stay as they are.
    pub fn text(&self) -> Cow<'a, str> {
        let text: Cow<'a, str> = match std::str::from_utf8(self.value) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(self.value).0,
        };
        if !text.contains(['\r', '\n']) {
            return match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            };
        }
        // A fold is a line's end before a blank; the blank stays.
        let unfolded: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        Cow::Owned(unfolded.trim().to_owned())
    }
}

/// How much more is kept: of one header, or of several together.
pub(super) struct Room {
    fields: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { fields: FIELDS_MOST, bytes: BYTES_MOST }
    }
}

impl Room {
    /// Whether `field` is kept.
    fn takes(&mut self, field: &Field<'_>) -> bool {
        let takes = self.fields > 0 && field.whole.len() <= self.bytes;
        if takes {
            self.fields -= 1;
            self.bytes -= field.whole.len();
        }
        takes
    }
}

/// The fields of one header block, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    kept: Vec<Field<'a>>,
    whole: bool,
}

impl<'a> Fields<'a> {
    /// The header of a mail as it came, as [`super::read`] reads it as well: whoever judges the sender or a signature begins
    /// here. Where other readers may find other fields in the same bytes, it is not [whole](Fields::whole): in which no empty
    /// line ends the fields and something else stands among them, or where a CR alone parts lines beside ends with LF.
    pub fn of_mail(raw: &'a [u8]) -> (Fields<'a>, &'a [u8]) {
        let raw = start(raw);
        let (mut fields, block) = Fields::read_block(raw, &mut Room::default());
        let header = raw.get(..raw.len() - block.rest.len()).unwrap_or(raw);
        fields.whole &=
            (block.ended || !block.foreign) && !(has_cr_alone(header) && memchr::memchr(b'\n', raw).is_some());
        (fields, block.rest)
    }

    /// Reads the header block at the beginning of `raw`, up to 10,000 fields with 1 MiB; what does not fit in is passed
    /// over. Gives it with what follows behind the empty line.
    pub fn read(raw: &'a [u8]) -> (Fields<'a>, &'a [u8]) {
        Fields::read_within(raw, &mut Room::default())
    }

    /// As [`Fields::read`], as far as there is room.
    pub(super) fn read_within(raw: &'a [u8], room: &mut Room) -> (Fields<'a>, &'a [u8]) {
        let (fields, block) = Fields::read_block(raw, room);
        (fields, block.rest)
    }

    fn read_block(raw: &'a [u8], room: &mut Room) -> (Fields<'a>, Block<'a>) {
        let mut block = Block::new(raw);
        let mut fields = Fields { kept: Vec::new(), whole: true };
        for field in block.by_ref() {
            if room.takes(&field) {
                fields.kept.push(field);
            } else {
                fields.whole = false;
            }
        }
        (fields, block)
    }

    /// Whether all fields of the block were kept; of a mail's own header also whether all readers find the same.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// All fields.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Field<'a>> + Clone {
        self.kept.iter()
    }

    /// Those named `name`, in their order.
    pub fn all<'n>(&'n self, name: &'n str) -> impl DoubleEndedIterator<Item = &'n Field<'a>> + Clone {
        self.kept.iter().filter(move |field| field.is(name))
    }

    /// The first one named `name`.
    pub fn first(&self, name: &str) -> Option<&Field<'a>> {
        self.kept.iter().find(|field| field.is(name))
    }

    /// The unfolded text of the first one named `name`.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.first(name).map(Field::text)
    }
}

/// The fields of a header block one after the other, however many; `rest` is then what follows behind it.
pub(super) struct Block<'a> {
    pub(super) rest: &'a [u8],
    /// Whether its empty line was found.
    ended: bool,
    /// Whether a line was passed over that is no field.
    foreign: bool,
}

impl<'a> Block<'a> {
    /// The block at the beginning of `raw`.
    pub(super) fn new(raw: &'a [u8]) -> Block<'a> {
        Block { rest: raw, ended: false, foreign: false }
    }
}

impl<'a> Iterator for Block<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.ended
            && let Some((line, after)) = line(self.rest)
        {
            let content = content(line);
            let Some(colon) = name_end(content) else {
                self.ended = content.is_empty();
                self.foreign |= !self.ended;
                self.rest = after;
                continue;
            };
            let end = folded_end(after);
            let whole = self.rest.get(..line.len() + end).unwrap_or(self.rest);
            let (name, value) = (whole.get(..colon.0).unwrap_or_default(), whole.get(colon.1..).unwrap_or_default());
            self.rest = after.get(end..).unwrap_or_default();
            if let Ok(name) = std::str::from_utf8(name) {
                return Some(Field { name, value: self::content(value), whole });
            }
        }
        None
    }
}

/// The mail without what may stand before it: a byte order mark, empty lines.
pub(super) fn start(raw: &[u8]) -> &[u8] {
    raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw).trim_ascii_start()
}

/// Whether there is a CR without an LF: where lines end with LF, a character to some and the end of a line to others.
fn has_cr_alone(header: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', header).any(|at| header.get(at + 1) != Some(&b'\n'))
}

/// The first line with its end, and the rest. A line ends at CRLF, LF or CR.
fn line(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    if raw.is_empty() {
        return None;
    }
    let end = match memchr::memchr2(b'\r', b'\n', raw) {
        Some(at) if raw.get(at..at + 2) == Some(b"\r\n") => at + 2,
        Some(at) => at + 1,
        None => raw.len(),
    };
    Some(raw.split_at(end))
}

/// A line, or several, without the end of the last.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where the name of the field in this line ends and where its value begins, if it is a field: visible characters but a
/// colon, perhaps blanks, then a colon.
fn name_end(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?;
    let end = name.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let good = end > 0 && name.iter().take(end).all(|byte| matches!(byte, 33..=126));
    good.then_some((end, colon + 1))
}

/// How many bytes of `rest` continue the field before it: lines that begin with a blank.
fn folded_end(rest: &[u8]) -> usize {
    let mut end = 0;
    while let Some((line, _)) = rest.get(end..).and_then(line) {
        // A line of blanks only is an obsolete fold (RFC 5322, section 4.2), not the end of the block.
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            break;
        }
        end += line.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(raw: &[u8]) -> (Vec<String>, Vec<u8>) {
        let (fields, body) = Fields::read(raw);
        (fields.iter().map(|field| format!("{}={}", field.name, field.text())).collect(), body.to_vec())
    }

    #[test]
    fn fields_are_read_in_order_with_their_folds() {
        let (found, body) = names(b"Subject: one\r\n two\r\nX: \r\nto : a\r\nto:b\r\n\r\nbody\r\n");
        assert_eq!(found, ["Subject=one two", "X=", "to=a", "to=b"]);
        assert_eq!(body, b"body\r\n");
    }

    #[test]
    fn all_line_ends_and_what_is_no_field() {
        let (found, body) = names(b"From someone Mon\nA: 1\nno field here\nB: 2\n\t3\n\nrest");
        assert_eq!((found, body), (vec!["A=1".to_owned(), "B=2\t3".to_owned()], b"rest".to_vec()));
        let (found, body) = names(b"A: 1\rB: 2\r\rrest");
        assert_eq!((found, body), (vec!["A=1".to_owned(), "B=2".to_owned()], b"rest".to_vec()));
    }

    #[test]
    fn a_blank_behind_the_name_hides_no_field() {
        assert_eq!(names(b"From : a@b\nFrom: c@d\n\n").0, ["From=a@b", "From=c@d"]);
        assert_eq!(names(b"From a@b Mon Mar 2 09:58:00 2026\nFrom: c@d\n\n").0, ["From=c@d"]);
        assert_eq!(names(b">From a@b Mon Mar 2 09:58:00 2026\nFrom: c@d\n\n").0, ["From=c@d"]);
    }

    #[test]
    fn where_readers_may_find_different_fields_the_header_is_not_whole() {
        for (raw, wanted) in [
            (&b"From: a@b\r\n\r\nbody"[..], true),
            (b"From: a@b\nno field\n\nbody", true),
            (b"From: a@b\rTo: c@d\r\rbody\r", true),
            (b"From: a@b\r\nTo: c@d\r\n", true),
            (b"\xef\xbb\xbf\r\n From: a@b\r\n\r\nbody", true),
            // Whether the second From is the mail's or its body's.
            (b"From: a@b\r\nno field\r\nFrom: c@d\r\n", false),
            // Whether the header ends before the second, and whether the first is a field.
            (b"X: 1\rFrom: a@b\r\rY: 2\r\nFrom: c@d\r\n\r\nbody", false),
            (b"X: 1\rFrom: a@b\r\n\r\nbody", false),
        ] {
            let (fields, _) = Fields::of_mail(raw);
            assert_eq!(fields.whole(), wanted, "{}", raw.escape_ascii());
            assert!(fields.first("From").is_some());
        }
    }

    #[test]
    fn a_name_with_a_blank_within_is_none() {
        assert_eq!(names(b"Fr om: a@b\nFrom: c@d\n\n").0, ["From=c@d"]);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_read() {
        assert_eq!(names(b"Subject: caf\xe9\n\n").0, ["Subject=caf\u{e9}"]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_is_told() {
        let read = |raw: &str| {
            let (fields, body) = Fields::read(raw.as_bytes());
            (fields.iter().count(), fields.whole(), body.len())
        };
        let many = |count: usize| "a:\r\n".repeat(count) + "\r\nbody";
        assert_eq!(read(&many(FIELDS_MOST)), (FIELDS_MOST, true, 4));
        assert_eq!(read(&many(FIELDS_MOST + 1)), (FIELDS_MOST, false, 4));
        assert_eq!(read(&many(500_000)), (FIELDS_MOST, false, 4));
        // What is too long is passed over alone.
        let long = format!("a: b\r\nlong: {}\r\nc: d\r\n\r\nbody", "x".repeat(BYTES_MOST));
        assert_eq!(read(&long), (2, false, 4));
        assert_eq!(read(&long.replacen("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "", 1)), (3, true, 4));
        let mut room = Room::default();
        let together = [many(6000), many(6000)].map(|raw| {
            let (fields, _) = Fields::read_within(raw.as_bytes(), &mut room);
            (fields.iter().count(), fields.whole())
        });
        assert_eq!(together, [(6000, true), (4000, false)]);
    }

    proptest! {
        #[test]
        fn every_field_lies_in_the_bytes_and_nothing_is_read_twice(raw in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'A'), any::<u8>()], 0..200)) {
            let (fields, body) = Fields::read(&raw);
            let wholes: usize = fields.iter().map(|field| field.whole.len()).sum();
            prop_assert!(wholes + body.len() <= raw.len());
            prop_assert!(raw.ends_with(body));
        }
    }
}
