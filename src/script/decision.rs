//! What a rule writes: the decision `d`.
//!
//! For the queue, the priority and the answer to a waiting caller the first writer wins; lists add up. Every name is
//! checked against the configuration when it is written, and everything is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};
use serde_json::Value as Json;

use super::bundle::Opinion;
use super::convert::{Bounds, from_lua};
use super::diagnostic::{hint, nearest};
use super::fault::{raise, type_name};
use super::files::PolicyFacts;
use super::view::Shared;
use crate::base::Pii;
use crate::model::decision::{CallAnswer, PolicyReply};

/// The most elements a list of a decision may have.
const MAX_LIST: usize = 100;
/// The most characters of a label or a name.
const MAX_NAME: usize = 200;
/// The most characters of a reason.
const MAX_REASON: usize = 500;

/// The calls of `d`.
pub(super) const METHODS: &[&str] =
    &["queue", "priority", "priority_add", "tag", "need", "reply", "notify", "because", "stop", "answer"];
/// Calls of `d` that a later version brings: using one is an error, never silence.
const LATER: &[&str] = &[
    "add_queue",
    "relax",
    "prefer_agent",
    "assign",
    "allow_over_soft_limit",
    "attach_to",
    "new_conversation",
    "link",
    "open_private",
    "brief",
    "expect",
    "sla",
    "start_clock_at",
    "pause",
    "escalate",
    "no_automation",
    "offer_callback",
    "ask_verification",
    "suggest_merge",
    "redact_public",
];

/// What the rules of one call have written so far.
#[derive(Default)]
pub(super) struct Writer {
    pub opinion: Opinion,
    pub priority: Option<i64>,
    pub added: Option<i64>,
    /// The rules that had an opinion, by number, in the order they ran.
    pub rules: Vec<usize>,
}

/// The decision's userdata. Its methods are a table, so that calling one does not pass through a lookup here.
struct Decision;

impl UserData for Decision {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::NewIndex, |lua, _, _: MultiValue| -> mlua::Result<()> {
            Err(raise(lua, "a decision is written by calls such as d:queue(name); it has no fields"))
        });
    }

    fn add_fields<F: mlua::UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field_with("__index", |lua| match lua.app_data_ref::<MethodTable>() {
            Some(table) => Ok(Value::Table(table.0.clone())),
            None => Ok(Value::Nil),
        });
    }
}

struct MethodTable(Table);

/// The error text for a call that `d` does not have.
pub(super) fn unknown_method(name: &str) -> String {
    if LATER.contains(&name) {
        return format!("`d:{name}` is not available in this version");
    }
    format!("a decision has no `{name}`{}", hint(nearest(name, METHODS.iter().copied())))
}

/// Makes the decision's userdata for a machine.
///
/// `state` is the table that the driver looks at: `[1]` the rule that runs, `[2]` stopped, `[3]` has a destination.
pub(super) fn decision(lua: &Lua, call: &Shared, state: &Table, facts: &Arc<PolicyFacts>) -> mlua::Result<AnyUserData> {
    let methods = lua.create_table()?;
    let host = Host {
        call: call.clone(),
        state: state.clone(),
        facts: facts.clone(),
        format: lua.globals().get::<Table>("string")?.get("format")?,
    };
    let all: [(&str, Body); 10] = [
        ("queue", queue),
        ("priority", priority),
        ("priority_add", priority_add),
        ("tag", tag),
        ("need", need),
        ("reply", reply),
        ("notify", notify),
        ("because", because),
        ("stop", stop),
        ("answer", answer),
    ];
    for (name, body) in all {
        let host = host.clone();
        methods.raw_set(
            name,
            lua.create_function(move |lua, mut args: MultiValue| {
                if !matches!(args.pop_front(), Some(Value::UserData(_))) {
                    return Err(raise(lua, format!("call it with a colon: `d:{name}(...)`")));
                }
                body(lua, &host, args)?;
                host.touch();
                Ok(())
            })?,
        )?;
    }
    let meta = lua.create_table()?;
    meta.raw_set(
        "__index",
        lua.create_function(|lua, (_, key): (Value, Value)| -> mlua::Result<()> {
            let key = key.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
            Err(raise(lua, unknown_method(&key)))
        })?,
    )?;
    methods.set_metatable(Some(meta))?;
    methods.set_readonly(true);
    lua.set_app_data(MethodTable(methods));
    lua.create_userdata(Decision)
}

#[derive(Clone)]
struct Host {
    call: Shared,
    state: Table,
    facts: Arc<PolicyFacts>,
    format: Function,
}

type Body = fn(&Lua, &Host, MultiValue) -> mlua::Result<()>;

impl Host {
    /// Notes that the running rule has an opinion.
    fn touch(&self) {
        let Ok(rule) = self.state.raw_get::<i64>(1) else { return };
        let Ok(rule) = usize::try_from(rule) else { return };
        let rules = &mut self.call.lock().writer.rules;
        if rules.last() != Some(&rule) && rules.len() < 2000 {
            rules.push(rule);
        }
    }
}

/// A name: text that is not empty and not too long.
fn name(lua: &Lua, value: Option<Value>, what: &str) -> mlua::Result<String> {
    match value {
        Some(Value::String(text)) => {
            let text = text.to_string_lossy();
            if text.is_empty() || text.chars().count() > MAX_NAME {
                return Err(raise(lua, format!("{what} has 1 to {MAX_NAME} characters")));
            }
            Ok(text)
        }
        Some(other) => Err(raise(lua, format!("expected {what}, got a {}", type_name(&other)))),
        None => Err(raise(lua, format!("expected {what}, got nothing"))),
    }
}

fn whole(lua: &Lua, value: Option<Value>, what: &str, low: i64, high: i64) -> mlua::Result<i64> {
    let number = match value {
        Some(Value::Integer(n)) => Some(n as f64),
        Some(Value::Number(n)) => Some(n),
        _ => None,
    };
    let fits = number.filter(|n| n.fract() == 0.0 && *n >= low as f64 && *n <= high as f64);
    fits.map(|n| n as i64).ok_or_else(|| raise(lua, format!("{what} is a whole number from {low} to {high}")))
}

/// A duration: a number of seconds, or text such as `90s`, `5m`, `2h`, `14d`.
pub(super) fn seconds(lua: &Lua, value: &Value) -> mlua::Result<u64> {
    let wrong = || raise(lua, "a duration is a number of seconds or text such as \"90s\", \"5m\", \"2h\", \"14d\"");
    match value {
        Value::Integer(n) => u64::try_from(*n).map_err(|_| wrong()),
        Value::Number(n) if *n >= 0.0 && *n <= 1e12 => Ok(*n as u64),
        Value::String(text) => parse_seconds(&text.to_string_lossy()).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn parse_seconds(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// What is wrong with a queue's name, if anything.
pub(super) fn check_queue(facts: &PolicyFacts, name: &str) -> Option<String> {
    check("queue", name, &facts.queues)
}

/// What is wrong with a skill's name, if anything.
pub(super) fn check_skill(facts: &PolicyFacts, name: &str) -> Option<String> {
    check("skill", name, &facts.skills)
}

/// What is wrong with a template's name, if anything. What has a space in it is the text itself.
pub(super) fn check_template(facts: &PolicyFacts, name: &str) -> Option<String> {
    if name.contains(char::is_whitespace) { None } else { check("template", name, &facts.templates) }
}

fn check(what: &str, name: &str, known: &[String]) -> Option<String> {
    if known.is_empty() || known.iter().any(|known| known == name) {
        return None;
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    Some(format!("{what} `{shown}` does not exist{}", hint(nearest(name, known.iter().map(String::as_str)))))
}

fn queue(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let name = name(lua, args.pop_front(), "a queue's name")?;
    if let Some(reason) = check_queue(&host.facts, &name) {
        return Err(raise(lua, reason));
    }
    host.state.raw_set(3, true)?;
    host.call.lock().writer.opinion.queue.get_or_insert(name);
    Ok(())
}

fn priority(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let value = whole(lua, args.pop_front(), "a priority", 0, 100)?;
    host.call.lock().writer.priority.get_or_insert(value);
    Ok(())
}

fn priority_add(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let value = whole(lua, args.pop_front(), "a change of priority", -100, 100)?;
    let mut call = host.call.lock();
    call.writer.added = Some(call.writer.added.unwrap_or(0).saturating_add(value));
    Ok(())
}

/// The names in the arguments: each a text or a list of texts.
fn names(lua: &Lua, args: MultiValue, what: &str) -> mlua::Result<Vec<String>> {
    let mut all = Vec::new();
    for arg in args {
        match arg {
            Value::Table(list) => {
                if list.raw_len() > MAX_LIST {
                    return Err(raise(lua, format!("at most {MAX_LIST} at once")));
                }
                for index in 1..=list.raw_len() {
                    all.push(name(lua, Some(list.raw_get(index)?), what)?);
                }
            }
            Value::Nil => {}
            other => all.push(name(lua, Some(other), what)?),
        }
    }
    Ok(all)
}

fn add_all(lua: &Lua, list: &mut Vec<String>, names: Vec<String>) -> mlua::Result<()> {
    for name in names {
        if !list.contains(&name) {
            if list.len() >= MAX_LIST {
                return Err(raise(lua, format!("a decision holds at most {MAX_LIST} of these")));
            }
            list.push(name);
        }
    }
    Ok(())
}

fn tag(lua: &Lua, host: &Host, args: MultiValue) -> mlua::Result<()> {
    let names = names(lua, args, "a tag")?;
    add_all(lua, &mut host.call.lock().writer.opinion.tags, names)
}

fn notify(lua: &Lua, host: &Host, args: MultiValue) -> mlua::Result<()> {
    let names = names(lua, args, "who is to be told")?;
    add_all(lua, &mut host.call.lock().writer.opinion.notify, names)
}

fn need(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let Some(Value::Table(levels)) = args.pop_front() else {
        return Err(raise(lua, "expected skills with their least level, such as { billing = 3 }"));
    };
    let mut wanted = BTreeMap::new();
    levels.for_each::<Value, Value>(|skill, level| {
        let skill = name(lua, Some(skill), "a skill's name")?;
        if let Some(reason) = check_skill(&host.facts, &skill) {
            return Err(raise(lua, reason));
        }
        wanted.insert(skill, whole(lua, Some(level), "a level", 1, 100)?);
        if wanted.len() > MAX_LIST { Err(raise(lua, format!("at most {MAX_LIST} skills"))) } else { Ok(()) }
    })?;
    let needs = &mut host.call.lock().writer.opinion.needs;
    for (skill, level) in wanted {
        let least = needs.entry(skill).or_insert(level);
        *least = (*least).max(level);
    }
    if needs.len() > MAX_LIST { Err(raise(lua, format!("a decision needs at most {MAX_LIST} skills"))) } else { Ok(()) }
}

/// Variables for a template or an answer: a flat table of texts, numbers and booleans.
fn vars(lua: &Lua, value: Option<Value>) -> mlua::Result<BTreeMap<String, Pii<String>>> {
    let value = match value {
        None | Some(Value::Nil) => return Ok(BTreeMap::new()),
        Some(value @ Value::Table(_)) => value,
        Some(other) => return Err(raise(lua, format!("expected a table of values, got a {}", type_name(&other)))),
    };
    let json = from_lua(&value, Bounds::SMALL)
        .map_err(|reason| raise(lua, format!("these values cannot be taken: {reason}")))?;
    let Json::Object(members) = json else { return Err(raise(lua, "expected a table with names")) };
    members
        .into_iter()
        .map(|(key, value)| match value {
            Json::String(text) => Ok((key, Pii::new(text))),
            Json::Number(n) => Ok((key, Pii::new(n.to_string()))),
            Json::Bool(b) => Ok((key, Pii::new(b.to_string()))),
            _ => Err(raise(lua, "a value is text, a number or a boolean")),
        })
        .collect()
}

fn reply(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let template = match args.pop_front() {
        Some(Value::String(text)) if !text.as_bytes().is_empty() && text.as_bytes().len() <= 4096 => {
            text.to_string_lossy()
        }
        _ => return Err(raise(lua, "expected a template's name or a text of at most 4096 bytes")),
    };
    if let Some(reason) = check_template(&host.facts, &template) {
        return Err(raise(lua, reason));
    }
    let vars = vars(lua, args.pop_front())?;
    let mut once_per_seconds = None;
    match args.pop_front() {
        None | Some(Value::Nil) => {}
        Some(Value::Table(options)) => options.for_each::<Value, Value>(|key, value| {
            match key.as_string().map(|text| text.to_string_lossy()).as_deref() {
                Some("once_per") => once_per_seconds = Some(seconds(lua, &value)?),
                _ => return Err(raise(lua, "the only option of a reply is once_per")),
            }
            Ok(())
        })?,
        Some(other) => return Err(raise(lua, format!("expected a table of options, got a {}", type_name(&other)))),
    }
    let replies = &mut host.call.lock().writer.opinion.replies;
    if replies.len() >= 10 {
        return Err(raise(lua, "a decision sends at most 10 replies"));
    }
    replies.push(PolicyReply { template, vars, once_per_seconds });
    Ok(())
}

fn because(lua: &Lua, host: &Host, args: MultiValue) -> mlua::Result<()> {
    // A single argument is taken as it is: a reason with a percent sign in it needs no format.
    let text = match args.len() {
        1 => args.front().and_then(|value| value.as_string()).map(|text| text.to_string_lossy()),
        _ => None,
    };
    let text = match text {
        Some(text) => text,
        None => host.format.call::<mlua::LuaString>(args)?.to_string_lossy(),
    };
    let reasons = &mut host.call.lock().writer.opinion.because;
    if reasons.len() >= MAX_LIST {
        return Err(raise(lua, format!("a decision gives at most {MAX_LIST} reasons")));
    }
    reasons.push(Pii::new(text.chars().take(MAX_REASON).collect()));
    Ok(())
}

fn stop(_: &Lua, host: &Host, _: MultiValue) -> mlua::Result<()> {
    host.state.raw_set(2, true)
}

fn answer(lua: &Lua, host: &Host, mut args: MultiValue) -> mlua::Result<()> {
    let name = name(lua, args.pop_front(), "an answer's name")?;
    let vars = vars(lua, args.pop_front())?;
    host.call.lock().writer.opinion.answer.get_or_insert(CallAnswer { name, vars });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let cases = [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("14d", Some(1_209_600)),
            ("1w", None),
            ("s", None),
            ("-1s", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_seconds(text), expected, "{text}");
        }
    }
}
