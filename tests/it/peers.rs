//! Official libraries as peers: those of Twilio and Slack sign requests that the gateway must accept; those of Standard
//! Webhooks and CloudEvents read what the gateway delivers, in the example receivers in Python and Node.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{self, HelpDesk};
use crate::support::http::Call;
use crate::support::{environment, provider, stub, wait};

/// Headers that an official library makes for a request.
fn signed(wanted: &Value) -> Vec<(String, String)> {
    let mut signer =
        environment::python().arg("tests/peers/sign.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(signer.stdin.take().unwrap(), "{wanted}").unwrap();
    let made = signer.wait_with_output().unwrap();
    assert!(made.status.success());
    let headers: Value = serde_json::from_slice(&made.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    headers.as_object().unwrap().iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
}

/// The same request with the headers of a signature replaced.
fn resigned(call: Call, wanted: &Value) -> Call {
    let headers = signed(wanted);
    let mut call = call;
    call.headers.retain(|(name, _)| !headers.iter().any(|(new, _)| new == name));
    call.headers.extend(headers);
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_twilios_library_signs_is_accepted() {
    let desk = HelpDesk::start().await;
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).voice("voice");
    let gateway = Gateway::start(&project).await;
    // A name with letters beyond ASCII, a plus and a blank: what forms and signatures most often disagree about.
    let parameters = [
        ("CallSid", "CA11111111111111111111111111111111"),
        ("AccountSid", provider::TWILIO_ACCOUNT),
        ("From", "+14158675309"),
        ("To", "+15005550006"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("CallerName", "Zoë & Søn +1"),
        ("ApiVersion", "2010-04-01"),
    ];
    let wanted = json!({
        "provider": "twilio",
        "token": provider::TWILIO_AUTH_TOKEN,
        "url": format!("{}/in/voice", provider::PUBLIC_URL),
        "parameters": parameters.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let call = resigned(provider::twilio("voice", &parameters), &wanted);
    let answer = gateway.send(&call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("<Response>"), "{}", answer.text());
    assert_eq!(desk.wait_for(1).await[0].interaction()["kind"], "call");

    let mut forged = call.clone();
    forged.body = String::from_utf8(call.body.to_vec()).unwrap().replace("14158675309", "14158675308").into();
    assert_eq!(gateway.send(&forged).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_slacks_library_signs_is_accepted() {
    let desk = HelpDesk::start().await;
    let options = format!("signing_secret = \"{}\"\nbot_token = \"xoxb-test\"\n", provider::SLACK_SIGNING_SECRET);
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).channel("slack", "slack", &options);
    let gateway = Gateway::start(&project).await;
    let now = provider::now();
    let body = provider::slack_message("U061F7AUR", "Ev0001", "Grüße & more", now).to_string();
    let wanted = |at: u64| json!({ "provider": "slack", "secret": provider::SLACK_SIGNING_SECRET, "timestamp": at.to_string(), "body": body });
    gateway.accept(&resigned(provider::slack("slack", &body, now), &wanted(now))).await;
    assert_eq!(desk.wait_for(1).await[0].interaction()["text"], "Grüße & more");

    let stale = gateway.send(&resigned(provider::slack("slack", &body, now), &wanted(now - 3600))).await;
    assert_eq!(stale.status, 401, "a signature of an hour ago: {}", stale.text());
}

/// One of the example receivers, running.
struct Receiver {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    _place: Option<TempDir>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Receiver {
    /// Starts one on a free port; gives it and its URL.
    async fn start(mut command: Command, place: Option<TempDir>) -> (Receiver, String) {
        let mut child = command
            .env("SEGUE_WEBHOOK_SECRET", helpdesk::SECRET)
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (said, kept) = (child.stdout.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let receiver = Receiver { child, lines, _place: place };
        let line = receiver.wait_for("listening on ").await;
        (receiver, line.trim_start_matches("listening on ").to_owned())
    }

    /// Waits for a line that holds `text`.
    async fn wait_for(&self, text: &str) -> String {
        wait::until(&format!("the receiver says `{text}`"), wait::SOON, async || {
            self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
        })
        .await
    }

    /// How many lines begin with `word`. Ids within them may spell any word.
    fn count(&self, word: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.starts_with(word)).count()
    }
}

fn python() -> (Command, Option<TempDir>) {
    let mut command = environment::python();
    command.arg("examples/receivers/python/receiver.py");
    (command, None)
}

fn node() -> (Command, Option<TempDir>) {
    let (mut command, place) = environment::node(&["examples/receivers/node/receiver.mjs"]);
    command.arg("receiver.mjs");
    (command, Some(place))
}

/// A receiver between a customer and the gateway: what it is sent verifies and parses, it takes repeats once, refuses
/// what is forged, sees no gap, and its answer leaves by the customer's channel.
async fn serves_a_conversation(make: fn() -> (Command, Option<TempDir>)) {
    // A relay of our own in front, so that the receiver can be started after the gateway, whose address and token it
    // needs, and so that a delivery can be repeated byte for byte.
    let (desk, api) = (HelpDesk::start().await, stub::Provider::start().await);
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).whatsapp("whatsapp", &api.url());
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let (mut command, place) = make();
    command.env("SEGUE_URL", gateway.base()).env("SEGUE_TOKEN", &token);
    let (receiver, url) = Receiver::start(command, place).await;
    let (base, path) = url.split_at(url.rfind('/').unwrap());
    let relay = crate::support::http::Client::new();

    for (number, text) in ["one", "two – with a dash", "three"].iter().enumerate() {
        gateway.accept(&provider::whatsapp_text("whatsapp", "15550001000", &format!("wamid.{number}"), text)).await;
    }
    let events = desk.wait_for(3).await;
    for event in &events {
        let mut call = Call::post(path, event.request.header("content-type"), event.request.body.clone());
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "segue-previous-sequence"] {
            call = call.header(name, event.request.header(name));
        }
        assert_eq!(relay.send(base, &call).await.unwrap().status, 204);
        // Again, as after a lost answer.
        assert_eq!(relay.send(base, &call).await.unwrap().status, 204);
        let mut forged = call.clone();
        forged.body = [&call.body[..], b" "].concat().into();
        assert_eq!(relay.send(base, &forged).await.unwrap().status, 401);
    }
    for text in ["one", "two – with a dash", "three"] {
        let answer = format!("We have read: {text}");
        wait::until_true(&answer, wait::SOON, async || api.texts().contains(&answer)).await;
    }
    assert_eq!(api.texts().len(), 3, "each message is answered once: {:?}", api.texts());
    assert_eq!(receiver.count("dev.segue.interaction.received.v1"), 3);
    let odd = ["refused: ", "gap: ", "late: "].map(|word| receiver.count(word));
    assert_eq!(odd, [3, 0, 0], "{:?}", receiver.lines.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_in_python_serves_a_conversation() {
    serves_a_conversation(python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_in_node_serves_a_conversation() {
    serves_a_conversation(node).await;
}
