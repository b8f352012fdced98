//! Evaluating expressions against a payload, without copying what can be borrowed.
//!
//! Absent, `null` and the empty string are the same to an expression, since providers use all three for "nothing";
//! `exists()` tells them apart. Nothing here can fail: what does not fit is absent.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::MapEngine;
use super::convert;
use super::expr::{Expr, Function, Piece, Step};
use crate::base::Timestamp;
use crate::base::json::Value;

/// The value of an expression.
#[derive(Clone)]
pub(super) enum Val<'v> {
    /// A value within the payload.
    Node(&'v Value<'v>),
    /// A value that was made.
    Made(Value<'static>),
    /// Text.
    Text(Cow<'v, str>),
    /// A point in time.
    Time(Timestamp),
    /// It holds.
    Truth,
}

/// `[tables.*]` of a manifest.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// What an expression is evaluated against: the value of each scope, by slot.
#[derive(Clone)]
pub(super) struct Env<'v> {
    pub(super) slots: Vec<Option<Val<'v>>>,
    pub(super) tables: &'v Tables,
    /// The country of telephone numbers written without their country code.
    pub(super) country: Option<&'v str>,
    /// The connector's `map.lua`, where expressions may call it.
    pub(super) script: Option<&'v dyn MapEngine>,
}

impl<'v> Env<'v> {
    pub(super) fn new(tables: &'v Tables, country: Option<&'v str>) -> Self {
        Env { slots: Vec::with_capacity(16), tables, country, script: None }
    }

    /// Gives the slot `at` a value.
    pub(super) fn set(&mut self, at: usize, value: Option<Val<'v>>) {
        if self.slots.len() <= at {
            self.slots.resize(at + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }

    fn slot(&self, at: usize) -> Option<&Val<'v>> {
        self.slots.get(at)?.as_ref()
    }
}

impl<'v> Val<'v> {
    /// The value as text; absent for lists and objects.
    pub(super) fn text(&self) -> Option<Cow<'v, str>> {
        match self {
            Val::Node(value) => value.scalar().map(Cow::Borrowed),
            Val::Made(value) => value.scalar().map(|text| Cow::Owned(text.to_owned())),
            Val::Text(text) => Some(text.clone()),
            Val::Time(time) => Some(Cow::Owned(time.to_string())),
            Val::Truth => Some(Cow::Borrowed("true")),
        }
    }

    /// The value as JSON, its numbers exact.
    pub(super) fn to_serde(&self) -> serde_json::Value {
        match self {
            Val::Node(value) => value.to_serde(),
            Val::Made(value) => value.to_serde(),
            Val::Text(text) => text.as_ref().into(),
            Val::Time(time) => time.to_string().into(),
            Val::Truth => true.into(),
        }
    }

    /// The value as JSON has it, with nothing borrowed: a condition is `true`, not its text.
    fn made(self) -> Value<'static> {
        match self {
            Val::Truth => Value::Bool(true),
            other => other.into_value().into_owned(),
        }
    }

    /// The value as the payload reader would give it.
    pub(super) fn into_value(self) -> Value<'v> {
        match self {
            Val::Node(value) => value.clone(),
            Val::Made(value) => value,
            other => other.text().map_or(Value::Null, |text| Value::String(Cow::Owned(text.into_owned()))),
        }
    }

    /// Whether a condition takes this as "yes".
    pub(super) fn holds(&self) -> bool {
        match self {
            Val::Node(Value::Bool(truth)) | Val::Made(Value::Bool(truth)) => *truth,
            Val::Text(text) => !text.is_empty() && text != "false",
            Val::Node(Value::String(text)) => !text.is_empty() && text != "false",
            Val::Node(value) => !value.is_empty(),
            Val::Made(value) => !value.is_empty(),
            Val::Time(_) | Val::Truth => true,
        }
    }

    /// The elements, if this is a list.
    pub(super) fn elements(&self) -> Option<Vec<Val<'v>>> {
        match self {
            Val::Node(Value::Array(items)) => Some(items.iter().map(Val::Node).collect()),
            Val::Made(Value::Array(items)) => Some(items.iter().cloned().map(Val::Made).collect()),
            _ => None,
        }
    }

    fn step(&self, steps: &'v [Step]) -> Option<Val<'v>> {
        match self {
            Val::Node(value) => walk(value, steps).map(Val::Node),
            Val::Made(value) => walk(value, steps).cloned().map(Val::Made),
            other if steps.is_empty() => Some(other.clone()),
            _ => None,
        }
    }
}

fn walk<'x, 'a>(value: &'x Value<'a>, steps: &[Step]) -> Option<&'x Value<'a>> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::At(at) => match value {
            Value::Array(items) => match usize::try_from(*at) {
                Ok(at) => items.get(at),
                Err(_) => {
                    items.len().checked_sub(usize::try_from(at.unsigned_abs()).ok()?).and_then(|at| items.get(at))
                }
            },
            _ => None,
        },
    })
}

fn present(value: &Val<'_>) -> bool {
    match value {
        Val::Node(Value::Null) | Val::Made(Value::Null) => false,
        Val::Node(Value::String(text)) => !text.is_empty(),
        Val::Made(Value::String(text)) => !text.is_empty(),
        Val::Text(text) => !text.is_empty(),
        _ => true,
    }
}

impl Expr {
    /// The value, or nothing.
    pub(super) fn eval<'v>(&'v self, env: &Env<'v>) -> Option<Val<'v>> {
        match self {
            Expr::Text(text) => Some(Val::Text(Cow::Borrowed(text))),
            Expr::Template(pieces) => template(pieces, env).map(|text| Val::Text(Cow::Owned(text))),
            Expr::Path { slot, steps } => env.slot(*slot)?.step(steps).filter(present),
            Expr::Call(function, arguments) => call(*function, arguments, env).filter(present),
            Expr::Same(left, right, negated) => {
                let same = match (left.text(env), right.text(env)) {
                    (Some(left), Some(right)) => left == right,
                    (None, None) => true,
                    _ => false,
                };
                (same != *negated).then_some(Val::Truth)
            }
            Expr::In(left, members) => {
                let left = left.text(env)?;
                members.iter().any(|member| *member == left).then_some(Val::Truth)
            }
            Expr::And(all) => all.iter().all(|expr| expr.holds(env)).then_some(Val::Truth),
            Expr::Or(all) => all.iter().any(|expr| expr.holds(env)).then_some(Val::Truth),
            Expr::Not(inner) => (!inner.holds(env)).then_some(Val::Truth),
            Expr::First(all) => all.iter().find_map(|expr| expr.eval(env).filter(present)),
        }
    }

    /// The value as text, or nothing.
    pub(super) fn text<'v>(&'v self, env: &Env<'v>) -> Option<Cow<'v, str>> {
        self.eval(env)?.text()
    }

    /// The value as owned text, or nothing.
    pub(super) fn string(&self, env: &Env<'_>) -> Option<String> {
        // The expression and the payload need not outlive the answer, so the borrow is cut here.
        fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> Option<String> {
            expr.text(env).map(Cow::into_owned)
        }
        inner(self, env)
    }

    /// Whether it holds.
    pub(super) fn holds<'v>(&'v self, env: &Env<'v>) -> bool {
        self.eval(env).is_some_and(|value| value.holds())
    }

    /// The value as a time, or nothing.
    pub(super) fn time<'v>(&'v self, env: &Env<'v>) -> Option<Timestamp> {
        match self.eval(env)? {
            Val::Time(time) => Some(time),
            other => other.text()?.parse().ok(),
        }
    }
}

fn template(pieces: &[Piece], env: &Env<'_>) -> Option<String> {
    fn inner<'v>(pieces: &'v [Piece], env: &Env<'v>) -> Option<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece.expr.text(env) {
                Some(value) => text.push_str(&value),
                None if piece.optional => {}
                None => return None,
            }
        }
        Some(text)
    }
    inner(pieces, env)
}

fn call<'v>(function: Function, arguments: &'v [Expr], env: &Env<'v>) -> Option<Val<'v>> {
    let first = arguments.first()?;
    let second = || arguments.get(1);
    let second_text = || second()?.text(env);
    let owned = |text: String| Some(Val::Text(Cow::Owned(text)));
    match function {
        Function::Unix => convert::unix(&first.text(env)?).map(Val::Time),
        Function::Millis => first.text(env)?.parse().ok().map(|ms| Val::Time(Timestamp::from_millis(ms))),
        Function::Iso => convert::iso(&first.text(env)?).map(Val::Time),
        Function::Rfc2822 => convert::rfc2822(&first.text(env)?).map(Val::Time),
        Function::Plus => Some(Val::Time(first.time(env)?.plus_millis(convert::duration_millis(&second_text()?)?))),
        Function::E164 => convert::e164(&first.text(env)?, env.country).and_then(owned),
        Function::Lower => owned(first.text(env)?.to_lowercase()),
        Function::Upper => owned(first.text(env)?.to_uppercase()),
        Function::Trim => owned(first.text(env)?.trim().to_owned()),
        Function::Cut => owned(first.text(env)?.chars().take(second_text()?.parse().ok()?).collect()),
        Function::Before => {
            let (text, separator) = (first.text(env)?, second_text()?);
            owned(text.split(separator.as_ref()).next().unwrap_or_default().to_owned())
        }
        Function::After => {
            first.text(env)?.split_once(second_text()?.as_ref()).and_then(|(_, rest)| owned(rest.to_owned()))
        }
        Function::Replace => {
            let (text, from) = (first.text(env)?, second_text()?);
            owned(text.replace(from.as_ref(), &arguments.get(2)?.text(env)?))
        }
        Function::Starts => first.text(env)?.starts_with(second_text()?.as_ref()).then_some(Val::Truth),
        Function::Contains => contains(&first.eval(env)?, &second_text()?).then_some(Val::Truth),
        Function::Exists => exists(first, env).then_some(Val::Truth),
        Function::If => if first.holds(env) { second()? } else { arguments.get(2)? }.eval(env),
        Function::When => first.holds(env).then(|| second()?.eval(env))?,
        Function::Find => {
            let (key, wanted) = (second_text()?, arguments.get(2)?.text(env)?);
            let matches = |value: &Value<'_>| value.get(&key).and_then(Value::scalar) == Some(wanted.as_ref());
            match first.eval(env)? {
                Val::Node(Value::Array(items)) => items.iter().find(|item| matches(item)).map(Val::Node),
                Val::Made(Value::Array(items)) => items.into_iter().find(|item| matches(item)).map(Val::Made),
                _ => None,
            }
        }
        Function::Pluck => pluck(&first.eval(env)?, &second_text()?, &arguments.get(2)?.text(env)?).and_then(owned),
        Function::Join => {
            let separator = first.text(env)?;
            let parts: Vec<_> =
                arguments.iter().skip(1).filter_map(|part| part.text(env)).filter(|p| !p.is_empty()).collect();
            owned(parts.join(&separator))
        }
        Function::Table => {
            let table = env.tables.get(first.text(env)?.as_ref())?;
            table.get(second_text()?.as_ref()).map(|text| Val::Text(Cow::Borrowed(text)))
        }
        Function::Get => match (first.eval(env)?, second_text()?) {
            (Val::Node(value), key) => value.get(&key).map(Val::Node),
            (Val::Made(value), key) => value.get(&key).cloned().map(Val::Made),
            _ => None,
        },
        Function::Numbered => numbered(&first.eval(env)?, &second_text()?),
        Function::OtherKey => {
            other_key(&first.eval(env)?, &arguments.iter().skip(1).filter_map(|e| e.text(env)).collect::<Vec<_>>())
        }
        Function::List => {
            let items: Vec<Value<'static>> = arguments.iter().filter_map(|part| Some(part.eval(env)?.made())).collect();
            (!items.is_empty()).then_some(Val::Made(Value::Array(items)))
        }
        Function::Count => match first.eval(env)? {
            Val::Node(Value::Array(items)) => owned(items.len().to_string()),
            Val::Made(Value::Array(items)) => owned(items.len().to_string()),
            Val::Node(Value::Object(members)) => owned(members.len().to_string()),
            _ => None,
        },
        Function::Number => {
            let text = first.text(env)?;
            let value = Value::parse(text.as_bytes()).ok()?.into_owned();
            matches!(value, Value::Number(_)).then_some(Val::Made(value))
        }
        Function::Json => Value::parse(first.text(env)?.as_bytes()).ok().map(|value| Val::Made(value.into_owned())),
        Function::Text | Function::Path => first.text(env).map(Val::Text),
        Function::Script => script(&first.text(env)?, arguments.get(1..).unwrap_or_default(), env),
    }
}

/// What a function of `map.lua` gives. One that fails gives nothing, so a manifest says with `??` what stands in.
fn script<'v>(function: &str, arguments: &'v [Expr], env: &Env<'v>) -> Option<Val<'v>> {
    let engine = env.script?;
    let values: Vec<Value<'_>> =
        arguments.iter().map(|expr| expr.eval(env).map_or(Value::Null, Val::into_value)).collect();
    match engine.call(function, &values.iter().collect::<Vec<_>>(), &serde_json::Value::Null) {
        Ok(given) => Some(Val::Made(from_serde(given))),
        Err(error) => {
            tracing::warn!(%error, "a function of map.lua failed");
            None
        }
    }
}

/// What the engine gave, whose depth and size it has bounded already.
fn from_serde(value: serde_json::Value) -> Value<'static> {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => Value::Number(Cow::Owned(number.to_string())),
        Json::String(text) => Value::String(Cow::Owned(text)),
        Json::Array(items) => Value::Array(items.into_iter().map(from_serde).collect()),
        Json::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (Cow::Owned(key), from_serde(value))).collect())
        }
    }
}

fn contains(haystack: &Val<'_>, needle: &str) -> bool {
    match haystack {
        Val::Node(Value::Array(items)) => items.iter().any(|item| item.scalar() == Some(needle)),
        Val::Made(Value::Array(items)) => items.iter().any(|item| item.scalar() == Some(needle)),
        other => other.text().is_some_and(|text| text.contains(needle)),
    }
}

/// Whether a path leads anywhere, be it to `null` or to nothing but an empty text.
fn exists(expr: &Expr, env: &Env<'_>) -> bool {
    match expr {
        Expr::Path { slot, steps } => match env.slot(*slot) {
            Some(Val::Node(value)) => walk(value, steps).is_some(),
            Some(Val::Made(value)) => walk(value, steps).is_some(),
            Some(_) => steps.is_empty(),
            None => false,
        },
        other => {
            fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> bool {
                expr.eval(env).is_some()
            }
            inner(other, env)
        }
    }
}

fn pluck(list: &Val<'_>, key: &str, separator: &str) -> Option<String> {
    let items = match list {
        Val::Node(Value::Array(items)) => items.as_slice(),
        Val::Made(Value::Array(items)) => items.as_slice(),
        _ => return None,
    };
    let found: Vec<&str> = items
        .iter()
        .filter_map(|item| key.split('.').try_fold(item, |value, name| value.get(name))?.scalar())
        .filter(|text| !text.is_empty())
        .collect();
    (!found.is_empty()).then(|| found.join(separator))
}

/// The members NAME0, NAME1 ... in order, up to the first gap.
fn numbered<'v>(object: &Val<'v>, name: &str) -> Option<Val<'v>> {
    const MOST: usize = 100;
    let member = |at: usize| match object {
        Val::Node(value) => value.get(&format!("{name}{at}")).cloned().map(Value::into_owned),
        Val::Made(value) => value.get(&format!("{name}{at}")).cloned(),
        _ => None,
    };
    let items: Vec<Value<'static>> = (0..MOST).map_while(member).collect();
    (!items.is_empty()).then_some(Val::Made(Value::Array(items)))
}

fn other_key<'v>(object: &Val<'v>, known: &[Cow<'_, str>]) -> Option<Val<'v>> {
    let members = match object {
        Val::Node(Value::Object(members)) => members.as_slice(),
        Val::Made(Value::Object(members)) => members.as_slice(),
        _ => return None,
    };
    let other = members.iter().map(|(key, _)| key.as_ref()).find(|key| !known.iter().any(|name| name == key))?;
    Some(Val::Text(Cow::Owned(other.to_owned())))
}
