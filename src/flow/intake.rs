//! Stage 1: a provider's request, and the answer to it.
//!
//! One handler serves every channel at `/in/<channel>`. It reads the body under its cap, answers challenges without an
//! entry, lets the verify and journal stages do their work, and answers what the connector's manifest says, after the
//! entry is on disk and never before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};

use super::mail_check::{self, Checking};
use super::outcome::head;
use super::signer::Signers;
use super::{ChannelSetup, Context, enter, verify, wait};
use crate::base::hash::key16;
use crate::base::id::EntryId;
use crate::base::telemetry::{By, thread_cpu};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::connector::{Ack, Answer, AnswerSpec, Refusal, Request};
use crate::model::entry::Answered;
use crate::model::{EntryBody, EntryKind};
use crate::net::rate::{PeerTurns, RateLimits};
use crate::net::{self, Client};
use crate::store::NewEntry;

/// A request whose body was read. What it says is not yet believed.
pub(crate) struct Received {
    pub(super) channel: String,
    pub(super) request: Request,
    pub(super) at: Timestamp,
}

/// The handler of `/in/<channel>`.
pub struct Intake {
    context: Arc<Context>,
    rates: Arc<RateLimits>,
    /// Who is asked about the senders of mails.
    checking: Arc<Checking>,
    /// The certificates that requests are signed by.
    signers: Signers,
    /// The greatest body taken, in bytes, and the greatest of a connector whose requests hold whole mails.
    most: (usize, usize),
    /// Turns for bodies that are greater than an ordinary one.
    large: PeerTurns,
}

/// How many requests with a large mail are taken at once: they are in memory before anything says whose they are.
const LARGE_AT_ONCE: usize = 4;
/// How many of them one peer may have.
const LARGE_OF_ONE: usize = 2;
/// How many bytes a second such a request must bring, that nobody holds a turn with a trickle. Those who send large mails
/// have fast lines.
const LARGE_RATE: u32 = 64 * 1024;

/// How an answer is counted.
type Outcome = (&'static str, net::Response);

impl Intake {
    /// `client` is the way out, `checking` what mails are held to; `body` is the greatest body taken, in bytes, `mail` the greatest mail in one.
    pub fn new(
        context: Arc<Context>,
        rates: Arc<RateLimits>,
        (client, checking): (Client, Arc<Checking>),
        (body, mail): (usize, usize),
    ) -> Self {
        // Base64 makes three bytes four, and something stands around it.
        let with_mail = (mail / 3).saturating_mul(4).saturating_add(body);
        Intake {
            context,
            rates,
            checking,
            signers: Signers::new(client),
            most: (body, with_mail),
            large: PeerTurns::new(LARGE_AT_ONCE, LARGE_OF_ONE),
        }
    }

    /// Answers a request to the channel of this name.
    pub async fn answer(&self, name: &str, incoming: net::Request) -> net::Response {
        let setup = self.context.setup.load_full();
        let Some(channel) = setup.channels.get(name) else {
            // Not counted by name: the name is whatever somebody typed.
            self.context.metrics.intake.get_or_create(&By::new("", "unknown_channel")).inc();
            return problem(StatusCode::NOT_FOUND, "there is no channel of this name");
        };
        let served = self.context.metrics.metered("intake", self.serve(channel, name, incoming));
        let (result, response) = served.await;
        self.context.metrics.intake.get_or_create(&By::new(name, result)).inc();
        response
    }

    async fn serve(&self, channel: &ChannelSetup, name: &str, incoming: net::Request) -> Outcome {
        let overload = |seconds: u64| overloaded(channel, seconds);
        if channel.paused {
            return ("paused", overload(60));
        }
        if incoming.overloaded || !self.context.store.journal.healthy() {
            return ("overloaded", overload(2));
        }
        if let Err(wait) = self.rates.check(name, incoming.peer()) {
            return ("limited", overload(wait.seconds()));
        }
        let Some(url) = incoming.public_url() else {
            return ("refused", problem(StatusCode::BAD_REQUEST, "the request names no host"));
        };
        let (method, headers) = (incoming.method.clone(), flatten(&incoming.headers));
        let (ordinary, with_mail) = self.most;
        let fits = incoming.body.declared().is_some_and(|size| size <= ordinary as u64);
        let large = channel.connector.takes_mails() && !fits;
        let mut request =
            Request { method: method.as_str().to_owned(), url, headers, body: Bytes::new(), signer: None };
        // Who cannot be the provider gets no turn.
        if large
            && channel.connector.verifies_by_head()
            && let Err(refusal) = channel.connector.verify(&request, &channel.account, self.context.clock.now())
        {
            return refused(name, &refusal);
        }
        let turn = large.then(|| self.large.take(incoming.peer()));
        let (body, most) = match turn {
            Some(None) => return ("overloaded", overload(2)),
            Some(_) => (incoming.body.hurried(LARGE_RATE), with_mail),
            None => (incoming.body, ordinary),
        };
        request.body = match body.read(most).await {
            Ok(body) => body,
            Err(error) => return ("refused", problem(error.status(), "the body could not be read")),
        };
        let read = Instant::now();
        // A request that would be refused whatever its certificate is refused below, with the same reason.
        if let Some(Ok(url)) = channel.connector.signer(&request, &channel.account) {
            request.signer = self.signers.certificate(&url).await;
            if request.signer.is_none() {
                return ("unavailable", overload(5));
            }
        }
        let received = Received { channel: name.to_owned(), request, at: self.context.clock.now() };
        let outcome = self.receive(channel, received, &method).await;
        self.context.metrics.acknowledgement.observe(read.elapsed().as_secs_f64());
        outcome
    }

    async fn receive(&self, channel: &ChannelSetup, received: Received, method: &Method) -> Outcome {
        let begun = thread_cpu();
        if let Some(answer) = channel.connector.challenge(&received.request, &channel.account, received.at) {
            return ("challenge", respond(&answer));
        }
        if method != Method::POST && channel.connector.unverified() {
            return ("refused", problem(StatusCode::METHOD_NOT_ALLOWED, "deliveries are POST requests"));
        }
        let name = received.channel.clone();
        let mut verified = match verify::step(channel, received) {
            Ok(verified) => verified,
            Err(refusal) => return refused(&name, &refusal),
        };
        self.context.stage_seconds("verify", begun);
        if let Some(url) = channel.connector.confirmation(&verified.request, &channel.account) {
            return self.confirmed(channel, &url).await;
        }
        if channel.connector.takes_mails() {
            mail_check::step_request(&self.checking, channel, &mut verified).await;
        }
        let outcome = if verified.waits {
            self.answer_while_waiting(channel, verified).await
        } else {
            let id = EntryId::random(verified.at);
            let ack = channel.connector.ack();
            let said = acknowledgement(ack);
            enter(&self.context, id, verified)
                .await
                .map(|appended| (if appended.repeat { "repeated" } else { "accepted" }, respond(&said)))
        };
        outcome.unwrap_or_else(|error| {
            tracing::error!(target: "segue::journal", channel = %name, error = %error.full(), "not taken");
            ("unavailable", overloaded(channel, 5))
        })
    }

    /// Confirms what a provider asks to have confirmed: like a challenge, it is answered without an entry.
    async fn confirmed(&self, channel: &ChannelSetup, url: &str) -> Outcome {
        if !self.signers.confirm(url).await {
            return ("unavailable", overloaded(channel, 5));
        }
        tracing::info!(target: "segue::intake", channel = %channel.account.channel, "a subscription was confirmed");
        ("challenge", respond(&acknowledgement(channel.connector.ack())))
    }

    /// Journals a request whose sender waits, and answers what the policy says within the deadline, else the declared
    /// safe default. What is answered is durable before it goes out, so that a repeat hears the same.
    async fn answer_while_waiting(&self, channel: &ChannelSetup, verified: verify::Verified) -> Result<Outcome> {
        let request = verified.request.clone();
        let Some(spec) = channel.connector.waits(&request, &channel.account) else {
            return Err(Error::internal("a request that waits has no answers"));
        };
        let deadline = tokio::time::Instant::now() + Duration::from_millis(spec.deadline_ms());
        let (id, at, name) = (EntryId::random(verified.at), verified.at, verified.channel.clone());
        let mut place = self.context.waiting.enter(id);
        let appended = enter(&self.context, id, verified).await?;
        let key = answer_key(appended.id);
        if appended.repeat
            && let Some(answer) = self.stored_answer(key).await?
        {
            return Ok(("repeated", respond(&answer)));
        }
        let said = if appended.repeat {
            None
        } else {
            wait::effect(&self.context, &mut place, id, deadline).await.and_then(|told| told.answer)
        };
        drop(place);
        let (answer, source) = render(channel, spec, said.as_ref(), &request);
        let answered = Answered {
            entry: appended.id,
            status: answer.status,
            content_type: answer.content_type.clone(),
            body: answer.body.clone(),
            source: source.to_owned(),
        };
        let entry = NewEntry {
            id: EntryId::random(at),
            kind: EntryKind::Answered,
            channel: name,
            at: self.context.clock.now(),
            interactive: false,
            keys: Vec::new(),
            key: Some(key),
            body: EntryBody { head: head(&answered)?, raw: Bytes::new() },
        };
        // Two requests may come to this at once: the journal takes one answer, and both give that one.
        if self.context.store.journal.append(entry).await?.repeat
            && let Some(answer) = self.stored_answer(key).await?
        {
            return Ok(("repeated", respond(&answer)));
        }
        Ok((if source == "policy" { "answered" } else { "answered_default" }, respond(&answer)))
    }

    async fn stored_answer(&self, key: [u8; 16]) -> Result<Option<Answer>> {
        let Some((entry, _)) = self.context.store.journal.entry_by_key(key).await? else { return Ok(None) };
        let answered: Answered = serde_json::from_slice(&entry.body.head)
            .map_err(|e| Error::new(Kind::Internal, "a stored answer cannot be read back").because(e))?;
        Ok(Some(Answer { status: answered.status, content_type: answered.content_type, body: answered.body }))
    }
}

/// The delivery key of the answer to an entry: there is one answer.
pub(crate) fn answer_key(entry: EntryId) -> [u8; 16] {
    key16(&[b"answered", entry.as_bytes()])
}

fn render(
    channel: &ChannelSetup,
    spec: &AnswerSpec,
    said: Option<&crate::model::decision::CallAnswer>,
    request: &Request,
) -> (Answer, &'static str) {
    if let Some(said) = said {
        match channel.connector.answer(spec, said, &channel.account, request) {
            Ok(answer) => return (answer, "policy"),
            Err(error) => {
                tracing::warn!(target: "segue::intake", error = %error, "the policy's answer cannot be given");
            }
        }
    }
    (channel.connector.safe_default(spec, &channel.account, request), "default")
}

fn refused(channel: &str, refusal: &Refusal) -> Outcome {
    tracing::info!(target: "segue::verify", %channel, reason = %refusal.reason, "refused");
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::UNAUTHORIZED);
    ("unverified", problem(status, &refusal.reason))
}

/// Headers as connectors see them. A value that is no text is left out: no scheme signs one.
fn flatten(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

fn acknowledgement(ack: &Ack) -> Answer {
    Answer { status: ack.status, content_type: ack.content_type.clone(), body: ack.body.clone() }
}

fn respond(answer: &Answer) -> net::Response {
    let mut response = net::Response::new(net::Body::from(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    if !answer.body.is_empty()
        && let Ok(value) = HeaderValue::from_str(&answer.content_type)
    {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// The connector's own way of saying "later".
fn overloaded(channel: &ChannelSetup, seconds: u64) -> net::Response {
    let status =
        StatusCode::from_u16(channel.connector.ack().overload_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = problem(status, "not now; try again later");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// A problem document (RFC 9457).
pub(crate) fn problem(status: StatusCode, detail: &str) -> net::Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body =
        serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = net::Response::new(net::Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
