//! Keys of blobs: each is wrapped under the key of its customer, or of the house while it is nobody's.
//!
//! Destroying a customer's key therefore erases the customer's files, wherever copies of the objects may be.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use super::codec::Codec;
use super::{Column, KeyId, damaged};
use crate::base::Result;
use crate::store::blob::{BlobKeys, named};

impl BlobKeys for Codec {
    fn wrap(&self, customer: Option<i64>, key: &[u8; 32]) -> BoxFuture<'_, Result<Vec<u8>>> {
        let (id, key) = (customer.map_or(KeyId::HOUSE, KeyId::customer), Zeroizing::new(*key));
        async move {
            let ring = self.keys([id].into()).await?;
            self.seal(&ring, id, Column::Blob, &[], key.as_slice())
        }
        .boxed()
    }

    fn unwrap(&self, wrapped: &[u8]) -> BoxFuture<'_, Result<Zeroizing<[u8; 32]>>> {
        let wrapped = wrapped.to_vec();
        async move {
            let ring = self.keys([self.key_of(&wrapped)?].into()).await?;
            let opened = Zeroizing::new(self.open_value(&ring, Column::Blob, &[], &wrapped)?);
            opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| damaged(Column::Blob))
        }
        .boxed()
    }

    fn name(&self, customer: Option<i64>, content: &[u8; 32]) -> Result<[u8; 32]> {
        Ok(named(&self.names, customer, content))
    }
}
