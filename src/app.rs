//! The only wiring.
