//! Keys that come of the index key by HKDF (RFC 5869): as lasting as it, and none tells anything of another.

use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::Bytes32;
use crate::base::{Error, Result};

/// What tells the keys apart.
const BLOB_NAMES: &[u8] = b"segue: names of blobs";
const MAIL_TOKENS: &[u8] = b"segue: tokens in mails";

/// Under which blobs are named.
pub(super) fn blob_names(index: &Bytes32) -> Result<hmac::Key> {
    expand(index, BLOB_NAMES, hmac::HMAC_SHA256, |key| Ok(key.into()))
}

/// From which the tokens in our mails are made.
pub(super) fn mail_secret(index: &Bytes32) -> Result<Bytes32> {
    let mut secret = Zeroizing::new([0; 32]);
    expand(index, MAIL_TOKENS, hmac::HMAC_SHA256, |key| key.fill(secret.as_mut_slice()).map_err(|_| failed()))?;
    Ok(secret)
}

fn expand<T>(
    index: &Bytes32,
    purpose: &[u8],
    length: hmac::Algorithm,
    use_it: impl FnOnce(hkdf::Okm<'_, hmac::Algorithm>) -> Result<T>,
) -> Result<T> {
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(index.as_slice());
    use_it(derived.expand(&[purpose], length).map_err(|_| failed())?)
}

fn failed() -> Error {
    Error::internal("a key could not be derived")
}
