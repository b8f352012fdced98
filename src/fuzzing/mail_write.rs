//! Mails of ours: written, read again, signed.
//!
//! The invariants: whatever the values are, the mail is clean, no value becomes a field, what is read is what was meant,
//! and the signature is good.

use std::sync::LazyLock;

use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::NOW;
use super::peer::CUT;
use crate::mail::dkim::{DkimOutcome, TxtAnswer, signatures};
use crate::mail::dkim_sign::{SigningKey, sign};
use crate::mail::fields::Fields;
use crate::mail::read::{Flag, Limits, Opened};
use crate::mail::write::{self, File, Letter, Mailbox, Unwritable};

/// A letter of which the bytes are the values: the first says which there are, and 0x1f parts them.
pub fn mail_write(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let letter = letter(kind, bytes);
    let Some(mail) = written(&letter) else { return };
    assert_eq!(written(&letter).as_ref(), Some(&mail), "another mail of the same letter");
    let lines = || mail.split_inclusive(|byte| *byte == b'\n');
    assert!(lines().all(|line| line.ends_with(b"\r\n") && line.len() <= 1000), "a line that SMTP does not allow");
    assert!(lines().all(|line| line.iter().all(|byte| byte.is_ascii() && *byte != 0)), "eight bits, or none");
    assert!(lines().all(|line| !line.trim_ascii_end().contains(&b'\r')), "a line end within a line");
    check_fields(&mail);
    check_read(&letter, &mail);
    check_signature(&mail);
}

/// The mail; nothing if it cannot be written as it is said that it may not.
fn written(letter: &Letter) -> Option<Vec<u8>> {
    match write::write(letter) {
        Ok(mail) => Some(mail),
        Err(fault) => {
            assert!(fault != Unwritable::Line, "the finished mail was not clean");
            None
        }
    }
}

fn letter(kind: u8, bytes: &[u8]) -> Letter {
    let has = |bit: u8| kind & (1 << bit) != 0;
    let mut values = bytes.split(|byte| *byte == CUT).map(|value| String::from_utf8_lossy(value).into_owned());
    let mut next = || values.next().unwrap_or_default();
    // Most made-up addresses are none, and then there would be nothing to look at.
    let mut address = |wild: bool, usual: &str| if wild { next() } else { usual.to_owned() };
    let (from, to) = (address(has(0), "shop@shop.example"), address(has(1), "anna@customer.example"));
    let message_id = address(has(2), "one@shop.example");
    let mut mailbox = |address| Mailbox { name: next(), address };
    let (from, to) = (mailbox(from), vec![mailbox(to)]);
    let (subject, text, html) = (next(), next(), has(3).then(&mut next));
    let in_reply_to = has(4).then(&mut next);
    let loop_mark = has(5).then(&mut next);
    let mut attachments = Vec::new();
    let mut references = Vec::new();
    while let (true, Some(value)) = (attachments.len() < 8, values.next()) {
        let (media_type, content) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        let content_id = has(6).then(|| value.clone());
        references.push(value.clone());
        attachments.push(File { filename: value, media_type, content_id, bytes: content.into_bytes() });
    }
    let (cc, reply_to, date, seed, automatic) = (Vec::new(), Vec::new(), 1_790_000_000, [kind; 16], has(7));
    Letter {
        message_id,
        date,
        from,
        to,
        cc,
        reply_to,
        subject,
        in_reply_to,
        references,
        text,
        html,
        attachments,
        automatic,
        loop_mark,
        seed,
    }
}

/// No value became a field.
fn check_fields(mail: &[u8]) {
    const KNOWN: [&str; 15] = [
        "From",
        "To",
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
        "Content-ID",
    ];
    let (fields, _) = Fields::read(mail);
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(KNOWN.contains(name) && !names.iter().take(at).any(|other| other == name), "a field {name}");
    }
    let whole: usize = fields.iter().map(|field| field.whole.len()).sum();
    let end = mail.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 2);
    assert_eq!(end, Some(whole), "the header has a line that is no field");
}

/// What our own reader reads is what was written.
fn check_read(letter: &Letter, mail: &[u8]) {
    let opened = Opened::new(mail);
    let Ok(read) = opened.read(&Limits::default()) else { unreachable!("what was written is no mail") };
    let one = |list: &[crate::mail::address::Address]| list.iter().map(|one| one.email.clone()).collect::<Vec<_>>();
    assert_eq!(one(&read.from), [write::address(&letter.from.address).unwrap_or_default()]);
    let to: Vec<String> = letter.to.iter().filter_map(|to| write::address(&to.address).ok()).collect();
    assert_eq!(one(&read.to), to);
    assert!(!read.from_facts.ambiguous, "two could be read as its sender");
    assert_eq!(read.message_id.as_deref(), write::id(&letter.message_id));
    assert_eq!(read.subject, write::one_line(&letter.subject, 1000));
    // HTML that nobody can show safely is left out, and said to be.
    assert_eq!(read.html.is_some() || read.flags.contains(&Flag::HtmlLeftOut), letter.html.is_some());
    let files = read.parts.iter().map(|part| opened.part_bytes(&part.index).unwrap_or_default());
    let (mut got, mut sent): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
        (files.collect(), letter.attachments.iter().map(|file| file.bytes.clone()).collect());
    got.sort();
    sent.sort();
    assert_eq!(got, sent, "other files");
}

/// A key made of nothing, and what its domain would say of it.
static KEY: LazyLock<Option<(SigningKey, TxtAnswer)>> = LazyLock::new(|| {
    let der = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &[7; 32]].concat();
    let public = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
    let record = format!("v=DKIM1; k=ed25519; p={}", BASE64.encode(public.public_key().as_ref()));
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&der));
    Some((SigningKey::from_pem(&pem).ok()?, TxtAnswer::Found(vec![record])))
});

/// Every mail that is written can be signed, and the signature is good.
fn check_signature(mail: &[u8]) {
    let Some((key, record)) = &*KEY else { unreachable!("the key is none") };
    let Ok(field) = sign(mail, key, "shop.example", "s1", NOW) else { unreachable!("the mail was not signed") };
    let signed = [field.as_bytes(), mail].concat();
    let results: Vec<DkimOutcome> = signatures(&signed).iter().map(|one| one.verify(record, NOW).result).collect();
    assert_eq!(results, [DkimOutcome::Pass]);
}
