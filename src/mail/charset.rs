//! From bytes and a charset label to text. The one place where mail bytes become characters.
//!
//! The declared label counts; what declares nothing, or something nobody knows, is UTF-8 when it is valid, else what its
//! bytes look like, and windows-1252 where they tell too little. Nothing here fails.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_4, REPLACEMENT, SHIFT_JIS, UTF_8, UTF_16BE,
    UTF_16LE, WINDOWS_1250, WINDOWS_1252, WINDOWS_1254, WINDOWS_1257, WINDOWS_1258,
};
use mail_parser::decoders::charsets::map::charset_decoder;
use memchr::memmem;

/// Text made of bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text, without a byte order mark.
    pub text: String,
    /// Whether bytes did not fit the charset, or its label was not known.
    pub damaged: bool,
}

/// What a label asks for.
enum Charset {
    /// One that encoding_rs reads.
    Known(&'static Encoding),
    /// One that only the mail parser's tables read: UTF-7, code pages of DOS.
    Table(fn(&[u8]) -> String),
    /// ASCII, or no label.
    Plain,
    /// A label that nobody knows.
    Unknown,
}

/// Labels seen in mail that no table has.
const ALIASES: [(&str, &str); 10] = [
    ("uft-8", "utf-8"),
    ("utf-8mb4", "utf-8"),
    ("unicode-1-1-utf-7", "utf-7"),
    ("x-unicode-2-0-utf-7", "utf-7"),
    ("latin-1", "windows-1252"),
    ("ansi", "windows-1252"),
    ("8859-1", "windows-1252"),
    ("win-1251", "windows-1251"),
    ("win-1252", "windows-1252"),
    ("x-mac-roman", "macintosh"),
];

/// Decodes `bytes` by `label` (RFC 2046, section 4.1.2).
pub fn decode(label: Option<&str>, bytes: &[u8]) -> Decoded {
    match charset(label) {
        Charset::Known(encoding) if encoding == UTF_8 => utf8(bytes),
        Charset::Known(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => {
            let (text, _, damaged) = encoding.decode(bytes);
            Decoded { text: text.into_owned(), damaged }
        }
        Charset::Known(encoding) if is_utf8_after_all(encoding, bytes) => Decoded { damaged: true, ..utf8(bytes) },
        Charset::Known(encoding) => {
            let (text, damaged) = encoding.decode_without_bom_handling(bytes);
            Decoded { text: text.into_owned(), damaged }
        }
        Charset::Table(read) => Decoded { text: read(bytes), damaged: false },
        Charset::Plain => guess(bytes),
        Charset::Unknown => Decoded { damaged: true, ..guess(bytes) },
    }
}

/// Whether text that is declared in one of the East Asian charsets is UTF-8: text of theirs is never valid UTF-8 over
/// more than a few characters, and programs that declare what their user's system has are common there.
fn is_utf8_after_all(encoding: &'static Encoding, bytes: &[u8]) -> bool {
    let asian = [GBK, GB18030, BIG5, SHIFT_JIS, EUC_JP, EUC_KR].contains(&encoding);
    asian && std::str::from_utf8(bytes).is_ok_and(|text| text.chars().filter(|c| !c.is_ascii()).take(8).count() == 8)
}

/// Whether `label` names a charset that says more than "ASCII or UTF-8": worth using where nothing is declared.
pub fn is_telling(label: &str) -> bool {
    match charset(Some(label)) {
        Charset::Known(encoding) => encoding != UTF_8,
        Charset::Table(_) => true,
        Charset::Plain | Charset::Unknown => false,
    }
}

fn charset(label: Option<&str>) -> Charset {
    let Some(label) = label else { return Charset::Plain };
    let label = label.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    if label.is_empty() || label.eq_ignore_ascii_case("us-ascii") || label.eq_ignore_ascii_case("ascii") {
        return Charset::Plain;
    }
    let label = ALIASES.iter().find(|(odd, _)| odd.eq_ignore_ascii_case(label)).map_or(label, |(_, usual)| *usual);
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == REPLACEMENT => Charset::Unknown,
        Some(encoding) => Charset::Known(encoding),
        // The table looks at 45 bytes of a label and no more.
        None if label.len() <= 45 => charset_decoder(label.as_bytes()).map_or(Charset::Unknown, Charset::Table),
        None => Charset::Unknown,
    }
}

/// UTF-8 that was declared. Bytes of another charset under this label are common: when the broken sequences outweigh the
/// good ones it is guessed; a cut character in good text stays one replacement character.
fn utf8(bytes: &[u8]) -> Decoded {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Decoded { text: text.to_owned(), damaged: false };
    }
    let text = String::from_utf8_lossy(bytes);
    let broken = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    let good = text.chars().filter(|c| !c.is_ascii() && *c != char::REPLACEMENT_CHARACTER).count();
    let text = if good >= broken { text.into_owned() } else { as_it_looks(bytes) };
    Decoded { text, damaged: true }
}

fn guess(bytes: &[u8]) -> Decoded {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        // ISO-2022-JP has seven bits, and this escape where its characters begin.
        Ok(text) if text.is_ascii() && memmem::find(bytes, b"\x1b$B").is_some() => {
            Decoded { text: as_it_looks(bytes), damaged: true }
        }
        Ok(text) => Decoded { text: text.to_owned(), damaged: false },
        Err(_) => Decoded { text: as_it_looks(bytes), damaged: true },
    }
}

/// As many bytes tell a charset.
const TELLING: usize = 64 * 1024;

/// Charsets of Latin letters that differ from windows-1252 in few of them.
const LATIN: [&Encoding; 6] = [WINDOWS_1250, WINDOWS_1254, WINDOWS_1257, WINDOWS_1258, ISO_8859_2, ISO_8859_4];

/// As many letters that are no ASCII make one of [`LATIN`] believable: a pound sign alone does not.
const LETTERS: usize = 3;

/// The text in the charset that the bytes look like, by the frequencies that browsers go by.
fn as_it_looks(bytes: &[u8]) -> String {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    let first = bytes.get(..TELLING).unwrap_or(bytes);
    detector.feed(first, first.len() == bytes.len());
    let likely = detector.guess(None, Utf8Detection::Deny);
    let letters = || first.iter().filter(|byte| **byte >= 0xc0).take(LETTERS).count();
    let believed = if LATIN.contains(&likely) && letters() < LETTERS { WINDOWS_1252 } else { likely };
    believed.decode_without_bom_handling(bytes).0.into_owned()
}

impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded").field("bytes", &self.text.len()).field("damaged", &self.damaged).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(label: &str, bytes: &[u8]) -> String {
        decode((!label.is_empty()).then_some(label), bytes).text
    }

    #[test]
    fn the_label_counts_and_then_the_guess() {
        assert_eq!(text("iso-8859-15", b"\xa4"), "\u{20ac}");
        assert_eq!(text("uft-8", "caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(text("", "caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(text("", b"caf\xe9"), "caf\u{e9}");
        assert_eq!(text("US-ASCII", b"caf\xe9"), "caf\u{e9}");
        assert_eq!(text("no-such", b"caf\xe9"), "caf\u{e9}");
        assert!(decode(Some("no-such"), b"a").damaged);
        assert_eq!(text("utf-7", b"Gr+APwA3w-e"), "Gr\u{fc}\u{df}e");
        assert_eq!(text("cp850", b"\x81"), "\u{fc}");
        assert_eq!(text("iso-2022-jp", b"\x1b$B$\"\x1b(B"), "\u{3042}");
        assert_eq!(text("utf-16le", b"a\0\xe9\0"), "a\u{e9}");
    }

    #[test]
    fn what_declares_nothing_is_read_as_it_looks() {
        let cases = [
            ("windows-1252", "Price: 20 \u{a3}"),
            ("windows-1252", "Gr\u{fc}\u{df}e aus K\u{f6}ln, J\u{fc}rgen"),
            ("windows-1250", "Prosz\u{119} o piln\u{105} odpowied\u{17a}. Dzi\u{119}kuj\u{119}, \u{141}ukasz"),
            ("windows-1251", "\u{417}\u{434}\u{440}\u{430}\u{432}\u{441}\u{442}\u{432}\u{443}\u{439}\u{442}\u{435}"),
            ("koi8-r", "\u{433}\u{434}\u{435} \u{43c}\u{43e}\u{439} \u{437}\u{430}\u{43a}\u{430}\u{437}?"),
            ("shift_jis", "\u{6ce8}\u{6587}\u{306f}\u{3069}\u{3053}\u{3067}\u{3059}\u{304b}"),
            ("iso-2022-jp", "\u{6ce8}\u{6587}\u{306f}\u{3069}\u{3053}\u{3067}\u{3059}\u{304b}"),
            ("big5", "\u{60a8}\u{597d}\u{ff0c}\u{6211}\u{7684}\u{8a02}\u{55ae}\u{5728}\u{54ea}\u{88e1}"),
            ("euc-kr", "\u{c548}\u{b155}\u{d558}\u{c138}\u{c694}"),
            ("iso-8859-7", "\u{3a0}\u{3bf}\u{3cd} \u{3b5}\u{3af}\u{3bd}\u{3b1}\u{3b9}"),
        ];
        for (label, said) in cases {
            let (bytes, _, lost) = Encoding::for_label(label.as_bytes()).unwrap().encode(said);
            assert!(!lost, "{label}");
            for declared in ["", "us-ascii", "no-such"] {
                assert_eq!(text(declared, &bytes), said, "{label} as `{declared}`");
            }
        }
    }

    #[test]
    fn utf8_that_is_none_is_read_as_windows_1252_unless_only_cut() {
        assert_eq!(text("utf-8", b"caf\xe9 \xe0 la"), "caf\u{e9} \u{e0} la");
        assert_eq!(text("utf-8", b"\xc3\xa9\xc3\xa0\xc3"), "\u{e9}\u{e0}\u{fffd}");
        let chinese = "\u{4f60}\u{597d}".repeat(4);
        assert_eq!(text("gb2312", chinese.as_bytes()), chinese);
        assert_eq!(text("gb2312", b"\xc4\xe3\xba\xc3"), "\u{4f60}\u{597d}");
        assert_eq!(text("utf-8", b"\xef\xbb\xbfa"), "a");
    }

    #[test]
    fn telling_labels() {
        assert!(is_telling("koi8-r") && is_telling("utf-7"));
        assert!(!is_telling("utf-8") && !is_telling("us-ascii") && !is_telling("none"));
    }

    proptest! {
        #[test]
        fn any_label_and_bytes_give_text(label in "[a-z0-9_-]{0,50}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode(Some(&label), &bytes);
        }

        #[test]
        fn valid_utf8_stays_as_it_is(words in "[^\u{feff}]{0,40}") {
            prop_assert_eq!(decode(Some("utf-8"), words.as_bytes()).text, words.clone());
            prop_assert_eq!(decode(None, words.as_bytes()).text, words);
        }
    }
}
