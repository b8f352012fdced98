//! Quarantine, dead letters, tokens.

use super::*;
use crate::model::EventType;
use crate::store::Subscription;

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_listed_shown_and_read_again() {
    let gateway = Gateway::start().await;
    let entry = gateway.deliver(json!([{ "id": "p1", "from": "+4930111111", "text": "hi", "poison": "yes" }])).await;
    gateway.deliver(json!([{ "id": "p2", "from": "+4930111111", "text": "hi", "poison": "yes" }])).await;
    let page = gateway.get("/v1/quarantine?limit=1").await.ok(200);
    fits("Quarantine", &page);
    let next = page["next"].as_str().unwrap();
    let page = gateway.get(&format!("/v1/quarantine?limit=1&before={next}")).await.ok(200);
    assert_eq!(page["quarantined"][0]["entry"], entry.to_string());
    assert!(page.get("next").is_none());
    let path = format!("/v1/quarantine/{entry}");
    let shown = gateway.get(&path).await.ok(200);
    fits("Quarantined", &shown);
    assert_eq!(shown["reasons"], json!(["poison"]));
    assert!(shown["original"]["body"].as_str().unwrap().contains("+4930111111"));
    // What a person said is for `admin` only.
    let read = gateway.request("GET", &path, Scope::Read).body(Body::empty()).unwrap();
    let read = gateway.call(read).await.ok(200);
    assert!(read.get("original").is_none() && !read.to_string().contains("4930111111"));
    let retry = format!("{path}/retry");
    let still = gateway.post_as(Scope::Write, Some("one"), &retry, "").await.ok(200);
    fits("Retried", &still);
    assert_eq!(still["released"], false);
    gateway.context.setup.store(Arc::new(setup("msg.never")));
    // The first answer stands for its key; a new request is read by the connector as it is now.
    assert_eq!(gateway.post_as(Scope::Write, Some("one"), &retry, "").await.ok(200), still);
    let released = gateway.post_as(Scope::Write, Some("two"), &retry, "").await.ok(200);
    assert_eq!(released["released"], true);
    assert_eq!((gateway.rows("interaction").await, gateway.rows("quarantine").await), (1, 1));
    assert_eq!(gateway.post_as(Scope::Write, Some("two"), &retry, "").await.ok(200), released);
    gateway.post(&retry, json!({})).await.problem(404);
    gateway.get(&path).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_revived_once_a_key() {
    let gateway = Gateway::start().await;
    let subscribe = |helpdesk: &str| Subscription {
        helpdesk: helpdesk.to_owned(),
        types: vec![EventType::InteractionReceived as u8],
        channels: Vec::new(),
    };
    let outbox = gateway.context.store.outbox.clone();
    outbox.subscribe(vec![subscribe("one"), subscribe("two")]).await.unwrap();
    for number in 0..3 {
        gateway.message(&format!("+493000000{number}"), "hello").await;
    }
    for helpdesk in ["one", "two"] {
        let (events, _) = outbox.wanted_events(helpdesk.to_owned(), 0, 10).await.unwrap();
        for event in events {
            outbox.dead_letter(helpdesk.to_owned(), event, "no answer".to_owned(), 0).await.unwrap();
        }
    }
    let (mut seen, mut next) = (0, String::new());
    loop {
        let page = gateway.get(&format!("/v1/dead-letters?limit=1{next}")).await.ok(200);
        fits("DeadLetters", &page);
        seen += page["dead_letters"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(cursor) => next = format!("&before={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, 6);
    let own = gateway.get("/v1/dead-letters?helpdesk=one").await.ok(200);
    assert_eq!(own["dead_letters"].as_array().unwrap().len(), 3);
    let event = own["dead_letters"][0]["event"].as_str().unwrap();
    let one = json!({ "helpdesk": "one", "event": event }).to_string();
    for _ in 0..2 {
        let revived = gateway.post_as(Scope::Write, Some("k"), "/v1/dead-letters/retry", &one).await.ok(200);
        fits("Revived", &revived);
        assert_eq!(revived["revived"], 1);
    }
    gateway.post_as(Scope::Write, Some("k"), "/v1/dead-letters/retry", "{}").await.problem(422);
    assert_eq!(gateway.post("/v1/dead-letters/retry", json!({})).await.ok(200)["revived"], 5);
    assert_eq!(gateway.rows("dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_until_it_is_revoked_and_is_never_shown_again() {
    let gateway = Gateway::idle(Timing::default(), 4).await;
    let body = r#"{"name":"desk","scopes":["feed","read"]}"#;
    let made = gateway.post_as(Scope::Admin, Some("k"), "/v1/tokens", body).await.ok(201);
    fits("Token", &made);
    let token = made["token"].as_str().unwrap().to_owned();
    let secret = token.rsplit('_').next().unwrap();
    let id = made["id"].as_str().unwrap();
    let again = gateway.post_as(Scope::Admin, Some("k"), "/v1/tokens", body).await.ok(201);
    assert_eq!((&again["id"], again.get("token")), (&made["id"], None));
    let other = r#"{"name":"desk","scopes":["admin"]}"#;
    gateway.post_as(Scope::Admin, Some("k"), "/v1/tokens", other).await.problem(422);
    gateway.post("/v1/tokens", json!({ "name": "x", "scopes": [] })).await.problem(400);
    gateway.post("/v1/tokens", json!({ "name": "x", "scopes": ["everything"] })).await.problem(400);
    let listed = gateway.get("/v1/tokens").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(secret));
    fits("Tokens", &listed.ok(200));
    let status = async |token: &str| {
        let request = Request::builder().uri("/v1/events").header("authorization", format!("Bearer {token}"));
        gateway.call(request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(status(&token).await, 200);
    let mut wrong = token.clone();
    wrong.pop();
    assert_eq!(status(&wrong).await, 401);
    assert_eq!(status(&format!("sg_{id}")).await, 401);
    assert_eq!(status(&format!("sg_{id}_")).await, 401);
    let revoked = gateway.post(&format!("/v1/tokens/{id}/revoke"), json!({})).await.ok(200);
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(gateway.post(&format!("/v1/tokens/{id}/revoke"), json!({})).await.ok(200), revoked);
    assert_eq!(status(&token).await, 401);
    gateway.post("/v1/tokens/nobody/revoke", json!({})).await.problem(404);
}
