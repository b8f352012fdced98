//! The runner for a connector's `map.lua`: payload in, plain data out.
//!
//! A map is a set of global-free functions in one file that ends with `return { name = function ... }`. The file is run
//! afresh for every call, in the same sandbox as a policy.

use std::sync::Arc;

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;

use super::budget::Budget;
use super::convert::{ARRAY_MARK, Bounds, from_lua, payload_to_lua, to_lua};
use super::diagnostic::{Diagnostic, hint, nearest};
use super::fault::{Failure, raise, read, redact};
use super::pool::Pool;
use super::sandbox::{Sandbox, frozen};
use super::vm::diagnose;
use crate::base::{Error, Kind, Timestamp, json};

/// A function that the host lends to maps: a name (`e164`, or `text.upper` in a library) and what it does. `None` is nil.
pub type Helper = (&'static str, fn(&str) -> Option<String>);

/// A compiled map. Cloning shares it, and so its machines.
#[derive(Clone)]
pub struct MapScript(Arc<Inner>);

struct Inner {
    name: String,
    source: String,
    budget: Budget,
    helpers: Vec<Helper>,
    functions: Vec<String>,
    pool: Pool<Machine>,
}

struct Machine {
    sandbox: Sandbox,
    chunk: Function,
}

impl MapScript {
    /// Compiles a map and learns which functions it offers.
    ///
    /// `name` is the file's name as errors show it. The libraries `text` (`trim`, `lower`, `upper`, `starts_with`,
    /// `ends_with`), `time` (`unix`, `unix_ms`), `null`, `array` and the `helpers` are there beside Luau's own.
    ///
    /// # Errors
    ///
    /// Every mistake with its place: syntax, an error as the file runs, or a file that does not return its functions.
    pub fn build(name: &str, source: &str, budget: Budget, helpers: &[Helper]) -> Result<MapScript, Vec<Diagnostic>> {
        let mut inner = Inner {
            name: name.to_owned(),
            source: source.to_owned(),
            budget,
            helpers: helpers.to_vec(),
            functions: Vec::new(),
            pool: Pool::new(),
        };
        let machine = inner.machine().map_err(|error| vec![diagnose(&error, name)])?;
        let (result, over) = machine.sandbox.metered(&budget.for_build(), || machine.chunk.call::<Value>(()));
        let functions = match (over, result) {
            (Some(over), _) => return Err(vec![Diagnostic::at(name, 0, format!("loading the map {over}"))]),
            (None, Err(error)) => return Err(vec![diagnose(&error, name)]),
            (None, Ok(Value::Table(functions))) => functions,
            (None, Ok(_)) => {
                let reason = "a map ends with `return { name = function(payload, context) ... end }`";
                return Err(vec![Diagnostic::at(name, 0, reason)]);
            }
        };
        for pair in functions.pairs::<Value, Value>() {
            match pair {
                Ok((Value::String(key), Value::Function(_))) => inner.functions.push(key.to_string_lossy()),
                _ => return Err(vec![Diagnostic::at(name, 0, "a map returns functions by name and nothing else")]),
            }
        }
        inner.functions.sort();
        inner.pool.give(machine);
        Ok(MapScript(Arc::new(inner)))
    }

    /// The functions that the map offers, sorted.
    pub fn functions(&self) -> &[String] {
        &self.0.functions
    }

    /// Calls one of the map's functions with `args` and then `extra`.
    ///
    /// Numbers that a double cannot hold exactly arrive as strings; a `null` member is absent, a `null` in a list is
    /// `null`. What comes back is read with bounds; an empty table is an object unless made by `array{}`.
    ///
    /// # Errors
    ///
    /// `NotFound` for a function that is not there; `Script` if the map fails or passes its budget, with `file:line` and
    /// without anything from the payload.
    pub fn call(&self, function: &str, args: &[&json::Value<'_>], extra: &Json) -> Result<Json, Error> {
        let inner = &self.0;
        if !inner.functions.iter().any(|known| known == function) {
            let hint = hint(nearest(function, inner.functions.iter().map(String::as_str)));
            return Err(Error::not_found(format!("{} has no function `{function}`{hint}", inner.name)));
        }
        let machine = match inner.pool.take() {
            Some(machine) => machine,
            None => inner.machine().map_err(|error| inner.error(&error))?,
        };
        let mut values = MultiValue::with_capacity(args.len() + 1);
        let lua = &machine.sandbox.lua;
        // Turned into tables before the memory limit is set: each push would be a protected call otherwise. The payload
        // is already bounded by its reader.
        for arg in args {
            values.push_back(payload_to_lua(lua, arg).map_err(|error| inner.error(&error))?);
        }
        values.push_back(to_lua(lua, extra, true).map_err(|error| inner.error(&error))?);
        let carried = lua.used_memory();
        let budget = Budget { memory: inner.budget.memory.saturating_add(carried), ..inner.budget };
        let (result, over) = machine.sandbox.metered(&budget, || -> mlua::Result<Value> {
            let functions: Table = machine.chunk.call(())?;
            let function: Function = functions.raw_get(function)?;
            function.call(values)
        });
        if let Some(over) = over {
            return Err(Error::new(Kind::Script, format!("{}: {over}", inner.name)));
        }
        let answer = match result {
            Ok(value) => from_lua(&value, Bounds::LARGE).map_err(|reason| {
                Error::new(
                    Kind::Script,
                    format!("{}: what `{function}` returned cannot be taken: {reason}", inner.name),
                )
            }),
            Err(error) => match read(&error) {
                Failure::Over(over) => return Err(Error::new(Kind::Script, format!("{}: {over}", inner.name))),
                Failure::Fault(_) => Err(inner.failed(&error, &machine)),
            },
        };
        if !machine.sandbox.bloated(&inner.budget) {
            inner.pool.give(machine);
        }
        answer
    }
}

impl Inner {
    fn machine(&self) -> mlua::Result<Machine> {
        let mut sandbox = Sandbox::open()?;
        install(&sandbox.lua, &self.helpers)?;
        sandbox.close()?;
        let chunk = sandbox.compile(&self.name, self.source.as_bytes())?;
        sandbox.settle()?;
        Ok(Machine { sandbox, chunk })
    }

    fn error(&self, error: &mlua::Error) -> Error {
        Error::new(Kind::Script, diagnose(error, &self.name).to_string())
    }

    /// An error of the map itself; its words are shown only where they stand in the map's own text.
    fn failed(&self, error: &mlua::Error, machine: &Machine) -> Error {
        let Failure::Fault(fault) = read(error) else { return self.error(error) };
        let known = |text: &str| self.source.contains(text);
        let raised = machine.sandbox.raised.load(std::sync::atomic::Ordering::Relaxed);
        let reason = match (fault.ours, raised) {
            (true, _) => fault.reason,
            (false, true) if known(&fault.reason) => fault.reason,
            (false, true) => "the map raised an error of its own (its words may be a customer's)".to_owned(),
            (false, false) => redact(&fault.reason, '\'', known),
        };
        Error::new(Kind::Script, format!("{}:{}: {reason}", self.name, fault.line))
    }
}

/// The libraries of maps.
fn install(lua: &Lua, helpers: &[Helper]) -> mlua::Result<()> {
    let globals = lua.globals();
    let (text, time) = (lua.create_table()?, lua.create_table()?);
    text.raw_set("trim", lua.create_function(|_, s: Option<String>| Ok(s.map(|s| s.trim().to_owned())))?)?;
    text.raw_set("lower", lua.create_function(|_, s: Option<String>| Ok(s.map(|s| s.to_lowercase())))?)?;
    text.raw_set("upper", lua.create_function(|_, s: Option<String>| Ok(s.map(|s| s.to_uppercase())))?)?;
    text.raw_set("starts_with", lua.create_function(|_, (s, part): (String, String)| Ok(s.starts_with(&part)))?)?;
    text.raw_set("ends_with", lua.create_function(|_, (s, part): (String, String)| Ok(s.ends_with(&part)))?)?;
    time.raw_set("unix", lua.create_function(|lua, n: Value| unix(lua, &n, 1000))?)?;
    time.raw_set("unix_ms", lua.create_function(|lua, n: Value| unix(lua, &n, 1))?)?;
    for (name, helper) in helpers {
        let helper = *helper;
        let function = lua.create_function(move |_, s: Option<String>| Ok(s.and_then(|s| helper(&s))))?;
        match name.split_once('.') {
            Some(("text", name)) => text.raw_set(name, function)?,
            Some(("time", name)) => time.raw_set(name, function)?,
            _ => globals.raw_set(*name, function)?,
        }
    }
    globals.raw_set("text", frozen(text))?;
    globals.raw_set("time", frozen(time))?;
    globals.raw_set("null", Value::NULL)?;
    let mark = lua.create_table()?;
    mark.raw_set(ARRAY_MARK, true)?;
    mark.raw_set("__metatable", false)?;
    let mark = frozen(mark);
    globals.raw_set(
        "array",
        lua.create_function(move |lua, list: Option<Table>| {
            let list = match list {
                Some(list) => list,
                None => lua.create_table()?,
            };
            if list.is_readonly() {
                return Err(raise(lua, "array{} takes a table of its own"));
            }
            list.set_metatable(Some(mark.clone()))?;
            Ok(list)
        })?,
    )
}

/// A time in RFC 3339 from a count since 1970, given as a number or as digits; nil stays nil.
fn unix(lua: &Lua, n: &Value, factor: i64) -> mlua::Result<Option<String>> {
    let wrong = || raise(lua, "expected a count of seconds or milliseconds since 1970");
    let millis = match n {
        Value::Nil => return Ok(None),
        Value::Integer(n) => n.saturating_mul(factor),
        Value::Number(n) if n.is_finite() && n.abs() < 1e15 => (n * factor as f64).round() as i64,
        Value::String(digits) => {
            let digits = digits.to_string_lossy();
            match digits.parse::<i64>() {
                Ok(n) => n.saturating_mul(factor),
                Err(_) => {
                    let n = digits.parse::<f64>().ok().filter(|n| n.is_finite() && n.abs() < 1e15).ok_or_else(wrong)?;
                    (n * factor as f64).round() as i64
                }
            }
        }
        _ => return Err(wrong()),
    };
    Ok(Some(Timestamp::from_millis(millis).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(source: &str, payload: &str) -> Result<Json, Error> {
        let helpers: [Helper; 1] = [("shout", |s| (!s.is_empty()).then(|| s.to_uppercase()))];
        let map = MapScript::build("map.lua", source, Budget::default(), &helpers)
            .map_err(|w| Error::config(w[0].to_string()))?;
        let payload = json::Value::parse(payload.as_bytes())?;
        map.call("f", &[&payload], &json!({ "now": "x" }))
    }

    #[test]
    fn maps_a_payload() {
        let source = "return { f = function(p, context)\n local out = array{}\n\
            for _, m in ipairs(p.messages) do out[#out + 1] = { id = m.id, at = time.unix(m.ts), t = text.trim(m.text), s = shout(m.text) } end\n\
            return { items = out, none = array{}, empty = {}, now = context.now, skip = nil, n = p.n } end }";
        let payload = r#"{"messages":[{"id":12345678901234567890,"ts":"1700000000","text":" hé ","gone":null}],"n":2}"#;
        let expected = json!({
            "items": [{"id": "12345678901234567890", "at": "2023-11-14T22:13:20.000Z", "t": "hé", "s": " HÉ "}],
            "none": [], "empty": {}, "now": "x", "n": 2
        });
        assert_eq!(call(source, payload).unwrap(), expected);
    }

    #[test]
    fn tells_the_place_and_never_the_payload() {
        let error = call("return { f = function(p)\n  return p.name.x.y\nend }", r#"{"name":"Ana"}"#).unwrap_err();
        assert_eq!(error.kind(), Kind::Script);
        assert!(error.to_string().starts_with("map.lua:2: ") && !error.to_string().contains("Ana"), "{error}");
        let error =
            call("return { f = function(p)\n  error(\"no \" .. p.name)\nend }", r#"{"name":"Ana"}"#).unwrap_err();
        assert!(error.to_string().starts_with("map.lua:2: ") && !error.to_string().contains("Ana"), "{error}");
        assert!(call("return { f = ", "{}").unwrap_err().to_string().starts_with("map.lua:1:"));
        assert!(call("return 3", "{}").is_err());
        assert!(call("x = 1 return {}", "{}").unwrap_err().to_string().contains("local"));
        assert_eq!(call("return { g = function() end }", "{}").unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_map_keeps_nothing_and_stays_in_its_budget() {
        let source =
            "local n = 0 return { f = function(p) n = n + 1 if p.loop then while true do end end return n end }";
        let map = MapScript::build("map.lua", source, Budget::default(), &[]).unwrap();
        let (calm, wild) = (json::Value::parse(b"{}").unwrap(), json::Value::parse(b"{\"loop\":true}").unwrap());
        assert_eq!(map.call("f", &[&calm], &Json::Null).unwrap(), json!(1));
        assert_eq!(map.call("f", &[&calm], &Json::Null).unwrap(), json!(1));
        assert_eq!(map.call("f", &[&wild], &Json::Null).unwrap_err().kind(), Kind::Script);
        assert_eq!(map.call("f", &[&calm], &Json::Null).unwrap(), json!(1));
    }
}
