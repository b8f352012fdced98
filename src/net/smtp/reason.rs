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
    /// Whether the account may send, and as whom.
    Sender,
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
    /// The same with the server's own words, or these alone, bounded and printable, and nothing of the account.
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
/// The step at which a server learns who sends, and how much, and nothing else of a mail.
pub(super) const MAIL: &str = "MAIL";
/// The same for a mail that nobody is to answer, as a machine's is. A server that refuses these may take all others.
pub(super) const MAIL_OF_NOBODY: &str = "MAIL without a sender";

/// The server said so. For 5xx to MAIL, RCPT, DATA or the mail see [`refused`].
pub(super) fn said(step: &'static str, reply: &Reply) -> Outcome {
    let again = if reply.code / 100 == 4 { reply.wait().map(Again::After) } else { None };
    Outcome::NotSent(again.unwrap_or(Again::Later), Reason::said(step, reply))
}

/// The server said 5xx to MAIL, RCPT, DATA or the mail.
pub(super) fn refused(step: &'static str, reply: &Reply) -> Outcome {
    let because = |concern| Reason { concern, ..Reason::said(step, reply) };
    let (code, enhanced) = (reply.code, reply.enhanced().map(str::to_owned));
    match code {
        // It wants a login (RFC 4954, section 6), which is nothing of the mail's.
        530 | 538 => Outcome::NotSent(Again::WhenMended, because(Concern::Login)),
        _ if step == MAIL && !is_about_size(reply) => {
            Outcome::Barred(code, enhanced, Reason { words: reply.reason(), ..because(Concern::Sender) })
        }
        _ => Outcome::Refused(code, enhanced, reply.reason()),
    }
}

/// Whether a mail is refused for its size, which MAIL tells.
fn is_about_size(reply: &Reply) -> bool {
    match reply.enhanced() {
        Some(enhanced) => matches!(enhanced, "5.2.3" | "5.3.4"),
        None => reply.code == 552,
    }
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
