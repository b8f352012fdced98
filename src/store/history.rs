//! The journal read back in the order in which it was applied: what replay walks.

use futures_util::future::BoxFuture;

use super::rows::AppliedRow;
use super::seal::Codec;
use super::seal::stored::{StoredEntry, StoredFound};
use crate::base::{Error, Result};
use crate::model::Entry;

/// An entry with its delivery key, as it was appended.
pub struct PastEntry {
    /// The entry.
    pub entry: Entry,
    /// Its delivery key, unless it had none or the key was forgotten since.
    pub key: Option<[u8; 16]>,
}

/// An applied entry.
pub struct PastApplied {
    /// The entry.
    pub entry: Entry,
    /// The record.
    pub applied: AppliedRow,
    /// The program that applied it, with its version.
    pub engine: String,
}

/// The past of a store.
pub trait History: Send + Sync {
    /// Applied records after an apply number, in order.
    fn applied(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastApplied>>>;

    /// Entries after a position, applied or not, in order of their positions.
    fn entries(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<PastEntry>>>;

    /// The highest apply number and the highest position; 0 where there is none.
    fn ends(&self) -> BoxFuture<'_, Result<(i64, i64)>>;
}

/// The program that applies now, as applied records name it.
pub fn engine() -> &'static str {
    super::code::ENGINE
}

/// Opens a page of applied entries, each with the program that applied it.
pub(super) async fn open_applied(codec: &Codec, page: Vec<(StoredFound, String)>) -> Result<Vec<PastApplied>> {
    let (found, engines): (Vec<StoredFound>, Vec<String>) = page.into_iter().unzip();
    let opened = codec.open_all(found).await?.into_iter().zip(engines);
    let past = |((entry, applied), engine): ((Entry, Option<AppliedRow>), String)| {
        let applied = applied.ok_or_else(|| Error::internal("an applied entry has no applied record"))?;
        Ok(PastApplied { entry, applied, engine })
    };
    opened.map(past).collect()
}

/// Opens a page of entries, each with its delivery key as it lies.
pub(super) async fn open_entries(codec: &Codec, page: Vec<(StoredEntry, Option<[u8; 16]>)>) -> Result<Vec<PastEntry>> {
    let (entries, keys): (Vec<StoredEntry>, Vec<_>) = page.into_iter().unzip();
    let opened = codec.open_all(entries).await?.into_iter().zip(keys);
    Ok(opened.map(|(entry, key)| PastEntry { entry, key: key.map(|key| codec.unblind(&key)) }).collect())
}
