use super::*;
use proptest::prelude::*;

fn read(raw: &str) -> Vec<String> {
    let tree = build(raw.as_bytes());
    let leaves = tree.nodes.iter().filter(|node| !node.multipart);
    leaves.map(|node| format!("{} {} {}", Tree::path_of(node), node.media_type, node.body.escape_ascii())).collect()
}

const HEAD: &str = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";

#[test]
fn parts_are_found_with_their_paths() {
    let raw = format!(
        "{HEAD}preamble\r\n--x\r\n\r\none\r\n--x\r\nContent-Type: multipart/alternative; boundary=\"y\"\r\n\r\n\
         --y \r\nContent-Type: text/html\r\n\r\n<p>\r\n--y--\r\nepilogue\r\n--x\r\n\r\nlast\r\n--x--\r\nrest"
    );
    assert_eq!(read(&raw), ["1 text/plain one", "2.1 text/html <p>", "3 text/plain last"]);
    assert_eq!(read(&format!("{HEAD}--x and words\n\n--xy\n--x-- words\nrest")), ["1 text/plain --xy"]);
    assert_eq!(read("A: b\n\nbody\n"), ["1 text/plain body\\n"]);
}

#[test]
fn line_ends_of_all_kinds() {
    for end in ["\n", "\r", "\r\n"] {
        let raw = format!("{HEAD}--x\r\n\r\none\r\n--x--\r\n").replace("\r\n", end);
        assert_eq!(read(&raw), ["1 text/plain one"]);
    }
}

#[test]
fn what_is_missing() {
    assert_eq!(read(&format!("{HEAD}--x\n\none\n")), ["1 text/plain one\\n"]);
    assert_eq!(read(&format!("{HEAD}no parts at all")), ["1 text/plain no parts at all"]);
    assert_eq!(
        read(&format!("{HEAD}--x\nA: b\n--x\nno field here\n--x--\n")),
        ["1 text/plain ", "2 text/plain no field here"]
    );
    assert_eq!(read("From me Mon\nA: b\n c\nno field\nD: e"), ["1 text/plain no field\\nD: e"]);
    assert_eq!(read("Content-Type: multipart/mixed\n\n--x\n"), ["1 text/plain --x\\n"]);
    let raw = format!("{HEAD}--x\nContent-Type: multipart/mixed; boundary=xx\n\n--xx\n\na\n--x\n\nb\n--x--\n");
    assert_eq!(read(&raw), ["1.1 text/plain a", "2 text/plain b"]);
}

#[test]
fn a_digest_holds_mails_and_mails_are_kept_whole() {
    let raw = "Content-Type: multipart/digest; boundary=x\n\n--x\n\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--y--\n--x--\n";
    assert_eq!(read(raw).len(), 1);
    assert!(read(raw)[0].starts_with("1 message/rfc822 Content-Type"));
}

#[test]
fn deep_and_many_are_bounded() {
    let deep: String =
        (0..1000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}x\n\n--b{n}x\n")).collect();
    let tree = build(deep.as_bytes());
    assert!(tree.too_deep && tree.nodes.len() == DEPTH_MOST + 1);
    let many = format!("{HEAD}{}", "--x\r\n\r\na\r\n".repeat(10_000));
    let tree = build(many.as_bytes());
    assert!(tree.many_parts && tree.nodes.len() == PARTS_MOST);
}

#[test]
fn the_fields_of_all_parts_are_bounded_together() {
    let part = format!("--x\r\n{}\r\na\r\n", "a:\r\n".repeat(9000));
    let raw = format!("B: c\r\n{HEAD}{}--x--\r\n", part.repeat(24));
    let tree = build(raw.as_bytes());
    let kept: usize = tree.nodes.iter().skip(1).map(|node| node.fields.iter().count()).sum();
    assert_eq!((tree.nodes.len(), kept), (25, 10_000));
    let whole: Vec<bool> = tree.nodes.iter().map(|node| node.fields.whole()).collect();
    assert_eq!(whole.iter().filter(|whole| **whole).count(), 2);
    assert!(tree.nodes.iter().skip(1).all(|node| node.body == b"a"));
}

proptest! {
    #[test]
    fn nothing_panics_and_every_body_lies_in_the_bytes(lines in proptest::collection::vec(prop_oneof![
        Just("--x\n"), Just("--x--\n"), Just("--y\r\n"), Just("--y--"), Just("\n"), Just("a\r"), Just("A: b\n"),
        Just("Content-Type: multipart/mixed; boundary=x\n"), Just("Content-Type: multipart/mixed; boundary=y\n")], 0..40)) {
        let raw = lines.concat();
        let tree = build(raw.as_bytes());
        prop_assert!(!tree.nodes.is_empty());
        let sum: usize = tree.nodes.iter().filter(|node| !node.multipart).map(|node| node.body.len()).sum();
        prop_assert!(sum <= raw.len());
        for (at, node) in tree.nodes.iter().enumerate() {
            prop_assert!(node.parent.is_none_or(|parent| parent < at));
        }
    }
}
