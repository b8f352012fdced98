//! HTML as a stream of tags and text, in linear time, for those who make text of it and those who count before cleaning.
//!
//! The tokenizer compares every attribute of a tag with all before it, so tags are bounded here: one that has too many
//! attributes, or is too long, ends the reading. Comments and pictures within the page are taken out first; nobody
//! needs them and they are what makes ordinary tags long.

use html5ever::buffer_queue::BufferQueue;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts, TokenizerResult,
};
use std::borrow::Cow;

/// The longest tag, in bytes.
const TAG_MOST: usize = 64 * 1024;
/// The most bytes in a tag that may part attributes.
const SEPARATORS_MOST: usize = 1000;
/// How much is given to the tokenizer at once, in bytes.
const CHUNK: usize = 1024;

/// Takes what a page consists of.
pub(super) trait Page {
    /// A start or end tag.
    fn tag(&mut self, tag: &Tag);
    /// Text, with its entities read; not what stands in scripts and styles.
    fn text(&mut self, text: &str);
    /// Whether no more is wanted.
    fn full(&self) -> bool;
}

/// Whether an element never has an end tag.
pub(super) fn is_void(name: &str) -> bool {
    matches!(
        name,
        "br" | "hr"
            | "img"
            | "input"
            | "meta"
            | "link"
            | "area"
            | "base"
            | "col"
            | "embed"
            | "source"
            | "wbr"
            | "param"
    )
}

/// Reads `html` into `page`. False if it was not read to its end.
pub(super) fn read<P: Page>(html: &str, page: P) -> (P, bool) {
    let (sink, whole) = feed(&without_ballast(html), Sink { page, raw: false });
    (sink.page, whole)
}

/// Who is fed with tokens until it has enough.
pub(super) trait Watched: TokenSink {
    /// Whether no more is wanted.
    fn full(&self) -> bool;
}

/// Feeds the tokens of `html`, as it is, to `sink`. False if it was not read to its end.
pub(super) fn feed<S: Watched>(html: &str, sink: S) -> (S, bool) {
    let mut tokenizer = Tokenizer::new(Watch { sink, since: 0 }, TokenizerOpts::default());
    let mut separators = 0;
    let mut whole = true;
    let mut rest = html;
    while whole && !rest.is_empty() {
        let (chunk, after) = rest.split_at_checked(boundary(rest, CHUNK)).unwrap_or((rest, ""));
        rest = after;
        let before = tokenizer.sink.since;
        tokenizer.sink.since += chunk.len();
        let mut queue = BufferQueue::new();
        queue.push_back(StrTendril::from_slice(chunk));
        // Scripts are not run: their end is a tag like others.
        while let TokenizerResult::Script(()) = tokenizer.feed(&mut queue)
            && !tokenizer.sink.sink.full()
        {}
        let watch = &tokenizer.sink;
        separators = if watch.since < before + chunk.len() { 0 } else { separators };
        separators += chunk
            .bytes()
            .filter(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'/' | b'"' | b'\''))
            .count();
        let long = watch.since > TAG_MOST || separators > SEPARATORS_MOST && watch.since > chunk.len();
        whole = !watch.sink.full() && !long;
    }
    if whole {
        tokenizer.end();
    }
    (tokenizer.sink.sink, whole)
}

/// The last border of characters at or before `at`, but not 0.
fn boundary(text: &str, at: usize) -> usize {
    (1..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// Stops the tokenizer behind the tag at which `sink` has enough.
struct Watch<S> {
    sink: S,
    /// Bytes given since the last token came.
    since: usize,
}

impl<S: Watched> TokenSink for Watch<S> {
    type Handle = ();

    fn process_token(&mut self, token: Token, line: u64) -> TokenSinkResult<()> {
        if !matches!(token, Token::ParseError(_)) {
            self.since = 0;
        }
        let tag = matches!(token, Token::TagToken(_));
        match self.sink.process_token(token, line) {
            // The tokenizer stops at the end of a script, and there only.
            _ if tag && self.sink.full() => TokenSinkResult::Script(()),
            TokenSinkResult::Script(_) => TokenSinkResult::Script(()),
            TokenSinkResult::Continue => TokenSinkResult::Continue,
            TokenSinkResult::Plaintext => TokenSinkResult::Plaintext,
            TokenSinkResult::RawData(kind) => TokenSinkResult::RawData(kind),
        }
    }

    fn end(&mut self) {
        self.sink.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.sink.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// Gives a page what it takes.
struct Sink<P> {
    page: P,
    /// Within a script or style.
    raw: bool,
}

impl<P: Page> Watched for Sink<P> {
    fn full(&self) -> bool {
        self.page.full()
    }
}

impl<P: Page> TokenSink for Sink<P> {
    type Handle = ();

    fn process_token(&mut self, token: Token, _line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => {
                self.page.tag(&tag);
                let kind = raw_kind(&tag);
                self.raw = kind.is_some_and(|kind| kind != RawKind::Rcdata);
                kind.map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
            }
            Token::CharacterTokens(text) if !self.raw => {
                self.page.text(&text);
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

/// How the text behind a start tag is read, if not as HTML.
fn raw_kind(tag: &Tag) -> Option<RawKind> {
    match (tag.kind, &*tag.name) {
        (TagKind::StartTag, "style" | "xmp" | "iframe" | "noembed" | "noframes") => Some(RawKind::Rawtext),
        (TagKind::StartTag, "script") => Some(RawKind::Rawtext),
        (TagKind::StartTag, "title" | "textarea") => Some(RawKind::Rcdata),
        _ => None,
    }
}

/// The value of an attribute.
pub(super) fn attribute<'t>(tag: &'t Tag, name: &str) -> Option<&'t str> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| &*attribute.value)
}

/// The page without comments and without the contents of `data:` addresses.
pub(super) fn without_ballast(html: &str) -> Cow<'_, str> {
    let comments = memchr::memmem::find(html.as_bytes(), b"<!--").is_some();
    let data = memchr::memmem::find(html.as_bytes(), b";base64,").is_some();
    if !comments && !data {
        return Cow::Borrowed(html);
    }
    let mut kept = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once("<!--") {
        data_less(before, &mut kept);
        // A comment that does not end is text like the rest.
        let Some(end) = comment_end(after) else {
            rest = after;
            break;
        };
        rest = after.get(end..).unwrap_or_default();
    }
    data_less(rest, &mut kept);
    Cow::Owned(kept)
}

/// Where the comment ends whose beginning is before `text`, as browsers see it: an empty one may be short of dashes.
fn comment_end(text: &str) -> Option<usize> {
    let ends = |before: &str| matches!(before, "" | "-") || before.ends_with("--") || before.ends_with("--!");
    let mut signs = memchr::memchr_iter(b'>', text.as_bytes());
    signs.find(|at| text.get(..*at).is_some_and(ends)).map(|at| at + 1)
}

/// Writes `html` without what follows `;base64,`.
fn data_less(html: &str, kept: &mut String) {
    let mut rest = html;
    while let Some((before, after)) = rest.split_once(";base64,") {
        kept.push_str(before);
        kept.push_str(";base64,");
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
    }
    kept.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_ends_where_browsers_end_it() {
        for (page, wanted) in [
            ("a<!-- x -->b", "ab"),
            ("a<!-->b<!-- x -->c", "abc"),
            ("a<!--->b<!-- x -->c", "abc"),
            ("a<!-- x --!>b-->", "ab-->"),
            ("a<!---->b<!-- - -- > --->c", "abc"),
            ("<!--[if !mso]><!-->a<!--<![endif]-->", "a"),
            ("a<!-- b", "a b"),
        ] {
            assert_eq!(without_ballast(page), wanted, "{page}");
        }
    }

    #[derive(Default)]
    struct Count {
        tags: usize,
        text: String,
    }

    impl Page for Count {
        fn tag(&mut self, _: &Tag) {
            self.tags += 1;
        }
        fn text(&mut self, text: &str) {
            self.text.push_str(text);
        }
        fn full(&self) -> bool {
            false
        }
    }

    fn count(html: &str) -> (usize, String, bool) {
        let (page, whole) = read(html, Count::default());
        (page.tags, page.text, whole)
    }

    #[test]
    fn tags_and_text_without_scripts_styles_and_comments() {
        let html = "<p a='>'>x &eacute;<style>p { a }</style><script>if (a < b) \"</p>\"</script><!-- <b> -->y</p>";
        assert_eq!(count(html), (6, "x \u{e9}y".to_owned(), true));
        assert_eq!(count("a <!-- b").1, "a  b");
    }

    #[test]
    fn long_ordinary_pages_are_read_to_their_end() {
        let picture = format!("<img src=\"data:image/png;base64,{}\">", "ab/d".repeat(500_000));
        assert_eq!(count(&picture), (1, String::new(), true));
        assert!(count(&format!("<!--{}-->", "a b ".repeat(100_000))).2);
        assert!(count(&"words and \"words\" / ".repeat(50_000)).2);
        assert!(count(&format!("<style>{}</style>", "a { b: c } ".repeat(50_000))).2);
    }

    #[test]
    fn a_tag_with_too_many_attributes_ends_the_reading() {
        let many: String = (0..200_000).map(|n| format!(" a{n}")).collect();
        for blank in [" ", "\t", "\n", "\u{c}", "/"] {
            assert!(!count(&format!("x<p{}>y", many.replace(' ', blank))).2, "{blank:?}");
        }
        assert!(!count(&format!("x<p a='{}'>y", "z".repeat(100_000))).2);
    }
}
