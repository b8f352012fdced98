//! Sealing: what a person said or who they are lies encrypted in the tables of both backends.
//!
//! Rows above the store's capabilities are plain; what the backends write and read is what this module made of them
//! ([`SealedSet`], the rows in `stored`). So a backend cannot write a personal column in the clear by accident, and
//! applying an entry never sees a key or a nonce.
//!
//! The keys, from the root down (NIST SP 800-57 calls them key-encrypting and data keys):
//!
//! - The *root key* lies in a file of the operator's ([`RootKeys`]), never in a database. It wraps all others.
//! - The *key store* lies apart from the data ([`KeyStore`]). It holds one random key for each customer, one for each day,
//!   one for what belongs to nobody, and the index key.
//! - Each journal entry has a key of its own, wrapped beside it: first under the key of its day, and once it is applied
//!   under the keys of the customers it concerned.
//!
//! Destroying a customer's key therefore makes everything of that customer unreadable, wherever a copy of the tables may
//! be. A sealed value is AES-256-GCM with a random nonce; what it is bound to (column, row, key) is authenticated with it, so
//! that it cannot be moved elsewhere. Keys that are looked up, which are hashes already, are enciphered under the index key:
//! equal keys stay equal, and nobody without it can try a phone number against them.

mod blob;
mod codec;
mod derived;
mod entry;
mod keystore;
pub(super) mod random;
mod root;
mod rotate;
mod sealed;
pub(super) mod stored;
#[cfg(test)]
mod tests;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

pub use root::{RootKeys, Sealing};
pub use rotate::{KeyChest, KeyCounts};

pub(super) use codec::{Codec, Keyring};
pub(super) use entry::{DayEntry, SealedEntry, Unmatched, keys_of_wrap};
pub(super) use keystore::{KeyStore, WrappedKey};
pub(super) use sealed::{SealedConversation, SealedCustomer, SealedEvent, SealedMessage, SealedSet};

use crate::base::{Error, Kind, Result, Side};

/// A data key before it is ready for use.
pub(super) type Bytes32 = Zeroizing<[u8; 32]>;

/// The columns that are sealed. The number is bound into each value and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Column {
    /// `entry.head`, named by the entry's id.
    EntryHead = 1,
    /// `entry.raw`, named by the entry's id.
    EntryRaw = 2,
    /// `entry.wrap`, named by the entry's id.
    EntryWrap = 3,
    /// `applied.facts`, named by the entry's position.
    Facts = 4,
    /// `customer.profile`, named by its number.
    Profile = 5,
    /// `customer.recent`, named by its number.
    Recent = 6,
    /// `conversation.owner`, named by its number.
    Owner = 7,
    /// `interaction.body`, named by its number.
    Body = 8,
    /// `interaction.decision`, named by its number.
    Decision = 9,
    /// `message.state`, named by its enciphered key.
    Message = 10,
    /// `event.body`, named by its id.
    Event = 11,
    /// `send.planned`, named by its id.
    Planned = 12,
    /// `send.error`, named by its id.
    SendError = 13,
    /// `due.error` and `dead.error`, named by the event's number.
    DeliveryError = 14,
    /// `quarantine.reason`, named by the entry's position.
    Reason = 15,
    /// `bundle.content`, named by its hash.
    Bundle = 16,
    /// The wrapped key of a blob, in the header of its object; named by nothing, since the object is bound to its header.
    Blob = 17,
    /// `applied.wrap`, named by the entry's position.
    AppliedWrap = 18,
    /// `mail_grant.kept`, named by its channel.
    Grant = 19,
    /// A key in the key store, named by its [`KeyId`].
    Key = 255,
}

impl Column {
    const ALL: [Column; 19] = [
        Column::EntryHead,
        Column::EntryRaw,
        Column::EntryWrap,
        Column::Facts,
        Column::Profile,
        Column::Recent,
        Column::Owner,
        Column::Body,
        Column::Decision,
        Column::Message,
        Column::Event,
        Column::Planned,
        Column::SendError,
        Column::DeliveryError,
        Column::Reason,
        Column::Bundle,
        Column::Blob,
        Column::AppliedWrap,
        Column::Grant,
    ];

    /// The column of this table and name, if it is sealed.
    pub(super) fn named(table: &str, column: &str) -> Option<Column> {
        Some(match (table, column) {
            ("entry", "head") => Column::EntryHead,
            ("entry", "raw") => Column::EntryRaw,
            ("applied", "facts") => Column::Facts,
            ("customer", "profile") => Column::Profile,
            ("customer", "recent") => Column::Recent,
            ("conversation", "owner") => Column::Owner,
            ("interaction", "body") => Column::Body,
            ("interaction", "decision") => Column::Decision,
            ("message", "state") => Column::Message,
            ("event", "body") => Column::Event,
            ("send", "planned") => Column::Planned,
            ("send", "error") => Column::SendError,
            ("due" | "dead", "error") => Column::DeliveryError,
            ("quarantine", "reason") => Column::Reason,
            ("bundle", "content") => Column::Bundle,
            ("mail_grant", "kept") => Column::Grant,
            _ => return None,
        })
    }

    /// The column of this number, but for the key store's.
    pub(super) fn from_number(number: u8) -> Option<Column> {
        Column::ALL.into_iter().find(|column| *column as u8 == number)
    }
}

/// Which key: its kind in the lowest two bits, its number above. The number in the key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyId(pub(super) i64);

impl KeyId {
    /// Of what belongs to no customer.
    pub(super) const HOUSE: KeyId = KeyId(2);
    /// The index key.
    pub(super) const INDEX: KeyId = KeyId(6);
    /// An entry's own, which is in no key store.
    pub(super) const OWN: KeyId = KeyId(3);

    /// Of the customer of this number.
    pub(super) const fn customer(no: i64) -> KeyId {
        KeyId(no << 2)
    }

    /// Of a day, counted from 1970-01-01 in UTC.
    pub(super) const fn day(day: i64) -> KeyId {
        KeyId(day << 2 | 1)
    }

    /// Whether it is a customer's.
    pub(super) const fn is_of_customer(self) -> bool {
        self.0 & 3 == 0
    }

    /// The day whose key it is.
    pub(super) const fn of_day(self) -> Option<i64> {
        if self.0 & 3 == 1 { Some(self.0 >> 2) } else { None }
    }
}

/// A key that is ready for use.
pub(super) struct DataKey(LessSafeKey);

/// The first byte of a sealed value: AES-256-GCM, key named, nonce of 12 bytes before the text, tag of 16 after it.
const SEALED: u8 = 1;
/// The first byte of a value that is not sealed: written only where sealing is switched off to measure what it costs.
const PLAIN: u8 = 0;

impl DataKey {
    /// Takes the bytes of a key.
    pub(super) fn new(bytes: &[u8; 32]) -> Result<DataKey> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| Error::internal("a key has the wrong length"))?;
        Ok(DataKey(LessSafeKey::new(key)))
    }

    /// Seals `plain` as the value of a column of a row.
    pub(super) fn seal(&self, id: KeyId, column: Column, row: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plain.len() + 1 + 10 + NONCE_LEN + AES_256_GCM.tag_len());
        sealed.push(SEALED);
        write_number(&mut sealed, id.0);
        let nonce: [u8; NONCE_LEN] = random::bytes()?;
        sealed.extend_from_slice(&nonce);
        let begin = sealed.len();
        sealed.extend_from_slice(plain);
        let bound = Bound::new(id, column, row);
        let text = sealed.get_mut(begin..).unwrap_or_default();
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound.bytes()), text)
            .map_err(|_| Error::internal("a value could not be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`DataKey::seal`] made for the same column and row.
    pub(super) fn open(&self, column: Column, row: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let (id, rest) = key_of(sealed)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(|| damaged(column))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged(column))?;
        let mut text = text.to_vec();
        let bound = Bound::new(id, column, row);
        let length =
            self.0.open_in_place(nonce, Aad::from(bound.bytes()), &mut text).map_err(|_| damaged(column))?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// What a sealed value is bound to, as bytes.
struct Bound {
    bytes: [u8; 64],
    length: usize,
}

impl Bound {
    fn new(id: KeyId, column: Column, row: &[u8]) -> Bound {
        let mut bound = Bound { bytes: [0; 64], length: 0 };
        let (column, id) = ([column as u8], id.0.to_be_bytes());
        let parts = [column.as_slice(), &id, row];
        for (to, from) in bound.bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
            bound.length += 1;
        }
        bound
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The key that a sealed value names, and what comes after.
fn key_of(sealed: &[u8]) -> Result<(KeyId, &[u8])> {
    let unreadable = || Error::internal("a sealed value has an unknown form; was it written by a newer segue?");
    match sealed.split_first() {
        Some((&SEALED, rest)) => read_number(rest).map(|(number, rest)| (KeyId(number), rest)).ok_or_else(unreadable),
        _ => Err(unreadable()),
    }
}

/// A number in groups of seven bits, the lowest first (LEB128).
fn write_number(out: &mut Vec<u8>, number: i64) {
    let mut rest = number as u64;
    while rest >= 0x80 {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f).checked_shl(7 * place as u32)?;
        if byte & 0x80 == 0 {
            return Some((number as i64, bytes.get(place + 1..)?));
        }
    }
    None
}

fn damaged(column: Column) -> Error {
    Error::internal(format!("a sealed value ({column:?}) does not open: it is damaged, moved or of another key store"))
}

/// The error of a value whose key was destroyed.
fn destroyed() -> Error {
    Error::new(Kind::NotFound, "the key of this value was destroyed").on_side(Side::Us)
}
