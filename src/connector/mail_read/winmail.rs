//! Of a mail's parts: `winmail.dat`, in which Outlook packs texts and files.
//!
//! The invariants: what was sent is among the parts, unpacked or, where nothing in it can be read, as the file itself; and
//! however many there are in a mail, they add no more text than [`Left`] has.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::{LIMITS, attached, blob, kind_of, page_part};
use crate::base::Pii;
use crate::mail::attachment;
use crate::mail::read::{Flag as Mark, Opened};
use crate::mail::tnef::{self, Tnef};
use crate::mail::{html_clean, html_text};
use crate::model::{Interaction, Part, PartType};

/// How much of the texts and pages in them all is still read, in bytes. Compressed text is many times as long as its part.
pub(super) struct Left {
    text: usize,
    html: usize,
    costs: html_clean::Spent,
}

impl Left {
    /// What there is for one mail.
    pub(super) fn of_mail() -> Left {
        Left { text: LIMITS.text, html: LIMITS.html, costs: html_clean::Spent::default() }
    }
}

/// Adds what is packed into `part`. `text` is the mail's own; what is left out is noted in `marks`. Once nothing is left, a
/// part stays as it is.
pub(super) fn unpack(
    ix: &mut Interaction,
    part: &attachment::Part,
    opened: &Opened<'_>,
    left: &mut Left,
    (text, marks): (&str, &mut BTreeSet<Mark>),
) {
    if left.text == 0 || left.html == 0 {
        note(marks, left.text == 0, Mark::TruncatedText);
        note(marks, left.html == 0, Mark::TruncatedHtml);
        return ix.parts.push(attached(part, opened));
    }
    let read = opened.part_bytes(&part.index).and_then(|bytes| tnef::read(&bytes)).filter(says_something);
    let Some(inner) = read else {
        return ix.parts.push(attached(part, opened));
    };
    let page = inner.html.as_deref().map(|html| {
        note(marks, html.len() > left.html, Mark::TruncatedHtml);
        up_to(html, left.html)
    });
    left.html = left.html.saturating_sub(inner.html.as_deref().map_or(0, str::len));
    if let Some(page) = page
        && text.trim().is_empty()
        && ix.parts.iter().all(|part| part.kind != PartType::Html)
    {
        html(ix, page, &mut left.costs, marks);
    }
    if let Some(words) = words(&inner, page, left.text, marks) {
        left.text = left.text.saturating_sub(words.len());
        marks.remove(&Mark::NoText);
        ix.parts.push(Part::text(words));
    }
    for (number, file) in inner.attachments.into_iter().enumerate() {
        let mediatype = file.mime.unwrap_or_else(|| "application/octet-stream".to_owned());
        // What the HTML shows is found by it.
        let data = file.content_id.map(|id| Pii::new(Map::from_iter([("content_id".to_owned(), json!(id))])));
        let kind = kind_of(&mediatype);
        ix.parts.push(Part {
            mediatype: Some(mediatype),
            blob: Some(blob(&format!("{}/t{number}", part.index), file.name.as_deref(), file.data.len())),
            data,
            ..Part::new(kind)
        });
    }
}

/// Whether anything of it can be read.
fn says_something(inner: &Tnef) -> bool {
    let words = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
    words(&inner.text) || words(&inner.html) || inner.attachments.iter().any(|file| !file.data.is_empty())
}

/// Its text, or that of its page where it has none, of at most about `most` bytes.
fn words(inner: &Tnef, page: Option<&str>, most: usize, marks: &mut BTreeSet<Mark>) -> Option<String> {
    let told = inner.text.as_deref().filter(|text| !text.trim().is_empty());
    let (text, whole) = match told {
        Some(text) => (up_to(text, most).to_owned(), text.len() <= most),
        None => {
            let rendered = html_text::render(page?, most);
            (rendered.text, rendered.whole)
        }
    };
    note(marks, !whole, Mark::TruncatedText);
    (!text.trim().is_empty()).then_some(text)
}

/// Adds its page, cleaned; none where cleaning would leave holes.
fn html(ix: &mut Interaction, page: &str, costs: &mut html_clean::Spent, marks: &mut BTreeSet<Mark>) {
    let Some(clean) = html_clean::clean(page, costs) else {
        return note(marks, true, Mark::HtmlLeftOut);
    };
    if !clean.trim().is_empty() {
        ix.parts.push(page_part(clean));
    }
}

fn note(marks: &mut BTreeSet<Mark>, is: bool, mark: Mark) {
    if is {
        marks.insert(mark);
    }
}

/// The beginning of a text, of at most `most` bytes.
fn up_to(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}
