//! Encoded words in header fields (RFC 2047), decoded from the raw bytes of a field.
//!
//! Real mail breaks the rules: raw 8-bit bytes within or beside a word, words glued to other text, within quotes, longer
//! than 75 characters, without padding, a character cut across two words. All of it is read; a word is decoded once only.

use super::{charset, transfer};
use std::borrow::Cow;

/// The longest encoded word that is taken for one, in bytes.
const LONGEST: usize = 8192;

/// One encoded word.
pub(super) struct Word<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    /// How many bytes of the field it takes.
    pub(super) len: usize,
}

/// Text of a field: `raw` unfolded, with its encoded words read and control characters taken out. Bytes outside of words
/// are UTF-8 or else `hint` (a charset label of the mail's body) or else windows-1252.
pub fn decode(raw: &[u8], hint: Option<&str>) -> String {
    let mut found = Found { hint, text: String::new(), word: None };
    let (mut rest, mut plain) = (raw, 0);
    let mut ends = Ends::default();
    while let Some(at) = memchr::memmem::find(rest.get(plain..).unwrap_or_default(), b"=?").map(|at| plain + at) {
        let Some(word) = rest.get(at..).and_then(|from| ends.word(from)) else {
            plain = at + 2;
            continue;
        };
        let end = at + word.len;
        found.plain(rest.get(..at).unwrap_or_default());
        found.word(word);
        rest = rest.get(end..).unwrap_or_default();
        plain = 0;
    }
    found.plain(rest);
    tidy(&found.finish())
}

/// The encoded word at the beginning of `from`, if one stands there.
pub(super) fn word(from: &[u8]) -> Option<Word<'_>> {
    Ends::default().word(from.get(..LONGEST).unwrap_or(from))
}

/// One line without control characters, trimmed.
pub fn tidy(text: &str) -> String {
    let clean: String =
        text.chars().filter(|c| !matches!(c, '\r' | '\n')).map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

/// Where the next `?=` is, kept so that a field full of beginnings is searched once.
#[derive(Default)]
struct Ends {
    /// Bytes from the end of the field to the `?=`, and the search that found nothing.
    next: Option<usize>,
    none: bool,
}

impl Ends {
    /// The word at the beginning of `from`. Every call must be on a later suffix of the same bytes.
    fn word<'a>(&mut self, from: &'a [u8]) -> Option<Word<'a>> {
        let inner = from.strip_prefix(b"=?")?;
        let mark = memchr::memchr(b'?', inner.get(..80).unwrap_or(inner))?;
        let charset = inner.get(..mark)?;
        let base64 = match inner.get(mark + 1)? {
            b'b' | b'B' => true,
            b'q' | b'Q' => false,
            _ => return None,
        };
        let text = inner.get(mark + 2..)?.strip_prefix(b"?")?;
        if charset.is_empty() || !charset.iter().all(|byte| matches!(byte, 33..=126)) {
            return None;
        }
        let end = self.end(text)?;
        let text = text.get(..end).filter(|text| text.len() <= LONGEST)?;
        let bytes = if base64 { transfer::base64(text).0 } else { q(text) };
        let charset = charset.split(|byte| *byte == b'*').next().unwrap_or_default();
        Some(Word { charset, bytes, len: 2 + mark + 3 + end + 2 })
    }

    /// How far the next `?=` lies behind the beginning of `text`.
    fn end(&mut self, text: &[u8]) -> Option<usize> {
        if let Some(next) = self.next.filter(|next| *next <= text.len()) {
            return Some(text.len() - next);
        }
        if self.none {
            return None;
        }
        let found = memchr::memmem::find(text, b"?=");
        self.none = found.is_none();
        self.next = found.map(|at| text.len() - at);
        found
    }
}

/// Reads the Q encoding: `_` is a blank, `=XX` a byte.
fn q(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.get(..2).and_then(transfer::hex)) {
            (b'_', _) => bytes.push(b' '),
            (b'=', Some(code)) => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

/// What was decoded so far, and the word that waits for its neighbor.
struct Found<'a, 'h> {
    hint: Option<&'h str>,
    text: String,
    word: Option<Word<'a>>,
}

impl<'a> Found<'a, '_> {
    fn plain(&mut self, bytes: &'a [u8]) {
        // Blanks between two words belong to neither; they matter only if no word follows.
        if self.word.is_some() && bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.flush();
        self.text.push_str(&plain(bytes, self.hint));
    }

    /// A character may be cut across two words of one charset: their bytes are joined before they are decoded. Not so
    /// where a word has ended its own state.
    fn word(&mut self, word: Word<'a>) {
        let ended = |held: &Word<'_>| held.bytes.ends_with(b"\x1b(B") || held.bytes.ends_with(b"\x1b(J");
        match &mut self.word {
            Some(held) if held.charset.eq_ignore_ascii_case(word.charset) && !ended(held) => {
                held.bytes.extend_from_slice(&word.bytes);
            }
            _ => {
                self.flush();
                self.word = Some(word);
            }
        }
    }

    fn flush(&mut self) {
        if let Some(word) = self.word.take() {
            let label = String::from_utf8_lossy(word.charset);
            self.text.push_str(&charset::decode(Some(&label), &word.bytes).text);
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

/// Bytes of a field outside of encoded words as text.
pub(super) fn plain<'a>(bytes: &'a [u8], hint: Option<&str>) -> Cow<'a, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(charset::decode(hint.filter(|hint| charset::is_telling(hint)), bytes).text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_as_the_rfc_has_them() {
        assert_eq!(decode(b"=?utf-8?Q?caf=C3=A9_noir?=", None), "caf\u{e9} noir");
        assert_eq!(decode(b"Re: =?iso-8859-1?b?6Q==?= yes", None), "Re: \u{e9} yes");
        assert_eq!(decode(b"=?utf-8*fr?Q?=C3=A9?=", None), "\u{e9}");
        assert_eq!(decode(b"=?utf-8?Q??= x", None), "x");
        assert_eq!(decode(b"folded\r\n =?utf-8?Q?a?=\r\n =?utf-8?Q?b?= c", None), "folded ab c");
    }

    #[test]
    fn words_as_they_come() {
        assert_eq!(decode(b"=?utf-8?B?aGk?=", None), "hi");
        let japanese = data_encoding::BASE64.encode(b"\x1b$B$\"\x1b(B");
        let cut = "=?iso-2022-jp?B?GyRCJA==?= =?iso-2022-jp?B?IhsoQg==?=";
        assert_eq!(decode(cut.as_bytes(), None), "\u{3042}");
        let field = format!("=?ISO-2022-JP?B?{japanese}?= =?ISO-2022-JP?B?{japanese}?=");
        assert_eq!(decode(field.as_bytes(), None), "\u{3042}\u{3042}");
        assert_eq!(decode(b"=?utf-8?B?ww==?= =?utf-8?B?qQ==?=", None), "\u{e9}");
        assert_eq!(decode(b"=?iso-8859-1?Q?caf\xe9?=", None), "caf\u{e9}");
        assert_eq!(decode(b"caf\xe9 =?utf-8?Q?=C3=A9?=", None), "caf\u{e9} \u{e9}");
        assert_eq!(decode(b"a=?utf-8?q?b?=c", None), "abc");
        assert_eq!(decode(b"\xd0\xd2", Some("koi8-r")), "\u{43f}\u{440}");
        assert_eq!(decode(b"=?utf-8?Q?a=0D=0AX:_b?=", None), "aX: b");
        assert_eq!(decode(b"=?utf-8?X?a?= =? =?=", None), "=?utf-8?X?a?= =? =?=");
    }

    #[test]
    fn a_field_full_of_beginnings_takes_no_time() {
        let field = b"=?a?q?x".repeat(150_000);
        assert_eq!(decode(&field, None).len(), field.len());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_line_ends_come_out(raw in proptest::collection::vec(
            prop_oneof![Just(b'='), Just(b'?'), Just(b'q'), Just(b'b'), Just(b'\n'), any::<u8>()], 0..200)) {
            let text = decode(&raw, Some("koi8-r"));
            prop_assert!(!text.contains(char::is_control));
        }

        #[test]
        fn plain_ascii_stays(text in "[ -<>-~]{0,60}") {
            prop_assert_eq!(decode(text.as_bytes(), None), text.trim());
        }
    }
}
