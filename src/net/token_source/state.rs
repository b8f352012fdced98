//! What is known of a mailbox's token, and what follows from it. Pure: the time comes in, decisions go out.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::TokenFault;
use crate::mail::oauth::{Kind, Refused, Settings, Token};

/// How long before its end a token is renewed, in seconds; a tenth of its life if that is less.
const MARGIN: u64 = 300;
/// The longest time without a renewal, in seconds, however long tokens live: it shows that the refresh token is good.
const LONGEST_USE: u64 = 86_400;
/// The first pause after a temporary failure, in seconds, doubled with each further one up to the longest.
const FIRST_PAUSE: u64 = 1;
const LONGEST_PAUSE: u64 = 300;
/// The longest that an endpoint can put us off by `Retry-After`, in seconds.
const LONGEST_WISH: u64 = 3600;
/// The pause after a refusal for good, in seconds: somebody may have repaired it at the provider.
const PERMANENT_PAUSE: u64 = 900;
/// The pause between renewals that a mail server's refusal caused, in seconds; doubled while it refuses new tokens.
const FORCED_PAUSE: u64 = 60;
const LONGEST_FORCED_PAUSE: u64 = 3600;
/// How far callers' clocks may be apart, in seconds, before it counts as a clock that was set back.
const APART: u64 = 60;

/// A token at hand.
pub(super) struct Held {
    access: Zeroizing<String>,
    renew_at: u64,
    pub(super) expires_at: u64,
    /// A mail server refused it.
    rejected: bool,
    /// It replaced one that a mail server refused.
    after_rejected: bool,
}

/// The renewals that failed in a row.
pub(super) struct Failure {
    pub(super) refused: Refused,
    pub(super) unsaved: bool,
    pub(super) tries: u32,
    /// When the last one failed.
    at: u64,
    pause: u64,
}

/// When the refresh token ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) at: u64,
    /// Each use moves it on.
    pub(super) slides: bool,
}

/// All that is known.
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) held: Option<Held>,
    pub(super) failure: Option<Failure>,
    pub(super) refresh_end: Option<End>,
    /// A mail server refused the token, and a new one is wanted for it.
    wanted: bool,
    forced_at: Option<u64>,
    /// New tokens that were refused by mail servers in a row.
    pub(super) rejected_new: u32,
}

/// What to do for one who asks for a token.
pub(super) enum Next {
    Use(Zeroizing<String>),
    Fail(TokenFault),
    Renew { alive: Option<Zeroizing<String>> },
}

/// When `token`, asked for at `now`, should be renewed.
pub(super) fn renew_at(token: &Token, now: u64) -> u64 {
    let life = token.expires_at.saturating_sub(now);
    token.expires_at.saturating_sub(MARGIN.min(life / 10)).min(now.saturating_add(LONGEST_USE))
}

/// Whether `now` is in the `pause` that began `at`. A clock that was set back ends it.
fn pauses(at: u64, pause: u64, now: u64) -> bool {
    now < at.saturating_add(pause) && now.saturating_add(APART) >= at
}

fn doubled(first: u64, times: u32, longest: u64) -> u64 {
    first.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)).min(longest)
}

impl Failure {
    fn pauses(&self, now: u64) -> bool {
        pauses(self.at, self.pause, now)
    }

    fn fault(&self) -> TokenFault {
        let retry_at = self.at.saturating_add(self.pause);
        TokenFault { kind: self.refused.kind, words: self.refused.words.clone(), retry_at }
    }
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        State {
            settings: Arc::new(settings),
            held: None,
            failure: None,
            refresh_end: None,
            wanted: false,
            forced_at: None,
            rejected_new: 0,
        }
    }

    pub(super) fn set(&mut self, settings: Settings) {
        if settings.origin() == self.settings.origin() && settings.scope == self.settings.scope {
            self.failure = None;
            self.settings = Arc::new(settings);
        } else {
            *self = State::new(settings);
        }
    }

    /// The token that lives at `now`.
    pub(super) fn alive(&self, now: u64) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.expires_at)
    }

    pub(super) fn next(&self, now: u64) -> Next {
        let alive = self.alive(now);
        match (alive, &self.failure) {
            (Some(held), _) if now < held.renew_at && !self.wanted => Next::Use(held.access.clone()),
            (_, Some(failure)) if failure.pauses(now) => match self.usable(now) {
                Some(access) => Next::Use(access),
                None => Next::Fail(failure.fault()),
            },
            _ => Next::Renew { alive: self.usable(now) },
        }
    }

    /// What one gets who has done or awaited a renewal.
    pub(super) fn outcome(&self, now: u64) -> Result<Zeroizing<String>, TokenFault> {
        match (self.usable(now), &self.failure) {
            (Some(access), _) => Ok(access),
            (None, Some(failure)) => Err(failure.fault()),
            (None, None) => Err(TokenFault {
                kind: Kind::Temporary,
                words: "the settings changed while the access token was renewed".to_owned(),
                retry_at: now,
            }),
        }
    }

    /// The token at hand, as long as it lives and may do: one that a mail server refused is tried on while a new one is
    /// to be had, as another server may take it.
    fn usable(&self, now: u64) -> Option<Zeroizing<String>> {
        let for_good = self.failure.as_ref().is_some_and(|failure| failure.refused.kind == Kind::Permanent);
        self.alive(now).filter(|held| !(held.rejected && for_good)).map(|held| held.access.clone())
    }

    pub(super) fn adopt(&mut self, token: Token, slides: bool, now: u64) {
        let after_rejected = self.held.as_ref().is_some_and(|held| held.rejected);
        if !after_rejected {
            self.rejected_new = 0;
        }
        self.refresh_end = token.refresh_expires_at.map(|at| End { at, slides });
        self.held = Some(Held {
            renew_at: renew_at(&token, now),
            expires_at: token.expires_at,
            access: token.access,
            rejected: false,
            after_rejected,
        });
        self.wanted = false;
        self.failure = None;
    }

    pub(super) fn fail(&mut self, refused: Refused, unsaved: bool, now: u64) {
        let before = self.failure.as_ref().map_or(0, |failure| failure.tries);
        let pause = match refused.kind {
            Kind::Permanent => PERMANENT_PAUSE,
            Kind::Temporary => {
                let wish = refused.retry_after.unwrap_or_default().min(LONGEST_WISH);
                doubled(FIRST_PAUSE, before, LONGEST_PAUSE).max(wish)
            }
        };
        // That the endpoint cannot be reached now does not take back what it said before.
        let said = self.failure.take().filter(|before| before.refused.kind == Kind::Permanent && !unsaved);
        let refused = said.map_or(refused, |before| before.refused);
        self.failure = Some(Failure { refused, unsaved, tries: before.saturating_add(1), at: now, pause });
    }

    pub(super) fn reject(&mut self, token: &str, now: u64) {
        let Some(held) = self.held.as_mut().filter(|held| held.access.as_str() == token) else { return };
        if held.after_rejected && !held.rejected {
            self.rejected_new = self.rejected_new.saturating_add(1);
        }
        held.rejected = true;
        let pause = doubled(FORCED_PAUSE, self.rejected_new, LONGEST_FORCED_PAUSE);
        if !self.wanted && !self.forced_at.is_some_and(|at| pauses(at, pause, now)) {
            self.wanted = true;
            self.forced_at = Some(now);
        }
    }
}
