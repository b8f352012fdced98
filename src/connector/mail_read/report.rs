//! Of a mail: what it reports of one that was sent.
//!
//! The invariant: the work is bounded, and a report is read whatever the size of the mail that it returns.

use crate::base::Pii;
use crate::mail::dsn;
use crate::mail::read::{Flag, Mail, Opened};
use crate::model::DeliveryState;
use crate::model::mail::MailReport;

/// What it reports of a mail that was sent, if it is a report, and whether its words alone say so.
pub(super) fn read(mail: &Mail, opened: &Opened<'_>) -> Option<(MailReport, bool)> {
    const PARTS_MOST: usize = 50;
    if mail.parts.len() > PARTS_MOST || mail.flags.contains(&Flag::TooDeep) {
        return None;
    }
    // Another parser reads these, one that a large mail can make slow.
    let raw = opened.beginnings();
    // A lone CR ends a line in mails of old programs.
    let lines = match raw.contains(&b'\n') {
        true => raw,
        false => raw.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }).collect(),
    };
    let found = dsn::read(&mail_parser::MessageParser::default().parse(&lines)?)?;
    let first = found.recipients.first();
    let (kind, state) = match found.kind {
        dsn::ReportKind::Failed => ("failed", Some(DeliveryState::Failed)),
        dsn::ReportKind::Delayed => ("delayed", None),
        dsn::ReportKind::Delivered => ("delivered", Some(DeliveryState::Delivered)),
        dsn::ReportKind::Relayed => ("relayed", None),
        dsn::ReportKind::Expanded => ("expanded", None),
        dsn::ReportKind::Complaint => ("complaint", None),
        dsn::ReportKind::Read => ("read", Some(DeliveryState::Read)),
    };
    let status = first
        .and_then(|recipient| recipient.status)
        .map(|(class, subject, detail)| format!("{class}.{subject}.{detail}"));
    let report = MailReport {
        state,
        kind: kind.to_owned(),
        message_id: found.original_message_id.clone(),
        recipients: found.recipients.iter().map(|recipient| Pii::new(recipient.address.clone())).collect(),
        status,
        diagnostic: first
            .map(|recipient| Pii::new(recipient.diagnostic.clone()))
            .filter(|said| !said.expose().is_empty()),
    };
    Some((report, found.by_words))
}
