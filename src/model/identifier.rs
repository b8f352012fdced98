//! Identifiers: how a channel names a person, and how far that name is proven.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Pii, Timestamp};

/// The namespace of an identifier. Two identifiers are the same if type and canonical value are equal.
///
/// Well-known types have the names below; a connector may declare another one (`external:crm`), which is
/// then scoped to whatever its value says. Kept as a string, because connectors are folders and not code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent, inline)]
pub struct IdentifierType(pub String);

impl IdentifierType {
    /// A telephone number in E.164 with its plus sign.
    pub const TEL: &'static str = "tel";
    /// A mail address, its domain in lower case.
    pub const MAILTO: &'static str = "mailto";
}

impl From<&str> for IdentifierType {
    fn from(name: &str) -> Self {
        IdentifierType(name.to_owned())
    }
}

/// How far an identifier is proven, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Nothing is known, or a proof failed.
    #[default]
    Anonymous,
    /// Seen, without any proof.
    Observed,
    /// Said by the sender or by a network that does not prove it (SMS sender, caller id).
    Claimed,
    /// Proven by the channel: a platform's own user id under a valid signature, DMARC pass, STIR attestation A.
    Verified,
    /// Vouched for by the operator's own systems (a signed visitor).
    Asserted,
}

impl Trust {
    /// The level of this name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "anonymous" => Trust::Anonymous,
            "observed" => Trust::Observed,
            "claimed" => Trust::Claimed,
            "verified" => Trust::Verified,
            "asserted" => Trust::Asserted,
            _ => return None,
        })
    }
}

/// A typed identifier in canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// The namespace: `tel`, `mailto`, `wa_id`, `whatsapp_bsuid`, `psid` ...
    #[serde(rename = "type")]
    pub kind: IdentifierType,
    /// The canonical value: E.164 for `tel`, the platform's own id as a string elsewhere.
    pub value: Pii<String>,
    /// How far this identifier is proven by the delivery that carried it; absent where that is not the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

impl Identifier {
    /// An identifier without a statement of trust.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Identifier { kind: IdentifierType(kind.into()), value: Pii::new(value.into()), trust: None }
    }

    /// The same identifier with a statement of trust.
    #[must_use]
    pub fn trusted(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }
}

/// One reason for a level of trust.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How it was shown: `provider` (signed delivery), `dmarc`, `dkim`, `stir`, `jwt`, `otp`, `agent`.
    pub method: String,
    /// What came of it: `pass`, `fail`, an attestation level.
    pub result: String,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Pii<String>>,
    /// When it was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}
