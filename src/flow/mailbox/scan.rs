//! Reading the folders of a mailbox from their cursors on: what is there, what is new, in batches that are journaled whole.

mod after;
mod stretch;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::health::One;
use super::kept::Window;
use super::pauses::Got;
use super::{Fetching, Trouble};
use crate::base::hash::key16;
use crate::base::telemetry::By;
use crate::base::{Error, Kind, Timestamp};
use crate::connector::{AfterTaking, Begin, Credentials, Mailbox};
use crate::flow::verify::{self, ReceivedMail};
use crate::flow::{enter_mails, mail_check};
use crate::net::imap::{Access, Ask, Fault, Folder, ImapError, Listed, Session};
use crate::store::{Cursor, FolderRow, MailBatch, NewEntry};

/// How many UIDs are listed at once.
const WINDOW: u32 = 1000;
/// How many on a line that breaks before so many are listed.
const LEAST: u32 = 16;
/// How many UIDs there may be for each mail before gaps are looked for.
const SPARSE: u32 = 16;
/// How many mails go into one batch.
const BATCH: usize = 64;
/// How many bytes of mails go into one batch, but for the last mail.
const BATCH_BYTES: usize = 2 << 20;

/// The reading of one mailbox, across connections.
pub(super) struct Scan {
    fetching: Arc<Fetching>,
    told: Arc<One>,
    got: Got,
    /// Whether a cursor was moved in this look through all folders.
    moved: bool,
    /// Its turn among the mailboxes, while it fetches.
    turn: Option<OwnedSemaphorePermit>,
    pub(super) channel: String,
    pub(super) mailbox: Mailbox,
    /// Which account it is: UIDs of another one mean other mails.
    account: u32,
    /// How far each folder was read, as this node knows.
    rows: Option<HashMap<String, FolderRow>>,
    /// What was being fetched when the connection broke: a mail that breaks connections is found out by trying again.
    windows: HashMap<String, Window>,
    /// How many UIDs are listed at once: fewer after connections that broke before anything came.
    stretch: u32,
    /// What is asked about them: less where even the shortest list broke the connection, as one wrong size or date does.
    ask: Ask,
}

/// How long a turn is kept while it is asked who sent a batch of mails.
const ASKED: Duration = Duration::from_millis(500);

impl Scan {
    pub(super) fn new(fetching: Arc<Fetching>, told: Arc<One>, channel: String, mailbox: Mailbox) -> Scan {
        let user = match &mailbox.credentials {
            Credentials::Password(user, _) | Credentials::Tokens(user, _) => user,
        };
        let [a, b, c, d, ..] = key16(&[b"mail account", mailbox.host.to_lowercase().as_bytes(), user.as_bytes()]);
        Scan {
            account: u32::from_be_bytes([a, b, c, d]) >> 1,
            fetching,
            told,
            got: Got::Nothing,
            moved: false,
            turn: None,
            channel,
            mailbox,
            rows: None,
            windows: HashMap::new(),
            stretch: WINDOW,
            ask: Ask::All,
        }
    }

    /// How far it came since this was asked last.
    pub(super) fn got(&mut self) -> Got {
        std::mem::take(&mut self.got)
    }

    /// All folders were read to their ends. Whether there was anything new.
    pub(super) fn looked(&mut self) -> bool {
        self.got = self.got.max(Got::End);
        self.told.read(self.now());
        std::mem::take(&mut self.moved)
    }

    /// The connection broke after it came so far: what was being fetched is not kept for ever, and less is listed at once
    /// where not even that came through.
    pub(super) fn rest(&mut self, got: Got) {
        if got == Got::Folder && self.windows.is_empty() {
            self.ask = if self.stretch > LEAST { Ask::All } else { Ask::Uid };
            self.stretch = (self.stretch / 4).max(LEAST);
        }
        self.windows.retain(|_, window| window.is_fresh());
    }

    /// Forgets what is known of the cursors: another node may move them.
    pub(super) fn forget(&mut self) {
        self.rows = None;
        self.windows.clear();
        self.turn = None;
    }

    /// Reads a folder from its cursor to its end.
    pub(super) async fn folder(&mut self, session: &mut Session, name: &str) -> Result<(), Trouble> {
        let access = if self.mailbox.after == AfterTaking::Keep { Access::Examine } else { Access::Select };
        let folder = session.open(name, access).await?;
        self.got = self.got.max(Got::Folder);
        let Some(next) = folder.next else {
            let reason = "the server does not tell the next UID of the folder".to_owned();
            return Err(Trouble::Way(reason, Fault::Mailbox));
        };
        let row = match self.row(name).await? {
            Some(row) => row,
            None => self.begin(name, &folder, next).await?,
        };
        let end = next.saturating_sub(1);
        // Other UIDs, or those of a server that was set back: all of the folder is looked at anew, and what was taken before is
        // known by its content.
        let mut from = row.cursor;
        let same = from.validity == self.valid(folder.validity);
        let set_back = same && end < from.uid && !has(session, from.uid).await?;
        if set_back {
            self.windows.remove(name);
            tracing::warn!(target: "segue::mailbox", channel = self.channel, folder = name, "the server gives UIDs again that were passed; the folder is looked at anew");
            self.rows.iter_mut().filter_map(|rows| rows.get_mut(name)).for_each(|row| row.anew = true);
        }
        let mut uid = if same && !set_back { from.uid } else { 0 };
        if folder.exists == 0 && (uid < end || !same || set_back) {
            uid = end;
            from = self.commit(name, from, self.cursor(folder.validity, uid), Vec::new()).await?;
        }
        while uid < end {
            self.turn = self.fetching.turn().await;
            self.told(name, u64::from(end.saturating_sub(uid)));
            let fetched = self.stretch(session, name, from, (folder.validity, uid, end)).await;
            self.turn = None;
            from = fetched?;
            uid = from.uid;
        }
        self.told(name, 0);
        self.after(session, name, from).await?;
        self.looked_through(name, from).await
    }

    /// What UIDs mean under a UIDVALIDITY of this account.
    fn valid(&self, validity: u32) -> i64 {
        i64::from(self.account) << 32 | i64::from(validity)
    }

    fn cursor(&self, validity: u32, uid: u32) -> Cursor {
        Cursor { validity: self.valid(validity), uid }
    }

    fn told(&self, folder: &str, behind: u64) {
        self.told.behind(folder, behind);
    }

    async fn row(&mut self, name: &str) -> Result<Option<FolderRow>, Trouble> {
        if self.rows.is_none() {
            let rows = self.fetching.context.store.mailboxes.folders(self.channel.clone()).await;
            let rows = rows.map_err(Trouble::Journal)?;
            self.rows = Some(rows.into_iter().map(|row| (row.folder.clone(), row)).collect());
        }
        Ok(self.rows.as_ref().and_then(|rows| rows.get(name)).cloned())
    }

    /// A folder that was never read: from its beginning, or from what comes now.
    async fn begin(&mut self, name: &str, folder: &Folder, next: u32) -> Result<FolderRow, Trouble> {
        let uid = match self.mailbox.begin {
            Begin::All => 0,
            Begin::New => next.saturating_sub(1),
        };
        let to = self.cursor(folder.validity, uid);
        // What the server took a little earlier may be told by a clock that is behind.
        let since = match self.mailbox.begin {
            Begin::All => Timestamp::from_millis(0),
            Begin::New => self.now().minus(Duration::from_secs(3600)),
        };
        self.append(name, (None, to), (since, false), Vec::new()).await?;
        // What was there before is nobody's to move or to flag.
        let acted = self.fetching.context.store.mailboxes.acted(self.channel.clone(), name.to_owned(), to).await;
        acted.map_err(Trouble::Journal)?;
        let row =
            FolderRow { folder: name.to_owned(), cursor: to, acted: uid, since, anew: false, moved_at: self.now() };
        self.rows.get_or_insert_default().insert(name.to_owned(), row.clone());
        Ok(row)
    }

    /// Those of the mails that are wanted. Where UIDs were given anew, also what was there before the first look is listed;
    /// else all are: somebody may move a mail of any age into the folder.
    fn wanted(&self, name: &str, validity: i64, mut listed: Vec<Listed>) -> Vec<Listed> {
        let row = self.rows.as_ref().and_then(|rows| rows.get(name));
        if let Some(row) = row.filter(|row| is_anew(row, validity)) {
            let since = row.since.millis();
            listed.retain(|mail| mail.arrived.is_none_or(|arrived| arrived.as_millisecond() >= since));
        }
        listed
    }

    /// All was looked at that stands under new UIDs, and done with it what follows: what comes now is new, whatever its age.
    async fn looked_through(&mut self, name: &str, at: Cursor) -> Result<(), Trouble> {
        if !self.row(name).await?.is_some_and(|row| row.anew) {
            return Ok(());
        }
        // Else what was there before the first look would be moved if mails are to be moved one day.
        let acted = self.fetching.context.store.mailboxes.acted(self.channel.clone(), name.to_owned(), at).await;
        acted.map_err(Trouble::Journal)?;
        self.append(name, (Some(at), at), (self.now(), false), Vec::new()).await?;
        if let Some(row) = self.rows.as_mut().and_then(|rows| rows.get_mut(name)) {
            (row.acted, row.anew) = (at.uid, false);
        }
        Ok(())
    }

    /// Journals mails and moves the cursor behind them. Where it stood elsewhere, it is read anew by the next try.
    async fn commit(
        &mut self,
        name: &str,
        from: Cursor,
        to: Cursor,
        mut mails: Vec<ReceivedMail>,
    ) -> Result<Cursor, Trouble> {
        if from == to && mails.is_empty() {
            return Ok(to);
        }
        self.check(&mut mails).await;
        let entries = mails.into_iter().map(verify::step_mail).collect();
        let anew = self.row(name).await?.is_some_and(|row| is_anew(&row, to.validity));
        self.append(name, (Some(from), to), (self.now(), anew), entries).await?;
        if let Some(row) = self.rows.as_mut().and_then(|rows| rows.get_mut(name)) {
            if row.cursor.validity != to.validity || to.uid < row.cursor.uid {
                row.acted = 0;
            }
            (row.cursor, row.anew) = (to, anew);
        }
        (self.got, self.moved) = (Got::Mails, true);
        (self.stretch, self.ask) = (self.stretch.saturating_mul(2).min(WINDOW), Ask::All);
        self.told.moved(self.now());
        Ok(to)
    }

    /// Finds out who sent mails. Names that nobody answers for do not hold up other mailboxes, as long as there is room for
    /// what is in memory meanwhile.
    async fn check(&mut self, mails: &mut [ReceivedMail]) {
        let fetching = self.fetching.clone();
        let bytes = mails.iter().fold(fetching.sizes.flight, |sum, mail| sum.saturating_add(mail.raw.len() as u64));
        let (checking, trusted) = (&fetching.checking, &self.mailbox.trusted);
        let mut checks = pin!(join_all(mails.iter_mut().map(|mail| mail_check::step(checking, trusted, mail))));
        if timeout(ASKED, &mut checks).await.is_ok() {
            return;
        }
        let room = fetching.kept.bytes(bytes).filter(|_| self.turn.take().is_some());
        checks.await;
        if room.is_some() {
            self.turn = fetching.turn().await;
        }
    }

    async fn append(
        &mut self,
        name: &str,
        (from, to): (Option<Cursor>, Cursor),
        (since, anew): (Timestamp, bool),
        entries: Vec<NewEntry>,
    ) -> Result<(), Trouble> {
        let (channel, folder, at) = (self.channel.clone(), name.to_owned(), self.now());
        let context = &self.fetching.context;
        match enter_mails(context, MailBatch { channel, folder, entries, from, to, at, since, anew }).await {
            Ok(appended) => {
                for one in appended {
                    let result = if one.repeat { "repeated" } else { "accepted" };
                    context.metrics.intake.get_or_create(&By::new(&self.channel, result)).inc();
                }
                Ok(())
            }
            Err(error) => {
                self.forget();
                let reason = match error.kind() {
                    Kind::Conflict => Error::new(Kind::Unavailable, "somebody else reads this mailbox").because(error),
                    _ => error,
                };
                Err(Trouble::Journal(reason))
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.fetching.context.clock.now()
    }
}

/// Whether a folder's UIDs of now are others than those it was looked through by last.
fn is_anew(row: &FolderRow, validity: i64) -> bool {
    row.anew || row.cursor.validity != validity
}

/// Whether a mail is in the folder. One server of several may be behind in telling the next UID.
async fn has(session: &mut Session, uid: u32) -> Result<bool, ImapError> {
    Ok(!session.list(uid, uid, Ask::Uid).await?.is_empty())
}

/// Up to where behind `uid` there are no mails, if there are far more UIDs to `end` than mails: else listing costs no more
/// than looking.
async fn passed(session: &mut Session, uid: u32, end: u32) -> Result<u32, ImapError> {
    let mails = session.folder().map_or(0, |folder| folder.exists);
    let dense = mails.saturating_mul(SPARSE).max(WINDOW);
    if end.saturating_sub(uid) > dense { session.empty_to(uid.saturating_add(1), end).await } else { Ok(uid) }
}
