//! What comes before the first mail: STARTTLS on the bare socket, what the server can, and the login.
//!
//! The invariant: on the bare socket nothing is said but EHLO and STARTTLS, and no byte that came before TLS is ever
//! taken for one that came within it. What is said of a failed login repeats no part of it.

use std::io;

use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::reason::{Reason, later, lost, said};
use super::reply::{Replies, Reply, printable};
use super::session::{Again, Outcome, Session};
use crate::net::login::{Login, hide_repeated};

/// What the answer to EHLO says, as far as we use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Whether mails may be announced with their size (RFC 1870).
    pub(super) has_size: bool,
    /// Bytes of the largest mail, if the server names them.
    pub(super) size: Option<u64>,
    start_tls: bool,
    plain: bool,
    login: bool,
    xoauth2: bool,
}

impl Features {
    pub(super) fn read(reply: &Reply) -> Self {
        let mut features = Features::default();
        // The first line is the server's name.
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // `AUTH=` is an old form that some servers still add.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => features.start_tls = true,
                Some("SIZE") => {
                    features.has_size = true;
                    features.size = words.next().and_then(|word| word.parse().ok()).filter(|most| *most > 0);
                }
                Some("AUTH") => words.for_each(|mechanism| match mechanism {
                    "PLAIN" => features.plain = true,
                    "LOGIN" => features.login = true,
                    "XOAUTH2" => features.xoauth2 = true,
                    _ => {}
                }),
                _ => {}
            }
        }
        features
    }
}

/// Waits for the greeting and asks for TLS. When this returns `Ok`, the next byte on the socket belongs to TLS.
pub(super) async fn start_tls<S>(socket: &mut S, hello: &str) -> Result<(), Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut replies = Replies::default();
    let greeting = exchange(socket, &mut replies, "").await.map_err(|error| lost("the greeting", &error))?;
    if greeting.code / 100 != 2 {
        return Err(said("the greeting", &greeting));
    }
    let ehlo = exchange(socket, &mut replies, &format!("EHLO {hello}\r\n")).await;
    let ehlo = ehlo.map_err(|error| lost("EHLO", &error))?;
    if ehlo.code / 100 != 2 {
        return Err(said("EHLO", &ehlo));
    }
    if !Features::read(&ehlo).start_tls {
        return Err(mend(Reason::new("STARTTLS", "the server does not offer it")));
    }
    let go = exchange(socket, &mut replies, "STARTTLS\r\n").await.map_err(|error| lost("STARTTLS", &error))?;
    match go.code {
        220 if replies.is_empty() => Ok(()),
        // Somebody on the way put them there to be read within TLS.
        220 => Err(later("STARTTLS", "bytes came behind the server's consent")),
        500.. => Err(mend(Reason::said("STARTTLS", &go))),
        _ => Err(said("STARTTLS", &go)),
    }
}

/// Sends a command, if there is one, and reads one reply.
async fn exchange<S>(socket: &mut S, replies: &mut Replies, command: &str) -> io::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !replies.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the server answered before it was asked"));
    }
    socket.write_all(command.as_bytes()).await?;
    let mut bytes = [0; 4096];
    loop {
        if let Some(reply) = replies.next()? {
            return Ok(reply);
        }
        match socket.read(&mut bytes).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => replies.push(bytes.get(..count).unwrap_or_default()),
        }
    }
}

/// Logs in, within TLS.
pub(super) async fn log_in(session: &mut Session, login: &Login) -> Result<(), Outcome> {
    let features = session.features();
    let (user, secret) = match login {
        Login::Password { user, password: secret } | Login::Bearer { user, token: secret } => {
            (user.as_str(), secret.as_str())
        }
    };
    let (mechanism, answers) = match login {
        Login::Bearer { .. } if features.xoauth2 => {
            ("XOAUTH2", vec![encoded(&format!("user={user}\x01auth=Bearer {secret}\x01\x01"))])
        }
        Login::Password { .. } if features.plain => ("PLAIN", vec![encoded(&format!("\0{user}\0{secret}"))]),
        Login::Password { .. } if features.login => ("LOGIN", vec![encoded(user), encoded(secret)]),
        _ => return Err(mend(Reason::new("AUTH", "the server offers no way to log in that fits the account"))),
    };
    let within = session.deadlines().login;
    // PLAIN and XOAUTH2 are said at once, LOGIN is asked for each piece.
    let initial = if mechanism == "LOGIN" { 0 } else { 1 };
    let first = answers.iter().take(initial).map(|answer| format!(" {}", answer.as_str())).collect::<String>();
    let mut reply = session.ask(&format!("AUTH {mechanism}{first}\r\n"), within, "AUTH").await?;
    // XOAUTH2 tells of a failure in a challenge, and gives the verdict when that is answered with nothing.
    for answer in answers.iter().skip(initial).map(|answer| answer.as_str()).chain([""]) {
        if reply.code != 334 {
            break;
        }
        reply = session.ask(&format!("{answer}\r\n"), within, "AUTH").await?;
    }
    hide(&mut reply, answers.iter().map(|answer| answer.as_str()).chain([printable(secret.as_bytes()).as_str()]));
    match reply.code / 100 {
        2 => Ok(()),
        5 => Err(mend(Reason::said("AUTH", &reply))),
        _ => Err(said("AUTH", &reply)),
    }
}

fn encoded(secret: &str) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(secret.as_bytes()))
}

/// Takes the lines out of a reply that repeat a part of what was sent.
fn hide<'a>(reply: &mut Reply, sent: impl Iterator<Item = &'a str>) {
    let sent: Vec<&str> = sent.collect();
    // More than any reason shows; what is compared must have a bound.
    reply.lines.truncate(8);
    reply.lines.iter_mut().for_each(|line| hide_repeated(line, &sent));
}

fn mend(reason: Reason) -> Outcome {
    Outcome::NotSent(Again::WhenMended, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(lines: &[&str]) -> Reply {
        Reply { code: 250, lines: lines.iter().map(|line| line.to_string()).collect() }
    }

    #[test]
    fn features_are_read_in_any_case() {
        let features = Features::read(&reply(&["SIZE 1", "size 1000", "StartTLS", "AUTH=plain LOGIN", "", "x"]));
        assert_eq!(features.size, Some(1000));
        assert!(features.start_tls && features.plain && features.login && !features.xoauth2);
        let features = Features::read(&reply(&["x", "SIZE 0"]));
        assert_eq!((features.has_size, features.size), (true, None));
    }

    #[test]
    fn lines_that_repeat_a_secret_are_left_out() {
        let mut failed = reply(&["5.7.8 bad login AHVzZXIAc2Vj", "with pass42word", "5.7.8 ask your admin", "pw:ab"]);
        hide(&mut failed, ["AHVzZXIAc2VjcmV0", "pass42word", "ab"].into_iter());
        assert_eq!(failed.lines, ["(left out)", "(left out)", "5.7.8 ask your admin", "(left out)"]);
    }
}
