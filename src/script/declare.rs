//! What a policy file declares: `policy { ... }` and `rule(...)`.

use mlua::{Lua, Value};

use super::bundle::RuleInfo;
use super::diagnostic::{hint, nearest};
use super::fault::{here, raise};
use super::vm::check_event;

/// Reads `policy { ... }`.
pub(super) fn policy(lua: &Lua, about: Value) -> mlua::Result<()> {
    let Value::Table(about) = about else { return Err(raise(lua, "expected `policy { name = ..., version = ... }`")) };
    about.for_each::<Value, Value>(|key, _| {
        let key = key.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
        let known = ["name", "version", "owner"];
        if known.contains(&key.as_str()) {
            return Ok(());
        }
        Err(raise(lua, format!("`{key}` is not a field of policy{}", hint(nearest(&key, known)))))
    })
}

/// Reads `rule(...)`, but for its body.
pub(super) fn rule(lua: &Lua, name: Value, options: Value, body: Value) -> mlua::Result<RuleInfo> {
    let usage = "a rule is declared as `rule(name, {on = ...}, function(e, d) ... end)`";
    let Value::String(name) = name else { return Err(raise(lua, usage)) };
    let options = match (options, body) {
        (Value::Function(_), Value::Nil) => None,
        (Value::Table(options), Value::Function(_)) => Some(options),
        _ => return Err(raise(lua, usage)),
    };
    let (file, line) = here(lua);
    let mut rule = RuleInfo {
        name: name.to_string_lossy(),
        file,
        line,
        on: vec!["interaction.received".to_owned()],
        fallback: false,
        only: Vec::new(),
        except: Vec::new(),
    };
    let Some(options) = options else { return Ok(rule) };
    options.for_each::<Value, Value>(|key, value| {
        let key = key.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
        match key.as_str() {
            "on" => {
                rule.on = words(lua, value, "an event's name")?;
                rule.on.iter().find_map(|on| check_event(on)).map_or(Ok(()), |reason| Err(raise(lua, reason)))
            }
            "fallback" => match value {
                Value::Boolean(fallback) => {
                    rule.fallback = fallback;
                    Ok(())
                }
                _ => Err(raise(lua, "`fallback` is true or false")),
            },
            "only" => words(lua, value, "a channel's name").map(|words| rule.only = words),
            "except" => words(lua, value, "a channel's name").map(|words| rule.except = words),
            other => {
                let hint = hint(nearest(other, ["on", "fallback", "only", "except"]));
                Err(raise(lua, format!("`{other}` is not an option of a rule{hint}")))
            }
        }
    })?;
    Ok(rule)
}

fn words(lua: &Lua, value: Value, what: &str) -> mlua::Result<Vec<String>> {
    let wrong = || raise(lua, format!("expected {what} or a list of them"));
    match value {
        Value::String(word) => Ok(vec![word.to_string_lossy()]),
        Value::Table(list) => {
            let words: mlua::Result<Vec<String>> = list.sequence_values::<String>().collect();
            words.ok().filter(|words| !words.is_empty() && words.len() <= 100).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
