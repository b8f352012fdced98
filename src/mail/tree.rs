//! The parts of a mail (RFC 2045, RFC 2046), found in one pass over its bytes.
//!
//! Why not the parser of a library: those we know search for a boundary from every part that names one, up to the end of
//! the mail, and hold attached mails as nested values, so that a hostile mail costs its size squared or the stack. Here
//! the open boundaries are a stack of bounded height, every line is looked at once, and an attached mail is one part that
//! is kept whole. The cost is the size of the mail times a constant; nothing recurses.

use super::fields::{Block, Fields, Room};
use super::params::Params;
use super::transfer::Encoding;
use std::collections::HashMap;

/// How many multiparts may lie within each other; a deeper one is kept whole, as one part.
pub(super) const DEPTH_MOST: usize = 32;
/// How many parts are told apart; what follows is only in the original.
pub(super) const PARTS_MOST: usize = 1000;

/// How many blanks may follow a boundary on its line.
const BLANKS_MOST: usize = 200;

/// One part, or the mail itself.
pub(super) struct Node<'a> {
    /// Where it stands: `2.1` is the first part of the second part. A mail that is no multipart is `1`, else itself ``.
    pub path: String,
    /// Its multipart, as index in the list.
    pub parent: Option<usize>,
    /// Whether it is the first of its multipart, or the mail itself.
    pub first: bool,
    pub fields: Fields<'a>,
    /// In lower case; the default where nothing usable is said.
    pub media_type: String,
    pub content_type: Params,
    pub disposition: Params,
    pub encoding: Encoding,
    /// The content as transferred. Of a multipart: all of it.
    pub body: &'a [u8],
    /// Where that begins in the mail.
    pub at: usize,
    /// Whether its parts are listed after it.
    pub multipart: bool,
    children: usize,
}

/// All parts, each multipart before its parts.
pub(super) struct Tree<'a> {
    pub nodes: Vec<Node<'a>>,
    /// A multipart was deeper than [`DEPTH_MOST`].
    pub too_deep: bool,
    /// There were more than [`PARTS_MOST`] parts.
    pub many_parts: bool,
    /// A multipart without any of its parts.
    pub damaged: bool,
}

/// Finds the parts of a mail.
pub(super) fn build(raw: &[u8]) -> Tree<'_> {
    let tree = Tree { nodes: Vec::new(), too_deep: false, many_parts: false, damaged: false };
    let (open, levels, room) = (Vec::new(), HashMap::new(), Room::default());
    let mut builder = Builder { raw, at: 0, open, levels, longest: 0, leaf: None, room, tree };
    builder.part(None);
    while let Some(found) = builder.next_delimiter() {
        builder.end_within(found.level, found.start);
        builder.at = found.after;
        if found.closes {
            builder.end_within(found.level.saturating_sub(1), found.start);
        } else if builder.tree.nodes.len() < PARTS_MOST {
            builder.part(Some(found.level - 1));
        } else {
            builder.tree.many_parts = true;
            break;
        }
    }
    builder.end_within(0, raw.len());
    builder.tree
}

/// A multipart whose closing delimiter was not met yet.
struct Open {
    node: usize,
    boundary: Vec<u8>,
    /// Where its body begins.
    from: usize,
}

/// A line that parts two parts.
struct Delimiter {
    start: usize,
    after: usize,
    /// How many multiparts stay open, its own among them.
    level: usize,
    closes: bool,
}

struct Builder<'a> {
    raw: &'a [u8],
    at: usize,
    open: Vec<Open>,
    /// How many multiparts stay open at the delimiter of each boundary: of equal ones, the innermost counts last.
    levels: HashMap<Vec<u8>, Vec<usize>>,
    /// The length of the longest boundary so far.
    longest: usize,
    /// The part whose end is looked for, and where its body begins.
    leaf: Option<(usize, usize)>,
    /// For the fields of all parts together; the mail's own have as much for themselves.
    room: Room,
    tree: Tree<'a>,
}

impl<'a> Builder<'a> {
    fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        self.raw.get(from..to).unwrap_or_default()
    }

    /// Reads the header block of the part that begins here; `level` is its multipart in `open`.
    fn part(&mut self, level: Option<usize>) {
        let (end, body) = self.header_end(level.is_some());
        let header = self.slice(self.at, end);
        let (fields, _) = match level {
            None => Fields::read(header),
            Some(_) => Fields::read_within(header, &mut self.room),
        };
        let parent = level.and_then(|level| self.open.get(level)).map(|open| open.node);
        let mut node = node(fields, parent.and_then(|parent| self.tree.nodes.get_mut(parent)));
        (node.parent, node.at) = (parent, body);
        let index = self.tree.nodes.len();
        self.at = body;
        let boundary = boundary(&node);
        if boundary.is_none() && node.media_type.starts_with("multipart/") {
            // Without a boundary it has no parts: what stands there is better shown than lost.
            "text/plain".clone_into(&mut node.media_type);
            self.tree.damaged = true;
        }
        node.multipart = boundary.is_some() && self.open.len() < DEPTH_MOST;
        match boundary {
            Some(boundary) if node.multipart => {
                self.longest = self.longest.max(boundary.len());
                self.levels.entry(boundary.clone()).or_default().push(self.open.len() + 1);
                self.open.push(Open { node: index, boundary, from: body });
            }
            other => {
                self.tree.too_deep |= other.is_some();
                self.leaf = Some((index, body));
            }
        }
        self.tree.nodes.push(node);
    }

    /// Where the header block ends and the body begins. A part's block also ends at a delimiter or at a line that is no
    /// field: the empty line is missing then.
    fn header_end(&self, within: bool) -> (usize, usize) {
        let mut at = self.at;
        while at < self.raw.len() {
            let (end, after) = self.line(at);
            let line = self.slice(at, end);
            let folded = at > self.at && matches!(line.first(), Some(b' ' | b'\t'));
            if line.is_empty() {
                return (at, after);
            }
            if within && !folded && is_foreign(line) || self.delimiter(at).is_some() {
                return (at, at);
            }
            at = after;
        }
        // The empty line is missing: the first line that is no field begins the body of a mail too.
        let body = if within { at } else { self.first_foreign() };
        (body, body)
    }

    /// Where the first line stands that belongs to no field, but for one that a mailbox file puts before a mail.
    fn first_foreign(&self) -> usize {
        let mut at = self.at;
        while at < self.raw.len() {
            let (end, after) = self.line(at);
            let line = self.slice(at, end);
            let folded = matches!(line.first(), Some(b' ' | b'\t'));
            let mailbox = at == self.at && (line.starts_with(b"From ") || line.starts_with(b">From "));
            if !folded && !mailbox && is_foreign(line) {
                break;
            }
            at = after;
        }
        at
    }

    /// Where the line at `at` ends, without and with its line end.
    fn line(&self, at: usize) -> (usize, usize) {
        let rest = self.slice(at, self.raw.len());
        match memchr::memchr2(b'\r', b'\n', rest) {
            Some(end) if rest.get(end..end + 2) == Some(b"\r\n") => (at + end, at + end + 2),
            Some(end) => (at + end, at + end + 1),
            None => (self.raw.len(), self.raw.len()),
        }
    }

    /// The next delimiter of an open multipart.
    fn next_delimiter(&self) -> Option<Delimiter> {
        if self.open.is_empty() {
            return None;
        }
        let rest = self.slice(self.at, self.raw.len());
        memchr::memmem::find_iter(rest, b"--").find_map(|found| {
            let at = self.at + found;
            let starts = at == 0 || matches!(self.raw.get(at - 1), Some(b'\r' | b'\n'));
            if starts { self.delimiter(at) } else { None }
        })
    }

    /// The delimiter in the line at `at`, of the innermost multipart that it fits.
    fn delimiter(&self, at: usize) -> Option<Delimiter> {
        if self.open.is_empty() || self.slice(at, at + 2) != b"--" {
            return None;
        }
        // A line that is much longer than every boundary is none of them.
        let window = self.slice(at + 2, self.raw.len().min(at + 2 + self.longest + BLANKS_MOST));
        let end = memchr::memchr2(b'\r', b'\n', window);
        let line = window.get(..end.unwrap_or(window.len()))?.trim_ascii_end();
        // Words behind a boundary do not count (RFC 2046, section 5.1.1), but a boundary may hold blanks itself.
        let word = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
        let (level, closes) = self.boundary(line).or_else(|| self.boundary(word))?;
        let (_, after) = self.line(at);
        Some(Delimiter { start: at, after, level, closes })
    }

    /// The innermost multipart with the boundary that `line` is, and whether two dashes close it.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        if line.is_empty() || line.len() > self.longest + 2 {
            return None;
        }
        let level = |boundary: &[u8]| self.levels.get(boundary).and_then(|levels| levels.last()).copied();
        level(line).map(|level| (level, false)).or_else(|| Some((line.strip_suffix(b"--").and_then(level)?, true)))
    }

    /// Ends the part that is read and the multiparts beyond `level`, at `end`.
    fn end_within(&mut self, level: usize, end: usize) {
        let last = self.slice(0, end);
        let cut = if end < self.raw.len() { 1 + usize::from(last.ends_with(b"\r\n")) } else { 0 };
        let cut = end.saturating_sub(if last.ends_with(b"\n") || last.ends_with(b"\r") { cut } else { 0 });
        if let Some((leaf, from)) = self.leaf.take() {
            let body = self.slice(from, cut.max(from));
            if let Some(node) = self.tree.nodes.get_mut(leaf) {
                node.body = body;
            }
        }
        while self.open.len() > level
            && let Some(open) = self.open.pop()
        {
            if let Some(levels) = self.levels.get_mut(&open.boundary) {
                levels.pop();
            }
            let body = self.slice(open.from, cut.max(open.from));
            let Some(node) = self.tree.nodes.get_mut(open.node) else { continue };
            node.body = body;
            if node.children == 0 {
                // Its parts were never begun: what stands there is better shown than lost.
                "text/plain".clone_into(&mut node.media_type);
                node.multipart = false;
                self.tree.damaged = true;
            }
        }
    }
}

/// Whether a line begins no field.
fn is_foreign(line: &[u8]) -> bool {
    Block::new(line).next().is_none()
}

/// A part with these fields, counted as the next one of `parent`.
fn node<'a>(fields: Fields<'a>, parent: Option<&mut Node<'a>>) -> Node<'a> {
    let digest = parent.as_ref().is_some_and(|parent| parent.media_type == "multipart/digest");
    let (path, first) = match parent {
        None => (String::new(), true),
        Some(parent) => {
            parent.children += 1;
            let dot = if parent.path.is_empty() { "" } else { "." };
            (format!("{}{dot}{}", parent.path, parent.children), parent.children == 1)
        }
    };
    let read = |name: &str| fields.first(name).map(|field| Params::parse(field.value)).unwrap_or_default();
    let (content_type, disposition) = (read("content-type"), read("content-disposition"));
    let usable = content_type.value.split_once('/').is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
    let media_type = match (usable, digest && content_type.value.is_empty()) {
        (true, _) => content_type.value.chars().filter(|c| !c.is_control()).take(127).collect(),
        (false, true) => "message/rfc822".to_owned(),
        (false, false) => "text/plain".to_owned(),
    };
    let encoding = fields.text("content-transfer-encoding").map_or(Encoding::Identity, |value| Encoding::of(&value));
    Node {
        path,
        parent: None,
        first,
        fields,
        media_type,
        content_type,
        disposition,
        encoding,
        body: &[],
        at: 0,
        multipart: false,
        children: 0,
    }
}

/// The boundary of a multipart.
fn boundary(node: &Node<'_>) -> Option<Vec<u8>> {
    let boundary = node.content_type.bytes("boundary").filter(|_| node.media_type.starts_with("multipart/"))?;
    let boundary = boundary.trim_ascii_end();
    (!boundary.is_empty()).then(|| boundary.to_vec())
}

impl Tree<'_> {
    /// The path of a part as others see it.
    pub(super) fn path_of(node: &Node<'_>) -> String {
        if node.path.is_empty() { "1".to_owned() } else { node.path.clone() }
    }
}

#[cfg(test)]
mod tests;
