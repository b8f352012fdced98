//! What a token endpoint answers (RFC 6749, sections 5.1 and 5.2), with what Google and Microsoft add to it.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::causes::{self, Cause};
use super::{Kind, Refused, Token};

/// An answer as it came.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What `Retry-After` said, in seconds from now (RFC 9110, section 10.2.3).
    pub retry_after: Option<u64>,
    /// The body; more than [`MAX_BODY`] bytes are not read.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The longest body that is read, in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// The longest token that is taken, in bytes. Microsoft's are about 2 KiB, and more with many groups.
const MAX_TOKEN: usize = 16 << 10;
/// How long a token is taken to live where the endpoint does not say, in seconds.
const UNSAID_LIFE: u64 = 1800;
/// The longest life that is believed, in seconds: ten years.
const LONGEST_LIFE: u64 = 315_360_000;

/// The members of either kind of answer that are of use.
#[derive(Deserialize)]
struct Told {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    /// Of draft-ietf-oauth-refresh-token-expiration: when the person's permission ends.
    #[serde(default, deserialize_with = "seconds")]
    authorization_expires_in: Option<u64>,
    /// Google's, for apps in testing and permissions given for a time.
    #[serde(default, deserialize_with = "seconds")]
    refresh_token_expires_in: Option<u64>,
    /// Keycloak's.
    #[serde(default, deserialize_with = "seconds")]
    refresh_expires_in: Option<u64>,
    /// A name; an object with a `status` from Google's front ends.
    #[serde(default)]
    error: Value,
    #[serde(default)]
    error_description: Value,
    /// Google's.
    #[serde(default)]
    error_subtype: Value,
    /// Microsoft's numbers.
    #[serde(default)]
    error_codes: Value,
}

/// Seconds as a number or, as Microsoft's older endpoint has it, as a string. Anything else counts as unsaid.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|n| *n > 0.0).map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

/// Reads what the endpoint answered to a request that was made at `now` (seconds since 1970).
///
/// # Errors
///
/// The endpoint refuses, or what it says is no token.
pub fn read(answer: &Answer, now: u64) -> Result<Token, Refused> {
    let told = (answer.body.len() <= MAX_BODY).then(|| serde_json::from_slice::<Told>(&answer.body).ok()).flatten();
    let refused = match (answer.status, told) {
        (200..=299, Some(told)) => match token(told, now) {
            Ok(token) => return Ok(token),
            Err(refused) => refused,
        },
        (200..=299, None) => Refused::temporary(causes::NO_TOKEN),
        (status, told) => refusal(status, told.as_ref()),
    };
    // Who refuses for good is asked again on our terms.
    let retry_after = answer.retry_after.filter(|_| refused.kind == Kind::Temporary).or(refused.retry_after);
    Err(Refused { retry_after, ..refused })
}

fn token(told: Told, now: u64) -> Result<Token, Refused> {
    let ends = |life: u64| now.saturating_add(life.min(LONGEST_LIFE));
    let unfit = || Refused::temporary(causes::NO_TOKEN);
    if told.error != Value::Null && told.access_token.is_none() {
        // Some endpoints refuse with status 200.
        return Err(refusal(400, Some(&told)));
    }
    if told.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(Refused::permanent("the token endpoint gives tokens of a kind that mail servers do not take"));
    }
    let access = told.access_token.map(Zeroizing::new).filter(|token| is_token(token)).ok_or_else(unfit)?;
    let rotated_refresh = told.refresh_token.map(Zeroizing::new).filter(|token| !token.is_empty());
    if rotated_refresh.as_ref().is_some_and(|token| !is_token(token)) {
        return Err(unfit());
    }
    let refresh_life = told.authorization_expires_in.or(told.refresh_token_expires_in).or(told.refresh_expires_in);
    Ok(Token {
        access,
        expires_at: ends(told.expires_in.filter(|life| *life > 0).unwrap_or(UNSAID_LIFE)),
        rotated_refresh,
        // Keycloak says 0 for what never ends.
        refresh_expires_at: refresh_life.filter(|life| *life > 0).map(ends),
    })
}

/// Whether `text` has the form of a token (RFC 6749, appendix A.12), without the space, which no mail server takes.
fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Judges a refusal. The name of the error decides more than Microsoft's numbers, which may change.
fn refusal(status: u16, told: Option<&Told>) -> Refused {
    let description = told.and_then(|told| told.error_description.as_str()).unwrap_or_default();
    let name = told.map(name).unwrap_or_default();
    if matches!(status, 408 | 425 | 429 | 500..=599) {
        return Refused::temporary(format!("{} (HTTP {status})", causes::BUSY));
    }
    let numbers = told.map(|told| numbers(told, description)).unwrap_or_default();
    let numbered = numbers.iter().find_map(|number| Some((causes::of_number(*number)?, *number)));
    if let Some((cause, number)) = numbered {
        return described(cause, &format!("AADSTS{number}"));
    }
    let subtype = told.and_then(|told| told.error_subtype.as_str()).unwrap_or_default();
    let known = causes::of_description(subtype, description).or_else(|| causes::of_name(&name));
    let label = numbers.first().map_or_else(|| name.clone(), |number| format!("{name}, AADSTS{number}"));
    match known {
        Some(cause) => described(cause, &label),
        None if !name.is_empty() => described(&causes::UNKNOWN, &label),
        None => described(causes::of_status(status), &format!("HTTP {status}")),
    }
}

fn described(cause: &Cause, label: &str) -> Refused {
    let words = format!("{} ({label})", cause.words);
    Refused { kind: cause.kind, words, retry_after: cause.retry_after }
}

/// The error's name, in small letters; empty if there is none that has the form of one.
fn name(told: &Told) -> String {
    const LONGEST: usize = 40;
    let name = told.error.as_str().or_else(|| told.error.get("status").and_then(Value::as_str)).unwrap_or_default();
    let well_formed = name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    // It may be anything, even what was sent.
    if well_formed { name.to_ascii_lowercase() } else { "unreadable".to_owned() }
}

/// Microsoft's numbers for what is wrong, from their own member or, in older answers, from the text.
fn numbers(told: &Told, description: &str) -> Vec<u64> {
    const MOST: usize = 8;
    let listed = told.error_codes.as_array().into_iter().flatten().filter_map(Value::as_u64);
    let written = description.split("AADSTS").skip(1).filter_map(|rest| {
        let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    });
    listed.chain(written).take(MOST).collect()
}
