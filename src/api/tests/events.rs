//! What events tell, read as help desks read them.

use super::*;

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
