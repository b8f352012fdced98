//! What is still to be delivered, sent or fetched, on PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::feed::{self, BEGIN_AT_THE_END, TELL_REWIND};
use super::read::{Readers, all, first, get, id16};
use super::writer::Writer;
use crate::base::id::{EventId, InteractionId, SendId};
use crate::base::{Result, Timestamp};
use crate::store::seal::stored::{StoredDue, StoredSend};
use crate::store::seal::{Codec, Column};
use crate::store::{DueEvent, DueMedia, DueSend, Outbox, Subscription, Tail};

pub(super) struct PgOutbox {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

const DUE: &str = "d.event, e.id, d.conversation, d.attempts, d.next_at, e.body, d.previous";

/// A count as it is known outside.
fn count(row: &Row, column: usize) -> Result<u32> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or_default())
}

fn due_event(row: &Row) -> Result<StoredDue> {
    Ok(StoredDue(DueEvent {
        no: get(row, 0)?,
        id: EventId::from_bytes(id16(row, 1)?),
        conversation: get(row, 2)?,
        attempts: count(row, 3)?,
        next_at: Timestamp::from_millis(get(row, 4)?),
        body: Bytes::from(get::<Vec<u8>>(row, 5)?),
        previous: get(row, 6)?,
        aside: true,
    }))
}

pub(super) const SEND: &str = "id, planned, attempts, created_at, conversation, state";

pub(super) fn send_row(row: &Row) -> Result<StoredSend> {
    Ok(StoredSend {
        id: SendId::from_bytes(id16(row, 0)?),
        planned: get(row, 1)?,
        attempts: count(row, 2)?,
        created_at: Timestamp::from_millis(get(row, 3)?),
        conversation: get(row, 4)?,
        state: get::<i16>(row, 5)?.into(),
    })
}

/// Names the call that commits an intent.
fn intent() -> [u8; 16] {
    *SendId::random(Timestamp::from_millis(0)).as_bytes()
}

impl Outbox for PgOutbox {
    fn subscribe(&self, helpdesks: Vec<Subscription>) -> BoxFuture<'static, Result<()>> {
        let names = self.writer.feed.subscribers.replace(helpdesks);
        self.writer.job(move |session| {
            let names = names.clone();
            async move {
                // One that is new begins at the end. One that is unknown here may be another node's.
                for name in &names {
                    session.run(BEGIN_AT_THE_END, &[name]).await?;
                }
                Ok(())
            }
            .boxed()
        })
    }

    fn due_tail(&self, helpdesk: &str) -> Arc<Tail<DueEvent>> {
        self.writer.feed.subscribers.tail(helpdesk)
    }

    fn settled(&self, helpdesk: String) -> BoxFuture<'static, Result<i64>> {
        self.writer.job(move |session| {
            let helpdesk = helpdesk.clone();
            async move {
                session.run(BEGIN_AT_THE_END, &[&helpdesk]).await?;
                let row = session.row("SELECT event FROM settled WHERE helpdesk = $1", &[&helpdesk]).await?;
                row.map_or(Ok(0), |row| row.try_get(0))
            }
            .boxed()
        })
    }

    fn settle_through(&self, helpdesk: &str, event: i64) {
        self.writer.mark(helpdesk, |marks| marks.through = marks.through.max(Some(event)));
    }

    fn wanted_events(&self, helpdesk: String, after: i64, limit: usize) -> BoxFuture<'_, Result<(Vec<DueEvent>, i64)>> {
        let Some(subscription) = self.writer.feed.subscribers.subscription(&helpdesk) else {
            return std::future::ready(Ok((Vec::new(), after))).boxed();
        };
        let wanted = self
            .readers
            .with(move |session| async move { feed::wanted(session, &subscription, after, limit).await }.boxed());
        async move {
            let (events, read) = wanted.await?;
            Ok((self.codec.open_all(events).await?, read))
        }
        .boxed()
    }

    fn set_aside_conversations(&self, helpdesk: String) -> BoxFuture<'_, Result<Vec<(i64, Timestamp)>>> {
        async move {
            let sql = "SELECT conversation, max(next_at) FROM due WHERE helpdesk = $1 GROUP BY conversation";
            all(self.readers.rows(sql, &[&helpdesk]).await?, |row| {
                Ok((get(row, 0)?, Timestamp::from_millis(get(row, 1)?)))
            })
        }
        .boxed()
    }

    fn set_aside_of(&self, helpdesk: String, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>>> {
        async move {
            let sql = format!(
                "SELECT {DUE} FROM due d JOIN event e ON e.no = d.event
                 WHERE d.helpdesk = $1 AND d.conversation = $2 ORDER BY d.event LIMIT $3"
            );
            let rows = self.readers.rows(&sql, &[&helpdesk, &conversation, &(limit as i64)]).await?;
            self.codec.open_all(all(rows, due_event)?).await
        }
        .boxed()
    }

    fn set_aside(&self, helpdesk: String, events: Vec<DueEvent>, term: u64) -> BoxFuture<'static, Result<()>> {
        self.writer.job_in(term, move |session| {
            let helpdesk = helpdesk.clone();
            let column = |pick: fn(&DueEvent) -> i64| events.iter().map(pick).collect::<Vec<i64>>();
            let (nos, conversations, previous) = (column(|e| e.no), column(|e| e.conversation), column(|e| e.previous));
            async move {
                let sql = "INSERT INTO due (helpdesk, event, conversation, previous)
                     SELECT $1::text, u.* FROM unnest($2::int8[], $3::int8[], $4::int8[]) AS u ON CONFLICT DO NOTHING";
                session.run(sql, &[&helpdesk, &nos, &conversations, &previous]).await?;
                Ok(())
            }
            .boxed()
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
        term: u64,
    ) -> BoxFuture<'static, Result<()>> {
        let attempts = i64::from(event.attempts) + 1;
        self.codec.with_sealed(Column::DeliveryError, &event.no.to_be_bytes(), error.as_bytes(), |error| {
            self.writer.job_in(term, move |session| {
                let (helpdesk, error) = (helpdesk.clone(), error.clone());
                let (no, conversation, previous, next_at) =
                    (event.no, event.conversation, event.previous, next_at.millis());
                async move {
                    let sql = "INSERT INTO due (helpdesk, event, conversation, previous, attempts, next_at, error)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (helpdesk, event) DO UPDATE
                        SET attempts = excluded.attempts, next_at = excluded.next_at, error = excluded.error";
                    session.run(sql, &[&helpdesk, &no, &conversation, &previous, &attempts, &next_at, &error]).await?;
                    Ok(())
                }
                .boxed()
            })
        })
    }

    fn dead_letter(
        &self,
        helpdesk: String,
        event: DueEvent,
        error: String,
        term: u64,
    ) -> BoxFuture<'static, Result<()>> {
        let attempts = i64::from(event.attempts) + 1;
        self.codec.with_sealed(Column::DeliveryError, &event.no.to_be_bytes(), error.as_bytes(), |error| {
            self.writer.job_in(term, move |session| {
                let (helpdesk, error) = (helpdesk.clone(), error.clone());
                let (no, conversation, previous) = (event.no, event.conversation, event.previous);
                async move {
                    let sql = "INSERT INTO dead (event, helpdesk, conversation, previous, attempts, error, at)
                     SELECT $2, $1, $3, $4, $5, $6, e.at FROM event e WHERE e.no = $2 ON CONFLICT DO NOTHING";
                    session.run(sql, &[&helpdesk, &no, &conversation, &previous, &attempts, &error]).await?;
                    session.run("DELETE FROM due WHERE helpdesk = $1 AND event = $2", &[&helpdesk, &no]).await?;
                    Ok(())
                }
                .boxed()
            })
        })
    }

    fn revive(&self, helpdesk: Option<String>, event: Option<EventId>) -> BoxFuture<'static, Result<u64>> {
        let feed = self.writer.feed.clone();
        let revived = self.writer.job(move |session| {
            let helpdesk = helpdesk.clone();
            async move {
                let no: Option<i64> = match event {
                    None => None,
                    Some(id) => {
                        let sql = "SELECT coalesce((SELECT no FROM event WHERE id = $1), -1)";
                        session.row(sql, &[&id.as_bytes().as_slice()]).await?.map(|row| row.try_get(0)).transpose()?
                    }
                };
                let sql = "WITH gone AS (
                         DELETE FROM dead WHERE ($1::text IS NULL OR helpdesk = $1) AND ($2::int8 IS NULL OR event = $2)
                         RETURNING helpdesk, event, conversation, previous),
                     put AS (
                         INSERT INTO due (helpdesk, event, conversation, previous)
                         SELECT * FROM gone ON CONFLICT DO NOTHING)
                     SELECT count(*) FROM gone";
                let row = session.row(sql, &[&helpdesk, &no]).await?;
                let count = row.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
                if count > 0 {
                    session.row(TELL_REWIND, &[]).await?;
                }
                Ok(count.max(0) as u64)
            }
            .boxed()
        });
        async move {
            let count = revived.await?;
            if count > 0 {
                feed.subscribers.rewind();
            }
            Ok(count)
        }
        .boxed()
    }

    fn due_sends(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        async move {
            let sql = format!("SELECT {SEND} FROM send WHERE state = 0 AND next_at <= $1 ORDER BY id LIMIT $2");
            let rows = self.readers.rows(&sql, &[&now.millis(), &(limit as i64)]).await?;
            self.codec.open_all(all(rows, send_row)?).await
        }
        .boxed()
    }

    fn intend(&self, send: SendId, term: u64) -> BoxFuture<'static, Result<bool>> {
        let intent = intent();
        self.writer.job_in(term, move |session| {
            async move {
                let sql = "UPDATE send SET state = 1, intent = $2, attempts = attempts + (1 - state)
                     WHERE id = $1 AND (state = 0 OR state = 1 AND intent = $2)";
                Ok(session.run(sql, &[&send.as_bytes().as_slice(), &intent.as_slice()]).await? == 1)
            }
            .boxed()
        })
    }

    fn withdraw(&self, send: SendId, next_at: Timestamp, error: String, term: u64) -> BoxFuture<'static, Result<()>> {
        self.codec.with_sealed(Column::SendError, send.as_bytes(), error.as_bytes(), |error| {
            self.writer.job_in(term, move |session| {
                let error = error.clone();
                async move {
                    let sql = "UPDATE send SET state = 0, next_at = $2, error = $3 WHERE id = $1 AND state = 1";
                    session.run(sql, &[&send.as_bytes().as_slice(), &next_at.millis(), &error]).await?;
                    Ok(())
                }
                .boxed()
            })
        })
    }

    fn unresolved_sends(&self) -> BoxFuture<'_, Result<Vec<DueSend>>> {
        async move {
            let sql = format!("SELECT {SEND} FROM send WHERE state = 1 ORDER BY id");
            self.codec.open_all(all(self.readers.rows(&sql, &[]).await?, send_row)?).await
        }
        .boxed()
    }

    fn due_media(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<DueMedia>>> {
        async move {
            let sql = "SELECT interaction, interaction_id, part, channel, attempts FROM media
                       WHERE next_at <= $1 ORDER BY next_at LIMIT $2";
            all(self.readers.rows(sql, &[&now.millis(), &(limit as i64)]).await?, |row| {
                Ok(DueMedia {
                    interaction: get(row, 0)?,
                    interaction_id: InteractionId::from_bytes(id16(row, 1)?),
                    part: usize::try_from(get::<i64>(row, 2)?).unwrap_or_default(),
                    channel: get(row, 3)?,
                    attempts: count(row, 4)?,
                })
            })
        }
        .boxed()
    }

    fn media_failed(&self, media: DueMedia, next_at: Timestamp) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |session| {
            let (interaction, part) = (media.interaction, media.part as i64);
            let attempts = i64::from(media.attempts) + 1;
            async move {
                let sql = "UPDATE media SET attempts = $4, next_at = $3 WHERE interaction = $1 AND part = $2";
                session.run(sql, &[&interaction, &part, &next_at.millis(), &attempts]).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn due_count(&self) -> BoxFuture<'_, Result<u64>> {
        let subscribers = self.writer.feed.subscribers.all();
        async move {
            let rows = self.readers.rows("SELECT count(*) FROM due", &[]).await?;
            let mut due = first(rows, |row| get::<i64>(row, 0))?.unwrap_or(0);
            let sql = "SELECT kind, channel, count(*) FROM event
                       WHERE no > (SELECT event FROM settled WHERE helpdesk = $1) GROUP BY kind, channel";
            for subscriber in subscribers.iter() {
                let subscription = &subscriber.subscription;
                for row in self.readers.rows(sql, &[&subscription.helpdesk]).await? {
                    let kind = u8::try_from(get::<i16>(&row, 0)?).unwrap_or_default();
                    if subscription.wants(kind, get(&row, 1)?) {
                        due += get::<i64>(&row, 2)?;
                    }
                }
            }
            Ok(due.max(0) as u64)
        }
        .boxed()
    }

    fn wake(&self) -> Arc<tokio::sync::Notify> {
        self.writer.feed.wake.clone()
    }
}
