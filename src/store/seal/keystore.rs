//! What a key store does: small rows, apart from the data, durable before anything is sealed under them.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::KeyId;
use super::root::RootId;
use crate::base::Result;

/// A key as it lies in the key store.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct WrappedKey {
    /// The root key that wraps it.
    pub(in crate::store) root: RootId,
    /// The wrapped bytes.
    pub(in crate::store) bytes: Vec<u8>,
}

/// Where keys lie. Of keys with the same id the first one stays.
pub(in crate::store) trait KeyStore: Send + Sync {
    /// Those of these keys that there are.
    fn load(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>>;

    /// The root key that it goes by; none while it is empty.
    fn root(&self) -> BoxFuture<'_, Result<Option<RootId>>>;

    /// Adds keys wrapped by `root`; when the future is ready they are on disk. False, and nothing is added, if the key
    /// store goes by another root key by now.
    fn add(&self, root: RootId, keys: Vec<(KeyId, WrappedKey)>) -> BoxFuture<'_, Result<bool>>;

    /// Keys after an id, in their order.
    fn page(&self, after: Option<KeyId>, limit: usize) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>>;

    /// Has all keys be wrapped by `root` from now on. Those that there are stay as they are.
    fn go_by(&self, root: RootId) -> BoxFuture<'_, Result<()>>;

    /// Puts new wraps in the place of those that are still as told.
    fn rewrap(&self, keys: Vec<(KeyId, RootId, WrappedKey)>) -> BoxFuture<'_, Result<()>>;

    /// Destroys keys. When the future is ready no trace of them is left in the key store.
    fn destroy(&self, ids: Vec<KeyId>) -> BoxFuture<'_, Result<()>>;
}

/// A key store that holds nothing and keeps nothing.
pub(super) struct NoKeys;

fn nothing<T: Default + Send + 'static>() -> BoxFuture<'static, Result<T>> {
    std::future::ready(Ok(T::default())).boxed()
}

impl KeyStore for NoKeys {
    fn load(&self, _: Vec<KeyId>) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        nothing()
    }

    fn root(&self) -> BoxFuture<'_, Result<Option<RootId>>> {
        nothing()
    }

    fn add(&self, _: RootId, _: Vec<(KeyId, WrappedKey)>) -> BoxFuture<'_, Result<bool>> {
        nothing()
    }

    fn page(&self, _: Option<KeyId>, _: usize) -> BoxFuture<'_, Result<Vec<(KeyId, WrappedKey)>>> {
        nothing()
    }

    fn go_by(&self, _: RootId) -> BoxFuture<'_, Result<()>> {
        nothing()
    }

    fn rewrap(&self, _: Vec<(KeyId, RootId, WrappedKey)>) -> BoxFuture<'_, Result<()>> {
        nothing()
    }

    fn destroy(&self, _: Vec<KeyId>) -> BoxFuture<'_, Result<()>> {
        nothing()
    }
}
