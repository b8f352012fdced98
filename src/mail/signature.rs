//! The signature at the end of a stretch of new text.
//!
//! Sure signs are the delimiter `--`, a rule above short lines, and the footers of programs and devices. Unsure signs are
//! closing words, a dash before a name, and the sender's name alone on a line; these hold only if short lines follow them
//! to the end of the stretch, and never if no other new text would remain. Per stretch at most [`TAIL`] lines are weighed.

use super::quote_header::is_rule;
use super::reply::{Kind, Line, What};
use super::reply_words::lists;
use super::signature_words::{CLOSINGS, DEVICES, FOOTER_BEGINS, FOOTER_ENDS, MY, NOTICE_BEGINS, NOTICES, THANKS};

/// Lines, blank ones not counted, that may follow a delimiter.
const TAIL: usize = 40;
/// Lines that may follow a rule.
const RULED: usize = 14;
/// Lines that may follow closing words or a name.
const CLOSED: usize = 16;
/// Characters of a line of a signature.
const SHORT: usize = 60;
/// Characters of such a line that has an address, a number or a link.
const CONTACT: usize = 120;
/// Words of a footer.
const FOOTER_WORDS: usize = 12;

/// Marks the signatures in all stretches of new text.
pub(super) fn mark(lines: &[Line<'_>], labels: &mut [What], sender: Option<&str>) {
    let sender = Sender::of(sender);
    let mut unsure = Vec::new();
    let mut written = false;
    let mut at = 0;
    while at < labels.len() {
        let end = labels.iter().skip(at).position(|what| *what != What::New).map_or(labels.len(), |run| at + run);
        if end > at {
            let run: Vec<usize> =
                (at..end).filter(|at| lines.get(*at).is_some_and(|l| l.kind != Kind::Blank)).collect();
            let found = Found::of(lines, &run, &sender, at > 0);
            written |= found.text > 0;
            apply(labels, &run, end, &found, &mut unsure);
        }
        at = end.max(at + 1);
    }
    if !written {
        // Nothing else was written: "Thanks, Ann" is the message.
        for at in unsure {
            labels.iter_mut().skip(at).take(1).for_each(|label| *label = What::New);
        }
    }
}

fn apply(labels: &mut [What], run: &[usize], end: usize, found: &Found, unsure: &mut Vec<usize>) {
    let line_of = |rank: usize| run.get(rank).copied().unwrap_or(end);
    let (from, sure, old) = (line_of(found.text), line_of(found.sure), line_of(found.old));
    let mut set = |range: std::ops::Range<usize>, what: What| {
        labels.iter_mut().take(range.end).skip(range.start).for_each(|label| *label = what);
    };
    set(from..old, What::Signature);
    set(old..end, What::Quoted);
    unsure.extend(from..sure);
}

/// Where the parts of a stretch begin, as ranks among its lines that are not blank.
struct Found {
    /// How many lines are text: the unsure signature begins behind them.
    text: usize,
    /// Where the sure signature begins.
    sure: usize,
    /// Where the text of an earlier mail begins that stands unmarked below a footer.
    old: usize,
}

impl Found {
    fn of(lines: &[Line<'_>], run: &[usize], sender: &Sender, above: bool) -> Found {
        let line = |rank: usize| run.get(rank).and_then(|at| lines.get(*at));
        let text = |rank: usize| line(rank).map_or("", |line| line.text);
        let code = |rank: usize| line(rank).is_none_or(|line| line.kind == Kind::Code);
        let blank_above = |rank: usize| {
            let above = run.get(rank).and_then(|at| at.checked_sub(1)).and_then(|at| lines.get(at));
            above.is_none_or(|line| line.kind == Kind::Blank)
        };
        let all = run.len();
        // A footer is a paragraph of its own or the end, and not above all text.
        let apart =
            |rank: usize| rank + 1 == all || (rank > 0 && blank_above(rank) && below(rank, &text, &blank_above));
        let footer = (0..all).find(|rank| apart(*rank) && !code(*rank) && is_footer(text(*rank)));
        let last = footer.unwrap_or(all);
        let delimiter = (all.saturating_sub(TAIL)..last).find(|rank| {
            let exact = line(*rank).is_some_and(|line| line.delimiter);
            let weak = above || *rank > 0;
            !code(*rank) && (exact || weak && is_delimiter(text(*rank), all - rank - 1, (rank + 1..all).map(text)))
        });
        let sure = delimiter.unwrap_or(last);
        let begin = |end: usize| closing(end, sender, &text, &code, &blank_above);
        // Below a signature, or if it says so twice, a notice is one; else the sender may speak of secrets.
        let notice = (sure.saturating_sub(CLOSED).max(1)..sure).find(|rank| {
            let words = if code(*rank) || !blank_above(*rank) { 0 } else { notices(text(*rank), text(rank + 1)) };
            words > 1 || (words == 1 && begin(*rank) < *rank)
        });
        let sure = notice.unwrap_or(sure);
        let old = match (delimiter, footer) {
            // Below its footer a program puts the old mail, some without any header.
            (None, Some(footer)) => {
                (footer + 1..all).find(|rank| !text(*rank).starts_with(['<', '(', '['])).unwrap_or(all)
            }
            _ => all,
        };
        Found { text: begin(sure), sure, old }
    }
}

/// The rank at which closing words, a dash with a name or the sender's name begin the end of the text; `end` if none does.
fn closing<'a>(
    end: usize,
    sender: &Sender,
    text: &impl Fn(usize) -> &'a str,
    code: &impl Fn(usize) -> bool,
    blank_above: &impl Fn(usize) -> bool,
) -> usize {
    let mut begin = end;
    let mut address = false;
    for rank in (end.saturating_sub(CLOSED)..end).rev() {
        let line = text(rank);
        if code(rank) || !may_be_signature(line) {
            break;
        }
        let before = rank.checked_sub(1).map_or("", text);
        let next = (rank + 1 < end).then(|| text(rank + 1));
        let begins = closes(line, next)
            || (dash_name(line, before) && sender.may_be(line))
            || (sender.named_in(line) && (blank_above(rank) || before.ends_with(['.', '!', '?', ','])))
            || (address && blank_above(rank) && is_name(line, 5));
        address |= sender.address.as_ref().is_some_and(|own| line.to_lowercase().contains(own.as_str()));
        if begins && !before.ends_with([':', '：']) {
            begin = rank;
        }
    }
    begin
}

/// Whether the line below `rank` begins a paragraph or is the link of a footer.
fn below<'a>(rank: usize, text: &impl Fn(usize) -> &'a str, blank_above: &impl Fn(usize) -> bool) -> bool {
    blank_above(rank + 1) || text(rank + 1).starts_with(['<', '(', '[', '_'])
}

/// A delimiter without its blank, or a rule, above short lines that end the text, perhaps with a firm's notice.
fn is_delimiter<'a>(line: &str, after: usize, mut rest: impl Iterator<Item = &'a str>) -> bool {
    let dashes = is_rule(line, 1) && line.starts_with(['—', '–', '─', '━']);
    let under = line.starts_with('_') && is_rule(line, 2);
    let ruled = line.starts_with(['-', '*']) && is_rule(line, 4);
    let Some(first) = rest.next().filter(|_| after <= RULED && (dashes || under || ruled || line == "--")) else {
        return line == "--" && after == 0;
    };
    // Rules of hyphens part texts too: then no name stands below.
    (!ruled || is_name(first, 5))
        && (may_be_signature(first) || is_footer(first) || notices(first, "") > 0)
        && rest.take_while(|line| notices(line, "") == 0).all(|line| may_be_signature(line) || is_footer(line))
}

/// How many words of a firm's notice on confidence, viruses or paper these two lines have; 0 if the first begins none.
fn notices(line: &str, next: &str) -> usize {
    let lower = line.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    if !NOTICE_BEGINS.split('|').any(|words| begins_with(&lower, words)) {
        return 0;
    }
    let next = next.to_lowercase();
    NOTICES.split('|').filter(|word| lower.contains(word) || next.contains(word)).count()
}

/// Whether a line may stand in a signature: short, and no sentence.
fn may_be_signature(line: &str) -> bool {
    let contact = line.contains(['@', '|', '•']) || line.contains("http") || line.contains("www.") || phone(line);
    let limit = if contact { CONTACT } else { SHORT };
    let words = line.split_whitespace().count();
    let sentence = line.ends_with(['?', '？', '。']) || (words >= 5 && line.ends_with(['.', '!', ':', ';']));
    line.chars().take(limit + 1).count() <= limit && !sentence && (contact || words <= 10) && !line.starts_with('>')
}

/// Whether the line has seven digits or more.
fn phone(line: &str) -> bool {
    line.chars().filter(char::is_ascii_digit).take(7).count() == 7
}

/// Whether the line is closing words, alone or with a name behind them. Thanks need a name in the next line.
fn closes(line: &str, next: Option<&str>) -> bool {
    let bare = bare(line);
    let lower = bare.to_lowercase();
    if CLOSINGS.iter().any(|list| lists(list, &lower)) {
        return true;
    }
    if THANKS.iter().any(|list| lists(list, &lower)) {
        return next.is_some_and(|next| is_name(next, 4));
    }
    CLOSINGS.iter().flat_map(|list| list.split('|')).any(|words| {
        let behind = lower.strip_prefix(words).filter(|rest| rest.starts_with([' ', ',', '!', '.', '，', '、']));
        behind.is_some_and(|rest| {
            let kept = bare.chars().count().saturating_sub(rest.chars().count());
            let name: String = bare.chars().skip(kept).collect();
            is_name(name.trim_matches([' ', ',', '!', '.', '，', '、']), 3)
        })
    })
}

/// The line without the marks and pictures around its words.
fn bare(line: &str) -> &str {
    line.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '(' | ')'))
}

/// `-Name`: a dash and one to three words, not a point of a list.
fn dash_name(line: &str, before: &str) -> bool {
    let name = line.strip_prefix(['-', '~', '/']).or_else(|| line.strip_prefix('—').map(str::trim_start));
    let name = name.map(|name| name.trim_start_matches('/'));
    name.is_some_and(|name| is_name(name, 3) && !name.starts_with(' ')) && !before.starts_with(['-', '*', '•', '~'])
}

/// Whether this looks like a name: at most `most` words that begin with a capital, or with a letter of a script without.
fn is_name(line: &str, most: usize) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(most + 1).collect();
    let capital = |word: &&str| {
        let first = word.chars().find(|c| c.is_alphanumeric());
        first.is_none_or(|c| c.is_alphabetic() && !c.is_lowercase())
            || matches!(*word, "von" | "van" | "de" | "der" | "da" | "la")
    };
    !words.is_empty()
        && words.len() <= most
        && words.iter().all(capital)
        && !line.ends_with(['?', '!', ':', '。', '？', '！'])
        && line.chars().any(char::is_alphabetic)
}

/// A footer of a program or a device: "Sent from my …".
pub(super) fn is_footer(line: &str) -> bool {
    let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
    let said = line.split(['<', '(', '[']).next().unwrap_or_default().trim_end_matches(|c: char| !c.is_alphanumeric());
    let words = said.split_whitespace().count();
    if words == 0 || words > FOOTER_WORDS || line.ends_with(['?', '？']) {
        return false;
    }
    let lower = said.to_lowercase();
    let device = |word: &str| DEVICES.split('|').any(|device| names_device(word, device));
    let mut parts = lower.split(|c: char| c.is_whitespace() || matches!(c, '-' | '\'' | '’'));
    let begins = FOOTER_BEGINS.iter().flat_map(|list| list.split('|')).any(|words| begins_with(&lower, words));
    if begins && words <= 9 {
        let mine = words <= 7 && !lower.contains(',') && lower.split_whitespace().any(|word| lists(MY, word));
        let unspaced = lower.as_str() > "\u{2e80}" && DEVICES.split('|').any(|device| lower.contains(device));
        // "Mail" is a program, "mail" is a word.
        let program = said.split_whitespace().any(|word| word.starts_with("Mail"));
        return mine || unspaced || (!lower.contains(", ") && (program || parts.any(device)));
    }
    let ends = FOOTER_ENDS.split('|').any(|words| lower.ends_with(words));
    let unspaced = FOOTER_ENDS.split('|').any(|words| words > "\u{2e80}" && lower.ends_with(words));
    let first = parts.next().is_some_and(device) || (unspaced && parts.clone().any(device));
    let german =
        lower.starts_with("von mein") || lower.starts_with("diese nachricht") || lower.starts_with("diese e-mail");
    ends && (first || (german && parts.any(device)))
}

/// Whether the word is this device, perhaps with an ending; a short one must be the whole word.
fn names_device(word: &str, device: &str) -> bool {
    word == device || (device.len() > 5 && word.starts_with(device)) || (device > "\u{2e80}" && word.contains(device))
}

/// Whether the text begins with these words; a script without blanks needs no blank behind them.
fn begins_with(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| {
        words > "\u{590}" || words.ends_with(' ') || rest.starts_with(|c: char| !c.is_alphanumeric()) || rest.is_empty()
    })
}

/// The sender, as far as it is known.
struct Sender {
    /// The words of the name, in lower case.
    name: Vec<String>,
    /// The address, in lower case.
    address: Option<String>,
}

impl Sender {
    fn of(sender: Option<&str>) -> Sender {
        let sender: String = sender.unwrap_or_default().chars().take(200).collect::<String>().to_lowercase();
        // "Poe, Ann" is Ann Poe.
        let sender = sender.split_once(',').map_or(sender.clone(), |(last, first)| format!("{first} {last}"));
        let address = sender.split_whitespace().find(|word| word.contains('@'));
        let address = address.map(|word| word.trim_matches(['<', '>', '(', ')', '"']).to_owned());
        let name = words(&sender).into_iter().filter(|word| !word.contains('@')).collect();
        Sender { name, address }
    }

    /// Whether nothing says that this name is another's.
    fn may_be(&self, name: &str) -> bool {
        self.name.is_empty() || words(&name.to_lowercase()).iter().any(|word| self.name.contains(word))
    }

    /// Whether the line is the whole name, the first name alone, or the whole name with up to three words more.
    fn named_in(&self, line: &str) -> bool {
        let Some(first) = self.name.first() else { return false };
        let line: Vec<String> = words(&line.to_lowercase());
        let whole = self.name.len() >= 2 && line.len() <= self.name.len() + 3;
        line == self.name
            || (line.len() == 1 && line.first() == Some(first) && first.chars().count() > 1)
            || (whole && line.windows(self.name.len()).any(|window| window == self.name))
    }
}

/// The words without the marks around them.
fn words(text: &str) -> Vec<String> {
    let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    text.split_whitespace().map(clean).filter(|word| !word.is_empty()).collect()
}
