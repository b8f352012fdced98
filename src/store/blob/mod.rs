//! Large content, apart from the database: fetched files today, any stream for a customer or for nobody yet.
//!
//! A *blob* is content under its name. The name is a keyed hash over whose it is and what it is ([`BlobKeys::name`]), so the
//! same file of the same customer is stored once, and a name tells neither what the content is nor that two customers sent
//! the same. What is stored is an *object*: sealed under a key of its own ([`sealed`]), in a folder or a bucket ([`place`]),
//! under a random name that is never used twice.
//!
//! Two tables lead to the objects. `blob` gives the object that holds a name's content. `loose` lists every object that is,
//! or may be, in the folder or bucket while no blob holds it: one being written, one whose content turned out to be there
//! already, one whose blob is garbage. An object is in `loose` before its first byte is written and until it is certainly
//! deleted, which gives two invariants: whatever a crash leaves is found again without listing a bucket, and an object
//! that a blob holds is never deleted. Deleting late, twice or from another node does no harm, since no object's name is
//! used again.
//!
//! What an interaction names is in `blob_use`, written by the commit of the entry that tells of the file. A blob that
//! nobody names is garbage once it is a day old. Finding the same content again makes it young, so a file that is about
//! to be named is not collected; nor is anything while an entry that may name it still waits to be applied.

pub mod place;
mod reading;
mod rows;
mod sealed;
#[cfg(test)]
pub(super) mod tests;
mod writing;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, TryStreamExt};
use ring::hmac;
use zeroize::Zeroizing;

use super::BlobRow;
use crate::base::{Error, Kind, Result, Timestamp};
use place::{Objects, Place};

pub use reading::Reading;
pub use rows::BlobRows;
pub use sealed::CHUNK;
pub use writing::{Stored, Writing};

/// Keys of blobs: where a blob's own key goes, and the key under which names are made.
pub trait BlobKeys: Send + Sync {
    /// Wraps the key of a blob so that it can lie beside the content: for a customer, or for nobody yet. At most 4,096
    /// bytes. When the future is ready, what unwraps it is durable.
    ///
    /// # Errors
    ///
    /// `NotFound` if the customer's key was destroyed; others if the key that wraps cannot be had now.
    fn wrap(&self, customer: Option<i64>, key: &[u8; 32]) -> BoxFuture<'_, Result<Vec<u8>>>;

    /// The key that was wrapped.
    ///
    /// # Errors
    ///
    /// `NotFound` if what wrapped it was destroyed: the content is erased. Others if it cannot be had now or is damaged.
    fn unwrap(&self, wrapped: &[u8]) -> BoxFuture<'_, Result<Zeroizing<[u8; 32]>>>;

    /// The name of content, of which this is the SHA-256: a keyed hash over both.
    ///
    /// # Errors
    ///
    /// If the key cannot be had now.
    fn name(&self, customer: Option<i64>, content: &[u8; 32]) -> Result<[u8; 32]>;
}

/// HMAC-SHA-256 over whose it is and what it is: the name that [`BlobKeys::name`] gives.
pub(super) fn named(key: &hmac::Key, customer: Option<i64>, content: &[u8; 32]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[u8::from(customer.is_some())]);
    context.update(&customer.unwrap_or_default().to_be_bytes());
    context.update(content);
    let mut name = [0; 32];
    name.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    name
}

/// The name of a blob; 64 lower-case hexadecimal digits outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobName(pub [u8; 32]);

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for BlobName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(BlobName).ok_or_else(|| Error::invalid("not the name of a file: 64 lower-case hexadecimal digits"))
    }
}

/// The name of an object: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object(pub [u8; 16]);

/// An object as the folder or bucket lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub object: Object,
    /// Its size as stored, in bytes.
    pub size: u64,
    /// When it was stored.
    pub at: Timestamp,
}

/// Large content. Cloning shares it.
#[derive(Clone)]
pub struct Blobs {
    objects: Objects,
    keys: Arc<dyn BlobKeys>,
    rows: Arc<dyn BlobRows>,
}

impl Blobs {
    /// Opens the folder or bucket at `place`. Nothing is asked of a bucket yet. A folder is made.
    ///
    /// # Errors
    ///
    /// `Config` if the place cannot be used, `Io` if the disk refused.
    pub fn open(
        place: &Place,
        connector: impl object_store::client::HttpConnector,
        keys: Arc<dyn BlobKeys>,
        rows: Arc<dyn BlobRows>,
    ) -> Result<Blobs> {
        Ok(Blobs { objects: Objects::open(place, connector)?, keys, rows })
    }

    /// Opens a folder on this machine.
    ///
    /// # Errors
    ///
    /// `Io` if the disk refused.
    pub fn in_folder(folder: &std::path::Path, keys: Arc<dyn BlobKeys>, rows: Arc<dyn BlobRows>) -> Result<Blobs> {
        Ok(Blobs { objects: Objects::in_folder(folder)?, keys, rows })
    }

    /// Begins to write content of at most `most` bytes, for a customer (by number) or for nobody yet. Nothing is stored
    /// before there is enough to send, so one that is dropped at once leaves nothing.
    ///
    /// # Errors
    ///
    /// If the key cannot be wrapped.
    pub async fn begin(&self, customer: Option<i64>, most: u64) -> Result<Writing> {
        Writing::begin(self.clone(), customer, most).await
    }

    /// Stores a stream of at most `most` bytes. When the future is ready the content is durable, and it stays for a day
    /// without being named.
    ///
    /// # Errors
    ///
    /// `Limit` if there is more, whatever the stream says, or what the store says. Nothing is left then.
    pub async fn put(
        &self,
        customer: Option<i64>,
        most: u64,
        now: Timestamp,
        content: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Stored> {
        let mut writing = self.begin(customer, most).await?;
        let mut content = std::pin::pin!(content);
        loop {
            let pushed = match content.next().await {
                Some(Ok(piece)) => writing.push(&piece, now).await,
                Some(Err(error)) => Err(error),
                None => return writing.finish(now).await,
            };
            if let Err(error) = pushed {
                writing.abandon().await;
                return Err(error);
            }
        }
    }

    /// A blob to be read; none if there is none of this name.
    ///
    /// # Errors
    ///
    /// If the store cannot be read. Whether the object can be read shows when it is.
    pub async fn get(&self, name: BlobName) -> Result<Option<Reading>> {
        let row = self.rows.blob(name).await?;
        Ok(row.map(|row| Reading::new(self.clone(), row)))
    }

    /// The blob that the part of an interaction (by number) names as `id`. Parts that were fetched before files had names
    /// of today are found by where they are.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn of_part(&self, interaction: i64, part: usize, id: &str) -> Result<Option<Reading>> {
        if let Ok(name) = id.parse()
            && let Some(reading) = self.get(name).await?
        {
            return Ok(Some(reading));
        }
        match self.rows.used_by(interaction, part).await? {
            Some(name) => self.get(name).await,
            None => Ok(None),
        }
    }

    /// Takes a blob away now, whoever names it. Gives whether there was one. For erasure; garbage goes by itself.
    ///
    /// # Errors
    ///
    /// If the store refuses. What the folder or bucket refuses is deleted later, by [`Blobs::collect`].
    pub async fn delete(&self, name: BlobName) -> Result<bool> {
        let Some(object) = self.rows.drop_blob(name).await? else { return Ok(false) };
        self.sweep(vec![object]).await?;
        Ok(true)
    }

    /// Takes out one batch of what nobody names and is from before `before`, and of what was left behind since before
    /// then. Gives how many objects went.
    ///
    /// # Errors
    ///
    /// What the store or the folder or bucket says; the rest goes another time.
    pub async fn collect(&self, before: Timestamp, batch: usize) -> Result<u64> {
        let objects = self.rows.condemn(before, batch).await?;
        self.sweep(objects).await
    }

    /// Deletes objects, then forgets them; in this order, so that a crash in between only repeats the deletion.
    async fn sweep(&self, objects: Vec<Object>) -> Result<u64> {
        let mut gone = Vec::with_capacity(objects.len());
        let mut refused = None;
        for object in objects {
            match self.objects.delete(object).await {
                Ok(()) => gone.push(object),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let count = gone.len() as u64;
        if count > 0 {
            self.rows.forget(gone).await?;
        }
        refused.map_or(Ok(count), Err)
    }

    /// The tables that lead to the objects.
    pub fn rows(&self) -> &Arc<dyn BlobRows> {
        &self.rows
    }
}

/// Reads a stream into memory.
///
/// # Errors
///
/// What the stream says, and `Limit` if it has more than `most` bytes.
pub async fn collect(content: impl Stream<Item = Result<Bytes>>, most: usize) -> Result<Vec<u8>> {
    let gather = |mut whole: Vec<u8>, piece: Bytes| async move {
        if whole.len().saturating_add(piece.len()) > most {
            return Err(Error::new(Kind::Limit, format!("the file has more than {most} bytes")));
        }
        whole.extend_from_slice(&piece);
        Ok(whole)
    };
    content.try_fold(Vec::new(), gather).await
}
