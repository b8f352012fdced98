//! Fields with parameters: Content-Type and Content-Disposition (RFC 2045, section 5.1; RFC 2231; RFC 2183).
//!
//! A missing semicolon, an open quote or blanks in a name without quotes do not lose what stands there. Values are kept
//! as bytes: a boundary is never decoded, a file name is.

use super::{charset, transfer, words};
use std::borrow::Cow;

/// The most parameters read, and the most pieces of one.
const MOST: usize = 100;
/// The most bytes of a field that are read.
const FIELD_MOST: usize = 64 * 1024;

/// What such a field says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// What stands before the first parameter, in lower case: `text/plain`, `attachment`.
    pub value: String,
    params: Vec<(String, Vec<u8>)>,
}

impl Params {
    /// Reads the value of a field.
    pub fn parse(raw: &[u8]) -> Params {
        let raw = raw.get(..FIELD_MOST).unwrap_or(raw);
        let flat: Vec<u8> = raw.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let mut reader = Reader { rest: &flat };
        let value = String::from_utf8_lossy(reader.until_blank()).trim_matches('"').to_ascii_lowercase();
        let mut params = Vec::new();
        while params.len() < MOST
            && let Some(param) = reader.param()
        {
            params.push(param);
        }
        Params { value, params }
    }

    /// The parameter `name` as bytes, joined and unescaped if it is written in the form of RFC 2231; no words are decoded.
    pub fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.raw(name).map(Cow::Borrowed).or_else(|| Some(Cow::Owned(self.extended(name)?.1)))
    }

    /// Whether the parameter `name` is `value`, in any case.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.bytes(name).is_some_and(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    }

    /// The charset that the field declares.
    pub fn charset(&self) -> Option<String> {
        self.bytes("charset").map(|label| String::from_utf8_lossy(&label).into_owned())
    }

    /// The first value of the parameter `name` as it is written, without quotes.
    fn raw(&self, name: &str) -> Option<&[u8]> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The parameter `name` as text: pieces joined and percent signs read (RFC 2231), or encoded words read, which do not
    /// belong there and come all the same.
    pub fn text(&self, name: &str, hint: Option<&str>) -> Option<String> {
        if let Some((label, bytes)) = self.extended(name) {
            let label = label.as_deref().or(hint.filter(|hint| charset::is_telling(hint)));
            return Some(words::tidy(&charset::decode(label, &bytes).text));
        }
        self.raw(name).map(|value| words::decode(value, hint))
    }

    /// The value in the form of RFC 2231, with its charset.
    fn extended(&self, name: &str) -> Option<(Option<String>, Vec<u8>)> {
        if let Some(value) = self.raw(&format!("{name}*")) {
            return Some(with_charset(value));
        }
        let (mut label, mut bytes) = (None, Vec::new());
        for piece in 0..MOST {
            if let Some(value) = self.raw(&format!("{name}*{piece}*")) {
                if piece == 0 {
                    let (known, first) = with_charset(value);
                    label = known;
                    bytes = first;
                } else {
                    percent(value, &mut bytes);
                }
            } else if let Some(value) = self.raw(&format!("{name}*{piece}")) {
                bytes.extend_from_slice(value);
            } else if piece > 0 {
                // Pieces in encoded words, each in a quoted piece: not allowed, and some programs write it.
                let word = label.is_none() && memchr::memmem::find(&bytes, b"=?").is_some();
                return Some(if word {
                    (Some("utf-8".to_owned()), words::decode(&bytes, None).into_bytes())
                } else {
                    (label, bytes)
                });
            } else {
                // Some programs count from one.
                self.raw(&format!("{name}*1")).or(self.raw(&format!("{name}*1*")))?;
            }
        }
        Some((label, bytes))
    }
}

/// `charset'language'value` with its percent signs read.
fn with_charset(value: &[u8]) -> (Option<String>, Vec<u8>) {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (label, rest) = match (parts.next(), parts.next(), parts.next()) {
        (Some(label), Some(_), Some(rest)) => (Some(String::from_utf8_lossy(label).into_owned()), rest),
        _ => (None, value),
    };
    let mut bytes = Vec::with_capacity(rest.len());
    percent(rest, &mut bytes);
    (label.filter(|label| !label.is_empty()), bytes)
}

/// Reads the `%XX` in `value`.
pub(super) fn percent(value: &[u8], bytes: &mut Vec<u8>) {
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after.get(..2).and_then(transfer::hex).filter(|_| byte == b'%') {
            Some(code) => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(byte),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, good: impl Fn(u8) -> bool) -> &'a [u8] {
        self.take(self.rest.iter().position(|byte| !good(*byte)).unwrap_or(self.rest.len()))
    }

    /// The main value; blanks around its slash are passed over.
    fn until_blank(&mut self) -> &'a [u8] {
        self.gap();
        self.take_while(|byte| !matches!(byte, b';' | b' ' | b'\t' | b'('))
    }

    /// Passes blanks, semicolons and comments.
    fn gap(&mut self) {
        loop {
            self.take_while(|byte| matches!(byte, b' ' | b'\t' | b';' | b','));
            if self.rest.first() != Some(&b'(') {
                return;
            }
            let mut depth = 0_usize;
            let end = self.rest.iter().position(|byte| {
                match byte {
                    b'(' => depth += 1,
                    b')' => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            self.take(end.map_or(self.rest.len(), |end| end + 1));
        }
    }

    /// The next `name=value`; words without `=` are passed over.
    fn param(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            self.gap();
            if self.rest.is_empty() {
                return None;
            }
            let name = self.take_while(|byte| !matches!(byte, b'=' | b';' | b' ' | b'\t'));
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
            if self.rest.first() != Some(&b'=') {
                continue;
            }
            self.take(1);
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            return Some((name, self.value()));
        }
    }

    fn value(&mut self) -> Vec<u8> {
        if self.rest.first() == Some(&b'"')
            && let Some(value) = self.quoted()
        {
            return value;
        }
        let mut end = 0;
        while let Some(&byte) = self.rest.get(end) {
            let next = self.rest.get(end + 1..).unwrap_or_default();
            if byte == b';' || matches!(byte, b' ' | b'\t') && starts_param(next) {
                break;
            }
            end += 1;
        }
        let value = self.take(end).trim_ascii();
        value.strip_prefix(b"\"").unwrap_or(value).to_vec()
    }

    /// A quoted value. Backslashes only escape quotes and backslashes: file names with paths come unescaped.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut at = 1;
        loop {
            match *self.rest.get(at)? {
                b'"' => break,
                b'\\' if matches!(self.rest.get(at + 1), Some(b'"' | b'\\')) => {
                    at += 1;
                    value.extend(self.rest.get(at));
                }
                byte => value.push(byte),
            }
            at += 1;
        }
        self.take(at + 1);
        Some(value)
    }
}

/// Whether `name=` stands here.
fn starts_param(text: &[u8]) -> bool {
    let name =
        text.iter().take(40).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-')).count();
    name > 0 && text.get(name) == Some(&b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(raw: &str, name: &str) -> Option<String> {
        Params::parse(raw.as_bytes()).text(name, None)
    }

    #[test]
    fn plain_and_quoted_values() {
        let read = Params::parse(b"Text/Plain (a note); charset=UTF-8;\r\n\tboundary=\"a;b \\\" c\"");
        assert_eq!(read.value, "text/plain");
        assert_eq!(read.raw("charset"), Some(&b"UTF-8"[..]));
        assert_eq!(read.raw("boundary"), Some(&b"a;b \" c"[..]));
        assert_eq!(text("attachment; filename=\"C:\\dir\\a.txt\"", "filename").unwrap(), "C:\\dir\\a.txt");
    }

    #[test]
    fn broken_fields() {
        assert_eq!(text("multipart/mixed boundary=x", "boundary").unwrap(), "x");
        assert_eq!(text("a/b; name=my own file.pdf; x=y", "name").unwrap(), "my own file.pdf");
        assert_eq!(text("a/b; charset=utf-8 format=flowed", "charset").unwrap(), "utf-8");
        assert_eq!(text("a/b; charset=\"utf-8; x=y", "x").unwrap(), "y");
        assert_eq!(text("a/b; charset=\"utf-8", "charset").unwrap(), "utf-8");
        assert_eq!(text("a/b;;; = ; x", "x"), None);
    }

    #[test]
    fn names_in_other_charsets() {
        assert_eq!(text("a; filename*=iso-8859-1'en'caf%E9.txt", "filename").unwrap(), "caf\u{e9}.txt");
        assert_eq!(
            text("a; filename*0*=utf-8''caf%C3; filename*1*=%A9; filename*2=\" x.txt\"", "filename").unwrap(),
            "caf\u{e9} x.txt"
        );
        assert_eq!(Params::parse(b"a; boundary*=us-ascii''x%2Fy").bytes("boundary").unwrap(), &b"x/y"[..]);
        assert_eq!(text("a; filename*0=one; filename*1=two", "filename").unwrap(), "onetwo");
        assert_eq!(text("a; filename=\"=?utf-8?Q?caf=C3=A9?=\"", "filename").unwrap(), "caf\u{e9}");
    }

    #[test]
    fn a_long_field_takes_no_time() {
        for piece in ["a=b;", " a", "(", "\"", "x=\"", "a= "] {
            Params::parse(piece.repeat(1_000_000 / piece.len()).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in "[-a-c/*0-2='\"%;() \\\\]{0,80}") {
            let read = Params::parse(raw.as_bytes());
            for name in ["a", "b", "ab"] {
                read.text(name, None);
            }
        }
    }
}
