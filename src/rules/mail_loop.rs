//! How many mails a machine may send, and when mail is a storm (threats T11 and T26).
//!
//! Whether one mail may be answered by a machine at all stands in its fields ([`crate::model::Mail::no_auto_answer`]). Here is
//! what needs a memory: two machines that answer each other fall silent even where no field tells of them, and a flood of
//! mails brings about one story and no answers. Counts are exact over a window that ends now.

use crate::base::Timestamp;

/// So many within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many are allowed.
    pub most: usize,
    /// In how many milliseconds.
    pub within: i64,
}

const HOUR: i64 = 3_600_000;

/// Automatic answers to one address: one a day.
pub const TO_ADDRESS: Limit = Limit { most: 1, within: 24 * HOUR };
/// Automatic answers to one domain.
pub const TO_DOMAIN: Limit = Limit { most: 5, within: HOUR };
/// Automatic answers from one mailbox.
pub const FROM_MAILBOX: Limit = Limit { most: 100, within: HOUR };
/// Automatic answers from all mailboxes.
pub const FROM_ALL: Limit = Limit { most: 500, within: HOUR };
/// Mails of one sender, or of one content: more than these are a storm.
pub const STORM: Limit = Limit { most: 20, within: 600_000 };

impl Limit {
    /// Counts one more at `now` among `times`, which rise: gives whether it is within the limit. Only what is within it is
    /// noted.
    pub fn admit(&self, times: &mut Vec<Timestamp>, now: Timestamp) -> bool {
        times.retain(|at| now.since(*at) < self.within);
        let admitted = times.len() < self.most;
        if admitted {
            times.push(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn one_a_day_is_one_a_day() {
        let mut times = Vec::new();
        let asked = [0, 1, HOUR, 24 * HOUR - 1, 24 * HOUR, 24 * HOUR + 1];
        let admitted: Vec<bool> = asked.iter().map(|millis| TO_ADDRESS.admit(&mut times, at(*millis))).collect();
        assert_eq!(admitted, [true, false, false, false, true, false]);
    }

    /// Two gateways with the same limit that answer whatever comes: each sends one.
    #[test]
    fn two_gateways_fall_silent() {
        let mut sent = [Vec::new(), Vec::new()];
        let answers = (0..100).take_while(|turn| TO_ADDRESS.admit(&mut sent[turn % 2], at(*turn as i64))).count();
        assert_eq!(answers, 2);
    }

    proptest! {
        #[test]
        fn no_window_holds_more(gaps in prop::collection::vec(0i64..200_000, 0..200)) {
            let (mut times, mut now, mut admitted) = (Vec::new(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                if STORM.admit(&mut times, at(now)) {
                    admitted.push(now);
                }
                prop_assert!(times.len() <= STORM.most);
            }
            for (place, begin) in admitted.iter().enumerate() {
                let held = admitted[place..].iter().take_while(|at| *at - begin < STORM.within).count();
                prop_assert!(held <= STORM.most);
            }
        }
    }
}
