//! Twilio's request signature: over the URL and the sorted fields of a form, or the URL with the hash of the body in it.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::hmac;

use super::{Refusal, VerifiedBy};
use crate::base::hash::{same_secret, sha256};
use crate::connector::request::Request;

/// Twilio's request signature: <https://www.twilio.com/docs/usage/security>.
pub(super) fn check(request: &Request, header: &str, secrets: &[&str]) -> Result<VerifiedBy, Refusal> {
    let stated = request.header(header).ok_or_else(|| Refusal::new(format!("no `{header}` header")))?;
    let stated =
        BASE64.decode(stated.as_bytes()).map_err(|_| Refusal::new(format!("`{header}` header is not base64")))?;
    let query = request.query();
    if let Some((_, stated_hash)) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256")
    {
        let actual = HEXLOWER_PERMISSIVE.encode(&sha256(&request.body));
        if !same_secret(actual.as_bytes(), stated_hash.to_ascii_lowercase().as_bytes()) {
            return Err(Refusal::new("body does not have the hash that the URL states"));
        }
    }
    let fields = fields(request);
    for url in url_variants(&request.url) {
        for secret in secrets {
            if same_secret(&tag(&url, &fields, secret), &stated) {
                return Ok(VerifiedBy("twilio-hmac-sha1".to_owned()));
            }
        }
    }
    Err(Refusal::new("signature does not match"))
}

/// What is signed beside the URL: the form's pairs sorted by bytes, repeats of one pair once.
pub(super) fn fields(request: &Request) -> Vec<(String, String)> {
    // A JSON body is covered by the hash in the URL and a GET by the URL itself.
    if request.media_type() != "application/x-www-form-urlencoded" {
        return Vec::new();
    }
    let pairs = url::form_urlencoded::parse(&request.body);
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

pub(super) fn tag(url: &str, fields: &[(String, String)], secret: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(url.as_bytes());
    for (name, value) in fields {
        context.update(name.as_bytes());
        context.update(value.as_bytes());
    }
    context.sign().as_ref().to_vec()
}

/// The URL as it is, without its port and with the standard one: Twilio signs one or the other, depending on product.
fn url_variants(url: &str) -> Vec<String> {
    let mut variants = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return variants };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let at = if user.is_empty() { "" } else { "@" };
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !bare.is_empty() => bare,
        _ => host,
    };
    let standard = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
    variants.push(format!("{scheme}://{user}{at}{bare}{path}"));
    variants.push(format!("{scheme}://{user}{at}{bare}:{standard}{path}"));
    variants
}
