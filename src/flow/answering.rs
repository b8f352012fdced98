//! Planning what we say to a customer: the outbound interaction in the story, and the send that carries it.
//!
//! Used by the policy's replies and by agents' answers alike, so that both leave by the same way.

use std::collections::HashMap;

use super::arise::announce;
use super::commit::{place, raw, write};
use super::draft::{ConversationAt, Draft};
use super::event::{Told, emit};
use super::mail_counts;
use super::messages::read;
use super::{ChannelSetup, Setup};
use crate::base::hash::key16;
use crate::base::{Error, Kind, Pii, Result, Timestamp};
use crate::model::Delivery;
use crate::model::decision::PolicyReply;
use crate::model::entry::{PlannedSend, ReplyMessage};
use crate::model::interaction::{Recipient, RecipientRole, ReplyTo};
use crate::model::{
    DeliveryState, Direction, EventType, Flag, Interaction, Mail, MailAddress, MailLevel, Outbound, OutboundMail, Part,
    Role, Trust, Visibility,
};
use crate::rules::{mail_thread, template};
use crate::store::{InteractionRow, Most, SendWrite};

/// Who speaks.
pub(crate) enum Speaker {
    /// One of our people.
    Agent(Option<String>),
    /// The policy.
    Bot,
}

/// How far back the customer's latest message is looked for.
const LOOK_BACK: usize = 50;

/// The customer's interaction that an answer goes to: the one named, else the latest on a channel that can be answered
/// (a call cannot).
pub(crate) async fn target(
    draft: &Draft<'_>,
    setup: &Setup,
    conversation: ConversationAt,
    message: &ReplyMessage,
) -> Result<(InteractionRow, Interaction)> {
    let no = draft.conversation(conversation).map_or(0, |row| row.no);
    if let Some(id) = message.in_reply_to {
        let row = draft.state.interaction_by_id(id).await?.filter(|row| row.conversation == no);
        let row = row.ok_or_else(|| refused("`in_reply_to` names no interaction of this conversation"))?;
        let interaction = read(&row)?;
        return match interaction.direction {
            Direction::Inbound => Ok((row, interaction)),
            _ => Err(refused("`in_reply_to` names something that the customer did not say")),
        };
    }
    let found = look_back(draft, conversation, LOOK_BACK, |row, interaction| {
        let name = interaction.channel.name.as_deref().unwrap_or_default();
        let channel = setup.channels.get(name).filter(|channel| channel.connector.can_send(&channel.account));
        let answerable = channel.is_some_and(|channel| {
            interaction.author.identifier.is_some() || (message.public && reaches_thread(channel, &interaction))
        });
        (interaction.direction == Direction::Inbound && answerable).then_some((row, interaction))
    });
    found.await?.ok_or_else(|| refused("the customer has said nothing lately on a channel that can be answered"))
}

/// Shows `look` the latest interactions of a story, at most so many of them, until it finds something. They are read as
/// they are needed: a few large mails are a lot of memory.
pub(crate) async fn look_back<T>(
    draft: &Draft<'_>,
    conversation: ConversationAt,
    most: usize,
    mut look: impl FnMut(InteractionRow, Interaction) -> Option<T>,
) -> Result<Option<T>> {
    const BYTES: usize = 256 * 1024;
    let no = draft.conversation(conversation).map_or(0, |row| row.no);
    let (mut before, mut left, mut more) = (i64::MAX, most, true);
    while more && left > 0 {
        let stretch = draft.state.timeline(no, before, Most { rows: left, bytes: BYTES }).await?;
        left -= stretch.rows.len().min(left);
        more = stretch.more;
        for row in stretch.rows {
            before = row.seq;
            let interaction = read(&row)?;
            if let Some(found) = look(row, interaction) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Whether a public answer to `to` needs nothing but where it was said.
fn reaches_thread(channel: &ChannelSetup, to: &Interaction) -> bool {
    channel.connector.capabilities().public_to_thread
        && to.visibility == Visibility::Public
        && (to.thread_id.is_some() || to.channel.provider_id.is_some())
}

fn refused(reason: &'static str) -> Error {
    Error::new(Kind::Conflict, reason).with_retry(crate::base::Retry::Never)
}

/// Plans an answer to `to`. The channel's capabilities decide whether it can be sent at all.
pub(crate) async fn plan(
    draft: &mut Draft<'_>,
    setup: &Setup,
    conversation: ConversationAt,
    to: &Interaction,
    message: &ReplyMessage,
    speaker: Speaker,
) -> Result<Interaction> {
    let name = to.channel.name.as_deref().unwrap_or_default();
    let channel = setup.channels.get(name).ok_or_else(|| refused("the channel of this message is not configured"))?;
    if message.text.as_ref().is_none_or(|t| t.expose().trim().is_empty()) && message.parts.is_empty() {
        return Err(Error::invalid("a reply needs `text` or `parts`"));
    }
    if to.reply_until.is_some_and(|until| until < draft.now()) {
        return Err(refused("the provider's reply window is over; the customer must write first"));
    }
    let public = message.public && to.visibility == Visibility::Public;
    let to_thread = public && reaches_thread(channel, to);
    if to.author.identifier.is_none() && !to_thread {
        return Err(refused(match (reaches_thread(channel, to), to.visibility) {
            (true, Visibility::Public) => "the sender is anonymous; only a public answer reaches them: `public`: true",
            _ => "the sender is anonymous",
        }));
    }
    let customer_no = draft.conversation(conversation).map_or(0, |row| row.customer);
    let customer = draft.customer_by_no(customer_no).await?.ok_or_else(|| Error::internal("a customer is missing"))?;
    let outbound = Outbound {
        id: draft.send_id(),
        channel: name.to_owned(),
        account: to.channel.account.clone(),
        to: to.author.identifier.clone(),
        thread_id: to.thread_id.clone(),
        reply_to: to.channel.provider_id.clone(),
        public,
        text: message.text.clone(),
        parts: message.parts.clone(),
        mail: mail_of(draft, conversation, to, (channel, &speaker)).map(Box::new),
    };
    // What cannot be rendered is refused now, to the one who asks, and not later, to nobody.
    channel.connector.render(&outbound, &channel.account)?;
    let mut interaction = shown(&outbound, to, speaker, draft);
    place(draft, customer, conversation, &mut interaction);
    let body = raw(&interaction)?;
    let told = Told { interaction: Some((&interaction, &body)), ..Told::default() };
    match interaction.author.role {
        // Rules are not asked about what rules said: an answer to it would be answered for ever.
        Role::Bot => emit(draft, conversation, EventType::InteractionSent, &told),
        _ => announce(draft, conversation, EventType::InteractionSent, &told).await?,
    }
    write(draft, customer, conversation, None, &interaction, &body, None)?;
    let id = interaction.id.ok_or_else(|| Error::internal("an interaction was not placed"))?;
    let send = SendWrite {
        planned: PlannedSend { message: outbound, interaction: id },
        conversation: draft.conversation(conversation).map_or(0, |row| row.no),
        at: draft.now(),
    };
    draft.set.sends.push(send);
    Ok(interaction)
}

/// Sends an answer that a rule asked for, unless it was sent lately or the sender is nobody we may answer unasked.
pub(crate) async fn policy_reply(
    draft: &mut Draft<'_>,
    conversation: ConversationAt,
    to: &Interaction,
    reply: &PolicyReply,
) -> Result<()> {
    if to.author.trust < Trust::Claimed || to.author.identifier.is_none() {
        return Ok(());
    }
    if to.mail.as_ref().is_some_and(|mail| mail.no_auto_answer.is_some()) {
        // Why is in the interaction, with what its sender wrote.
        tracing::info!(target: "segue::decide", entry = %draft.entry.id, "no automatic answer to a mail that wants none");
        return Ok(());
    }
    if to.mail.is_some() && comes_from_us(&draft.setup.channels, to) {
        tracing::info!(target: "segue::decide", entry = %draft.entry.id, "no automatic answer to a channel of ours");
        return Ok(());
    }
    let once = match reply.once_per_seconds {
        None => None,
        Some(seconds) => match once(draft, conversation, reply, seconds).await? {
            None => return Ok(()),
            key => key,
        },
    };
    if to.mail.is_some()
        && let Some(why) = mail_counts::answer(draft, to).await?
    {
        tracing::info!(target: "segue::decide", entry = %draft.entry.id, %why, "no automatic answer");
        return Ok(());
    }
    // What a limit held back was not sent, and counts for nothing.
    draft.set.sides.extend(once.map(|key| (key, draft.now())));
    let setup = draft.setup;
    let text = setup.templates.get(&reply.template).map_or(reply.template.as_str(), String::as_str);
    let message = ReplyMessage {
        text: Some(Pii::new(template::fill(text, &reply.vars))),
        parts: Vec::new(),
        in_reply_to: to.id,
        public: false,
    };
    let planned = plan(draft, setup, conversation, to, &message, Speaker::Bot).await;
    if let Err(error) = planned {
        tracing::warn!(target: "segue::decide", entry = %draft.entry.id, error = %error, "a rule's reply cannot be sent");
    }
    Ok(())
}

/// Under which it is noted when a rule's reply was sent to the customer; nothing if that was less than `seconds` ago.
async fn once(
    draft: &mut Draft<'_>,
    conversation: ConversationAt,
    reply: &PolicyReply,
    seconds: u64,
) -> Result<Option<[u8; 16]>> {
    let no = draft.conversation(conversation).map_or(0, |row| row.customer);
    let customer = draft.customer_by_no(no).await?.and_then(|at| draft.customer(at)).map(|row| row.id);
    let customer = customer.ok_or_else(|| Error::internal("a customer is missing"))?;
    let key = key16(&[b"once", customer.as_bytes(), reply.template.as_bytes()]);
    let since = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let lately = |at: Timestamp| draft.now().since(at) < since;
    let sent = draft.state.side(key).await?.is_some_and(|side| lately(side.at));
    Ok((!sent).then_some(key))
}

/// Whether a mail's author is an address of any channel of ours: two of them would answer each other.
fn comes_from_us(channels: &HashMap<String, ChannelSetup>, mail: &Interaction) -> bool {
    let Some(author) = &mail.author.identifier else { return false };
    let mut mailboxes = channels.values().filter(|channel| channel.connector.brings_mails());
    mailboxes.any(|channel| channel.account.has_mail_address(author.value.expose()))
}

/// What an answer to a mail has beside its text.
fn mail_of(
    draft: &Draft<'_>,
    at: ConversationAt,
    to: &Interaction,
    (channel, speaker): (&ChannelSetup, &Speaker),
) -> Option<OutboundMail> {
    let answered = to.mail.as_ref()?;
    let automatic = matches!(speaker, Speaker::Bot);
    let subject = match to.subject.as_ref() {
        // Nobody can have a program of ours say their words to others.
        _ if automatic => Some(channel.account.automatic_subject()),
        subject => subject.map(|subject| mail_thread::answering(subject.expose())),
    };
    Some(OutboundMail {
        conversation: draft.conversation(at)?.id,
        at: draft.now(),
        subject: subject.map(Pii::new),
        in_reply_to: answered.message_id.clone(),
        references: answered.references.iter().chain(&answered.message_id).cloned().collect(),
        automatic,
        loops: if automatic { answered.loops.saturating_add(1) } else { 0 },
    })
}

/// The outbound interaction of a message.
fn shown(outbound: &Outbound, to: &Interaction, speaker: Speaker, draft: &Draft<'_>) -> Interaction {
    let mut shown = Interaction::blank(to.channel.kind, &to.channel.connector, &to.channel.account);
    shown.channel.name.clone_from(&to.channel.name);
    shown.thread_id.clone_from(&to.thread_id);
    shown.direction = Direction::Outbound;
    shown.visibility = if outbound.public { Visibility::Public } else { Visibility::Private };
    shown.author.trust = Trust::Asserted;
    match speaker {
        Speaker::Agent(agent) => {
            shown.author.role = Role::Agent;
            shown.author.agent_id = agent;
        }
        Speaker::Bot => {
            shown.author.role = Role::Bot;
            shown.flags.insert(Flag::Automated);
        }
    }
    let recipients = outbound.to.iter().map(|to| Recipient { role: RecipientRole::To, identifier: to.clone() });
    shown.recipients.extend(recipients);
    shown.reply_to =
        Some(ReplyTo { interaction_id: to.id, provider_id: to.channel.provider_id.clone(), message_ids: Vec::new() });
    if let Some(mail) = &outbound.mail {
        let address = |one: &Pii<String>| vec![MailAddress::bare(one.clone())];
        shown.subject.clone_from(&mail.subject);
        shown.mail = Some(Box::new(Mail {
            in_reply_to: mail.in_reply_to.iter().cloned().collect(),
            references: mail.references.clone(),
            from: address(&Pii::new(outbound.account.clone())),
            to: outbound.to.iter().flat_map(|to| address(&to.value)).collect(),
            auto_submitted: mail.automatic.then(|| "auto-replied".to_owned()),
            level: MailLevel::Verified,
            ..Mail::default()
        }));
    }
    shown.text = outbound.text.clone().unwrap_or_else(|| Pii::new(describe(outbound)));
    shown.parts = outbound.text.iter().map(|text| Part::text(text.expose().clone())).collect();
    shown.parts.extend(outbound.parts.iter().map(|part| {
        let blob = part.url.clone().map(|url| crate::model::Blob { url: Some(url), ..Default::default() });
        Part { text: part.text.clone(), blob, ..Part::new(part.kind) }
    }));
    shown.delivery = Some(Delivery { state: DeliveryState::Planned, at: draft.now(), error: None });
    shown
}

fn describe(outbound: &Outbound) -> String {
    let kinds = outbound.parts.iter().filter_map(|part| serde_json::to_value(part.kind).ok());
    let names: Vec<String> = kinds.filter_map(|kind| kind.as_str().map(|name| format!("[{name}]"))).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests;
