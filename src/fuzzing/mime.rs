//! A mail's parts, and the formats that lie in them.
//!
//! The invariants: a part has the size that is told of it, what is given out is bounded by what came in, and a page that
//! was cleaned neither runs nor loads anything.

use html5ever::buffer_queue::BufferQueue;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use crate::mail::attachment::{Kind, Part};
use crate::mail::fields::Fields;
use crate::mail::read::{self, Limits, Mail, Opened};
use crate::mail::{calendar, canon, dsn, html_clean, html_text, tnef};

/// Little, so that the limits are met.
const LIMITS: Limits = Limits { text: 1000, html: 2000, addresses: 3, subject: 40 };

/// A mail. What begins like a calendar, a TNEF stream or a page is also read as that.
pub fn mime(bytes: &[u8]) {
    let opened = Opened::new(bytes);
    hash(bytes);
    for limits in [Limits::default(), LIMITS] {
        let Ok(mail) = opened.read(&limits) else { break };
        check(&mail, &limits, bytes.len());
        senders(&mail, bytes);
        mail.parts.iter().for_each(|part| content(&opened, part));
    }
    report(bytes, &opened);
    for (index, _) in read::part_list(bytes) {
        assert!(opened.part_bytes(&index).is_some(), "part {index} has no content");
    }
    let text = String::from_utf8_lossy(bytes);
    match bytes.first() {
        Some(b'B') => calendar(&text),
        Some(b'<') => page(&text),
        Some(b'x') => outlook(bytes),
        _ => {}
    }
}

fn check(mail: &Mail, limits: &Limits, size: usize) {
    // A byte may become a character of three, or an entity of six.
    assert!(mail.text.len() <= 4 * limits.text.min(size) + 1024, "{} bytes of text", mail.text.len());
    assert!(mail.subject.chars().count() <= limits.subject);
    for list in [&mail.from, &mail.sender, &mail.reply_to, &mail.to, &mail.cc] {
        assert!(list.len() <= limits.addresses);
    }
    assert!(mail.text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "a control character in the text");
    assert!(mail.parts.len() <= 2000 && mail.references.len() <= 21);
    mail.html.iter().for_each(|html| check_page(html));
    for part in &mail.parts {
        let name = part.filename.as_deref().unwrap_or("file");
        assert!(!name.is_empty() && name.len() <= 200 && !name.contains(['/', '\\', '\0', '\r', '\n']));
        assert!(name != "." && name != "..");
    }
}

/// Whoever judges the mail reads the senders that are shown.
fn senders(mail: &Mail, bytes: &[u8]) {
    let (fields, _) = Fields::of_mail(bytes);
    if fields.whole() {
        let judged = read::from_of(&fields).list;
        let alike = judged.iter().zip(&mail.from).all(|(judged, shown)| judged.email == shown.email);
        assert!(alike && judged.len() == mail.from_facts.addresses, "{} senders", judged.len());
    }
}

fn content(opened: &Opened<'_>, part: &Part) {
    let bytes = opened.part_bytes(&part.index);
    assert_eq!(bytes.as_ref().map(Vec::len), Some(part.size), "part {}", part.index);
    let bytes = bytes.unwrap_or_default();
    match part.kind {
        Kind::Calendar => calendar(&String::from_utf8_lossy(&bytes)),
        Kind::Tnef => outlook(&bytes),
        _ => {}
    }
}

fn report(bytes: &[u8], opened: &Opened<'_>) {
    if let Some(report) = dsn::read(opened) {
        assert!(report.recipients.len() <= 100, "{} recipients", report.recipients.len());
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 4 * bytes.len());
        assert!(!long(&report.original_message_id) && !long(&report.original_to));
    }
}

/// The same mail by another way is the same.
fn hash(bytes: &[u8]) {
    let own = canon::hash(bytes);
    let (fields, _) = Fields::read(bytes);
    let begins = fields.iter().next().is_some_and(|field| bytes.starts_with(field.whole));
    if begins {
        assert_eq!(canon::hash(&[b"Return-Path: <ada@customer.example>\r\n", bytes].concat()), own);
        assert_eq!(canon::hash(&[bytes, b"\r\n"].concat()), own);
    }
}

fn calendar(text: &str) {
    if let Some(event) = calendar::read(text) {
        let sentence = calendar::describe(&event);
        assert!(!sentence.contains('\r') && sentence.len() <= 4 * text.len() + 1024);
    }
}

fn outlook(bytes: &[u8]) {
    let (mut open, mut depth) = (vec![bytes.to_vec()], 0);
    while let Some(stream) = open.pop()
        && depth < tnef::NESTING
    {
        depth += 1;
        let Some(read) = tnef::read(&stream) else { continue };
        assert!(read.attachments.len() <= 1000);
        let size: usize = read.attachments.iter().map(|inner| inner.data.len()).sum();
        assert!(size <= stream.len(), "{size} bytes of files in {}", stream.len());
        for text in [&read.text, &read.html] {
            assert!(text.as_ref().is_none_or(|text| text.len() <= 3 * tnef::MOST_TEXT));
        }
        read.html.iter().for_each(|html| page(html));
        open.extend(read.attachments.into_iter().filter(|inner| inner.embedded).map(|inner| inner.data));
    }
}

fn page(html: &str) {
    let rendered = html_text::render(html, 1000);
    assert!(rendered.text.len() <= 4 * 1000 + 1024, "{} bytes", rendered.text.len());
    if let Some(clean) = html_clean::clean(html, &mut html_clean::Spent::default()) {
        check_page(&clean);
        // Formatting is opened again in each paragraph.
        assert!(clean.len() <= 4 << 20, "{} bytes of {}", clean.len(), html.len());
    }
}

/// Reads a clean page again, as a browser would.
fn check_page(html: &str) {
    let mut queue = BufferQueue::new();
    queue.push_back(StrTendril::from_slice(html));
    let mut tokenizer = Tokenizer::new(Harmless, TokenizerOpts::default());
    let _ = tokenizer.feed(&mut queue);
    tokenizer.end();
}

/// Refuses what could run or load something.
struct Harmless;

impl TokenSink for Harmless {
    type Handle = ();

    fn process_token(&mut self, token: Token, _: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => harmless(&tag),
            Token::CommentToken(_) | Token::DoctypeToken(_) => unreachable!("a comment is left"),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

fn harmless(tag: &Tag) {
    const RAW: [&str; 14] = [
        "script",
        "style",
        "title",
        "template",
        "noscript",
        "iframe",
        "object",
        "svg",
        "math",
        "textarea",
        "xmp",
        "plaintext",
        "noembed",
        "noframes",
    ];
    assert!(!RAW.contains(&&*tag.name), "<{}> is left", &*tag.name);
    for attribute in &tag.attrs {
        // As browsers do, which pass over controls and spaces before an address, and over tabs and breaks within it.
        let value = attribute.value.replace(['\t', '\n', '\r'], "");
        let value = value.trim_start_matches(|first: char| first <= ' ').to_ascii_lowercase();
        let name = &*attribute.name.local;
        assert!(!name.starts_with("on") && name != "style" && name != "srcset", "{name} is left");
        let schemes: &[&str] = match name {
            "href" => &["https:", "http:", "mailto:", "cid:"],
            // What is loaded when the mail is shown tells its sender so.
            "src" => &["cid:"],
            "background" | "action" => &[],
            _ => continue,
        };
        assert!(schemes.iter().any(|scheme| value.starts_with(scheme)), "{name} leads to {value}");
    }
}
