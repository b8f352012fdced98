//! What an event says, in rows: how somebody was identified, where it was attached, how it was routed and why.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::helpdesk::Received;
use super::screen::{Shown, cut};

/// How many lines of what was said are shown.
const MOST_LINES: usize = 8;

/// Labels of customers and stories by their ids.
#[derive(Default)]
pub(super) struct Labels(HashMap<String, String>);

impl Labels {
    /// The label of an id. One that has none yet gets `wanted`, unless somebody else has that.
    pub(super) fn meet(&mut self, id: Option<&str>, wanted: &str) -> String {
        let Some(id) = id else { return "nobody".to_owned() };
        if let Some(label) = self.0.get(id) {
            return label.clone();
        }
        if self.0.values().any(|label| label == wanted) {
            return format!("another than {wanted}");
        }
        self.0.insert(id.to_owned(), wanted.to_owned());
        wanted.to_owned()
    }

    /// The label of an id, if it has one.
    pub(super) fn of(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// The id that has a label.
    pub(super) fn id(&self, label: &str) -> Option<&str> {
        self.0.iter().find(|(_, known)| *known == label).map(|(id, _)| id.as_str())
    }
}

/// An id that fits into a line: its prefix and its end.
pub(super) fn short(id: &str) -> String {
    let (prefix, digits) = id.split_once('_').unwrap_or(("", id));
    let end: String = digits.chars().skip(digits.chars().count().saturating_sub(6)).collect();
    format!("{prefix}_\u{2026}{end}")
}

/// Adds the rows of an event to a step. `labels` are those from before the step.
pub(super) fn rows(shown: &mut Shown, received: &Received, labels: &Labels) {
    if received.kind == "interaction.received" {
        said(shown, received);
        mailed(shown, received);
        identified(shown, received, labels);
        attached(shown, received, labels);
        routed(shown, received);
    } else {
        updated(shown, received, labels);
    }
}

fn text(received: &Received, pointer: &str) -> String {
    received.text(pointer).unwrap_or_default()
}

fn list<'r>(received: &'r Received, pointer: &str) -> impl Iterator<Item = &'r Value> {
    received.event.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What somebody says, and what of it is new where that differs.
fn said(shown: &mut Shown, received: &Received) {
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).take(MOST_LINES);
        lines.map(|line| cut(line, 240)).collect()
    };
    let whole = text(received, "/data/interaction/text");
    shown.row("says", lines(&whole), json!(whole));
    if let Some(new) = received.text("/data/interaction/text_new") {
        shown.row("new in it", lines(&new), json!(new));
    }
}

/// How far the sender of a mail is known, and the reply token that the mail carries.
fn mailed(shown: &mut Shown, received: &Received) {
    let Some(level) = received.text("/data/interaction/mail/level") else { return };
    let why: Vec<String> = list(received, "/data/interaction/author/evidence")
        .map(|one| plain(one.get("detail")))
        .filter(|why| !why.is_empty())
        .collect();
    let mut lines = vec![format!("its sender is {level} ({})", why.join(", "))];
    let token = received.event.pointer("/data/interaction/mail/token");
    if let Some(token) = token {
        let whose = if token.get("of_sender") == Some(&json!(true)) { "this sender" } else { "somebody else" };
        lines.push(format!("it carries a token of ours that was made for {whose}"));
    }
    shown.row("mail", lines, json!({ "level": level, "because": why, "token": token }));
}

fn identified(shown: &mut Shown, received: &Received, labels: &Labels) {
    let id = text(received, "/data/interaction/author/customer_id");
    let name =
        received.text("/data/interaction/author/display_name").or_else(|| received.text("/data/customer/names/0"));
    let standing = match labels.of(&id) {
        Some(label) => format!("known as {label}"),
        None => "new customer".to_owned(),
    };
    let who = name.unwrap_or_else(|| "somebody".to_owned());
    let author = |field: &str| text(received, &format!("/data/interaction/author/{field}"));
    let (kind, value, trust) = (author("identifier/type"), author("identifier/value"), author("trust"));
    let mut why: Vec<String> = list(received, "/data/interaction/author/evidence")
        .map(|one| format!("{} {}", plain(one.get("method")), plain(one.get("result"))))
        .collect();
    why.dedup();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    let also = list(received, "/data/interaction/author/also");
    let also: Vec<String> = also.map(|one| format!("{} {}", plain(one.get("type")), plain(one.get("value")))).collect();
    let also = if also.is_empty() { String::new() } else { format!("; also {}", also.join(", ")) };
    let lines = vec![format!("{who}, {standing}, {}", short(&id)), format!("by {kind} {value}: {trust}{why}{also}")];
    let facts = json!({ "customer": id, "known_as": labels.of(&id), "identifier": { "type": kind, "value": value }, "trust": trust });
    shown.row("identified", lines, facts);
}

fn attached(shown: &mut Shown, received: &Received, labels: &Labels) {
    let (id, seq) = (text(received, "/subject"), text(received, "/data/interaction/seq"));
    let visibility = text(received, "/data/interaction/visibility");
    let mut line = match labels.of(&id) {
        Some(label) => format!("joins {label}, {}, as number {seq} ({visibility})", short(&id)),
        None => format!("opens a story, {}, as number {seq} ({visibility})", short(&id)),
    };
    let mut links = Vec::new();
    for link in list(received, "/data/conversation/links") {
        let other = plain(link.get("conversation_id"));
        let name = labels.of(&other).map_or_else(|| short(&other), str::to_owned);
        line.push_str(&format!("; linked to {name} ({})", plain(link.get("kind"))));
        links.push(other);
    }
    shown.row("attached", vec![line], json!({ "conversation": id, "seq": seq, "links": links }));
}

fn routed(shown: &mut Shown, received: &Received) {
    let decision = |field: &str| text(received, &format!("/data/decision/{field}"));
    let joined = |field: &str| -> Vec<String> {
        list(received, &format!("/data/decision/{field}")).map(|one| plain(Some(one))).collect()
    };
    let (queue, priority) = (decision("queue"), decision("priority"));
    let (tags, rules, because) = (joined("tags"), joined("rules"), joined("because"));
    let mut first = format!("to queue {queue}, priority {priority}");
    if !tags.is_empty() {
        first.push_str(&format!(", tags {}", tags.join(", ")));
    }
    let mut lines = vec![first, format!("by {}: {}", rules.join(", "), because.join("; "))];
    if let Some(breach) = received.text("/data/decision/breach") {
        lines.push(format!("the policy failed: {breach}"));
    }
    let facts = json!({ "queue": queue, "priority": priority, "tags": tags, "rules": rules, "because": because });
    shown.row("routed", lines, facts);
}

fn updated(shown: &mut Shown, received: &Received, labels: &Labels) {
    let (id, interaction) = (text(received, "/subject"), text(received, "/data/interaction/id"));
    let what = match (received.text("/data/delivery/state"), received.text("/data/interaction/call/state")) {
        (Some(state), _) => format!("delivery is {state}"),
        (None, Some(state)) => format!("call is {state}"),
        (None, None) => "changed".to_owned(),
    };
    let story = labels.of(&id).map_or_else(|| short(&id), str::to_owned);
    let seq = text(received, "/data/interaction/seq");
    let line = format!("number {seq} of {story}, {}: {what}", short(&interaction));
    shown.row("updated", vec![line], json!({ "conversation": id, "interaction": interaction, "state": what }));
}

/// An event in one line: time, type, channel, and what it says.
pub(super) fn brief(received: &Received) -> [String; 4] {
    let time: String = text(received, "/time").chars().skip(11).take(8).collect();
    let mut says = Vec::new();
    if let Some(name) = received.text("/data/interaction/author/display_name") {
        says.push(name);
    }
    if let Some(queue) = received.text("/data/decision/queue") {
        let rules: Vec<String> = list(received, "/data/decision/rules").map(|one| plain(Some(one))).collect();
        says.push(format!("-> {queue} by {}", rules.join(", ")));
    }
    if let Some(state) = received.text("/data/delivery/state") {
        says.push(state);
    }
    if let Some(text) = received.text("/data/interaction/text") {
        let text = received.text("/data/interaction/text_new").unwrap_or(text);
        let words: Vec<&str> = text.split_whitespace().collect();
        says.push(format!("\"{}\"", cut(&words.join(" "), 40)));
    }
    if says.is_empty() {
        says.push(short(&text(received, "/subject")));
    }
    [time, received.kind.clone(), text(received, "/data/interaction/channel/name"), says.join(" ")]
}

fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_given_once_and_kept() {
        let mut labels = Labels::default();
        assert_eq!(labels.meet(Some("cu_1"), "Ana"), "Ana");
        assert_eq!(labels.meet(Some("cu_1"), "Bogdan"), "Ana");
        assert_eq!(labels.meet(Some("cu_2"), "Ana"), "another than Ana");
        assert_eq!(labels.meet(Some("cu_2"), "Bogdan"), "Bogdan");
        assert_eq!(labels.meet(None, "Ana"), "nobody");
        assert_eq!((labels.id("Bogdan"), labels.of("cu_1")), (Some("cu_2"), Some("Ana")));
        assert_eq!(short("cu_01jn4xyzabc123"), "cu_\u{2026}abc123");
    }
}
