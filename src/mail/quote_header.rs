//! What stands above a quoted mail: "On … wrote:", a block of fields, or a rule that says "Original Message".
//!
//! Works on lines that [`super::reply`] has read. Every question looks at four lines at most (twelve for fields), so
//! the whole of a text is read in linear time.

use super::quote_facts::{Dates, address, bracketed, digit};
use super::reply::{Kind, Line};
use super::reply_words::{LANGUAGES, OWN, Words, lists};

/// Lines that a wrapped "On … wrote:" may have.
const MAX_WRAPPED: usize = 4;
/// Bytes that such a header may have.
const MAX_HEADER: usize = 600;
/// Lines that a block of fields is searched for.
const MAX_FIELDS: usize = 12;
/// Bytes of a field's name.
const MAX_NAME: usize = 40;
/// Characters before the date where a header begins with it: the longest name of a weekday.
const WEEKDAY: usize = 16;

/// How many lines from `at` are a quote's header; 0 where there is none. `quoted` says that the next line that is not
/// blank behind the line asked for is quoted with `>`.
pub(super) fn lines_at(lines: &[Line<'_>], at: usize, quoted: &dyn Fn(usize) -> bool) -> usize {
    let Some(first) = lines.get(at) else { return 0 };
    if is_original(first.text) {
        return 1;
    }
    let fields = field_block(lines, at);
    if fields > 0 { fields } else { written(lines, at, quoted) }
}

/// A rule: at least `least` of one of `-_=*—–`, perhaps with blanks between, and nothing else.
pub(super) fn is_rule(text: &str, least: usize) -> bool {
    let mut marks = text.chars().filter(|c| !c.is_whitespace());
    let Some(first) = marks.next() else { return false };
    let mut count = 1;
    matches!(first, '-' | '_' | '=' | '*' | '—' | '–' | '─' | '━')
        && marks.all(|c| {
            count += 1;
            c == first
        })
        && count >= least
}

/// A line that says that the original or a forwarded mail follows: words between rules, or with a colon behind them.
fn is_original(text: &str) -> bool {
    if text.len() > 200 {
        return false;
    }
    let mark = |c: char| matches!(c, '-' | '_' | '=' | '*' | '#' | '—' | '–');
    let inner = text.trim_matches(|c: char| mark(c) || c.is_whitespace());
    // One hyphen is a point of a list.
    let ruled = text.chars().take(2).filter(|c| mark(*c)).count() == 2;
    let said = inner.strip_suffix([':', '：']);
    if inner.is_empty() || !(ruled || said.is_some()) {
        return false;
    }
    let inner = said.unwrap_or(inner).trim().to_lowercase();
    // "Forwarded by Ann on …" has a name behind the words.
    let begins = |words: &str| ruled && inner.strip_prefix(words).is_some_and(|rest| rest.starts_with([' ', ',', '/']));
    LANGUAGES.iter().flat_map(|language| language.original.split('|')).any(|words| inner == words || begins(words))
}

/// The kinds of fields that a block has.
#[derive(Default)]
struct Fields {
    from: bool,
    address: bool,
    /// The From field names somebody with an address in angle brackets.
    named: bool,
    sent: bool,
    date: bool,
    to: bool,
    subject: bool,
}

impl Fields {
    /// Notes the field of this line, if it is one that a mail has.
    fn note(&mut self, text: &str) -> bool {
        let Some((name, value)) = field(text) else { return false };
        let any = |list: fn(&Words) -> &'static str| LANGUAGES.iter().any(|language| lists(list(language), &name));
        let (from, sent, date) = (any(|w| w.from), any(|w| w.sent), any(|w| w.date));
        let (to, subject) = (any(|w| w.to), any(|w| w.subject));
        if from && !self.from {
            self.address = address(value);
            self.named = self.address && value.ends_with(['>', ']']);
        }
        self.from |= from;
        self.sent |= sent;
        self.date |= date;
        // "A:" and "An:" are recipients in one language and something else in another.
        self.to |= to && !from;
        self.subject |= subject;
        from || sent || date || to || subject
    }

    fn kinds(&self) -> usize {
        [self.from, self.sent || self.date, self.to, self.subject].iter().filter(|has| **has).count()
    }

    /// Whether these are the fields of a mail. From, To and Date alone may be a journey: then From must be an address.
    fn are_a_mail(&self) -> bool {
        let kinds = self.kinds();
        self.from && kinds >= 2 && (self.sent || self.subject || self.address)
    }
}

/// The name of the field in this line, in lower case, and its value.
fn field(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches(['*', '_', ' ']);
    let (at, _) = text.char_indices().find(|(at, c)| matches!(c, ':' | '：') || *at > MAX_NAME)?;
    let (name, rest) = text.split_at_checked(at)?;
    let value = rest.strip_prefix([':', '：'])?;
    let name = name.trim_matches(|c: char| matches!(c, '*' | '_') || c.is_whitespace());
    (!name.is_empty()).then(|| (name.to_lowercase(), value.trim_matches(['*', '_', ' '])))
}

/// How many lines from `at` are the fields of a mail. One line that continues a field, or one blank line, may stand
/// between two of them.
fn field_block(lines: &[Line<'_>], at: usize) -> usize {
    let mut fields = Fields::default();
    let (mut end, mut between) = (at, 0);
    for (offset, line) in lines.iter().skip(at).take(MAX_FIELDS).enumerate() {
        if line.kind == Kind::Text && fields.note(line.text) {
            end = at + offset + 1;
            between = 0;
        } else if offset == 0 || between > 0 || matches!(line.kind, Kind::Quoted | Kind::Code) {
            break;
        } else {
            between += 1;
        }
    }
    let alone = end == at + 1
        && fields.named
        && [at.checked_sub(1), Some(end)]
            .iter()
            .flatten()
            .all(|at| lines.get(*at).is_none_or(|l| l.kind == Kind::Blank));
    if fields.are_a_mail() || alone { end - at } else { 0 }
}

/// How many lines from `at` say who wrote what follows.
fn written(lines: &[Line<'_>], at: usize, quoted: &dyn Fn(usize) -> bool) -> usize {
    let Some(first) = lines.get(at) else { return 0 };
    let window = lines.iter().skip(at).take(MAX_WRAPPED);
    if first.text.len() > MAX_HEADER || !(quoted(at) || window.clone().any(|line| may_end(line.text))) {
        return 0;
    }
    let start = Start::of(first.text);
    if begins_quote(first.text, &start) {
        return 1;
    }
    let mut joined = String::new();
    for (offset, line) in window.enumerate() {
        // An address may be wrapped before its closing bracket.
        let bracket = line.kind == Kind::Quoted && joined.rfind('<') > joined.rfind('>');
        if (line.kind != Kind::Text && !bracket) || joined.len() + line.text.len() > MAX_HEADER {
            return 0;
        }
        join(&mut joined, line.text);
        let next = quoted(at + offset);
        if (next || may_end(&joined)) && Header::of(&joined, &start, next).is_one(next) {
            return if later_start(lines, at, offset, &start, next) { 0 } else { offset + 1 };
        }
        let colon = line.text.ends_with([':', '：']) && !line.text.ends_with("mailto:");
        if colon || (offset == 0 && !start.may_wrap()) {
            return 0;
        }
    }
    0
}

/// Whether the old text follows a full header in the same line, as some phones write it.
fn begins_quote(text: &str, start: &Start) -> bool {
    let behind = text.find('>').and_then(|at| text.get(at..)?.find(": ").map(|colon| at + colon + 1));
    let header = behind.filter(|_| start.intro && start.full_date && start.bracket).and_then(|end| text.get(..end));
    header.is_some_and(|header| {
        let header = Header::of(header, start, false);
        header.verb_ends && header.date && header.bracket
    })
}

/// Whether a header may end here: with a colon, with dashes or with an address. Asked first because it costs little.
fn may_end(text: &str) -> bool {
    let end =
        text.trim_end_matches(|c: char| matches!(c, '*' | '_') || c.is_whitespace() || super::reply::invisible(c));
    end.ends_with([':', '：', '﹕']) || end.ends_with("--") || text.contains('@')
}

/// Whether a header that ends in the same line begins in a line below `at`: then `at` is the end of the text above it.
fn later_start(lines: &[Line<'_>], at: usize, wrapped: usize, first: &Start, quoted: bool) -> bool {
    (1..=wrapped).any(|skip| {
        let Some(line) = lines.get(at + skip) else { return false };
        let start = Start::of(line.text);
        let better = start.full_date && (start.intro || (start.early && !(first.intro && first.digit)));
        let mut joined = String::new();
        lines.iter().skip(at + skip).take(wrapped + 1 - skip).for_each(|line| join(&mut joined, line.text));
        better && Header::of(&joined, &start, quoted).is_one(quoted)
    })
}

/// Adds a line without the invisible marks that turn the direction of writing.
fn join(joined: &mut String, text: &str) {
    if !joined.is_empty() && !joined.ends_with('<') {
        joined.push(' ');
    }
    joined.extend(text.chars().filter(|c| !super::reply::invisible(*c)));
}

/// How a line begins, read as the beginning of a header.
struct Start {
    /// With "On" in some language.
    intro: bool,
    /// With a date, perhaps behind a weekday.
    early: bool,
    digit: bool,
    full_date: bool,
    /// It has an address in brackets.
    bracket: bool,
}

impl Start {
    fn of(text: &str) -> Start {
        let text: String = text.chars().take(MAX_HEADER).filter(|c| !super::reply::invisible(*c)).collect();
        let text = text.trim_start_matches(['-', ' ', '—', '*', '_']);
        let lower = text.to_lowercase();
        let begins = |words: &str| {
            words.split('|').any(|word| {
                let rest = if word.is_empty() { None } else { lower.strip_prefix(word) };
                rest.is_some_and(|rest| rest.starts_with(|c: char| !c.is_alphabetic() || c > '\u{2e80}'))
            })
        };
        let dates = Dates::of(text);
        Start {
            intro: LANGUAGES.iter().any(|language| begins(language.intro)),
            early: text.chars().take(WEEKDAY).any(|c| digit(c).is_some()),
            digit: text.chars().any(|c| digit(c).is_some()),
            full_date: dates.full,
            bracket: bracketed(text),
        }
    }

    fn may_wrap(&self) -> bool {
        (self.intro && self.digit) || self.early || self.bracket
    }
}

/// What a possible header has, joined to one line. Behind the name stands the address, before or behind it the date, and
/// the verb at the end or, as in German, in the middle.
struct Header<'a> {
    start: &'a Start,
    colon: bool,
    dashes: bool,
    date: bool,
    full_date: bool,
    address: bool,
    bracket: bool,
    /// An address stands in angle brackets.
    angle: bool,
    /// The address in brackets is its end.
    bracket_ends: bool,
    verb_ends: bool,
    verb: bool,
    /// A name and nothing else stands between the verb and the end.
    verb_name: bool,
    short: bool,
    /// It says "I".
    own: bool,
}

impl<'a> Header<'a> {
    fn of(joined: &str, start: &'a Start, quoted: bool) -> Header<'a> {
        let text = joined.trim_end_matches(|c: char| matches!(c, '*' | '_') || c.is_whitespace());
        let bare = text.trim_end_matches([':', '：', '-', ' ', '﹕', '\u{a0}']);
        let colon = text.ends_with([':', '：', '﹕']);
        let lower = bare.to_lowercase();
        let ends = |verb: &str| lower.strip_suffix(verb).is_some_and(|rest| apart(rest.chars().next_back(), verb));
        let behind = |verb: &str| {
            let found = lower.match_indices(verb).take(4).find(|(at, _)| {
                let (before, after) = (lower.get(..*at), lower.get(at + verb.len()..));
                let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
                apart(before.chars().next_back(), verb) && apart(after.chars().next(), verb)
            });
            found.map(|(at, _)| lower.len() - at - verb.len())
        };
        let verbs = || LANGUAGES.iter().flat_map(|language| language.wrote.split('|'));
        let verb_ends = verbs().any(ends);
        let dates = Dates::of(bare);
        let rest = if colon || quoted { verbs().filter_map(behind).min() } else { None };
        Header {
            start,
            colon,
            dashes: joined.starts_with("--") && joined.ends_with("--"),
            date: dates.any,
            full_date: dates.full,
            address: address(bare),
            bracket: bracketed(bare),
            angle: bare.find('<').and_then(|at| bare.get(at..)).is_some_and(address),
            bracket_ends: bare.ends_with(['>', ')', ']']) && bracketed(bare),
            verb_ends,
            verb: verb_ends || rest.is_some(),
            verb_name: rest.is_some_and(|rest| name_of(bare, rest)),
            short: bare.split_whitespace().count() <= 8,
            own: says_i(&lower),
        }
    }

    /// Whether this says who wrote what follows; `quoted`: the next line is quoted with `>`.
    fn is_one(&self, quoted: bool) -> bool {
        let begun = self.start.intro || self.start.early;
        let ended = self.verb_ends && (self.colon || self.dashes);
        if self.own && !self.address && !quoted {
            return false;
        }
        (self.verb_ends && self.date && (self.colon || self.dashes || self.address) && (begun || self.bracket))
            || (ended && self.address && (self.start.intro || self.full_date || (self.bracket && self.short) || quoted))
            || (ended && quoted && self.short)
            || (self.verb
                && self.date
                && self.colon
                && (self.angle
                    || self.bracket_ends
                    || (begun && (self.address && self.verb_ends || quoted || self.verb_name))))
            || (self.colon && self.full_date && self.bracket_ends && self.start.early && !self.start.intro)
            || (quoted && begun && self.date && (self.verb_ends || self.verb_name))
    }
}

/// Whether a text in lower case has a word for "I".
fn says_i(lower: &str) -> bool {
    let has = |word: &str| word > "\u{2e80}" && lower.contains(word);
    OWN.split('|').any(has) || lower.split_whitespace().any(|word| lists(OWN, word))
}

/// Whether the last `bytes` of a text are a name: one to four words that begin with no small letter.
fn name_of(text: &str, bytes: usize) -> bool {
    // Lower case may have another length: then no name is found, and the line is no header.
    let name = text.len().checked_sub(bytes).and_then(|at| text.get(at..)).unwrap_or_default();
    let words = name.split_whitespace().count();
    (1..=4).contains(&words)
        && name.split_whitespace().all(|word| !word.starts_with(|c: char| c.is_lowercase() || c.is_numeric()))
}

/// Whether a word may end beside `c`. Scripts that write no blanks between words have no such place.
fn apart(c: Option<char>, word: &str) -> bool {
    let unspaced = word.chars().next().is_some_and(|c| c > '\u{2e80}');
    unspaced || c.is_none_or(|c| !c.is_alphanumeric())
}
