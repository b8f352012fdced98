//! How values are written in the tables of both backends.

use crate::model::ConversationState;

/// The engine that applied: part of the applied record, so that replay knows whether equality can be demanded.
pub(super) const ENGINE: &str = concat!("segue ", env!("CARGO_PKG_VERSION"));

/// The tables that are counted for people and for tests.
pub(super) const TABLES: [&str; 20] = [
    "entry",
    "pending",
    "applied",
    "customer",
    "identifier",
    "conversation",
    "thread",
    "interaction",
    "message",
    "event",
    "due",
    "dead",
    "send",
    "media",
    "quarantine",
    "side",
    "token",
    "blob",
    "blob_use",
    "loose",
];

/// The number of a conversation's state.
pub(super) fn state_number(state: ConversationState) -> i64 {
    match state {
        ConversationState::Open => 0,
        ConversationState::Resolved => 1,
    }
}

/// The state of a conversation by its number.
pub(super) fn state_of(number: i64) -> ConversationState {
    if number == 0 { ConversationState::Open } else { ConversationState::Resolved }
}

/// The word for a send's state.
pub(super) fn send_state(number: i64) -> String {
    let word = match number {
        0 => "planned",
        1 => "intended",
        _ => "done",
    };
    word.to_owned()
}

/// Bytes of the store as text: what we wrote was text, and damage must not end a read.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How long after content was stored the entry that tells of it is appended at the latest, in milliseconds.
pub(super) const TELLS_WITHIN: i64 = 3_600_000;
