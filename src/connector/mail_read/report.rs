//! Of a mail: what it reports of one that was sent.

use crate::base::Pii;
use crate::mail::dsn;
use crate::mail::read::Opened;
use crate::model::DeliveryState;
use crate::model::mail::MailReport;

/// What it reports of a mail that was sent, if it is a report, and whether its words alone say so.
pub(super) fn read(opened: &Opened<'_>) -> Option<(MailReport, bool)> {
    let found = dsn::read(opened)?;
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
