//! Where the mailbox sessions get their OAuth access tokens: renewed before they end, by one request however many ask.
//!
//! What is asked and answered is the matter of [`crate::mail::oauth`]; HTTP and the store come in through [`Post`] and
//! [`Keep`], and the clock with every call. The invariants: at most one request is under way; a refresh token that
//! replaced another is stored before the access token that came with it is used; an endpoint that refuses is left alone
//! for a while. [`TokenSource::get`] is to be called each minute by somebody even where no session asks, so that
//! [`TokenSource::alarm`] speaks before the token ends.

mod alarm;
mod keep;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};
use zeroize::Zeroizing;

pub use alarm::{Alarm, What};
pub use keep::{Keep, Kept};
use state::{Next, State};

use crate::mail::oauth::{Answer, Grant, Kind, Refused, Settings, Token, read};

/// Sends requests to token endpoints.
pub trait Post: Send + Sync {
    /// Sends `body` as `application/x-www-form-urlencoded` to `url`, with `Accept: application/json`, follows no
    /// redirect, and gives the answer whatever its status. It must come to an end by itself within a minute.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in plain words without secrets.
    fn post<'a>(&'a self, url: &'a str, body: Zeroizing<Vec<u8>>) -> BoxFuture<'a, Result<Answer, String>>;
}

/// Why there is no token to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFault {
    /// Whether it goes away by itself.
    pub kind: Kind,
    /// What happened and what to do, in plain words, without secrets and personal data.
    pub words: String,
    /// When the endpoint is asked again, in seconds since 1970; asking here before brings the same fault.
    pub retry_at: u64,
}

/// The tokens of one mailbox. Clones are the same source.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("settings", &self.0.state.lock().settings).finish_non_exhaustive()
    }
}

struct Inner {
    post: Arc<dyn Post>,
    keep: Arc<dyn Keep>,
    /// What everybody looks at; never locked over a wait.
    state: Mutex<State>,
    /// What only the one who renews touches.
    work: Arc<Gate<Work>>,
}

/// The refresh tokens at hand.
#[derive(Default)]
struct Work {
    /// The refresh token that replaced the configured one, as it was stored at the last renewal.
    kept: Option<Kept>,
    /// What could not be stored yet: it must not be used, nor be lost.
    unsaved: Option<(Kept, Token)>,
}

/// Why a renewal failed.
struct Failed {
    refused: Refused,
    /// A new refresh token exists only in memory.
    unsaved: bool,
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed { refused, unsaved: false }
    }
}

impl TokenSource {
    /// A source that asks nobody yet.
    pub fn new(settings: Settings, post: Arc<dyn Post>, keep: Arc<dyn Keep>) -> Self {
        let state = Mutex::new(State::new(settings));
        TokenSource(Arc::new(Inner { post, keep, state, work: Arc::default() }))
    }

    /// A token to log in with at `now` (seconds since 1970): the one at hand until shortly before its end, else a new
    /// one. Must be called within a tokio runtime; dropping the future does not end a renewal that has begun.
    ///
    /// # Errors
    ///
    /// There is none at hand that lives, and none to be had now.
    pub async fn get(&self, now: u64) -> Result<Zeroizing<String>, TokenFault> {
        let alive = match self.0.state.lock().next(now) {
            Next::Use(token) => return Ok(token),
            Next::Fail(fault) => return Err(fault),
            Next::Renew { alive } => alive,
        };
        let work = match (Arc::clone(&self.0.work).try_lock_owned(), alive) {
            (Ok(work), _) => work,
            // Somebody renews already, and this one is still good.
            (Err(_), Some(alive)) => return Ok(alive),
            (Err(_), None) => Arc::clone(&self.0.work).lock_owned().await,
        };
        // Who waited finds what the one before brought.
        let next = self.0.state.lock().next(now);
        if let Next::Renew { .. } = next {
            // A task of its own: were the renewal dropped half done, a new refresh token could be lost.
            let renewal = tokio::spawn(renew(Arc::clone(&self.0), work, now));
            if renewal.await.is_err() {
                return Err(TokenFault { kind: Kind::Temporary, words: BROKEN_OFF.into(), retry_at: now });
            }
        }
        self.0.state.lock().outcome(now)
    }

    /// Says that a server refused the login with `token` at `now` (seconds since 1970), so that the next
    /// [`TokenSource::get`] renews it early: once a minute at most, and ever more seldom while new ones are refused,
    /// too.
    pub fn reject(&self, token: &str, now: u64) {
        self.0.state.lock().reject(token, now);
    }

    /// Takes new settings. What was refused under the old ones is asked again at once.
    pub fn set(&self, settings: Settings) {
        self.0.state.lock().set(settings);
    }

    /// What needs a person at `now` (seconds since 1970): the most pressing matter, if there is one.
    pub fn alarm(&self, now: u64) -> Option<Alarm> {
        self.0.state.lock().alarm(now)
    }
}

const BROKEN_OFF: &str = "renewing the access token broke off";

/// Renews the token and puts the outcome where everybody sees it.
async fn renew(inner: Arc<Inner>, mut work: OwnedMutexGuard<Work>, now: u64) {
    let settings = Arc::clone(&inner.state.lock().settings);
    let outcome = inner.renewed(&mut work, &settings, now).await;
    let slides = work.kept.as_ref().is_some_and(|kept| kept.slides);
    let mut state = inner.state.lock();
    if !Arc::ptr_eq(&settings, &state.settings) {
        // The settings changed meanwhile; what came belongs to the old ones.
        return;
    }
    match outcome {
        Ok(token) => state.adopt(token, slides, now),
        Err(failed) => state.fail(failed.refused, failed.unsaved, now),
    }
}

impl Inner {
    async fn renewed(&self, work: &mut Work, settings: &Settings, now: u64) -> Result<Token, Failed> {
        let origin = settings.origin();
        if let Some((kept, token)) = work.unsaved.take_if(|(kept, _)| kept.origin == origin) {
            let token = self.save(work, kept, token).await?;
            if state::renew_at(&token, now) > now {
                return Ok(token);
            }
        }
        // Read anew each time: another node of ours may have renewed meanwhile.
        work.kept = self.load(settings, &origin).await?;
        let token = match self.ask(settings, work.kept.as_ref(), now).await {
            Err(refused) if refused.kind == Kind::Permanent => {
                // It may have renewed just now, and so made this refresh token invalid.
                let stored = self.load(settings, &origin).await?;
                if stored.as_ref().is_none_or(|kept| work.refresh(settings) == Some(&kept.refresh)) {
                    return Err(refused.into());
                }
                work.kept = stored;
                self.ask(settings, work.kept.as_ref(), now).await?
            }
            told => told?,
        };
        match work.replacement(settings, &origin, &token) {
            Some(kept) => self.save(work, kept, token).await,
            None => Ok(token),
        }
    }

    /// The stored refresh token, if it belongs to these settings.
    async fn load(&self, settings: &Settings, origin: &str) -> Result<Option<Kept>, Refused> {
        if !matches!(settings.grant, Grant::RefreshToken { .. }) {
            return Ok(None);
        }
        // Without knowing it there is no asking: some providers take an old refresh token for a stolen one.
        let kept = self.keep.load().await.map_err(|why| store_fault("be read", &why))?;
        Ok(kept.filter(|kept| kept.origin == origin))
    }

    /// Stores `kept`; only then gives `token` out.
    async fn save(&self, work: &mut Work, kept: Kept, token: Token) -> Result<Token, Failed> {
        match self.keep.save(&kept).await {
            Ok(()) => {
                work.kept = Some(kept);
                Ok(token)
            }
            Err(why) => {
                work.unsaved = Some((kept, token));
                Err(Failed { refused: store_fault("be stored", &why), unsaved: true })
            }
        }
    }

    async fn ask(&self, settings: &Settings, kept: Option<&Kept>, now: u64) -> Result<Token, Refused> {
        let body = settings.request(kept.map(|kept| kept.refresh.as_str()), now)?;
        match self.post.post(&settings.token_url, body).await {
            Ok(answer) => read(&answer, now),
            Err(why) => Err(Refused::temporary(format!("the token endpoint cannot be reached: {}", short(&why)))),
        }
    }
}

impl Work {
    /// The refresh token to use, where the grant has one.
    fn refresh<'a>(&'a self, settings: &'a Settings) -> Option<&'a Zeroizing<String>> {
        let Grant::RefreshToken { token: configured } = &settings.grant else { return None };
        Some(self.kept.as_ref().map_or(configured, |kept| &kept.refresh))
    }

    /// What has to be stored because of `token`, if anything.
    fn replacement(&self, settings: &Settings, origin: &str, token: &Token) -> Option<Kept> {
        let before = self.refresh(settings)?;
        let refresh = token.rotated_refresh.as_ref().unwrap_or(before);
        let (known_end, slid) = self.kept.as_ref().map_or((None, false), |kept| (kept.ends_at, kept.slides));
        let slides = slid || later(known_end, token.refresh_expires_at);
        let ends_at = token.refresh_expires_at.or(known_end);
        let changed = refresh != before || slides != slid || ends_at.is_some() != known_end.is_some();
        changed.then(|| Kept { origin: origin.to_owned(), refresh: refresh.clone(), ends_at, slides })
    }
}

/// Whether the end moved on, so that each use makes the refresh token live longer. A minute is no move: it comes from
/// the time that requests take.
fn later(known: Option<u64>, told: Option<u64>) -> bool {
    const NO_MOVE: u64 = 60;
    known.zip(told).is_some_and(|(known, told)| told > known.saturating_add(NO_MOVE))
}

fn store_fault(what: &str, why: &str) -> Refused {
    Refused::temporary(format!("the refresh token cannot {what}: {}", short(why)))
}

/// A reason that comes from elsewhere, on one line of bounded length.
fn short(why: &str) -> String {
    const LONGEST: usize = 200;
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}
