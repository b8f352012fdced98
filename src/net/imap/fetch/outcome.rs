//! What becomes of each mail that is asked for.

use std::fmt;

/// A mail as the server stores it.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its UID.
    pub uid: u32,
    /// The size that the server announced, bytes.
    pub announced: Option<u32>,
    /// When the server took it.
    pub arrived: Option<jiff::Timestamp>,
    /// Its bytes (RFC 5322), all of them.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("uid", &self.uid).field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// What became of one UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The mail.
    Got(Mail),
    /// No mail has this UID any more.
    Gone(u32),
    /// The mail is there but does not come.
    Failed(u32, Reason),
}

impl Fetched {
    /// Whose fate it is.
    pub fn uid(&self) -> u32 {
        match self {
            Fetched::Got(mail) => mail.uid,
            Fetched::Gone(uid) | Fetched::Failed(uid, _) => *uid,
        }
    }
}

/// Why a mail does not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The server refuses it, in its own words.
    #[error("the server refuses it: {0}")]
    Refused(String),
    /// It is larger than allowed; bytes, as announced or as came.
    #[error("it has {0} bytes, which is over the limit")]
    TooLarge(u64),
    /// The server lists it but sends no content.
    #[error("the server lists it but sends no content")]
    Withheld,
    /// Connections break again and again when it is asked for.
    #[error("connections break when it is asked for")]
    Breaks,
}
