//! Signing our own mail with DKIM (RFC 6376, section 5; RFC 8463).
//!
//! Always `relaxed/relaxed` and always the same fields, so that what is signed does not depend on the mail: a field
//! that is not there is signed as absent, and cannot be added on the way. `From` is listed twice for the same reason.

use std::fmt;

use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use zeroize::Zeroizing;

use super::dkim_canon::{Canon, Header, body_hash, relaxed_value};
use super::fields::Fields;
use super::tags::{base64, is_domain};

/// The fields that are signed, in lower case, in their order.
const SIGNED: [&str; 16] = [
    "from",
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "reply-to",
    "sender",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "auto-submitted",
];

/// How many characters of base64 stand in one line of the field.
const LINE: usize = 72;

/// Why a key cannot sign, or a mail cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignFault {
    /// The text holds no private key in PEM.
    NoPem,
    /// The key is neither RSA of 2048 to 4096 bits nor Ed25519, or its parts do not fit together.
    BadKey,
    /// The domain or selector cannot be one.
    BadName,
    /// The mail's header is longer than a signature may cover (1 MiB).
    TooLong,
    /// The library refused.
    Failed,
}

impl fmt::Display for SignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignFault::NoPem => "no private key in PEM (PKCS#8 or PKCS#1)",
            SignFault::BadKey => "the key must be RSA of 2048 to 4096 bits, or Ed25519",
            SignFault::BadName => "the domain or selector is not a name of the DNS",
            SignFault::TooLong => "the header is too long to be signed",
            SignFault::Failed => "the key did not sign",
        })
    }
}

impl std::error::Error for SignFault {}

/// A private key. Its `Debug` shows the kind only.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

impl SigningKey {
    /// Reads a key from PEM: `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1), not encrypted.
    pub fn from_pem(pem: &str) -> Result<SigningKey, SignFault> {
        let block = |label: &str| {
            let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
            let (text, _) = rest.split_once(&format!("-----END {label}-----"))?;
            base64(text).map(Zeroizing::new)
        };
        if let Some(der) = block("RSA PRIVATE KEY") {
            let pair = RsaKeyPair::from_der(&der).map_err(|_| SignFault::BadKey)?;
            return Ok(SigningKey(Pair::Rsa(Box::new(pair))));
        }
        let der = block("PRIVATE KEY").ok_or(SignFault::NoPem)?;
        // Keys without the public half are what OpenSSL writes; "unchecked" is only about that half.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Ok(SigningKey(Pair::Ed25519(pair)));
        }
        RsaKeyPair::from_pkcs8(&der).map(|pair| SigningKey(Pair::Rsa(Box::new(pair)))).map_err(|_| SignFault::BadKey)
    }

    fn algorithm(&self) -> &'static str {
        match self.0 {
            Pair::Rsa(_) => "rsa-sha256",
            Pair::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                // PKCS#1 v1.5 draws no random numbers: the same mail always has the same signature.
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).map_err(|_| SignFault::Failed)?;
                Ok(out)
            }
            Pair::Ed25519(pair) => {
                let digest = ring::digest::digest(&ring::digest::SHA256, message);
                Ok(pair.sign(digest.as_ref()).as_ref().to_vec())
            }
        }
    }
}

/// Makes the `DKIM-Signature` field that goes above `mail`, folded, with CRLF at its end. `mail` has CRLF line ends, as
/// it is sent; `time` is unix seconds.
pub fn sign(mail: &[u8], key: &SigningKey, domain: &str, selector: &str, time: u64) -> Result<String, SignFault> {
    if !is_domain(domain) || !is_domain(&format!("{selector}._domainkey.{domain}")) {
        return Err(SignFault::BadName);
    }
    let (fields, body) = Fields::read(mail);
    if !fields.whole() {
        return Err(SignFault::TooLong);
    }
    let body = body_hash(Canon::Relaxed, body, false);
    let algorithm = key.algorithm();
    let mut names = String::new();
    for (place, name) in SIGNED.iter().enumerate() {
        let before = if place == 0 { "" } else { ":" };
        // So that no line is longer than 78 characters.
        let fold = if matches!(place, 8 | 13) { "\r\n\t" } else { "" };
        names.push_str(&format!("{before}{fold}{name}"));
    }
    let mut value = format!(
        " v=1; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s={selector};\r\n\tt={time};\r\n\th={names};\r\n\tbh={};\r\n\tb=",
        BASE64.encode(&body)
    );
    let mut signed = Header::new(&fields).covered(Canon::Relaxed, SIGNED.into_iter()).ok_or(SignFault::TooLong)?;
    signed.extend_from_slice(b"dkim-signature:");
    relaxed_value(value.as_bytes(), &mut signed);
    let signature = BASE64.encode(&key.sign(&signed)?);
    for (place, character) in signature.chars().enumerate() {
        if place > 0 && place % LINE == 0 {
            value.push_str("\r\n\t");
        }
        value.push(character);
    }
    Ok(format!("DKIM-Signature:{value}\r\n"))
}

#[cfg(test)]
mod tests;
