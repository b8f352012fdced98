//! Segue: a channel-connector gateway.
//!
//! Customers write, post and call on many channels. Segue turns each of those into one interaction format, attaches it
//! to one shared customer record and one story, lets the operator's Lua policy route it, and hands it, signed and in
//! order, to the help desk, whose answers leave by the customer's own channel.
//!
//! The rooms, lowest floor first; a module imports only from lower floors (`tests/it/floors.rs` holds the code to it):
//!
//! | floor | room | what lives there |
//! | --- | --- | --- |
//! | 0 | [`base`] | errors, ids, time, secrets, names of what is measured |
//! | 1 | [`model`] | interaction, customer, conversation, decision, entry, event: plain data |
//! | 2 | [`rules`], [`mail`] | pure domain logic; mail from bytes to what it says |
//! | 3 | [`config`], [`script`], [`store`], [`net`] | settings; the Lua engine; journal and state; listeners and clients |
//! | 4 | [`connector`] | manifest, verification, mapping, rendering, samples |
//! | 5 | [`flow`] | one file per stage of an interaction's way |
//! | 6 | [`api`] | REST and events |
//! | 7 | [`app`] | the only wiring |
//! | 8 | [`cli`] | arguments, output, exit codes |
//! | 9 | `fuzzing` | what is fed with bytes that nobody wrote; not in the program |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod connector;
pub mod flow;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod mail;
pub mod model;
pub mod net;
pub mod rules;
pub mod script;
pub mod store;
