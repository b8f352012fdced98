//! Definitions for editors: LuaLS reads them and then completes names and marks typos.
//!
//! The classes come from the published shapes, the aliases from the configuration.
//! The annotations are those of <https://luals.github.io/wiki/annotations/>.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::files::PolicyFacts;
use super::shape::{Object, Shape, shapes};
use super::vm::EVENTS;

/// The `---@meta` file for this configuration.
pub fn stubs(facts: &PolicyFacts) -> String {
    let mut out = String::from("---@meta\n-- Written by `segue policy stubs`. For your editor; never run.\n\n");
    alias(&mut out, "QueueName", &facts.queues);
    alias(&mut out, "TemplateName", &facts.templates);
    alias(&mut out, "SkillName", &facts.skills);
    let params: Vec<String> = facts.params.keys().cloned().collect();
    alias(&mut out, "ParamName", &params);
    alias(&mut out, "EventName", &EVENTS.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>());
    out.push_str("---@alias Trust \"anonymous\"|\"observed\"|\"claimed\"|\"verified\"|\"asserted\"\n");
    out.push_str("---@alias Duration number|string # seconds, or \"90s\", \"5m\", \"2h\", \"14d\"\n\n");
    let shapes = shapes();
    let mut done = BTreeSet::new();
    for object in [&shapes.interaction, &shapes.conversation, &shapes.customer] {
        class(&mut out, object, &mut done);
    }
    out.push_str(include_str!("lua/stubs.luau"));
    out
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn alias(out: &mut String, name: &str, values: &[String]) {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    let values = if values.is_empty() { "string".to_owned() } else { values.join("|") };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "---@alias {name} {values}");
}

fn class(out: &mut String, object: &Object, done: &mut BTreeSet<String>) {
    if !done.insert(object.name.clone()) {
        return;
    }
    let mut inner = Vec::new();
    let _ = writeln!(out, "---@class {}", object.name);
    for (name, (shape, words)) in &object.fields {
        // Read through the method of the same name, which gives all of them when it is given no options.
        if object.name == "Customer" && name == "open_issues" {
            kind(shape, &mut inner);
            continue;
        }
        let always = object.required.contains(name) || matches!(shape, Shape::List(_));
        // `lang` is shown by its tag alone.
        let kind =
            if object.name == "Interaction" && name == "lang" { "string".to_owned() } else { kind(shape, &mut inner) };
        let _ = writeln!(out, "---@field {name}{} {kind} {words}", if always { "" } else { "?" });
    }
    let shortcuts = "---@field topic? string the topic, if an enrichment is confident\n\
                     ---@field urgency? string the urgency, if an enrichment is confident\n";
    out.push_str(if object.name == "Interaction" { shortcuts } else { "" });
    let _ = writeln!(out, "local {} = {{}}\n", object.name);
    for object in inner {
        class(out, &object, done);
    }
}

fn kind(shape: &Shape, inner: &mut Vec<std::sync::Arc<Object>>) -> String {
    match shape {
        Shape::Object(object) => {
            inner.push(object.clone());
            object.name.clone()
        }
        Shape::List(item) => format!("({})[]", kind(item, inner)),
        Shape::Map(item) => format!("table<string, {}>", kind(item, inner)),
        Shape::Words(words) => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join("|"),
        Shape::Time | Shape::Id(_) | Shape::Text => "string".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Bool => "boolean".to_owned(),
        Shape::Any => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_configuration_and_the_types() {
        let text = stubs(&PolicyFacts { queues: vec!["vip".into(), "a\"b".into()], ..PolicyFacts::default() });
        assert!(text.starts_with("---@meta\n"));
        assert!(text.contains("---@alias QueueName \"vip\"|\"a\\\"b\"\n"));
        assert!(text.contains("---@class Author\n") && text.contains("---@field trust \"anonymous\"|"));
        for method in super::super::decision::METHODS {
            assert!(text.contains(&format!("function Decision:{method}(")), "{method}");
        }
        assert!(text.contains("function Customer:open_issues(") && !text.contains("---@field open_issues"));
        assert!(text.contains("---@class OpenIssue\n"));
        // Luau reads the same file: the annotations are comments, the rest must be Lua.
        mlua::Lua::new().load(text).into_function().unwrap();
    }
}
