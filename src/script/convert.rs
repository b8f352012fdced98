//! Values across the bridge, in both directions, with bounds.
//!
//! What a script hands over is read under a budget of nodes and bytes: a table that holds itself twice, thirty times
//! over, is small in Lua and a billion nodes here. Numbers are doubles in Luau, so what a double cannot hold exactly
//! crosses as a string.

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use crate::base::json;

/// The largest integer that a double holds exactly, with all below it.
const MAX_SAFE: i64 = (1 << 53) - 1;

/// Bounds on what is read from a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Values.
    pub nodes: usize,
    /// Bytes of strings and keys.
    pub bytes: usize,
    /// Levels.
    pub depth: usize,
}

impl Bounds {
    /// For what a rule passes: variables, levels, lists.
    pub(super) const SMALL: Bounds = Bounds { nodes: 1_000, bytes: 64 << 10, depth: 8 };
    /// For what a connector's map gives and a test builds.
    pub(super) const LARGE: Bounds = Bounds { nodes: 100_000, bytes: 4 << 20, depth: 64 };
}

/// Marks a table as an array even when it is empty, see `array{}` in maps.
pub(super) const ARRAY_MARK: &str = "__array";

/// Reads a value from a script.
///
/// A table whose keys are exactly 1 to n is an array; an empty one is an object unless it was made by `array{}`.
/// Strings that are not UTF-8 are read with U+FFFD in place of what is wrong.
///
/// # Errors
///
/// In plain words: what cannot be converted, or which bound was passed.
pub(super) fn from_lua(value: &Value, bounds: Bounds) -> Result<Json, String> {
    Reader { nodes: bounds.nodes, bytes: bounds.bytes }.value(value, bounds.depth)
}

struct Reader {
    nodes: usize,
    bytes: usize,
}

impl Reader {
    fn value(&mut self, value: &Value, depth: usize) -> Result<Json, String> {
        self.nodes = self.nodes.checked_sub(1).ok_or("it holds too many values")?;
        match value {
            Value::Nil => Ok(Json::Null),
            Value::LightUserData(mark) if mark.0.is_null() => Ok(Json::Null),
            Value::Boolean(b) => Ok((*b).into()),
            Value::Integer(n) => Ok((*n).into()),
            Value::Number(n) => number(*n),
            Value::String(text) => self.text(&text.as_bytes()).map(Json::String),
            Value::Table(table) => self.table(table, depth.checked_sub(1).ok_or("it nests too deep")?),
            other => Err(format!("a {} cannot be passed on", other.type_name())),
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, String> {
        self.bytes = self.bytes.checked_sub(bytes.len()).ok_or("its text is too long")?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<Json, String> {
        let length = table.raw_len();
        let marked = table.metatable().is_some_and(|meta| meta.raw_get::<bool>(ARRAY_MARK).unwrap_or(false));
        if length > self.nodes {
            return Err("it holds too many values".to_owned());
        }
        if length > 0 || marked {
            let mut items = Vec::with_capacity(length);
            for index in 1..=length {
                let item: Value = table.raw_get(index).map_err(|_| "it cannot be read")?;
                items.push(self.value(&item, depth)?);
            }
            let mut seen = 0usize;
            let walked = table.for_each::<Value, Value>(|_, _| {
                seen += 1;
                if seen > length { Err(mlua::Error::runtime("mixed")) } else { Ok(()) }
            });
            if walked.is_err() || seen != length {
                return Err("a table is either a list or has names, not both".to_owned());
            }
            return Ok(Json::Array(items));
        }
        let mut members = serde_json::Map::new();
        let mut wrong = None;
        let walked = table.for_each::<Value, Value>(|key, item| {
            let read = self.key(&key).and_then(|key| Ok((key, self.value(&item, depth)?)));
            match read {
                Ok((key, item)) => {
                    members.insert(key, item);
                    Ok(())
                }
                Err(reason) => {
                    wrong = Some(reason);
                    Err(mlua::Error::runtime("stop"))
                }
            }
        });
        match (wrong, walked) {
            (Some(reason), _) => Err(reason),
            (None, Err(_)) => Err("it cannot be read".to_owned()),
            (None, Ok(())) => {
                // Luau's order of names is its hash table's: sorted, the same content is the same value.
                let mut sorted: Vec<_> = members.into_iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Json::Object(sorted.into_iter().collect()))
            }
        }
    }

    fn key(&mut self, key: &Value) -> Result<String, String> {
        match key {
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => Err("a list has a gap, or a name is a number".to_owned()),
            other => Err(format!("a {} cannot be a name", other.type_name())),
        }
    }
}

fn number(n: f64) -> Result<Json, String> {
    if n.fract() == 0.0 && n.abs() <= MAX_SAFE as f64 {
        return Ok((n as i64).into());
    }
    serde_json::Number::from_f64(n).map(Json::Number).ok_or_else(|| "a number is not finite".to_owned())
}

/// Hands a JSON value to a script. `null` inside an object is absent, inside a list it is `false`'s place kept by nil.
///
/// # Errors
///
/// Only if memory runs out.
pub(super) fn to_lua(lua: &Lua, value: &Json, freeze: bool) -> mlua::Result<Value> {
    Ok(match value {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Boolean(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) if n.abs() <= MAX_SAFE => Value::Number(n as f64),
            (None, Some(f)) if !n.is_u64() => Value::Number(f),
            _ => Value::String(lua.create_string(n.to_string())?),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, to_lua(lua, item, freeze)?)?;
            }
            table.set_readonly(freeze);
            Value::Table(table)
        }
        Json::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (key, item) in members {
                if !item.is_null() {
                    table.raw_set(key.as_str(), to_lua(lua, item, freeze)?)?;
                }
            }
            table.set_readonly(freeze);
            Value::Table(table)
        }
    })
}

/// Hands a payload to a map. Integers of up to 53 bits and decimals that survive a double are numbers; every other
/// number is a string with the digits as written. A member that is `null` is absent; a `null` in a list is `null`.
///
/// # Errors
///
/// Only if memory runs out.
pub(super) fn payload_to_lua(lua: &Lua, value: &json::Value<'_>) -> mlua::Result<Value> {
    Ok(match value {
        json::Value::Null => Value::NULL,
        json::Value::Bool(b) => Value::Boolean(*b),
        json::Value::Number(digits) => match exact(digits) {
            Some(n) => Value::Number(n),
            None => Value::String(lua.create_string(digits.as_ref())?),
        },
        json::Value::String(text) => Value::String(lua.create_string(text.as_ref())?),
        json::Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, payload_to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
        json::Value::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (key, item) in members {
                if !matches!(item, json::Value::Null) {
                    table.raw_set(key.as_ref(), payload_to_lua(lua, item)?)?;
                }
            }
            Value::Table(table)
        }
    })
}

/// The number as a double, if writing that double gives the same digits back.
fn exact(digits: &str) -> Option<f64> {
    if let Ok(n) = digits.parse::<i64>() {
        return (n.abs() <= MAX_SAFE && digits != "-0").then_some(n as f64);
    }
    let n = digits.parse::<f64>().ok().filter(|n| n.is_finite())?;
    (digits.contains('.') && n.to_string() == digits).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Json::from),
            (-MAX_SAFE..=MAX_SAFE).prop_map(Json::from),
            "[a-z\u{e9} ]{0,12}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..6).prop_map(Json::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 1..6)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_goes_in_comes_out(value in any_json()) {
            let lua = Lua::new();
            let there = to_lua(&lua, &value, true).unwrap();
            prop_assert_eq!(from_lua(&there, Bounds::LARGE).unwrap(), value);
        }
    }

    #[test]
    fn digits_survive_that_a_double_would_lose() {
        let lua = Lua::new();
        for (text, number) in
            [("9007199254740993", false), ("42", true), ("-0", false), ("0.5", true), ("1e400", false), ("0.10", false)]
        {
            let there = payload_to_lua(&lua, &json::Value::parse(text.as_bytes()).unwrap()).unwrap();
            match there {
                Value::Number(_) => assert!(number, "{text}"),
                Value::String(s) => assert!(!number && s.to_string_lossy() == text, "{text}"),
                _ => panic!("{text}"),
            }
        }
    }

    #[test]
    fn a_small_table_that_is_huge_when_spelled_out_is_refused() {
        let lua = Lua::new();
        let bomb: Value = lua.load("local t = {} for i = 1, 30 do t = {t, t} end return t").eval().unwrap();
        assert!(from_lua(&bomb, Bounds::LARGE).is_err());
        for text in [
            "return {1, x = 2}",
            "return {[{}] = 1}",
            "return {[3] = 1}",
            "return print",
            "return 0/0",
            "local t = {} t.t = t return t",
        ] {
            let value: Value = lua.load(text).eval().unwrap();
            assert!(from_lua(&value, Bounds::LARGE).is_err(), "{text}");
        }
    }
}
