//! Mailboxes on SQLite: mails and the cursor behind them in one savepoint of the writer's transaction.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension};
use zeroize::Zeroizing;

use super::journal;
use super::keys::Keys;
use super::read::Readers;
use super::writer::Writer;
use crate::base::{Result, Timestamp};
use crate::model::Entry;
use crate::store::seal::stored::StoredGrant;
use crate::store::seal::{Codec, Column, SealedEntry};
use crate::store::{Appended, Cursor, FolderRow, MailBatch, Mailboxes, NewEntry, read_on, since};

pub(super) struct SqliteMailboxes {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) keys: Arc<Keys>,
    pub(super) codec: Arc<Codec>,
}

/// A mail as it lies in the journal, with what it became if it is new there.
type Taken = (Appended, SealedEntry, Option<Entry>);

/// Moves the cursor of the batch. False if it is not where the batch begins.
fn move_cursor(connection: &Connection, batch: &MailBatch) -> rusqlite::Result<bool> {
    let (channel, folder) = (&batch.channel, &batch.folder);
    let (to, at) = (batch.to, batch.at.millis());
    let moved = match batch.from {
        None => connection
            .prepare_cached(
                "INSERT INTO mailbox (channel, folder, validity, uid, acted, moved_at, since) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)
                 ON CONFLICT DO NOTHING",
            )?
            .execute((channel, folder, to.validity, to.uid, at, batch.since.millis()))?,
        Some(from) => connection
            .prepare_cached(
                "UPDATE mailbox SET acted = CASE WHEN validity = ?3 AND uid <= ?4 THEN acted ELSE 0 END,
                        validity = ?3, uid = ?4, moved_at = ?5,
                        since = CASE WHEN ?8 THEN -abs(since) ELSE abs(since) END
                  WHERE channel = ?1 AND folder = ?2 AND validity = ?6 AND uid = ?7",
            )?
            .execute((channel, folder, to.validity, to.uid, at, from.validity, from.uid, batch.anew))?,
    };
    Ok(moved == 1)
}

/// The whole batch. None if its cursor is somewhere else.
fn take(
    connection: &Connection,
    keys: &Keys,
    batch: MailBatch,
    sealed: Vec<SealedEntry>,
) -> rusqlite::Result<Option<Vec<Taken>>> {
    if !move_cursor(connection, &batch)? {
        return Ok(None);
    }
    let mut taken = Vec::with_capacity(sealed.len());
    for (entry, sealed) in batch.entries.into_iter().zip(sealed) {
        let (appended, entry) = journal::append(connection, keys, entry, &sealed)?;
        taken.push((appended, sealed, entry));
    }
    Ok(Some(taken))
}

/// The same, leaving nothing of the batch where a part of it fails.
fn take_whole(
    connection: &Connection,
    keys: &Keys,
    batch: MailBatch,
    sealed: Vec<SealedEntry>,
) -> rusqlite::Result<Option<Vec<Taken>>> {
    connection.execute_batch("SAVEPOINT mails")?;
    let taken = take(connection, keys, batch, sealed);
    // A disk that refuses may have ended the transaction already, and with it everything.
    if taken.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO mails")?;
        keys.reload(connection)?;
    }
    if !connection.is_autocommit() {
        connection.execute_batch("RELEASE mails")?;
    }
    taken
}

impl Mailboxes for SqliteMailboxes {
    fn append(&self, batch: MailBatch) -> BoxFuture<'static, Result<Vec<Appended>>> {
        let sealed = match batch.entries.iter().map(|entry: &NewEntry| self.codec.seal_entry(entry)).collect() {
            Ok(sealed) => sealed,
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        let (keys, codec, tail) = (self.keys.clone(), self.codec.clone(), self.writer.tail.clone());
        let written = self.writer.job_then(
            move |connection| take_whole(connection, &keys, batch, sealed),
            move |taken| {
                let (appended, new): (Vec<_>, Vec<_>) = taken?
                    .into_iter()
                    .map(|(appended, sealed, entry)| (appended, entry.map(|entry| (sealed, entry))))
                    .unzip();
                let new = new.into_iter().flatten().map(|(sealed, entry)| {
                    codec.keep(entry.position, &sealed);
                    entry
                });
                tail.push(new);
                Some(appended)
            },
        );
        async move { written.await?.ok_or_else(read_on) }.boxed()
    }

    fn folders(&self, channel: String) -> BoxFuture<'_, Result<Vec<FolderRow>>> {
        self.readers.apart(move |connection| {
            connection
                .prepare_cached(
                    "SELECT folder, validity, uid, acted, since, moved_at FROM mailbox WHERE channel = ?1 ORDER BY folder",
                )?
                .query_map([&channel], |row| {
                    let (since, anew) = since(row.get(4)?);
                    Ok(FolderRow {
                        folder: row.get(0)?,
                        cursor: Cursor { validity: row.get(1)?, uid: row.get(2)? },
                        acted: row.get(3)?,
                        since,
                        anew,
                        moved_at: Timestamp::from_millis(row.get(5)?),
                    })
                })?
                .collect()
        })
    }

    fn acted(&self, channel: String, folder: String, done: Cursor) -> BoxFuture<'static, Result<()>> {
        self.writer.job(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE mailbox SET acted = ?4
                      WHERE channel = ?1 AND folder = ?2 AND validity = ?3 AND acted < ?4 AND uid >= ?4",
                )?
                .execute((&channel, &folder, done.validity, done.uid))
                .map(drop)
        })
    }

    fn grant(&self, channel: String) -> BoxFuture<'_, Result<Option<Zeroizing<Vec<u8>>>>> {
        let found = self.readers.apart(move |connection| {
            connection
                .prepare_cached("SELECT channel, kept FROM mail_grant WHERE channel = ?1")?
                .query_row([&channel], |row| Ok(StoredGrant { channel: row.get(0)?, kept: row.get(1)? }))
                .optional()
        });
        async move { self.codec.open_one(found.await?).await }.boxed()
    }

    fn keep_grant(&self, channel: String, kept: Zeroizing<Vec<u8>>) -> BoxFuture<'static, Result<()>> {
        let writer = self.writer.clone();
        self.codec.with_sealed(Column::Grant, channel.clone().as_bytes(), &kept, move |sealed| {
            writer.job(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT INTO mail_grant (channel, kept) VALUES (?1, ?2)
                         ON CONFLICT (channel) DO UPDATE SET kept = excluded.kept",
                    )?
                    .execute((&channel, &sealed))
                    .map(drop)
            })
        })
    }
}
