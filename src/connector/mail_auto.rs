//! What wrote a mail that came in, a person or a program, and whether a program may answer it.
//!
//! The rules are [`crate::mail::auto`]'s; here stands what they want to know of the account and of the mail's parts. The
//! invariant: a mail of which anything says that a program wrote it gets no automatic answer.

use super::Account;
use crate::mail::attachment::Kind;
use crate::mail::auto::{self, Around, Auto};
use crate::mail::calendar;
use crate::mail::fields::Fields;
use crate::mail::read::{Mail, Opened};
use crate::model::MailLevel;
use crate::model::entry::MailHead;

/// Looks at a mail whose sender is known as far as `level` says.
pub(super) fn look(
    mail: &Mail,
    opened: &Opened<'_>,
    (fields, level): (&Fields<'_>, MailLevel),
    head: &MailHead,
    account: &Account,
) -> Auto {
    let recipients: Vec<&str> = mail.to.iter().chain(&mail.cc).map(|address| address.email.as_str()).collect();
    let is_ours = |address: &str| account.has_mail_address(address);
    auto::look(
        fields,
        &Around {
            subject: &mail.subject,
            from: if let [from] = mail.from.as_slice() { &from.email } else { "" },
            envelope_sender: head.envelope_from.as_deref(),
            recipients: &recipients,
            calendar_reply: answers_invitation(mail, opened),
            trusted: level >= MailLevel::Authenticated,
            is_ours: &is_ours,
            gateway: auto::GATEWAY,
        },
    )
}

/// How many calendars of a mail are looked into: an answer has one.
const CALENDARS: usize = 4;

/// Whether a part of it is a calendar's answer to an invitation (RFC 5546, section 3.2.3): its field says so, or, where
/// programs leave that out, what is in it.
fn answers_invitation(mail: &Mail, opened: &Opened<'_>) -> bool {
    mail.parts.iter().filter(|part| part.kind == Kind::Calendar).take(CALENDARS).any(|part| {
        let inside = || calendar::read(&String::from_utf8_lossy(&opened.part_bytes(&part.index)?))?.method;
        part.calendar_reply || inside().as_deref() == Some("REPLY")
    })
}

#[cfg(test)]
pub(super) mod tests;
