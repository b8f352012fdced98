//! The text of rich text (RTF 1.9), without its form.

use std::collections::BTreeMap;

use encoding_rs::{Encoding, WINDOWS_1252};

/// The deepest groups whose state is kept; deeper ones share the state of this depth.
const MOST_DEPTH: usize = 200;
/// Groups that hold no text of the document.
const HIDDEN: [&str; 15] = [
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "header",
    "footer",
    "headerl",
    "headerr",
    "footerl",
    "footerr",
    "footnote",
    "listtable",
    "generator",
    "themedata",
];

/// The most fonts whose encoding is kept.
const MOST_FONTS: usize = 1000;

/// What a group may change.
#[derive(Clone, Copy)]
struct State {
    /// The font's number.
    font: i32,
    /// Within the table of fonts, where a font is described and not used.
    describes_fonts: bool,
    /// Its text is not the document's.
    hidden: bool,
    /// How many characters stand in for a Unicode one.
    fallback: usize,
}

/// The text of `rtf`, at most `most` bytes of it.
pub(super) fn text(rtf: &[u8], most: usize) -> String {
    let mut reader = Reader {
        rest: rtf,
        out: String::new(),
        pending: Vec::new(),
        codepage: WINDOWS_1252,
        fonts: BTreeMap::new(),
        state: State { font: 0, describes_fonts: false, hidden: false, fallback: 1 },
        stack: Vec::new(),
        deeper: 0,
        skip: 0,
        surrogate: None,
    };
    while reader.out.len() + reader.pending.len() < most && reader.step().is_some() {}
    reader.flush();
    let mut end = reader.out.len().min(most);
    while !reader.out.is_char_boundary(end) {
        end -= 1;
    }
    reader.out.truncate(end);
    reader.out
}

struct Reader<'a> {
    rest: &'a [u8],
    out: String,
    /// Bytes in the code page that are not decoded yet: a character may take two.
    pending: Vec<u8>,
    /// The document's encoding, for fonts without one of their own.
    codepage: &'static Encoding,
    fonts: BTreeMap<i32, &'static Encoding>,
    state: State,
    stack: Vec<State>,
    /// How many groups are open beyond those on the stack.
    deeper: usize,
    /// How many characters that stand in for a Unicode one are still to pass over.
    skip: usize,
    /// The first half of a character outside the basic plane.
    surrogate: Option<u16>,
}

impl Reader<'_> {
    /// Reads one sign, word or character. `None` at the end.
    fn step(&mut self) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b'{' => self.open(),
            b'}' => self.close(),
            b'\\' => self.control(),
            b'\r' | b'\n' | 0 => {}
            byte => self.byte(*byte),
        }
        Some(())
    }

    fn open(&mut self) {
        self.flush();
        self.skip = 0;
        if self.stack.len() < MOST_DEPTH {
            self.stack.push(self.state);
        } else {
            self.deeper += 1;
        }
    }

    fn close(&mut self) {
        self.flush();
        self.skip = 0;
        if self.deeper > 0 {
            self.deeper -= 1;
        } else if let Some(state) = self.stack.pop() {
            self.state = state;
        }
    }

    /// A byte of text in the code page.
    fn byte(&mut self, byte: u8) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.state.hidden {
            self.pending.push(byte);
        }
    }

    /// Decodes the pending bytes.
    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let encoding = self.fonts.get(&self.state.font).copied().unwrap_or(self.codepage);
            self.out.push_str(&encoding.decode_without_bom_handling(&self.pending).0);
            self.pending.clear();
        }
    }

    /// A character that a control stands for.
    fn put(&mut self, c: char) {
        self.flush();
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.state.hidden {
            self.out.push(c);
        }
    }

    /// What follows a backslash.
    fn control(&mut self) {
        let Some((first, rest)) = self.rest.split_first() else { return };
        if first.is_ascii_alphabetic() {
            return self.word();
        }
        self.rest = rest;
        match first {
            b'\'' => {
                let hex = rest.split_at_checked(2).and_then(|(hex, rest)| {
                    let value = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
                    Some((value, rest))
                });
                if let Some((byte, rest)) = hex {
                    self.rest = rest;
                    self.byte(byte);
                }
            }
            b'*' => self.state.hidden = true,
            b'~' => self.put('\u{a0}'),
            b'_' => self.put('-'),
            b'-' => {}
            b'\r' | b'\n' => self.put('\n'),
            byte => self.byte(*byte),
        }
    }

    /// A control word with its number and the blank that ends it.
    fn word(&mut self) {
        let end =
            self.rest.iter().take(32).position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(self.rest.len().min(32));
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        let digits = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
        let end = rest.iter().take(12).position(|byte| !digits(byte)).unwrap_or(rest.len().min(12));
        let (number, rest) = rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<i32>().ok());
        self.apply(std::str::from_utf8(word).unwrap_or_default(), number);
    }

    fn apply(&mut self, word: &str, number: Option<i32>) {
        if let Some(c) = character(word) {
            return self.put(c);
        }
        match word {
            "u" => self.unicode(number.unwrap_or(0)),
            "uc" => self.state.fallback = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(16),
            "ansicpg" => {
                let page = number.and_then(|page| u32::try_from(page).ok());
                self.codepage = page.and_then(super::encoding).unwrap_or(self.codepage);
            }
            "mac" => self.codepage = encoding_rs::MACINTOSH,
            "bin" => {
                let count = usize::try_from(number.unwrap_or(0)).unwrap_or(0);
                self.rest = self.rest.get(count..).unwrap_or_default();
            }
            "f" => {
                self.flush();
                self.state.font = number.unwrap_or(0);
            }
            "fcharset" if self.state.describes_fonts && self.fonts.len() < MOST_FONTS => {
                let encoding = number.and_then(font_page).and_then(super::encoding);
                self.fonts.extend(encoding.map(|encoding| (self.state.font, encoding)));
            }
            "fonttbl" => {
                self.flush();
                self.state.hidden = true;
                self.state.describes_fonts = true;
            }
            hidden if HIDDEN.contains(&hidden) => {
                self.flush();
                self.state.hidden = true;
            }
            _ => {}
        }
    }

    /// A character by its UTF-16 number, which may be written negative; characters that stand in for it follow.
    fn unicode(&mut self, number: i32) {
        self.flush();
        let unit = (number & 0xFFFF) as u16;
        self.skip = 0;
        let first = self.surrogate.take();
        if (0xD800..0xDC00).contains(&unit) {
            self.surrogate = Some(unit);
        } else {
            let pair: Vec<u16> = first.into_iter().chain([unit]).collect();
            let hidden = self.state.hidden;
            self.out.extend(char::decode_utf16(pair).flatten().filter(|_| !hidden));
        }
        self.skip = self.state.fallback;
    }
}

/// The character that a control word stands for.
fn character(word: &str) -> Option<char> {
    Some(match word {
        "par" | "line" | "sect" | "page" | "row" => '\n',
        "tab" | "cell" | "nestcell" => '\t',
        "bullet" => '•',
        "endash" => '–',
        "emdash" => '—',
        "lquote" => '‘',
        "rquote" => '’',
        "ldblquote" => '“',
        "rdblquote" => '”',
        _ => return None,
    })
}

/// The code page of a font's character set, if it is not the document's.
fn font_page(charset: i32) -> Option<u32> {
    Some(match charset {
        77 => 10000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}
