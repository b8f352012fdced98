//! Keys and values, without a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::base::id::EntryId;
use crate::base::{Kind, Timestamp};
use crate::model::{EntryBody, EntryKind};
use crate::store::{Changeset, NewEntry, Unwatched};

/// A key store in memory.
#[derive(Default)]
struct InMemory {
    keys: Mutex<BTreeMap<KeyId, WrappedKey>>,
    root: Mutex<Option<[u8; 8]>>,
}

fn now<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T>> {
    std::future::ready(Ok(value)).boxed()
}

impl KeyStore for InMemory {
    fn load(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        let keys = self.keys.lock();
        now(ids.into_iter().filter_map(|id| Some((id, keys.get(&id)?.clone()))).collect())
    }

    fn root(&self) -> BoxFuture<'_, Result<Option<[u8; 8]>>> {
        now(*self.root.lock())
    }

    fn add(&self, by: [u8; 8], keys: Vec<(KeyId, WrappedKey)>) -> BoxFuture<'_, Result<bool>> {
        if *self.root.lock().get_or_insert(by) != by {
            return now(false);
        }
        let mut known = self.keys.lock();
        for (id, key) in keys {
            known.entry(id).or_insert(key);
        }
        now(true)
    }

    fn page(&self, after: Option<KeyId>, limit: usize) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        let keys = self.keys.lock();
        let later = keys.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        now(later.take(limit).map(|(id, key)| (*id, key.clone())).collect())
    }

    fn go_by(&self, root: [u8; 8]) -> BoxFuture<'_, Result<()>> {
        *self.root.lock() = Some(root);
        now(())
    }

    fn rewrap(&self, keys: Vec<(KeyId, [u8; 8], WrappedKey)>) -> BoxFuture<'_, Result<()>> {
        keys.into_iter().for_each(|(id, _, key)| drop(self.keys.lock().insert(id, key)));
        now(())
    }

    fn destroy(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<()>> {
        ids.iter().for_each(|id| drop(self.keys.lock().remove(id)));
        now(())
    }
}

struct Desk {
    folder: tempfile::TempDir,
    keys: Arc<InMemory>,
}

impl Desk {
    fn new() -> Desk {
        Desk { folder: tempfile::tempdir().unwrap(), keys: Arc::default() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("root.key")
    }

    fn codec(&self) -> Codec {
        Codec::open(self.keys.clone(), &Sealing::at(self.path())).now_or_never().unwrap().unwrap()
    }
}

fn done<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    future.now_or_never().unwrap()
}

fn entry(key: Option<[u8; 16]>) -> NewEntry {
    NewEntry {
        id: EntryId::random(Timestamp::from_millis(0)),
        kind: EntryKind::Webhook,
        channel: "wa".to_owned(),
        at: Timestamp::from_millis(0),
        interactive: false,
        keys: Vec::new(),
        key,
        body: EntryBody { head: "head".into(), raw: "body".into() },
    }
}

fn stored(entry: &NewEntry, sealed: &SealedEntry, applied_wrap: Option<Vec<u8>>) -> stored::StoredEntry {
    stored::StoredEntry {
        position: 7,
        id: entry.id,
        kind: entry.kind,
        channel: entry.channel.clone(),
        bucket: 0,
        at: entry.at,
        interactive: entry.interactive,
        head: sealed.head.clone(),
        raw: sealed.raw.clone(),
        wrap: sealed.wrap.clone(),
        applied_wrap,
    }
}

/// A changeset that concerns these customers.
fn concerning(customers: &[i64]) -> Changeset {
    let asserts = customers.iter().map(|no| crate::store::Assert::Customer(*no, 1)).collect();
    Changeset { position: 7, asserts, facts: Some("{}".to_owned()), ..Changeset::default() }
}

#[test]
fn keys_outlive_the_process_and_need_the_root_key() {
    let desk = Desk::new();
    let codec = desk.codec();
    done(codec.reserve(1..3)).unwrap();
    let ring = done(codec.keys([KeyId::customer(2)].into())).unwrap();
    let sealed = codec.seal(&ring, KeyId::customer(2), Column::Body, b"1", b"hello").unwrap();
    let again = desk.codec();
    let ring = done(again.keys([KeyId::customer(2)].into())).unwrap();
    assert_eq!(again.open_value(&ring, Column::Body, b"1", &sealed).unwrap(), b"hello");
    assert_eq!(again.blind(&[5; 16]), codec.blind(&[5; 16]));
    let file = std::fs::read(desk.path()).unwrap();
    std::fs::remove_file(desk.path()).unwrap();
    let absent = done(Codec::open(desk.keys.clone(), &Sealing::at(desk.path()))).err().unwrap();
    assert!(absent.full().contains("put its file here"), "{}", absent.full());
    RootKeys::create(&desk.path()).unwrap();
    let wrong = done(Codec::open(desk.keys.clone(), &Sealing::at(desk.path()))).err().unwrap();
    assert_eq!(wrong.kind(), Kind::Config, "{}", wrong.full());
    std::fs::write(desk.path(), file).unwrap();
    desk.codec();
}

#[test]
fn an_entry_opens_by_its_day_then_by_its_customers_and_by_none_without_all_of_them() {
    let desk = Desk::new();
    let codec = desk.codec();
    done(codec.reserve(1..4)).unwrap();
    let entry = entry(None);
    let sealed = codec.seal_entry(&entry).unwrap();
    let read = |applied: Option<Vec<u8>>| done(codec.open_all(vec![stored(&entry, &sealed, applied)]));
    assert_eq!(read(None).unwrap()[0].body.raw, "body");
    codec.keep(7, &sealed);
    let sets = done(codec.seal_sets(vec![concerning(&[3, 1])])).unwrap();
    let wrap = sets[0].wrap.clone();
    assert_eq!(read(wrap.clone()).unwrap()[0].body.head, "head");
    for gone in [1, 3] {
        let kept = desk.keys.keys.lock().remove(&KeyId::customer(gone)).unwrap();
        let fresh = desk.codec();
        let error = done(fresh.open_all(vec![stored(&entry, &sealed, wrap.clone())])).err().unwrap();
        assert!(error.full().contains("destroyed"), "{}", error.full());
        desk.keys.keys.lock().insert(KeyId::customer(gone), kept);
    }
}

#[test]
fn the_key_of_an_entry_is_found_again_after_a_restart() {
    let desk = Desk::new();
    let codec = desk.codec();
    done(codec.reserve(1..2)).unwrap();
    let entry = entry(Some([4; 16]));
    let sealed = codec.seal_entry(&entry).unwrap();
    assert_eq!(sealed.key, Some(codec.blind(&[4; 16])));
    let again = desk.codec();
    assert_eq!(again.unknown([7].into_iter()), [7]);
    done(again.learn(vec![(7, entry.id, sealed.wrap.clone())])).unwrap();
    assert!(again.unknown([7].into_iter()).is_empty());
    let sets = done(again.seal_sets(vec![concerning(&[1])])).unwrap();
    let read = done(again.open_all(vec![stored(&entry, &sealed, sets[0].wrap.clone())])).unwrap();
    assert_eq!(read[0].body.raw, "body");
}

#[test]
fn what_no_customer_owns_is_kept_when_the_days_key_goes() {
    let desk = Desk::new();
    let codec = desk.codec();
    let entry = entry(None);
    let sealed = codec.seal_entry(&entry).unwrap();
    let young = done(codec.unmatched(vec![(7, entry.id, sealed.wrap.clone(), false)], 0, 10)).unwrap();
    assert_eq!((young.to, young.wraps.len(), young.last), (0, 0, true));
    // The same wrap three days on.
    let wrap = done(codec.wrap_for_house(entry.id, &sealed.wrap)).unwrap();
    let days: Vec<KeyId> = desk.keys.keys.lock().keys().copied().filter(|id| id.of_day().is_some()).collect();
    assert_eq!(days.len(), 2, "the key of this day and of the next");
    desk.keys.keys.lock().retain(|id, _| id.of_day().is_none());
    let kept = stored::StoredEntry { wrap, ..stored(&entry, &sealed, None) };
    let read = done(desk.codec().open_all(vec![kept])).unwrap();
    assert_eq!(read[0].body.raw, "body");
}

#[test]
fn a_rotation_wraps_every_key_and_a_gateway_that_runs_follows() {
    let desk = Desk::new();
    let running = desk.codec();
    done(running.reserve(1..50)).unwrap();
    let ring = done(running.keys([KeyId::customer(9)].into())).unwrap();
    let sealed = running.seal(&ring, KeyId::customer(9), Column::Body, b"1", b"hello").unwrap();
    let chest = KeyChest::new(desk.keys.clone());
    let before = RootKeys::read(&desk.path()).unwrap();
    let wrapped = done(chest.rotate(&before, &Unwatched)).unwrap();
    assert_eq!(wrapped, 49 + 2 + 2);
    let after = RootKeys::read(&desk.path()).unwrap();
    assert_eq!((after.count(), after.name() == before.name()), (1, false));
    assert_eq!(done(chest.verify(&after)).unwrap(), wrapped);
    assert!(done(chest.verify(&before)).is_err());
    // New keys are by the new root, and what was sealed before opens.
    done(running.reserve(50..60)).unwrap();
    let counts = done(chest.counts()).unwrap();
    assert_eq!((counts.by_root.len(), counts.customers, counts.days), (1, 59, 2));
    let again = desk.codec();
    let ring = done(again.keys([KeyId::customer(9)].into())).unwrap();
    assert_eq!(again.open_value(&ring, Column::Body, b"1", &sealed).unwrap(), b"hello");
}

#[test]
fn an_interrupted_rotation_is_taken_up_again() {
    let desk = Desk::new();
    done(desk.codec().reserve(1..50)).unwrap();
    // Ended after the file had both keys, and again after the key store went by the new one.
    let both = RootKeys::read(&desk.path()).unwrap().with_new().unwrap();
    done(desk.codec().reserve(50..60)).unwrap();
    done(desk.keys.go_by(both.newest())).unwrap();
    done(desk.codec().reserve(60..70)).unwrap();
    let chest = KeyChest::new(desk.keys.clone());
    done(chest.rotate(&RootKeys::read(&desk.path()).unwrap(), &Unwatched)).unwrap();
    let after = RootKeys::read(&desk.path()).unwrap();
    assert_eq!((after.count(), after.newest() == both.newest()), (1, true));
    done(chest.verify(&after)).unwrap();
}

#[test]
fn a_store_written_sealed_is_not_read_with_sealing_off() {
    let desk = Desk::new();
    let sealed = desk.codec().seal_house(Column::Reason, b"1", b"why").unwrap();
    let off = done(Codec::open(Arc::<InMemory>::default(), &Sealing::off())).unwrap();
    let ring = done(off.keys([].into())).unwrap();
    assert_eq!(off.open_value(&ring, Column::Reason, b"1", &sealed).err().unwrap().kind(), Kind::Config);
    let plain = off.seal_house(Column::Reason, b"1", b"why").unwrap();
    assert_eq!(off.open_value(&ring, Column::Reason, b"1", &plain).unwrap(), b"why");
}

#[test]
fn a_looked_up_key_comes_back_and_does_not_show() {
    let (one, other) = (Desk::new(), Desk::new());
    let (codec, other) = (one.codec(), other.codec());
    for n in 0u32..10_000 {
        let key = crate::base::hash::key16(&[&n.to_be_bytes()]);
        let blind = codec.blind(&key);
        assert!(blind != key && blind != other.blind(&key));
        assert_eq!(codec.unblind(&blind), key);
    }
}

#[test]
fn the_key_of_a_file_opens_by_its_customer_and_goes_with_the_customer() {
    use crate::store::blob::BlobKeys;
    let desk = Desk::new();
    let codec = desk.codec();
    done(codec.reserve(1..3)).unwrap();
    let wrap = |customer| done(codec.wrap(customer, &[7; 32])).unwrap();
    let (one, other, nobodys) = (wrap(Some(1)), wrap(Some(2)), wrap(None));
    assert!([&one, &other, &nobodys].iter().all(|wrap| !wrap.windows(32).any(|key| key == [7; 32])));
    assert_eq!(done(codec.wrap(Some(3), &[7; 32])).err().unwrap().kind(), Kind::NotFound);
    done(desk.keys.destroy(vec![KeyId::customer(1)])).unwrap();
    let again = desk.codec();
    assert_eq!(done(again.unwrap(&one)).err().unwrap().kind(), Kind::NotFound);
    for wrap in [&other, &nobodys] {
        assert_eq!(*done(again.unwrap(wrap)).unwrap(), [7; 32]);
        let mut flipped = wrap.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(done(again.unwrap(&flipped)).err().unwrap().kind(), Kind::Internal);
        assert!(done(again.unwrap(&wrap[..wrap.len() - 20])).is_err());
    }
    let name = |codec: &Codec, customer| codec.name(customer, &[9; 32]).unwrap();
    assert_eq!(name(&codec, Some(2)), name(&again, Some(2)));
    let names = [name(&codec, None), name(&codec, Some(0)), name(&codec, Some(2)), name(&Desk::new().codec(), Some(2))];
    assert_eq!(std::collections::BTreeSet::from(names).len(), 4);
}

proptest! {
    #[test]
    fn a_value_opens_as_what_was_sealed_and_nowhere_else(
        plain in prop::collection::vec(any::<u8>(), 0..200),
        no in 0i64..1 << 40,
        flip in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let key = DataKey::new(&[3; 32]).unwrap();
        let (id, row) = (KeyId::customer(no), no.to_be_bytes());
        let sealed = key.seal(id, Column::Body, &row, &plain).unwrap();
        prop_assert_eq!(key_of(&sealed).unwrap().0, id);
        prop_assert_eq!(key.open(Column::Body, &row, &sealed).unwrap(), plain.clone());
        prop_assert!(key.open(Column::Decision, &row, &sealed).is_err());
        prop_assert!(key.open(Column::Body, &(no + 1).to_be_bytes(), &sealed).is_err());
        prop_assert!(DataKey::new(&[4; 32]).unwrap().open(Column::Body, &row, &sealed).is_err());
        let mut damaged = sealed.clone();
        let place = flip.index(damaged.len());
        damaged[place] ^= 1 << bit;
        prop_assert!(key_of(&damaged).is_err() || key.open(Column::Body, &row, &damaged).is_err());
        prop_assert!(key.open(Column::Body, &row, &sealed[..place]).is_err());
        prop_assert!(key.seal(id, Column::Body, &row, &plain).unwrap() != sealed, "a nonce came twice");
    }
}
