//! The parts of one mail by their use in a report.

use std::borrow::Cow;

use super::super::content::{is_html, line_feeds};
use super::super::fields::Fields;
use super::super::read::Opened;
use super::super::tree::Node;
use super::super::{charset, html_text, transfer};
use super::{MOST_TEXT, Recipient, ReportKind, bare_id, groups, notice};

/// The most parts looked at.
const MOST_PARTS: usize = 200;
/// The most bytes read of all parts, as transferred.
const MOST_READ: usize = 2 * 1024 * 1024;

/// A part, and the beginning of its content as transferred.
type Part<'a> = (&'a Node<'a>, &'a [u8]);

/// The texts of a mail, and what it holds of another.
pub(super) struct Parts<'a> {
    parts: Vec<Part<'a>>,
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The parts of a mail whose bytes behind its header are `body`.
    pub(super) fn of(mail: &'a Opened<'a>, body: &'a [u8]) -> Parts<'a> {
        let mut left = MOST_READ;
        let told = |node: &&Node<'_>| is_text(node) || node.media_type.starts_with("message/");
        let parts = mail.leaves().take(MOST_PARTS).filter(told).map(|node| {
            let content = node.body.get(..MOST_TEXT.min(left)).unwrap_or(node.body);
            left -= content.len();
            (node, content)
        });
        Parts { parts: parts.collect(), body }
    }

    /// The content of the first part of type `message/<one of subtypes>`.
    fn machine(&self, subtypes: &[&str]) -> Option<Cow<'a, [u8]>> {
        let wanted =
            |node: &Node<'_>| node.media_type.strip_prefix("message/").is_some_and(|kind| subtypes.contains(&kind));
        self.parts.iter().find(|(node, _)| wanted(node)).map(content)
    }

    pub(super) fn delivery(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::delivery(&self.machine(&["delivery-status", "global-delivery-status"])?)
    }

    pub(super) fn receipt(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::receipt(&self.machine(&["disposition-notification", "global-disposition-notification"])?)
    }

    pub(super) fn complaint(&self) -> Option<(ReportKind, Vec<Recipient>)> {
        groups::complaint(&self.machine(&["feedback-report"])?)
    }

    /// The texts, the notice first; HTML is turned to text. Lines end with LF.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.parts.iter().filter(|(node, _)| is_text(node)).map(|part| {
            let label = part.0.content_type.charset();
            let text = line_feeds(&charset::decode(label.as_deref(), &content(part)).text);
            if is_html(part.0) { html_text::render(&text, MOST_TEXT).text } else { text }
        })
    }

    /// The notice, or the whole body where the mail has no text.
    pub(super) fn text(&self) -> String {
        self.texts().find(|text| !text.trim().is_empty()).unwrap_or_else(|| self.body())
    }

    /// The beginning of all that stands behind the mail's header, as it is.
    pub(super) fn body(&self) -> String {
        line_feeds(&charset::decode(None, self.body.get(..MOST_TEXT).unwrap_or(self.body)).text)
    }

    /// The parts that are the returned mail, or its header.
    fn returned(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().filter(|(node, _)| {
            matches!(
                node.media_type.as_str(),
                "message/rfc822"
                    | "message/global"
                    | "message/global-headers"
                    | "message/rfc822-headers"
                    | "text/rfc822-headers"
                    | "text/rfc822-header"
                    | "text/rfc822"
            )
        })
    }

    /// Whether the mail holds another.
    pub(super) fn gives_back(&self) -> bool {
        self.returned().next().is_some()
    }

    /// What `find` finds first in the headers of the returned mail.
    fn in_returned<T>(&self, find: impl Fn(&Fields<'_>) -> Option<T>) -> Option<T> {
        self.returned().find_map(|part| find(&Fields::read(content(part).trim_ascii_start()).0))
    }

    /// What names the original in the machine-readable parts or in the returned mail.
    pub(super) fn original_message_id(&self) -> Option<String> {
        let machine =
            ["disposition-notification", "global-disposition-notification", "feedback-report", "delivery-status"];
        let told = self.machine(&machine).and_then(|raw| groups::original_message_id(&raw));
        told.or_else(|| self.in_returned(|fields| fields.text("Message-ID").and_then(|value| bare_id(&value))))
    }

    /// The first address in To of the returned mail.
    pub(super) fn original_to(&self) -> Option<String> {
        self.in_returned(|fields| notice::addresses(&fields.text("To")?).next().map(str::to_owned))
    }
}

fn is_text(node: &Node<'_>) -> bool {
    node.media_type.starts_with("text/") || is_html(node)
}

fn content<'a>(part: &Part<'a>) -> Cow<'a, [u8]> {
    transfer::decode(part.0.encoding, part.1).0
}
