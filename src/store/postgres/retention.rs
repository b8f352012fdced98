//! Pruning in batches, on PostgreSQL.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::read::{Readers, all, first, get, id16};
use super::session::{PgError, Session};
use super::writer::Writer;
use crate::base::id::EntryId;
use crate::base::{Result, Timestamp};
use crate::model::EntryKind;
use crate::store::lease::UPKEEP;
use crate::store::seal::Codec;
use crate::store::{Cutoffs, Retention};

#[derive(Clone)]
pub(super) struct PgRetention {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

impl PgRetention {
    /// Wraps the keys of entries that no customer owns by that of the house, then destroys the keys of days past.
    async fn end_days(&self, batch: usize) -> Result<u64> {
        let from = self.readers.rows("SELECT position FROM pruned WHERE class = 'days'", &[]).await?;
        let from: i64 = first(from, |row| get(row, 0))?.unwrap_or(0);
        // Positions of entries that are just being written may still come before those that are seen: what is that young has
        // a key that is not to be destroyed for days.
        let sql = "SELECT e.position, e.id, e.wrap, a.wrap IS NOT NULL FROM entry e
             LEFT JOIN applied a ON a.position = e.position WHERE e.position > $1 ORDER BY e.position LIMIT $2";
        let rows = self.readers.rows(sql, &[&from, &(batch as i64)]).await?;
        let page = all(rows, |row| Ok((get(row, 0)?, EntryId::from_bytes(id16(row, 1)?), get(row, 2)?, get(row, 3)?)))?;
        let found = self.codec.unmatched(page, from, batch).await?;
        if found.to > from {
            let (positions, wraps): (Vec<i64>, Vec<Vec<u8>>) = found.wraps.into_iter().unzip();
            let to = found.to;
            let written = self.writer.job(move |session| {
                let (positions, wraps) = (positions.clone(), wraps.clone());
                async move {
                    let sql =
                        "UPDATE entry e SET wrap = u.wrap FROM unnest($1::int8[], $2::bytea[]) AS u (position, wrap)
                         WHERE e.position = u.position";
                    session.run(sql, &[&positions, &wraps]).await?;
                    let sql = "INSERT INTO pruned AS p (class, position) VALUES ('days', $1)
                         ON CONFLICT (class) DO UPDATE SET position = GREATEST(p.position, excluded.position)";
                    session.run(sql, &[&to]).await
                }
                .boxed()
            });
            written.await?;
        }
        if found.last {
            self.codec.destroy_days(self.codec.day_past()).await?;
        }
        Ok(u64::from(!found.last))
    }
}

/// Ends the cursors of help desks that no node knows any more, which hold up the pruning of events.
const UNUSED: &str = "DELETE FROM settled WHERE used_at < now() - interval '30 days'";

impl Retention for PgRetention {
    fn prune(&self, before: Cutoffs, batch: usize) -> BoxFuture<'static, Result<u64>> {
        let own = self.writer.feed.subscribers.names();
        let nodes = self.writer.nodes.clone();
        let pruned = self.writer.job(move |session| {
            let (own, nodes) = (own.clone(), nodes.clone());
            async move {
                session.run("UPDATE settled SET used_at = now() WHERE helpdesk = ANY($1::text[])", &[&own]).await?;
                if !nodes.named(UPKEEP).may_begin() || !nodes.may_write(session, nodes.term()).await? {
                    return Ok(0);
                }
                session.run(UNUSED, &[]).await?;
                // What waits in quarantine keeps its original until somebody has looked at it.
                let spared = "NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.position = entry.position)";
                let old = (before.raw.millis(), before.covered);
                let raw = walk(session, "raw", old, batch, "head = ''::bytea, raw = NULL", spared).await?;
                let old = (before.dedupe.millis(), i64::MAX);
                // A folder whose UIDs are given anew shows mails of any age once more.
                let no_mail = format!("kind <> {}", EntryKind::Mail as u8);
                let dedupe = walk(session, "dedupe", old, batch, "delivery = NULL", &no_mail).await?;
                let sql = "DELETE FROM event WHERE no IN (
                         SELECT e.no FROM event e WHERE e.at < $1
                            AND NOT EXISTS (SELECT 1 FROM due d WHERE d.event = e.no)
                            AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.event = e.no)
                            AND e.no < (SELECT max(no) FROM event)
                            AND e.no <= coalesce((SELECT min(event) FROM settled), e.no)
                         ORDER BY e.no LIMIT $2)";
                let events = session.run(sql, &[&before.events.millis(), &(batch as i64)]).await?;
                Ok(raw + dedupe + events)
            }
            .boxed()
        });
        let own = self.clone();
        async move {
            let pruned = pruned.await?;
            // As all pruning, one node does this.
            match own.writer.nodes.named(UPKEEP).may_begin() {
                true => Ok(pruned + own.end_days(batch).await?),
                false => Ok(pruned),
            }
        }
        .boxed()
    }

    fn waits_for_checkpoint(&self, raw: Timestamp, covered: i64) -> BoxFuture<'_, Result<bool>> {
        async move {
            if !self.writer.nodes.named(UPKEEP).may_begin() {
                return Ok(false);
            }
            let from = self.readers.rows("SELECT position FROM pruned WHERE class = 'raw'", &[]).await?;
            let from: i64 = first(from, |row| get(row, 0))?.unwrap_or(0);
            let sql = format!(
                "WITH old AS MATERIALIZED ({OLD})
                 SELECT EXISTS (SELECT FROM old JOIN applied USING (position) WHERE apply_no > $4)"
            );
            let rows = self.readers.rows(&sql, &[&from, &raw.millis(), &1_i64, &covered]).await?;
            Ok(first(rows, |row| get(row, 0))?.unwrap_or(false))
        }
        .boxed()
    }

    fn forget_events(&self, events: Vec<i64>, before: Timestamp) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(move |session| {
            let events = events.clone();
            async move {
                let sql = "DELETE FROM event WHERE no = ANY($1) AND at < $2";
                session.run(sql, &[&events, &before.millis()]).await
            }
            .boxed()
        })
    }

    fn empty(&self, entries: Vec<EntryId>) -> BoxFuture<'static, Result<u64>> {
        self.writer.job(move |session| {
            let ids: Vec<Vec<u8>> = entries.iter().map(|id| id.as_bytes().to_vec()).collect();
            async move {
                // The keys go too, so that what may be left of it on the disk stays closed.
                let sql = "WITH emptied AS (
                         UPDATE entry SET head = ''::bytea, raw = NULL, wrap = '\\x00'::bytea
                          WHERE id = ANY($1) AND head <> ''::bytea
                            AND EXISTS (SELECT FROM applied a WHERE a.position = entry.position)
                         RETURNING position),
                     closed AS (
                         UPDATE applied SET wrap = '\\x00'::bytea
                          WHERE wrap IS NOT NULL AND position IN (SELECT position FROM emptied))
                     SELECT count(*) FROM emptied";
                Ok(session.row(sql, &[&ids]).await?.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs())
            }
            .boxed()
        })
    }
}

/// The next entries after a position that are old enough. The walk stops at the first one that is still pending or too
/// young, so that nothing is passed over.
const OLD: &str = "SELECT position FROM entry WHERE position > $1 AND at < $2
     AND position < coalesce((SELECT min(position) FROM pending), 9223372036854775807) ORDER BY position LIMIT $3";

/// Takes the next entries of a class that are old enough and were applied by number `covered`, and empties what the class
/// covers. Where two nodes
/// do the same at once, one waits for the row of the class and then finds nothing left to do.
async fn walk(
    session: &Session,
    class: &str,
    (before, covered): (i64, i64),
    batch: usize,
    set: &str,
    which: &str,
) -> std::result::Result<u64, PgError> {
    session.run("INSERT INTO pruned (class, position) VALUES ($1, 0) ON CONFLICT DO NOTHING", &[&class]).await?;
    let row = session.row("SELECT position FROM pruned WHERE class = $1 FOR UPDATE", &[&class]).await?;
    let from: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    let sql = format!(
        "WITH old AS MATERIALIZED ({OLD})
         SELECT coalesce(max(position), $1) FROM old WHERE position < coalesce(
             (SELECT min(position) FROM old JOIN applied USING (position) WHERE apply_no > $4), 9223372036854775807)"
    );
    let row = session.row(&sql, &[&from, &before, &(batch as i64), &covered]).await?;
    let to: i64 = row.map_or(Ok(from), |row| row.try_get(0))?;
    if to <= from {
        return Ok(0);
    }
    let sql = format!("UPDATE entry SET {set} WHERE position > $1 AND position <= $2 AND {which}");
    let changed = session.run(&sql, &[&from, &to]).await?;
    session.run("UPDATE pruned SET position = $2 WHERE class = $1", &[&class, &to]).await?;
    // Counted as at least one row, so that a batch of spared rows does not end the round.
    Ok(changed.max(1))
}
