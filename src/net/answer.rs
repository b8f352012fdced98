//! Reading an answer: into memory or piece by piece, never more than its cap. The second half of the client.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client::{Pour, Response};
use super::failure::{ClientError, Fault, Phase};

/// An answer whose body is yet to be read.
pub(super) struct Answer<'a> {
    head: http::response::Parts,
    body: Incoming,
    ended: bool,
    host: &'a str,
}

impl<'a> Answer<'a> {
    pub(super) fn new(head: http::response::Parts, body: Incoming, host: &'a str) -> Self {
        Answer { head, body, ended: false, host }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Whether the body was read to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn failed(&self, fault: Fault) -> ClientError {
        ClientError::new(Phase::Uncertain, fault, self.host)
    }

    /// The next piece of the body; trailers are passed over.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| self.failed(Fault::Protocol).because(error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// Reads the whole body, of at most `cap` bytes.
    pub(super) async fn read(&mut self, cap: usize) -> Result<Response, ClientError> {
        if self.body.size_hint().lower() > cap as u64 {
            return Err(self.failed(Fault::TooLarge));
        }
        let mut whole = Bytes::new();
        let mut more = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len().saturating_add(more.len()).saturating_add(piece.len()) > cap {
                return Err(self.failed(Fault::TooLarge));
            }
            // Most answers are one piece, which needs no copy.
            if whole.is_empty() && more.is_empty() {
                whole = piece;
            } else {
                more.extend_from_slice(&std::mem::take(&mut whole));
                more.extend_from_slice(&piece);
            }
        }
        let body = if more.is_empty() { whole } else { more.into() };
        Ok(Response { status: self.head.status, headers: std::mem::take(&mut self.head.headers), body })
    }

    /// Gives the body, of at most `cap` bytes, to `into`; gives its media type.
    pub(super) async fn pour(&mut self, cap: u64, into: &mut dyn Pour) -> Result<Option<String>, ClientError> {
        if self.body.size_hint().lower() > cap {
            return Err(self.failed(Fault::TooLarge));
        }
        let mut size = 0u64;
        while let Some(piece) = self.next().await? {
            size = size.saturating_add(piece.len() as u64);
            if size > cap {
                return Err(self.failed(Fault::TooLarge));
            }
            into.pour(piece).await.map_err(|error| self.failed(Fault::Taken).because(error))?;
        }
        Ok(self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }
}
