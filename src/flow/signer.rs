//! Part of stage 2: the certificates that providers sign their requests by, fetched and kept.
//!
//! Which address may be asked is decided by the connector before anything is fetched. The invariant: whoever sends requests
//! that are not the provider's causes few fetches and keeps little memory, and what cannot be fetched now refuses nobody for
//! good: the provider is told to come again.

use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::net::Client;
use crate::net::client::Request;

/// How long a fetch may take: the provider waits meanwhile.
const WITHIN: Duration = Duration::from_secs(3);
/// The most bytes of a certificate.
const MOST_BYTES: usize = 64 << 10;
/// How many are kept.
const KEPT: usize = 64;
/// For how long, and for how long it is kept that one could not be had.
const KEPT_FOR: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(30));
/// How many are fetched at once.
const AT_ONCE: usize = 4;

/// Fetches certificates and answers that providers ask for.
pub(super) struct Signers {
    client: Client,
    /// What was found at an address, and until when that holds.
    kept: Cache<String, (Option<Bytes>, Instant)>,
    turns: Semaphore,
}

impl Signers {
    pub(super) fn new(client: Client) -> Self {
        Signers { client, kept: Cache::new(KEPT), turns: Semaphore::new(AT_ONCE) }
    }

    /// What lies at an address; nothing if it cannot be had now.
    pub(super) async fn certificate(&self, url: &str) -> Option<Bytes> {
        if let Some(found) = self.known(url) {
            return found;
        }
        let _turn = timeout(WITHIN, self.turns.acquire()).await.ok()?.ok()?;
        // Others may have asked for the same meanwhile.
        if let Some(found) = self.known(url) {
            return found;
        }
        let found = self.fetched(url).await;
        let (good, bad) = KEPT_FOR;
        let until = Instant::now() + if found.is_some() { good } else { bad };
        self.kept.insert(url.to_owned(), (found.clone(), until));
        found
    }

    /// What is kept of an address and still holds.
    fn known(&self, url: &str) -> Option<Option<Bytes>> {
        let (found, until) = self.kept.get(url)?;
        (Instant::now() < until).then_some(found)
    }

    /// Asks an address for nothing but that it was asked; gives whether it was.
    pub(super) async fn confirm(&self, url: &str) -> bool {
        match timeout(WITHIN, self.turns.acquire()).await {
            Ok(Ok(_turn)) => self.fetched(url).await.is_some(),
            _ => false,
        }
    }

    async fn fetched(&self, url: &str) -> Option<Bytes> {
        match self.client.send(Request::get(url).timeout(WITHIN).response_bytes(MOST_BYTES)).await {
            Ok(response) if response.status.is_success() => Some(response.body),
            Ok(response) => {
                tracing::warn!(target: "segue::verify", status = %response.status, "the provider's own host did not give what it named");
                None
            }
            Err(error) => {
                tracing::warn!(target: "segue::verify", %error, "the provider's own host was not reached");
                None
            }
        }
    }
}
