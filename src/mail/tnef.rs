//! `winmail.dat`: mail that Outlook wraps into one `application/ms-tnef` part (MS-OXTNEF): texts and attachments.
//!
//! Whatever bytes are given, what is read of them lies within them and all counts are bounded. A stream that breaks off
//! gives what stood before the break; checksums are not compared, as real streams carry wrong ones. A mail within the
//! mail is handed out as an attachment that can be read again; the caller bounds that by [`NESTING`]. Names, types and texts
//! are as clean as those of any other part.

mod lzfu;
mod props;
mod rtf;
#[cfg(test)]
mod tests;

use std::fmt;

use encoding_rs::{Encoding, WINDOWS_1252};

use props::{Bytes, Prop, Value};

use super::content::line_feeds;
use super::params::Params;
use super::{attachment as part, words};

/// How deep callers should read mails within mails.
pub const NESTING: usize = 3;
/// The most bytes of a text made from compressed or rich text.
pub const MOST_TEXT: usize = 10 * 1024 * 1024;
/// The most attributes read of a stream, and the most properties of a block.
const MOST_ATTRIBUTES: usize = 1000;
/// The most attachments kept.
const MOST_ATTACHMENTS: usize = 1000;
/// The first four bytes of a stream.
const SIGNATURE: u32 = 0x223E_9F78;
/// The type of an attachment that is a mail within the mail.
pub const EMBEDDED_TYPE: &str = "application/ms-tnef";

/// What a stream holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tnef {
    /// The subject.
    pub subject: Option<String>,
    /// The plain text; without one the text of the rich text.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    /// The attachments in their order.
    pub attachments: Vec<Attachment>,
}

/// An attachment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, the long one where both are told; without folders, control characters and what nobody sees.
    pub name: Option<String>,
    /// Its MIME type as told, in lower case and without parameters.
    pub mime: Option<String>,
    /// Its Content-ID, without angle brackets.
    pub content_id: Option<String>,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Whether it is a mail, whose `data` is a stream of its own.
    pub embedded: bool,
}

impl fmt::Debug for Tnef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tnef")
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .field("attachments", &self.attachments)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Attachment")
            .field("bytes", &self.data.len())
            .field("embedded", &self.embedded)
            .finish_non_exhaustive()
    }
}

/// Ids of attributes.
mod attribute {
    pub(super) const SUBJECT: u32 = 0x0001_8004;
    pub(super) const BODY: u32 = 0x0002_800C;
    pub(super) const CODEPAGE: u32 = 0x0006_9007;
    pub(super) const PROPS: u32 = 0x0006_9003;
    pub(super) const ATTACHMENT_BEGINS: u32 = 0x0006_9002;
    pub(super) const ATTACHMENT_TITLE: u32 = 0x0001_8010;
    pub(super) const ATTACHMENT_DATA: u32 = 0x0006_800F;
    pub(super) const ATTACHMENT_PROPS: u32 = 0x0006_9005;
}

/// Ids of properties.
mod property {
    pub(super) const SUBJECT: u16 = 0x0037;
    pub(super) const TEXT: u16 = 0x1000;
    pub(super) const RTF: u16 = 0x1009;
    pub(super) const HTML: u16 = 0x1013;
    pub(super) const INTERNET_CODEPAGE: u16 = 0x3FDE;
    pub(super) const NAME: u16 = 0x3001;
    pub(super) const DATA: u16 = 0x3701;
    pub(super) const SHORT_FILE: u16 = 0x3704;
    pub(super) const LONG_FILE: u16 = 0x3707;
    pub(super) const MIME: u16 = 0x370E;
    pub(super) const CONTENT_ID: u16 = 0x3712;
}

/// Reads a stream. `None` if it does not begin like one.
pub fn read(raw: &[u8]) -> Option<Tnef> {
    let mut bytes = Bytes(raw);
    if bytes.u32()? != SIGNATURE {
        return None;
    }
    bytes.take(2)?;
    let mut reader = Reader { tnef: Tnef::default(), codepage: WINDOWS_1252, rtf: None };
    for _ in 0..MOST_ATTRIBUTES {
        let Some((id, data)) = attribute(&mut bytes) else { break };
        reader.attribute(id, data);
    }
    Some(reader.finish())
}

/// One attribute: its id and its data. A length beyond the end gives what is there.
fn attribute<'a>(bytes: &mut Bytes<'a>) -> Option<(u32, &'a [u8])> {
    bytes.take(1)?;
    let (id, length) = (bytes.u32()?, bytes.u32()? as usize);
    let data = bytes.take(length.min(bytes.0.len()))?;
    bytes.take(2.min(bytes.0.len()))?;
    Some((id, data))
}

/// What was read so far.
struct Reader<'a> {
    tnef: Tnef,
    /// How texts are written that are not in Unicode.
    codepage: &'static Encoding,
    rtf: Option<&'a [u8]>,
}

impl<'a> Reader<'a> {
    fn attribute(&mut self, id: u32, data: &'a [u8]) {
        match id {
            attribute::CODEPAGE => self.codepage = Bytes(data).u32().and_then(encoding).unwrap_or(self.codepage),
            attribute::SUBJECT => self.tnef.subject = self.tnef.subject.take().or(self.string(data)),
            attribute::BODY => self.tnef.text = self.tnef.text.take().or(self.string(data)),
            attribute::PROPS => self.message_props(data),
            attribute::ATTACHMENT_BEGINS if self.tnef.attachments.len() < MOST_ATTACHMENTS => {
                self.tnef.attachments.push(Attachment::default());
            }
            attribute::ATTACHMENT_TITLE => {
                let name = self.string(data);
                if let Some(last) = self.tnef.attachments.last_mut() {
                    last.name = last.name.take().or(name);
                }
            }
            attribute::ATTACHMENT_DATA => {
                if let Some(last) = self.tnef.attachments.last_mut()
                    && last.data.is_empty()
                {
                    last.data = data.to_vec();
                }
            }
            attribute::ATTACHMENT_PROPS => self.attachment_props(data),
            _ => {}
        }
    }

    /// A text in the stream's code page, up to its closing zero.
    fn string(&self, data: &[u8]) -> Option<String> {
        text(data, self.codepage)
    }

    fn message_props(&mut self, data: &'a [u8]) {
        let mut html = None;
        let mut internet = None;
        for prop in props::read(data, MOST_ATTRIBUTES) {
            match (prop.id, prop.value) {
                (property::INTERNET_CODEPAGE, Value::Number(page)) => internet = encoding(page),
                (property::HTML, value) => html = Some(value),
                (property::RTF, Value::Bytes(data)) => self.rtf = Some(data),
                (property::TEXT, value) => self.tnef.text = value.text(self.codepage).or(self.tnef.text.take()),
                (property::SUBJECT, value) => {
                    self.tnef.subject = value.text(self.codepage).or(self.tnef.subject.take())
                }
                _ => {}
            }
        }
        if let Some(html) = html {
            self.tnef.html = html.text(internet.unwrap_or(self.codepage));
        }
    }

    fn attachment_props(&mut self, data: &'a [u8]) {
        let codepage = self.codepage;
        let Some(last) = self.tnef.attachments.last_mut() else { return };
        let (mut long, mut short, mut title) = (None, None, None);
        for Prop { id, value } in props::read(data, MOST_ATTRIBUTES) {
            match (id, value) {
                (property::LONG_FILE, value) => long = value.text(codepage),
                (property::SHORT_FILE, value) => short = value.text(codepage),
                (property::NAME, value) => title = value.text(codepage),
                (property::MIME, value) => last.mime = value.text(codepage),
                (property::CONTENT_ID, value) => {
                    last.content_id = value.text(codepage).and_then(|id| part::clean_id(&id));
                }
                (property::DATA, Value::Object(data)) => embed(last, data),
                (property::DATA, Value::Bytes(data)) if last.data.is_empty() => last.data = data.to_vec(),
                _ => {}
            }
        }
        last.name = long.or(last.name.take()).or(short).or(title);
    }

    fn finish(mut self) -> Tnef {
        if self.tnef.text.as_deref().is_none_or(|text| text.trim().is_empty())
            && let Some(plain) =
                self.rtf.and_then(|data| lzfu::unpack(data, MOST_TEXT)).map(|rtf| rtf::text(&rtf, MOST_TEXT))
            && !plain.trim().is_empty()
        {
            self.tnef.text = Some(plain);
        }
        self.tnef.subject = self.tnef.subject.map(|subject| words::tidy(&subject));
        self.tnef.text = self.tnef.text.map(|text| line_feeds(&text));
        self.tnef.html = self.tnef.html.map(|html| line_feeds(&html));
        for attachment in &mut self.tnef.attachments {
            attachment.name = attachment.name.take().and_then(|name| part::clean_name(&name));
            attachment.mime = attachment.mime.take().and_then(|told| media_type(&told));
        }
        self.tnef
    }
}

/// Takes an object: 16 bytes that name its interface, then a stream of a mail, or an OLE object kept as it is.
fn embed(attachment: &mut Attachment, object: &[u8]) {
    let data = object.get(16..).unwrap_or_default();
    attachment.embedded = Bytes(data).u32() == Some(SIGNATURE);
    if attachment.embedded {
        attachment.mime = Some(EMBEDDED_TYPE.to_owned());
    }
    if attachment.embedded || attachment.data.is_empty() {
        attachment.data = data.to_vec();
    }
}

/// A media type without its parameters, if it is one.
fn media_type(told: &str) -> Option<String> {
    let value = Params::parse(told.as_bytes()).value;
    let usable =
        |piece: &str| !piece.is_empty() && piece.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c));
    let (kind, subtype) = value.split_once('/')?;
    (value.len() <= 127 && usable(kind) && usable(subtype)).then_some(value)
}

/// A text up to its closing zero. `None` if it is empty.
fn text(data: &[u8], codepage: &'static Encoding) -> Option<String> {
    let end = memchr::memchr(0, data).unwrap_or(data.len());
    let data = data.get(..end)?;
    (!data.is_empty()).then(|| codepage.decode_without_bom_handling(data).0.into_owned())
}

/// The encoding of a Windows code page.
fn encoding(page: u32) -> Option<&'static Encoding> {
    let label = match page {
        874 => "windows-874",
        932 => "shift_jis",
        936 => "gbk",
        949 => "euc-kr",
        950 => "big5",
        1250..=1258 => return Encoding::for_label(format!("windows-{page}").as_bytes()),
        10000 => "macintosh",
        20127 => "us-ascii",
        20866 => "koi8-r",
        20932 | 51932 => "euc-jp",
        21866 => "koi8-u",
        28591..=28606 => return Encoding::for_label(format!("iso-8859-{}", page - 28590).as_bytes()),
        50220..=50222 => "iso-2022-jp",
        51949 => "euc-kr",
        54936 => "gb18030",
        65001 => "utf-8",
        _ => return None,
    };
    Encoding::for_label(label.as_bytes())
}
