//! Random bytes, for keys and names.

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::{Error, Result};

/// `N` bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("the system gives no random bytes"))?;
    Ok(bytes)
}
