//! What a listener hands over and to whom: the request, and the one trait that answers it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::body::{Body, BoxError, Inbound, problem};
use super::peer::Caller;

/// An answer.
pub type Response = http::Response<Body>;

/// Whoever answers the requests of a listener.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped in the middle if the peer goes away.
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response>;
}

/// A request: its head, who sent it, and the body yet to be read.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target as it was on the wire.
    pub uri: Uri,
    /// The version of HTTP.
    pub version: Version,
    /// The fields of the head.
    pub headers: HeaderMap,
    /// Who called; [`Caller::peer`] is the address to limit and to log.
    pub caller: Caller,
    /// Whether more requests are being handled than [`Limits::requests`](super::Limits::requests). The handler should answer at once with
    /// [`Request::overload`], or as the caller expects to be told, and not read the body.
    pub overloaded: bool,
    /// The body.
    pub body: Inbound,
}

impl Request {
    /// The address of the caller.
    pub fn peer(&self) -> IpAddr {
        self.caller.peer
    }

    /// The URL as the caller wrote it, for signatures that cover it; `None` if the request names no usable host.
    pub fn public_url(&self) -> Option<String> {
        self.caller.url(&self.uri)
    }

    /// The usual answer to an overloaded request: 503 with `Retry-After: 1`.
    pub fn overload() -> Response {
        let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
        answer.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        answer
    }

    /// The request for a tower service; the [`Caller`] is among its extensions.
    pub fn into_http(self) -> http::Request<Inbound> {
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request.extensions_mut().insert(self.caller);
        request
    }
}

/// Mounts a tower service, such as an axum `Router`, as a [`Handler`]. Overloaded requests are answered with 503.
#[derive(Debug, Clone)]
pub struct Tower<S>(pub S);

impl<S, B> Handler for Tower<S>
where
    S: tower_service::Service<http::Request<Inbound>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        if request.overloaded {
            return Box::pin(std::future::ready(Request::overload()));
        }
        let mut service = self.0.clone();
        Box::pin(async move {
            match poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => {}
                Err(never) => match never {},
            }
            match service.call(request.into_http()).await {
                Ok(answer) => answer.map(Body::stream),
                Err(never) => match never {},
            }
        })
    }
}
