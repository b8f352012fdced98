//! Bad input: each kind gets its documented answer, and nothing of it is stored as an interaction.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::http::{Call, raw};
use crate::support::{provider, wait};

/// A gateway with short limits, its project and its help desk.
async fn gateway() -> (Gateway, Project, HelpDesk) {
    let desk = HelpDesk::start().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .whatsapp("whatsapp", "http://127.0.0.1:9")
        .limits("body = \"64KiB\"\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"");
    (Gateway::start(&project).await, project, desk)
}

/// Nothing but what a good message leaves is stored, and the gateway still takes one.
async fn nothing_else_is_stored(gateway: &Gateway, project: &Project, desk: &HelpDesk) {
    gateway.accept(&provider::whatsapp_text("whatsapp", "15550001000", "wamid.good", "still here")).await;
    let taken = desk.wait_for(1).await;
    gateway.settled(project).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].provider_id(), "wamid.good");
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 1);
    assert_eq!(project.number("SELECT count(*) FROM event"), project.number("SELECT max(sequence) FROM event"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_at_the_door_leaves_no_entry() {
    let (gateway, project, desk) = gateway().await;
    let good = provider::whatsapp_text("whatsapp", "15550009999", "wamid.bad", "hello");
    let without = |name: &str| {
        let mut call = good.clone();
        call.headers.retain(|(header, _)| header != name);
        call
    };
    let large = provider::whatsapp_text("whatsapp", "15550009999", "wamid.bad", &"x".repeat(65 << 10));
    let tampered =
        Call { body: String::from_utf8(good.body.to_vec()).unwrap().replace("hello", "hullo").into(), ..good.clone() };
    let signed_as = |signature: &str| without("x-hub-signature-256").header("x-hub-signature-256", signature);
    let challenge = |token: &str| {
        Call::new(Method::GET, format!("/in/whatsapp?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=12345"))
    };
    let cases = [
        ("no signature", 401, without("x-hub-signature-256")),
        ("an empty signature", 401, signed_as("")),
        ("a signature that is no hex", 401, signed_as("sha256=zz")),
        ("a signature cut short", 401, signed_as("sha256=00")),
        ("another body than was signed", 401, tampered),
        ("a body beyond the limit", 413, large),
        ("a compressed body", 415, good.clone().header("content-encoding", "gzip")),
        ("an unknown channel", 404, Call { target: "/in/nobody".into(), ..good.clone() }),
        ("a path below a channel", 404, Call { target: "/in/whatsapp/../../etc".into(), ..good.clone() }),
        ("no channel at all", 404, Call { target: "/in/".into(), ..good.clone() }),
        ("a challenge with a wrong token", 403, challenge("wrong")),
    ];
    for (what, status, call) in cases {
        let answer = gateway.send(&call).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(!answer.text().contains(provider::META_APP_SECRET), "{what}: the answer shows a secret");
        if status != 403 {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
            assert_eq!(answer.json()["status"], status, "{what}");
        }
    }
    let answer = gateway.send(&challenge(provider::META_VERIFY_TOKEN)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "12345"));
    assert_eq!(project.number("SELECT count(*) FROM entry"), 0, "something refused was journaled");
    nothing_else_is_stored(&gateway, &project, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dawdles_or_breaks_off_is_let_go() {
    let (gateway, project, desk) = gateway().await;
    let good = provider::whatsapp_text("whatsapp", "15550009999", "wamid.bad", "hello");
    let signature = &good.headers.iter().find(|(name, _)| name == "x-hub-signature-256").unwrap().1;
    let head = |length: usize| {
        format!(
            "POST /in/whatsapp HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n\
             X-Hub-Signature-256: {signature}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let (body, patience) = (&good.body[..], Duration::from_secs(20));
    let length = body.len();

    // The rest of the body never comes.
    let slow = [head(length).as_bytes(), &body[..length / 2]].concat();
    let answer = raw(gateway.base(), &slow, false, patience).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "a slow body: {answer}");

    // The rest of the head never comes: there is nobody to answer yet.
    let answer = raw(gateway.base(), b"POST /in/whatsapp HTTP/1.1\r\nHost: ga", false, patience).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "a slow head: {answer}");

    // The peer breaks off.
    let answer = raw(gateway.base(), &slow, true, patience).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "a truncated body: {answer}");

    // The declared length is beyond the limit: refused before it is read.
    let answer = raw(gateway.base(), head(1 << 30).as_bytes(), false, patience).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "a huge length: {answer}");

    // What is no HTTP, and what two readers would read in two ways.
    let smuggled = "POST /in/whatsapp HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
    let hosts = "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n";
    for bytes in ["\u{16}\u{3}\u{1}hello", "GET\r\n\r\n", smuggled, hosts] {
        let answer = raw(gateway.base(), bytes.as_bytes(), true, patience).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{bytes:?}: {answer}");
    }
    assert_eq!(project.number("SELECT count(*) FROM entry"), 0, "something broken was journaled");
    nothing_else_is_stored(&gateway, &project, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_but_broken_is_quarantined_with_its_reason() {
    let (gateway, project, desk) = gateway().await;
    let message = provider::whatsapp_change(json!({
        "contacts": [], "messages": [provider::whatsapp_message("15550009999", "wamid.bad", "hello")],
    }))
    .to_string();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", b"hello".to_vec()),
        ("nothing", Vec::new()),
        ("cut in the middle", message.as_bytes()[..message.len() / 2].to_vec()),
        ("something after the end", [message.as_bytes(), b"{}"].concat()),
        ("a key twice", message.replacen("\"object\"", "\"object\":1,\"object\"", 1).into_bytes()),
        ("bytes that are no UTF-8", [&message.as_bytes()[..message.len() - 1], b",\"x\":\"\xff\xfe\"}"].concat()),
        ("nested without end", deep.into_bytes()),
        ("another shape", b"{\"object\":\"whatsapp_business_account\",\"entry\":7}".to_vec()),
    ];
    let count = cases.len() as i64;
    for (what, body) in cases {
        // Refusing would make the provider send it for days: it is durable, and somebody is told.
        let answer = gateway.send(&provider::meta("whatsapp", body)).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    }
    gateway.settled(&project).await;
    wait::until_true("every broken payload is in quarantine", wait::SOON, async || {
        project.number("SELECT count(DISTINCT position) FROM quarantine") == count
    })
    .await;
    assert_eq!(project.number("SELECT count(*) FROM quarantine WHERE reason = ''"), 0);
    nothing_else_is_stored(&gateway, &project, &desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_content_type_loses_nothing() {
    // The signature covers the bytes, not what they are called, so it is taken. As a form, JSON is one odd field: nothing
    // that the connector knows, so it is kept in quarantine, with its reason, for whoever mends the provider's side.
    let (gateway, project, desk) = gateway().await;
    let mut call = provider::whatsapp_text("whatsapp", "15550009999", "wamid.typed", "hello");
    call.headers.retain(|(name, _)| name != "content-type");
    let typed = call.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(gateway.send(&typed).await.status, 200);
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 0);
    assert_eq!(project.number("SELECT count(*) FROM quarantine WHERE reason <> ''"), 1);
    // Any other name than that of a form does not change what JSON is: providers send it under several.
    let mut call = provider::whatsapp_text("whatsapp", "15550001000", "wamid.good", "still here");
    call.headers.retain(|(name, _)| name != "content-type");
    for call in [call.clone().header("content-type", "text/plain"), call] {
        gateway.accept(&call).await;
    }
    gateway.settled(&project).await;
    assert_eq!(desk.wait_for(1).await[0].provider_id(), "wamid.good");
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 1);
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 1);
}
