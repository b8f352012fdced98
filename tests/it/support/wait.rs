//! Waiting for something to become true, with a deadline and no longer than needed.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take that should happen at once; generous, since the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How long work of many parts may take.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Probes until `probe` gives something.
///
/// # Panics
///
/// After `limit`, naming `what` was waited for.
pub(crate) async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Holds what `took` to what is promised, where the machine has nothing else to do: in the long form of the tests.
pub(crate) fn promised(what: &str, took: Duration, promise: Duration) {
    println!("{what}: {took:?}, promised {promise:?}");
    assert!(took <= promise || !super::full(), "{what}: {took:?} instead of {promise:?}");
}

/// Probes until `probe` is true.
pub(crate) async fn until_true(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
    until(what, limit, async || probe().await.then_some(())).await;
}
