//! Automatic mail: what wrote a mail, a person or a program, and whether we may answer it by program ourselves.
//!
//! RFC 3834 and common practice. The invariant: a mail may be answered only if every rule lets it through; the first
//! that does not is named, so that a log can say why nothing was sent. What needs counts over time (answers per address,
//! domain and mailbox) is not decided here.

mod subjects;
#[cfg(test)]
mod tests;

use std::fmt;

use super::fields::Fields;
use subjects::Told;

/// The header field in which gateways count their automatic answers: `X-Segue-Loop: <gateway id>;<count>`.
pub const LOOP_FIELD: &str = "X-Segue-Loop";
/// This gateway's id in [`LOOP_FIELD`] and `X-Loop`.
pub const GATEWAY: &str = "segue";
/// From this many `Received` fields on a mail is not answered.
pub const MOST_HOPS: usize = 30;
/// From this count in a [`LOOP_FIELD`] on a mail is not answered.
pub const MOST_LOOPS: u32 = 3;

/// What kind of writer a mail has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing says that it was not a person.
    Person,
    /// A program answered a mail.
    AutoReply,
    /// A program answered for somebody who is away.
    OutOfOffice,
    /// A report on the delivery of a mail (RFC 3464), or a notice of a mail server.
    Bounce,
    /// A report that a mail was shown or deleted (RFC 8098).
    Receipt,
    /// A report that a receiver called a mail unwanted (RFC 5965).
    Complaint,
    /// An answer to an invitation, made by a calendar (RFC 5546).
    Calendar,
    /// It came through a mailing list.
    List,
    /// The same mail went to many.
    Bulk,
    /// Another mail that a program began.
    Notification,
}

/// Why a mail gets no automatic answer. `Display` says it in words that follow "no automatic answer: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// The envelope's sender is empty, or there is none.
    NoReturnPath,
    /// The envelope's sender, or the sender, is one of our own addresses.
    OurOwn,
    /// Who sent it is not proven.
    NotTrusted,
    /// A field says it: the field and its value.
    Says(&'static str, String),
    /// A field is there that automatic mail has.
    Carries(&'static str),
    /// It is a report on another mail.
    Report,
    /// It is a calendar's answer.
    CalendarReply,
    /// Its subject is that of an automatic answer.
    Subject,
    /// The sender's local part is one that nobody reads.
    SystemSender,
    /// None of our addresses is in To or Cc.
    NotAddressed,
    /// It carries this many `Received` fields.
    Hops(usize),
    /// Gateways answered this many times already.
    Loops(u32),
}

impl fmt::Display for Silence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::NoReturnPath => out.write_str("its envelope names no sender"),
            Silence::OurOwn => out.write_str("it comes from one of our own addresses"),
            Silence::NotTrusted => out.write_str("its sender is not proven"),
            Silence::Says(field, value) => write!(out, "it carries {field}: {value}"),
            Silence::Carries(field) => write!(out, "it carries {field}"),
            Silence::Report => out.write_str("it is a report on another mail"),
            Silence::CalendarReply => out.write_str("it is a calendar's answer to an invitation"),
            Silence::Subject => out.write_str("its subject is that of an automatic answer"),
            Silence::SystemSender => out.write_str("nobody reads the address it comes from"),
            Silence::NotAddressed => out.write_str("none of our addresses is in To or Cc"),
            Silence::Hops(count) => write!(out, "it carries {count} Received fields"),
            Silence::Loops(count) => write!(out, "gateways answered {count} times in a row"),
        }
    }
}

/// What is known of a mail beside its header fields.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The subject, decoded; empty if there is none.
    pub subject: &'a str,
    /// The address in From, empty if there is not exactly one.
    pub from: &'a str,
    /// The envelope's sender if the transport told it, empty for the null sender. Without it `Return-Path` is read.
    pub envelope_sender: Option<&'a str>,
    /// The addresses in To and Cc.
    pub recipients: &'a [&'a str],
    /// Whether a part is a calendar's answer (`text/calendar; method=REPLY`).
    pub calendar_reply: bool,
    /// Whether who sent it is proven well enough to be answered.
    pub trusted: bool,
    /// Whether an address belongs to one of our mailboxes, whoever's.
    pub is_ours: &'a dyn Fn(&str) -> bool,
    /// This gateway's id, as it stands in [`LOOP_FIELD`] and `X-Loop`.
    pub gateway: &'a str,
}

/// What [`look`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auto {
    /// What kind of writer it has.
    pub kind: Kind,
    /// Whether it may be answered by program, or why not.
    pub may_answer: Result<(), Silence>,
    /// How many `Received` fields it carries.
    pub received_count: usize,
    /// The highest count of all [`LOOP_FIELD`] fields, whichever gateway wrote them. An answer carries one more.
    pub loops: u32,
    /// The highest count this gateway itself wrote.
    pub own_loops: u32,
}

/// Looks at a mail's header fields and says what wrote it and whether a program may answer.
pub fn look(fields: &Fields<'_>, around: &Around<'_>) -> Auto {
    let received_count = fields.all("Received").count();
    let (loops, own_loops) = loop_counts(fields, around.gateway);
    let told = subjects::told(around.subject);
    let may_answer = match silence(fields, around, told) {
        Some(why) => Err(why),
        None if received_count >= MOST_HOPS => Err(Silence::Hops(received_count)),
        None if loops >= MOST_LOOPS => Err(Silence::Loops(loops)),
        None => Ok(()),
    };
    Auto { kind: kind(fields, around, told), may_answer, received_count, loops, own_loops }
}

/// Whether this local part is one under which mail servers write their notices.
pub fn mail_server(local: &str) -> bool {
    const STEMS: [&str; 4] = ["mailerdaemon", "postmaster", "maildelivery", "sysadmin"];
    let plain = plain(local);
    STEMS.iter().any(|stem| plain.starts_with(stem))
}

/// Whether mail to this local part is never read by a person: mail servers, `no-reply` in several languages, senders of
/// bounces, list programs.
pub fn system_sender(local: &str) -> bool {
    const NAMES: [&str; 9] =
        ["root", "daemon", "nobody", "listserv", "majordomo", "mailman", "cron", "wwwdata", "autoresponder"];
    const STEMS: [&str; 10] = [
        "noreply",
        "donotreply",
        "dontreply",
        "nepasrepondre",
        "nichtantworten",
        "noresponder",
        "naoresponda",
        "nonrispondere",
        "nietantwoorden",
        "noresponse",
    ];
    let lower = local.trim().trim_matches('"').to_lowercase();
    let base = lower.split(['+', '=']).next().unwrap_or_default();
    let plain = plain(local);
    let word = base.split(['-', '.', '_']).next().unwrap_or_default();
    (mail_server(local) && !plain.starts_with("sysadmin"))
        || NAMES.contains(&plain.as_str())
        || STEMS.iter().any(|stem| plain.starts_with(stem) || plain.ends_with(stem))
        || matches!(word, "bounce" | "bounces")
        || base.starts_with("owner-")
        || ["-request", "-owner", "-bounces", "-bounce"].iter().any(|end| base.ends_with(end))
}

/// A local part in lower case without dots, dashes and what a `+` or `=` adds.
fn plain(local: &str) -> String {
    let lower = local.trim().trim_matches('"').to_lowercase();
    let base = lower.split(['+', '=']).next().unwrap_or_default();
    base.chars().filter(|c| !matches!(c, '.' | '-' | '_')).collect()
}

/// The envelope's sender without its angle brackets, from the transport or from `Return-Path`.
fn envelope_sender<'a>(fields: &Fields<'_>, around: &Around<'a>) -> Option<std::borrow::Cow<'a, str>> {
    if let Some(told) = around.envelope_sender {
        return Some(told.trim().trim_matches(['<', '>']).into());
    }
    let text = fields.text("Return-Path")?;
    Some(text.trim().trim_start_matches('<').split('>').next().unwrap_or_default().trim().to_owned().into())
}

fn local_part(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(local, _)| local)
}

/// The value up to a comment or parameter, in lower case: `auto-generated (failure)` is `auto-generated`.
fn word(value: &str) -> String {
    value.split(['(', ';']).next().unwrap_or_default().trim().to_lowercase()
}

/// The kind of report that a `multipart/report` is, empty if it does not say.
fn report_type(fields: &Fields<'_>) -> Option<String> {
    let value = fields.text("Content-Type")?.to_lowercase();
    let rest = value.trim_start().strip_prefix("multipart/report")?;
    let told = rest.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "report-type").then(|| word(value.trim().trim_matches('"')))
    });
    Some(told.unwrap_or_default())
}

/// What `Auto-Submitted` says if it is not `no` (RFC 3834, section 5).
fn auto_submitted(fields: &Fields<'_>) -> Option<String> {
    fields.all("Auto-Submitted").map(|field| word(&field.text())).find(|said| !said.is_empty() && said != "no")
}

/// What `Precedence`, or the misspelled `Preference`, says of bulk, lists and answers.
fn precedence(fields: &Fields<'_>) -> Option<String> {
    fields
        .all("Precedence")
        .chain(fields.all("Preference"))
        .map(|field| word(&field.text()))
        .find(|said| matches!(said.as_str(), "bulk" | "junk" | "list" | "auto_reply" | "auto-reply"))
}

/// Fields that only programs that answer write.
const ANSWERING: [&str; 7] = [
    "X-Autoreply",
    "X-Autorespond",
    "X-Auto-Reply-From",
    "X-AutoReply-From",
    "X-Mail-Autoreply",
    "X-Autogenerated",
    "X-Autoresponder",
];
/// Fields of mailing lists (RFC 2369, RFC 2919).
const LIST: [&str; 7] =
    ["List-Id", "List-Unsubscribe", "List-Post", "List-Help", "List-Subscribe", "List-Archive", "List-Owner"];

/// The first of `names` that is there and does not say `no`.
fn carries(fields: &Fields<'_>, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| fields.all(name).any(|field| word(&field.text()) != "no"))
}

/// What `X-Auto-Response-Suppress` forbids, if automatic answers are among it.
fn suppressed(fields: &Fields<'_>) -> Option<String> {
    let says = |word: &str| ["all", "autoreply", "oof"].contains(&word.trim().to_lowercase().as_str());
    let field = fields.all("X-Auto-Response-Suppress").find(|field| field.text().split([',', ';', ' ']).any(says));
    field.map(|field| field.text().into_owned())
}

/// The rule that forbids an answer, but for those on counts.
fn silence(fields: &Fields<'_>, around: &Around<'_>, told: Option<Told>) -> Option<Silence> {
    let sender = envelope_sender(fields, around).unwrap_or_default();
    if sender.is_empty() {
        return Some(Silence::NoReturnPath);
    }
    if (around.is_ours)(&sender) || (around.is_ours)(around.from) {
        return Some(Silence::OurOwn);
    }
    if !around.trusted {
        return Some(Silence::NotTrusted);
    }
    if let Some(why) = said_by_fields(fields, around) {
        return Some(why);
    }
    if report_type(fields).is_some() {
        return Some(Silence::Report);
    }
    if around.calendar_reply {
        return Some(Silence::CalendarReply);
    }
    if told.is_some() {
        return Some(Silence::Subject);
    }
    if around.from.is_empty() || system_sender(local_part(around.from)) || system_sender(local_part(&sender)) {
        return Some(Silence::SystemSender);
    }
    let addressed = around.recipients.iter().any(|address| (around.is_ours)(address));
    (!addressed).then_some(Silence::NotAddressed)
}

/// The header field that forbids an answer.
fn said_by_fields(fields: &Fields<'_>, around: &Around<'_>) -> Option<Silence> {
    let says = |field, value: String| Some(Silence::Says(field, short(&value)));
    if let Some(value) = auto_submitted(fields) {
        return says("Auto-Submitted", value);
    }
    if let Some(value) = precedence(fields) {
        return says("Precedence", value);
    }
    if let Some(value) = suppressed(fields) {
        return says("X-Auto-Response-Suppress", value);
    }
    let ours = |value: &str| value.eq_ignore_ascii_case(around.gateway) || (around.is_ours)(value);
    if fields.all("X-Loop").any(|field| ours(&field.text())) {
        return Some(Silence::Carries("our own X-Loop"));
    }
    let more = ["Feedback-ID", "X-Failed-Recipients"];
    carries(fields, &LIST)
        .or_else(|| carries(fields, &ANSWERING))
        .or_else(|| carries(fields, &more))
        .map(Silence::Carries)
}

/// What wrote the mail, the surest signs first.
fn kind(fields: &Fields<'_>, around: &Around<'_>, told: Option<Told>) -> Kind {
    match report_type(fields).as_deref() {
        Some("disposition-notification") => return Kind::Receipt,
        Some("feedback-report") => return Kind::Complaint,
        Some(_) => return Kind::Bounce,
        None => {}
    }
    let submitted = auto_submitted(fields);
    let null_sender = envelope_sender(fields, around).is_some_and(|sender| sender.is_empty());
    let from_system = system_sender(local_part(around.from));
    // People read and write as `postmaster`, none as `mailer-daemon`.
    let local = local_part(around.from);
    let from_server = plain(local).starts_with("mailerdaemon") || (null_sender && mail_server(local));
    if fields.first("X-Failed-Recipients").is_some() || (from_server && told.is_none()) {
        return Kind::Bounce;
    }
    if around.calendar_reply {
        return Kind::Calendar;
    }
    let precedence = precedence(fields);
    let answered = submitted.as_deref() == Some("auto-replied")
        || matches!(precedence.as_deref(), Some("auto_reply" | "auto-reply"))
        || carries(fields, &ANSWERING).is_some();
    match (told, answered) {
        (Some(Told::Away), _) => return Kind::OutOfOffice,
        (Some(Told::Answer), _) | (None, true) => return Kind::AutoReply,
        (None, false) => {}
    }
    if precedence.as_deref() == Some("list") || carries(fields, &["List-Id", "List-Post"]).is_some() {
        return Kind::List;
    }
    if precedence.is_some() || carries(fields, &LIST).is_some() || carries(fields, &["Feedback-ID"]).is_some() {
        return Kind::Bulk;
    }
    if submitted.is_some() || null_sender || from_system { Kind::Notification } else { Kind::Person }
}

/// The highest count of all loop fields, and of those `gateway` wrote. A field that cannot be read counts as one.
fn loop_counts(fields: &Fields<'_>, gateway: &str) -> (u32, u32) {
    let (mut any, mut own) = (0, 0);
    for field in fields.all(LOOP_FIELD) {
        let text = field.text();
        let (id, count) = text.split_once(';').unwrap_or((&text, "1"));
        let count = count.trim().parse().unwrap_or(1);
        any = any.max(count);
        if id.trim().eq_ignore_ascii_case(gateway) {
            own = own.max(count);
        }
    }
    (any, own)
}

/// A value as a log may show it: no control characters, at most 60 characters.
fn short(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(60).collect()
}
