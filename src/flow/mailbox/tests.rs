//! Mailboxes against a server that is told what it holds and when it breaks off.

mod scripted;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::*;
use crate::base::telemetry::Metrics;
use crate::base::{Clock, Secret};
use crate::connector::{AfterTaking, Begin};
use crate::flow::{Ahead, Setup, wait::Waiting};
use crate::mail::auth_results::TrustedServers;
use crate::mail::token::TokenKey;
use crate::net::dns::Dns;
use crate::net::imap::{Caps, bare};
use crate::net::login::Security;
use crate::net::{Client, client};
use crate::script::{Budget, Bundle, PolicyFacts, PolicyFiles};
use crate::store::{Opened, Unwatched, seal::Sealing, sqlite};
use scripted::{Server, serve};

const OLD: &str = "01-Jan-2020 00:00:00 +0000";
const NEW: &str = "01-Jan-2099 00:00:00 +0000";

/// A mailbox that is read, and what it is read into.
struct Reader {
    scan: Scan,
    fetching: Arc<Fetching>,
    told: Arc<One>,
    server: Arc<Mutex<Server>>,
    after: AfterTaking,
    _store: Opened,
    _folder: tempfile::TempDir,
}

impl Reader {
    fn new(after: AfterTaking) -> Reader {
        Reader::asking(after, &[])
    }

    /// One that asks these servers who sends mails.
    fn asking(after: AfterTaking, names: &[std::net::SocketAddr]) -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let sealing = Sealing::at(folder.path().join("root.key"));
        let (options, metrics) = (sqlite::Options::default(), Metrics::new());
        let path = folder.path().join("data");
        let store = sqlite::open(&path, options, &sealing, &Unwatched::shared(), metrics.clone()).unwrap();
        let context = Arc::new(Context {
            store: store.store.clone(),
            setup: ArcSwap::from_pointee(setup()),
            clock: Clock::system(),
            metrics,
            waiting: Waiting::default(),
            ahead: Ahead::default(),
            mailboxes: Mailboxes::default(),
            sending: Default::default(),
            blobs: None,
            held: AtomicBool::new(false),
        });
        let client = Client::new(client::Settings::default()).unwrap();
        let key = Arc::new(TokenKey::new(store.mail_secret.clone()));
        let checking = Arc::new(Checking { dns: Dns::new(names), key });
        let logins = Logins::new(client.clone(), store.store.mailboxes.clone(), Clock::system());
        let fetching = Fetching::new(context.clone(), client.dialer(), (checking, logins), 50 << 20);
        let told = context.mailboxes.begin("box", context.clock.now());
        let scan = Scan::new(fetching.clone(), told.clone(), "box".to_owned(), mailbox(after.clone()));
        let server = Arc::new(Mutex::new(Server { validity: 7, ..Server::default() }));
        Reader { scan, fetching, told, server, after, _store: store, _folder: folder }
    }

    /// The gateway is started again.
    fn restarts(&mut self) {
        let (fetching, told) = (self.fetching.clone(), self.told.clone());
        self.scan = Scan::new(fetching, told, "box".to_owned(), mailbox(self.after.clone()));
    }

    fn session(&self) -> Session {
        self.session_at(&[])
    }

    /// At a server that is able to do so much.
    fn session_at(&self, able: &[&str]) -> Session {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(self.server.clone(), theirs));
        bare::session(ours, able.iter().map(|one| (*one).to_owned()).collect(), Caps::default())
    }

    /// Reads the folder over a new connection. Whether it came to the end.
    async fn looks(&mut self) -> bool {
        let mut session = self.session();
        let looked = self.scan.folder(&mut session, "INBOX").await;
        if looked.is_err() {
            self.scan.rest(Got::Nothing);
        }
        looked.is_ok()
    }

    /// The same, with what follows on a break.
    async fn reads(&mut self) -> bool {
        let mut session = self.session();
        let looked = self.scan.folder(&mut session, "INBOX").await;
        let got = self.scan.got();
        self.scan.rest(got);
        looked.is_ok()
    }

    async fn journaled(&self) -> i64 {
        self.fetching.context.store.catalog.counts().await.unwrap()["entry"]
    }

    /// Reads the folder to its end and gives how many mails are in the journal then.
    async fn takes(&mut self) -> i64 {
        assert!(self.looks().await);
        self.journaled().await
    }

    fn put(&self, date: &'static str, text: &str) {
        self.server.lock().put(date, &format!("Subject: {text}\r\n\r\n{text}\r\n"));
    }

    /// The server gives all mails new UIDs.
    fn renumbers(&self) {
        let mut server = self.server.lock();
        let mails = std::mem::take(&mut server.mails);
        (server.validity, server.next) = (server.validity + 1, 1);
        for (date, text) in mails.into_values() {
            server.put(date, &text);
        }
    }
}

fn setup() -> Setup {
    let facts = PolicyFacts { default_queue: "general".to_owned(), ..PolicyFacts::default() };
    Setup {
        channels: HashMap::new(),
        policy: Bundle::build(PolicyFiles::from_memory([]), facts, Budget::default()).unwrap(),
        default_queue: "general".to_owned(),
        templates: HashMap::new(),
        source: "segue".to_owned(),
        hash: "c0ffee".repeat(10),
    }
}

fn mailbox(after: AfterTaking) -> Mailbox {
    Mailbox {
        address: "box@example.test".to_owned(),
        aliases: Vec::new(),
        host: "localhost".to_owned(),
        port: 993,
        security: Security::Implicit,
        credentials: Credentials::Password("box".to_owned(), Secret::new("password")),
        folders: vec!["INBOX".to_owned()],
        begin: Begin::New,
        after,
        trusted: TrustedServers::default(),
    }
}

#[tokio::test]
async fn mails_of_any_age_that_come_into_a_folder_are_taken() {
    let mut reader = Reader::new(AfterTaking::Flag);
    reader.put(OLD, "there before");
    reader.put(NEW, "there before, too");
    assert_eq!(reader.takes().await, 0);
    reader.put(OLD, "moved there");
    assert_eq!(reader.takes().await, 1);
    reader.restarts();
    reader.put(OLD, "moved there later");
    assert_eq!(reader.takes().await, 2);
    assert_eq!(reader.server.lock().flagged, [3, 4]);
    // With new UIDs what was there before is told by its age; what was taken is known.
    reader.server.lock().mails.remove(&2);
    reader.renumbers();
    reader.put(NEW, "came meanwhile");
    assert_eq!(reader.takes().await, 3);
    assert_eq!(reader.server.lock().flagged, [3, 4, 4]);
    for moved in ["moved to the new UIDs", "and one more"] {
        reader.put(OLD, moved);
        reader.takes().await;
        reader.restarts();
    }
    assert_eq!((reader.journaled().await, &reader.server.lock().flagged[3..]), (5, &[5, 6][..]));
    // Once more, by way of an empty folder.
    reader.server.lock().mails.clear();
    reader.renumbers();
    assert_eq!(reader.takes().await, 5);
    reader.put(OLD, "moved to the empty folder");
    assert_eq!(reader.takes().await, 6);
}

#[tokio::test]
async fn a_server_that_was_set_back_is_looked_through_anew() {
    let mut reader = Reader::new(AfterTaking::Flag);
    reader.put(OLD, "there before");
    reader.takes().await;
    (0..9).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    assert_eq!(reader.takes().await, 9);
    // To before the last five; the UIDs of those are given to others.
    {
        let mut server = reader.server.lock();
        server.mails.retain(|uid, _| *uid < 6);
        (server.next, server.flagged) = (6, Vec::new());
    }
    (0..3).for_each(|number| reader.put(NEW, &format!("later, no. {number}")));
    assert_eq!(reader.takes().await, 12);
    let flagged = reader.server.lock().flagged.clone();
    assert!(flagged.ends_with(&[6, 7, 8]) && !flagged.contains(&1), "{flagged:?}");
    // From then on all is as ever.
    reader.restarts();
    reader.put(OLD, "moved there");
    assert_eq!(reader.takes().await, 13);
    // To when it was empty.
    reader.server.lock().mails.clear();
    reader.server.lock().next = 1;
    assert_eq!(reader.takes().await, 13);
    reader.put(NEW, "the first again");
    assert_eq!((reader.takes().await, reader.server.lock().flagged.last().copied()), (14, Some(1)));
}

/// One of several servers that is behind in telling the next UID while it has the mails.
#[tokio::test]
async fn a_next_uid_that_is_behind_is_no_setback() {
    let mut reader = Reader::new(AfterTaking::Flag);
    reader.takes().await;
    (0..9).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    assert_eq!(reader.takes().await, 9);
    reader.server.lock().next -= 2;
    reader.server.lock().flagged.clear();
    assert_eq!(reader.takes().await, 9);
    assert_eq!(reader.server.lock().flagged, [0u32; 0], "nothing is looked at again");
}

/// Servers that give every folder the same UIDVALIDITY: UIDs of another account are other mails.
#[tokio::test]
async fn another_account_is_looked_through_anew() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    (0..9).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    assert_eq!(reader.takes().await, 9);
    {
        let mut server = reader.server.lock();
        server.mails.clear();
        server.next = 1;
    }
    reader.put(OLD, "of the other account, from before");
    (0..12).for_each(|number| reader.put(NEW, &format!("of the other account, no. {number}")));
    let credentials = Credentials::Password("other".to_owned(), Secret::new("password"));
    let mailbox = Mailbox { credentials, ..mailbox(AfterTaking::Keep) };
    reader.scan = Scan::new(reader.fetching.clone(), reader.told.clone(), "box".to_owned(), mailbox);
    assert_eq!(reader.takes().await, 21);
}

#[tokio::test]
async fn when_a_mail_came_into_its_mailbox_is_kept() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    reader.put(OLD, "long ago");
    reader.put(NEW, "by a clock that is ahead");
    assert_eq!(reader.takes().await, 2);
    let journal = reader.fetching.context.store.journal.clone();
    let entries = journal.mine(false, 10).await.unwrap();
    let (entries, _) = journal.pending_at(entries).await.unwrap();
    let arrived = |entry: &crate::model::Entry| {
        let head: crate::model::entry::MailHead = serde_json::from_slice(&entry.body.head).unwrap();
        (head.arrived.unwrap().seconds(), entry.at.seconds())
    };
    let told: Vec<_> = entries.iter().map(arrived).collect();
    assert_eq!(told[0].0, 1_577_836_800);
    assert_eq!(told[1].0, told[1].1, "nothing came after it was taken");
}

#[tokio::test]
async fn a_folder_that_is_refused_keeps_no_other_from_being_read() {
    let mut reader = Reader::new(AfterTaking::Keep);
    let folders = ["INBOX", "Sales", "Gone"].map(str::to_owned).to_vec();
    let mailbox = Mailbox { folders, begin: Begin::All, ..mailbox(AfterTaking::Keep) };
    reader.scan = Scan::new(reader.fetching.clone(), reader.told.clone(), "box".to_owned(), mailbox);
    reader.server.lock().refuses = Some("Gone");
    reader.put(NEW, "in both of the others");
    let mut session = reader.session();
    let trouble = read(&mut reader.scan, &mut session).await.err().unwrap();
    assert_eq!((trouble.fault(), session.is_broken()), (Fault::Mailbox, false));
    assert_eq!(reader.scan.got(), Got::Mails);
    assert!(reader.journaled().await > 0);
}

#[tokio::test]
async fn a_line_that_breaks_with_every_long_answer_is_asked_for_short_ones() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    (0..100).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    reader.server.lock().longest = Some(3_000);
    let mut broken = 0;
    while !reader.reads().await {
        broken += 1;
        assert!(broken < 20, "nothing comes through");
    }
    assert_eq!(reader.journaled().await, 100);
    assert!(broken > 0);
}

#[tokio::test]
async fn one_mail_whose_size_or_date_nobody_reads_keeps_none_behind_it() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    (0..40).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    reader.server.lock().odd = Some(20);
    let mut broken = 0;
    while !reader.reads().await {
        broken += 1;
        assert!(broken < 20, "nothing comes through");
    }
    assert_eq!(reader.journaled().await, 40);
    assert!(broken > 0);
}

#[tokio::test]
async fn a_mail_whose_size_is_not_told_is_taken() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    (0..3).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    reader.server.lock().tells_no_sizes = true;
    assert_eq!(reader.takes().await, 3);
}

#[tokio::test]
async fn of_what_was_set_aside_the_mailbox_keeps_the_only_copy() {
    let mut reader = Reader::new(AfterTaking::Flag);
    reader.takes().await;
    (1..=4).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    reader.server.lock().breaks_at = vec![2];
    let mut tries = 0;
    while !reader.reads().await {
        tries += 1;
        assert!(tries < 50, "nothing comes through");
    }
    assert_eq!(reader.journaled().await, 4, "one of them is a note that it could not be fetched");
    assert_eq!(reader.server.lock().flagged, [1, 3, 4]);
}

#[tokio::test]
async fn what_was_there_before_is_left_also_if_the_look_at_new_uids_breaks_off() {
    let mut reader = Reader::new(AfterTaking::Keep);
    (0..3).for_each(|number| reader.put(OLD, &format!("there before {number}")));
    assert_eq!(reader.takes().await, 0);
    reader.renumbers();
    reader.put(NEW, "one");
    reader.put(NEW, "breaks");
    reader.put(OLD, "moved there meanwhile: its age cannot be told from that of the first");
    reader.server.lock().breaks_at = vec![5];
    while reader.journaled().await == 0 {
        assert!(!reader.looks().await);
    }
    reader.restarts();
    assert!(!reader.looks().await);
    reader.server.lock().breaks_at.clear();
    assert_eq!(reader.takes().await, 2);
    // What was taken meanwhile is not flagged if that is configured later, and neither is what was there before.
    reader.after = AfterTaking::Flag;
    reader.restarts();
    reader.put(OLD, "two");
    assert_eq!(reader.takes().await, 3);
    assert_eq!(reader.server.lock().flagged, [7]);
}

#[tokio::test]
async fn a_server_that_breaks_off_with_each_mail_is_asked_ever_more_seldom() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    assert_eq!(reader.scan.got(), Got::Folder);
    let (trouble, mut pauses) = (|| Trouble::Way(String::new(), Fault::Network), Pauses::default());
    reader.put(NEW, "a mail");
    reader.server.lock().breaks_at = vec![1];
    let mut waited = Vec::new();
    for _ in 0..10 {
        assert!(!reader.looks().await);
        waited.push(pauses.after(&trouble(), reader.scan.got()).as_secs());
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    // One that does not even open a folder may be worse off than that.
    assert_eq!(pauses.after(&trouble(), Got::Nothing), Duration::from_secs(128));
    // One that was read to its end, and breaks off while nothing comes, is asked as often as one that is polled.
    assert_eq!(pauses.after(&trouble(), Got::End), POLL);
    reader.server.lock().breaks_at.clear();
    reader.takes().await;
    assert_eq!(pauses.after(&trouble(), reader.scan.got()), Duration::from_millis(500));
    assert!(reader.looks().await);
    assert_eq!(reader.scan.got(), Got::Folder);
    reader.scan.looked();
    assert_eq!((reader.scan.got(), reader.scan.got()), (Got::End, Got::Nothing));
}

#[tokio::test]
async fn mails_that_came_before_a_break_are_progress_also_before_they_are_journaled() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    (0..5).for_each(|number| reader.put(NEW, &format!("no. {number}")));
    reader.server.lock().gives = Some(2);
    reader.scan.got();
    let mut came = Vec::new();
    while !reader.looks().await {
        came.push((reader.scan.got(), reader.journaled().await));
    }
    assert_eq!(came, [(Got::Parts, 0), (Got::Parts, 0)], "they were asked for at once");
    assert_eq!((reader.scan.got(), reader.journaled().await), (Got::Mails, 5));
}

#[tokio::test]
async fn what_waits_for_a_connection_is_in_the_room_for_all_mailboxes() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    reader.put(NEW, "a mail");
    reader.server.lock().breaks_at = vec![1];
    let free = |reader: &Reader| reader.fetching.kept.free();
    let all = free(&reader);
    for _ in 0..3 {
        assert!(!reader.looks().await);
        assert!(free(&reader) < all, "its size is counted");
    }
    reader.server.lock().breaks_at.clear();
    assert_eq!((reader.takes().await, free(&reader)), (1, all));
}

#[tokio::test]
async fn a_turn_is_given_back_while_nobody_answers_for_a_sender() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut reader = Reader::asking(AfterTaking::Keep, &[silent.local_addr().unwrap()]);
    reader.takes().await;
    let (turns, all) = (reader.fetching.turns.clone(), reader.fetching.kept.free());
    let _others = turns.clone().acquire_many_owned(AT_ONCE as u32 - 1).await.unwrap();
    let text = "From: Ada <ada@dead.example>\r\n\r\nHello.\r\n".to_owned();
    reader.server.lock().put(NEW, &text);
    let fetching = reader.fetching.clone();
    let free_then = async {
        while turns.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(turns.acquire().await.unwrap());
        fetching.kept.free()
    };
    tokio::select! {
        biased;
        _ = reader.looks() => panic!("the turn was kept until it was known that nobody answers"),
        free = free_then => assert!(free < all, "what is in memory is counted"),
    }
    // What is broken off leaves nothing behind.
    reader.scan.forget();
    assert_eq!((turns.available_permits(), fetching.kept.free()), (1, all));
    assert_eq!(reader.takes().await, 1);
}

#[tokio::test]
async fn a_server_that_always_tells_of_news_is_given_a_rest() {
    let mut reader = Reader::new(AfterTaking::Keep);
    reader.takes().await;
    reader.scan.looked();
    reader.server.lock().restless = Some(21);
    let mut session = reader.session_at(&["IDLE"]);
    // Nothing is read from the store any more, while which the paused clock would go on.
    tokio::time::pause();
    let begun = Instant::now();
    assert!(read(&mut reader.scan, &mut session).await.is_err());
    assert_eq!((reader.server.lock().opened, begun.elapsed().as_secs()), (22, 20));
}
