//! Bodies: those that come in, capped and timed, and those that go out, whole or streamed.
//!
//! The invariant: whoever reads an [`Inbound`] holds at most its cap, and waits no longer than the listener's limits,
//! however it is read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};

use super::Limits;
use super::socket::InFlight;
use crate::base::{Error, Kind};

/// Any error of a stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body that came in could not be read to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// It has more bytes than the cap.
    TooLarge {
        /// The cap in bytes.
        cap: usize,
    },
    /// It came too slowly, or not at all.
    TimedOut,
    /// The peer went away or broke the protocol in the middle of it.
    Broken(BoxError),
}

impl BodyError {
    /// The status that tells the peer (RFC 9110, section 15.5).
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge { cap } => write!(f, "the body has more than {cap} bytes"),
            BodyError::TimedOut => f.write_str("the body came too slowly"),
            BodyError::Broken(_) => f.write_str("the body broke off"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Broken(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge { .. } => Kind::Limit,
            BodyError::TimedOut => Kind::Timeout,
            BodyError::Broken(_) => Kind::Invalid,
        };
        Error::new(kind, error.to_string()).because(error)
    }
}

/// The body of a request as it comes in.
///
/// As an [`http_body::Body`] it gives at most the listener's `body_bytes`, then [`BodyError::TooLarge`];
/// [`Inbound::read`] takes a cap of its own.
pub struct Inbound {
    inner: hyper::body::Incoming,
    cap: usize,
    received: usize,
    pace: Pace,
    started: Option<Instant>,
    /// Made when the body first has to be waited for: most have arrived together with their head.
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

/// How slowly a body may come.
#[derive(Clone, Copy)]
struct Pace {
    whole: Duration,
    grace: Duration,
    rate: u32,
}

impl Pace {
    /// How long after its start a body may be waited for if `received` bytes of it have come.
    fn patience(self, received: usize) -> Duration {
        if self.rate == 0 {
            return self.whole;
        }
        let earned = Duration::from_secs_f64(received as f64 / f64::from(self.rate));
        self.whole.min(self.grace.saturating_add(earned))
    }
}

impl Inbound {
    pub(super) fn new(inner: hyper::body::Incoming, limits: &Limits) -> Self {
        let pace = Pace { whole: limits.body_timeout, grace: limits.body_grace, rate: limits.body_rate };
        Inbound { inner, cap: limits.body_bytes, received: 0, pace, started: None, timer: None, failed: false }
    }

    /// The size that the peer declared, in bytes, if it did.
    pub fn declared(&self) -> Option<u64> {
        self.inner.size_hint().exact()
    }

    /// The same body, which must bring at least `rate` bytes a second on average, also where the listener asks for less.
    #[must_use]
    pub fn hurried(mut self, rate: u32) -> Self {
        self.pace.rate = self.pace.rate.max(rate);
        self
    }

    /// Reads the whole body, of at most `cap` bytes.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLarge`] before anything is read if the declared size is larger, or as soon as more has come;
    /// [`BodyError::TimedOut`] and [`BodyError::Broken`] as they say.
    pub async fn read(mut self, cap: usize) -> Result<Bytes, BodyError> {
        self.cap = cap;
        let declared = usize::try_from(self.inner.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > cap {
            return Err(BodyError::TooLarge { cap });
        }
        let Some(first) = self.next_data().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next_data().await? else { return Ok(first) };
        let mut whole = BytesMut::with_capacity(declared.max(first.len() + second.len()));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(more) = self.next_data().await? {
            whole.extend_from_slice(&more);
        }
        Ok(whole.freeze())
    }

    /// The next piece; trailers are passed over.
    async fn next_data(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Whether the time for waiting is over; else wakes the task when it is.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let started = *self.started.get_or_insert_with(Instant::now);
        let until = started + self.pace.patience(self.received);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("cap", &self.cap).field("received", &self.received).finish_non_exhaustive()
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let outcome = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => {
                this.received = this.received.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                if this.received > this.cap { Err(BodyError::TooLarge { cap: this.cap }) } else { Ok(frame) }
            }
            Poll::Ready(Some(Err(error))) => Err(BodyError::Broken(error.into())),
            Poll::Pending => match this.poll_patience(cx) {
                Poll::Ready(()) => Err(BodyError::TimedOut),
                Poll::Pending => return Poll::Pending,
            },
        };
        this.failed = outcome.is_err();
        Poll::Ready(Some(outcome))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer: bytes at hand, or a stream.
pub struct Body {
    content: Content,
    /// Tells the connection that it is idle again once this body is gone.
    guard: Option<InFlight>,
}

enum Content {
    Whole(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Body { content: Content::Whole(None), guard: None }
    }

    /// A body that is made while it is sent. The peer's slowness is passed on to it: it is polled only when there is
    /// room to write.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body { content: Content::Stream(body.map_err(Into::into).boxed_unsync()), guard: None }
    }

    pub(super) fn guarded(mut self, guard: InFlight) -> Self {
        self.guard = Some(guard);
        self
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Body { content: Content::Whole((!bytes.is_empty()).then_some(bytes)), guard: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.content {
            Content::Whole(_) => "Body(whole)",
            Content::Stream(_) => "Body(stream)",
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

/// A short answer of this room's own, as a problem document (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &'static str) -> http::Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let text =
        format!(r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{detail}"}}"#, status.as_u16());
    let mut answer = http::Response::new(Body::from(text));
    *answer.status_mut() = status;
    let json = http::HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_has_come_but_never_past_the_whole() {
        let pace = Pace { whole: Duration::from_secs(30), grace: Duration::from_secs(5), rate: 1024 };
        assert_eq!(pace.patience(0), Duration::from_secs(5));
        assert_eq!(pace.patience(2048), Duration::from_secs(7));
        assert_eq!(pace.patience(usize::MAX), Duration::from_secs(30));
        assert_eq!(Pace { rate: 0, ..pace }.patience(0), Duration::from_secs(30));
    }

    #[test]
    fn a_problem_is_json() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let answer = problem(status, "too many requests at once");
        let Content::Whole(Some(bytes)) = answer.into_body().content else { panic!("not whole") };
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["status"], 503);
        assert_eq!(value["title"], "Service Unavailable");
    }
}
