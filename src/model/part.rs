//! The parts of an interaction: text, media, places, cards, choices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::{Pii, Timestamp};

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartType {
    /// Plain text in `text`.
    Text,
    /// HTML in `text`.
    Html,
    /// A picture (stickers included).
    Image,
    /// Sound (voice notes included).
    Audio,
    /// Moving pictures.
    Video,
    /// Any other file.
    File,
    /// A place: `data.latitude`, `data.longitude`, and `data.name`, `data.address`, `data.url` if given.
    Location,
    /// A contact card: `data.name`, `data.phones[]`, `data.emails[]` as the provider gave them.
    Contact,
    /// A form offered or filled in: `data.fields` or `data.response`.
    Form,
    /// A choice that was made: `data.id` (what the button carries), `data.title` (what the person saw).
    Choice,
    /// A rich card, an order, a shared post: `data` as the provider gave it.
    Card,
    /// A template message.
    Template,
    /// A reaction: `data.emoji`, `data.action` (`added` or `removed`).
    Reaction,
    /// Keys pressed on a telephone: `data.digits`.
    Dtmf,
    /// What was said, as text.
    Transcript,
}

/// One part.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: PartType,
    /// Its media type (RFC 2046), if the provider told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mediatype: Option<String>,
    /// Its text, or the caption of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Pii<String>>,
    /// Words in place of it for those who cannot see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt: Option<Pii<String>>,
    /// The file behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Blob>,
    /// Whatever else its type carries, see [`PartType`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Pii<Map<String, Value>>>,
}

impl Part {
    /// A part of `kind` with nothing in it yet.
    pub fn new(kind: PartType) -> Self {
        Part { kind, mediatype: None, text: None, alt: None, blob: None, data: None }
    }

    /// A plain text part.
    pub fn text(text: impl Into<String>) -> Self {
        Part { text: Some(Pii::new(text.into())), ..Part::new(PartType::Text) }
    }
}

/// A file: at the provider until it is fetched, then here.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Our id of the fetched content; absent until it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Size in bytes, as the provider says, later as fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-512 of the fetched content in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
    /// The name its sender gave it. Data, never a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Pii<String>>,
    /// What a virus scan found, where one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<String>,
    /// The provider's own id of the file, from which the connector makes the request that fetches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<Pii<String>>,
    /// The address the provider gave for it, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Pii<String>>,
    /// When the provider stops giving it out, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where fetching stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchState>,
    /// Why fetching failed, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_error: Option<String>,
}

/// Where the fetching of a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FetchState {
    /// Not yet tried or to be tried again.
    Pending,
    /// It is here.
    Fetched,
    /// It cannot be had; `fetch_error` says why.
    Failed,
}
