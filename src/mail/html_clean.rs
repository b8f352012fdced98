//! HTML made safe to show: a short list of tags and attributes, links that lead out or to parts of the mail, nothing else.
//!
//! The cleaner builds a tree, which takes time squared in its depth and may copy open formatting into every paragraph;
//! so the tags are counted first and pages that would cost too much are not cleaned at all.

use super::html_tokens::{self, Page, is_void};
use ammonia::{Builder, UrlRelative};
use html5ever::tokenizer::{Tag, TagKind};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// How deep elements may lie in each other.
const DEEPEST: usize = 256;
/// The most tags of a page.
const TAGS_MOST: usize = 100_000;
/// The most pieces of text that the tokenizer makes: entities and stray brackets part them.
const TEXTS_MOST: usize = 200_000;
/// The most elements that open formatting may add.
const COPIES_MOST: usize = 200_000;

const TAGS: [&str; 50] = [
    "a",
    "abbr",
    "address",
    "b",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "li",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "u",
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let set = |names: &[&'static str]| names.iter().copied().collect::<HashSet<_>>();
    let mut cleaner = Builder::empty();
    let mut tags = set(&TAGS);
    tags.insert("ul");
    cleaner
        .tags(tags)
        .clean_content_tags(set(&[
            "script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math",
        ]))
        .tag_attributes(HashMap::from([
            ("a", set(&["href", "title"])),
            ("img", set(&["src", "alt", "width", "height"])),
            ("td", set(&["colspan", "rowspan", "align", "valign", "width"])),
            ("th", set(&["colspan", "rowspan", "align", "valign", "width"])),
            ("table", set(&["border", "cellpadding", "cellspacing", "width", "align"])),
            ("font", set(&["color", "size"])),
            ("ol", set(&["start", "type"])),
            ("blockquote", set(&["type"])),
        ]))
        .generic_attributes(set(&["dir", "lang"]))
        .url_schemes(set(&["https", "http", "mailto", "cid"]))
        .url_relative(UrlRelative::Deny)
        // A picture from elsewhere tells its sender who opened the mail, and when.
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            ("img", "src") if !is_of_the_mail(value) => None,
            _ => Some(value.into()),
        })
        .link_rel(Some("noopener noreferrer nofollow"))
        .strip_comments(true);
    cleaner
});

/// Whether a picture's address leads to another part of the mail (RFC 2392).
fn is_of_the_mail(address: &str) -> bool {
    address.trim_start().get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("cid:"))
}

/// The page made safe, or nothing if cleaning it would cost too much. Its size is not looked at.
pub fn clean(html: &str) -> Option<String> {
    let html = html_tokens::without_ballast(html);
    let (gate, whole) = html_tokens::read(&html, Gate::default());
    (whole && !gate.full()).then(|| CLEANER.clean(&html).to_string())
}

/// Counts what the tree would hold.
#[derive(Default)]
struct Gate {
    open: Vec<String>,
    formatting: HashMap<String, usize>,
    formats: usize,
    tags: usize,
    texts: usize,
    copies: usize,
    too_deep: bool,
}

impl Page for Gate {
    fn tag(&mut self, tag: &Tag) {
        let name = &*tag.name;
        self.tags += 1;
        // Every open format may be opened again behind this tag.
        self.copies += self.formats;
        if is_format(name) {
            self.format(name, tag.kind);
        }
        match tag.kind {
            TagKind::StartTag if is_void(name) => {}
            TagKind::StartTag => {
                self.end_before(name);
                self.open.push(name.to_owned());
                self.too_deep |= self.open.len() > DEEPEST;
            }
            TagKind::EndTag => {
                if let Some(at) = self.open.iter().rposition(|open| open == name) {
                    self.open.truncate(at);
                }
            }
        }
    }

    fn text(&mut self, _text: &str) {
        self.texts += 1;
    }

    fn full(&self) -> bool {
        self.too_deep || self.tags > TAGS_MOST || self.texts > TEXTS_MOST || self.copies > COPIES_MOST
    }
}

impl Gate {
    /// The end of some elements is often left out: the next one of their kind ends them, if it is in the same block.
    fn end_before(&mut self, name: &str) {
        if !matches!(name, "p" | "li" | "td" | "th" | "tr" | "dt" | "dd" | "option") {
            return;
        }
        let block = |open: &str| matches!(open, "table" | "ul" | "ol" | "dl" | "div" | "blockquote");
        let above = self.open.iter().rposition(|open| open == name || block(open));
        if let Some(at) = above.filter(|at| self.open.get(*at).is_some_and(|open| open == name)) {
            self.open.truncate(at);
        }
    }

    fn format(&mut self, name: &str, kind: TagKind) {
        let count = self.formatting.entry(name.to_owned()).or_default();
        match kind {
            TagKind::StartTag => {
                *count += 1;
                self.formats += 1;
            }
            TagKind::EndTag if *count > 0 => {
                *count -= 1;
                self.formats -= 1;
            }
            TagKind::EndTag => {}
        }
    }
}

/// Elements that go on behind the end of the block they began in.
fn is_format(name: &str) -> bool {
    matches!(
        name,
        "a" | "b" | "big" | "code" | "em" | "font" | "i" | "nobr" | "s" | "small" | "strike" | "strong" | "tt" | "u"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_harmless_stays() {
        assert_eq!(
            clean("<p>a <b>b</b><img src='cid:x@y' alt=z></p>").unwrap(),
            "<p>a <b>b</b><img src=\"cid:x@y\" alt=\"z\"></p>"
        );
        let link = clean("<a href='https://x.example/' onclick=y target=_blank>z</a>").unwrap();
        assert_eq!(link, "<a href=\"https://x.example/\" rel=\"noopener noreferrer nofollow\">z</a>");
    }

    #[test]
    fn no_picture_is_loaded_from_elsewhere() {
        for address in
            ["https://x.example/p.gif", "HTTP://x", "//x.example/p", "p.gif", "data:image/png;base64,AA", "mailto:a@b"]
        {
            assert_eq!(clean(&format!("<img src='{address}' alt=a>")).unwrap(), "<img alt=\"a\">");
        }
        assert_eq!(clean("<img src=' CID:x@y'>").unwrap(), "<img src=\" CID:x@y\">");
        assert!(!clean("<table background='https://x.example/p'><tr><td background=//x>").unwrap().contains("//x"));
    }

    #[test]
    fn what_may_harm_goes() {
        for bad in [
            "<script>x</script>",
            "<img src=x onerror=y>",
            "<a href='java\nscript:x'>z</a>",
            "<a href='data:text/html,x'>z</a>",
            "<svg><a xlink:href='javascript:x'>z</a></svg>",
            "<math><mtext><style><img src=x onerror=y></style></mtext></math>",
            "<style>@import url(x)</style>",
            "<form action=x><input></form>",
            "<base href=x><meta http-equiv=refresh content=x>",
            "<iframe src=x></iframe><object data=x></object>",
            "<p style='background:url(x)'>",
            "<noscript><p title=\"</noscript><img src=x onerror=y>\">",
            "<scr<!-- -->ipt>x</script>",
        ] {
            let clean = clean(bad).unwrap();
            for word in ["script", "onerror", "style", "xlink", "import", "action", "=x", "refresh", "data:"] {
                let shown = clean.replace("&lt;", "").replace("&quot;", "");
                assert!(
                    !shown.contains(&format!("<{word}")) && !shown.contains(&format!(" {word}=\"")),
                    "{bad} -> {clean}"
                );
            }
            assert!(
                !clean.contains("href=\"j") && !clean.contains("href=\"d") && !clean.contains("src=\"x"),
                "{bad} -> {clean}"
            );
        }
    }

    #[test]
    fn pages_that_cost_too_much_are_not_cleaned() {
        assert_eq!(clean(&"<div>".repeat(1000)), None);
        assert_eq!(clean(&"<b>".repeat(1024 * 1024 / 3)), None);
        let fonts: String = (0..200).map(|n| format!("<font size={n}>")).collect();
        assert_eq!(clean(&format!("<p>{fonts}{}", "</p><p>x".repeat(100_000))), None);
        assert!(clean(&"<table><tr><td>a<td>b<tr><td>c</table><ul><li>d<li>e</ul><p>f<p>g<br>".repeat(1000)).is_some());
        assert!(clean(&"<div><b>a</b></div>".repeat(10_000)).is_some());
    }

    proptest! {
        #[test]
        fn only_what_is_listed_comes_out(pieces in proptest::collection::vec(prop_oneof![
            Just("<div>"), Just("</div>"), Just("<p>"), Just("<b>"), Just("</b>"), Just("<table>"), Just("<td>"), Just("x"),
            Just("<script>"), Just("</script>"), Just("<!--"), Just("-->"), Just("<a href=\"http://x\" "), Just("onclick=x>"),
            Just("&lt;"), Just("'\""), Just("<svg>"), Just("<style>"), Just("</style>"), Just("<noscript>"), Just("<math>")], 0..40)) {
            let Some(clean) = clean(&pieces.concat()) else { return Ok(()) };
            let (seen, whole) = html_tokens::read(&clean, Seen::default());
            prop_assert!(whole);
            prop_assert_eq!(seen.0, "");
        }
    }

    /// Names of tags and attributes that are not allowed.
    #[derive(Default)]
    struct Seen(String);

    impl Page for Seen {
        fn tag(&mut self, tag: &Tag) {
            let known = ["href", "rel", "src", "alt", "title", "width", "colspan", "start", "type"];
            if !TAGS.contains(&&*tag.name) && &*tag.name != "ul" {
                self.0.push_str(&tag.name);
            }
            for attribute in tag.attrs.iter().filter(|attribute| !known.contains(&&*attribute.name.local)) {
                self.0.push_str(&attribute.name.local);
            }
        }
        fn text(&mut self, _: &str) {}
        fn full(&self) -> bool {
            false
        }
    }
}
