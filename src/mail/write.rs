//! From a [`Letter`] to the bytes of a mail (RFC 5322, RFC 2045 to 2047, RFC 2231).
//!
//! Two invariants. The same letter always gives the same bytes: nothing here knows a clock or chance, so that a mail
//! whose fate is unknown can be sent again as it was. And whatever the values say, the bytes are seven-bit, every line
//! ends in CRLF and is at most 998 bytes long, and there is no CR, LF or NUL beside; so no value becomes a field, and
//! no body ends a mail early at a server that reads line ends loosely. The second is checked once more on the finished
//! bytes.

use std::fmt;

use data_encoding::{BASE64_MIME, HEXLOWER};
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};
use ring::digest::{Context, SHA256};

mod values;
pub use values::{BadAddress, address, file_name, id, media_type, one_line};

/// Recipients in To, Cc and Reply-To together.
pub const MOST_ADDRESSES: usize = 100;
/// Files in one letter.
pub const MOST_FILES: usize = 100;
/// Bytes of all texts and files together, before they are encoded.
pub const MOST_BYTES: usize = 40 * 1024 * 1024;
/// References kept from the beginning and from the end of a chain.
const CHAIN_ENDS: usize = 20;
/// The last second of the year 9999: the header has room for four digits.
const LAST_SECOND: i64 = 253_402_300_799;
/// RFC 5322, section 2.1.1, without the CRLF.
const MOST_LINE: usize = 998;

/// A name and an address.
#[derive(Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The name to show; may be empty.
    pub name: String,
    /// `local@domain`; the domain may be an international one.
    pub address: String,
}

/// A file that goes along.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name; a path loses its folders' separators.
    pub filename: String,
    /// `type/subtype`; what is none becomes `application/octet-stream`.
    pub media_type: String,
    /// The id by which the HTML shows it, without angle brackets.
    pub content_id: Option<String>,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// All that a mail says.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its Message-ID, with or without angle brackets.
    pub message_id: String,
    /// Seconds since 1970, for the Date field.
    pub date: i64,
    /// Who writes.
    pub from: Mailbox,
    /// To whom; at least one of `to` and `cc`.
    pub to: Vec<Mailbox>,
    /// Who reads along.
    pub cc: Vec<Mailbox>,
    /// Where answers go, if not to `from`.
    pub reply_to: Vec<Mailbox>,
    /// The subject, decoded.
    pub subject: String,
    /// The Message-ID it answers. One that cannot be written safely is left out.
    pub in_reply_to: Option<String>,
    /// The thread, oldest first. Ids that cannot be written safely are left out; of a long chain the ends are kept.
    pub references: Vec<String>,
    /// The body as plain text, with any line ends.
    pub text: String,
    /// The body as HTML, for those who show it.
    pub html: Option<String>,
    /// Files.
    pub attachments: Vec<File>,
    /// Whether a program and no person wrote it (RFC 3834): other programs are asked not to answer.
    pub automatic: bool,
    /// What `X-Segue-Loop` says, by which a mail that comes back is known.
    pub loop_mark: Option<String>,
    /// What the boundaries are made from: the same for every try of one sending, another for every sending.
    pub seed: [u8; 16],
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("recipients", &(self.to.len() + self.cc.len()))
            .field("text_bytes", &self.text.len())
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .field("attachments", &self.attachments.len())
            .field("automatic", &self.automatic)
            .finish_non_exhaustive()
    }
}

/// Why a letter cannot be written. Says nothing of its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// An address that SMTP cannot carry as we speak it.
    #[error("the {field} address {fault}")]
    Address {
        /// The field it stands in.
        field: &'static str,
        /// What is wrong with it.
        fault: BadAddress,
    },
    /// Neither To nor Cc.
    #[error("the letter has no recipient")]
    NoRecipient,
    /// More than [`MOST_ADDRESSES`].
    #[error("the letter has more than {MOST_ADDRESSES} addresses")]
    TooManyAddresses,
    /// More than [`MOST_FILES`].
    #[error("the letter has more than {MOST_FILES} files")]
    TooManyFiles,
    /// More than [`MOST_BYTES`].
    #[error("the letter is larger than {MOST_BYTES} bytes")]
    TooLarge,
    /// Its own Message-ID is none.
    #[error("the Message-ID is not an id")]
    MessageId,
    /// The date lies outside the years 1970 to 9999.
    #[error("the date is outside the years 1970 to 9999")]
    Date,
    /// The finished bytes are not what a mail may be; a fault of this program.
    #[error("the finished mail has a line that SMTP does not allow")]
    Line,
}

/// Writes the mail. Time and memory are linear in the letter's size.
///
/// # Errors
///
/// [`Unwritable`], and then nothing may be sent.
pub fn write(letter: &Letter) -> Result<Vec<u8>, Unwritable> {
    check_bounds(letter)?;
    let mut mail = MessageBuilder::new().header("From", mailbox("From", &letter.from)?);
    for (field, boxes) in [("To", &letter.to), ("Cc", &letter.cc), ("Reply-To", &letter.reply_to)] {
        if !boxes.is_empty() {
            let list: Result<Vec<_>, _> = boxes.iter().map(|each| mailbox(field, each)).collect();
            mail = mail.header(field, Address::new_list(list?));
        }
    }
    mail = mail
        .header("Subject", Text::new(one_line(&letter.subject, values::MOST_SUBJECT)))
        .header("Date", Date::new(letter.date))
        .header("Message-ID", MessageId::new(id(&letter.message_id).ok_or(Unwritable::MessageId)?));
    if let Some(answered) = letter.in_reply_to.as_deref().and_then(id) {
        mail = mail.header("In-Reply-To", MessageId::new(answered));
    }
    let chain = chain(&letter.references);
    if !chain.is_empty() {
        mail = mail.header("References", MessageId::new_list(chain.into_iter()));
    }
    if letter.automatic {
        mail =
            mail.header("Auto-Submitted", Raw::new("auto-replied")).header("X-Auto-Response-Suppress", Raw::new("All"));
    }
    if let Some(mark) = letter.loop_mark.as_deref().and_then(id) {
        mail = mail.header("X-Segue-Loop", Raw::new(mark));
    }
    let mut bytes = Vec::new();
    mail.header("MIME-Version", Raw::new("1.0")).body(body(letter)).serialize(&mut bytes);
    if !bytes.ends_with(b"\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    if is_clean(&bytes) { Ok(bytes) } else { Err(Unwritable::Line) }
}

fn check_bounds(letter: &Letter) -> Result<(), Unwritable> {
    if letter.to.is_empty() && letter.cc.is_empty() {
        return Err(Unwritable::NoRecipient);
    }
    if letter.to.len() + letter.cc.len() + letter.reply_to.len() > MOST_ADDRESSES {
        return Err(Unwritable::TooManyAddresses);
    }
    if letter.attachments.len() > MOST_FILES {
        return Err(Unwritable::TooManyFiles);
    }
    let texts = letter.text.len() + letter.html.as_ref().map_or(0, String::len);
    if texts + letter.attachments.iter().map(|file| file.bytes.len()).sum::<usize>() > MOST_BYTES {
        return Err(Unwritable::TooLarge);
    }
    if (0..=LAST_SECOND).contains(&letter.date) { Ok(()) } else { Err(Unwritable::Date) }
}

fn mailbox(field: &'static str, given: &Mailbox) -> Result<Address<'static>, Unwritable> {
    let address = address(&given.address).map_err(|fault| Unwritable::Address { field, fault })?;
    let name = one_line(&given.name, values::MOST_NAME);
    Ok(Address::new_address((!name.is_empty()).then_some(name), address))
}

/// The ids of a thread that can be written: the first and the last [`CHAIN_ENDS`].
fn chain(references: &[String]) -> Vec<&str> {
    let good: Vec<&str> = references.iter().filter_map(|each| id(each)).collect();
    let left_out = CHAIN_ENDS..good.len().saturating_sub(CHAIN_ENDS);
    good.into_iter().enumerate().filter(|(at, _)| !left_out.contains(at)).map(|(_, id)| id).collect()
}

/// The tree of parts: `mixed(alternative(text, related(html, shown files)), other files)`, without the levels that
/// would hold one part only.
fn body(letter: &Letter) -> MimePart<'_> {
    let mut boundaries = Boundaries::of(letter);
    let text = MimePart::new("text/plain", BodyPart::Text(body_text(&letter.text).into()));
    let is_shown = |file: &&File| letter.html.is_some() && file.content_id.as_deref().and_then(id).is_some();
    let (shown, files): (Vec<&File>, Vec<&File>) = letter.attachments.iter().partition(is_shown);
    let said = match &letter.html {
        None => text,
        Some(html) => {
            let html = MimePart::new("text/html", BodyPart::Text(body_text(html).into()));
            let html = boundaries.join("multipart/related", html, shown.into_iter().map(|file| attached(file, true)));
            boundaries.join("multipart/alternative", text, std::iter::once(html))
        }
    };
    boundaries.join("multipart/mixed", said, files.into_iter().map(|file| attached(file, false)))
}

/// A file as a part. Always base64: its bytes arrive as they are, and none of them can be taken for a line of the mail.
fn attached(file: &File, shown: bool) -> MimePart<'_> {
    let disposition = if shown { "inline" } else { "attachment" };
    let disposition = ContentType::new(disposition).attribute("filename", file_name(&file.filename));
    let encoded = BASE64_MIME.encode(&file.bytes).into_bytes();
    let part = MimePart::new(ContentType::new(media_type(&file.media_type)), BodyPart::Binary(encoded.into()))
        .transfer_encoding("base64")
        .header("Content-Disposition", disposition);
    match file.content_id.as_deref().and_then(id) {
        Some(id) => part.cid(id),
        None => part,
    }
}

/// The text with CRLF at every line's end, also the last, and without control characters but the tab.
fn body_text(text: &str) -> String {
    let mut clean = String::with_capacity(text.len() + text.len() / 16 + 2);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\r' => {
                chars.next_if_eq(&'\n');
                clean.push_str("\r\n");
            }
            '\n' => clean.push_str("\r\n"),
            '\t' => clean.push(char),
            other if other.is_control() => {}
            other => clean.push(other),
        }
    }
    if !clean.ends_with("\r\n") {
        clean.push_str("\r\n");
    }
    clean
}

/// Makes the boundaries of one letter.
struct Boundaries {
    stem: String,
    made: usize,
}

impl Boundaries {
    /// The texts go in beside the seed: no text can contain the hash of itself, so none can contain its boundary.
    fn of(letter: &Letter) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&letter.seed);
        hash.update(letter.text.as_bytes());
        hash.update(letter.html.as_deref().unwrap_or_default().as_bytes());
        let stem = hash.finish();
        Boundaries { stem: HEXLOWER.encode(stem.as_ref().get(..16).unwrap_or_default()), made: 0 }
    }

    /// Both parts under one of type `kind`, or the first alone if there is no other.
    fn join<'a>(
        &mut self,
        kind: &'static str,
        first: MimePart<'a>,
        others: impl Iterator<Item = MimePart<'a>>,
    ) -> MimePart<'a> {
        let mut parts = vec![first];
        parts.extend(others);
        if parts.len() > 1 {
            self.made += 1;
            // `=_` never stands in base64 or quoted-printable.
            let boundary = format!("=_{}_{}", self.stem, self.made);
            return MimePart::new(ContentType::new(kind).attribute("boundary", boundary), parts);
        }
        parts.pop().unwrap_or_else(|| MimePart::new("text/plain", ""))
    }
}

/// Whether the bytes can go out as they are: see the module's second invariant.
fn is_clean(mail: &[u8]) -> bool {
    mail.split_inclusive(|byte| *byte == b'\n').all(|line| {
        line.strip_suffix(b"\r\n").is_some_and(|line| {
            line.len() <= MOST_LINE && line.iter().all(|byte| byte.is_ascii() && !matches!(byte, 0 | b'\r'))
        })
    })
}

#[cfg(test)]
mod tests;
