//! One machine: Luau with everything taken away that reaches outside, differs between runs or cannot be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::chunk::{ChunkMode, Compiler};
use mlua::{Function, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};

use super::budget::{Budget, Meter, Over};
use super::fault::{HOST_CHUNK, raise};

/// The largest script that is compiled, in bytes.
pub(super) const MAX_SOURCE: usize = 1 << 20;

/// The globals that scripts keep. A list of what is allowed, so that a new Luau cannot bring in something unseen.
const KEPT: &[&str] = &[
    "assert",
    "bit32",
    "buffer",
    "coroutine",
    "error",
    "getmetatable",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "unpack",
    "utf8",
    "vector",
    "xpcall",
];

/// A machine with its meter.
pub(super) struct Sandbox {
    /// The interpreter.
    pub lua: Lua,
    /// What stops it.
    pub meter: Arc<Meter>,
    /// Whether the script itself has raised an error since the last look: then its words may be a customer's.
    pub raised: Arc<AtomicBool>,
    base: usize,
}

impl Sandbox {
    /// A machine with the allowed libraries; the host adds its own functions, then calls [`Sandbox::close`].
    pub(super) fn open() -> mlua::Result<Sandbox> {
        let libs = StdLib::COROUTINE
            | StdLib::TABLE
            | StdLib::STRING
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::MATH
            | StdLib::BUFFER
            | StdLib::VECTOR;
        let lua = Lua::new_with(libs, LuaOptions::default())?;
        // Luau calls these by a fast path that would pass by the replacements in harden.luau.
        lua.set_compiler(
            Compiler::new().set_disabled_builtins(["assert", "tostring", "setmetatable"].map(str::to_owned)),
        );
        let meter = Meter::new();
        let raised = Arc::new(AtomicBool::new(false));
        let host = lua.create_table()?;
        host.raw_set("raised", {
            let raised = raised.clone();
            lua.create_function(move |_, ()| {
                raised.store(true, Ordering::Relaxed);
                Ok(())
            })?
        })?;
        host.raw_set("out_of_memory", {
            let meter = meter.clone();
            lua.create_function(move |_, ()| -> mlua::Result<()> {
                meter.breach(Over::Memory);
                Err(mlua::Error::external(Over::Memory))
            })?
        })?;
        host.raw_set("plain_find", lua.create_function(plain_find)?)?;
        host.raw_set("has_magic", lua.create_function(|_, pattern: LuaString| Ok(has_magic(&pattern.as_bytes())))?)?;
        host.raw_set("describe", lua.create_function(|_, value: Value| Ok(describe(&value)))?)?;
        load_host(&lua, include_str!("lua/harden.luau"))?.call::<()>(host)?;
        let globals = lua.globals();
        let names: Vec<String> =
            globals.pairs::<String, Value>().filter_map(|pair| pair.ok()).map(|pair| pair.0).collect();
        for name in names.iter().filter(|name| !KEPT.contains(&name.as_str())) {
            globals.raw_set(name.as_str(), Value::Nil)?;
        }
        let interrupt = meter.clone();
        lua.set_interrupt(move |_| interrupt.tick().map(|()| VmState::Continue));
        Ok(Sandbox { lua, meter, raised, base: 0 })
    }

    /// Makes libraries and globals read-only. From here on nothing that a script writes outlives its own locals.
    pub(super) fn close(&mut self) -> mlua::Result<()> {
        self.lua.sandbox(true)?;
        self.lua.globals().set_readonly(true);
        Ok(())
    }

    /// Takes what is in use now as the machine's own share, on top of which a call gets its memory budget.
    pub(super) fn settle(&mut self) -> mlua::Result<()> {
        self.lua.gc_collect()?;
        self.base = self.lua.used_memory();
        Ok(())
    }

    /// Runs `call` within `budget`; says which budget was passed, even where the script swallowed it.
    pub(super) fn metered<R>(&self, budget: &Budget, call: impl FnOnce() -> R) -> (R, Option<Over>) {
        self.raised.store(false, Ordering::Relaxed);
        self.meter.start(budget);
        if self.lua.set_memory_limit(self.base.saturating_add(budget.memory)).is_err() {
            // A machine that cannot be limited may not run.
            self.meter.breach(Over::Memory);
        }
        let result = call();
        let over = self.meter.stop();
        // Without a limit every push from our side is a plain call; ours are bounded anyway.
        let _ = self.lua.set_memory_limit(0);
        (result, over)
    }

    /// Whether there is so much left over in this machine that it is better thrown away.
    pub(super) fn bloated(&self, budget: &Budget) -> bool {
        self.lua.used_memory() > self.base.saturating_add(budget.memory / 2)
    }

    /// Compiles a script's text under its own name.
    pub(super) fn compile(&self, name: &str, source: &[u8]) -> mlua::Result<Function> {
        if source.len() > MAX_SOURCE {
            return Err(mlua::Error::runtime(format!("{name}:1: a script may have at most {MAX_SOURCE} bytes")));
        }
        let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
        self.lua.load(source).set_name(format!("={name}")).set_mode(ChunkMode::Text).into_function()
    }
}

/// Compiles one of the host's own Lua files.
pub(super) fn load_host(lua: &Lua, source: &str) -> mlua::Result<Function> {
    lua.load(source).set_name(HOST_CHUNK).set_mode(ChunkMode::Text).into_function()
}

/// A table of functions, read-only.
pub(super) fn frozen(table: Table) -> Table {
    table.set_readonly(true);
    table
}

/// `string.find(s, p, init, true)` in linear time.
fn plain_find(
    lua: &Lua,
    (text, needle, init): (Value, Value, Option<f64>),
) -> mlua::Result<(Option<f64>, Option<f64>)> {
    let as_string = |value: Value| {
        let kind = value.type_name();
        let text = lua.coerce_string(value)?;
        text.ok_or_else(|| raise(lua, format!("string.find takes strings, got {kind}")))
    };
    let (text, needle) = (as_string(text)?, as_string(needle)?);
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let init = init.unwrap_or(1.0);
    let start = if init > 0.0 { init - 1.0 } else { (text.len() as f64 + init).max(0.0) };
    let start = if init == 0.0 { 0 } else { start as usize };
    let found = text.get(start..).and_then(|rest| memchr::memmem::find(rest, &needle));
    Ok(match found {
        Some(at) => (Some((start + at + 1) as f64), Some((start + at + needle.len()) as f64)),
        None => (None, None),
    })
}

/// Whether a pattern holds any of Lua's magic characters; in one pass, where Luau's own search would be interrupted at
/// every byte.
fn has_magic(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// What `tostring` gives for something of the host's: an error's reason, else only the type.
fn describe(value: &Value) -> String {
    match value {
        Value::Error(error) => match super::fault::read(error) {
            super::fault::Failure::Over(over) => over.to_string(),
            super::fault::Failure::Fault(fault) => fault.to_string(),
        },
        other => other.type_name().to_owned(),
    }
}
