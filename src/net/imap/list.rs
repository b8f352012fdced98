//! Which mails there are: UIDs, sizes and dates, window by window, without SEARCH.

use std::collections::BTreeMap;

use super::error::{Fault, ImapError};
use super::session::Session;
use super::wire::Answer;

/// Bytes that one mail's line may have.
const LINE: u64 = 512;
/// UIDs in one command.
pub(super) const WINDOW: u32 = 1000;

/// Mails that may lie in a range of UIDs that is looked at at once.
const MOST_IN_GAP: u32 = 50_000;

/// A mail that is in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its UID.
    pub uid: u32,
    /// Its size in bytes as the server announces it, which may be wrong; `None` if the server does not tell.
    pub size: Option<u32>,
    /// When the server took it (INTERNALDATE), if it says so in the form of RFC 3501.
    pub arrived: Option<jiff::Timestamp>,
}

/// What is asked about each mail of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Its size and date.
    All,
    /// Whether it is there, and nothing that may be told wrong.
    Uid,
}

impl Ask {
    fn items(self) -> &'static str {
        match self {
            Ask::All => "(UID RFC822.SIZE INTERNALDATE)",
            Ask::Uid => "(UID)",
        }
    }
}

impl Session {
    /// The mails with UIDs from `first` to `last`, at most 1,000 of them, in the order of their UIDs. UIDs that are
    /// missing are not in the folder. Where the server refuses a range it is cut in halves; a single mail that it refuses
    /// is listed without a size.
    ///
    /// # Errors
    ///
    /// Those of the connection; `Mailbox` if no folder is open.
    pub async fn list(&mut self, first: u32, last: u32, ask: Ask) -> Result<Vec<Listed>, ImapError> {
        if self.folder.is_none() {
            return Err(ImapError::mailbox("no folder is open"));
        }
        let last = last.min(first.saturating_add(WINDOW.saturating_sub(1)));
        let mut found = BTreeMap::new();
        let mut ranges = vec![(first.max(1), last)];
        while let Some((low, high)) = ranges.pop() {
            if low > high {
                continue;
            }
            match self.list_range((low, high), ask, &mut found).await {
                Ok(()) => {}
                Err(error) if error.fault() != Fault::Mailbox || self.is_broken() => return Err(error),
                Err(_) if low == high => {
                    found.insert(low, Listed { uid: low, size: None, arrived: None });
                }
                Err(_) => {
                    let middle = low.midpoint(high);
                    ranges.push((middle.saturating_add(1), high));
                    ranges.push((low, middle));
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The last UID of the stretch from `first` to `last` before which there is no mail: the UID before that of its first
    /// mail, or less, or `last` if there is none. A server may tell any next UID, and there may be gaps of any size: they
    /// are passed over with few commands, and never without the server's word that they are empty.
    ///
    /// # Errors
    ///
    /// Those of the connection; `Mailbox` if no folder is open.
    pub async fn empty_to(&mut self, first: u32, last: u32) -> Result<u32, ImapError> {
        // No more mails in an answer than responses may come.
        let widest = if self.exists <= MOST_IN_GAP { u32::MAX } else { MOST_IN_GAP };
        let (mut low, mut width) = (first.max(1), WINDOW);
        while low <= last {
            let high = last.min(low.saturating_add(width.saturating_sub(1)));
            match self.first_of_range(low, high).await {
                Ok(None) if high == u32::MAX => break,
                Ok(None) => (low, width) = (high.saturating_add(1), width.saturating_mul(8).min(widest)),
                Ok(Some(uid)) => return Ok(uid.saturating_sub(1)),
                Err(error) if error.fault() != Fault::Mailbox || self.is_broken() => return Err(error),
                Err(_) => return Ok(low.saturating_sub(1)),
            }
        }
        Ok(last)
    }

    async fn first_of_range(&mut self, low: u32, high: u32) -> Result<Option<u32>, ImapError> {
        if self.folder.is_none() {
            return Err(ImapError::mailbox("no folder is open"));
        }
        let most = high.saturating_sub(low).min(MOST_IN_GAP);
        let mut first: Option<u32> = None;
        let command = format!("UID FETCH {low}:{high} (UID)");
        let ended = self.run_with(&command, u64::from(most).saturating_mul(LINE), |answer| {
            if let Answer::Fetch(part) = answer
                && let Some(uid) = part.uid.filter(|uid| (low..=high).contains(uid))
            {
                first = Some(first.map_or(uid, |first| first.min(uid)));
            }
        });
        ended.await?;
        Ok(first)
    }

    async fn list_range(
        &mut self,
        (low, high): (u32, u32),
        ask: Ask,
        found: &mut BTreeMap<u32, Listed>,
    ) -> Result<(), ImapError> {
        let count = u64::from(high.saturating_sub(low)).saturating_add(1);
        let command = format!("UID FETCH {low}:{high} {}", ask.items());
        let mut seen = BTreeMap::new();
        let ended = self.run_with(&command, count.saturating_mul(LINE), |answer| {
            if let Answer::Fetch(part) = answer
                && let Some(uid) = part.uid.filter(|uid| (low..=high).contains(uid))
            {
                // What a server tells unasked, such as flags, names the mail as well, and not its size.
                let listed = seen.entry(uid).or_insert(Listed { uid, size: None, arrived: None });
                listed.size = part.size.or(listed.size);
                listed.arrived = part.date.as_deref().and_then(arrival).or(listed.arrived);
            }
        });
        ended.await?;
        found.append(&mut seen);
        Ok(())
    }
}

/// `date-time` of RFC 3501: ` 7-Jul-2026 02:44:25 -0700`.
fn arrival(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_standard() {
        let at = |text: &str| arrival(text).map(|at| at.to_string());
        assert_eq!(at("17-Jul-1996 02:44:25 -0700").as_deref(), Some("1996-07-17T09:44:25Z"));
        assert_eq!(at(" 7-Jul-2026 02:44:25 +0200").as_deref(), Some("2026-07-07T00:44:25Z"));
        assert_eq!(at("yesterday"), None);
    }
}
