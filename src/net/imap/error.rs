//! What can go wrong with a mailbox, told apart by what is to be done about it.

use std::io;

use super::tokens::Refused;
use crate::net::login::hide_repeated;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The server is not reached, does not answer in time, breaks off or says that it cannot serve now: try again later.
    Network,
    /// The connection cannot be made private: a wrong certificate, no STARTTLS, or somebody meddles with it.
    Tls,
    /// The server refuses who we say we are: trying again the same way does not help.
    Auth,
    /// The server says what IMAP does not know, or what makes no sense here.
    Protocol,
    /// The server sends more than was asked for or can be borne.
    Limit,
    /// The folder does not exist, is not ours, was made anew, or refuses the command.
    Mailbox,
}

/// An error of the mailbox. Its text holds no credential and nothing of a mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}{}", if said.is_empty() { "" } else { "; the server says: " }, said)]
pub struct ImapError {
    fault: Fault,
    what: String,
    /// Words of the server: printable ASCII, at most 200 bytes.
    said: String,
    late: bool,
    put_off: bool,
}

impl ImapError {
    pub(super) fn new(fault: Fault, what: impl Into<String>) -> Self {
        ImapError { fault, what: what.into(), said: String::new(), late: false, put_off: false }
    }

    pub(super) fn network(what: impl Into<String>) -> Self {
        Self::new(Fault::Network, what)
    }

    pub(super) fn tls(what: impl Into<String>) -> Self {
        Self::new(Fault::Tls, what)
    }

    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::new(Fault::Protocol, what)
    }

    pub(super) fn mailbox(what: impl Into<String>) -> Self {
        Self::new(Fault::Mailbox, what)
    }

    pub(super) fn saying(mut self, text: &str) -> Self {
        self.said = words(text);
        self
    }

    /// With other words of ours.
    pub(super) fn instead(mut self, what: &str) -> Self {
        self.what = what.to_owned();
        self
    }

    /// Without the server's words, if they repeat a part of what was sent.
    pub(super) fn hiding(mut self, sent: &[&str]) -> Self {
        hide_repeated(&mut self.said, sent);
        self
    }

    pub(super) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    /// The server is well but will not now: trouble of the network, and nothing of what was asked for is to blame.
    pub(super) fn put_off(what: impl Into<String>) -> Self {
        ImapError { put_off: true, ..Self::network(what) }
    }

    /// What went wrong, without the server's words.
    pub fn plain(&self) -> &str {
        &self.what
    }

    /// What kind of thing went wrong.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether it is that the server did not answer in time.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Whether the server said that it will not now. It is to be asked slower and slower.
    pub fn is_put_off(&self) -> bool {
        self.put_off
    }

    /// From an error of the stream or of the parser. Whatever text the parser gives is left out: it quotes mails.
    pub(super) fn of_stream(error: &io::Error) -> Self {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>());
        match (refused, error.kind()) {
            (Some(Refused::Syntax(_)), _) => Self::protocol(text_of(refused)),
            (Some(Refused::Idle | Refused::Deadline), _) => Self::network(text_of(refused)).late(),
            (Some(_), _) => Self::new(Fault::Limit, text_of(refused)),
            (None, io::ErrorKind::Other) => Self::protocol("the server sent what cannot be read as IMAP"),
            (None, kind) => Self::network(format!("the connection broke: {kind}")),
        }
    }
}

fn text_of(refused: Option<&Refused>) -> String {
    refused.map(ToString::to_string).unwrap_or_default()
}

/// Printable ASCII of a server's text, at most 200 bytes.
pub(super) fn words(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~')).take(200).collect()
}
