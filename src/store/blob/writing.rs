//! Writing a blob: hashed, sealed and sent on as it comes, with a few parts in memory at most.

use data_encoding::HEXLOWER;
use object_store::WriteMultipart;
use ring::digest;

use super::sealed::{Key, Sealer};
use super::{BlobName, BlobRow, Blobs, Object};
use crate::base::{Error, Kind, Result, Retry, Side, Timestamp};
use crate::store::Claim;
use crate::store::seal::random;

/// Content that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: BlobName,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-512 of it, lower-case hexadecimal.
    pub sha512: String,
    /// Whether it was there already.
    pub known: bool,
}

/// Content that is being written. One that is dropped without [`Writing::finish`] or [`Writing::abandon`], as in a crash,
/// is collected later.
pub struct Writing {
    blobs: Blobs,
    customer: Option<i64>,
    most: u64,
    object: Object,
    sealer: Sealer,
    sha256: digest::Context,
    sha512: digest::Context,
    size: u64,
    /// Sealed bytes that are not sent yet: less than one part.
    out: Vec<u8>,
    /// Whether the object is in the table of loose ones.
    begun: bool,
    upload: Option<WriteMultipart>,
}

impl Writing {
    pub(super) async fn begin(blobs: Blobs, customer: Option<i64>, most: u64) -> Result<Writing> {
        let key = Key::new(random::bytes()?);
        let object = Object(random::bytes()?);
        let wrapped = blobs.keys.wrap(customer, &key).await?;
        let (sealer, out) = Sealer::begin(&key, object, &wrapped)?;
        let (sha256, sha512) = (digest::Context::new(&digest::SHA256), digest::Context::new(&digest::SHA512));
        let (size, begun, upload) = (0, false, None);
        Ok(Writing { blobs, customer, most, object, sealer, sha256, sha512, size, out, begun, upload })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// `Limit` beyond the cap; what the folder or bucket says. Then [`Writing::abandon`] is all that is left to do.
    pub async fn push(&mut self, piece: &[u8], now: Timestamp) -> Result<()> {
        self.size = self.size.saturating_add(piece.len() as u64);
        if self.size > self.most {
            return Err(Error::new(Kind::Limit, format!("the file has more than {} bytes", self.most)));
        }
        let part = self.blobs.objects.part();
        // In steps of a part, so that a piece of any size takes no more memory than that.
        for step in piece.chunks(part) {
            self.sha256.update(step);
            self.sha512.update(step);
            self.sealer.push(step, &mut self.out)?;
            if self.out.len() >= part {
                self.send(now).await?;
            }
        }
        Ok(())
    }

    /// Sends what is there, with one part under way and one being gathered.
    async fn send(&mut self, now: Timestamp) -> Result<()> {
        self.announce(now).await?;
        let part = self.blobs.objects.part();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.blobs.objects.begin(self.object, part).await?),
        };
        upload.wait_for_capacity(1).await.map_err(|e| self.blobs.objects.refused(e))?;
        upload.put(std::mem::take(&mut self.out).into());
        Ok(())
    }

    /// Puts the object into the table of loose ones, before its first byte is written.
    async fn announce(&mut self, now: Timestamp) -> Result<()> {
        if !self.begun {
            self.blobs.rows.announce(self.object, now).await?;
            self.begun = true;
        }
        Ok(())
    }

    /// Ends the content. When the future is ready it is durable under its name.
    ///
    /// # Errors
    ///
    /// What the store, the folder or the bucket says; what was written is collected later.
    pub async fn finish(mut self, now: Timestamp) -> Result<Stored> {
        self.announce(now).await?;
        self.sealer.finish(&mut self.out)?;
        match self.upload.take() {
            None => self.blobs.objects.put(self.object, self.out).await?,
            Some(mut upload) => {
                upload.put(self.out.into());
                upload.finish().await.map_err(|e| self.blobs.objects.refused(e))?;
            }
        }
        let mut content = [0; 32];
        content.iter_mut().zip(self.sha256.finish().as_ref()).for_each(|(to, from)| *to = *from);
        let name = BlobName(self.blobs.keys.name(self.customer, &content)?);
        let size = i64::try_from(self.size).map_err(|_| Error::new(Kind::Limit, "the file is too large"))?;
        let row = BlobRow { name, object: self.object, customer: self.customer, size, made_at: now };
        let known = match self.blobs.rows.claim(row).await? {
            Claim::Ours => false,
            Claim::Known => {
                // Left behind on failure, which is as good: it is loose.
                if let Err(error) = self.blobs.sweep(vec![self.object]).await {
                    tracing::info!(target: "segue::deliver", error = %error.full(), "a second copy of a file is deleted later");
                }
                true
            }
            Claim::Gone => {
                let error = Error::new(Kind::Conflict, "the file took more than a day to be written; fetch it again");
                return Err(error.on_side(Side::Us).with_retry(Retry::Now));
            }
        };
        Ok(Stored { name, size: self.size, sha512: HEXLOWER.encode(self.sha512.finish().as_ref()), known })
    }

    /// Gives up, and takes away what was written. Where that fails it is collected later.
    pub async fn abandon(self) {
        if let Some(upload) = self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::info!(target: "segue::deliver", %error, "a file in the making is deleted later");
            return;
        }
        if self.begun
            && let Err(error) = self.blobs.sweep(vec![self.object]).await
        {
            tracing::info!(target: "segue::deliver", error = %error.full(), "a file in the making is deleted later");
        }
    }
}
