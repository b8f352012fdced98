//! What normalizing gives: for every item of a payload exactly one outcome, so that nothing is lost silently.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::{DeliveryError, DeliveryState};
use super::identifier::Identifier;
use super::interaction::{Interaction, InteractionKind};
use crate::base::id::SendId;
use crate::base::{Pii, Timestamp, hash};

/// What became of one item of a payload. This is the line that `segue normalize` prints.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Something happened that belongs to a story.
    Interaction(Box<Normalized>),
    /// The provider tells how far something we sent got.
    Receipt {
        /// What it tells.
        receipt: Box<Receipt>,
    },
    /// Understood, and of no concern here.
    Ignored {
        /// Why.
        reason: String,
    },
    /// Not understood; kept for a person to look at.
    Quarantined {
        /// Why.
        reason: String,
    },
}

/// An interaction as its connector made it, with the revision that makes repeats of it recognizable.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Normalized {
    /// The interaction, without ids.
    pub interaction: Interaction,
    /// Which state of the provider's thing this is: an edit time, a call state, an emoji. Empty for the thing itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
}

/// How far something we sent got, as the provider tells it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The connector's name.
    pub connector: String,
    /// Our address on the channel.
    pub account: String,
    /// The provider's id of the message. For a receipt that covers everything up to a time, absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// What we sent, by our own id, where the report names that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<SendId>,
    /// Everything we sent to `recipient` up to this time (Messenger's watermark).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Timestamp>,
    /// To whom it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Identifier>,
    /// The state reached.
    pub state: DeliveryState,
    /// When, by the provider's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeliveryError>,
    /// What we told the provider to hand back (a reference of ours), if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Pii<String>>,
}

/// What makes an item the same item whenever it comes again: account, provider id, kind and revision, as 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey(pub [u8; 16]);

impl ItemKey {
    /// The key of an item.
    pub fn of(connector: &str, account: &str, provider_id: &str, kind: InteractionKind, revision: &str) -> Self {
        let kind = [kind as u8];
        ItemKey(hash::key16(&[
            connector.as_bytes(),
            account.as_bytes(),
            provider_id.as_bytes(),
            &kind,
            revision.as_bytes(),
        ]))
    }
}
