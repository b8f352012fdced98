//! What stays in memory of a stretch of mails while its mailbox waits for another connection.
//!
//! Which mail breaks connections is found out over several of them, and large mails come in pieces, so what was under way is
//! kept. The invariant: whatever many mailboxes keep at once, together they keep no more than a fixed number of bytes. A
//! mailbox that finds no room fetches from its cursor again. Whoever gives its turn back for a while needs room as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::base::Timestamp;
use crate::net::imap::{Fetcher, Listed, Sizes};

/// How many bytes of mails are kept over all mailboxes, or the largest mail if that is more.
const BYTES: u64 = 64 << 20;
/// What is counted at least.
const UNIT: u64 = 1 << 10;
/// Over how many broken connections a stretch is kept as it is while there are more mails behind it: one among them that breaks
/// connections is known by others that come through.
const BREAKS: u32 = 20;
/// How long something is kept of a mailbox that lets nobody in.
const FRESH: Duration = Duration::from_secs(600);

/// The room for what is kept of all mailboxes.
pub(super) struct Kept {
    room: Arc<Semaphore>,
    sizes: Sizes,
}

impl Kept {
    pub(super) fn new(sizes: Sizes) -> Kept {
        let units = usize::try_from(BYTES.max(sizes.largest) / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Kept { room: Arc::new(Semaphore::new(units)), sizes }
    }

    /// How much room is left.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.room.available_permits()
    }

    /// Room for as much as is in memory at most of mails of these sizes.
    fn room(&self, sizes: impl Iterator<Item = Option<u32>>) -> Option<OwnedSemaphorePermit> {
        let (mut all, mut one) = (0_u64, 0_u64);
        for size in sizes {
            let size = size.map_or(self.sizes.largest, u64::from).min(self.sizes.largest);
            (all, one) = (all.saturating_add(size), one.max(size));
        }
        // A mail over the bytes that may be under way comes alone.
        self.bytes(all.min(one.max(self.sizes.flight)))
    }

    /// Room for so many bytes.
    pub(super) fn bytes(&self, most: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.room.clone().try_acquire_many_owned(units).ok()
    }
}

/// A stretch of UIDs that is being fetched.
pub(super) struct Window {
    validity: u32,
    pub(super) high: u32,
    pub(super) fetcher: Fetcher,
    /// The mails by UID, with the sizes that the server announced.
    sizes: BTreeMap<u32, Option<u32>>,
    /// When the server took them, where it tells.
    arrived: BTreeMap<u32, Timestamp>,
    /// How many connections broke over it, and when the last did.
    broke: (u32, Instant),
    /// The room that it has while it is kept.
    room: Option<OwnedSemaphorePermit>,
}

impl Window {
    /// For the mails of a folder with this UIDVALIDITY up to a UID.
    pub(super) fn new((validity, high): (u32, u32), listed: Vec<Listed>, sizes: Sizes) -> Window {
        let known = listed.iter().map(|mail| (mail.uid, mail.size)).collect();
        let told = |mail: &Listed| Some((mail.uid, Timestamp::from_millis(mail.arrived?.as_millisecond())));
        let arrived = listed.iter().filter_map(told).collect();
        let fetcher = Fetcher::new(validity, listed, sizes);
        Window { validity, high, fetcher, sizes: known, arrived, broke: (0, Instant::now()), room: None }
    }

    /// When the server took a mail, if it told.
    pub(super) fn arrived(&self, uid: u32) -> Option<Timestamp> {
        self.arrived.get(&uid).copied()
    }

    /// Whether it is to be gone on with where mails up to a UID are wanted.
    pub(super) fn covers(&self, validity: u32, high: u32) -> bool {
        self.validity == validity && (self.high >= high || self.broke.0 < BREAKS)
    }

    /// It goes on, in a turn: the room is for those that wait.
    pub(super) fn goes_on(&mut self) {
        self.room = None;
    }

    /// The connection broke, with the cursor at a UID. Gives it back if there is room for it.
    pub(super) fn kept(mut self, kept: &Kept, cursor: u32) -> Option<Window> {
        self.sizes = self.sizes.split_off(&cursor.saturating_add(1));
        self.room = Some(kept.room(self.sizes.values().copied())?);
        self.broke = (self.broke.0.saturating_add(1), Instant::now());
        Some(self)
    }

    /// Whether the last connection broke over it not long ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.broke.1.elapsed() < FRESH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(mails: &[(u32, Option<u32>)], sizes: Sizes) -> Window {
        let listed = mails.iter().map(|(uid, size)| Listed { uid: *uid, size: *size, arrived: None });
        Window::new((7, 1000), listed.collect(), sizes)
    }

    #[tokio::test]
    async fn all_mailboxes_together_keep_a_bounded_number_of_bytes() {
        let sizes = Sizes::default();
        let kept = Kept::new(sizes);
        let many: Vec<(u32, Option<u32>)> = (1..=1000).map(|uid| (uid, Some(200 << 10))).collect();
        let some: Vec<Window> = (0..300).filter_map(|_| window(&many, sizes).kept(&kept, 0)).collect();
        assert_eq!(some.len() as u64, BYTES / sizes.flight);
        assert!(window(&[(1, Some(1))], sizes).kept(&kept, 0).is_none(), "there is no room for a byte");
        // One that goes on gives its room back, and so does one that is dropped.
        let mut some = some.into_iter();
        let mut first = some.next().unwrap();
        first.goes_on();
        drop(some.next());
        let big = window(&[(1, Some(5 << 20))], sizes).kept(&kept, 0).expect("there is room for eight MiB");
        assert!(first.kept(&kept, 0).is_none(), "three are left");
        drop((some, big));
        // A mail of unknown size may be as large as any; what the cursor has passed counts no more.
        let unknown = || window(&[(1, Some(40 << 20)), (2, None), (3, Some(9))], sizes);
        let one = unknown().kept(&kept, 0).unwrap();
        assert!(unknown().kept(&kept, 1).is_none());
        assert!(unknown().kept(&kept, 2).is_some());
        drop(one);
        assert!(unknown().kept(&kept, 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_no_more_connections_is_not_kept() {
        let sizes = Sizes { largest: 256 << 20, ..Sizes::default() };
        let kept = Kept::new(sizes);
        let mut one = window(&[(1, Some(256 << 20))], sizes).kept(&kept, 0).expect("the largest mail always has room");
        tokio::time::advance(FRESH / 2).await;
        one.goes_on();
        one = one.kept(&kept, 0).unwrap();
        tokio::time::advance(FRESH / 2).await;
        assert!(one.is_fresh());
        tokio::time::advance(FRESH / 2).await;
        assert!(!one.is_fresh());
    }

    #[tokio::test]
    async fn a_stretch_is_given_up_for_a_longer_one_after_many_breaks() {
        let kept = Kept::new(Sizes::default());
        let mut one = window(&[(1, Some(1))], Sizes::default());
        for _ in 0..BREAKS {
            assert!(one.covers(7, 2000) && !one.covers(8, 10));
            one = one.kept(&kept, 0).unwrap();
        }
        assert!(one.covers(7, 1000) && !one.covers(7, 1001));
    }
}
