//! Whom an account logs in as at a mail server, and how: by a password, or by access tokens.

use zeroize::Zeroizing;

use super::options::Options;
use crate::base::{Error, Result, Secret};
use crate::mail::oauth::{Grant, Settings};

/// Who we are to a mail server.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// User and password.
    Password(String, Secret),
    /// User, and where the access tokens come from.
    Tokens(String, Box<Settings>),
}

/// The credentials of an account's mailbox.
///
/// # Errors
///
/// `Config` if an option is missing or does not fit another.
pub(super) fn of_mailbox(options: &Options, channel: &str) -> Result<Credentials> {
    let missing = |name: &str| Error::config(format!("channel `{channel}` needs the option `{name}`"));
    let user = options.text("user").ok_or_else(|| missing("user"))?.to_owned();
    if options.text("login") != Some("oauth") {
        let password = options.secret("password").ok_or_else(|| missing("password"))?;
        return Ok(Credentials::Password(user, password.clone()));
    }
    let need = |name: &str| options.text(name).map(str::to_owned).ok_or_else(|| missing(name));
    let secret = |name: &str| options.secret(name).map(|secret| Zeroizing::new(secret.expose().to_owned()));
    let grant = match options.text("oauth_grant") {
        Some("client_credentials") => Grant::ClientCredentials,
        Some("service_account") => {
            let key = secret("oauth_key").ok_or_else(|| missing("oauth_key"))?;
            Grant::ServiceAccount { key, subject: user.clone() }
        }
        _ => {
            Grant::RefreshToken { token: secret("oauth_refresh_token").ok_or_else(|| missing("oauth_refresh_token"))? }
        }
    };
    let settings = Settings {
        token_url: need("oauth_token_url")?,
        client_id: need("oauth_client_id")?,
        client_secret: secret("oauth_client_secret"),
        scope: options.text("oauth_scope").map(str::to_owned),
        grant,
        secret_expires: options.text("oauth_secret_expires").map(end_of).transpose()?,
    };
    settings.check().map_err(|wrong| Error::config(format!("the OAuth options of channel `{channel}`: {wrong}")))?;
    Ok(Credentials::Tokens(user, Box::new(settings)))
}

/// The beginning of a day, in seconds since 1970.
fn end_of(day: &str) -> Result<u64> {
    let wrong = || Error::config("`oauth_secret_expires` is a day such as 2027-03-31");
    let day: jiff::civil::Date = day.parse().map_err(|_| wrong())?;
    let begins = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
    u64::try_from(begins.timestamp().as_second()).map_err(|_| wrong())
}
