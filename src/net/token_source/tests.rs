//! Renewals against an endpoint and a store that do as they are told, at times that are told, too.

mod alarms;
mod refusals;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::*;

const NOW: u64 = 1_772_445_600;
const DAY: u64 = 86_400;

/// An endpoint that gives the answers it was told to give, and a store; both write down what happens.
struct World {
    answers: Mutex<VecDeque<Result<Answer, String>>>,
    log: Mutex<Vec<String>>,
    kept: Mutex<Option<Kept>>,
    posts: AtomicUsize,
    /// As many requests are answered as there are permits.
    open: Semaphore,
    /// Whether the store can be read, and written.
    reads: Mutex<bool>,
    writes: Mutex<bool>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            answers: Mutex::default(),
            log: Mutex::default(),
            kept: Mutex::default(),
            posts: AtomicUsize::new(0),
            open: Semaphore::new(1000),
            reads: Mutex::new(true),
            writes: Mutex::new(true),
        })
    }

    fn source(self: &Arc<Self>, settings: Settings) -> TokenSource {
        TokenSource::new(settings, Arc::clone(self) as _, Arc::clone(self) as _)
    }

    fn answers(&self, status: u16, body: Value) {
        let body = Zeroizing::new(body.to_string().into_bytes());
        self.answers.lock().push_back(Ok(Answer { status, retry_after: None, body }));
    }

    fn gives(&self, access: &str, life: u64) {
        self.answers(200, json!({ "access_token": access, "expires_in": life }));
    }

    fn rotates(&self, access: &str, refresh: &str) {
        self.answers(200, json!({ "access_token": access, "expires_in": 3600, "refresh_token": refresh }));
    }

    fn refuses(&self) {
        self.answers(400, json!({ "error": "invalid_grant" }));
    }

    fn is_away(&self) {
        self.answers.lock().push_back(Err("no route\nto host".to_owned()));
    }

    fn posts(&self) -> usize {
        self.posts.load(Ordering::Relaxed)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

impl Post for World {
    fn post<'a>(&'a self, url: &'a str, body: Zeroizing<Vec<u8>>) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            assert_eq!(url, "https://login.example/token");
            self.posts.fetch_add(1, Ordering::Relaxed);
            self.open.acquire().await.unwrap().forget();
            let refresh = url::form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token");
            self.log.lock().push(format!("asked with {}", refresh.map(|(_, token)| token).unwrap_or_default()));
            self.answers.lock().pop_front().expect("a request that nobody reckoned with")
        })
    }
}

impl Keep for World {
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, String>> {
        let found = if *self.reads.lock() { Ok(self.kept.lock().clone()) } else { Err("disk broken".to_owned()) };
        async move { found }.boxed()
    }

    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, Result<(), String>> {
        async move {
            tokio::task::yield_now().await;
            if !*self.writes.lock() {
                return Err("disk full".to_owned());
            }
            self.log.lock().push(format!("kept {}", kept.refresh.as_str()));
            *self.kept.lock() = Some(kept.clone());
            Ok(())
        }
        .boxed()
    }
}

fn settings() -> Settings {
    Settings {
        token_url: "https://login.example/token".to_owned(),
        client_id: "client".to_owned(),
        client_secret: None,
        scope: None,
        grant: Grant::RefreshToken { token: Zeroizing::new("first".to_owned()) },
        secret_expires: None,
    }
}

async fn got(source: &TokenSource, now: u64) -> String {
    source.get(now).await.unwrap().to_string()
}

async fn failed(source: &TokenSource, now: u64) -> TokenFault {
    source.get(now).await.unwrap_err()
}

#[tokio::test]
async fn fifty_askers_make_one_request() {
    let world = World::new();
    let source = world.source(settings());
    world.gives("one", 3600);
    let all = join_all((0..50).map(|at| {
        let source = source.clone();
        tokio::spawn(async move { got(&source, NOW + at % 3).await })
    }))
    .await;
    assert!(all.into_iter().all(|token| token.unwrap() == "one"));
    assert_eq!(world.posts(), 1);
    // And where the request fails, it is one, too.
    let other = World::new();
    let source = other.source(settings());
    other.is_away();
    let all = join_all((0..50).map(|at| failed(&source, NOW + 2 - at % 3)).collect::<Vec<_>>()).await;
    assert!(all.iter().all(|fault| fault.kind == Kind::Temporary && fault.words.ends_with("no route to host")));
    assert_eq!(other.posts(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_shortly_before_its_end() {
    for (life, margin) in [(3600, 300), (600, 60), (5, 0), (30 * DAY, 29 * DAY)] {
        let world = World::new();
        let source = world.source(settings());
        world.gives("one", life);
        assert_eq!(got(&source, NOW).await, "one");
        if life > 5 {
            assert_eq!(got(&source, NOW + life - margin - 1).await, "one");
            assert_eq!(world.posts(), 1);
        }
        world.gives("two", life);
        assert_eq!(got(&source, NOW + life - margin).await, "two", "{life}");
        assert_eq!(world.posts(), 2);
    }
}

#[tokio::test]
async fn who_asks_during_a_renewal_gets_the_token_that_still_lives() {
    let world = World::new();
    let source = world.source(settings());
    world.gives("one", 3600);
    got(&source, NOW).await;
    world.gives("two", 3600);
    world.open.forget_permits(999);
    let first = tokio::spawn({
        let source = source.clone();
        async move { got(&source, NOW + 3400).await }
    });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(world.posts(), 2);
    assert_eq!(got(&source, NOW + 3401).await, "one");
    world.open.add_permits(1);
    assert_eq!(first.await.unwrap(), "two");
    assert_eq!((got(&source, NOW + 3402).await.as_str(), world.posts()), ("two", 2));
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_before_its_access_token_is_used() {
    let world = World::new();
    let source = world.source(settings());
    world.rotates("one", "second");
    assert_eq!(got(&source, NOW).await, "one");
    assert_eq!(world.log(), ["asked with first", "kept second"]);

    world.rotates("two", "third");
    assert_eq!(got(&source, NOW + 3500).await, "two");
    assert_eq!(world.log(), ["asked with second", "kept third"]);

    // After a restart the kept one counts, not the configured one.
    let source = world.source(settings());
    world.gives("three", 3600);
    assert_eq!(got(&source, NOW + 3600).await, "three");
    assert_eq!(world.log(), ["asked with third"]);

    // After a new sign-in the configured one counts.
    let grant = Grant::RefreshToken { token: Zeroizing::new("new sign-in".to_owned()) };
    source.set(Settings { grant, ..settings() });
    world.gives("four", 3600);
    assert_eq!(got(&source, NOW + 3700).await, "four");
    assert_eq!(world.log(), ["asked with new sign-in"]);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_used_and_not_lost() {
    let world = World::new();
    let source = world.source(settings());
    got_first(&world, &source).await;
    *world.writes.lock() = false;
    world.rotates("two", "second");
    // The old access token lives on, and a person is told.
    assert_eq!(got(&source, NOW + 3400).await, "one");
    let alarm = source.alarm(NOW + 3400).unwrap();
    assert_eq!(alarm.what, What::NotStored);
    assert!(alarm.words.contains("disk full") && alarm.words.contains("2026-03-02 11:00 UTC"), "{}", alarm.words);
    let fault = failed(&source, NOW + 3600).await;
    assert!(fault.words.contains("stored"), "{}", fault.words);
    *world.writes.lock() = true;
    assert_eq!(got(&source, NOW + 3700).await, "two");
    assert_eq!(world.log(), ["asked with first", "asked with first", "kept second"]);
    assert_eq!(source.alarm(NOW + 3700), None);
}

async fn got_first(world: &Arc<World>, source: &TokenSource) {
    world.gives("one", 3600);
    assert_eq!(got(source, NOW).await, "one");
}

#[tokio::test]
async fn without_the_store_nobody_is_asked() {
    let world = World::new();
    let source = world.source(settings());
    *world.reads.lock() = false;
    assert!(failed(&source, NOW).await.words.contains("cannot be read: disk broken"));
    assert_eq!(world.posts(), 0);
    *world.reads.lock() = true;
    world.gives("one", 3600);
    assert_eq!(got(&source, NOW + 1).await, "one");
}

#[tokio::test]
async fn a_renewal_ends_although_its_asker_is_gone() {
    let world = World::new();
    let source = world.source(settings());
    world.rotates("one", "second");
    world.open.forget_permits(1000);
    {
        let mut asking = Box::pin(source.get(NOW));
        assert!((&mut asking).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!(world.posts(), 1);
    }
    world.open.add_permits(2);
    assert_eq!(got(&source, NOW + 1).await, "one");
    assert_eq!(world.posts(), 1);
    assert_eq!(world.log(), ["asked with first", "kept second"]);
}

#[tokio::test]
async fn another_nodes_renewal_is_found() {
    let world = World::new();
    let source = world.source(settings());
    world.rotates("one", "second");
    got(&source, NOW).await;
    let theirs = |refresh: &str| {
        let refresh = Zeroizing::new(refresh.to_owned());
        *world.kept.lock() = Some(Kept { origin: settings().origin(), refresh, ends_at: None, slides: false });
    };
    world.log();
    theirs("third");
    world.rotates("two", "fourth");
    assert_eq!(got(&source, NOW + 3500).await, "two");
    assert_eq!(world.log(), ["asked with third", "kept fourth"]);

    // While ours was under way, theirs came first.
    world.open.forget_permits(1000);
    let ours = tokio::spawn({
        let source = source.clone();
        async move { got(&source, NOW + 7000).await }
    });
    while world.posts() < 3 {
        tokio::task::yield_now().await;
    }
    theirs("fifth");
    world.refuses();
    world.gives("three", 3600);
    world.open.add_permits(2);
    assert_eq!(ours.await.unwrap(), "three");
    assert_eq!(world.log(), ["asked with fourth", "asked with fifth"]);
}

#[tokio::test]
async fn settings_that_change_during_a_renewal_make_its_outcome_void() {
    let world = World::new();
    let source = world.source(settings());
    world.gives("old", 3600);
    world.open.forget_permits(1000);
    let first = tokio::spawn({
        let source = source.clone();
        async move { failed(&source, NOW).await }
    });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    source.set(Settings { client_id: "other".to_owned(), ..settings() });
    world.open.add_permits(2);
    assert_eq!(first.await.unwrap().retry_at, NOW);
    world.gives("new", 3600);
    assert_eq!(got(&source, NOW).await, "new");
}

#[tokio::test]
async fn other_grants_keep_nothing() {
    let world = World::new();
    *world.reads.lock() = false;
    let secret = Some(Zeroizing::new("x".to_owned()));
    let source = world.source(Settings { grant: Grant::ClientCredentials, client_secret: secret, ..settings() });
    world.rotates("one", "unwanted");
    assert_eq!(got(&source, NOW).await, "one");
    assert_eq!(world.log(), ["asked with "]);
    assert!(!format!("{source:?}").contains('x'));
}

#[test]
fn a_kept_token_is_written_and_read() {
    for refresh in ["0.AX-oA", r#"with"quote\and"#, ""] {
        let refresh = Zeroizing::new(refresh.to_owned());
        let kept = Kept { origin: settings().origin(), refresh, ends_at: Some(NOW), slides: true };
        assert_eq!(Kept::from_bytes(&kept.to_bytes()), Some(kept.clone()));
        assert!(!format!("{kept:?}").contains("AX"));
    }
    for other in [&b""[..], b"{}", b"\xff", br#"{"origin":1}"#] {
        assert_eq!(Kept::from_bytes(other), None);
    }
}
