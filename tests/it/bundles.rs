//! What one node publishes, all of them run; what a node cannot run it does not apply under.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::gateway::{Gateway, PLAIN_POLICY, Project, channel_table, whatsapp_options};
use crate::support::http::Call;
use crate::support::{provider, wait};

/// How soon all nodes run what was published.
const WITHIN: Duration = Duration::from_secs(5);

fn list(project: &Project) -> Vec<Value> {
    project.run(&["bundle", "list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn status(gateway: &Gateway, token: &str) -> Value {
    gateway.get(token, "/v1/status").await.json()
}

/// Waits until the gateway's status is as `wanted` says; gives how long that took.
async fn until(gateway: &Gateway, token: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
    let begun = Instant::now();
    wait::until_true(what, wait::SOON, async || wanted(&status(gateway, token).await)).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_load_is_published_and_can_be_looked_at() {
    let project = Project::new().whatsapp("whatsapp", "http://127.0.0.1:9");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let first = status(&gateway, &token).await["bundle"].clone();
    project.write("scripts/policy.lua", &PLAIN_POLICY.replace("\"general\"", "\"vip\""));
    until(&gateway, &token, "the change is in force", |status| status["bundle"] != first).await;
    let told = status(&gateway, &token).await;
    assert_eq!((&told["publication"]["hash"], &told["publication"]["refused"]), (&told["bundle"], &json!([])));
    assert_eq!(gateway.stop().await, Some(0));

    let published = list(&project);
    assert_eq!(published.len(), 2, "{published:?}");
    assert_eq!((&published[0]["rules"], &published[1]["hash"]), (&json!(true), &first));
    let shown: Value = serde_json::from_str(&project.run(&["bundle", "show", "--json"])).unwrap();
    let text = shown.to_string();
    assert!(text.contains("d:queue(\\\"vip\\\")"), "{text}");
    for secret in [provider::META_APP_SECRET, provider::META_VERIFY_TOKEN, "EAAB-token"] {
        assert!(!text.contains(secret), "a secret is published");
    }
    let dir = project.folder().join("exported");
    project.run(&["bundle", "export", &first.as_str().unwrap()[..8], dir.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(dir.join("scripts/policy.lua")).unwrap(), PLAIN_POLICY);
    assert!(dir.join("connectors/whatsapp/connector.toml").is_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_publishes_all_of_them_run() {
    let here = Project::shared().whatsapp("whatsapp", "http://127.0.0.1:9");
    here.write_config();
    let token = here.token();
    let one = Gateway::start(&here).await;
    let first = status(&one, &token).await["bundle"].clone();

    // A node with other files takes what is published, and says so.
    let there = here.beside().script(&PLAIN_POLICY.replace("\"general\"", "\"phone\""));
    let two = Gateway::start(&there).await;
    let told = status(&two, &token).await;
    assert_eq!(told["bundle"], first);
    assert!(told["publication"]["own_files"].is_string(), "{told:#}");
    assert!(two.log().contains("segue bundle publish"));

    // Files that change while a node runs are published by it.
    here.write("scripts/policy.lua", &PLAIN_POLICY.replace("\"general\"", "\"vip\""));
    until(&one, &token, "the change is in force", |status| status["bundle"] != first).await;
    let second = status(&one, &token).await["bundle"].clone();
    let took = until(&two, &token, "the other node runs it", |status| status["bundle"] == second).await;
    wait::promised("the other node runs it", took, WITHIN);

    // The command line publishes, and goes back.
    there.run(&["bundle", "publish"]);
    let took = until(&one, &token, "published files are run", |status| {
        status["bundle"] != second && status["bundle"] != first
    })
    .await;
    wait::promised("published files are run", took, WITHIN);
    there.run(&["bundle", "publish", &first.as_str().unwrap()[..10]]);
    for gateway in [&one, &two] {
        until(gateway, &token, "the first one rules again", |status| status["bundle"] == first).await;
    }
    one.accept(&provider::whatsapp_text("whatsapp", "15550001000", "wamid.1", "hello")).await;
    one.settled(&here).await;
    let applied = here.database().texts("SELECT b.hash FROM applied a JOIN bundle b ON b.no = a.bundle");
    assert_eq!(applied, [first.as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_secret_applies_nothing_until_it_has_it() {
    let here = Project::shared().whatsapp("whatsapp", "http://127.0.0.1:9");
    here.write_config();
    let token = here.token();
    let (there, one) = (here.beside(), Gateway::start(&here).await);
    let two = Gateway::start(&there).await;
    let first = status(&two, &token).await["bundle"].clone();
    let channel = channel_table("second", "whatsapp", &whatsapp_options("http://127.0.0.1:9"));
    here.write("channels/second.toml", &channel);
    until(&one, &token, "the new channel is in force", |status| status["bundle"] != first).await;
    let second = status(&one, &token).await["bundle"].clone();
    let refused = |status: &Value| status["publication"]["refused"].to_string().contains("`second`");
    let took = until(&two, &token, "the other node refuses it", refused).await;
    wait::promised("the other node refuses it", took, WITHIN);
    assert_eq!(status(&two, &token).await["bundle"], first, "it keeps what it has");
    let ready = two.send(&Call::new(http::Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("published bundle"));
    drop(one);
    // Taken, and left for somebody who can apply it.
    two.accept(&provider::whatsapp_text("whatsapp", "15550001000", "wamid.1", "hello")).await;
    assert_eq!(here.number("SELECT count(*) FROM pending"), 1);
    assert_eq!(here.number("SELECT count(*) FROM applied"), 0);

    there.write("channels/second.toml", &channel);
    until(&two, &token, "it runs what rules", |status| status["bundle"] == second).await;
    two.settled(&there).await;
    assert_eq!(list(&here).len(), 2, "giving a secret publishes nothing");
    let applied = here.database().texts("SELECT b.hash FROM applied a JOIN bundle b ON b.no = a.bundle");
    assert_eq!(applied, [second.as_str().unwrap()]);
}
