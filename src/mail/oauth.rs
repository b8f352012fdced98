//! OAuth 2.0 access tokens, with which mailboxes of Google and Microsoft are logged in to (SASL XOAUTH2): what a token
//! endpoint is asked (RFC 6749, sections 4.4 and 6; RFC 7523, section 2.1), and what its answer says.
//!
//! When to ask, and what to do with the answer, is the matter of `net::token_source`. The invariant: no text for people
//! that comes from here, and no `Debug`, holds a secret, an address or any wording of the endpoint.

mod answer;
mod assertion;
mod causes;
#[cfg(test)]
mod tests;

use std::fmt;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use url::form_urlencoded::Serializer;
use url::{Host, Url};
use zeroize::Zeroizing;

pub use answer::{Answer, MAX_BODY, read};

/// How a token is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Grant {
    /// With the refresh token that somebody's sign-in brought (RFC 6749, section 6).
    RefreshToken {
        /// The refresh token as it was configured. An endpoint may have replaced it since.
        token: Zeroizing<String>,
    },
    /// With the client's own secret (RFC 6749, section 4.4). Microsoft wants the scope
    /// `https://outlook.office365.com/.default` for it.
    ClientCredentials,
    /// With a signed statement (RFC 7523) of a Google service account that may act for everybody in its domain. Google
    /// wants the scope `https://mail.google.com/` for it.
    ServiceAccount {
        /// The account's RSA key: PEM (PKCS #8 or PKCS #1), or PKCS #8 in bare base64.
        key: Zeroizing<String>,
        /// The mailbox's address.
        subject: String,
    },
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Grant::RefreshToken { .. } => "RefreshToken",
            Grant::ClientCredentials => "ClientCredentials",
            Grant::ServiceAccount { .. } => "ServiceAccount",
        })
    }
}

/// Where tokens come from, and who asks for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The token endpoint, such as `https://oauth2.googleapis.com/token` or
    /// `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`.
    pub token_url: String,
    /// The client's id; for a service account its address, as its key file says.
    pub client_id: String,
    /// The client's secret, if it has one. Sent in the body (`client_secret_post`).
    pub client_secret: Option<Zeroizing<String>>,
    /// What the token is for, in the endpoint's words, separated by spaces.
    pub scope: Option<String>,
    /// How a token is asked for.
    pub grant: Grant,
    /// When the client secret ends, in seconds since 1970, where somebody wrote it down: no endpoint tells.
    pub secret_expires: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's id may be an address, and a URL may hold anything.
        f.debug_struct("Settings").field("grant", &self.grant).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// How long a signed statement is good for, in seconds: the longest that Google takes.
const ASSERTION_LIFE: u64 = 3600;
/// How far a statement is dated back, in seconds, so that a clock that is a little fast is not refused.
const ASSERTION_BACK: u64 = 30;
/// The grant type of RFC 7523, section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl Settings {
    /// Whether a token can be asked for with this at all; to be called when the configuration is read.
    ///
    /// # Errors
    ///
    /// What is wrong, in plain words without secrets.
    pub fn check(&self) -> Result<(), &'static str> {
        let url = Url::parse(&self.token_url).map_err(|_| "the token URL is not a URL")?;
        let at_home = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err("the token URL names no host"),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && at_home) {
            return Err("the token URL must begin with https");
        }
        if self.client_id.is_empty() {
            return Err("the client id is empty");
        }
        let has_scope = self.scope.as_deref().is_some_and(|scope| !scope.trim().is_empty());
        match &self.grant {
            Grant::RefreshToken { token } if token.is_empty() => Err("the refresh token is empty"),
            Grant::RefreshToken { .. } => Ok(()),
            Grant::ClientCredentials if self.client_secret.is_none() => Err("the client secret is missing"),
            Grant::ServiceAccount { subject, .. } if subject.is_empty() => Err("the mailbox to act for is missing"),
            _ if !has_scope => Err("the scope is missing"),
            Grant::ClientCredentials => Ok(()),
            Grant::ServiceAccount { key, .. } => assertion::key_pair(key).map(|_| ()),
        }
    }

    /// The body of a request for a token, as `application/x-www-form-urlencoded`, at `now` (seconds since 1970).
    ///
    /// `replaced` is the refresh token that took the place of the configured one, if the endpoint gave one.
    ///
    /// # Errors
    ///
    /// The service account's key is of no use.
    pub fn request(&self, replaced: Option<&str>, now: u64) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(5);
        let assertion;
        match &self.grant {
            Grant::RefreshToken { token } => {
                pairs.push(("grant_type", "refresh_token"));
                pairs.push(("refresh_token", replaced.unwrap_or(token)));
            }
            Grant::ClientCredentials => pairs.push(("grant_type", "client_credentials")),
            Grant::ServiceAccount { key, subject } => {
                assertion = self.assertion(key, subject, now).map_err(Refused::permanent)?;
                pairs.push(("grant_type", JWT_BEARER));
                pairs.push(("assertion", &assertion));
            }
        }
        if !matches!(self.grant, Grant::ServiceAccount { .. }) {
            pairs.push(("client_id", &self.client_id));
            pairs.extend(self.client_secret.as_ref().map(|secret| ("client_secret", secret.as_str())));
            pairs.extend(self.scope.as_ref().map(|scope| ("scope", scope.as_str())));
        }
        // Room for all at once: a string that grows leaves copies behind that nobody wipes.
        let room = pairs.iter().map(|(name, value)| name.len().saturating_add(value.len().saturating_mul(3)) + 2).sum();
        let body = Serializer::new(String::with_capacity(room)).extend_pairs(pairs).finish();
        Ok(Zeroizing::new(body.into_bytes()))
    }

    fn assertion(&self, key: &str, subject: &str, now: u64) -> Result<Zeroizing<String>, &'static str> {
        let issued = now.saturating_sub(ASSERTION_BACK);
        assertion::sign(
            key,
            &assertion::Claims {
                iss: &self.client_id,
                sub: subject,
                scope: self.scope.as_deref().unwrap_or_default(),
                aud: &self.token_url,
                iat: issued,
                exp: issued.saturating_add(ASSERTION_LIFE),
            },
        )
    }

    /// A digest of what a refresh token belongs to: endpoint, client and the token that was configured.
    ///
    /// A replaced refresh token is good for as long as this stays the same. The client secret is no part of it: a new
    /// one does not end refresh tokens.
    pub fn origin(&self) -> String {
        let mut all = Context::new(&SHA256);
        let secret = match &self.grant {
            Grant::RefreshToken { token } => token.as_str(),
            Grant::ClientCredentials => "",
            Grant::ServiceAccount { subject, .. } => subject,
        };
        for part in [&self.token_url, &self.client_id, secret] {
            all.update(&(part.len() as u64).to_be_bytes());
            all.update(part.as_bytes());
        }
        HEXLOWER.encode(all.finish().as_ref())
    }
}

/// A token that was given.
#[derive(Clone)]
pub struct Token {
    /// The access token: 1 to 16 KiB of visible ASCII.
    pub access: Zeroizing<String>,
    /// When it ends, in seconds since 1970.
    pub expires_at: u64,
    /// The refresh token to use from now on, where the endpoint sent one.
    pub rotated_refresh: Option<Zeroizing<String>>,
    /// When the refresh token, or the permission behind it, ends, in seconds since 1970, where the endpoint says so.
    pub refresh_expires_at: Option<u64>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .field("rotated", &self.rotated_refresh.is_some())
            .field("refresh_expires_at", &self.refresh_expires_at)
            .finish_non_exhaustive()
    }
}

/// Whether a refusal goes away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person has to do something.
    Permanent,
    /// Trying again may help.
    Temporary,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whether it goes away by itself.
    pub kind: Kind,
    /// What happened and what to do, in plain words, without secrets and personal data.
    pub words: String,
    /// How many seconds the endpoint wants to be left alone.
    pub retry_after: Option<u64>,
}

impl Refused {
    /// A refusal that a person has to see to.
    pub fn permanent(words: impl Into<String>) -> Self {
        Refused { kind: Kind::Permanent, words: words.into(), retry_after: None }
    }

    /// A refusal that may go away by itself.
    pub fn temporary(words: impl Into<String>) -> Self {
        Refused { kind: Kind::Temporary, words: words.into(), retry_after: None }
    }
}
