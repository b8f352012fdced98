//! Where decisions become state, on PostgreSQL: the writing task does it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::journal::wraps;
use super::read::Readers;
use super::writer::Writer;
use crate::base::Result;
use crate::store::seal::Codec;
use crate::store::{Changeset, Committed, StateWrite};

pub(super) struct PgCommits {
    pub(super) writer: Arc<Writer>,
    pub(super) readers: Arc<Readers>,
    pub(super) codec: Arc<Codec>,
}

impl StateWrite for PgCommits {
    fn commit(&self, batch: Vec<Changeset>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        let (writer, readers, codec) = (self.writer.clone(), self.readers.clone(), self.codec.clone());
        async move {
            let unknown = codec.unknown(batch.iter().map(|set| set.position));
            if !unknown.is_empty() {
                codec.learn(wraps(&readers, &unknown).await?).await?;
            }
            writer.commit(codec.seal_sets(batch).await?).await
        }
        .boxed()
    }
}
