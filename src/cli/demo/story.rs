//! The story that the demo plays, read from `data/story.toml`: who writes on which channel, and what is to come of it.
//!
//! The story is data, so that no code names a connector.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::provider::Signs;
use crate::base::{Error, Result};

const TEXT: &str = include_str!("data/story.toml");

/// The payloads that the story names.
const PAYLOADS: [(&str, &str); 21] = [
    ("bot-text.json", include_str!("data/payloads/bot-text.json")),
    ("call-completed.form", include_str!("data/payloads/call-completed.form")),
    ("call-in-progress.form", include_str!("data/payloads/call-in-progress.form")),
    ("call.form", include_str!("data/payloads/call.form")),
    ("chat-delivered.json", include_str!("data/payloads/chat-delivered.json")),
    (HELLO, include_str!("data/payloads/chat-hello.json")),
    ("chat-photo.json", include_str!("data/payloads/chat-photo.json")),
    ("chat-read.json", include_str!("data/payloads/chat-read.json")),
    ("chat-regrouped.json", include_str!("data/payloads/chat-regrouped.json")),
    ("chat-text.json", include_str!("data/payloads/chat-text.json")),
    ("desk-message.json", include_str!("data/payloads/desk-message.json")),
    ("desk-thread.json", include_str!("data/payloads/desk-thread.json")),
    ("gram-comment.json", include_str!("data/payloads/gram-comment.json")),
    ("gram-message.json", include_str!("data/payloads/gram-message.json")),
    ("mail-answer.eml", include_str!("data/payloads/mail-answer.eml")),
    ("mail-first.eml", include_str!("data/payloads/mail-first.eml")),
    ("mail-stranger.eml", include_str!("data/payloads/mail-stranger.eml")),
    ("page-comment.json", include_str!("data/payloads/page-comment.json")),
    ("page-message.json", include_str!("data/payloads/page-message.json")),
    ("site-chat.json", include_str!("data/payloads/site-chat.json")),
    ("sms.form", include_str!("data/payloads/sms.form")),
];

/// The payload that is left to the reader to send.
pub(super) const HELLO: &str = "chat-hello.json";

/// The whole story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Story {
    /// What the project's secrets look like, by file name.
    pub(super) secrets: BTreeMap<String, String>,
    /// The channels, each with how its provider signs.
    pub(super) channels: BTreeMap<String, Channel>,
    /// What happens, in order.
    pub(super) steps: Vec<Step>,
}

/// One channel of the story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channel {
    /// How its provider signs; nothing for a mailbox, whose mails are no requests.
    pub(super) signs: Option<Signs>,
}

/// One thing that happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Its name, for other steps and for programs.
    pub(super) name: String,
    /// What happens, in words.
    pub(super) title: String,
    /// What is done.
    #[serde(default)]
    pub(super) act: Act,
    /// By which channel.
    pub(super) channel: String,
    /// The request's body, or the mail.
    #[serde(default)]
    pub(super) payload: String,
    /// Further headers of the request.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Whether the help desk declines the first event that comes of it.
    #[serde(default)]
    pub(super) desk_is_down: bool,
    /// For a reply: the step that it answers.
    #[serde(default)]
    pub(super) to: String,
    /// For a reply: who answers.
    #[serde(default)]
    pub(super) agent: String,
    /// For a reply: the words.
    #[serde(default)]
    pub(super) text: String,
    /// The type of the event that the help desk is to receive.
    #[serde(default)]
    pub(super) event: Option<String>,
    /// What that event must hold, by JSON pointer, to be the one that is waited for.
    #[serde(default)]
    pub(super) until: BTreeMap<String, String>,
    /// What must be seen.
    #[serde(default)]
    pub(super) expect: Expect,
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// The provider delivers a signed request.
    #[default]
    Deliver,
    /// Somebody who does not know the secret sends a request.
    Forge,
    /// The provider delivers the very same request again.
    Repeat,
    /// A mail arrives in the mailbox.
    Mail,
    /// An agent answers through the API.
    Reply,
}

/// What must be seen after a step; what is not given is not looked at.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// The HTTP status; 200 if not given.
    pub(super) status: Option<u16>,
    /// The customer's label.
    pub(super) customer: Option<String>,
    /// The story's label.
    pub(super) story: Option<String>,
    /// How far the sender's identifier is proven.
    pub(super) trust: Option<String>,
    /// Who could see it.
    pub(super) visibility: Option<String>,
    /// The queue.
    pub(super) queue: Option<String>,
    /// A rule that had an opinion.
    pub(super) rule: Option<String>,
    /// The label of the story that this one is linked to.
    pub(super) links: Option<String>,
    /// The step whose interaction this is about.
    pub(super) same: Option<String>,
    /// What the provider must be answered.
    pub(super) answer: Option<String>,
    /// How many interactions come of it.
    pub(super) interactions: Option<i64>,
    /// Fields of the mail that leaves, unfolded.
    pub(super) letter: BTreeMap<String, String>,
    /// Whether a file is fetched and is byte for byte the provider's, or the mail as it was sent.
    pub(super) file: bool,
    /// Values in the event by JSON pointer.
    pub(super) holds: BTreeMap<String, String>,
}

/// Reads the story.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if the embedded text is broken.
pub(super) fn read() -> Result<Story> {
    toml::from_str(TEXT).map_err(|error| Error::internal("the demo's story cannot be read").because(error))
}

/// The text of a payload.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if there is none of this name.
pub(super) fn payload(name: &str) -> Result<&'static str> {
    let found = PAYLOADS.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| Error::internal(format!("the demo has no payload `{name}`")))
}

/// Puts values into the `{{name}}` places of a text.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_story_holds_together() {
        let story = read().unwrap();
        let mut known = HashSet::new();
        let mut used = HashSet::from([HELLO]);
        for step in &story.steps {
            let channel = story.channels.get(&step.channel);
            let channel = channel.unwrap_or_else(|| panic!("{}: no channel {}", step.name, step.channel));
            assert!(step.act == Act::Reply || (step.act == Act::Mail) == channel.signs.is_none(), "{}", step.name);
            for earlier in [Some(&step.to), step.expect.same.as_ref()].into_iter().flatten() {
                assert!(earlier.is_empty() || known.contains(earlier.as_str()), "{}: no step {earlier}", step.name);
            }
            if step.act == Act::Reply {
                assert!(!step.text.is_empty() && !step.to.is_empty());
            } else {
                payload(&step.payload).unwrap();
                used.insert(step.payload.as_str());
            }
            assert!(known.insert(step.name.as_str()), "{} stands twice", step.name);
        }
        assert_eq!(used.len(), PAYLOADS.len(), "a payload is never played");
        for signs in story.channels.values().filter_map(|channel| channel.signs.as_ref()) {
            assert!(story.secrets.contains_key(&signs.secret), "no secret {}", signs.secret);
        }
    }

    #[test]
    fn payloads_are_what_their_names_say() {
        for (name, text) in PAYLOADS {
            let values =
                [("now", "1772445580"), ("now_ms", "1772445580000"), ("date", "Mon, 2 Mar 2026 09:59:40 +0000")];
            let text = fill(&fill(text, &values), &[("sent", "x"), ("reply_to", "x@shop.example")]);
            assert!(!text.contains("{{"), "{name}");
            if name.ends_with(".json") {
                serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            } else if name.ends_with(".eml") {
                let (head, body) = text.split_once("\n\n").unwrap();
                assert!(head.lines().all(|line| line.contains(": ")) && !body.trim().is_empty(), "{name}");
            } else {
                assert!(text.lines().all(|line| line.contains('=')), "{name}");
            }
        }
    }
}
