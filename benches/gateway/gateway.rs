//! The gateway under measurement: a project in a folder that goes away, and the release binary serving it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::message::PHONE_NUMBER_ID;
use crate::process::Owned;

/// The app secret that signs the load.
pub(crate) const APP_SECRET: &str = "5f1d0c52e7a94b6f8d3c1a2b4e6f7081";
/// The secret that signs deliveries to the sink: 32 bytes in base64.
pub(crate) const SINK_SECRET: &str = "whsec_YmVuY2htYXJrcy1zaWduLXRoZWlyLWV2ZW50cy10b28=";

/// A policy of the kind that people write: some rules that look, one that catches the rest.
const POLICY: &str = r#"
policy { name = "bench", version = 1, owner = "bench@example.org" }

rule("public messages are owned", { on = "interaction.received" }, function(e, d)
  if e.ix.visibility ~= "public" then return end
  d:queue("social-public")
  d:tag("public")
end)

rule("billing needs somebody who knows it", { on = "interaction.received" }, function(e, d)
  local hit = e.ix:mentions { "invoice", "refund", "charged" }
  if hit == nil then return end
  d:need { billing = 3 }
  d:tag("billing")
  d:because("%q is about money", hit)
end)

rule("everything else", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue("general")
end)
"#;

/// A running gateway.
pub(crate) struct Gateway {
    /// Its process.
    pub(crate) process: Owned,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Writes a project that delivers to the sink at `sink` into `root`, on the database at `store` if one is named.
    pub(crate) fn prepare(root: &Path, sink: u16, store: Option<&str>) -> Result<()> {
        std::fs::create_dir_all(root.join("scripts"))?;
        std::fs::write(root.join("scripts/policy.lua"), POLICY)?;
        std::fs::write(root.join("segue.toml"), settings(sink, store))?;
        Ok(())
    }

    /// Serves the project in `root` with `binary`, beside others that do so, and waits until it is ready.
    pub(crate) fn start(binary: &Path, root: &Path, env: Option<(&str, &str)>) -> Result<Self> {
        // A free port is taken and given back at once; nobody else takes ports here in between.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let log = std::fs::File::options().create(true).append(true).open(root.join("gateway.log"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(root.join("segue.toml")).args(["--log", "warn"]);
        command.arg("--listen").arg(address.to_string()).envs(env);
        command.current_dir(root).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut gateway = Gateway { process: Owned::start(&mut command)?, address };
        let start = Instant::now();
        while !gateway.ready() {
            if gateway.process.ended() || start.elapsed() > Duration::from_secs(20) {
                let log = std::fs::read_to_string(root.join("gateway.log")).unwrap_or_default();
                return Err(format!("the gateway did not become ready:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(gateway)
    }

    fn ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The whole answer to a GET, head and body.
    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Seconds by stage as the gateway itself counts them, and how often each stage was timed.
    pub(crate) fn stages(&self) -> BTreeMap<String, Stage> {
        let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
        let text = self.get("/metrics").unwrap_or_default();
        for (line, of_sum) in text.lines().filter_map(|line| {
            let sum = line.strip_prefix("segue_stage_seconds_sum{stage=\"").map(|line| (line, true));
            sum.or_else(|| line.strip_prefix("segue_stage_seconds_count{stage=\"").map(|line| (line, false)))
        }) {
            let Some((name, value)) = line.split_once("\"} ") else { continue };
            let value: f64 = value.trim().parse().unwrap_or_default();
            let stage = stages.entry(name.to_owned()).or_default();
            if of_sum {
                stage.seconds = value;
            } else {
                stage.count = value;
            }
        }
        stages
    }
}

/// What the gateway counts of a stage.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stage {
    /// Seconds spent in it, over all that was timed.
    pub(crate) seconds: f64,
    /// How often it was timed.
    pub(crate) count: f64,
}

fn settings(sink: u16, store: Option<&str>) -> String {
    let store = store.map(|url| format!("store = \"{url}\"")).unwrap_or_default();
    format!(
        r#"data = "data"
log = "warn"
{store}

# One sender stands for all the world's: its rate is what is measured.
[limits]
per_peer_per_second = 10000000
per_channel_per_second = 10000000

[[channel]]
name = "whatsapp"
connector = "whatsapp"

[channel.options]
app_secret = "{APP_SECRET}"
verify_token = "bench"
phone_number_id = "{PHONE_NUMBER_ID}"

[[helpdesk]]
name = "sink"
url = "http://127.0.0.1:{sink}/events"
secrets = ["{SINK_SECRET}"]
events = ["interaction.received"]
concurrency = 64

[outbound]
allow = ["127.0.0.0/8"]

[policy]
queues = ["general", "social-public"]
default_queue = "general"
skills = ["billing"]
"#
    )
}
