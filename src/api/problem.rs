//! Errors as the outside sees them: problem documents (RFC 9457).
//!
//! [`From<Error>`](Problem#impl-From<Error>-for-Problem) is the one place where an error becomes a status. What lies on
//! our side is told without its cause; the log has it.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::{Error, Kind, Retry, Side};

/// A refusal or a failure, on its way out.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The document (RFC 9457, section 3).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: Cow<'static, str>,
}

impl Problem {
    /// A problem of this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status, detail: detail.into(), headers: Vec::new() }
    }

    /// The same problem with a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same problem with the advice to come back after so many seconds.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// A credential that is missing (RFC 6750, section 3: no error code then).
    pub(super) fn no_token() -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "this needs a token: `Authorization: Bearer sg_...`")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="segue""#))
    }

    /// A credential that does not hold.
    pub(super) fn bad_token() -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "the token is not known or was revoked")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="segue", error="invalid_token""#))
    }

    /// A credential that does not reach so far.
    pub(super) fn no_scope(scope: &'static str) -> Self {
        let value = format!(r#"Bearer realm="segue", error="insufficient_scope", scope="{scope}""#);
        let value = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Bearer"));
        Problem::new(StatusCode::FORBIDDEN, format!("the token has not the scope `{scope}`"))
            .with(WWW_AUTHENTICATE, value)
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = Document { kind: "about:blank", title, status: self.status.as_u16(), detail: self.detail };
        // Strings and a number: writing them as JSON cannot fail.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match (error.kind(), error.side()) {
            (Kind::Invalid, Side::Peer) => StatusCode::BAD_REQUEST,
            (Kind::Unauthorized, Side::Peer) => StatusCode::UNAUTHORIZED,
            (Kind::Forbidden, Side::Peer) => StatusCode::FORBIDDEN,
            (Kind::NotFound, Side::Peer) => StatusCode::NOT_FOUND,
            (Kind::Conflict, Side::Peer) => StatusCode::CONFLICT,
            (Kind::Limit, Side::Peer) => StatusCode::PAYLOAD_TOO_LARGE,
            (Kind::Timeout, Side::Peer) => StatusCode::REQUEST_TIMEOUT,
            (Kind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            _ if error.retry() != Retry::Never => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(target: "segue::api", error = %error.full(), "a request failed");
            return Problem::new(status, "the gateway failed; its log says why");
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(target: "segue::api", error = %error.full(), "a request cannot be served now");
            return Problem::new(status, "the gateway cannot do this now; try again later").retry_after(2);
        }
        Problem::new(status, error.message().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_failures_keep_their_cause_to_themselves() {
        let inner = std::io::Error::other("/var/lib/secret");
        for (error, status) in [
            (Error::io("failed to read `/var/lib/secret`", inner), 503),
            (Error::internal("/var/lib/secret"), 500),
            (Error::config("/var/lib/secret"), 500),
            (Error::invalid("/var/lib/secret").on_side(Side::Us), 500),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.status.as_u16(), status);
            assert!(!problem.detail.contains("secret"), "{}", problem.detail);
        }
    }

    #[test]
    fn what_a_client_did_is_told_to_the_client() {
        for (error, status) in [
            (Error::invalid("told"), 400),
            (Error::not_found("told"), 404),
            (Error::new(Kind::Conflict, "told"), 409),
            (Error::new(Kind::Limit, "told"), 413),
            (Error::new(Kind::Timeout, "told"), 408),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.status.as_u16(), &*problem.detail), (status, "told"));
        }
    }
}
