//! Somebody on the telephone does not wait: a call is answered by policy within its deadline whatever else is waiting,
//! a late policy gets the safe default, and a repeated request hears the same.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::gateway::{Gateway, Project};
use crate::support::{provider, size, wait};

/// The deadline that the connector declares.
const DEADLINE: Duration = Duration::from_secs(2);

/// Messages cost some milliseconds each, so that a backlog lasts; calls from one number are never decided in time.
const POLICY: &str = r#"
policy { name = "busy", version = 1, owner = "tests@example.org" }
rule("messages take their time", { on = "interaction.received" }, function(e, d)
  if e.ix.kind ~= "message" then return end
  local sum = 0
  for n = 1, 400000 do sum = sum + n % 7 end
  d:queue("general")
end)
rule("calls are greeted", { on = "interaction.received" }, function(e, d)
  if e.ix.kind ~= "call" then return end
  d:queue("phone")
  if e.ix.author.identifier.value == "+14155550666" then while true do end end
  d:answer("say", { text = "Hello, caller " .. e.ix.author.identifier.value })
end)
"#;

fn project() -> Project {
    let project = Project::new().whatsapp("whatsapp", "http://127.0.0.1:9").voice("voice").script(POLICY);
    project.limits("per_peer_per_second = 100000\nper_channel_per_second = 100000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_ahead_of_everything_that_waits() {
    let project = project();
    let gateway = Gateway::start(&project).await;
    let (count, batch) = (size(3_000, 50_000), 10);
    for first in (0..count).step_by(batch) {
        let message = |number: usize| {
            provider::whatsapp_message(&format!("1555{number:07}"), &format!("wamid.{number}"), "waiting")
        };
        let messages: Vec<Value> = (first..first + batch).map(message).collect();
        gateway.accept(&provider::whatsapp("whatsapp", &messages)).await;
    }
    let waiting = "SELECT count(*) FROM pending";
    assert!(project.number(waiting) > 0, "nothing is waiting");
    for number in 0..5 {
        let (sid, from) = (format!("CA{number:032}"), format!("+1415555010{number}"));
        let call = provider::twilio_call("voice", &sid, &from, "ringing", &[]);
        let answer = gateway.send(&call).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // What policy does not say in time is answered by the safe default.
        assert!(answer.text().contains(&format!("Hello, caller {from}")), "not by policy: {}", answer.text());
    }
    assert!(project.number(waiting) > 0, "the calls were answered after all that waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_policy_gets_the_safe_default_and_a_repeat_hears_the_same() {
    let project = project();
    let gateway = Gateway::start(&project).await;
    for (from, said) in [("+14155550100", "Hello, caller"), ("+14155550666", "<Record")] {
        let sid = format!("CA{:032}", from.trim_start_matches('+'));
        let call = provider::twilio_call("voice", &sid, from, "ringing", &[]);
        let begun = Instant::now();
        let first = gateway.send(&call).await;
        let took = begun.elapsed();
        assert!(first.text().contains(said), "{from}: {}", first.text());
        assert_eq!(first.header("content-type"), "text/xml");
        wait::promised(&format!("{from} is answered"), took, DEADLINE * 2);
        for _ in 0..3 {
            let again = gateway.send(&call).await;
            assert_eq!(
                (again.status, &again.body),
                (first.status, &first.body),
                "{from}: a repeat hears something else"
            );
        }
    }
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 2);
}
