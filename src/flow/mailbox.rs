//! Stage 1, for mailboxes: mails that are fetched over IMAP.
//!
//! One task for each configured mailbox, on the node that holds its lease. It reads every folder from its cursor to its end
//! ([`scan`]), then waits for news. The cursor moves in the transaction that journals the mails before it, so whatever
//! breaks off where, no mail is taken twice and none is passed over. `\Seen` plays no part. What goes wrong is told in words
//! ([`Mailboxes`]) and tried again, the slower the longer it lasts.

mod health;
mod kept;
mod pauses;
mod scan;

pub use health::{Mailboxes, State, Told};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::mail_check::Checking;
use super::mail_login::Logins;
use super::{Context, stopped};
use crate::base::Error;
use crate::connector::{Credentials, Mailbox};
use crate::mail::oauth;
use crate::net::imap::{self, Fault, ImapError, Session, Sizes};
use crate::net::{DialError, Dialer, dial};
use crate::store::{Hold, lease};
use health::One;
use kept::Kept;
use pauses::{Got, Pauses};
use scan::Scan;

/// How many mailboxes are fetched from at once; the others wait in turn.
const AT_ONCE: usize = 4;
/// How long it takes at most to be let in by a server.
const CONNECT: Duration = Duration::from_secs(30);
/// After how long a folder is looked at whatever the server told: IDLE can die without a word.
const LOOK_EVERY: Duration = Duration::from_secs(120);
/// The same where other folders wait to be looked at.
const LOOK_AROUND: Duration = Duration::from_secs(20);
/// How long it takes at least from a look that found nothing to the next one, also at a server that always tells of news.
const REST: Duration = Duration::from_secs(1);
/// How often a server without IDLE is asked.
const POLL: Duration = Duration::from_secs(20);
/// How often access tokens are looked after.
const TOKENS_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked at whether the lease is still held.
const LEASE_EVERY: Duration = Duration::from_secs(1);

/// What all mailboxes share.
pub struct Fetching {
    context: Arc<Context>,
    dialer: Arc<Dialer>,
    checking: Arc<Checking>,
    logins: Arc<Logins>,
    turns: Arc<Semaphore>,
    kept: Kept,
    sizes: Sizes,
}

impl Fetching {
    /// `most_bytes` is the size of the largest mail that is fetched.
    pub fn new(
        context: Arc<Context>,
        dialer: Arc<Dialer>,
        (checking, logins): (Arc<Checking>, Arc<Logins>),
        most_bytes: u64,
    ) -> Arc<Fetching> {
        let sizes = Sizes { largest: most_bytes, ..Sizes::default() };
        let (turns, kept) = (Arc::new(Semaphore::new(AT_ONCE)), Kept::new(sizes));
        Arc::new(Fetching { context, dialer, checking, logins, turns, kept, sizes })
    }

    /// A turn to fetch, once it comes.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }
}

/// Why a mailbox is not read on now.
enum Trouble {
    /// The server, or the way to it.
    Server(ImapError),
    /// It is not dialed, or not reached.
    Way(String, Fault),
    /// There is no access token to log in with.
    Token(String, Fault),
    /// The journal takes nothing now.
    Journal(Error),
}

impl From<ImapError> for Trouble {
    fn from(error: ImapError) -> Self {
        Trouble::Server(error)
    }
}

/// Reads a mailbox whenever this node holds its lease, until `stop` is true.
pub async fn run(fetching: Arc<Fetching>, channel: String, mailbox: Mailbox, mut stop: watch::Receiver<bool>) {
    let leases = fetching.context.store.leases.clone();
    let context = &fetching.context;
    let (name, told) = (lease::mailbox(&channel), context.mailboxes.begin(&channel, context.clock.now()));
    let (name_of_channel, credentials) = (channel.clone(), mailbox.credentials.clone());
    let mut scan = Scan::new(fetching.clone(), told.clone(), channel, mailbox);
    let mut pauses = Pauses::default();
    loop {
        if !leases.named(&name).may_begin() {
            told.elsewhere();
            if stopped(&mut stop, LEASE_EVERY).await {
                break;
            }
            continue;
        }
        told.here(context.clock.now());
        let trouble = tokio::select! {
            trouble = session(&fetching, &mut scan) => trouble,
            () = watch_tokens(&fetching, &told, &name_of_channel, &credentials) => None,
            () = lost(&fetching.context, &name) => None,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if leases.named(&name) == Hold::Leaving {
            leases.let_go(&name);
        }
        // What was under way and is not journaled is fetched again from the cursor.
        let Some(trouble) = trouble else {
            scan.forget();
            continue;
        };
        // A server that puts off lets us in all the same: only what came counts.
        let got = scan.got();
        let counts = if trouble.is_put_off() && got < Got::Parts { Got::Nothing } else { got };
        let pause = pauses.after(&trouble, counts);
        scan.rest(got);
        told.failed(&trouble, &credentials);
        tell_alarm(&fetching, &told, &name_of_channel, &credentials).await;
        if stopped(&mut stop, pause).await {
            break;
        }
    }
    if context.mailboxes.end(&name_of_channel, &told) {
        context.metrics.forget_mailbox(&name_of_channel, State::ALL.map(State::word));
    }
    leases.let_go(&name);
}

/// Sees that tokens are renewed and that somebody is told in time, also while no session begins. Never ready.
async fn watch_tokens(fetching: &Fetching, told: &One, channel: &str, credentials: &Credentials) {
    loop {
        tell_alarm(fetching, told, channel, credentials).await;
        tokio::time::sleep(TOKENS_EVERY).await;
    }
}

async fn tell_alarm(fetching: &Fetching, told: &One, channel: &str, credentials: &Credentials) {
    let alarm = fetching.logins.alarm(channel, credentials).await;
    told.alarm(alarm.map(|alarm| alarm.words));
}

/// Ready once the lease is to be let go, or is lost.
async fn lost(context: &Context, name: &str) {
    while context.store.leases.named(name).may_begin() {
        tokio::time::sleep(LEASE_EVERY).await;
    }
}

/// One connection: reads all folders, waits, and reads again until something goes wrong.
async fn session(fetching: &Fetching, scan: &mut Scan) -> Option<Trouble> {
    match connected(fetching, &scan.channel, &scan.mailbox).await {
        Ok(mut session) => {
            let trouble = read(scan, &mut session).await.err();
            if trouble.is_some() && !session.is_broken() {
                session.leave().await;
            }
            trouble
        }
        Err(trouble) => Some(trouble),
    }
}

async fn read(scan: &mut Scan, session: &mut Session) -> Result<(), Trouble> {
    let folders = scan.mailbox.folders.clone();
    loop {
        let mut refused = None;
        // The first one last, since it stays open to be waited for.
        for folder in folders.iter().rev() {
            match scan.folder(session, folder).await {
                // One that cannot be opened, or be changed, keeps none of the others from being read.
                Err(trouble) if trouble.fault() == Fault::Mailbox && !session.is_broken() => refused = Some(trouble),
                other => other?,
            }
        }
        if let Some(trouble) = refused {
            return Err(trouble);
        }
        let rest = if scan.looked() { Duration::ZERO } else { REST };
        let rested = Instant::now() + rest;
        let most = if folders.len() > 1 { LOOK_AROUND } else { LOOK_EVERY };
        let known = session.folder().map_or(0, |folder| folder.exists);
        session.wait(known, most, POLL).await?;
        sleep_until(rested).await;
    }
}

async fn connected(fetching: &Fetching, channel: &str, mailbox: &Mailbox) -> Result<Session, Trouble> {
    // Before the connection: a server does not wait for a token.
    let login = fetching.logins.login(channel, &mailbox.credentials).await.map_err(|fault| {
        let lasts = if fault.kind == oauth::Kind::Permanent { Fault::Auth } else { Fault::Network };
        Trouble::Token(fault.words, lasts)
    })?;
    let host = url::Host::parse(&mailbox.host)
        .map_err(|_| Trouble::Way("the server's name is no name of a host".to_owned(), Fault::Mailbox))?;
    let until = Instant::now() + CONNECT;
    let stream = fetching.dialer.connect(&host, mailbox.port, (true, true), until).await.map_err(way)?;
    dial::server_name(&host).map_err(way)?;
    let tls = fetching.dialer.tls().await.map_err(|error| Trouble::Way(error.to_string(), Fault::Tls))?;
    let plan = imap::Plan {
        host: mailbox.host.clone(),
        security: mailbox.security,
        tls,
        login: login.clone(),
        times: imap::Times::default(),
        caps: imap::Caps::default(),
    };
    let session = imap::connect(&plan, stream).await;
    if session.as_ref().is_err_and(|error| error.fault() == Fault::Auth) {
        fetching.logins.refused(channel, &login);
    }
    Ok(session?)
}

fn way(error: DialError) -> Trouble {
    let (words, fault) = unreached(error);
    Trouble::Way(words, fault)
}

/// Why a mail server was not reached, in words.
pub(super) fn unreached(error: DialError) -> (String, Fault) {
    match error {
        DialError::Name(_) => ("the server's name cannot be resolved".to_owned(), Fault::Network),
        DialError::Refused(refusal) => (refusal.to_string(), Fault::Mailbox),
        DialError::Connect(error) => (format!("nobody answers there: {error}"), Fault::Network),
        DialError::Tls(_) => ("the connection cannot be made private".to_owned(), Fault::Tls),
    }
}

impl Trouble {
    /// What went wrong, in words of ours alone.
    fn plain(&self) -> &str {
        match self {
            Trouble::Server(error) => error.plain(),
            Trouble::Way(what, _) | Trouble::Token(what, _) => what,
            Trouble::Journal(error) => error.message(),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Trouble::Server(error) => error.fault(),
            Trouble::Way(_, fault) | Trouble::Token(_, fault) => *fault,
            Trouble::Journal(_) => Fault::Network,
        }
    }

    fn is_put_off(&self) -> bool {
        matches!(self, Trouble::Server(error) if error.is_put_off())
    }
}

#[cfg(test)]
mod tests;
