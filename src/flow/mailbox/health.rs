//! How the mailboxes do, for people and for monitoring: the truth, in words, with what to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Trouble;
use crate::base::Timestamp;
use crate::net::imap::Fault;

/// After how long without success a mailbox counts as stalled, in milliseconds: 10 minutes.
const STALLED_AFTER: i64 = 600_000;

/// How a mailbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is read, or another node reads it.
    Ok,
    /// Something went wrong a moment ago and is tried again, or will if nobody does something.
    Degraded,
    /// Nothing was read for more than ten minutes.
    Stalled,
    /// It cannot be read until somebody changes something.
    Broken,
    /// Its channel is paused.
    Paused,
}

/// What is known of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How it does.
    pub state: State,
    /// When all of it was last read to its end by this node.
    pub read_at: Option<Timestamp>,
    /// How many UIDs there are that were not looked at yet, over all folders.
    pub behind: u64,
    /// What went wrong last, in words, with what to do; nothing while all is well.
    pub error: Option<String>,
    /// What will go wrong if nobody does something, in words, with until when and what to do.
    pub alarm: Option<String>,
}

impl Told {
    /// What is told of the mailbox of a paused channel.
    pub fn paused() -> Self {
        Told { state: State::Paused, read_at: None, behind: 0, error: None, alarm: None }
    }
}

/// How all mailboxes of this node do, by channel.
#[derive(Default)]
pub struct Mailboxes(Mutex<BTreeMap<String, Arc<One>>>);

/// One mailbox, for the task that reads it.
#[derive(Default)]
pub(super) struct One(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    gone: bool,
    elsewhere: bool,
    /// Since the last failure.
    reading: bool,
    read_at: Option<Timestamp>,
    first_failed_at: Option<Timestamp>,
    behind: BTreeMap<String, u64>,
    error: Option<(String, Fault)>,
    alarm: Option<String>,
}

impl Mailboxes {
    pub(super) fn of(&self, channel: &str) -> Arc<One> {
        self.0.lock().entry(channel.to_owned()).or_default().clone()
    }

    /// How each mailbox does at a time, by channel.
    pub fn all(&self, now: Timestamp) -> BTreeMap<String, Told> {
        let all: Vec<(String, Arc<One>)> =
            self.0.lock().iter().map(|(name, one)| (name.clone(), one.clone())).collect();
        all.into_iter().filter_map(|(name, one)| Some((name, one.told(now)?))).collect()
    }
}

impl One {
    fn told(&self, now: Timestamp) -> Option<Told> {
        let inner = self.0.lock();
        if inner.gone {
            return None;
        }
        let lasts = inner.first_failed_at.is_some_and(|since| now.since(since) > STALLED_AFTER);
        let state = match &inner.error {
            _ if inner.elsewhere => State::Ok,
            None if inner.alarm.is_some() => State::Degraded,
            None => State::Ok,
            Some((_, Fault::Auth | Fault::Tls | Fault::Mailbox)) => State::Broken,
            Some(_) if lasts => State::Stalled,
            Some(_) => State::Degraded,
        };
        let error = inner.error.as_ref().filter(|_| state != State::Ok).map(|(words, _)| words.clone());
        Some(Told {
            state,
            read_at: inner.read_at,
            behind: inner.behind.values().sum(),
            error,
            alarm: inner.alarm.clone(),
        })
    }

    pub(super) fn is_reading(&self) -> bool {
        self.0.lock().reading
    }

    /// So many UIDs of a folder were not looked at yet.
    pub(super) fn behind(&self, folder: &str, uids: u64) {
        let mut inner = self.0.lock();
        (inner.elsewhere, inner.reading, inner.gone) = (false, true, false);
        inner.behind.insert(folder.to_owned(), uids);
    }

    /// All of it was read to its end.
    pub(super) fn read(&self, at: Timestamp) {
        let mut inner = self.0.lock();
        if inner.error.take().is_some() {
            tracing::info!(target: "segue::mailbox", "a mailbox is read again");
        }
        (inner.read_at, inner.first_failed_at, inner.reading) = (Some(at), None, true);
    }

    pub(super) fn failed(&self, trouble: &Trouble, at: Timestamp) {
        let words = words(trouble);
        tracing::warn!(target: "segue::mailbox", reason = %words, "a mailbox is not read now");
        let mut inner = self.0.lock();
        inner.reading = false;
        inner.first_failed_at.get_or_insert(at);
        inner.error = Some((words, trouble.fault()));
    }

    /// Something needs a person, or nothing does any more.
    pub(super) fn alarm(&self, words: Option<String>) {
        let mut inner = self.0.lock();
        if let Some(words) = words.as_ref().filter(|words| inner.alarm.as_ref() != Some(words)) {
            tracing::warn!(target: "segue::mailbox", alarm = %words, "a mailbox needs somebody");
        }
        inner.alarm = words;
    }

    /// Another node reads it, or is about to.
    pub(super) fn elsewhere(&self) {
        let mut inner = self.0.lock();
        (inner.elsewhere, inner.gone) = (true, false);
        inner.behind.clear();
    }

    /// It is not configured any more.
    pub(super) fn gone(&self) {
        self.0.lock().gone = true;
    }
}

/// What went wrong and what helps.
fn words(trouble: &Trouble) -> String {
    let (what, fault) = match trouble {
        Trouble::Server(error) => (error.to_string(), error.fault()),
        Trouble::Way(what, fault) => (what.clone(), *fault),
        Trouble::Token(what, _) => return what.clone(),
        Trouble::Journal(error) => return format!("the journal takes nothing now: {error}"),
    };
    let helps = match fault {
        Fault::Auth => "; check `user` and `password`, or make a new app password",
        Fault::Tls => {
            "; check `imap_host`, `imap_port` and `imap_security`, and `[outbound] roots` for a certificate of your own"
        }
        Fault::Mailbox => "; check `folders` and `move_to`, and what the account may do",
        Fault::Network | Fault::Protocol | Fault::Limit => "; it is tried again",
    };
    format!("{what}{helps}")
}
