//! Deliveries to help desks: tried again on schedule, in order within a conversation, given up into dead letters, and
//! complete for whoever subscribes to a part.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::server::Reply;
use crate::support::{provider, wait};

/// A gateway with one help desk and one channel.
async fn gateway(project: Project, desk: &HelpDesk, events: &[&str]) -> (Gateway, Project) {
    let project = project.helpdesk("desk", desk, events).whatsapp("whatsapp", "http://127.0.0.1:9");
    (Gateway::start(&project).await, project)
}

async fn say(gateway: &Gateway, from: usize, number: usize) {
    let id = format!("wamid.{from}.{number}");
    gateway
        .accept(&provider::whatsapp_text("whatsapp", &format!("1555000{from:04}"), &id, &format!("no. {number}")))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_delivery_is_tried_again_unchanged() {
    let desk = HelpDesk::start().await;
    let mut left = vec![
        Reply::Close,
        Reply::CloseInBody,
        Reply::status(500),
        Reply::status(301).with("location", "/x"),
        Reply::Hang,
    ];
    desk.behave(move |_| left.pop().unwrap_or_else(|| Reply::status(200)));
    let (gateway, project) = gateway(Project::new(), &desk, &["interaction.received"]).await;
    say(&gateway, 1, 1).await;
    desk.wait_for(1).await;
    let attempts = desk.attempts();
    // An answer cut short after a 2xx head is no proof that it was taken; all five failed.
    assert!(attempts.len() >= 5, "{} attempts", attempts.len());
    for attempt in &attempts {
        assert_eq!(attempt.id, attempts[0].id);
        assert_eq!(attempt.request.body, attempts[0].request.body);
        assert_eq!(attempt.request.target, "/events", "a redirect was followed");
        assert_eq!(attempt.request.header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert!(attempt.timestamp >= attempts[0].timestamp);
    }
    gateway.delivered(&project).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_honored() {
    let desk = HelpDesk::start().await;
    let mut first = true;
    desk.behave(move |_| {
        let reply = if first { Reply::status(429).with("retry-after", "2") } else { Reply::status(200) };
        first = false;
        reply
    });
    let (gateway, _project) = gateway(Project::new(), &desk, &["interaction.received"]).await;
    say(&gateway, 1, 1).await;
    desk.wait_for(1).await;
    let attempts = desk.attempts();
    assert_eq!(attempts.len(), 2);
    // The schedule alone would have said 100 ms.
    let waited = attempts[1].at - attempts[0].at;
    assert!(waited >= Duration::from_millis(1900), "tried again after {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_stays_in_order_while_others_go_on() {
    let (senders, each) = (12, 8);
    let desk = HelpDesk::start().await;
    let mut count = 0;
    // Every third attempt fails, whichever it is.
    desk.behave(move |_| {
        count += 1;
        Reply::status(if count % 3 == 0 { 503 } else { 200 })
    });
    let (gateway, _project) = gateway(Project::new(), &desk, &["interaction.received"]).await;
    for number in 1..=each {
        for sender in 0..senders {
            say(&gateway, sender, number).await;
        }
    }
    let taken = desk.wait_for(senders * each).await;
    let mut by_conversation: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &taken {
        by_conversation.entry(delivery.conversation()).or_default().push(delivery);
    }
    assert_eq!(by_conversation.len(), senders);
    for deliveries in by_conversation.values() {
        let texts: Vec<&str> = deliveries.iter().map(|d| d.interaction()["text"].as_str().unwrap()).collect();
        let expected: Vec<String> = (1..=each).map(|number| format!("no. {number}")).collect();
        assert_eq!(texts, expected);
        let seqs: Vec<u64> = deliveries.iter().map(|d| d.interaction()["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=each as u64).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_subscriber_can_tell_that_nothing_is_missing() {
    let (desk, all) = (HelpDesk::start().await, HelpDesk::start().await);
    let every = ["interaction.received", "conversation.opened", "interaction.updated"];
    let project = Project::new().helpdesk("all", &all, &every);
    let (gateway, _project) = gateway(project, &desk, &["interaction.received"]).await;
    for number in 1..=4 {
        say(&gateway, 1, number).await;
    }
    let taken = desk.wait_for(4).await;
    // The opening of the conversation is an event of its own that this subscriber is not sent.
    let mut previous = 0;
    for delivery in &taken {
        let stated: u64 = delivery.request.header("segue-previous-sequence").parse().unwrap();
        assert_eq!(stated, previous, "the chain is broken at {}", delivery.sequence());
        assert!(delivery.sequence() > previous);
        previous = delivery.sequence();
    }
    let complete = all.wait_for(5).await;
    let sequences: Vec<u64> = complete.iter().map(Delivery::sequence).collect();
    assert_eq!(sequences, (1..=5).collect::<Vec<u64>>(), "the whole feed has no gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_a_dead_letter_and_can_be_revived() {
    let desk = HelpDesk::start().await;
    desk.behave(|_| Reply::status(500));
    let project = Project::new().retry("schedule = [\"0s\", \"50ms\", \"50ms\"]\njitter = 0.0");
    project.write_config();
    let token = project.token();
    let (gateway, project) = gateway(project, &desk, &["interaction.received"]).await;
    say(&gateway, 1, 1).await;
    let dead = async || project.number("SELECT count(*) FROM dead");
    wait::until_true("it is a dead letter", wait::SOON, async || dead().await == 1).await;
    assert_eq!(desk.attempts().len(), 3, "as many attempts as the schedule has");

    let listed = gateway.get(&token, "/v1/dead-letters?helpdesk=desk").await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert!(listed.text().contains(&desk.attempts()[0].id), "{}", listed.text());

    desk.behave(|_| Reply::status(200));
    // What came after a dead letter is not held up by it.
    say(&gateway, 1, 2).await;
    desk.wait_until("the next one", |delivery| delivery.provider_id() == "wamid.1.2").await;
    let revived = gateway.post(&token, "/v1/dead-letters/retry", &json!({ "helpdesk": "desk" })).await;
    assert!((200..300).contains(&revived.status), "{}", revived.text());
    let first = desk.wait_until("the revived one", |delivery| delivery.provider_id() == "wamid.1.1").await;
    assert_eq!(first.id, desk.attempts()[0].id);
    assert_eq!(dead().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_help_desk_that_is_gone_is_not_asked_again() {
    let desk = HelpDesk::start().await;
    desk.behave(|_| Reply::status(410));
    let (gateway, project) = gateway(Project::new(), &desk, &["interaction.received"]).await;
    say(&gateway, 1, 1).await;
    wait::until_true("it is a dead letter", wait::SOON, async || project.number("SELECT count(*) FROM dead") == 1)
        .await;
    assert_eq!(desk.attempts().len(), 1);
    gateway.delivered(&project).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_not_listed_is_never_dialed() {
    let desk = HelpDesk::start().await;
    let (gateway, project) = gateway(Project::new(), &desk, &["interaction.received"]).await;
    // The same server under a name of the same machine that is outside the listed network.
    let text = std::fs::read_to_string(project.folder().join("segue.toml")).unwrap();
    drop(gateway);
    let narrow = text.replace("127.0.0.0/8", "127.0.0.2/32");
    project.write("segue.toml", &narrow);
    let run = std::process::Command::new(crate::support::gateway::SEGUE)
        .args(["check", "--config"])
        .arg(project.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(!run.status.success(), "plain http to an address that is not listed passes: {said}");
    assert!(said.contains("segue.toml:") && said.contains("outbound.allow"), "{said}");
}
