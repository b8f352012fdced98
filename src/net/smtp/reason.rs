//! Why a server did not take a mail for now: in full for whoever sent the mail, and in plain words for those who keep the
//! gateway.
//!
//! The invariant: plain words are ours, with the step, the codes of a reply and what the system says of a connection. What a
//! server says, which may name people, and what stands in its certificate is in the full words alone.

use std::io;

use super::reply::Reply;
use super::session::{Again, Outcome};

/// What to look at so that mails are taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Our own name, the server's name and port, and the way there.
    Way,
    /// TLS, STARTTLS and certificates.
    Privacy,
    /// The account.
    Login,
    /// What the server makes of mails.
    Server,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it concerns.
    pub concern: Concern,
    /// Words of ours.
    pub plain: String,
    /// The same with the server's own words, bounded and printable, and nothing of the account.
    pub words: String,
}

impl Reason {
    /// One whose words are all ours.
    pub(super) fn new(step: &'static str, what: &str) -> Self {
        let words = format!("{step}: {what}");
        Reason { concern: concern(step), plain: words.clone(), words }
    }

    /// The server said so.
    pub(super) fn said(step: &'static str, reply: &Reply) -> Self {
        let enhanced = reply.enhanced().map(|code| format!(" {code}")).unwrap_or_default();
        Reason {
            concern: concern(step),
            plain: format!("{step}: the server answered {}{enhanced}", reply.code),
            words: format!("{step}: the server said {}", reply.reason()),
        }
    }
}

fn concern(step: &str) -> Concern {
    match step {
        CONNECTING | "the name for EHLO" | "the server's name" => Concern::Way,
        "TLS" | "STARTTLS" => Concern::Privacy,
        "AUTH" => Concern::Login,
        _ => Concern::Server,
    }
}

/// The step before the first byte.
pub(super) const CONNECTING: &str = "connecting";

/// The server said so. Never for 5xx to MAIL, RCPT, DATA or the mail.
pub(super) fn said(step: &'static str, reply: &Reply) -> Outcome {
    let again = if reply.code / 100 == 4 { reply.wait().map(Again::After) } else { None };
    Outcome::NotSent(again.unwrap_or(Again::Later), Reason::said(step, reply))
}

pub(super) fn silent(step: &'static str) -> Outcome {
    later(step, "the server did not answer in time")
}

pub(super) fn cut(step: &'static str) -> Outcome {
    later(step, "the connection was lost, or the answer was none")
}

pub(super) fn lost(step: &'static str, error: &io::Error) -> Outcome {
    let words = format!("{step}: {error}");
    Outcome::NotSent(Again::Later, Reason { words, ..Reason::new(step, "the connection failed") })
}

pub(super) fn later(step: &'static str, what: &str) -> Outcome {
    Outcome::NotSent(Again::Later, Reason::new(step, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_hold_codes_and_nothing_of_what_a_server_says() {
        let lines = vec!["5.7.8 ada@customer.example, 12 High Street: no".to_owned()];
        let reason = Reason::said("AUTH", &Reply { code: 535, lines });
        assert_eq!(reason.plain, "AUTH: the server answered 535 5.7.8");
        assert_eq!((reason.concern, reason.words.contains("High Street")), (Concern::Login, true));
        let Outcome::NotSent(_, reason) = lost("TLS", &io::Error::other("only valid for ada.example")) else {
            panic!()
        };
        assert_eq!((reason.plain.as_str(), reason.concern), ("TLS: the connection failed", Concern::Privacy));
        assert!(reason.words.contains("only valid for"));
    }
}
