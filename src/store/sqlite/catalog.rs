//! What people and programs look up, on SQLite.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, Row};

use super::read::Readers;
use super::state::{CUSTOMER, Chain, chain, customer};
use super::writer::Writer;
use crate::base::id::{CustomerId, EntryId, EventId};
use crate::base::{Result, Timestamp};
use crate::store::seal::Codec;
use crate::store::seal::stored::{StoredDead, StoredFeedEvent, StoredQuarantine};
use crate::store::{Catalog, CustomerRow, DeadLetter, FeedEvent, Most, QuarantineRow, Stretch, TokenRow, code};

pub(super) struct SqliteCatalog {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: row.get(0)?,
        name: row.get(1)?,
        scopes: row.get::<_, String>(2)?.split_whitespace().map(str::to_owned).collect(),
        hash: row.get(3)?,
        created_at: Timestamp::from_millis(row.get(4)?),
        revoked_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
    })
}

const QUARANTINE: &str = "SELECT q.no, e.id, e.channel, q.reason, q.at, q.position FROM quarantine q JOIN entry e ON e.position = q.position";

fn quarantined(row: &Row<'_>) -> rusqlite::Result<StoredQuarantine> {
    Ok(StoredQuarantine {
        row: QuarantineRow {
            no: row.get(0)?,
            entry: EntryId::from_bytes(row.get(1)?),
            channel: row.get(2)?,
            reason: String::new(),
            at: Timestamp::from_millis(row.get(4)?),
        },
        reason: row.get(3)?,
        position: row.get(5)?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<StoredFeedEvent> {
    let event = FeedEvent {
        no: row.get(0)?,
        kind: row.get(1)?,
        channel: row.get(2)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(3)?),
    };
    Ok(StoredFeedEvent { id: EventId::from_bytes(row.get(4)?), event })
}

impl Catalog for SqliteCatalog {
    fn feed(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>> {
        self.readers.opened(&self.codec, move |connection| {
            connection
                .prepare_cached("SELECT no, kind, channel, body, id FROM event WHERE no > ?1 ORDER BY no LIMIT ?2")?
                .query_map((after, limit as i64), event)?
                .collect()
        })
    }

    fn all_events(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>> {
        self.feed(after, limit)
    }

    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<FeedEvent>>> {
        let found = self.readers.opened(&self.codec, move |connection| {
            connection
                .prepare_cached("SELECT no, kind, channel, body, id FROM event WHERE id = ?1")?
                .query_map([id.as_bytes().as_slice()], event)?
                .collect()
        });
        async move { Ok(found.await?.pop()) }.boxed()
    }

    fn feed_end(&self) -> tokio::sync::watch::Receiver<i64> {
        self.writer.feed.subscribe()
    }

    fn feed_position(&self, id: EventId) -> BoxFuture<'_, Result<Option<i64>>> {
        self.readers.apart(move |connection| {
            connection
                .prepare_cached("SELECT no FROM event WHERE id = ?1")?
                .query_row([id.as_bytes().as_slice()], |row| row.get(0))
                .optional()
        })
    }

    fn customer_by_id(&self, id: CustomerId) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        let found = self.readers.apart(move |connection| {
            let sql = format!("SELECT {CUSTOMER} FROM customer c WHERE c.id = ?1");
            connection.prepare_cached(&sql)?.query_row([id.as_bytes().as_slice()], customer).optional()
        });
        async move { self.codec.open_one(found.await?).await }.boxed()
    }

    fn customer_timeline(&self, latest: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>> {
        let found = self
            .readers
            .apart(move |connection| chain(connection, Chain::Customer, latest, most, |row| row.no < before));
        async move { Ok(self.codec.open_one(Some(found.await?)).await?.unwrap_or_default()) }.boxed()
    }

    fn quarantine(&self, before: i64, limit: usize) -> BoxFuture<'_, Result<Vec<QuarantineRow>>> {
        self.readers.opened(&self.codec, move |connection| {
            let sql = format!("{QUARANTINE} WHERE q.no < ?1 ORDER BY q.no DESC LIMIT ?2");
            connection.prepare_cached(&sql)?.query_map((before, limit as i64), quarantined)?.collect()
        })
    }

    fn quarantine_of(&self, entry: EntryId) -> BoxFuture<'_, Result<Vec<QuarantineRow>>> {
        self.readers.opened(&self.codec, move |connection| {
            // The quarantine is small and has no index by entry.
            let sql = format!("{QUARANTINE} WHERE e.id = ?1 ORDER BY q.no");
            connection.prepare_cached(&sql)?.query_map([entry.as_bytes().as_slice()], quarantined)?.collect()
        })
    }

    fn dead_letters(
        &self,
        helpdesk: Option<String>,
        before: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        self.readers.opened(&self.codec, move |connection| {
            connection
                .prepare_cached(
                    "SELECT d.event, d.helpdesk, e.id, d.attempts, d.error, d.at FROM dead d
                     JOIN event e ON e.no = d.event
                     WHERE d.event < ?2 AND (?1 IS NULL OR d.helpdesk = ?1) ORDER BY d.event DESC LIMIT ?3",
                )?
                .query_map((&helpdesk, before, limit as i64), |row| {
                    let dead = DeadLetter {
                        no: row.get(0)?,
                        helpdesk: row.get(1)?,
                        event: EventId::from_bytes(row.get(2)?),
                        attempts: row.get(3)?,
                        error: String::new(),
                        at: Timestamp::from_millis(row.get(5)?),
                    };
                    Ok(StoredDead { row: dead, error: row.get(4)? })
                })?
                .collect()
        })
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>>> {
        self.readers.apart(|connection| {
            connection
                .prepare_cached("SELECT id, name, scopes, hash, created_at, revoked_at FROM token ORDER BY created_at")?
                .query_map([], token)?
                .collect()
        })
    }

    fn add_token(&self, token: TokenRow) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO token (id, name, scopes, hash, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((
                    &token.id,
                    &token.name,
                    token.scopes.join(" "),
                    token.hash.as_slice(),
                    token.created_at.millis(),
                    token.revoked_at.map(Timestamp::millis),
                ))?;
            Ok(())
        })
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'static, Result<bool>> {
        self.writer.job(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE token SET revoked_at = unixepoch() * 1000 WHERE id = ?1 AND revoked_at IS NULL",
                )?
                .execute([&id])?;
            Ok(changed == 1)
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<String, i64>>> {
        self.readers.apart(|connection| {
            code::TABLES
                .iter()
                .map(|table| {
                    let count = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
                    Ok(((*table).to_owned(), count))
                })
                .collect()
        })
    }
}
