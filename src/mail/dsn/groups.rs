//! The machine-readable parts of reports: groups of `Name: value` lines, with an empty line between them.

use super::super::fields::{Field, Fields};
use super::{MOST_DIAGNOSTIC, MOST_RECIPIENTS, Recipient, ReportKind, bare_id, notice, status};

/// The most characters kept of an action.
const MOST_WORD: usize = 64;

/// The groups of a part. Text that is no field is passed over.
fn groups(raw: &[u8]) -> impl Iterator<Item = Fields<'_>> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (fields, after) = Fields::read(rest);
            rest = after;
            if fields.iter().next().is_some() {
                return Some(fields);
            }
        }
        None
    })
}

/// Reads `message/delivery-status` (RFC 3464) or `message/global-delivery-status` (RFC 6533). `None` if it names no
/// recipient.
pub(super) fn delivery(raw: &[u8]) -> Option<(ReportKind, Vec<Recipient>)> {
    let recipients: Vec<Recipient> = groups(raw).filter_map(|group| recipient(&group)).take(MOST_RECIPIENTS).collect();
    let kind = recipients.iter().map(|one| kind_of(&one.action)).min_by_key(|kind| *kind as u8)?;
    Some((kind, recipients))
}

/// The kind of report that an action makes.
fn kind_of(action: &str) -> ReportKind {
    match action {
        "delayed" => ReportKind::Delayed,
        "delivered" => ReportKind::Delivered,
        "relayed" => ReportKind::Relayed,
        "expanded" => ReportKind::Expanded,
        _ => ReportKind::Failed,
    }
}

/// One recipient's group.
fn recipient(group: &Fields<'_>) -> Option<Recipient> {
    let last = group.text("Final-Recipient").and_then(|value| address(&value));
    let original = group.text("Original-Recipient").and_then(|value| address(&value));
    let address = last.or_else(|| original.clone())?;
    let diagnostic = group.first("Diagnostic-Code").map(diagnostic).unwrap_or_default();
    let status = finer(group.text("Status").and_then(|value| status::enhanced(&value)), &diagnostic);
    let told = group.text("Action").map(|value| first_word(&value)).filter(|action| !action.is_empty());
    let action = told.unwrap_or_else(|| action_of(status).to_owned());
    let remote =
        group.text("Remote-MTA").map(|value| notice::one_line(typed(&value).1, 255)).filter(|name| !name.is_empty());
    Some(Recipient {
        address,
        original,
        action,
        status,
        diagnostic: notice::one_line(&diagnostic, MOST_DIAGNOSTIC),
        remote,
    })
}

/// What the server said. Japanese servers write ISO-2022-JP here, which cannot be told from ASCII but by its escapes.
fn diagnostic(field: &Field<'_>) -> String {
    let text = if field.value.contains(&0x1B) {
        encoding_rs::ISO_2022_JP.decode_without_bom_handling(field.value).0
    } else {
        field.text()
    };
    typed(&text).1.to_owned()
}

/// The told status, or a finer one of the same class in what the server said: many write `5.0.0` beside `550 5.1.1 ..`.
fn finer(told: Option<super::Status>, diagnostic: &str) -> Option<super::Status> {
    match told {
        None => status::read(diagnostic),
        Some((class, 0, 0)) => status::enhanced(diagnostic).filter(|(other, ..)| *other == class).or(told),
        told => told,
    }
}

/// The action that a status means where none is told.
fn action_of(status: Option<super::Status>) -> &'static str {
    match status {
        Some((2, ..)) => "delivered",
        Some((4, ..)) => "delayed",
        _ => "failed",
    }
}

/// The first word in lower case: `Failed (bad address)` is `failed`.
fn first_word(value: &str) -> String {
    value
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ';'))
        .next()
        .unwrap_or_default()
        .chars()
        .take(MOST_WORD)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// The type and the value of `type; value`. A value without a type has the empty one.
fn typed(value: &str) -> (&str, &str) {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.trim().contains([' ', '@']) => (kind.trim(), rest.trim()),
        _ => ("", value.trim()),
    }
}

/// The address of `type; address`, in any of its types.
fn address(value: &str) -> Option<String> {
    let (kind, rest) = typed(value);
    let rest = rest.trim_matches(['<', '>', ' ', '\t']);
    let rest = if kind.eq_ignore_ascii_case("utf-8") { unescaped(rest) } else { rest.to_owned() };
    let named = rest.contains('@') || kind.eq_ignore_ascii_case("rfc822");
    (named && !rest.is_empty() && rest.len() <= 320).then_some(rest)
}

/// An address of type `utf-8` with its `\x{HEX}` read (RFC 6533, section 3).
fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("\\x{") {
        out.push_str(before);
        // Six digits at most: looking further would cost the square of a value full of beginnings.
        let near = after.get(..after.floor_char_boundary(7)).unwrap_or(after);
        let read = near.split_once('}').and_then(|(hex, _)| {
            let code = u32::from_str_radix(hex, 16).ok()?;
            Some((char::from_u32(code)?, after.get(hex.len() + 1..)?))
        });
        rest = match read {
            Some((c, behind)) => {
                out.push(c);
                behind
            }
            None => {
                out.push_str("\\x{");
                after
            }
        };
    }
    out.push_str(rest);
    out
}

/// Reads a receipt (RFC 8098). The action is the disposition: `displayed`, `deleted`, `processed`, ..
pub(super) fn receipt(raw: &[u8]) -> Option<(ReportKind, Vec<Recipient>)> {
    let group = groups(raw).next()?;
    let disposition = group.text("Disposition")?;
    // `manual-action/MDN-sent-manually; displayed/modifier`
    let action = disposition.rsplit(';').next().unwrap_or_default().split(['/', ',']).next().unwrap_or_default();
    let address = address(&group.text("Final-Recipient").unwrap_or_default());
    let original = group.text("Original-Recipient").and_then(|value| self::address(&value));
    let recipient = address.or_else(|| original.clone()).map(|address| Recipient {
        address,
        original,
        action: first_word(action.trim()),
        ..Recipient::default()
    });
    Some((ReportKind::Read, recipient.into_iter().collect()))
}

/// Reads a complaint (RFC 5965). The action is its type: `abuse`, `opt-out`, `not-spam`, ..
pub(super) fn complaint(raw: &[u8]) -> Option<(ReportKind, Vec<Recipient>)> {
    let group = groups(raw).next()?;
    let action = first_word(&group.text("Feedback-Type")?);
    let named = group.all("Original-Rcpt-To").chain(group.all("Removal-Recipient")).chain(group.all("Final-Recipient"));
    let recipients = named.take(MOST_RECIPIENTS).filter_map(|field| {
        let text = field.text();
        let address = notice::addresses(&text).next()?.to_owned();
        Some(Recipient { address, action: action.clone(), ..Recipient::default() })
    });
    Some((ReportKind::Complaint, recipients.collect()))
}

/// The Message-ID that a part names as the original's.
pub(super) fn original_message_id(raw: &[u8]) -> Option<String> {
    const NAMES: [&str; 3] = ["Original-Message-ID", "X-Original-Message-ID", "Original-Envelope-Message-ID"];
    groups(raw)
        .take(MOST_RECIPIENTS)
        .find_map(|group| NAMES.iter().find_map(|name| group.text(name).and_then(|value| bare_id(&value))))
}
