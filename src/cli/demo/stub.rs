//! A stand-in for the providers' APIs: takes what the gateway sends to customers, answers as they do, gives out one file.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;

use super::story::fill;
use crate::base::{Error, Result};
use crate::net::server::{Server, Settings};
use crate::net::{Body, Handler, Request, Response};

const ANSWERS: &str = include_str!("data/stub.toml");

/// The file that is given out.
pub(super) const FILE: &[u8] = include_bytes!("data/photo.png");

/// How many sends are kept; older ones are only counted.
const KEPT: usize = 1000;
/// The largest request that is taken.
const MOST_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    answer: Vec<Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    method: String,
    path: String,
    /// The id that a send gets.
    sent: Option<String>,
    /// The media type of the file that is given out.
    file: Option<String>,
    #[serde(default)]
    body: String,
}

/// Something that the gateway sent to a customer.
pub(super) struct Sent {
    /// The method and path.
    pub(super) request: String,
    /// The body.
    pub(super) body: String,
    /// The id that it was given.
    pub(super) id: String,
}

/// The stand-in.
pub(super) struct Stub {
    answers: Answers,
    /// Where it listens; known once it does.
    base: Mutex<String>,
    sent: Mutex<VecDeque<Arc<Sent>>>,
    /// How many sends there were.
    count: watch::Sender<u64>,
}

impl Stub {
    /// Opens the stand-in at a free port of this machine.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if no port can be had.
    pub(super) async fn open() -> Result<(Server, Arc<Stub>)> {
        let answers = toml::from_str(ANSWERS)
            .map_err(|error| Error::internal("the demo's answers of providers cannot be read").because(error))?;
        let stub =
            Arc::new(Stub { answers, base: Mutex::default(), sent: Mutex::default(), count: watch::channel(0).0 });
        let server = Server::start(Settings::new(SocketAddr::from(([127, 0, 0, 1], 0))), stub.clone()).await?;
        *stub.base.lock() = format!("http://{}", server.address());
        Ok((server, stub))
    }

    /// How many sends there were so far.
    pub(super) fn mark(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits for a send after a mark; none if there is none in time.
    pub(super) async fn wait(&self, mark: u64, patience: Duration) -> Option<Arc<Sent>> {
        let mut count = self.count.subscribe();
        let more = count.wait_for(|count| *count > mark);
        let total = *tokio::time::timeout(patience, more).await.ok()?.ok()?;
        let sent = self.sent.lock();
        let back = usize::try_from(total.saturating_sub(mark)).unwrap_or(usize::MAX);
        sent.get(sent.len().checked_sub(back)?).cloned()
    }

    fn answer(&self, method: &Method, path: &str, body: &Bytes) -> Response {
        let fits = |answer: &&Answer| answer.method == method.as_str() && path.contains(&answer.path);
        let Some(answer) = self.answers.answer.iter().find(fits) else {
            return respond(StatusCode::NOT_FOUND, "application/json", r#"{"error":{"message":"unknown"}}"#);
        };
        if let Some(kind) = &answer.file {
            return respond(StatusCode::OK, kind, FILE);
        }
        let base = self.base.lock().clone();
        let mut sent = self.sent.lock();
        let number = (*self.count.borrow() + 1).to_string();
        let values = [("n", number.as_str()), ("stub", base.as_str())];
        if let Some(id) = &answer.sent {
            let body = String::from_utf8_lossy(body).into_owned();
            sent.push_back(Arc::new(Sent { request: format!("{method} {path}"), body, id: fill(id, &values) }));
            if sent.len() > KEPT {
                sent.pop_front();
            }
            self.count.send_modify(|count| *count += 1);
        }
        respond(StatusCode::OK, "application/json", fill(&answer.body, &values))
    }
}

fn respond(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if let Ok(kind) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

impl Handler for Stub {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        async move {
            if request.overloaded {
                return Request::overload();
            }
            match request.body.read(MOST_BYTES).await {
                Ok(body) => self.answer(&request.method, request.uri.path(), &body),
                Err(error) => respond(error.status(), "text/plain", ""),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_each_send_an_id_and_keeps_it() {
        let (server, stub) = Stub::open().await.unwrap();
        let send = stub.answers.answer.iter().find(|answer| answer.sent.is_some()).unwrap();
        let mark = stub.mark();
        for text in ["one", "two"] {
            let answer = stub.answer(&Method::POST, &send.path, &Bytes::from(text));
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let first = stub.wait(mark, Duration::from_secs(5)).await.unwrap();
        let second = stub.wait(mark + 1, Duration::from_secs(5)).await.unwrap();
        assert_eq!((first.body.as_str(), second.body.as_str()), ("one", "two"));
        assert_ne!(first.id, second.id);
        assert_eq!(stub.answer(&Method::GET, "/nowhere", &Bytes::new()).status(), StatusCode::NOT_FOUND);
        assert!(stub.base.lock().ends_with(&server.address().port().to_string()));
    }
}
