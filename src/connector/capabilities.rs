//! What a channel can carry. The core decides from these and never from a connector's name.

use std::collections::BTreeMap;

use serde::Serialize;

use super::convert::duration_millis;
use super::tree::{Notes, Table};
use crate::model::{OutboundPart, PartType};

/// The capability matrix of a channel.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Capabilities {
    /// The longest text of one message, in `text_unit`; a longer one is split.
    pub text_limit: usize,
    /// What `text_limit` counts.
    pub text_unit: TextUnit,
    /// How many buttons a message can carry.
    pub choices: usize,
    /// The longest title of a button, in characters.
    pub choice_title: usize,
    /// Media by kind (`image`, `audio`, `video`, `file`).
    pub media: BTreeMap<String, MediaLimit>,
    /// Whether a file can carry a text of its own; else the text is a message before it.
    pub captions: bool,
    /// Whether a message of ours can quote another.
    pub quotes: bool,
    /// Whether the channel has reactions.
    pub reactions: bool,
    /// Whether messages can be changed.
    pub edits: bool,
    /// Whether messages can be taken back.
    pub deletes: bool,
    /// Whether the provider tells how far a message got.
    pub receipts: bool,
    /// Whether the provider tells that somebody is typing.
    pub typing: bool,
    /// Whether answers go to threads.
    pub threads: bool,
    /// Whether something public can be answered in private.
    pub private_reply: bool,
    /// Whether answers can be public.
    pub public_reply: bool,
    /// Whether a public answer goes to the thread or the comment alone, so that the author need not be known.
    pub public_to_thread: bool,
    /// Whether the provider takes an idempotency key, so that an uncertain send may be repeated.
    pub idempotent: bool,
    /// How long after a customer's message it can be answered freely, in milliseconds; absent for "for ever".
    pub window_ms: Option<i64>,
}

/// What the length of a text is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextUnit {
    /// Unicode scalar values.
    #[default]
    Characters,
    /// UTF-16 code units, as JavaScript counts.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

/// What the channel says about one kind of media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MediaLimit {
    /// The media types taken; empty for any.
    pub types: Vec<String>,
    /// The largest file, in bytes.
    pub max_bytes: u64,
}

impl Capabilities {
    /// What every mail can carry.
    pub(super) fn of_mail() -> Capabilities {
        const MOST_BYTES: u64 = 20 << 20;
        let file = |kind: &str| (kind.to_owned(), MediaLimit { types: Vec::new(), max_bytes: MOST_BYTES });
        let media = ["image", "audio", "video", "file"].map(file).into();
        Capabilities { media, quotes: true, threads: true, ..Capabilities::default() }
    }

    /// Reads `[capabilities]`.
    pub(super) fn read(table: Option<Table>, notes: &mut Notes<'_>) -> Capabilities {
        let mut can = Capabilities::default();
        let Some(mut table) = table else { return can };
        let size = |number: Option<i64>, or: usize| number.and_then(|n| usize::try_from(n).ok()).unwrap_or(or);
        can.text_limit = size(table.integer("text_limit", 1, 10_000_000, notes), 0);
        can.text_unit = match table.text("text_unit", notes) {
            None => TextUnit::Characters,
            Some((unit, at)) => match unit.as_str() {
                "characters" => TextUnit::Characters,
                "utf16" => TextUnit::Utf16,
                "bytes" => TextUnit::Bytes,
                _ => {
                    notes.wrong_name(at, format!("unknown unit `{unit}`"), &unit, ["characters", "utf16", "bytes"]);
                    TextUnit::Characters
                }
            },
        };
        can.choices = size(table.integer("choices", 0, 1000, notes), 0);
        can.choice_title = size(table.integer("choice_title", 1, 1000, notes), 0);
        for (key, field) in [
            ("quotes", &mut can.quotes),
            ("reactions", &mut can.reactions),
            ("edits", &mut can.edits),
            ("deletes", &mut can.deletes),
            ("receipts", &mut can.receipts),
            ("typing", &mut can.typing),
            ("threads", &mut can.threads),
            ("private_reply", &mut can.private_reply),
            ("public_reply", &mut can.public_reply),
            ("public_to_thread", &mut can.public_to_thread),
            ("idempotent", &mut can.idempotent),
        ] {
            *field = table.truth(key, notes).unwrap_or(false);
        }
        can.captions = table.truth("captions", notes).unwrap_or(true);
        can.window_ms = table.text("window", notes).and_then(|(text, at)| {
            let millis = duration_millis(&text);
            if millis.is_none() {
                notes.wrong(at, format!("`{text}` is not a duration such as `24h`"));
            }
            millis
        });
        can.media = read_media(&mut table, notes);
        table.finish(notes);
        can
    }

    /// Whether it carries media of this kind.
    pub fn carries_media(&self, kind: PartType) -> bool {
        media_name(kind).is_some_and(|name| self.media.contains_key(name))
    }

    /// Whether it carries these buttons as buttons.
    pub fn carries_choices(&self, part: &OutboundPart) -> bool {
        part.choices.len() <= self.choices
            && part.choices.values().all(|title| title.expose().chars().count() <= self.choice_title)
    }

    /// How many bytes of `text` from its beginning fit into one message; at least one character.
    pub(super) fn fitting(&self, text: &str) -> usize {
        let mut room = if self.text_limit == 0 { usize::MAX } else { self.text_limit };
        for (at, c) in text.char_indices() {
            let cost = match self.text_unit {
                TextUnit::Characters => 1,
                TextUnit::Utf16 => c.len_utf16(),
                TextUnit::Bytes => c.len_utf8(),
            };
            if cost > room && at > 0 {
                return at;
            }
            room = room.saturating_sub(cost);
        }
        text.len()
    }
}

fn media_name(kind: PartType) -> Option<&'static str> {
    Some(match kind {
        PartType::Image => "image",
        PartType::Audio => "audio",
        PartType::Video => "video",
        PartType::File => "file",
        _ => return None,
    })
}

fn read_media(table: &mut Table, notes: &mut Notes<'_>) -> BTreeMap<String, MediaLimit> {
    let mut media = BTreeMap::new();
    let Some(mut inner) = table.table("media", notes) else { return media };
    for (name, at, node) in inner.take_all() {
        const KINDS: [&str; 4] = ["image", "audio", "video", "file"];
        if !KINDS.contains(&name.as_str()) {
            notes.wrong_name(at, format!("unknown kind of media `{name}`"), &name, KINDS);
            continue;
        }
        let Some(mut limit) = Table::of(node, format!("`[capabilities.media.{name}]`"), notes) else { continue };
        let types = limit.texts("types", notes).into_iter().map(|(text, _)| text).collect();
        let max_bytes = limit.integer("max_bytes", 1, i64::MAX, notes).map_or(u64::MAX, i64::unsigned_abs);
        limit.finish(notes);
        media.insert(name, MediaLimit { types, max_bytes });
    }
    media
}
