//! Refresh tokens that an endpoint put in the place of the configured one.

use std::borrow::Cow;
use std::fmt;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A refresh token that replaced the configured one. It outlives restarts: the one before may no longer be good.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it belongs to: [`Settings::origin`](crate::mail::oauth::Settings::origin). Under settings with another
    /// origin, as after a new sign-in, it is not used.
    pub origin: String,
    /// The refresh token.
    pub refresh: Zeroizing<String>,
    /// When it was going to end at the time it was stored, in seconds since 1970, where the endpoint said so.
    pub ends_at: Option<u64>,
    /// Whether its end moves on with each use.
    pub slides: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("ends_at", &self.ends_at).field("slides", &self.slides).finish_non_exhaustive()
    }
}

/// How a [`Kept`] is written.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    refresh: Cow<'a, str>,
    ends_at: Option<u64>,
    slides: bool,
}

impl Kept {
    /// As bytes, to be sealed and stored.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let Kept { origin, refresh, ends_at, slides } = self;
        let (origin, refresh) = (Cow::Borrowed(origin.as_str()), Cow::Borrowed(refresh.as_str()));
        let written = Written { origin, refresh, ends_at: *ends_at, slides: *slides };
        // A struct of strings and numbers is always written.
        Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
    }

    /// From what [`Kept::to_bytes`] made, or None if it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Kept> {
        let Written { origin, refresh, ends_at, slides } = serde_json::from_slice(bytes).ok()?;
        Some(Kept { origin: origin.into_owned(), refresh: Zeroizing::new(refresh.into_owned()), ends_at, slides })
    }
}

/// Stores the refresh token of one mailbox, sealed.
pub trait Keep: Send + Sync {
    /// What was saved last, if anything was.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, in plain words without secrets.
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, String>>;

    /// Stores `kept` in the place of what was there; it outlives a crash once this is done.
    ///
    /// # Errors
    ///
    /// Why it cannot be stored, in plain words without secrets.
    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, Result<(), String>>;
}
