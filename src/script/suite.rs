//! Runs a policy's own tests: every `test` block in a machine of its own, its decisions by the real rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::bundle::{Bundle, Opinion, PolicyInput, Verdict};
use super::convert::{Bounds, from_lua, to_lua};
use super::data;
use super::fault::{Failure, raise, read};
use super::given::given;
use super::vm::{Program, TestInfo, Vm};

/// What came of a policy's tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TestReport {
    /// Every test that ran.
    pub results: Vec<TestResult>,
    /// The rules that had an opinion in at least one test, each `file:rule`.
    pub covered: Vec<String>,
    /// The rules that never had one.
    pub uncovered: Vec<String>,
}

impl TestReport {
    /// Whether every test passed.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|result| result.failure.is_none())
    }
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The line where it is declared.
    pub line: u32,
    /// `file:line: what was expected and what came`, if it failed.
    pub failure: Option<String>,
}

/// Runs the tests whose name holds `filter`.
pub(super) fn run(bundle: &Bundle, program: &Program, filter: Option<&str>) -> TestReport {
    let mut report = TestReport::default();
    let covered = Arc::new(Mutex::new(BTreeSet::new()));
    let tests = match Vm::load(program, true) {
        Ok(vm) => vm.declared.lock().tests.clone(),
        Err(wrong) => {
            // The bundle was built from the same files, so this is memory or time: told as a failed test.
            let failure = wrong.first().map(ToString::to_string);
            report.results.push(TestResult { name: "load".to_owned(), file: "policy".to_owned(), line: 0, failure });
            return report;
        }
    };
    for (index, test) in tests.iter().enumerate() {
        if filter.is_some_and(|filter| !test.name.contains(filter)) {
            continue;
        }
        let failure = one(bundle, program, test, index + 1, &covered).err();
        let TestInfo { name, file, line } = test.clone();
        report.results.push(TestResult { name, file, line, failure });
    }
    let covered = covered.lock();
    for rule in bundle.rules() {
        let name = format!("{}:{}", rule.file, rule.name);
        if covered.contains(&name) { report.covered.push(name) } else { report.uncovered.push(name) }
    }
    report
}

fn one(
    bundle: &Bundle,
    program: &Program,
    test: &TestInfo,
    index: usize,
    covered: &Arc<Mutex<BTreeSet<String>>>,
) -> Result<(), String> {
    let vm = Vm::load(program, true).map_err(|wrong| wrong.first().map(ToString::to_string).unwrap_or_default())?;
    let place = format!("{}:{}", test.file, test.line);
    let t = tools(&vm.sandbox.lua, bundle, program, covered).map_err(|e| format!("{place}: {e}"))?;
    let (result, over) = vm.run_test(&program.budget, index, t);
    match (over, result) {
        (Some(over), _) => Err(format!("{place}: the test {over}")),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(match read(&error) {
            Failure::Over(over) => format!("{place}: the test {over}"),
            Failure::Fault(fault) if fault.file.is_empty() => format!("{place}: {}", fault.reason),
            Failure::Fault(fault) => fault.to_string(),
        }),
    }
}

/// The methods of `t`.
fn tools(lua: &Lua, bundle: &Bundle, program: &Program, covered: &Arc<Mutex<BTreeSet<String>>>) -> mlua::Result<Table> {
    let t = lua.create_table()?;
    let (bundle, covered) = (bundle.clone(), covered.clone());
    t.raw_set(
        "given",
        lua.create_function(move |lua, (_, partial): (Value, Value)| {
            let partial = from_lua(&partial, Bounds::LARGE).map_err(|reason| raise(lua, reason))?;
            let given = given(partial).map_err(|reason| raise(lua, reason))?;
            let verdict = bundle.decide(&PolicyInput {
                now: given.now,
                kind: &given.kind,
                interaction: given.interaction,
                conversation: given.conversation,
                customer: given.customer,
            });
            match verdict {
                Verdict::Decided(opinion) => {
                    covered.lock().extend(opinion.rules.iter().cloned());
                    to_lua(lua, &result(&opinion), true)
                }
                Verdict::Breach(breach) => {
                    let message = breach.message();
                    let rule = breach.rule.map(|rule| format!("rule \"{rule}\" failed: ")).unwrap_or_default();
                    Err(raise(lua, format!("{rule}{message}")))
                }
            }
        })?,
    )?;
    let (fixtures, _) = data::read_all(&program.files, "fixtures");
    t.raw_set(
        "fixture",
        lua.create_function(move |lua, (_, name): (Value, String)| {
            match fixtures.iter().find(|(known, _)| *known == name) {
                Some((_, content)) => content.to_lua(lua),
                None => Err(raise(lua, format!("there is no fixture `{name}` (fixtures/{name}.json)"))),
            }
        })?,
    )?;
    t.raw_set(
        "equal",
        lua.create_function(|lua, (_, found, expected): (Value, Value, Value)| {
            let (found, expected) = (plain(&found), plain(&expected));
            if found == expected {
                return Ok(());
            }
            Err(raise(lua, format!("expected {}, got {}", shown(&expected), shown(&found))))
        })?,
    )?;
    t.raw_set(
        "ok",
        lua.create_function(|lua, args: MultiValue| match args.get(1) {
            None | Some(Value::Nil | Value::Boolean(false)) => Err(raise(lua, "expected something true")),
            Some(_) => Ok(()),
        })?,
    )?;
    t.raw_set(
        "contains",
        lua.create_function(|lua, (_, list, value): (Value, Value, Value)| {
            let (list, value) = (plain(&list), plain(&value));
            let holds = match &list {
                Json::Array(items) => items.contains(&value),
                Json::String(text) => value.as_str().is_some_and(|part| text.contains(part)),
                _ => false,
            };
            if holds { Ok(()) } else { Err(raise(lua, format!("expected {} to hold {}", shown(&list), shown(&value)))) }
        })?,
    )?;
    let meta = lua.create_table()?;
    meta.raw_set(
        "__index",
        lua.create_function(|lua, (_, name): (Value, Value)| -> mlua::Result<()> {
            let name = name.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
            let known = ["given", "equal", "ok", "contains", "fixture"];
            let hint = super::diagnostic::hint(super::diagnostic::nearest(&name, known));
            Err(raise(lua, format!("a test has no `{name}`{hint}")))
        })?,
    )?;
    t.set_metatable(Some(meta))?;
    t.set_readonly(true);
    Ok(t)
}

/// A value for comparing: an empty table is an empty list, whatever it was meant to be.
fn plain(value: &Value) -> Json {
    match from_lua(value, Bounds::LARGE) {
        Ok(Json::Object(members)) if members.is_empty() => json!([]),
        Ok(value) => value,
        Err(reason) => json!(format!("<{reason}>")),
    }
}

fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nil".to_owned(),
        value => value.to_string().chars().take(400).collect(),
    }
}

/// A decision as a test reads it.
fn result(opinion: &Opinion) -> Json {
    let vars = |vars: &std::collections::BTreeMap<String, crate::base::Pii<String>>| json!(vars);
    json!({
        "queue": opinion.queue,
        "priority": opinion.priority,
        "tags": opinion.tags,
        "needs": opinion.needs,
        "replies": opinion.replies.iter().map(|reply| json!({
            "template": reply.template, "vars": vars(&reply.vars), "once_per": reply.once_per_seconds,
        })).collect::<Vec<_>>(),
        "notify": opinion.notify,
        "because": opinion.because,
        "rules": opinion.rules,
        "answer": opinion.answer.as_ref().map(|answer| json!({ "name": answer.name, "vars": vars(&answer.vars) })),
    })
}
