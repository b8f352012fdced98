//! Stage 6, for mails: which story a mail is part of, by what it refers to.
//!
//! What a mail refers to are its sender's words, so a reference leads to a story only if the same sender, proven, was part
//! of the mail it names; each such mail leaves the keys by which its sender's next ones find it. What strangers name is only
//! mentioned. [`crate::rules::mail_thread`] decides, and nothing else joins a mail to a story.

use super::draft::{ConversationAt, Draft};
use super::normalize::Item;
use crate::base::Result;
use crate::base::id::ConversationId;
use crate::model::mail::{Mail, MailAddress};
use crate::model::{ConversationState, Flag, Interaction, MailLevel};
use crate::rules::attach::REOPEN_WITHIN;
use crate::rules::mail_thread::{self, Named, Seen, Sender, Standing};
use crate::store::ThreadKey;

/// How many of the mails that one refers to are looked up.
const ASKED: usize = 12;
/// In how much of its words numbers of stories are looked for, in bytes.
const LOOKED_THROUGH: usize = 16 * 1024;

/// Where a mail belongs, as far as it goes by what it refers to.
#[derive(Default)]
pub(super) struct Placed {
    /// The story that it joins.
    pub(super) joins: Option<ConversationAt>,
    /// Stories that it names.
    pub(super) mentions: Vec<ConversationAt>,
}

/// Looks up what a mail refers to, and decides. `open`: the open stories of its customer.
pub(super) async fn place(
    draft: &mut Draft<'_>,
    item: &Item,
    open: &[ConversationAt],
    in_storm: bool,
) -> Result<Placed> {
    let ix = &item.interaction;
    let Some(mail) = &ix.mail else { return Ok(Placed::default()) };
    let sender = sender(ix);
    let mut found = Vec::new();
    let mut named = Named::default();
    if let Some(shown) = &mail.token
        && let Some(id) = shown.conversation_id
        && let Some(at) = draft.conversation_by_id(id).await?
    {
        named.token = seen(draft, &mut found, at, shown.of_sender);
    }
    named.graph = of_references(draft, ix, &sender, &mut found).await?;
    for id in quoted(ix) {
        if let Some(at) = draft.conversation_by_id(id).await? {
            named.quoted.extend(seen(draft, &mut found, at, false));
        }
    }
    if let Some(key) = subject_key(ix, &sender)
        && let Some(at) = draft.conversation_by_thread(key).await?
    {
        named.subject.extend(seen(draft, &mut found, at, true));
    }
    let mut own = open.iter().filter_map(|at| seen(draft, &mut found, *at, true));
    named.only = own.next().filter(|_| own.next().is_none());
    drop(own);
    if in_storm
        && let Some(key) = storm_key(ix, &sender)
        && let Some(at) = draft.conversation_by_thread(key).await?
    {
        named.storm = seen(draft, &mut found, at, true);
    }
    let from =
        Sender { level: mail.level, automatic: ix.flags.contains(&Flag::Automated), for_another: for_another(mail) };
    let story = |no: i64| found.iter().find(|(known, _)| *known == no).map(|(_, at)| *at);
    let decided = mail_thread::decide(&from, &named);
    Ok(Placed {
        joins: decided.joins.and_then(|joined| story(joined.conversation())),
        mentions: decided.mentions.into_iter().filter_map(story).collect(),
    })
}

/// The stories of the mails that it refers to.
async fn of_references(
    draft: &mut Draft<'_>,
    ix: &Interaction,
    sender: &str,
    found: &mut Vec<(i64, ConversationAt)>,
) -> Result<Vec<Seen>> {
    let mut graph = Vec::new();
    for id in referred(ix).take(ASKED) {
        let of_sender = draft.conversation_by_thread(key(ix, sender, id)).await?;
        let at = match of_sender {
            Some(at) => Some(at),
            None => draft.conversation_by_thread(key(ix, ANYBODY, id)).await?,
        };
        if let Some(at) = at {
            graph.extend(seen(draft, found, at, of_sender.is_some()));
        }
    }
    Ok(graph)
}

/// The numbers of stories that stand in its subject and in what is new of its words.
fn quoted(ix: &Interaction) -> Vec<ConversationId> {
    let text = ix.text_new.as_ref().unwrap_or(&ix.text).expose();
    let text = text.get(..text.floor_char_boundary(LOOKED_THROUGH)).unwrap_or(text);
    let subject = ix.subject.as_ref().map(|subject| subject.expose().as_str()).unwrap_or_default();
    let words = [subject, text].into_iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter_map(|word| word.parse().ok()).take(mail_thread::MOST_MENTIONED).collect()
}

/// Whether answers are to go to somebody who is none of its senders.
fn for_another(mail: &Mail) -> bool {
    let is_sender = |to: &MailAddress| mail.from.iter().any(|from| from.is_same(to));
    !mail.reply_to.is_empty() && !mail.reply_to.iter().any(is_sender)
}

/// Leaves what the next mails about this one are found by.
pub(super) async fn leave_keys(draft: &mut Draft<'_>, ix: &Interaction, at: ConversationAt) -> Result<()> {
    let Some(mail) = &ix.mail else { return Ok(()) };
    let sender = sender(ix);
    let own = mail.message_id.as_deref();
    let mut keys: Vec<ThreadKey> = own.map(|id| key(ix, ANYBODY, id)).into_iter().collect();
    if mail.level >= MailLevel::Authenticated {
        // What several mails of one sender answer may itself be unknown here, as the first mail to somebody else is.
        let answered = mail.in_reply_to.iter().chain(mail.references.first()).map(String::as_str);
        keys.extend(own.into_iter().chain(answered).map(|id| key(ix, &sender, id)));
        if let Some(subject) = subject_key(ix, &sender) {
            draft.give_thread(subject, at);
        }
    }
    if let Some(key) = storm_key(ix, &sender) {
        draft.give_thread(key, at);
    }
    free_keys(draft, keys, at).await
}

/// Leaves what answers to a mail of ours are found by.
pub(super) async fn leave_keys_of_sent(
    draft: &mut Draft<'_>,
    ix: &Interaction,
    ids: &[String],
    at: ConversationAt,
) -> Result<()> {
    if ix.mail.is_none() {
        return Ok(());
    }
    let to = ix.addressed().map(|to| to.identifier.value.expose().clone()).unwrap_or_default();
    let keys = ids.iter().flat_map(|id| [key(ix, ANYBODY, id), key(ix, &to, id)]);
    free_keys(draft, keys.collect(), at).await
}

async fn free_keys(draft: &mut Draft<'_>, keys: Vec<ThreadKey>, at: ConversationAt) -> Result<()> {
    for key in keys {
        // Whoever was first keeps it: an id that is used twice takes nothing over.
        if draft.conversation_by_thread(key).await?.is_none() {
            draft.give_thread(key, at);
        }
    }
    Ok(())
}

/// In the place of a sender: found by everybody, and joined by nobody.
const ANYBODY: &str = "*";

fn key(ix: &Interaction, whose: &str, id: &str) -> ThreadKey {
    ThreadKey::of(&ix.channel.connector, &ix.channel.account, &format!("mail\n{whose}\n{id}"))
}

fn sender(ix: &Interaction) -> String {
    ix.author.identifier.as_ref().map(|identifier| identifier.value.expose().clone()).unwrap_or_default()
}

/// The mails that it refers to, the one it answers first.
fn referred(ix: &Interaction) -> impl Iterator<Item = &str> {
    ix.reply_to.iter().flat_map(|to| &to.message_ids).map(String::as_str)
}

/// Where the mails of an unproven sender are kept together once they are a storm; nothing for one who is proven.
fn storm_key(ix: &Interaction, sender: &str) -> Option<ThreadKey> {
    let level = ix.mail.as_ref()?.level;
    (level < MailLevel::Authenticated).then(|| key(ix, sender, &format!("storm\n{}", level as u8)))
}

/// The sender's subject, without what mail programs put before it; nothing if it says nothing.
fn subject_key(ix: &Interaction, sender: &str) -> Option<ThreadKey> {
    /// Shorter ones are written by everybody.
    const LEAST: usize = 8;
    let subject = mail_thread::bare_subject(ix.subject.as_ref()?.expose()).to_lowercase();
    (subject.chars().count() >= LEAST).then(|| key(ix, sender, &format!("subject\n{subject}")))
}

/// A story as the rule sees it; nothing if it is a public one, which no mail is part of.
fn seen(
    draft: &Draft<'_>,
    found: &mut Vec<(i64, ConversationAt)>,
    at: ConversationAt,
    of_sender: bool,
) -> Option<Seen> {
    let row = draft.conversation(at).filter(|row| !row.public)?;
    let standing = match row.state {
        ConversationState::Open => Standing::Open,
        ConversationState::Resolved if draft.now().since(row.updated_at) <= REOPEN_WITHIN => Standing::Reopens,
        ConversationState::Resolved => Standing::Ended,
    };
    found.push((row.no, at));
    Some(Seen { conversation: row.no, standing, of_sender })
}
