//! What the tests share.

pub(crate) mod answering;
pub(crate) mod database;
pub(crate) mod disk;
#[allow(dead_code)]
pub(crate) mod dns;
pub(crate) mod environment;
pub(crate) mod gateway;
pub(crate) mod helpdesk;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod mailserver;
pub(crate) mod oracle;
pub(crate) mod provider;
pub(crate) mod proxy;
#[allow(dead_code)]
pub(crate) mod scripted_smtp;
pub(crate) mod server;
pub(crate) mod signer;
pub(crate) mod source;
pub(crate) mod stub;
pub(crate) mod synced;
pub(crate) mod traffic;
pub(crate) mod wait;

/// Whether the long forms are to run.
pub(crate) fn full() -> bool {
    std::env::var_os("SEGUE_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The size of something: `small` in an ordinary run, `full` in a full one.
pub(crate) fn size(small: usize, full_size: usize) -> usize {
    if full() { full_size } else { small }
}

/// The seed of a random run: `SEGUE_TEST_SEED` to replay one, else a new one. It is printed, so that a failure can be
/// replayed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SEGUE_TEST_SEED").ok().map(|text| text.parse().expect("SEGUE_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("SEGUE_TEST_SEED={seed}");
    seed
}

/// A small generator of random numbers (SplitMix64): the same seed gives the same run everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Puts a list in random order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}
