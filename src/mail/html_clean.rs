//! HTML made safe to show: a short list of tags and attributes, links that lead out or to parts of the mail, nothing else.
//!
//! The cleaner builds a tree, which may be far larger than the page: [`super::html_gate`] lets only pages to it that cost
//! little. Attributes that copies share in the tree are written out for each of them, and signs as entities, so that what is
//! written has a bound of its own.

pub use super::html_gate::Spent;
use super::{html_gate, html_tokens};
use ammonia::{Builder, UrlRelative};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::LazyLock;

/// The most bytes of a page that was made safe. What people write hardly grows by it.
const WRITTEN_MOST: usize = 4 << 20;

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

/// The page made safe, or nothing if cleaning it would cost too much beside what the mail's pages before it cost. Its size is
/// not looked at.
pub fn clean(html: &str, spent: &mut Spent) -> Option<String> {
    let html = html_tokens::without_ballast(html);
    if !html_gate::passes(&html, spent) {
        return None;
    }
    let mut page = Written(Vec::new());
    CLEANER.clean(&html).write_to(&mut page).ok()?;
    String::from_utf8(page.0).ok()
}

/// Takes [`WRITTEN_MOST`] bytes.
struct Written(Vec<u8>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > WRITTEN_MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::html_tokens::Page;
    use super::*;
    use html5ever::tokenizer::Tag;
    use proptest::prelude::*;

    /// The only page of its mail.
    fn clean(html: &str) -> Option<String> {
        super::clean(html, &mut Spent::default())
    }

    #[test]
    fn what_the_pages_of_a_mail_cost_is_bounded_together() {
        let formats: String = (0..220).map(|n| format!("<tt a{n}>")).collect();
        let page = format!("<p>{formats}{}", "<p>x".repeat(1000));
        let mut spent = Spent::default();
        let cleaned = (0..64).filter(|_| super::clean(&page, &mut spent).is_some()).count();
        assert_eq!(cleaned, 1, "{spent:?}");
        let mut spent = Spent::default();
        assert!((0..200).all(|_| super::clean("<p>a <b>b</b></p>", &mut spent).is_some()));
    }

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
        let letter = "<font face='Calibri, sans-serif' size=2 color='#000000'><span>a <b>b</b></span></font><br>\n";
        assert!(clean(&format!("<font size=3><p>{}</p></font>", letter.repeat(5000))).is_some());
    }

    /// What a format says stands once in the page and once in every paragraph of the tree.
    #[test]
    fn attributes_that_are_copied_count_each_time() {
        let long = "A".repeat(60_000);
        let signs = "&".repeat(60_000);
        for format in [
            format!("<font color={long}>"),
            format!("<font color={long}><font size={long}>"),
            format!("<font color='{signs}'>"),
            format!("<a title={long}>"),
            format!("<b lang={long}>"),
            format!("<nobr dir={long}>"),
            format!("<u {}>", "a='' ".repeat(900)),
            // What ends within a cell ends nothing outside of it.
            format!("<font color={long}><table><tr><td></font></table>"),
            format!("<font color={long}><select></font></select>"),
            format!("<table><font color={long}></table>"),
        ] {
            let start = format.get(..40).unwrap();
            assert!(clean(&format!("<p>{format}{}", "<p>x".repeat(10_000))).is_none(), "{start}");
            for more in
                ["<table><tr>x</table>", "<div></b></nobr>x</div>", "<li>x</font>", "<body lang=a><html lang=b>"]
            {
                let page = clean(&format!("<p>{format}{}", more.repeat(2000)));
                assert!(page.is_none_or(|page| page.len() < 2 << 20), "{start} {more}");
            }
        }
    }

    /// The tree builder reads no tags where others do, and the other way round.
    #[test]
    fn nothing_hides_what_a_page_costs() {
        for before in ["<select><xmp></select>", "<select><title></select>", "<svg><style></svg>", "<math><xmp></math>"]
        {
            assert_eq!(clean(&format!("{before}{}", "<div>".repeat(1000))), None, "{before}");
        }
        assert_eq!(clean(&format!("<plaintext>{}", "<div>".repeat(1000))).map(|page| page.len()), Some(11_000));
    }

    #[test]
    fn whatever_is_looked_for_among_many_counts() {
        let attributes: String = (0..40_000).map(|n| format!("<html a{n}>")).collect();
        assert_eq!(clean(&attributes), None);
        let moved = |lines: usize| format!("{}<table>{}</table>", "<br>".repeat(lines), "<br>".repeat(lines));
        assert_eq!(clean(&moved(40_000)), None);
        assert!(clean(&moved(2000)).is_some());
        assert!(clean(&"<html a=b c=d><body>x<table><br><tr><td>y</table>".repeat(500)).is_some());
    }

    #[test]
    fn what_is_written_is_bounded() {
        let signs = |links: usize| format!("<a title='{}'>x</a>", "&".repeat(50_000)).repeat(links);
        assert!(clean(&signs(10)).is_some_and(|page| page.len() > 2_500_000));
        assert_eq!(clean(&signs(20)), None);
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
