//! A script that goes beyond its budget costs its own decision and nothing else: the interaction goes to the fallback
//! queue within bounds, and the next one is fine.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::{provider, wait};

/// What a message asks the script to do, by its first word.
const POLICY: &str = r#"
policy { name = "hostile", version = 1, owner = "tests@example.org" }
rule("does what it is told", { on = "interaction.received" }, function(e, d)
  local what = e.ix.text
  d:tag("seen")
  if what == "loop" then while true do end end
  if what == "memory" then
    local all, piece = {}, ("x"):rep(1000)
    for n = 1, 1e9 do all[n] = piece .. n end
  end
  if what == "rep" then local s = ("x"):rep(1e9) end
  if what == "pattern" then local s = ("a"):rep(50000); s:find(("a*"):rep(40) .. "b") end
  if what == "recursion" then local function f(n) return 1 + f(n + 1) end; f(1) end
  if what == "move" then table.move({}, 1, 1e9, 2) end
  if what == "find" then local s = ("a"):rep(4000000); for _ = 1, 1e6 do s:find(("a"):rep(2000000) .. "b", 1, true) end end
  if what == "swallow" then while true do pcall(function() while true do end end) end end
  if what == "error" then error("on purpose") end
  d:queue("vip")
end)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_breach_ends_in_the_fallback_queue_and_the_next_one_is_fine() {
    let desk = HelpDesk::start().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .whatsapp("whatsapp", "http://127.0.0.1:9")
        .policy("default_queue = \"general\"")
        .script(POLICY);
    let gateway = Gateway::start(&project).await;
    let hostile = ["loop", "memory", "rep", "pattern", "recursion", "move", "find", "swallow", "error"];
    for (number, what) in hostile.into_iter().enumerate() {
        let begun = Instant::now();
        for (half, text) in [what, "fine"].into_iter().enumerate() {
            let id = format!("wamid.{number}.{half}");
            let from = format!("1555000{number:04}");
            gateway.accept(&provider::whatsapp_text("whatsapp", &from, &id, text)).await;
            let event = desk.wait_until(&format!("{what}: {text}"), |delivery| delivery.provider_id() == id).await;
            let queue = event.event["data"]["decision"]["queue"].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                queue,
                if text == "fine" { "vip" } else { "general" },
                "{what}: {}",
                event.event["data"]["decision"]
            );
        }
        // The budget is 50 ms; the rest is for a busy machine.
        wait::promised(what, begun.elapsed(), Duration::from_secs(2));
    }
    drop(gateway);
}
