//! The feed by page, by long-poll and as a stream.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use proptest::prelude::*;

use super::*;

/// Everything in the feed, as it was written.
async fn stored(gateway: &Gateway) -> Vec<(i64, Bytes)> {
    let events = gateway.context.store.catalog.feed(0, 10_000).await.unwrap();
    events.into_iter().map(|event| (event.no, event.body)).collect()
}

/// One event of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    id: i64,
    kind: String,
    data: String,
}

/// A reader of a stream, as a browser reads it.
struct Reader {
    body: BodyDataStream,
    text: String,
    comments: usize,
}

impl Reader {
    async fn open(gateway: &Gateway, path: &str, last: Option<i64>) -> Reader {
        let mut request = gateway.request("GET", path, Scope::Feed).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = gateway.raw(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Reader { body: response.into_body().into_data_stream(), text: String::new(), comments: 0 }
    }

    /// The next block, of whatever kind; none at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.body.next()).await.unwrap()?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn event(&mut self) -> Option<Sent> {
        loop {
            let block = self.block().await?;
            if block == ":" {
                self.comments += 1;
            }
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(id), Some(kind), Some(data)) = (field("id: "), field("event: "), field("data: ")) {
                return Some(Sent { id: id.parse().unwrap(), kind, data });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_cursor_skips_nothing_and_bodies_are_byte_for_byte(
        limits in proptest::collection::vec(1usize..8, 1..6), messages in 1usize..12, filtered: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let gateway = Gateway::start().await;
            for number in 0..messages {
                gateway.message(&format!("+493000000{}", number % 3), "ä \"quoted\"\n").await;
            }
            let filter = if filtered { "&types=interaction.received&channels=trial" } else { "" };
            let mut expected = stored(&gateway).await;
            if filtered {
                expected.retain(|(_, body)| memchr::memmem::find(body, b"dev.segue.interaction.received.v1").is_some());
            }
            assert!(expected.len() >= messages);
            let (mut seen, mut after) = (Vec::<String>::new(), "0".to_owned());
            for limit in limits.iter().cycle() {
                let page = gateway.get(&format!("/v1/events?after={after}&limit={limit}{filter}")).await;
                let text = String::from_utf8(page.body.to_vec()).unwrap();
                let value = page.ok(200);
                fits("Events", &value);
                let got = value["events"].as_array().unwrap().len();
                assert!(got <= *limit);
                // Byte for byte: what was stored stands in the page as it is, at its place.
                for (_, body) in expected.iter().skip(seen.len()).take(got) {
                    let body = std::str::from_utf8(body).unwrap();
                    assert!(text.contains(body));
                    seen.push(body.to_owned());
                }
                after = value["next"].as_str().unwrap().to_owned();
                if value["has_more"] == false {
                    break;
                }
            }
            let expected: Vec<_> = expected.iter().map(|(_, body)| String::from_utf8(body.to_vec()).unwrap()).collect();
            assert_eq!(seen, expected);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cursor_is_refused() {
    let gateway = Gateway::start().await;
    gateway.message("+4930111111", "hello").await;
    for wrong in ["-1", "01", "+1", "x", "", "999999", "9223372036854775808"] {
        gateway.get(&format!("/v1/events?after={wrong}")).await.problem(400);
    }
    for wrong in ["types=nothing", "limit=0", "limit=201", "wait=31", "wait=-1", "after=0&after=0", "surprise=1"] {
        gateway.get(&format!("/v1/events?{wrong}")).await.problem(400);
    }
    // An event in the middle is gone: who stopped there may have missed what is gone with it.
    let before = crate::store::Cutoffs {
        raw: crate::base::Timestamp::default(),
        covered: 0,
        dedupe: crate::base::Timestamp::default(),
        events: gateway.context.clock.now().plus_millis(60_000),
    };
    let first = stored(&gateway).await.first().unwrap().0;
    gateway.message("+4930111111", "again").await;
    gateway.get(&format!("/v1/events?after={first}")).await.ok(200);
    gateway.context.store.retention.prune(before, 1).await.unwrap();
    assert!(stored(&gateway).await.first().unwrap().0 > first);
    gateway.get(&format!("/v1/events?after={first}")).await.problem(410);
    gateway.get("/v1/events").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_for_what_it_waits_for_and_ends_when_the_gateway_stops() {
    let gateway = Gateway::start().await;
    let conversation = gateway.message("+4930111111", "hello").await;
    let end = stored(&gateway).await.last().unwrap().0;
    let path = format!("/v1/events?after={end}&wait=30&types=conversation.resolved");
    let waits = gateway.get(&path);
    let acts = async {
        gateway.post(&format!("/v1/conversations/{conversation}/notes"), json!({ "text": "no" })).await.ok(201);
        gateway.post(&format!("/v1/conversations/{conversation}/resolve"), json!({})).await.ok(200);
    };
    let (woken, ()) = tokio::join!(waits, acts);
    let woken = woken.ok(200);
    assert_eq!(woken["events"].as_array().unwrap().len(), 1);
    assert_eq!(woken["events"][0]["type"], "dev.segue.conversation.resolved.v1");
    let end = woken["next"].as_str().unwrap().to_owned();
    let path = format!("/v1/events?after={end}&wait=30");
    let waits = gateway.get(&path);
    let (ended, _) = tokio::join!(waits, async { gateway.stop.send(true) });
    let ended = ended.ok(200);
    assert_eq!((&ended["events"], &ended["next"]), (&json!([]), &json!(end)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_where_its_reader_was() {
    let gateway = Gateway::start().await;
    for number in 0..40 {
        gateway.message(&format!("+49300000{:02}", number), "hello").await;
    }
    let expected = stored(&gateway).await;
    assert!(expected.len() > 60);
    let mut seen = Vec::new();
    let mut last = None;
    // Read a few at a time and come back, as one whose connection keeps breaking does.
    while seen.len() < expected.len() {
        let mut reader = Reader::open(&gateway, "/v1/events/stream?after=0", last).await;
        for _ in 0..17.min(expected.len() - seen.len()) {
            let event = reader.event().await.unwrap();
            last = Some(event.id);
            seen.push((event.id, Bytes::from(event.data)));
        }
    }
    assert!(seen == expected);
    // What comes while a reader waits reaches it; without a place to begin, that is all it gets.
    let mut reader = Reader::open(&gateway, "/v1/events?types=interaction.received", None).await;
    assert_eq!(reader.block().await.unwrap(), "retry: 2000");
    let (event, _) = tokio::join!(reader.event(), gateway.message("+4930111111", "new"));
    let event = event.unwrap();
    assert_eq!(event.kind, "dev.segue.interaction.received.v1");
    assert!(event.id > expected.last().unwrap().0);
    gateway.stop.send(true).unwrap();
    assert_eq!(reader.event().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_that_it_lives_and_ends_with_its_token() {
    let timing = Timing { heartbeat: Duration::from_millis(5), tokens: Duration::from_millis(1), ..Timing::default() };
    let gateway = Gateway::idle(timing, 4).await;
    let mut reader = Reader::open(&gateway, "/v1/events/stream", None).await;
    assert_eq!(reader.block().await.unwrap(), "retry: 2000");
    assert_eq!(reader.block().await.unwrap(), ":");
    let rows = gateway.context.store.catalog.tokens().await.unwrap();
    let own = rows.iter().find(|row| row.scopes == ["feed"]).unwrap();
    assert!(gateway.context.store.catalog.revoke_token(own.id.clone()).await.unwrap());
    assert_eq!(reader.event().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_follow_at_once() {
    let gateway = Gateway::idle(Timing::default(), 1).await;
    let reader = Reader::open(&gateway, "/v1/events/stream", None).await;
    let refused = gateway.get("/v1/events/stream").await;
    assert_eq!(refused.header("retry-after"), "5");
    refused.problem(503);
    gateway.get("/v1/events?wait=1").await.problem(503);
    gateway.get("/v1/events").await.ok(200);
    drop(reader);
    Reader::open(&gateway, "/v1/events/stream", None).await;
}
