//! What a bundle is made of: every file and setting that decisions depend on, as one document.
//!
//! A node that reads its files makes such a document, and a node that takes up what another one published is given it:
//! both build what they run from it (`bundle/build.rs`), so that equal documents decide alike. Secrets are never part
//! of it. It names the options that are secret, and each node fills them in from its own `segue.toml`.
//!
//! The document is JSON with sorted keys, and its hash, by which decisions and applied records name the bundle, is the
//! SHA-256 of its bytes. One that holds anything this program does not know is refused, never read in part.

mod build;
mod ruling;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::base::{Error, Kind, Result, Retry, Side, hash};
use crate::config::Config;
use crate::connector::Folder;
use crate::flow::ChannelSetup;
use crate::script::{Budget, PolicyFacts, PolicyFiles};

pub use build::{Built, Fault, Own, Trial, build, build_map, policy};
pub(super) use build::{assemble, channels, compiled};
pub(super) use ruling::Ruling;
pub use ruling::{fetch, publish};

/// The form of the document that this program writes, and the newest one that it reads.
const FORM: u32 = 1;
/// The largest document, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// The `source` of events where no `public_url` is configured.
const SOURCE: &str = "segue";

/// The content of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The form of the document.
    pub form: u32,
    /// The `source` of events.
    pub source: String,
    /// The country of numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_country: Option<String>,
    /// The policy with the settings that it reads.
    pub policy: PolicyPart,
    /// The connectors that the channels use, whole but for samples and README: files by path, by connector.
    pub connectors: BTreeMap<String, BTreeMap<String, Text>>,
    /// The channels by name.
    pub channels: BTreeMap<String, ChannelPart>,
}

/// The policy's part of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyPart {
    /// The queues that rules may name.
    pub queues: Vec<String>,
    /// Where everything goes that no rule sent elsewhere.
    pub default_queue: String,
    /// The skills that rules may ask for.
    pub skills: Vec<String>,
    /// Texts of replies by name.
    pub templates: BTreeMap<String, String>,
    /// Values that rules read.
    pub params: BTreeMap<String, Json>,
    /// Most bytes of one virtual machine.
    pub memory: u64,
    /// Most time of one decision, in milliseconds.
    pub time_ms: u64,
    /// The files by path: rules, data, tests, fixtures.
    pub files: BTreeMap<String, Text>,
}

/// A channel's part of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelPart {
    /// Its connector.
    pub connector: String,
    /// Where its interactions go unless a rule says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Our address on the channel, where the options tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The options that are no secrets, defaults among them.
    pub options: BTreeMap<String, String>,
    /// The names of the secret options that are set.
    pub secrets: BTreeSet<String>,
}

/// A file: its text, or its bytes in Base64 where it is no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything else.
    Encoded {
        /// RFC 4648 with padding.
        base64: String,
    },
}

impl Text {
    fn of(bytes: &[u8]) -> Text {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Plain(text.to_owned()),
            Err(_) => Text::Encoded { base64: data_encoding::BASE64.encode(bytes) },
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// `Invalid` if this is no Base64.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Text::Plain(text) => Ok(Cow::Borrowed(text.as_bytes())),
            Text::Encoded { base64 } => data_encoding::BASE64
                .decode(base64.as_bytes())
                .map(Cow::Owned)
                .map_err(|e| Error::invalid("a file of the bundle is not Base64").because(e)),
        }
    }
}

impl PolicyPart {
    /// What `config` says of the policy, with these files.
    pub(super) fn of(config: &Config, files: &PolicyFiles) -> PolicyPart {
        let policy = &config.policy;
        PolicyPart {
            queues: policy.queues.clone(),
            default_queue: policy.default_queue.clone(),
            skills: policy.skills.clone(),
            templates: policy.templates.clone(),
            params: policy.params.iter().map(|(name, value)| (name.clone(), sorted(value))).collect(),
            memory: policy.budget.memory,
            time_ms: u64::try_from(policy.budget.time.as_millis()).unwrap_or(u64::MAX),
            files: files.all().iter().map(|(path, bytes)| (path.clone(), Text::of(bytes))).collect(),
        }
    }

    /// The names and values that scripts may speak of.
    pub(super) fn facts(&self) -> PolicyFacts {
        PolicyFacts {
            queues: self.queues.clone(),
            default_queue: self.default_queue.clone(),
            templates: self.templates.keys().cloned().collect(),
            skills: self.skills.clone(),
            params: self.params.clone(),
        }
    }

    /// What one decision may use.
    fn budget(&self) -> Budget {
        let memory = usize::try_from(self.memory).unwrap_or(usize::MAX);
        Budget { memory, wall: Duration::from_millis(self.time_ms), ..Budget::default() }
    }
}

impl ChannelPart {
    fn of(channel: &ChannelSetup) -> ChannelPart {
        let options = &channel.account.options;
        ChannelPart {
            connector: channel.connector.name().to_owned(),
            queue: channel.queue.clone(),
            address: channel.account.address.clone(),
            options: options.public().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            secrets: options.secret_names().map(str::to_owned).collect(),
        }
    }
}

impl Content {
    /// The content that `config`, these channels and this policy make.
    pub(super) fn of(config: &Config, channels: &HashMap<String, ChannelSetup>, policy: PolicyPart) -> Content {
        let files = |folder: &Folder| folder.ruling().map(|(path, bytes)| (path.to_owned(), Text::of(bytes))).collect();
        let connectors = channels.values().map(|channel| channel.connector.folder());
        Content {
            form: FORM,
            source: config.public_url.clone().unwrap_or_else(|| SOURCE.to_owned()),
            default_country: config.default_country.clone(),
            policy,
            connectors: connectors.map(|folder| (folder.name.clone(), files(folder))).collect(),
            channels: channels.iter().map(|(name, channel)| (name.clone(), ChannelPart::of(channel))).collect(),
        }
    }

    /// The document: the same bytes for the same content, wherever it is written.
    pub fn bytes(&self) -> Bytes {
        // Plain data in sorted maps always serializes.
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The hash by which the bundle is known: 64 hex digits.
    pub fn hash(&self) -> String {
        hash_of(&self.bytes())
    }

    /// Reads a document as the store gave it back under `hash`.
    ///
    /// # Errors
    ///
    /// `Config` if it needs a newer program; `Internal` if it is not what `hash` names.
    pub fn read(hash: &str, bytes: &[u8]) -> Result<Content> {
        if hash_of(bytes) != hash {
            return Err(Error::internal(format!(
                "bundle {hash} of the store is damaged: its content has another hash"
            )));
        }
        #[derive(Deserialize)]
        struct Form {
            form: u32,
        }
        let newer =
            || Error::config(format!("bundle {hash} was made by a newer segue; use the same version on all nodes"));
        match serde_json::from_slice::<Form>(bytes) {
            Ok(Form { form }) if form > FORM => return Err(newer()),
            _ => {}
        }
        serde_json::from_slice(bytes).map_err(|e| newer().because(e))
    }

    /// The document, if it is not too large to be published.
    ///
    /// # Errors
    ///
    /// `Limit` if it is.
    pub fn checked_bytes(&self) -> Result<Bytes> {
        let bytes = self.bytes();
        if bytes.len() > MOST_BYTES {
            let reason = format!("the bundle has {} MiB and {} are allowed", bytes.len() >> 20, MOST_BYTES >> 20);
            return Err(Error::new(Kind::Limit, reason).on_side(Side::Operator).with_retry(Retry::Never));
        }
        Ok(bytes)
    }
}

fn hash_of(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&hash::sha256(bytes))
}

/// The same value with the members of every object in order of their names.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(members) => {
            let members: BTreeMap<&String, &Json> = members.iter().collect();
            Json::Object(members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
