use super::*;
use proptest::prelude::*;

fn text(html: &str) -> String {
    render(html, 1_000_000).text
}

#[test]
fn blocks_lines_and_blanks() {
    assert_eq!(text("<p>one\n  two</p><p>three<br>four</p>"), "one two\n\nthree\nfour");
    assert_eq!(text("<div>a</div><div><br></div><div>b<b>c</b> d</div>"), "a\n\nbc d");
    assert_eq!(text("<pre>a\n  b</pre>c"), "a\n  b\n\nc");
    assert_eq!(text("a&nbsp;b &lt;c&gt; &eacute;"), "a b <c> \u{e9}");
    assert_eq!(text("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>"), "a b\nc");
    assert_eq!(text("<div>a</div><div>&nbsp;</div><div>&nbsp;b&nbsp;c&nbsp;</div>d"), "a\n\nb c\nd");
    assert_eq!(text("<p>a</p><p>&nbsp;</p><br><br><br><p>b"), "a\n\nb");
    assert_eq!(text("<hr>x"), format!("{}\nx", "_".repeat(32)));
}

#[test]
fn lists_and_links() {
    assert_eq!(text("x<ul><li>a<li>b<ol start=3><li>c</ol></ul>y"), "x\n\n- a\n- b\n  3. c\n\ny");
    assert_eq!(text("<a href='https://x.example/a'>here</a>."), "here <https://x.example/a>.");
    assert_eq!(text("<a href='mailto:a@b'>a@b</a> <a href='http://x.example/'>X.example</a>"), "a@b X.example");
    assert_eq!(text("<a href='javascript:x()'>a</a><a href='https://x'></a>"), "a");
    assert_eq!(text("<img alt='A cat' src=x>"), "[A cat]");
}

#[test]
fn what_is_hidden_is_left_out() {
    assert_eq!(text("<head><title>t</title><style>s</style></head><body>a<script>x</script></body>"), "a");
    assert_eq!(text("<div style='Display : none'>x<div>y</div>z</div>a<span hidden>b</span>"), "a");
    assert_eq!(text("a\u{200b}\u{ad}b"), "ab");
}

#[test]
fn quotes_get_marks() {
    assert_eq!(
        text("new<blockquote>old<br>older<blockquote>oldest</blockquote></blockquote>more"),
        "new\n\n> old\n> older\n>\n> > oldest\n\nmore"
    );
    assert_eq!(
        text("<div>new</div><div class='x gmail_quote'>On Monday<div>a</div>b</div>c"),
        "new\n> On Monday\n> a\n> b\nc"
    );
    assert_eq!(text("new<div id=OLK_SRC_BODY_SECTION>old</div>"), "new\n> old");
    assert_eq!(text("<blockquote>all of it<br>twice</blockquote>"), "all of it\ntwice");
}

#[test]
fn long_pages_are_cut() {
    assert!(!render(&"word ".repeat(1000), 100).whole);
}

proptest! {
    #[test]
    fn nothing_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("<div>"), Just("</div>"), Just("<blockquote>"), Just("</blockquote>"), Just("<a href=http://x>"), Just("</a>"),
        Just("<ol>"), Just("<li>"), Just("</ol>"), Just("<pre>"), Just("x\ny"), Just("<br>"), Just("<p hidden>"), Just("</p>"),
        Just("\u{e9} ")], 0..60)) {
        let text = text(&pieces.concat());
        prop_assert!(!text.contains('\r'));
    }
}
