//! The two references: what this machine gives a server that does nothing, and a database that does nothing else.
//!
//! A figure of the gateway means little without them: it is compared with what HTTP alone and the disk alone allow here
//! and now. Both are measured in the same run, before the gateway.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rusqlite::{Connection, params};
use tokio::net::TcpListener;

use crate::Result;

/// Items in one transaction.
const GROUP: usize = 64;
/// Rows that are written again and again: as many as the load has senders.
const HOT: i64 = crate::message::SENDERS.cast_signed();

/// The empty server: reads a request whole and answers 200. A process of its own; its first line names the port.
pub(crate) fn serve_empty() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = service_fn(|request: http::Request<Incoming>| async {
                    let whole = request.into_body().collect().await;
                    drop(whole);
                    Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                // How the load's connections end is of no interest.
                drop(http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

/// Items a second that SQLite takes in `directory`, seven writes each: entry, interaction, event, applied record,
/// customer, conversation, delivered mark; WAL, `synchronous=FULL`, [`GROUP`] items a transaction.
pub(crate) fn sqlite(directory: &Path, length: Duration) -> Result<f64> {
    let mut database = Connection::open(directory.join("reference.db"))?;
    for (name, value) in
        [("journal_mode", "WAL"), ("synchronous", "FULL"), ("cache_size", "-24576"), ("wal_autocheckpoint", "8192")]
    {
        database.pragma_update(None, name, value)?;
    }
    database.execute_batch(TABLES)?;
    let hot = database.transaction()?;
    for no in 1..=HOT {
        hot.prepare_cached("INSERT INTO customer VALUES (?1, ?2, 0, 0, ?3)")?.execute(params![
            no,
            id(no, 1),
            vec![b'c'; 120]
        ])?;
        hot.prepare_cached("INSERT INTO conversation VALUES (?1, ?2, ?1, 0, 0, 0)")?.execute(params![no, id(no, 2)])?;
    }
    hot.commit()?;
    let (entry, interaction, event) = (vec![b'e'; 1024], vec![b'i'; 1024], vec![b'v'; 2048]);
    let start = Instant::now();
    let mut no: i64 = 0;
    while start.elapsed() < length {
        let group = database.transaction()?;
        for _ in 0..GROUP {
            no += 1;
            // A fixed stride visits every hot row without visiting neighbors.
            let hot = no * 7919 % HOT + 1;
            group.prepare_cached("INSERT INTO entry VALUES (?1, ?2, 1, 'whatsapp', ?1, ?3, ?4)")?.execute(params![
                no,
                id(no, 3),
                id(no, 4),
                entry
            ])?;
            group.prepare_cached("INSERT INTO interaction VALUES (?1, ?2, ?3, ?4, ?4, ?5)")?.execute(params![
                no,
                id(no, 5),
                id(no, 6),
                hot,
                interaction
            ])?;
            group.prepare_cached("INSERT INTO event VALUES (?1, ?2, 1, ?3, ?1, ?4)")?.execute(params![
                no,
                id(no, 7),
                hot,
                event
            ])?;
            group.prepare_cached("INSERT INTO applied VALUES (?1, 1, '1', NULL)")?.execute(params![no])?;
            group
                .prepare_cached("UPDATE customer SET version = version + 1, latest = ?2 WHERE no = ?1")?
                .execute(params![hot, no])?;
            group
                .prepare_cached(
                    "UPDATE conversation SET version = version + 1, seq = seq + 1, latest = ?2 WHERE no = ?1",
                )?
                .execute(params![hot, no])?;
            group.prepare_cached("INSERT INTO delivered VALUES (?1, 1)")?.execute(params![no])?;
        }
        group.commit()?;
    }
    Ok(no as f64 / start.elapsed().as_secs_f64())
}

/// An id of 16 bytes that sorts by time, like a UUIDv7.
fn id(no: i64, kind: u64) -> [u8; 16] {
    let no = no.unsigned_abs();
    let low = no.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ kind;
    (u128::from(no) << 64 | u128::from(low)).to_be_bytes()
}

const TABLES: &str = "
CREATE TABLE entry (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL, channel TEXT NOT NULL,
    at INTEGER NOT NULL, delivery BLOB UNIQUE, raw BLOB NOT NULL) STRICT;
CREATE TABLE interaction (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, item BLOB UNIQUE,
    conversation INTEGER NOT NULL, customer INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE event (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL,
    conversation INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE applied (position INTEGER PRIMARY KEY, bundle INTEGER NOT NULL, engine TEXT NOT NULL, facts BLOB) STRICT;
CREATE TABLE customer (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, version INTEGER NOT NULL,
    latest INTEGER NOT NULL, profile BLOB NOT NULL) STRICT;
CREATE TABLE conversation (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, customer INTEGER NOT NULL,
    version INTEGER NOT NULL, seq INTEGER NOT NULL, latest INTEGER NOT NULL) STRICT;
CREATE TABLE delivered (event INTEGER PRIMARY KEY, helpdesk INTEGER NOT NULL) STRICT;
";
