//! Customers, conversations, interactions, commands.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::base::Pii;
use crate::base::id::InteractionId;
use crate::model::Blob;
use crate::model::entry::{FileOutcome, MediaOutcome};
use crate::model::part::FetchState;

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_found_exactly_and_shown_with_the_story() {
    let gateway = Gateway::start().await;
    let conversation = gateway.message("+4930111111", "hello").await;
    gateway.message("+4930222222", "somebody else").await;
    for identifier in ["tel:%2B4930111111", "tel:+4930111111"] {
        let found = gateway.get(&format!("/v1/customers?identifier={identifier}")).await.ok(200);
        fits("Customers", &found);
        assert_eq!(found["customers"].as_array().unwrap().len(), 1);
        let customer = &found["customers"][0];
        assert_eq!(customer["open_issues"][0]["conversation_id"], *conversation);
        let id = customer["id"].as_str().unwrap();
        assert_eq!(gateway.get(&format!("/v1/customers/{id}")).await.ok(200), *customer);
    }
    let nobody = gateway.get("/v1/customers?identifier=tel:%2B493011111").await.ok(200);
    assert_eq!(nobody, json!({ "customers": [] }));
    gateway.get("/v1/customers?identifier=4930111111").await.problem(400);
    gateway.get("/v1/customers").await.problem(400);
    let shown = gateway.get(&format!("/v1/conversations/{conversation}")).await.ok(200);
    fits("Conversation", &shown);
    assert_eq!((&shown["state"], &shown["queue"]), (&json!("open"), &json!("general")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_both_timelines_hold_everything_once() {
    let gateway = Gateway::start().await;
    let mut conversation = String::new();
    for number in 0..7 {
        conversation = gateway.message("+4930111111", &format!("text {number}")).await;
    }
    let customer = gateway.get(&format!("/v1/conversations/{conversation}")).await.ok(200)["customer_id"].clone();
    let customer = format!("/v1/customers/{}", customer.as_str().unwrap());
    for (path, cursor) in [(format!("/v1/conversations/{conversation}"), "before_seq"), (customer.clone(), "before")] {
        for limit in 1..=8 {
            let (mut seen, mut next) = (Vec::new(), String::new());
            loop {
                let page = gateway.get(&format!("{path}/timeline?limit={limit}{next}")).await.ok(200);
                fits("Timeline", &page);
                let items = page["interactions"].as_array().unwrap();
                assert!(items.len() <= limit);
                seen.extend(items.iter().map(|item| item["interaction"]["seq"].as_u64().unwrap()));
                assert!(items.iter().all(|item| item["decision"]["queue"] == "general"));
                match page["next"].as_str() {
                    Some(cursor_value) => next = format!("&{cursor}={cursor_value}"),
                    None => break,
                }
            }
            assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1], "{path} {limit}");
        }
    }
    let other = gateway.message("+4930222222", "somebody else").await;
    let other = gateway.get(&format!("/v1/conversations/{other}/timeline")).await.ok(200);
    let foreign = other["interactions"][0]["interaction"]["id"].as_str().unwrap();
    gateway.get(&format!("{customer}/timeline?before={foreign}")).await.problem(400);
}

/// However many are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_both_timelines_end_by_bytes_too() {
    let gateway = Gateway::start().await;
    let mut conversation = String::new();
    let large = "large ".repeat(400_000);
    for text in ["first", &large, &large, &large, "last"] {
        conversation = gateway.message("+4930111111", text).await;
    }
    let story = format!("/v1/conversations/{conversation}");
    let customer = gateway.get(&story).await.ok(200)["customer_id"].clone();
    let customer = format!("/v1/customers/{}", customer.as_str().unwrap());
    for (path, cursor) in [(story, "before_seq"), (customer, "before")] {
        let (mut pages, mut next) = (Vec::new(), String::new());
        loop {
            let page = gateway.get(&format!("{path}/timeline?limit=200{next}")).await.ok(200);
            let items = page["interactions"].as_array().unwrap();
            pages.push(items.iter().map(|item| item["interaction"]["seq"].as_u64().unwrap()).collect::<Vec<_>>());
            match page["next"].as_str() {
                Some(found) => next = format!("&{cursor}={found}"),
                None => break,
            }
        }
        assert_eq!(pages, [vec![5, 4, 3], vec![2, 1]], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_customer_said_is_found_behind_much_of_ours() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    for _ in 0..5 {
        gateway.post(&format!("{path}/notes"), json!({ "text": "x".repeat(200_000) })).await.ok(201);
    }
    let reply = gateway.post(&format!("{path}/replies"), json!({ "text": "hi" })).await.ok(201);
    assert_eq!(reply["recipients"][0]["identifier"]["value"], "+4930111111", "{reply:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_answered_noted_assigned_resolved_and_reopened() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    let reply = gateway.post(&format!("{path}/replies"), json!({ "agent": "ag_7", "text": "hi" })).await;
    let location = reply.header("location").to_owned();
    let reply = reply.ok(201);
    fits("Interaction", &reply);
    assert_eq!(reply["author"]["agent_id"], "ag_7");
    assert_eq!(gateway.rows("send").await, 1);
    let shown = gateway.get(&location).await.ok(200);
    fits("InteractionView", &shown);
    assert_eq!(shown["interaction"], reply);
    assert_eq!(shown["current"]["delivery"]["state"], "planned");
    let note = gateway.post(&format!("{path}/notes"), json!({ "text": "call back" })).await.ok(201);
    assert_eq!((&note["visibility"], &note["seq"]), (&json!("internal"), &json!(3)));
    let assigned = gateway.post(&format!("{path}/assign"), json!({ "agent": "ag_7" })).await.ok(200);
    assert_eq!(assigned["owner"], "ag_7");
    // Leaving the owner out is a mistake, not a wish.
    assert!(gateway.post(&format!("{path}/assign"), json!({})).await.problem(400).contains("needed: agent"));
    let freed = gateway.post(&format!("{path}/assign"), json!({ "agent": null })).await.ok(200);
    assert!(freed.get("owner").is_none());
    let done = gateway.post(&format!("{path}/resolve"), json!({ "disposition": "solved" })).await.ok(200);
    assert_eq!(done["state"], "resolved");
    let empty = gateway.request("POST", &format!("{path}/reopen"), Scope::Write).body(Body::empty()).unwrap();
    assert_eq!(gateway.call(empty).await.ok(200)["state"], "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_story_does_not_allow_is_refused_and_stays_refused() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    let stray = json!({ "text": "x", "in_reply_to": "ix_00000000000000000000000000" }).to_string();
    let replies = format!("{path}/replies");
    let first = gateway.post_as(Scope::Write, Some("k"), &replies, &stray).await;
    let again = gateway.post_as(Scope::Write, Some("k"), &replies, &stray).await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert!(first.problem(409).contains("in_reply_to"));
    gateway.post(&replies, json!({})).await.problem(422);
    gateway.post(&replies, json!({ "text": "x", "surprise": 1 })).await.problem(400);
    gateway.post(&format!("{path}/notes"), json!({ "text": "x", "agent": " " })).await.problem(400);
    gateway.post("/v1/conversations/cv_00000000000000000000000000/reopen", json!({})).await.problem(404);
    gateway.post("/v1/conversations/nothing/reopen", json!({})).await.problem(400);
    assert_eq!((gateway.rows("send").await, gateway.rows("interaction").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_request_however_often_it_comes() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/conversations/{}/notes", gateway.message("+4930111111", "hello").await);
    let body = r#"{"text":"once"}"#;
    let calls = (0..16).map(|_| gateway.post_as(Scope::Write, Some("key"), &path, body));
    let mut made = HashSet::new();
    for reply in join_all(calls).await {
        match reply.status {
            201 => assert!(made.insert(reply.json()["id"].to_string()) || made.len() == 1),
            409 => assert_eq!(reply.header("retry-after"), "1"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(gateway.rows("interaction").await, 2);
    let again = gateway.post_as(Scope::Write, Some("key"), &path, body).await;
    assert!(made.contains(&again.ok(201)["id"].to_string()));
    // Another body or another path under the key is another request; another caller's key is another key.
    gateway.post_as(Scope::Write, Some("key"), &path, r#"{"text":"twice"}"#).await.problem(422);
    gateway.post_as(Scope::Write, Some("key"), &path.replace("notes", "replies"), body).await.problem(422);
    let other = gateway.post_as(Scope::Admin, Some("key"), &path, body).await.ok(201);
    assert!(!made.contains(&other["id"].to_string()));
    for key in ["", &"k".repeat(256)] {
        gateway.post_as(Scope::Write, Some(key), &path, body).await.problem(400);
    }
    assert_eq!(gateway.rows("interaction").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_applied_in_time_tells_where_to_ask() {
    let timing = Timing { command: Duration::from_millis(1), ..Timing::default() };
    let mut gateway = Gateway::idle(timing, 4).await;
    let path = "/v1/conversations/cv_00000000000000000000000000/reopen";
    let first = gateway.post_as(Scope::Write, Some("key"), path, "").await;
    let location = first.header("location").to_owned();
    let pending = first.ok(202);
    fits("CommandState", &pending);
    assert_eq!(pending["state"], "pending");
    assert_eq!(gateway.get(&location).await.ok(200), pending);
    assert_eq!(gateway.post_as(Scope::Write, Some("key"), path, "").await.header("retry-after"), "1");
    let context = gateway.context.clone();
    let place = context.waiting.enter(pending["id"].as_str().unwrap().parse().unwrap());
    gateway.work();
    assert!(tokio::time::timeout(Duration::from_secs(60), place.applied()).await.unwrap());
    let applied = gateway.get(&location).await.ok(200);
    fits("CommandState", &applied);
    assert_eq!((&applied["state"], &applied["status"]), (&json!("applied"), &json!(404)));
    gateway.post_as(Scope::Write, Some("key"), path, "").await.problem(404);
    gateway.get("/v1/commands/en_00000000000000000000000000").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_file_goes_out_as_an_attachment() {
    let gateway = Gateway::start().await;
    let message =
        json!([{ "id": "f1", "from": "+4930111111", "text": "see", "file": "ref", "filename": "ä/b\".html" }]);
    gateway.deliver(message).await;
    let recent = gateway.get("/v1/customers?identifier=tel:%2B4930111111").await.ok(200);
    let id = recent["customers"][0]["recent"][0]["interaction_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/interactions/{id}/parts/");
    let parts = gateway.get(&format!("/v1/interactions/{id}")).await.ok(200)["interaction"]["parts"].clone();
    let number = parts.as_array().unwrap().iter().position(|part| part["type"] == "file").unwrap();
    gateway.get(&format!("{path}{number}")).await.problem(409);
    gateway.get(&format!("{path}9")).await.problem(404);
    gateway.get(&format!("{path}x")).await.problem(400);
    let content = b"<script>alert(1)</script>".repeat(10_000);
    let pieces = content.chunks(7000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
    let now = gateway.context.clock.now();
    let pieces = futures_util::stream::iter(pieces);
    let stored = gateway.context.blobs.as_ref().unwrap().put(Some(1), 1 << 20, now, pieces).await.unwrap();
    let blob = Blob {
        id: Some(stored.name.to_string()),
        filename: Some(Pii::from("ä/b\".html")),
        fetch: Some(FetchState::Fetched),
        ..Blob::default()
    };
    let interaction: InteractionId = id.parse().unwrap();
    let file = FileOutcome { part: number, mediatype: Some("text/html".to_owned()), blob };
    let outcome = MediaOutcome { interaction, files: vec![file] };
    let body = EntryBody { head: serde_json::to_vec(&outcome).unwrap().into(), raw: Bytes::new() };
    gateway.enter(EntryId::random(gateway.context.clock.now()), EntryKind::Media, "", body).await;
    let file = gateway.get(&format!("{path}{number}")).await;
    assert_eq!((file.status, file.header("content-length")), (200, "250000"));
    assert_eq!(file.header("content-type"), "text/html");
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    let disposition = format!("attachment; filename=\"part-{number}\"; filename*=UTF-8''%C3%A4_b%22.html");
    assert_eq!(file.header("content-disposition"), disposition);
    assert_eq!(file.body, content);
    assert_eq!(gateway.rows("blob_use").await, 1);
    assert!(gateway.context.blobs.as_ref().unwrap().delete(stored.name).await.unwrap());
    gateway.get(&format!("{path}{number}")).await.problem(410);
}
