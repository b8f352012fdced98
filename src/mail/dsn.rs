//! Reports on a mail that was sent: delivery reports and bounces (RFC 3464, RFC 6533 and the plain texts of servers that
//! write neither), receipts (RFC 8098) and complaints (RFC 5965).
//!
//! A report says what its sender claims. Nothing here proves that the mail it speaks of was ours; only the caller can,
//! by the token in the address it came to or by [`Report::original_message_id`]. Reads the parts of one mail, never the
//! parts of a mail within it, so that a forwarded bounce is no bounce.

mod groups;
mod notice;
mod status;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use mail_parser::{Message, MessagePart, MimeHeaders, PartType};

use super::auto;
use super::fields::Fields;

/// A status code of RFC 3463: class, subject, detail. Class 2 is success, 4 a failure that may pass, 5 one that stays.
pub type Status = (u8, u16, u16);

/// The most recipients kept of one report.
pub const MOST_RECIPIENTS: usize = 100;
/// The most bytes kept of a diagnostic.
pub const MOST_DIAGNOSTIC: usize = 1000;
/// The most bytes read of one text, and of one machine-readable part.
const MOST_TEXT: usize = 256 * 1024;
/// The most parts looked at.
const MOST_PARTS: usize = 200;

/// What a report says of the mail. Of several recipients the worst fate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// At least one recipient will not get it.
    Failed,
    /// It was not delivered yet; the server goes on trying.
    Delayed,
    /// It was delivered.
    Delivered,
    /// It was handed to a server that sends no reports.
    Relayed,
    /// It was delivered to a list of further recipients.
    Expanded,
    /// The recipient, or who reads for them, called it unwanted.
    Complaint,
    /// A receipt: it was shown, deleted or otherwise treated; the recipient's action says which.
    Read,
}

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Recipient {
    /// The address that was tried last (`Final-Recipient`), or the one named in the text.
    pub address: String,
    /// The address that the sender gave (`Original-Recipient`), where it is told.
    pub original: Option<String>,
    /// `failed`, `delayed`, ..; of a receipt the disposition (`displayed`, ..), of a complaint its type (`abuse`, ..).
    pub action: String,
    /// The status, told by the report or read from its words.
    pub status: Option<Status>,
    /// What the server said, in one line of at most [`MOST_DIAGNOSTIC`] bytes.
    pub diagnostic: String,
    /// The server that said it (`Remote-MTA`).
    pub remote: Option<String>,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Recipient")
            .field("action", &self.action)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A report.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// What it says.
    pub kind: ReportKind,
    /// Of whom. Empty if the report does not tell.
    pub recipients: Vec<Recipient>,
    /// The Message-ID of the mail it speaks of, without angle brackets.
    pub original_message_id: Option<String>,
    /// The first address in To of the returned mail.
    pub original_to: Option<String>,
    /// Whether a recipient failed for good: an action `failed` with a status of class 5, or with none. A failure of
    /// class 4 (the server gave up trying) is not, as the address may be good.
    pub permanent: bool,
    /// Whether its words alone say so, and no machine-readable part: a person may have written it.
    pub by_words: bool,
}

impl fmt::Debug for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Report")
            .field("kind", &self.kind)
            .field("recipients", &self.recipients)
            .field("knows_message_id", &self.original_message_id.is_some())
            .field("permanent", &self.permanent)
            .field("by_words", &self.by_words)
            .finish_non_exhaustive()
    }
}

/// Reads the report that `mail` is, if it is one. A mail whose lines end in CR alone is to be converted before.
pub fn read(mail: &Message<'_>) -> Option<Report> {
    let (fields, body) = Fields::read(&mail.raw_message);
    let parts = Parts::of(mail);
    let by_machine = parts.receipt().or_else(|| parts.complaint()).or_else(|| parts.delivery());
    let by_words = by_machine.is_none();
    let (kind, recipients) = by_machine.or_else(|| bounce(mail, &fields, &parts, body))?;
    let original_message_id = parts.original_message_id().or_else(|| message_id_in_text(&fields, &parts, body));
    let original_to = parts.original_to().or_else(|| notice::returned_to(&parts.text(body)));
    let mut recipients = recipients;
    if recipients.is_empty() && kind == ReportKind::Failed {
        recipients.extend(original_to.iter().map(|to| blamed(to, &parts.text(body), mail)));
    }
    recipients.truncate(MOST_RECIPIENTS);
    let lasting = |one: &Recipient| one.action == "failed" && one.status.is_none_or(|(class, ..)| class == 5);
    let permanent = kind == ReportKind::Failed && (recipients.is_empty() || recipients.iter().any(lasting));
    Some(Report { kind, recipients, original_message_id, original_to, permanent, by_words })
}

/// The recipient of the returned mail, where the notice names none itself.
fn blamed(address: &str, text: &str, mail: &Message<'_>) -> Recipient {
    let status = status::read(notice::told(text)).or_else(|| status::read(mail.subject().unwrap_or_default()));
    Recipient { address: address.to_owned(), action: "failed".to_owned(), status, ..Recipient::default() }
}

/// A bounce without a machine-readable part. It must come from a mail server and speak of delivery: shops and carriers
/// speak of it too.
fn bounce(
    mail: &Message<'_>,
    fields: &Fields<'_>,
    parts: &Parts<'_>,
    body: &[u8],
) -> Option<(ReportKind, Vec<Recipient>)> {
    let subject = mail.subject().unwrap_or_default();
    let text = parts.text(body);
    let likely = from_a_server(mail, fields) || (null_sender(fields) && gives_back(parts, &text));
    if !likely || !notice::speaks_of_delivery(subject, &text) {
        return None;
    }
    // Some servers write the machine-readable fields into the text.
    if let Some(found) = groups::delivery(text.as_bytes()) {
        return Some(found);
    }
    let failed = fields.text("X-Failed-Recipients").unwrap_or_default();
    let ours: Vec<Cow<'_, str>> = fields.all("To").chain(fields.all("From")).map(|field| field.text()).collect();
    Some(notice::read(subject, &text, &failed, &ours))
}

fn null_sender(fields: &Fields<'_>) -> bool {
    fields.text("Return-Path").is_some_and(|path| matches!(path.as_ref(), "<>" | ""))
}

/// Whether the mail holds another, or a code of a server.
fn gives_back(parts: &Parts<'_>, text: &str) -> bool {
    parts.returned().next().is_some()
        || status::enhanced(notice::told(text)).is_some()
        || notice::message_id(text).is_some()
}

/// Whether a mail server wrote the mail, as far as its fields say.
fn from_a_server(mail: &Message<'_>, fields: &Fields<'_>) -> bool {
    let report = mail
        .content_type()
        .is_some_and(|it| is(it.ctype(), "multipart") && it.subtype().is_some_and(|subtype| is(subtype, "report")));
    let from = fields.text("From").unwrap_or_default();
    // Some servers write their name without a domain.
    let address = notice::addresses(&from).last().unwrap_or(from.trim_matches(['<', '>', ' ', '"']));
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    let name: String = from.chars().take(100).filter(|c| c.is_alphanumeric()).collect();
    report || fields.first("X-Failed-Recipients").is_some() || auto::mail_server(local) || auto::mail_server(&name)
}

fn is(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// A Message-ID where no part of the mail is the returned one: in the text behind the notice, anywhere in the text, or
/// in the fields by which the report answers the mail.
fn message_id_in_text(fields: &Fields<'_>, parts: &Parts<'_>, body: &[u8]) -> Option<String> {
    parts
        .texts()
        .find_map(|text| notice::message_id(&text))
        .or_else(|| notice::message_id(&lossy(body)))
        .or_else(|| fields.text("In-Reply-To").and_then(|value| bare_id(&value)))
        .or_else(|| fields.text("References").and_then(|value| value.split_whitespace().last().and_then(bare_id)))
}

/// A Message-ID without its angle brackets and without what stands around them.
fn bare_id(value: &str) -> Option<String> {
    let value = value.trim();
    let id = match value.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((id, _)) => id,
        None => value.trim_start_matches('<').split([' ', '\t']).next().unwrap_or_default(),
    };
    let id = id.trim();
    (!id.is_empty() && id.len() <= 998).then(|| id.to_owned())
}

/// The beginning of bytes as text; bytes that are no UTF-8 are read as windows-1252.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.get(..MOST_TEXT).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // A character that the bound cut is no reason to misread all the others.
        Err(cut) if cut.error_len().is_none() => String::from_utf8_lossy(bytes),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// The parts of one mail by their use in a report.
struct Parts<'a>(Vec<&'a MessagePart<'a>>);

impl<'a> Parts<'a> {
    fn of(mail: &'a Message<'a>) -> Parts<'a> {
        Parts(mail.parts.iter().take(MOST_PARTS).collect())
    }

    /// The content of the first part of type `message/<one of subtypes>`.
    fn machine(&self, subtypes: &[&str]) -> Option<&'a [u8]> {
        let wanted = |part: &&&MessagePart<'_>| {
            part.content_type().is_some_and(|it| {
                is(it.ctype(), "message")
                    && it.subtype().is_some_and(|subtype| subtypes.iter().any(|one| is(one, subtype)))
            })
        };
        let content = self.0.iter().find(wanted)?.contents();
        Some(content.get(..MOST_TEXT).unwrap_or(content))
    }

    fn delivery(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::delivery(self.machine(&["delivery-status", "global-delivery-status"])?)
    }

    fn receipt(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::receipt(self.machine(&["disposition-notification", "global-disposition-notification"])?)
    }

    fn complaint(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::complaint(self.machine(&["feedback-report"])?)
    }

    /// The texts, the notice first; HTML is turned to text.
    fn texts(&self) -> impl Iterator<Item = Cow<'a, str>> {
        self.0.iter().filter_map(|part| match &part.body {
            PartType::Text(text) => Some(lossy(text.as_bytes())),
            PartType::Html(html) => Some(mail_parser::decoders::html::html_to_text(&lossy(html.as_bytes())).into()),
            _ => None,
        })
    }

    /// The notice, or the whole body where the mail has no text.
    fn text(&self, body: &'a [u8]) -> Cow<'a, str> {
        self.texts().find(|text| !text.trim().is_empty()).unwrap_or_else(|| lossy(body))
    }

    /// The header of the returned mail.
    fn returned(&self) -> impl Iterator<Item = Fields<'a>> {
        let whole = |part: &&&MessagePart<'_>| {
            let Some(it) = part.content_type() else { return false };
            let subtype = it.subtype().unwrap_or_default().to_ascii_lowercase();
            match it.ctype().to_ascii_lowercase().as_str() {
                "message" => matches!(subtype.as_str(), "rfc822" | "global" | "global-headers" | "rfc822-headers"),
                "text" => matches!(subtype.as_str(), "rfc822-headers" | "rfc822-header" | "rfc822"),
                _ => false,
            }
        };
        self.0.iter().filter(whole).map(|part| Fields::read(part.contents().trim_ascii_start()).0)
    }

    /// What names the original in the machine-readable parts or in the returned mail.
    fn original_message_id(&self) -> Option<String> {
        let machine =
            ["disposition-notification", "global-disposition-notification", "feedback-report", "delivery-status"];
        let told = self.machine(&machine).and_then(groups::original_message_id);
        told.or_else(|| self.returned().find_map(|fields| fields.text("Message-ID").and_then(|value| bare_id(&value))))
    }

    fn original_to(&self) -> Option<String> {
        self.returned().find_map(|fields| notice::addresses(&fields.text("To")?).next().map(str::to_owned))
    }
}
