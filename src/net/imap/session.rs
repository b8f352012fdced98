//! A session: logged in, at work in one folder at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Fault, ImapError};
use super::name::quoted_folder;
use super::refusal;
use super::wire::{Answer, Code, Outcome, Verdict, Wire};

/// Sessions made so far.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// What is to be done in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read: nothing changes, not even `\Recent`.
    Examine,
    /// Also move and flag.
    Select,
}

/// A folder, as it was when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its UIDVALIDITY: UIDs of another one mean other mails.
    pub validity: u32,
    /// The next mail's UID is this or higher; `None` if the server does not say. It may say anything: whoever lists up to
    /// it passes over what is empty by [`Session::empty_to`].
    pub next: Option<u32>,
    /// Mails in it.
    pub exists: u32,
    /// Whether mails can be moved and flagged.
    pub writable: bool,
}

/// A connection that is private and logged in.
#[derive(Debug)]
pub struct Session {
    pub(super) wire: Wire,
    able: Vec<String>,
    pub(super) folder: Option<Folder>,
    /// Mails in the folder, as the server last said.
    pub(super) exists: u32,
    serial: u64,
    /// The open folder lets mails be marked as deleted, as far as the server says.
    pub(super) deletes: bool,
}

impl Session {
    pub(super) fn new(wire: Wire, able: Vec<String>) -> Self {
        let serial = SESSIONS.fetch_add(1, Ordering::Relaxed);
        Session { wire, able, folder: None, exists: 0, serial, deletes: true }
    }

    /// A number that no other session of this process has.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether the server has this capability, in capitals.
    pub fn has(&self, capability: &str) -> bool {
        self.able.iter().any(|one| one == capability)
    }

    /// Does without a capability from now on, be it that the server told it and does not keep it.
    pub fn forget(&mut self, capability: &str) {
        self.able.retain(|one| one != capability);
    }

    /// Whether the connection broke; then only another one helps.
    pub fn is_broken(&self) -> bool {
        self.wire.is_broken()
    }

    /// The open folder, as it was when opened.
    pub fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// Opens a folder, by its Unicode name.
    ///
    /// # Errors
    ///
    /// `Mailbox` if there is none of this name or it has no UIDVALIDITY, besides those of the connection.
    pub async fn open(&mut self, name: &str, access: Access) -> Result<Folder, ImapError> {
        let verb = if access == Access::Examine { "EXAMINE" } else { "SELECT" };
        let command = format!("{verb} {}", quoted_folder(name)?);
        (self.folder, self.exists) = (None, 0);
        let (mut validity, mut next, mut deletes) = (None, None, true);
        let ended = self.run_with(&command, 0, |answer| {
            if let Answer::Remark(Outcome { code, .. }) = answer {
                match code {
                    Code::UidValidity(value) => validity = Some(value),
                    Code::UidNext(value) => next = Some(value),
                    Code::PermanentFlags { deleted } => deletes = deleted,
                    _ => {}
                }
            }
        });
        let outcome = ended.await?;
        let validity = validity.filter(|value| *value > 0);
        let validity = validity.ok_or_else(|| ImapError::mailbox("the server gives the folder no UIDVALIDITY"))?;
        let writable = access == Access::Select && outcome.code != Code::ReadOnly;
        let folder = Folder { validity, next, exists: self.exists, writable };
        (self.folder, self.deletes) = (Some(folder.clone()), deletes);
        Ok(folder)
    }

    /// Asks the server for nothing but a sign of life and news. Gives the number of mails in the folder.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn noop(&mut self) -> Result<u32, ImapError> {
        self.run("NOOP").await?;
        Ok(self.exists)
    }

    /// Takes leave. Errors do not matter any more.
    pub async fn leave(mut self) {
        let _ = self.run("LOGOUT").await;
    }

    /// Runs a command to its tagged OK.
    pub(super) async fn run(&mut self, command: &str) -> Result<Outcome, ImapError> {
        self.run_with(command, 0, |_| {}).await
    }

    /// Runs a command to its tagged OK; everything in between goes to `each`. `bytes` of mail data may come.
    ///
    /// Whoever drops this future leaves a command open; its end comes to the next one, which passes over it.
    pub(super) async fn run_with(
        &mut self,
        command: &str,
        bytes: u64,
        mut each: impl FnMut(Answer) + Send,
    ) -> Result<Outcome, ImapError> {
        let tag = self.wire.send(command, bytes).await?;
        loop {
            match self.receive().await? {
                Answer::Done(done, verdict, outcome) if done == tag => return ended(verdict, outcome),
                answer => each(answer),
            }
        }
    }

    /// The next response, after what it means for the session as a whole.
    pub(super) async fn receive(&mut self) -> Result<Answer, ImapError> {
        let answer = self.wire.receive().await?;
        self.note(answer)
    }

    fn is_of_another(&self, validity: u32) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.validity != validity)
    }

    /// Notes what a response means for the session as a whole.
    pub(super) fn note(&mut self, answer: Answer) -> Result<Answer, ImapError> {
        match &answer {
            Answer::Exists(count) => self.exists = *count,
            Answer::Expunge => self.exists = self.exists.saturating_sub(1),
            Answer::Bye(text) => {
                self.wire.break_off();
                return Err(ImapError::network("the server closes the connection").saying(text));
            }
            Answer::Remark(Outcome { code: Code::UidValidity(now), .. }) if self.is_of_another(*now) => {
                self.wire.break_off();
                return Err(ImapError::mailbox("the folder was made anew while it was open"));
            }
            _ => {}
        }
        Ok(answer)
    }
}

/// A command's end: only OK is success.
pub(super) fn ended(verdict: Verdict, outcome: Outcome) -> Result<Outcome, ImapError> {
    let fault = match verdict {
        Verdict::Ok => return Ok(outcome),
        _ if refusal::is_busy(&outcome) => {
            return Err(ImapError::put_off("the server puts the command off").saying(&outcome.text));
        }
        Verdict::No => Fault::Mailbox,
        Verdict::Bad => Fault::Protocol,
    };
    Err(ImapError::new(fault, "the server refuses the command").saying(&outcome.text))
}
