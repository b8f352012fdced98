//! Where objects are: a folder on this machine, or an S3-compatible bucket that several nodes share.
//!
//! An object lies at `<two digits>/<thirty digits>`, the hexadecimal digits of its name. In a folder a name appears only
//! when the file is whole and synced, and so are the folders above it. A bucket is reached through the client that the
//! wiring hands in, so that nothing but that client dials.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::client::HttpConnector;
use object_store::local::LocalFileSystem;
use object_store::path::Path as At;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    WriteMultipart,
};

use super::{Listed, Object};
use crate::base::{Error, Kind, Result, Retry, Secret, Side, Timestamp};

/// A part of an object that is written to a folder.
const FOLDER_PART: usize = 256 * 1024;
/// A part of an object that is sent to a bucket: the smallest that S3 takes.
const BUCKET_PART: usize = 5 << 20;

/// Where objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a folder on this machine.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

/// An S3-compatible bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What all objects' names begin with; may be empty.
    pub prefix: String,
    /// The server, if it is not AWS itself. The bucket is part of the path then.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
}

/// The objects of one place. Cloning shares it.
#[derive(Clone)]
pub(in crate::store) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The folder, where it is one.
    folder: Option<Arc<Path>>,
}

fn path(object: Object) -> At {
    let digits = HEXLOWER.encode(&object.0);
    let (first, rest) = digits.split_at_checked(2).unwrap_or(("", &digits));
    At::from(format!("{first}/{rest}"))
}

fn object(path: &At) -> Option<Object> {
    let digits: String = path.parts().map(|part| part.as_ref().to_owned()).collect();
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok().map(Object)
}

impl Objects {
    pub(in crate::store) fn open(place: &Place, connector: impl HttpConnector) -> Result<Objects> {
        match place {
            Place::Folder(folder) => Objects::in_folder(folder),
            Place::Bucket(bucket) => Objects::in_bucket(bucket, connector),
        }
    }

    pub(super) fn in_folder(folder: &Path) -> Result<Objects> {
        let failed = |e| Error::io("failed to make the folder of files", e).context(folder.display().to_string());
        make(folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| failed(std::io::Error::other(e)))?;
        let folder = Some(Arc::from(folder));
        Ok(Objects { store: Arc::new(store.with_fsync(true)), folder })
    }

    fn in_bucket(bucket: &Bucket, connector: impl HttpConnector) -> Result<Objects> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_access_key_id(bucket.access_key_id.expose())
            .with_secret_access_key(bucket.secret_access_key.expose())
            .with_http_connector(connector)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(RetryConfig {
                backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
                max_retries: 3,
                retry_timeout: Duration::from_secs(30),
            });
        if let Some(endpoint) = &bucket.endpoint {
            // Whether plain http may be spoken to it is for the client to say, which looks at the address.
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|e| Error::config("the bucket of `blobs` cannot be used").because(e))?;
        let store: Arc<dyn ObjectStore> = match bucket.prefix.as_str() {
            "" => Arc::new(store),
            prefix => Arc::new(PrefixStore::new(store, prefix)),
        };
        Ok(Objects { store, folder: None })
    }

    /// How large a part is that is sent at once, in bytes.
    pub(super) fn part(&self) -> usize {
        if self.folder.is_some() { FOLDER_PART } else { BUCKET_PART }
    }

    /// Stores an object that fits into one part.
    pub(super) async fn put(&self, object: Object, content: Vec<u8>) -> Result<()> {
        let stored = self.store.put(&path(object), PutPayload::from(content)).await;
        stored.map(drop).map_err(|e| self.refused(e))
    }

    /// Begins an object of several parts.
    pub(super) async fn begin(&self, object: Object, part: usize) -> Result<WriteMultipart> {
        let upload = self.store.put_multipart(&path(object)).await.map_err(|e| self.refused(e))?;
        Ok(WriteMultipart::new_with_chunk_size(upload, part))
    }

    /// A range of an object, and the size of the whole.
    pub(super) async fn range(&self, object: Object, range: std::ops::Range<u64>) -> Result<(Bytes, u64)> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.store.get_opts(&path(object), options).await.map_err(|e| self.refused(e))?;
        let size = found.meta.size;
        Ok((found.bytes().await.map_err(|e| self.refused(e))?, size))
    }

    /// Deletes an object, and what there is of one that was never finished. That it is not there is as good.
    pub(super) async fn delete(&self, object: Object) -> Result<()> {
        match self.store.delete(&path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.refused(error)),
        }
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let deleted = tokio::task::spawn_blocking(move || delete_unfinished(&folder, object)).await;
        let deleted = deleted.map_err(|e| Error::internal("a file was not deleted").because(e))?;
        deleted.map_err(|e| Error::io("failed to delete an unfinished file", e))
    }

    /// Every object.
    pub(in crate::store) fn list(&self) -> BoxStream<'_, Result<Listed>> {
        let known = |meta: object_store::ObjectMeta| async move {
            let at = Timestamp::from_millis(meta.last_modified.timestamp_millis());
            Ok(object(&meta.location).map(|object| Listed { object, size: meta.size, at }))
        };
        self.store.list(None).map_err(|e| self.refused(e)).try_filter_map(known).boxed()
    }

    /// An error of the folder or bucket. What it says may hold a URL, which holds nothing but the object's name.
    pub(super) fn refused(&self, error: object_store::Error) -> Error {
        use object_store::Error as E;
        let (what, side) = match self.folder {
            Some(_) => ("the folder of files refused", Side::Us),
            None => ("the bucket of files refused; see `[blobs]`", Side::Operator),
        };
        match error {
            E::NotFound { .. } => Error::not_found("a stored file is gone"),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Error::new(Kind::Forbidden, what).on_side(Side::Operator).with_retry(Retry::Later).because(error)
            }
            _ => Error::new(Kind::Unavailable, what).on_side(side).with_retry(Retry::Later).because(error),
        }
    }
}

/// Makes a folder, and the names of all that was made durable.
fn make(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(above)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::File::open(above)?.sync_all()
}

/// Deletes what a crash left of an object that was being written: the library calls it as the object, `#` and a number.
fn delete_unfinished(folder: &Path, object: Object) -> std::io::Result<()> {
    let digits = HEXLOWER.encode(&object.0);
    let (first, rest) = digits.split_at_checked(2).unwrap_or(("", &digits));
    let folder = folder.join(first);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let unfinished =
            entry.file_name().to_str().and_then(|name| name.strip_prefix(rest)?.strip_prefix('#')).is_some();
        if unfinished {
            std::fs::remove_file(entry.path())?;
        }
    }
    // A deletion that a power cut takes back would leave a file that no table knows any more.
    std::fs::File::open(&folder)?.sync_all()
}
