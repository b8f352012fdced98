//! Stage 9, the other way: answers to customers, by their own channel.
//!
//! Every send commits its intent before the wire and its outcome after it. A send whose outcome nobody knows, because the
//! connection broke or this process died, is shown as uncertain and never silently repeated.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Context;
use super::outcome::head;
use super::send_http::try_all;
use super::send_mail::Mailer;
use super::sending::Cause;
use crate::base::Result;
use crate::base::hash::key16;
use crate::base::id::{EntryId, SendId};
use crate::base::telemetry::By;
use crate::connector::Outgoing;
use crate::model::entry::{SendOutcome, SendResult};
use crate::model::{EntryBody, EntryKind};
use crate::net::Client;
use crate::store::{DueSend, Hold, NewEntry, lease};

/// How many sends run side by side.
const CONCURRENCY: usize = 32;
/// How many of them one channel may have: a server that keeps us waiting must not hold up the others.
const OF_ONE_CHANNEL: usize = 16;
/// How many due sends are looked at to find some that may begin.
const LOOKED_AT: [usize; 3] = [128, 1024, 8192];
/// How long a send is tried while it is certain that nothing was sent, in milliseconds: 1 hour, and 1 day for a mail, since
/// mail servers put off whom they do not know.
const TRY_WITHIN: i64 = 3_600_000;
const TRY_MAIL_WITHIN: i64 = 86_400_000;
/// The pause after the store has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How the work on one send ended.
enum Ended {
    /// Its outcome is known and recorded.
    Settled,
    /// It is to be tried again.
    PutOff(SendId),
    /// Its intent stays on the disk, or may have got there, and nothing goes on here.
    Left(SendId),
}

/// The sends that are under way.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<(String, Ended)>,
    of_channel: HashMap<String, usize>,
    /// Those that were begun and are not due again.
    started: HashSet<SendId>,
}

impl UnderWay {
    /// Whether one more may begin, on this channel.
    fn has_room(&self, channel: &str) -> bool {
        self.tasks.len() < CONCURRENCY && self.of_channel.get(channel).is_none_or(|count| *count < OF_ONE_CHANNEL)
    }

    /// Takes note of one that ended. Gives whether one was left, so that what is unresolved has to be looked at.
    fn ended(&mut self, channel: &str, ended: &Ended) -> bool {
        if let Some(count) = self.of_channel.get_mut(channel) {
            *count -= 1;
        }
        self.of_channel.retain(|_, count| *count > 0);
        match ended {
            Ended::Settled => false,
            Ended::PutOff(send) => {
                self.started.remove(send);
                false
            }
            Ended::Left(send) => {
                self.started.remove(send);
                true
            }
        }
    }
}

/// How one try ended.
pub(super) enum Tried {
    /// For good.
    Ended(SendResult),
    /// For good, and the next one will fare no better.
    Barred { result: SendResult, cause: Cause },
    /// Certainly nothing was sent.
    NotSent { reason: String, after_ms: Option<u64>, cause: Cause },
}

/// Sends what is due while this node holds the lease on it, until `stop` is true; then waits for the sends that are under
/// way.
pub async fn run(
    context: Arc<Context>,
    client: Client,
    mailer: Arc<Mailer>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let (wake, leases) = (context.store.outbox.wake(), context.store.leases.clone());
    let mut changed = leases.changed();
    // In which term what the holder before left unresolved was settled.
    let mut begun = None;
    let mut under_way = UnderWay::default();
    loop {
        let notified = wake.notified();
        if under_way.tasks.is_empty() {
            under_way.started.clear();
        }
        let hold = leases.named(lease::SENDS);
        if hold == Hold::Leaving && under_way.tasks.is_empty() {
            leases.let_go(lease::SENDS);
        }
        let term = leases.term();
        begun = begun.filter(|begun| hold.may_begin() && *begun == term);
        if !hold.may_go_on() {
            // Whoever sends instead knows more.
            context.sending.keep(|_| false);
        }
        if hold.may_begin() && begun.is_none() && settle_unresolved(&context, &mailer, &under_way.started).await {
            begun = Some(term);
        }
        if begun.is_some() {
            begin_due(&context, &client, &mailer, &mut under_way, term).await;
        }
        tokio::select! {
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
            Some(ended) = under_way.tasks.join_next() => {
                // One that was left between its intent and the wire: this node may have the lease again.
                if ended.is_ok_and(|(channel, ended)| under_way.ended(&channel, &ended)) {
                    begun = None;
                }
            }
            () = notified => {}
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(1000)) => {}
        }
    }
    while under_way.tasks.join_next().await.is_some() {}
}

/// Begins what is due and has room. Behind many of a channel that has none, others are looked for.
async fn begin_due(context: &Arc<Context>, client: &Client, mailer: &Arc<Mailer>, under_way: &mut UnderWay, term: u64) {
    for limit in LOOKED_AT {
        let due = context.store.outbox.due_sends(context.clock.now(), limit).await.unwrap_or_default();
        let (found, mut begun) = (due.len(), false);
        for send in due {
            let channel = send.planned.message.channel.clone();
            if under_way.has_room(&channel) && under_way.started.insert(send.id) {
                begun = true;
                *under_way.of_channel.entry(channel.clone()).or_default() += 1;
                let (context, client, mailer) = (context.clone(), client.clone(), mailer.clone());
                let work = async move { (channel, one(&context, &client, &mailer, send, term).await) };
                under_way.tasks.spawn(work);
            }
        }
        if begun || found < limit || under_way.tasks.len() >= CONCURRENCY {
            return;
        }
    }
}

/// Sends whose intent is on disk and whose outcome is not: whoever had the lease before died over them, or lost it. Those
/// that `started` here are still under way. Gives whether all is settled.
async fn settle_unresolved(context: &Arc<Context>, mailer: &Mailer, started: &HashSet<SendId>) -> bool {
    let unresolved = match context.store.outbox.unresolved_sends().await {
        Ok(unresolved) => unresolved,
        Err(error) => {
            tracing::error!(target: "segue::deliver", error = %error.full(), "unresolved sends cannot be read");
            return false;
        }
    };
    for send in unresolved.into_iter().filter(|send| !started.contains(&send.id)) {
        let title = "the gateway stopped while it was being sent".to_owned();
        let provider_ids = own_ids(context, mailer, &send);
        record(context, &send, SendResult::Uncertain { title, provider_ids }).await;
    }
    true
}

/// The ids that a send has whatever became of it, where we choose them.
fn own_ids(context: &Context, mailer: &Mailer, send: &DueSend) -> Vec<String> {
    let setup = context.setup.load();
    let message = &send.planned.message;
    let channel = setup.channels.get(&message.channel);
    let submission = channel.and_then(|channel| channel.connector.submission(&channel.account).ok().flatten());
    submission.map(|submission| mailer.ids(&submission, message)).unwrap_or_default()
}

/// Sends one.
async fn one(context: &Arc<Context>, client: &Client, mailer: &Mailer, send: DueSend, term: u64) -> Ended {
    let setup = context.setup.load_full();
    let name = &send.planned.message.channel;
    let refused = |title| SendResult::Refused { code: None, title };
    let Some(channel) = setup.channels.get(name) else {
        record(context, &send, refused(format!("channel `{name}` is not configured any more"))).await;
        return Ended::Settled;
    };
    let outgoing = match channel.connector.render(&send.planned.message, &channel.account) {
        Ok(outgoing) => outgoing,
        Err(error) => {
            record(context, &send, refused(error.message().to_owned())).await;
            return Ended::Settled;
        }
    };
    match context.store.outbox.intend(send.id, term).await {
        Ok(true) => {}
        Ok(false) => return Ended::Settled,
        Err(error) => {
            tracing::error!(target: "segue::deliver", send = %send.id, error = %error.full(), "an intent was not written");
            tokio::time::sleep(AFTER_FAILURE).await;
            // Perhaps it was, which is seen when what is unresolved is looked at.
            return Ended::Left(send.id);
        }
    }
    let leases = &context.store.leases;
    if !leases.named(lease::SENDS).may_go_on() || leases.term() != term {
        // This process was stopped for long: whoever has the lease tells of this send as uncertain.
        return Ended::Left(send.id);
    }
    let tried = match outgoing {
        Outgoing::Requests(calls) => try_all(client, channel, calls, context.clock.now()).await,
        Outgoing::Mail(leaving) => match channel.connector.submission(&channel.account) {
            Ok(Some(submission)) => mailer.send(name, &submission, &send.planned.message, *leaving).await,
            Ok(None) => Tried::Ended(refused(format!("channel `{name}` sends no mail any more"))),
            Err(error) => Tried::NotSent {
                reason: error.message().to_owned(),
                after_ms: None,
                cause: Cause::of_options(error.message()),
            },
        },
    };
    tell(context, name, &tried);
    match tried {
        Tried::Ended(result) | Tried::Barred { result, .. } => {
            record(context, &send, result).await;
            Ended::Settled
        }
        Tried::NotSent { reason, after_ms, .. } => match put_off(context, &send, reason, after_ms, term).await {
            Ok(()) => Ended::PutOff(send.id),
            Err(_) => Ended::Left(send.id),
        },
    }
}

/// Takes note of how sending does on the channel. What the other side refused for good, with a code, did come through,
/// unless it would refuse any; one that is uncertain tells nothing.
fn tell(context: &Context, channel: &str, tried: &Tried) {
    match tried {
        Tried::Ended(SendResult::Accepted { .. } | SendResult::Refused { code: Some(_), .. }) => {
            context.sending.came_through(channel);
        }
        Tried::Ended(_) => {}
        // One that was taken out of the configuration meanwhile would have a row for good.
        Tried::NotSent { cause, .. } | Tried::Barred { cause, .. }
            if context.setup.load().channels.contains_key(channel) =>
        {
            context.sending.put_off(channel, context.clock.now(), cause.clone());
        }
        Tried::NotSent { .. } | Tried::Barred { .. } => {}
    }
}

async fn put_off(
    context: &Arc<Context>,
    send: &DueSend,
    reason: String,
    after_ms: Option<u64>,
    term: u64,
) -> Result<()> {
    let now = context.clock.now();
    let (within, words) = match send.planned.message.mail {
        Some(_) => (TRY_MAIL_WITHIN, "a day"),
        None => (TRY_WITHIN, "an hour"),
    };
    if now.since(send.created_at) > within {
        let title = format!("not sent within {words}: {reason}");
        record(context, send, SendResult::Refused { code: None, title }).await;
        return Ok(());
    }
    let backoff = 1000u64.saturating_mul(1 << send.attempts.min(8));
    let wait = after_ms.unwrap_or(backoff).clamp(500, 300_000);
    context.metrics.sent.get_or_create(&By::new(&send.planned.message.channel, "put_off")).inc();
    let next_at = now.plus_millis(i64::try_from(wait).unwrap_or(i64::MAX));
    let put_off = context.store.outbox.withdraw(send.id, next_at, reason, term).await;
    put_off.inspect_err(|error| {
        tracing::error!(target: "segue::deliver", send = %send.id, error = %error.full(), "a send was not put off; it will show as uncertain");
    })
}

/// Journals the outcome. Until that is on disk the send counts as unresolved, so it is never tried again by mistake.
async fn record(context: &Arc<Context>, send: &DueSend, result: SendResult) {
    let label = match &result {
        SendResult::Accepted { .. } => "accepted",
        SendResult::Refused { .. } => "refused",
        SendResult::Uncertain { .. } => "uncertain",
    };
    context.metrics.sent.get_or_create(&By::new(&send.planned.message.channel, label)).inc();
    let outcome = SendOutcome { send: send.id, result };
    let Ok(head) = head(&outcome) else { return };
    loop {
        let at = context.clock.now();
        let entry = NewEntry {
            id: EntryId::random(at),
            kind: EntryKind::SendOutcome,
            channel: send.planned.message.channel.clone(),
            at,
            interactive: false,
            keys: Vec::new(),
            key: Some(key16(&[b"sent", send.id.as_bytes()])),
            body: EntryBody { head: head.clone(), raw: bytes::Bytes::new() },
        };
        match context.store.journal.append(entry).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(target: "segue::journal", send = %send.id, error = %error.full(), "an outcome was not journaled; will be tried again");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
