//! What changesets write: one statement a table for all of them, with a column of the table in each array.
//!
//! Rows with keys that another node may write as well go in order of their keys, as everywhere in this room.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::group::{Param, Pipeline, column};
use super::judge::Seen;
use crate::store::code::{ENGINE, state_number};
use crate::store::seal::{SealedConversation, SealedCustomer, SealedMessage, SealedSet};

// The apply number is drawn here, after everything that the changesets assert is locked.
pub(super) const APPLIED: &str = "INSERT INTO applied (position, bundle, engine, facts, wrap)
     SELECT u.position, u.bundle, $5::text, u.facts, u.wrap
       FROM unnest($1::int8[], $2::int8[], $3::bytea[], $4::bytea[])
            WITH ORDINALITY AS u (position, bundle, facts, wrap, place)
      ORDER BY u.place RETURNING apply_no, position";
pub(super) const DONE: &str = "WITH gone AS (DELETE FROM pending WHERE position = ANY($1) RETURNING position, more)
     DELETE FROM pending_more m USING (SELECT position, unnest(more) AS key FROM gone WHERE more IS NOT NULL) AS k
      WHERE m.key = k.key AND m.position = k.position";
pub(super) const NEW_CUSTOMER: &str = "INSERT INTO customer (no, id, version, created_at, latest, profile, recent)
     SELECT * FROM unnest($1::int8[], $2::bytea[], $3::int8[], $4::int8[], $5::int8[], $6::bytea[], $7::bytea[])";
pub(super) const CUSTOMER: &str = "UPDATE customer c
     SET version = u.version, latest = u.latest, recent = u.recent, profile = u.profile
     FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[], $5::bytea[])
       AS u (no, version, latest, recent, profile)
     WHERE c.no = u.no";
pub(super) const CUSTOMER_LATEST: &str =
    "UPDATE customer c SET version = u.version, latest = u.latest, recent = u.recent
     FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[]) AS u (no, version, latest, recent) WHERE c.no = u.no";
pub(super) const IDENTIFIER: &str =
    "INSERT INTO identifier (key, customer) SELECT * FROM unnest($1::bytea[], $2::int8[])";
pub(super) const EVENT: &str = "INSERT INTO event (no, id, kind, conversation, sequence, before, channel, at, body)
     SELECT * FROM unnest($1::int8[], $2::bytea[], $3::int2[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::int8[],
                          $9::bytea[])";
pub(super) const NEW_CONVERSATION: &str =
    "INSERT INTO conversation (no, id, version, customer, state, public, seq, event_seq, opened_at, updated_at, latest,
                               latest_event, queue, owner, links)
     SELECT * FROM unnest($1::int8[], $2::bytea[], $3::int8[], $4::int8[], $5::int2[], $6::int2[], $7::int8[], $8::int8[],
                          $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::text[], $14::bytea[], $15::bytea[])";
pub(super) const CONVERSATION: &str =
    "UPDATE conversation c SET version = u.version, state = u.state, seq = u.seq, event_seq = u.event_seq,
            updated_at = u.updated_at, latest = u.latest, latest_event = u.latest_event, queue = u.queue,
            owner = u.owner, links = u.links
     FROM unnest($1::int8[], $2::int8[], $3::int2[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[],
                 $9::text[], $10::bytea[], $11::bytea[])
       AS u (no, version, state, seq, event_seq, updated_at, latest, latest_event, queue, owner, links)
     WHERE c.no = u.no";
// What was not there when the asserts were checked is only inserted: if another node was faster, the key finds it.
pub(super) const NEW_THREAD: &str =
    "INSERT INTO thread (key, conversation) SELECT * FROM unnest($1::bytea[], $2::int8[])";
pub(super) const THREAD: &str = "UPDATE thread t SET conversation = u.conversation
     FROM unnest($1::bytea[], $2::int8[]) AS u (key, conversation) WHERE t.key = u.key";
pub(super) const INTERACTION: &str =
    "INSERT INTO interaction (no, id, item, conversation, seq, before_in_conversation, customer, before_of_customer,
                              outbound, body, decision)
     SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
                          $8::int8[], $9::int2[], $10::bytea[], $11::bytea[])";
pub(super) const INTERACTION_BODY: &str =
    "UPDATE interaction i SET body = u.body FROM unnest($1::int8[], $2::bytea[]) AS u (no, body) WHERE i.no = u.no";
pub(super) const NEW_MESSAGE: &str =
    "INSERT INTO message (key, mark, state) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[])";
pub(super) const MESSAGE: &str = "UPDATE message m SET mark = u.mark, state = u.state
     FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS u (key, mark, state) WHERE m.key = u.key";
pub(super) const SEND: &str = "INSERT INTO send (id, state, conversation, created_at, next_at, attempts, planned)
     SELECT u.id, 0, u.conversation, u.at, u.at, 0, u.planned
       FROM unnest($1::bytea[], $2::int8[], $3::int8[], $4::bytea[]) AS u (id, conversation, at, planned)";
pub(super) const SEND_DONE: &str = "UPDATE send SET state = 2 WHERE id = ANY($1)";
pub(super) const MEDIA: &str = "INSERT INTO media (interaction, part, interaction_id, channel, attempts, next_at)
     SELECT u.interaction, u.part, u.id, u.channel, 0, u.at
       FROM unnest($1::int8[], $2::int8[], $3::bytea[], $4::text[], $5::int8[]) AS u (interaction, part, id, channel, at)
     ON CONFLICT DO NOTHING";
pub(super) const MEDIA_DONE: &str = "DELETE FROM media m USING unnest($1::int8[], $2::int8[]) AS u (interaction, part)
     WHERE m.interaction = u.interaction AND m.part = u.part";
pub(super) const BLOB_USE: &str = "INSERT INTO blob_use (interaction, part, name)
     SELECT * FROM unnest($1::int8[], $2::int8[], $3::bytea[]) ON CONFLICT DO NOTHING";
pub(super) const QUARANTINE: &str = "INSERT INTO quarantine (position, reason, at)
     SELECT u.position, u.reason, e.at
       FROM unnest($1::int8[], $2::bytea[]) WITH ORDINALITY AS u (position, reason, place)
       JOIN entry e ON e.position = u.position ORDER BY u.place";
pub(super) const RELEASED: &str = "DELETE FROM quarantine WHERE position = ANY($1)";
pub(super) const SIDE: &str = "INSERT INTO side (key, at) SELECT * FROM unnest($1::bytea[], $2::int8[])
     ON CONFLICT (key) DO UPDATE SET at = excluded.at";

/// Text without NUL, which PostgreSQL's `text` cannot hold.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Adds all that `sets` write to the pipeline; the applied records, whose answer gives the apply numbers, come first.
pub(super) fn write<'p>(
    pipeline: &mut Pipeline<'p>,
    sets: &[&'p SealedSet],
    bundle: &dyn Fn(&SealedSet) -> Option<i64>,
    seen: &mut Seen,
) {
    pipeline.ask(
        APPLIED,
        vec![
            column(sets.iter().map(|set| set.position)),
            column(sets.iter().map(|set| bundle(set).unwrap_or_default())),
            column(sets.iter().map(|set| set.facts.as_deref())),
            column(sets.iter().map(|set| set.wrap.as_deref())),
            Box::new(ENGINE),
        ],
    );
    pipeline.ask(DONE, vec![column(sets.iter().map(|set| set.position))]);
    write_customers(pipeline, sets);
    write_events(pipeline, sets, seen);
    write_conversations(pipeline, sets, seen);
    write_threads(pipeline, sets, seen);
    write_interactions(pipeline, sets);
    write_messages(pipeline, sets, seen);
    write_outgoing(pipeline, sets);
    let quarantined =
        || sets.iter().flat_map(|set| set.quarantined.iter().map(|reason| (set.position, reason.as_slice())));
    ask(pipeline, QUARANTINE, quarantined().next().is_some(), || {
        vec![column(quarantined().map(|q| q.0)), column(quarantined().map(|q| q.1))]
    });
    let released = || sets.iter().flat_map(|set| set.released.iter().copied());
    ask(pipeline, RELEASED, released().next().is_some(), || vec![column(released())]);
    let sides: BTreeMap<&[u8], i64> =
        sets.iter().flat_map(|set| set.sides.iter().map(|(key, at)| (key.as_slice(), *at))).collect();
    ask(pipeline, SIDE, !sides.is_empty(), || vec![column(sides.keys().copied()), column(sides.values().copied())]);
}

/// Asks only where there is something to write.
fn ask<'p>(pipeline: &mut Pipeline<'p>, sql: &'static str, needed: bool, columns: impl FnOnce() -> Vec<Param<'p>>) {
    if needed {
        pipeline.ask(sql, columns());
    }
}

/// What a group writes of one customer.
struct Merged<'p> {
    row: &'p SealedCustomer,
    new: bool,
    profile: Option<&'p [u8]>,
}

fn write_customers<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet]) {
    // The last write of a row counts; what earlier ones made or changed is in it.
    let mut rows: BTreeMap<i64, Merged<'p>> = BTreeMap::new();
    for row in sets.iter().flat_map(|set| &set.customers) {
        let before = rows.get(&row.no);
        let new = row.new || before.is_some_and(|before| before.new);
        let profile = match row.profile.is_empty() {
            true => before.and_then(|before| before.profile),
            false => Some(row.profile.as_slice()),
        };
        rows.insert(row.no, Merged { row, new, profile });
    }
    let rows: Vec<_> = rows.into_values().collect();
    let pick = |wanted: fn(bool, bool) -> bool| -> Vec<&Merged<'p>> {
        rows.iter().filter(|merged| wanted(merged.new, merged.profile.is_some())).collect()
    };
    let new = pick(|new, _| new);
    ask(pipeline, NEW_CUSTOMER, !new.is_empty(), || {
        vec![
            column(new.iter().map(|m| m.row.no)),
            column(new.iter().map(|m| m.row.id.as_bytes().as_slice())),
            column(new.iter().map(|m| m.row.version)),
            column(new.iter().map(|m| m.row.created_at)),
            column(new.iter().map(|m| m.row.latest)),
            column(new.iter().map(|m| m.profile.unwrap_or_default())),
            column(new.iter().map(|m| m.row.recent.as_slice())),
        ]
    });
    let changed = pick(|new, profile| !new && profile);
    ask(pipeline, CUSTOMER, !changed.is_empty(), || {
        vec![
            column(changed.iter().map(|m| m.row.no)),
            column(changed.iter().map(|m| m.row.version)),
            column(changed.iter().map(|m| m.row.latest)),
            column(changed.iter().map(|m| m.row.recent.as_slice())),
            column(changed.iter().map(|m| m.profile.unwrap_or_default())),
        ]
    });
    let moved = pick(|new, profile| !new && !profile);
    ask(pipeline, CUSTOMER_LATEST, !moved.is_empty(), || {
        vec![
            column(moved.iter().map(|m| m.row.no)),
            column(moved.iter().map(|m| m.row.version)),
            column(moved.iter().map(|m| m.row.latest)),
            column(moved.iter().map(|m| m.row.recent.as_slice())),
        ]
    });
    // Not merged: two customers with one identifier are a conflict that the key must find.
    let mut identifiers: Vec<(&[u8], i64)> = sets
        .iter()
        .flat_map(|set| set.identifiers.iter().map(|(key, customer)| (key.0.as_slice(), *customer)))
        .collect();
    identifiers.sort_unstable();
    ask(pipeline, IDENTIFIER, !identifiers.is_empty(), || {
        vec![column(identifiers.iter().map(|i| i.0)), column(identifiers.iter().map(|i| i.1))]
    });
}

/// Events: their place in the feed is given here, and their conversation remembers the latest.
fn write_events<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet], seen: &mut Seen) {
    let mut events = Vec::new();
    for set in sets {
        for conversation in &set.conversations {
            let own = || set.events.iter().filter(|event| event.conversation == conversation.row.no);
            let first = conversation.row.event_seq - own().count() as i64 + 1;
            for (event, sequence) in own().zip(first..) {
                let (no, before) = seen.number(event.conversation);
                events.push((event, no, sequence, before));
            }
        }
    }
    ask(pipeline, EVENT, !events.is_empty(), || {
        vec![
            column(events.iter().map(|e| e.1)),
            column(events.iter().map(|e| e.0.id.as_bytes().as_slice())),
            column(events.iter().map(|e| i16::from(e.0.kind))),
            column(events.iter().map(|e| e.0.conversation)),
            column(events.iter().map(|e| e.2)),
            column(events.iter().map(|e| e.3)),
            column(events.iter().map(|e| e.0.channel.as_str())),
            column(events.iter().map(|e| e.0.at)),
            column(events.iter().map(|e| e.0.body.as_slice())),
        ]
    });
}

fn write_conversations<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet], seen: &Seen) {
    let mut rows: BTreeMap<i64, (&SealedConversation, bool)> = BTreeMap::new();
    for write in sets.iter().flat_map(|set| &set.conversations) {
        let before = rows.get(&write.row.no).is_some_and(|row| row.1);
        rows.insert(write.row.no, (write, before || write.new));
    }
    let (new, changed): (Vec<_>, Vec<_>) = rows.into_values().partition(|(_, new)| *new);
    ask(pipeline, NEW_CONVERSATION, !new.is_empty(), || {
        let rows = || new.iter().map(|(write, _)| &write.row);
        vec![
            column(rows().map(|row| row.no)),
            column(rows().map(|row| row.id.as_bytes().as_slice())),
            column(rows().map(|row| row.version)),
            column(rows().map(|row| row.customer)),
            column(rows().map(|row| state_number(row.state) as i16)),
            column(rows().map(|row| i16::from(row.public))),
            column(rows().map(|row| row.seq)),
            column(rows().map(|row| row.event_seq)),
            column(rows().map(|row| row.opened_at.millis())),
            column(rows().map(|row| row.updated_at.millis())),
            column(rows().map(|row| row.latest)),
            column(rows().map(|row| seen.latest_event(row.no))),
            column(rows().map(|row| row.queue.as_deref().map(text))),
            column(new.iter().map(|(write, _)| write.owner.as_deref())),
            column(new.iter().map(|(write, _)| write.links.as_deref())),
        ]
    });
    ask(pipeline, CONVERSATION, !changed.is_empty(), || {
        let rows = || changed.iter().map(|(write, _)| &write.row);
        vec![
            column(rows().map(|row| row.no)),
            column(rows().map(|row| row.version)),
            column(rows().map(|row| state_number(row.state) as i16)),
            column(rows().map(|row| row.seq)),
            column(rows().map(|row| row.event_seq)),
            column(rows().map(|row| row.updated_at.millis())),
            column(rows().map(|row| row.latest)),
            column(rows().map(|row| seen.latest_event(row.no))),
            column(rows().map(|row| row.queue.as_deref().map(text))),
            column(changed.iter().map(|(write, _)| write.owner.as_deref())),
            column(changed.iter().map(|(write, _)| write.links.as_deref())),
        ]
    });
}

fn write_threads<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet], seen: &mut Seen) {
    let threads: BTreeMap<&[u8; 16], i64> =
        sets.iter().flat_map(|set| set.threads.iter().map(|(key, no)| (&key.0, *no))).collect();
    keyed(pipeline, NEW_THREAD, THREAD, threads, &mut seen.stored_threads, |owners| vec![column(owners)]);
}

/// Rows under keys: those that are stored are updated, the others inserted; then all are stored.
fn keyed<'p, T>(
    pipeline: &mut Pipeline<'p>,
    insert: &'static str,
    update: &'static str,
    rows: BTreeMap<&'p [u8; 16], T>,
    stored: &mut HashSet<[u8; 16]>,
    columns: impl Fn(Vec<T>) -> Vec<Param<'p>>,
) {
    let (new, there): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(key, _)| stored.insert(**key));
    for (sql, rows) in [(insert, new), (update, there)] {
        let (keys, values): (Vec<&[u8]>, Vec<T>) = rows.into_iter().map(|(key, value)| (key.as_slice(), value)).unzip();
        let key = column(keys.iter().copied());
        ask(pipeline, sql, !keys.is_empty(), || std::iter::once(key).chain(columns(values)).collect());
    }
}

fn write_interactions<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet]) {
    let mut rows: Vec<_> = sets.iter().flat_map(|set| &set.interactions).collect();
    rows.sort_by_key(|row| row.item.map(|item| item.0));
    ask(pipeline, INTERACTION, !rows.is_empty(), || {
        vec![
            column(rows.iter().map(|row| row.no)),
            column(rows.iter().map(|row| row.id.as_bytes().as_slice())),
            column(rows.iter().map(|row| row.item.as_ref().map(|item| item.0.as_slice()))),
            column(rows.iter().map(|row| row.conversation)),
            column(rows.iter().map(|row| row.seq)),
            column(rows.iter().map(|row| row.before_in_conversation)),
            column(rows.iter().map(|row| row.customer)),
            column(rows.iter().map(|row| row.before_of_customer)),
            column(rows.iter().map(|row| i16::from(row.outbound))),
            column(rows.iter().map(|row| row.body.as_slice())),
            column(rows.iter().map(|row| row.decision.as_deref())),
        ]
    });
    let updates: BTreeMap<i64, &[u8]> =
        sets.iter().flat_map(|set| set.updates.iter().map(|(no, body)| (*no, body.as_slice()))).collect();
    ask(pipeline, INTERACTION_BODY, !updates.is_empty(), || {
        vec![column(updates.keys().copied()), column(updates.values().copied())]
    });
}

fn write_messages<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet], seen: &mut Seen) {
    let messages: BTreeMap<&[u8; 16], &SealedMessage> =
        sets.iter().flat_map(|set| set.messages.iter().map(|message| (&message.key.0, message))).collect();
    keyed(pipeline, NEW_MESSAGE, MESSAGE, messages, &mut seen.stored_messages, |messages| {
        vec![
            column(messages.iter().map(|message| message.mark.as_slice())),
            column(messages.iter().map(|message| message.state.as_slice())),
        ]
    });
}

fn write_outgoing<'p>(pipeline: &mut Pipeline<'p>, sets: &[&'p SealedSet]) {
    let sends = || sets.iter().flat_map(|set| &set.sends);
    ask(pipeline, SEND, sends().next().is_some(), || {
        vec![
            column(sends().map(|send| send.id.as_bytes().as_slice())),
            column(sends().map(|send| send.conversation)),
            column(sends().map(|send| send.at)),
            column(sends().map(|send| send.planned.as_slice())),
        ]
    });
    let done = || sets.iter().flat_map(|set| &set.sends_done);
    ask(pipeline, SEND_DONE, done().next().is_some(), || vec![column(done().map(|id| id.as_bytes().as_slice()))]);
    let media = || sets.iter().flat_map(|set| &set.media);
    ask(pipeline, MEDIA, media().next().is_some(), || {
        vec![
            column(media().map(|file| file.interaction)),
            column(media().map(|file| file.part as i64)),
            column(media().map(|file| file.interaction_id.as_bytes().as_slice())),
            column(media().map(|file| file.channel.as_str())),
            column(media().map(|file| file.at.millis())),
        ]
    });
    let fetched = || sets.iter().flat_map(|set| &set.media_done);
    ask(pipeline, MEDIA_DONE, fetched().next().is_some(), || {
        vec![column(fetched().map(|file| file.0)), column(fetched().map(|file| file.1 as i64))]
    });
    let used: std::collections::BTreeSet<_> = sets.iter().flat_map(|set| &set.blobs).collect();
    ask(pipeline, BLOB_USE, !used.is_empty(), || {
        vec![
            column(used.iter().map(|used| used.interaction)),
            column(used.iter().map(|used| used.part as i64)),
            column(used.iter().map(|used| used.name.0.as_slice())),
        ]
    });
}
