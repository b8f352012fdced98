//! Which parts of a mail are its body, after the algorithm of JMAP (RFC 8621, section 4.1.4), without its recursion.

use super::tree::{Node, Tree};

/// The parts that make the body and the others, as indices of the tree's nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Picked {
    /// Those that make the plain text, in order; HTML stands in where no plain variant is.
    pub text: Vec<usize>,
    /// Those that make the HTML, in order; plain text stands in where no HTML variant is.
    pub html: Vec<usize>,
    /// Attachments, inline images, reports, signatures.
    pub others: Vec<usize>,
}

/// A multipart whose parts are being looked at.
struct Frame {
    node: usize,
    alternative: bool,
    /// Whether it lies in an alternative.
    within: bool,
    /// How many body parts there were before it.
    text: usize,
    html: usize,
    /// Whether its parts still belong to the two bodies.
    wants_text: bool,
    wants_html: bool,
}

/// Picks the body of a mail.
pub(super) fn pick(tree: &Tree<'_>) -> Picked {
    let mut picked = Picked::default();
    let mut frames: Vec<Frame> = Vec::new();
    for (index, node) in tree.nodes.iter().enumerate() {
        while frames.last().is_some_and(|frame| Some(frame.node) != node.parent) {
            close(frames.pop(), &mut picked);
        }
        let outer = frames.last_mut();
        if node.multipart {
            let frame = Frame {
                node: index,
                alternative: node.media_type == "multipart/alternative",
                within: outer.as_ref().is_some_and(|outer| outer.within || outer.alternative),
                text: picked.text.len(),
                html: picked.html.len(),
                wants_text: outer.as_ref().is_none_or(|outer| outer.wants_text),
                wants_html: outer.as_ref().is_none_or(|outer| outer.wants_html),
            };
            frames.push(frame);
        } else {
            let related =
                node.parent.and_then(|parent| tree.nodes.get(parent)).map(|parent| parent.media_type.as_str());
            leaf(index, node, related == Some("multipart/related"), outer, &mut picked);
        }
    }
    while let Some(frame) = frames.pop() {
        close(Some(frame), &mut picked);
    }
    picked
}

fn leaf(index: usize, node: &Node<'_>, related: bool, outer: Option<&mut Frame>, picked: &mut Picked) {
    let plain = node.media_type == "text/plain";
    let html = matches!(node.media_type.as_str(), "text/html" | "application/xhtml+xml");
    let named = node.disposition.text("filename", None).or_else(|| node.content_type.text("name", None)).is_some();
    let inline = node.disposition.value != "attachment" && (plain || html) && (node.first || !related && !named);
    let (to_text, to_html) = match outer {
        _ if !inline => (false, false),
        None => (true, true),
        Some(frame) if frame.alternative => (plain && frame.wants_text, html && frame.wants_html),
        Some(frame) => {
            if frame.within {
                // A plain part within an alternative's branch makes that branch the plain one, HTML the HTML one.
                frame.wants_html &= html || !frame.wants_text;
                frame.wants_text &= plain || !frame.wants_html;
            }
            (frame.wants_text, frame.wants_html)
        }
    };
    if to_text {
        picked.text.push(index);
    }
    if to_html {
        picked.html.push(index);
    }
    if !to_text && !to_html {
        picked.others.push(index);
    }
}

/// An alternative with one of the two kinds only serves both bodies with it.
fn close(frame: Option<Frame>, picked: &mut Picked) {
    let Some(frame) = frame.filter(|frame| frame.alternative && frame.wants_text && frame.wants_html) else { return };
    if picked.text.len() == frame.text {
        picked.text.extend(picked.html.get(frame.html..).unwrap_or_default());
    } else if picked.html.len() == frame.html {
        picked.html.extend(picked.text.get(frame.text..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::tree;

    fn part(kind: &str, inner: &str, number: usize) -> String {
        format!("Content-Type: {kind}; boundary=b{number}\n\n{inner}--b{number}--\n")
    }

    fn leaf(number: usize, kind: &str) -> String {
        format!("--b{number}\nContent-Type: {kind}\n\nx\n")
    }

    /// The paths of text, HTML and others.
    fn paths(raw: &str) -> [String; 3] {
        let tree = tree::build(raw.as_bytes());
        let picked = pick(&tree);
        [picked.text, picked.html, picked.others]
            .map(|list| list.iter().map(|at| tree.nodes[*at].path.clone()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn alternative_and_mixed() {
        let both = leaf(1, "text/plain") + &leaf(1, "text/html") + &leaf(1, "text/calendar");
        assert_eq!(paths(&part("multipart/alternative", &both, 1)), ["1", "2", "3"]);
        let html = leaf(1, "text/html");
        assert_eq!(paths(&part("multipart/alternative", &html, 1)), ["1", "1", ""]);
        let mixed = leaf(1, "text/plain") + &leaf(1, "image/png") + &leaf(1, "text/plain");
        assert_eq!(paths(&part("multipart/mixed", &mixed, 1)), ["1 3", "1 3", "2"]);
    }

    #[test]
    fn related_within_alternative() {
        let related = leaf(2, "text/html") + &leaf(2, "image/png");
        let inner = leaf(1, "text/plain") + "--b1\n" + &part("multipart/related", &related, 2);
        assert_eq!(paths(&part("multipart/alternative", &inner, 1)), ["1", "2.1", "2.2"]);
        // HTML, picture, more HTML, as Apple Mail sends it.
        let mixed = leaf(2, "text/html") + &leaf(2, "application/pdf") + &leaf(2, "text/html");
        let inner = leaf(1, "text/plain") + "--b1\n" + &part("multipart/mixed", &mixed, 2);
        assert_eq!(paths(&part("multipart/alternative", &inner, 1)), ["1", "2.1 2.3", "2.2"]);
    }

    #[test]
    fn named_text_is_a_file_unless_it_comes_first() {
        let mixed = leaf(1, "text/plain; name=a.txt") + &leaf(1, "text/plain; name=b.txt");
        assert_eq!(paths(&part("multipart/mixed", &mixed, 1)), ["1", "1", "2"]);
        assert_eq!(paths("Content-Disposition: attachment\n\nx"), ["", "", ""]);
    }
}
