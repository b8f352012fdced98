//! A machine with a policy loaded, and the pool that keeps machines for the next call.

use std::collections::HashMap;
use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, Table, Value};
use parking_lot::Mutex;

use super::budget::{Budget, Over};
use super::bundle::{Breach, BreachKind, Opinion, PolicyInput, RuleInfo, Verdict};
use super::convert::to_lua;
use super::data::Data;
use super::diagnostic::{Diagnostic, hint, nearest};
use super::fault::{Failure, here, raise, read, redact};
use super::files::{PolicyFacts, PolicyFiles};
use super::sandbox::{Sandbox, load_host};
use super::view::{Facts, Shared};
use super::{decision, declare, view};
use crate::model::ChannelKind;

/// The events that a rule may be for.
pub(super) const EVENTS: &[&str] = &[
    "interaction.received",
    "interaction.sent",
    "interaction.updated",
    "conversation.opened",
    "conversation.reopened",
    "conversation.resolved",
    "delivery.failed",
];
/// Events that a later version asks rules about: naming one is an error, never silence.
const LATER_EVENTS: &[&str] = &[
    "queue.waited",
    "offer.declined",
    "agent.freed",
    "sla.warning",
    "sla.breached",
    "expectation.missed",
    "identity.conflict",
    "channel.stalled",
    "schedule",
];

/// What is wrong with an event's name, if anything.
pub(super) fn check_event(name: &str) -> Option<String> {
    if EVENTS.contains(&name) {
        return None;
    }
    if LATER_EVENTS.contains(&name) {
        return Some(format!("event `{name}` is not available in this version"));
    }
    let shown: String = name.chars().take(100).collect();
    Some(format!("no rule is asked about event `{shown}`{}", hint(nearest(name, EVENTS.iter().copied()))))
}

/// What every machine of a bundle is made from.
pub(super) struct Program {
    pub files: PolicyFiles,
    pub facts: Arc<PolicyFacts>,
    pub data: Vec<(String, Data)>,
    pub budget: Budget,
}

/// What the files declare when they run.
#[derive(Default)]
pub(super) struct Declared {
    pub rules: Vec<RuleInfo>,
    pub tests: Vec<TestInfo>,
}

/// One `test` block.
#[derive(Clone)]
pub(super) struct TestInfo {
    pub name: String,
    pub file: String,
    pub line: u32,
}

/// A machine that has run the policy's files once.
pub(super) struct Vm {
    pub sandbox: Sandbox,
    pub declared: Arc<Mutex<Declared>>,
    decide: Function,
    run_test: Function,
    shared: Shared,
    state: Table,
    plans: HashMap<String, (Table, Table)>,
    none: Table,
    e: AnyUserData,
    d: AnyUserData,
}

impl Vm {
    /// Loads the policy, and its test files too if `with_tests`, and runs all files once.
    ///
    /// # Errors
    ///
    /// Every file that does not compile, or else the first thing that fails as the files run.
    pub(super) fn load(program: &Program, with_tests: bool) -> Result<Vm, Vec<Diagnostic>> {
        let whole = |error: mlua::Error| vec![diagnose(&error, "policy")];
        let mut sandbox = Sandbox::open().map_err(whole)?;
        let lua = sandbox.lua.clone();
        let shared = Shared::default();
        let declared = Arc::new(Mutex::new(Declared::default()));
        let state = lua.create_table().map_err(whole)?;
        let host = host_table(&lua, program, &shared, &state, &declared).map_err(whole)?;
        let d = decision::decision(&lua, &shared, &state, &program.facts).map_err(whole)?;
        let e = view::event(&lua, &shared).map_err(whole)?;
        let chunks = lua.create_table().map_err(whole)?;
        host.raw_set("chunks", &chunks).map_err(whole)?;
        let driver: Table =
            load_host(&lua, include_str!("lua/driver.luau")).and_then(|f| f.call(host)).map_err(whole)?;
        sandbox.close().map_err(whole)?;

        // Test files run after the rule files: they must not change the numbers of the rules.
        let mut wrong = Vec::new();
        let tests = program.files.tests().filter(|_| with_tests);
        for (name, source) in program.files.rules().chain(tests) {
            match sandbox.compile(name, source) {
                Ok(chunk) => chunks.raw_push(chunk).map_err(whole)?,
                Err(error) => wrong.push(diagnose(&error, name)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let declare: Function = driver.get("declare").map_err(whole)?;
        let (result, over) = sandbox.metered(&program.budget.for_build(), || declare.call::<Value>(()));
        match (result, over) {
            (_, Some(over)) => return Err(vec![Diagnostic::at("policy", 0, format!("loading the policy {over}"))]),
            (Err(error), None) => return Err(vec![diagnose(&error, "policy")]),
            (Ok(_), None) => {}
        }
        sandbox.settle().map_err(whole)?;
        let decide = driver.get("decide").map_err(whole)?;
        let run_test = driver.get("test").map_err(whole)?;
        let none = lua.create_table().map_err(whole)?;
        let mut vm = Vm { sandbox, declared, decide, run_test, shared, state, plans: HashMap::new(), none, e, d };
        vm.plan().map_err(whole)?;
        Ok(vm)
    }

    /// Lists for every event the rules that are for it, in order: their numbers, negative where a channel filter is to be
    /// asked first.
    fn plan(&mut self) -> mlua::Result<()> {
        let declared = self.declared.lock();
        for event in EVENTS {
            let (first, fallback) = (self.sandbox.lua.create_table()?, self.sandbox.lua.create_table()?);
            for (index, rule) in
                declared.rules.iter().enumerate().filter(|(_, rule)| rule.on.iter().any(|on| on == event))
            {
                let number = i64::try_from(index + 1).unwrap_or(i64::MAX);
                let filtered = !rule.only.is_empty() || !rule.except.is_empty();
                let list = if rule.fallback { &fallback } else { &first };
                list.raw_push(if filtered { -number } else { number })?;
            }
            self.plans.insert((*event).to_owned(), (first, fallback));
        }
        Ok(())
    }

    /// Runs the rules for `input`. The second value says whether the machine may be used again.
    pub(super) fn decide(&self, program: &Program, input: &PolicyInput<'_>) -> (Verdict, bool) {
        {
            let mut call = self.shared.lock();
            call.writer = decision::Writer::default();
            call.facts = Some(Facts {
                now: input.now,
                kind: input.kind.to_owned(),
                interaction: input.interaction.clone(),
                conversation: input.conversation.clone(),
                customer: input.customer.clone(),
                lowered: None,
            });
        }
        let (first, fallback) = self.plans.get(input.kind).map_or((&self.none, &self.none), |(a, b)| (a, b));
        let arguments = (first, fallback, &self.e, &self.d);
        let (result, over) = self.sandbox.metered(&program.budget, || self.decide.call::<()>(arguments));
        let writer = {
            let mut call = self.shared.lock();
            call.facts = None;
            std::mem::take(&mut call.writer)
        };
        let failure = match (over, result) {
            (Some(over), _) => Some(Failure::Over(over)),
            (None, Err(error)) => Some(read(&error)),
            (None, Ok(())) => None,
        };
        match failure {
            None => (Verdict::Decided(Box::new(self.opinion(writer))), !self.sandbox.bloated(&program.budget)),
            Some(failure) => {
                let reusable = matches!(failure, Failure::Fault(_)) && !self.sandbox.bloated(&program.budget);
                (self.breach(program, failure), reusable)
            }
        }
    }

    fn opinion(&self, writer: decision::Writer) -> Opinion {
        let declared = self.declared.lock();
        let mut opinion = writer.opinion;
        opinion.priority = match (writer.priority, writer.added) {
            (None, None) => None,
            (base, added) => Some(base.unwrap_or(50).saturating_add(added.unwrap_or(0)).clamp(0, 100)),
        };
        opinion.rules = writer
            .rules
            .iter()
            .filter_map(|number| declared.rules.get(number.checked_sub(1)?))
            .map(|rule| format!("{}:{}", rule.file, rule.name))
            .collect();
        opinion
    }

    fn breach(&self, program: &Program, failure: Failure) -> Verdict {
        let number = self.state.raw_get::<i64>(1).unwrap_or(0);
        let declared = self.declared.lock();
        let rule = usize::try_from(number).ok().and_then(|number| declared.rules.get(number.checked_sub(1)?));
        let name = rule.map(|rule| rule.name.clone());
        match failure {
            Failure::Over(over) => {
                let what = match over {
                    Over::Time => BreachKind::Time,
                    Over::Work => BreachKind::Work,
                    Over::Memory => BreachKind::Memory,
                };
                let (file, line) = declared_at(rule);
                Verdict::Breach(Breach { what, rule: name, file, line, reason: over.to_string() })
            }
            Failure::Fault(fault) => {
                let known = |text: &str| program.files.mentions(text);
                let raised = self.sandbox.raised.load(std::sync::atomic::Ordering::Relaxed);
                let reason = match (fault.ours, raised) {
                    (true, _) => redact_ours(&fault.reason, known),
                    (false, true) if known(&fault.reason) => fault.reason,
                    (false, true) => "the rule raised an error of its own (its words may be a customer's)".to_owned(),
                    (false, false) => redact(&fault.reason, '\'', known),
                };
                let (file, line) = match fault.file.is_empty() {
                    true => declared_at(rule),
                    false => (fault.file, fault.line),
                };
                Verdict::Breach(Breach { what: BreachKind::Error, rule: name, file, line, reason })
            }
        }
    }

    /// Runs the `index`-th test (from 1) with `t`.
    pub(super) fn run_test(&self, budget: &Budget, index: usize, t: Table) -> (mlua::Result<()>, Option<Over>) {
        self.sandbox.metered(&budget.for_build(), || self.run_test.call::<()>((index, t)))
    }
}

/// Where a rule stands; the policy as a whole if none was running.
fn declared_at(rule: Option<&RuleInfo>) -> (String, u32) {
    rule.map_or_else(|| ("policy".to_owned(), 0), |rule| (rule.file.clone(), rule.line))
}

/// Our own wording quotes names in backticks. A name that the policy's files do not hold was built from data, so it is
/// not shown; what we suggest comes from the configuration and is.
fn redact_ours(reason: &str, known: impl Fn(&str) -> bool) -> String {
    let (said, suggested) = reason.split_at(reason.find("; did you mean").unwrap_or(reason.len()));
    redact(said, '`', |piece| is_authors(piece, &known)) + suggested
}

/// Whether a quoted name is the author's: it stands in the files, with what we put around it (`d:x`, `x(...)`) or without.
fn is_authors(piece: &str, known: impl Fn(&str) -> bool) -> bool {
    const USAGE: &[&str] = &["(...)", "{...}", "(level)", "(type, trust)", "{within=}"];
    let call = USAGE.iter().find_map(|usage| piece.strip_suffix(usage)).unwrap_or(piece);
    let name = call.rsplit([':', '.']).next().unwrap_or(call);
    let prefix = call.strip_suffix(name).unwrap_or_default();
    known(piece) || (known(name) && ["", "e.", "d:", "e.ix:", "e.ix.author:", "e.customer:"].contains(&prefix))
}

/// A diagnostic from what Lua raised while a policy was built.
pub(super) fn diagnose(error: &mlua::Error, file: &str) -> Diagnostic {
    match read(error) {
        Failure::Over(over) => Diagnostic::at(file, 0, over.to_string()),
        Failure::Fault(fault) => {
            let (reason, suggestion) = match fault.reason.split_once("; did you mean `") {
                Some((reason, name)) => (reason.to_owned(), Some(name.trim_end_matches("`?").to_owned())),
                None => (fault.reason.clone(), None),
            };
            let reason = if reason == "attempt to modify a readonly table" {
                "globals and libraries are read-only: write `local` before a name of your own".to_owned()
            } else {
                reason
            };
            let place = if fault.file.is_empty() { file } else { &fault.file };
            Diagnostic::at(place, fault.line, reason).suggest(suggestion)
        }
    }
}

fn host_table(
    lua: &Lua,
    program: &Program,
    shared: &Shared,
    state: &Table,
    declared: &Arc<Mutex<Declared>>,
) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.raw_set("state", state)?;
    let params = lua.create_table()?;
    for (name, value) in &program.facts.params {
        params.raw_set(name.as_str(), to_lua(lua, value, true)?)?;
    }
    host.raw_set("params", params)?;
    let data = lua.create_table()?;
    for (name, value) in &program.data {
        data.raw_set(name.as_str(), value.to_lua(lua)?)?;
    }
    host.raw_set("data", data)?;
    let names: Vec<String> = program.data.iter().map(|(name, _)| name.clone()).collect();
    host.raw_set(
        "unknown_table",
        lua.create_function(move |lua, name: Value| -> mlua::Result<()> {
            let name = name.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
            let hint = hint(nearest(&name, names.iter().map(String::as_str)));
            Err(raise(lua, format!("there is no data file `{name}` in data/ (.csv, .json or .toml){hint}")))
        })?,
    )?;
    let sink = declared.clone();
    host.raw_set(
        "declare",
        lua.create_function(move |lua, (name, options, body): (Value, Value, Value)| {
            let rule = declare::rule(lua, name, options, body)?;
            if rule.file.starts_with("tests/") {
                return Err(raise(lua, "a test file declares tests and no rules"));
            }
            let mut declared = sink.lock();
            if declared.rules.iter().any(|known| known.file == rule.file && known.name == rule.name) {
                return Err(raise(lua, format!("rule `{}` is declared twice in this file", rule.name)));
            }
            declared.rules.push(rule);
            Ok(())
        })?,
    )?;
    let sink = declared.clone();
    host.raw_set(
        "declare_test",
        lua.create_function(move |lua, (name, body): (Value, Value)| {
            let (Value::String(name), Value::Function(_)) = (&name, &body) else {
                return Err(raise(lua, "a test is declared as `test(name, function(t) ... end)`"));
            };
            let (file, line) = here(lua);
            sink.lock().tests.push(TestInfo { name: name.to_string_lossy(), file, line });
            Ok(())
        })?,
    )?;
    host.raw_set("declare_policy", lua.create_function(declare::policy)?)?;
    host.raw_set(
        "declare_param",
        lua.create_function(|lua, (name, default): (Value, Value)| match (name, default) {
            (Value::String(_), Value::Nil) => Err(raise(lua, "a parameter needs a default: `param(name, default)`")),
            (Value::String(_), _) => Ok(()),
            _ => Err(raise(lua, "a parameter is read as `param(name, default)`")),
        })?,
    )?;
    let (call, sink) = (shared.clone(), declared.clone());
    host.raw_set(
        "applies",
        lua.create_function(move |_, number: usize| {
            let declared = sink.lock();
            let call = call.lock();
            let rule = number.checked_sub(1).and_then(|index| declared.rules.get(index));
            Ok(rule.zip(call.facts.as_ref()).is_some_and(|(rule, facts)| rule.applies(&facts.interaction.channel)))
        })?,
    )?;
    Ok(host)
}

/// A channel kind's published word.
pub(super) fn kind_word(kind: ChannelKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_machine_leaves_nothing_behind() {
        let files = [("a.lua".to_owned(), b"rule('r', function(e, d) d:tag(e.ix.channel.kind) end)".to_vec())];
        let facts = Arc::new(PolicyFacts::default());
        let program =
            Program { files: PolicyFiles::from_memory(files), facts, data: Vec::new(), budget: Budget::default() };
        let vm = Vm::load(&program, false).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
        let ix = crate::model::Interaction::blank(ChannelKind::Chat, "c", "a");
        let input = PolicyInput {
            now: crate::base::Timestamp::default(),
            kind: "interaction.received",
            interaction: Arc::new(ix),
            conversation: None,
            customer: None,
        };
        assert!(matches!(vm.decide(&program, &input).0, Verdict::Decided(_)));
        let shared = Arc::downgrade(&vm.shared);
        let meter = Arc::downgrade(&vm.sandbox.meter);
        drop(vm);
        assert!(shared.upgrade().is_none() && meter.upgrade().is_none());
        assert_eq!(Arc::strong_count(&input.interaction), 1);
    }
}
