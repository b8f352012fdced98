//! What is new in a mail's text, what is quoted from earlier mails, and what is the signature.
//!
//! Line by line: each line is classified once, then a header above a quote ([`super::quote_header`]), `>` marks and the
//! signature ([`super::signature`]) decide whose it is. Nothing is lost: [`Split::parts`] covers the whole text without
//! gaps, and where in doubt a line is new. The time is linear in the length of the text.
//!
//! HTML must have been rendered to text before, with the lines of its block quotes beginning with `>`.

use std::fmt;
use std::ops::Range;

use super::{quote_header, signature};

/// Bytes of a line that are looked at.
const MAX_LINE: usize = 2048;
/// Lines that are looked at; what follows counts as one line.
const MAX_LINES: usize = 20_000;
/// Stretches that are told apart; what follows them is new.
const MAX_PARTS: usize = 512;
/// Blank lines that may stand between a header and the quote below it.
const MAX_GAP: usize = 10;
/// Bytes from which a quoted line may have been wrapped by a program that did not mark the rest.
const WRAPPED_FROM: usize = 50;

/// Whose a stretch of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Written by the sender for this mail.
    New,
    /// From an earlier mail, with the header above it.
    Quoted,
    /// The sender's signature, or what the program or the list added.
    Signature,
}

/// A stretch of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub what: What,
    /// Where it stands, in bytes of the text; whole lines.
    pub at: Range<usize>,
}

/// A mail's text, told apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    /// The new text: its stretches without the blank lines around them, one blank line between two. Lines end with LF and
    /// without blanks. Empty if all is quoted or signature (a forwarded mail): then show the whole text.
    pub new: String,
    /// The signature, likewise.
    pub signature: Option<String>,
    /// The byte at which the first quote begins.
    pub quote_at: Option<usize>,
    /// Whether new text follows a quote, as in answers between the lines: then a quote must not be hidden unseen.
    pub interleaved: bool,
    /// All stretches in their order, without gaps; at most 512.
    pub parts: Vec<Part>,
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("new", &self.new.len())
            .field("signature", &self.signature.as_ref().map(String::len))
            .field("quote_at", &self.quote_at)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Split {
    /// The new text, or all of `text` (the one that was split) where nothing in it is new.
    pub fn shown<'a>(&'a self, text: &'a str) -> &'a str {
        if self.new.is_empty() { text.trim() } else { &self.new }
    }
}

/// Tells new text, quotes and signature apart.
pub fn split(text: &str) -> Split {
    split_from(text, None)
}

/// Likewise, where the sender's name (or address) is known: a line of that name ends the text.
pub fn split_from(text: &str, sender: Option<&str>) -> Split {
    let lines = read_lines(text);
    let mut labels = quotes(&lines);
    signature::mark(&lines, &mut labels, sender);
    assemble(text, &lines, &labels)
}

/// What a line is by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing to see.
    Blank,
    /// Begins with `>`.
    Quoted,
    /// Within a code fence, or the fence.
    Code,
    /// Anything else.
    Text,
}

/// A line of the text.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// Its first byte.
    pub(super) start: usize,
    /// The byte behind its end of line.
    pub(super) end: usize,
    /// Its first 2 KB without blanks and invisible characters around them.
    pub(super) text: &'a str,
    /// What it is.
    pub(super) kind: Kind,
    /// Whether it is exactly the delimiter of RFC 3676, section 4.3.
    pub(super) delimiter: bool,
}

/// Characters that show nothing: zero widths and marks for the direction of writing.
pub(super) fn invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
}

fn read_lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let rest = text.get(start..).unwrap_or_default();
        let length = if lines.len() + 1 >= MAX_LINES { None } else { rest.find('\n') };
        let end = length.map_or(text.len(), |length| start + length + 1);
        let head = rest.get(..rest.floor_char_boundary(MAX_LINE.min(end - start))).unwrap_or_default();
        let head = head.lines().next().unwrap_or_default();
        let shown = head.trim_matches(|c: char| c.is_whitespace() || invisible(c));
        lines.push(Line { start, end, text: shown, kind: kind_of(head, shown), delimiter: head == "-- " });
        start = end;
    }
    fence(&mut lines);
    lines
}

fn kind_of(head: &str, shown: &str) -> Kind {
    // Four blanks make it a sample, not a quote.
    let indent = head.chars().take_while(|c| c.is_whitespace()).count();
    match shown.chars().next() {
        None => Kind::Blank,
        Some('>' | '＞') if indent < 4 => Kind::Quoted,
        Some(_) => Kind::Text,
    }
}

/// Marks what stands between two fences of three backquotes.
fn fence(lines: &mut [Line<'_>]) {
    let fences: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| line.text.starts_with("```")).map(|(at, _)| at).collect();
    for pair in fences.chunks_exact(2) {
        let (Some(&from), Some(&to)) = (pair.first(), pair.last()) else { continue };
        lines.iter_mut().take(to + 1).skip(from).for_each(|line| line.kind = Kind::Code);
    }
}

/// Finds the quotes. A blank line belongs to what stands above it.
fn quotes(lines: &[Line<'_>]) -> Vec<What> {
    let mut labels: Vec<What> = Vec::with_capacity(lines.len());
    while let Some(line) = lines.get(labels.len()) {
        let at = labels.len();
        let above = labels.last().copied().unwrap_or(What::New);
        match line.kind {
            Kind::Blank => labels.push(above),
            Kind::Quoted => labels.push(What::Quoted),
            Kind::Code => labels.push(What::New),
            Kind::Text => {
                let header = quote_header::lines_at(lines, at, &|last| next_is(lines, last, Kind::Quoted));
                if header == 0 {
                    labels.push(if wrapped(lines, at, above) { What::Quoted } else { What::New });
                    continue;
                }
                mark_rule_above(lines, &mut labels);
                let marked = next_is(lines, at + header - 1, Kind::Quoted);
                let end = if marked { at + header } else { lines.len() };
                labels.resize(end.min(lines.len()), What::Quoted);
            }
        }
    }
    labels
}

/// Whether the first line behind `at` that is not blank is of this kind.
fn next_is(lines: &[Line<'_>], at: usize, kind: Kind) -> bool {
    lines.iter().skip(at + 1).take(MAX_GAP).find(|line| line.kind != Kind::Blank).is_some_and(|line| line.kind == kind)
}

/// A line without a mark that ends a quoted one: the program wrapped it. It begins in lower case and the quote goes on.
fn wrapped(lines: &[Line<'_>], at: usize, above: What) -> bool {
    let line_at = |at: usize| lines.get(at);
    let Some((before, line)) = at.checked_sub(1).and_then(line_at).zip(line_at(at)) else { return false };
    let long = before.kind == Kind::Quoted && before.text.len() >= WRAPPED_FROM && !before.text.ends_with('?');
    let goes_on = line_at(at + 1).is_some_and(|next| next.kind == Kind::Quoted);
    above == What::Quoted && long && goes_on && line.text.starts_with(char::is_lowercase)
}

/// A rule right above a header belongs to the quote.
fn mark_rule_above(lines: &[Line<'_>], labels: &mut [What]) {
    let rule = lines.iter().take(labels.len()).enumerate().rev().take(4).find(|(_, line)| line.kind != Kind::Blank);
    if let Some((from, line)) = rule
        && line.kind == Kind::Text
        && quote_header::is_rule(line.text, 4)
    {
        labels.iter_mut().skip(from).for_each(|label| *label = What::Quoted);
    }
}

fn assemble(text: &str, lines: &[Line<'_>], labels: &[What]) -> Split {
    let mut parts: Vec<Part> = Vec::new();
    for (line, what) in lines.iter().zip(labels) {
        let full = parts.len() >= MAX_PARTS;
        match parts.last_mut() {
            Some(last) if last.what == *what => last.at.end = line.end,
            Some(last) if full => {
                last.what = What::New;
                last.at.end = text.len();
                break;
            }
            _ => parts.push(Part { what: *what, at: line.start..line.end }),
        }
    }
    let signature = gather(text, &parts, What::Signature);
    let first = parts.iter().position(|part| part.what == What::Quoted);
    Split {
        new: gather(text, &parts, What::New),
        signature: (!signature.is_empty()).then_some(signature),
        quote_at: first.and_then(|first| parts.get(first)).map(|part| part.at.start),
        interleaved: first.is_some_and(|first| parts.iter().skip(first).any(|part| part.what == What::New)),
        parts,
    }
}

/// The stretches of one kind: without blank lines around, one blank line between two.
fn gather(text: &str, parts: &[Part], what: What) -> String {
    let mut out = String::new();
    for part in parts.iter().filter(|part| part.what == what) {
        let mut lines: Vec<&str> = text.get(part.at.clone()).unwrap_or_default().lines().map(str::trim_end).collect();
        while lines.last().is_some_and(|line| is_blank(line)) {
            lines.pop();
        }
        let shown: Vec<&str> = lines.into_iter().skip_while(|line| is_blank(line)).collect();
        if !out.is_empty() && !shown.is_empty() {
            out.push_str("\n\n");
        }
        out.push_str(&shown.join("\n"));
    }
    out
}

fn is_blank(line: &str) -> bool {
    line.chars().all(|c| c.is_whitespace() || invisible(c))
}

#[cfg(test)]
mod tests;
