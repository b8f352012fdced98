//! The Lua engine: policy bundles, the sandbox, budgets, the pool of machines, the test runner and the runner for a
//! connector's `map.lua`.
//!
//! The decide stage hands an interaction to [`Bundle::decide`] and gets an [`Opinion`] or a breach; the normalize stage
//! hands a payload to [`MapScript::call`] and gets plain data. This room knows no stage and no store.
//!
//! Invariants: nothing a script does outlives its call (every call runs the policy's files afresh, globals are
//! read-only), nothing it does goes past its [`Budget`], nothing it can see differs between two runs, and no error of a
//! script is ever a panic here. A machine that went past its budget is thrown away.

mod budget;
mod bundle;
mod convert;
mod data;
mod decision;
mod declare;
mod diagnostic;
mod fault;
mod files;
mod given;
#[cfg(test)]
mod hostile;
mod lint;
mod map;
mod pool;
mod questions;
mod sandbox;
mod shape;
mod stubs;
mod suite;
#[cfg(test)]
mod tests;
mod view;
mod vm;

pub use budget::{Budget, is_over_budget};
pub use bundle::{Breach, BreachKind, Bundle, Opinion, PolicyInput, RuleInfo, Verdict};
pub use diagnostic::Diagnostic;
pub use files::{PolicyFacts, PolicyFiles};
pub use map::{Helper, MapScript};
pub use stubs::stubs;
pub use suite::{TestReport, TestResult};
