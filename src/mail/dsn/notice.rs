//! The plain texts that mail servers write when they give a mail back, without a machine-readable part.
//!
//! The texts differ by server but share a shape: a notice, in it the recipients at the beginning of lines with the
//! reasons behind or below them, then a rule and the returned mail or its header. All looks at lines, each once.

use super::{MOST_DIAGNOSTIC, MOST_RECIPIENTS, Recipient, ReportKind, bare_id, status};
use crate::mail::auto;

/// The most lines of a notice that are looked at, up to the returned mail.
const MOST_LINES: usize = 400;

/// Words, in lower case, of which one stands in every bounce.
const DELIVERY: [&str; 66] = [
    "not be delivered",
    "could not deliver",
    "couldn't be delivered",
    "cannot be delivered",
    "can't be delivered",
    "not delivered",
    "wasn't delivered",
    "unable to deliver",
    "not able to deliver",
    "delivery failure",
    "delivery failed",
    "failed delivery",
    "failure delivery",
    "delivery has failed",
    "delivery problem",
    "delivery to the following",
    "delevery to the following",
    "delivery status",
    "delivery fail",
    "attempting to deliver",
    "trouble delivering",
    "undeliverable",
    "undelivered",
    "non-delivered",
    "not deliverable",
    "did not reach",
    "returned mail",
    "mail failed",
    "returned to sender",
    "returning to sender",
    "permanent fatal error",
    "permanent error",
    "failure notice",
    "user unknown",
    "unknown user",
    "no such user",
    "invalid user address",
    "bounce notification",
    "has been delayed",
    "is delayed",
    "delayed mail",
    "error sending your mail",
    "rejected recipient",
    "rcpt to:",
    "mailbox is full",
    "mailbox exceeds",
    "mailbox full",
    "invalid final delivery",
    "konnte nicht zugestellt",
    "nicht zustellbar",
    "unzustellbar",
    "n'a pas pu être remis",
    "non remis",
    "échec de la remise",
    "no se pudo entregar",
    "no se ha podido entregar",
    "impossibile recapitare",
    "mancato recapito",
    "não pôde ser entregue",
    "onbestelbaar",
    "niet worden bezorgd",
    "nie można dostarczyć",
    "kunde inte levereras",
    "配信できません",
    "无法送达",
    "退信",
];
/// Words of notices that are warnings only.
const DELAY: [&str; 9] = [
    "been delayed",
    "is delayed",
    "warning message only",
    "temporary failure report",
    "delivery delayed",
    "not yet been delivered",
    "(delay)",
    "will be retried",
    "noch nicht zugestellt",
];
/// Words that say it failed, whatever else is said.
const FAILED: [&str; 4] = ["failed permanently", "permanent error", "permanent failure", "permanent fatal"];

/// Whether a subject or a notice has words of delivery in it.
pub(super) fn speaks_of_delivery(subject: &str, text: &str) -> bool {
    has(subject, told(text), &DELIVERY)
}

fn has(subject: &str, notice: &str, words: &[&str]) -> bool {
    let lower: String = subject.chars().chain(" ".chars()).chain(notice.chars()).take(16 * 1024).collect();
    let lower = lower.to_lowercase().replace('\u{2019}', "'");
    // Words that a line's end tore apart are words all the same.
    let lower = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    words.iter().any(|one| lower.contains(one))
}

/// The notice without the returned mail.
pub(super) fn told(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n').take(MOST_LINES) {
        if begins_returned(line) {
            break;
        }
        end += line.len();
    }
    text.get(..end).unwrap_or(text)
}

/// What follows the notice.
fn returned(text: &str) -> &str {
    text.get(told(text).len()..).unwrap_or_default()
}

/// Whether the returned mail begins with or behind this line.
fn begins_returned(line: &str) -> bool {
    const FIELDS: [&str; 5] = ["received: ", "return-path: ", "dkim-signature: ", "message-id: ", "x-received: "];
    const WORDS: [&str; 9] = [
        "original message",
        "original mail",
        "returned message",
        "copy of the message",
        "copy of your message",
        "message text follows",
        "header of the original",
        "bounced e-mail",
        "message headers follow",
    ];
    if FIELDS.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))) {
        return true;
    }
    let line = line.trim();
    if line.len() > 120 {
        return false;
    }
    let lower = line.to_ascii_lowercase();
    let ruled = lower.starts_with(['-', '|', '=', '*', '#']) || lower.ends_with(':') || lower.contains("follow");
    ruled && WORDS.iter().any(|words| lower.contains(words))
}

/// Reads the recipients of a notice. `failed` is the value of `X-Failed-Recipients`; `ours` are the fields that say to
/// whom the notice went and from whom it came.
pub(super) fn read(subject: &str, text: &str, failed: &str, ours: &[impl AsRef<str>]) -> (ReportKind, Vec<Recipient>) {
    let notice = told(text);
    let delayed = has(subject, notice, &DELAY) && !has(subject, notice, &FAILED);
    let kind = if delayed { ReportKind::Delayed } else { ReportKind::Failed };
    let mut blocks = leading(notice);
    for named in addresses(failed).take(MOST_RECIPIENTS) {
        if !blocks.iter().any(|(address, _)| address.eq_ignore_ascii_case(named)) {
            blocks.push((named, ""));
        }
    }
    if blocks.is_empty() {
        blocks = mentioned(subject, notice, ours);
    }
    let whole = status::read(notice).or_else(|| status::read(subject));
    let reason_of_all = one_line(reason(notice), MOST_DIAGNOSTIC);
    let recipients = blocks.into_iter().take(MOST_RECIPIENTS).map(|(address, block)| {
        let told = status::read(block).or(whole);
        let alone = block.trim().is_empty();
        Recipient {
            address: address.to_owned(),
            original: None,
            action: if delayed { "delayed" } else { "failed" }.to_owned(),
            // A warning never has the class of a failure, whatever its words.
            status: told.map(|(class, subject, detail)| (if delayed { 4 } else { class }, subject, detail)),
            diagnostic: if alone { reason_of_all.clone() } else { one_line(reason(block), MOST_DIAGNOSTIC) },
            remote: None,
        }
    });
    (kind, recipients.collect())
}

/// The paragraph that tells a code, else words for one, else the first that tells anything.
fn reason(block: &str) -> &str {
    let split = || block.split("\n\n").flat_map(|part| part.split("\r\n\r\n"));
    let paragraphs = || split().filter(|part| !part.trim().is_empty());
    let by_code = || paragraphs().find(|part| status::enhanced(part).is_some());
    let by_reply = || paragraphs().find(|part| status::reply_class(part).is_some());
    let by_words = || paragraphs().find(|part| status::read(part).is_some());
    by_code().or_else(by_reply).or_else(by_words).or_else(|| paragraphs().next()).unwrap_or_default()
}

/// The addresses that begin lines, each with the text from there to the next one. Lines deeper than the first such line
/// belong to the recipient above them.
fn leading(notice: &str) -> Vec<(&str, &str)> {
    let mut starts: Vec<(usize, &str)> = Vec::new();
    let mut first_depth = None;
    let mut at = 0;
    for line in notice.split_inclusive('\n') {
        if let Some((depth, address)) = leading_address(line)
            && depth <= *first_depth.get_or_insert(depth)
            && !starts.iter().any(|(_, known)| known.eq_ignore_ascii_case(address))
            && starts.len() < MOST_RECIPIENTS
        {
            starts.push((at, address));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([notice.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|((start, address), end)| (*address, notice.get(*start..end).unwrap_or_default()))
        .collect()
}

/// The address at the beginning of a line, behind blanks and marks, with the depth of the blanks.
fn leading_address(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches([' ', '\t']);
    let depth = line.len() - text.len();
    let text = text.trim_start_matches(['<', '"', '*', '-', '>', ' ', '\'']);
    let address = addresses(text).next()?;
    let behind = text.strip_prefix(address)?;
    behind
        .chars()
        .next()
        .is_none_or(|c| c.is_whitespace() || matches!(c, '>' | '"' | '\'' | ':' | ',' | ';'))
        .then_some((depth, address))
}

/// The addresses of the first line that names another than `ours` and is not about the sender. The subject comes last.
fn mentioned<'t>(subject: &'t str, notice: &'t str, ours: &[impl AsRef<str>]) -> Vec<(&'t str, &'t str)> {
    const SENDER: [&str; 9] =
        ["from:", "mail from", "sender", "original sender", "return-path", "reply-to", "cc:", "to: ", "received:"];
    let own: Vec<&str> = ours.iter().flat_map(|value| addresses(value.as_ref())).take(MOST_RECIPIENTS).collect();
    let of = |line: &'t str| -> Vec<(&'t str, &'t str)> {
        let other = |address: &&str| !own.iter().any(|one| one.eq_ignore_ascii_case(address)) && !is_help(address);
        addresses(line).filter(other).take(MOST_RECIPIENTS).map(|address| (address, "")).collect()
    };
    let about_sender = |line: &str| {
        let lower = line.trim_start().to_ascii_lowercase();
        SENDER.iter().any(|word| lower.starts_with(word))
    };
    let lines = || notice.lines().chain([subject]);
    let spoken = lines().filter(|line| !about_sender(line)).map(of).find(|found| !found.is_empty());
    // A field `To:` in the notice is the last resort: some servers name the sender there.
    let addressed =
        || lines().filter(|line| line.trim_start().starts_with("To: ")).map(of).find(|found| !found.is_empty());
    spoken.or_else(addressed).unwrap_or_default()
}

/// Whether an address is one that notices name for questions.
fn is_help(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default();
    auto::system_sender(local)
        || ["abuse", "support", "helpdesk", "help"].iter().any(|one| local.eq_ignore_ascii_case(one))
}

/// The first address behind a line `To:` in what follows the notice.
pub(super) fn returned_to(text: &str) -> Option<String> {
    let to = |line: &str| line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("to:"));
    let line = returned(text).lines().take(MOST_LINES).find(|line| to(line))?;
    addresses(line).next().map(str::to_owned)
}

/// The Message-ID behind the notice, else anywhere in the text.
pub(super) fn message_id(text: &str) -> Option<String> {
    field_of(returned(text)).or_else(|| field_of(text))
}

/// The value of the first line `Message-ID:`, which may stand on the next line.
fn field_of(text: &str) -> Option<String> {
    const NAME: &str = "message-id:";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '\t', '>', '|']);
        let Some((name, value)) = line.split_at_checked(NAME.len()) else { continue };
        if !name.eq_ignore_ascii_case(NAME) {
            continue;
        }
        let value = if value.trim().is_empty() { lines.next().unwrap_or_default() } else { value };
        if let Some(id) = bare_id(value) {
            return Some(id);
        }
    }
    None
}

/// The addresses in a text, as far as they are written without quotes and comments.
pub(super) fn addresses(text: &str) -> impl Iterator<Item = &str> {
    let local = |c: char| c.is_alphanumeric() || "!#$%&*+/=?^_`{|}~.-".contains(c);
    let host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.split(move |c: char| !local(c) && c != '@').filter_map(move |run| {
        let (name, domain) = run.split_once('@')?;
        let name_start = name.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_').len();
        let domain_end = domain.find(|c: char| !host(c)).unwrap_or(domain.len());
        let domain = domain.get(..domain_end)?.trim_end_matches(['.', '-', '_']);
        let start = name.len() - name_start;
        let address = run.get(start..name.len() + 1 + domain.len())?;
        (name_start > 0 && domain.len() > 1 && address.len() <= 320).then_some(address)
    })
}

/// A text in one line, runs of blanks as one blank, cut at `most` bytes.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if out.len() + 1 + word.len() > most {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}
