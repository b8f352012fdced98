//! A phone call, as an interaction carries it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Pii, Timestamp};

/// A call. States arrive in any order; [`crate::rules::call`] folds them into one.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The furthest state: `queued`, `initiated`, `ringing`, `in_progress`, `completed`, `busy`, `no_answer`,
    /// `canceled`, `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The legs of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<CallLeg>,
    /// When it began to ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its length in seconds, as the provider counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// How it ended, in vCon's words: `answered`, `no-answer`, `busy`, `failed`, `hung-up`, `voicemail-no-message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// The recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// The transcript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Pii<String>>,
    /// The menu path taken: digits or choices, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ivr_path: Vec<Pii<String>>,
    /// The call this one was transferred from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_of: Option<String>,
    /// What the caller was answered (TwiML or the like), as it was really sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Pii<String>>,
    /// Who decided that answer, if it was not the policy: `default` where the policy was late or had no opinion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
}

/// One leg of a call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallLeg {
    /// The provider's id of the leg.
    pub provider_id: String,
    /// Its furthest state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The number it reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Pii<String>>,
    /// Its length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
}

/// A recording at the provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// The provider's id of it.
    pub provider_id: String,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Pii<String>>,
    /// Its length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// Where it stands at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}
