//! How the mailboxes do, for people and for monitoring: the truth, in words, with what to do.
//!
//! The invariant: a mailbox is `ok` only where this node reads it, was let in when it last tried, and was at its end, or took
//! something, within ten minutes. A node that does not read it says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Trouble;
use crate::base::Timestamp;
use crate::connector::Credentials;
use crate::net::imap::Fault;

/// After how long without success a mailbox counts as stalled, in milliseconds: 10 minutes. Each is looked at more often than
/// that, whatever its server tells.
const STALLED_AFTER: i64 = 600_000;

/// What is said of a mailbox that is stalled though nothing went wrong.
const WAITS: &str = "nothing was read for ten minutes: it waits for its turn among the mailboxes, or for its server";

/// How a mailbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is read.
    Ok,
    /// Something went wrong a moment ago and is tried again, or will if nobody does something.
    Degraded,
    /// Nothing was read for more than ten minutes.
    Stalled,
    /// It cannot be read until somebody changes something.
    Broken,
    /// Its channel is paused.
    Paused,
    /// Another node reads it, or is about to, and knows how it does.
    Elsewhere,
}

impl State {
    /// All that there are.
    pub const ALL: [State; 6] =
        [State::Ok, State::Degraded, State::Stalled, State::Broken, State::Paused, State::Elsewhere];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Stalled => "stalled",
            State::Broken => "broken",
            State::Paused => "paused",
            State::Elsewhere => "elsewhere",
        }
    }
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

/// One mailbox, for the task that reads it. What it logs are words of ours; what a server says, which may name people, is
/// in the status alone.
pub(crate) struct One {
    channel: String,
    inner: Mutex<Inner>,
}

struct Inner {
    elsewhere: bool,
    /// When it was last at its end, or something was taken from it; when this node began to, before that.
    moved_at: Timestamp,
    read_at: Option<Timestamp>,
    behind: BTreeMap<String, u64>,
    error: Option<(String, Fault)>,
    alarm: Option<String>,
}

impl Mailboxes {
    /// A task begins to read the mailbox of a channel. What another one knew holds until this one knows more; what that says
    /// from now on, until it has ended, counts no more.
    pub(crate) fn begin(&self, channel: &str, at: Timestamp) -> Arc<One> {
        let mut inner =
            Inner { elsewhere: false, moved_at: at, read_at: None, behind: BTreeMap::new(), error: None, alarm: None };
        let mut all = self.0.lock();
        if let Some(before) = all.get(channel) {
            let before = before.inner.lock();
            (inner.read_at, inner.error) = (before.read_at, before.error.clone());
            inner.moved_at = if before.elsewhere { at } else { before.moved_at };
        }
        let one = Arc::new(One { channel: channel.to_owned(), inner: Mutex::new(inner) });
        all.insert(channel.to_owned(), one.clone());
        one
    }

    /// The task that began with this has ended. Whether no other one has begun.
    pub(crate) fn end(&self, channel: &str, one: &Arc<One>) -> bool {
        let mut all = self.0.lock();
        let last = all.get(channel).is_some_and(|known| Arc::ptr_eq(known, one));
        if last {
            all.remove(channel);
        }
        last
    }

    /// How each mailbox does at a time, by channel.
    pub fn all(&self, now: Timestamp) -> BTreeMap<String, Told> {
        let all: Vec<(String, Arc<One>)> =
            self.0.lock().iter().map(|(name, one)| (name.clone(), one.clone())).collect();
        all.into_iter().map(|(name, one)| (name, one.told(now))).collect()
    }
}

impl One {
    fn told(&self, now: Timestamp) -> Told {
        let inner = self.inner.lock();
        let state = inner.state(now);
        let waits = (state == State::Stalled).then_some(WAITS);
        Told {
            state,
            read_at: inner.read_at,
            behind: inner.behind.values().sum(),
            error: inner.error.as_ref().map(|(words, _)| words.as_str()).or(waits).map(str::to_owned),
            alarm: inner.alarm.clone(),
        }
    }

    /// So many UIDs of a folder were not looked at yet.
    pub(super) fn behind(&self, folder: &str, uids: u64) {
        self.inner.lock().behind.insert(folder.to_owned(), uids);
    }

    /// The cursor of a folder was moved.
    pub(super) fn moved(&self, at: Timestamp) {
        let mut inner = self.inner.lock();
        inner.moved_at = at;
        // The server let us in. Whether all else that went wrong is over shows at the end.
        inner.error.take_if(|(_, fault)| matches!(fault, Fault::Auth | Fault::Tls));
    }

    /// All of it was read to its end.
    pub(super) fn read(&self, at: Timestamp) {
        let mut inner = self.inner.lock();
        if inner.error.take().is_some() {
            tracing::info!(target: "segue::mailbox", channel = self.channel, "a mailbox is read again");
        }
        (inner.read_at, inner.moved_at) = (Some(at), at);
    }

    /// It could not be read, logged in to with these credentials.
    pub(super) fn failed(&self, trouble: &Trouble, credentials: &Credentials) {
        let (reason, words) = (trouble.plain(), words(trouble, credentials));
        tracing::warn!(target: "segue::mailbox", channel = self.channel, reason, "a mailbox is not read now");
        self.went_wrong(words, trouble.fault());
    }

    /// Whoever fails is the one who tries to read.
    pub(crate) fn went_wrong(&self, words: String, fault: Fault) {
        let mut inner = self.inner.lock();
        (inner.elsewhere, inner.error) = (false, Some((words, fault)));
    }

    /// Something needs a person, or nothing does any more.
    pub(super) fn alarm(&self, words: Option<String>) {
        let mut inner = self.inner.lock();
        if let Some(words) = words.as_ref().filter(|words| inner.alarm.as_ref() != Some(words)) {
            tracing::warn!(target: "segue::mailbox", channel = self.channel, alarm = %words, "a mailbox needs somebody");
        }
        inner.alarm = words;
    }

    /// Another node reads it, or is about to. What this one knew counts no more.
    pub(crate) fn elsewhere(&self) {
        let mut inner = self.inner.lock();
        (inner.elsewhere, inner.error, inner.alarm) = (true, None, None);
        inner.behind.clear();
    }

    /// This node reads it.
    pub(super) fn here(&self, at: Timestamp) {
        let mut inner = self.inner.lock();
        if std::mem::take(&mut inner.elsewhere) {
            inner.moved_at = at;
        }
    }
}

impl Inner {
    fn state(&self, now: Timestamp) -> State {
        if self.elsewhere {
            return State::Elsewhere;
        }
        let stalled = now.since(self.moved_at) > STALLED_AFTER;
        match &self.error {
            Some((_, Fault::Auth | Fault::Tls | Fault::Mailbox)) => State::Broken,
            _ if stalled => State::Stalled,
            Some(_) => State::Degraded,
            None if self.alarm.is_some() => State::Degraded,
            None => State::Ok,
        }
    }
}

/// What went wrong and what helps.
fn words(trouble: &Trouble, credentials: &Credentials) -> String {
    let (what, fault) = match trouble {
        Trouble::Server(error) => (error.to_string(), error.fault()),
        Trouble::Way(what, fault) => (what.clone(), *fault),
        Trouble::Token(what, _) => return what.clone(),
        Trouble::Journal(error) => return format!("the journal takes nothing now: {error}"),
    };
    let helps = match fault {
        Fault::Auth => match credentials {
            Credentials::Password(..) => "; check `user` and `password`, or make a new app password",
            Credentials::Tokens(..) => {
                "; check `user` and `oauth_scope`, and whether the app may read this mailbox at the provider"
            }
        },
        Fault::Tls => {
            "; check `imap_host`, `imap_port` and `imap_security`, and `[outbound] roots` for a certificate of your own"
        }
        Fault::Mailbox => "; check `folders` and `move_to`, and what the account may do",
        Fault::Network | Fault::Protocol | Fault::Limit => "; it is tried again",
    };
    format!("{what}{helps}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a mailbox.
    enum Step {
        Behind(u64),
        Moved,
        Read,
        Fails(Fault),
        Alarm(bool),
        Elsewhere,
        Here,
        /// The task ends and another begins, as at a change of its options.
        Anew,
    }

    /// The state after each step, and after `minutes` in which nothing happens.
    #[track_caller]
    fn goes(steps: Vec<(Step, i64, State)>) {
        let (all, mut now) = (Mailboxes::default(), Timestamp::from_millis(1_000_000));
        let mut one = all.begin("box", now);
        for (number, (step, minutes, then)) in steps.into_iter().enumerate() {
            match step {
                Step::Behind(uids) => one.behind("INBOX", uids),
                Step::Moved => one.moved(now),
                Step::Read => one.read(now),
                Step::Fails(fault) => one.went_wrong("words".to_owned(), fault),
                Step::Alarm(is) => one.alarm(is.then(|| "a word".to_owned())),
                Step::Elsewhere => one.elsewhere(),
                Step::Here => one.here(now),
                Step::Anew => {
                    let new = all.begin("box", now);
                    all.end("box", &one);
                    one = new;
                }
            }
            now = now.plus_millis(minutes * 60_000);
            let told = all.all(now).remove("box").expect("it is told of");
            assert_eq!(told.state, then, "step {number}");
            let well = matches!(then, State::Ok | State::Elsewhere) || told.alarm.is_some();
            assert!(well || told.error.is_some(), "step {number}: it says why");
            assert!(told.error.is_none() || !matches!(then, State::Ok | State::Elsewhere), "step {number}");
        }
    }

    #[test]
    fn each_state_follows_from_what_happened() {
        use State::{Broken, Degraded, Elsewhere, Ok, Stalled};
        use Step::{Alarm, Anew, Behind, Fails, Here, Moved, Read};
        // Trouble that passes; trouble that lasts; the end of both.
        goes(vec![(Read, 1, Ok), (Fails(Fault::Network), 1, Degraded), (Moved, 0, Degraded), (Read, 9, Ok)]);
        goes(vec![(Read, 1, Ok), (Fails(Fault::Limit), 10, Stalled), (Fails(Fault::Protocol), 0, Stalled)]);
        goes(vec![(Fails(Fault::Network), 11, Stalled), (Moved, 0, Degraded), (Read, 0, Ok)]);
        // No trouble at all, but it waits: for its turn, or for an answer.
        goes(vec![(Here, 9, Ok), (Behind(1000), 2, Stalled), (Moved, 9, Ok), (Behind(1), 2, Stalled), (Read, 0, Ok)]);
        goes(vec![(Read, 10, Ok), (Here, 1, Stalled)]);
        // Who was let in is not kept out any more; what is wrong with a folder shows when it is looked at.
        for fault in [Fault::Auth, Fault::Tls] {
            goes(vec![(Fails(fault), 60, Broken), (Fails(fault), 0, Broken), (Moved, 0, Ok)]);
        }
        goes(vec![(Fails(Fault::Mailbox), 60, Broken), (Moved, 0, Broken), (Read, 0, Ok)]);
        goes(vec![(Alarm(true), 0, Degraded), (Read, 11, Stalled), (Read, 0, Degraded), (Alarm(false), 0, Ok)]);
        // Whoever takes the lease over and fails says so, and whoever hands it over knows nothing.
        goes(vec![(Step::Elsewhere, 60, Elsewhere), (Fails(Fault::Auth), 0, Broken), (Step::Elsewhere, 0, Elsewhere)]);
        goes(vec![(Step::Elsewhere, 60, Elsewhere), (Here, 9, Ok), (Fails(Fault::Network), 0, Degraded)]);
        goes(vec![(Alarm(true), 0, Degraded), (Step::Elsewhere, 0, Elsewhere), (Here, 0, Ok)]);
        // Another task for it has its own say, in whichever order they end and begin.
        goes(vec![(Read, 0, Ok), (Anew, 0, Ok), (Fails(Fault::Auth), 0, Broken), (Anew, 0, Broken), (Read, 0, Ok)]);
        goes(vec![(Read, 10, Ok), (Anew, 1, Stalled), (Step::Elsewhere, 60, Elsewhere), (Anew, 9, Ok)]);
    }

    #[test]
    fn what_is_behind_and_read_is_told_until_the_last_task_ends() {
        let (all, at) = (Mailboxes::default(), Timestamp::from_millis(5_000));
        let one = all.begin("box", at);
        one.read(at);
        one.behind("INBOX", 7);
        one.behind("Sales", 5);
        assert_eq!((all.all(at)["box"].behind, all.all(at)["box"].read_at), (12, Some(at)));
        let next = all.begin("box", at);
        assert_eq!((all.all(at)["box"].behind, all.all(at)["box"].read_at), (0, Some(at)));
        next.behind("INBOX", 3);
        next.elsewhere();
        assert_eq!(all.all(at)["box"].behind, 0);
        assert!(!all.end("box", &one));
        assert_eq!(all.all(at).len(), 1);
        assert!(all.end("box", &next));
        assert!(all.all(at).is_empty());
    }
}
