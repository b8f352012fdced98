//! Looking up TXT records, by which domains say who speaks for them.
//!
//! The invariants: a look-up takes a few seconds at most, whatever the servers do, and what could not be learned is told
//! apart from what is not there. No name that somebody else chose stops the look-ups of others: only servers that leave a
//! question of our own open are not asked for a while, and the few names that matter most to whoever asks have [turns](Turn)
//! that all the rest cannot take. Waiting for a turn is no silence of the servers, and lasts as long as the asker likes.
//! Answers are kept as long as their time to live says, and a day at most.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long the servers are waited for, and how long a look-up may take once it has its turn.
const SERVERS: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// How many look-ups run at once, of those that come first and of the others.
const AT_ONCE: (usize, usize) = (64, 32);
/// How many answers are kept.
const KEPT: u64 = 4096;
/// The longest an answer is kept, and the longest that there is none.
const KEPT_FOR: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(600));
/// How many bytes of records are read.
const RECORD_BYTES: usize = 8192;
/// After so many look-ups in a row without an answer the servers are asked whether they are there at all.
const SILENCES: u32 = 8;
/// For how long they are not asked if not: mail must not wait for dead servers.
const REST: Duration = Duration::from_secs(20);

/// What is known of the TXT records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Txt {
    /// The records, each with its strings put together.
    Found(Vec<String>),
    /// There are none.
    None,
    /// It could not be learned now.
    Temporary,
}

/// For what a name is asked about. Names that nobody answers for hold a turn for seconds, and whoever sends mails can name
/// any number of them: so each asker has [`Turn::First`] for a few names only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// One of the few names without which nothing is learned.
    First,
    /// What else there is to ask.
    Further,
}

/// What came of a question.
enum Heard {
    /// The servers said something, if only that they do not know.
    Answer(Txt),
    /// They said nothing.
    Silence,
    /// They were not asked.
    Nothing,
}

/// Asks the servers of the system, or others.
pub struct Dns {
    resolver: Option<TokioResolver>,
    /// The same servers, with nothing kept of what they say.
    anew: Option<TokioResolver>,
    patience: Duration,
    first: Semaphore,
    further: Semaphore,
    silences: AtomicU32,
    /// Until when none is asked, in milliseconds since `begun`.
    rests_until: AtomicU64,
    begun: Instant,
}

impl Dns {
    /// Asks `servers`, or those of the system if there are none. Nothing is asked yet.
    pub fn new(servers: &[SocketAddr]) -> Dns {
        Dns::waiting(servers, SERVERS, PATIENCE)
    }

    pub(crate) fn waiting(servers: &[SocketAddr], within: Duration, patience: Duration) -> Dns {
        let resolver = made(servers, within, KEPT);
        if let Err(reason) = &resolver {
            tracing::warn!(target: "segue::net", %reason, "names cannot be looked up: senders of mails stay unknown");
        }
        Dns {
            resolver: resolver.ok(),
            anew: made(servers, within, 0).ok(),
            patience,
            first: Semaphore::new(AT_ONCE.0),
            further: Semaphore::new(AT_ONCE.1),
            silences: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }

    /// The TXT records of a name, once there is a turn.
    pub async fn txt(&self, name: &str, turn: Turn) -> Txt {
        match self.in_turn(name, turn).await {
            Heard::Answer(found) => {
                self.silences.store(0, Ordering::Relaxed);
                found
            }
            Heard::Silence => {
                self.note_silence().await;
                Txt::Temporary
            }
            Heard::Nothing => Txt::Temporary,
        }
    }

    async fn in_turn(&self, name: &str, turn: Turn) -> Heard {
        let turns = match turn {
            Turn::First => &self.first,
            Turn::Further => &self.further,
        };
        if self.rests() {
            return Heard::Nothing;
        }
        // They may have been found silent while the turn was waited for.
        match turns.acquire().await {
            Ok(_turn) if !self.rests() => timeout(self.patience, self.ask(name)).await.unwrap_or(Heard::Silence),
            _ => Heard::Nothing,
        }
    }

    /// Whether the servers are left alone now.
    fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Ordering::Relaxed)
    }

    /// Milliseconds since it was made.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a silence. It may be that of the name asked for: whoever sends mails can name any number of domains whose
    /// servers are dead, so however many stay silent says nothing of ours. The root does, in which no sender has a hand.
    async fn note_silence(&self) {
        if self.silences.fetch_add(1, Ordering::Relaxed) + 1 < SILENCES {
            return;
        }
        self.silences.store(0, Ordering::Relaxed);
        if !self.is_there().await {
            let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
            self.rests_until.store(self.now().saturating_add(rest), Ordering::Relaxed);
        }
    }

    /// Whether the servers answer now, whatever they say.
    async fn is_there(&self) -> bool {
        let Some(anew) = &self.anew else { return false };
        match timeout(self.patience, anew.lookup(".", RecordType::NS)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => !is_silence(&error),
            Err(_) => false,
        }
    }

    async fn ask(&self, name: &str) -> Heard {
        let Some(resolver) = &self.resolver else { return Heard::Silence };
        // With the dot no domain of this machine is put behind it.
        let answer = match resolver.txt_lookup(format!("{name}.")).await {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => return Heard::Answer(Txt::None),
            Err(error) if is_silence(&error) => return Heard::Silence,
            Err(_) => return Heard::Answer(Txt::Temporary),
        };
        let mut left = RECORD_BYTES;
        let mut records = Vec::new();
        for record in answer.answers() {
            let RData::TXT(txt) = &record.data else { continue };
            let whole: Vec<u8> = txt.txt_data.iter().flat_map(|piece| piece.iter().copied()).take(left).collect();
            left -= whole.len().min(left);
            records.push(String::from_utf8_lossy(&whole).into_owned());
        }
        Heard::Answer(if records.is_empty() { Txt::None } else { Txt::Found(records) })
    }
}

/// Whether the servers were not heard, rather than heard to have failed.
fn is_silence(error: &NetError) -> bool {
    matches!(error, NetError::Timeout | NetError::NoConnections | NetError::Io(_) | NetError::Busy)
}

/// What asks `servers` for so long, and keeps so many answers.
fn made(servers: &[SocketAddr], within: Duration, kept: u64) -> Result<TokioResolver, String> {
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
        servers => {
            let server = |at: &SocketAddr| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = at.port();
                    connection
                });
                NameServerConfig::new(at.ip(), true, connections.into())
            };
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = within;
    options.attempts = 1;
    options.cache_size = kept;
    (options.positive_max_ttl, options.negative_max_ttl) = (Some(KEPT_FOR.0), Some(KEPT_FOR.1));
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
