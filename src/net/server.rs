//! The listener: HTTP/1.1 and HTTP/2 on one port, plain or TLS, drained on shutdown.
//!
//! It reads the head of each request within the [`Limits`], finds out who calls, and hands a [`Request`] whose body has
//! not been read to the one [`Handler`]. The handler decides by the head whether the body is worth reading. What no
//! handler should see is answered here: a head without one host (400), a compressed body (415), too many fields (431).
//!
//! The invariants: the loop that accepts never ends before [`Server::drain`]; no peer holds a connection without
//! moving; dropping the [`Server`] closes everything.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_ENCODING, HOST};
use http::uri::Scheme;
use http::{StatusCode, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::body::{Inbound, problem};
use super::handler::{Handler, Request, Response};
use super::peer::{Caller, PublicUrl, TrustedProxies};
use super::socket::{Activity, Socket};
use super::{Limits, ServerTls};
use crate::base::{Error, Result};

/// Connections that the system may hold ready before they are accepted.
const BACKLOG: u32 = 1024;
/// The pause after a failed accept, when the process is out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle connections are asked to make room when all places are taken.
const PRESSURE_EVERY: Duration = Duration::from_millis(100);
/// The shortest time between two looks at a connection that is busy.
const TICK: Duration = Duration::from_millis(100);
/// How long a connection that is closed for idling may take over its goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// What a listener needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The operator's word on where this listener is reached.
    pub public_url: Option<PublicUrl>,
    /// The proxies that may speak for others.
    pub proxies: TrustedProxies,
    /// The certificate; without one the listener speaks plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// The limits.
    pub limits: Limits,
}

impl Settings {
    /// Plain HTTP at `address` with the default limits and no trusted proxy.
    pub fn new(address: SocketAddr) -> Self {
        let (proxies, limits) = (TrustedProxies::default(), Limits::default());
        Settings { address, public_url: None, proxies, tls: None, limits }
    }
}

/// What a listener is doing, as its connections are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signal {
    stage: Stage,
    /// Grows when idle connections should make room.
    pressure: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Cut,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because they were not done in time.
    pub cut: usize,
}

/// A running listener.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    signal: Arc<watch::Sender<Signal>>,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
}

impl Server {
    /// Binds and begins to accept.
    ///
    /// # Errors
    ///
    /// [`crate::base::Kind::Io`] if the address cannot be listened on, naming it.
    pub async fn start(settings: Settings, handler: Arc<dyn Handler>) -> Result<Self> {
        let asked = settings.address;
        let refused = |error| Error::io(format!("cannot listen on {asked}"), error);
        let listener = listen(asked).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (signal, _) = watch::channel(Signal { stage: Stage::Serving, pressure: 0 });
        let (signal, connections) = (Arc::new(signal), TaskTracker::new());
        let shared = Arc::new(Shared::new(settings, handler));
        let accepting = tokio::spawn(accept(listener, shared, Arc::clone(&signal), connections.clone()));
        Ok(Server { address, signal, accepting, connections })
    }

    /// The address it really listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Stops accepting, lets requests that have begun finish for at most `patience`, then closes what is left.
    pub async fn drain(mut self, patience: Duration) -> Drained {
        self.accepting.abort();
        // The socket is closed when the loop is really gone.
        let _ = (&mut self.accepting).await;
        self.signal.send_modify(|signal| signal.stage = Stage::Draining);
        self.connections.close();
        if tokio::time::timeout(patience, self.connections.wait()).await.is_ok() {
            return Drained { cut: 0 };
        }
        let cut = self.connections.len();
        self.signal.send_modify(|signal| signal.stage = Stage::Cut);
        self.connections.wait().await;
        Drained { cut }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.signal.send_modify(|signal| signal.stage = Stage::Cut);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old connections' TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What all connections of a listener have in common.
struct Shared {
    handler: Arc<dyn Handler>,
    settings: Settings,
    acceptor: Option<TlsAcceptor>,
    http: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

impl Shared {
    fn new(settings: Settings, handler: Arc<dyn Handler>) -> Self {
        let limits = &settings.limits;
        let mut http = auto::Builder::new(TokioExecutor::new());
        // hyper's own head timeout would also close idle connections; the socket keeps both times itself.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(limits.header_count)
            .max_buf_size(limits.header_bytes.max(8192));
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(limits.h2_pending_resets)
            .max_local_error_reset_streams(limits.h2_local_resets)
            .max_send_buf_size(64 * 1024)
            .keep_alive_interval(limits.h2_ping_interval)
            .keep_alive_timeout(limits.h2_ping_timeout);
        Shared {
            handler,
            acceptor: settings.tls.as_ref().map(|tls| tls.acceptor()),
            http,
            places: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
            requests: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            settings,
        }
    }
}

/// Accepts until aborted. No error ends it: each is about one connection, or passes when others close.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    signal: Arc<watch::Sender<Signal>>,
    connections: TaskTracker,
) {
    loop {
        let place = place(&shared.places, &signal).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let signals = signal.subscribe();
                connections.spawn(converse(stream, peer.ip(), Arc::clone(&shared), signals, place));
            }
            Err(error) => {
                tracing::warn!(target: "segue::net", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for a place for one more connection, asking idle ones to go.
async fn place(places: &Arc<Semaphore>, signal: &watch::Sender<Signal>) -> Option<OwnedSemaphorePermit> {
    loop {
        let wait = Arc::clone(places).acquire_owned();
        if let Ok(place) = tokio::time::timeout(PRESSURE_EVERY, wait).await {
            return place.ok();
        }
        signal.send_modify(|signal| signal.pressure = signal.pressure.wrapping_add(1));
    }
}

/// One connection from its acceptance to its end.
async fn converse(
    stream: TcpStream,
    peer: IpAddr,
    shared: Arc<Shared>,
    mut signals: watch::Receiver<Signal>,
    _place: Option<OwnedSemaphorePermit>,
) {
    // Answers are small and complete: waiting to fill a packet only adds delay.
    let _ = stream.set_nodelay(true);
    let activity = Activity::new();
    let socket = Socket::new(stream, Arc::clone(&activity));
    let Some(acceptor) = &shared.acceptor else {
        return serve(socket, Scheme::HTTP, peer, &shared, &activity, signals).await;
    };
    let cut = async {
        let _ = signals.wait_for(|signal| signal.stage != Stage::Serving).await;
    };
    let handshake = tokio::time::timeout(shared.settings.limits.header_timeout, acceptor.accept(socket));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = cut => return,
    };
    match shaken {
        Ok(Ok(secured)) => serve(secured, Scheme::HTTPS, peer, &shared, &activity, signals).await,
        Ok(Err(error)) => tracing::debug!(target: "segue::net", %peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(target: "segue::net", %peer, "TLS handshake took too long"),
    }
}

/// Speaks HTTP on a connection until either side closes it, or its peer idles, dribbles or stops reading.
async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: IO,
    scheme: Scheme,
    peer: IpAddr,
    shared: &Arc<Shared>,
    activity: &Arc<Activity>,
    mut signals: watch::Receiver<Signal>,
) {
    let limits = &shared.settings.limits;
    let service = service_fn(|request| answer(Arc::clone(shared), Arc::clone(activity), scheme.clone(), peer, request));
    let mut connection = pin!(shared.http.serve_connection(TokioIo::new(io), service));
    let mut timer = pin!(tokio::time::sleep_until(activity.deadline(limits).unwrap_or_else(Instant::now)));
    let mut last = Signal { stage: Stage::Serving, pressure: signals.borrow().pressure };
    let mut leaving = None;
    loop {
        let now = *signals.borrow_and_update();
        if now.stage == Stage::Cut {
            return;
        }
        let pressed = now.pressure != last.pressure;
        if pressed && activity.dribbles() {
            return;
        }
        let asked_to_go = now.stage > last.stage || (pressed && activity.is_idle());
        last = now;
        if asked_to_go {
            connection.as_mut().graceful_shutdown();
        }
        tokio::select! {
            biased;
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(target: "segue::net", %peer, %error, "connection ended early");
                }
                return;
            }
            changed = signals.changed() => if changed.is_err() { return },
            // Polled right after the connection, so it sees what that poll changed.
            () = poll_fn(|cx| poll_overdue(cx, activity, limits, timer.as_mut(), leaving)) => {
                if leaving.is_some() {
                    return;
                }
                leaving = Some(Instant::now() + GOODBYE.min(limits.idle_timeout));
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ready when the connection is overdue. The timer is only moved when it must fire earlier, so that a busy connection
/// does not set one for each request.
fn poll_overdue(
    cx: &mut Context<'_>,
    activity: &Activity,
    limits: &Limits,
    mut timer: Pin<&mut Sleep>,
    leaving: Option<Instant>,
) -> std::task::Poll<()> {
    use std::task::Poll;
    // A request that slipped in before the goodbye is still answered.
    let until = activity.deadline(limits).map(|due| leaving.unwrap_or(due));
    if let Some(until) = until.filter(|until| *until < timer.deadline()) {
        timer.as_mut().reset(until);
    }
    loop {
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        match until {
            Some(until) if until <= Instant::now() => return Poll::Ready(()),
            Some(until) => timer.as_mut().reset(until),
            None => timer.as_mut().reset(Instant::now() + limits.idle_timeout.min(limits.header_timeout).max(TICK)),
        }
    }
}

/// One request: refuses what no handler should see, else calls the handler.
async fn answer(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    scheme: Scheme,
    peer: IpAddr,
    request: http::Request<hyper::body::Incoming>,
) -> Result<Response, Infallible> {
    let guard = activity.begin(request.version() == Version::HTTP_2);
    let settings = &shared.settings;
    let (head, body) = request.into_parts();
    if let Some(refusal) = refuse(&head, &settings.limits) {
        return Ok(refusal.map(|body| body.guarded(guard)));
    }
    let (proxies, public) = (&settings.proxies, settings.public_url.as_ref());
    let caller = Caller::resolve(peer, scheme, &head.uri, &head.headers, proxies, public);
    let version = head.version;
    let permit = Arc::clone(&shared.requests).try_acquire_owned().ok();
    let request = Request {
        method: head.method,
        uri: head.uri,
        version: head.version,
        headers: head.headers,
        caller,
        overloaded: permit.is_none(),
        body: Inbound::new(body, &settings.limits),
    };
    let mut answer = Arc::clone(&shared.handler).handle(request).await;
    if answer.status() == StatusCode::PAYLOAD_TOO_LARGE && version != Version::HTTP_2 {
        // The connection is closed behind such an answer, as the rest of the body is not read. A peer that is not told may
        // send its next request on it, in vain.
        answer.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("close"));
    }
    drop(permit);
    Ok(answer.map(|body| body.guarded(guard)))
}

/// The answer to a head that is out of bounds.
fn refuse(head: &http::request::Parts, limits: &Limits) -> Option<Response> {
    if head.headers.len() > limits.header_count {
        return Some(problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields"));
    }
    let hosts = head.headers.get_all(HOST).iter().count();
    // RFC 9112, section 3.2. Two hosts are a way to have a proxy and the gateway see different ones.
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Some(problem(StatusCode::BAD_REQUEST, "the request must name exactly one host"));
    }
    let coded = head.headers.get_all(CONTENT_ENCODING).iter().any(|coding| {
        !coding.as_bytes().trim_ascii().is_empty() && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    });
    if coded {
        let mut answer = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not accepted");
        // RFC 9110, section 12.5.3: in an answer it tells what request bodies may use.
        let identity = http::HeaderValue::from_static("identity");
        answer.headers_mut().insert(http::header::ACCEPT_ENCODING, identity);
        return Some(answer);
    }
    None
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
