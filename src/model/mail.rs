//! What only mails have: ids, addresses and what their headers say of them. Names follow JMAP (RFC 8621).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::DeliveryState;
use crate::base::id::{ConversationId, SendId};
use crate::base::{Pii, Timestamp};

/// What the Message-ID of a probe begins with: a mail that a channel sends to itself to try out its way.
pub const PROBE: &str = "segue-probe.";

/// The mail behind an interaction.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Its Message-ID, without angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What it answers, as its sender says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_reply_to: Vec<String>,
    /// What came before it, the oldest first, as its sender says: the first and the last 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Whom it says it is from. More than one is never believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<MailAddress>,
    /// Who sent it for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sender: Vec<MailAddress>,
    /// Where its sender wants answers. Shown to agents; answers go to the customer's own address all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_to: Vec<MailAddress>,
    /// To whom it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<MailAddress>,
    /// Who gets it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<MailAddress>,
    /// Who gets it too and is not shown to the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<MailAddress>,
    /// When its mailbox took it, where that is known: long before it was received here after an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived_at: Option<Timestamp>,
    /// What `Auto-Submitted` says (RFC 3834).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_submitted: Option<String>,
    /// The list it came through (RFC 2919).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_id: Option<String>,
    /// How far its sender is known.
    pub level: MailLevel,
    /// The story whose reply token it carries: it answers a mail of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<MailToken>,
    /// Why no program may answer it, in words; absent if one may (RFC 3834).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_auto_answer: Option<String>,
    /// How often gateways have answered one another on the way to it, by their own count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub loops: u32,
    /// What it reports, if it is a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<MailReport>,
    /// What is unusual about its form, in fixed words: `many_parts`, `too_deep`, `encrypted`, `signed` and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A reply token of ours that a mail carried, and that was good when it came. Whoever saw a mail of ours has its token, so it
/// counts for more only if it was made for whoever now shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailToken {
    /// The story it was made for; absent in the return address of a mail of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The mail of ours that it names; absent in an address to answer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_id: Option<SendId>,
    /// Whether it was made for the address in From.
    pub of_sender: bool,
}

/// One address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailAddress {
    /// The name beside it, decoded. Anybody may write any name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Pii<String>>,
    /// The address as it was written.
    pub email: Pii<String>,
}

impl MailAddress {
    /// An address without a name.
    pub fn bare(address: Pii<String>) -> Self {
        MailAddress { name: None, email: address }
    }

    /// Whether it is the same address, whatever the case of its letters and the name beside it.
    pub fn is_same(&self, other: &MailAddress) -> bool {
        self.email.expose().eq_ignore_ascii_case(other.email.expose())
    }
}

/// How far the sender of a mail is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailLevel {
    /// Authentication failed, or it is from several: it may be anybody's.
    Failed,
    /// Nothing says who sent it.
    #[default]
    Unknown,
    /// Its domain vouches for it (DMARC, RFC 9989).
    Authenticated,
    /// The same, and it answers to a reply address that only this customer was given.
    Verified,
}

/// What a report tells of a mail that was sent (RFC 3464, RFC 5965, RFC 8098).
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailReport {
    /// How far the mail got; absent where the report is of something else, such as a complaint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// What it is: `failed`, `delayed`, `delivered`, `relayed`, `expanded`, `complaint`, `read`.
    pub kind: String,
    /// The Message-ID of the mail it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Whom that mail was for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Pii<String>>,
    /// The enhanced status code (RFC 3463), such as `5.1.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What the other server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<Pii<String>>,
}
