//! What is in a mail beside its body: files, pictures within the text, attached mails, and parts that other programs read.

use super::reply::invisible;
use super::tree::Node;
use super::{params, words};

/// The longest file name kept, in bytes.
const NAME_MOST: usize = 200;

/// What a part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file, or text that is not the body.
    File,
    /// A picture that the HTML shows.
    Inline,
    /// An attached mail, or the header fields of one.
    Message,
    /// An iCalendar object (RFC 5545).
    Calendar,
    /// Outlook's `winmail.dat`.
    Tnef,
    /// What programs report: delivery, disposition, abuse (RFC 3464, RFC 8098, RFC 5965).
    Report,
    /// A signature of PGP or S/MIME, or a mail within one.
    Signature,
    /// Encrypted content, or what its reader needs beside it.
    Encrypted,
}

/// A part beside the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it stands in the mail, for [`super::read::Opened::part_bytes`]: `2.1`, or `1.u1` for a uuencoded file in a text.
    pub index: String,
    /// Its media type in lower case, without parameters.
    pub media_type: String,
    /// Its name, without folders and control characters; not to be used as a path all the same.
    pub filename: Option<String>,
    /// Its Content-ID without brackets.
    pub content_id: Option<String>,
    /// Whether it is meant to be shown in its place rather than offered.
    pub inline: bool,
    /// The size of its decoded content, in bytes.
    pub size: usize,
    /// What it is for.
    pub kind: Kind,
    /// Whether its field says that it is a calendar's answer to an invitation.
    pub calendar_reply: bool,
}

/// What a part is for, as its fields say. `parent` is the media type of its multipart. Whether HTML shows it is not known
/// here.
pub(super) fn kind(node: &Node<'_>, parent: &str, filename: Option<&str>) -> Kind {
    let ends = |end: &str| filename.is_some_and(|name| name.to_ascii_lowercase().ends_with(end));
    match node.media_type.as_str() {
        "message/delivery-status" | "message/global-delivery-status" => Kind::Report,
        "message/disposition-notification" | "message/global-disposition-notification" => Kind::Report,
        "message/feedback-report" => Kind::Report,
        kind if kind.starts_with("message/") || kind == "text/rfc822-headers" => Kind::Message,
        "text/calendar" | "application/ics" => Kind::Calendar,
        "application/ms-tnef" | "application/vnd.ms-tnef" => Kind::Tnef,
        "application/octet-stream" if ends("winmail.dat") => Kind::Tnef,
        "application/octet-stream" if ends(".ics") => Kind::Calendar,
        "application/pgp-signature" | "application/pkcs7-signature" | "application/x-pkcs7-signature" => {
            Kind::Signature
        }
        "application/pgp-encrypted" => Kind::Encrypted,
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => {
            if node.content_type.is("smime-type", "signed-data") {
                Kind::Signature
            } else {
                Kind::Encrypted
            }
        }
        _ if parent == "multipart/encrypted" => Kind::Encrypted,
        _ => Kind::File,
    }
}

/// The name of a part: of Content-Disposition, else of Content-Type.
pub(super) fn filename(node: &Node<'_>, hint: Option<&str>) -> Option<String> {
    let name = node.disposition.text("filename", hint).filter(|name| !name.is_empty());
    clean_name(&name.or_else(|| node.content_type.text("name", hint))?)
}

/// A name without folders, control characters, and characters that nobody sees or that turn the direction of writing.
pub(super) fn clean_name(name: &str) -> Option<String> {
    let name: String = words::tidy(name).chars().filter(|c| !invisible(*c)).collect();
    let name = name.rsplit(['/', '\\']).find(|piece| !piece.trim().is_empty())?;
    let name = shorten(name.trim());
    (!name.chars().all(|c| c == '.')).then_some(name)
}

/// A long name keeps its beginning and its extension.
fn shorten(name: &str) -> String {
    if name.len() <= NAME_MOST {
        return name.to_owned();
    }
    let extension = name.rsplit_once('.').map(|(_, end)| end).filter(|end| end.len() <= 16);
    let most = NAME_MOST - extension.map_or(0, |end| end.len() + 1);
    let mut short = String::new();
    for c in name.chars() {
        if short.len() + c.len_utf8() > most {
            break;
        }
        short.push(c);
    }
    match extension {
        Some(extension) => format!("{short}.{extension}"),
        None => short,
    }
}

/// The Content-ID of a part without its brackets.
pub(super) fn content_id(node: &Node<'_>) -> Option<String> {
    clean_id(&node.fields.text("content-id")?)
}

/// A Content-ID without its brackets, on one line.
pub(super) fn clean_id(text: &str) -> Option<String> {
    let id = words::tidy(text.trim().trim_start_matches('<').trim_end_matches('>'));
    (!id.is_empty() && id.len() <= 250).then_some(id)
}

/// The Content-IDs that a page shows pictures by.
pub(super) fn shown(html: &str) -> std::collections::HashSet<String> {
    let ids = html.split("cid:").skip(1).map(|rest| {
        let id = rest.split(['"', '\'', '>', ' ', ')']).next().unwrap_or_default();
        let mut bytes = Vec::with_capacity(id.len());
        params::percent(id.replace("&amp;", "&").as_bytes(), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    ids.filter(|id| !id.is_empty() && id.len() <= 250).collect()
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Part { index, media_type, filename, content_id: _, inline, size, kind, calendar_reply: _ } = self;
        let named = filename.is_some();
        write!(f, "Part {{ {index}, {media_type}, {kind:?}, inline: {inline}, named: {named}, size: {size} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_made_harmless() {
        assert_eq!(clean_name("C:\\dir\\a.txt").unwrap(), "a.txt");
        assert_eq!(clean_name("../../etc/passwd").unwrap(), "passwd");
        assert_eq!(clean_name("a\r\nb\0.txt").unwrap(), "ab .txt");
        assert_eq!(clean_name("evil\u{202e}txt.exe").unwrap(), "eviltxt.exe");
        assert_eq!(clean_name("dir/").unwrap(), "dir");
        let unseen = "\u{feff}in\u{ad}vo\u{200b}ice\u{200d}\u{2060}.p\u{200f}df\u{61c}\u{180e}";
        assert_eq!(clean_name(unseen).unwrap(), "invoice.pdf");
        for none in ["", "..", ".\u{200b}.", "\u{200b}", " / ", "\\\\"] {
            assert_eq!(clean_name(none), None, "{none}");
        }
        assert!(clean_name(&format!("{}.pdf", "\u{e9}".repeat(500))).unwrap().ends_with("\u{e9}.pdf"));
    }

    #[test]
    fn pictures_that_a_page_shows() {
        let shown = shown("<img src=\"cid:a@b\"><img src='cid:c%40d'>cid:");
        assert_eq!(shown, ["a@b", "c@d"].map(str::to_owned).into());
    }

    proptest! {
        #[test]
        fn every_name_is_harmless(name in "[a./\\\\\u{202e}\u{200b}\r\n\u{e9} ]{0,300}") {
            if let Some(clean) = clean_name(&name) {
                prop_assert!(!clean.contains(['/', '\\', '\r', '\n', '\0']) && !clean.is_empty() && clean.len() <= NAME_MOST);
                prop_assert!(clean != ".." && clean != "." && !clean.contains(invisible));
            }
        }
    }
}
