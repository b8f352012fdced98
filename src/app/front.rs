//! Which room answers a request: `/in/<channel>` goes to intake, everything else to the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::watch;

use super::reload::Report;
use crate::config::Config;
use crate::flow::Context;
use crate::flow::intake::Intake;
use crate::net::{self, Body, Handler, Request, Response};

/// The handler of every listener.
pub(super) struct Front {
    intake: Arc<Intake>,
    context: Arc<Context>,
}

impl Front {
    pub(super) fn new(
        intake: Arc<Intake>,
        context: Arc<Context>,
        _report: Arc<ArcSwap<Report>>,
        _config: &Config,
        _stop: watch::Receiver<bool>,
    ) -> Self {
        Front { intake, context }
    }
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        async move {
            if let Some(name) = request.uri.path().strip_prefix("/in/") {
                let name = name.to_owned();
                return self.intake.answer(&name, request).await;
            }
            let (status, kind, body) = match request.uri.path() {
                "/healthz" | "/readyz" => (StatusCode::OK, "text/plain", "ok".to_owned()),
                "/metrics" => (
                    StatusCode::OK,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    self.context.metrics.encode(),
                ),
                _ => (StatusCode::NOT_FOUND, "text/plain", "not found".to_owned()),
            };
            let mut response = net::Response::new(Body::from(body));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        .boxed()
    }
}
