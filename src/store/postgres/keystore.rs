//! The key store beside the tables: a schema of its own in the same database, named as theirs with `_keys` after it, so that
//! it can be dumped apart and be given other rights.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::place::Place;
use super::read::Readers;
use super::session::{PgError, Role, Session, failed};
use crate::base::Result;
use crate::store::seal::{KeyId, KeyStore, WrappedKey};

/// Keys in a schema.
pub(super) struct KeySchema {
    place: Place,
    readers: Arc<Readers>,
}

/// The name of the schema, quoted.
fn name(place: &Place) -> String {
    format!("\"{}_keys\"", place.schema)
}

/// Makes the tables if they are not there.
pub(super) async fn prepare(session: &Session, place: &Place) -> Result<()> {
    let name = name(place);
    let there = session
        .row(
            "SELECT 1::int8 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'root'",
            &[&format!("{}_keys", place.schema)],
        )
        .await
        .map_err(|e| failed(&e))?;
    if there.is_some() {
        return Ok(());
    }
    let sql = format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock({});
         CREATE SCHEMA IF NOT EXISTS {name};
         CREATE TABLE IF NOT EXISTS {name}.key (id bigint PRIMARY KEY, root bytea NOT NULL, wrap bytea NOT NULL);
         CREATE TABLE IF NOT EXISTS {name}.root (one bigint PRIMARY KEY CHECK (one = 1), id bytea NOT NULL);
         COMMIT",
        super::schema::LOCK
    );
    session.plain(&sql).await.map_err(|e| failed(&e).context("the key store cannot be made"))
}

fn root8(row: &Row, column: usize) -> Result<[u8; 8], PgError> {
    Ok(row.try_get::<_, &[u8]>(column)?.try_into().unwrap_or_default())
}

fn key(row: &Row) -> Result<(KeyId, WrappedKey), PgError> {
    Ok((KeyId(row.try_get(0)?), WrappedKey { root: root8(row, 1)?, bytes: row.try_get(2)? }))
}

impl KeySchema {
    pub(super) fn new(place: Place, readers: Arc<Readers>) -> KeySchema {
        KeySchema { place, readers }
    }

    /// Runs `change` in a transaction on a connection of its own: keys are written seldom.
    async fn change<T>(&self, change: impl AsyncFnOnce(&Session) -> std::result::Result<T, PgError>) -> Result<T> {
        let session = Session::connect(&self.place, Role::Helper, None).await?;
        let done = async {
            session.plain("BEGIN").await?;
            let done = change(&session).await?;
            session.plain("COMMIT").await?;
            Ok(done)
        };
        done.await.map_err(|e: PgError| failed(&e).context("the key store"))
    }
}

impl KeyStore for KeySchema {
    fn load(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        async move {
            let ids: Vec<i64> = ids.into_iter().map(|id| id.0).collect();
            let sql = format!("SELECT id, root, wrap FROM {}.key WHERE id = ANY($1)", name(&self.place));
            let rows = self.readers.rows(&sql, &[&ids]).await?;
            rows.iter().map(|row| key(row).map_err(|e| failed(&e))).collect()
        }
        .boxed()
    }

    fn root(&self) -> BoxFuture<'_, Result<Option<[u8; 8]>>> {
        async move {
            let rows = self.readers.rows(&format!("SELECT id FROM {}.root", name(&self.place)), &[]).await?;
            rows.first().map(|row| root8(row, 0).map_err(|e| failed(&e))).transpose()
        }
        .boxed()
    }

    fn add(&self, by: [u8; 8], keys: Vec<(KeyId, WrappedKey)>) -> BoxFuture<'_, Result<bool>> {
        async move {
            let name = name(&self.place);
            self.change(async |session| {
                let sql = format!("INSERT INTO {name}.root (one, id) VALUES (1, $1) ON CONFLICT DO NOTHING");
                session.run(&sql, &[&by.as_slice()]).await?;
                // Whoever rotates waits until these keys are there, or these are refused.
                let row = session.row(&format!("SELECT id FROM {name}.root FOR SHARE"), &[]).await?;
                if row.as_ref().map(|row| root8(row, 0)).transpose()? != Some(by) {
                    return Ok(false);
                }
                let ids: Vec<i64> = keys.iter().map(|(id, _)| id.0).collect();
                let roots: Vec<&[u8]> = keys.iter().map(|(_, key)| key.root.as_slice()).collect();
                let wraps: Vec<&[u8]> = keys.iter().map(|(_, key)| key.bytes.as_slice()).collect();
                let sql = format!(
                    "INSERT INTO {name}.key (id, root, wrap) SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[])
                     ON CONFLICT DO NOTHING"
                );
                session.run(&sql, &[&ids, &roots, &wraps]).await?;
                Ok(true)
            })
            .await
        }
        .boxed()
    }

    fn page(&self, after: Option<KeyId>, limit: usize) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        async move {
            let after = after.map_or(i64::MIN, |id| id.0);
            let sql =
                format!("SELECT id, root, wrap FROM {}.key WHERE id > $1 ORDER BY id LIMIT $2", name(&self.place));
            let rows = self.readers.rows(&sql, &[&after, &(limit as i64)]).await?;
            rows.iter().map(|row| key(row).map_err(|e| failed(&e))).collect()
        }
        .boxed()
    }

    fn go_by(&self, by: [u8; 8]) -> BoxFuture<'_, Result<()>> {
        async move {
            let sql = format!(
                "INSERT INTO {}.root (one, id) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET id = excluded.id",
                name(&self.place)
            );
            self.change(async |session| session.run(&sql, &[&by.as_slice()]).await.map(|_| ())).await
        }
        .boxed()
    }

    fn rewrap(&self, keys: Vec<(KeyId, [u8; 8], WrappedKey)>) -> BoxFuture<'_, Result<()>> {
        async move {
            let ids: Vec<i64> = keys.iter().map(|(id, ..)| id.0).collect();
            let was: Vec<&[u8]> = keys.iter().map(|(_, was, _)| was.as_slice()).collect();
            let roots: Vec<&[u8]> = keys.iter().map(|(.., key)| key.root.as_slice()).collect();
            let wraps: Vec<&[u8]> = keys.iter().map(|(.., key)| key.bytes.as_slice()).collect();
            let sql = format!(
                "UPDATE {}.key k SET root = u.root, wrap = u.wrap
                   FROM unnest($1::int8[], $2::bytea[], $3::bytea[], $4::bytea[]) AS u (id, was, root, wrap)
                  WHERE k.id = u.id AND k.root = u.was",
                name(&self.place)
            );
            self.change(async |session| session.run(&sql, &[&ids, &was, &roots, &wraps]).await.map(|_| ())).await
        }
        .boxed()
    }

    fn destroy(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<()>> {
        async move {
            let ids: Vec<i64> = ids.into_iter().map(|id| id.0).collect();
            let name = name(&self.place);
            self.change(async |session| {
                session.run(&format!("DELETE FROM {name}.key WHERE id = ANY($1)"), &[&ids]).await.map(|_| ())
            })
            .await?;
            // What is deleted lies in the file until it is vacuumed.
            let session = Session::connect(&self.place, Role::Helper, None).await?;
            session.plain(&format!("VACUUM {name}.key")).await.map_err(|e| failed(&e))
        }
        .boxed()
    }
}
