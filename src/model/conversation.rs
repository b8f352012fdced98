//! A conversation: one story over any number of channels and threads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::base::id::{ConversationId, CustomerId};

/// One story.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// The id.
    pub id: ConversationId,
    /// Whose story it is.
    pub customer_id: CustomerId,
    /// Where it stands.
    pub state: ConversationState,
    /// How many interactions it holds: the `seq` of the latest.
    pub seq: u64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// The queue it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Other stories it has to do with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// Where a story stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationState {
    /// Something is to be done.
    Open,
    /// Done; a new message by the same thread opens it again.
    Resolved,
}

/// A link to another story. Linked stories are shown together and never joined.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Why they are linked.
    pub kind: LinkKind,
    /// To which.
    pub conversation_id: ConversationId,
}

/// Why two stories are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// The public side of the same matter.
    Public,
    /// The private side of the same matter.
    Private,
    /// The same customer's other open story.
    Related,
    /// A story that a mail names whose sender is not proven to have a part in it: for an agent to look at. Stands on the side
    /// of the mail only.
    Mentioned,
}
