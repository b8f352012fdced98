//! Fixed-size digests used as keys, and the constant-time comparison of secrets.

use ring::digest;
use subtle::ConstantTimeEq;

/// SHA-256 over the parts, each preceded by its length, so that no two lists of parts share a digest by accident.
///
/// # Example
///
/// ```
/// use segue::base::hash::sha256_parts;
/// assert_ne!(sha256_parts(&[b"ab", b"c"]), sha256_parts(&[b"a", b"bc"]));
/// ```
pub fn sha256_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    fixed(context.finish().as_ref())
}

/// The first 16 bytes of [`sha256_parts`]: the size of every key digest in the store.
pub fn key16(parts: &[&[u8]]) -> [u8; 16] {
    fixed(&sha256_parts(parts))
}

/// Plain SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Whether two secrets are equal, in time that depends on their lengths only.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    // Comparing digests hides even the length, and makes the compared size fixed.
    sha256(a).ct_eq(&sha256(b)).into()
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}
