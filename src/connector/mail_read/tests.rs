use data_encoding::BASE64;

use super::MailFiles;
use crate::base::Timestamp;
use crate::base::ends::ends;
use crate::base::id::SendId;
use crate::connector::mail_auto::tests::{account, taken};
use crate::model::entry::{Believed, MailHead, SenderFound};
use crate::model::{DeliveryState, Interaction, MailToken, Outcome, PartType};

/// A stream of attributes, as [`crate::mail::tnef`] reads them.
fn stream(attributes: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x78, 0x9F, 0x3E, 0x22, 1, 0];
    for (id, data) in attributes {
        out.push(1);
        out.extend(id.to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out.extend([0, 0]);
    }
    out
}

const PROPS: u32 = 0x0006_9003;

/// A block with one property: the HTML.
fn page(html: &str) -> Vec<u8> {
    let mut out = [1_u32.to_le_bytes(), 0x1013_0102_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    out.extend((html.len() as u32).to_le_bytes());
    out.extend(html.as_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The attributes of a file.
fn file(name: &str, data: &[u8]) -> [(u32, Vec<u8>); 3] {
    [(0x0006_9002, vec![1; 14]), (0x0001_8010, format!("{name}\0").into_bytes()), (0x0006_800F, data.to_vec())]
}

/// A mail with such a stream, and with a text of its own if there is one.
fn with_winmail(text: &str, stream: &[u8]) -> (String, Interaction) {
    let packed = BASE64.encode(stream);
    let rest = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\n\r\n{text}\r\n--w\r\n\
         Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n{packed}\r\n--w--\r\n"
    );
    let ix = taken("support@shop.example", &rest);
    (rest, ix)
}

fn names(ix: &Interaction) -> Vec<Option<&str>> {
    let blobs = ix.parts.iter().filter_map(|part| part.blob.as_ref());
    blobs.map(|blob| blob.filename.as_ref().map(|name| name.expose().as_str())).collect()
}

#[test]
fn files_in_winmail_have_harmless_names() {
    let utf8 = (0x0006_9007, 65001_u32.to_le_bytes().to_vec());
    let mut attributes = vec![utf8];
    attributes.extend(file("..\\..\\secret\u{202e}\u{200b}fdp\r.exe", b"first"));
    attributes.extend(file("/", b"second"));
    let (raw, ix) = with_winmail("See the file.", &stream(&attributes));
    assert_eq!(names(&ix), [Some("secretfdp.exe"), None, Some("original.eml")]);
    let second = ix.parts[1].blob.as_ref().unwrap().provider_ref.as_ref().unwrap();
    assert_eq!(*MailFiles::new(raw.as_bytes()).content(second.expose()).unwrap(), *b"second");
}

#[test]
fn a_page_in_winmail_is_the_mail_s_where_it_has_no_text() {
    let html = "<p>The kettle leaks.</p><script>steal()</script><p>Please help.</p>";
    let packed = stream(&[(PROPS, page(html))]);
    let (_, ix) = with_winmail("", &packed);
    let parts: Vec<_> = ix.parts.iter().map(|part| (part.kind, part.text.as_ref())).collect();
    let [(PartType::Html, Some(shown)), (PartType::Text, Some(words)), (PartType::File, None)] = &parts[..] else {
        panic!("{} parts", parts.len())
    };
    assert!(shown.expose().contains("leaks") && !shown.expose().contains("steal"), "{}", shown.expose());
    assert_eq!(words.expose(), "The kettle leaks.\n\nPlease help.");
    assert_eq!(ix.text.expose(), words.expose());
    assert!(ix.mail.unwrap().marks.is_empty());
    let (_, ix) = with_winmail("My own words.", &packed);
    assert_eq!(ix.text.expose(), "My own words.");
    assert!(ix.parts.iter().all(|part| part.kind != PartType::Html));
}

#[test]
fn a_winmail_that_says_nothing_stays_a_file() {
    let empty = file("lost.pdf", b"");
    for attributes in [&[][..], &[(PROPS, vec![255; 40])], &[(0x0002_800C, b" \0".to_vec())], &empty] {
        let (_, ix) = with_winmail("See the file.", &stream(attributes));
        assert_eq!(names(&ix), [Some("winmail.dat"), Some("original.eml")]);
    }
}

#[test]
fn a_long_text_in_winmail_is_cut_and_flagged() {
    let long = "äb ".repeat(super::LIMITS.text);
    let (_, ix) = with_winmail("", &stream(&[(0x0002_800C, long.into_bytes())]));
    assert!(ix.text.expose().len() <= super::LIMITS.text);
    assert!(ix.flags.contains(&crate::model::Flag::Incomplete));
    assert!(ix.mail.unwrap().marks.contains(&"truncated_text".to_owned()));
}

/// What a server returns of a mail with a large file.
fn returned() -> String {
    format!(
        "Message-ID: <answer.7@shop.example>\r\nFrom: support@shop.example\r\nTo: dora@customer.example\r\n\
         Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\nHello Dora\r\n--inner\r\n\
         Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--inner--\r\n",
        format!("{}\r\n", "QUJD".repeat(19)).repeat(20_000)
    )
}

#[test]
fn a_report_is_read_however_large_the_mail_is_that_it_returns() {
    let large = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=r\r\n\r\n--r\r\n\r\n\
         The mail could not be delivered.\r\n--r\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.customer.example\r\n\r\nFinal-Recipient: rfc822; dora@customer.example\r\n\
         Action: failed\r\nStatus: 5.3.4\r\n--r\r\nContent-Type: message/rfc822\r\n\r\n{}--r--\r\n",
        returned()
    );
    let plain = format!(
        "Return-Path: <>\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program.\r\n\
         I wasn't able to deliver your message to the following addresses.\r\n\r\n<dora@customer.example>:\r\n\
         Too large (#5.3.4)\r\n\r\n--- Below this line is a copy of the message.\r\n\r\n{}",
        returned()
    );
    for raw in [large, plain] {
        assert!(raw.len() > 1 << 20);
        let ix = taken("support@shop.example", &raw);
        let report = ix.mail.as_ref().unwrap().report.as_ref().unwrap();
        assert_eq!((report.kind.as_str(), report.status.as_deref()), ("failed", Some("5.3.4")));
        assert_eq!(report.message_id.as_deref(), Some("answer.7@shop.example"));
        assert_eq!(report.recipients[0].expose(), "dora@customer.example");
    }
}

/// A report that is not believed is a mail like others; by its words alone it is not even called a report.
#[test]
fn a_report_tells_of_our_mail_where_it_is_believed() {
    use Believed::{All, ByMachine, Receipts};
    let (connector, account) = account(serde_json::json!({ "address": "support@shop.example" }));
    let token = MailToken { conversation_id: None, send_id: Some(SendId::from_bytes([9; 16])), of_sender: false };
    let machine = |part: &str| {
        format!(
            "Content-Type: multipart/report; boundary=r\r\n\r\n--r\r\nContent-Type: message/{part}\r\n\
             Final-Recipient: rfc822; dora@customer.example\r\n--r--\r\n"
        )
    };
    let failed = machine("delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\nAction: failed\r\nStatus: 5.1.1");
    let read = machine("disposition-notification\r\n\r\nDisposition: manual-action/MDN-sent-manually; displayed");
    let words = "Subject: Re: The parcel\r\n\r\nIt was not delivered.\r\n";
    for (raw, state, told_under) in [
        (failed.as_str(), DeliveryState::Failed, &[All, ByMachine][..]),
        (&read, DeliveryState::Read, &[All, ByMachine, Receipts]),
        (words, DeliveryState::Failed, &[All]),
    ] {
        for believed in [All, ByMachine, Receipts] {
            let sender = SenderFound { token: Some(token), believed, ..SenderFound::default() };
            let head = MailHead { sender, ..MailHead::unchecked() };
            let raw = format!("From: postmaster@customer.example\r\nTo: support@shop.example\r\n{raw}");
            let at = Timestamp::from_seconds(1_790_000_000);
            match connector.normalize_mail(raw.as_bytes(), &head, &account, at).remove(0) {
                Outcome::Receipt { receipt } => {
                    assert!(receipt.state == state && told_under.contains(&believed), "{believed:?}: {raw}");
                }
                Outcome::Interaction(one) => {
                    assert!(!told_under.contains(&believed), "{believed:?}: {raw}");
                    assert_eq!(one.interaction.mail.unwrap().report.is_some(), !raw.ends_with(words));
                }
                _ => panic!("neither"),
            }
        }
    }
}

#[test]
fn every_file_of_a_mail_is_had_by_its_reference_in_any_order() {
    let packed: Vec<_> = [&b"first"[..], b"second"].iter().flat_map(|data| file("a.txt", data)).collect();
    let packed = BASE64.encode(&stream(&packed));
    let uuencoded = "begin 644 b.txt\r\n#0V%T\r\n`\r\nend\r\nand\r\nbegin 644 c.txt\r\n#1&]G\r\n`\r\nend\r\n";
    let raw = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\n\r\nTwo:\r\n{uuencoded}\r\n--w\r\n\
         Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n{packed}\r\n--w\r\n\
         Content-Type: image/png; name=d.png\r\n\r\npixels\r\n--w--\r\n"
    );
    let ix = taken("support@shop.example", &raw);
    let places: Vec<&str> =
        ix.parts.iter().filter_map(|part| Some(part.blob.as_ref()?.provider_ref.as_ref()?.expose().as_str())).collect();
    let expected: Vec<&[u8]> = vec![b"Cat", b"Dog", b"first", b"second", b"pixels", raw.as_bytes()];
    let mut mail = MailFiles::new(raw.as_bytes());
    for at in [5, 0, 3, 1, 2, 4, 3, 0] {
        assert_eq!(*mail.content(places[at]).unwrap(), *expected[at], "{}", places[at]);
    }
    for nowhere in [
        "",
        "mime:9",
        "mime:1.u0x",
        "mime:1.u3",
        "mime:1.u0",
        "mime:2/t2",
        "mime:2/tx",
        "mime:3/t0",
        "mime:t",
        "mime:u",
    ] {
        assert!(mail.content(nowhere).is_none(), "{nowhere}");
    }
}

#[test]
fn many_files_in_many_winmails_are_cut_and_flagged() {
    let packed: Vec<_> = (0..300).flat_map(|_| file("a.txt", b"x")).collect();
    let packed = BASE64.encode(&stream(&packed));
    let part =
        format!("--w\r\nContent-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n{packed}\r\n");
    let ix = taken(
        "support@shop.example",
        &format!("Content-Type: multipart/mixed; boundary=w\r\n\r\n{}--w--\r\n", part.repeat(9)),
    );
    // And the original.
    assert_eq!(ix.parts.len(), super::MOST_PARTS + 1);
    assert!(ix.parts.last().unwrap().mediatype.as_deref() == Some("message/rfc822"));
    assert!(ix.flags.contains(&crate::model::Flag::Incomplete));
    assert!(ix.mail.unwrap().marks.contains(&"many_parts".to_owned()));
}

#[test]
fn mails_and_parts_in_each_other_take_no_stack_and_no_time() {
    let within = "Content-Type:message/rfc822\n\n";
    let encoded = BASE64.encode(within.repeat(3000).as_bytes());
    let mails = [
        format!("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{encoded}"),
        within.repeat(18_000),
        format!(
            "Content-Type: multipart/a; boundary=x\n\n{}",
            "--x\nContent-Type:multipart/a;boundary=y\n\n".repeat(12_000)
        ),
        format!("Content-Type: text/plain;{}\n\nhello", (1..40_000).map(|n| format!("a*{n}=x;")).collect::<String>()),
    ];
    for (at, mail) in mails.into_iter().enumerate() {
        assert!(mail.len() < 512 << 10, "{at}: {} bytes", mail.len());
        let parts = ends(&format!("{at}"), move || taken("support@shop.example", &mail).parts.len());
        assert!((1..=super::MOST_PARTS + 1).contains(&parts), "{at}: {parts} parts");
    }
}

/// Rich text that grows eightfold when it is unpacked: a letter, and copies of the byte before them.
fn rich_text(groups: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    // The window begins with 207 bytes that are known to all; the next byte goes to place 207.
    let mut at = 207;
    packed.extend([0b1111_1110, b'a']);
    at += 1;
    let copy = |at: &mut usize| {
        let reference = ((*at - 1) % 4096) << 4 | 15;
        *at += 17;
        (reference as u16).to_be_bytes()
    };
    for copies in 1..groups * 8 {
        if copies % 8 == 0 {
            packed.extend([0xFF]);
        }
        packed.extend(copy(&mut at));
    }
    let head = [packed.len() as u32 + 12, at as u32 - 207, 0x7546_5A4C, 0];
    let data: Vec<u8> = head.into_iter().flat_map(u32::to_le_bytes).chain(packed).collect();
    let mut out = [1_u32.to_le_bytes(), 0x1009_0102_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn many_winmails(stream: &[u8]) -> Interaction {
    let packed = BASE64.encode(stream);
    let part =
        format!("--w\r\nContent-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n{packed}\r\n");
    taken(
        "support@shop.example",
        &format!("Content-Type: multipart/mixed; boundary=w\r\n\r\n{}--w--\r\n", part.repeat(50)),
    )
}

#[test]
fn the_texts_and_pages_of_many_winmails_are_bounded_together() {
    let long = format!("<p>{}</p>", "words ".repeat(10_000));
    let hidden = format!("<p>seen</p><script>{}</script>", "x".repeat(60_000));
    for (packed, mark) in [
        (stream(&[(PROPS, rich_text(500))]), "truncated_text"),
        (stream(&[(PROPS, page(&long))]), "truncated_text"),
        (stream(&[(PROPS, page(&hidden))]), "truncated_html"),
    ] {
        let ix = many_winmails(&packed);
        let said: usize = ix.parts.iter().filter_map(|part| part.text.as_ref()).map(|text| text.expose().len()).sum();
        assert!(said <= super::LIMITS.text + super::LIMITS.html + 1024, "{said} bytes");
        // What was not unpacked is there as it is.
        let texts = ix.parts.iter().filter(|part| part.kind == PartType::Text).count();
        let files = ix.parts.iter().filter(|part| part.mediatype.as_deref() == Some("application/ms-tnef")).count();
        assert!(texts > 1 && texts + files == 50, "{texts} texts, {files} files");
        assert!(ix.mail.unwrap().marks.contains(&mark.to_owned()));
    }
}
