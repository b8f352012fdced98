//! The providers' side: requests signed as each provider documents it, with code of its own, so that the gateway's checks
//! are not tried by themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use ring::hmac;
use serde::Deserialize;

use crate::base::{Error, Kind, Result, Timestamp};
use crate::net::{Client, client};

/// How a provider signs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signs {
    /// Over what.
    pub(super) scheme: Scheme,
    /// The header that carries the signature.
    pub(super) header: String,
    /// The header that carries the time, where the scheme covers one.
    #[serde(default)]
    pub(super) time: Option<String>,
    /// The name of the secret's file.
    pub(super) secret: String,
}

/// What a signature is made of. Where each provider documents it is said in `data/story.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    /// `sha256=` and HMAC-SHA256 over the body in hex:
    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started>.
    Body,
    /// HMAC-SHA1 over the URL and each field's name and value, sorted by name, in base64:
    /// <https://www.twilio.com/docs/usage/security>.
    Fields,
    /// `v0=` and HMAC-SHA256 over `v0:`, the time, `:` and the body in hex.
    Timed,
    /// The secret itself.
    Token,
}

impl Scheme {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Scheme::Body => "HMAC-SHA256 over the body",
            Scheme::Fields => "HMAC-SHA1 over URL and fields",
            Scheme::Timed => "HMAC-SHA256 over time and body",
            Scheme::Token => "shared token",
        }
    }
}

/// A request as a provider sends it.
#[derive(Clone)]
pub(super) struct Delivery {
    content_type: &'static str,
    /// The body's bytes.
    pub(super) body: Bytes,
    fields: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
}

/// What a provider hears.
pub(super) struct Heard {
    /// The status.
    pub(super) status: StatusCode,
    /// The body.
    pub(super) body: String,
    /// How long it took.
    pub(super) took: Duration,
}

impl Delivery {
    /// Makes a request of a payload: JSON, or a form of `name=value` lines.
    pub(super) fn new(name: &str, text: &str, headers: &BTreeMap<String, String>) -> Self {
        let headers = headers.clone();
        if !name.ends_with(".form") {
            let body = Bytes::from(text.trim_end().to_owned());
            return Delivery { content_type: "application/json", body, fields: Vec::new(), headers };
        }
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let fields: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        let content_type = "application/x-www-form-urlencoded; charset=UTF-8";
        Delivery { content_type, body: Bytes::from(body), fields, headers }
    }

    /// The headers that authenticate it under `secret` at `url`.
    fn signed(&self, signs: &Signs, secret: &str, url: &str, at: Timestamp) -> Vec<(String, String)> {
        let sha256 = |pieces: &[&[u8]]| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
            pieces.iter().for_each(|piece| context.update(piece));
            HEXLOWER.encode(context.sign().as_ref())
        };
        let header = signs.header.clone();
        match signs.scheme {
            Scheme::Token => vec![(header, secret.to_owned())],
            Scheme::Body => vec![(header, format!("sha256={}", sha256(&[&self.body])))],
            Scheme::Timed => {
                let time = at.seconds().to_string();
                let signature = sha256(&[b"v0:", time.as_bytes(), b":", &self.body]);
                let stated = signs.time.clone().map(|name| (name, time));
                stated.into_iter().chain([(header, format!("v0={signature}"))]).collect()
            }
            Scheme::Fields => {
                let mut fields = self.fields.clone();
                fields.sort();
                let mut context =
                    hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes()));
                context.update(url.as_bytes());
                for (name, value) in &fields {
                    context.update(name.as_bytes());
                    context.update(value.as_bytes());
                }
                vec![(header, BASE64.encode(context.sign().as_ref()))]
            }
        }
    }

    /// Sends it, signed with `secret`.
    ///
    /// # Errors
    ///
    /// [`Kind::Unavailable`](crate::base::Kind) if the gateway gives no answer.
    pub(super) async fn send(
        &self,
        client: &Client,
        url: &str,
        signs: &Signs,
        secret: &str,
        at: Timestamp,
    ) -> Result<Heard> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let own = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        for (name, value) in own.chain(self.signed(signs, secret, url, at)) {
            headers.insert(header_name(&name)?, header_value(&value)?);
        }
        post(client, url, headers, self.body.clone()).await
    }
}

/// Posts `body` and gives what was answered.
///
/// # Errors
///
/// [`Kind::Unavailable`](crate::base::Kind) if there is no answer.
pub(super) async fn post(client: &Client, url: &str, headers: HeaderMap, body: Bytes) -> Result<Heard> {
    heard(client, url, client::Request::post(url, body).headers(headers)).await
}

/// Gets what lies at `url`.
///
/// # Errors
///
/// [`Kind::Unavailable`](crate::base::Kind) if there is no answer.
pub(super) async fn get(client: &Client, url: &str, headers: HeaderMap) -> Result<Heard> {
    heard(client, url, client::Request::get(url).headers(headers).response_bytes(1 << 20)).await
}

async fn heard(client: &Client, url: &str, request: client::Request) -> Result<Heard> {
    let begun = Instant::now();
    let answer = client.send(request).await;
    let answer =
        answer.map_err(|error| Error::new(Kind::Unavailable, format!("no answer from `{url}`")).because(error))?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(Heard { status: answer.status, body, took: begun.elapsed() })
}

/// The name of a header.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if it is none.
pub(super) fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|error| Error::internal(format!("`{name}` is no header")).because(error))
}

/// The value of a header.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if it cannot be one.
pub(super) fn header_value(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(|error| Error::internal("a header's value is not valid").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(scheme: Scheme) -> Signs {
        Signs { scheme, header: "sig".into(), time: Some("time".into()), secret: String::new() }
    }

    fn last(delivery: &Delivery, scheme: Scheme, secret: &str, url: &str, at: i64) -> String {
        let headers = delivery.signed(&signs(scheme), secret, url, Timestamp::from_seconds(at));
        headers.last().unwrap().1.clone()
    }

    /// The example of <https://docs.slack.dev/authentication/verifying-requests-from-slack>.
    #[test]
    fn signs_time_and_body_as_the_provider_documents_it() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let delivery = Delivery::new("x.json", body, &BTreeMap::new());
        assert_eq!(
            last(&delivery, Scheme::Timed, "8f742231b10e8888abcd99yyyzzz85a5", "", 1_531_420_618),
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        );
    }

    /// The example of <https://www.twilio.com/docs/usage/security>.
    #[test]
    fn signs_url_and_fields_as_the_provider_documents_it() {
        let form = "CallSid=CA1234567890ABCDE\nCaller=+14158675310\nDigits=1234\nFrom=+14158675310\nTo=+18005551212\n";
        let delivery = Delivery::new("x.form", form, &BTreeMap::new());
        assert_eq!(
            last(&delivery, Scheme::Fields, "12345", "https://example.com/myapp.php?foo=1&bar=2", 0),
            "L/OH5YylLD5NRKLltdqwSvS0BnU="
        );
        assert!(delivery.body.starts_with(b"CallSid=CA1234567890ABCDE&Caller=%2B14158675310&"));
    }

    /// The second test case of RFC 4231.
    #[test]
    fn signs_a_body_by_the_standard() {
        let delivery = Delivery::new("x.json", "what do ya want for nothing?", &BTreeMap::new());
        assert_eq!(
            last(&delivery, Scheme::Body, "Jefe", "", 0),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
