//! The only wiring.

pub mod setup;
