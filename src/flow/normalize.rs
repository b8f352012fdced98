//! Stage 4: what a journaled request says, as items.
//!
//! Takes an entry, gives one outcome for every item in it. The connector's mapping does the work; here its outcomes get
//! the keys by which the later stages know them. What cannot be mapped is quarantined with its reason, never dropped.

use bytes::Bytes;

use super::journal::Journaled;
use super::lanes::Key;
use super::{ChannelSetup, Setup};
use crate::base::hash::key16;
use crate::connector::Request;
use crate::model::entry::{MailHead, MailSource, RequestHead};
use crate::model::{Direction, EntryKind, Identifier, Interaction, InteractionKind, ItemKey, Outcome, Receipt, Trust};
use crate::store::ThreadKey;

/// An interaction with the keys of its item and thread.
pub(crate) struct Item {
    pub(crate) interaction: Interaction,
    /// What makes it the same item whenever it comes again.
    pub(crate) key: ItemKey,
    /// The provider's thread, if it has one.
    pub(crate) thread: Option<ThreadKey>,
    /// Which state of the provider's thing it tells, as a hash.
    pub(crate) revision: u64,
}

/// What became of one item of an entry.
pub(crate) enum Normalized {
    Item(Box<Item>),
    Receipt(Box<Receipt>),
    Ignored(String),
    Quarantined(String),
}

/// The request of an entry, as the connector saw it when it came.
pub(crate) fn request(journaled: &Journaled) -> Option<(Request, RequestHead)> {
    let head: RequestHead = serde_json::from_slice(&journaled.entry().body.head).ok()?;
    let request = Request {
        method: head.method.clone(),
        url: head.url.clone(),
        headers: head.headers.clone(),
        body: journaled.entry().body.raw.clone(),
        signer: None,
    };
    Some((request, head))
}

/// The mail of an entry, byte for byte: all of it, or what stands in its request. Nothing if there is none, or none any more.
pub(crate) fn mail(channel: &ChannelSetup, journaled: &Journaled) -> Option<Bytes> {
    let raw = match journaled.entry().kind {
        EntryKind::Webhook => {
            let (request, _) = request(journaled)?;
            channel.connector.mail_in(&request, &channel.account)?.ok()?.raw
        }
        _ => journaled.entry().body.raw.clone(),
    };
    (!raw.is_empty()).then_some(raw)
}

/// Reads an entry. An entry whose channel is gone is quarantined, since it may come back.
pub(crate) fn step(setup: &Setup, journaled: &Journaled) -> Vec<Normalized> {
    let entry = journaled.entry();
    let Some(channel) = setup.channels.get(&entry.channel) else {
        return vec![Normalized::Quarantined(format!("channel `{}` is not configured any more", entry.channel))];
    };
    let Some((outcomes, verified_by)) = outcomes(channel, journaled) else {
        return vec![Normalized::Quarantined("the original was pruned".to_owned())];
    };
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Interaction(normalized) => {
                let mut interaction = normalized.interaction;
                interaction.received_at = Some(entry.at);
                interaction.channel.name = Some(entry.channel.clone());
                interaction.raw = Some(crate::model::interaction::Raw {
                    entry: entry.id.to_string(),
                    verified_by: verified_by.clone(),
                    connector_version: channel.connector.version().to_owned(),
                });
                Normalized::Item(Box::new(Item::new(interaction, &normalized.revision)))
            }
            Outcome::Receipt { receipt } => Normalized::Receipt(receipt),
            Outcome::Ignored { reason } => Normalized::Ignored(reason),
            Outcome::Quarantined { reason } => Normalized::Quarantined(reason),
        })
        .collect()
}

/// What the connector makes of an entry, and how its authenticity was checked; nothing if the original is gone.
fn outcomes(channel: &ChannelSetup, journaled: &Journaled) -> Option<(Vec<Outcome>, String)> {
    let entry = journaled.entry();
    let (connector, account) = (&channel.connector, &channel.account);
    if entry.kind == EntryKind::Mail {
        let head: MailHead = serde_json::from_slice(&entry.body.head).ok()?;
        let came_by = match head.source {
            MailSource::Imap => "imap",
            MailSource::Lmtp => "lmtp",
            MailSource::Webhook => "webhook",
        };
        return Some((connector.normalize_mail(&entry.body.raw, &head, account, entry.at), came_by.to_owned()));
    }
    let (request, head) = request(journaled)?;
    Some((connector.normalize_found(&request, head.sender.as_ref(), account, entry.at), head.verified_by))
}

impl Item {
    fn new(interaction: Interaction, revision: &str) -> Self {
        let channel = &interaction.channel;
        let provider_id = channel.provider_id.as_deref().unwrap_or_default();
        let [a, b, c, d, e, f, g, h, ..] = key16(&[revision.as_bytes()]);
        let told = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // All states of a call are one item: they fold into one interaction. Some callbacks do not name our number, so it
        // takes no part in the key; a provider's id of a call is its own everywhere.
        let call = interaction.kind == InteractionKind::Call;
        let (account, revision) = if call { ("", "") } else { (channel.account.as_str(), revision) };
        let key = ItemKey::of(&channel.connector, account, provider_id, interaction.kind, revision);
        // A mail belongs where its sender may put it: see `attach_mail`.
        let name = thread_name(&interaction).filter(|_| interaction.mail.is_none());
        let thread = name.map(|name| ThreadKey::of(&channel.connector, &channel.account, &name));
        Item { interaction, key, thread, revision: told }
    }

    /// The same item for another try: applying may have to be done again after a conflict.
    pub(crate) fn copy(&self) -> Item {
        Item { interaction: self.interaction.clone(), key: self.key, thread: self.thread, revision: self.revision }
    }

    /// The trust of whoever is on the customer's side.
    pub(crate) fn customer_trust(&self) -> Trust {
        match self.interaction.direction {
            Direction::Inbound => self.interaction.author.trust,
            // We chose the addressee ourselves.
            Direction::Outbound | Direction::Internal => Trust::Claimed,
        }
    }

    /// The item that this one refers to (answers, edits, deletes), if it names one.
    pub(crate) fn target_item(&self) -> Option<ItemKey> {
        let target = self.interaction.reply_to.as_ref()?.provider_id.as_deref()?;
        let channel = &self.interaction.channel;
        Some(ItemKey::of(&channel.connector, &channel.account, target, InteractionKind::Message, ""))
    }
}

/// The provider's thread; where the channel has none it is the person, since one writes to us in one place.
fn thread_name(interaction: &Interaction) -> Option<String> {
    if let Some(thread) = &interaction.thread_id {
        return Some(thread.expose().clone());
    }
    other_side(interaction).map(|identifier| format!("{}:{}", identifier.kind.0, identifier.value.expose()))
}

fn other_side(interaction: &Interaction) -> Option<&Identifier> {
    match interaction.direction {
        Direction::Inbound => interaction.author.identifier.as_ref(),
        Direction::Outbound | Direction::Internal => interaction.addressed().map(|r| &r.identifier),
    }
}

/// The keys that order an entry among others: the call, the thread, the person, the message a receipt is for. The first
/// decides which node applies it: what many share comes first, so that one node orders it. A thread that is only the
/// person under another name is no key of its own.
pub(crate) fn lanes(outcomes: &[Normalized], journaled: &Journaled) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for outcome in outcomes {
        match outcome {
            Normalized::Item(item) => {
                let channel = &item.interaction.channel;
                let own = [channel.connector.as_bytes(), channel.account.as_bytes()];
                let [connector, account] = own;
                if item.interaction.kind == InteractionKind::Call {
                    keys.push(item.key.0);
                }
                keys.extend(item.thread.filter(|_| item.interaction.thread_id.is_some()).map(|thread| thread.0));
                if let Some(person) = other_side(&item.interaction) {
                    let person = [person.kind.0.as_bytes(), person.value.expose().as_bytes()].concat();
                    keys.push(key16(&[b"person", connector, account, &person]));
                }
            }
            Normalized::Receipt(receipt) => {
                let id = receipt.provider_id.as_deref().unwrap_or_default();
                keys.push(key16(&[
                    b"receipt",
                    receipt.connector.as_bytes(),
                    receipt.account.as_bytes(),
                    id.as_bytes(),
                ]));
            }
            Normalized::Ignored(_) | Normalized::Quarantined(_) => {}
        }
    }
    if keys.is_empty() {
        keys.push(*journaled.entry().id.as_bytes());
    }
    keys
}
