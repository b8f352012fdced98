//! What a person has to see to, in words.

use jiff::Timestamp;

use super::state::State;
use crate::mail::oauth::{Grant, Kind};

/// What an [`Alarm`] is about, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The endpoint refuses for good: somebody has to sign in again or change the settings.
    Refused,
    /// A new refresh token could not be stored and is in memory only.
    NotStored,
    /// Renewing fails again and again.
    Failing,
    /// The mail server refuses tokens that are new.
    Rejected,
    /// The refresh token, the permission behind it or the client secret ends soon, or has ended.
    EndsSoon,
}

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about.
    pub what: What,
    /// Until when mail comes and goes without anybody doing something, in seconds since 1970, where that is known. It
    /// may have passed.
    pub until: Option<u64>,
    /// What is wrong, until when it does no harm and what to do, in plain words without secrets and personal data.
    pub words: String,
}

/// How long before an end a person is told, in seconds: seven days.
const AHEAD: u64 = 7 * 86_400;
/// Temporary failures in a row that no person is troubled with.
const NO_TROUBLE: u32 = 1;

impl State {
    /// The most pressing matter at `now`.
    pub(super) fn alarm(&self, now: u64) -> Option<Alarm> {
        self.failed(now).or_else(|| self.rejected()).or_else(|| self.ends_soon(now))
    }

    fn failed(&self, now: u64) -> Option<Alarm> {
        let failure = self.failure.as_ref()?;
        let what = match failure.refused.kind {
            Kind::Permanent => What::Refused,
            Kind::Temporary if failure.unsaved => What::NotStored,
            // Without a token at hand the first failure already stops the mail.
            Kind::Temporary if failure.tries > NO_TROUBLE || self.alive(now).is_none() => What::Failing,
            Kind::Temporary => return None,
        };
        let until = self.held.as_ref().map(|held| held.expires_at);
        let so_far = match (self.alive(now), until) {
            (Some(held), _) => format!("mail comes and goes until {}", date(held.expires_at)),
            (None, Some(ended)) => format!("no mail comes or goes since {}", date(ended)),
            (None, None) => "no mail comes or goes".to_owned(),
        };
        let risk =
            if failure.unsaved { "; a restart before it is stored may make a new sign-in necessary" } else { "" };
        let words = format!("The access token cannot be renewed: {}; {so_far}{risk}.", failure.refused.words);
        Some(Alarm { what, until, words })
    }

    fn rejected(&self) -> Option<Alarm> {
        (self.rejected_new > 0).then(|| Alarm {
            what: What::Rejected,
            until: None,
            words: "The mail server refuses access tokens that are new: check that the scope is for mail, that the \
                    app may open this mailbox, and that IMAP and SMTP are switched on for it."
                .to_owned(),
        })
    }

    fn ends_soon(&self, now: u64) -> Option<Alarm> {
        const SIGN_IN: &str = "sign in again and configure the new refresh token before";
        const SECRET: &str = "make a new one in the app's registration and configure it before";
        let by_token = matches!(self.settings.grant, Grant::RefreshToken { .. });
        let refresh =
            self.refresh_end.filter(|end| by_token && !end.slides).map(|end| (end.at, "refresh token", SIGN_IN));
        let uses_secret = !matches!(self.settings.grant, Grant::ServiceAccount { .. });
        let secret = self.settings.secret_expires.filter(|_| uses_secret).map(|at| (at, "client secret", SECRET));
        let first = [refresh, secret].into_iter().flatten().min_by_key(|(at, ..)| *at);
        let (at, name, remedy) = first.filter(|(at, ..)| *at <= now.saturating_add(AHEAD))?;
        let words = if at > now {
            format!("The {name} ends at {}: {remedy}, or no mail comes and goes any more.", date(at))
        } else {
            format!("The {name} was to end at {}: {remedy} the access token ends, too.", date(at))
        };
        Some(Alarm { what: What::EndsSoon, until: Some(at), words })
    }
}

/// A point in time for people, in UTC.
fn date(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "a time far ahead".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
