//! Mailboxes on PostgreSQL: mails and the cursor behind them in the transaction of one group.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;
use zeroize::Zeroizing;

use super::group;
use super::read::{Readers, all, get};
use super::session::{PgError, Session};
use super::writer::{Append, Writer};
use crate::base::{Result, Timestamp};
use crate::store::seal::stored::StoredGrant;
use crate::store::seal::{Codec, Column};
use crate::store::{Appended, Cursor, FolderRow, MailBatch, Mailboxes, read_on, since};

pub(super) struct PgMailboxes {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

/// A batch that is ready to be written, perhaps several times until one is confirmed.
struct Ready {
    channel: String,
    folder: String,
    appends: Vec<Append>,
    from: Option<Cursor>,
    to: Cursor,
    at: Timestamp,
    since: Timestamp,
    anew: bool,
}

/// Moves the cursor of a batch. False if it is not where the batch begins; where it stands already at the end, an earlier
/// try was committed after all, or another node took the same mails, which are found by their keys.
async fn move_cursor(session: &Session, batch: &Ready) -> std::result::Result<bool, PgError> {
    let (validity, uid, at) = (batch.to.validity, i64::from(batch.to.uid), batch.at.millis());
    let (channel, folder) = (&batch.channel, &batch.folder);
    let moved = match batch.from {
        None => {
            let sql = "INSERT INTO mailbox (channel, folder, validity, uid, acted, moved_at, since)
                       VALUES ($1, $2, $3, $4, 0, $5, $6) ON CONFLICT DO NOTHING";
            session.run(sql, &[channel, folder, &validity, &uid, &at, &batch.since.millis()]).await?
        }
        Some(from) => {
            let sql = "UPDATE mailbox SET acted = CASE WHEN validity = $3 AND uid <= $4 THEN acted ELSE 0 END,
                              validity = $3, uid = $4, moved_at = $5,
                              since = CASE WHEN $8 THEN -abs(since) ELSE abs(since) END
                        WHERE channel = $1 AND folder = $2 AND validity = $6 AND uid = $7";
            let (was, from) = (from.validity, i64::from(from.uid));
            session.run(sql, &[channel, folder, &validity, &uid, &at, &was, &from, &batch.anew]).await?
        }
    };
    if moved == 1 {
        return Ok(true);
    }
    let sql = "SELECT FROM mailbox WHERE channel = $1 AND folder = $2 AND validity = $3 AND uid = $4";
    Ok(session.row(sql, &[channel, folder, &validity, &uid]).await?.is_some())
}

/// The whole batch in the transaction that is open. None if its cursor is somewhere else.
async fn take(session: &Session, batch: &Ready) -> std::result::Result<Option<Vec<Option<Appended>>>, PgError> {
    if !move_cursor(session, batch).await? {
        return Ok(None);
    }
    let places = group::append(session, &batch.appends).await?;
    if places.iter().any(Option::is_none) {
        // What kept one out was taken away in between. The cursor must not pass a mail that is nowhere.
        session.plain("DO $$ BEGIN RAISE EXCEPTION 'a mail is neither new nor known'; END $$").await?;
    }
    Ok(Some(places))
}

impl Mailboxes for PgMailboxes {
    fn append(&self, batch: MailBatch) -> BoxFuture<'static, Result<Vec<Appended>>> {
        let MailBatch { channel, folder, entries, from, to, at, since, anew } = batch;
        let sealed = entries.into_iter().map(|entry| {
            let sealed = self.codec.seal_entry(&entry)?;
            Ok(self.writer.ordered(entry, sealed, None))
        });
        let appends = match sealed.collect::<Result<Vec<_>>>() {
            Ok(appends) => appends,
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        let batch = Arc::new(Ready { channel, folder, appends, from, to, at, since, anew });
        let (writer, written) = (self.writer.clone(), batch.clone());
        let written = self.writer.job_then(
            move |session| {
                let batch = batch.clone();
                async move { take(session, &batch).await }.boxed()
            },
            move |places| {
                let mut places = places?;
                writer.hand_on(&written.appends, &mut places);
                Some(places.into_iter().flatten().collect())
            },
        );
        async move { written.await?.ok_or_else(read_on) }.boxed()
    }

    fn folders(&self, channel: String) -> BoxFuture<'_, Result<Vec<FolderRow>>> {
        async move {
            let sql = "SELECT folder, validity, uid, acted, since, moved_at FROM mailbox WHERE channel = $1
                        ORDER BY folder COLLATE \"C\"";
            all(self.readers.rows(sql, &[&channel]).await?, folder)
        }
        .boxed()
    }

    fn acted(&self, channel: String, folder: String, done: Cursor) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |session| {
            let (channel, folder) = (channel.clone(), folder.clone());
            async move {
                let sql = "UPDATE mailbox SET acted = $4
                            WHERE channel = $1 AND folder = $2 AND validity = $3 AND acted < $4 AND uid >= $4";
                let (validity, uid) = (done.validity, i64::from(done.uid));
                session.run(sql, &[&channel, &folder, &validity, &uid]).await.map(drop)
            }
            .boxed()
        })
    }

    fn grant(&self, channel: String) -> BoxFuture<'_, Result<Option<Zeroizing<Vec<u8>>>>> {
        async move {
            let sql = "SELECT channel, kept FROM mail_grant WHERE channel = $1";
            let rows = self.readers.rows(sql, &[&channel]).await?;
            let found = all(rows, |row| Ok(StoredGrant { channel: get(row, 0)?, kept: get(row, 1)? }))?;
            self.codec.open_one(found.into_iter().next()).await
        }
        .boxed()
    }

    fn keep_grant(&self, channel: String, kept: Zeroizing<Vec<u8>>) -> BoxFuture<'static, Result<()>> {
        let writer = self.writer.clone();
        self.codec.with_sealed(Column::Grant, channel.clone().as_bytes(), &kept, move |sealed| {
            writer.job(move |session| {
                let (channel, sealed) = (channel.clone(), sealed.clone());
                async move {
                    let sql = "INSERT INTO mail_grant (channel, kept) VALUES ($1, $2)
                               ON CONFLICT (channel) DO UPDATE SET kept = excluded.kept";
                    session.run(sql, &[&channel, &sealed]).await.map(drop)
                }
                .boxed()
            })
        })
    }
}

fn folder(row: &Row) -> Result<FolderRow> {
    let number = |at| get::<i64>(row, at).map(|number| u32::try_from(number).unwrap_or_default());
    let (since, anew) = since(get(row, 4)?);
    Ok(FolderRow {
        folder: get(row, 0)?,
        cursor: Cursor { validity: get(row, 1)?, uid: number(2)? },
        acted: number(3)?,
        since,
        anew,
        moved_at: Timestamp::from_millis(get(row, 5)?),
    })
}
