//! What people and programs look up, on PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::feed::SHOWN;
use super::read::{Readers, all, first, get, id16};
use super::state::{CUSTOMER, customer, customer_timeline};
use super::writer::Writer;
use super::written::text;
use crate::base::id::{CustomerId, EntryId, EventId};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::store::seal::Codec;
use crate::store::seal::stored::{StoredDead, StoredFeedEvent, StoredQuarantine};
use crate::store::{Catalog, CustomerRow, DeadLetter, FeedEvent, Most, QuarantineRow, Stretch, TokenRow, code};

pub(super) struct PgCatalog {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

fn token(row: &Row) -> Result<TokenRow> {
    Ok(TokenRow {
        id: get(row, 0)?,
        name: get(row, 1)?,
        scopes: get::<&str>(row, 2)?.split_whitespace().map(str::to_owned).collect(),
        hash: get::<&[u8]>(row, 3)?.try_into().map_err(|_| Error::internal("a token of the store is damaged"))?,
        created_at: Timestamp::from_millis(get(row, 4)?),
        revoked_at: get::<Option<i64>>(row, 5)?.map(Timestamp::from_millis),
    })
}

const QUARANTINE: &str = "SELECT q.no, e.id, e.channel, q.reason, q.at, q.position FROM quarantine q JOIN entry e ON e.position = q.position";

fn quarantined(row: &Row) -> Result<StoredQuarantine> {
    Ok(StoredQuarantine {
        row: QuarantineRow {
            no: get(row, 0)?,
            entry: EntryId::from_bytes(id16(row, 1)?),
            channel: get(row, 2)?,
            reason: String::new(),
            at: Timestamp::from_millis(get(row, 4)?),
        },
        reason: get(row, 3)?,
        position: get(row, 5)?,
    })
}

fn event(row: &Row) -> Result<StoredFeedEvent> {
    let event = FeedEvent {
        no: get(row, 0)?,
        kind: u8::try_from(get::<i16>(row, 1)?).unwrap_or_default(),
        channel: get(row, 2)?,
        body: Bytes::from(get::<Vec<u8>>(row, 3)?),
    };
    Ok(StoredFeedEvent { id: EventId::from_bytes(id16(row, 4)?), event })
}

impl Catalog for PgCatalog {
    fn feed(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>> {
        async move {
            let page = all(self.readers.rows(SHOWN, &[&after, &(limit as i64)]).await?, event)?;
            self.codec.open_all(page).await
        }
        .boxed()
    }

    fn all_events(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<FeedEvent>>> {
        async move {
            let sql = "SELECT no, kind, channel, body, id FROM event WHERE no > $1 ORDER BY no LIMIT $2";
            let page = all(self.readers.rows(sql, &[&after, &(limit as i64)]).await?, event)?;
            self.codec.open_all(page).await
        }
        .boxed()
    }

    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Option<FeedEvent>>> {
        async move {
            let sql = "SELECT no, kind, channel, body, id FROM event WHERE id = $1";
            let rows = self.readers.rows(sql, &[&id.as_bytes().as_slice()]).await?;
            self.codec.open_one(first(rows, event)?).await
        }
        .boxed()
    }

    fn feed_end(&self) -> tokio::sync::watch::Receiver<i64> {
        self.writer.feed.end.subscribe()
    }

    fn feed_position(&self, id: EventId) -> BoxFuture<'_, Result<Option<i64>>> {
        async move {
            let rows = self.readers.rows("SELECT no FROM event WHERE id = $1", &[&id.as_bytes().as_slice()]).await?;
            first(rows, |row| get(row, 0))
        }
        .boxed()
    }

    fn customer_by_id(&self, id: CustomerId) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        async move {
            let sql = format!("SELECT {CUSTOMER} FROM customer c WHERE c.id = $1");
            let rows = self.readers.rows(&sql, &[&id.as_bytes().as_slice()]).await?;
            self.codec.open_one(first(rows, customer)?).await
        }
        .boxed()
    }

    fn customer_timeline(&self, latest: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>> {
        async move {
            let found = customer_timeline(&self.readers, latest, before, most).await?;
            Ok(self.codec.open_one(Some(found)).await?.unwrap_or_default())
        }
        .boxed()
    }

    fn quarantine(&self, before: i64, limit: usize) -> BoxFuture<'_, Result<Vec<QuarantineRow>>> {
        async move {
            let sql = format!("{QUARANTINE} WHERE q.no < $1 ORDER BY q.no DESC LIMIT $2");
            let rows = self.readers.rows(&sql, &[&before, &(limit as i64)]).await?;
            self.codec.open_all(all(rows, quarantined)?).await
        }
        .boxed()
    }

    fn quarantine_of(&self, entry: EntryId) -> BoxFuture<'_, Result<Vec<QuarantineRow>>> {
        async move {
            let sql = format!("{QUARANTINE} WHERE e.id = $1 ORDER BY q.no");
            let rows = self.readers.rows(&sql, &[&entry.as_bytes().as_slice()]).await?;
            self.codec.open_all(all(rows, quarantined)?).await
        }
        .boxed()
    }

    fn dead_letters(
        &self,
        helpdesk: Option<String>,
        before: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        async move {
            let sql = "SELECT d.event, d.helpdesk, e.id, d.attempts, d.error, d.at FROM dead d
                 JOIN event e ON e.no = d.event
                 WHERE d.event < $2 AND ($1::text IS NULL OR d.helpdesk = $1) ORDER BY d.event DESC LIMIT $3";
            let page = all(self.readers.rows(sql, &[&helpdesk, &before, &(limit as i64)]).await?, |row| {
                let dead = DeadLetter {
                    no: get(row, 0)?,
                    helpdesk: get(row, 1)?,
                    event: EventId::from_bytes(id16(row, 2)?),
                    attempts: u32::try_from(get::<i64>(row, 3)?).unwrap_or_default(),
                    error: String::new(),
                    at: Timestamp::from_millis(get(row, 5)?),
                };
                Ok(StoredDead { row: dead, error: get(row, 4)? })
            })?;
            self.codec.open_all(page).await
        }
        .boxed()
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>>> {
        async move {
            let sql = "SELECT id, name, scopes, hash, created_at, revoked_at FROM token ORDER BY created_at";
            all(self.readers.rows(sql, &[]).await?, token)
        }
        .boxed()
    }

    fn add_token(&self, token: TokenRow) -> BoxFuture<'static, Result<()>> {
        let added = self.writer.job(move |session| {
            let (id, name, scopes) = (token.id.clone(), text(&token.name).into_owned(), token.scopes.join(" "));
            let (hash, created_at) = (token.hash, token.created_at.millis());
            let revoked_at = token.revoked_at.map(Timestamp::millis);
            async move {
                // The same token once more is the same call, tried again.
                let sql = "INSERT INTO token AS t (id, name, scopes, hash, created_at, revoked_at)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (id) DO UPDATE SET name = t.name WHERE t.hash = excluded.hash";
                let hash = hash.as_slice();
                Ok(session.run(sql, &[&id, &name, &scopes, &hash, &created_at, &revoked_at]).await? == 1)
            }
            .boxed()
        });
        async move {
            match added.await? {
                true => Ok(()),
                false => Err(Error::new(Kind::Conflict, "another token has this id")),
            }
        }
        .boxed()
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'static, Result<bool>> {
        self.writer.job(move |session| {
            let id = id.clone();
            async move {
                let sql = "UPDATE token SET revoked_at = (extract(epoch FROM now()) * 1000)::int8
                           WHERE id = $1 AND revoked_at IS NULL";
                Ok(session.run(sql, &[&id]).await? == 1)
            }
            .boxed()
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<String, i64>>> {
        async move {
            let each = code::TABLES.map(|table| format!("SELECT '{table}', count(*) FROM {table}"));
            let rows = self.readers.rows(&each.join(" UNION ALL "), &[]).await?;
            rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
        }
        .boxed()
    }
}
