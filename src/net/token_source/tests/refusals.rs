//! Endpoints that fail or refuse, and mail servers that refuse tokens.

use super::*;

#[tokio::test]
async fn temporary_failures_are_tried_again_ever_more_seldom() {
    let world = World::new();
    let source = world.source(settings());
    let mut at = NOW;
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        world.is_away();
        let fault = failed(&source, at).await;
        assert_eq!((fault.kind, fault.retry_at), (Kind::Temporary, at + pause));
        assert_eq!(failed(&source, at + pause - 1).await, fault, "nobody is asked before");
        at += pause;
    }
    assert_eq!(world.posts(), 11);
    // A wish is obeyed, within reason.
    for (wish, pause) in [(600, 600), (1_000_000, 3600), (1, 300)] {
        let body = Zeroizing::new(Vec::new());
        world.answers.lock().push_back(Ok(Answer { status: 429, retry_after: Some(wish), body }));
        assert_eq!(failed(&source, at).await.retry_at, at + pause);
        at += pause;
    }
    world.gives("one", 3600);
    assert_eq!(got(&source, at).await, "one");
    // All is forgotten.
    world.is_away();
    assert_eq!(failed(&source, at + 3600).await.retry_at, at + 3601);
    // A clock that is set back does not lengthen the pause.
    world.gives("two", 3600);
    assert_eq!(got(&source, NOW - DAY).await, "one");
    source.set(Settings { client_id: "other".to_owned(), ..settings() });
    assert_eq!(got(&source, NOW - DAY).await, "two");
}

#[tokio::test]
async fn a_clock_set_back_ends_pauses() {
    let world = World::new();
    let source = world.source(settings());
    world.refuses();
    failed(&source, NOW).await;
    failed(&source, NOW - 60).await;
    assert_eq!(world.posts(), 1);
    world.gives("one", 3600);
    assert_eq!(got(&source, NOW - 61).await, "one");
}

#[tokio::test]
async fn a_refusal_for_good_is_remembered() {
    let world = World::new();
    let source = world.source(settings());
    world.refuses();
    let fault = failed(&source, NOW).await;
    assert_eq!((fault.kind, fault.retry_at), (Kind::Permanent, NOW + 900));
    assert_eq!(failed(&source, NOW + 899).await, fault);
    assert_eq!(world.posts(), 1);
    // That the endpoint is away later does not make it a passing matter.
    world.is_away();
    let later = failed(&source, NOW + 900).await;
    assert_eq!((later.kind, &later.words), (Kind::Permanent, &fault.words));
    assert_eq!(source.alarm(NOW + 900).unwrap().what, What::Refused);
    // New settings are tried at once.
    source.set(Settings { client_secret: Some(Zeroizing::new("new".to_owned())), ..settings() });
    assert_eq!(source.alarm(NOW + 901), None);
    world.gives("one", 3600);
    assert_eq!(got(&source, NOW + 901).await, "one");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_a_minute_at_most() {
    let world = World::new();
    let source = world.source(settings());
    got_first(&world, &source).await;
    source.reject("somebody else's", NOW + 1);
    assert_eq!(got(&source, NOW + 1).await, "one");
    source.reject("one", NOW + 2);
    source.reject("one", NOW + 2);
    world.gives("two", 3600);
    assert_eq!(got(&source, NOW + 2).await, "two");
    assert_eq!(source.alarm(NOW + 2), None);
    // A session that still had the old one.
    source.reject("one", NOW + 3);
    // The new one is refused, too: no loop, and no other server is kept from it.
    source.reject("two", NOW + 4);
    assert_eq!(got(&source, NOW + 4).await, "two");
    assert_eq!(source.alarm(NOW + 4).unwrap().what, What::Rejected);
    source.reject("two", NOW + 121);
    assert_eq!(got(&source, NOW + 121).await, "two");
    assert_eq!(world.posts(), 2);
    source.reject("two", NOW + 122);
    world.gives("three", 3600);
    assert_eq!(got(&source, NOW + 122).await, "three");
    // It does, so all is well after its time.
    world.gives("four", 3600);
    assert_eq!(got(&source, NOW + 3600).await, "four");
    assert_eq!(source.alarm(NOW + 3600), None);
    assert_eq!(world.posts(), 4);
}

#[tokio::test]
async fn refused_tokens_bring_few_requests_in_a_day() {
    let world = World::new();
    let source = world.source(settings());
    for second in (0..DAY).step_by(30) {
        if world.answers.lock().is_empty() {
            world.gives(&format!("token{second}"), 3600);
        }
        let token = got(&source, NOW + second).await;
        source.reject(&token, NOW + second);
    }
    assert!(world.posts() <= 60, "{}", world.posts());
}

#[tokio::test]
async fn a_refused_token_is_given_out_no_more_once_renewing_is_refused_for_good() {
    let world = World::new();
    let source = world.source(settings());
    got_first(&world, &source).await;
    source.reject("one", NOW + 2);
    world.is_away();
    assert_eq!(got(&source, NOW + 2).await, "one");
    world.refuses();
    let fault = failed(&source, NOW + 3).await;
    assert_eq!(fault.kind, Kind::Permanent);
    assert_eq!(failed(&source, NOW + 4).await, fault);
}
