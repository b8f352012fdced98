//! Playing the story: sends what the providers send, waits for what the help desk receives, holds it to what was expected.

mod mail;
mod reply;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::HeaderMap;
use ring::digest;
use serde_json::{Value, json};

use super::helpdesk::{HelpDesk, Received};
use super::postbox::Postbox;
use super::project::Project;
use super::provider::{self, Delivery, Heard, Signs, header_name, header_value};
use super::screen::{Check, Shown, cut};
use super::story::{Act, HELLO, Step, Story, fill, payload};
use super::stub::{FILE, Stub};
use super::tell::{Labels, rows, short};
use crate::app::App;
use crate::base::{Error, Result, Timestamp};
use crate::net::Client;

/// How long something that was expected is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much of a text is shown.
const SHOWN_TEXT: usize = 160;

/// Everybody who takes part.
pub(super) struct Scene<'a> {
    pub(super) client: Client,
    /// Where the gateway is.
    pub(super) gateway: String,
    pub(super) project: &'a Project,
    pub(super) desk: Arc<HelpDesk>,
    pub(super) stub: Arc<Stub>,
    pub(super) postbox: &'a Postbox,
    pub(super) app: &'a App,
}

/// Plays one step after the other.
pub(super) struct Player<'a> {
    scene: &'a Scene<'a>,
    story: &'a Story,
    labels: Labels,
    /// What was delivered, by payload: a repeat is the same to the byte.
    delivered: HashMap<&'a str, Delivery>,
    /// The interaction that a step was about.
    interactions: HashMap<&'a str, String>,
    /// The provider's id, or the Message-ID, of what was sent last.
    sent: String,
    /// Where answers to the mail go that was sent last.
    reply_to: String,
    /// When the story began: the time in all payloads.
    begun: Timestamp,
}

impl<'a> Player<'a> {
    /// Begins the story.
    pub(super) fn new(scene: &'a Scene<'a>, story: &'a Story) -> Self {
        let (labels, delivered, interactions) = (Labels::default(), HashMap::new(), HashMap::new());
        let (begun, sent, reply_to) = (scene.app.context.clock.now(), String::new(), String::new());
        Player { scene, story, labels, delivered, interactions, sent, reply_to, begun }
    }

    /// Plays a step.
    ///
    /// # Errors
    ///
    /// If the gateway cannot be reached at all. What does not hold is told in the step's check.
    pub(super) async fn play(&mut self, step: &'a Step) -> Result<Shown> {
        match step.act {
            Act::Reply => self.reply(step).await,
            Act::Mail => self.mail(step).await,
            Act::Deliver | Act::Forge | Act::Repeat => self.request(step).await,
        }
    }

    /// A payload with the values of this run.
    fn payload(&self, name: &str) -> Result<String> {
        let (now, now_ms) = (self.begun.seconds().to_string(), self.begun.millis().to_string());
        let date = mail::date(self.begun);
        let values =
            [("now", &now), ("now_ms", &now_ms), ("date", &date), ("sent", &self.sent), ("reply_to", &self.reply_to)];
        Ok(fill(payload(name)?, &values.map(|(name, value)| (name, value.as_str()))))
    }

    /// How requests of the step's channel are signed; nothing if it is a mailbox.
    fn signs(&self, step: &Step) -> Option<&'a Signs> {
        self.story.channels.get(&step.channel)?.signs.as_ref()
    }

    async fn request(&mut self, step: &'a Step) -> Result<Shown> {
        let mut shown = Shown::new(&step.name, &step.title);
        let signs = self.signs(step).ok_or_else(|| Error::internal("a step names no channel that takes requests"))?;
        let delivery = match self.delivered.get(step.payload.as_str()) {
            Some(delivery) if step.act == Act::Repeat => delivery.clone(),
            _ => Delivery::new(&step.payload, &self.payload(&step.payload)?, &step.headers),
        };
        let secret = match step.act {
            Act::Forge => "what somebody guessed",
            _ => self.scene.project.secret(&signs.secret),
        };
        if step.desk_is_down {
            self.scene.desk.go_down();
        }
        let (before, mark, begun) = (self.counts().await?, self.scene.desk.mark(), Instant::now());
        let url = format!("{}/in/{}", self.scene.gateway, step.channel);
        let heard = delivery.send(&self.scene.client, &url, signs, secret, self.scene.app.context.clock.now()).await?;
        arrived(&mut shown, step, &heard, delivery.body.len(), signs.scheme.words());
        self.delivered.insert(&step.payload, delivery);
        let event = match heard.status.is_success() {
            true => self.event(step, mark).await,
            false => None,
        };
        if let Some(event) = &event {
            rows(&mut shown, event, &self.labels);
        }
        self.answered(&mut shown, step, &heard, event.as_deref(), mark).await;
        shown.check.same(step.expect.status.unwrap_or(200).to_string(), heard.status.as_u16().to_string());
        self.hold(step, event.as_deref(), &mut shown.check);
        if step.expect.file {
            self.file(&mut shown, event.as_deref(), mark, ("the provider's file", FILE)).await;
        }
        let grown = self.counts().await?.interactions - before.interactions;
        if let Some(expected) = step.expect.interactions {
            shown.check.same(format!("{expected} new"), format!("{grown} new"));
        }
        if matches!(step.act, Act::Forge | Act::Repeat) {
            let entries = self.counts().await?.entries - before.entries;
            shown.check.same("0 entries, 0 interactions", format!("{entries} entries, {grown} interactions"));
            shown.row("changed", vec!["nothing: no entry, no interaction".to_owned()], json!([entries, grown]));
        }
        self.received(&mut shown, step, event.as_deref(), mark, begun).await;
        Ok(shown)
    }

    /// The event that a step waits for.
    async fn event(&self, step: &Step, mark: u64) -> Option<Arc<Received>> {
        let kind = step.event.as_deref()?;
        let is_it = |received: &Received| {
            received.kind == kind
                && received.text("/data/interaction/channel/name").as_deref() == Some(&step.channel)
                && step.until.iter().all(|(pointer, value)| received.text(pointer).as_ref() == Some(value))
        };
        self.scene.desk.wait(mark, PATIENCE, is_it).await
    }

    /// What the provider was answered, where it matters.
    async fn answered(&self, shown: &mut Shown, step: &Step, heard: &Heard, event: Option<&Received>, mark: u64) {
        let Some(expected) = &step.expect.answer else { return };
        let seen = if heard.body.contains(expected) { expected.clone() } else { cut(&heard.body, SHOWN_TEXT) };
        let mut lines = vec![heard.body.clone()];
        if let Some(call) = event.and_then(|event| event.text("/data/interaction/id")) {
            // What was really said is an entry of its own, and the call tells it.
            let told = |r: &Received| {
                r.text("/data/interaction/id").as_ref() == Some(&call)
                    && r.text("/data/interaction/call/answer").as_ref() == Some(&heard.body)
            };
            let told = self.scene.desk.wait(mark, PATIENCE, told).await;
            let by = |call: &Received| call.text("/data/interaction/call/answered_by").unwrap_or("policy".to_owned());
            let by = told.as_deref().map_or_else(|| "nobody".to_owned(), by);
            lines.push(format!("said by the {by}, {} after the call came in", millis(heard.took)));
            shown.check.same("by policy", format!("by {by}"));
        }
        shown.row("answered", lines, json!(heard.body));
        shown.check.same(expected.clone(), seen);
    }

    /// Whether a file of the interaction was fetched and is the same to the byte as one that has a name.
    async fn file(&self, shown: &mut Shown, event: Option<&Received>, mark: u64, (name, bytes): (&str, &[u8])) {
        let interaction = event.and_then(|event| event.text("/data/interaction/id"));
        let blob = |received: &Received| {
            let parts = received.event.pointer("/data/interaction/parts")?.as_array()?;
            parts
                .iter()
                .filter_map(|part| part.get("blob"))
                .find(|blob| blob.get("fetch") == Some(&json!("fetched")))
                .cloned()
        };
        let here = |r: &Received| r.text("/data/interaction/id") == interaction && blob(r).is_some();
        let found = self.scene.desk.wait(mark, PATIENCE, here).await;
        let expected = HEXLOWER.encode(digest::digest(&digest::SHA512, bytes).as_ref());
        let blob = found.as_deref().and_then(blob).unwrap_or_default();
        let same = blob.get("sha512").and_then(Value::as_str) == Some(&expected);
        if found.is_some() {
            let line = format!(
                "{} bytes, SHA-512 {}\u{2026}, {} {name}",
                blob.get("size").unwrap_or(&Value::Null),
                blob.get("sha512").and_then(Value::as_str).and_then(|hash| hash.get(..16)).unwrap_or_default(),
                if same { "equal to" } else { "not" }
            );
            shown.row("fetched", vec![line], blob);
        }
        shown.check.same("file equal", if same { "file equal" } else { "no such file" });
    }

    /// Holds an event to what was expected of it.
    fn hold(&mut self, step: &'a Step, event: Option<&Received>, check: &mut Check) {
        let Some(kind) = &step.event else { return };
        let Some(event) = event else {
            check.same(format!("{kind} event"), "no such event");
            return;
        };
        let expect = &step.expect;
        let text = |pointer: &str| event.text(pointer).unwrap_or_else(|| "nothing".to_owned());
        if let Some(label) = &expect.customer {
            let id = event.text("/data/interaction/author/customer_id");
            check.same(label, self.labels.meet(id.as_deref(), label));
        }
        if let Some(label) = &expect.story {
            check.same(label, self.labels.meet(event.text("/subject").as_deref(), label));
        }
        if let Some(label) = &expect.links {
            let links = event.event.pointer("/data/conversation/links").and_then(Value::as_array);
            let other = |link: &Value| {
                let id = link.get("conversation_id")?.as_str()?;
                Some(self.labels.of(id).map_or_else(|| short(id), str::to_owned))
            };
            let seen: Vec<String> = links.into_iter().flatten().filter_map(other).collect();
            check.same(format!("linked to {label}"), format!("linked to {}", seen.join(" and ")));
        }
        for (expected, pointer) in [
            (&expect.trust, "/data/interaction/author/trust"),
            (&expect.visibility, "/data/interaction/visibility"),
            (&expect.queue, "/data/decision/queue"),
        ] {
            if let Some(expected) = expected {
                check.same(expected, text(pointer));
            }
        }
        if let Some(rule) = &expect.rule {
            let rules = event.event.pointer("/data/decision/rules").and_then(Value::as_array);
            let rules: Vec<&str> = rules.into_iter().flatten().filter_map(Value::as_str).collect();
            check.same(rule, if rules.contains(&rule.as_str()) { rule.clone() } else { rules.join(", ") });
        }
        let interaction = text("/data/interaction/id");
        if let Some(earlier) = &expect.same {
            let same = self.interactions.get(earlier.as_str()) == Some(&interaction);
            check.same(format!("of `{earlier}`"), if same { format!("of `{earlier}`") } else { short(&interaction) });
        }
        self.interactions.insert(&step.name, interaction);
        for (pointer, expected) in step.until.iter().chain(&expect.holds) {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            check.same(format!("{name} {expected}"), format!("{name} {}", text(pointer)));
        }
    }

    /// What the help desk received in a step.
    async fn received(&self, shown: &mut Shown, step: &Step, event: Option<&Received>, mark: u64, begun: Instant) {
        let Some(event) = event else { return };
        let order = if event.in_order { "in order" } else { "out of order" };
        let after = millis(event.at.saturating_duration_since(begun));
        let mut lines =
            vec![format!("{} as event {}: signature holds, {order}, {after} later", event.kind, event.sequence)];
        let others: BTreeSet<String> = self.scene.desk.after(mark).iter().map(|r| r.kind.clone()).collect();
        let others: Vec<String> = others.into_iter().filter(|kind| *kind != event.kind).collect();
        if !others.is_empty() {
            lines.push(format!("beside it: {}", others.join(", ")));
        }
        if step.desk_is_down {
            let again = self.scene.desk.wait(mark, PATIENCE, |r| r.attempts == 2).await;
            let seen = if again.is_some() { "declined, came again" } else { "did not come again" };
            lines.push(format!("was down for the first event: {seen}, same id and body"));
            shown.check.same("declined, came again", seen);
        }
        let facts = json!({ "event": event.id, "type": event.kind, "sequence": event.sequence, "verified": true,
            "in_order": event.in_order, "beside": others });
        shown.row("help desk", lines, facts);
    }

    /// What holds over the whole story.
    ///
    /// # Errors
    ///
    /// If the gateway cannot be reached at all.
    pub(super) async fn at_the_end(&self) -> Result<Vec<Check>> {
        let tally = self.scene.desk.tally();
        let mut signed = Check::new("Every event is signed, in order, unchanged when repeated");
        signed.same("0 unsigned", format!("{} unsigned", tally.forged));
        signed.same("0 out of order", format!("{} out of order", tally.out_of_order));
        signed.same("0 changed", format!("{} changed", tally.changed));
        signed.same("1 declined", format!("{} declined", tally.declined));
        let counts = self.scene.app.context.store.catalog.counts().await?;
        let count = |table: &str| counts.get(table).copied().unwrap_or_default();
        let mut aside = Check::new("Nothing is set aside or given up");
        aside.same("0 in quarantine", format!("{} in quarantine", count("quarantine")));
        aside.same("0 dead letters", format!("{} dead letters", count("dead")));
        let mut api = Check::new("The API gives the story, the feed and the measurements");
        let story = self.first_story();
        for path in [&format!("/v1/conversations/{story}/timeline"), "/v1/events?after=0&limit=5", "/metrics"] {
            let name = path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let heard = self.api(path, None).await?;
            api.same(format!("{name} 200"), format!("{name} {}", heard.status.as_u16()));
        }
        Ok(vec![self.channels(), signed, aside, api])
    }

    /// The story of the first step.
    fn first_story(&self) -> &str {
        let label = self.story.steps.first().and_then(|step| step.expect.story.as_deref()).unwrap_or_default();
        self.labels.id(label).unwrap_or_default()
    }

    /// The channels that met in the first story.
    fn channels(&self) -> Check {
        let mut check = Check::new("One customer, one story, whatever the channel");
        let story = self.first_story();
        let label = self.labels.of(story).unwrap_or_default();
        let steps = self.story.steps.iter().filter(|step| step.expect.story.as_deref() == Some(label));
        let expected: BTreeSet<&str> = steps.map(|step| step.channel.as_str()).collect();
        let events = self.scene.desk.after(0);
        let own =
            events.iter().filter(|r| r.kind == "interaction.received" && r.text("/subject").as_deref() == Some(story));
        let seen: BTreeSet<String> = own.filter_map(|r| r.text("/data/interaction/channel/name")).collect();
        let seen: Vec<String> = seen.into_iter().collect();
        check.same(expected.into_iter().collect::<Vec<_>>().join(" + "), seen.join(" + "));
        check
    }

    /// The commands for the reader, with what they need written into the project.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(super) fn commands(&self, text: &str) -> Result<String> {
        self.scene.project.put("message.json", &self.payload(HELLO)?)?;
        let root = self.scene.project.path().display().to_string();
        Ok(fill(text, &[("root", &root), ("gateway", &self.scene.gateway), ("story", self.first_story())]))
    }

    /// Calls the API with the agent's token: a POST if there is a body, which is done once for each step.
    async fn api(&self, path: &str, body: Option<(&Step, &Value)>) -> Result<Heard> {
        let token = format!("Bearer {}", self.scene.project.secret("api-token"));
        let mut headers = HeaderMap::new();
        let once = body.map_or("", |(step, _)| step.name.as_str());
        let own = [("authorization", token.as_str()), ("content-type", "application/json"), ("idempotency-key", once)];
        for (name, value) in own.into_iter().filter(|(name, _)| body.is_some() || *name == "authorization") {
            headers.insert(header_name(name)?, header_value(value)?);
        }
        let url = format!("{}{path}", self.scene.gateway);
        match body {
            Some((_, body)) => provider::post(&self.scene.client, &url, headers, Bytes::from(body.to_string())).await,
            None => provider::get(&self.scene.client, &url, headers).await,
        }
    }

    async fn counts(&self) -> Result<Counts> {
        let counts: BTreeMap<String, i64> = self.scene.app.context.store.catalog.counts().await?;
        let count = |table: &str| counts.get(table).copied().unwrap_or_default();
        Ok(Counts { entries: count("entry"), interactions: count("interaction") })
    }
}

/// What is in the store.
struct Counts {
    entries: i64,
    interactions: i64,
}

/// What came in, and what the provider heard.
fn arrived(shown: &mut Shown, step: &Step, heard: &Heard, bytes: usize, scheme: &str) {
    let status = heard.status.as_u16();
    let how = if step.act == Act::Forge { "signed with a wrong secret" } else { scheme };
    let line = format!("POST /in/{}, {bytes} bytes, {how}: {status} in {}", step.channel, millis(heard.took));
    let mut lines = vec![line];
    if !heard.status.is_success() {
        lines.push(cut(&heard.body, SHOWN_TEXT));
    }
    let facts = json!({ "channel": step.channel, "bytes": bytes, "scheme": scheme, "status": status,
        "milliseconds": heard.took.as_secs_f64() * 1000.0 });
    shown.row("arrives", lines, facts);
}

fn millis(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}
