//! Commands out, responses in: the only place that knows which parser is in use.
//!
//! The parser is that of async-imap, over a [`Guard`]. Commands are written here and not by it, with tags of our own: it
//! would log credentials, and knows no pipelining. The invariants: a panic in the parser breaks this connection only; a
//! command of which a part was written is never followed by another; after an error nothing is sent or read any more.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_imap::Client;
use futures_util::FutureExt;
use imap_proto::{AttributeValue, MailboxDatum, Response, ResponseCode, Status};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::{ImapError, words};
use super::guard::Guard;
use super::secure::Times;
use super::tokens::Caps;

/// A byte stream to the server, plain or TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Duplex for S {}

/// Bytes that the server may send without a command.
const UNASKED: u64 = 256 << 10;
/// Bytes that every command's answers may have beside what the command asks for.
const ASIDE: u64 = 256 << 10;

/// A response, as far as this program uses it.
#[derive(Debug)]
pub(super) enum Answer {
    /// The end of the command with this number.
    Done(u64, Verdict, Outcome),
    /// The server waits for the rest of the command.
    Continue,
    /// The server closes the connection.
    Bye(String),
    /// Logged in already, which a greeting may say.
    PreAuth,
    /// A remark without a tag, or the greeting.
    Remark(Outcome),
    /// Mails in the folder now.
    Exists(u32),
    /// A mail is gone.
    Expunge,
    /// Data of a mail.
    Fetch(Part),
    /// What the server can do, in capitals.
    Capabilities(Vec<String>),
    /// Anything else.
    Other,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    No,
    Bad,
}

/// What goes with a status: a code and words.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) code: Code,
    pub(super) text: String,
}

/// The code of a status, as far as used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Code {
    #[default]
    None,
    UidValidity(u32),
    UidNext(u32),
    ReadOnly,
    /// Whether mails can be marked as deleted for good.
    PermanentFlags {
        deleted: bool,
    },
    TryCreate,
    Capabilities(Vec<String>),
    /// One that the parser does not know, in capitals.
    Named(String),
}

/// Data of one mail.
#[derive(Default)]
pub(super) struct Part {
    pub(super) uid: Option<u32>,
    pub(super) size: Option<u32>,
    pub(super) date: Option<String>,
    pub(super) flags: Option<Vec<String>>,
    pub(super) body: Option<Body>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("uid", &self.uid).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A mail, or a piece of it.
pub(super) struct Body {
    /// Where the piece begins; `None` if it is the whole.
    pub(super) offset: Option<u32>,
    /// `None` if the server has no content for it.
    pub(super) bytes: Option<Vec<u8>>,
}

/// A connection.
pub(super) struct Wire {
    client: Client<Guard<Box<dyn Duplex>>>,
    times: Times,
    tag: u64,
    /// The numbers of the commands without an end yet, and the bytes granted to each.
    open: Vec<(u64, u64)>,
    /// Time that the present command has left.
    left: Duration,
    broken: bool,
    /// A command is open that takes no other beside it: IDLE.
    held: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("open", &self.open.len()).field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Duplex>, caps: Caps, times: Times) -> Self {
        let mut guard = Guard::new(stream, caps);
        guard.rest(UNASKED);
        let left = times.command;
        Wire { client: Client::new(guard), times, tag: 0, open: Vec::new(), left, broken: false, held: false }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Makes the connection unusable.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }

    /// From now on, or until now, the open command takes no other beside it. If its future is dropped in between, nothing
    /// can be sent any more.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Sends a command whose answers hold at most `bytes` of mail data; gives its number.
    pub(super) async fn send(&mut self, command: &str, bytes: u64) -> Result<u64, ImapError> {
        self.broken |= self.held;
        if self.open.is_empty() {
            self.client.get_mut().rest(UNASKED);
            self.left = self.times.command;
        }
        self.tag = self.tag.saturating_add(1);
        let bytes = bytes.saturating_add(ASIDE);
        self.client.get_mut().grant(bytes);
        self.write(&Zeroizing::new(format!("S{} {command}", self.tag))).await?;
        self.open.push((self.tag, bytes));
        Ok(self.tag)
    }

    /// Sends a line that goes on with the open command.
    pub(super) async fn send_line(&mut self, line: &str) -> Result<(), ImapError> {
        self.write(line).await
    }

    async fn write(&mut self, line: &str) -> Result<(), ImapError> {
        if self.broken {
            return Err(ImapError::network("the connection is broken"));
        }
        if line.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ImapError::protocol("a command with a line end in it is not sent"));
        }
        // Stays so if this future is dropped while a part is written.
        self.broken = true;
        let guard = self.client.get_mut();
        guard.wait(self.times.quiet, self.times.command);
        // A command may hold a password.
        let line = Zeroizing::new(format!("{line}\r\n"));
        let written = async {
            guard.write_all(line.as_bytes()).await?;
            guard.flush().await
        };
        written.await.map_err(|error| ImapError::of_stream(&error))?;
        self.broken = false;
        Ok(())
    }

    /// The next response. May be dropped while it waits.
    pub(super) async fn receive(&mut self) -> Result<Answer, ImapError> {
        let (quiet, whole) = (self.times.quiet, self.left);
        let began = Instant::now();
        let answer = self.receive_within(quiet, whole).await?;
        self.left = self.left.saturating_sub(began.elapsed());
        Ok(answer)
    }

    /// As [`Wire::receive`], with times of its own.
    pub(super) async fn receive_within(&mut self, quiet: Duration, whole: Duration) -> Result<Answer, ImapError> {
        if self.broken {
            return Err(ImapError::network("the connection is broken"));
        }
        self.client.get_mut().wait(quiet, whole);
        let answer = match AssertUnwindSafe(self.client.read_response()).catch_unwind().await {
            Ok(Ok(Some(data))) => Ok(answer(data.parsed())),
            Ok(Ok(None)) => Err(ImapError::network("the server closed the connection")),
            Ok(Err(error)) => Err(ImapError::of_stream(&error)),
            Err(_) => Err(ImapError::protocol("the server sent what the parser cannot bear")),
        };
        self.broken = answer.is_err();
        if let Ok(Answer::Done(ended, ..)) = answer {
            self.end(ended);
        }
        answer
    }

    /// A command ended: what it did not use of its grant is void, the next one has all its time.
    fn end(&mut self, ended: u64) {
        self.open.retain(|(tag, _)| *tag != ended);
        let granted = self.open.iter().fold(UNASKED, |sum, (_, bytes)| sum.saturating_add(*bytes));
        self.client.get_mut().grant_at_most(granted);
        self.left = self.times.command;
    }
}

fn answer(response: &Response<'_>) -> Answer {
    match response {
        Response::Done { tag, status, outcome } => match (number(&tag.0), status) {
            (Some(tag), Status::Ok) => Answer::Done(tag, Verdict::Ok, read(outcome)),
            (Some(tag), Status::No) => Answer::Done(tag, Verdict::No, read(outcome)),
            (Some(tag), Status::Bad) => Answer::Done(tag, Verdict::Bad, read(outcome)),
            _ => Answer::Other,
        },
        Response::Data { status: Status::Bye, outcome } => Answer::Bye(read(outcome).text),
        Response::Data { status: Status::PreAuth, .. } => Answer::PreAuth,
        Response::Data { outcome, .. } => remark(outcome),
        Response::Continue(_) => Answer::Continue,
        Response::MailboxData(MailboxDatum::Exists(count)) => Answer::Exists(*count),
        Response::Expunge(_) => Answer::Expunge,
        Response::Fetch(_, attributes) => Answer::Fetch(part(attributes)),
        _ => Answer::Other,
    }
}

fn number(tag: &str) -> Option<u64> {
    tag.strip_prefix('S')?.parse().ok()
}

/// The guard makes a list of capabilities a remark of this form.
fn remark(outcome: &imap_proto::Outcome<'_>) -> Answer {
    let text = outcome.information.as_deref().unwrap_or_default();
    match text.strip_prefix("CAPABILITY") {
        Some(all) if outcome.code.is_none() => Answer::Capabilities(capabilities(all)),
        _ => Answer::Remark(read(outcome)),
    }
}

fn read(outcome: &imap_proto::Outcome<'_>) -> Outcome {
    let text = outcome.information.as_deref().unwrap_or_default();
    let code = match &outcome.code {
        Some(ResponseCode::UidValidity(value)) => Code::UidValidity(*value),
        Some(ResponseCode::UidNext(value)) => Code::UidNext(*value),
        Some(ResponseCode::ReadOnly) => Code::ReadOnly,
        Some(ResponseCode::PermanentFlags(all)) => {
            Code::PermanentFlags { deleted: all.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted")) }
        }
        Some(ResponseCode::TryCreate) => Code::TryCreate,
        Some(ResponseCode::Capabilities(all)) => Code::Capabilities(all.iter().map(name).collect()),
        Some(_) => Code::None,
        None => named(text),
    };
    Outcome { code, text: words(text) }
}

/// A code that the parser does not know, or not in this form.
fn named(text: &str) -> Code {
    let Some((code, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return Code::None };
    let (name, rest) = code.split_once(' ').unwrap_or((code, ""));
    match words(name).to_ascii_uppercase() {
        name if name == "CAPABILITY" => Code::Capabilities(capabilities(rest)),
        name => Code::Named(name),
    }
}

fn capabilities(all: &str) -> Vec<String> {
    all.split_ascii_whitespace().take(200).map(|one| words(one).to_ascii_uppercase()).collect()
}

fn name(one: &imap_proto::Capability<'_>) -> String {
    match one {
        imap_proto::Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
        imap_proto::Capability::Auth(how) => format!("AUTH={}", words(how).to_ascii_uppercase()),
        imap_proto::Capability::Atom(name) => words(name).to_ascii_uppercase(),
    }
}

fn part(attributes: &[AttributeValue<'_>]) -> Part {
    let mut part = Part::default();
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(uid) => part.uid = Some(*uid),
            AttributeValue::Rfc822Size(size) => part.size = Some(*size),
            AttributeValue::InternalDate(date) => part.date = Some(words(date)),
            AttributeValue::Flags(flags) => part.flags = Some(flags.iter().take(100).map(|flag| words(flag)).collect()),
            AttributeValue::BodySection { section: None, index, data } => {
                part.body = Some(Body { offset: *index, bytes: data.as_ref().map(|data| data.to_vec()) });
            }
            _ => {}
        }
    }
    part
}

#[cfg(test)]
mod tests;
