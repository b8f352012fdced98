//! One FETCH command's worth of mails, and how far it has come.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::error::{ImapError, words};
use super::super::list::Listed;
use super::super::wire::Body;
use super::Sizes;
use super::outcome::{Fetched, Mail, Reason};

/// Bytes of the smallest piece that is asked for.
const SMALLEST: u32 = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Asked(u64),
    /// Breaks connections, or seems to: nothing else came since.
    Suspected,
    /// A single mail that was refused; nothing else came since.
    Refused,
    Ended,
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Pieces,
    /// Whether the mail is still listed.
    Listing,
}

#[derive(Debug)]
enum Fate {
    Got(Vec<u8>),
    Failed(Reason),
}

/// Some mails that are asked for by one command. In pieces, or alone after trouble, it is one mail.
pub(super) struct Job {
    mails: Vec<Listed>,
    how: How,
    /// What is decided; a mail without an entry is gone when the job has ended.
    fates: BTreeMap<u32, Fate>,
    /// What has come in pieces.
    held: Vec<u8>,
    /// Bytes of a piece; less where connections break in the midst of one.
    piece: u32,
    /// Bytes of the piece that came; `None` if none came to the present command.
    came: Option<usize>,
    listed: bool,
    pub(super) state: State,
    strikes: u8,
    /// How often it was put off, alone.
    put_off: u8,
    /// Another mail came on this connection after this one was refused.
    witnessed: bool,
    /// Whether anything came on this connection.
    moved: bool,
}

impl Job {
    fn new(mails: Vec<Listed>, how: How) -> Self {
        let (fates, held, state) = (BTreeMap::new(), Vec::new(), State::Waiting);
        let (piece, came) = (u32::MAX, None);
        let (strikes, put_off, witnessed, moved) = (0, 0, false, false);
        Job { mails, how, fates, held, piece, came, listed: false, state, strikes, put_off, witnessed, moved }
    }

    pub(super) fn whole(mails: Vec<Listed>) -> Self {
        Self::new(mails, How::Whole)
    }

    /// A single mail in pieces; ended at once if it is too large.
    pub(super) fn in_pieces(mail: Listed, sizes: &Sizes) -> Self {
        let size = u64::from(mail.size.unwrap_or(0));
        let job = Self::new(vec![mail], How::Pieces);
        if size > sizes.largest { job.failed(Reason::TooLarge(size)) } else { job }
    }

    fn failed(mut self, reason: Reason) -> Self {
        let undecided: Vec<u32> = self.missing().map(|mail| mail.uid).collect();
        self.fates.extend(undecided.into_iter().map(|uid| (uid, Fate::Failed(reason.clone()))));
        self.ended()
    }

    fn ended(mut self) -> Self {
        self.state = State::Ended;
        self
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether it may be asked for, or is.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Asked(_))
    }

    /// Another mail came. Where this broke the connection it is to blame, and is given up; where it was refused it is
    /// asked for once more.
    pub(super) fn another_came(mut self) -> Self {
        match self.state {
            State::Suspected => self.failed(Reason::Breaks),
            State::Refused => {
                (self.state, self.witnessed) = (State::Waiting, true);
                self
            }
            _ => self,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Nothing else is left to try: it is asked for once more.
    pub(super) fn try_again(&mut self) {
        if self.state == State::Suspected {
            self.state = State::Waiting;
        }
    }

    pub(super) fn has(&self, uid: u32) -> bool {
        self.mails.iter().any(|mail| mail.uid == uid)
    }

    pub(super) fn tag(&self) -> Option<u64> {
        if let State::Asked(tag) = self.state { Some(tag) } else { None }
    }

    fn missing(&self) -> impl Iterator<Item = &Listed> {
        self.mails.iter().filter(|mail| !self.fates.contains_key(&mail.uid))
    }

    fn piece(&self, sizes: &Sizes) -> u32 {
        self.piece.min(sizes.piece)
    }

    /// Bytes that it holds or will hold, as announced.
    pub(super) fn weight(&self, sizes: &Sizes) -> u64 {
        let one = |mail: &Listed| u64::from(mail.size.unwrap_or(sizes.piece));
        let announced = self.mails.iter().fold(0_u64, |sum, mail| sum.saturating_add(one(mail)));
        let bytes = if self.has_ended() { 0 } else { announced };
        let fate = |fate: &Fate| if let Fate::Got(bytes) = fate { bytes.len() as u64 } else { 0 };
        bytes.max(self.fates.values().fold(self.held.len() as u64, |sum, one| sum.saturating_add(fate(one))))
    }

    /// The command to send, if it waits, and how many bytes of mail may come.
    pub(super) fn command(&self, sizes: &Sizes) -> Option<(String, u64)> {
        if self.state != State::Waiting {
            return None;
        }
        let uids = set(self.missing().map(|mail| mail.uid));
        let announced = |mail: &Listed| u64::from(mail.size.unwrap_or(0));
        let announced = self.missing().fold(0_u64, |sum, mail| sum.saturating_add(announced(mail)));
        Some(match self.how {
            // Twice, since sizes are announced wrong with line ends or after filters.
            How::Whole => (format!("UID FETCH {uids} (UID BODY.PEEK[])"), announced.saturating_mul(2)),
            How::Pieces => {
                let (from, piece) = (self.held.len(), self.piece(sizes));
                (format!("UID FETCH {uids} (UID BODY.PEEK[]<{from}.{piece}>)"), u64::from(piece))
            }
            How::Listing => (format!("UID FETCH {uids} (UID)"), 0),
        })
    }

    pub(super) fn asked(&mut self, tag: u64) {
        (self.state, self.came, self.listed) = (State::Asked(tag), None, false);
    }

    /// Another connection: what was asked on the one before is not answered any more. What had come whole stays.
    pub(super) fn ask_anew(&mut self) {
        (self.moved, self.witnessed) = (false, false);
        if self.tag().is_some() || self.is_refused() {
            self.state = if self.missing().next().is_none() { State::Ended } else { State::Waiting };
        }
    }

    /// Data of one of its mails came, without content.
    pub(super) fn seen(&mut self) {
        self.listed = true;
    }

    /// Content of one of its mails came.
    pub(super) fn take(&mut self, uid: u32, body: Body, sizes: &Sizes) -> Result<(), ImapError> {
        if self.fates.contains_key(&uid) {
            return Ok(());
        }
        match (self.how, body.offset, body.bytes) {
            (How::Listing, ..) => Err(ImapError::protocol("the server sends a mail that was not asked for")),
            (How::Whole, None, bytes) => {
                self.decide(uid, bytes, sizes);
                Ok(())
            }
            // A server without pieces sends all at the first.
            (How::Pieces, None, bytes) if self.held.is_empty() => {
                self.decide(uid, bytes, sizes);
                Ok(())
            }
            (How::Pieces, Some(offset), bytes) => self.append(uid, offset, bytes, sizes),
            _ => Err(ImapError::protocol("the server sends another piece of a mail than was asked for")),
        }
    }

    fn decide(&mut self, uid: u32, bytes: Option<Vec<u8>>, sizes: &Sizes) {
        let fate = match bytes {
            Some(bytes) if bytes.len() as u64 > sizes.largest => Fate::Failed(Reason::TooLarge(bytes.len() as u64)),
            Some(bytes) => Fate::Got(bytes),
            None => Fate::Failed(Reason::Withheld),
        };
        self.fates.insert(uid, fate);
        self.moved = true;
    }

    fn append(&mut self, uid: u32, offset: u32, bytes: Option<Vec<u8>>, sizes: &Sizes) -> Result<(), ImapError> {
        let fits = bytes.as_ref().is_none_or(|bytes| bytes.len() <= self.piece(sizes) as usize);
        if offset as usize != self.held.len() || !fits || self.came.is_some() {
            return Err(ImapError::protocol("the server sends another piece of a mail than was asked for"));
        }
        if bytes.is_none() && offset == 0 {
            self.fates.insert(uid, Fate::Failed(Reason::Withheld));
            return Ok(());
        }
        let bytes = bytes.unwrap_or_default();
        let whole = (self.held.len() as u64).saturating_add(bytes.len() as u64);
        if whole > sizes.largest {
            self.held = Vec::new();
            self.fates.insert(uid, Fate::Failed(Reason::TooLarge(whole)));
            return Ok(());
        }
        if self.held.is_empty() {
            let expected = self.mails.first().and_then(|mail| mail.size).unwrap_or(0);
            self.held.reserve(u64::from(expected).min(sizes.largest) as usize);
        }
        self.moved |= !bytes.is_empty();
        self.came = Some(bytes.len());
        self.held.extend(bytes);
        Ok(())
    }

    /// The command ended with OK: every mail that did not come is asked for alone, and if it is still listed then it is
    /// not gone.
    pub(super) fn after_ok(mut self, sizes: &Sizes) -> Vec<Job> {
        if self.missing().next().is_none() {
            return vec![self.ended()];
        }
        if self.how == How::Listing {
            return vec![if self.listed { self.failed(Reason::Withheld) } else { self.ended() }];
        }
        if self.how == How::Pieces
            && let Some(came) = self.came
        {
            return vec![self.after_piece(came, sizes)];
        }
        if self.mails.len() == 1 {
            (self.how, self.state) = (How::Listing, State::Waiting);
            return vec![self];
        }
        self.apart()
    }

    /// A piece came: it was the last one if it is empty, or short and all that was announced is here.
    fn after_piece(mut self, came: usize, sizes: &Sizes) -> Job {
        let announced = self.mails.first().and_then(|mail| mail.size);
        let all = announced.is_some_and(|size| self.held.len() >= size as usize);
        if came > 0 && !(all && came < self.piece(sizes) as usize) {
            self.state = State::Waiting;
            self.piece = self.piece(sizes).saturating_mul(2);
            return self;
        }
        let bytes = std::mem::take(&mut self.held);
        self.fates.extend(self.mails.first().map(|mail| (mail.uid, Fate::Got(bytes))));
        self.ended()
    }

    /// The command was refused: what came with it counts for nothing, and each half is asked for by itself. A single mail
    /// is given up if it was refused before and another came in between.
    pub(super) fn after_no(mut self, said: &str) -> Vec<Job> {
        self.fates.clear();
        if self.mails.len() > 1 {
            return self.halves();
        }
        if self.witnessed {
            return vec![self.failed(Reason::Refused(words(said)))];
        }
        self.state = State::Refused;
        vec![self]
    }

    /// The server puts it off: as after a refusal, but nothing is given up.
    pub(super) fn after_put_off(mut self) -> Vec<Job> {
        self.fates.clear();
        if self.mails.len() > 1 {
            return self.halves();
        }
        self.put_off = self.put_off.saturating_add(1);
        vec![self]
    }

    /// Whether this mail alone was put off so often that the server may never give it.
    pub(super) fn was_put_off(&self, times: u8) -> bool {
        self.put_off >= times
    }

    /// The connection broke while this was the first under way. Without any progress it is cut in halves, then asked for
    /// in pieces, which become smaller if `shrinks`; `most` times with the same pieces, and it is suspected.
    pub(super) fn blame(mut self, shrinks: bool, most: u8, sizes: &Sizes) -> Vec<Job> {
        if self.moved {
            self.strikes = 0;
            return vec![self];
        }
        if self.mails.len() > 1 {
            return self.halves();
        }
        if self.how == How::Whole {
            return vec![Job::new(self.mails, How::Pieces)];
        }
        self.strikes = self.strikes.saturating_add(1);
        let piece = self.piece(sizes);
        if self.how == How::Pieces && shrinks && piece > SMALLEST {
            (self.piece, self.strikes) = ((piece / 4).max(SMALLEST), 0);
        }
        if self.strikes >= most {
            self.state = State::Suspected;
        }
        vec![self]
    }

    fn halves(self) -> Vec<Job> {
        let mut fates = self.fates;
        let mut first = self.mails;
        let second = first.split_off(first.len() / 2);
        let mut one = |mails: Vec<Listed>| {
            let mut job = Job::whole(mails);
            job.fates = job.mails.iter().filter_map(|mail| fates.remove_entry(&mail.uid)).collect();
            if job.missing().next().is_none() { job.ended() } else { job }
        };
        vec![one(first), one(second)]
    }

    /// A job for each of its mails.
    fn apart(self) -> Vec<Job> {
        let mut fates = self.fates;
        let one = |mail: Listed| {
            let fate = fates.remove_entry(&mail.uid);
            let mut job = Job::whole(vec![mail]);
            job.fates.extend(fate);
            if job.fates.is_empty() { job } else { job.ended() }
        };
        self.mails.into_iter().map(one).collect()
    }

    pub(super) fn results(self) -> impl Iterator<Item = Fetched> {
        let mut fates = self.fates;
        self.mails.into_iter().map(move |mail| match fates.remove(&mail.uid) {
            Some(Fate::Got(bytes)) => {
                Fetched::Got(Mail { uid: mail.uid, announced: mail.size, arrived: mail.arrived, bytes })
            }
            Some(Fate::Failed(reason)) => Fetched::Failed(mail.uid, reason),
            None => Fetched::Gone(mail.uid),
        })
    }
}

/// UIDs in rising order as a set: `1:5,7`.
pub(in crate::net::imap) fn set(uids: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => runs.push((uid, uid)),
        }
    }
    let mut text = String::new();
    for (first, last) in runs {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = if first == last { write!(text, "{comma}{first}") } else { write!(text, "{comma}{first}:{last}") };
    }
    text
}
