//! Floor 6: what programs and people ask of the gateway over HTTP: REST, the feed of events, health.
//!
//! Reads go to the store; whatever changes a story enters the journal as a command through [`crate::flow::submit`] and
//! is answered when it is applied. Two invariants live here: no handler runs before its caller's token was checked
//! against the scope of the route, and every route is in one table from which router and OpenAPI document are made.
//! Errors are problem documents (RFC 9457).
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`route`] | the table of routes |
//! | [`call`] | one request as its handler sees it |
//! | [`problem`] | errors on their way out |
//! | [`token`] | bearer tokens and their scopes |
//! | [`people`], [`story`], [`part`] | customers; conversations and interactions; files |
//! | [`act`] | commands |
//! | [`feed`], [`stream`] | events by page and as a stream |
//! | [`upkeep`], [`keys`] | quarantine and dead letters; tokens over the API |
//! | [`health`] | status, health, figures |
//! | [`openapi`] | the document and the schemas |

mod act;
mod call;
mod feed;
mod health;
mod keys;
pub mod openapi;
mod part;
mod people;
mod probe;
mod problem;
mod route;
mod story;
mod stream;
#[cfg(test)]
mod tests;
pub mod token;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use tokio::sync::{Semaphore, watch};

use crate::base::{Error, Result, Timestamp};
use crate::flow::Context;
use crate::flow::send_mail::Mailer;
use call::Call;
use problem::Problem;
use route::{ROUTES, Route, Verb};

/// What the API serves from.
#[derive(Clone)]
pub struct ApiState {
    /// What all stages share.
    pub context: Arc<Context>,
    /// Sends mails, for trying out channels.
    pub mailer: Arc<Mailer>,
    /// Where the gateway is reached from outside, if that is configured.
    pub public_url: Option<String>,
    /// What is loaded and what could not be; replaced by whoever loads.
    pub loaded: Arc<ArcSwap<ReloadReport>>,
    /// Whether entries are being applied: true from the start of the workers to their end.
    pub working: Arc<AtomicBool>,
    /// Turns true, or loses its sender, when the gateway stops: streams and waits end.
    pub stopping: watch::Receiver<bool>,
    /// How many may follow or wait on the feed at once.
    pub subscribers: usize,
}

/// What was loaded last, and what could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// When it was loaded, or tried.
    pub at: Option<Timestamp>,
    /// Whether what was read then is in force.
    pub in_force: bool,
    /// What is wrong, each with file, line and reason; empty if all was well.
    pub problems: Vec<String>,
    /// Changes that only a restart takes up.
    pub needs_restart: Vec<String>,
    /// Connectors in force: name and version. Those of configured channels are shown in any case.
    pub connectors: Vec<(String, String)>,
    /// Help desks in force.
    pub helpdesks: Vec<String>,
    /// The bundle that rules.
    pub bundle: BundleReport,
}

/// The bundle that rules, and whether it is run here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleReport {
    /// The version of its publication.
    pub version: Option<i64>,
    /// Its hash.
    pub hash: String,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// By whom.
    pub published_by: Option<String>,
    /// What this node's own files say, if that is something else.
    pub own: Option<String>,
    /// Why it cannot be run here; empty if it is.
    pub refused: Vec<String>,
}

/// Times that tests make shorter.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// How long an answer waits for its command to be applied.
    command: Duration,
    /// How often a stream says that it is alive.
    heartbeat: Duration,
    /// How old the copy of the tokens may be.
    tokens: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { command: Duration::from_secs(2), heartbeat: Duration::from_secs(15), tokens: Duration::from_secs(2) }
    }
}

/// What all handlers share.
struct Api {
    state: ApiState,
    timing: Timing,
    tokens: token::Tokens,
    /// Places for those who follow or wait on the feed.
    seats: Arc<Semaphore>,
    /// The OpenAPI document as it is served.
    document: String,
}

impl Api {
    fn context(&self) -> &Arc<Context> {
        &self.state.context
    }
}

/// The API as a service; mount it with [`crate::net::Tower`].
pub fn router(state: ApiState) -> Router {
    router_with(state, Timing::default())
}

fn router_with(state: ApiState, timing: Timing) -> Router {
    let tokens = token::Tokens::new(state.context.store.catalog.clone(), timing.tokens);
    let seats = Arc::new(Semaphore::new(state.subscribers.min(Semaphore::MAX_PERMITS)));
    let document = openapi::document(state.public_url.as_deref());
    let api = Arc::new(Api { state, timing, tokens, seats, document });
    let mut router = Router::new();
    for route in ROUTES {
        let filter = match route.verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
        };
        let api = api.clone();
        router = router.route(route.path, on(filter, move |request: Request| serve(api.clone(), route, request)));
    }
    let unknown = || async { sealed(Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")) };
    let unfit = || async { sealed(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods")) };
    router.fallback(unknown).method_not_allowed_fallback(unfit)
}

/// Serves one request of a route.
async fn serve(api: Arc<Api>, route: &'static Route, request: Request) -> Response {
    match handle(api, route, request).await {
        Ok(response) => guarded(response),
        Err(problem) => sealed(problem),
    }
}

async fn handle(api: Arc<Api>, route: &'static Route, request: Request) -> call::Answer {
    let (mut head, body) = request.into_parts();
    let caller = match route.scope {
        None => None,
        Some(scope) => {
            let caller = api.tokens.check(&head.headers).await?;
            if !caller.may(scope) {
                return Err(Problem::no_scope(scope.name()));
            }
            Some(caller)
        }
    };
    let params = RawPathParams::from_request_parts(&mut head, &()).await;
    let params = params.map_err(|_| call::bad("the path is not UTF-8"))?;
    let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (route.handler)(Call::new(api, route, caller, params, head, body)?).await
}

fn sealed(problem: Problem) -> Response {
    guarded(problem.into_response())
}

/// Sets what every answer carries unless its handler said otherwise: it is personal, and it is what it says it is.
fn guarded(mut response: Response) -> Response {
    let defaults: [(HeaderName, &'static str); 2] = [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in defaults {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Runs reads of the state on a thread for blocking work: they block whoever polls them.
async fn apart<T: Send + 'static>(reads: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(reads))
        .await
        .map_err(|e| Error::internal("a read ended early").because(e))?
}
