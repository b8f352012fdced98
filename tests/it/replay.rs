//! The journal applied again in an empty store gives the same state; under another policy it tells what would change.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::stub::Provider;
use crate::support::{Random, provider, seed, wait};

/// Routes by the text, answers once, and fails where it is told to.
const POLICY: &str = r#"
policy { name = "trial", version = 1, owner = "tests@example.org" }
rule("routes", { on = "interaction.received" }, function(e, d)
  if e.ix.text == "loop" then while true do end end
  if e.ix.text == "error" then error("on purpose") end
  if e.ix.text == "hello" then d:reply("Welcome to us", {}, { once_per = "1h" }) end
  d:queue("QUEUE")
end)
"#;

fn policy(queue: &str) -> String {
    POLICY.replace("QUEUE", queue)
}

fn replayed(project: &Project, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, said) = project.try_run(&[&["replay", "--json"], arguments].concat());
    (code, serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said}")))
}

/// Tells messages, statuses and calls in random order, answers and closes stories.
async fn live(gateway: &Gateway, token: &str, run: usize, random: &mut Random) {
    let texts = ["hello", "loop", "error", "something", "hello again"];
    let mut calls = Vec::new();
    for number in 0..20 {
        let from = format!("1555000{run}00{}", number % 4);
        let id = format!("wamid.{run}.{number}");
        calls.push(provider::whatsapp_text("whatsapp", &from, &id, texts[random.below(texts.len())]));
        let status = ["sent", "delivered", "read"][random.below(3)];
        calls.push(provider::whatsapp_status(
            "whatsapp",
            &format!("wamid.SENT{number}"),
            status,
            &from,
            provider::now(),
        ));
        let (sid, caller) = (format!("CA{run:016}{number:016}"), format!("+1555100000{}", number % 3));
        calls.push(provider::twilio_call("voice", &sid, &caller, ["ringing", "completed"][random.below(2)], &[]));
    }
    random.shuffle(&mut calls);
    for call in &calls {
        gateway.accept(call).await;
        if random.below(4) == 0 {
            gateway.accept(call).await;
        }
    }
    for number in 0..4 {
        let found = gateway.get(token, &format!("/v1/customers?identifier=tel:%2B1555000{run}00{number}")).await.json();
        let story = found["customers"][0]["recent"][0]["conversation_id"].as_str().unwrap_or_default().to_owned();
        let bodies = [
            ("replies", json!({ "text": "An answer" })),
            ("notes", json!({ "text": "A note" })),
            ("resolve", json!({})),
        ];
        for (what, body) in bodies {
            gateway.post(token, &format!("/v1/conversations/{story}/{what}"), &body).await;
        }
    }
}

/// A project with a help desk and two channels, and a token for it.
fn project(desk: &HelpDesk, api: &Provider) -> (Project, String) {
    let project = Project::new()
        .helpdesk("desk", desk, &["interaction.received"])
        .whatsapp("whatsapp", &api.url())
        .voice("voice")
        .script(&policy("vip"));
    project.write_config();
    let token = project.token();
    (project, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replayed_state_is_the_live_one_and_a_rehearsal_tells_what_would_change() {
    let mut random = Random(seed());
    let (desk, api) = (HelpDesk::start().await, Provider::start().await);
    let (project, token) = project(&desk, &api);
    let gateway = Gateway::start(&project).await;
    live(&gateway, &token, 0, &mut random).await;
    gateway.settled(&project).await;
    drop(gateway);

    // Killed, and on under another policy: each entry is applied again under its own.
    project.write("scripts/policy.lua", &policy("general"));
    // Where several nodes share the store, what is published rules and not what the files say.
    project.run(&["bundle", "publish"]);
    let gateway = Gateway::start(&project).await;
    // Who delivers waits for others who are at work on the same server; who compares does not.
    let others = project.database().others_at_work().await;
    live(&gateway, &token, 1, &mut random).await;
    gateway.settled(&project).await;
    assert_eq!(gateway.stop().await, Some(0));
    assert!(!api.texts().is_empty(), "answers were sent");
    assert_eq!(project.number("SELECT count(DISTINCT bundle) FROM applied"), 2);

    let sent = api.requests().len();
    let into = project.folder().join("again");
    let (code, told) = replayed(&project, &["--into", into.to_str().unwrap()]);
    assert_eq!((code, &told["equal"], &told["exact"]), (Some(0), &json!(true), &json!(true)), "{told:#}");
    assert_eq!(told["applied"], json!(project.number("SELECT count(*) FROM applied")));
    assert_eq!(api.requests().len(), sent, "nothing is sent again");
    let (code, _) = project.try_run(&["replay", "--into", into.to_str().unwrap()]);
    assert_eq!(code, Some(78), "what is not empty is refused");
    drop(others);

    // What the files say now would have sent the first half elsewhere.
    let trial = project.folder().join("trial");
    let (code, told) = replayed(&project, &["--into", trial.to_str().unwrap(), "--bundle", "current"]);
    assert_eq!((code, &told["exact"]), (Some(65), &json!(false)), "{told:#}");
    assert!(told["differences"]["counts"]["queue"].as_u64() > Some(0), "{told:#}");
    let example = &told["differences"]["examples"][0];
    assert_eq!((&example["was"], &example["is"]), (&json!("vip"), &json!("general")), "{told:#}");
}

/// Waits until so many entries are stubs.
async fn stubs(project: &Project, wanted: i64) {
    let count = async || project.number("SELECT count(*) FROM entry WHERE length(head) = 0") == wanted;
    wait::until_true("originals are gone", wait::SOON, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_originals_are_gone_it_begins_from_a_checkpoint() {
    const DAYS_40: u64 = 40 * 86_400_000;
    let mut random = Random(seed());
    let (desk, api) = (HelpDesk::start().await, Provider::start().await);
    let (project, token) = project(&desk, &api);
    let replayed_into = |name: &str| {
        let into = project.folder().join(name);
        let (code, told) = replayed(&project, &["--into", into.to_str().unwrap()]);
        assert_eq!((code, &told["equal"], &told["exact"]), (Some(0), &json!(true), &json!(true)), "{told:#}");
        (told["after"].as_i64().unwrap(), told["applied"].as_i64().unwrap())
    };
    let gateway = Gateway::start(&project).await;
    live(&gateway, &token, 0, &mut random).await;
    gateway.settled(&project).await;
    assert_eq!(gateway.stop().await, Some(0));

    // Half of the entries are old now: their originals go, once the state is safe.
    let (applied, half) =
        (project.number("SELECT max(apply_no) FROM applied"), "(SELECT max(position) / 2 FROM entry)");
    project.database().change(&format!("UPDATE entry SET at = at - {DAYS_40} WHERE position <= {half}"));
    let old = project.number(&format!("SELECT count(*) FROM entry WHERE position <= {half}"));
    let gateway = Gateway::start(&project).await;
    stubs(&project, old).await;
    live(&gateway, &token, 1, &mut random).await;
    gateway.settled(&project).await;
    assert_eq!(gateway.stop().await, Some(0));
    let (after, again) = replayed_into("aged");
    assert!(after >= applied && again > 0, "{after} and {again} beside {applied}");

    // So it is with one that somebody wants gone, and with events that go afterwards.
    let first_half = "no IN (SELECT no FROM event ORDER BY no LIMIT (SELECT count(*) / 2 FROM event))";
    project.database().change(&format!("UPDATE event SET at = at - {DAYS_40} WHERE {first_half}"));
    let aged = format!("SELECT count(*) FROM event WHERE at < {}", 1000 * provider::now() - DAYS_40);
    assert!(project.number(&aged) > 0);
    let dumped = project.run(&["dump", "--canonical"]);
    let entries = dumped.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let whole = entries.into_iter().find(|entry| entry["stub"] == false).unwrap()["id"].clone();
    let told = project.run(&["entry", "erase", "--json", whole.as_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["erased"], 1);
    stubs(&project, old + 1).await;
    let gateway = Gateway::start(&project).await;
    live(&gateway, &token, 2, &mut random).await;
    let fewer = async || project.number(&aged) == 0;
    wait::until_true("old events are gone", wait::SOON, fewer).await;
    gateway.settled(&project).await;
    assert_eq!(gateway.stop().await, Some(0));
    let (later, again) = replayed_into("erased");
    assert!(later > after && again > 0, "{later} and {again}");
}
