//! What is done with mails that were taken: moved to another folder, or flagged. Doing it again does no harm.

use super::error::{Fault, ImapError};
use super::fetch::set;
use super::name::quoted_folder;
use super::session::Session;
use super::wire::Answer;

/// UIDs in one command.
const AT_ONCE: usize = 200;

impl Session {
    /// Moves mails to another folder (RFC 6851), which is made if it does not exist. Mails that are gone count as moved.
    ///
    /// Where the server has no MOVE, mails are copied, marked as deleted and, if it has UIDPLUS (RFC 4315), expunged;
    /// else they stay, marked, since an EXPUNGE would also remove what others marked. Only those are copied that are
    /// not marked, so that of two runs one copies; and none is where marking is not allowed, since every run would.
    ///
    /// # Errors
    ///
    /// `Mailbox` if the folder was opened for reading, or the server refuses; besides those of the connection.
    pub async fn move_to(&mut self, uids: &[u32], folder: &str) -> Result<(), ImapError> {
        self.needs_writable()?;
        let target = quoted_folder(folder)?;
        for uids in uids.chunks(AT_ONCE) {
            let uids = sorted(uids);
            if self.has("MOVE") {
                self.or_create(&format!("UID MOVE {} {target}", set(uids.into_iter())), &target).await?;
                continue;
            }
            let left = self.unmarked(&uids).await?;
            if !left.is_empty() {
                let left = set(left.into_iter());
                self.may_mark(&left).await?;
                self.or_create(&format!("UID COPY {left} {target}"), &target).await?;
                self.run(&format!("UID STORE {left} +FLAGS.SILENT (\\Deleted)")).await?;
            }
            if self.has("UIDPLUS") {
                self.run(&format!("UID EXPUNGE {}", set(uids.into_iter()))).await?;
            }
        }
        Ok(())
    }

    /// Sets a flag or keyword on mails. Mails that are gone are passed over.
    ///
    /// # Errors
    ///
    /// As [`Session::move_to`]; also `Mailbox` if it is not the name of a flag.
    pub async fn flag(&mut self, uids: &[u32], flag: &str) -> Result<(), ImapError> {
        self.needs_writable()?;
        let name = flag.strip_prefix('\\').unwrap_or(flag);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '$' | '_' | '-' | '.')) {
            return Err(ImapError::mailbox("a flag is letters, digits, `$`, `_`, `-` and `.`, maybe behind a `\\`"));
        }
        for uids in uids.chunks(AT_ONCE) {
            self.run(&format!("UID STORE {} +FLAGS.SILENT ({flag})", set(sorted(uids).into_iter()))).await?;
        }
        Ok(())
    }

    /// Fails if the account may not mark mails as deleted: by what the server tells of the folder, and by an attempt that
    /// changes nothing, since taking the mark away needs the same right (RFC 4314 section 4).
    async fn may_mark(&mut self, unmarked: &str) -> Result<(), ImapError> {
        let what =
            "mails are not moved, since the account may not mark them as deleted and each try would copy them again";
        if !self.deletes {
            return Err(ImapError::mailbox(what));
        }
        match self.run(&format!("UID STORE {unmarked} -FLAGS.SILENT (\\Deleted)")).await {
            Err(error) if error.fault() == Fault::Mailbox && !self.is_broken() => Err(error.instead(what)),
            other => other.map(|_| ()),
        }
    }

    fn needs_writable(&self) -> Result<(), ImapError> {
        if self.folder().is_some_and(|folder| folder.writable) {
            return Ok(());
        }
        Err(ImapError::mailbox("the folder can only be read"))
    }

    /// Runs a command; if the server says that the target must be made first, makes it and runs it again.
    async fn or_create(&mut self, command: &str, target: &str) -> Result<(), ImapError> {
        match self.run(command).await {
            Err(error) if error.fault() == Fault::Mailbox && !self.is_broken() => {
                // Not only after [TRYCREATE], which not all servers say. If it exists already, that is as well.
                let made = self.run(&format!("CREATE {target}")).await;
                if made.is_err() && self.is_broken() {
                    return made.map(|_| ());
                }
                self.run(command).await.map(|_| ()).map_err(|_| error)
            }
            other => other.map(|_| ()),
        }
    }

    /// Those of the mails that exist and are not marked as deleted.
    async fn unmarked(&mut self, uids: &[u32]) -> Result<Vec<u32>, ImapError> {
        let mut left = Vec::new();
        let command = format!("UID FETCH {} (UID FLAGS)", set(uids.iter().copied()));
        let ended = self.run_with(&command, 0, |answer| {
            if let Answer::Fetch(part) = answer
                && let (Some(uid), Some(flags)) = (part.uid, part.flags)
                && uids.contains(&uid)
                && !flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted"))
            {
                left.push(uid);
            }
        });
        ended.await?;
        Ok(sorted(&left))
    }
}

fn sorted(uids: &[u32]) -> Vec<u32> {
    let mut uids: Vec<u32> = uids.iter().copied().filter(|uid| *uid > 0).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}
