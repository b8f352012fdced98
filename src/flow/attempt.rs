//! One attempt to deliver an event: signed by Standard Webhooks 1.0.0, sent once, its answer read.
//!
//! Part of the deliver stage. The body is the event's own bytes and never rendered again; an attempt adds only headers.

use std::time::Duration;

use data_encoding::BASE64;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, StatusCode};
use ring::hmac;

use crate::base::Timestamp;
use crate::net::{Client, client};
use crate::store::DueEvent;

/// One help desk, checked.
#[derive(Clone)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Where events go.
    pub url: String,
    /// Keys to sign with: the present one, and during a rotation the one before.
    pub keys: Vec<hmac::Key>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How many attempts run side by side.
    pub concurrency: usize,
    /// Waits before each attempt, in milliseconds.
    pub schedule: Vec<u64>,
    /// The greatest part by which a wait is stretched or shortened.
    pub jitter: f64,
    /// Failures in a row after which attempts pause, and for how long at first, in milliseconds.
    pub breaker: (u32, u64),
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// A 2xx.
    Delivered,
    /// It may succeed later.
    Failed {
        /// What happened, in plain words.
        reason: String,
        /// When the other side wants to be asked again, in milliseconds.
        retry_after: Option<u64>,
    },
    /// The other side wants no more events at all (410).
    Gone,
}

/// The headers that authenticate an event (Standard Webhooks 1.0.0).
pub fn signed_headers(destination: &Destination, id: &str, at: Timestamp, body: &[u8]) -> HeaderMap {
    let timestamp = at.seconds().to_string();
    let mut signatures = String::new();
    for key in &destination.keys {
        let mut context = hmac::Context::with_key(key);
        for piece in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(piece);
        }
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        signatures.push_str("v1,");
        BASE64.encode_append(context.sign().as_ref(), &mut signatures);
    }
    let mut headers = HeaderMap::with_capacity(8);
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    add(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8");
    add(USER_AGENT, concat!("Segue/", env!("CARGO_PKG_VERSION")));
    add(HeaderName::from_static("webhook-id"), id);
    add(HeaderName::from_static("webhook-timestamp"), &timestamp);
    add(HeaderName::from_static("webhook-signature"), &signatures);
    headers
}

/// Delivers one event once.
pub async fn attempt(client: &Client, destination: &Destination, event: &DueEvent, at: Timestamp) -> Attempt {
    let mut headers = signed_headers(destination, &event.id.to_string(), at, &event.body);
    if let Ok(previous) = HeaderValue::from_str(&format!("{:012}", event.previous)) {
        headers.insert(HeaderName::from_static("segue-previous-sequence"), previous);
    }
    let request = client::Request::post(destination.url.clone(), event.body.clone())
        .headers(headers)
        .timeout(destination.timeout);
    match client.send(request).await {
        Ok(response) if response.status.is_success() => Attempt::Delivered,
        Ok(response) if response.status == StatusCode::GONE => Attempt::Gone,
        Ok(response) => Attempt::Failed {
            reason: format!("answered {}", response.status.as_u16()),
            retry_after: retry_after(&response.headers, at),
        },
        Err(error) => Attempt::Failed { reason: error.to_string(), retry_after: None },
    }
}

/// `Retry-After` in milliseconds: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
    u64::try_from(date.saturating_sub(now.millis())).ok()
}
