//! Keys of files that are NOT SEALED: a stand-in until the key hierarchy takes its place.
//!
//! A file's own key lies in the clear in the header of its object, and names are hashed under a key that everybody can read
//! here. Content is sealed all the same, so that only [`BlobKeys`] has to be exchanged.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ring::hmac;
use zeroize::Zeroizing;

use super::{BlobKeys, sealed};
use crate::base::Result;

/// Wraps nothing; see the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainKeys;

impl BlobKeys for PlainKeys {
    fn wrap(&self, _customer: Option<i64>, key: &[u8; 32]) -> BoxFuture<'_, Result<Vec<u8>>> {
        std::future::ready(Ok(key.to_vec())).boxed()
    }

    fn unwrap(&self, wrapped: &[u8]) -> BoxFuture<'_, Result<Zeroizing<[u8; 32]>>> {
        let key = wrapped.try_into().map(Zeroizing::new).map_err(|_| sealed::damaged());
        std::future::ready(key).boxed()
    }

    fn name(&self, customer: Option<i64>, content: &[u8; 32]) -> Result<[u8; 32]> {
        Ok(hashed(&hmac::Key::new(hmac::HMAC_SHA256, b"segue: names of files, unsealed"), customer, content))
    }
}

/// HMAC-SHA-256 over whose it is and what it is.
pub(super) fn hashed(key: &hmac::Key, customer: Option<i64>, content: &[u8; 32]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[u8::from(customer.is_some())]);
    context.update(&customer.unwrap_or_default().to_be_bytes());
    context.update(content);
    let mut name = [0; 32];
    name.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    name
}
