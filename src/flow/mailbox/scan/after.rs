//! What is done with mails in their mailbox once they are in the journal: kept, flagged or moved.
//!
//! How far it was done is kept apart from the cursor, so that it is done after a crash as well; doing it again changes
//! nothing. The invariant: only what is in the journal is touched.

use futures_util::future::join_all;

use super::{BATCH, Scan, Trouble, WINDOW, passed};
use crate::connector::AfterTaking;
use crate::flow::verify;
use crate::net::imap::{Listed, Session};
use crate::store::Cursor;

impl Scan {
    /// Does with mails what follows once they are in the journal. Doing it again changes nothing.
    pub(super) async fn after(&mut self, session: &mut Session, name: &str, taken: Cursor) -> Result<(), Trouble> {
        let acted = self.row(name).await?.map_or(0, |row| row.acted);
        let validity = session.folder().map_or(0, |folder| folder.validity);
        if self.mailbox.after == AfterTaking::Keep || acted >= taken.uid {
            return Ok(());
        }
        let mut low = acted;
        while low < taken.uid {
            low = passed(session, low, taken.uid).await?;
            let high = low.saturating_add(WINDOW).min(taken.uid);
            let listed = session.list(low.saturating_add(1), high, self.ask).await?;
            let listed = self.wanted(name, taken.validity, listed);
            let uids = self.journaled(name, validity, listed).await?;
            if !uids.is_empty() {
                match &self.mailbox.after {
                    AfterTaking::Keep => {}
                    AfterTaking::Flag => session.flag(&uids, "$SegueTaken").await?,
                    AfterTaking::Move(target) => session.move_to(&uids, target).await?,
                }
            }
            let done = Cursor { uid: high, ..taken };
            let noted = self.fetching.context.store.mailboxes.acted(self.channel.clone(), name.to_owned(), done).await;
            noted.map_err(Trouble::Journal)?;
            low = high;
        }
        if let Some(row) = self.rows.as_mut().and_then(|rows| rows.get_mut(name)) {
            row.acted = taken.uid;
        }
        Ok(())
    }

    /// The UIDs of those that are in the journal: of a mail that was set aside the mailbox has the only copy.
    async fn journaled(&self, name: &str, validity: u32, listed: Vec<Listed>) -> Result<Vec<u32>, Trouble> {
        let journal = &self.fetching.context.store.journal;
        let mut uids = Vec::with_capacity(listed.len());
        for some in listed.chunks(BATCH) {
            let key = |mail: &Listed| verify::key_of_place(&self.channel, self.account, name, (validity, mail.uid));
            let aside = join_all(some.iter().map(|mail| journal.entry_by_key(key(mail)))).await;
            for (mail, aside) in some.iter().zip(aside) {
                if aside.map_err(Trouble::Journal)?.is_none() {
                    uids.push(mail.uid);
                }
            }
        }
        Ok(uids)
    }
}
