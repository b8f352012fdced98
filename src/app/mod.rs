//! Floor 7: the only wiring. Configuration becomes store, scripts, connectors, flow and API; start and stop have an order.
//!
//! Start: store, setup, workers, deliveries, then the doors. Stop: the doors first, with what is in flight drained, then
//! deliveries, workers and at last the store, so that nothing is taken that could not be kept.

mod adopt;
pub mod bundle;
pub mod checkpoints;
mod front;
mod keeper;
mod mail_door;
pub mod objects;
mod reload;
pub mod setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::ApiState;
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Error, Result};
use crate::config::Store as Backend;
use crate::config::{Config, ForwardedHeader, Listen};
use crate::flow::handover::Handover;
use crate::flow::mail_check::Checking;
use crate::flow::mail_login::Logins;
use crate::flow::send_mail::Mailer;
use crate::flow::{Ahead, Context, intake::Intake, media, send, wait::Waiting, work::Workers};
use crate::mail::token::TokenKey;
use crate::net::dns::Dns;
use crate::net::lmtp;
use crate::net::rate::{Rate, RateLimits};
use crate::net::server::{Server, Settings};
use crate::net::{Client, Limits, PublicUrl, ServerTls, TrustedProxies, client, peer::ProxyHeaders};
use crate::store::archive::Place;
use crate::store::blob::Blobs;
use crate::store::seal::Sealing;
use crate::store::{self, Progress, Unwatched, postgres, sqlite};

pub use crate::api::ReloadReport as Report;

/// How long requests in flight are waited for when the gateway stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many event streams are served at once.
const STREAMS: usize = 64;

/// What a start may be told beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Listen here instead.
    pub listen: Vec<SocketAddr>,
    /// Where the present comes from.
    pub clock: Clock,
    /// Report entries before they are on disk. Exists only so that the crash test can show that it would notice.
    pub acknowledge_before_commit: bool,
    /// Write personal data as it is. Exists only to measure what sealing costs.
    pub unsealed: bool,
    /// Told how far sealing a store has come that was written before personal data was sealed.
    pub progress: Watched,
    /// How long what this node holds of a shared database is its own unless it says again that it lives.
    pub lease: Option<Duration>,
}

/// Whom a start tells how far its long work has come.
#[derive(Clone)]
pub struct Watched(pub Arc<dyn Progress>);

impl Default for Watched {
    fn default() -> Self {
        Watched(Unwatched::shared())
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

/// A running gateway.
pub struct App {
    servers: Vec<(Server, &'static str)>,
    /// Where mails are handed over.
    handover: Option<lmtp::Listener>,
    /// Told before the doors are drained, so that open event streams end.
    closing: watch::Sender<bool>,
    working: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    workers: Workers,
    store: store::Opened,
    /// What all stages share.
    pub context: Arc<Context>,
    /// What the last reload said.
    pub report: Arc<ArcSwap<Report>>,
}

impl App {
    /// Starts everything. When this returns the doors are open.
    ///
    /// # Errors
    ///
    /// `Config` for what the operator must mend, `Io` if a port or the disk refused.
    pub async fn start(config: Config, loaded: setup::Loaded, start: Start) -> Result<App> {
        let metrics = Metrics::new();
        let store = {
            let (config, metrics, start) = (config.clone(), metrics.clone(), start.clone());
            let opening = tokio::task::spawn_blocking(move || open_store(&config, &start, metrics));
            opening.await.map_err(|e| Error::internal("the store could not be opened").because(e))??
        };
        let broken = store.broken.clone();
        // What is refused because the disk failed is the disk's fault.
        let by_disk = |error: Error| match *broken.borrow() {
            true => Error::io("the disk refused; the log says what", error),
            false => error,
        };
        let client = client_of(&config)?;
        let warnings = loaded.warnings.clone();
        let (ruling, setup, runs) = bundle::Ruling::begin(store.store.bundles.as_ref(), &config, loaded, &start.clock)
            .await
            .map_err(by_disk)?;
        let blobs = {
            let (place, connector) = (objects::place(&config.blobs), objects::Guarded(client.clone()));
            let (keys, rows) = (store.blob_keys.clone(), store.store.blobs.clone());
            let opening = move || Blobs::open(&place, connector, keys, rows);
            let opening = tokio::task::spawn_blocking(opening).await;
            opening.map_err(|e| Error::internal("the blobs could not be opened").because(e))??
        };
        adopt::files(&config.data.join("files"), &blobs, &start.clock, &*start.progress.0).await.map_err(by_disk)?;
        let context = Arc::new(Context {
            store: store.store.clone(),
            setup: ArcSwap::from_pointee(setup),
            clock: start.clock,
            metrics,
            waiting: Waiting::default(),
            ahead: Ahead::default(),
            mailboxes: Default::default(),
            sending: Default::default(),
            held: AtomicBool::new(!runs),
            blobs: Some(blobs),
        });
        let (stop, stopping) = watch::channel(false);
        let report = reload::report(&config, &ruling, context.clock.now(), &warnings, true);
        let report = Arc::new(ArcSwap::from_pointee(report));
        let token_key = Arc::new(TokenKey::new(store.mail_secret.clone()));
        let logins = Logins::new(client.clone(), store.store.mailboxes.clone(), context.clock.clone());
        let mailer = Mailer::new(client.clone(), token_key.clone(), logins.clone());
        let checking = Arc::new(Checking { dns: Dns::new(&config.outbound.dns), key: token_key });
        let mut keeper = keeper::Keeper::new(context.clone(), client.clone(), (checking.clone(), logins), &config);
        keeper.follow(&config).await.map_err(by_disk)?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = Workers::start(context.clone(), cores.clamp(1, 4))?;
        let most = config.limits.media;
        let rates = rates_of(&config);
        let mut tasks = vec![
            tokio::spawn(send::run(context.clone(), client.clone(), mailer.clone(), stopping.clone())),
            tokio::spawn(media::run(context.clone(), client.clone(), most, stopping.clone())),
            tokio::spawn(keeper::collect(context.clone(), config.blobs.unused, stopping.clone())),
            tokio::spawn(keeper::prune(
                context.clone(),
                (config.retention, checkpoints::Checkpoints::of(&config)?),
                rates.clone(),
                stopping.clone(),
            )),
        ];
        let (body, mail) = (size(config.limits.body), size(config.limits.mail));
        let intake = Arc::new(Intake::new(context.clone(), rates, (client, checking.clone()), (body, mail)));
        let (closing, closed) = watch::channel(false);
        let working = Arc::new(AtomicBool::new(true));
        let state = ApiState {
            context: context.clone(),
            mailer,
            public_url: config.public_url.clone(),
            loaded: report.clone(),
            working: working.clone(),
            stopping: closed,
            subscribers: STREAMS,
        };
        let front = Arc::new(front::Front::new(intake, state));
        let (mut servers, mut certificates) = (Vec::new(), Vec::new());
        for listen in doors(&config, &start.listen) {
            let tls = match &listen.tls {
                Some(files) => Some(Arc::new(ServerTls::load(&files.cert, &files.key)?)),
                None => None,
            };
            certificates.extend(tls.clone());
            let scheme = if tls.is_some() { "https" } else { "http" };
            servers.push((Server::start(settings(&config, &listen, tls)?, front.clone()).await?, scheme));
        }
        let handover = match &config.lmtp {
            Some(lmtp) => {
                let handover = Handover::new(context.clone(), checking);
                Some(mail_door::open(&config, lmtp, handover, &mut certificates).await?)
            }
            None => None,
        };
        let reloader = reload::Reloader {
            config,
            registry: ruling.registry.clone(),
            ruling,
            context: context.clone(),
            keeper,
            certificates,
            report: report.clone(),
        };
        tasks.push(tokio::spawn(reloader.run(stopping)));
        Ok(App { servers, handover, closing, working, stop, tasks, workers, store, context, report })
    }

    /// Where the gateway listens, each with its scheme.
    pub fn addresses(&self) -> Vec<String> {
        let doors = self.servers.iter().map(|(server, scheme)| format!("{scheme}://{}", server.address()));
        doors.chain(self.handover.iter().map(|door| format!("lmtp:{}", door.address()))).collect()
    }

    /// Ready once the disk refused in a way that only a restart mends.
    pub async fn broken(&self) {
        let mut broken = self.store.broken.clone();
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops everything in order. False if the disk refused in a way that only a restart mends, then or before.
    pub async fn stop(self) -> bool {
        let broken = self.store.broken.clone();
        self.closing.send_replace(true);
        let drains = self.servers.into_iter().map(|(server, _)| server.drain(PATIENCE));
        let handed = async {
            if let Some(door) = self.handover {
                door.drain(PATIENCE).await;
            }
        };
        tokio::join!(futures_util::future::join_all(drains), handed);
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(PATIENCE, task).await;
        }
        self.working.store(false, Ordering::Relaxed);
        self.workers.stop().await;
        drop(self.context);
        // The last handle of the writer waits for what is queued to be written.
        let _ = tokio::task::spawn_blocking(move || drop(self.store)).await;
        !*broken.borrow()
    }
}

/// Opens the store that the configuration names. It may wait for the network, so it belongs on a thread for blocking work.
///
/// # Errors
///
/// `Config` for what the operator must mend, `Io` if the disk refused, `Unavailable` if a server cannot be reached.
pub fn open_store(config: &Config, start: &Start, metrics: Metrics) -> Result<store::Opened> {
    open_store_at(&place_of(config)?, config, start, metrics)
}

/// Opens another store than the one that the configuration names, with its root key.
///
/// # Errors
///
/// As [`open_store`].
pub fn open_store_at(place: &Place, config: &Config, start: &Start, metrics: Metrics) -> Result<store::Opened> {
    let acknowledge_before_commit = start.acknowledge_before_commit;
    let sealing = if start.unsealed { Sealing::off() } else { Sealing::at(&config.root_key) };
    match place {
        Place::Folder(folder) => {
            let options = sqlite::Options { acknowledge_before_commit, ..sqlite::Options::default() };
            sqlite::open(folder, options, &sealing, &start.progress.0, metrics)
        }
        Place::Server(server) => {
            let defaults = postgres::Options::default();
            let lease = start.lease.unwrap_or(defaults.lease);
            let options = postgres::Options { acknowledge_before_commit, lease, ..defaults };
            postgres::open(server, options, &sealing, &start.progress.0, metrics)
        }
    }
}

/// Where the store is that the configuration names.
///
/// # Errors
///
/// `Config` if its URL is none.
pub fn place_of(config: &Config) -> Result<Place> {
    match &config.store {
        Backend::Sqlite => Ok(Place::Folder(config.data.clone())),
        Backend::Postgres(url) => postgres::Place::parse(url).map(Box::new).map(Place::Server),
    }
}

/// A configured size as one of memory.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn doors(config: &Config, instead: &[SocketAddr]) -> Vec<Listen> {
    if instead.is_empty() {
        return config.listen.clone();
    }
    instead.iter().map(|address| Listen { address: *address, ..Listen::default() }).collect()
}

fn settings(config: &Config, listen: &Listen, tls: Option<Arc<ServerTls>>) -> Result<Settings> {
    let public = listen.public_url.as_ref().or(config.public_url.as_ref());
    let limits = Limits {
        header_bytes: size(config.limits.headers),
        body_bytes: size(config.limits.body),
        connections: size(config.limits.connections.into()),
        requests: size(config.limits.in_flight.into()),
        header_timeout: config.limits.header_timeout,
        body_timeout: config.limits.body_timeout,
        idle_timeout: config.limits.idle_timeout,
        ..Limits::default()
    };
    let headers = match listen.forwarded_header {
        ForwardedHeader::XForwarded => ProxyHeaders::XForwarded,
        ForwardedHeader::Forwarded => ProxyHeaders::Forwarded,
    };
    Ok(Settings {
        public_url: public.map(|url| PublicUrl::parse(url)).transpose()?,
        proxies: TrustedProxies::new(listen.trusted_proxies.clone(), headers),
        tls,
        limits,
        ..Settings::new(listen.address)
    })
}

fn client_of(config: &Config) -> Result<Client> {
    Client::new(client::Settings {
        allow: config.outbound.allow.clone(),
        extra_roots: config.outbound.roots.clone(),
        ..client::Settings::default()
    })
    .map_err(|error: Error| error.context("outbound"))
}

fn rates_of(config: &Config) -> Arc<RateLimits> {
    let rate = |per_second: u32| (per_second > 0).then(|| Rate::new(per_second, per_second));
    Arc::new(RateLimits::new(rate(config.limits.per_peer_per_second), rate(config.limits.per_channel_per_second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_believes_the_headers_that_it_was_told_to() {
        let folder = tempfile::tempdir().unwrap();
        for (line, headers) in [
            ("", ProxyHeaders::XForwarded),
            ("forwarded_header = \"x-forwarded\"\n", ProxyHeaders::XForwarded),
            ("forwarded_header = \"forwarded\"\n", ProxyHeaders::Forwarded),
        ] {
            let text = format!("[[listen]]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{line}");
            std::fs::write(folder.path().join("segue.toml"), text).unwrap();
            let config = crate::config::load(folder.path()).unwrap_or_else(|found| panic!("{found:?}"));
            let settings = settings(&config, &config.listen[0], None).unwrap();
            assert_eq!(settings.proxies, TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], headers));
        }
    }
}
