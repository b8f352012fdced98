//! A server on a port of its own whose every answer the test decides: what help desks and providers are made of.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Arrived {
    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What to do about a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// An answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Bytes },
    /// No answer, for as long as the caller waits.
    Hang,
    /// The connection ends without an answer.
    Close,
    /// The connection ends in the middle of the answer.
    CloseInBody,
}

impl Reply {
    /// An answer without a body.
    pub(crate) fn status(status: u16) -> Reply {
        Reply::Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Reply {
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply::Answer { status, headers, body: body.to_string().into() }
    }

    /// The same answer with one more header.
    pub(crate) fn with(self, name: &'static str, value: impl Into<String>) -> Reply {
        match self {
            Reply::Answer { status, mut headers, body } => {
                headers.push((name, value.into()));
                Reply::Answer { status, headers, body }
            }
            other => other,
        }
    }
}

/// Decides about a request.
pub(crate) type Decide = dyn Fn(Arrived) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

/// The running server; gone when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(decide: Arc<Decide>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            // Connections end with the server, not after it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let decide = decide.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(decide.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Server { address, task }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

type Answer = http::Response<BoxBody<Bytes, std::io::Error>>;

async fn serve(decide: Arc<Decide>, request: http::Request<Incoming>) -> Result<Answer, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let target = head.uri.path_and_query().map(|target| target.to_string()).unwrap_or_default();
    match decide(Arrived { target, headers: head.headers, body }).await {
        Reply::Answer { status, headers, body } => {
            let whole = Full::new(body).map_err(|never: Infallible| match never {}).boxed();
            let mut answer = http::Response::new(whole);
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            Ok(answer)
        }
        Reply::Hang => std::future::pending().await,
        // An error of the service makes hyper close the connection.
        Reply::Close => Err(std::io::Error::other("closed on purpose")),
        Reply::CloseInBody => {
            let begun: [Result<_, std::io::Error>; 2] =
                [Ok(Frame::data(Bytes::from_static(b"{\"mess"))), Err(std::io::Error::other("cut on purpose"))];
            let mut answer = http::Response::new(BodyExt::boxed(StreamBody::new(stream::iter(begun))));
            answer.headers_mut().insert("content-length", "100".parse().unwrap());
            Ok(answer)
        }
    }
}
