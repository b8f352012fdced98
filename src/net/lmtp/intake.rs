//! A content on its way in: no bigger than allowed, not too slow, and all of them together within one budget.
//!
//! Memory is paid for before it is used. A mail that outgrows its share and finds no more is not waited for, as two that
//! wait for each other would both be stuck: it is read to its end without being kept, and the client tries again later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Settings;
use super::dots::Dots;
use super::stream::{Stop, Stream};

/// No content can be bigger, whatever the settings say: it is what one acquisition of the budget can ask for.
pub(super) const CONTENT_MOST: usize = u32::MAX as usize;
/// The share of a mail whose size is not announced, to begin with.
const FIRST_SHARE: usize = 64 * 1024;

/// The bytes that all contents together may have.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(settings: &Settings) -> Self {
        let bytes = settings.most_held.max(settings.most_bytes).min(Semaphore::MAX_PERMITS);
        Budget(Arc::new(Semaphore::new(bytes)))
    }

    /// Room for a content that is said to have `announced` bytes. `None` if there is none in time.
    pub(super) async fn room(&self, announced: Option<u64>, settings: &Settings) -> Option<Room> {
        let announced = announced.map_or(FIRST_SHARE, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let share = announced.min(settings.most_bytes);
        let wait = Arc::clone(&self.0).acquire_many_owned(u32::try_from(share).ok()?);
        let permit = timeout(settings.room_timeout, wait).await.ok()?.ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(share).ok()?;
        Some(Room { budget: self.clone(), bytes, permit, paid: share, most: settings.most_bytes })
    }
}

/// A content and its share of the budget.
pub(super) struct Room {
    budget: Budget,
    bytes: Vec<u8>,
    permit: OwnedSemaphorePermit,
    paid: usize,
    most: usize,
}

impl Room {
    /// Adds to the content, or says why it cannot be kept.
    fn push(&mut self, part: &[u8]) -> Result<(), Received> {
        let needed = self.bytes.len().saturating_add(part.len());
        if needed > self.most {
            return Err(Received::TooBig);
        }
        if needed > self.paid {
            // Twice as much, so that a byte is not moved often.
            let share = needed.max(self.paid.saturating_mul(2).min(self.most));
            self.grow(share).ok_or(Received::NoRoom)?;
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn grow(&mut self, share: usize) -> Option<()> {
        let more = u32::try_from(share - self.paid).ok()?;
        self.permit.merge(Arc::clone(&self.budget.0).try_acquire_many_owned(more).ok()?);
        self.paid = share;
        self.bytes.try_reserve_exact(share - self.bytes.len()).ok()
    }
}

/// What has come of a `DATA`.
pub(super) enum Received {
    /// The content, and the permit to hold it.
    Whole(Vec<u8>, OwnedSemaphorePermit),
    /// It came to its end, but it was too big to keep.
    TooBig,
    /// It came to its end, but there was no room for it.
    NoRoom,
    /// It was too big, and no end was in sight.
    Endless,
}

/// Reads a content to its end. An error means that its end has not come.
pub(super) async fn receive(stream: &mut Stream, room: Room, settings: &Settings) -> Result<Received, Stop> {
    let (mut dots, mut pace) = (Dots::new(), Pace::new(settings));
    let mut kept = Ok(room);
    let mut swallowed = 0usize;
    loop {
        let piece = stream.piece(pace.deadline()).await?;
        let length = piece.len();
        let behind = dots.feed(piece, |part| {
            if let Ok(room) = &mut kept
                && let Err(reason) = room.push(part)
            {
                // What was kept is dropped, and its share is free for others.
                kept = Err(reason);
            }
        });
        let read = length - behind.map_or(0, <[u8]>::len);
        let ended = behind.is_some();
        stream.consume(read);
        pace.count(read);
        if kept.is_err() {
            swallowed = swallowed.saturating_add(read);
        }
        match kept {
            Ok(room) if ended => return Ok(Received::Whole(room.bytes, room.permit)),
            Err(reason) if ended => return Ok(reason),
            Err(_) if swallowed > settings.most_bytes.max(FIRST_SHARE) => return Ok(Received::Endless),
            going_on => kept = going_on,
        }
    }
}

/// How fast a content comes.
struct Pace<'a> {
    settings: &'a Settings,
    began: Instant,
    read: u64,
}

impl<'a> Pace<'a> {
    fn new(settings: &'a Settings) -> Self {
        Pace { settings, began: Instant::now(), read: 0 }
    }

    fn count(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// When the next byte is due.
    fn deadline(&self) -> Instant {
        let silent = Instant::now() + self.settings.content_timeout;
        match self.read.saturating_mul(1000).checked_div(u64::from(self.settings.content_rate)) {
            Some(earned) => silent.min(self.began + self.settings.content_grace + Duration::from_millis(earned)),
            None => silent,
        }
    }
}
