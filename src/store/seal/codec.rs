//! The codec: keys at hand, values sealed and opened, looked-up keys enciphered.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use ring::hmac;
use zeroize::Zeroizing;

use super::entry::EntryKeys;
use super::keystore::NoKeys;
use super::root::{RootKeys, Sealing};
use super::stored::Stored;
use super::{Bytes32, Column, DataKey, KeyId, KeyStore, PLAIN, WrappedKey, derived, destroyed, key_of, random};
use crate::base::{Error, Result};

/// How many keys are kept ready for use.
const READY: usize = 4096;
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// How many days after its own a day's key is destroyed.
const DAYS_KEPT: i64 = 3;

/// Seals and opens, with the keys that it needs at hand.
pub(in crate::store) struct Codec {
    store: Arc<dyn KeyStore>,
    roots: ArcSwap<RootKeys>,
    ready: Cache<KeyId, Arc<DataKey>>,
    index: Aes256,
    /// Under which blobs are named.
    pub(super) names: hmac::Key,
    /// For the tokens in our mails.
    pub(in crate::store) mail_secret: Bytes32,
    house: Arc<DataKey>,
    /// The present day's.
    day: ArcSwapOption<(i64, DataKey)>,
    pub(super) entries: EntryKeys,
    off: bool,
    unused: bool,
}

/// The keys that a batch of values needs.
pub(in crate::store) struct Keyring(HashMap<KeyId, Arc<DataKey>>);

impl Keyring {
    /// A key, unless it was destroyed.
    pub(in crate::store) fn get(&self, id: KeyId) -> Result<&DataKey> {
        self.0.get(&id).map(AsRef::as_ref).ok_or_else(destroyed)
    }
}

impl Codec {
    /// Opens the key store; makes the keys that every store needs.
    ///
    /// # Errors
    ///
    /// `Config` if the key store is wrapped by a root key that is not there.
    pub(in crate::store) async fn open(store: Arc<dyn KeyStore>, sealing: &Sealing) -> Result<Codec> {
        let codec = Codec::for_reading(store, sealing).await?;
        codec.keep_days().await?;
        Ok(codec)
    }

    /// Opens the key store for one who writes nothing.
    ///
    /// # Errors
    ///
    /// As [`Codec::open`].
    pub(in crate::store) async fn for_reading(store: Arc<dyn KeyStore>, sealing: &Sealing) -> Result<Codec> {
        let roots = sealing.roots(store.root().await?)?;
        let (off, fixed) = (roots.is_none(), [KeyId::HOUSE, KeyId::INDEX]);
        let keys = match &roots {
            Some(roots) => fixed_keys(&*store, roots, &fixed).await?,
            None => fixed.map(|id| (id, Zeroizing::new([0; 32]))).into(),
        };
        let find = |id| keys.iter().find(|(found, _)| *found == id).map(|(_, key): &(KeyId, Bytes32)| key);
        let missing = || Error::internal("a key that was just made is gone");
        let index = find(KeyId::INDEX).ok_or_else(missing)?;
        let codec = Codec {
            roots: ArcSwap::from_pointee(roots.unwrap_or_else(RootKeys::none)),
            ready: Cache::new(READY),
            index: Aes256::new(index.as_slice().into()),
            names: derived::blob_names(index)?,
            mail_secret: if off { random::bytes().map(Zeroizing::new)? } else { derived::mail_secret(index)? },
            house: Arc::new(DataKey::new(find(KeyId::HOUSE).ok_or_else(missing)?)?),
            day: ArcSwapOption::empty(),
            entries: EntryKeys::default(),
            off,
            unused: false,
            store,
        };
        Ok(codec)
    }

    /// One that seals and opens nothing, for a store that is made and not yet used.
    ///
    /// # Errors
    ///
    /// None that are known.
    pub(in crate::store) async fn unused() -> Result<Codec> {
        let codec = Codec::for_reading(Arc::new(NoKeys), &Sealing::off()).await?;
        Ok(Codec { unused: true, ..codec })
    }

    // === keys ===

    /// Makes keys for customers that are about to be, and keeps them ready.
    pub(in crate::store) async fn reserve(&self, customers: std::ops::Range<i64>) -> Result<()> {
        if self.off {
            return Ok(());
        }
        let ids: Vec<KeyId> = customers.map(KeyId::customer).collect();
        for (id, key) in self.made(&ids).await? {
            self.ready.insert(id, Arc::new(DataKey::new(&key)?));
        }
        Ok(())
    }

    /// These keys; those that are not there yet are made.
    async fn made(&self, ids: &[KeyId]) -> Result<Vec<(KeyId, Bytes32)>> {
        let roots = self.roots.load_full();
        match made(&*self.store, &roots, ids).await? {
            Some(keys) => Ok(keys),
            None => {
                // Somebody rotated the root key meanwhile.
                let roots = Arc::new(roots.again()?);
                self.roots.store(roots.clone());
                made(&*self.store, &roots, ids).await?.ok_or_else(|| {
                    Error::config("the key store goes by a root key that the root key file does not hold; copy it here")
                })
            }
        }
    }

    /// The keys of these ids, as far as they were not destroyed.
    pub(in crate::store) async fn keys(&self, ids: BTreeSet<KeyId>) -> Result<Keyring> {
        let (mut ring, mut missing) = (HashMap::with_capacity(ids.len()), Vec::new());
        for id in ids {
            match id {
                KeyId::HOUSE => drop(ring.insert(id, self.house.clone())),
                KeyId::OWN => {}
                _ => match self.ready.get(&id) {
                    Some(key) => drop(ring.insert(id, key)),
                    None => missing.push(id),
                },
            }
        }
        if !missing.is_empty() && !self.off {
            for (id, wrapped) in self.store.load(missing).await? {
                let key = Arc::new(DataKey::new(&*self.unwrap(&wrapped)?)?);
                self.ready.insert(id, key.clone());
                ring.insert(id, key);
            }
        }
        Ok(Keyring(ring))
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Bytes32> {
        let roots = self.roots.load();
        if roots.knows(&wrapped.root) {
            return roots.unwrap(wrapped);
        }
        let again = roots.again()?;
        let key = again.unwrap(wrapped)?;
        self.roots.store(Arc::new(again));
        Ok(key)
    }

    /// Makes the key of this day and of the next, and puts this day's to use.
    pub(in crate::store) async fn keep_days(&self) -> Result<()> {
        if self.off {
            return Ok(());
        }
        let today = today();
        if self.day.load().as_ref().is_some_and(|day| day.0 == today) {
            return Ok(());
        }
        for (id, key) in self.made(&[KeyId::day(today), KeyId::day(today + 1)]).await? {
            let key = DataKey::new(&key)?;
            if id == KeyId::day(today) {
                self.day.store(Some(Arc::new((today, key))));
            } else {
                self.ready.insert(id, Arc::new(key));
            }
        }
        Ok(())
    }

    /// The latest day whose key is to be destroyed by now.
    pub(in crate::store) fn day_past(&self) -> i64 {
        today() - DAYS_KEPT
    }

    /// Destroys the keys of these days and before. What is still wrapped by them cannot be read again.
    pub(in crate::store) async fn destroy_days(&self, up_to: i64) -> Result<()> {
        if self.off {
            return Ok(());
        }
        // A month back: what a gateway that was not run for longer left is found by `doctor`.
        let ids: Vec<KeyId> = (up_to - 31..=up_to).map(KeyId::day).collect();
        let there: Vec<KeyId> = self.store.load(ids).await?.into_iter().map(|(id, _)| id).collect();
        if there.is_empty() {
            return Ok(());
        }
        there.iter().for_each(|id| drop(self.ready.remove(id)));
        self.store.destroy(there).await
    }

    /// The key of what belongs to nobody.
    pub(super) fn house(&self) -> &DataKey {
        &self.house
    }

    /// With the key for what enters now: the day's, or the house's if the day's is not there yet.
    pub(super) fn now<T>(&self, with: &dyn Fn(KeyId, &DataKey) -> Result<T>) -> Result<T> {
        match self.day.load().as_deref() {
            Some((day, key)) => with(KeyId::day(*day), key),
            None => with(KeyId::HOUSE, &self.house),
        }
    }

    // === values ===

    /// Whether it can seal nothing, and nobody asked it to leave values as they are.
    pub(in crate::store) fn is_unused(&self) -> bool {
        self.unused
    }

    /// Whether values are written as they are, to measure what sealing costs.
    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    /// Seals a value under a key of the ring.
    pub(in crate::store) fn seal(
        &self,
        ring: &Keyring,
        id: KeyId,
        column: Column,
        row: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        if self.off {
            return Ok(unsealed(plain));
        }
        ring.get(id)?.seal(id, column, row, plain)
    }

    /// Seals a value that belongs to nobody.
    pub(in crate::store) fn seal_house(&self, column: Column, row: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        if self.off {
            return Ok(unsealed(plain));
        }
        self.house.seal(KeyId::HOUSE, column, row, plain)
    }

    /// Seals a value that belongs to nobody and goes on with it, or gives why it could not be sealed.
    pub(in crate::store) fn with_sealed<T: Send + 'static>(
        &self,
        column: Column,
        row: &[u8],
        plain: &[u8],
        then: impl FnOnce(Vec<u8>) -> BoxFuture<'static, Result<T>>,
    ) -> BoxFuture<'static, Result<T>> {
        match self.seal_house(column, row, plain) {
            Ok(sealed) => then(sealed),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    /// Opens a value with the keys of the ring.
    pub(in crate::store) fn open_value(
        &self,
        ring: &Keyring,
        column: Column,
        row: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        if self.off {
            return bare(sealed).map(<[u8]>::to_vec);
        }
        ring.get(key_of(sealed)?.0)?.open(column, row, sealed)
    }

    /// The key that a value is sealed under.
    pub(in crate::store) fn key_of(&self, sealed: &[u8]) -> Result<KeyId> {
        if self.off { Ok(KeyId::HOUSE) } else { Ok(key_of(sealed)?.0) }
    }

    /// Opens rows: fetches the keys that they need in one go, then reads each.
    pub(in crate::store) async fn open_all<S: Stored>(&self, rows: Vec<S>) -> Result<Vec<S::Row>> {
        let mut ids = BTreeSet::new();
        for row in &rows {
            row.keys(self, &mut ids)?;
        }
        let ring = self.keys(ids).await?;
        rows.into_iter().map(|row| row.open(self, &ring)).collect()
    }

    /// Opens a row, if there is one.
    pub(in crate::store) async fn open_one<S: Stored>(&self, row: Option<S>) -> Result<Option<S::Row>> {
        Ok(self.open_all(row.into_iter().collect()).await?.pop())
    }

    // === keys that are looked up ===

    /// What a looked-up key is in the tables.
    pub(in crate::store) fn blind(&self, key: &[u8; 16]) -> [u8; 16] {
        if self.off {
            return *key;
        }
        let mut block = (*key).into();
        self.index.encrypt_block(&mut block);
        block.into()
    }

    /// What a key of the tables was.
    pub(in crate::store) fn unblind(&self, key: &[u8; 16]) -> [u8; 16] {
        if self.off {
            return *key;
        }
        let mut block = (*key).into();
        self.index.decrypt_block(&mut block);
        block.into()
    }
}

/// Keys of these ids, made where they are not there. None if the key store goes by another root key.
async fn made(store: &dyn KeyStore, roots: &RootKeys, ids: &[KeyId]) -> Result<Option<Vec<(KeyId, Bytes32)>>> {
    let there = store.load(ids.to_vec()).await?;
    if there.iter().any(|(_, wrapped)| !roots.knows(&wrapped.root)) {
        return Ok(None);
    }
    let known: BTreeSet<KeyId> = there.iter().map(|(id, _)| *id).collect();
    let missing: Vec<KeyId> = ids.iter().filter(|id| !known.contains(id)).copied().collect();
    if missing.is_empty() {
        let opened = there.iter().map(|(id, wrapped)| Ok((*id, roots.unwrap(wrapped)?)));
        return opened.collect::<Result<Vec<_>>>().map(Some);
    }
    let root = store.root().await?.unwrap_or_else(|| roots.newest());
    if !roots.knows(&root) {
        return Ok(None);
    }
    let fresh = missing.iter().map(|id| Ok((*id, roots.wrap(root, *id, &Zeroizing::new(random::bytes::<32>()?))?)));
    if !store.add(root, fresh.collect::<Result<Vec<_>>>()?).await? {
        return Ok(None);
    }
    // Another node may have been faster: what is there counts.
    let there = store.load(ids.to_vec()).await?;
    there.iter().map(|(id, wrapped)| Ok((*id, roots.unwrap(wrapped)?))).collect::<Result<Vec<_>>>().map(Some)
}

async fn fixed_keys(store: &dyn KeyStore, roots: &RootKeys, ids: &[KeyId]) -> Result<Vec<(KeyId, Bytes32)>> {
    made(store, roots, ids).await?.ok_or_else(|| {
        Error::config(
            "the key store goes by another root key than the root key file holds; use the file it was made with",
        )
    })
}

pub(super) fn unsealed(plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(plain.len() + 1);
    bytes.push(PLAIN);
    bytes.extend_from_slice(plain);
    bytes
}

pub(super) fn bare(bytes: &[u8]) -> Result<&[u8]> {
    match bytes.split_first() {
        Some((&PLAIN, rest)) => Ok(rest),
        _ => Err(Error::config("the store is sealed; it cannot be read with sealing switched off")),
    }
}

/// The present day, counted from 1970-01-01 in UTC. Not the clock of the gateway, which may be simulated: keys are
/// destroyed in real time.
fn today() -> i64 {
    crate::base::Clock::default().now().millis().div_euclid(DAY)
}
