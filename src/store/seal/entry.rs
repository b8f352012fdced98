//! Journal entries: each under a key of its own, whose wrap lies beside it.
//!
//! When an entry comes nobody knows whose it is, so its key is wrapped by the day's. Once it is applied the wrap in its applied
//! record is that of the customers it concerned, one inside the other: destroying any of their keys ends it. The first wrap ends
//! with the day's key.

use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::codec::{Codec, Keyring, bare, unsealed};
use super::{Bytes32, Column, DataKey, KeyId, damaged, random, read_number, write_number};
use crate::base::id::EntryId;
use crate::base::{Kind, Result};
use crate::model::EntryBody;
use crate::store::NewEntry;

/// How many keys of entries that are not applied yet are kept at hand.
const AT_HAND: usize = 16_384;

/// An entry as it is written.
pub(in crate::store) struct SealedEntry {
    pub(in crate::store) head: Vec<u8>,
    pub(in crate::store) raw: Vec<u8>,
    /// The entry's key under that of its day.
    pub(in crate::store) wrap: Vec<u8>,
    /// The delivery key as the tables hold it.
    pub(in crate::store) key: Option<[u8; 16]>,
    own: Bytes32,
}

/// An entry whose day's key may have to be destroyed: position, id, wrap, and whether a customer owns it.
pub(in crate::store) type DayEntry = (i64, EntryId, Vec<u8>, bool);

/// A page of entries whose day's key is to be destroyed.
pub(in crate::store) struct Unmatched {
    /// Those that no customer owns, each with its new wrap.
    pub(in crate::store) wraps: Vec<(i64, Vec<u8>)>,
    /// How far the page reaches.
    pub(in crate::store) to: i64,
    /// Whether nothing that comes after it has so old a key.
    pub(in crate::store) last: bool,
}

/// Keys of entries by their position, from when they come until they are applied.
pub(super) struct EntryKeys(Cache<i64, Bytes32>);

impl Default for EntryKeys {
    fn default() -> Self {
        EntryKeys(Cache::new(AT_HAND))
    }
}

/// A wrapped key of an entry: the keys that it needs, then the wrap.
struct Wrap<'w> {
    ids: Vec<KeyId>,
    sealed: &'w [u8],
}

impl<'w> Wrap<'w> {
    fn read(bytes: &'w [u8]) -> Result<Wrap<'w>> {
        let cut = || damaged(Column::EntryWrap);
        let (count, mut rest) = read_number(bytes).ok_or_else(cut)?;
        let mut ids = Vec::new();
        for _ in 0..count {
            let (id, after) = read_number(rest).ok_or_else(cut)?;
            ids.push(KeyId(id));
            rest = after;
        }
        Ok(Wrap { ids, sealed: rest })
    }
}

/// What a wrap begins with: the keys that it needs, the outermost first.
fn naming(ids: &[KeyId]) -> Vec<u8> {
    let mut wrap = Vec::new();
    write_number(&mut wrap, ids.len() as i64);
    ids.iter().for_each(|id| write_number(&mut wrap, id.0));
    wrap
}

/// The keys that a wrap needs.
pub(in crate::store) fn keys_of_wrap(bytes: &[u8]) -> Result<Vec<KeyId>> {
    Ok(Wrap::read(bytes)?.ids)
}

impl Codec {
    /// Seals an entry that is to be appended.
    pub(in crate::store) fn seal_entry(&self, entry: &NewEntry) -> Result<SealedEntry> {
        let sealed = self.seal_body(entry.id, &entry.body, |wrap| self.now(wrap))?;
        Ok(SealedEntry { key: entry.key.as_ref().map(|key| self.blind(key)), ..sealed })
    }

    /// Seals what an entry says; `with` says under which key its own goes.
    fn seal_body(
        &self,
        id: EntryId,
        body: &EntryBody,
        with: impl FnOnce(&dyn Fn(KeyId, &DataKey) -> Result<Vec<u8>>) -> Result<Vec<u8>>,
    ) -> Result<SealedEntry> {
        if self.is_off() {
            let (head, raw) = (unsealed(&body.head), unsealed(&body.raw));
            return Ok(SealedEntry { head, raw, wrap: naming(&[]), key: None, own: Zeroizing::new([0; 32]) });
        }
        let own: Bytes32 = Zeroizing::new(random::bytes()?);
        let (sealing, row) = (DataKey::new(&own)?, id.as_bytes().as_slice());
        let wrap = with(&|id, key| {
            let mut wrap = naming(&[id]);
            wrap.extend(key.seal(id, Column::EntryWrap, row, own.as_slice())?);
            Ok(wrap)
        })?;
        Ok(SealedEntry {
            head: sealing.seal(KeyId::OWN, Column::EntryHead, row, &body.head)?,
            raw: match body.raw.as_ref() {
                [] => Vec::new(),
                raw => sealing.seal(KeyId::OWN, Column::EntryRaw, row, raw)?,
            },
            wrap,
            key: None,
            own,
        })
    }

    /// Seals an entry of which nobody knows any more whose it is.
    pub(in crate::store) fn seal_entry_for_house(&self, id: EntryId, body: &EntryBody) -> Result<SealedEntry> {
        self.seal_body(id, body, |wrap| wrap(KeyId::HOUSE, self.house()))
    }

    /// Keeps the key of an entry that has its place in the journal, until it is applied.
    pub(in crate::store) fn keep(&self, position: i64, sealed: &SealedEntry) {
        self.entries.0.insert(position, sealed.own.clone());
    }

    /// Those of these entries whose keys are not at hand.
    pub(in crate::store) fn unknown(&self, positions: impl Iterator<Item = i64>) -> Vec<i64> {
        if self.is_off() {
            return Vec::new();
        }
        positions.filter(|position| self.entries.0.peek(position).is_none()).collect()
    }

    /// Takes the keys of entries from their wraps: position, id, wrap.
    pub(in crate::store) async fn learn(&self, wraps: Vec<(i64, EntryId, Vec<u8>)>) -> Result<()> {
        let mut ids = std::collections::BTreeSet::new();
        for (.., wrap) in &wraps {
            ids.extend(keys_of_wrap(wrap)?);
        }
        let ring = self.keys(ids).await?;
        for (position, id, wrap) in wraps {
            let own = self.unwrap_entry(&ring, Column::EntryWrap, id.as_bytes(), &wrap)?;
            self.entries.0.insert(position, own);
        }
        Ok(())
    }

    /// The wrap for an applied record; none if the entry concerned no customer.
    pub(super) fn wrap_for(&self, ring: &Keyring, position: i64, customers: &[i64]) -> Result<Option<Vec<u8>>> {
        if self.is_off() || customers.is_empty() {
            return Ok(None);
        }
        let Some((_, own)) = self.entries.0.remove(&position) else { return Ok(None) };
        let ids: Vec<KeyId> = customers.iter().map(|no| KeyId::customer(*no)).collect();
        let (mut wrap, mut inner) = (naming(&ids), own.to_vec());
        for id in ids.iter().rev() {
            inner = ring.get(*id)?.seal(*id, Column::AppliedWrap, &position.to_be_bytes(), &inner)?;
        }
        wrap.extend(inner);
        Ok(Some(wrap))
    }

    /// The key of an entry from its wrap.
    pub(super) fn unwrap_entry(&self, ring: &Keyring, column: Column, row: &[u8], wrap: &[u8]) -> Result<Bytes32> {
        let wrap = Wrap::read(wrap)?;
        let mut inner = Zeroizing::new(wrap.sealed.to_vec());
        for id in wrap.ids {
            inner = Zeroizing::new(ring.get(id)?.open(column, row, &inner)?);
        }
        let own: [u8; 32] = inner.as_slice().try_into().map_err(|_| damaged(column))?;
        Ok(Zeroizing::new(own))
    }

    /// Opens head or raw of an entry by the wrap of its applied record, or else by its own.
    pub(in crate::store) fn open_part(
        &self,
        ring: &Keyring,
        id: EntryId,
        position: i64,
        (applied, own): (Option<&[u8]>, &[u8]),
        column: Column,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        if self.is_off() {
            return bare(sealed).map(<[u8]>::to_vec);
        }
        let key = match applied {
            Some(wrap) => self.unwrap_entry(ring, Column::AppliedWrap, &position.to_be_bytes(), wrap)?,
            None => self.unwrap_entry(ring, Column::EntryWrap, id.as_bytes(), own)?,
        };
        self.open_entry(&key, id, column, sealed)
    }

    /// Opens what an entry says.
    pub(super) fn open_entry(&self, own: &[u8; 32], id: EntryId, column: Column, sealed: &[u8]) -> Result<Vec<u8>> {
        if self.is_off() {
            return bare(sealed).map(<[u8]>::to_vec);
        }
        DataKey::new(own)?.open(column, id.as_bytes(), sealed)
    }

    /// Which of these entries no customer owns, oldest first from `from`, up to the first whose day's key is kept longer.
    pub(in crate::store) async fn unmatched(&self, page: Vec<DayEntry>, from: i64, batch: usize) -> Result<Unmatched> {
        let past = self.day_past();
        let mut found = Unmatched { wraps: Vec::new(), to: from, last: page.len() < batch };
        for (position, id, wrap, owned) in page {
            let day = self.day_of(&wrap);
            if day.is_some_and(|day| day > past) {
                found.last = true;
                break;
            }
            found.to = position;
            if owned || day.is_none() {
                continue;
            }
            match self.wrap_for_house(id, &wrap).await {
                Ok(wrap) => found.wraps.push((position, wrap)),
                // Its key is gone already: nothing is left to be saved.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The day whose key wraps an entry, if a day's does.
    fn day_of(&self, wrap: &[u8]) -> Option<i64> {
        keys_of_wrap(wrap).ok()?.first()?.of_day()
    }

    /// The wrap of an entry that no customer owns, by the key of the house instead of the day's.
    pub(super) async fn wrap_for_house(&self, id: EntryId, wrap: &[u8]) -> Result<Vec<u8>> {
        let ring = self.keys(keys_of_wrap(wrap)?.into_iter().collect()).await?;
        let own = self.unwrap_entry(&ring, Column::EntryWrap, id.as_bytes(), wrap)?;
        let mut wrap = naming(&[KeyId::HOUSE]);
        wrap.extend(self.seal_house(Column::EntryWrap, id.as_bytes(), own.as_slice())?);
        Ok(wrap)
    }
}
