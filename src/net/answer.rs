//! Reading an answer: into memory or into a file, never more than its cap.
//!
//! The second half of the client. The invariant: a file appears under its name only when it is whole and on disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ring::digest;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::client::{Response, Saved};
use super::failure::{ClientError, Fault, Phase};

/// Bytes gathered before they are written to a file: a write costs a trip to another thread.
const FILE_CHUNK: usize = 256 * 1024;

/// An answer whose body is yet to be read.
pub(super) struct Answer<'a> {
    head: http::response::Parts,
    body: Incoming,
    ended: bool,
    host: &'a str,
}

impl<'a> Answer<'a> {
    pub(super) fn new(head: http::response::Parts, body: Incoming, host: &'a str) -> Self {
        Answer { head, body, ended: false, host }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Whether the body was read to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn failed(&self, fault: Fault) -> ClientError {
        ClientError::new(Phase::Uncertain, fault, self.host)
    }

    /// The next piece of the body; trailers are passed over.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| self.failed(Fault::Protocol).because(error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// Reads the whole body, of at most `cap` bytes.
    pub(super) async fn read(&mut self, cap: usize) -> Result<Response, ClientError> {
        if self.body.size_hint().lower() > cap as u64 {
            return Err(self.failed(Fault::TooLarge));
        }
        let mut whole = Bytes::new();
        let mut more = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len().saturating_add(more.len()).saturating_add(piece.len()) > cap {
                return Err(self.failed(Fault::TooLarge));
            }
            // Most answers are one piece, which needs no copy.
            if whole.is_empty() && more.is_empty() {
                whole = piece;
            } else {
                more.extend_from_slice(&std::mem::take(&mut whole));
                more.extend_from_slice(&piece);
            }
        }
        let body = if more.is_empty() { whole } else { more.into() };
        Ok(Response { status: self.head.status, headers: std::mem::take(&mut self.head.headers), body })
    }

    /// Writes the body, of at most `cap` bytes, to `part`, and moves it to `path`.
    pub(super) async fn save(&mut self, part: &Part, path: &Path, cap: u64) -> Result<Saved, ClientError> {
        if self.body.size_hint().lower() > cap {
            return Err(self.failed(Fault::TooLarge));
        }
        let mut file = File::create(&part.0).await.map_err(|error| self.failed(Fault::File).because(error))?;
        let mut hash = digest::Context::new(&digest::SHA512);
        let (mut size, mut chunk) = (0u64, Vec::new());
        while let Some(piece) = self.next().await? {
            size = size.saturating_add(piece.len() as u64);
            if size > cap {
                return Err(self.failed(Fault::TooLarge));
            }
            hash.update(&piece);
            chunk.extend_from_slice(&piece);
            if chunk.len() >= FILE_CHUNK {
                file.write_all(&chunk).await.map_err(|error| self.failed(Fault::File).because(error))?;
                chunk.clear();
            }
        }
        let finish = async {
            file.write_all(&chunk).await?;
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(&part.0, path).await?;
            // The name is durable only when its folder is synced.
            match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => File::open(folder).await?.sync_all().await,
                None => Ok(()),
            }
        };
        finish.await.map_err(|error: std::io::Error| self.failed(Fault::File).because(error))?;
        let content_type = self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Saved { size, sha512: HEXLOWER.encode(hash.finish().as_ref()), content_type })
    }
}

/// A file in the making, removed unless it was moved into place. Removal in `drop`, since a timeout drops the future.
pub(super) struct Part(PathBuf);

impl Part {
    pub(super) fn new(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        Part(name.into())
    }

    pub(super) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
