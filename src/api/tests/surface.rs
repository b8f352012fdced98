//! What holds for every route: scopes, errors, the document; and health.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::openapi;
use super::super::route::{ROUTES, Verb};
use super::*;
use crate::net::server::{Server, Settings};
use crate::net::{Limits, Tower};

/// A path of the route that names nothing.
fn concrete(path: &str) -> String {
    let id = match path.split('/').nth(2) {
        Some("customers") => "cu",
        Some("conversations") => "cv",
        Some("interactions") => "ix",
        _ => "en",
    };
    let id = format!("{id}_00000000000000000000000000");
    path.replace("{id}", &id).replace("{entry}", &id).replace("{part}", "0")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_runs_without_its_scope() {
    let gateway = Gateway::start().await;
    let other = format!("Bearer sg_tk_00000000000000000000000000_{}", "a".repeat(52));
    for route in ROUTES {
        let method = if route.verb == Verb::Get { "GET" } else { "POST" };
        let bare = || Request::builder().method(method).uri(concrete(route.path));
        let answer = gateway.raw(bare().body(Body::empty()).unwrap()).await;
        let Some(scope) = route.scope else {
            assert!(!matches!(answer.status().as_u16(), 401 | 403), "{}", route.path);
            continue;
        };
        assert_eq!(answer.status(), 401, "{}", route.path);
        assert_eq!(answer.headers()["www-authenticate"], r#"Bearer realm="segue""#);
        for wrong in [other.as_str(), "Bearer x", "Basic eDp5", "Bearer"] {
            let answer = gateway.call(bare().header("authorization", wrong).body(Body::empty()).unwrap()).await;
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", route.path);
            answer.problem(401);
        }
        for own in Scope::ALL {
            let request = gateway.request(method, &concrete(route.path), own).body(Body::empty()).unwrap();
            let answer = gateway.raw(request).await;
            let reaches = own == scope || own == Scope::Admin;
            assert_eq!(answer.status() != 403, reaches, "{} with {own:?}: {}", route.path, answer.status());
            assert_ne!(answer.status(), 401, "{} with {own:?}", route.path);
            if !reaches {
                let told = answer.headers()["www-authenticate"].to_str().unwrap();
                assert!(told.contains(&format!("scope=\"{}\"", scope.name())), "{told}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_a_problem_document() {
    let gateway = Gateway::start().await;
    let notes = format!("/v1/conversations/{}/notes", gateway.message("+4930111111", "hello").await);
    assert_eq!(gateway.get("/v1/nothing").await.status, UNKNOWN);
    gateway.get("/").await.problem(404);
    let unfit = gateway.get(&notes).await;
    assert_eq!(unfit.header("allow"), "POST");
    unfit.problem(405);
    gateway.get("/v1/customers/%FF").await.problem(400);
    let post = |media: &str, body: Body| {
        let request = gateway.request("POST", &notes, Scope::Write).header("content-type", media);
        gateway.call(request.body(body).unwrap())
    };
    post("text/plain", Body::from("x")).await.problem(415);
    post("application/json", Body::from("{\"text\":")).await.problem(400);
    post("application/json", Body::from("{\"text\":\"\u{1}\"}")).await.problem(400);
    post("application/json", Body::from(r#"{"text":"a","text":"b"}"#)).await.problem(400);
    post("application/json", Body::from(vec![0xff, 0xfe])).await.problem(400);
    post("application/json", Body::from("[".repeat(100_000))).await.problem(400);
    // What does not fit is told without a word of what was sent.
    let told = post("application/json", Body::from(r#"{"text":["private"]}"#)).await.problem(400);
    assert!(told.contains("text") && !told.contains("private"), "{told}");
    let most = super::super::call::MOST_BODY;
    let large = || Bytes::from(format!("{{\"text\":\"{}\"}}", "x".repeat(most)));
    post("application/json", Body::from(large())).await.problem(413);
    let chunks = futures_util::stream::iter(
        large().chunks(1000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    post("application/json", Body::from_stream(chunks)).await.problem(413);
    let declared = gateway.request("POST", &notes, Scope::Write).header("content-length", "1000000");
    gateway.call(declared.body(Body::empty()).unwrap()).await.problem(413);
    assert_eq!(gateway.rows("interaction").await, 1);
    post("application/merge-patch+json; charset=utf-8", Body::from(r#"{"text":"fine"}"#)).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_what_is_wrong() {
    let gateway = Gateway::idle(Timing::default(), 4).await;
    assert_eq!(gateway.get("/healthz").await.body, "ok\n");
    let ready = gateway.get("/readyz").await.ok(200);
    fits("Readiness", &ready);
    gateway.working.store(false, Ordering::Relaxed);
    gateway.stop.send(true).unwrap();
    let not = gateway.get("/readyz").await.ok(503);
    assert_eq!(not["reasons"], json!(["entries are not applied", "the gateway is stopping"]));
    assert_eq!(gateway.get("/healthz").await.status, 200);
    // Nothing is applied here, so the command stays; its figure is counted when it is asked for.
    let path = "/v1/conversations/cv_00000000000000000000000000/reopen";
    gateway.post_as(Scope::Write, None, path, "").await.ok(202);
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("segue_pending_entries 1\n") && text.ends_with("# EOF\n"), "{text}");
    gateway.loaded.store(Arc::new(ReloadReport {
        problems: vec!["rules.lua:3: no such queue".to_owned()],
        helpdesks: vec!["main".to_owned()],
        ..ReloadReport::default()
    }));
    let status = gateway.get("/v1/status").await.ok(200);
    fits("Status", &status);
    assert_eq!(status["connectors"], json!([{ "name": "probe", "version": "7" }]));
    assert_eq!(status["channels"][0]["name"], "trial");
    assert_eq!(status["reload"]["problems"], json!(["rules.lua:3: no such queue"]));
    assert_eq!((&status["helpdesks"], &status["pending"]["entries"]), (&json!(["main"]), &json!(1)));
}

/// With `SEGUE_WRITE_DOCS=1` the committed document is written; the test fails all the same if it was stale.
#[test]
fn the_committed_document_is_fresh_and_whole() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/openapi.json");
    let fresh = openapi::document(None);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != fresh && std::env::var_os("SEGUE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert!(committed == fresh, "docs/reference/openapi.json is stale: run this test with SEGUE_WRITE_DOCS=1");
    let document: Value = serde_json::from_str(&fresh).unwrap();
    let operations: usize = document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(operations, ROUTES.len());
    let names: std::collections::HashSet<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(names.len(), ROUTES.len());
    for (at, _) in fresh.match_indices("\"$ref\": \"#") {
        let pointer = fresh[at..].split('"').nth(3).unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    // Every shape has a name of its own: two of one name would be numbered.
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_schemas_are_served_to_everybody() {
    let gateway = Gateway::idle(Timing::default(), 4).await;
    let open = |path: &str| gateway.call(Request::builder().uri(path).body(Body::empty()).unwrap());
    assert_eq!(open("/v1/openapi.json").await.body, openapi::document(None));
    for name in ["interaction", "customer", "conversation", "decision", "event", "event-data"] {
        let schema = open(&format!("/v1/schemas/{name}.json")).await;
        assert_eq!(schema.header("content-type"), "application/schema+json");
        assert!(jsonschema::validator_for(&schema.json()).is_ok());
        assert_eq!(open(&format!("/v1/schemas/{name}.v1.json")).await.body, schema.body);
    }
    open("/v1/schemas/nothing.json").await.problem(404);
    open("/v1/schemas/interaction").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_carries_it() {
    let gateway = Gateway::start().await;
    let settings = Settings { limits: Limits::default(), ..Settings::new("127.0.0.1:0".parse().unwrap()) };
    let server = Server::start(settings, Arc::new(Tower(gateway.router.clone()))).await.unwrap();
    let mut socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let token = &gateway.tokens[&Scope::Write];
    let request = format!(
        "POST /v1/conversations/x/notes HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
    drop(socket);
    server.drain(Duration::from_secs(5)).await;
}
