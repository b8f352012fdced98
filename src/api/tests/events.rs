//! What events tell, read as help desks read them.

use super::*;

/// A gateway with this policy.
async fn ruled(script: &str) -> Gateway {
    let gateway = Gateway::start().await;
    let files = PolicyFiles::from_memory([("rules.lua".to_owned(), script.as_bytes().to_vec())]);
    let facts = PolicyFacts { default_queue: "general".to_owned(), ..PolicyFacts::default() };
    let policy = Bundle::build(files, facts, Budget::default()).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
    gateway.context.setup.store(Arc::new(Setup { policy, ..setup("msg.poison") }));
    gateway
}

/// The events of a type, in order.
async fn told(gateway: &Gateway, name: &str) -> Vec<Value> {
    let all = gateway.get(&format!("/v1/events?after=0&types={name}")).await.ok(200);
    let events = all["events"].as_array().unwrap().clone();
    for event in &events {
        assert_eq!(event["type"], format!("dev.segue.{name}.v1"));
        fits("Event", event);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_just_decided_stands_in_the_customers_open_issues() {
    let gateway = Gateway::start().await;
    let conversation = gateway.message("+4930111111", "hello").await;
    let received = told(&gateway, "interaction.received").await;
    let data = &received[0]["data"];
    assert_eq!((&data["decision"]["queue"], &data["conversation"]["queue"]), (&json!("general"), &json!("general")));
    let issues = &data["customer"]["open_issues"];
    assert_eq!((&issues[0]["conversation_id"], &issues[0]["queue"]), (&json!(conversation), &json!("general")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_closed_story_is_told() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    gateway.post(&format!("{path}/resolve"), json!({ "disposition": "refunded" })).await.ok(200);
    gateway.post(&format!("{path}/reopen"), json!({})).await.ok(200);
    gateway.post(&format!("{path}/resolve"), json!({})).await.ok(200);
    let results: Vec<Value> = told(&gateway, "conversation.resolved")
        .await
        .iter()
        .map(|event| event["data"].get("disposition").cloned().unwrap_or_default())
        .collect();
    assert_eq!(results, [json!("refunded"), Value::Null]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_is_told_without_anything_that_was_said() {
    let script = "rule('first', function(e, d)\n  if e.ix.text == 'secret loop' then while true do end end\n\
                  if e.ix.text == 'secret error' then error('no: ' .. e.ix.text) end\n  d:queue('vip')\nend)";
    let gateway = ruled(script).await;
    for text in ["fine", "secret error", "secret loop"] {
        gateway.message("+4930111111", text).await;
    }
    let failed = told(&gateway, "policy.failed").await;
    let received = told(&gateway, "interaction.received").await;
    let queues: Vec<&Value> = received.iter().map(|event| &event["data"]["decision"]["queue"]).collect();
    assert_eq!(queues, [&json!("vip"), &json!("general"), &json!("general")]);
    assert_eq!(failed.len(), 2);
    for (place, (event, interaction)) in failed.iter().zip(&received[1..]).enumerate() {
        let failure = &event["data"]["failure"];
        assert_eq!(failure["interaction_id"], interaction["data"]["interaction"]["id"]);
        assert_eq!((&failure["event"], &failure["rule"]), (&json!("interaction.received"), &json!("first")));
        assert_eq!((&failure["file"], &failure["queue"]), (&json!("rules.lua"), &json!("general")));
        let (line, what) = if place == 0 { (3, &["error"][..]) } else { (1, &["time", "work"][..]) };
        assert_eq!(failure["line"], line);
        assert!(what.contains(&failure["what"].as_str().unwrap()), "{failure}");
        assert_eq!(failure["bundle"], interaction["data"]["decision"]["bundle"]);
        assert_eq!(event["subject"], interaction["subject"]);
        // The next in the order of the story.
        let number = |event: &Value| event["sequence"].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(number(event), number(interaction) + 1);
        let all = event.to_string();
        assert!(!all.contains("secret") && !all.contains("111111") && !all.contains("Ana"), "{all}");
    }
}

/// Tags every event that a rule is asked about with its name and what `e` shows of it.
const EVERY_EVENT: &str = r#"
rule("all", { on = { "interaction.sent", "interaction.updated", "conversation.opened", "conversation.reopened",
  "conversation.resolved", "delivery.failed" } }, function(e, d)
  d:tag(e.kind, e.ix.text, e.conv.state, e.customer.id and "known")
  d:notify("ann")
  d:because("it is %s", e.kind)
  d:priority_add(10)
end)
rule("only received", function(e, d) d:tag("received") end)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_asked_about_every_event_that_they_may_be_for() {
    let gateway = ruled(EVERY_EVENT).await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    gateway.post(&format!("{path}/notes"), json!({ "text": "a note" })).await.ok(201);
    gateway.post(&format!("{path}/resolve"), json!({})).await.ok(200);
    gateway.post(&format!("{path}/reopen"), json!({})).await.ok(200);
    let received = told(&gateway, "interaction.received").await;
    assert_eq!(received[0]["data"]["decision"]["tags"], json!(["received"]));
    for (name, text, state) in [
        ("conversation.opened", "hello", "open"),
        ("interaction.sent", "a note", "open"),
        ("conversation.resolved", "hello", "resolved"),
        ("conversation.reopened", "hello", "open"),
    ] {
        let events = told(&gateway, name).await;
        assert_eq!(events.len(), 1, "{name}");
        let decision = &events[0]["data"]["decision"];
        assert_eq!(decision["tags"], json!([name, text, state, "known"]), "{decision}");
        assert_eq!((&decision["notify"], &decision["priority"]), (&json!(["ann"]), &json!(60)));
        assert_eq!(decision["because"], json!([format!("it is {name}")]));
        assert_eq!((&decision["queue"], &decision["rules"]), (&json!("general"), &json!(["rules.lua:all"])));
        assert_eq!(decision["bundle"], received[0]["data"]["decision"]["bundle"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_asks_its_rules_and_a_rules_own_answer_leads_to_no_next_one() {
    let script = r#"
        rule("failed", { on = "delivery.failed" }, function(e, d)
          d:queue("vip")
          d:tag(e.ix.delivery.state, e.ix.direction)
          d:reply("We could not reach you: please write again")
        end)
        rule("answered", { on = "interaction.sent" }, function(e, d) d:reply("And another thing") end)
    "#;
    let gateway = ruled(script).await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    gateway.post(&format!("{path}/replies"), json!({ "text": "an answer" })).await.ok(201);
    let sends = gateway.context.store.outbox.due_sends(gateway.context.clock.now(), 10).await.unwrap();
    assert_eq!(sends.len(), 1, "nothing was added to an agent's answer");
    fail(&gateway, sends[0].id).await;
    let updated = told(&gateway, "delivery.updated").await;
    let data = &updated[0]["data"];
    assert_eq!(data["decision"]["tags"], json!(["failed", "outbound"]));
    assert_eq!((&data["decision"]["queue"], &data["conversation"]["queue"]), (&json!("vip"), &json!("vip")));
    let sent = told(&gateway, "interaction.sent").await;
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1]["data"]["interaction"]["text"], "We could not reach you: please write again");
    let why = sent[0]["data"]["decision"]["because"][0].as_str().unwrap();
    assert!(why.contains("not sent") && sent[0]["data"]["decision"].get("replies").is_none());
    assert!(sent[1]["data"].get("decision").is_none(), "rules are not asked about what rules said");
    // The rule's own answer fails as well: the rule is asked, and nothing more is sent.
    let sends = gateway.context.store.outbox.due_sends(gateway.context.clock.now(), 10).await.unwrap();
    let own =
        sends.iter().find(|send| send.planned.message.text.as_ref().is_some_and(|t| t.expose().starts_with("We")));
    fail(&gateway, own.unwrap().id).await;
    assert_eq!(told(&gateway, "delivery.updated").await.len(), 2);
    assert_eq!(told(&gateway, "interaction.sent").await.len(), 2);
}

/// The provider refused a send.
async fn fail(gateway: &Gateway, send: crate::base::id::SendId) {
    let result = crate::model::entry::SendResult::Refused { code: None, title: "no such number".to_owned() };
    let outcome = crate::model::entry::SendOutcome { send, result };
    let body = EntryBody { head: serde_json::to_vec(&outcome).unwrap().into(), raw: Bytes::new() };
    let id = EntryId::random(gateway.context.clock.now());
    gateway.enter(id, EntryKind::SendOutcome, "trial", body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_storys_opening_stands_and_a_later_event_moves_it() {
    let script = r#"
        rule("opened", { on = { "conversation.opened", "conversation.reopened" } }, function(e, d) d:queue("front") end)
        rule("resolved", { on = "conversation.resolved" }, function(e, d) d:queue("archive") d:reply("Thank you, and bye") end)
        rule("all", { fallback = true }, function(e, d) d:queue("general") end)
    "#;
    let gateway = ruled(script).await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "hello").await);
    let received = told(&gateway, "interaction.received").await;
    let data = &received[0]["data"];
    assert_eq!((&data["decision"]["queue"], &data["conversation"]["queue"]), (&json!("front"), &json!("front")));
    assert_eq!(data["customer"]["open_issues"][0]["queue"], "front");
    gateway.message("+4930111111", "more").await;
    assert_eq!(told(&gateway, "interaction.received").await[1]["data"]["decision"]["queue"], "general");
    gateway.post(&format!("{path}/resolve"), json!({})).await.ok(200);
    let resolved = told(&gateway, "conversation.resolved").await;
    assert_eq!(resolved[0]["data"]["conversation"]["queue"], "archive");
    assert_eq!(told(&gateway, "interaction.sent").await[0]["data"]["interaction"]["text"], "Thank you, and bye");
    let shown = gateway.get(&path).await.ok(200);
    assert_eq!((&shown["state"], &shown["queue"]), (&json!("resolved"), &json!("archive")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_fail_beside_an_interaction_change_nothing_and_are_told() {
    let script = r#"
        rule("all", function(e, d) d:queue("vip") end)
        rule("bad", { on = { "conversation.opened", "conversation.resolved" } }, function(e, d) error(e.ix.text) end)
    "#;
    let gateway = ruled(script).await;
    let path = format!("/v1/conversations/{}", gateway.message("+4930111111", "secret").await);
    gateway.post(&format!("{path}/resolve"), json!({})).await.ok(200);
    assert_eq!(gateway.get(&path).await.ok(200)["queue"], "vip");
    let failed = told(&gateway, "policy.failed").await;
    let events: Vec<&Value> = failed.iter().map(|event| &event["data"]["failure"]["event"]).collect();
    assert_eq!(events, [&json!("conversation.opened"), &json!("conversation.resolved")]);
    assert_eq!(failed[1]["data"]["failure"]["queue"], "vip");
    assert!(failed.iter().all(|event| !event.to_string().contains("secret")));
    let resolved = told(&gateway, "conversation.resolved").await;
    assert_eq!(resolved[0]["data"]["decision"]["tags"], json!(["policy-failed"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_of_somebody_unknown_is_answered_in_public_where_the_channel_can() {
    let gateway = ruled("rule('all', function(e, d) d:queue('general') end)").await;
    let visit = json!([{ "id": "c1", "name": "Ana", "text": "where is it?", "thread": "post_1", "public": "yes" }]);
    gateway.deliver(visit).await;
    let received = told(&gateway, "interaction.received").await;
    assert!(received[0]["data"]["interaction"]["author"].get("identifier").is_none());
    let path = format!("/v1/conversations/{}/replies", received[0]["subject"].as_str().unwrap());
    let asked = received[0]["data"]["interaction"]["id"].clone();
    // In private there is nobody to write to.
    gateway.post(&path, json!({ "text": "on its way" })).await.problem(409);
    let private = gateway.post(&path, json!({ "text": "on its way", "in_reply_to": asked })).await.problem(409);
    assert!(private.contains("public"), "{private}");
    for body in [
        json!({ "text": "on its way", "public": true }),
        json!({ "text": "on its way", "public": true, "in_reply_to": asked }),
    ] {
        let sent = gateway.post(&path, body).await.ok(201);
        assert_eq!((&sent["visibility"], sent.get("recipients")), (&json!("public"), None));
    }
    let sends = gateway.context.store.outbox.due_sends(gateway.context.clock.now(), 10).await.unwrap();
    assert_eq!(sends.len(), 2);
    for send in sends {
        let message = &send.planned.message;
        assert!(message.to.is_none() && message.public);
        assert_eq!(message.thread_id.as_ref().map(|id| id.expose().as_str()), Some("post_1"));
        assert_eq!(message.reply_to.as_deref(), Some("c1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_that_opens_with_words_of_our_own_is_answered_by_nobody() {
    let gateway =
        ruled("rule('o', { on = 'conversation.opened' }, function(e, d) d:queue('vip') d:reply('How are you?') end)");
    let gateway = gateway.await;
    gateway.deliver(json!([{ "id": "m1", "from": "+4930111111", "text": "we wrote first", "ours": "yes" }])).await;
    let opened = told(&gateway, "conversation.opened").await;
    let data = &opened[0]["data"];
    assert_eq!((&data["conversation"]["queue"], data["decision"].get("replies")), (&json!("vip"), None));
    assert!(data["decision"]["because"][0].as_str().unwrap().contains("not sent"));
    assert_eq!(gateway.rows("send").await, 0);
    assert_eq!(told(&gateway, "interaction.sent").await.len(), 1);
}
