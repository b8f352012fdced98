//! The content of a mail's parts: the text and HTML of its body, and what lies beside it.

use super::attachment::{self, Kind, Part};
use super::read::{Flag, Limits};
use super::transfer::{self, Encoding};
use super::tree::{Node, PARTS_MOST, Tree};
use super::{body, charset, flowed, html_clean, html_text};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What [`read`] gives.
#[derive(Default)]
pub(super) struct Content {
    pub text: String,
    pub html: Option<String>,
    pub parts: Vec<Part>,
    pub flags: BTreeSet<Flag>,
    /// The mail says that it is a report.
    pub is_report: bool,
}

/// Reads the content of all parts. `hint` is the charset of what declares none.
pub(super) fn read(tree: &Tree<'_>, limits: &Limits, hint: Option<&str>) -> Content {
    let picked = body::pick(tree);
    let mut content = Content::default();
    content.note(tree.too_deep, Flag::TooDeep);
    content.note(tree.many_parts, Flag::ManyParts);
    content.note(tree.damaged, Flag::EncodingProblem);
    content.is_report = tree.nodes.first().is_some_and(|root| root.media_type == "multipart/report");
    content.note(tree.nodes.iter().any(|node| node.media_type == "multipart/signed"), Flag::Signed);
    content.note(tree.nodes.iter().any(|node| node.media_type == "multipart/encrypted"), Flag::Encrypted);
    for &index in &picked.text {
        content.text_part(tree, index, limits, hint);
    }
    if content.text.trim().is_empty() && picked.text != picked.html {
        // An empty plain variant says nothing about what the HTML says.
        content.text.clear();
        for &index in &picked.html {
            content.text_part(tree, index, limits, hint);
        }
    }
    content.html_body(tree, &picked.html, limits, hint);
    let shown = content.html.as_deref().map(attachment::shown).unwrap_or_default();
    for node in picked.others.iter().filter_map(|index| tree.nodes.get(*index)) {
        content.parts.extend(part(tree, node, &shown, hint));
    }
    for kind in content.parts.iter().map(|part| part.kind).collect::<Vec<_>>() {
        content.note(kind == Kind::Signature, Flag::Signed);
        content.note(kind == Kind::Encrypted, Flag::Encrypted);
    }
    content.note(content.text.contains("-----BEGIN PGP SIGNED MESSAGE-----"), Flag::Signed);
    content.note(content.text.contains("-----BEGIN PGP MESSAGE-----"), Flag::Encrypted);
    content.note(content.text.trim().is_empty(), Flag::NoText);
    content
}

impl Content {
    fn note(&mut self, is: bool, flag: Flag) {
        if is {
            self.flags.insert(flag);
        }
    }

    /// Adds a part of the body to the text.
    fn text_part(&mut self, tree: &Tree<'_>, index: usize, limits: &Limits, hint: Option<&str>) {
        let Some(node) = tree.nodes.get(index) else { return };
        let left = limits.text.saturating_sub(self.text.len());
        if left == 0 {
            return self.note(true, Flag::TruncatedText);
        }
        let text = if is_html(node) {
            let html = self.html_source(node, limits, hint);
            let rendered = html_text::render(&html, left);
            self.note(!rendered.whole, Flag::TruncatedHtml);
            rendered.text
        } else {
            self.plain(node, left, hint)
        };
        if !self.text.is_empty() && !text.is_empty() {
            let end = if self.text.ends_with('\n') { "\n" } else { "\n\n" };
            self.text.push_str(end);
        }
        self.text.push_str(&text);
    }

    /// A text/plain part as text; uuencoded files in it become parts of their own.
    fn plain(&mut self, node: &Node<'_>, most: usize, hint: Option<&str>) -> String {
        let (bytes, damaged) = transfer::decode(node.encoding, node.body);
        self.note(damaged, Flag::EncodingProblem);
        let bytes = self.without_uu(node, &bytes, hint);
        self.note(bytes.len() > most, Flag::TruncatedText);
        let text = self.decoded(node, bytes.get(..most).unwrap_or(&bytes), hint);
        if !node.content_type.is("format", "flowed") {
            return text;
        }
        flowed::unfold(&text, node.content_type.is("delsp", "yes"))
    }

    fn without_uu<'b>(&mut self, node: &Node<'_>, bytes: &'b [u8], hint: Option<&str>) -> Cow<'b, [u8]> {
        let (mut kept, mut from) = (Vec::new(), 0);
        for (number, block) in transfer::uu_blocks(bytes).enumerate() {
            if self.parts.len() >= PARTS_MOST {
                self.note(true, Flag::ManyParts);
                break;
            }
            kept.extend_from_slice(bytes.get(from..block.start).unwrap_or_default());
            from = block.end;
            self.parts.push(Part {
                index: format!("{}.u{}", Tree::path_of(node), number + 1),
                media_type: "application/octet-stream".to_owned(),
                filename: attachment::clean_name(&super::words::decode(block.name, hint)),
                content_id: None,
                inline: false,
                size: block.content().len(),
                kind: Kind::File,
                calendar_reply: false,
            });
        }
        if from == 0 {
            return Cow::Borrowed(bytes);
        }
        kept.extend_from_slice(bytes.get(from..).unwrap_or_default());
        Cow::Owned(kept)
    }

    /// Bytes of a text part as text with LF.
    fn decoded(&mut self, node: &Node<'_>, bytes: &[u8], hint: Option<&str>) -> String {
        let label = node.content_type.charset();
        let label = label.as_deref().or_else(|| hint.filter(|_| std::str::from_utf8(bytes).is_err()));
        let decoded = charset::decode(label, bytes);
        self.note(decoded.damaged, Flag::EncodingProblem);
        line_feeds(&decoded.text)
    }

    /// An HTML part as text, not cleaned.
    fn html_source(&mut self, node: &Node<'_>, limits: &Limits, hint: Option<&str>) -> String {
        let (bytes, damaged) = transfer::decode(node.encoding, node.body);
        self.note(damaged, Flag::EncodingProblem);
        self.note(bytes.len() > limits.html, Flag::TruncatedHtml);
        let bytes = bytes.get(..limits.html).unwrap_or(&bytes);
        let meta = if node.content_type.charset().is_none() { meta_charset(bytes) } else { None };
        self.decoded(node, bytes, meta.as_deref().or(hint))
    }

    /// The body as HTML, if any of it is HTML: plain parts are set between.
    fn html_body(&mut self, tree: &Tree<'_>, picked: &[usize], limits: &Limits, hint: Option<&str>) {
        let nodes: Vec<&Node<'_>> = picked.iter().filter_map(|index| tree.nodes.get(*index)).collect();
        if !nodes.iter().any(|node| is_html(node)) {
            return;
        }
        // Of a page both what is read of it and what comes of it count: some make much of little, some little of much.
        let (mut html, mut spent, mut costs) = (String::new(), 0, html_clean::Spent::default());
        for node in nodes {
            let left = limits.html.saturating_sub(spent);
            if left == 0 {
                return self.note(true, Flag::TruncatedHtml);
            }
            if is_html(node) {
                let source = self.html_source(node, &Limits { html: left, ..*limits }, hint);
                match html_clean::clean(&source, &mut costs) {
                    Some(clean) => {
                        spent += source.len().max(clean.len());
                        html.push_str(&clean);
                    }
                    // A page with holes is worse than the text, which has everything.
                    None => return self.note(true, Flag::HtmlLeftOut),
                }
            } else {
                let (bytes, _) = transfer::decode(node.encoding, node.body);
                self.note(bytes.len() > left, Flag::TruncatedHtml);
                let text = self.decoded(node, bytes.get(..left).unwrap_or(&bytes), hint);
                let text = format!("<pre>{}</pre>", ammonia::clean_text(&text));
                spent += text.len();
                html.push_str(&text);
            }
        }
        self.html = Some(html);
    }
}

/// Whether a part is HTML.
pub(super) fn is_html(node: &Node<'_>) -> bool {
    matches!(node.media_type.as_str(), "text/html" | "application/xhtml+xml")
}

/// Text with LF at the end of its lines and without control characters but tabs.
pub(super) fn line_feeds(text: &str) -> String {
    let text =
        if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text.into() };
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The charset that a page says it has.
fn meta_charset(bytes: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(bytes.get(..2048).unwrap_or(bytes)).to_ascii_lowercase();
    let label = start.split_once("charset=")?.1.trim_start_matches(['"', '\'', ' ']);
    let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')))?;
    let label = label.get(..end)?;
    charset::is_telling(label).then(|| label.to_owned())
}

/// A part beside the body. Variants of the body for programs of one maker are none.
fn part(
    tree: &Tree<'_>,
    node: &Node<'_>,
    shown: &std::collections::HashSet<String>,
    hint: Option<&str>,
) -> Option<Part> {
    let parent = node.parent.and_then(|parent| tree.nodes.get(parent)).map_or("", |parent| parent.media_type.as_str());
    if parent == "multipart/alternative" && matches!(node.media_type.as_str(), "text/x-amp-html" | "text/watch-html") {
        return None;
    }
    let (bytes, _) = transfer::decode(node.encoding, node.body);
    let mut filename = attachment::filename(node, hint);
    if filename.is_none() && node.encoding == Encoding::Uuencode {
        let name = transfer::uu_blocks(node.body).next().map(|block| block.name);
        filename = name.and_then(|name| attachment::clean_name(&super::words::decode(name, hint)));
    }
    let content_id = attachment::content_id(node);
    let kind = attachment::kind(node, parent, filename.as_deref());
    let picture = node.media_type.starts_with("image/");
    let wanted = content_id.as_ref().is_some_and(|id| shown.contains(id));
    let kind = if kind == Kind::File && picture && wanted { Kind::Inline } else { kind };
    Some(Part {
        index: Tree::path_of(node),
        media_type: node.media_type.clone(),
        filename,
        content_id,
        inline: kind == Kind::Inline || node.disposition.value == "inline",
        size: bytes.len(),
        kind,
        calendar_reply: kind == Kind::Calendar && node.content_type.is("method", "reply"),
    })
}
