//! What is still to be delivered, sent or fetched, on SQLite.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, Row};

use super::events::previous_wanted;
use super::read::Readers;
use super::writer::Writer;
use crate::base::id::{EventId, InteractionId, SendId};
use crate::base::{Result, Timestamp};
use crate::store::seal::stored::{StoredDue, StoredSend};
use crate::store::seal::{Codec, Column};
use crate::store::{DueEvent, DueMedia, DueSend, Outbox, Subscription, Tail};

pub(super) struct SqliteOutbox {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

/// A help desk that is not known yet is settled up to the present end of the feed.
const BEGIN_AT_THE_END: &str = "INSERT INTO settled (helpdesk, event)
     SELECT ?1, coalesce(max(no), 0) FROM event WHERE true ON CONFLICT DO NOTHING";

const DUE: &str = "d.event, e.id, d.conversation, d.attempts, d.next_at, e.body, d.previous";

fn due_event(row: &Row<'_>) -> rusqlite::Result<StoredDue> {
    Ok(StoredDue(DueEvent {
        no: row.get(0)?,
        id: EventId::from_bytes(row.get(1)?),
        conversation: row.get(2)?,
        attempts: row.get(3)?,
        next_at: Timestamp::from_millis(row.get(4)?),
        body: Bytes::from(row.get::<_, Vec<u8>>(5)?),
        previous: row.get(6)?,
        aside: true,
    }))
}

pub(super) const SEND: &str = "id, planned, attempts, created_at, conversation, state";

pub(super) fn send_row(row: &Row<'_>) -> rusqlite::Result<StoredSend> {
    Ok(StoredSend {
        id: SendId::from_bytes(row.get(0)?),
        planned: row.get(1)?,
        attempts: row.get(2)?,
        created_at: Timestamp::from_millis(row.get(3)?),
        conversation: row.get(4)?,
        state: row.get(5)?,
    })
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

/// Reads the feed on from `after`: what the help desk wants of it, and how far it was read.
fn wanted(
    connection: &Connection,
    subscription: &Subscription,
    after: i64,
    limit: usize,
) -> rusqlite::Result<(Vec<StoredDue>, i64)> {
    let mut select = connection.prepare_cached(
        "SELECT e.no, e.id, e.conversation, e.kind, e.channel, e.before, e.at, e.body FROM event e
         WHERE e.no > ?1 ORDER BY e.no",
    )?;
    let (mut events, mut read) = (Vec::new(), after);
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        read = row.get(0)?;
        if !subscription.wants(row.get(3)?, row.get_ref(4)?.as_str()?) {
            continue;
        }
        events.push(StoredDue(DueEvent {
            no: read,
            id: EventId::from_bytes(row.get(1)?),
            conversation: row.get(2)?,
            attempts: 0,
            next_at: Timestamp::from_millis(row.get(6)?),
            body: Bytes::from(row.get::<_, Vec<u8>>(7)?),
            previous: previous_wanted(connection, subscription, row.get(5)?)?,
            aside: false,
        }));
        if events.len() >= limit {
            break;
        }
    }
    Ok((events, read))
}

impl Outbox for SqliteOutbox {
    fn subscribe(&self, helpdesks: Vec<Subscription>) -> BoxFuture<'static, Result<()>> {
        let names = self.writer.subscribers.replace(helpdesks);
        self.writer.job(move |connection| {
            // A help desk that is gone must not hold up the pruning of events; one that is new begins at the end.
            let known = serde_json::to_string(&names).unwrap_or_default();
            connection
                .prepare_cached("DELETE FROM settled WHERE helpdesk NOT IN (SELECT value FROM json_each(?1))")?
                .execute([&known])?;
            for name in &names {
                connection.prepare_cached(BEGIN_AT_THE_END)?.execute([name])?;
            }
            Ok(())
        })
    }

    fn due_tail(&self, helpdesk: &str) -> Arc<Tail<DueEvent>> {
        self.writer.subscribers.tail(helpdesk)
    }

    fn settled(&self, helpdesk: String) -> BoxFuture<'static, Result<i64>> {
        self.writer.job(move |connection| {
            connection.prepare_cached(BEGIN_AT_THE_END)?.execute([&helpdesk])?;
            connection
                .prepare_cached("SELECT event FROM settled WHERE helpdesk = ?1")?
                .query_row([&helpdesk], |row| row.get(0))
        })
    }

    fn settle_through(&self, helpdesk: &str, event: i64) {
        self.writer.mark(helpdesk, |marks| marks.through = marks.through.max(Some(event)));
    }

    fn wanted_events(&self, helpdesk: String, after: i64, limit: usize) -> BoxFuture<'_, Result<(Vec<DueEvent>, i64)>> {
        let subscription = self.writer.subscribers.subscription(&helpdesk);
        let wanted = self.readers.apart(move |connection| match subscription {
            Some(subscription) => wanted(connection, &subscription, after, limit),
            None => Ok((Vec::new(), after)),
        });
        async move {
            let (events, read) = wanted.await?;
            Ok((self.codec.open_all(events).await?, read))
        }
        .boxed()
    }

    fn set_aside_conversations(&self, helpdesk: String) -> BoxFuture<'_, Result<Vec<(i64, Timestamp)>>> {
        self.readers.apart(move |connection| {
            let sql = "SELECT conversation, max(next_at) FROM due WHERE helpdesk = ?1 GROUP BY conversation";
            collect(connection, sql, [&helpdesk], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?))))
        })
    }

    fn set_aside_of(&self, helpdesk: String, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>>> {
        self.readers.opened(&self.codec, move |connection| {
            let sql = format!(
                "SELECT {DUE} FROM due d JOIN event e ON e.no = d.event
                 WHERE d.helpdesk = ?1 AND d.conversation = ?2 ORDER BY d.event LIMIT ?3"
            );
            collect(connection, &sql, (&helpdesk, conversation, limit as i64), due_event)
        })
    }

    fn set_aside(&self, helpdesk: String, events: Vec<DueEvent>, _: u64) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| {
            let mut insert = connection.prepare_cached(
                "INSERT INTO due (helpdesk, event, conversation, previous) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
            )?;
            for event in &events {
                insert.execute((&helpdesk, event.no, event.conversation, event.previous))?;
            }
            Ok(())
        })
    }

    fn delivered(&self, helpdesk: &str, events: Vec<i64>) {
        self.writer.mark(helpdesk, |marks| marks.delivered.extend(events));
    }

    fn attempt_failed(
        &self,
        helpdesk: String,
        event: DueEvent,
        next_at: Timestamp,
        error: String,
        _: u64,
    ) -> BoxFuture<'static, Result<()>> {
        self.codec.with_sealed(Column::DeliveryError, &event.no.to_be_bytes(), error.as_bytes(), |error| {
            self.writer.job(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT INTO due (helpdesk, event, conversation, previous, attempts, next_at, error)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT (helpdesk, event) DO UPDATE
                        SET attempts = excluded.attempts, next_at = excluded.next_at, error = excluded.error",
                    )?
                    .execute((
                        &helpdesk,
                        event.no,
                        event.conversation,
                        event.previous,
                        event.attempts + 1,
                        next_at.millis(),
                        &error,
                    ))?;
                Ok(())
            })
        })
    }

    fn dead_letter(&self, helpdesk: String, event: DueEvent, error: String, _: u64) -> BoxFuture<'static, Result<()>> {
        self.codec.with_sealed(Column::DeliveryError, &event.no.to_be_bytes(), error.as_bytes(), |error| {
            self.writer.job(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT INTO dead (event, helpdesk, conversation, previous, attempts, error, at)
                     SELECT ?2, ?1, ?3, ?4, ?5, ?6, e.at FROM event e WHERE e.no = ?2 ON CONFLICT DO NOTHING",
                    )?
                    .execute((&helpdesk, event.no, event.conversation, event.previous, event.attempts + 1, &error))?;
                connection
                    .prepare_cached("DELETE FROM due WHERE helpdesk = ?1 AND event = ?2")?
                    .execute((&helpdesk, event.no))?;
                Ok(())
            })
        })
    }

    fn revive(&self, helpdesk: Option<String>, event: Option<EventId>) -> BoxFuture<'static, Result<u64>> {
        let subscribers = self.writer.subscribers.clone();
        let revived = self.writer.job(move |connection| {
            let no = match event {
                None => None,
                Some(id) => Some(connection.query_row(
                    "SELECT coalesce((SELECT no FROM event WHERE id = ?1), -1)",
                    [id.as_bytes().as_slice()],
                    |row| row.get::<_, i64>(0),
                )?),
            };
            let which = "(?1 IS NULL OR helpdesk = ?1) AND (?2 IS NULL OR event = ?2)";
            connection
                .prepare_cached(&format!(
                    "INSERT INTO due (helpdesk, event, conversation, previous)
                 SELECT helpdesk, event, conversation, previous FROM dead WHERE {which} ON CONFLICT DO NOTHING"
                ))?
                .execute((&helpdesk, no))?;
            let gone =
                connection.prepare_cached(&format!("DELETE FROM dead WHERE {which}"))?.execute((&helpdesk, no))?;
            Ok(gone as u64)
        });
        async move {
            let count = revived.await?;
            if count > 0 {
                subscribers.rewind();
            }
            Ok(count)
        }
        .boxed()
    }

    fn due_sends(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        self.readers.opened(&self.codec, move |connection| {
            let sql = format!("SELECT {SEND} FROM send WHERE state = 0 AND next_at <= ?1 ORDER BY id LIMIT ?2");
            collect(connection, &sql, (now.millis(), limit as i64), send_row)
        })
    }

    fn intend(&self, send: SendId, _: u64) -> BoxFuture<'static, Result<bool>> {
        self.writer.job(move |connection| {
            let changed = connection
                .prepare_cached("UPDATE send SET state = 1, attempts = attempts + 1 WHERE id = ?1 AND state = 0")?
                .execute([send.as_bytes().as_slice()])?;
            Ok(changed == 1)
        })
    }

    fn withdraw(&self, send: SendId, next_at: Timestamp, error: String, _: u64) -> BoxFuture<'static, Result<()>> {
        self.codec.with_sealed(Column::SendError, send.as_bytes(), error.as_bytes(), |error| {
            self.writer.job(move |connection| {
                connection
                    .prepare_cached("UPDATE send SET state = 0, next_at = ?2, error = ?3 WHERE id = ?1 AND state = 1")?
                    .execute((send.as_bytes().as_slice(), next_at.millis(), &error))?;
                Ok(())
            })
        })
    }

    fn unresolved_sends(&self) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        self.readers.opened(&self.codec, |connection| {
            collect(connection, &format!("SELECT {SEND} FROM send WHERE state = 1 ORDER BY id"), [], send_row)
        })
    }

    fn due_media(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueMedia>>> {
        self.readers.apart(move |connection| {
            let sql = "SELECT interaction, interaction_id, part, channel, attempts FROM media
                       WHERE next_at <= ?1 ORDER BY next_at LIMIT ?2";
            collect(connection, sql, (now.millis(), limit as i64), |row| {
                Ok(DueMedia {
                    interaction: row.get(0)?,
                    interaction_id: InteractionId::from_bytes(row.get(1)?),
                    part: row.get::<_, i64>(2)?.max(0) as usize,
                    channel: row.get(3)?,
                    attempts: row.get(4)?,
                })
            })
        })
    }

    fn media_failed(&self, media: DueMedia, next_at: Timestamp) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE media SET attempts = attempts + 1, next_at = ?3 WHERE interaction = ?1 AND part = ?2",
                )?
                .execute((media.interaction, media.part as i64, next_at.millis()))?;
            Ok(())
        })
    }

    fn due_count(&self) -> BoxFuture<'_, Result<u64>> {
        let subscribers = self.writer.subscribers.all();
        self.readers.apart(move |connection| {
            let mut count: i64 =
                connection.prepare_cached("SELECT count(*) FROM due")?.query_row([], |row| row.get(0))?;
            let sql = "SELECT kind, channel, count(*) FROM event
                       WHERE no > (SELECT event FROM settled WHERE helpdesk = ?1) GROUP BY kind, channel";
            for subscriber in subscribers.iter() {
                let subscription = &subscriber.subscription;
                let ahead = collect(connection, sql, [&subscription.helpdesk], |row| {
                    Ok((row.get::<_, u8>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
                })?;
                let wanted = ahead.iter().filter(|(kind, channel, _)| subscription.wants(*kind, channel));
                count += wanted.map(|(_, _, count)| count).sum::<i64>();
            }
            Ok(count.max(0) as u64)
        })
    }

    fn wake(&self) -> Arc<tokio::sync::Notify> {
        self.writer.wake.clone()
    }
}
