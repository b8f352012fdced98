//! The checkpoints that pruning writes before originals go: what a replay begins from afterwards.
//!
//! A checkpoint is as large as the state, and covers all that was applied before it. One is written only when an original
//! has grown old that none covers, so about once in the time for which originals are kept; the one before it goes.

use std::path::PathBuf;

use super::place_of;
use crate::base::{Error, Result, Timestamp};
use crate::config::Config;
use crate::flow::Context;
use crate::store::Cutoffs;
use crate::store::archive::{Place, checkpoint, newest_checkpoint, remove_older_checkpoints};

/// The checkpoints of one gateway, in the folder `checkpoints` of its data directory. Where several nodes share a database,
/// each that prunes keeps its own.
#[derive(Clone)]
pub struct Checkpoints {
    place: Place,
    folder: PathBuf,
}

impl Checkpoints {
    /// Those of the gateway with this configuration.
    ///
    /// # Errors
    ///
    /// As [`place_of`].
    pub fn of(config: &Config) -> Result<Checkpoints> {
        Ok(Checkpoints { place: place_of(config)?, folder: config.data.join("checkpoints") })
    }

    /// The newest one and its apply number.
    ///
    /// # Errors
    ///
    /// `Io` if the folder cannot be read.
    pub fn newest(&self) -> Result<Option<(PathBuf, i64)>> {
        newest_checkpoint(&self.folder)
    }

    /// Up to which apply number the newest one covers the journal; 0 if there is none, or none that can be seen.
    pub(super) fn covered(&self) -> i64 {
        self.newest().ok().flatten().map_or(0, |(_, number)| number)
    }

    /// Writes one if an original waits for it; gives whether it did.
    pub(super) async fn write_if_due(&self, context: &Context, cutoffs: Cutoffs) -> bool {
        let due = context.store.retention.waits_for_checkpoint(cutoffs.raw, cutoffs.covered).await;
        let written = match due {
            Ok(false) => return false,
            Ok(true) => self.write(context.clock.now()).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(apply_no) => {
                tracing::info!(target: "segue::journal", apply_no, "wrote a checkpoint; older originals may go");
                true
            }
            Err(error) => {
                tracing::error!(target: "segue::journal", error = %error.full(), "no checkpoint could be written; old originals stay");
                false
            }
        }
    }

    /// Writes one of the state as it is now and takes the older ones out. Gives its apply number.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the file not be written.
    pub async fn write(&self, now: Timestamp) -> Result<i64> {
        let own = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let writing = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let view = own.place.view().await?;
                let (_, apply_no) = checkpoint(&*view, &own.folder, now, &mut ()).await?;
                remove_older_checkpoints(&own.folder, apply_no)?;
                Ok(apply_no)
            })
        });
        writing.await.map_err(|e| Error::internal("a checkpoint was not written").because(e))?
    }
}
