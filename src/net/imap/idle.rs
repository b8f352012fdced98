//! Waiting for mails: IDLE (RFC 2177) where the server has it, else NOOP from time to time.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::{Fault, ImapError};
use super::session::Session;
use super::wire::{Answer, Verdict};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There are more mails than before.
    News,
    /// The time is over. Look all the same: not every server tells of every mail.
    Time,
}

impl Session {
    /// Waits until the folder has more mails, but at most for `most`: then wait again, which shows that the server is
    /// still there. Without IDLE it asks every `poll`. The present number of mails is what the server last said, so news
    /// that came while something else was done wake at once if `known` is what was looked at.
    ///
    /// To stop early drop the future and then the session: an open IDLE cannot be taken over.
    ///
    /// # Errors
    ///
    /// Those of the connection; the end of the stream is one of them and no wake.
    pub async fn wait(&mut self, known: u32, most: Duration, poll: Duration) -> Result<Wake, ImapError> {
        let now = Instant::now();
        let until = now.checked_add(most).unwrap_or(now);
        if self.exists > known {
            return Ok(Wake::News);
        }
        if self.has("IDLE")
            && let Some(wake) = self.idle(known, until).await?
        {
            return Ok(wake);
        }
        loop {
            tokio::time::sleep_until(until.min(after(poll))).await;
            if self.noop().await? > known {
                return Ok(Wake::News);
            }
            if Instant::now() >= until {
                return Ok(Wake::Time);
            }
        }
    }

    /// `None` if the server refuses the command, though it told that it has it.
    async fn idle(&mut self, known: u32, until: Instant) -> Result<Option<Wake>, ImapError> {
        let tag = self.wire.send("IDLE", 0).await?;
        loop {
            match self.receive().await? {
                Answer::Continue => break,
                Answer::Done(done, Verdict::No | Verdict::Bad, _) if done == tag => {
                    self.forget("IDLE");
                    return Ok(None);
                }
                Answer::Done(done, ..) if done == tag => return Ok(Some(self.woken(known))),
                _ => {}
            }
        }
        // Whoever drops this future leaves the server in IDLE, where it takes no command.
        self.wire.hold(true);
        let ended = self.hear(tag, known, until).await?;
        if !ended {
            self.wire.send_line("DONE").await?;
            self.end_of_idle(tag).await?;
        }
        self.wire.hold(false);
        Ok(Some(self.woken(known)))
    }

    /// Hears until there is news or the time is over; whether the server ended the IDLE by itself.
    async fn hear(&mut self, tag: u64, known: u32, until: Instant) -> Result<bool, ImapError> {
        let longest = Duration::from_secs(24 * 3600);
        while self.exists <= known {
            let Ok(answer) = timeout_at(until, self.wire.receive_within(longest, longest)).await else { break };
            match self.note(answer?)? {
                Answer::Done(done, Verdict::Ok, _) if done == tag => return Ok(true),
                Answer::Done(done, _, outcome) if done == tag => {
                    return Err(ImapError::new(Fault::Network, "the server ends the IDLE").saying(&outcome.text));
                }
                _ => {}
            }
        }
        Ok(false)
    }

    async fn end_of_idle(&mut self, tag: u64) -> Result<(), ImapError> {
        loop {
            if let Answer::Done(done, verdict, outcome) = self.receive().await?
                && done == tag
            {
                return super::session::ended(verdict, outcome).map(|_| ());
            }
        }
    }

    fn woken(&self, known: u32) -> Wake {
        if self.exists > known { Wake::News } else { Wake::Time }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
