//! How many mails a machine may send, and when mail is a storm (threats T11 and T26).
//!
//! Whether one mail may be answered by a machine at all stands in its fields ([`crate::model::Mail::no_auto_answer`]). Here is
//! what needs a memory: two machines that answer each other fall silent even where no field tells of them, and a flood of
//! mails brings about one story and no answers as long as it lasts. Counts are exact over a window that ends now, and never
//! more times are kept than a limit allows.

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
    /// noted: so much is let through in every window, however much is asked for.
    pub fn admit(&self, times: &mut Vec<Timestamp>, now: Timestamp) -> bool {
        times.retain(|at| now.since(*at) < self.within);
        let admitted = times.len() < self.most;
        if admitted {
            times.push(now);
        }
        admitted
    }

    /// Counts one more at `at` among `times`: gives whether it is one of too many. All are noted, of which the latest tell
    /// enough: what was too much stays too much until it calms down. Of two mailbox folders one may tell of times before
    /// those of the other.
    pub fn exceeded(&self, times: &mut Vec<Timestamp>, at: Timestamp) -> bool {
        times.retain(|known| at.since(*known).abs() < self.within);
        let exceeded = times.len() >= self.most;
        times.push(at);
        times.drain(..times.len().saturating_sub(self.most));
        exceeded
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

    /// A flood that lasts longer than the window is one storm, and a trickle after it is none.
    #[test]
    fn a_storm_lasts_until_it_calms_down() {
        let (mut times, mut now) = (Vec::new(), 0);
        let mut of_storm = |gap: i64, mails: usize| {
            let came = (0..mails).filter(|_| {
                now += gap;
                STORM.exceeded(&mut times, at(now))
            });
            came.count()
        };
        assert_eq!(of_storm(29_000, 1000), 980, "eight hours, at little more than is allowed");
        assert!(of_storm(31_000, 1000) < STORM.most, "at little less it calms down within the window");
        assert_eq!(of_storm(STORM.within, 100), 0);
        assert_eq!(of_storm(1, 100), 81, "one of the trickle is still within the window");
    }

    proptest! {
        #[test]
        fn no_window_holds_more(gaps in prop::collection::vec(0i64..200_000, 0..200)) {
            let (mut times, mut now, mut admitted) = (Vec::new(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                if TO_DOMAIN.admit(&mut times, at(now)) {
                    admitted.push(now);
                }
                prop_assert!(times.len() <= TO_DOMAIN.most);
            }
            for (place, begin) in admitted.iter().enumerate() {
                let held = admitted[place..].iter().take_while(|at| *at - begin < TO_DOMAIN.within).count();
                prop_assert!(held <= TO_DOMAIN.most);
            }
        }

        /// Whatever came before it, a mail is one of a storm if and only if too many came in the window before it, those of
        /// the storm among them.
        #[test]
        fn a_storm_is_what_has_too_many_before_it(gaps in prop::collection::vec(0i64..60_000, 0..300)) {
            let (mut times, mut now, mut came) = (Vec::new(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                let before = came.iter().filter(|at| now - **at < STORM.within).count();
                prop_assert_eq!(STORM.exceeded(&mut times, at(now)), before >= STORM.most);
                prop_assert!(times.len() <= STORM.most);
                came.push(now);
            }
        }
    }
}
