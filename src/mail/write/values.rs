//! The values of header fields, made safe before they are written: one line, no control characters, bounded.

use std::borrow::Cow;

/// Characters of a subject.
pub(super) const MOST_SUBJECT: usize = 1000;
/// Characters of a display name.
pub(super) const MOST_NAME: usize = 200;
/// Characters of a file's name.
const MOST_FILE_NAME: usize = 150;
/// Bytes of a Message-ID or Content-ID.
const MOST_ID: usize = 250;
/// Bytes of an address (RFC 5321, section 4.5.3.1.3, without the brackets), of its local part and of a label.
const MOST_ADDRESS: usize = 254;
const MOST_LOCAL: usize = 64;
const MOST_LABEL: usize = 63;

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// No `@`, an empty side, or a character that no address has.
    #[error("is not a mail address")]
    Form,
    /// Letters beyond ASCII before the `@`: that needs SMTPUTF8 at every server on the way.
    #[error("has letters beyond ASCII before the @, which mail servers in general do not take")]
    Local,
    /// The domain is none, or is an address in numbers.
    #[error("has no valid domain behind the @")]
    Domain,
    /// Longer than SMTP allows.
    #[error("is too long")]
    Long,
}

/// The address as MAIL, RCPT and the header fields write it: an international domain in its ASCII form (RFC 5891), a
/// local part of `atext` and dots, or a quoted one. Dots are let through where RFC 5321 has none: such addresses exist.
///
/// # Errors
///
/// [`BadAddress`].
pub fn address(given: &str) -> Result<String, BadAddress> {
    let (local, domain) = given.trim().rsplit_once('@').ok_or(BadAddress::Form)?;
    if !local.is_ascii() {
        return Err(BadAddress::Local);
    }
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if !quoted.map_or_else(|| !local.is_empty() && local.bytes().all(is_local), is_quoted) {
        return Err(BadAddress::Form);
    }
    let domain = domain_name(domain).ok_or(BadAddress::Domain)?;
    let fits = local.len() <= MOST_LOCAL && local.len() + 1 + domain.len() <= MOST_ADDRESS;
    if fits { Ok(format!("{local}@{domain}")) } else { Err(BadAddress::Long) }
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)
}

/// Whether this is the inside of a quoted string. Angle brackets are left out: software that looks for the first `>`
/// would end the address there.
fn is_quoted(inside: &str) -> bool {
    let mut escaped = false;
    for byte in inside.bytes() {
        let known = matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>');
        if !known || (byte == b'"' && !escaped) {
            return false;
        }
        escaped = byte == b'\\' && !escaped;
    }
    !inside.is_empty() && !escaped
}

fn domain_name(domain: &str) -> Option<Cow<'_, str>> {
    // The URL parser would decode percent signs; no domain has any.
    if domain.is_ascii() || domain.contains('%') {
        return is_domain(domain).then_some(Cow::Borrowed(domain));
    }
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) if is_domain(&ascii) => Some(Cow::Owned(ascii)),
        _ => None,
    }
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MOST_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // An all-numeric last label is an IPv4 address in some notation.
    domain.split('.').all(is_label)
        && domain.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The id without blanks and angle brackets around it, if it can be written: visible ASCII without `<` and `>`, at most
/// 250 bytes. Ids come from the mails of strangers.
pub fn id(given: &str) -> Option<&str> {
    let bare = given.trim();
    let bare = bare.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(bare);
    let good = bare.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'<' | b'>'));
    (good && (1..=MOST_ID).contains(&bare.len())).then_some(bare)
}

/// The text on one line, trimmed: control characters and line separators become blanks, runs of blanks become one, at
/// most `most` characters. `=?` is taken apart, since readers would decode what follows as an encoded word.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut last = ' ';
    for char in text.chars().map(|char| if is_break(char) { ' ' } else { char }).take(most) {
        if char == ' ' && last == ' ' || line.is_empty() && char.is_whitespace() {
            continue;
        }
        if char == '?' && last == '=' {
            line.push(' ');
        }
        line.push(char);
        last = char;
    }
    line.truncate(line.trim_end().len());
    line
}

fn is_break(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')
}

/// A file's name: one line, no folder separators, none of the marks that turn the direction of writing and so can hide
/// its real ending, and never empty.
pub fn file_name(given: &str) -> String {
    let shown = given.chars().filter(|char| !matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    let flat: String = shown.map(|char| if matches!(char, '/' | '\\') { '_' } else { char }).collect();
    let line = one_line(&flat, usize::MAX);
    let line = match line.char_indices().rev().nth(MOST_FILE_NAME - 1) {
        // The end of a name tells what the file is.
        Some((from, _)) => line.get(from..).unwrap_or_default(),
        None => line.as_str(),
    };
    if line.trim().is_empty() { "attachment".to_owned() } else { line.trim().to_owned() }
}

/// The type without parameters, in lower case. What is none, and the types whose parts must not be base64 (RFC 2046,
/// sections 5.1 and 5.2), become `application/octet-stream`.
pub fn media_type(given: &str) -> String {
    let bare = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |part: &str| {
        (1..=60).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match bare.split_once('/') {
        Some((kind, sub)) if is_token(kind) && is_token(sub) && !matches!(kind, "message" | "multipart") => bare,
        _ => "application/octet-stream".to_owned(),
    }
}
