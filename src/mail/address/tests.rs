use super::*;
use proptest::prelude::*;

fn read(raw: &str) -> Vec<String> {
    let show = |one: &Address| format!("{}|{}", one.name.as_deref().unwrap_or("-"), one.email);
    parse(raw.as_bytes(), None).list.iter().map(show).collect()
}

fn ambiguous(raw: &str) -> bool {
    parse(raw.as_bytes(), None).ambiguous
}

#[test]
fn the_usual_forms() {
    assert_eq!(read("a@b.example"), ["-|a@b.example"]);
    assert_eq!(read("Ann <a@b>, \"Lee, Bo\" <c@d>"), ["Ann|a@b", "Lee, Bo|c@d"]);
    assert_eq!(read("a@b (Ann (of Ulm))"), ["Ann of Ulm|a@b"]);
    assert_eq!(read("=?utf-8?Q?Lee,_Bo?= <c@d>"), ["Lee, Bo|c@d"]);
    assert_eq!(read("team: a@b, Bo <c@d>;, e@f"), ["-|a@b", "Bo|c@d", "-|e@f"]);
    assert_eq!(read("nobody:;"), Vec::<String>::new());
    assert_eq!(read("\"a b\"@c"), ["-|\"a b\"@c"]);
    assert_eq!(read("Ann\r\n <a@b>"), ["Ann|a@b"]);
    assert_eq!(read("\"An \\\"X\\\" n\" <a@b>"), ["An \"X\" n|a@b"]);
}

#[test]
fn who_wrote_does_not_depend_on_a_charset() {
    // KOI8-R has a blank there, others a letter.
    let raw = b"J\xf6rg <victim@g\x9Amail.example>";
    let read = |hint| parse(raw, hint);
    let (hinted, plain) = (read(Some("koi8-r")), read(None));
    assert!(hinted.ambiguous && plain.ambiguous);
    assert_eq!(hinted.list[0].email, plain.list[0].email);
    assert_ne!(plain.list[0].email, "victim@gmail.example");
    // A blank that few leave out.
    assert!(ambiguous("<victim@g\u{a0}mail.example>") && ambiguous("victim@g\u{2003}mail.example"));
    assert!(!ambiguous("J\u{f6}rg\u{a0}Meier <j\u{f6}rg@m\u{fc}ller.example>"));
}

#[test]
fn the_unusual_forms() {
    assert_eq!(read("<@x,@y:a@b>"), ["-|a@b"]);
    assert_eq!(read("a @ b"), ["-|a@b"]);
    assert_eq!(read("<mailto:a@b>"), ["-|a@b"]);
    assert_eq!(read("a@b . c, Ann <d(x)@e(y(z))>"), ["-|a@b.c", "Ann|d@e"]);
    assert_eq!(read("<nobody:@b;>"), Vec::<String>::new());
    assert_eq!(read("\"\\\"Ann\\\"\" <a@b>"), ["Ann|a@b"]);
    assert_eq!(read("a@b; c@d"), ["-|a@b", "-|c@d"]);
    assert_eq!(read("Mail Delivery System"), Vec::<String>::new());
    assert_eq!(read("<>"), Vec::<String>::new());
    assert_eq!(read("\"=?utf-8?Q?=C3=A9?=\" <a@b>"), ["\u{e9}|a@b"]);
    assert_eq!(read("Ann <a@b"), ["Ann|a@b"]);
}

#[test]
fn an_escaped_quote_ends_no_quotes() {
    for address in [r#""a\"b c"@x.example"#, r#""a\\"@x.example"#, r#""a\"><b@c"@x.example"#] {
        let field = format!("Ann <{address}>, d@e");
        // Brackets within quotes stand in no address that is given out.
        let wanted = if address.contains('>') { vec![] } else { vec![format!("Ann|{address}")] };
        assert_eq!(read(&field), [wanted, vec!["-|d@e".to_owned()]].concat(), "{field}");
        assert!(!ambiguous(&field), "{field}");
    }
    assert_eq!(read(r#""a\" (b)"@x.example"#), [r#"-|"a\" (b)"@x.example"#]);
}

#[test]
fn what_others_may_read_otherwise_is_said() {
    assert_eq!(read(r#"Ann <a@b, Bo <c@d>, "<"\"#), ["Ann|a@b", "Bo|c@d"]);
    for odd in ["x@y <a@b>", "<a@b> <c@d>", "a@b c@d", "Ann <a@b", "\"open <a@b>", "a@b (open"] {
        assert!(ambiguous(odd), "{odd}");
    }
    for plain in ["Ann <a@b>", "\"x@y\" <a@b>", "a@b (x)", "a@b, c@d", "g: a@b;", "a @ b"] {
        assert!(!ambiguous(plain), "{plain}");
    }
}

#[test]
fn a_long_field_takes_no_time() {
    for piece in ["=?a?q?", "(", "<", "\"", "a@b ", "\\\"", "a,", "<\"\\\"", "<\"", "<a,\"", "a", "a.", "@", ". "] {
        parse(piece.repeat(1_000_000 / piece.len()).as_bytes(), None);
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_every_address_is_clean(raw in "[-a-c@<>()\",;:=?\\\\ \r\n]{0,80}") {
        for one in parse(raw.as_bytes(), None).list {
            prop_assert!(one.email.contains('@') && !one.email.contains(char::is_control));
            prop_assert!(one.name != Some(String::new()));
        }
    }

    #[test]
    fn addresses_are_the_same_whatever_charset_the_mail_has(
        raw in proptest::collection::vec(prop_oneof![Just(b'<'), Just(b'@'), Just(b'a'), Just(b'"'), any::<u8>()], 0..60),
        charset in prop_oneof![Just("koi8-r"), Just("ibm866"), Just("iso-2022-jp"), Just("utf-16"), Just("macintosh")],
    ) {
        let emails = |hint| {
            let found = parse(&raw, hint);
            (found.list.into_iter().map(|one| one.email).collect::<Vec<_>>(), found.ambiguous)
        };
        prop_assert_eq!(emails(Some(charset)), emails(None));
    }


    #[test]
    fn what_is_written_well_is_read_back(names in proptest::collection::vec("[A-Za-z ,.<>@()]{1,20}", 1..6)) {
        let field: Vec<String> = names.iter().map(|name| format!("\"{name}\" <x@y>")).collect();
        let found = parse(field.join(", ").as_bytes(), None);
        prop_assert!(!found.ambiguous);
        prop_assert_eq!(found.list.len(), names.len());
        for (one, name) in found.list.iter().zip(&names) {
            prop_assert_eq!(one.name.as_deref().unwrap_or(""), name.trim());
        }
    }
}
