//! Fetching the mails of a stretch of UIDs, over as many connections as it takes, in batches that are journaled whole.

use super::{BATCH, BATCH_BYTES, Scan, passed};
use crate::base::Timestamp;
use crate::flow::mailbox::Trouble;
use crate::flow::mailbox::kept::Window;
use crate::flow::mailbox::pauses::Got;
use crate::flow::verify::ReceivedMail;
use crate::model::entry::{MailHead, MailSource};
use crate::net::imap::{Fault, Fetched, Session};
use crate::store::Cursor;

/// Mails that are to be journaled together.
#[derive(Default)]
struct Batch {
    mails: Vec<ReceivedMail>,
    bytes: usize,
    uid: u32,
}

impl Scan {
    /// Fetches the next mails between two UIDs. Gives where the cursor is then.
    pub(super) async fn stretch(
        &mut self,
        session: &mut Session,
        name: &str,
        from: Cursor,
        (validity, uid, end): (u32, u32, u32),
    ) -> Result<Cursor, Trouble> {
        let low = passed(session, uid, end).await?;
        let begun = self.windows.get(name).filter(|window| window.covers(validity, low) && window.high > low);
        let high = begun.map_or(low.saturating_add(self.stretch), |window| window.high).min(end);
        self.window(session, name, from, (validity, low, high)).await
    }

    /// Fetches the mails of a stretch of UIDs. Gives where the cursor is then.
    async fn window(
        &mut self,
        session: &mut Session,
        name: &str,
        mut from: Cursor,
        (validity, low, high): (u32, u32, u32),
    ) -> Result<Cursor, Trouble> {
        let mut window = match self.windows.remove(name).filter(|window| window.covers(validity, high)) {
            Some(window) => window,
            None => {
                let listed = session.list(low.saturating_add(1), high, self.ask).await?;
                let there = listed.len();
                let listed = self.wanted(name, self.valid(validity), listed);
                if listed.len() < there {
                    let (channel, mails) = (self.channel.as_str(), there - listed.len());
                    tracing::info!(target: "segue::mailbox", channel, mails, "mails from before the first look are left");
                }
                Window::new((validity, high), listed, self.fetching.sizes)
            }
        };
        window.goes_on();
        let came = window.fetcher.came();
        let mut batch = Batch { uid: low, ..Batch::default() };
        let ended = loop {
            match window.fetcher.next(session).await {
                Ok(Some(fetched)) => {
                    batch.uid = fetched.uid();
                    let arrived = window.arrived(batch.uid);
                    if let Some(mail) = self.received(name, (validity, arrived), fetched) {
                        batch.bytes += mail.raw.len();
                        batch.mails.push(mail);
                    }
                }
                Ok(None) => {
                    batch.uid = window.high;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
            if batch.mails.len() >= BATCH || batch.bytes >= BATCH_BYTES {
                let full = std::mem::take(&mut batch);
                batch.uid = full.uid;
                from = self.commit(name, from, self.cursor(validity, full.uid), full.mails).await?;
            }
        };
        // Also what came before the connection broke.
        if batch.uid > low || ended.is_ok() {
            from = self.commit(name, from, self.cursor(validity, batch.uid), batch.mails).await?;
        }
        match ended {
            Ok(()) => Ok(from),
            Err(error) => {
                let gained = window.fetcher.came() > came;
                if error.fault() != Fault::Mailbox
                    && let Some(window) = window.kept(&self.fetching.kept, from.uid)
                {
                    if gained {
                        self.got = self.got.max(Got::Parts);
                    }
                    self.windows.insert(name.to_owned(), window);
                }
                Err(error.into())
            }
        }
    }

    /// What was fetched as it is journaled; nothing if there is no mail of that UID any more.
    fn received(
        &self,
        folder: &str,
        (validity, arrived): (u32, Option<Timestamp>),
        fetched: Fetched,
    ) -> Option<ReceivedMail> {
        let now = self.now();
        let head = |uid, failed| MailHead {
            source: MailSource::Imap,
            folder: Some(folder.to_owned()),
            uid: Some((validity, uid)),
            arrived: arrived.map(|arrived| arrived.min(now)),
            failed,
            ..MailHead::unchecked()
        };
        let mail =
            |head, raw| ReceivedMail { channel: self.channel.clone(), head, raw, at: now, account: self.account };
        match fetched {
            Fetched::Got(got) => Some(mail(head(got.uid, None), got.bytes.into())),
            Fetched::Gone(_) => None,
            Fetched::Failed(uid, reason) => Some(mail(head(uid, Some(reason.to_string())), bytes::Bytes::new())),
        }
    }
}
