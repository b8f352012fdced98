//! The suite of the store; see `crate::store`.
