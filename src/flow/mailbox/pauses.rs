//! How long a mailbox rests after trouble, by how far the connection came that broke.
//!
//! The invariant: a server that gives something is asked again at once, whatever else breaks; one that gives nothing is asked
//! ever more seldom.

use std::time::Duration;

use super::{POLL, Trouble};
use crate::net::imap::Fault;

/// How far a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Got {
    /// Not into a folder.
    #[default]
    Nothing,
    /// Into one.
    Folder,
    /// Through all of them, where nothing was new.
    End,
    /// Mails or pieces of mails came that are kept until those before them come.
    Parts,
    /// A cursor was moved.
    Mails,
}

/// How long to wait after trouble: longer each time, and long from the first where trying again does not help.
#[derive(Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// `got` is how far the connection came that broke. Being let in is nothing: a server may break off with each fetch.
    pub(super) fn after(&mut self, trouble: &Trouble, got: Got) -> Duration {
        const FIRST: Duration = Duration::from_millis(500);
        const STUBBORN: Duration = Duration::from_secs(30);
        const LONGEST: Duration = Duration::from_secs(300);
        // One that bears no waiting is asked as often as one that knows none; one that breaks off with a mail is asked often
        // enough that the mail is found out.
        let (tries, longest) = match got {
            Got::Mails | Got::Parts => (0, LONGEST),
            Got::End => (self.0.saturating_add(1).min(6), POLL),
            Got::Folder => (self.0.saturating_add(1).min(7), Duration::from_secs(60)),
            Got::Nothing => (self.0.saturating_add(1).min(10), LONGEST),
        };
        self.0 = tries;
        let (first, longest) = match trouble.fault() {
            Fault::Auth | Fault::Tls | Fault::Mailbox => (STUBBORN, LONGEST),
            Fault::Network | Fault::Protocol | Fault::Limit => (FIRST, longest),
        };
        (first * 2_u32.saturating_pow(tries)).min(longest)
    }
}
