use proptest::prelude::*;

use super::*;

fn clean_all(tokens: &mut Tokens, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    tokens.clean(bytes, &mut out)?;
    Ok(out)
}

fn clean(bytes: impl AsRef<[u8]>) -> Result<Vec<u8>, Refused> {
    clean_all(&mut Tokens::new(Caps::default()), bytes.as_ref())
}

fn passes(bytes: impl AsRef<[u8]>) {
    assert_eq!(clean(bytes.as_ref()).as_deref(), Ok(bytes.as_ref()), "{:?}", String::from_utf8_lossy(bytes.as_ref()));
}

#[test]
fn what_servers_say_passes() {
    passes("* OK [CAPABILITY IMAP4rev1 IDLE] (ready) :-( {no}\r\nS1 OK done (0.001 secs).\r\n+ \r\n+ idling\r\n");
    passes("* 1 FETCH (UID 7 FLAGS (\\Seen $Junk) RFC822.SIZE 5 INTERNALDATE \" 1-Jan-2026 00:00:00 +0000\")\r\n");
    passes(b"* 1 FETCH (UID 7 BODY[] {8}\r\n((((\0\r\n\" FLAGS ())\r\nS2 OK\r\n");
    passes("* 1 FETCH (UID 7 BODY[]<0> {0}\r\n)\r\n* 2 FETCH (UID 8 BODY[] \"plain (text)\")\r\n* 3 EXISTS\r\n");
}

#[test]
fn human_text_becomes_ascii_and_spaces_single() {
    let cleaned = clean("S1 NO [ALERT]für  alle\r\n*  1  FETCH  (UID  1 BODY[]  \"a  b\" )\r\n").unwrap();
    assert_eq!(cleaned, b"S1 NO [ALERT]f??r  alle\r\n* 1 FETCH (UID 1 BODY[] \"a  b\" )\r\n");
}

#[test]
fn capabilities_go_on_as_text_and_what_nobody_needs_does_not() {
    let cleaned = clean("* CAPABILITY  IMAP4rev2   IDLE \r\n* capability\r\n* OK x\r\n").unwrap();
    assert_eq!(cleaned, b"* OK CAPABILITY  IMAP4rev2   IDLE \r\n* OK CAPABILITY\r\n* OK x\r\n");
    for skipped in [
        "* LIST () \"/\" a",
        "* ESEARCH (TAG \"a\") UID",
        "* 5 FOO",
        "* 5 RECENT",
        "* 5",
        "* ",
        "* FLAGS (a)",
        "* WHAT",
    ] {
        assert_eq!(clean(format!("{skipped}\r\nS1 OK\r\n")).unwrap(), b"S1 OK\r\n", "{skipped:?}");
    }
    assert_eq!(clean(format!("* {}\r\nS1 OK\r\n", "x(".repeat(5000))).unwrap(), b"S1 OK\r\n");
}

#[test]
fn what_the_parser_cannot_bear_is_refused() {
    let deep = format!("* 1 FETCH (BODYSTRUCTURE {}", "(".repeat(16));
    let hidden = format!("* 1 FETCH (FOO (\") BODYSTRUCTURE {}", "(".repeat(64));
    let long = format!("* OK {}", "x".repeat(300_000));
    let is_syntax = |bytes: &str| assert!(matches!(clean(bytes), Err(Refused::Syntax(_))), "{bytes:?}");
    assert_eq!(clean(deep), Err(Refused::Depth));
    assert_eq!(clean(hidden), Err(Refused::Depth));
    assert_eq!(clean(long), Err(Refused::Line));
    assert_eq!(clean("* 1 FETCH (BODY[] {4294967295}"), Err(Refused::Literal(4_294_967_295)));
    assert_eq!(clean("* 1 FETCH (BODY[] {99999999999}"), Err(Refused::Literal(99_999_999_999)));
    assert_eq!(clean("* 1 EXISTS\r\n".repeat(100_001)), Err(Refused::Responses));
    is_syntax("* 1 FETCH (UID 1 internaldate nil)\r\n");
    is_syntax("* OK \0\r\n");
    is_syntax("* OK\n");
    is_syntax("* OK\rx");
    is_syntax("* LIST () \"/\" {5}\r\n");
    is_syntax("* 1 FETCH (FOO x{5}\r\n");
    is_syntax("* 1 FETCH (FOO (x] {5}\r\n");
    is_syntax("* 1 FETCH (FOO x\r\n");
    is_syntax("* 1 FETCH (UID 1))\r\n");
    is_syntax("* 1 FETCH (BODY[] \"a\\\"b\")\r\n");
    is_syntax("* 1 FETCH (BODY[] {5+}\r\n");
}

#[test]
fn debug_shows_no_content() {
    let mut tokens = Tokens::new(Caps::default());
    clean_all(&mut tokens, b"* OK secret").unwrap();
    assert!(!format!("{tokens:?}").contains("secret"));
}

/// Pieces of which both what servers say and what attackers try can be put together.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "* 1 FETCH (",
        "* 1 FETCH (UID 5 BODY[] ",
        "* ",
        "1 ",
        "FETCH ",
        "(",
        ")",
        "BODY[] ",
        "BODY[]<0> ",
        "BODY[",
        "] ",
        "> ",
        "{3}\r\n",
        "{12}\r\n",
        "{3}",
        "{",
        "}",
        "\r\n",
        ")\r\n",
        "\"",
        "\\",
        "abc",
        "x\r\n",
        "UID 5",
        " FOO ",
        "OK ",
        "[",
        "]",
        " ",
        "NIL",
        "FLAGS (\\Seen)",
        "LIST () \"/\" ",
        "+ ",
        "A1 OK x\r\n",
        "A1 ",
        "NO [BADCHARSET (",
        "ENVELOPE ",
        "INTERNALDATE ",
        "\n",
        "\r",
        "\u{e4}",
        "CAPABILITY IMAP4rev1",
        "1 EXISTS\r\n",
        "STATUS a (MESSAGES 1)",
        "ID (\"a\" \"b\")",
        "METADATA \"\" (/a ",
        "RFC822 ",
        "RFC822.SIZE 3",
        "X-GM-LABELS (a)",
        "0123456789",
    ];
    // Few words make it likely that they meet in the order in which they do harm.
    let evil = [
        "* 1 FETCH (",
        "FOO ",
        "(x] ",
        "{12}\r\n",
        "))\r\n",
        "BODY[] ",
        "* LIST () \"/\" ",
        "\"",
        ")\r\n",
        "0123456789",
    ];
    let of = |words: &[&'static str]| proptest::collection::vec(prop::sample::select(words.to_vec()), 0..24);
    let evil = of(&evil).prop_map(|words| [vec!["* 1 FETCH ("], words].concat());
    prop_oneof![of(&words), evil].prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn cutting_the_bytes_changes_nothing(bytes in pieces(), at in any::<prop::sample::Index>()) {
        let at = at.index(bytes.len() + 1);
        let mut tokens = Tokens::new(Caps::default());
        let halves = clean_all(&mut tokens, &bytes[..at])
            .and_then(|first| Ok([first, clean_all(&mut tokens, &bytes[at..])?].concat()));
        prop_assert_eq!(halves, clean(&bytes));
    }

    /// The invariant of the module, against the parser in use: whatever passes, responses end at the same bytes.
    #[test]
    fn the_parser_ends_responses_where_this_does(bytes in pieces()) {
        let mut tokens = Tokens::new(Caps::default());
        let (mut passed, mut ends) = (Vec::new(), Vec::new());
        for byte in bytes {
            let Ok(kept) = clean_all(&mut tokens, &[byte]) else { break };
            passed.extend(kept);
            if tokens.is_between() {
                ends.push(passed.len());
            }
        }
        let mut rest = passed.as_slice();
        while let Ok((after, _)) = imap_proto::Response::parse(rest) {
            prop_assert!(ends.contains(&(passed.len() - after.len())), "{:?}", String::from_utf8_lossy(&passed));
            rest = after;
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = clean(bytes);
    }
}
