//! The mapping: from one request to outcomes, at least one for every item in it.
//!
//! `[payload] each` leads to the leaves of a payload (the changes of an entry, say). At each leaf every `[[item]]` looks
//! for its elements, and each element is given to the first of its cases that fits. A leaf at which nothing was found
//! is `otherwise`; what is not there although it must be is quarantined.

use serde_json::Value as Json;

use super::MapEngine;
use super::compile::Compiler;
use super::eval::{Env, Val};
use super::expr::Expr;
use super::make::Common;
use super::spec::{Case, OutcomeSpec};
use super::tree::{Node, Raw, Table};
use crate::base::json::Value;
use crate::model::{Interaction, Outcome};

/// The compiled mapping of a connector.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    walk: Vec<Bind>,
    otherwise: Option<Expr>,
    lists: Option<Lists>,
    items: Vec<Item>,
}

/// Where lists of items stand side by side, and which names are known there.
#[derive(Debug)]
struct Lists {
    source: Expr,
    known: Vec<String>,
}

/// One step: `name in list` visits each element, `name = path` binds what is there.
#[derive(Debug)]
struct Bind {
    slot: usize,
    source: Expr,
    iterates: bool,
    written: String,
    /// What reasons call it, where the expression says nothing to people.
    label: Option<Expr>,
}

/// One kind of thing that a payload holds.
#[derive(Debug)]
struct Item {
    each: Vec<Bind>,
    when: Option<Expr>,
    lets: Vec<(usize, Expr)>,
    cases: Vec<Case>,
}

impl Mapping {
    /// Reads `[payload]`, `[cases.*]` and `[[item]]`.
    pub(super) fn read(payload: Option<Table>, manifest: &mut Table, c: &mut Compiler<'_, '_>) -> Mapping {
        let mut mapping = Mapping::default();
        let mut lists_in = None;
        if let Some(mut payload) = payload {
            mapping.walk = Bind::read_all(&mut payload, c);
            mapping.otherwise = c.template(&mut payload, "otherwise");
            let aside = payload.texts("aside", c.notes).into_iter().map(|(name, _)| name);
            let written = payload.text("lists", c.notes);
            mapping.lists = written.and_then(|(text, at)| {
                let source = c.expr_of(&text, at)?;
                lists_in = Some(text);
                Some(Lists { source, known: aside.collect() })
            });
            payload.finish(c.notes);
        }
        let shared = manifest.table("cases", c.notes).map(|mut table| table.take_all()).unwrap_or_default();
        let scopes = c.names.scopes.len();
        for item in manifest.tables("item", c.notes) {
            mapping.items.extend(Item::read(item, &shared, c));
            c.names.scopes.truncate(scopes);
        }
        if let (Some(lists), Some(within)) = (&mut mapping.lists, lists_in) {
            let visited = mapping.items.iter().flat_map(|item| &item.each).map(|bind| bind.written.as_str());
            let names = visited.flat_map(|path| members(path, within.trim()));
            lists.known.extend(names.map(str::to_owned));
        }
        if mapping.items.is_empty() {
            c.notes.wrong(manifest.at, "a mapping needs at least one `[[item]]`");
        }
        mapping
    }

    /// Whether a case calls `map.lua`, and which functions.
    pub(super) fn functions(&self) -> Vec<&str> {
        let cases = self.items.iter().flat_map(|item| &item.cases);
        cases
            .filter_map(|case| match &case.outcome {
                OutcomeSpec::Script { function, .. } => Some(function.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Maps a payload whose scopes are in `env`.
    pub(super) fn run<'v>(
        &'v self,
        env: &mut Env<'v>,
        common: &Common<'_>,
        script: Option<&'v dyn MapEngine>,
    ) -> Vec<Outcome> {
        env.script = script;
        let mut run = Run { common, script, outcomes: Vec::new() };
        visit(&self.walk, env, &mut run, true, &mut |env, run| self.leaf(env, run));
        if run.outcomes.is_empty() {
            let reason = "nothing in the payload is known to the connector".to_owned();
            run.outcomes.push(Outcome::Quarantined { reason });
        }
        run.outcomes
    }

    fn leaf<'v>(&'v self, env: &mut Env<'v>, run: &mut Run<'_>) {
        let before = run.outcomes.len();
        for item in &self.items {
            visit(&item.each, env, run, false, &mut |env, run| item.element(env, run));
        }
        if run.outcomes.len() == before
            && let Some(reason) = self.otherwise.as_ref().and_then(|expr| expr.string(env))
        {
            run.outcomes.push(Outcome::Ignored { reason });
            return;
        }
        if let Some(lists) = &self.lists {
            run.outcomes.extend(lists.unknown(env).map(|reason| Outcome::Ignored { reason }));
        }
    }
}

impl Lists {
    /// The reasons why lists that hold something are left alone: no item visits a list of this name.
    fn unknown<'v>(&'v self, env: &Env<'v>) -> impl Iterator<Item = String> {
        let members = match self.source.eval(env) {
            Some(Val::Node(Value::Object(members))) => members.as_slice(),
            _ => &[],
        };
        members.iter().filter_map(|(name, value)| match value {
            Value::Array(items) if !items.is_empty() && !self.known.iter().any(|known| known == name) => {
                Some(format!("list `{}` ({} in it) is not known", printable(name), items.len()))
            }
            _ => None,
        })
    }
}

/// The names that an expression reads of `object`: `b` and `c` of `when(x, a.b ?? a.c[0])` for `a`.
fn members<'p>(expression: &'p str, object: &'p str) -> impl Iterator<Item = &'p str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.match_indices(object).filter_map(move |(at, _)| {
        let before = expression.get(..at)?.chars().next_back();
        let rest = expression.get(at + object.len()..)?.strip_prefix('.')?;
        let end = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
        let whole = !before.is_some_and(|c| inside(c) || c == '.');
        rest.get(..end).filter(|name| whole && !name.is_empty())
    })
}

/// A name of the provider's, as far as it looks like one: a reason is shown to people and logged.
fn printable(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.chars().take(64).map(|c| if fits(c) { c } else { '?' }).collect()
}

/// One run over one payload.
struct Run<'r> {
    common: &'r Common<'r>,
    script: Option<&'r dyn MapEngine>,
    outcomes: Vec<Outcome>,
}

/// Goes through the steps and calls `at` with every combination of what they visit.
fn visit<'v, F>(steps: &'v [Bind], env: &mut Env<'v>, run: &mut Run<'_>, must: bool, at: &mut F)
where
    F: FnMut(&mut Env<'v>, &mut Run<'_>),
{
    let Some((step, rest)) = steps.split_first() else { return at(env, run) };
    let found = step.source.eval(env);
    match (found, step.iterates) {
        (None, _) if must => {
            run.outcomes.push(Outcome::Quarantined { reason: format!("payload has no `{}`", step.called(env)) });
        }
        (None, _) => {}
        (Some(value), false) => {
            env.set(step.slot, Some(value));
            visit(rest, env, run, must, at);
        }
        (Some(Val::Node(Value::Array(items))), true) => {
            if items.is_empty() && must {
                run.outcomes.push(Outcome::Ignored { reason: format!("`{}` is empty", step.called(env)) });
            }
            for item in items {
                env.set(step.slot, Some(Val::Node(item)));
                visit(rest, env, run, must, at);
            }
        }
        (Some(value), true) => match value.elements() {
            Some(items) => {
                for item in items {
                    env.set(step.slot, Some(item));
                    visit(rest, env, run, must, at);
                }
            }
            None => {
                run.outcomes.push(Outcome::Quarantined { reason: format!("`{}` is not a list", step.called(env)) });
            }
        },
    }
}

impl Bind {
    /// Reads the steps under `each`: texts, or tables of `step` and `label`.
    fn read_all(table: &mut Table, c: &mut Compiler<'_, '_>) -> Vec<Bind> {
        let steps = table.nodes("each");
        steps.into_iter().filter_map(|step| Bind::read_one(step, c)).collect()
    }

    fn read_one(step: Node, c: &mut Compiler<'_, '_>) -> Option<Bind> {
        if let Raw::Text(text) = &step.value {
            return Bind::read(text, step.at, c);
        }
        let mut table = Table::of(step, "a step that is no string", c.notes)?;
        let written = table.need("step", c.notes);
        let label = c.template(&mut table, "label");
        table.finish(c.notes);
        let (text, at) = written?;
        Some(Bind { label, ..Bind::read(&text, at, c)? })
    }

    /// What a reason calls this step.
    fn called(&self, env: &Env<'_>) -> String {
        self.label.as_ref().and_then(|label| label.string(env)).unwrap_or_else(|| self.written.clone())
    }

    fn read(text: &str, at: usize, c: &mut Compiler<'_, '_>) -> Option<Bind> {
        // The first of the two counts: the expression after it may have an `in` of its own.
        let (list, path) = (text.split_once(" in "), text.split_once(" = "));
        let list = list.filter(|(name, _)| path.is_none_or(|(other, _)| name.len() < other.len()));
        let (name, source, iterates, offset) = match (list, path) {
            (Some((name, source)), _) => (name, source, true, name.len() + 4),
            (None, Some((name, source))) => (name, source, false, name.len() + 3),
            _ => {
                c.notes.wrong(at, "a step is written `NAME in LIST` or `NAME = PATH`");
                return None;
            }
        };
        let compiled = c.expr_of(source, at + offset)?;
        let slot = c.names.add(name.trim());
        Some(Bind { slot, source: compiled, iterates, written: source.trim().to_owned(), label: None })
    }
}

/// Reads `let`: names for values, each known to what follows it. The slots are the caller's to give back.
pub(super) fn read_lets(table: &mut Table, c: &mut Compiler<'_, '_>) -> Vec<(usize, Expr)> {
    let lets = table.texts("let", c.notes);
    lets.into_iter()
        .filter_map(|(text, at)| match text.split_once(" = ") {
            Some((name, source)) => {
                let expr = c.expr_of(source, at + name.len() + 3)?;
                Some((c.names.add(name.trim()), expr))
            }
            None => {
                c.notes.wrong(at, "`let` is written `NAME = EXPRESSION`");
                None
            }
        })
        .collect()
}

impl Item {
    fn read(mut table: Table, shared: &[(String, usize, Node)], c: &mut Compiler<'_, '_>) -> Option<Item> {
        let each = Bind::read_all(&mut table, c);
        let lets = read_lets(&mut table, c);
        let when = c.expr(&mut table, "when");
        let base = table.take("base");
        let mut nodes = table.nodes("case");
        for (name, at) in table.texts("use", c.notes) {
            match shared.iter().find(|(known, _, _)| *known == name) {
                Some((_, _, Node { value: Raw::List(cases), .. })) => nodes.extend(cases.iter().cloned()),
                _ => {
                    let known = shared.iter().map(|(known, _, _)| known.as_str());
                    c.notes.wrong_name(at, format!("there are no `[[cases.{name}]]`"), &name, known);
                }
            }
        }
        let at = table.at;
        table.finish(c.notes);
        let cases: Vec<Case> = nodes
            .into_iter()
            .filter_map(|node| {
                let node = match &base {
                    Some(base) if takes_base(&node) => base.overlaid(&node),
                    _ => node,
                };
                Case::read(node, c)
            })
            .collect();
        if cases.last().is_none_or(|case| case.when.is_some()) {
            // Without this an element of a kind unknown today would vanish.
            c.notes
                .wrong(at, "the last case of an `[[item]]` must have no `when`, so that every element has an outcome");
        }
        Some(Item { each, when, lets, cases })
    }

    fn element<'v>(&'v self, env: &mut Env<'v>, run: &mut Run<'_>) {
        if self.when.as_ref().is_some_and(|when| !when.holds(env)) {
            return;
        }
        for (slot, expr) in &self.lets {
            let value = expr.eval(env);
            env.set(*slot, value);
        }
        let case = self.cases.iter().find(|case| case.when.as_ref().is_none_or(|when| when.holds(env)));
        let Some(case) = case else { return };
        let outcome = match &case.outcome {
            OutcomeSpec::Interaction(spec) => match spec.make(env, run.common) {
                Ok(normalized) => Outcome::Interaction(Box::new(normalized)),
                Err(reason) => Outcome::Quarantined { reason },
            },
            OutcomeSpec::Receipt(spec) => match spec.make(env, run.common) {
                Ok(receipt) => Outcome::Receipt { receipt: Box::new(receipt) },
                Err(reason) => Outcome::Quarantined { reason },
            },
            OutcomeSpec::Ignored(reason) => Outcome::Ignored { reason: said(reason, env) },
            OutcomeSpec::Quarantined(reason) => Outcome::Quarantined { reason: said(reason, env) },
            OutcomeSpec::Script { function, arguments } => {
                return run.outcomes.extend(call_script(run, function, arguments, env));
            }
        };
        run.outcomes.push(outcome);
    }
}

/// The fields of `[item.base]` are those of interactions, unless the base itself says what it makes.
fn takes_base(case: &Node) -> bool {
    match &case.value {
        Raw::Table(members) => match members.iter().find(|(name, _, _)| name == "outcome") {
            None => true,
            Some((_, _, outcome)) => outcome.value == Raw::Text("interaction".to_owned()),
        },
        _ => false,
    }
}

fn said(reason: &Expr, env: &Env<'_>) -> String {
    reason.string(env).unwrap_or_else(|| "of no concern here".to_owned())
}

/// Calls `map.lua` and reads the list of outcomes that it gives; what it leaves out of an interaction is filled in.
fn call_script(run: &Run<'_>, function: &str, arguments: &[Expr], env: &Env<'_>) -> Vec<Outcome> {
    fn values<'v>(arguments: &'v [Expr], env: &Env<'v>) -> Vec<Val<'v>> {
        arguments.iter().map(|expr| expr.eval(env).unwrap_or(Val::Made(Value::Null))).collect()
    }
    let quarantined = |reason: String| vec![Outcome::Quarantined { reason }];
    let Some(script) = run.script else { return quarantined("the connector has no map.lua".to_owned()) };
    let values = values(arguments, env);
    let values: Vec<Value<'_>> = values.into_iter().map(Val::into_value).collect();
    let extra = serde_json::json!({
        "connector": run.common.connector,
        "account": run.common.address,
        "received_at": run.common.received_at,
    });
    let given = match script.call(function, &values.iter().collect::<Vec<_>>(), &extra) {
        Ok(Json::Array(items)) if !items.is_empty() => items,
        Ok(single @ Json::Object(_)) => vec![single],
        Ok(_) => return quarantined(format!("map.lua: `{function}` gave no outcome")),
        Err(error) => return quarantined(format!("map.lua: `{function}`: {error}")),
    };
    given.into_iter().map(|item| complete(item, function, run.common)).collect()
}

/// Reads one outcome of a script.
fn complete(mut item: Json, function: &str, common: &Common<'_>) -> Outcome {
    if let Some(interaction) = item.get_mut("interaction") {
        let mut whole = Interaction::blank(common.channel, common.connector, common.address);
        whole.received_at = Some(common.received_at);
        if let Ok(mut base) = serde_json::to_value(&whole) {
            overlay(&mut base, interaction.take());
            *interaction = base;
        }
    }
    match serde_json::from_value(item) {
        Ok(outcome) => outcome,
        // The reader's own message could quote what a person said; its place is enough to mend the script.
        Err(error) => Outcome::Quarantined {
            reason: format!("map.lua: `{function}` gave an outcome of the wrong shape ({:?} error)", error.classify()),
        },
    }
}

fn overlay(base: &mut Json, over: Json) {
    match (base, over) {
        (Json::Object(base), Json::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Json::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
