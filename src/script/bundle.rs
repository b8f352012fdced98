//! A policy, checked and ready: what the decide stage asks.

use std::collections::HashSet;
use std::sync::Arc;

use super::budget::Budget;
use super::data;
use super::diagnostic::Diagnostic;
use super::files::{PolicyFacts, PolicyFiles};
use super::lint;
use super::pool::Pool;
use super::suite::{self, TestReport};
use super::vm::{Program, Vm, kind_word};
use crate::base::Timestamp;
pub use crate::model::event::BreachKind;
use crate::model::{Channel, Conversation, Customer, Interaction};
pub use crate::rules::destination::Opinion;

/// What a rule is asked about.
pub struct PolicyInput<'a> {
    /// The entry's time: the only clock that rules have.
    pub now: Timestamp,
    /// The event, such as `interaction.received`.
    pub kind: &'a str,
    /// The interaction.
    pub interaction: Arc<Interaction>,
    /// Its story, once attached.
    pub conversation: Option<Arc<Conversation>>,
    /// Its customer, once identified.
    pub customer: Option<Arc<Customer>>,
}

/// What came of asking the rules.
#[derive(Clone, PartialEq)]
pub enum Verdict {
    /// The rules ran to their end.
    Decided(Box<Opinion>),
    /// They did not: the interaction takes the documented fallback.
    Breach(Breach),
}

/// How the rules failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// What happened.
    pub what: BreachKind,
    /// The rule that was running, if one was.
    pub rule: Option<String>,
    /// The file, relative to the policy's folder.
    pub file: String,
    /// The line, from 1; 0 if it is not known.
    pub line: u32,
    /// Why, without anything that a person said.
    pub reason: String,
}

impl Breach {
    /// `file:line: reason`
    pub fn message(&self) -> String {
        format!("{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// One declared rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The line where it is declared.
    pub line: u32,
    /// The events it is for.
    pub on: Vec<String>,
    /// Whether it runs only where no other rule named a queue.
    pub fallback: bool,
    /// The channels it is for (kinds, connectors or configured names); empty means all.
    pub only: Vec<String>,
    /// The channels it is not for.
    pub except: Vec<String>,
}

impl RuleInfo {
    /// Whether the rule is for this channel.
    pub(super) fn applies(&self, channel: &Channel) -> bool {
        let kind = kind_word(channel.kind);
        let is = |word: &String| {
            *word == kind || *word == channel.connector || channel.name.as_ref().is_some_and(|name| name == word)
        };
        (self.only.is_empty() || self.only.iter().any(is)) && !self.except.iter().any(is)
    }
}

/// A checked policy. Immutable; cloning shares it, and so its machines.
#[derive(Clone)]
pub struct Bundle(Arc<Inner>);

struct Inner {
    program: Program,
    rules: Vec<RuleInfo>,
    /// The events that at least one rule is for.
    heard: HashSet<String>,
    pool: Pool<Vm>,
}

impl Bundle {
    /// Compiles the files, runs them once to learn the rules, and checks what can be checked without an interaction.
    /// Tests are not run; test files are compiled and checked too.
    ///
    /// # Errors
    ///
    /// Every mistake found, each with its place. A policy with any is not usable.
    pub fn build(files: PolicyFiles, facts: PolicyFacts, budget: Budget) -> Result<Bundle, Vec<Diagnostic>> {
        let (data, mut wrong) = data::read_all(&files, "data");
        wrong.extend(data::read_all(&files, "fixtures").1);
        wrong.extend(lint::policy(&files, &facts));
        if !facts.queues.is_empty() && !facts.queues.contains(&facts.default_queue) {
            wrong.push(Diagnostic::at(
                "policy",
                0,
                format!("the default queue `{}` does not exist", facts.default_queue),
            ));
        }
        let program = Program { files, facts: Arc::new(facts), data, budget };
        if !wrong.is_empty() {
            // Mistakes in the syntax explain others: they are told together.
            let more = Vm::load(&program, true).err().into_iter().flatten();
            let told = |found: &Diagnostic| wrong.iter().any(|w| w.file == found.file && w.reason == found.reason);
            let more: Vec<Diagnostic> = more.filter(|found| !told(found)).collect();
            wrong.extend(more);
            wrong.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            wrong.dedup_by(|a, b| a.file == b.file && a.line == b.line && a.reason == b.reason);
            return Err(wrong);
        }
        Vm::load(&program, true)?;
        let vm = Vm::load(&program, false)?;
        let rules = vm.declared.lock().rules.clone();
        let pool = Pool::new();
        pool.give(vm);
        let heard = rules.iter().flat_map(|rule| rule.on.iter().cloned()).collect();
        Ok(Bundle(Arc::new(Inner { program, rules, heard, pool })))
    }

    /// The files that it was built from.
    pub fn files(&self) -> &PolicyFiles {
        &self.0.program.files
    }

    /// The rules in the order they run.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.0.rules
    }

    /// Whether any rule is for this event: if none is, there is no need to ask.
    pub fn hears(&self, event: &str) -> bool {
        self.0.heard.contains(event)
    }

    /// Asks the rules. Takes at most about the wall budget, whatever the policy does; call it where blocking that long
    /// is allowed. May be called from any number of threads.
    pub fn decide(&self, input: &PolicyInput<'_>) -> Verdict {
        let vm = match self.0.pool.take() {
            Some(vm) => vm,
            None => match Vm::load(&self.0.program, false) {
                Ok(vm) => vm,
                Err(wrong) => {
                    let first = wrong.into_iter().next().unwrap_or_else(|| Diagnostic::at("policy", 0, "not loaded"));
                    let Diagnostic { file, line, reason, .. } = first;
                    return Verdict::Breach(Breach { what: BreachKind::Error, rule: None, file, line, reason });
                }
            },
        };
        let (verdict, reusable) = vm.decide(&self.0.program, input);
        if reusable {
            self.0.pool.give(vm);
        }
        verdict
    }

    /// Runs every `test` block whose name holds `filter`, each in a machine of its own.
    pub fn run_tests(&self, filter: Option<&str>) -> TestReport {
        suite::run(self, &self.0.program, filter)
    }
}
