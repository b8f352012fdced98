//! Reports on a mail that was sent: delivery reports and bounces (RFC 3464, RFC 6533 and the plain texts of servers that
//! write neither), receipts (RFC 8098) and complaints (RFC 5965).
//!
//! A report says what its sender claims. Nothing here proves that the mail it speaks of was ours; only the caller can,
//! by the token in the address it came to or by [`Report::original_message_id`]. Reads the parts of one mail, never the
//! parts of a mail within it, so that a forwarded bounce is no bounce. What is told stands at the beginnings of the parts:
//! no more is read of them, so that the work is bounded whatever the size of the mail that is returned.

mod groups;
mod notice;
mod parts;
mod status;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use super::fields::Fields;
use super::read::Opened;
use super::{auto, words};
use parts::Parts;

/// A status code of RFC 3463: class, subject, detail. Class 2 is success, 4 a failure that may pass, 5 one that stays.
pub type Status = (u8, u16, u16);

/// The most recipients kept of one report.
pub const MOST_RECIPIENTS: usize = 100;
/// The most bytes kept of a diagnostic.
pub const MOST_DIAGNOSTIC: usize = 1000;
/// The most bytes read of one text, and of one machine-readable part.
const MOST_TEXT: usize = 256 * 1024;

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

/// Reads the report that a mail is, if it is one.
pub fn read(mail: &Opened<'_>) -> Option<Report> {
    let (fields, body) = mail.head_and_body()?;
    let subject = fields.first("Subject").map(|field| words::decode(field.value, None)).unwrap_or_default();
    let head = Head { fields, subject: &subject, says_report: mail.says_report() };
    let parts = Parts::of(mail, body);
    let by_machine = parts.receipt().or_else(|| parts.complaint()).or_else(|| parts.delivery());
    let by_words = by_machine.is_none();
    let (kind, mut recipients) = by_machine.or_else(|| bounce(&head, &parts))?;
    let original_message_id = parts.original_message_id().or_else(|| message_id_in_text(fields, &parts));
    let original_to = parts.original_to().or_else(|| notice::returned_to(&parts.text()));
    if recipients.is_empty() && kind == ReportKind::Failed {
        recipients.extend(original_to.iter().map(|to| blamed(to, &parts.text(), &subject)));
    }
    recipients.truncate(MOST_RECIPIENTS);
    let lasting = |one: &Recipient| one.action == "failed" && one.status.is_none_or(|(class, ..)| class == 5);
    let permanent = kind == ReportKind::Failed && (recipients.is_empty() || recipients.iter().any(lasting));
    Some(Report { kind, recipients, original_message_id, original_to, permanent, by_words })
}

/// What the fields of a mail tell of it.
struct Head<'a> {
    fields: &'a Fields<'a>,
    subject: &'a str,
    /// Whether it says that it is a report.
    says_report: bool,
}

/// The recipient of the returned mail, where the notice names none itself.
fn blamed(address: &str, text: &str, subject: &str) -> Recipient {
    let status = status::read(notice::told(text)).or_else(|| status::read(subject));
    Recipient { address: address.to_owned(), action: "failed".to_owned(), status, ..Recipient::default() }
}

/// A bounce without a machine-readable part. It must come from a mail server and speak of delivery: shops and carriers
/// speak of it too.
fn bounce(head: &Head<'_>, parts: &Parts<'_>) -> Option<(ReportKind, Vec<Recipient>)> {
    let fields = head.fields;
    let from_a_server = from_a_server(head);
    if !from_a_server && !null_sender(fields) {
        return None;
    }
    let text = parts.text();
    let likely = from_a_server || gives_back(parts, &text);
    if !likely || !notice::speaks_of_delivery(head.subject, &text) {
        return None;
    }
    // Some servers write the machine-readable fields into the text.
    if let Some(found) = groups::delivery(text.as_bytes()) {
        return Some(found);
    }
    let failed = fields.text("X-Failed-Recipients").unwrap_or_default();
    let ours: Vec<Cow<'_, str>> = fields.all("To").chain(fields.all("From")).map(|field| field.text()).collect();
    Some(notice::read(head.subject, &text, &failed, &ours))
}

fn null_sender(fields: &Fields<'_>) -> bool {
    fields.text("Return-Path").is_some_and(|path| matches!(path.as_ref(), "<>" | ""))
}

/// Whether the mail holds another, or a code of a server.
fn gives_back(parts: &Parts<'_>, text: &str) -> bool {
    parts.gives_back() || status::enhanced(notice::told(text)).is_some() || notice::message_id(text).is_some()
}

/// Whether a mail server wrote the mail, as far as its fields say.
fn from_a_server(head: &Head<'_>) -> bool {
    let fields = head.fields;
    let from = fields.text("From").unwrap_or_default();
    // Some servers write their name without a domain.
    let address = notice::addresses(&from).last().unwrap_or(from.trim_matches(['<', '>', ' ', '"']));
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    let name: String = from.chars().take(100).filter(|c| c.is_alphanumeric()).collect();
    head.says_report
        || fields.first("X-Failed-Recipients").is_some()
        || auto::mail_server(local)
        || auto::mail_server(&name)
}

/// A Message-ID where no part of the mail is the returned one: in the text behind the notice, anywhere in the text, or
/// in the fields by which the report answers the mail.
fn message_id_in_text(fields: &Fields<'_>, parts: &Parts<'_>) -> Option<String> {
    parts
        .texts()
        .find_map(|text| notice::message_id(&text))
        .or_else(|| notice::message_id(&parts.body()))
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
