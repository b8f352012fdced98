//! Floor 5: the way of an interaction, one file per stage.
//!
//! ```text
//! intake -> verify -> journal          on the provider's request; acknowledged after the journal
//! normalize -> identify -> attach -> decide -> commit      on the journal, one entry at a time in order of its keys
//! deliver                               on what was committed: help desks, customers, files
//! ```
//!
//! Each stage takes what only the stage before it can make. This file alone names more than one of them: it chains the
//! stages of applying an entry, and holds what all of them share.

mod ahead;
pub(crate) mod answering;
mod arise;
mod attach;
mod attach_mail;
pub mod attempt;
mod command;
mod commit;
mod decide;
pub mod deliver;
mod dispatch;
mod draft;
mod event;
mod facts;
mod feeder;
pub mod handover;
mod identify;
pub mod intake;
mod journal;
mod lanes;
pub mod mail_check;
mod mail_counts;
pub mod mail_login;
pub mod mail_probe;
pub mod mailbox;
pub mod media;
mod messages;
mod normalize;
mod outcome;
mod reading;
pub mod replay;
pub mod send;
mod send_http;
pub mod send_mail;
pub mod sending;
mod signer;
pub mod submit;
pub mod verify;
pub mod wait;
pub mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use ahead::Ahead;
pub use command::CommandResult;
pub use facts::Facts;

use crate::base::telemetry::{By, Metrics, thread_cpu};
use crate::base::{Clock, Error, Pii, Result};
use crate::connector::{Account, Connector};
use crate::model::decision::CallAnswer;
use crate::model::entry::{Answered, Command, MediaOutcome, SendOutcome};
use crate::model::{Direction, EntryKind, Interaction, InteractionKind};
use crate::script::Bundle;
use crate::store::blob::Blobs;
use crate::store::{Appended, Changeset, MailBatch, NewEntry, StateRead, Store};
use draft::Draft;
use journal::Journaled;
use normalize::{Item, Normalized};
use reading::{prepare, prepare_under, read, understood};

/// What decisions depend on: connectors, channels and policy, swapped as one.
pub struct Setup {
    /// The configured channels by name.
    pub channels: HashMap<String, ChannelSetup>,
    /// The policy.
    pub policy: Bundle,
    /// Where everything goes that no rule sent elsewhere.
    pub default_queue: String,
    /// Texts of replies by name.
    pub templates: HashMap<String, String>,
    /// The `source` of events.
    pub source: String,
    /// The hash over all of this, as applied records name it.
    pub hash: String,
}

/// One configured channel.
pub struct ChannelSetup {
    /// What it is.
    pub connector: Arc<Connector>,
    /// Its options.
    pub account: Account,
    /// Where its interactions go unless a rule says otherwise.
    pub queue: Option<String>,
    /// Whether it takes nothing for now.
    pub paused: bool,
}

/// What all stages share.
pub struct Context {
    /// Journal, state and outbox.
    pub store: Store,
    /// Connectors, channels and policy as they are now.
    pub setup: ArcSwap<Setup>,
    /// Where the present comes from.
    pub clock: Clock,
    /// What is measured.
    pub metrics: Metrics,
    /// Who waits for the effect of an entry.
    pub waiting: wait::Waiting,
    /// What was read of entries before they were appended.
    pub ahead: Ahead,
    /// Whether entries stay pending for now: the bundle that rules cannot be run here.
    pub held: AtomicBool,
    /// How the mailboxes that are read here do.
    pub mailboxes: mailbox::Mailboxes,
    /// On which channels nothing gets out.
    pub sending: sending::Sending,
    /// Fetched files; none in a replay, which fetches nothing.
    pub blobs: Option<Blobs>,
}

impl Context {
    /// Adds this thread's CPU time since `begun` to a stage's account. The stage must not have waited in between.
    fn stage_seconds(&self, stage: &'static str, begun: Duration) {
        self.metrics.stage(stage, thread_cpu().saturating_sub(begun));
    }
}

/// An entry with what it says, ready to be applied.
pub(crate) struct Prepared {
    journaled: Journaled,
    setup: Arc<Setup>,
    items: Vec<Normalized>,
    keys: Vec<lanes::Key>,
    /// Whether something that was assumed of it did not hold.
    met_conflict: AtomicBool,
    /// How often it could not be applied or committed.
    failed: AtomicU32,
    /// What was found out when it was applied before.
    recorded: Option<Facts>,
}

impl Prepared {
    fn new(journaled: Journaled, read: ahead::Read, recorded: Option<Facts>) -> Prepared {
        let ahead::Read { setup, items, keys } = read;
        let (met_conflict, failed) = (AtomicBool::new(false), AtomicU32::new(0));
        Prepared { journaled, setup, items, keys, met_conflict, failed, recorded }
    }
}

/// What applying an entry gave.
pub(crate) struct Applied {
    changeset: Changeset,
    told: wait::Told,
}

/// The same entry as the setup of now reads it: what decides may have been replaced while it waited for its turn. Its place
/// in its lanes stays.
pub(crate) fn refreshed(context: &Context, prepared: Arc<Prepared>) -> Arc<Prepared> {
    if Arc::ptr_eq(&prepared.setup, &context.setup.load()) {
        return prepared;
    }
    let journaled = Journaled::reloaded(prepared.journaled.entry().clone());
    let read = ahead::Read { keys: prepared.keys.clone(), ..read(context, &journaled) };
    let fresh = Prepared::new(journaled, read, None);
    fresh.met_conflict.store(prepared.met_conflict.load(Ordering::Relaxed), Ordering::Relaxed);
    fresh.failed.store(prepared.failed.load(Ordering::Relaxed), Ordering::Relaxed);
    Arc::new(fresh)
}

/// Waits, and tells whether the time to stop has come meanwhile.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>, wait: Duration) -> bool {
    let told = tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await;
    told.is_ok()
}

/// Enters a verified request: reads what orders it, where others may have to know, and appends it.
pub(crate) async fn enter(
    context: &Context,
    id: crate::base::id::EntryId,
    verified: verify::Verified,
) -> Result<Appended> {
    enter_entry(context, journal::entry(id, verified)).await
}

/// Enters one entry: a request, or a mail that was handed over.
pub(crate) async fn enter_entry(context: &Context, mut entry: NewEntry) -> Result<Appended> {
    let (id, journal) = (entry.id, context.store.journal.as_ref());
    if !context.store.leases.shared() {
        return journal::step(journal, entry).await;
    }
    let read = read(context, &Journaled::to_be(&entry));
    entry.keys.clone_from(&read.keys);
    context.ahead.put(id, read, entry.body.weight());
    let appended = journal::step(journal, entry).await;
    if !appended.as_ref().is_ok_and(|appended| appended.here) {
        context.ahead.take(id);
    }
    appended
}

/// Enters mails with the cursor behind them, as [`enter`] does requests.
pub(crate) async fn enter_mails(context: &Context, mut batch: MailBatch) -> Result<Vec<Appended>> {
    if !context.store.leases.shared() {
        return context.store.mailboxes.append(batch).await;
    }
    for entry in &mut batch.entries {
        let read = read(context, &Journaled::to_be(entry));
        entry.keys.clone_from(&read.keys);
        context.ahead.put(entry.id, read, entry.body.weight());
    }
    let ids: Vec<_> = batch.entries.iter().map(|entry| entry.id).collect();
    let appended = context.store.mailboxes.append(batch).await;
    let here = |place: usize| appended.as_ref().ok().and_then(|all| all.get(place)).is_some_and(|one| one.here);
    for (_, id) in ids.iter().enumerate().filter(|(place, _)| !here(*place)) {
        context.ahead.take(*id);
    }
    appended
}

/// Applies an entry: reads state, decides, and gives what is to be committed. Changes nothing itself, so that it can be
/// done again after a conflict.
pub(crate) async fn apply(context: &Context, state: &dyn StateRead, prepared: &Prepared) -> Result<Applied> {
    let entry = prepared.journaled.entry();
    let setup = &prepared.setup;
    let careful = prepared.met_conflict.load(Ordering::Relaxed);
    let recorded = prepared.recorded.as_ref();
    let mut draft = Draft::new(state, entry, setup, careful, recorded);
    let mut told = wait::Told::default();
    match entry.kind {
        EntryKind::Webhook | EntryKind::Mail => {
            // A caller who was already given the safe default does not hear what is decided now.
            let heard = match recorded {
                Some(facts) => facts.heard,
                None if !entry.interactive => false,
                None => context.store.journal.entry_by_key(intake::answer_key(entry.id)).await?.is_some(),
            };
            let waits = entry.interactive && !heard;
            draft.facts.heard = heard;
            draft.facts.unread = facts::unread(&prepared.items);
            told.answer = apply_items(context, setup, &mut draft, &prepared.items, waits).await?;
            draft.facts.answer.clone_from(&told.answer);
        }
        EntryKind::Command => {
            let command: Command = head(prepared)?;
            let mut result = command::apply(&mut draft, setup, context.store.journal.as_ref(), &command).await?;
            if let (Command::RetryQuarantined { entry }, 200) = (&command, result.status) {
                let released = retry_quarantined(context, setup, &mut draft, *entry, recorded).await?;
                result.body = serde_json::json!({ "entry": entry, "released": released });
            }
            draft.facts.result = Some(result.clone());
            told.result = Some(result);
        }
        EntryKind::SendOutcome => outcome::sent(&mut draft, &head::<SendOutcome>(prepared)?).await?,
        EntryKind::Media => outcome::fetched(&mut draft, &head::<MediaOutcome>(prepared)?).await?,
        EntryKind::Answered => {
            let answered: Answered = head(prepared)?;
            let call = call_of(context, setup, &mut draft, answered.entry, recorded).await?;
            outcome::answered(&mut draft, &answered, call).await?;
        }
    }
    let mut changeset = draft.finish();
    changeset.bundle.clone_from(&setup.hash);
    Ok(Applied { changeset, told })
}

fn head<T: serde::de::DeserializeOwned>(prepared: &Prepared) -> Result<T> {
    serde_json::from_slice(&prepared.journaled.entry().body.head)
        .map_err(|e| Error::internal("an entry cannot be read back").because(e))
}

async fn apply_items(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    items: &[Normalized],
    waits: bool,
) -> Result<Option<CallAnswer>> {
    let mut answer = None;
    for item in items {
        match item {
            Normalized::Item(item) => {
                let own = apply_item(context, setup, draft, item, waits).await?;
                answer = answer.or(own);
            }
            Normalized::Receipt(receipt) => messages::receipt(draft, receipt).await?,
            Normalized::Ignored(reason) => {
                tracing::debug!(target: "segue::normalize", entry = %draft.entry.id, %reason, "ignored");
            }
            Normalized::Quarantined(reason) => {
                tracing::warn!(target: "segue::normalize", entry = %draft.entry.id, channel = %draft.entry.channel, %reason, "quarantined");
                draft.set.quarantined.push(reason.clone());
            }
        }
    }
    Ok(answer)
}

/// The stages that one item goes through.
async fn apply_item(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    item: &Item,
    waits: bool,
) -> Result<Option<CallAnswer>> {
    if item.interaction.kind == InteractionKind::Call {
        if let Some(call) = messages::fold_call(draft, item).await? {
            return if waits { decide::again(setup, draft, call).await } else { Ok(None) };
        }
        if messages::keep_for_later(draft, item).await? {
            return Ok(None);
        }
    } else if draft.has_item(item.key).await? || messages::is_own_echo(draft, item).await? {
        return Ok(None);
    }
    let mut item = item.copy();
    messages::complete(draft, &mut item).await?;
    commit::mark_files(&mut item.interaction);
    let in_storm = storm(context, draft, &mut item.interaction).await?;
    let begun = thread_cpu();
    let identified = identify::step(draft, item).await?;
    context.stage_seconds("identify", begun);
    if identified.conflict {
        draft.facts.identity_conflict = true;
        tracing::info!(target: "segue::identify", entry = %draft.entry.id, "identifiers of one sender belong to several customers");
    }
    let begun = thread_cpu();
    let attached = attach::step(draft, identified, in_storm).await?;
    context.stage_seconds("attach", begun);
    let mut interaction = attached.interaction().clone();
    commit::place(draft, attached.customer(), attached.conversation, &mut interaction);
    let opening = arise::opening(draft, &attached, &interaction).await?;
    let mut decided = decide::step(context, setup, draft, attached, interaction, opening).await?;
    if let Some(decision) = decided.decision.as_mut().filter(|d| d.answer.is_some() && !waits) {
        decision.answer = None;
        decision.because.push(Pii::new("nobody was waiting for an answer any more".to_owned()));
    }
    let decided = commit::step(draft, decided).await?;
    messages::mark_target(draft, &decided.interaction).await?;
    let asked = decided.opening.as_ref().map(|opening| &opening.decision).into_iter().chain(&decided.decision);
    for reply in asked.flat_map(|decision| &decision.replies) {
        answering::policy_reply(draft, decided.attached.conversation, &decided.interaction, reply).await?;
    }
    Ok(decided.decision.and_then(|decision| decision.answer))
}

/// Counts a mail that came. One of a storm is answered by nobody but people; gives whether it is one of its sender's.
async fn storm(context: &Context, draft: &mut Draft<'_>, interaction: &mut Interaction) -> Result<bool> {
    if interaction.mail.is_none() || interaction.direction != Direction::Inbound {
        return Ok(false);
    }
    let storm = mail_counts::arrival(draft, interaction).await?;
    if (storm.of_sender || storm.of_content)
        && let Some(mail) = &mut interaction.mail
    {
        let what = if storm.of_sender { "its sender's mails" } else { "mails that say the same" };
        mail.no_auto_answer.get_or_insert_with(|| format!("{what} are too many at once"));
        mail.marks.push("storm".to_owned());
        context.metrics.storms.get_or_create(&By::new(&draft.entry.channel, "mail")).inc();
    }
    Ok(storm.of_sender)
}

/// Applies a quarantined entry again, as the connector reads it now. Gives whether it could be understood.
async fn retry_quarantined(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    id: crate::base::id::EntryId,
    recorded: Option<&Facts>,
) -> Result<bool> {
    let Some((entry, _)) = context.store.journal.entry(id).await? else { return Ok(false) };
    let position = entry.position;
    let items = understood(setup, &Journaled::reloaded(entry), recorded);
    draft.facts.unread = facts::unread(&items);
    if items.iter().any(|item| matches!(item, Normalized::Quarantined(_))) {
        return Ok(false);
    }
    draft.set.released.push(position);
    apply_items(context, setup, draft, &items, false).await?;
    Ok(true)
}

/// The call that an answered entry was about.
async fn call_of(
    context: &Context,
    setup: &Setup,
    draft: &mut Draft<'_>,
    id: crate::base::id::EntryId,
    recorded: Option<&Facts>,
) -> Result<Option<crate::model::ItemKey>> {
    let Some((entry, _)) = context.store.journal.entry(id).await? else { return Ok(None) };
    let items = understood(setup, &Journaled::reloaded(entry), recorded);
    draft.facts.unread = facts::unread(&items);
    Ok(items.into_iter().find_map(|item| match item {
        Normalized::Item(item) if item.interaction.kind == InteractionKind::Call => Some(item.key),
        _ => None,
    }))
}
