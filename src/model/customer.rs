//! The customer record, `customer.v1`, in its first form.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::identifier::{IdentifierType, Trust};
use super::interaction::{ChannelKind, Direction, Role};
use crate::base::id::{ConversationId, CustomerId, InteractionId};
use crate::base::{Error, Pii, Result, Timestamp};

/// One customer: who they are as far as it is known.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The id.
    pub id: CustomerId,
    /// Names they go by, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pii<String>>,
    /// Identifiers with trust, oldest first.
    pub identifiers: Vec<CustomerIdentifier>,
    /// Stories that are open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_issues: Vec<OpenIssue>,
    /// The latest interactions over all channels, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Recent>")]
    pub recent: Vec<RecentJson>,
    /// When the customer was first seen.
    pub created_at: Timestamp,
}

/// One identifier of a customer.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerIdentifier {
    /// The namespace.
    #[serde(rename = "type")]
    pub kind: IdentifierType,
    /// The canonical value.
    pub value: Pii<String>,
    /// The best proof seen.
    pub trust: Trust,
    /// When it was first seen with this customer.
    pub first_seen: Timestamp,
}

/// A story that is open.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenIssue {
    /// Which.
    pub conversation_id: ConversationId,
    /// Since when.
    pub opened_at: Timestamp,
    /// The queue it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// [`Recent`] as JSON. It is written once and passed on as it is: every decision and every event has five of them, and to
/// read and write them anew would cost more than the rest of both.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecentJson(Arc<RawValue>);

impl RecentJson {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// `Internal` if it cannot be written, which its type rules out.
    pub fn of(recent: &Recent) -> Result<Self> {
        let json = to_raw_value(recent).map_err(|e| Error::internal("failed to write JSON").because(e))?;
        Ok(RecentJson(json.into()))
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// `Internal` if something else wrote it.
    pub fn read(&self) -> Result<Recent> {
        serde_json::from_str(self.0.get()).map_err(|e| Error::internal("a brief cannot be read back").because(e))
    }
}

impl PartialEq for RecentJson {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// One of the latest interactions.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recent {
    /// Which.
    pub interaction_id: InteractionId,
    /// In which story.
    pub conversation_id: ConversationId,
    /// On what kind of channel.
    pub channel: ChannelKind,
    /// Which way.
    pub direction: Direction,
    /// When.
    pub at: Timestamp,
    /// What was said, cut to 200 characters.
    pub text: Pii<String>,
    /// Who said it.
    pub author_role: Role,
}
