//! Looking at a key store, and wrapping its keys by a new root key. The data is not touched, and a gateway may run meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::root::{RootId, RootKeys};
use super::{KeyId, KeyStore, WrappedKey};
use crate::base::{Error, Kind, Result, Retry, Side};
use crate::store::Progress;

/// How many keys are wrapped at once.
const PIECE: usize = 1000;

/// A key store, for those who keep the keys.
pub struct KeyChest(Arc<dyn KeyStore>);

/// What a key store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct KeyCounts {
    /// The root key that new keys are wrapped by; empty in an empty key store.
    pub root: String,
    /// Keys of customers, with those made in advance.
    pub customers: u64,
    /// Keys of days.
    pub days: u64,
    /// Other keys.
    pub others: u64,
    /// How many are wrapped by each root key.
    pub by_root: BTreeMap<String, u64>,
}

impl KeyChest {
    pub(in crate::store) fn new(store: Arc<dyn KeyStore>) -> KeyChest {
        KeyChest(store)
    }

    /// Counts what there is.
    ///
    /// # Errors
    ///
    /// If the key store cannot be read.
    pub async fn counts(&self) -> Result<KeyCounts> {
        let mut counts = KeyCounts::default();
        if let Some(root) = self.0.root().await? {
            counts.root = HEXLOWER.encode(&root);
        }
        let mut after = None;
        loop {
            let page = self.0.page(after, PIECE).await?;
            let Some((last, _)) = page.last() else { return Ok(counts) };
            after = Some(*last);
            for (id, key) in &page {
                *counts.by_root.entry(HEXLOWER.encode(&key.root)).or_default() += 1;
                match id {
                    id if id.is_of_customer() => counts.customers += 1,
                    id if id.of_day().is_some() => counts.days += 1,
                    _ => counts.others += 1,
                }
            }
        }
    }

    /// What opens what a store with this key store holds.
    pub(in crate::store) fn keys(&self) -> Arc<dyn KeyStore> {
        self.0.clone()
    }

    /// The keys after one, as they lie, with the root key that the key store goes by; none at the end.
    pub(in crate::store) async fn some(&self, after: Option<KeyId>) -> Result<Vec<(KeyId, WrappedKey)>> {
        self.0.page(after, PIECE).await
    }

    /// The root key that the key store goes by.
    pub(in crate::store) async fn root(&self) -> Result<Option<RootId>> {
        self.0.root().await
    }

    /// Takes keys as they lay elsewhere.
    ///
    /// # Errors
    ///
    /// `Conflict` if the key store goes by another root key.
    pub(in crate::store) async fn take(&self, root: RootId, keys: Vec<(KeyId, WrappedKey)>) -> Result<()> {
        match self.0.add(root, keys).await? {
            true => Ok(()),
            false => Err(Error::new(Kind::Conflict, "the key store there goes by another root key; empty it first")
                .on_side(Side::Operator)
                .with_retry(Retry::Never)),
        }
    }

    /// Opens every key. Gives how many there are.
    ///
    /// # Errors
    ///
    /// `Config` if one is wrapped by a root key that is not among `roots`, `Internal` if one is damaged.
    pub async fn verify(&self, roots: &RootKeys) -> Result<u64> {
        let (mut after, mut count): (Option<KeyId>, u64) = (None, 0);
        loop {
            let page = self.0.page(after, PIECE).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            after = Some(*last);
            for (id, key) in &page {
                roots.unwrap(key).map_err(|e| e.context(format!("key {}", id.0)))?;
            }
            count += page.len() as u64;
        }
    }

    /// Wraps all keys by a new root key, which is put into the file first; the old one leaves the file last. What was
    /// interrupted is taken up again. Gives how many keys were wrapped.
    ///
    /// # Errors
    ///
    /// As [`KeyChest::verify`]; `Io` if the file cannot be replaced.
    pub async fn rotate(&self, roots: &RootKeys, progress: &dyn Progress) -> Result<u64> {
        let known =
            self.0.root().await?.ok_or_else(|| Error::not_found("the key store is empty: nothing is to be rotated"))?;
        let begun = roots.count() > 1;
        let roots = if begun { roots.clone() } else { roots.with_new()? };
        if !roots.knows(&known) {
            return Err(Error::config(format!(
                "the key store goes by root key {}, which the root key file does not hold",
                HEXLOWER.encode(&known)
            )));
        }
        let root = roots.newest();
        // From now on no key is added by the old one.
        self.0.go_by(root).await?;
        let total = self.counts().await?.by_root.values().sum();
        let (mut after, mut seen, mut wrapped) = (None, 0, 0);
        loop {
            let page = self.0.page(after, PIECE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            seen += page.len() as u64;
            wrapped += self.wrap(&roots, root, page).await?;
            progress.step("wrapping keys", seen, total);
        }
        roots.without_old()?;
        Ok(wrapped)
    }

    async fn wrap(&self, roots: &RootKeys, root: RootId, page: Vec<(KeyId, WrappedKey)>) -> Result<u64> {
        let old = page.into_iter().filter(|(_, key)| key.root != root);
        let anew = old.map(|(id, key)| Ok((id, key.root, roots.wrap(root, id, &*roots.unwrap(&key)?)?)));
        let anew = anew.collect::<Result<Vec<_>>>()?;
        let count = anew.len() as u64;
        if count > 0 {
            self.0.rewrap(anew).await?;
        }
        Ok(count)
    }
}
