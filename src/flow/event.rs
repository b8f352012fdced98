//! Writing an event: once, in the form in which feed, stream and help desks receive it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::draft::{ConversationAt, Draft};
use crate::base::Timestamp;
use crate::base::id::{ConversationId, EventId};
use crate::model::Delivery;
use crate::model::event::{EventConversation, PolicyFailure, TYPE_PREFIX};
use crate::model::{Customer, EventType, Interaction};
use crate::store::EventWrite;

/// The size that an event does not pass; what is left out is told in `more`.
const MOST_BYTES: usize = 20_000;
/// How much of a text stays in an event that had to be cut.
const CUT_TEXT: usize = 4_000;

/// [`crate::model::Event`] as it is written: parts that are JSON already are not built again.
#[derive(Serialize)]
struct Written<'a> {
    specversion: &'static str,
    id: EventId,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: ConversationId,
    time: Timestamp,
    datacontenttype: &'static str,
    dataschema: &'static str,
    partitionkey: ConversationId,
    sequence: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction: Option<&'a RawValue>,
    conversation: EventConversation,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a Customer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<&'a Delivery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a PolicyFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<String>,
}

/// What an event tells beside its conversation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told<'a> {
    /// The interaction, and the same as JSON.
    pub(crate) interaction: Option<(&'a Interaction, &'a RawValue)>,
    pub(crate) customer: Option<&'a Customer>,
    pub(crate) decision: Option<&'a RawValue>,
    pub(crate) delivery: Option<&'a Delivery>,
    /// With what result a story was closed.
    pub(crate) disposition: Option<&'a str>,
    /// How the policy failed.
    pub(crate) failure: Option<&'a PolicyFailure>,
}

/// Adds an event about a conversation to the draft.
pub(crate) fn emit(draft: &mut Draft<'_>, at: ConversationAt, kind: EventType, told: &Told<'_>) {
    let id = draft.event_id();
    draft.change(at, |row| row.event_seq += 1);
    let Some(row) = draft.conversation(at) else { return };
    let write = |told: &Told<'_>, more: Option<String>| {
        let written = Written {
            specversion: "1.0",
            id,
            source: &draft.setup.source,
            kind: format!("{TYPE_PREFIX}{}.v1", kind.name()),
            subject: row.id,
            time: draft.entry.at,
            datacontenttype: "application/json",
            dataschema: "https://segue.dev/schemas/event-data.v1.json",
            partitionkey: row.id,
            sequence: format!("{:012}", row.event_seq),
            data: Data {
                interaction: told.interaction.map(|(_, json)| json),
                conversation: EventConversation {
                    id: row.id,
                    seq: row.seq.max(0) as u64,
                    state: row.state,
                    queue: row.queue.clone(),
                    owner: row.owner.clone(),
                    links: row.links.clone(),
                },
                customer: told.customer,
                decision: told.decision,
                delivery: told.delivery,
                disposition: told.disposition,
                failure: told.failure,
                more,
            },
        };
        serde_json::to_vec(&written).unwrap_or_default()
    };
    let mut body = write(told, None);
    if body.len() > MOST_BYTES
        && let Some((interaction, _)) = told.interaction
        && let Ok(json) = serde_json::value::to_raw_value(&cut(interaction))
    {
        let more = interaction.id.map(|id| format!("/v1/interactions/{id}"));
        let cut = Told { interaction: Some((interaction, &json)), ..*told };
        body = write(&cut, more);
    }
    let event = EventWrite {
        id,
        kind,
        conversation: row.no,
        channel: draft.entry.channel.clone(),
        at: draft.entry.at,
        body: Bytes::from(body),
    };
    draft.set.events.push(event);
}

/// The interaction without its bulk.
fn cut(interaction: &Interaction) -> Interaction {
    let mut cut = interaction.clone();
    // Where what is new is known, it says more than the whole.
    if let Some(new) = &mut cut.text_new {
        shorten(new.expose_mut(), CUT_TEXT);
        shorten(cut.text.expose_mut(), CUT_TEXT / 4);
    }
    shorten(cut.text.expose_mut(), CUT_TEXT);
    cut.context = None;
    cut.recipients.truncate(10);
    if let Some(answered) = &mut cut.reply_to {
        answered.message_ids.truncate(5);
    }
    if let Some(mail) = &mut cut.mail {
        for list in [&mut mail.from, &mut mail.sender, &mut mail.reply_to, &mut mail.to, &mut mail.cc] {
            list.truncate(3);
        }
        mail.in_reply_to.truncate(5);
        mail.references.truncate(5);
        if let Some(report) = &mut mail.report {
            report.recipients.truncate(5);
            if let Some(said) = &mut report.diagnostic {
                shorten(said.expose_mut(), 400);
            }
        }
    }
    cut.parts.truncate(10);
    for part in &mut cut.parts {
        part.data = None;
        if let Some(text) = &mut part.text {
            shorten(text.expose_mut(), 400);
        }
    }
    cut
}

/// Cuts a text to at most `most` bytes at a character's edge.
pub(crate) fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Pii;
    use crate::model::interaction::{Recipient, RecipientRole, ReplyTo};
    use crate::model::mail::MailReport;
    use crate::model::{ChannelKind, Identifier, Mail, MailAddress, Part, PartType};

    #[test]
    fn the_largest_mail_leaves_room_for_the_rest_of_its_event() {
        let long = "x".repeat(120);
        let address = MailAddress { name: Some(Pii::new(long.clone())), email: Pii::new(long.clone()) };
        let addresses = || vec![address.clone(); 100];
        let mut ix = Interaction::blank(ChannelKind::Email, "c", "a");
        ix.text = Pii::new("long ".repeat(100_000));
        ix.text_new = Some(Pii::new("new ".repeat(10_000)));
        let recipient = Recipient { role: RecipientRole::Cc, identifier: Identifier::new("mailto", long.clone()) };
        ix.recipients = vec![recipient; 256];
        ix.reply_to = Some(ReplyTo { message_ids: vec![long.clone(); 41], ..ReplyTo::default() });
        ix.parts = vec![Part { text: Some(Pii::new("y".repeat(500_000))), ..Part::new(PartType::Html) }; 30];
        ix.mail = Some(Box::new(Mail {
            from: addresses(),
            to: addresses(),
            cc: addresses(),
            references: vec![long.clone(); 41],
            in_reply_to: vec![long.clone(); 41],
            report: Some(MailReport {
                recipients: vec![Pii::new("r".repeat(320)); 100],
                diagnostic: Some(Pii::new("d".repeat(1000))),
                state: None,
                kind: "failed".to_owned(),
                message_id: Some(long.clone()),
                status: None,
            }),
            ..Mail::default()
        }));
        let cut = cut(&ix);
        let bytes = serde_json::to_vec(&cut).unwrap().len();
        assert!(bytes < MOST_BYTES * 9 / 10, "{bytes}");
        assert!(cut.text_new.is_some_and(|new| new.expose().starts_with("new ") && new.expose().len() == CUT_TEXT));
    }
}
