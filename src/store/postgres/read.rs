//! Reading connections. Most carry many reads at once; those for snapshots are lent out, each to one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::place::Place;
use super::session::{PgError, Role, Session, failed};
use crate::base::Result;
use crate::store::unavailable;

/// Connections to the primary that only read. One that is lost is made anew while the others serve.
pub(super) struct Readers {
    slots: Vec<RwLock<Option<Arc<Session>>>>,
    /// How many of the slots, the first ones, are for everybody.
    shared: usize,
    /// Those of the others that are not lent.
    free: Mutex<Vec<usize>>,
    next: AtomicUsize,
}

impl Readers {
    /// Room for `shared` connections for everybody and `lent` ones for snapshots.
    pub(super) fn new(shared: usize, lent: usize) -> Readers {
        let slots = (0..shared + lent).map(|_| RwLock::new(None)).collect();
        Readers { slots, shared, free: Mutex::new((shared..shared + lent).collect()), next: AtomicUsize::new(0) }
    }

    /// A view of the store as it is when it is first read.
    ///
    /// # Errors
    ///
    /// `Unavailable` if no connection is free now.
    pub(super) fn snapshot(self: &Arc<Self>) -> Result<Snapshot> {
        let slot = self.free.lock().pop().ok_or_else(unavailable)?;
        let session = self.slots.get(slot).and_then(|slot| slot.read().clone());
        let Some(session) = session.filter(|session| !session.is_closed()) else {
            self.free.lock().push(slot);
            return Err(unavailable());
        };
        Ok(Snapshot { readers: self.clone(), slot, session, begun: AtomicBool::new(false) })
    }

    /// Makes the connections, and keeps them for as long as the runtime runs.
    ///
    /// # Errors
    ///
    /// As [`Session::connect`], if one cannot be made now.
    pub(super) async fn connect(self: &Arc<Self>, place: &Place) -> Result<()> {
        for slot in 0..self.slots.len() {
            let session = Session::connect(place, Role::Reader, None).await?;
            let (readers, place) = (self.clone(), place.clone());
            let first = Arc::new(session);
            if let Some(slot) = self.slots.get(slot) {
                *slot.write() = Some(first.clone());
            }
            tokio::spawn(async move { readers.keep(slot, first, &place).await });
        }
        Ok(())
    }

    async fn keep(&self, slot: usize, first: Arc<Session>, place: &Place) {
        let Some(slot) = self.slots.get(slot) else { return };
        first.ended().await;
        *slot.write() = None;
        drop(first);
        let mut pause = Duration::from_millis(20);
        loop {
            match Session::connect(place, Role::Reader, None).await {
                Ok(session) => {
                    pause = Duration::from_millis(20);
                    let session = Arc::new(session);
                    *slot.write() = Some(session.clone());
                    session.ended().await;
                    *slot.write() = None;
                }
                Err(error) => {
                    tracing::warn!(target: "segue::journal", error = %error.full(), "a reading connection cannot be made");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    /// One of the connections.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is none now.
    pub(super) fn session(&self) -> Result<Arc<Session>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.shared;
        (0..count)
            .filter_map(|step| self.slots.get((first.wrapping_add(step)) % count))
            .find_map(|slot| slot.read().clone().filter(|session| !session.is_closed()))
            .ok_or_else(unavailable)
    }

    /// The rows of a query.
    pub(super) async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.session()?.rows(sql, parameters).await.map_err(|e| failed(&e))
    }

    /// Runs `query` on one of the connections.
    pub(super) fn with<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl for<'a> FnOnce(&'a Session) -> BoxFuture<'a, std::result::Result<T, PgError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let readers = self.clone();
        async move {
            let session = readers.session()?;
            query(&session).await.map_err(|e| failed(&e))
        }
        .boxed()
    }
}

/// One connection within one read transaction, given back when dropped.
///
/// Its reads agree with each other: a customer's open conversations are as of the version of the customer's row, which is
/// what they are kept in memory under.
pub(super) struct Snapshot {
    readers: Arc<Readers>,
    slot: usize,
    session: Arc<Session>,
    begun: AtomicBool,
}

impl Snapshot {
    /// The rows of a query. The first one begins the transaction, in the same round.
    pub(super) async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let rows = self.session.rows(sql, parameters);
        let rows = match self.begun.swap(true, Ordering::Relaxed) {
            true => rows.await,
            false => {
                let begin = self.session.plain("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                let (begun, rows) = futures_util::future::join(begin, rows).await;
                begun.and(rows)
            }
        };
        rows.map_err(|e| failed(&e))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if *self.begun.get_mut() {
            // The first poll sends it; nobody needs the answer, and whatever the connection is asked next comes after it.
            let _ = self.session.plain("COMMIT").now_or_never();
        }
        self.readers.free.lock().push(self.slot);
    }
}

/// One column of a row.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|e| failed(&e))
}

/// A key or id of 16 bytes.
pub(super) fn id16(row: &Row, column: usize) -> Result<[u8; 16]> {
    super::judge::bytes16(row, column).map_err(|e| failed(&e))
}

/// Every row, read by `read`.
pub(super) fn all<T>(rows: Vec<Row>, read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    rows.iter().map(read).collect()
}

/// The first row, if there is one, read by `read`.
pub(super) fn first<T>(rows: Vec<Row>, read: impl Fn(&Row) -> Result<T>) -> Result<Option<T>> {
    rows.first().map(read).transpose()
}
