//! What became of something we sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// How far something we sent got. It only moves forward.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The furthest state.
    pub state: DeliveryState,
    /// When it was reached.
    pub at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeliveryError>,
}

/// States of something we sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Decided, not yet tried.
    Planned,
    /// At the provider, not yet on its way.
    Queued,
    /// We do not know whether the provider took it.
    Uncertain,
    /// The provider sent it.
    Sent,
    /// It arrived.
    Delivered,
    /// It was read.
    Read,
    /// It will not arrive.
    Failed,
}

/// Why something we sent failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryError {
    /// The provider's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The provider's words.
    pub title: String,
    /// Whether trying again is pointless.
    pub permanent: bool,
}
