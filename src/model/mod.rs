//! Floor 1: plain data. What the rooms above hand to each other and what the world outside is promised.
//!
//! Shapes and names follow `docs/reference/formats.md`; the JSON Schemas that `segue schema` prints are made from these
//! types. Nothing here does I/O or knows how it is stored.

pub mod call;
pub mod conversation;
pub mod customer;
pub mod decision;
pub mod delivery;
pub mod entry;
pub mod event;
pub mod identifier;
pub mod interaction;
pub mod mail;
pub mod outbound;
pub mod outcome;
pub mod part;

pub use call::{Call, CallLeg, Recording};
pub use conversation::{Conversation, ConversationState, Link, LinkKind};
pub use customer::{Customer, CustomerIdentifier, OpenIssue, Recent, RecentJson};
pub use decision::Decision;
pub use delivery::{Delivery, DeliveryError, DeliveryState};
pub use entry::{Entry, EntryBody, EntryKind};
pub use event::{Event, EventData, EventType};
pub use identifier::{Evidence, Identifier, IdentifierType, Trust};
pub use interaction::{Author, Channel, ChannelKind, Direction, Flag, Interaction, InteractionKind, Role, Visibility};
pub use mail::{Mail, MailAddress, MailLevel, MailReport, MailToken};
pub use outbound::{Outbound, OutboundMail, OutboundPart};
pub use outcome::{ItemKey, Normalized, Outcome, Receipt};
pub use part::{Blob, Part, PartType};
