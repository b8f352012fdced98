//! Sending a mail by SMTP submission (RFC 5321, RFC 6409) and telling truly what became of it.
//!
//! The invariant: [`Outcome::NotSent`], [`Outcome::Refused`] and [`Outcome::Barred`] mean that the server does not have the
//! mail, [`Outcome::Accepted`] that it said it has, and everything between is [`Outcome::Uncertain`]. The line between is the
//! moment in which the end of the mail is handed to the connection. Nothing of an account or a mail ever passes in
//! clear: TLS from the first byte, or STARTTLS before anything else. `lettre` speaks the protocol; it never sees a byte
//! of the server that `stream` did not pass, and each answer is judged here by its code, not by `lettre`'s errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::hello::{self, Features};
use super::reason::{MAIL, MAIL_OF_NOBODY, Reason, cut, lost, refused, said, silent};
use super::reply::Reply;
use super::stream::{Seen, Stream};
use crate::net::login::{Login, Security};

/// Mails over one connection; then it is closed.
const MOST_MAILS: u32 = 100;
/// The slowest server that is waited for while the mail goes out, in bytes a second.
const SLOWEST: u64 = 1024;
/// Further seconds of patience behind the end of the mail for each mebibyte, in which servers look for spam and
/// viruses.
const SCAN_SECONDS: u64 = 180;

/// How long each step may take; the defaults are those of RFC 5321, section 4.5.3.2.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// The TLS handshake.
    pub tls: Duration,
    /// Greeting, EHLO and STARTTLS, once before TLS and once within.
    pub hello: Duration,
    /// The whole login.
    pub login: Duration,
    /// The answer to MAIL or to one RCPT.
    pub command: Duration,
    /// The answer to DATA.
    pub data: Duration,
    /// How long a mail may stand still while it is sent.
    pub body: Duration,
    /// The answer behind the end of the mail, without what its size adds.
    pub dot: Duration,
    /// The answer to RSET before a connection is used again, and to QUIT.
    pub reuse: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Deadlines {
            tls: Duration::from_secs(30),
            hello: minutes(5),
            login: minutes(2),
            command: minutes(5),
            data: minutes(2),
            body: minutes(3),
            dot: minutes(10),
            reuse: Duration::from_secs(5),
        }
    }
}

/// A server and an account there.
#[derive(Debug, Clone)]
pub struct Server {
    /// The host's name, which its certificate must bear.
    pub host: String,
    /// TLS at once or by STARTTLS.
    pub security: Security,
    /// Roots and versions; no ALPN.
    pub tls: Arc<ClientConfig>,
    /// What EHLO says: the gateway's own domain.
    pub hello: String,
    /// The account; none for a relay that knows us by our address.
    pub login: Option<Login>,
    /// Patience.
    pub deadlines: Deadlines,
}

/// From and to whom a mail goes, as MAIL and RCPT say it: ASCII addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where bounces go; none is `<>`, for notices that must not bounce.
    pub from: Option<String>,
    /// The recipients.
    pub to: Vec<String>,
}

/// When another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After the usual time.
    Later,
    /// After the time that the server named.
    After(Duration),
    /// Not before somebody mends the account's settings: wrong password, no STARTTLS.
    WhenMended,
}

/// What became of the mail for one recipient. The reasons hold the server's words, bounded and printable, and nothing
/// of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken it; its words, which often name its own id for the mail.
    Accepted(String),
    /// The server does not have it.
    NotSent(Again, Reason),
    /// The server will not have it: code, enhanced code, reason.
    Refused(u16, Option<String>, String),
    /// The server will not have it from us, whoever it is to: code, enhanced code, and a reason whose words are its own.
    Barred(u16, Option<String>, Reason),
    /// Nobody knows. A second try must send the same bytes.
    Uncertain(String),
}

/// A connection that is ready to take mails.
pub struct Session {
    line: AsyncSmtpConnection,
    seen: Arc<Seen>,
    features: Features,
    deadlines: Deadlines,
    mails: u32,
    faulty: bool,
}

impl Session {
    /// Secures the connection, says EHLO and logs in.
    ///
    /// # Errors
    ///
    /// Why not, as an [`Outcome::NotSent`] that holds for every mail.
    pub async fn open(server: &Server, socket: TcpStream) -> Result<Session, Outcome> {
        let (stream, seen) = secure(server, socket).await?;
        Session::greet(server, stream, seen).await
    }

    /// A session over a stream that is private: the socket within TLS, or a script.
    async fn greet<S>(server: &Server, stream: Stream<S>, seen: Arc<Seen>) -> Result<Session, Outcome>
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        let client = ClientId::Domain(server.hello.clone());
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &client);
        let connected = timeout(server.deadlines.hello, connected).await;
        let reply = seen.take_reply();
        let (line, features) = match (connected, &reply) {
            (Ok(Ok(line)), Some(reply)) if reply.code / 100 == 2 => (line, Features::read(reply)),
            (_, Some(reply)) if reply.code / 100 != 2 => return Err(said("greeting and EHLO", reply)),
            (Err(_), _) => return Err(silent("greeting and EHLO")),
            _ => return Err(cut("greeting and EHLO")),
        };
        let mut session = Session { line, seen, features, deadlines: server.deadlines, mails: 0, faulty: false };
        if let Some(login) = &server.login {
            let asked = timeout(server.deadlines.login, hello::log_in(&mut session, login)).await;
            asked.map_err(|_| silent("AUTH"))??;
        }
        Ok(session)
    }

    /// A way in without TLS, for [`crate::fuzzing`] alone: the program has none.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn bare<S>(server: &Server, stream: S) -> Result<Session, Outcome>
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 25));
        let (stream, seen) = Stream::new(stream, peer, server.security == Security::StartTls);
        Session::greet(server, stream, seen).await
    }

    /// Sends one mail, whose lines end in CRLF, to all recipients. Gives the outcome for each, in their order.
    ///
    /// Must be driven to its end: who drops it on the way does not learn what became of the mail.
    pub async fn send(&mut self, envelope: &Envelope, mail: &[u8]) -> Vec<Outcome> {
        self.mails += 1;
        self.seen.begin();
        if let Err(outcome) = self.begin(envelope, mail).await {
            return vec![outcome; envelope.to.len()];
        }
        // None: the server takes this recipient.
        let mut fates = Vec::with_capacity(envelope.to.len());
        for address in &envelope.to {
            fates.push(self.recipient(address).await.err());
        }
        if fates.iter().all(Option::is_some) {
            return fates.into_iter().flatten().collect();
        }
        let outcome = match self.data().await {
            Ok(()) => self.contents(mail).await,
            Err(outcome) => outcome,
        };
        fates.into_iter().map(|fate| fate.unwrap_or_else(|| outcome.clone())).collect()
    }

    async fn begin(&mut self, envelope: &Envelope, mail: &[u8]) -> Result<(), Outcome> {
        let unfit = |code, enhanced: &str, reason: String| Outcome::Refused(code, Some(enhanced.to_owned()), reason);
        if !is_canonical(mail) {
            return Err(unfit(554, "5.6.0", "the mail has a line that does not end in CRLF".to_owned()));
        }
        if let Some(most) = self.features.size.filter(|most| mail.len() as u64 > *most) {
            return Err(unfit(552, "5.3.4", format!("the server takes mails of at most {most} bytes")));
        }
        let from = envelope.from.as_deref().unwrap_or_default();
        if !from.is_empty() && !is_path(from) {
            return Err(unfit(553, "5.1.7", "the sender is not an address".to_owned()));
        }
        let size = if self.features.has_size { format!(" SIZE={}", mail.len()) } else { String::new() };
        let step = if from.is_empty() { MAIL_OF_NOBODY } else { MAIL };
        let asked = self.ask(&format!("MAIL FROM:<{from}>{size}\r\n"), self.deadlines.command, step).await;
        asked.and_then(|reply| self.judge(step, &reply, |code| code / 100 == 2))
    }

    async fn recipient(&mut self, address: &str) -> Result<(), Outcome> {
        if !is_path(address) {
            return Err(Outcome::Refused(553, Some("5.1.3".to_owned()), "the recipient is not an address".to_owned()));
        }
        let asked = self.ask(&format!("RCPT TO:<{address}>\r\n"), self.deadlines.command, "RCPT").await;
        asked.and_then(|reply| self.judge("RCPT", &reply, |code| code / 100 == 2))
    }

    async fn data(&mut self) -> Result<(), Outcome> {
        let asked = self.ask("DATA\r\n", self.deadlines.data, "DATA").await;
        asked.and_then(|reply| self.judge("DATA", &reply, |code| code == 354))
    }

    /// Sends the mail itself.
    async fn contents(&mut self, mail: &[u8]) -> Outcome {
        let seen = Arc::clone(&self.seen);
        let in_time = self.hand_over(mail).await;
        match (seen.take_reply(), seen.ended()) {
            // The server spoke up while the mail came in; the end was not sent, so it does not have it.
            (Some(reply), false) => {
                let judged = self.judge("sending the mail", &reply, |_| false);
                self.fail(judged.err().unwrap_or_else(|| cut("sending the mail")))
            }
            (None, false) => self.fail(if in_time { cut("sending the mail") } else { silent("sending the mail") }),
            (Some(reply), true) if reply.code / 100 == 3 => self.uncertain("an answer that fits no mail"),
            (Some(reply), true) => match self.judge("the mail", &reply, |code| code / 100 == 2) {
                Ok(()) => Outcome::Accepted(reply.reason()),
                // It may have said so before the end came, and say something at the end once more.
                Err(outcome) => self.fail(outcome),
            },
            (None, true) if in_time => self.uncertain("no answer before the connection was lost"),
            (None, true) => self.uncertain("no answer in time"),
        }
    }

    /// Sends the mail and waits for what the server says; false if that took too long.
    async fn hand_over(&mut self, mail: &[u8]) -> bool {
        let Deadlines { body, dot, .. } = self.deadlines;
        let scan = Duration::from_secs(mail.len() as u64 * SCAN_SECONDS / (1 << 20));
        // `lettre` writes the line end before the final dot itself.
        let contents = mail.strip_suffix(b"\r\n").unwrap_or(mail);
        let mut sending = std::pin::pin!(self.line.message(contents));
        let mut before = 0;
        loop {
            if timeout(body, &mut sending).await.is_ok() {
                return true;
            }
            if self.seen.ended() {
                return timeout(dot + scan, &mut sending).await.is_ok();
            }
            let passed = self.seen.passed();
            if passed - before < (SLOWEST * body.as_secs()).max(1) {
                return false;
            }
            before = passed;
        }
    }

    fn uncertain(&mut self, what: &str) -> Outcome {
        self.fail(Outcome::Uncertain(format!("the whole mail was sent, and there was {what}")))
    }

    /// What a reply means; `wanted` are the codes with which it goes on.
    fn judge(&mut self, step: &'static str, reply: &Reply, wanted: fn(u16) -> bool) -> Result<(), Outcome> {
        // 421: the server is about to close the connection.
        self.faulty |= reply.code == 421;
        match reply.code / 100 {
            _ if wanted(reply.code) => Ok(()),
            4 => Err(said(step, reply)),
            5 => Err(refused(step, reply)),
            _ => Err(self.fail(said(step, reply))),
        }
    }

    /// Sends a command and waits for its reply, whatever that is.
    pub(super) async fn ask(&mut self, command: &str, within: Duration, step: &'static str) -> Result<Reply, Outcome> {
        if self.faulty {
            return Err(cut(step));
        }
        self.seen.take_reply();
        let asked = timeout(within, self.line.command(command)).await;
        match (self.seen.take_reply(), asked) {
            (Some(reply), _) => Ok(reply),
            (None, Ok(_)) => Err(self.fail(cut(step))),
            (None, Err(_)) => Err(self.fail(silent(step))),
        }
    }

    fn fail(&mut self, outcome: Outcome) -> Outcome {
        self.faulty = true;
        outcome
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Whether the connection may be kept for another mail.
    pub fn is_reusable(&self) -> bool {
        !self.faulty && self.mails < MOST_MAILS
    }

    /// Asks whether the connection still lives, and clears what the mail before left.
    pub async fn is_alive(&mut self) -> bool {
        let asked = self.ask("RSET\r\n", self.deadlines.reuse, "RSET").await;
        asked.is_ok_and(|reply| reply.code / 100 == 2)
    }

    /// Says goodbye, if there is still somebody to hear it.
    pub async fn quit(mut self) {
        let _ = self.ask("QUIT\r\n", self.deadlines.reuse, "QUIT").await;
    }
}

/// Puts TLS on the socket, behind STARTTLS where the account says so.
async fn secure(server: &Server, mut socket: TcpStream) -> Result<(Stream<TlsStream<TcpStream>>, Arc<Seen>), Outcome> {
    let wrong = |what| Outcome::NotSent(Again::WhenMended, Reason::new(what, "this is not a host name"));
    if server.hello.is_empty() || !server.hello.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("the name for EHLO"));
    }
    let name = ServerName::try_from(server.host.clone()).map_err(|_| wrong("the server's name"))?;
    let peer = socket.peer_addr().map_err(|error| lost("connecting", &error))?;
    let greeted = server.security == Security::StartTls;
    if greeted {
        let asked = timeout(server.deadlines.hello, hello::start_tls(&mut socket, &server.hello)).await;
        asked.map_err(|_| silent("STARTTLS"))??;
    }
    let secured = TlsConnector::from(Arc::clone(&server.tls)).connect(name, socket);
    let secured = timeout(server.deadlines.tls, secured).await.map_err(|_| silent("TLS"))?;
    Ok(Stream::new(secured.map_err(|error| lost("TLS", &error))?, peer, greeted))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("mails", &self.mails).field("faulty", &self.faulty).finish_non_exhaustive()
    }
}

/// An address that cannot end its command early.
fn is_path(address: &str) -> bool {
    let good = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>');
    address.len() <= 254 && address.contains('@') && address.bytes().all(good)
}

/// Whether there is no CR and no LF but in pairs. Servers disagree about where else a mail ends.
fn is_canonical(mail: &[u8]) -> bool {
    mail.split_inclusive(|byte| *byte == b'\n')
        .all(|line| line.strip_suffix(b"\r\n").is_some_and(|line| !line.contains(&b'\r')))
}
