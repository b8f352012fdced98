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
