//! The header fields of a mail or of a part, as they stand in the bytes.
//!
//! Everything that must not be fooled (who sent it, what was signed, which answer it is) reads fields from here and not
//! from a parser that picks one of several. RFC 5322, section 2.2; what real mail breaks of it is let through: bare LF and
//! bare CR end lines, an mbox `From ` line before the first field is skipped, and lines that are no field are passed over.

use std::borrow::Cow;

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

/// The fields of one header block, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    /// Reads the header block at the beginning of `raw`. Gives it with what follows behind the empty line.
    pub fn read(raw: &'a [u8]) -> (Fields<'a>, &'a [u8]) {
        let mut fields = Vec::new();
        let mut rest = raw;
        let mut first = true;
        while let Some((line, after)) = line(rest) {
            let content = content(line);
            if content.is_empty() {
                return (Fields(fields), after);
            }
            let skipped =
                std::mem::take(&mut first) && (content.starts_with(b"From ") || content.starts_with(b">From "));
            let Some(colon) = (!skipped).then(|| name_end(content)).flatten() else {
                rest = after;
                continue;
            };
            let end = folded_end(after);
            let whole = rest.get(..line.len() + end).unwrap_or(rest);
            let (name, value) = (whole.get(..colon.0).unwrap_or_default(), whole.get(colon.1..).unwrap_or_default());
            if let Ok(name) = std::str::from_utf8(name) {
                fields.push(Field { name, value: self::content(value), whole });
            }
            rest = after.get(end..).unwrap_or_default();
        }
        (Fields(fields), &[])
    }

    /// All fields.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Field<'a>> + Clone {
        self.0.iter()
    }

    /// Those named `name`, in their order.
    pub fn all<'n>(&'n self, name: &'n str) -> impl DoubleEndedIterator<Item = &'n Field<'a>> + Clone {
        self.0.iter().filter(move |field| field.is(name))
    }

    /// The first one named `name`.
    pub fn first(&self, name: &str) -> Option<&Field<'a>> {
        self.0.iter().find(|field| field.is(name))
    }

    /// The unfolded text of the first one named `name`.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.first(name).map(Field::text)
    }
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
    fn a_name_with_a_blank_within_is_none() {
        assert_eq!(names(b"Fr om: a@b\nFrom: c@d\n\n").0, ["From=c@d"]);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_read() {
        assert_eq!(names(b"Subject: caf\xe9\n\n").0, ["Subject=caf\u{e9}"]);
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
