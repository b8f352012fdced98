//! Logging in to mail servers with what lasts: passwords as they are, access tokens renewed before they end.
//!
//! A mailbox and the server its mails leave by share one source of tokens. A refresh token that the endpoint replaced is in the
//! store, sealed, before the access token that came with it is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::attempt::retry_after;
use crate::base::Clock;
use crate::connector::Credentials;
use crate::mail::oauth::{Answer, MAX_BODY, Settings};
use crate::net::Client;
use crate::net::client::Request;
use crate::net::login::Login;
use crate::net::token_source::{Alarm, Keep, Kept, Post, TokenFault, TokenSource};
use crate::store::Mailboxes;

/// How long a token endpoint may take.
const WITHIN: Duration = Duration::from_secs(30);

/// The logins of all channels.
pub struct Logins {
    endpoint: Arc<Endpoint>,
    store: Arc<dyn Mailboxes>,
    sources: Mutex<HashMap<String, (Settings, TokenSource)>>,
}

impl Logins {
    /// Those whose tokens are asked for by `client`, and kept in `store`.
    pub fn new(client: Client, store: Arc<dyn Mailboxes>, clock: Clock) -> Arc<Logins> {
        Arc::new(Logins { endpoint: Arc::new(Endpoint { client, clock }), store, sources: Mutex::default() })
    }

    /// What a channel logs in with now.
    pub(super) async fn login(&self, channel: &str, credentials: &Credentials) -> Result<Login, TokenFault> {
        match credentials {
            Credentials::Password(user, password) => {
                let password = Zeroizing::new(password.expose().to_owned());
                Ok(Login::Password { user: user.clone(), password })
            }
            Credentials::Tokens(user, settings) => {
                let token = self.source(channel, settings).get(self.now()).await?;
                Ok(Login::Bearer { user: user.clone(), token })
            }
        }
    }

    /// The server did not take it: a token is renewed early.
    pub(super) fn refused(&self, channel: &str, login: &Login) {
        let known = self.sources.lock().get(channel).map(|(_, source)| source.clone());
        if let (Login::Bearer { token, .. }, Some(source)) = (login, known) {
            source.reject(token, self.now());
        }
    }

    /// What a person has to see to, if there is something: renews first what is to be renewed.
    pub(super) async fn alarm(&self, channel: &str, credentials: &Credentials) -> Option<Alarm> {
        let Credentials::Tokens(_, settings) = credentials else { return None };
        let source = self.source(channel, settings);
        let _ = source.get(self.now()).await;
        source.alarm(self.now())
    }

    fn source(&self, channel: &str, settings: &Settings) -> TokenSource {
        let mut sources = self.sources.lock();
        if let Some((known, source)) = sources.get_mut(channel) {
            if known != settings {
                source.set(settings.clone());
                known.clone_from(settings);
            }
            return source.clone();
        }
        let keep = Arc::new(Shelf { store: self.store.clone(), channel: channel.to_owned() });
        let source = TokenSource::new(settings.clone(), self.endpoint.clone(), keep);
        sources.insert(channel.to_owned(), (settings.clone(), source.clone()));
        source
    }

    fn now(&self) -> u64 {
        self.endpoint.clock.now().seconds().unsigned_abs()
    }
}

/// Asks token endpoints by the guarded client.
struct Endpoint {
    client: Client,
    clock: Clock,
}

impl Post for Endpoint {
    fn post<'a>(&'a self, url: &'a str, body: Zeroizing<Vec<u8>>) -> BoxFuture<'a, Result<Answer, String>> {
        async move {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            let request = Request::post(url, body.to_vec())
                .header(CONTENT_TYPE, form)
                .header(ACCEPT, HeaderValue::from_static("application/json"))
                .timeout(WITHIN)
                .response_bytes(MAX_BODY);
            let response = self.client.send(request).await.map_err(|error| error.to_string())?;
            Ok(Answer {
                status: response.status.as_u16(),
                retry_after: retry_after(&response.headers, self.clock.now()).map(|millis| millis / 1000),
                body: Zeroizing::new(response.body.to_vec()),
            })
        }
        .boxed()
    }
}

/// Where the refresh token of a channel is kept.
struct Shelf {
    store: Arc<dyn Mailboxes>,
    channel: String,
}

impl Keep for Shelf {
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, String>> {
        async move {
            let kept = self.store.grant(self.channel.clone()).await.map_err(|error| error.message().to_owned())?;
            Ok(kept.and_then(|kept| Kept::from_bytes(&kept)))
        }
        .boxed()
    }

    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let saved = self.store.keep_grant(self.channel.clone(), kept.to_bytes()).await;
            saved.map_err(|error| error.message().to_owned())
        }
        .boxed()
    }
}
