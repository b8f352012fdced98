//! Brings mails over by their UIDs: pipelined, in order, with bounded memory, across broken connections.
//!
//! A [`Fetcher`] belongs to a list of UIDs and not to a connection: after an error it goes on with the next session at
//! what was not answered. The invariants: each UID comes out exactly once, in order, as [`Fetched::Got`], `Gone` or
//! `Failed`; `Got` only after a tagged OK or after its whole literal had come; a mail that breaks commands or connections
//! is cornered by halves until it stands alone, and costs no other mail anything but time. It is given up only once
//! another mail came where it did not: a server that breaks off with every mail makes none fail. So the last of a list
//! never fails that way; with mails that came later it does.
//!
//! A mail that is refused is given up only once another one came after that, on the same connection, and it is refused
//! again: a server that refuses everything, or from some mail on, makes none fail. If no other is asked for, one that came
//! before, or the folder's first or last, shows whether the server gives any. A server that says "not now" is trouble of
//! the connection; a mail that is always put off while others come ends as one that is refused.

use std::collections::VecDeque;
use std::fmt;

use super::error::{Fault, ImapError};
use super::list::Listed;
use super::refusal;
use super::session::Session;
use super::wire::{Answer, Outcome, Part, Verdict};

mod job;
mod outcome;

use job::Job;
pub(super) use job::set;
pub use outcome::{Fetched, Mail, Reason};

/// How much is asked for at once.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Mails up to this announced size are asked for whole, larger ones in pieces. Bytes.
    pub whole: u32,
    /// Announced bytes of all mails of one command.
    pub batch: u64,
    /// Mails of one command.
    pub mails: usize,
    /// Commands under way.
    pub commands: usize,
    /// Announced bytes of all mails that are asked for or not yet given out; one mail alone may pass it.
    pub flight: u64,
    /// Bytes of a piece; at most [`super::Caps::literal`].
    pub piece: u32,
    /// Largest mail, bytes. Larger ones fail.
    pub largest: u64,
}

impl Default for Sizes {
    /// Whole up to 256 KiB, 64 mails or 256 KiB in a command, 8 commands or 4 MiB under way, pieces of 1 MiB, 50 MiB in all.
    fn default() -> Self {
        let (whole, batch, piece) = (256 << 10, 256 << 10, 1 << 20);
        Sizes { whole, batch, mails: 64, commands: 8, flight: 4 << 20, piece, largest: 50 << 20 }
    }
}

/// Connections that one mail, alone and in the smallest pieces, may break before others are tried in its place.
const STRIKES: u8 = 3;
/// Connections on which one mail, alone, may be put off before it is taken for refused.
const PUT_OFFS: u8 = 8;
/// Refusals in a row after which it is looked whether the server gives any mail.
const DOUBT: usize = 16;

/// Fetches a list of mails of one folder.
pub struct Fetcher {
    sizes: Sizes,
    validity: u32,
    todo: VecDeque<Listed>,
    jobs: VecDeque<Job>,
    out: VecDeque<Fetched>,
    /// The session that the commands under way belong to.
    serial: Option<u64>,
    /// A connection broke: one command at a time, until its mails are through.
    careful: bool,
    doubt: Doubt,
    came: u64,
}

/// Whether the server gives mails on this connection.
#[derive(Default)]
struct Doubt {
    /// Refusals since a mail came.
    refusals: usize,
    /// What the server said with the last one.
    said: String,
    /// The mail that came last.
    came: Option<u32>,
    /// How many mails that should come were asked for since.
    tries: usize,
    /// The command that asks for a byte of a mail that should come. No other is under way beside it.
    asked: Option<u64>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("todo", &self.todo.len()).field("jobs", &self.jobs.len()).finish()
    }
}

impl Fetcher {
    /// For mails of the folder with this UIDVALIDITY, given in the order of their UIDs, as [`Session::list`] does.
    pub fn new(validity: u32, mails: Vec<Listed>, sizes: Sizes) -> Self {
        let (jobs, out) = (VecDeque::new(), VecDeque::new());
        Fetcher {
            sizes,
            validity,
            todo: mails.into(),
            jobs,
            out,
            serial: None,
            careful: false,
            doubt: Doubt::default(),
            came: 0,
        }
    }

    /// How many mails and pieces of mails came, over all connections: none of them is asked for again.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The next mail, or what became of it; `None` after the last. May be dropped while it waits.
    ///
    /// # Errors
    ///
    /// Those of the connection: open the folder in another session and call again. `Mailbox` if the open folder is not
    /// the one the UIDs are of: then they mean nothing any more.
    pub async fn next(&mut self, session: &mut Session) -> Result<Option<Fetched>, ImapError> {
        if session.folder().map(|folder| folder.validity) != Some(self.validity) {
            return Err(ImapError::mailbox(
                "the folder is not open, or its UIDs are no longer those that were asked for",
            ));
        }
        if self.serial != Some(session.serial()) {
            self.ask_anew();
            self.serial = Some(session.serial());
        }
        loop {
            self.give_out();
            if let Some(done) = self.out.pop_front() {
                return Ok(Some(done));
            }
            self.plan();
            if self.jobs.is_empty() {
                return Ok(None);
            }
            if let Err(error) = self.step(session).await {
                session.wire.break_off();
                self.broke(&error);
                return Err(error);
            }
        }
    }

    /// Moves what the first jobs came to into `out`.
    fn give_out(&mut self) {
        while self.out.is_empty() && self.jobs.front().is_some_and(Job::has_ended) {
            self.out.extend(self.jobs.pop_front().into_iter().flat_map(Job::results));
            self.careful = false;
        }
    }

    /// Makes jobs of the list, as many as the budget allows.
    fn plan(&mut self) {
        let mut flight = self.jobs.iter().fold(0, |sum: u64, job| sum.saturating_add(job.weight(&self.sizes)));
        while self.jobs.len() < self.sizes.commands.max(1)
            && let Some(job) = self.next_job(flight)
        {
            flight = flight.saturating_add(job.weight(&self.sizes));
            self.jobs.push_back(job);
        }
    }

    fn next_job(&mut self, flight: u64) -> Option<Job> {
        let first = self.todo.front()?;
        let fits = |more: u64| self.jobs.is_empty() || flight.saturating_add(more) <= self.sizes.flight;
        let Some(size) = first.size.filter(|size| *size <= self.sizes.whole).map(u64::from) else {
            let job = Job::in_pieces(first.clone(), &self.sizes);
            return (fits(job.weight(&self.sizes))).then(|| self.todo.pop_front().map(|_| job))?;
        };
        if !fits(size) {
            return None;
        }
        let (mut mails, mut bytes) = (Vec::new(), 0_u64);
        while let Some(next) = self.todo.front()
            && let Some(size) = next.size.filter(|size| *size <= self.sizes.whole)
            && mails.len() < self.sizes.mails
            && (mails.is_empty() || bytes.saturating_add(u64::from(size)) <= self.sizes.batch)
        {
            bytes = bytes.saturating_add(u64::from(size));
            mails.extend(self.todo.pop_front());
        }
        Some(Job::whole(mails))
    }

    /// Sends what waits, takes one response.
    async fn step(&mut self, session: &mut Session) -> Result<(), ImapError> {
        if !self.jobs.iter().any(Job::is_open) {
            self.jobs.iter_mut().for_each(Job::try_again);
        }
        if self.is_in_doubt() {
            self.ask_for_another(session).await?;
        } else {
            self.ask(session).await?;
        }
        if self.is_idle() {
            return Ok(());
        }
        match session.receive().await? {
            Answer::Fetch(part) => self.take_part(part),
            Answer::Done(tag, verdict, outcome) => self.take_end(tag, verdict, &outcome),
            _ => Ok(()),
        }
    }

    async fn ask(&mut self, session: &mut Session) -> Result<(), ImapError> {
        let sizes = self.sizes;
        let most = if self.careful { 1 } else { usize::MAX };
        for job in self.jobs.iter_mut().filter(|job| job.is_open()).take(most) {
            if let Some((command, bytes)) = job.command(&sizes) {
                job.asked(session.wire.send(&command, bytes).await?);
            }
        }
        Ok(())
    }

    /// Whether nothing is known to come any more: too much was refused, or nothing is left but what was.
    fn is_in_doubt(&self) -> bool {
        let only_refused = !self.jobs.iter().any(Job::is_open) && self.jobs.iter().any(Job::is_refused);
        self.doubt.refusals >= DOUBT || only_refused
    }

    /// Whether no command is under way.
    fn is_idle(&self) -> bool {
        self.doubt.asked.is_none() && self.jobs.iter().all(|job| job.tag().is_none())
    }

    /// Asks for a byte of a mail that should come, once all else is answered.
    async fn ask_for_another(&mut self, session: &mut Session) -> Result<(), ImapError> {
        if self.is_idle() {
            let another = match (self.doubt.tries, self.doubt.came) {
                (0, Some(uid)) => format!("UID FETCH {uid}"),
                (0 | 1, _) => "FETCH 1".to_owned(),
                _ => "FETCH *".to_owned(),
            };
            let command = format!("{another} (UID BODY.PEEK[]<0.1>)");
            self.doubt.tries = self.doubt.tries.saturating_add(1);
            self.doubt.asked = Some(session.wire.send(&command, 0).await?);
        }
        Ok(())
    }

    fn take_part(&mut self, part: Part) -> Result<(), ImapError> {
        let Some(uid) = part.uid else {
            let nameless = part.body.is_some();
            return if nameless { Err(ImapError::protocol("the server sends a mail without its UID")) } else { Ok(()) };
        };
        let asked = self.jobs.iter_mut().find(|job| job.tag().is_some() && job.has(uid));
        match (asked, part.body) {
            (Some(job), Some(body)) => {
                let has_content = body.bytes.is_some();
                job.take(uid, body, &self.sizes)?;
                if has_content {
                    self.came = self.came.saturating_add(1);
                    self.another_came(uid);
                }
                Ok(())
            }
            (Some(job), None) => {
                job.seen();
                Ok(())
            }
            (None, Some(body)) if self.doubt.asked.is_some() => {
                let is_another = !self.jobs.iter().any(|job| job.is_refused() && job.has(uid));
                if is_another && body.bytes.is_some() {
                    self.another_came(uid);
                }
                Ok(())
            }
            (None, Some(_)) => Err(ImapError::protocol("the server sends a mail that was not asked for")),
            (None, None) => Ok(()),
        }
    }

    fn another_came(&mut self, uid: u32) {
        (self.doubt.came, self.doubt.refusals, self.doubt.tries) = (Some(uid), 0, 0);
        self.jobs = std::mem::take(&mut self.jobs).into_iter().map(Job::another_came).collect();
    }

    fn take_end(&mut self, tag: u64, verdict: Verdict, outcome: &Outcome) -> Result<(), ImapError> {
        if self.doubt.asked == Some(tag) {
            self.doubt.asked = None;
            return self.end_of_doubt(verdict, outcome);
        }
        let Some(place) = self.jobs.iter().position(|job| job.tag() == Some(tag)) else { return Ok(()) };
        let sizes = self.sizes;
        match verdict {
            Verdict::Ok => self.replace(place, |job| job.after_ok(&sizes)),
            Verdict::No | Verdict::Bad => return self.take_refusal(place, outcome),
        }
        Ok(())
    }

    fn take_refusal(&mut self, place: usize, outcome: &Outcome) -> Result<(), ImapError> {
        let waited = self.jobs.get(place).is_some_and(|job| job.was_put_off(PUT_OFFS));
        if refusal::passes(outcome) && !waited {
            self.replace(place, Job::after_put_off);
            return Err(ImapError::put_off("the server gives no mails now").saying(&outcome.text));
        }
        self.doubt.refusals = self.doubt.refusals.saturating_add(1);
        self.doubt.said.clone_from(&outcome.text);
        self.replace(place, |job| job.after_no(&outcome.text));
        Ok(())
    }

    fn end_of_doubt(&mut self, verdict: Verdict, outcome: &Outcome) -> Result<(), ImapError> {
        if self.doubt.refusals == 0 || self.doubt.tries <= 2 {
            return Ok(());
        }
        if verdict != Verdict::Ok && refusal::passes(outcome) {
            return Err(ImapError::put_off("the server gives no mails now").saying(&outcome.text));
        }
        Err(ImapError::mailbox("the server refuses every mail that is asked for").saying(&self.doubt.said))
    }

    fn replace(&mut self, place: usize, by: impl FnOnce(Job) -> Vec<Job>) {
        let mut after = self.jobs.split_off(place);
        self.jobs.extend(after.pop_front().map(by).into_iter().flatten());
        self.jobs.append(&mut after);
    }

    fn ask_anew(&mut self) {
        self.doubt = Doubt::default();
        for job in &mut self.jobs {
            job.ask_anew();
        }
    }

    /// The connection broke: the first mails under way are suspected, if they had come no further on it.
    fn broke(&mut self, error: &ImapError) {
        let suspect = self.jobs.iter().position(|job| job.tag().is_some() && !job.has_ended());
        // What breaks in the midst of a piece may come in a smaller one; what is no IMAP will not.
        let shrinks = match error.fault() {
            // A server that is slow or does not answer is so with every mail.
            Fault::Network if error.is_late() || error.is_put_off() => None,
            Fault::Network => Some(true),
            Fault::Protocol | Fault::Limit => Some(false),
            Fault::Tls | Fault::Auth | Fault::Mailbox => None,
        };
        self.serial = None;
        if let Some(place) = suspect {
            self.careful = true;
            if let Some(shrinks) = shrinks {
                let sizes = self.sizes;
                self.replace(place, |job| job.blame(shrinks, STRIKES, &sizes));
            }
        }
        self.ask_anew();
    }
}

#[cfg(test)]
mod tests;
