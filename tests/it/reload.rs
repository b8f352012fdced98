//! Changes take effect in the running gateway, in less than two seconds and without a failed request; what is broken is
//! refused with file and line, and what was in force stays in force.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::gateway::{Gateway, PLAIN_POLICY, Project, channel_table, whatsapp_options};
use crate::support::helpdesk::HelpDesk;
use crate::support::http::Client;
use crate::support::{provider, source, wait};

/// How soon a change must be live.
const LIVE: Duration = Duration::from_secs(2);

/// Requests without a pause, until they are told to stop; none may fail.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(gateway: &Gateway) -> Load {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        let (stop, base) = (Arc::new(AtomicBool::new(false)), gateway.base().to_owned());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (client, mut failed, mut number) = (Client::new(), Vec::new(), 0);
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                let call =
                    provider::whatsapp_text("whatsapp", "15550002000", &format!("wamid.load.{run}.{number}"), "load");
                match client.send(&base, &call).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => failed.push(error),
                }
            }
            assert!(number > 0, "there was no load");
            failed
        });
        Load { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.task.await.unwrap();
        assert!(failed.is_empty(), "requests failed during the change: {failed:?}");
    }
}

/// Copies a shipped connector into the project under another name.
fn copy_connector(project: &Project, name: &str) {
    let folder = source::root().join("connectors/whatsapp");
    let text = std::fs::read_to_string(folder.join("connector.toml")).unwrap();
    let renamed = text.replacen("name = \"whatsapp\"", &format!("name = \"{name}\""), 1);
    assert_ne!(text, renamed);
    project.write(&format!("connectors/{name}/connector.toml"), &renamed);
}

/// Sends messages until one of them is told as `is_live` wants it; gives how long that took.
async fn until_live(
    gateway: &Gateway,
    desk: &HelpDesk,
    channel: &str,
    mark: &str,
    is_live: impl Fn(&serde_json::Value) -> bool,
) -> Duration {
    let begun = Instant::now();
    let mut number = 0;
    wait::until(&format!("{mark} is live"), wait::SOON, async || {
        number += 1;
        let id = format!("wamid.{mark}.{number}");
        let call = provider::whatsapp_text(channel, "15550003000", &id, "hello");
        if gateway.send(&call).await.status != 200 {
            return None;
        }
        let told = desk.wait_until(&id, |delivery| delivery.provider_id() == id).await;
        is_live(&told.event).then_some(())
    })
    .await;
    begun.elapsed()
}

async fn start() -> (Gateway, Project, HelpDesk) {
    let desk = HelpDesk::start().await;
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).whatsapp("whatsapp", "http://127.0.0.1:9");
    let gateway = Gateway::start(&project).await;
    (gateway, project, desk)
}

/// Waits until the gateway has logged a line that holds all of `words`.
async fn logged(gateway: &Gateway, words: &[&str]) {
    wait::until_true(&format!("a log line with {words:?}"), wait::SOON, async || {
        gateway.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connector_and_a_changed_policy_are_live_at_once() {
    let (gateway, project, desk) = start().await;
    let load = Load::start(&gateway);

    copy_connector(&project, "acme");
    project.write("channels/acme.toml", &channel_table("acme", "acme", &whatsapp_options("http://127.0.0.1:9")));
    let took = until_live(&gateway, &desk, "acme", "acme", |event| {
        event["data"]["interaction"]["channel"]["connector"] == "acme"
    })
    .await;
    wait::promised("the new connector is live", took, LIVE);

    project.write("scripts/policy.lua", &PLAIN_POLICY.replace("\"general\"", "\"vip\""));
    let took =
        until_live(&gateway, &desk, "whatsapp", "policy", |event| event["data"]["decision"]["queue"] == "vip").await;
    wait::promised("the changed policy is live", took, LIVE);
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_refused_while_the_old_one_works() {
    let (gateway, project, desk) = start().await;
    copy_connector(&project, "acme");
    project.write("channels/acme.toml", &channel_table("acme", "acme", &whatsapp_options("http://127.0.0.1:9")));
    until_live(&gateway, &desk, "acme", "first", |_| true).await;
    let load = Load::start(&gateway);

    // A key that does not exist, in a connector that is in use.
    let manifest = Path::new("connectors/acme/connector.toml");
    let good = std::fs::read_to_string(project.folder().join(manifest)).unwrap();
    project.write(manifest.to_str().unwrap(), &good.replacen("[ack]", "[ack]\nbudget_mss = 1", 1));
    let line = good.lines().position(|line| line == "[ack]").unwrap() + 2;
    logged(&gateway, &["acme/connector.toml", &format!(":{line}"), "budget_mss"]).await;
    until_live(&gateway, &desk, "acme", "kept-connector", |_| true).await;
    project.write(manifest.to_str().unwrap(), &good);

    // A script that does not compile.
    project.write("scripts/policy.lua", &format!("{PLAIN_POLICY}\nrule(\"cut off\", {{"));
    logged(&gateway, &["policy.lua:"]).await;
    let kept = |event: &serde_json::Value| event["data"]["decision"]["queue"] == "general";
    until_live(&gateway, &desk, "whatsapp", "kept-policy", kept).await;

    // A channel of a connector that does not exist.
    project.write("channels/none.toml", &channel_table("none", "whatsap", &whatsapp_options("http://127.0.0.1:9")));
    logged(&gateway, &["none.toml:3", "whatsap"]).await;
    until_live(&gateway, &desk, "whatsapp", "kept-channel", kept).await;

    // Mended, the next change takes effect.
    std::fs::remove_file(project.folder().join("channels/none.toml")).unwrap();
    project.write("scripts/policy.lua", &PLAIN_POLICY.replace("\"general\"", "\"vip\""));
    until_live(&gateway, &desk, "whatsapp", "mended", |event| event["data"]["decision"]["queue"] == "vip").await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_what_was_refused() {
    let desk = HelpDesk::start().await;
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).whatsapp("whatsapp", "http://127.0.0.1:9");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    project.write("scripts/policy.lua", "policy { name = ");
    wait::until_true("the status names file and line", wait::SOON, async || {
        let status = gateway.get(&token, "/v1/status").await;
        status.status == 200 && status.text().contains("policy.lua:1")
    })
    .await;
}
