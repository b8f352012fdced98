//! The SMTP server for submission (RFC 5321, RFC 6409, RFC 4954): nothing without a login, everything to the sent mails.
//!
//! The invariant: 250 behind a mail's end means that it is kept as it was sent, and to whom. A mail with a line that does
//! not end in CRLF or is too long is refused, since servers disagree about where such a mail ends.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::lines::Lines;
use super::{STRIKES, SentMail, Shared};

/// Bytes of a mail.
const LARGEST: usize = 2 << 20;
/// Bytes of a mail's line with its end (RFC 5321, section 4.5.3.1.6).
const LINE: usize = 1000;
/// Recipients of a mail, and bytes of an address.
const RECIPIENTS: usize = 100;
const ADDRESS: usize = 254;

const NOT_NOW: &str = "503 5.5.1 not now";

/// Serves a connection to its end.
///
/// # Errors
///
/// Those of the connection; `InvalidData` if what comes cannot even be refused.
pub(super) async fn serve<S>(lines: &mut Lines<S>, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    lines.say("220 localhost ESMTP the postbox of segue demo").await?;
    let mut session = Session { lines, shared, greeted: false, admitted: false, strikes: 0, mail: None };
    loop {
        let line = session.lines.line().await?;
        let reply = match line.split_once(' ').unwrap_or((&line, "")) {
            (verb, "") if verb.eq_ignore_ascii_case("QUIT") => return session.lines.say("221 2.0.0 goodbye").await,
            (verb, rest) => session.run(&verb.to_ascii_uppercase(), rest).await?,
        };
        session.lines.say(&reply).await?;
        if session.strikes >= STRIKES {
            return session.lines.say("421 4.7.0 too many wrong passwords").await;
        }
    }
}

struct Session<'a, S> {
    lines: &'a mut Lines<S>,
    shared: &'a Shared,
    greeted: bool,
    admitted: bool,
    strikes: u8,
    /// The mail at hand: its sender and the recipients so far.
    mail: Option<SentMail>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn run(&mut self, verb: &str, rest: &str) -> io::Result<String> {
        let reply = match (verb, rest) {
            ("EHLO" | "HELO", name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                (self.greeted, self.mail) = (true, None);
                let more = format!(
                    "-localhost\r\n250-SIZE {LARGEST}\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN"
                );
                return Ok(if verb == "EHLO" { format!("250{more}") } else { "250 localhost".to_owned() });
            }
            ("AUTH", _) if !self.greeted || self.admitted => NOT_NOW,
            ("AUTH", _) => self.auth(rest).await?,
            ("MAIL", _) if !self.greeted || self.mail.is_some() => NOT_NOW,
            ("MAIL", _) if !self.admitted => "530 5.7.0 not before the login",
            ("MAIL", _) => self.sender(rest),
            ("RCPT", _) => self.recipient(rest),
            ("DATA", "") => return self.data().await,
            ("RSET", "") => {
                self.mail = None;
                "250 2.0.0 forgotten"
            }
            ("NOOP", _) => "250 2.0.0 still here",
            ("EHLO" | "HELO" | "DATA" | "RSET" | "QUIT", _) => "501 5.5.4 not in this form",
            _ => "500 5.5.1 there is no such command",
        };
        Ok(reply.to_owned())
    }

    async fn auth(&mut self, rest: &str) -> io::Result<&'static str> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        if !mechanism.eq_ignore_ascii_case("PLAIN") {
            return Ok("504 5.5.4 there is PLAIN only");
        }
        let mut answer = initial.to_owned();
        if initial.is_empty() {
            self.lines.say("334 ").await?;
            answer = self.lines.line().await?;
        }
        if answer == "*" {
            return Ok("501 5.7.0 as you like");
        }
        self.admitted = self.shared.admits(answer.as_bytes());
        if self.admitted {
            self.lines.trust();
            return Ok("235 2.7.0 welcome");
        }
        self.strikes = self.strikes.saturating_add(1);
        Ok("535 5.7.8 wrong user or password")
    }

    fn sender(&mut self, rest: &str) -> &'static str {
        let Some((from, parameters)) = path("FROM:", rest) else { return "501 5.1.7 the sender is no address" };
        for parameter in parameters {
            let parameter = parameter.to_ascii_uppercase();
            match parameter.strip_prefix("SIZE=").map(str::parse::<usize>) {
                Some(Ok(size)) if size > LARGEST => return "552 5.3.4 the mail is too large",
                Some(Ok(_)) => {}
                None if matches!(parameter.as_str(), "BODY=7BIT" | "BODY=8BITMIME") => {}
                _ => return "555 5.5.4 a parameter is not known",
            }
        }
        self.mail = Some(SentMail { from: from.to_owned(), to: Vec::new(), raw: Vec::new() });
        "250 2.1.0 the sender is right"
    }

    fn recipient(&mut self, rest: &str) -> &'static str {
        match (&mut self.mail, path("TO:", rest)) {
            (None, _) => NOT_NOW,
            (_, None | Some(("", _))) => "501 5.1.3 the recipient is no address",
            (_, Some((_, parameters))) if !parameters.is_empty() => "555 5.5.4 a parameter is not known",
            (Some(mail), _) if mail.to.len() >= RECIPIENTS => "452 4.5.3 too many recipients",
            (Some(mail), Some((address, _))) => {
                mail.to.push(address.to_owned());
                "250 2.1.5 the recipient is right"
            }
        }
    }

    async fn data(&mut self) -> io::Result<String> {
        let Some(mut mail) = self.mail.take_if(|mail| !mail.to.is_empty()) else { return Ok(NOT_NOW.to_owned()) };
        self.lines.say("354 go on, a line with a dot ends it").await?;
        match self.contents(&mut mail.raw).await? {
            Some(refusal) => Ok(refusal.to_owned()),
            None => Ok(format!("250 2.0.0 taken as {}", self.shared.keep_sent(mail))),
        }
    }

    /// Reads a mail to its end, whatever is wrong with it; gives what is.
    async fn contents(&mut self, raw: &mut Vec<u8>) -> io::Result<Option<&'static str>> {
        let mut wrong = None;
        // The last two bytes that came: where a line begins, a dot has a meaning.
        let mut last = [b'\r', b'\n'];
        loop {
            let piece = self.lines.piece(LINE + 1).await?;
            let begins = last == *b"\r\n";
            if begins && piece == b".\r\n" {
                return Ok(wrong);
            }
            last = piece.iter().fold(last, |[_, before], byte| [before, *byte]);
            let text = piece.strip_prefix(b".").unwrap_or(&piece);
            let whole = text.strip_suffix(b"\r\n").is_some_and(|text| !text.contains(&b'\r'));
            if !begins || !whole || text.len() > LINE {
                wrong = wrong.or(Some("554 5.6.0 a line does not end in CRLF or is too long"));
            } else if raw.len().saturating_add(text.len()) > LARGEST {
                wrong = wrong.or(Some("552 5.3.4 the mail is too large"));
            } else if wrong.is_none() {
                raw.extend_from_slice(text);
            }
        }
    }
}

/// The address in `FROM:<a@b> PARAMETER ...` or the like, and the parameters.
fn path<'a>(keyword: &str, rest: &'a str) -> Option<(&'a str, Vec<&'a str>)> {
    let (found, rest) = rest.split_at_checked(keyword.len())?;
    let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
    let good = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'<';
    let right = address.is_empty() || (address.contains('@') && address.len() <= ADDRESS && address.bytes().all(good));
    let spaced = parameters.is_empty() || parameters.starts_with(' ');
    let parameters = parameters.split(' ').filter(|parameter| !parameter.is_empty()).collect();
    (found.eq_ignore_ascii_case(keyword) && right && spaced).then_some((address, parameters))
}
