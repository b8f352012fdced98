use super::*;
use crate::mail::fields::Fields;
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

fn box_of(name: &str, address: &str) -> Mailbox {
    Mailbox { name: name.to_owned(), address: address.to_owned() }
}

fn file(filename: &str, media_type: &str, content_id: Option<&str>, bytes: &[u8]) -> File {
    File {
        filename: filename.to_owned(),
        media_type: media_type.to_owned(),
        content_id: content_id.map(str::to_owned),
        bytes: bytes.to_vec(),
    }
}

fn letter() -> Letter {
    Letter {
        message_id: "<one.two@example.org>".to_owned(),
        date: 1_790_000_000,
        from: box_of("Zoë from the shop", "shop@example.org"),
        to: vec![box_of("", "anna@example.net")],
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: "Your order".to_owned(),
        in_reply_to: None,
        references: Vec::new(),
        text: "It is on its way.\n".to_owned(),
        html: None,
        attachments: Vec::new(),
        automatic: false,
        loop_mark: None,
        seed: [7; 16],
    }
}

fn text_of(letter: &Letter) -> String {
    String::from_utf8(write(letter).unwrap()).unwrap()
}

#[test]
fn a_short_letter_is_written_as_expected() {
    let expected = "From: =?utf-8?Q?Zo=C3=AB_from_the_shop?= <shop@example.org>\r\nTo: <anna@example.net>\r\n\
        Subject: Your order\r\nDate: Mon, 21 Sep 2026 14:13:20 +0000\r\nMessage-ID: <one.two@example.org>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
        It is on its way.\r\n";
    assert_eq!(text_of(&letter()), expected);
}

#[test]
fn an_automatic_letter_says_so() {
    let mail = text_of(&Letter { automatic: true, loop_mark: Some("mark1".to_owned()), ..letter() });
    for field in ["Auto-Submitted: auto-replied\r\n", "X-Auto-Response-Suppress: All\r\n", "X-Segue-Loop: mark1\r\n"] {
        assert!(mail.contains(field), "{mail}");
    }
    assert!(!text_of(&letter()).contains("Auto-Submitted"));
}

#[test]
fn of_a_long_chain_the_ends_are_kept() {
    let references: Vec<String> = (0..100).map(|n| format!("<{n}@example.org>")).collect();
    let bad = ["a b@c", "x>\r\nBcc: <evil@example.org", "", "é@x"].map(str::to_owned);
    let mail = write(&Letter { references: [references, bad.to_vec()].concat(), ..letter() }).unwrap();
    let parsed = MessageParser::default().parse(&mail).unwrap();
    let ids: Vec<String> = parsed.references().as_text_list().unwrap().iter().map(|id| id.to_string()).collect();
    let kept: Vec<String> = (0..20).chain(80..100).map(|n| format!("{n}@example.org")).collect();
    assert_eq!(ids, kept);
}

#[test]
fn addresses_are_checked_and_international_domains_become_ascii() {
    for (given, expected) in [
        ("anna@example.net", Ok("anna@example.net")),
        (" anna@Bücher.example ", Ok("anna@xn--bcher-kva.example")),
        ("a..b.@docomo.example", Ok("a..b.@docomo.example")),
        ("\"john doe\"@example.org", Ok("\"john doe\"@example.org")),
        ("o'neil+tag@example.org", Ok("o'neil+tag@example.org")),
        ("jörg@example.org", Err(BadAddress::Local)),
        ("anna", Err(BadAddress::Form)),
        ("@example.org", Err(BadAddress::Form)),
        ("a b@example.org", Err(BadAddress::Form)),
        ("a@b>\r\nDATA@example.org", Err(BadAddress::Form)),
        ("\"a\"b\"@example.org", Err(BadAddress::Form)),
        ("\"a\\\"@example.org", Err(BadAddress::Form)),
        ("a@", Err(BadAddress::Domain)),
        ("a@[127.0.0.1]", Err(BadAddress::Domain)),
        ("a@127.0.0.1", Err(BadAddress::Domain)),
        ("a@１２７.0.0.1", Err(BadAddress::Domain)),
        ("a@é%2e.org", Err(BadAddress::Domain)),
        ("a@b\r\n.org", Err(BadAddress::Domain)),
    ] {
        assert_eq!(address(given), expected.map(str::to_owned), "{given}");
    }
    assert_eq!(address(&format!("{}@example.org", "x".repeat(65))), Err(BadAddress::Long));
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let faulty = |change: fn(&mut Letter)| {
        let mut letter = letter();
        change(&mut letter);
        write(&letter).unwrap_err()
    };
    assert_eq!(faulty(|l| l.to.clear()), Unwritable::NoRecipient);
    assert_eq!(faulty(|l| l.message_id = "a@b>\r\nX: <c".to_owned()), Unwritable::MessageId);
    assert_eq!(faulty(|l| l.date = i64::MAX), Unwritable::Date);
    assert_eq!(faulty(|l| l.to = vec![box_of("", "a@b.example"); 101]), Unwritable::TooManyAddresses);
    assert_eq!(faulty(|l| l.text = "x".repeat(MOST_BYTES + 1)), Unwritable::TooLarge);
    let fault = faulty(|l| l.from.address = "jörg@example.org".to_owned());
    assert!(fault.to_string().starts_with("the From address has letters beyond ASCII"), "{fault}");
}

#[test]
fn shown_files_lie_beside_the_html_and_others_behind() {
    let files = vec![
        file("logo.png", "image/png", Some("logo1"), b"\x89PNG"),
        file("Rechnung für März.pdf", "application/pdf", None, b"%PDF"),
        file("../../etc/x\u{202e}gpj.exe\r\nX: y", "nonsense", None, b"\r\n.\r\n"),
    ];
    let html = Some("<p>See <img src=\"cid:logo1\"></p>".to_owned());
    let mail = write(&Letter { html, attachments: files, ..letter() }).unwrap();
    let parsed = MessageParser::default().parse(&mail).unwrap();
    let kinds: Vec<String> = parsed
        .parts
        .iter()
        .map(|part| part.content_type().unwrap())
        .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap()))
        .collect();
    assert_eq!(
        kinds,
        [
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "multipart/related",
            "text/html",
            "image/png",
            "application/pdf",
            "application/octet-stream"
        ]
    );
    assert_eq!(parsed.parts[5].content_id(), Some("logo1"));
    assert_eq!(parsed.parts[6].attachment_name(), Some("Rechnung für März.pdf"));
    assert_eq!(parsed.parts[7].attachment_name(), Some(".._.._etc_xgpj.exe X: y"));
    assert_eq!(parsed.parts[7].contents(), b"\r\n.\r\n");
}

#[test]
fn a_text_cannot_end_its_own_part() {
    let html = Some("<p>x</p>".to_owned());
    let first = Letter { html, ..letter() };
    let boundary = |mail: &str| mail.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let stolen = boundary(&text_of(&first));
    let text = format!("a\r\n--{stolen}--\r\nb\r\n");
    let second = Letter { text: text.clone(), ..first.clone() };
    let mail = text_of(&second);
    assert_ne!(boundary(&mail), stolen);
    assert_eq!(MessageParser::default().parse(mail.as_bytes()).unwrap().body_text(0).unwrap(), text);
    assert_ne!(boundary(&text_of(&Letter { seed: [8; 16], ..first })), stolen);
}

#[test]
fn a_text_file_arrives_byte_for_byte() {
    let bytes = b"a\rb\nc\r\n.\r\n\0\xff".to_vec();
    let attachments = vec![file("a.txt", "text/plain; charset=x", None, &bytes)];
    let mail = write(&Letter { attachments, ..letter() }).unwrap();
    let text = String::from_utf8(mail).unwrap();
    assert!(text.contains(&data_encoding::BASE64.encode(&bytes)), "{text}");
}

#[test]
fn names_are_cut_and_types_checked() {
    assert_eq!(file_name(&format!("{}.pdf", "ä".repeat(500))).chars().count(), 150);
    assert!(file_name(&format!("{}.pdf", "ä".repeat(500))).ends_with("ä.pdf"));
    assert_eq!(file_name("\r\n"), "attachment");
    assert_eq!(media_type("Image/PNG; name=x"), "image/png");
    assert_eq!(media_type("message/rfc822"), "application/octet-stream");
    assert_eq!(media_type("a/b\r\nX: y"), "application/octet-stream");
    assert_eq!(one_line("a\r\n\tb  c=?x", 100), "a b c= ?x");
    assert_eq!(one_line("\0\u{2001}a\u{2001}b \u{2001}\r", 100), "a\u{2001}b");
}

#[test]
fn debug_shows_nothing_of_the_contents() {
    let shown = format!("{:?}", letter());
    assert!(!shown.contains("order") && !shown.contains("example") && !shown.contains("way"), "{shown}");
}

#[test]
fn the_check_of_the_finished_bytes_finds_each_fault() {
    assert!(is_clean(b"a\r\n\r\n.\r\n"));
    let long = [vec![b'x'; 999], b"\r\n".to_vec()].concat();
    for bad in [&b"a\n"[..], b"a\rb\r\n", b"a", b"a\0\r\n", b"\xe9\r\n", b"a\r\r\n", &long] {
        assert!(!is_clean(bad), "{bad:?}");
    }
}

/// Text that is likely to break something.
fn wild() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z ]{1,12}",
        2 => "[äöüßéøłЖ中文한🎉]{1,8}",
        1 => Just("\r\n".to_owned()),
        1 => Just("\n.\n".to_owned()),
        1 => Just("\r.\r\n".to_owned()),
        1 => Just("\r\nBcc: evil@example.org\r\n\r\n".to_owned()),
        1 => Just("\0".to_owned()),
        1 => Just("=?utf-8?Q?=0ABcc:_x?=".to_owned()),
        1 => Just("\"<>,;:\\".to_owned()),
        1 => Just("\u{2028}\u{85}\u{7f}\u{b}".to_owned()),
        1 => "[x]{60,130}",
        1 => any::<String>(),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

prop_compose! {
    fn any_letter()(
        words in proptest::collection::vec(wild(), 8),
        html in proptest::option::of(wild()),
        files in proptest::collection::vec(
            (wild(), wild(), proptest::option::of(wild()), proptest::collection::vec(any::<u8>(), 0..200)), 0..3),
        automatic in any::<bool>(),
        seed in any::<[u8; 16]>(),
    ) -> Letter {
        let named = |at: usize, address: &str| box_of(&words[at], address);
        Letter {
            from: named(0, "shop@example.org"),
            to: vec![named(1, "anna@example.net"), named(2, "ben@bücher.example")],
            cc: vec![named(3, "\"c d\"@example.net")],
            subject: words[4].clone(),
            text: words[5].clone(),
            in_reply_to: Some(words[6].clone()),
            references: vec![words[6].clone(), "good@example.org".to_owned(), words[7].clone()],
            loop_mark: Some(words[7].clone()),
            attachments: files.iter().map(|(name, kind, cid, bytes)| file(name, kind, cid.as_deref(), bytes)).collect(),
            html, automatic, seed, ..letter()
        }
    }
}

/// The fields a mail may have at its top.
const KNOWN: [&str; 16] = [
    "From",
    "To",
    "Cc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "X-Segue-Loop",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
];

proptest! {
    #[test]
    fn no_value_becomes_a_field_and_all_is_read_back(letter in any_letter()) {
        let mail = write(&letter).unwrap();
        prop_assert!(is_clean(&mail));
        prop_assert_eq!(&mail, &write(&letter.clone()).unwrap());
        let (fields, _) = Fields::read(&mail);
        let mut names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        prop_assert!(names.iter().all(|name| KNOWN.contains(name)), "{:?}", names);
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), fields.iter().count());

        let parsed = MessageParser::default().parse(&mail).unwrap();
        prop_assert_eq!(parsed.subject().unwrap_or_default(), one_line(&letter.subject, values::MOST_SUBJECT));
        prop_assert_eq!(parsed.body_text(0).unwrap_or_default(), body_text(&letter.text));
        let names: Vec<String> = [&letter.from].into_iter().chain(&letter.to).chain(&letter.cc)
            .map(|each| one_line(&each.name, values::MOST_NAME)).collect();
        let seen: Vec<String> = [parsed.from(), parsed.to(), parsed.cc()].into_iter().flatten()
            .flat_map(|list| list.iter()).map(|each| each.name().unwrap_or_default().to_owned()).collect();
        prop_assert_eq!(names, seen);
        let seen: Vec<&str> = parsed.to().unwrap().iter().map(|each| each.address().unwrap()).collect();
        prop_assert_eq!(seen, ["anna@example.net", "ben@xn--bcher-kva.example"]);

        let mut sent: Vec<(String, &[u8])> =
            letter.attachments.iter().map(|file| (file_name(&file.filename), file.bytes.as_slice())).collect();
        // The parser leaves the fold in a name that has one.
        let mut got: Vec<(String, Vec<u8>)> = parsed.parts.iter()
            .filter_map(|part| Some((part.attachment_name()?.replace("\r\n", ""), decoded(&mail, part)))).collect();
        sent.sort();
        got.sort();
        prop_assert_eq!(sent, got.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect::<Vec<_>>());
        if let Some(html) = &letter.html {
            let html = body_text(html);
            prop_assert!(parsed.parts.iter().any(|part| part.text_contents() == Some(html.as_str())));
        }
    }
}

/// A part's bytes before any character set is undone: the parser turns text files into text.
fn decoded(mail: &[u8], part: &mail_parser::MessagePart<'_>) -> Vec<u8> {
    let body = &mail[part.raw_body_offset() as usize..part.raw_end_offset() as usize];
    let letters: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    data_encoding::BASE64.decode(&letters).unwrap()
}
