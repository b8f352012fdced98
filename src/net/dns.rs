//! Looking up TXT records, by which domains say who speaks for them.
//!
//! The invariant: a look-up takes a few seconds at most, whatever the servers do, and what could not be learned is told
//! apart from what is not there. Answers are kept as long as their time to live says, and a day at most.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one server is waited for.
const ONE_SERVER: Duration = Duration::from_secs(2);
/// How many look-ups run at once.
const AT_ONCE: usize = 32;
/// How many answers are kept.
const KEPT: u64 = 4096;
/// The longest an answer is kept, and the longest that there is none.
const KEPT_FOR: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(600));
/// How many bytes of records are read.
const RECORD_BYTES: usize = 8192;
/// After so many look-ups in a row that learned nothing, none is made for a while: mail must not wait for a dead server.
const FAILURES: u32 = 8;
/// For how long.
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

/// Asks the servers of the system, or others.
pub struct Dns {
    resolver: Option<TokioResolver>,
    at_once: Semaphore,
    failures: AtomicU32,
    /// Until when none is asked, in milliseconds since `begun`.
    rests_until: AtomicU64,
    begun: Instant,
}

impl Dns {
    /// Asks `servers`, or those of the system if there are none. Nothing is asked yet.
    pub fn new(servers: &[SocketAddr]) -> Dns {
        let resolver = made(servers);
        if let Err(reason) = &resolver {
            tracing::warn!(target: "segue::net", %reason, "names cannot be looked up: senders of mails stay unknown");
        }
        Dns {
            resolver: resolver.ok(),
            at_once: Semaphore::new(AT_ONCE),
            failures: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }

    /// The TXT records of a name.
    pub async fn txt(&self, name: &str) -> Txt {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.rests_until.load(Ordering::Relaxed) {
            return Txt::Temporary;
        }
        let found = match timeout(PATIENCE, self.ask(name)).await {
            Ok(found) => found,
            Err(_) => Txt::Temporary,
        };
        if found != Txt::Temporary {
            self.failures.store(0, Ordering::Relaxed);
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
            self.rests_until.store(now.saturating_add(rest), Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
        found
    }

    async fn ask(&self, name: &str) -> Txt {
        let (Some(resolver), Ok(_turn)) = (&self.resolver, self.at_once.acquire().await) else {
            return Txt::Temporary;
        };
        // With the dot no domain of this machine is put behind it.
        let answer = match resolver.txt_lookup(format!("{name}.")).await {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => return Txt::None,
            Err(_) => return Txt::Temporary,
        };
        let mut left = RECORD_BYTES;
        let mut records = Vec::new();
        for record in answer.answers() {
            let RData::TXT(txt) = &record.data else { continue };
            let whole: Vec<u8> = txt.txt_data.iter().flat_map(|piece| piece.iter().copied()).take(left).collect();
            left -= whole.len().min(left);
            records.push(String::from_utf8_lossy(&whole).into_owned());
        }
        if records.is_empty() { Txt::None } else { Txt::Found(records) }
    }
}

fn made(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
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
    options.timeout = ONE_SERVER;
    options.attempts = 1;
    options.cache_size = KEPT;
    (options.positive_max_ttl, options.negative_max_ttl) = (Some(KEPT_FOR.0), Some(KEPT_FOR.1));
    builder.build().map_err(|error| error.to_string())
}
