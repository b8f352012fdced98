//! Whole stores moved, saved and loaded, whatever happens meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::base::{Kind, Timestamp};
use crate::model::ItemKey;
use crate::store::blob::{BlobName, Object};
use crate::store::differential::{copied, dumped, same};
use crate::store::suite::{
    commit, everything, first_contact, on_postgres, run_on, sealing, second, server, soon, sqlite, webhook,
};
use crate::store::{BlobRow, BlobUse, Changeset, Claim, Committed, Store, Unwatched, postgres};

fn on_server(name: &str) -> Place {
    Place::Server(Box::new(postgres::Place::parse(&server(name)).unwrap()))
}

fn in_folder(folder: &tempfile::TempDir, name: &str) -> Place {
    Place::Folder(folder.path().join(name))
}

/// A story of three interactions of one customer, an entry that is pending, one that waits in quarantine, a dead letter.
async fn fill(store: &Store) {
    store.outbox.subscribe(vec![everything("desk")]).await.unwrap();
    let first = store.journal.append(webhook(Some(1), b"the first words")).await.unwrap();
    assert!(matches!(commit(store, first_contact(store, first.position, 1)).await, Committed::Done(_)));
    for (seed, version) in [(2, 1), (3, 2)] {
        let next = store.journal.append(webhook(None, b"more words")).await.unwrap().position;
        assert!(matches!(commit(store, second(store, next, seed, version).await).await, Committed::Done(_)));
    }
    let odd = store.journal.append(webhook(Some(7), b"odd words")).await.unwrap().position;
    let mut set = Changeset { position: odd, bundle: "b1".to_owned(), ..Changeset::default() };
    set.quarantined.push("not JSON".to_owned());
    assert!(matches!(commit(store, set).await, Committed::Done(_)));
    store.journal.append(webhook(Some(8), b"words that wait")).await.unwrap();
    let due = soon(async {
        loop {
            let (due, _) = store.outbox.wanted_events("desk".to_owned(), 0, 9).await.unwrap();
            if due.len() == 3 {
                return due;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    store.outbox.dead_letter("desk".to_owned(), due[0].clone(), "answered 500".to_owned(), 0).await.unwrap();
    let said = store.state.interaction_by_item(ItemKey([1; 16])).await.unwrap().unwrap();
    let made_at = Timestamp::from_millis(1_700_000_000_000);
    store.blobs.announce(Object([7; 16]), made_at).await.unwrap();
    store.blobs.announce(FILE.1, made_at).await.unwrap();
    let file = BlobRow { name: FILE.0, object: FILE.1, customer: Some(said.customer), size: 5, made_at };
    assert_eq!(store.blobs.claim(file).await.unwrap(), Claim::Ours);
    store.blobs.adopt(BlobUse { interaction: said.no, part: 1, name: FILE.0 }).await.unwrap();
}

/// A file that an interaction names, and the object that holds it.
const FILE: (BlobName, Object) = (BlobName([9; 32]), Object([8; 16]));

/// What was filled before and moved since goes on as if nothing had been.
async fn goes_on(store: &Store) {
    let said = store.state.interaction_by_item(ItemKey([1; 16])).await.unwrap().unwrap();
    assert_eq!(store.blobs.used_by(said.no, 1).await.unwrap(), Some(FILE.0));
    assert_eq!(store.blobs.blob(FILE.0).await.unwrap().unwrap().object, FILE.1);
    let again = store.journal.append(webhook(Some(1), b"the first words")).await.unwrap();
    assert!(again.repeat, "a delivery that was seen is seen as new");
    assert_eq!(commit(store, first_contact(store, again.position, 1)).await, Committed::AlreadyApplied);
    let pending = store.journal.pending(0, None, 9).await.unwrap();
    assert_eq!(pending.iter().map(|entry| &entry.body.raw[..]).collect::<Vec<_>>(), [b"words that wait"]);
    let next = store.journal.append(webhook(None, b"")).await.unwrap();
    assert!(next.position > pending[0].position);
    // The same item once more is a conflict; another is not, and its event comes after all that there are.
    assert_eq!(commit(store, first_contact(store, next.position, 2)).await, Committed::Conflict);
    let before = soon(async {
        loop {
            let feed = store.catalog.feed(0, 9).await.unwrap();
            if feed.len() == 3 {
                return feed;
            }
        }
    });
    let before = before.await;
    assert!(matches!(commit(store, first_contact(store, next.position, 9)).await, Committed::Done(_)));
    let after = soon(async {
        loop {
            let feed = store.catalog.feed(before[2].no, 9).await.unwrap();
            if !feed.is_empty() {
                return feed;
            }
        }
    });
    assert_eq!(&after.await[0].body[..], [9, 0, 255]);
    assert_eq!(store.catalog.dead_letters(None, i64::MAX, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_goes_on_where_it_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let place = in_folder(&folder, "one");
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    drop(open);
    let lines = dumped(&place).await;
    copied(&place, &on_server("moved")).await;
    same(&lines, &dumped(&on_server("moved")).await, "on PostgreSQL");
    copied(&on_server("moved"), &in_folder(&folder, "two")).await;
    same(&lines, &dumped(&in_folder(&folder, "two")).await, "on SQLite again");
    goes_on(&on_postgres("moved").store).await;
    goes_on(&sqlite(&folder.path().join("two")).store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_numbers_go_on_rising_in_a_cluster_whose_transactions_begin_anew() {
    let open = on_postgres("far");
    // As if this cluster had gone through a million more transactions.
    let far = "UPDATE setting SET value = 1000000 WHERE name = 'feed_offset'";
    run_on(server("far").expose(), far).await.unwrap();
    fill(&open.store).await;
    copied(&on_server("far"), &on_server("anew")).await;
    goes_on(&on_postgres("anew").store).await;
}

/// Fails after so many batches, as a process that is killed.
struct Failing {
    inner: Box<dyn Target>,
    left: AtomicUsize,
}

impl View for Failing {
    fn backend(&self) -> Backend {
        self.inner.backend()
    }

    fn rows<'a>(&'a self, sql: &'a str, parameters: &'a [Value]) -> BoxFuture<'a, Result<Vec<Row>>> {
        self.inner.rows(sql, parameters)
    }
}

impl Target for Failing {
    fn begin<'a>(&'a self, mark: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.begin(mark)
    }

    fn reached<'a>(&'a self, table: &'static Table) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.inner.reached(table)
    }

    fn load<'a>(&'a self, table: &'static Table, rows: Vec<Row>, reached: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return std::future::ready(Err(Error::internal("killed"))).boxed();
        }
        self.inner.load(table, rows, reached)
    }

    fn finish(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.finish()
    }
}

/// Interrupted after every batch in turn, it goes on; until it is done nobody opens the store, and nobody else fills it.
async fn interrupted(from: &Place, to: &Place, open: impl Fn() -> Result<()>) {
    let view = from.view().await.unwrap();
    drop(to.target().await.unwrap());
    move_keys(from, to).await.unwrap();
    for batches in 0..100 {
        let source = Source { view: &*view, seal: &Plain, mark: "this" };
        let target = Failing { inner: to.target().await.unwrap(), left: AtomicUsize::new(1) };
        let outcome = copy(source, &target, &Plain, &mut ()).await;
        drop(target);
        if outcome.is_ok() {
            assert!(batches > 5, "{batches} interruptions are no test");
            open().unwrap();
            return;
        }
        let said = open().unwrap_err();
        assert!(said.full().contains("did not come to its end"), "{}", said.full());
        assert!(to.view().await.is_err());
        let other = Source { view: &*view, seal: &Plain, mark: "another" };
        let refused = copy(other, &*to.target().await.unwrap(), &Plain, &mut ()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
    }
    panic!("it never came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_interrupted_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = in_folder(&folder, "one");
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    let lines = dumped(&place).await;
    let metrics = crate::base::telemetry::Metrics::new;
    let (path, to) = (folder.path().join("two"), in_folder(&folder, "two"));
    let opened =
        || crate::store::sqlite::open(&path, Default::default(), &sealing(), &Unwatched::shared(), metrics()).map(drop);
    interrupted(&place, &to, opened).await;
    same(&lines, &dumped(&to).await, "SQLite");
    let server_place = postgres::Place::parse(&server("interrupted")).unwrap();
    let opened =
        || postgres::open(&server_place, Default::default(), &sealing(), &Unwatched::shared(), metrics()).map(drop);
    interrupted(&place, &on_server("interrupted"), opened).await;
    same(&lines, &dumped(&on_server("interrupted")).await, "PostgreSQL");
    // What holds something already is not filled.
    let view = to.view().await.unwrap();
    let source = Source { view: &*view, seal: &Plain, mark: "this" };
    let refused = copy(source, &*on_server("interrupted").target().await.unwrap(), &Plain, &mut ()).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_neither_moved_nor_filled() {
    let open = on_postgres("used");
    assert_eq!(on_server("used").quiet().await.err().unwrap().kind(), Kind::Config);
    assert_eq!(on_server("used").target().await.err().unwrap().kind(), Kind::Config);
    drop(open);
    let folder = tempfile::tempdir().unwrap();
    let open = sqlite(&folder.path().join("one"));
    assert_eq!(in_folder(&folder, "one").quiet().await.err().unwrap().kind(), Kind::Config);
    assert_eq!(in_folder(&folder, "one").target().await.err().unwrap().kind(), Kind::Config);
    drop(open);
    drop(in_folder(&folder, "one").quiet().await.unwrap());
}

async fn saved(place: &Place, entries: Entries) -> Vec<u8> {
    let (view, mut file) = (place.view().await.unwrap(), Vec::new());
    save(&*view, entries, Timestamp::from_millis(0), &mut file, &mut ()).await.unwrap();
    file
}

/// Restores `file`, with the keys of the store that it is of.
async fn loaded(file: &[u8], of: &Place, to: &Place) -> Result<()> {
    let target = to.target().await?;
    let saved = load(Reader::open(file)?, "file", &*target, &mut ()).await?;
    let mut keys = Vec::new();
    let count = save_keys(&of.chest(false).await?, &saved.sha256, &mut keys).await?;
    assert_eq!(verify_keys(keys.as_slice(), &saved.sha256)?, count);
    assert!(verify_keys(keys.as_slice(), &[0; 32]).is_err(), "keys of another archive");
    assert!(verify_keys(keys.get(..keys.len() - 1).unwrap(), &saved.sha256).is_err(), "keys cut short");
    assert_eq!(restore_keys(to, keys.as_slice(), &saved.sha256).await?, count);
    target.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_everything_and_is_made_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let place = in_folder(&folder, "one");
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    let lines = dumped(&place).await;
    let file = saved(&place, Entries::Whole).await;
    for to in [on_server("restored"), in_folder(&folder, "two")] {
        loaded(&file, &place, &to).await.unwrap();
        same(&lines, &dumped(&to).await, &to.shown());
    }
    assert_eq!(
        saved(&on_server("restored"), Entries::Whole).await.len(),
        file.len() + "postgres".len() - "sqlite".len()
    );
    goes_on(&on_postgres("restored").store).await;
    goes_on(&sqlite(&folder.path().join("two")).store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_refused_wherever_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    let file = saved(&in_folder(&folder, "one"), Entries::Whole).await;
    let whole = |file: &[u8]| Reader::open(file).and_then(Reader::verify);
    assert_eq!(whole(&file).unwrap().rows["interaction"], 3);
    for at in 0..file.len() {
        let mut other = file.clone();
        other[at] ^= 1 << (at % 8);
        assert!(whole(&other).is_err(), "a changed byte at {at} is not noticed");
        assert!(whole(&file[..at]).is_err(), "a file cut off at {at} is taken");
    }
    assert!(whole(&[file.clone(), vec![0]].concat()).is_err());
    // Nothing of it is opened to anybody.
    let mut other = file.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    assert!(loaded(&other, &in_folder(&folder, "one"), &in_folder(&folder, "two")).await.is_err());
    assert!(in_folder(&folder, "two").view().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_holds_only_the_content_that_is_still_needed() {
    let folder = tempfile::tempdir().unwrap();
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    let file = saved(&in_folder(&folder, "one"), Entries::Stubs).await;
    loaded(&file, &in_folder(&folder, "one"), &in_folder(&folder, "two")).await.unwrap();
    let (whole, stubs) = (dumped(&in_folder(&folder, "one")).await, dumped(&in_folder(&folder, "two")).await);
    for (words, kept) in
        [("the first words", false), ("more words", false), ("odd words", true), ("words that wait", true)]
    {
        assert!(memchr::memmem::find(&file, words.as_bytes()).is_none(), "{words} can be read in the file");
        assert_eq!(stubs.contains(words), kept, "{words}");
    }
    let state = |lines: &str| lines.lines().filter(|line| !line.contains("\"record\":\"entry\"")).collect::<String>();
    assert_eq!(state(&whole), state(&stubs));
    assert_eq!(stubs.matches("\"stub\":true").count(), 3);
    // Kept in a folder, they are found by their number.
    let kept = folder.path().join("checkpoints");
    assert!(newest_checkpoint(&kept).unwrap().is_none());
    for number in [4, 5] {
        let view = in_folder(&folder, "one").view().await.unwrap();
        let made = checkpoint(&*view, &kept, Timestamp::from_millis(0), &mut ()).await.unwrap();
        assert_eq!((made.1, newest_checkpoint(&kept).unwrap()), (number, Some(made)));
        let next = open.store.journal.append(webhook(None, b"")).await.unwrap().position;
        assert!(matches!(
            commit(&open.store, first_contact(&open.store, next, 50 + number as u8)).await,
            Committed::Done(_)
        ));
    }
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
    remove_older_checkpoints(&kept, 5).unwrap();
    assert_eq!(newest_checkpoint(&kept).unwrap().map(|(_, number)| number), Some(5));
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);
}

/// Keeps what passes through it in another form, and a hash in another order.
struct Turned;

impl Seal for Turned {
    fn open(&self, _: &Table, _: &Column, key: &[Value], bytes: Bytes) -> Result<Bytes> {
        assert!(!key.is_empty());
        Ok(bytes.iter().map(|byte| byte ^ 0x5a).collect())
    }

    fn seal(&self, table: &Table, column: &Column, key: &[Value], bytes: Bytes) -> Result<Bytes> {
        self.open(table, column, key, bytes)
    }
}

/// Two stores whose values and keys lie in different forms print the same, and one can be moved to the other.
#[tokio::test(flavor = "multi_thread")]
async fn how_values_lie_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let open = sqlite(&folder.path().join("one"));
    fill(&open.store).await;
    for seed in 10..30 {
        let next = open.store.journal.append(webhook(None, b"")).await.unwrap().position;
        assert!(matches!(commit(&open.store, first_contact(&open.store, next, seed)).await, Committed::Done(_)));
    }
    let (from, to) = (in_folder(&folder, "one"), in_folder(&folder, "two"));
    let lines = dumped(&from).await;
    {
        let (view, target) = (from.view().await.unwrap(), to.target().await.unwrap());
        let opener = Opener::at(&from, &sealing()).await.unwrap();
        let source = Source { view: &*view, seal: &opener, mark: "this" };
        // Text columns stay text here: a turned byte of theirs may be none.
        copy(source, &*target, &Keys, &mut ()).await.unwrap();
    }
    let view = to.view().await.unwrap();
    let mut out = Vec::new();
    dump(&*view, &Keys, true, &mut out, &mut ()).await.unwrap();
    same(&lines, std::str::from_utf8(&out).unwrap(), "turned");
    out.clear();
    dump(&*view, &Plain, true, &mut out, &mut ()).await.unwrap();
    assert_ne!(lines.as_bytes(), out);
}

/// [`Turned`] for bytes alone.
struct Keys;

impl Seal for Keys {
    fn open(&self, table: &Table, column: &Column, key: &[Value], bytes: Bytes) -> Result<Bytes> {
        if column.ty == Type::Text { Ok(bytes) } else { Turned.open(table, column, key, bytes) }
    }

    fn seal(&self, table: &Table, column: &Column, key: &[Value], bytes: Bytes) -> Result<Bytes> {
        self.open(table, column, key, bytes)
    }
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_fail_in_another_way(mut bytes: Vec<u8>, begin: bool) {
        if begin {
            bytes.splice(0..0, *b"segue archive 1\n\0\0\0\x02H{}");
        }
        prop_assert!(Reader::open(&bytes[..]).and_then(Reader::verify).is_err());
    }

    #[test]
    fn a_row_is_read_as_it_was_written(numbers: Vec<i64>, text: String, bytes: Vec<u8>) {
        let mut row: Row = numbers.into_iter().map(Value::Integer).collect();
        row.extend([Value::Null, Value::Text(text), Value::Bytes(bytes.into())]);
        let mut written = Vec::new();
        frames::encode(&row, &mut written);
        prop_assert_eq!(frames::decode(&written).unwrap(), row);
        written.pop();
        prop_assert!(frames::decode(&written).is_err() || written.is_empty());
    }
}
