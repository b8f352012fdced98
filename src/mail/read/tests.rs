use super::*;
use crate::base::ends::ends;
use proptest::prelude::*;

fn get(raw: &str) -> Mail {
    read(raw.as_bytes(), &Limits::default()).unwrap()
}

const MIXED: &str = "Content-Type: multipart/mixed; boundary=x\n\n";

#[test]
fn a_plain_mail() {
    let mail = get("Message-ID: <1@x>\r\nFrom: Ann <a@b>\r\nTo: c@d\r\nDate: Thu, 1 Jan 1970 00:01:00 +0000\r\n\
        Subject: =?utf-8?Q?caf=C3=A9?=\r\nReferences: <0@x>\r\n\r\nHello\r\nthere\r\n");
    assert_eq!(mail.message_id.as_deref(), Some("1@x"));
    assert_eq!((mail.subject.as_str(), mail.date), ("caf\u{e9}", Some(60)));
    assert_eq!((mail.text.as_str(), mail.html), ("Hello\nthere\n", None));
    assert_eq!((mail.from[0].email.as_str(), mail.from[0].name.as_deref()), ("a@b", Some("Ann")));
    assert_eq!(mail.from_facts, FromFacts { fields: 1, addresses: 1, ambiguous: false });
    assert_eq!(mail.references, ["0@x"]);
    assert!(mail.flags.is_empty() && mail.parts.is_empty());
}

#[test]
fn what_is_no_mail_says_why() {
    assert_eq!(read(b" \r\n", &Limits::default()).unwrap_err().to_string(), "it is empty");
    assert!(read(b"{\"a\": 1}", &Limits::default()).is_err());
    assert!(read(b"From me Mon\nsubject: x\n\n", &Limits::default()).is_ok());
}

#[test]
fn two_from_fields_are_seen() {
    let mail = get("From: a@b\nFrom: c@d, e@f\n\n");
    assert_eq!(mail.from_facts, FromFacts { fields: 2, addresses: 3, ambiguous: false });
    assert_eq!(mail.from.len(), 3);
}

#[test]
fn files_pictures_and_their_bytes() {
    let raw = format!(
        "{MIXED}--x\nContent-Type: multipart/related; boundary=y\n\n--y\nContent-Type: text/html\n\n\
         <p>Hi<img src=\"cid:p@q\"></p>\n--y\nContent-Type: image/png; name=p.png\nContent-ID: <p@q>\n\
         Content-Transfer-Encoding: base64\n\nAAEC\n--y--\n--x\nContent-Type: application/pdf\n\
         Content-Disposition: attachment; filename=\"../a.pdf\"\n\nbytes\n--x--\n"
    );
    let mail = get(&raw);
    assert_eq!(mail.text, "Hi");
    assert!(mail.html.unwrap().contains("cid:p@q"));
    let seen: Vec<_> = mail
        .parts
        .iter()
        .map(|part| (part.index.as_str(), part.filename.as_deref().unwrap(), part.kind, part.size))
        .collect();
    assert_eq!(seen, [("1.2", "p.png", Kind::Inline, 3), ("2", "a.pdf", Kind::File, 5)]);
    assert_eq!(Opened::new(raw.as_bytes()).part_bytes("1.2"), Some(vec![0, 1, 2]));
    assert_eq!(Opened::new(raw.as_bytes()).part_bytes("2"), Some(b"bytes".to_vec()));
    assert_eq!(Opened::new(raw.as_bytes()).part_bytes("3"), None);
}

#[test]
fn uuencoded_files_leave_the_text() {
    let raw = "Subject: x\n\nsee\nbegin 644 cat.txt\n#0V%T\n`\nend\nbye\n";
    let mail = get(raw);
    assert_eq!(mail.text, "see\nbye\n");
    assert_eq!((mail.parts[0].index.as_str(), mail.parts[0].size), ("1.u1", 3));
    assert_eq!(Opened::new(raw.as_bytes()).part_bytes("1.u1"), Some(b"Cat".to_vec()));
    assert_eq!(Opened::new(raw.as_bytes()).part_bytes("1.u2"), None);
}

#[test]
fn several_texts_are_joined_and_flow() {
    let mail = get(&format!("{MIXED}--x\nContent-Type: text/plain; format=flowed\n\none \ntwo\n--x\n\nthree\n--x--\n"));
    assert_eq!(mail.text, "one two\n\nthree");
}

#[test]
fn what_is_read_of_all_pages_together_is_bounded() {
    let page = |inner: &str| format!("--x\nContent-Type: text/html\n\n{inner}\n");
    let style = format!("<style>{}</style>", "a".repeat(900));
    let raw = format!("{MIXED}{}{}--x--\n", page(&style), page(&format!("<p>{}", "b".repeat(200))));
    let mail = read(raw.as_bytes(), &Limits { html: 1000, ..Limits::default() }).unwrap();
    assert!(mail.flags.contains(&Flag::TruncatedHtml));
    assert!(mail.html.is_some_and(|html| (50..100).contains(&html.len())));
    assert!(!get(&raw).flags.contains(&Flag::TruncatedHtml));
}

#[test]
fn reports_name_their_parts() {
    let mail = get("Content-Type: multipart/report; report-type=delivery-status; boundary=x\n\n--x\n\nfailed\n\
        --x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n--x\nContent-Type: message/rfc822\n\nSubject: y\n\nz\n--x--\n");
    let report = mail.report.unwrap();
    assert!(report.delivery);
    assert_eq!((report.status, report.returned), (vec!["2".to_owned()], vec!["3".to_owned()]));
    assert_eq!(mail.text, "failed");
}

#[test]
fn sealed_mails_are_kept_whole_and_marked() {
    let mail = get(
        "Content-Type: multipart/encrypted; boundary=x\n\n--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\
        --x\nContent-Type: application/octet-stream\n\n-----BEGIN\n--x--\n",
    );
    assert!(mail.flags.contains(&Flag::Encrypted) && mail.flags.contains(&Flag::NoText));
    assert!(mail.parts.iter().all(|part| part.kind == Kind::Encrypted) && mail.parts.len() == 2);
    let mail = get(
        "Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\nAAEC\n",
    );
    assert!(mail.flags.contains(&Flag::Signed));
    assert_eq!((mail.parts[0].kind, mail.parts[0].size), (Kind::Signature, 3));
    let mail = get(
        "Content-Type: multipart/signed; boundary=x\n\n--x\n\nhi\n--x\nContent-Type: application/pgp-signature\n\ns\n--x--\n",
    );
    assert_eq!((mail.text.as_str(), mail.parts[0].kind), ("hi", Kind::Signature));
    assert!(get("Subject: x\n\n-----BEGIN PGP MESSAGE-----\n").flags.contains(&Flag::Encrypted));
}

#[test]
fn debug_shows_no_contents() {
    let mail = get(&format!(
        "From: secret <secret@x>\nSubject: secret\n{MIXED}--x\n\nsecret\n--x\nContent-Type: a/b; name=secret\n\nsecret\n--x--\n"
    ));
    assert!(!format!("{mail:?}").contains("secret"));
}

/// How much of what is hostile is made: builds for development are slow.
const SCALE: usize = if cfg!(debug_assertions) { 4 } else { 1 };

/// Reads `raw` in every way.
fn reads(name: &str, raw: Vec<u8>) -> Mail {
    let raw = std::sync::Arc::new(raw);
    let own = raw.clone();
    let mail = ends(name, move || read(&own, &Limits::default()).unwrap());
    let own = raw.clone();
    ends(&format!("{name}, hash"), move || super::super::canon::hash(&own));
    if let Some(part) = mail.parts.last().map(|part| part.index.clone()) {
        ends(&format!("{name}, bytes"), move || Opened::new(&raw).part_bytes(&part));
    }
    mail
}

#[test]
fn hostile_trees_are_read_to_their_end() {
    let deep: String = (0..1000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    assert!(reads("1,000 nested multiparts", deep.into_bytes()).flags.contains(&Flag::TooDeep));
    reads("1,000 nested mails", b"Content-Type: message/rfc822\n\n".repeat(1000));
    reads("25 MB of nested mails", b"Content-Type: message/rfc822\n\n".repeat(25_000_000 / 30));
    reads("25 MB of one field", b"Content-Type: message/rfc822\n".repeat(25_000_000 / 29));
    let many = MIXED.to_owned() + &"--x\n\na\n".repeat(10_000);
    assert!(reads("10,000 parts", many.into_bytes()).flags.contains(&Flag::ManyParts));
    let unopened =
        MIXED.to_owned() + &"--x\nContent-Type: multipart/mixed; boundary=y\n\nfiller\n".repeat(400_000 / SCALE);
    reads("multiparts that are never opened", unopened.into_bytes());
    let inner: String = (0..30).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    reads("25 MB of dashes", (inner + "\n" + &"--\n".repeat(8_000_000 / SCALE)).into_bytes());
    let base64 = MIXED.to_owned()
        + &"--x\nContent-Type: a/b\nContent-Transfer-Encoding: base64\n\nAAAA\n".repeat(300_000 / SCALE);
    reads("base64 parts", base64.into_bytes());
}

#[test]
fn hostile_fields_are_read_to_their_end() {
    let long = format!("Subject: {}\n\nx", "y".repeat(1_000_000));
    assert_eq!(reads("1 MB of subject", long.into_bytes()).subject.len(), 1000);
    for piece in ["=?a?q?", "=?utf-8?q?a?= ", "<a@b>,", "(", "\"", "<", "\\\"", "a=\"", "; a*0=b"] {
        let value = piece.repeat(1_000_000 / SCALE / piece.len());
        let names = ["Subject", "From", "References", "Content-Type", "Date", "Message-ID", "Content-Disposition"];
        for name in names {
            reads(&format!("{name} of {piece}"), format!("X: y\nTo: a@b\n{name}: {value}\n\nx").into_bytes());
        }
    }
    reads("many fields", b"From: a@b\n".repeat(2_500_000 / SCALE));
}

#[test]
fn hostile_bodies_are_read_to_their_end() {
    let html = |body: String| format!("Content-Type: text/html\n\n{body}").into_bytes();
    assert!(reads("1,000 divs", html("<div>".repeat(1000))).flags.contains(&Flag::HtmlLeftOut));
    for piece in [
        "<b>",
        "<div>",
        "<p a=b>",
        "<a href=cid:x>",
        "<table>",
        "<font a>",
        "<",
        "&#",
        "<!--",
        "</p>",
        "<p x='",
        "<a b c d e f>",
    ] {
        let whole = if matches!(piece, "<b>" | "<div>") { 1 } else { SCALE };
        reads(piece, html(piece.repeat(1024 * 1024 / whole / piece.len())));
    }
    let attributes: String = (0..150_000).map(|n| format!(" a{n}")).collect();
    reads("attributes", html(format!("<p{attributes}>")));
    for piece in ["begin 644 x\n", "begin 644 x\nend\n", "-----BEGIN PGP", "> ", "\r", " \n", "=", "=\n"] {
        let body = piece.repeat(10_000_000 / SCALE / piece.len());
        reads(piece, format!("Content-Type: text/plain; format=flowed\n\n{body}").into_bytes());
        reads(piece, format!("Content-Transfer-Encoding: quoted-printable\nTo: x\n\n{body}").into_bytes());
    }
}

proptest! {
    #[test]
    fn nothing_panics(lines in proptest::collection::vec(prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=x\n"), Just("Content-Type: text/html; charset=utf-7\n"), Just("\n"),
        Just("--x\n"), Just("--x--\n"), Just("Content-Transfer-Encoding: base64\n"), Just("begin 644 a\n"), Just("end\n"),
        Just("<p>\u{e9}<a href=cid:x>"), Just("Content-Disposition: attachment; filename*=utf-8''%"), Just("AAA=\r\n"),
        Just("Content-ID: <x>\n"), Just("Content-Type: message/rfc822\n")], 0..40)) {
        let raw = format!("From: a@b\n{}", lines.concat());
        let mail = read(raw.as_bytes(), &Limits::default()).unwrap();
        for part in &mail.parts {
            prop_assert_eq!(Opened::new(raw.as_bytes()).part_bytes(&part.index).map(|bytes| bytes.len()), Some(part.size));
        }
    }

    /// Else somebody could be shown as the sender whom nobody looked into.
    #[test]
    fn whoever_judges_a_mail_reads_the_senders_that_are_shown(pieces in proptest::collection::vec(prop_oneof![
        Just("From: a@b\r\n"), Just("From: c@d\n"), Just("From :e@f\r\n"), Just("From g@h Mon\n"), Just("\r"), Just("\n"), Just(" "),
        Just("\r\n"), Just("no field\r\n"), Just("X: y"), Just("\u{feff}"), Just("Subject: z\r\n"), Just("\t")], 0..12)) {
        let raw = pieces.concat();
        let (fields, _) = Fields::of_mail(raw.as_bytes());
        if let Ok(mail) = read(raw.as_bytes(), &Limits::default()) && fields.whole() {
            let emails = |list: &[Address]| list.iter().map(|one| one.email.clone()).collect::<Vec<_>>();
            let judged = from_of(&fields);
            prop_assert_eq!(emails(&judged.list), emails(&mail.from));
            prop_assert_eq!((fields.all("From").count(), judged.ambiguous), (mail.from_facts.fields, mail.from_facts.ambiguous));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut raw = b"Subject: ".to_vec();
        raw.extend_from_slice(&bytes);
        let _ = read(&raw, &Limits::default());
        let _ = read(&bytes, &Limits::default());
    }
}

#[test]
fn the_beginnings_of_a_large_mail_are_bounded_and_keep_its_parts() {
    let part = |letter: &str| format!("--b\nX: {letter}\n\n{}", format!("{}\n", letter.repeat(99)).repeat(2000));
    let head = "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n";
    let few = format!("{head}{}{}--b\n\nthe end\n--b--\n", part("x"), part("y"));
    assert_eq!(Opened::new(few.as_bytes()).beginnings(), few.as_bytes(), "small ones stay as they are");
    let some = format!("{head}{}{}{}--b\n\nthe end\n--b--\n", part("x"), part("y"), part("z"));
    let cut = Opened::new(some.as_bytes()).beginnings().into_owned();
    let opened = Opened::new(&cut);
    let kept = |index: &str| opened.part_bytes(index).unwrap();
    assert!((60_000..=BEGINNING).contains(&kept("2").len()) && kept("2").iter().all(|byte| b"y\n".contains(byte)));
    assert_eq!((kept("4"), cut.len() < 4 * BEGINNING), (b"the end".to_vec(), true));
    let many = format!("{head}{}--b--\n", part("x").repeat(30));
    assert_eq!(Opened::new(many.as_bytes()).beginnings().len(), BEGINNINGS);
}
