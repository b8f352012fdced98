//! The decision: what the policy and the host's guarantees said about one interaction. A value, stored with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Pii;

/// What was decided about an interaction. `queue` is never absent: the host guarantees a destination.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The queue it goes to.
    pub queue: String,
    /// Its priority: 0 to 100, 50 unless a rule says otherwise.
    pub priority: i64,
    /// Labels, in the order they were given, without repeats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Skills needed, each with its least level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, i64>,
    /// Answers to send to the customer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<PolicyReply>,
    /// Who is to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// Why, in the policy's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Pii<String>>,
    /// The rules that had an opinion, in the order they ran, each `file:rule`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// How a caller who waits is answered (a call), if a rule said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<CallAnswer>,
    /// The first 12 hex digits of the hash of the bundle that decided.
    pub bundle: String,
    /// Set where the policy failed and the documented fallback was taken: what went wrong, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breach: Option<String>,
}

/// An answer to the customer, asked for by a rule.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyReply {
    /// The template's name, or the text itself if no template has that name.
    pub template: String,
    /// Values for the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Pii<String>>,
    /// At most once per customer in this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once_per_seconds: Option<u64>,
}

/// What a caller who waits hears.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallAnswer {
    /// The name of an answer that the connector's manifest declares (`say`, `queue`, `dial`, `record`, `reject` ...).
    pub name: String,
    /// Values for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Pii<String>>,
}
