//! What a rule reads: the event `e` and what hangs on it, as userdata over the Rust structs.
//!
//! Turning an interaction into tables costs more than running the rules, so the outer levels are read field by field;
//! lists and rarely read objects become read-only tables when they are asked for. An unknown name is an error.

use std::collections::HashMap;
use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::convert::to_lua;
use super::decision::Writer;
use super::diagnostic::{hint, nearest};
use super::fault::{raise, type_name};
use super::questions;
use super::shape::{Shape, shapes};
use crate::base::Timestamp;
use crate::model::{Author, Channel, Conversation, Customer, Interaction};

/// Enrichments below this confidence are not shown by the shortcuts `e.ix.topic` and `e.ix.urgency`.
const CONFIDENT: f64 = 0.5;
/// Names of `e` that a later version brings.
const LATER: &[&str] = &[
    "sla",
    "waited_seconds",
    "queue_state",
    "is_open",
    "next_open",
    "add_hours",
    "experiment",
    "enrich",
    "fact",
    "has_pii",
];

/// What one call is about.
#[derive(Clone)]
pub(super) struct Facts {
    pub now: Timestamp,
    pub kind: String,
    pub interaction: Arc<Interaction>,
    pub conversation: Option<Arc<Conversation>>,
    pub customer: Option<Arc<Customer>>,
    /// The text in lower case, made when a rule first searches it.
    pub lowered: Option<Arc<str>>,
}

/// The state of one call: set before it, taken after it.
#[derive(Default)]
pub(super) struct Call {
    pub facts: Option<Facts>,
    pub writer: Writer,
}

/// A machine's call, shared by the userdata that live as long as the machine.
pub(super) type Shared = Arc<Mutex<Call>>;

/// Serializes the named field of a struct.
macro_rules! pick {
    ($from:expr, $key:expr, $($field:ident)*) => {
        match $key {
            $(stringify!($field) => serde_json::to_value(&$from.$field).ok(),)*
            _ => None,
        }
    };
}

fn interaction_field(ix: &Interaction, key: &str) -> Option<Json> {
    let confident = |name: &str| {
        let found = ix.enrich.get(name).filter(|enrichment| enrichment.confidence >= CONFIDENT);
        Some(found.map_or(Json::Null, |enrichment| enrichment.value.expose().as_str().into()))
    };
    match key {
        "topic" | "urgency" => confident(key),
        "lang" => Some(ix.lang.as_ref().map_or(Json::Null, |lang| lang.tag.as_str().into())),
        _ => pick!(ix, key, id schema conversation_id thread_id channel direction visibility author recipients sent_at
            received_at seq reply_to kind subject text text_new parts mail call enrich reply_until delivery flags raw context
            trace),
    }
}

fn channel_field(channel: &Channel, key: &str) -> Option<Json> {
    pick!(channel, key, kind connector account provider_id name)
}

fn author_field(author: &Author, key: &str) -> Option<Json> {
    pick!(author, key, role customer_id agent_id identifier also display_name trust evidence)
}

fn customer_field(customer: &Customer, key: &str) -> Option<Json> {
    pick!(customer, key, id names identifiers open_issues recent created_at)
}

fn conversation_field(conversation: &Conversation, key: &str) -> Option<Json> {
    pick!(conversation, key, id customer_id state seq opened_at updated_at queue owner links)
}

/// Which struct a userdata shows.
#[derive(Clone, Copy, PartialEq)]
enum Node {
    Interaction,
    Channel,
    Author,
    Customer,
    Conversation,
}

/// A struct as a rule sees it.
struct View {
    node: Node,
    call: Shared,
    /// Names that lead to something kept: nested views and methods.
    kept: Vec<(&'static str, Value)>,
}

/// The event as a rule sees it.
struct Event {
    call: Shared,
    interaction: AnyUserData,
    customer: AnyUserData,
    conversation: AnyUserData,
}

/// Makes the event's userdata for a machine.
pub(super) fn event(lua: &Lua, call: &Shared) -> mlua::Result<AnyUserData> {
    lua.set_app_data(Metatables::default());
    let view = |node, kept| lua.create_userdata(View { node, call: call.clone(), kept });
    let method = |function: Function| Value::Function(function);
    let channel = view(Node::Channel, Vec::new())?;
    let author = view(Node::Author, vec![("trusted", method(questions::trusted(lua, call)?))])?;
    let interaction = view(
        Node::Interaction,
        vec![
            ("channel", Value::UserData(channel)),
            ("author", Value::UserData(author)),
            ("mentions", method(questions::mentions(lua, call)?)),
        ],
    )?;
    let customer = view(
        Node::Customer,
        vec![
            ("has_identifier", method(questions::has_identifier(lua, call)?)),
            ("open_issues", method(questions::open_issues(lua, call)?)),
        ],
    )?;
    let conversation = view(Node::Conversation, Vec::new())?;
    lua.create_userdata(Event { call: call.clone(), interaction, customer, conversation })
}

impl UserData for Event {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let key = name(lua, &key)?;
            let call = this.call.lock();
            let Some(facts) = &call.facts else { return Err(raise(lua, "`e` is only there while a rule runs")) };
            match key.as_str() {
                "ix" => Ok(Value::UserData(this.interaction.clone())),
                "kind" => lua.create_string(&facts.kind).map(Value::String),
                "now" => lua.create_string(facts.now.to_string()).map(Value::String),
                "customer" => {
                    Ok(facts.customer.as_ref().map_or(Value::Nil, |_| Value::UserData(this.customer.clone())))
                }
                "conv" => {
                    Ok(facts.conversation.as_ref().map_or(Value::Nil, |_| Value::UserData(this.conversation.clone())))
                }
                other => Err(raise(lua, unknown_of_event(other))),
            }
        });
        methods.add_meta_method(MetaMethod::NewIndex, |lua, _, _: MultiValue| -> mlua::Result<()> {
            Err(raise(lua, "`e` is read-only; a rule writes to its decision"))
        });
    }
}

/// The names that `e` itself has.
pub(super) const EVENT_FIELDS: &[&str] = &["kind", "now", "ix", "conv", "customer"];

/// The error text for a name that `e` does not have.
pub(super) fn unknown_of_event(key: &str) -> String {
    if LATER.contains(&key) {
        return format!("`e.{key}` is not available in this version");
    }
    format!("`{key}` is not a field of the event{}", hint(nearest(key, EVENT_FIELDS.iter().copied())))
}

impl UserData for View {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let key = name(lua, &key)?;
            if let Some((_, value)) = this.kept.iter().find(|(name, _)| *name == key) {
                return Ok(value.clone());
            }
            let field = {
                let call = this.call.lock();
                let Some(facts) = &call.facts else { return Err(raise(lua, "`e` is only there while a rule runs")) };
                this.read(facts, &key)
            };
            this.show(lua, &key, field)
        });
        methods.add_meta_method(MetaMethod::NewIndex, |lua, _, _: MultiValue| -> mlua::Result<()> {
            Err(raise(lua, "`e` is read-only; a rule writes to its decision"))
        });
    }
}

impl View {
    fn read(&self, facts: &Facts, key: &str) -> Option<Json> {
        match self.node {
            Node::Interaction => interaction_field(&facts.interaction, key),
            Node::Channel => channel_field(&facts.interaction.channel, key),
            Node::Author => author_field(&facts.interaction.author, key),
            Node::Customer => facts.customer.as_ref().and_then(|customer| customer_field(customer, key)),
            Node::Conversation => facts.conversation.as_ref().and_then(|story| conversation_field(story, key)),
        }
    }

    fn show(&self, lua: &Lua, key: &str, field: Option<Json>) -> mlua::Result<Value> {
        let value = match field {
            Some(Json::String(text)) => return lua.create_string(text).map(Value::String),
            Some(Json::Null) => return Ok(Value::Nil),
            Some(value) => value,
            None => return Err(raise(lua, self.unknown(key))),
        };
        let shapes = shapes();
        let object = match self.node {
            Node::Interaction => &shapes.interaction,
            Node::Customer => &shapes.customer,
            Node::Conversation => &shapes.conversation,
            Node::Channel | Node::Author => {
                let name = if self.node == Node::Channel { "channel" } else { "author" };
                match shapes.interaction.field(name) {
                    Some(Shape::Object(object)) => object,
                    _ => return to_lua(lua, &value, true),
                }
            }
        };
        strict(lua, &value, object.field(key).unwrap_or(&Shape::Any))
    }

    fn unknown(&self, key: &str) -> String {
        if LATER.contains(&key) {
            return format!("`{key}` is not available in this version");
        }
        let shapes = shapes();
        match self.node {
            Node::Interaction => shapes.interaction.unknown(key, INTERACTION_SHORTCUTS),
            Node::Customer => shapes.customer.unknown(key, CUSTOMER_METHODS),
            Node::Conversation => shapes.conversation.unknown(key, &[]),
            Node::Channel => nested("channel", key, &[]),
            Node::Author => nested("author", key, AUTHOR_METHODS),
        }
    }
}

/// What `e.ix` has beyond the published fields.
pub(super) const INTERACTION_SHORTCUTS: &[&str] = &["topic", "urgency", "mentions"];
/// The methods of `e.ix.author`.
pub(super) const AUTHOR_METHODS: &[&str] = &["trusted"];
/// The methods of `e.customer`.
pub(super) const CUSTOMER_METHODS: &[&str] = &["has_identifier", "open_issues"];

fn nested(name: &str, key: &str, methods: &[&str]) -> String {
    match shapes().interaction.field(name) {
        Some(Shape::Object(object)) => object.unknown(key, methods),
        _ => format!("`{key}` is not a field of {name}"),
    }
}

/// The key of an index as text.
pub(super) fn name(lua: &Lua, key: &Value) -> mlua::Result<String> {
    match key {
        Value::String(text) => Ok(text.to_string_lossy()),
        other => Err(raise(lua, format!("fields have names, got a {}", type_name(other)))),
    }
}

/// The metatables of strict tables, by the name of their type.
#[derive(Default)]
struct Metatables(HashMap<String, Table>);

/// A read-only table of the given shape: unknown names are errors, absent lists are empty.
pub(super) fn strict(lua: &Lua, value: &Json, shape: &Shape) -> mlua::Result<Value> {
    match (shape, value) {
        (Shape::List(item), Json::Array(values)) => {
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for (index, value) in values.iter().enumerate() {
                table.raw_set(index + 1, strict(lua, value, item)?)?;
            }
            table.set_readonly(true);
            Ok(Value::Table(table))
        }
        (Shape::Object(object), Json::Object(members)) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                table.raw_set(key.as_str(), strict(lua, value, object.field(key).unwrap_or(&Shape::Any))?)?;
            }
            for (key, (shape, _)) in &object.fields {
                if matches!(shape, Shape::List(_)) && !members.contains_key(key) {
                    let empty = lua.create_table()?;
                    empty.set_readonly(true);
                    table.raw_set(key.as_str(), empty)?;
                }
            }
            table.set_metatable(Some(metatable(lua, object)?))?;
            table.set_readonly(true);
            Ok(Value::Table(table))
        }
        (_, value) => to_lua(lua, value, true),
    }
}

fn metatable(lua: &Lua, object: &Arc<super::shape::Object>) -> mlua::Result<Table> {
    if let Some(known) = lua.app_data_ref::<Metatables>().and_then(|tables| tables.0.get(&object.name).cloned()) {
        return Ok(known);
    }
    let meta = lua.create_table()?;
    let shape = object.clone();
    meta.raw_set(
        "__index",
        lua.create_function(move |lua, (_, key): (Value, Value)| {
            let key = name(lua, &key)?;
            match shape.field(&key) {
                Some(_) => Ok(Value::Nil),
                None => Err(raise(lua, shape.unknown(&key, &[]))),
            }
        })?,
    )?;
    meta.raw_set("__metatable", false)?;
    meta.set_readonly(true);
    if let Some(mut tables) = lua.app_data_mut::<Metatables>() {
        tables.0.insert(object.name.clone(), meta.clone());
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChannelKind;

    #[test]
    fn every_published_field_can_be_read() {
        let ix = Interaction::blank(ChannelKind::Chat, "c", "a");
        for (key, _) in shapes().interaction.fields.iter() {
            assert!(interaction_field(&ix, key).is_some(), "{key}");
        }
        let Some(Shape::Object(author)) = shapes().interaction.field("author") else { panic!() };
        assert!(author.fields.keys().all(|key| author_field(&ix.author, key).is_some()));
        let Some(Shape::Object(channel)) = shapes().interaction.field("channel") else { panic!() };
        assert!(channel.fields.keys().all(|key| channel_field(&ix.channel, key).is_some()));
        assert!(interaction_field(&ix, "txet").is_none());
    }
}
