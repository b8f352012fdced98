//! Random bytes for keys and nonces: drawn from the operating system in larger pieces, since each call costs more than
//! sealing a small value.

use std::cell::RefCell;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use crate::base::{Error, Kind, Result, Side};

const DRAWN: usize = 1024;

struct Drawn {
    bytes: [u8; DRAWN],
    used: usize,
}

thread_local! {
    static LEFT: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; DRAWN], used: DRAWN }) };
}

/// `N` fresh bytes, at most 64.
///
/// # Errors
///
/// `Unavailable` if the operating system gives none.
pub(in crate::store) fn bytes<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N <= 64) };
    LEFT.with_borrow_mut(|left| {
        if left.used + N > DRAWN {
            SystemRandom::new().fill(&mut left.bytes).map_err(|_| {
                Error::new(Kind::Unavailable, "the operating system gives no randomness").on_side(Side::Us)
            })?;
            left.used = 0;
        }
        let mut out = [0; N];
        if let Some(piece) = left.bytes.get_mut(left.used..left.used + N) {
            out.iter_mut().zip(piece.iter()).for_each(|(to, from)| *to = *from);
            // What was given out is not kept.
            piece.zeroize();
        }
        left.used += N;
        Ok(out)
    })
}
