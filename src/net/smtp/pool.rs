//! The connections of one account to its SMTP server, kept for the next mail.
//!
//! The invariant: there are never more than the bound says; one that waits longer than [`IDLE`] is closed; and one that
//! has waited is asked whether it lives before a mail is entrusted to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::reason::{CONNECTING, later};
use super::session::{Envelope, Outcome, Server, Session};

/// How long a connection waits for another mail.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(60);

/// Makes connections to the account's server.
pub trait Dial: Send + Sync {
    /// A new connection, made to an address that was checked.
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// See the module. New settings, or a new token, need a new pool.
pub struct Pool {
    server: Server,
    dial: Box<dyn Dial>,
    permits: Semaphore,
    idle: Mutex<Vec<(Session, Instant)>>,
    patience: Duration,
}

impl Pool {
    /// A pool of at most `most` connections.
    pub fn new(server: Server, dial: Box<dyn Dial>, most: usize) -> Arc<Self> {
        Self::with_patience(server, dial, most, IDLE)
    }

    /// As [`Pool::new`], with another bound for waiting connections.
    pub fn with_patience(server: Server, dial: Box<dyn Dial>, most: usize, patience: Duration) -> Arc<Self> {
        let (permits, idle) = (Semaphore::new(most.max(1)), Mutex::new(Vec::new()));
        Arc::new(Pool { server, dial, permits, idle, patience })
    }

    /// Sends one mail over a waiting connection or a new one; see [`Session::send`]. Waits while all are in use.
    pub async fn send(self: &Arc<Self>, envelope: &Envelope, mail: &[u8]) -> Vec<Outcome> {
        // Nobody closes the semaphore.
        let _permit = self.permits.acquire().await;
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(outcome) => return vec![outcome; envelope.to.len()],
        };
        let outcomes = session.send(envelope, mail).await;
        self.keep(session);
        outcomes
    }

    /// How many connections wait.
    pub fn waiting(&self) -> usize {
        self.idle.lock().len()
    }

    async fn session(&self) -> Result<Session, Outcome> {
        loop {
            let Some((mut session, _)) = self.idle.lock().pop() else { break };
            if session.is_alive().await {
                return Ok(session);
            }
        }
        let dialed = timeout(CONNECT, self.dial.dial()).await;
        let socket = dialed.map_err(|_| later(CONNECTING, "no answer in time"))?;
        Session::open(&self.server, socket.map_err(|error| later(CONNECTING, &error.to_string()))?).await
    }

    fn keep(self: &Arc<Self>, session: Session) {
        if !session.is_reusable() {
            tokio::spawn(session.quit());
            return;
        }
        self.idle.lock().push((session, Instant::now()));
        let (pool, patience) = (Arc::downgrade(self), self.patience);
        tokio::spawn(async move {
            sleep(patience).await;
            if let Some(pool) = pool.upgrade() {
                pool.close_old();
            }
        });
    }

    fn close_old(&self) {
        let old: Vec<_> = self.idle.lock().extract_if(.., |(_, since)| since.elapsed() >= self.patience).collect();
        for (session, _) in old {
            tokio::spawn(session.quit());
        }
    }
}
