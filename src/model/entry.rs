//! Journal entries: everything that can change state, as it entered.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identifier::Evidence;
use super::mail::{MailLevel, MailToken};
use super::outbound::Outbound;
use crate::base::Timestamp;
use crate::base::id::{EntryId, InteractionId, SendId};

/// What kind of thing entered. The number is what the store keeps; it is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// A provider's request, verified.
    Webhook = 1,
    /// An API command.
    Command = 2,
    /// What a caller who waited was really answered.
    Answered = 3,
    /// The outcome of a send to a customer.
    SendOutcome = 4,
    /// The outcome of fetching a file.
    Media = 5,
    /// A mail, as it was fetched from a mailbox or handed over.
    Mail = 6,
}

impl EntryKind {
    /// The kind that the store keeps under `number`.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Webhook, Self::Command, Self::Answered, Self::SendOutcome, Self::Media, Self::Mail]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// One entry as read back from the journal.
#[derive(Clone)]
pub struct Entry {
    /// Its place in the journal: rises with time, gaps allowed.
    pub position: i64,
    /// Its id.
    pub id: EntryId,
    /// What kind of thing it is.
    pub kind: EntryKind,
    /// The configured channel it came by; empty for what comes by none.
    pub channel: String,
    /// Which share of the work it belongs to, where it is to be applied; 0 where that is not known.
    pub bucket: u8,
    /// When it was received.
    pub at: Timestamp,
    /// Whether somebody waits for its effect: such entries go ahead of the backlog.
    pub interactive: bool,
    /// What entered.
    pub body: EntryBody,
}

/// What entered: a small JSON head and raw bytes.
#[derive(Clone, Default)]
pub struct EntryBody {
    /// For a webhook the [`RequestHead`], for a mail the [`MailHead`]; for anything else the command or outcome itself, as
    /// JSON.
    pub head: Bytes,
    /// For a webhook the raw body, for a mail all of it, byte for byte; else empty.
    pub raw: Bytes,
}

impl EntryBody {
    /// How many bytes it holds.
    pub fn weight(&self) -> usize {
        self.head.len() + self.raw.len()
    }
}

/// The head of a provider's request, as far as a connector may need it again.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The method.
    #[serde(rename = "m")]
    pub method: String,
    /// The full public URL with its query: what URL signatures are made over.
    #[serde(rename = "u")]
    pub url: String,
    /// The headers that the connector's manifest asks to keep, names in lower case.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// How its authenticity was checked.
    #[serde(rename = "v")]
    pub verified_by: String,
    /// What was found out about the sender of the mail in it, where it holds one.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<SenderFound>,
}

/// How far the sender of a mail is known, which was found out before the mail was journaled and cannot be found out again.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SenderFound {
    /// How far.
    #[serde(rename = "l")]
    pub level: MailLevel,
    /// Why.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The reply token that it carries.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub token: Option<MailToken>,
    /// Which reports with that token are believed.
    #[serde(rename = "b", default, skip_serializing_if = "Believed::is_all")]
    pub believed: Believed,
}

/// Which reports that show a token of ours are believed of the mail that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Believed {
    /// All: it stands in the address that bounces go to, or in a mail that is given back. Also in entries from before this
    /// was looked at.
    #[default]
    All,
    /// Those with a machine-readable part: whoever answers our mail shows its token, too, in whatever words.
    ByMachine,
    /// Receipts: the mail is so old that no server still tries to deliver it, but its recipient may read it only now.
    Receipts,
}

impl Believed {
    fn is_all(&self) -> bool {
        *self == Believed::All
    }

    /// Whether a report is believed of which this is known: whether its words alone make it one, and whether it is a
    /// receipt.
    pub fn holds(self, by_words: bool, is_receipt: bool) -> bool {
        match self {
            Believed::All => true,
            Believed::ByMachine => !by_words,
            Believed::Receipts => is_receipt,
        }
    }
}

/// The head of an [`EntryKind::Mail`] entry: how the mail came, and what was found out before it was journaled, since that
/// needs the network or a secret and cannot be found out again.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct MailHead {
    /// How it came.
    #[serde(rename = "s")]
    pub source: MailSource,
    /// In which folder it lay, where it was fetched.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Under which UIDVALIDITY and UID.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<(u32, u32)>,
    /// When its mailbox took it, if the server says so; never later than its entry.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Timestamp>,
    /// To whom it was handed over, as the envelope says.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub envelope_to: Vec<String>,
    /// By whom, as the envelope says; empty for the null sender.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub envelope_from: Option<String>,
    /// What was found out about its sender.
    #[serde(flatten)]
    pub sender: SenderFound,
    /// Why it could not be fetched; then there is no body.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl MailHead {
    /// The head of a mail of which nothing is known but its bytes.
    pub fn unchecked() -> Self {
        MailHead {
            source: MailSource::Imap,
            folder: None,
            uid: None,
            arrived: None,
            envelope_to: Vec::new(),
            envelope_from: None,
            sender: SenderFound::default(),
            failed: None,
        }
    }
}

/// How a mail came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailSource {
    /// Fetched from a mailbox.
    Imap,
    /// Handed over by a mail server.
    Lmtp,
    /// In a provider's request.
    Webhook,
}

/// What became of a send to a customer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum SendResult {
    /// The provider took it.
    Accepted {
        /// The provider's ids of what it made of it, in order.
        provider_ids: Vec<String>,
    },
    /// The provider will not take it.
    Refused {
        /// The provider's code, if it gave one.
        code: Option<String>,
        /// The provider's words, cut to 200 characters.
        title: String,
    },
    /// It may or may not have been taken; it is not tried again.
    Uncertain {
        /// What happened on the wire, in plain words.
        title: String,
        /// The ids that it has if it was taken, where we choose them ourselves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        provider_ids: Vec<String>,
    },
}

/// The head of a [`EntryKind::SendOutcome`] entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SendOutcome {
    /// Which send.
    pub send: SendId,
    /// What became of it.
    #[serde(flatten)]
    pub result: SendResult,
}

/// The head of a [`EntryKind::Media`] entry: what came of fetching files of one interaction.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenMediaOutcome")]
pub struct MediaOutcome {
    /// Whose files they are.
    pub interaction: InteractionId,
    /// Each of them: those that lie in one mail come together, others one by one.
    pub files: Vec<FileOutcome>,
}

/// What came of fetching one file.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FileOutcome {
    /// Which part it belongs to, from 0.
    pub part: usize,
    /// Its media type, as the provider told when it was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mediatype: Option<String>,
    /// The content as it now lies here, or why it does not.
    pub blob: super::part::Blob,
}

/// A [`MediaOutcome`] as journals have it: older ones tell of one file each, beside the interaction.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenMediaOutcome {
    Files {
        interaction: InteractionId,
        files: Vec<FileOutcome>,
    },
    File {
        interaction: InteractionId,
        #[serde(flatten)]
        file: Box<FileOutcome>,
    },
}

impl From<WrittenMediaOutcome> for MediaOutcome {
    fn from(written: WrittenMediaOutcome) -> MediaOutcome {
        match written {
            WrittenMediaOutcome::Files { interaction, files } => MediaOutcome { interaction, files },
            WrittenMediaOutcome::File { interaction, file } => MediaOutcome { interaction, files: vec![*file] },
        }
    }
}

/// The head of an [`EntryKind::Answered`] entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The entry that was answered.
    pub entry: EntryId,
    /// The HTTP status that was sent.
    pub status: u16,
    /// The media type that was sent.
    pub content_type: String,
    /// The body that was sent.
    pub body: String,
    /// `policy`, or `default` if the policy was late or had no opinion.
    pub source: String,
}

/// The head of a [`EntryKind::Command`] entry: what an API client or a person at the command line asks for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Answer the customer by their own channel.
    Reply {
        /// In which conversation.
        conversation: crate::base::id::ConversationId,
        /// Who answers.
        agent: Option<String>,
        /// What is sent; addressing is filled in when it is applied.
        message: ReplyMessage,
    },
    /// Write an internal note.
    Note {
        /// In which conversation.
        conversation: crate::base::id::ConversationId,
        /// Who writes.
        agent: Option<String>,
        /// The note.
        text: crate::base::Pii<String>,
    },
    /// Give the conversation an owner, or take the owner away.
    Assign {
        /// Which conversation.
        conversation: crate::base::id::ConversationId,
        /// The agent, or nobody.
        agent: Option<String>,
    },
    /// Close the story.
    Resolve {
        /// Which conversation.
        conversation: crate::base::id::ConversationId,
        /// Who closes it.
        agent: Option<String>,
        /// With what result, in the operator's words.
        disposition: Option<String>,
    },
    /// Open the story again.
    Reopen {
        /// Which conversation.
        conversation: crate::base::id::ConversationId,
        /// Who opens it.
        agent: Option<String>,
    },
    /// Apply a quarantined entry again.
    RetryQuarantined {
        /// Which entry.
        entry: EntryId,
    },
    /// Nothing more: an operation that changes no story was done. Recorded so that a repeat of the request hears the
    /// same answer.
    Done {
        /// What was answered.
        result: serde_json::Value,
    },
}

/// What an agent says to a customer, before addressing.
#[derive(Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyMessage {
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<crate::base::Pii<String>>,
    /// Media, buttons and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<super::outbound::OutboundPart>,
    /// The interaction to answer or quote; the latest of the customer's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<InteractionId>,
    /// Whether to answer in public where the interaction is public; else a private reply is sent where the channel can.
    #[serde(default)]
    pub public: bool,
}

/// A send that the state has planned: what the deliver stage claims.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedSend {
    /// The message.
    pub message: Outbound,
    /// The outbound interaction that shows it in the story.
    pub interaction: InteractionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_of_before_tell_of_one_file_each() {
        let file = r#""part":2,"mediatype":"image/png","blob":{"size":7,"fetch":"fetched"}"#;
        let interaction = InteractionId::random(crate::base::Timestamp::from_seconds(1_790_000_000));
        let before = format!(r#"{{"interaction":"{interaction}",{file}}}"#);
        let now = format!(r#"{{"interaction":"{interaction}","files":[{{{file}}}]}}"#);
        let read = |text: &str| serde_json::from_str::<MediaOutcome>(text).unwrap();
        assert_eq!(serde_json::to_string(&read(&before)).unwrap(), now);
        assert_eq!(serde_json::to_string(&read(&now)).unwrap(), now);
    }
}
