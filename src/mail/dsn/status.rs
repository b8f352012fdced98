//! Status codes in what mail servers say: enhanced codes, reply codes, and the words that stand for them.

use super::Status;

/// The status that a text tells: an enhanced code, else a reply code and the words around it, else words alone.
pub(super) fn read(text: &str) -> Option<Status> {
    if let Some(code) = enhanced(text) {
        return Some(code);
    }
    let words = worded(text);
    match (reply_class(text), words) {
        (Some(class), Some((_, subject, detail))) => Some((class, subject, detail)),
        (Some(class), None) => Some((class, 0, 0)),
        (None, words) => words,
    }
}

/// The first enhanced status code (RFC 3463) in a text, such as `5.1.1` or `#4.2.2`. Parts of longer numbers with dots,
/// such as addresses of hosts, are none.
pub(super) fn enhanced(text: &str) -> Option<Status> {
    let number = |c: char| c.is_ascii_alphanumeric() || c == '.';
    text.split(|c: char| !number(c)).find_map(|run| {
        let mut pieces = run.trim_end_matches('.').split('.');
        let class = match pieces.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let (subject, detail) = (short_number(pieces.next()?)?, short_number(pieces.next()?)?);
        pieces.next().is_none().then_some((class, subject, detail))
    })
}

/// A number of at most three digits.
fn short_number(text: &str) -> Option<u16> {
    (text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The class of the first reply code (RFC 5321): 4 or 5.
pub(super) fn reply_class(text: &str) -> Option<u8> {
    // A code stands alone, or before the `-` of a reply in several lines.
    let edge = |c: char| {
        c.is_whitespace() || matches!(c, ':' | '(' | ')' | '[' | ']' | '=' | '-' | '#' | ',' | ';' | '\'' | '"')
    };
    text.split(edge).find_map(|word| match word.as_bytes() {
        [class @ (b'4' | b'5'), b'0'..=b'5', b'0'..=b'9'] => Some(class - b'0'),
        _ => None,
    })
}

/// Words of a notice, in lower case, and the status they stand for. The first that occurs decides.
const WORDS: [(&[&str], Status); 11] = [
    (
        &[
            "mailbox full",
            "mailbox is full",
            "mailfolder is full",
            "over quota",
            "quota exceeded",
            "exceeds allowed size",
            "exceeded the local limit",
            "mailbox size limit",
            "mailbox has exceeded",
            "over its quota",
            "disk quota",
        ],
        (5, 2, 2),
    ),
    (&["size limit", "message too large", "message is too large", "exceeds the maximum size", "too big"], (5, 3, 4)),
    (
        &[
            "disabled",
            "discontinued",
            "account is inactive",
            "account has been suspended",
            "mailbox unavailable for this",
        ],
        (5, 2, 1),
    ),
    (
        &[
            "unknown host",
            "host unknown",
            "host not found",
            "domain does not exist",
            "domain not found",
            "no such domain",
            "could not find a gateway",
            "name or service not known",
            "no mx record",
        ],
        (5, 1, 2),
    ),
    (
        &[
            "user unknown",
            "unknown user",
            "no such user",
            "unknown recipient",
            "recipient not found",
            "user not found",
            "invalid user",
            "unknown or illegal user",
            "no mailbox",
            "mailbox not found",
            "not recognized",
            "not listed in",
            "doesn't have a",
            "does not exist",
            "invalid final delivery userid",
            "no valid recipients",
            "no such recipient",
            "address rejected",
            "invalid recipient",
            "unrouteable address",
            "check if address is correct",
            "recipient unknown",
            "adresse inconnue",
            "empfänger unbekannt",
            "possibly incorrect",
        ],
        (5, 1, 1),
    ),
    (&["network error", "connection refused", "unable to connect", "no route to host", "connection lost"], (4, 4, 1)),
    (
        &[
            "retry timeout exceeded",
            "envelope expired",
            "message expired",
            "too long in the queue",
            "in the queue too long",
            "retry time not reached",
            "delivery time expired",
            "was aborted after",
            "attempts",
        ],
        (4, 4, 7),
    ),
    (&["timed out", "connection timeout"], (4, 4, 2)),
    (
        &["temporarily unavailable", "try again later", "over quota temporarily", "greylisted", "temporary failure"],
        (4, 0, 0),
    ),
    (
        &[
            "blocked",
            "blacklisted",
            "rejected for policy",
            "spam",
            "access denied",
            "relaying denied",
            "relay not permitted",
        ],
        (5, 7, 1),
    ),
    (&["permanent error", "permanent failure", "failed permanently", "permanently rejected"], (5, 0, 0)),
];

/// The status that the words of a text stand for. Only its first 16 KiB are read.
fn worded(text: &str) -> Option<Status> {
    let lower: String = text.chars().take(16 * 1024).flat_map(char::to_lowercase).collect();
    // Words that a line's end tore apart are words all the same.
    let lower = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    WORDS.iter().find(|(words, _)| words.iter().any(|one| lower.contains(one))).map(|(_, status)| *status)
}
