//! Opens what a store holds, for those who read it row by row.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{Place, Row, Seal, Value, View};
use crate::base::id::EntryId;
use crate::base::{Error, Result};
use crate::store::layout::{Class, Column, Table};
use crate::store::seal::{Codec, Keyring, Sealing, keys_of_wrap};
use crate::store::{layout, seal};

/// Opens the values of a store with the keys of its key store.
pub struct Opener {
    codec: Codec,
    ready: Mutex<Ready>,
}

/// What the rows that are read now need.
#[derive(Default)]
struct Ready {
    ring: Option<Keyring>,
    /// The wraps of applied records by the position of their entry.
    wraps: HashMap<i64, Bytes>,
}

impl Opener {
    /// For the store at `place`.
    ///
    /// # Errors
    ///
    /// If the key store cannot be read, or goes by another root key.
    pub async fn at(place: &Place, sealing: &Sealing) -> Result<Opener> {
        let codec = Codec::for_reading(place.chest(false).await?.keys(), sealing).await?;
        Ok(Opener { codec, ready: Mutex::default() })
    }

    async fn fetch(&self, view: &dyn View, table: &'static Table, rows: &[Row]) -> Result<()> {
        let mut ready = Ready::default();
        if table.name == "entry" {
            ready.wraps = applied_wraps(view, rows).await?;
        }
        let mut ids = BTreeSet::new();
        for row in rows {
            if table.name == "entry" {
                if let Some(wrap) = wrap_of(table, row, &ready.wraps).filter(|wrap| !wrap.is_empty()) {
                    ids.extend(keys_of_wrap(&wrap)?);
                }
                continue;
            }
            let sealed = table.moved().zip(row).filter(|(column, _)| column.class == Class::Sealed);
            for bytes in sealed.filter_map(|(_, value)| value.bytes()) {
                ids.insert(self.codec.key_of(bytes)?);
            }
        }
        ready.ring = Some(self.codec.keys(ids).await?);
        *self.ready.lock() = ready;
        Ok(())
    }
}

/// The wraps of the applied records of entries.
async fn applied_wraps(view: &dyn View, rows: &[Row]) -> Result<HashMap<i64, Bytes>> {
    let positions: Vec<i64> = rows.iter().filter_map(|row| row.first()?.integer()).collect();
    let mut wraps = HashMap::new();
    for some in positions.chunks(256) {
        let places: Vec<String> = (1..=some.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "SELECT position, wrap FROM applied WHERE wrap IS NOT NULL AND position IN ({})",
            places.join(", ")
        );
        let wanted: Vec<Value> = some.iter().map(|position| Value::Integer(*position)).collect();
        for row in view.rows(&sql, &wanted).await? {
            if let [Value::Integer(position), Value::Bytes(wrap)] = row.as_slice() {
                wraps.insert(*position, wrap.clone());
            }
        }
    }
    Ok(wraps)
}

/// The wrap that opens an entry: that of its applied record, if there is one.
fn wrap_of(table: &Table, row: &[Value], applied: &HashMap<i64, Bytes>) -> Option<Bytes> {
    match applied.get(&row.first()?.integer()?) {
        Some(wrap) => Some(wrap.clone()),
        None => row.get(table.place("wrap")?)?.bytes().map(Bytes::copy_from_slice),
    }
}

/// What names a row within what is sealed of it.
fn name_of(table: &Table, row: &[Value]) -> Option<Vec<u8>> {
    let by = match table.name {
        "entry" | "event" | "send" => "id",
        "applied" | "quarantine" => "position",
        "due" | "dead" => "event",
        "message" => "key",
        _ => "no",
    };
    match row.get(table.place(by)?)? {
        Value::Integer(number) => Some(number.to_be_bytes().to_vec()),
        other => other.bytes().map(<[u8]>::to_vec),
    }
}

impl Seal for Opener {
    fn prepare<'a>(&'a self, view: &'a dyn View, table: &'static Table, rows: &'a [Row]) -> BoxFuture<'a, Result<()>> {
        self.fetch(view, table, rows).boxed()
    }

    fn open(&self, table: &Table, column: &Column, row: &[Value], bytes: Bytes) -> Result<Bytes> {
        let damaged = || Error::internal(format!("{}.{} cannot be opened", table.name, column.name));
        if column.class == layout::Class::Blind {
            let key: [u8; 16] = bytes.as_ref().try_into().map_err(|_| damaged())?;
            return Ok(Bytes::copy_from_slice(&self.codec.unblind(&key)));
        }
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let (sealed, name) = (seal::Column::named(table.name, column.name), name_of(table, row));
        let (Some(sealed), Some(name)) = (sealed, name) else { return Err(damaged()) };
        let ready = self.ready.lock();
        let ring = ready.ring.as_ref().ok_or_else(damaged)?;
        let opened = match table.name {
            "entry" => {
                let position = row.first().and_then(Value::integer).ok_or_else(damaged)?;
                let id: [u8; 16] = name.as_slice().try_into().map_err(|_| damaged())?;
                let applied = ready.wraps.get(&position).map(AsRef::as_ref);
                let own = row.get(table.place("wrap").unwrap_or_default()).and_then(Value::bytes).unwrap_or_default();
                self.codec.open_part(ring, EntryId::from_bytes(id), position, (applied, own), sealed, &bytes)
            }
            _ => self.codec.open_value(ring, sealed, &name, &bytes),
        };
        opened.map(Bytes::from).map_err(|e| e.context(format!("{}.{}", table.name, column.name)))
    }

    fn seal(&self, table: &Table, column: &Column, _: &[Value], _: Bytes) -> Result<Bytes> {
        Err(Error::internal(format!("{}.{} is to be sealed by one who only opens", table.name, column.name)))
    }
}
