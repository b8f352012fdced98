use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::*;

/// Writes streams.
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Writer {
        let mut raw = SIGNATURE.to_le_bytes().to_vec();
        raw.extend(1u16.to_le_bytes());
        Writer(raw)
    }

    fn with(mut self, id: u32, data: &[u8]) -> Writer {
        self.0.push(if id & 0xF000 >= 0x8000 || id == attribute::ATTACHMENT_PROPS { 2 } else { 1 });
        self.0.extend(id.to_le_bytes());
        self.0.extend((data.len() as u32).to_le_bytes());
        self.0.extend(data);
        self.0.extend(data.iter().map(|byte| u16::from(*byte)).fold(0, u16::wrapping_add).to_le_bytes());
        self
    }
}

/// A block of properties.
fn block(props: &[Vec<u8>]) -> Vec<u8> {
    let mut out = (props.len() as u32).to_le_bytes().to_vec();
    out.extend(props.concat());
    out
}

fn head(kind: u16, id: u16) -> Vec<u8> {
    [kind.to_le_bytes(), id.to_le_bytes()].concat()
}

fn number(id: u16, value: u32) -> Vec<u8> {
    [head(3, id), value.to_le_bytes().to_vec()].concat()
}

/// A property of a type with a length of its own.
fn long(kind: u16, id: u16, data: &[u8]) -> Vec<u8> {
    let mut out = head(kind, id);
    out.extend(1u32.to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out.resize(out.len() + (4 - data.len() % 4) % 4, 0);
    out
}

fn wide(id: u16, text: &str) -> Vec<u8> {
    let data: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    long(0x1F, id, &data)
}

/// A property with a name, which stands before its value.
fn named(by_name: bool, value: u32) -> Vec<u8> {
    let mut out = [head(3, 0x8001), vec![7; 16], u32::from(by_name).to_le_bytes().to_vec()].concat();
    out.extend(6u32.to_le_bytes());
    if by_name {
        out.extend(b"a\0b\0\0\0\0\0");
    }
    out.extend(value.to_le_bytes());
    out
}

/// Compressed rich text of literals only.
fn packed(rtf: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = rtf.chunks(8).flat_map(|eight| [&[0], eight].concat()).collect();
    if rtf.len().is_multiple_of(8) {
        body.push(1);
    }
    let mut out = (body.len() as u32 + 12).to_le_bytes().to_vec();
    out.extend((rtf.len() as u32).to_le_bytes());
    out.extend(b"LZFu\0\0\0\0");
    out.extend(body);
    out
}

#[test]
fn attachments_have_their_long_names_types_and_ids() {
    let props = block(&[
        named(true, 5),
        named(false, 6),
        long(0x101E, 0x3A00, b"one of several\0"),
        wide(property::LONG_FILE, "Großes Angebot.pdf"),
        long(0x1E, property::SHORT_FILE, b"GROES~1.PDF\0"),
        long(0x1E, property::MIME, b"application/pdf\0"),
        wide(property::CONTENT_ID, "<part1@x.example>"),
    ]);
    let raw = Writer::new()
        .with(attribute::CODEPAGE, &[0xE4, 4, 0, 0, 0, 0, 0, 0])
        .with(attribute::ATTACHMENT_BEGINS, &[1; 14])
        .with(attribute::ATTACHMENT_TITLE, b"GROES~1.PDF\0")
        .with(attribute::ATTACHMENT_DATA, b"%PDF-")
        .with(attribute::ATTACHMENT_PROPS, &props)
        .with(attribute::ATTACHMENT_BEGINS, &[1; 14])
        .with(attribute::ATTACHMENT_TITLE, b"caf\xe9.txt\0")
        .with(attribute::ATTACHMENT_DATA, b"two");
    let tnef = read(&raw.0).unwrap();
    let [first, second] = &tnef.attachments[..] else { panic!("{tnef:?}") };
    assert_eq!(first.name.as_deref(), Some("Großes Angebot.pdf"));
    assert_eq!(
        (first.mime.as_deref(), first.content_id.as_deref()),
        (Some("application/pdf"), Some("part1@x.example"))
    );
    assert_eq!((first.data.as_slice(), first.embedded), (&b"%PDF-"[..], false));
    // Code page 1252 has the letter of the second name.
    assert_eq!((second.name.as_deref(), second.data.as_slice()), (Some("café.txt"), &b"two"[..]));
}

#[test]
fn texts_come_from_properties_or_rich_text() {
    let rtf = packed(b"{\\rtf1\\ansi\\ansicpg1252 {\\fonttbl{\\f0 Arial;}}Gr\\'fc\\'dfe,\\par \\u9731 ?snow\\tab x}");
    let props = block(&[
        number(property::INTERNET_CODEPAGE, 65001),
        long(0x102, property::HTML, "<p>für</p>\0".as_bytes()),
        long(0x102, property::RTF, &rtf),
        wide(property::SUBJECT, "Über"),
    ]);
    let tnef = read(&Writer::new().with(attribute::SUBJECT, b"?ber\0").with(attribute::PROPS, &props).0).unwrap();
    assert_eq!((tnef.subject.as_deref(), tnef.html.as_deref()), (Some("Über"), Some("<p>für</p>")));
    assert_eq!(tnef.text.as_deref(), Some("Grüße,\n☃snow\tx"));
    let told = block(&[wide(property::TEXT, "plain"), long(0x102, property::RTF, &rtf)]);
    assert_eq!(read(&Writer::new().with(attribute::PROPS, &told).0).unwrap().text.as_deref(), Some("plain"));
}

#[test]
fn a_mail_within_is_an_attachment_that_can_be_read() {
    let inner = Writer::new().with(attribute::BODY, b"within\0").0;
    let object = [&[9; 16][..], &inner].concat();
    let props = block(&[wide(property::NAME, "A forwarded mail"), long(0x0D, property::DATA, &object)]);
    let raw = Writer::new().with(attribute::ATTACHMENT_BEGINS, &[5; 14]).with(attribute::ATTACHMENT_PROPS, &props).0;
    let tnef = read(&raw).unwrap();
    let attachment = &tnef.attachments[0];
    assert_eq!((attachment.embedded, attachment.name.as_deref()), (true, Some("A forwarded mail")));
    assert_eq!(attachment.mime.as_deref(), Some(EMBEDDED_TYPE));
    assert_eq!(read(&attachment.data).unwrap().text.as_deref(), Some("within"));
    assert!(!format!("{tnef:?}").contains("forwarded"), "names stay out of logs");
}

#[test]
fn the_example_of_the_specification_unpacks() {
    let hex = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0";
    let data = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    let rtf = lzfu::unpack(&data, 1000).unwrap();
    assert_eq!(rtf, b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n");
    assert_eq!(rtf::text(&rtf, 1000), "hello world");
    assert_eq!(lzfu::unpack(&data, 6).unwrap(), b"{\\rtf1");
}

#[test]
fn the_window_of_compressed_text_turns_around() {
    let plain: Vec<u8> = (0..9000u32).map(|n| b'a' + (n % 23) as u8).collect();
    assert_eq!(lzfu::unpack(&packed(&plain), 10_000).unwrap(), plain);
    // One reference, 17 bytes from one back: a run of the byte before it.
    let mut data = [&20u32.to_le_bytes()[..], &18u32.to_le_bytes(), b"LZFu\0\0\0\0"].concat();
    data.extend([0b10, b'z']);
    data.extend((207u16 << 4 | 15).to_be_bytes());
    assert_eq!(lzfu::unpack(&data, 100).unwrap(), [b'z'; 18]);
}

#[test]
fn rich_text_gives_its_text_only() {
    let cases: [(&[u8], &str); 9] = [
        (
            b"{\\rtf1\\ansicpg1252{\\fonttbl{\\f0\\fcharset0 A;}{\\f1\\fcharset204 B;}}\\'e9{\\f1 \\'cf\\'f0}\\'e9}",
            "éПрé",
        ),
        (b"{\\rtf1 a{\\b b}c\\line d}", "abc\nd"),
        (b"{\\rtf1{\\*\\generator x;}{\\info{\\title t}}y}", "y"),
        (b"{\\rtf1\\uc2\\u-10179 ??\\u-8704 ??!}", "\u{1F600}!"),
        (b"{\\rtf1\\ansicpg932 \\'93\\'fa\\'96\\'7b}", "日本"),
        (b"{\\rtf1 \\{x\\}\\\\ \\~}", "{x}\\ \u{a0}"),
        (b"{\\rtf1 {\\pict\\bin4 }}{{x}y}", "y"),
        (b"{\\rtf1\\fromhtml1{\\*\\htmltag64 <p>}\\htmlrtf {\\htmlrtf0 Hello\\htmlrtf\\par}\\htmlrtf0 }", "Hello\n"),
        (b"{\\rtf1 \\'zz\\u\\bin99999999999", "zz\0"),
    ];
    for (rtf, text) in cases {
        assert_eq!(rtf::text(rtf, 1000), text, "{}", String::from_utf8_lossy(rtf));
    }
    assert_eq!(rtf::text(b"{\\rtf1 \\u228 ?\\u228 ?}", 3), "ä");
    let deep = [b"{".repeat(100_000), b"x".to_vec(), b"}".repeat(100_000)].concat();
    assert_eq!(rtf::text(&deep, 1000), "x");
}

#[test]
fn what_breaks_off_gives_what_stood_before() {
    let raw = Writer::new().with(attribute::BODY, b"first\0").with(attribute::PROPS, &[255; 40]).0;
    assert_eq!(read(&raw[..raw.len() - 20]).unwrap().text.as_deref(), Some("first"));
    assert!(read(b"\x78\x9f\x3e").is_none() && read(b"something else").is_none());
}

#[test]
fn streams_of_the_corpus_are_read() {
    let Some(root) = crate::mail::corpus_tests::folder().map(|corpus| corpus.join("email")) else { return };
    let mut names: Vec<_> = std::fs::read_dir(root.join("sisimai")).unwrap().flatten().map(|one| one.path()).collect();
    names.push(root.join("zbateson-mail-mime-parser/m4006.txt"));
    let mut streams = 0;
    for path in names {
        let Ok(mut raw) = std::fs::read(&path) else { continue };
        if !raw.windows(7).any(|some| some.eq_ignore_ascii_case(b"ms-tnef")) {
            continue;
        }
        if !raw.contains(&b'\n') {
            raw.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        }
        let mail = MessageParser::default().parse(&raw).unwrap();
        let within = mail.parts.iter().filter_map(|part| part.message()).flat_map(|inner| &inner.parts);
        for part in mail.parts.iter().chain(within).filter(|part| part.is_content_type("application", "ms-tnef")) {
            let data = part.contents();
            let found = read(data);
            // One file calls a picture a stream.
            assert_eq!(found.is_some(), !data.starts_with(b"\x89PNG"), "{}", path.display());
            if let Some((attribute::PROPS, block)) = data.get(6..).and_then(|rest| attribute(&mut Bytes(rest))) {
                let told = Bytes(block).u32().unwrap() as usize;
                let read: Vec<u16> = props::read(block, 1000).map(|prop| prop.id).collect();
                println!("{} of {told} properties, {read:x?}", read.len());
                assert_eq!(read.len(), told, "{}", path.display());
                streams += 1;
            }
        }
    }
    println!("{streams} streams");
}

proptest! {
    #[test]
    fn no_bytes_make_it_stop(raw in proptest::collection::vec(any::<u8>(), 0..300), id in 0..4usize) {
        let ids = [attribute::PROPS, attribute::ATTACHMENT_PROPS, attribute::CODEPAGE, 7];
        let begun = Writer::new().with(attribute::ATTACHMENT_BEGINS, &[0; 14]);
        let block = [&9u32.to_le_bytes(), &raw[..]].concat();
        let _ = read(&begun.with(ids[id], &block).0);
        let _ = read(&[&SIGNATURE.to_le_bytes(), &raw[..]].concat());
        let _ = lzfu::unpack(&[b"12345\0\0\0LZFu1234", &raw[..]].concat(), 500);
        prop_assert!(rtf::text(&raw, 50).len() <= 50);
    }

    #[test]
    fn compressed_text_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(lzfu::unpack(&packed(&plain), 1000).unwrap(), plain);
    }

    #[test]
    fn no_rich_text_makes_it_stop(text in "[{}\\\\'u*\\-0-9a-f bin]{0,120}") {
        let _ = rtf::text(text.as_bytes(), 1000);
    }
}
