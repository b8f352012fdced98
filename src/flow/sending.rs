//! How sending does on each channel, for people and for monitoring: since when nothing gets out, why, and what helps.
//!
//! The stage of sends (9, the other way) tells of every try that was put off, and of every one that the other side answered.
//! The invariants: only channels that are configured have a row; what is told and logged are words of ours, without anything
//! of a customer, a message or a login, whatever the other side says; and a node that does not send knows nothing.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::base::Timestamp;
use crate::mail::oauth;
use crate::net::login::Login;
use crate::net::smtp::{Concern, Reason};
use crate::net::token_source::TokenFault;
use crate::net::{ClientError, Fault};

/// How many reasons of one hold-up are logged, each once: those of sends side by side may alternate.
const TOLD: usize = 8;

/// Why a try was put off, in words of ours, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    reason: String,
    help: &'static str,
}

/// What is known of a channel on which nothing gets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUp {
    /// Since when.
    pub since: Timestamp,
    /// How many tries were put off in a row.
    pub put_off: u64,
    /// When the last of them was.
    pub tried_at: Timestamp,
    /// Why it was put off.
    pub reason: String,
    /// What helps.
    pub help: &'static str,
}

/// The channels on which nothing gets out, as this node knows it.
#[derive(Default)]
pub struct Sending(Mutex<BTreeMap<String, Row>>);

struct Row {
    held_up: HeldUp,
    told: Vec<String>,
}

impl Sending {
    /// A try was put off, or refused as the next one will be. Gives whether that is news, which is logged.
    pub(crate) fn put_off(&self, channel: &str, at: Timestamp, cause: Cause) -> bool {
        let Cause { reason, help } = cause;
        let news = {
            let mut all = self.0.lock();
            let row = all.entry(channel.to_owned()).or_insert_with(|| Row {
                held_up: HeldUp { since: at, put_off: 0, tried_at: at, reason: String::new(), help },
                told: Vec::new(),
            });
            let news = row.told.len() < TOLD && !row.told.contains(&reason);
            if news {
                row.told.push(reason.clone());
            }
            let put_off = row.held_up.put_off.saturating_add(1);
            row.held_up = HeldUp { since: row.held_up.since, put_off, tried_at: at, reason: reason.clone(), help };
            news
        };
        if news {
            tracing::warn!(target: "segue::deliver", channel, reason = %reason, help, "sends do not come through");
        }
        news
    }

    /// The other side took a send, or refused it for good. Gives whether nothing got out before.
    pub(crate) fn came_through(&self, channel: &str) -> bool {
        let before = self.0.lock().remove(channel);
        if let Some(Row { held_up, .. }) = &before {
            let put_off = held_up.put_off;
            tracing::info!(target: "segue::deliver", channel, put_off, "sends come through again");
        }
        before.is_some()
    }

    /// Keeps what is known of these channels alone.
    pub(crate) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|channel, _| is_there(channel));
    }

    /// How a channel is held up; nothing if it is not, as far as this node knows.
    pub fn held_up(&self, channel: &str) -> Option<HeldUp> {
        self.0.lock().get(channel).map(|row| row.held_up.clone())
    }
}

impl Cause {
    /// The options of the channel do not do, as the words say, which are ours.
    pub(super) fn of_options(words: &str) -> Cause {
        Cause { reason: words.to_owned(), help: "see to what the reason says in the channel's options" }
    }

    /// There is no access token, as the words say, which are ours.
    pub(super) fn of_token(fault: &TokenFault) -> Cause {
        let help = match fault.kind {
            oauth::Kind::Temporary => "it is tried again",
            oauth::Kind::Permanent => "see to what the reason says; it is tried every 5 minutes",
        };
        Cause { reason: fault.words.clone(), help }
    }

    /// A file that goes along was not had. Its address is the message's, so it is not told.
    pub(super) fn of_file() -> Cause {
        Cause {
            reason: "a file that a message carries cannot be fetched".to_owned(),
            help: "see to the host of the help desk's files; it is tried again",
        }
    }

    /// A mail server took no mail of whom it was to let in by this login.
    pub(super) fn of_mail(reason: &Reason, login: Option<&Login>) -> Cause {
        let help = match reason.concern {
            Concern::Way => {
                "check `address`, `smtp_host` and `smtp_port`, and whether the server can be reached from here"
            }
            Concern::Privacy => {
                "check `smtp_host`, `smtp_port` and `smtp_security`, and `[outbound] roots` for a certificate of your own"
            }
            Concern::Login if login.is_none() => {
                "the server wants a login: set `smtp_login` to `yes`, with `smtp_user` and `smtp_password`; it is tried every \
                 5 minutes"
            }
            Concern::Login if matches!(login, Some(Login::Bearer { .. })) => {
                "check `smtp_user` and `oauth_scope`, and whether the app may send for this mailbox at the provider; it is \
                 tried every 5 minutes"
            }
            Concern::Login => {
                "check the user and the password that mails are sent with, or make a new app password; it is tried every \
                 5 minutes"
            }
            Concern::Sender => {
                "check whether the account may send as `address`, is suspended or has used up its quota; what the server \
                 refuses so is not sent again"
            }
            Concern::Server => "look into the log of the mail server, and at its limits; it is tried again",
        };
        Cause { reason: reason.plain.clone(), help }
    }

    /// A provider was not reached. The client's words name the host alone.
    pub(super) fn of_request(error: &ClientError) -> Cause {
        let help = match error.fault() {
            Fault::Refused(_) => "check the URL in the channel's options, and `[outbound] allow`",
            Fault::Tls => {
                "check the URL in the channel's options, and `[outbound] roots` for a certificate of your own"
            }
            _ => "check whether the provider can be reached from here; it is tried again",
        };
        Cause { reason: error.to_string(), help }
    }

    /// A provider asked to come later.
    pub(crate) fn of_answer(status: u16) -> Cause {
        Cause {
            reason: format!("the provider answered {status}"),
            help: "look at the provider's limits, and whether it has trouble; it is tried again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_hold_up_lasts_from_its_first_try_until_one_comes_through() {
        let sending = Sending::default();
        assert_eq!(sending.held_up("mail"), None);
        assert!(!sending.came_through("mail"), "nothing ends that did not begin");
        assert!(sending.put_off("mail", at(5), Cause::of_answer(503)), "it begins");
        assert!(!sending.put_off("mail", at(6), Cause::of_answer(503)), "the same again is no news");
        assert!(sending.put_off("mail", at(9), Cause::of_answer(429)), "another reason");
        assert!(!sending.put_off("mail", at(10), Cause::of_answer(503)), "one that was told");
        assert!(sending.put_off("other", at(10), Cause::of_answer(503)), "another channel");
        let held_up = sending.held_up("mail").unwrap();
        assert_eq!((held_up.since, held_up.put_off, held_up.tried_at), (at(5), 4, at(10)));
        assert_eq!(held_up.reason, "the provider answered 503");
        assert!(sending.came_through("mail") && !sending.came_through("mail"), "it ends once");
        assert_eq!((sending.held_up("mail"), sending.held_up("other").map(|one| one.put_off)), (None, Some(1)));
        assert!(sending.put_off("mail", at(20), Cause::of_answer(503)), "it begins anew");
        assert_eq!(sending.held_up("mail").map(|one| (one.since, one.put_off)), Some((at(20), 1)));
    }

    #[test]
    fn what_is_kept_and_logged_is_bounded() {
        let sending = Sending::default();
        let news = (100..600).filter(|status| sending.put_off("mail", at(0), Cause::of_answer(*status))).count();
        assert_eq!(news, TOLD);
        for number in 0..9 {
            sending.put_off(&format!("gone{number}"), at(0), Cause::of_file());
        }
        sending.keep(|channel| channel == "mail");
        assert_eq!(sending.0.lock().keys().collect::<Vec<_>>(), ["mail"]);
        sending.keep(|_| false);
        assert_eq!(sending.held_up("mail"), None);
    }
}
