//! The published names of what a rule may read, taken from the same types that the JSON Schemas are made from.
//!
//! One source for four things: unknown names are errors with the nearest valid one, tests may give partial tables, the
//! editor stubs, and the check of literals when a bundle is built.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;

use crate::model::{Conversation, Customer, Interaction};

/// The shape of a value.
#[derive(Clone)]
pub(super) enum Shape {
    /// An object with named fields.
    Object(Arc<Object>),
    /// A list of one shape.
    List(Box<Shape>),
    /// Any names, values of one shape.
    Map(Box<Shape>),
    /// A time in RFC 3339.
    Time,
    /// An id with its prefix.
    Id(String),
    /// One of these words.
    Words(Vec<String>),
    /// Text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// Whatever the provider told.
    Any,
}

/// An object's fields.
pub(super) struct Object {
    /// The type's name.
    pub name: String,
    /// Fields by name, each with what it is in words.
    pub fields: BTreeMap<String, (Shape, String)>,
    /// The fields that are never absent.
    pub required: Vec<String>,
}

/// What a rule reads.
pub(super) struct Shapes {
    /// `e.ix`
    pub interaction: Arc<Object>,
    /// `e.conv`
    pub conversation: Arc<Object>,
    /// `e.customer`
    pub customer: Arc<Object>,
}

/// The shapes of this version.
pub(super) fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| Shapes {
        interaction: object(&schemars::schema_for!(Interaction).to_value(), "Interaction"),
        conversation: object(&schemars::schema_for!(Conversation).to_value(), "Conversation"),
        customer: object(&schemars::schema_for!(Customer).to_value(), "Customer"),
    })
}

impl Object {
    /// The shape of a field.
    pub(super) fn field(&self, name: &str) -> Option<&Shape> {
        self.fields.get(name).map(|(shape, _)| shape)
    }

    /// An error text for a name that is not one of this object's.
    pub(super) fn unknown(&self, name: &str, more: &[&str]) -> String {
        let known = self.fields.keys().map(String::as_str).chain(more.iter().copied());
        let hint = super::diagnostic::hint(super::diagnostic::nearest(name, known));
        format!("`{name}` is not a field of {}{hint}", self.name.to_lowercase())
    }
}

fn object(schema: &Json, name: &str) -> Arc<Object> {
    match shape(schema, schema, name, 0) {
        Shape::Object(object) => object,
        _ => Arc::new(Object { name: name.to_owned(), fields: BTreeMap::new(), required: Vec::new() }),
    }
}

/// Reads a schema as `schemars` writes it for plain structs and enums; anything else is `Any`.
fn shape(root: &Json, schema: &Json, name: &str, depth: usize) -> Shape {
    if depth > 16 {
        return Shape::Any;
    }
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let target = root.get("$defs").and_then(|defs| defs.get(name));
        return target.map_or(Shape::Any, |target| shape(root, target, name, depth + 1));
    }
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("allOf")).and_then(Json::as_array) {
        let choice = choices.iter().find(|choice| choice.get("type").and_then(Json::as_str) != Some("null"));
        return choice.map_or(Shape::Any, |choice| shape(root, choice, name, depth + 1));
    }
    if let Some(words) = words(schema) {
        return Shape::Words(words);
    }
    match kind(schema) {
        Some("object") => fields(root, schema, name, depth),
        Some("array") => {
            let item = schema.get("items").map_or(Shape::Any, |item| shape(root, item, name, depth + 1));
            Shape::List(Box::new(item))
        }
        Some("string") => text(schema),
        Some("integer" | "number") => Shape::Number,
        Some("boolean") => Shape::Bool,
        _ => Shape::Any,
    }
}

fn kind(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::String(kind) => Some(kind),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        _ => None,
    }
}

fn words(schema: &Json) -> Option<Vec<String>> {
    let of =
        |list: &Json| Some(list.as_array()?.iter().filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>());
    if let Some(list) = schema.get("enum") {
        return of(list);
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let mut all = Vec::new();
    for variant in variants {
        match (variant.get("const").and_then(Json::as_str), variant.get("enum").and_then(of)) {
            (Some(word), _) => all.push(word.to_owned()),
            (None, Some(more)) => all.extend(more),
            (None, None) => return None,
        }
    }
    Some(all)
}

fn text(schema: &Json) -> Shape {
    if schema.get("format").and_then(Json::as_str) == Some("date-time") {
        return Shape::Time;
    }
    let prefix = schema.get("pattern").and_then(Json::as_str).and_then(|p| p.strip_prefix('^')?.split_once("_[0-7]"));
    prefix.map_or(Shape::Text, |(prefix, _)| Shape::Id(prefix.to_owned()))
}

fn fields(root: &Json, schema: &Json, name: &str, depth: usize) -> Shape {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
        return match schema.get("additionalProperties") {
            Some(item) if item.is_object() => Shape::Map(Box::new(shape(root, item, name, depth + 1))),
            _ => Shape::Any,
        };
    };
    let fields = properties
        .iter()
        .map(|(field, schema)| {
            let words = schema.get("description").and_then(Json::as_str).unwrap_or_default();
            (field.clone(), (shape(root, schema, field, depth + 1), words.replace('\n', " ")))
        })
        .collect();
    let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
    let required = required.filter_map(Json::as_str).map(str::to_owned).collect();
    Shape::Object(Arc::new(Object { name: name.to_owned(), fields, required }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_published_names() {
        let shapes = shapes();
        assert!(matches!(shapes.interaction.field("kind"), Some(Shape::Words(w)) if w.iter().any(|w| w == "message")));
        assert!(matches!(shapes.interaction.field("received_at"), Some(Shape::Time)));
        assert!(matches!(shapes.interaction.field("id"), Some(Shape::Id(p)) if p == "ix"));
        assert!(matches!(shapes.interaction.field("parts"), Some(Shape::List(p)) if matches!(**p, Shape::Object(_))));
        assert!(matches!(shapes.interaction.field("enrich"), Some(Shape::Map(_))));
        assert!(matches!(shapes.interaction.field("context"), Some(Shape::Any)));
        let Some(Shape::Object(author)) = shapes.interaction.field("author") else { panic!() };
        assert!(matches!(author.field("trust"), Some(Shape::Words(w)) if w.iter().any(|w| w == "verified")));
        assert!(author.unknown("trsut", &[]).contains("did you mean `trust`?"));
        assert!(matches!(shapes.customer.field("open_issues"), Some(Shape::List(_))));
        assert!(matches!(shapes.conversation.field("seq"), Some(Shape::Number)));
    }
}
