//! The signed statement of a service account: a JWT (RFC 7519) with RS256 (RFC 7518, section 3.3).

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Serialize;
use zeroize::Zeroizing;

/// What the statement says (RFC 7523, section 3; `scope` is Google's).
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    /// Who says it: the service account.
    pub(super) iss: &'a str,
    /// For whom it acts: the mailbox.
    pub(super) sub: &'a str,
    /// What the token is to be for.
    pub(super) scope: &'a str,
    /// To whom it is said: the token endpoint.
    pub(super) aud: &'a str,
    /// Since when it is good, in seconds since 1970.
    pub(super) iat: u64,
    /// Until when it is good.
    pub(super) exp: u64,
}

/// The header of every statement.
const HEADER: &[u8] = br#"{"alg":"RS256","typ":"JWT"}"#;
/// The longest key text that is read, in bytes; 8,192 bits in PEM are under 7 KiB.
const MAX_KEY: usize = 16 << 10;
const NOT_A_KEY: &str =
    "the service account's key is no RSA private key: use the value of private_key from Google's key file";

/// Signs `claims` with `key`. The same in gives the same out: the random numbers only blind the arithmetic.
pub(super) fn sign(key: &str, claims: &Claims<'_>) -> Result<Zeroizing<String>, &'static str> {
    const FAILED: &str = "the service account's key could not sign";
    let pair = key_pair(key)?;
    let claims = serde_json::to_vec(claims).map_err(|_| FAILED)?;
    let message = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER), BASE64URL_NOPAD.encode(&claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).map_err(|_| FAILED)?;
    Ok(Zeroizing::new(format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))))
}

/// Reads the key: PEM, or bare base64 of PKCS #8.
pub(super) fn key_pair(key: &str) -> Result<RsaKeyPair, &'static str> {
    if key.len() > MAX_KEY {
        return Err(NOT_A_KEY);
    }
    // Copied out of a JSON file by hand, the line ends are still written as `\n`.
    let plain = Zeroizing::new(key.replace("\\n", "\n"));
    let (label, body) = match plain.split_once("-----BEGIN ") {
        None => ("PRIVATE KEY", plain.as_str()),
        Some((_, rest)) => {
            let (label, rest) = rest.split_once("-----").ok_or(NOT_A_KEY)?;
            (label, rest.split_once("-----END ").ok_or(NOT_A_KEY)?.0)
        }
    };
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    let der = Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| NOT_A_KEY)?);
    match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
        "ENCRYPTED PRIVATE KEY" => {
            return Err("the service account's key is locked with a passphrase: unlock it first");
        }
        _ => return Err(NOT_A_KEY),
    }
    .map_err(|_| NOT_A_KEY)
}
