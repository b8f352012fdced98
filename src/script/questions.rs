//! The questions that a rule asks of its event: `e:mentions(...)`, `e:trusted(...)` and the like.

use std::sync::Arc;

use mlua::{Function, Lua, MultiValue, Value};
use serde_json::Value as Json;

use super::diagnostic::{hint, nearest};
use super::fault::{raise, type_name};
use super::shape::{Shape, shapes};
use super::view::{Facts, Shared, name, strict};
use crate::model::{Interaction, Trust};

/// A method over the call's facts; refuses to be called with a dot.
fn method(
    lua: &Lua,
    call: &Shared,
    usage: &'static str,
    body: impl Fn(&Lua, &mut Facts, MultiValue) -> mlua::Result<Value> + Send + 'static,
) -> mlua::Result<Function> {
    let call = call.clone();
    lua.create_function(move |lua, mut args: MultiValue| {
        if !matches!(args.pop_front(), Some(Value::UserData(_))) {
            return Err(raise(lua, format!("call it with a colon: `{usage}`")));
        }
        // The lock is not held while the body runs: it may call back into Lua, and so into this userdata.
        let facts = call.lock().facts.clone();
        let Some(mut facts) = facts else { return Err(raise(lua, "`e` is only there while a rule runs")) };
        let value = body(lua, &mut facts, args)?;
        if let Some(kept) = call.lock().facts.as_mut() {
            kept.lowered = facts.lowered;
        }
        Ok(value)
    })
}

fn level(lua: &Lua, value: Option<Value>) -> mlua::Result<Trust> {
    let text = match value {
        Some(Value::String(text)) => text.to_string_lossy(),
        _ => return Err(raise(lua, "expected a level of trust: \"claimed\", \"verified\" ...")),
    };
    let levels = ["anonymous", "observed", "claimed", "verified", "asserted"];
    Trust::parse(&text)
        .ok_or_else(|| raise(lua, format!("`{text}` is not a level of trust{}", hint(nearest(&text, levels)))))
}

/// `author:trusted(level)`.
pub(super) fn trusted(lua: &Lua, call: &Shared) -> mlua::Result<Function> {
    method(lua, call, "e.ix.author:trusted(level)", |lua, facts, mut args| {
        Ok(Value::Boolean(facts.interaction.author.trust >= level(lua, args.pop_front())?))
    })
}

/// `customer:has_identifier(type, trust)`.
pub(super) fn has_identifier(lua: &Lua, call: &Shared) -> mlua::Result<Function> {
    method(lua, call, "e.customer:has_identifier(type, trust)", |lua, facts, mut args| {
        let Some(Value::String(kind)) = args.pop_front() else {
            return Err(raise(lua, "expected the type of an identifier: \"tel\", \"mailto\" ..."));
        };
        let kind = kind.to_string_lossy();
        let least = match args.pop_front() {
            None | Some(Value::Nil) => Trust::Anonymous,
            given => level(lua, given)?,
        };
        let customer = facts.customer.as_ref();
        let found = customer.is_some_and(|c| c.identifiers.iter().any(|id| id.kind.0 == kind && id.trust >= least));
        Ok(Value::Boolean(found))
    })
}

/// `customer:open_issues{within=}`.
pub(super) fn open_issues(lua: &Lua, call: &Shared) -> mlua::Result<Function> {
    method(lua, call, "e.customer:open_issues{within=}", |lua, facts, mut args| {
        let mut since = None;
        if let Some(Value::Table(options)) = args.pop_front() {
            options.for_each::<Value, Value>(|key, value| match name(lua, &key)?.as_str() {
                "within" => {
                    let seconds = super::decision::seconds(lua, &value)?;
                    since =
                        Some(facts.now.plus_millis(-i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)));
                    Ok(())
                }
                "topic" => Err(raise(lua, "`topic` is not available in this version: open stories carry no topic yet")),
                other => {
                    let hint = hint(nearest(other, ["within", "topic"]));
                    Err(raise(lua, format!("`{other}` is not an option of open_issues{hint}")))
                }
            })?;
        }
        let issues = facts.customer.as_ref().map(|customer| {
            let issues = customer.open_issues.iter().filter(|issue| since.is_none_or(|since| issue.opened_at >= since));
            issues.filter_map(|issue| serde_json::to_value(issue).ok()).collect::<Vec<_>>()
        });
        let shape = shapes().customer.field("open_issues").unwrap_or(&Shape::Any);
        strict(lua, &Json::Array(issues.unwrap_or_default()), shape)
    })
}

/// `ix:mentions{...}`.
pub(super) fn mentions(lua: &Lua, call: &Shared) -> mlua::Result<Function> {
    method(lua, call, "e.ix:mentions{...}", |lua, facts, args| {
        let text = facts.lowered.get_or_insert_with(|| searchable(&facts.interaction)).clone();
        let find = |word: &Value| match word {
            Value::String(word) => Ok(holds_word(&text, &word.to_string_lossy().to_lowercase())),
            other => Err(raise(lua, format!("mentions takes words, got a {}", type_name(other)))),
        };
        for arg in args {
            match arg {
                Value::Table(words) => {
                    for index in 1..=words.raw_len() {
                        let word: Value = words.raw_get(index)?;
                        if find(&word)? {
                            return Ok(word);
                        }
                    }
                }
                word => {
                    if find(&word)? {
                        return Ok(word);
                    }
                }
            }
        }
        Ok(Value::Nil)
    })
}

fn searchable(ix: &Interaction) -> Arc<str> {
    let subject = ix.subject.as_ref().map_or("", |subject| subject.expose());
    let text = ix.text_new.as_ref().unwrap_or(&ix.text).expose();
    format!("{subject}\n{text}").to_lowercase().into()
}

/// Whether `word` stands in `text` with no letter or digit directly before or after it.
fn holds_word(text: &str, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    memchr::memmem::find_iter(text.as_bytes(), word.as_bytes()).any(|at| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|tail| tail.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_words_only() {
        assert!(holds_word("my lawyer, says", "lawyer"));
        assert!(!holds_word("lawyers", "lawyer") && !holds_word("", "x") && !holds_word("x", ""));
        assert!(holds_word("ärger über rückgabe", "rückgabe"));
    }
}
