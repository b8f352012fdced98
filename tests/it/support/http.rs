//! A client for the gateway's doors: ordinary requests through hyper, and raw bytes where a request is to be wrong.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a request was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A request to be sent, as often as the test likes.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    /// A request without headers and body.
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Call {
        Call { method, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A POST request with a body of this type.
    pub(crate) fn post(target: impl Into<String>, content_type: &str, body: impl Into<Bytes>) -> Call {
        let call = Call { body: body.into(), ..Call::new(Method::POST, target) };
        call.header("content-type", content_type)
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Call {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A client with a pool of connections of its own.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Client {
    /// A client without connections.
    pub(crate) fn new() -> Client {
        Client(legacy::Client::builder(TokioExecutor::new()).build_http())
    }

    /// Sends a request to `base` and reads the whole answer.
    ///
    /// # Errors
    ///
    /// In words, if there is no whole answer within a minute.
    pub(crate) async fn send(&self, base: &str, call: &Call) -> Result<Answer, String> {
        let mut request = http::Request::builder().method(call.method.clone()).uri(format!("{base}{}", call.target));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(call.body.clone())).map_err(|error| error.to_string())?;
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(Duration::from_secs(60), exchange)
            .await
            .unwrap_or_else(|_| Err("no answer in a minute".into()))
    }
}

/// Writes raw bytes to the door at `base` and gives what comes back before the other side closes, which it must do
/// within `patience`. `half_close` tells the other side that nothing more will come.
pub(crate) async fn raw(base: &str, bytes: &[u8], half_close: bool, patience: Duration) -> String {
    let mut socket = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    // The other side may answer and close before it has read everything.
    let _ = socket.write_all(bytes).await;
    if half_close {
        let _ = socket.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(patience, socket.read_to_end(&mut answer)).await;
    assert!(
        read.is_ok(),
        "the connection is still open after {patience:?}; so far: {:?}",
        String::from_utf8_lossy(&answer)
    );
    String::from_utf8_lossy(&answer).into_owned()
}
