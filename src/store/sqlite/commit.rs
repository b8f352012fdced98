//! Writing a changeset: check what it asserts, then write all of it.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension};

use super::events::{Tip, write_events};
use super::journal::wraps;
use super::keys::{Key, Keys};
use super::open::failed;
use super::read::Readers;
use super::writer::Writer;
use crate::base::Result;
use crate::store::code::{ENGINE, state_number};
use crate::store::seal::{Codec, SealedConversation, SealedCustomer, SealedSet};
use crate::store::subscribers::Subscriber;
use crate::store::{Assert, Changeset, Committed, DueEvent, StateWrite};

pub(super) struct SqliteCommits {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

impl StateWrite for SqliteCommits {
    fn commit(&self, batch: Vec<Changeset>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        let (writer, readers, codec) = (self.writer.clone(), self.readers.clone(), self.codec.clone());
        async move {
            let unknown = codec.unknown(batch.iter().map(|set| set.position));
            if !unknown.is_empty() {
                codec.learn(readers.with(|connection| wraps(connection, &unknown))?).await?;
            }
            writer.commit(codec.seal_sets(batch).await?).await
        }
        .boxed()
    }
}

/// Where a changeset leaves what must be handed on once the group is on disk.
pub(super) struct Sink<'a> {
    pub(super) due: &'a mut Vec<Vec<DueEvent>>,
    pub(super) feed: &'a mut Option<i64>,
    pub(super) wake: &'a mut bool,
}

/// Applies one changeset inside the writer's transaction.
pub(super) fn apply(
    connection: &Connection,
    changeset: SealedSet,
    subscribers: &[Subscriber],
    keys: &Keys,
    bundles: &mut HashMap<String, i64>,
    sink: &mut Sink<'_>,
    careful: bool,
) -> Result<Committed> {
    if !still_pending(connection, changeset.position).map_err(failed)? {
        return Ok(Committed::AlreadyApplied);
    }
    for assert in &changeset.asserts {
        if !holds(connection, keys, assert).map_err(failed)? {
            return Ok(Committed::Conflict);
        }
    }
    let bundle = bundle_number(connection, &changeset.bundle, bundles).map_err(failed)?;
    if !careful {
        return write(connection, changeset, bundle, subscribers, keys, sink).map(Committed::Done).map_err(failed);
    }
    // Some changeset met a unique key that it did not assert, and its group was taken back. Now each is taken back alone.
    let before: Vec<usize> = sink.due.iter().map(Vec::len).collect();
    connection.prepare_cached("SAVEPOINT changeset").and_then(|mut s| s.execute([])).map_err(failed)?;
    let outcome = match write(connection, changeset, bundle, subscribers, keys, sink) {
        Ok(apply_no) => Committed::Done(apply_no),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            tracing::warn!(target: "segue::commit", error = %error, "a changeset met a unique key it did not assert");
            connection.execute_batch("ROLLBACK TO changeset").map_err(failed)?;
            keys.reload(connection).map_err(failed)?;
            sink.due.iter_mut().zip(before).for_each(|(due, length)| due.truncate(length));
            Committed::Conflict
        }
        Err(error) => return Err(failed(error)),
    };
    connection.prepare_cached("RELEASE changeset").and_then(|mut s| s.execute([])).map_err(failed)?;
    Ok(outcome)
}

fn still_pending(connection: &Connection, position: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM pending WHERE position = ?1")?.exists([position])
}

/// Whether what was read still holds.
fn holds(connection: &Connection, keys: &Keys, assert: &Assert) -> rusqlite::Result<bool> {
    let version = |sql: &str, no: i64| -> rusqlite::Result<Option<i64>> {
        connection.prepare_cached(sql)?.query_row([no], |row| row.get(0)).optional()
    };
    let absent =
        |sql: &str, key: &[u8]| -> rusqlite::Result<bool> { Ok(!connection.prepare_cached(sql)?.exists([key])?) };
    match assert {
        Assert::Customer(no, expected) => {
            Ok(version("SELECT version FROM customer WHERE no = ?1", *no)? == Some(*expected))
        }
        Assert::Conversation { no, version: expected, .. } => {
            Ok(version("SELECT version FROM conversation WHERE no = ?1", *no)? == Some(*expected))
        }
        Assert::IdentifierFree(key) => absent("SELECT 1 FROM identifier WHERE key = ?1", &key.0),
        Assert::ItemFree(item) => Ok(keys.find(connection, Key::item(item))?.is_none()),
        Assert::Message(key, None) => absent("SELECT 1 FROM message WHERE key = ?1", &key.0),
        Assert::Message(key, Some(mark)) => {
            let found = connection
                .prepare_cached("SELECT mark FROM message WHERE key = ?1")?
                .query_row([key.0.as_slice()], |row| row.get::<_, [u8; 16]>(0))
                .optional()?;
            Ok(found.as_ref() == Some(mark))
        }
        Assert::Thread(key, expected) => {
            let found = connection
                .prepare_cached("SELECT conversation FROM thread WHERE key = ?1")?
                .query_row([key.0.as_slice()], |row| row.get::<_, i64>(0))
                .optional()?;
            Ok(found == *expected)
        }
    }
}

fn bundle_number(connection: &Connection, hash: &str, known: &mut HashMap<String, i64>) -> rusqlite::Result<i64> {
    if let Some(no) = known.get(hash) {
        return Ok(*no);
    }
    let sql = "INSERT INTO bundle (hash, used) VALUES (?1, 1) ON CONFLICT (hash) DO UPDATE SET used = 1";
    connection.prepare_cached(sql)?.execute([hash])?;
    let no = connection.query_row("SELECT no FROM bundle WHERE hash = ?1", [hash], |row| row.get(0))?;
    known.insert(hash.to_owned(), no);
    Ok(no)
}

fn write(
    connection: &Connection,
    changeset: SealedSet,
    bundle: i64,
    subscribers: &[Subscriber],
    keys: &Keys,
    sink: &mut Sink<'_>,
) -> rusqlite::Result<i64> {
    connection.prepare_cached("DELETE FROM pending WHERE position = ?1")?.execute([changeset.position])?;
    for customer in &changeset.customers {
        write_customer(connection, customer)?;
    }
    for (key, customer) in &changeset.identifiers {
        connection
            .prepare_cached("INSERT INTO identifier (key, customer) VALUES (?1, ?2)")?
            .execute((key.0.as_slice(), customer))?;
    }
    write_events(connection, &changeset, subscribers, sink)?;
    for (key, conversation) in &changeset.threads {
        connection
            .prepare_cached(
                "INSERT INTO thread (key, conversation) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET conversation = excluded.conversation",
            )?
            .execute((key.0.as_slice(), conversation))?;
    }
    write_interactions(connection, &changeset, keys)?;
    for message in &changeset.messages {
        connection
            .prepare_cached(
                "INSERT INTO message (key, mark, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET mark = excluded.mark, state = excluded.state",
            )?
            .execute((message.key.0.as_slice(), message.mark.as_slice(), &message.state))?;
    }
    write_outgoing(connection, &changeset, sink)?;
    for reason in &changeset.quarantined {
        connection
            .prepare_cached(
                "INSERT INTO quarantine (position, reason, at)
                 SELECT ?1, ?2, at FROM entry WHERE position = ?1",
            )?
            .execute((changeset.position, reason))?;
    }
    for no in &changeset.released {
        connection.prepare_cached("DELETE FROM quarantine WHERE position = ?1")?.execute([no])?;
    }
    for (key, at) in &changeset.sides {
        connection
            .prepare_cached(
                "INSERT INTO side (key, at) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
            )?
            .execute((key.as_slice(), at))?;
    }
    connection
        .prepare_cached("INSERT INTO applied (position, bundle, engine, facts, wrap) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .insert((changeset.position, bundle, ENGINE, &changeset.facts, &changeset.wrap))
}

fn write_customer(connection: &Connection, row: &SealedCustomer) -> rusqlite::Result<()> {
    if row.new {
        connection
            .prepare_cached(
                "INSERT INTO customer (no, id, version, created_at, latest, profile, recent)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                row.no,
                row.id.as_bytes().as_slice(),
                row.version,
                row.created_at,
                row.latest,
                &row.profile,
                &row.recent,
            ))?;
    } else if row.profile_changed {
        connection
            .prepare_cached("UPDATE customer SET version = ?2, latest = ?3, recent = ?4, profile = ?5 WHERE no = ?1")?
            .execute((row.no, row.version, row.latest, &row.recent, &row.profile))?;
    } else {
        connection
            .prepare_cached("UPDATE customer SET version = ?2, latest = ?3, recent = ?4 WHERE no = ?1")?
            .execute((row.no, row.version, row.latest, &row.recent))?;
    }
    Ok(())
}

pub(super) fn write_conversation(
    connection: &Connection,
    write: &SealedConversation,
    tip: &Tip,
) -> rusqlite::Result<()> {
    let row = &write.row;
    if write.new {
        connection
            .prepare_cached(
                "INSERT INTO conversation (no, id, version, customer, state, public, seq, event_seq, opened_at,
                                           updated_at, latest, latest_event, latest_kind, latest_channel,
                                           queue, owner, links)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            )?
            .execute(rusqlite::params![
                row.no,
                row.id.as_bytes().as_slice(),
                row.version,
                row.customer,
                state_number(row.state),
                row.public,
                row.seq,
                row.event_seq,
                row.opened_at.millis(),
                row.updated_at.millis(),
                row.latest,
                tip.no,
                tip.kind,
                tip.channel,
                row.queue,
                write.owner,
                write.links,
            ])?;
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE conversation SET version = ?2, state = ?3, seq = ?4, event_seq = ?5, updated_at = ?6, latest = ?7,
                                     latest_event = ?8, latest_kind = ?9, latest_channel = ?10, queue = ?11,
                                     owner = ?12, links = ?13
             WHERE no = ?1",
        )?
        .execute(rusqlite::params![
            row.no,
            row.version,
            state_number(row.state),
            row.seq,
            row.event_seq,
            row.updated_at.millis(),
            row.latest,
            tip.no,
            tip.kind,
            tip.channel,
            row.queue,
            write.owner,
            write.links,
        ])?;
    Ok(())
}

fn write_interactions(connection: &Connection, changeset: &SealedSet, keys: &Keys) -> rusqlite::Result<()> {
    for interaction in &changeset.interactions {
        connection
            .prepare_cached(
                "INSERT INTO interaction (no, id, item, conversation, seq, before_in_conversation, customer,
                                          before_of_customer, outbound, body, decision)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                interaction.no,
                interaction.id.as_bytes().as_slice(),
                interaction.item.as_ref().map(|item| item.0.as_slice()),
                interaction.conversation,
                interaction.seq,
                interaction.before_in_conversation,
                interaction.customer,
                interaction.before_of_customer,
                interaction.outbound,
                &interaction.body,
                &interaction.decision,
            ))?;
        if let Some(item) = &interaction.item {
            keys.add(connection, Key::item(item), interaction.no)?;
        }
    }
    for (no, body) in &changeset.updates {
        connection.prepare_cached("UPDATE interaction SET body = ?2 WHERE no = ?1")?.execute((no, body))?;
    }
    Ok(())
}

fn write_outgoing(connection: &Connection, changeset: &SealedSet, sink: &mut Sink<'_>) -> rusqlite::Result<()> {
    for send in &changeset.sends {
        connection
            .prepare_cached(
                "INSERT INTO send (id, state, conversation, created_at, next_at, attempts, planned)
                 VALUES (?1, 0, ?2, ?3, ?3, 0, ?4)",
            )?
            .execute((send.id.as_bytes().as_slice(), send.conversation, send.at, &send.planned))?;
        *sink.wake = true;
    }
    for id in &changeset.sends_done {
        connection.prepare_cached("UPDATE send SET state = 2 WHERE id = ?1")?.execute([id.as_bytes().as_slice()])?;
    }
    for media in &changeset.media {
        connection
            .prepare_cached(
                "INSERT INTO media (interaction, part, interaction_id, channel, attempts, next_at)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute((
                media.interaction,
                media.part as i64,
                media.interaction_id.as_bytes().as_slice(),
                &media.channel,
                media.at.millis(),
            ))?;
        *sink.wake = true;
    }
    for (interaction, part) in &changeset.media_done {
        connection
            .prepare_cached("DELETE FROM media WHERE interaction = ?1 AND part = ?2")?
            .execute((interaction, *part as i64))?;
    }
    changeset.blobs.iter().try_for_each(|used| super::blob::write_use(connection, used))
}
