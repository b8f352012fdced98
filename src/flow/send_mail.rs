//! Stage 9, the other way, for mail: what was planned becomes bytes, and the bytes leave by SMTP.
//!
//! Every try of one send makes the same mail with the same Message-ID and date, so that a mail whose fate nobody knows can be
//! known again wherever it turns up. The Message-ID, the address to answer to and the one that bounces come to carry tokens
//! ([`crate::mail::token`]): who shows one later answers this very mail.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::mail_login::Logins;
use super::mailbox::unreached;
use super::send::Tried;
use super::sending::Cause;
use crate::base::{Error, Kind, Result, Side, Timestamp};
use crate::connector::{Leaving, Submission};
use crate::mail::dkim_sign::{SigningKey, sign};
use crate::mail::oauth;
use crate::mail::token::{self, Link, TokenKey, VerifiedToken};
use crate::mail::write::{self, File, Letter, Mailbox};
use crate::model::entry::SendResult;
use crate::model::{Outbound, OutboundMail, OutboundPart};
use crate::net::client::{Client, Request};
use crate::net::login::Login;
use crate::net::smtp::{Again, Deadlines, Dial, Envelope, Outcome, Pool, Reason, Server};
use crate::net::token_source::TokenFault;
use crate::net::{Dialer, Fault};

/// Connections of one account at once.
const CONNECTIONS: usize = 4;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);
/// For how long a token in a mail of ours is good.
const ANSWERED_WITHIN: i64 = 400 * DAY;
/// For how long its bounce is.
const BOUNCED_WITHIN: i64 = 14 * DAY;
const DAY: i64 = 86_400_000;
/// Bytes of all files of one mail, before they are encoded.
const MOST_BYTES: usize = 20 << 20;
/// How many mails are at hand at once while their files are fetched and sent.
const WITH_FILES: usize = 2;
/// How long to wait where only a person can mend it, in milliseconds.
const WHEN_MENDED: u64 = 300_000;

/// Sends mails. Keeps the connections of each account for its next mail.
pub struct Mailer {
    client: Client,
    key: Arc<TokenKey>,
    logins: Arc<Logins>,
    outlets: Mutex<HashMap<String, Outlet>>,
    files: Semaphore,
}

/// The way out of one account, as its options and its login were when it was made.
#[derive(Clone)]
struct Outlet {
    submission: Submission,
    login: Option<Login>,
    pool: Arc<Pool>,
    signing: Option<Arc<SigningKey>>,
}

/// What a mail of ours is known by.
struct Stamp {
    message_id: String,
    reply_to: Option<String>,
    return_path: Option<String>,
}

impl Mailer {
    /// One that dials as `client` does, and marks mails by tokens under `key`.
    pub fn new(client: Client, key: Arc<TokenKey>, logins: Arc<Logins>) -> Arc<Mailer> {
        Arc::new(Mailer { client, key, logins, outlets: Mutex::default(), files: Semaphore::new(WITH_FILES) })
    }

    /// The ids that a message has once it is a mail, whether or not it was sent yet.
    pub(super) fn ids(&self, submission: &Submission, message: &Outbound) -> Vec<String> {
        let mail = message.mail.as_deref();
        mail.and_then(|mail| self.stamp(submission, message, mail)).map(|stamp| stamp.message_id).into_iter().collect()
    }

    /// Sends a message. `Uncertain` if nobody knows what became of it.
    pub(super) async fn send(
        &self,
        channel: &str,
        submission: &Submission,
        message: &Outbound,
        leaving: Leaving,
    ) -> Tried {
        let refused =
            |error: Error| Tried::Ended(SendResult::Refused { code: None, title: error.message().to_owned() });
        let mail = message.mail.as_deref();
        let Some((mail, stamp)) = mail.and_then(|mail| Some((mail, self.stamp(submission, message, mail)?))) else {
            return refused(Error::invalid("this message was not planned as a mail"));
        };
        let outlet = match self.outlet(channel, submission).await {
            Ok(outlet) => outlet,
            Err(none) => return none.tried(),
        };
        let many = if leaving.files.is_empty() { None } else { self.files.acquire().await.ok() };
        let Leaving { mut letter, files } = leaving;
        match self.fetched(&files).await {
            Ok(files) => letter.attachments = files,
            Err(tried) => return tried,
        }
        letter.message_id.clone_from(&stamp.message_id);
        letter.reply_to =
            stamp.reply_to.iter().map(|address| Mailbox { address: address.clone(), ..letter.from.clone() }).collect();
        let envelope =
            Envelope { from: stamp.return_path.clone(), to: letter.to.iter().map(|to| to.address.clone()).collect() };
        let bytes = match bytes(&letter, &outlet, mail.at) {
            Ok(bytes) => bytes,
            Err(error) => return refused(error),
        };
        drop((letter, files));
        let outcomes = self.hand_over(channel, &outlet, &envelope, &bytes).await;
        drop(many);
        tried(outcomes, stamp.message_id, &outlet)
    }

    /// Sends a letter that answers nobody, with its sender for a return address.
    ///
    /// # Errors
    ///
    /// Why the server did not take it.
    pub(super) async fn submit(
        &self,
        channel: &str,
        submission: &Submission,
        letter: &Letter,
        at: Timestamp,
    ) -> Result<()> {
        let outlet = self.outlet(channel, submission).await.map_err(NoOutlet::error)?;
        let bytes = bytes(letter, &outlet, at)?;
        let to = letter.to.iter().map(|to| to.address.clone()).collect();
        let envelope = Envelope { from: Some(letter.from.address.clone()), to };
        let unavailable = |reason: String| Error::new(Kind::Unavailable, reason).on_side(Side::Peer);
        match self.hand_over(channel, &outlet, &envelope, &bytes).await.into_iter().next() {
            Some(Outcome::Accepted(_)) => Ok(()),
            Some(Outcome::Refused(_, _, reason)) => Err(unavailable(format!("the server refused: {reason}"))),
            Some(Outcome::Barred(_, _, reason)) => Err(unavailable(format!("the server refused: {}", reason.words))),
            Some(Outcome::NotSent(_, reason)) => Err(unavailable(reason.words)),
            Some(Outcome::Uncertain(reason)) => Err(unavailable(reason)),
            None => Err(Error::internal("a letter without a recipient")),
        }
    }

    async fn hand_over(&self, channel: &str, outlet: &Outlet, envelope: &Envelope, bytes: &[u8]) -> Vec<Outcome> {
        let outcomes = outlet.pool.send(envelope, bytes).await;
        if let ([Outcome::NotSent(Again::WhenMended, _), ..], Some(login)) = (outcomes.as_slice(), &outlet.login) {
            self.logins.refused(channel, login);
        }
        outcomes
    }

    /// What the mail is known by; nothing if our own address is none.
    fn stamp(&self, submission: &Submission, message: &Outbound, mail: &OutboundMail) -> Option<Stamp> {
        let (_, domain) = submission.address.rsplit_once('@')?;
        let to = message.to.as_ref()?.value.expose();
        let link = Link {
            conversation: *mail.conversation.as_bytes(),
            participant: token::participant(to),
            last_day: day_of(mail.at.plus_millis(ANSWERED_WITHIN)),
        };
        let send = message.id.as_bytes();
        let id = token::message_id(&self.key, domain, &link, send);
        let base = submission.reply_base.as_deref();
        let bounces = day_of(mail.at.plus_millis(BOUNCED_WITHIN));
        let return_path = base.and_then(|base| token::bounce_address(&self.key, base, send, bounces));
        Some(Stamp {
            message_id: id.trim_matches(['<', '>']).to_owned(),
            reply_to: base.and_then(|base| token::reply_address(&self.key, base, &link)),
            // What a program wrote is not worth a bounce, and must not be answered by another (RFC 3834, section 3.3).
            return_path: (!mail.automatic).then(|| return_path.unwrap_or_else(|| submission.address.clone())),
        })
    }

    /// The way out of an account; a new one if its options changed.
    async fn outlet(&self, channel: &str, submission: &Submission) -> std::result::Result<Outlet, NoOutlet> {
        let login = match &submission.login {
            Some(credentials) => Some(self.logins.login(channel, credentials).await.map_err(NoOutlet::Token)?),
            None => None,
        };
        let same = |known: &&Outlet| known.submission == *submission && known.login == login;
        let known = self.outlets.lock().get(channel).filter(same).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let dialer = self.client.dialer();
        let host = url::Host::parse(&submission.host).map_err(|_| Error::config("`smtp_host` is no name of a host"))?;
        let signing = match &submission.dkim {
            Some(dkim) => Some(Arc::new(SigningKey::from_pem(dkim.key.expose()).map_err(|fault| {
                Error::config(format!("`dkim_key` of channel `{channel}` cannot be used: {fault}"))
            })?)),
            None => None,
        };
        let server = Server {
            host: submission.host.clone(),
            security: submission.security,
            tls: dialer.tls().await?,
            hello: submission.address.rsplit_once('@').map(|(_, domain)| domain.to_owned()).unwrap_or_default(),
            login: login.clone(),
            deadlines: Deadlines::default(),
        };
        let dial = Dialing { dialer, host, port: submission.port };
        let pool = Pool::new(server, Box::new(dial), CONNECTIONS);
        let outlet = Outlet { submission: submission.clone(), login, pool, signing };
        self.outlets.lock().insert(channel.to_owned(), outlet.clone());
        Ok(outlet)
    }

    /// The files that go along, from where their URLs say.
    async fn fetched(&self, files: &[OutboundPart]) -> std::result::Result<Vec<File>, Tried> {
        let mut fetched = Vec::with_capacity(files.len());
        let mut left = MOST_BYTES;
        for (at, file) in files.iter().enumerate() {
            let Some(url) = file.url.as_ref() else { continue };
            let what = |reason: String| format!("file {} of {}: {reason}", at + 1, files.len());
            let refused = |reason| Tried::Ended(SendResult::Refused { code: None, title: what(reason) });
            let later = |reason| Tried::NotSent { reason: what(reason), after_ms: None, cause: Cause::of_file() };
            let response = match self.client.send(Request::get(url.expose()).response_bytes(left)).await {
                Ok(response) => response,
                Err(error) => {
                    return Err(match error.fault() {
                        Fault::TooLarge => refused("it is too large for a mail".to_owned()),
                        Fault::Refused(_) => refused(error.to_string()),
                        _ => later(error.to_string()),
                    });
                }
            };
            match response.status.as_u16() {
                200..=299 => {}
                status @ (408 | 425 | 429 | 500..) => return Err(later(format!("its host answered {status}"))),
                status => return Err(refused(format!("its host answered {status}"))),
            }
            left = left.saturating_sub(response.body.len());
            let said = response.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            fetched.push(File {
                filename: name_of(url.expose()),
                media_type: said.unwrap_or("application/octet-stream").split(';').next().unwrap_or_default().to_owned(),
                content_id: None,
                bytes: response.body.to_vec(),
            });
        }
        Ok(fetched)
    }
}

/// The name of a file by its URL.
fn name_of(url: &str) -> String {
    let last = url::Url::parse(url).ok().and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
    let last = last.map(|last| percent_encoding::percent_decode_str(&last).decode_utf8_lossy().into_owned());
    last.filter(|name| !name.is_empty()).unwrap_or_else(|| "file".to_owned())
}

/// Whether servers may still try at `at` to deliver the mail that a token stands in. One in a Message-ID is good for longer
/// than they try, since people answer late.
pub(super) fn may_still_bounce(token: &VerifiedToken, at: Timestamp) -> bool {
    let good_for = if token.kind() == token::Kind::BounceAddress { BOUNCED_WITHIN } else { ANSWERED_WITHIN };
    i64::from(day_of(at)) <= i64::from(token.last_day()) + (BOUNCED_WITHIN - good_for) / DAY
}

fn day_of(at: Timestamp) -> u16 {
    u16::try_from(at.millis() / DAY).unwrap_or(u16::MAX)
}

/// The mail as it goes over the wire, signed where the account signs.
fn bytes(letter: &Letter, outlet: &Outlet, at: Timestamp) -> Result<Vec<u8>> {
    let mail = write::write(letter).map_err(|fault| Error::invalid(fault.to_string()))?;
    let (Some(dkim), Some(key)) = (&outlet.submission.dkim, &outlet.signing) else { return Ok(mail) };
    let time = u64::try_from(at.seconds()).unwrap_or_default();
    let field = sign(&mail, key, &dkim.domain, &dkim.selector, time)
        .map_err(|fault| Error::invalid(format!("the mail cannot be signed: {fault}")))?;
    Ok([field.as_bytes(), &mail].concat())
}

/// Why there is no way out of an account now.
enum NoOutlet {
    /// The options do not do.
    Options(Error),
    /// There is no access token to log in with.
    Token(TokenFault),
}

impl From<Error> for NoOutlet {
    fn from(error: Error) -> Self {
        NoOutlet::Options(error)
    }
}

impl NoOutlet {
    fn error(self) -> Error {
        match self {
            NoOutlet::Options(error) => error,
            NoOutlet::Token(fault) => Error::new(Kind::Unavailable, fault.words).on_side(Side::Peer),
        }
    }

    fn tried(self) -> Tried {
        let (cause, passes) = match &self {
            NoOutlet::Options(error) => (Cause::of_options(error.message()), false),
            NoOutlet::Token(fault) => (Cause::of_token(fault), fault.kind == oauth::Kind::Temporary),
        };
        let after_ms = if passes { None } else { Some(WHEN_MENDED) };
        Tried::NotSent { reason: self.error().message().to_owned(), after_ms, cause }
    }
}

/// What became of a mail to one recipient.
fn tried(outcomes: Vec<Outcome>, message_id: String, outlet: &Outlet) -> Tried {
    let provider_ids = vec![message_id];
    let refused = |code: u16, enhanced: Option<String>, title| {
        let code = Some(enhanced.unwrap_or_else(|| code.to_string()));
        SendResult::Refused { code, title }
    };
    let cause = |reason: &Reason| Cause::of_mail(reason, outlet.login.as_ref());
    match outcomes.into_iter().next() {
        Some(Outcome::Accepted(_)) => Tried::Ended(SendResult::Accepted { provider_ids }),
        Some(Outcome::Refused(code, enhanced, title)) => Tried::Ended(refused(code, enhanced, title)),
        Some(Outcome::Barred(code, enhanced, reason)) => {
            Tried::Barred { cause: cause(&reason), result: refused(code, enhanced, reason.words) }
        }
        Some(Outcome::NotSent(again, reason)) => Tried::NotSent {
            cause: cause(&reason),
            reason: reason.words,
            after_ms: match again {
                Again::Later => None,
                Again::After(wait) => u64::try_from(wait.as_millis()).ok(),
                Again::WhenMended => Some(WHEN_MENDED),
            },
        },
        Some(Outcome::Uncertain(title)) => Tried::Ended(SendResult::Uncertain { title, provider_ids }),
        None => Tried::Ended(SendResult::Refused { code: None, title: "the mail has no recipient".to_owned() }),
    }
}

/// Connections to one server, through the one dialer.
struct Dialing {
    dialer: Arc<Dialer>,
    host: url::Host<String>,
    port: u16,
}

impl Dial for Dialing {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        async move {
            let connected = self.dialer.connect(&self.host, self.port, (true, true), Instant::now() + CONNECT).await;
            connected.map_err(|error| io::Error::other(unreached(error).0))
        }
        .boxed()
    }
}
