//! Reading a blob: by ranges, each opened chunk by chunk, so that a slow reader holds neither memory nor a connection.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};

use super::sealed::{Header, Opener, SEALED_CHUNK, damaged};
use super::{BlobName, BlobRow, Blobs};
use crate::base::{Error, Result};

/// How much of an object is asked for at once, in bytes.
const RANGE: u64 = 1 << 20;

/// A blob that can be read.
pub struct Reading {
    blobs: Blobs,
    row: BlobRow,
}

/// Where reading stands.
struct At {
    blobs: Blobs,
    row: BlobRow,
    opener: Option<Opener>,
    /// What was read and not opened yet.
    sealed: BytesMut,
    /// Up to where the object was read.
    read: u64,
    /// How large the object is, once that is known.
    end: Option<u64>,
    /// How much content came out.
    given: u64,
    done: bool,
}

impl Reading {
    pub(super) fn new(blobs: Blobs, row: BlobRow) -> Reading {
        Reading { blobs, row }
    }

    /// Its name.
    pub fn name(&self) -> BlobName {
        self.row.name
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.row.size.max(0) as u64
    }

    /// The content, each piece checked before it is given. A stream that ends with an error must not be taken for whole.
    ///
    /// # Errors
    ///
    /// Before the first piece: `NotFound` if the object or its key is gone, or what the folder or bucket says. Within the
    /// stream: the same, and `Internal` if what is stored was changed.
    pub async fn open(self) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let (blobs, row) = (self.blobs, self.row);
        let sealed = BytesMut::new();
        let mut at = At { blobs, row, opener: None, sealed, read: 0, end: None, given: 0, done: false };
        let first = at.next().await?;
        let rest = stream::try_unfold(at, |mut at| async move { Ok(at.next().await?.map(|piece| (piece, at))) });
        Ok(futures_util::StreamExt::chain(stream::iter(first.map(Ok)), rest))
    }
}

impl At {
    /// The content of the next chunk.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.done {
            return Ok(None);
        }
        if self.opener.is_none() {
            self.fill().await?;
            let mut begun = self.sealed.split().freeze();
            let header = Header::take(&mut begun)?;
            let key = self.blobs.keys.unwrap(header.wrapped()).await?;
            self.opener = Some(Opener::begin(&key, self.row.object, &header)?);
            self.sealed.extend_from_slice(&begun);
        }
        // One byte more than a chunk shows that it is not the last.
        while self.sealed.len() <= SEALED_CHUNK && self.more() {
            self.fill().await?;
        }
        let last = self.sealed.len() <= SEALED_CHUNK;
        let chunk = self.sealed.split_to(self.sealed.len().min(SEALED_CHUNK));
        let Some(opener) = &mut self.opener else { return Err(damaged()) };
        let piece = opener.open(&chunk, last)?;
        self.given = self.given.saturating_add(piece.len() as u64);
        self.done = last;
        if last && self.given != self.row.size.max(0) as u64 {
            return Err(damaged());
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn more(&self) -> bool {
        self.end.is_none_or(|end| self.read < end)
    }

    /// Reads the next range.
    async fn fill(&mut self) -> Result<()> {
        let (bytes, end) =
            self.blobs.objects.range(self.row.object, self.read..self.read.saturating_add(RANGE)).await?;
        if bytes.is_empty() || self.end.is_some_and(|before| before != end) {
            return Err(Error::internal("a stored file changed while it was read"));
        }
        self.read = self.read.saturating_add(bytes.len() as u64);
        self.end = Some(end);
        self.sealed.extend_from_slice(&bytes);
        Ok(())
    }
}
