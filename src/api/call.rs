//! One request as its handler sees it, and the ways to answer.
//!
//! The invariant: a handler runs only after the caller's token was checked against the scope of its route, reads only
//! query parameters that the route declares, and holds at most [`MOST_BODY`] bytes of a body.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use data_encoding::HEXLOWER;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::problem::Problem;
use super::route::Route;
use super::token::{Caller, Scope};
use crate::base::hash::sha256_parts;
use crate::base::id::{Id, Named};
use crate::base::{Error, Kind};
use crate::flow::submit::Asker;
use crate::net::BodyError;

/// The largest body of a request, in bytes.
pub(super) const MOST_BODY: usize = 256 * 1024;
/// How many things a list gives at most.
const MOST_LISTED: usize = 200;
/// How many things a list gives unless asked otherwise.
const LISTED: usize = 50;
/// The longest `Idempotency-Key`, in characters.
const MOST_KEY: usize = 255;

/// What a handler gives.
pub(super) type Answer = Result<Response, Problem>;

/// One request.
pub(super) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) headers: HeaderMap,
    caller: Option<Caller>,
    /// Method and path: what a body is meant for.
    target: String,
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// Never contended: it makes a call shareable between threads, which a body alone is not.
    body: Mutex<Option<Body>>,
    fingerprint: String,
}

impl Call {
    /// Takes a request apart.
    ///
    /// # Errors
    ///
    /// 400 for a query parameter that the route does not know, or that is given twice.
    pub(super) fn new(
        api: Arc<Api>,
        route: &'static Route,
        caller: Option<Caller>,
        params: Vec<(String, String)>,
        head: http::request::Parts,
        body: Body,
    ) -> Result<Call, Problem> {
        let mut query: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()) {
            if !route.query.iter().any(|known| known.name == name) {
                let known: Vec<&str> = route.query.iter().map(|known| known.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(bad(format!("a query parameter is not known here; known: {known}")));
            }
            if query.iter().any(|(known, _)| *known == name) {
                return Err(bad(format!("the query parameter `{name}` is given twice")));
            }
            query.push((name.into_owned(), value.into_owned()));
        }
        let target = format!("{} {}", head.method, head.uri.path());
        let fingerprint = fingerprint(&target, b"");
        Ok(Call {
            api,
            headers: head.headers,
            caller,
            target,
            params,
            query,
            body: Mutex::new(Some(body)),
            fingerprint,
        })
    }

    /// A part of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// An id in the path.
    pub(super) fn id<T: Named>(&self, name: &str) -> Result<Id<T>, Problem> {
        self.param(name).parse().map_err(|error: Error| Problem::from(error.context("the path")))
    }

    /// A query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that is a number within bounds.
    pub(super) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        let Some(text) = self.query(name) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(bad(format!("`{name}` is a whole number from {least} to {most}"))),
        }
    }

    /// How many things are asked for.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let asked = self.number("limit", 1, MOST_LISTED as i64)?;
        Ok(asked.map_or(LISTED, |limit| limit as usize))
    }

    /// Whether the caller's token reaches so far.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.may(scope))
    }

    /// The caller; none only on open routes.
    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Reads the body as JSON. No body at all counts as `{}`.
    ///
    /// # Errors
    ///
    /// 413 past the cap, 415 for another media type, 400 if it is no JSON or does not fit.
    pub(super) async fn read<T: DeserializeOwned + JsonSchema>(&mut self) -> Result<T, Problem> {
        let body = self.read_body().await?;
        self.fingerprint = fingerprint(&self.target, &body);
        if body.is_empty() {
            return serde_json::from_slice(b"{}").map_err(|_| misfit::<T>(""));
        }
        if !is_json(&self.headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "the body must be `application/json`"));
        }
        serde_json::from_slice(&body).map_err(|error| {
            let place = format!(" at line {}, column {}", error.line(), error.column());
            match error.classify() {
                // What the library says of a misfit quotes the body; what fits is told instead.
                serde_json::error::Category::Data => misfit::<T>(&place),
                _ => bad(format!("the body is not JSON{place}")),
            }
        })
    }

    async fn read_body(&mut self) -> Result<bytes::Bytes, Problem> {
        let declared = self.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|declared| declared > MOST_BODY as u64) {
            return Err(too_large());
        }
        let Some(body) = self.body.get_mut().take() else { return Ok(bytes::Bytes::new()) };
        Limited::new(body, MOST_BODY).collect().await.map(|whole| whole.to_bytes()).map_err(|error| {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
            while let Some(error) = cause {
                if error.is::<LengthLimitError>() {
                    return too_large();
                }
                if let Some(error) = error.downcast_ref::<BodyError>() {
                    return Problem::new(error.status(), error.to_string());
                }
                cause = error.source();
            }
            bad("the body broke off")
        })
    }

    /// Who asks for what was read, for [`crate::flow::submit`].
    ///
    /// # Errors
    ///
    /// 400 if the `Idempotency-Key` is empty, too long or no visible ASCII.
    pub(super) fn asker(&self) -> Result<Asker, Problem> {
        let key = match self.headers.get("idempotency-key") {
            None => None,
            Some(value) => {
                let text = value.to_str().ok().map(str::trim);
                let text = text.filter(|text| (1..=MOST_KEY).contains(&text.len()));
                Some(text.ok_or_else(|| bad("an `Idempotency-Key` is 1 to 255 visible ASCII characters"))?.to_owned())
            }
        };
        let caller = self.caller.as_ref().map(|caller| caller.id.clone()).unwrap_or_default();
        Ok(Asker { caller, key, fingerprint: self.fingerprint.clone() })
    }
}

fn fingerprint(target: &str, body: &[u8]) -> String {
    HEXLOWER.encode(&sha256_parts(&[target.as_bytes(), body]))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// A body that is JSON but not what the operation takes.
fn misfit<T: JsonSchema>(place: &str) -> Problem {
    let schema = schema_for!(T);
    let names = |key: &str| -> Vec<String> {
        match schema.get(key) {
            Some(serde_json::Value::Object(fields)) => fields.keys().cloned().collect(),
            Some(serde_json::Value::Array(names)) => {
                names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        }
    };
    let (fields, needed) = (names("properties").join(", "), names("required").join(", "));
    let needed = if needed.is_empty() { String::new() } else { format!("; needed: {needed}") };
    bad(format!("the body does not fit{place}; its fields: {fields}{needed}"))
}

fn too_large() -> Problem {
    Problem::from(Error::new(Kind::Limit, format!("the body has more than {MOST_BODY} bytes")))
}

/// 400 with a reason.
pub(super) fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::from(Error::invalid(detail))
}

/// 404 for a thing of this id.
pub(super) fn missing(what: &str, id: impl std::fmt::Display) -> Problem {
    Problem::from(Error::not_found(format!("there is no {what} {id}")))
}

/// An answer in JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let body = serde_json::to_vec(value).map_err(|e| Error::internal("failed to write an answer").because(e))?;
    Ok(typed(status, "application/json", body))
}

/// An answer of any media type.
pub(super) fn typed(status: StatusCode, media: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
