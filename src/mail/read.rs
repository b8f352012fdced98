//! A mail as bytes to what it says: the one entry for reading mail.
//!
//! Everything given out is bounded, owned and decoded; whatever is broken is read as far as it goes and flagged. The time
//! taken grows with the size of the mail only.

use super::address::{self, Address};
use super::attachment::{Kind, Part};
use super::content::{self, Content};
use super::fields::{Fields, start};
use super::transfer;
use super::tree::{self, Node, Tree};
use super::{charset, date, ids, words};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The most bytes of a part among a mail's beginnings, and of all together.
const BEGINNING: usize = 64 * 1024;
const BEGINNINGS: usize = 512 * 1024;

/// How much of a mail is given out. What is beyond stays in the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of text of the body.
    pub text: usize,
    /// The most bytes of HTML that are read.
    pub html: usize,
    /// The most addresses of a field.
    pub addresses: usize,
    /// The most characters of the subject.
    pub subject: usize,
}

impl Default for Limits {
    /// 1 MiB of text, 2 MiB of HTML, 500 addresses a field, 1,000 characters of subject.
    fn default() -> Limits {
        Limits { text: 1024 * 1024, html: 2 * 1024 * 1024, addresses: 500, subject: 1000 }
    }
}

/// Why bytes are no mail, in one sentence without their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMail(&'static str);

impl std::fmt::Display for NotMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotMail {}

/// What is worth knowing about a mail beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Something in the body did not fit its encoding or charset.
    EncodingProblem,
    /// The text is longer than what is given out.
    TruncatedText,
    /// The HTML is longer than what is read.
    TruncatedHtml,
    /// The HTML was left out: cleaning it would cost too much.
    HtmlLeftOut,
    /// Multiparts lie deeper in each other than they are read.
    TooDeep,
    /// There are more parts than are read.
    ManyParts,
    /// There are more header fields, of the mail or of its parts, than are read.
    LongHeader,
    /// There are more addresses or parts of one kind than are given out.
    ManyAddresses,
    /// Nothing to read: no text at all.
    NoText,
    /// Encrypted, by S/MIME or PGP, as a whole or within the text.
    Encrypted,
    /// Signed, by S/MIME or PGP; nothing is said about whether the signature is good.
    Signed,
}

/// How the From fields stand. RFC 5322 wants one field with one address; a sender can only be trusted if another reader
/// could not see someone else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FromFacts {
    /// How many From fields there are.
    pub fields: usize,
    /// How many addresses they have together.
    pub addresses: usize,
    /// Whether another reader could see other addresses (see [`address::Addresses`]).
    pub ambiguous: bool,
}

/// The parts of a report (RFC 6522) by their index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it tells about delivery (RFC 3464).
    pub delivery: bool,
    /// What programs read: delivery status, disposition, feedback.
    pub status: Vec<String>,
    /// The mail that is reported about, or its header fields.
    pub returned: Vec<String>,
}

/// What a mail says.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Message-ID without brackets.
    pub message_id: Option<String>,
    /// The identifiers in In-Reply-To.
    pub in_reply_to: Vec<String>,
    /// The identifiers in References: the first and the last twenty.
    pub references: Vec<String>,
    /// The sender's date, in seconds since 1970.
    pub date: Option<i64>,
    /// The subject, decoded, one line; empty if there is none.
    pub subject: String,
    /// The addresses of all From fields.
    pub from: Vec<Address>,
    /// How far these can be relied on.
    pub from_facts: FromFacts,
    /// The addresses of Sender.
    pub sender: Vec<Address>,
    /// The addresses of Reply-To.
    pub reply_to: Vec<Address>,
    /// The addresses of To.
    pub to: Vec<Address>,
    /// The addresses of Cc.
    pub cc: Vec<Address>,
    /// The whole body as plain text, quotes and signature with it. Lines end with LF.
    pub text: String,
    /// The body as HTML that is safe to show, if there is HTML. Its pictures are `cid:` addresses.
    pub html: Option<String>,
    /// What is in it beside the body, in order.
    pub parts: Vec<Part>,
    /// The parts of a report, if it is one.
    pub report: Option<Report>,
    /// What else is worth knowing.
    pub flags: BTreeSet<Flag>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail")
            .field("from", &self.from_facts)
            .field("to", &self.to.len())
            .field("text_bytes", &self.text.len())
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .field("parts", &self.parts)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// One of these fields makes bytes a mail.
const USUAL: [&str; 13] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "received",
    "return-path",
    "content-type",
    "mime-version",
    "delivered-to",
    "sender",
    "reply-to",
];

/// Reads a mail.
///
/// # Errors
/// If the bytes are no mail: none of the usual header fields is in their first block.
pub fn read(raw: &[u8], limits: &Limits) -> Result<Mail, NotMail> {
    Opened::new(raw).read(limits)
}

/// A mail taken apart once, for those who want both what it says and the content of its parts.
pub struct Opened<'a> {
    tree: Tree<'a>,
    raw: &'a [u8],
}

impl<'a> Opened<'a> {
    /// Takes a mail apart; whatever the bytes are.
    pub fn new(raw: &'a [u8]) -> Opened<'a> {
        let raw = start(raw);
        Opened { tree: tree::build(raw), raw }
    }

    /// What the mail says.
    ///
    /// # Errors
    /// As [`read`] tells.
    pub fn read(&self, limits: &Limits) -> Result<Mail, NotMail> {
        let root = self.tree.nodes.first().filter(|_| !self.raw.is_empty()).ok_or(NotMail("it is empty"))?;
        let fields = &root.fields;
        if !USUAL.iter().any(|name| fields.first(name).is_some()) {
            return Err(NotMail("it has none of the header fields that a mail has"));
        }
        let hint = charset_hint(&self.tree);
        let content = content::read(&self.tree, limits, hint.as_deref());
        let mut mail = mail(fields, content, limits, hint.as_deref());
        if self.tree.nodes.iter().any(|node| !node.fields.whole()) {
            mail.flags.insert(Flag::LongHeader);
        }
        Ok(mail)
    }

    /// The mail as it is; of one with more than 512 KiB, 64 KiB of each part, cut at the end of a line, and the first 512 KiB
    /// of that. What a report says stands at the beginnings of its parts, however large the mail is that it returns.
    pub fn beginnings(&self) -> Cow<'a, [u8]> {
        if self.raw.len() <= BEGINNINGS {
            return Cow::Borrowed(self.raw);
        }
        let (mut out, mut from) = (Vec::new(), 0);
        let mut take = |from: usize, to: usize| {
            let to = to.min(from.saturating_add(BEGINNINGS.saturating_sub(out.len())));
            out.extend_from_slice(self.raw.get(from..to).unwrap_or_default());
        };
        for node in self.leaves().filter(|node| node.body.len() > BEGINNING) {
            let kept = node.body.get(..BEGINNING).unwrap_or_default();
            let kept = memchr::memrchr2(b'\r', b'\n', kept).map_or(kept.len(), |end| end + 1);
            take(from, node.at.saturating_add(kept));
            from = node.at.saturating_add(node.body.len());
        }
        take(from, self.raw.len());
        Cow::Owned(out)
    }

    /// The mail's own fields, and all that stands behind them.
    pub(super) fn head_and_body(&self) -> Option<(&Fields<'a>, &'a [u8])> {
        let root = self.tree.nodes.first()?;
        Some((&root.fields, self.raw.get(root.at..).unwrap_or_default()))
    }

    /// Whether the mail says that it is a report (RFC 6522), whatever it holds.
    pub(super) fn says_report(&self) -> bool {
        self.tree.nodes.first().is_some_and(|root| root.content_type.value == "multipart/report")
    }

    /// The parts that have content of their own.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Node<'a>> {
        self.tree.nodes.iter().filter(|node| !node.multipart)
    }

    /// The decoded content of the part `index`, as [`Part::index`] names it.
    pub fn part_bytes(&self, index: &str) -> Option<Vec<u8>> {
        let (path, block) = match index.split_once("u") {
            Some((path, number)) => (path.trim_end_matches('.'), Some(number.parse::<usize>().ok()?.checked_sub(1)?)),
            None => (index, None),
        };
        let node = self.leaves().find(|node| Tree::path_of(node) == path)?;
        let (bytes, _) = transfer::decode(node.encoding, node.body);
        match block {
            Some(block) => transfer::uu_blocks(&bytes).nth(block).map(|block| block.content()),
            None => Some(bytes.into_owned()),
        }
    }
}

/// The index and media type of every part that has content of its own, those of the body among them, in their order.
pub fn part_list(raw: &[u8]) -> Vec<(String, String)> {
    let tree = tree::build(start(raw));
    let leaves = tree.nodes.iter().filter(|node| !node.multipart);
    leaves.map(|node| (Tree::path_of(node), node.media_type.clone())).collect()
}

/// The charset that the mail's parts declare, for what declares none.
fn charset_hint(tree: &Tree<'_>) -> Option<String> {
    tree.nodes.iter().filter_map(|node| node.content_type.charset()).find(|label| charset::is_telling(label))
}

fn mail(fields: &Fields<'_>, content: Content, limits: &Limits, hint: Option<&str>) -> Mail {
    let mut flags = content.flags;
    let mut addresses = |name: &str| {
        let mut found = addresses(fields, name, hint);
        if found.list.len() > limits.addresses {
            flags.insert(Flag::ManyAddresses);
        }
        let all = found.list.len();
        found.list.truncate(limits.addresses);
        (found, all)
    };
    let (from, all) = addresses("from");
    let (sender, reply_to) = (addresses("sender").0.list, addresses("reply-to").0.list);
    let (to, cc) = (addresses("to").0.list, addresses("cc").0.list);
    let subject = fields.first("subject").map(|field| words::decode(field.value, hint)).unwrap_or_default();
    let values = |name| fields.all(name).map(|field| field.value);
    Mail {
        message_id: fields.all("message-id").find_map(|field| ids::one(field.value)),
        in_reply_to: ids::list(values("in-reply-to")),
        references: ids::list(values("references")),
        date: fields.all("date").find_map(|field| date::parse(&field.text())),
        subject: subject.chars().take(limits.subject).collect(),
        from_facts: FromFacts { fields: fields.all("from").count(), addresses: all, ambiguous: from.ambiguous },
        from: from.list,
        sender,
        reply_to,
        to,
        cc,
        text: content.text,
        html: content.html,
        report: report(&content.parts, content.is_report),
        parts: content.parts,
        flags,
    }
}

/// The addresses of all From fields of a mail, read as [`read`] does.
pub fn from_of(fields: &Fields<'_>) -> address::Addresses {
    addresses(fields, "from", None)
}

/// The addresses of all fields of one name.
fn addresses(fields: &Fields<'_>, name: &str, hint: Option<&str>) -> address::Addresses {
    let mut all = address::Addresses::default();
    for field in fields.all(name).take(10) {
        let found = address::parse(field.value, hint);
        all.list.extend(found.list);
        all.ambiguous |= found.ambiguous;
    }
    all
}

fn report(parts: &[Part], is_report: bool) -> Option<Report> {
    let of =
        |kind: Kind| parts.iter().filter(|part| part.kind == kind).map(|part| part.index.clone()).collect::<Vec<_>>();
    let status = of(Kind::Report);
    let delivery = parts.iter().any(|part| part.media_type.ends_with("delivery-status"));
    (is_report || !status.is_empty()).then(|| Report { delivery, status, returned: of(Kind::Message) })
}

#[cfg(test)]
mod tests;
