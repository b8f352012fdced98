//! Where decisions become state, on PostgreSQL: the writing task does it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::writer::Writer;
use crate::base::Result;
use crate::store::{Changeset, Committed, StateWrite};

pub(super) struct PgCommits {
    pub(super) writer: Arc<Writer>,
}

impl StateWrite for PgCommits {
    fn commit(&self, batch: Vec<Changeset>) -> BoxFuture<'static, Result<Vec<Committed>>> {
        self.writer.commit(batch)
    }
}
