//! From a mail to an interaction: what the mapping of a manifest is for other channels.
//!
//! The bytes are read by [`crate::mail`]; here their parts find their places in the interaction. Whoever sent it is as proven
//! as the head of its entry says, which was found out before it was journaled. The invariant: every mail gives exactly one
//! outcome, and each part of it can be had again from the original by its `provider_ref`.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::make::describe;
use super::{Account, Connector, mail_auto};
use crate::base::{Pii, Timestamp};
use crate::mail::address::Address;
use crate::mail::attachment::{self, Kind};
use crate::mail::auto;
use crate::mail::fields::Fields;
use crate::mail::read::{Flag as Mark, Limits, Mail as Read, Opened};
use crate::mail::{calendar, canon, reply};
use crate::model::entry::MailHead;
use crate::model::interaction::{Recipient, RecipientRole, ReplyTo};
use crate::model::mail::{Mail, MailAddress, PROBE};
use crate::model::part::FetchState;
use crate::model::{
    Blob, DeliveryError, DeliveryState, Flag, Identifier, IdentifierType, Interaction, MailLevel, MailReport,
    Normalized, Outcome, Part, PartType, Receipt, Trust,
};

mod files;
mod report;
#[cfg(test)]
mod tests;
mod winmail;

pub use files::{MailFiles, is_mail_part};

/// How much of a mail's text and HTML stands in the interaction; the original has all of it.
const LIMITS: Limits = Limits { text: 256 << 10, html: 512 << 10, addresses: 100, subject: 1000 };
/// The most recipients of one interaction.
const MOST_RECIPIENTS: usize = 256;
/// The most parts of one interaction; the original has all of them.
const MOST_PARTS: usize = 1000;
/// What the reference of a part begins with; the rest is its place in the original, which is whole without one.
const REFERENCE: &str = "mime:";

impl Connector {
    /// The outcome of a mail: an interaction, or why it is none.
    pub fn normalize_mail(
        &self,
        raw: &[u8],
        head: &MailHead,
        account: &Account,
        received_at: Timestamp,
    ) -> Vec<Outcome> {
        if let Some(reason) = &head.failed {
            return vec![Outcome::Quarantined { reason: format!("the mail could not be fetched: {reason}") }];
        }
        let opened = Opened::new(raw);
        let mut mail = match opened.read(&LIMITS) {
            Ok(mail) => mail,
            Err(why) => return vec![Outcome::Quarantined { reason: format!("this is no mail: {why}") }],
        };
        let address = account.known_as();
        let mut ix = Interaction::blank(self.channel(), self.name(), address);
        let canonical = data_encoding::HEXLOWER.encode(&canon::hash(raw));
        let short = |digits: usize| canonical.chars().take(digits).collect::<String>();
        ix.channel.provider_id = Some(mail.message_id.clone().unwrap_or_else(|| short(32)));
        ix.received_at = Some(received_at);
        let latest = received_at.plus_millis(86_400_000);
        ix.sent_at = mail.date.map(Timestamp::from_seconds).filter(|sent| *sent <= latest);
        ix.subject = (!mail.subject.is_empty()).then(|| Pii::new(mail.subject.clone()));
        // From several it is nobody's, whatever was found out before.
        let level =
            if mail.from.len() == 1 && mail.from_facts.fields == 1 { head.sender.level } else { MailLevel::Failed };
        author(&mut ix, &mail, head, level);
        recipients(&mut ix, &mail);
        let (fields, _) = Fields::of_mail(raw);
        parts(&mut ix, &mut mail, &opened, raw.len());
        let mut facet = facet(&mail, &fields, level);
        facet.arrived_at = head.arrived;
        texts(&mut ix, &mail);
        facet.token = head.sender.token;
        let report = report::read(&opened);
        let is_believed = |(report, by_words): &(MailReport, bool)| {
            head.sender.believed.holds(*by_words, report.state == Some(DeliveryState::Read))
        };
        let believed = report.as_ref().is_some_and(is_believed);
        // What somebody answers us is no report for its words: nobody would ever see it.
        facet.report = report.filter(|(_, by_words)| believed || !by_words).map(|(report, _)| report);
        if believed && let Some(outcome) = told_of_ours(&facet, self.name(), address, ix.sent_at) {
            return vec![outcome];
        }
        if let Some(outcome) = probe(&mail, self.name(), address, account, received_at) {
            return vec![outcome];
        }
        let auto = mail_auto::look(&mail, &opened, (&fields, facet.level), head, account);
        facet.no_auto_answer = auto.may_answer.as_ref().err().map(auto::Silence::to_string);
        facet.loops = auto.loops;
        ix.flags = flags(&mail, &facet, auto.kind);
        let mut answered: Vec<String> = mail.in_reply_to.clone();
        answered.extend(mail.references.iter().rev().filter(|id| !mail.in_reply_to.contains(id)).cloned());
        ix.reply_to = (!answered.is_empty()).then(|| ReplyTo { message_ids: answered, ..ReplyTo::default() });
        ix.mail = Some(Box::new(facet));
        vec![Outcome::Interaction(Box::new(Normalized { interaction: ix, revision: short(16) }))]
    }
}

/// The canonical form in which an address names a person: nobody distinguishes people by the case of letters.
fn canonical_address(address: &str) -> String {
    address.trim().to_lowercase()
}

fn trust(level: MailLevel) -> Trust {
    match level {
        MailLevel::Failed => Trust::Anonymous,
        MailLevel::Unknown => Trust::Observed,
        MailLevel::Authenticated | MailLevel::Verified => Trust::Verified,
    }
}

fn identifier(address: &Address) -> Identifier {
    Identifier::new(IdentifierType::MAILTO, canonical_address(&address.email))
}

/// Who wrote it: the one address in From. Where there are several it is nobody's.
fn author(ix: &mut Interaction, mail: &Read, head: &MailHead, level: MailLevel) {
    let trust = trust(level);
    ix.author.trust = trust;
    ix.author.evidence.clone_from(&head.sender.evidence);
    if let [from] = mail.from.as_slice() {
        ix.author.identifier = Some(identifier(from).trusted(trust));
        ix.author.display_name = from.name.clone().map(Pii::new);
    }
}

fn recipients(ix: &mut Interaction, mail: &Read) {
    let named =
        mail.to.iter().map(|to| (RecipientRole::To, to)).chain(mail.cc.iter().map(|cc| (RecipientRole::Cc, cc)));
    for (role, address) in named.take(MOST_RECIPIENTS) {
        let recipient = Recipient { role, identifier: identifier(address) };
        if !ix.recipients.contains(&recipient) {
            ix.recipients.push(recipient);
        }
    }
}

fn facet(mail: &Read, fields: &Fields<'_>, level: MailLevel) -> Mail {
    let said = |name: &str| fields.text(name).map(|text| text.chars().take(200).collect::<String>());
    Mail {
        message_id: mail.message_id.clone(),
        in_reply_to: mail.in_reply_to.clone(),
        references: mail.references.clone(),
        from: addresses(&mail.from),
        sender: addresses(&mail.sender),
        reply_to: addresses(&mail.reply_to),
        to: addresses(&mail.to),
        cc: addresses(&mail.cc),
        bcc: Vec::new(),
        arrived_at: None,
        auto_submitted: said("auto-submitted"),
        list_id: said("list-id"),
        level,
        token: None,
        no_auto_answer: None,
        loops: 0,
        report: None,
        marks: mail.flags.iter().map(|mark| word(*mark).to_owned()).collect(),
    }
}

fn addresses(list: &[Address]) -> Vec<MailAddress> {
    let one = |address: &Address| MailAddress {
        name: address.name.clone().map(Pii::new),
        email: Pii::new(address.email.clone()),
    };
    list.iter().map(one).collect()
}

fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::EncodingProblem => "encoding_problem",
        Mark::TruncatedText => "truncated_text",
        Mark::TruncatedHtml => "truncated_html",
        Mark::HtmlLeftOut => "html_left_out",
        Mark::TooDeep => "too_deep",
        Mark::ManyParts => "many_parts",
        Mark::LongHeader => "long_header",
        Mark::ManyAddresses => "many_addresses",
        Mark::NoText => "no_text",
        Mark::Encrypted => "encrypted",
        Mark::Signed => "signed",
    }
}

/// The HTML, the attachments, and the original as the last part.
fn parts(ix: &mut Interaction, mail: &mut Read, opened: &Opened<'_>, size: usize) {
    if let Some(html) = &mail.html {
        ix.parts.push(page_part(html.clone()));
    }
    let mut files = mail.parts.iter();
    let mut left = winmail::Left::of_mail();
    while ix.parts.len() < MOST_PARTS
        && let Some(part) = files.next()
    {
        match part.kind {
            Kind::Tnef => winmail::unpack(ix, part, opened, &mut left, (&mail.text, &mut mail.flags)),
            _ => ix.parts.push(attached(part, opened)),
        }
    }
    if ix.parts.len() > MOST_PARTS || files.next().is_some() {
        ix.parts.truncate(MOST_PARTS);
        mail.flags.insert(Mark::ManyParts);
    }
    let data: Map<String, serde_json::Value> = Map::from_iter([("original".to_owned(), json!(true))]);
    ix.parts.push(Part {
        mediatype: Some("message/rfc822".to_owned()),
        blob: Some(blob("", Some("original.eml"), size)),
        data: Some(Pii::new(data)),
        ..Part::new(PartType::File)
    });
}

/// HTML that is safe to show.
fn page_part(html: String) -> Part {
    Part { mediatype: Some("text/html".to_owned()), text: Some(Pii::new(html)), ..Part::new(PartType::Html) }
}

fn blob(place: &str, filename: Option<&str>, size: usize) -> Blob {
    Blob {
        size: Some(size as u64),
        filename: filename.map(|name| Pii::new(name.to_owned())),
        provider_ref: Some(Pii::new(format!("{REFERENCE}{place}"))),
        fetch: Some(FetchState::Pending),
        ..Blob::default()
    }
}

fn kind_of(media_type: &str) -> PartType {
    match media_type.split('/').next() {
        Some("image") => PartType::Image,
        Some("audio") => PartType::Audio,
        Some("video") => PartType::Video,
        _ => PartType::File,
    }
}

fn attached(part: &attachment::Part, opened: &Opened<'_>) -> Part {
    let event = (part.kind == Kind::Calendar)
        .then(|| calendar::read(&String::from_utf8_lossy(&opened.part_bytes(&part.index)?)))
        .flatten();
    let mut data = Map::new();
    if part.inline {
        data.insert("inline".to_owned(), json!(true));
    }
    if let Some(id) = &part.content_id {
        data.insert("content_id".to_owned(), json!(id));
    }
    Part {
        mediatype: Some(part.media_type.clone()),
        text: event.as_ref().map(|event| Pii::new(calendar::describe(event))),
        blob: Some(blob(&part.index, part.filename.as_deref(), part.size)),
        data: (!data.is_empty()).then(|| Pii::new(data)),
        ..Part::new(kind_of(&part.media_type))
    }
}

/// The text as a whole and what of it is new. Where there is none, words for what there is.
fn texts(ix: &mut Interaction, mail: &Read) {
    let text = mail.text.trim();
    if text.is_empty() {
        let inner = ix.parts.iter().find(|part| part.kind == PartType::Text).and_then(|part| part.text.clone());
        ix.text = inner.unwrap_or_else(|| Pii::new(describe(ix)));
        return;
    }
    let sender = mail.from.first().and_then(|from| from.name.as_deref());
    let split = reply::split_from(&mail.text, sender);
    let shown = split.shown(&mail.text);
    ix.text_new = (shown != text).then(|| Pii::new(shown.to_owned()));
    ix.text = Pii::new(text.to_owned());
}

/// What a report tells of a mail that we sent: where our token shows that it is about one of ours, it is no interaction.
fn told_of_ours(facet: &Mail, connector: &str, account: &str, at: Option<Timestamp>) -> Option<Outcome> {
    let report = facet.report.as_ref().filter(|report| report.kind != "complaint")?;
    let sent = facet.token.as_ref()?.send_id?;
    let Some(state) = report.state else {
        return Some(Outcome::Ignored { reason: format!("a mail that we sent is {}", report.kind) });
    };
    let said = report.diagnostic.as_ref().map(|said| said.expose().chars().take(200).collect());
    let error = (state == DeliveryState::Failed).then(|| DeliveryError {
        code: report.status.clone(),
        title: said.unwrap_or_else(|| "the mail was returned".to_owned()),
        permanent: report.status.as_deref().is_none_or(|status| !status.starts_with('4')),
    });
    let receipt = Receipt {
        connector: connector.to_owned(),
        account: account.to_owned(),
        provider_id: None,
        sent: Some(sent),
        up_to: None,
        recipient: None,
        state,
        at,
        error,
        reference: None,
    };
    Some(Outcome::Receipt { receipt: Box::new(receipt) })
}

/// A mail that we sent to ourselves to try out the way: that it came is all there is to tell.
fn probe(mail: &Read, connector: &str, address: &str, account: &Account, at: Timestamp) -> Option<Outcome> {
    let id = mail.message_id.as_deref().filter(|id| id.starts_with(PROBE))?;
    let [from] = mail.from.as_slice() else { return None };
    let own =
        account.options.text("address").is_some_and(|own| canonical_address(own) == canonical_address(&from.email));
    let receipt = Receipt {
        connector: connector.to_owned(),
        account: address.to_owned(),
        provider_id: Some(id.to_owned()),
        sent: None,
        up_to: None,
        recipient: None,
        state: DeliveryState::Delivered,
        at: Some(at),
        error: None,
        reference: None,
    };
    own.then(|| Outcome::Receipt { receipt: Box::new(receipt) })
}

fn flags(mail: &Read, facet: &Mail, kind: auto::Kind) -> BTreeSet<Flag> {
    let mut flags = BTreeSet::new();
    if kind != auto::Kind::Person {
        flags.insert(Flag::Automated);
    }
    let failed = facet.report.as_ref().is_some_and(|report| report.kind == "failed" || report.kind == "delayed");
    if failed || kind == auto::Kind::Bounce {
        flags.extend([Flag::Automated, Flag::Bounce]);
    }
    if mail.flags.iter().any(|mark| matches!(mark, Mark::TruncatedText | Mark::TooDeep | Mark::ManyParts)) {
        flags.insert(Flag::Incomplete);
    }
    flags
}
