//! Bearer tokens (RFC 6750): made once, shown once, kept as hashes, checked in constant time.
//!
//! A token is `sg_`, its id, `_` and its secret. Only the SHA-256 of the secret is stored. Checks go against a copy of
//! the stored tokens that is a few seconds old at most, so a revoked token dies soon and a request costs no read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use data_encoding::BASE32_NOPAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::base::hash::{same_secret, sha256};
use crate::base::id::TokenId;
use crate::base::{Error, Kind, Result, Secret, Side, Timestamp};
use crate::store::{Catalog, TokenRow};

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read customers, conversations, interactions, quarantine, dead letters and status.
    Read,
    /// Answer, note, assign, resolve, reopen, retry.
    Write,
    /// Read the feed of events.
    Feed,
    /// Everything, raw originals and tokens included.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Feed, Scope::Admin];

    /// The name as stored and as shown.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Feed => "feed",
            Scope::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A new token under a random id: the text to show once, and the row to store.
///
/// # Errors
///
/// `Unavailable` if the operating system gives no randomness.
pub fn mint(name: &str, scopes: &[Scope], now: Timestamp) -> Result<(Secret, TokenRow)> {
    mint_as(TokenId::random(now).to_string(), name, scopes, now)
}

/// As [`mint`], under an id of the caller's choice.
pub(super) fn mint_as(id: String, name: &str, scopes: &[Scope], now: Timestamp) -> Result<(Secret, TokenRow)> {
    let mut random = [0u8; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| Error::new(Kind::Unavailable, "the operating system gives no randomness").on_side(Side::Us))?;
    let secret = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
    let hash = sha256(secret.as_bytes());
    let text = Secret::new(format!("sg_{id}_{secret}"));
    let scopes = scopes.iter().map(|scope| scope.name().to_owned()).collect();
    Ok((text, TokenRow { id, name: name.to_owned(), scopes, hash, created_at: now, revoked_at: None }))
}

/// Who calls: a token that was checked.
#[derive(Clone)]
pub(super) struct Caller {
    /// The token's id.
    pub(super) id: String,
    scopes: Vec<String>,
}

impl Caller {
    /// Whether the token reaches so far. `admin` reaches everywhere.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| own == scope.name() || own == Scope::Admin.name())
    }
}

struct Known {
    tokens: Vec<TokenRow>,
    read_at: Instant,
}

/// The stored tokens as they were a moment ago.
pub(super) struct Tokens {
    catalog: Arc<dyn Catalog>,
    known: ArcSwapOption<Known>,
    fresh: Duration,
}

impl Tokens {
    /// Reads from `catalog`, and again when the copy is older than `fresh`.
    pub(super) fn new(catalog: Arc<dyn Catalog>, fresh: Duration) -> Self {
        Tokens { catalog, known: ArcSwapOption::empty(), fresh }
    }

    /// Forgets the copy: something was changed.
    pub(super) fn forget(&self) {
        self.known.store(None);
    }

    async fn known(&self) -> Result<Arc<Known>> {
        if let Some(known) = self.known.load_full().filter(|known| known.read_at.elapsed() < self.fresh) {
            return Ok(known);
        }
        // The age counts from before the read: what is revoked meanwhile may be missing in it.
        let read_at = Instant::now();
        let known = Arc::new(Known { tokens: self.catalog.tokens().await?, read_at });
        self.known.store(Some(known.clone()));
        Ok(known)
    }

    /// Checks the `Authorization` header of a request.
    ///
    /// # Errors
    ///
    /// 401 if there is no token or it does not hold; 503 if the tokens cannot be read.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let given = headers.get(AUTHORIZATION).ok_or_else(Problem::no_token)?;
        let given = given.to_str().map_err(|_| Problem::bad_token())?;
        let (scheme, token) = given.split_once(' ').ok_or_else(Problem::no_token)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::no_token());
        }
        let token = token.trim().strip_prefix("sg_").ok_or_else(Problem::bad_token)?;
        let known = self.known().await?;
        let found = known.tokens.iter().find_map(|row| Some((row, token.strip_prefix(&row.id)?.strip_prefix('_')?)));
        let (row, secret) = found.ok_or_else(Problem::bad_token)?;
        if !same_secret(&sha256(secret.as_bytes()), &row.hash) || row.revoked_at.is_some() {
            return Err(Problem::bad_token());
        }
        Ok(Caller { id: row.id.clone(), scopes: row.scopes.clone() })
    }

    /// Whether a token that was checked before still holds and has this scope: asked by those who stay for long.
    pub(super) async fn still(&self, caller: &Caller, scope: Scope) -> Result<bool> {
        let known = self.known().await?;
        Ok(caller.may(scope) && known.tokens.iter().any(|row| row.id == caller.id && row.revoked_at.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_id_and_keeps_its_secret() {
        let (text, row) = mint("desk", &[Scope::Read, Scope::Feed], Timestamp::from_seconds(1)).unwrap();
        let secret = text.expose().strip_prefix(&format!("sg_{}_", row.id)).unwrap();
        assert_eq!(secret.len(), 52);
        assert_eq!(sha256(secret.as_bytes()), row.hash);
        assert_eq!(row.scopes, ["read", "feed"]);
        assert!(!format!("{text:?}").contains(secret));
    }

    #[test]
    fn only_admin_reaches_everywhere() {
        for own in Scope::ALL {
            let caller = Caller { id: String::new(), scopes: vec![own.name().to_owned()] };
            for asked in Scope::ALL {
                assert_eq!(caller.may(asked), own == asked || own == Scope::Admin, "{own:?} {asked:?}");
            }
        }
    }
}
