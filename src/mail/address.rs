//! Addresses in a field (RFC 5322, section 3.4, with the obsolete forms): groups, comments, quoted names, routes.
//!
//! Nothing that may be an address is dropped in silence: when a reader with other rules could see another address than
//! the one given here, the list says so (`ambiguous`), and the sender must not be trusted. What the addresses are follows from
//! the field alone: who judges a sender and who names it see the same one, whatever else stands in the mail.

use std::borrow::Cow;

use super::words;

/// The most bytes of one field that are read, about 5,000 addresses.
const FIELD_MOST: usize = 256 * 1024;
/// How far an encoded word may reach in an address field, in bytes.
const WORD_MOST: usize = 1024;
/// The longest address that is taken for one: 64 for the name, 255 for the domain (RFC 5321, section 4.5.3.1), and `@`.
const ADDRESS_MOST: usize = 320;
/// The longest display name kept, in characters.
const NAME_MOST: usize = 256;

/// One mailbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The display name, decoded; never empty.
    pub name: Option<String>,
    /// The address as written, without blanks and comments: `local@domain`.
    pub email: String,
}

/// The addresses of a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// In their order, those of groups among them.
    pub list: Vec<Address>,
    /// Whether another reader could see other addresses here: an `@` in a name without quotes, two addresses without a
    /// comma, a bracket that does not end, bytes in an address that are no UTF-8.
    pub ambiguous: bool,
}

/// Reads the value of an address field. `hint` is the charset of names that are no UTF-8 (see [`words::decode`]).
pub fn parse(raw: &[u8], hint: Option<&str>) -> Addresses {
    let cut = raw.len() > FIELD_MOST;
    let found = Addresses { ambiguous: cut, ..Addresses::default() };
    let mut reader = Reader { hint, found, one: One::default(), quotes: true, brackets: true };
    let mut rest = raw.get(..FIELD_MOST).unwrap_or(raw);
    while let Some((&byte, after)) = rest.split_first() {
        rest = reader.step(byte, rest, after);
    }
    reader.flush();
    reader.found
}

/// What was read of one mailbox.
#[derive(Default)]
struct One {
    /// The words before the bracket, with quotes taken off.
    phrase: Vec<u8>,
    /// The same with its quotes: an address without brackets is made of it.
    bare: Vec<u8>,
    comment: Vec<u8>,
    angle: Option<Vec<u8>>,
    /// An `@` stood in the phrase, outside of quotes.
    at: bool,
}

struct Reader<'h> {
    hint: Option<&'h str>,
    found: Addresses,
    one: One,
    /// Whether quotes still open strings: after one that had no end they are characters.
    quotes: bool,
    /// Whether quotes still hide brackets within brackets: after one that had no end they do not, so that nothing is
    /// searched to the end of the field more than once.
    brackets: bool,
}

impl Reader<'_> {
    /// Takes what begins with `byte` and gives what is left.
    fn step<'a>(&mut self, byte: u8, all: &'a [u8], after: &'a [u8]) -> &'a [u8] {
        match byte {
            b'"' if self.quotes => return self.quoted(after),
            b'(' => return self.comment(after),
            b'<' => return self.angle(after),
            b',' | b';' => self.flush(),
            b':' if !self.one.at && self.one.angle.is_none() => self.one = One::default(),
            b'\r' | b'\n' => {}
            b'=' => {
                let window = all.get(..WORD_MOST).unwrap_or(all);
                if let Some(word) = words::word(window) {
                    let (text, rest) = all.split_at_checked(word.len).unwrap_or((all, &[]));
                    self.push(text);
                    return rest;
                }
                self.push(b"=");
            }
            _ => {
                self.one.at |= byte == b'@';
                self.push(&[byte]);
            }
        }
        after
    }

    fn push(&mut self, bytes: &[u8]) {
        self.one.phrase.extend_from_slice(bytes);
        self.one.bare.extend_from_slice(bytes);
    }

    /// A quoted string; without its end, the quote is a character like others.
    fn quoted<'a>(&mut self, after: &'a [u8]) -> &'a [u8] {
        let (content, rest) = match delimited(after, b'"') {
            Some(found) => found,
            None => {
                self.found.ambiguous = true;
                self.quotes = false;
                return after;
            }
        };
        self.one.bare.push(b'"');
        self.one.bare.extend(after.iter().take(after.len() - rest.len()));
        self.one.phrase.extend_from_slice(&content);
        rest
    }

    /// A comment, which may hold others. Without its end it goes to the end of the field.
    fn comment<'a>(&mut self, after: &'a [u8]) -> &'a [u8] {
        let (mut depth, mut at) = (1_usize, 0);
        while let Some(&byte) = after.get(at) {
            match byte {
                b'\\' => {
                    at += 1;
                    self.one.comment.extend(after.get(at));
                }
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => self.one.comment.push(byte),
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        self.one.comment.push(b' ');
        self.found.ambiguous |= depth > 0;
        after.get(at..).unwrap_or_default()
    }

    /// An address in brackets. Without its end it goes to the next comma.
    fn angle<'a>(&mut self, after: &'a [u8]) -> &'a [u8] {
        if self.one.angle.is_some() {
            self.found.ambiguous = true;
            self.flush();
        }
        let mut quotes = Quotes::default();
        let end = match self.brackets {
            true => after.iter().position(|byte| !quotes.hold(*byte) && matches!(byte, b'>' | b'<')),
            false => memchr::memchr2(b'>', b'<', after),
        };
        let closed = end.filter(|end| after.get(*end) == Some(&b'>'));
        self.found.ambiguous |= closed.is_none();
        self.brackets &= closed.is_some();
        let end = closed.unwrap_or_else(|| memchr::memchr3(b',', b'>', b'<', after).unwrap_or(after.len()));
        self.one.angle = Some(after.get(..end).unwrap_or_default().to_vec());
        after.get(end + usize::from(after.get(end) == Some(&b'>'))..).unwrap_or_default()
    }

    /// Ends the mailbox that was read.
    fn flush(&mut self) {
        let one = std::mem::take(&mut self.one);
        let (email, name) = match &one.angle {
            Some(angle) => {
                self.found.ambiguous |= one.at;
                (self.email(route_less(&without_comments(angle))), one.phrase)
            }
            None => self.bare(&one),
        };
        let Some(email) = email else { return };
        let mut name = words::decode(&name, self.hint);
        if name.is_empty() {
            name = words::decode(&one.comment, self.hint);
        }
        // Some programs quote names twice.
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(&name);
        let name = name.trim().chars().take(NAME_MOST).collect::<String>();
        self.found.list.push(Address { name: (!name.is_empty()).then_some(name), email });
    }

    /// `bytes` as an address, if it is one. Of bytes that are no UTF-8, and of blanks and controls that few would leave out, each
    /// reader may make another.
    fn email(&mut self, bytes: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(bytes).map(Cow::Borrowed).unwrap_or_else(|_| {
            self.found.ambiguous = true;
            words::plain(bytes, None)
        });
        self.found.ambiguous |= text.contains(|c: char| !c.is_ascii() && (c.is_whitespace() || c.is_control()));
        email(&text)
    }

    /// An address without brackets, and the words beside it.
    fn bare(&mut self, one: &One) -> (Option<String>, Vec<u8>) {
        let tokens = tokens(&one.bare);
        let mut with_at = tokens.iter().filter(|token| token.contains(&b'@'));
        let Some(address) = with_at.next() else { return (None, Vec::new()) };
        self.found.ambiguous |= with_at.next().is_some();
        let others = tokens.iter().filter(|token| !token.contains(&b'@'));
        (self.email(address), others.flat_map(|word| [word.as_slice(), b" "]).flatten().copied().collect())
    }
}

/// Follows quotes through a text; a backslash within them escapes what stands behind it.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Takes the next byte. Whether it is within quotes; of the quotes themselves the first is and the last is not.
    fn hold(&mut self, byte: u8) -> bool {
        match byte {
            _ if std::mem::take(&mut self.escaped) => {}
            b'\\' if self.open => self.escaped = true,
            b'"' => self.open = !self.open,
            _ => {}
        }
        self.open
    }
}

/// The content up to the unescaped `close`, with escapes taken off, and what follows.
fn delimited(text: &[u8], close: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\\' => {
                at += 1;
                content.push(*text.get(at)?);
            }
            byte if byte == close => return Some((content, text.get(at + 1..)?)),
            byte => content.push(byte),
        }
        at += 1;
    }
}

/// Words between blanks; blanks around `@` and dots (obsolete, but they come) and within quotes do not part them.
fn tokens(bare: &[u8]) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let (mut quotes, mut gap) = (Quotes::default(), true);
    // Whether the last one has an `@`.
    let mut address = false;
    for &byte in bare.trim_ascii() {
        if !quotes.hold(byte) && byte.is_ascii_whitespace() {
            gap = true;
            continue;
        }
        let joins = |byte: Option<&u8>| byte == Some(&b'@') || address && byte == Some(&b'.');
        let glued = joins(Some(&byte)) || tokens.last().is_some_and(|token| joins(token.last()));
        match tokens.last_mut() {
            Some(token) if !std::mem::take(&mut gap) || glued => token.push(byte),
            _ => {
                tokens.push(vec![byte]);
                address = false;
            }
        }
        address |= byte == b'@';
        gap = false;
    }
    tokens
}

/// An address in brackets without the comments that the obsolete syntax allows there.
fn without_comments(angle: &[u8]) -> Vec<u8> {
    let (mut depth, mut quotes) = (0_usize, Quotes::default());
    let kept = angle.iter().copied().filter(|byte| {
        let quoted = depth == 0 && quotes.hold(*byte);
        match byte {
            b'(' if !quoted => depth += 1,
            b')' if !quoted && depth > 0 => {
                depth -= 1;
                return false;
            }
            _ => {}
        }
        depth == 0
    });
    kept.collect()
}

/// The address behind a source route (`@a,@b:c@d`) or a `mailto:`.
fn route_less(angle: &[u8]) -> &[u8] {
    let angle = angle.trim_ascii();
    let route = angle.starts_with(b"@") || angle.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"mailto:"));
    match memchr::memchr(b':', angle).filter(|_| route) {
        Some(colon) => angle.get(colon + 1..).unwrap_or_default(),
        None => angle,
    }
}

/// `text` as an address, without the blanks outside of quotes, if it is one.
fn email(text: &str) -> Option<String> {
    let mut quotes = Quotes::default();
    let keeps = |c: &char| {
        // All that matters to quotes is ASCII.
        let quoted = quotes.hold(u8::try_from(*c).unwrap_or_default());
        (quoted && *c == ' ') || !(c.is_whitespace() || c.is_control())
    };
    let email: String = text.chars().filter(keeps).collect();
    let (local, domain) = email.rsplit_once('@')?;
    let whole = !local.is_empty() && !domain.is_empty() && email.len() <= ADDRESS_MOST;
    let clean = local.starts_with('"') || !local.contains([',', ':', ';', '(', ')']);
    (whole && clean && !email.contains(['<', '>'])).then_some(email)
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("named", &self.name.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
