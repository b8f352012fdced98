//! The one HTTP client, for help desks, provider APIs and media.
//!
//! It dials only addresses that the [`guard`](super::guard) admits, follows no redirect, reads no more than it was told
//! to, and says of every failure whether the request may have reached its peer. It never sends a request twice: the
//! only thing it repeats is the choice of a connection, when hyper hands the request back as never begun.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::dial::Dialer;
use super::failure::{ClientError, Fault, Phase};
use super::guard::Refusal;
use super::pool::{Pool, Sender, Target, dial};
use crate::base::Result;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Networks that may be dialed although they are not public, over plain `http` too and at any port.
    pub allow: Vec<IpNet>,
    /// Ports that may be dialed at public addresses. Default 80, 443, 8443.
    pub ports: Vec<u16>,
    /// PEM files of trust roots beside the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Time to resolve, connect and shake hands. Default 5 s.
    pub connect_timeout: Duration,
    /// Time for a whole request, where it names none of its own. Default 20 s.
    pub timeout: Duration,
    /// Bytes of an answer's body, where the request names no cap of its own. Default 64 KiB.
    pub response_bytes: usize,
    /// Requests at once; more wait, within their time. Default 1,024.
    pub requests: usize,
    /// Connections kept open to one host. Default 64.
    pub idle_per_host: usize,
    /// Connections kept open in all. Default 512.
    pub idle_total: usize,
    /// How long an unused connection is kept. Default 30 s.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            allow: Vec::new(),
            ports: vec![80, 443, 8443],
            extra_roots: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            response_bytes: 64 * 1024,
            requests: 1024,
            idle_per_host: 64,
            idle_total: 512,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// A request to make. Has no `Debug`: URL, headers and body may hold credentials and what people said.
#[derive(Clone)]
pub struct Request {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    timeout: Option<Duration>,
    response_bytes: Option<usize>,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let (url, headers) = (url.into(), HeaderMap::new());
        Request { method, url, headers, body: Bytes::new(), timeout: None, response_bytes: None }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Request::new(Method::GET, url)
    }

    /// A `POST` of `body`.
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Request::new(Method::POST, url).body(body)
    }

    /// Sets a header. `Host`, `Content-Length`, `Transfer-Encoding` and `Connection` are the client's own and are
    /// ignored here.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets all headers at once, with the same exceptions.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the time for the whole request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how many bytes the answer's body may have.
    #[must_use]
    pub fn response_bytes(mut self, cap: usize) -> Self {
        self.response_bytes = Some(cap);
        self
    }
}

/// An answer, whatever its status; a redirect is an answer like any other.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields of the head.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Where the body of an answer goes, piece by piece.
pub trait Pour: Send {
    /// Takes the next piece; the next one is read when it has.
    fn pour(&mut self, piece: Bytes) -> BoxFuture<'_, Result<()>>;
}

/// What came of [`Client::pour`].
pub enum Poured {
    /// A 2xx: all of its body was taken. With what the peer says that it is.
    Whole(Option<String>),
    /// Any other status, with a body of at most the request's `response_bytes`; nothing was poured.
    Answered(Response),
}

/// The client. Cloning shares its connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    dialer: Arc<Dialer>,
    pool: Arc<Pool>,
    requests: Semaphore,
}

impl Client {
    /// Makes a client. Nothing is dialed yet.
    ///
    /// # Errors
    ///
    /// [`crate::base::Kind::Config`] if a file of `extra_roots` cannot be read, naming it.
    pub fn new(settings: Settings) -> Result<Self> {
        let dialer = Dialer::new(settings.allow.clone(), &settings.extra_roots)?;
        Ok(Client(Arc::new(Inner {
            dialer: Arc::new(dialer),
            pool: Pool::new(&settings),
            requests: Semaphore::new(settings.requests.clamp(1, Semaphore::MAX_PERMITS)),
            settings,
        })))
    }

    /// What makes its connections, for whoever speaks something else than HTTP.
    pub fn dialer(&self) -> Arc<Dialer> {
        Arc::clone(&self.0.dialer)
    }

    /// Makes `request` and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; its phase says whether the request may have reached the peer.
    pub async fn send(&self, request: Request) -> Result<Response, ClientError> {
        let cap = request.response_bytes.unwrap_or(self.0.settings.response_bytes);
        self.run(request, async |answer: &mut Answer<'_>| answer.read(cap).await).await
    }

    /// Makes `request` and gives the body of a 2xx answer, of at most `cap` bytes, to `into` as it comes.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`Fault::TooLarge`] beyond the cap, [`Fault::Taken`] with its reason if `into` refuses. What was
    /// poured until then is not the whole.
    pub async fn pour(&self, request: Request, cap: u64, into: &mut dyn Pour) -> Result<Poured, ClientError> {
        let small = request.response_bytes.unwrap_or(self.0.settings.response_bytes);
        self.run(request, async |answer: &mut Answer<'_>| {
            if !answer.status().is_success() {
                return answer.read(small).await.map(Poured::Answered);
            }
            answer.pour(cap, into).await.map(Poured::Whole)
        })
        .await
    }

    /// Sends, then lets `take` have the answer, all within the request's time.
    async fn run<T>(
        &self,
        request: Request,
        take: impl AsyncFnOnce(&mut Answer<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let inner = &*self.0;
        let until = Instant::now() + request.timeout.unwrap_or(inner.settings.timeout);
        let target = Target::parse(&request.url)?;
        let mut phase = Phase::BeforeSend;
        let whole = async {
            let refused = |error| ClientError::before(Fault::Connect, &target.name).because(error);
            let _permit = inner.requests.acquire().await.map_err(refused)?;
            let (answer, sender) = inner.exchange(request, &target, &mut phase).await?;
            let (head, body) = answer.into_parts();
            let mut answer = Answer::new(head, body, &target.name);
            let taken = take(&mut answer).await?;
            // Only a connection whose answer was read to the end can carry another one.
            if answer.ended() {
                inner.pool.give(&target.key, sender);
            }
            Ok(taken)
        };
        match timeout_at(until, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::new(phase, Fault::Timeout, &target.name)),
        }
    }
}

impl Inner {
    /// Sends the request on a kept connection or a new one and waits for the head of the answer.
    async fn exchange(
        &self,
        request: Request,
        target: &Target,
        phase: &mut Phase,
    ) -> Result<(http::Response<Incoming>, Sender), ClientError> {
        let mut message = message(request, target)?;
        while let Some(mut sender) = self.pool.take(&target.key) {
            if sender.ready().await.is_err() {
                continue;
            }
            match attempt(&mut sender, message, target, phase).await? {
                Attempt::Answered(answer) => return Ok((answer, sender)),
                Attempt::Unsent(returned, _) => message = returned,
            }
            // It closed at the very moment it was chosen, and so may all its companions: take a fresh one.
            break;
        }
        let mut sender = dial(&self.dialer, target, &self.settings.ports, self.settings.connect_timeout).await?;
        match attempt(&mut sender, message, target, phase).await? {
            Attempt::Answered(answer) => Ok((answer, sender)),
            Attempt::Unsent(_, error) => Err(ClientError::before(Fault::Connect, &target.name).because(error)),
        }
    }
}

enum Attempt {
    Answered(http::Response<Incoming>),
    /// The connection closed before it took up the request, which is returned.
    Unsent(http::Request<Full<Bytes>>, hyper::Error),
}

/// Sends once. `phase` is uncertain from here on unless hyper hands the request back.
async fn attempt(
    sender: &mut Sender,
    message: http::Request<Full<Bytes>>,
    target: &Target,
    phase: &mut Phase,
) -> Result<Attempt, ClientError> {
    *phase = Phase::Uncertain;
    let mut failed = match sender.try_send_request(message).await {
        Ok(answer) => return Ok(Attempt::Answered(answer)),
        Err(failed) => failed,
    };
    if let Some(message) = failed.take_message() {
        *phase = Phase::BeforeSend;
        return Ok(Attempt::Unsent(message, failed.into_error()));
    }
    Err(ClientError::new(Phase::Uncertain, Fault::Protocol, &target.name).because(failed.into_error()))
}

/// The request as hyper wants it.
fn message(request: Request, target: &Target) -> Result<http::Request<Full<Bytes>>, ClientError> {
    if request.method == Method::CONNECT {
        return Err(ClientError::before(Fault::Refused(Refusal::BadRequest), &target.name));
    }
    // RFC 9110, section 8.6: hyper leaves the length of an empty body out, and some servers then answer 411.
    let declare_empty = request.body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&request.method);
    let mut message = http::Request::new(Full::new(request.body));
    *message.method_mut() = request.method;
    *message.uri_mut() = target.path.clone();
    let mut headers = request.headers;
    for own in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, http::header::UPGRADE, http::header::EXPECT] {
        headers.remove(own);
    }
    if declare_empty {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.insert(HOST, target.authority.clone());
    *message.headers_mut() = headers;
    Ok(message)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
