//! What this server says: one line each, the code and the enhanced code first (RFC 5321, section 4.2, RFC 3463).
//!
//! No line repeats anything that a client sent.

use super::Verdict;

/// The most bytes of a verdict's own text in a reply, which is one line of at most 512 bytes (RFC 5321, section
/// 4.5.3.1.5).
const TEXT_MOST: usize = 400;

pub(super) const OK: &str = "250 2.0.0 fine";
pub(super) const SENDER_OK: &str = "250 2.1.0 go on";
pub(super) const RECIPIENT_OK: &str = "250 2.1.5 taken here";
pub(super) const TAKEN: &str = "250 2.0.0 stored";
pub(super) const BYE: &str = "221 2.0.0 goodbye";
pub(super) const HELP: &str = "214 2.0.0 this is LMTP, RFC 2033";
pub(super) const CANNOT_VERIFY: &str = "252 2.0.0 ask with RCPT";
pub(super) const TLS_READY: &str = "220 2.0.0 begin";
pub(super) const GO_AHEAD: &str = "354 end with a line that is one dot";

pub(super) const STOPPING: &str = "421 4.3.2 shutting down, come back later";
pub(super) const CROWDED: &str = "421 4.3.2 too many connections, come back later";
pub(super) const SILENT: &str = "421 4.4.2 too slow";
pub(super) const TOO_WRONG: &str = "421 4.7.0 too many mistakes";
pub(super) const TOO_MUCH: &str = "421 4.7.0 too many commands without a mail";
pub(super) const BROKEN: &str = "451 4.3.0 could not be stored, try again later";
pub(super) const NO_ROOM: &str = "452 4.3.1 no room for this mail now, try again later";
pub(super) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 too many recipients, send the others in another mail";

pub(super) const LONG: &str = "500 5.5.2 the line is too long";
pub(super) const BARE: &str = "500 5.5.2 a line must end with CR LF";
pub(super) const CONTROL: &str = "500 5.5.2 control character";
pub(super) const NOT_TEXT: &str = "500 5.5.2 not in UTF-8";
pub(super) const UNKNOWN: &str = "500 5.5.1 unknown command";
pub(super) const LHLO_WANTED: &str = "500 5.5.1 this is LMTP: begin with LHLO";
pub(super) const NAME_WANTED: &str = "501 5.5.4 say LHLO and your name";
pub(super) const NO_PARAMETER: &str = "501 5.5.4 this command has no parameter";
pub(super) const PATH_WANTED: &str = "501 5.5.4 an address in angle brackets is wanted";
pub(super) const BAD_PARAMETER: &str = "501 5.5.4 a parameter has a wrong value or stands there twice";
pub(super) const BAD_SENDER: &str = "501 5.1.7 not an address";
pub(super) const BAD_RECIPIENT: &str = "501 5.1.3 not an address";
pub(super) const NOT_OFFERED: &str = "502 5.5.1 not offered here";
pub(super) const LHLO_FIRST: &str = "503 5.5.1 say LHLO first";
pub(super) const MAIL_FIRST: &str = "503 5.5.1 say MAIL first";
pub(super) const MAIL_TWICE: &str = "503 5.5.1 a mail is open already";
pub(super) const RECIPIENT_FIRST: &str = "503 5.5.1 no recipient was accepted";
pub(super) const TLS_ALREADY: &str = "503 5.5.1 TLS is on already";
pub(super) const TLS_PIPELINED: &str = "503 5.5.1 nothing may follow STARTTLS before its answer";
pub(super) const UNKNOWN_RECIPIENT: &str = "550 5.1.1 no such recipient here";
pub(super) const TOO_BIG: &str = "552 5.3.4 the mail is too big";
pub(super) const UTF8_WANTED: &str = "553 5.6.7 this address needs SMTPUTF8";
pub(super) const FOREIGN: &str = "554 5.7.1 not for you";
pub(super) const UNKNOWN_PARAMETER: &str = "555 5.5.4 a parameter is not known";

/// The reply for a recipient.
pub(super) fn of(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Taken => TAKEN.to_owned(),
        Verdict::Later(why) => format!("451 4.3.0 {}", one_line(why)),
        Verdict::Refused(why) => format!("550 5.7.1 {}", one_line(why)),
    }
}

/// Printable ASCII, not too long: other characters need an agreement that a client may not have.
fn one_line(text: &str) -> String {
    text.chars().take(TEXT_MOST).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_line_of_ascii() {
        let text = "no\r\n250 2.0.0 ü".to_owned() + &"x".repeat(1000);
        let line = of(&Verdict::Refused(text.into()));
        assert!(line.starts_with("550 5.7.1 no??250 2.0.0 ?xxx"));
        assert!(line.len() < 510 && line.bytes().all(|b| (b' '..=b'~').contains(&b)));
        assert_eq!(of(&Verdict::Later("the disk is full".into())), "451 4.3.0 the disk is full");
        assert_eq!(of(&Verdict::Taken), TAKEN);
    }
}
