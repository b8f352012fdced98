//! From the partial table that a test gives to a full input for the rules.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::diagnostic::{hint, nearest};
use super::shape::{Object, Shape, shapes};
use super::vm::check_event;
use crate::base::Timestamp;
use crate::model::{ChannelKind, Conversation, Customer, Interaction};

/// When tests happen unless they say otherwise: a Monday morning.
const NOW: &str = "2026-01-05T10:00:00.000Z";

/// What a test gives, made whole.
pub(super) struct Given {
    pub now: Timestamp,
    pub kind: String,
    pub interaction: Arc<Interaction>,
    pub conversation: Option<Arc<Conversation>>,
    pub customer: Option<Arc<Customer>>,
}

/// Fills in what a test leaves out.
///
/// # Errors
///
/// In plain words: a name that is not published (with the nearest one), or a value of the wrong kind.
pub(super) fn given(partial: Json) -> Result<Given, String> {
    let Json::Object(mut partial) = partial else { return Err("expected `t:given { ... }`".to_owned()) };
    for key in partial.keys() {
        let known = ["kind", "now", "ix", "conv", "customer"];
        if !known.contains(&key.as_str()) {
            return Err(format!("`{key}` is not a part of an event{}", hint(nearest(key, known))));
        }
    }
    let now = match partial.remove("now") {
        None => NOW.to_owned(),
        Some(Json::String(text)) => text,
        Some(_) => return Err("`now` is a time such as \"2026-03-02T10:00:00Z\"".to_owned()),
    };
    let now: Timestamp = now.parse().map_err(|_| "`now` is a time such as \"2026-03-02T10:00:00Z\"".to_owned())?;
    let kind = match partial.remove("kind") {
        None => "interaction.received".to_owned(),
        Some(Json::String(kind)) => match check_event(&kind) {
            None => kind,
            Some(reason) => return Err(reason),
        },
        Some(_) => return Err("`kind` is an event's name".to_owned()),
    };
    let shapes = shapes();
    let blank = Interaction::blank(ChannelKind::Chat, "test", "test");
    let mut base = serde_json::to_value(blank).map_err(|e| e.to_string())?;
    let at = now.to_string();
    fill(&mut base, &json!({ "id": id("ix", "1"), "sent_at": at, "received_at": at }));
    let ix = partial.remove("ix").map(shortcuts).unwrap_or(Json::Object(Map::new()));
    let interaction: Interaction = whole(&shapes.interaction, base, ix, "ix", &at)?;
    let conversation: Option<Conversation> = match partial.remove("conv") {
        None => None,
        Some(given) => Some(whole(&shapes.conversation, blank_of(&shapes.conversation, &at), given, "conv", &at)?),
    };
    let given = partial.remove("customer").unwrap_or(Json::Object(Map::new()));
    let customer: Customer = whole(&shapes.customer, blank_of(&shapes.customer, &at), given, "customer", &at)?;
    Ok(Given {
        now,
        kind,
        interaction: Arc::new(interaction),
        conversation: conversation.map(Arc::new),
        customer: Some(Arc::new(customer)),
    })
}

fn whole<T: DeserializeOwned>(
    shape: &Arc<Object>,
    mut base: Json,
    given: Json,
    path: &str,
    now: &str,
) -> Result<T, String> {
    merge(&mut base, given, &Shape::Object(shape.clone()), path, now)?;
    serde_json::from_value(base).map_err(|e| format!("`{path}` is not complete or not right: {e}"))
}

fn fill(base: &mut Json, more: &Json) {
    if let (Json::Object(base), Json::Object(more)) = (base, more) {
        base.extend(more.clone());
    }
}

/// `topic`, `urgency` and `lang` as rules read them, turned into what they are read from.
fn shortcuts(mut ix: Json) -> Json {
    let Json::Object(members) = &mut ix else { return ix };
    for name in ["topic", "urgency"] {
        if let Some(value) = members.remove(name) {
            let enrich = members.entry("enrich").or_insert_with(|| json!({}));
            fill(enrich, &json!({ name: { "value": value, "confidence": 1.0, "by": "test" } }));
        }
    }
    if let Some(Json::String(tag)) = members.get("lang").cloned() {
        members.insert("lang".to_owned(), json!({ "tag": tag }));
    }
    ix
}

/// The least that a shape can be.
fn blank(shape: &Shape, now: &str) -> Json {
    match shape {
        Shape::Object(object) => blank_of(object, now),
        Shape::List(_) => json!([]),
        Shape::Map(_) => json!({}),
        Shape::Time => now.into(),
        Shape::Id(prefix) => id(prefix, "1").into(),
        Shape::Words(words) => words.first().map_or(Json::Null, |word| word.as_str().into()),
        Shape::Text => "".into(),
        Shape::Number => 0.into(),
        Shape::Bool => false.into(),
        Shape::Any => Json::Null,
    }
}

fn blank_of(object: &Object, now: &str) -> Json {
    let required = object.required.iter().filter_map(|name| Some((name.clone(), blank(object.field(name)?, now))));
    Json::Object(required.collect())
}

/// `prefix_` and the digits, filled up with zeros in front to the 26 that an id has.
fn id(prefix: &str, digits: &str) -> String {
    format!("{prefix}_{digits:0>26}")
}

fn merge(base: &mut Json, given: Json, shape: &Shape, path: &str, now: &str) -> Result<(), String> {
    match (shape, given) {
        (Shape::Object(object), Json::Object(members)) => {
            if !base.is_object() {
                *base = blank_of(object, now);
            }
            let Json::Object(target) = base else { return Ok(()) };
            for (key, value) in members {
                let Some(shape) = object.field(&key) else {
                    return Err(format!("{} (in `{path}`)", object.unknown(&key, &[])));
                };
                merge(target.entry(key.clone()).or_insert(Json::Null), value, shape, &format!("{path}.{key}"), now)?;
            }
        }
        (Shape::Map(shape), Json::Object(members)) => {
            let mut all = Map::new();
            for (key, value) in members {
                let mut item = blank(shape, now);
                merge(&mut item, value, shape, &format!("{path}.{key}"), now)?;
                all.insert(key, item);
            }
            *base = Json::Object(all);
        }
        (Shape::List(shape), Json::Array(items)) => {
            let mut all = Vec::new();
            for (index, value) in items.into_iter().enumerate() {
                let mut item = blank(shape, now);
                merge(&mut item, value, shape, &format!("{path}[{}]", index + 1), now)?;
                all.push(item);
            }
            *base = Json::Array(all);
        }
        // An empty table in Lua is a list as much as an object.
        (Shape::List(_), Json::Object(members)) if members.is_empty() => *base = json!([]),
        (Shape::Id(prefix), Json::String(text)) => {
            let short = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('_'));
            *base = short.filter(|digits| digits.len() < 26).map_or(text.clone(), |digits| id(prefix, digits)).into();
        }
        (Shape::Words(words), Json::String(word)) if !words.contains(&word) => {
            let hint = hint(nearest(&word, words.iter().map(String::as_str)));
            return Err(format!("`{word}` is not a value of `{path}`{hint}"));
        }
        (Shape::Object(_) | Shape::List(_) | Shape::Map(_), _) => return Err(format!("`{path}` is a table")),
        (_, value) => *base = value,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_is_left_out() {
        let given = given(json!({
            "ix": { "channel": { "kind": "email" }, "topic": "billing", "lang": "en", "author": { "trust": "verified" } },
            "conv": { "id": "cv_1" },
            "customer": { "open_issues": [{ "owner": "ag_7" }], "identifiers": [{ "type": "tel", "value": "+1" }], "names": {} },
        }))
        .unwrap();
        assert_eq!(given.interaction.channel.kind, ChannelKind::Email);
        assert_eq!(given.conversation.unwrap().id.to_string(), "cv_00000000000000000000000001");
        assert_eq!(given.customer.unwrap().open_issues[0].owner.as_deref(), Some("ag_7"));
        assert!(given.interaction.enrich.contains_key("topic"));
    }

    #[test]
    fn refuses_names_that_do_not_exist() {
        let wrong = |value| given(value).err().unwrap_or_default();
        assert!(wrong(json!({ "ix": { "chanel": {} } })).contains("did you mean `channel`?"));
        assert!(wrong(json!({ "ix": { "channel": { "kind": "emial" } } })).contains("did you mean `email`?"));
        assert!(wrong(json!({ "customr": {} })).contains("did you mean `customer`?"));
        assert!(wrong(json!({ "now": "yesterday" })).contains("now"));
        assert!(wrong(json!({ "ix": 3 })).contains("table"));
    }
}
