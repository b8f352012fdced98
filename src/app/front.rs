//! Which room answers a request: `/in/<channel>` goes to intake, everything else to the API.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::api;
use crate::flow::intake::Intake;
use crate::net::{Handler, Request, Response, Tower};

/// The handler of every listener.
pub(super) struct Front {
    intake: Arc<Intake>,
    api: Arc<dyn Handler>,
}

impl Front {
    pub(super) fn new(intake: Arc<Intake>, state: api::ApiState) -> Self {
        Front { intake, api: Arc::new(Tower(api::router(state))) }
    }
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        match request.uri.path().strip_prefix("/in/") {
            Some(name) => {
                let name = name.to_owned();
                async move { self.intake.answer(&name, request).await }.boxed()
            }
            None => self.api.clone().handle(request),
        }
    }
}
