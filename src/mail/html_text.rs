//! HTML to readable plain text, in one pass over its tags: no tree, no recursion, linear in time.
//!
//! Blocks become lines, lists get marks, links their address, tables a line for each row. What is hidden is left out. What
//! quotes an older mail gets `> ` before each line, as it would have in a plain mail, so that one reader of quotes serves
//! both.

use super::html_tokens::{self, Page, attribute, is_void};
use html5ever::tokenizer::{Tag, TagKind};

/// How deep elements with an effect may lie in each other; deeper ones have none.
const DEEPEST: usize = 64;
/// The deepest mark of quotes and lists, so that a line's beginning stays short.
const MARKS: usize = 8;
/// The most line ends in a row: one empty line.
const BREAKS: usize = 2;
/// The longest address shown behind a link, in bytes.
const LINK_MOST: usize = 500;

/// Text made of HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text; lines end with LF, the last one not.
    pub text: String,
    /// Whether all of the page is in it.
    pub whole: bool,
}

/// Makes text of `html`, at most about `most` bytes.
pub fn render(html: &str, most: usize) -> Rendered {
    let (page, whole) = html_tokens::read(html, Text { most, ..Text::default() });
    let text = page.out.trim_end();
    Rendered { text: less_quoted(text).unwrap_or_else(|| text.to_owned()), whole }
}

/// Text that is a quote as a whole is none: one mark less on each line.
fn less_quoted(text: &str) -> Option<String> {
    let quoted = text.lines().filter(|line| !line.is_empty()).all(|line| line.starts_with('>'));
    if !quoted || text.is_empty() {
        return None;
    }
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("> ").or(line.strip_prefix('>')).unwrap_or(line)).collect();
    Some(lines.join("\n"))
}

/// What an open element does to what is in it.
enum Effect {
    Hide,
    Quote,
    Pre,
    Bullets,
    /// The number of its next item.
    Numbers(usize),
    /// Its address and where its text begins.
    Link(String, usize),
}

struct Open {
    name: String,
    /// How many elements of the same name without an effect are open within it.
    within: usize,
    effect: Effect,
}

#[derive(Default)]
struct Text {
    out: String,
    most: usize,
    open: Vec<Open>,
    hidden: usize,
    pre: usize,
    quotes: usize,
    /// Line ends to write before the next word.
    breaks: usize,
    /// The quote depth of the line that was written last.
    depth: usize,
    /// Nothing but hard blanks stands on this line so far.
    filler: bool,
    /// A blank to write before the next word on this line.
    blank: bool,
    /// The mark of the list item that begins.
    mark: Option<String>,
}

impl Page for Text {
    fn tag(&mut self, tag: &Tag) {
        match tag.kind {
            TagKind::StartTag => self.start(tag),
            TagKind::EndTag => self.end(&tag.name),
        }
    }

    fn text(&mut self, text: &str) {
        if self.hidden > 0 {
            return;
        }
        if self.pre > 0 {
            return self.preformatted(text);
        }
        for piece in text.split_inclusive(|c: char| c.is_ascii_whitespace()) {
            let word = piece.trim_end_matches(|c: char| c.is_ascii_whitespace());
            self.word(word);
            self.blank |= word.len() < piece.len();
        }
    }

    fn full(&self) -> bool {
        self.out.len() > self.most
    }
}

impl Text {
    fn start(&mut self, tag: &Tag) {
        let name = &*tag.name;
        self.block(name, self.lists() > 0);
        match name {
            "br" => self.line(),
            "hr" => self.rule(),
            "li" => self.item(),
            "td" | "th" => self.blank = true,
            "img" => self.picture(tag),
            _ => {}
        }
        if is_void(name) {
            return;
        }
        if let Some(effect) = self.effect(tag).filter(|_| self.open.len() < DEEPEST) {
            self.enter(&effect);
            self.open.push(Open { name: name.to_owned(), within: 0, effect });
        } else if let Some(open) = self.open.iter_mut().rev().find(|open| open.name == name) {
            open.within += 1;
        }
    }

    fn end(&mut self, name: &str) {
        let list = matches!(name, "ul" | "ol");
        self.block(name, self.lists() > usize::from(list));
        let Some(at) = self.open.iter().rposition(|open| open.name == name) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        if open.within > 0 {
            open.within -= 1;
            return;
        }
        while self.open.len() > at
            && let Some(open) = self.open.pop()
        {
            self.leave(open.effect);
        }
    }

    fn enter(&mut self, effect: &Effect) {
        match effect {
            Effect::Hide => self.hidden += 1,
            Effect::Pre => self.pre += 1,
            Effect::Quote => {
                self.breaks = self.breaks.max(1);
                self.quotes += 1;
            }
            Effect::Bullets | Effect::Numbers(_) | Effect::Link(..) => {}
        }
    }

    fn leave(&mut self, effect: Effect) {
        match effect {
            Effect::Hide => self.hidden -= 1,
            Effect::Pre => self.pre -= 1,
            Effect::Quote => {
                self.breaks = self.breaks.max(1);
                self.quotes -= 1;
            }
            Effect::Link(address, from) => self.address(&address, from),
            Effect::Bullets | Effect::Numbers(_) => {}
        }
    }

    /// What the element does, if anything.
    fn effect(&self, tag: &Tag) -> Option<Effect> {
        match &*tag.name {
            _ if is_hidden(tag) => Some(Effect::Hide),
            "script" | "style" | "title" | "template" | "object" | "applet" | "svg" | "select" => Some(Effect::Hide),
            "pre" | "textarea" | "listing" => Some(Effect::Pre),
            "ul" | "menu" | "dir" => Some(Effect::Bullets),
            "ol" => Some(Effect::Numbers(attribute(tag, "start").and_then(|from| from.parse().ok()).unwrap_or(1))),
            "a" => link(tag).map(|address| Effect::Link(address, self.out.len())),
            "blockquote" => Some(Effect::Quote),
            _ if is_quote(tag) => Some(Effect::Quote),
            _ => None,
        }
    }

    /// Line ends around a block; paragraphs stand apart, but not within lists.
    fn block(&mut self, name: &str, nested: bool) {
        let breaks = match name {
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "pre" | "dl" | "ul" | "ol" => 2,
            "div" | "tr" | "table" | "li" | "dt" | "dd" | "section" | "article" | "header" | "footer" | "aside"
            | "nav" | "main" | "center" | "form" | "fieldset" | "address" | "figure" | "figcaption" | "caption"
            | "body" | "hr" | "tbody" | "thead" | "option" | "legend" => 1,
            _ => return,
        };
        self.filled();
        self.breaks = self.breaks.max(if nested { 1 } else { breaks });
    }

    /// A line of hard blanks is how an empty one is written.
    fn filled(&mut self) {
        self.breaks = (self.breaks + usize::from(std::mem::take(&mut self.filler))).min(BREAKS);
    }

    fn line(&mut self) {
        if self.hidden == 0 {
            self.filled();
            self.breaks = (self.breaks + 1).min(BREAKS);
            self.blank = false;
        }
    }

    fn rule(&mut self) {
        self.word(&"_".repeat(32));
        self.breaks = 1;
    }

    fn lists(&self) -> usize {
        self.open.iter().filter(|open| matches!(open.effect, Effect::Bullets | Effect::Numbers(_))).count()
    }

    fn item(&mut self) {
        let indent = "  ".repeat(self.lists().saturating_sub(1).min(MARKS));
        let list = self.open.iter_mut().rev().find(|open| matches!(open.effect, Effect::Bullets | Effect::Numbers(_)));
        let mark = match list.map(|open| &mut open.effect) {
            Some(Effect::Numbers(number)) => {
                *number = number.saturating_add(1);
                format!("{}. ", number.saturating_sub(1))
            }
            _ => "- ".to_owned(),
        };
        self.mark = Some(indent + &mark);
    }

    fn picture(&mut self, tag: &Tag) {
        let name = attribute(tag, "alt").unwrap_or_default();
        if (1..=100).contains(&name.trim().len()) && !is_hidden(tag) {
            let name = format!("[{}]", name.trim());
            self.text(&name);
        }
    }

    /// The address of a link behind its text, unless the text is the address.
    fn address(&mut self, address: &str, from: usize) {
        let text = self.out.get(from..).unwrap_or_default().trim().to_owned();
        let bare = |text: &str| {
            let text = text.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("mailto:");
            text.trim_end_matches('/').to_lowercase()
        };
        if self.hidden == 0 && !text.is_empty() && text.len() < 1000 && bare(&text) != bare(address) {
            self.blank = true;
            self.word(&format!("<{address}>"));
        }
    }

    fn preformatted(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            let line = piece.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.word(line);
            }
            if line.len() < piece.len() {
                self.breaks = (self.breaks + 1).min(BREAKS);
            }
        }
    }

    /// Writes a word with what is due before it.
    fn word(&mut self, word: &str) {
        if word.is_empty() || self.hidden > 0 || self.full() {
            return;
        }
        let first = self.breaks > 0 || self.out.is_empty();
        if !word.chars().any(|c| readable(c).is_some_and(|c| c != ' ')) {
            self.filler |= first;
            self.blank |= !first;
            return;
        }
        if first {
            self.begin_line();
        } else if self.blank {
            self.out.push(' ');
        }
        self.blank = false;
        self.out.extend(word.chars().filter_map(readable));
    }

    /// Ends the line before and writes the marks of the one that begins. An empty line within a quote is quoted too.
    fn begin_line(&mut self) {
        let quotes = self.quotes.min(MARKS);
        self.out.truncate(self.out.trim_end_matches(' ').len());
        if !self.out.is_empty() {
            for _ in 1..self.breaks {
                self.out.push('\n');
                self.out.push_str("> ".repeat(quotes.min(self.depth)).trim_end());
            }
            self.out.push('\n');
        }
        self.out.push_str(&"> ".repeat(quotes));
        self.out.push_str(&self.mark.take().unwrap_or_default());
        self.depth = quotes;
        self.breaks = 0;
        self.filler = false;
    }
}

/// A character as it is shown: hard blanks are blanks, and what fills the preview of a mail with nothing is nothing.
fn readable(c: char) -> Option<char> {
    match c {
        '\u{a0}' | '\t' => Some(' '),
        '\u{ad}' | '\u{34f}' | '\u{200b}' | '\u{feff}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

/// Whether an element is not shown.
fn is_hidden(tag: &Tag) -> bool {
    if attribute(tag, "hidden").is_some() {
        return true;
    }
    let Some(style) = attribute(tag, "style") else { return false };
    let style: String =
        style.chars().take(2000).filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    ["display:none", "visibility:hidden", "mso-hide:all"].iter().any(|hiding| style.contains(hiding))
}

/// Whether an element holds an older mail, by the names that mail programs give it.
fn is_quote(tag: &Tag) -> bool {
    let class = attribute(tag, "class").unwrap_or_default();
    let known = |name: &str| {
        matches!(
            name,
            "gmail_quote"
                | "moz-cite-prefix"
                | "yahoo_quoted"
                | "protonmail_quote"
                | "zmail_extra"
                | "moz-forward-container"
        )
    };
    let id = attribute(tag, "id").unwrap_or_default();
    class.split_ascii_whitespace().any(known)
        || matches!(id, "OLK_SRC_BODY_SECTION" | "divRplyFwdMsg" | "mail-editor-reference-message-container")
        || id.starts_with("yahoo_quoted")
}

/// The address of a link that leads out.
fn link(tag: &Tag) -> Option<String> {
    let address = attribute(tag, "href")?.trim();
    let lower = address.get(..8).unwrap_or(address).to_ascii_lowercase();
    let out = ["http://", "https://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme));
    let clean = !address.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>'));
    (out && clean && address.len() <= LINK_MOST).then(|| address.to_owned())
}

#[cfg(test)]
mod tests;
