//! From what Lua raises to a place and a reason.

use mlua::{Lua, Value};

use super::budget::Over;

/// A mistake of a script, raised by a host function with the place it was called from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The chunk's name; empty if it is not known.
    pub file: String,
    /// The line from 1; 0 if it is not known.
    pub line: u32,
    /// What is wrong.
    pub reason: String,
    /// Whether the reason is the host's own wording, and so holds nothing that a person said.
    pub ours: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.file.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for Fault {}

/// The chunk name of the host's own Lua, never shown as a place.
pub(super) const HOST_CHUNK: &str = "=[segue]";

/// An error at the script's line that is calling now.
pub(super) fn raise(lua: &Lua, reason: impl Into<String>) -> mlua::Error {
    let (file, line) = here(lua);
    mlua::Error::external(Fault { file, line, reason: reason.into(), ours: true })
}

/// The place in a script that is running now.
pub(super) fn here(lua: &Lua) -> (String, u32) {
    for level in 0..24 {
        let place = lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let file = source.short_src.map(|name| name.into_owned()).unwrap_or_default();
            (source.what == "C", file, debug.current_line())
        });
        match place {
            None => break,
            Some((false, file, Some(line))) if !file.starts_with('[') => {
                return (file, u32::try_from(line).unwrap_or(0));
            }
            Some(_) => {}
        }
    }
    (String::new(), 0)
}

/// What went wrong, in our terms.
pub(super) enum Failure {
    /// A budget was passed.
    Over(Over),
    /// The script is wrong.
    Fault(Fault),
}

/// Reads an error of mlua.
pub(super) fn read(error: &mlua::Error) -> Failure {
    match error {
        mlua::Error::MemoryError(_) => Failure::Over(Over::Memory),
        mlua::Error::ExternalError(inner) => match (inner.downcast_ref::<Over>(), inner.downcast_ref::<Fault>()) {
            (Some(over), _) => Failure::Over(*over),
            (_, Some(fault)) => Failure::Fault(fault.clone()),
            _ => plain(inner.to_string()),
        },
        mlua::Error::CallbackError { cause, traceback } => match read(cause) {
            Failure::Fault(fault) if fault.file.is_empty() => {
                let (file, line) = traceback.lines().find_map(place).map(|(f, l, _)| (f, l)).unwrap_or_default();
                Failure::Fault(Fault { file, line, ..fault })
            }
            other => other,
        },
        mlua::Error::WithContext { cause, .. } => read(cause),
        mlua::Error::BadArgument { pos, cause, .. } => {
            let Failure::Fault(inner) = read(cause) else { return read(cause) };
            ours(format!("wrong argument #{pos}: {}", inner.reason))
        }
        mlua::Error::FromLuaConversionError { from, to, .. } => ours(format!("expected {to}, got {from}")),
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => plain(message.clone()),
        other => plain(other.to_string()),
    }
}

fn ours(reason: String) -> Failure {
    Failure::Fault(Fault { file: String::new(), line: 0, reason, ours: true })
}

/// A message of Luau: `file:line: reason`, a traceback after it.
fn plain(message: String) -> Failure {
    let head = message.lines().next().unwrap_or_default();
    if let Some((file, line, reason)) = place(head) {
        return Failure::Fault(Fault { file, line, reason: reason.to_owned(), ours: false });
    }
    let reason =
        head.strip_prefix("[segue]:").and_then(|rest| rest.split_once(": ")).map_or(head, |(_, reason)| reason);
    let found = message.lines().skip(1).find_map(place);
    let (file, line) = found.map(|(file, line, _)| (file, line)).unwrap_or_default();
    Failure::Fault(Fault { file, line, reason: reason.to_owned(), ours: false })
}

/// Splits `file.lua:12: reason` and a traceback's `file.lua:12 function f`.
fn place(text: &str) -> Option<(String, u32, &str)> {
    let text = text.trim_start();
    let (file, rest) = text.split_once(".lua:")?;
    if file.contains([' ', '[', ':', '"']) {
        return None;
    }
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at_checked(digits)?;
    Some((format!("{file}.lua"), number.parse().ok()?, rest.trim_start_matches([':', ' '])))
}

/// The name of a value's type as a script's author knows it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        other => other.type_name(),
    }
}

/// Takes out of a message whatever could be data: what stands between the first and the last `quote` stays only if
/// `known` says that it is the author's own text. Everything between them is one piece, since data may hold quotes too.
pub(super) fn redact(reason: &str, quote: char, known: impl Fn(&str) -> bool) -> String {
    let shown = match (reason.find(quote), reason.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            let (before, after) = (reason.get(..=first).unwrap_or_default(), reason.get(last..).unwrap_or_default());
            let inside = reason.get(first + 1..last).unwrap_or_default();
            format!("{before}{}{after}", if known(inside) { inside } else { "..." })
        }
        _ => reason.to_owned(),
    };
    shown.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_place_in_what_luau_says() {
        let Failure::Fault(fault) = plain("10_a.lua:7: attempt to index nil with 'x'\nstack".into()) else { panic!() };
        assert_eq!(
            (fault.file.as_str(), fault.line, fault.reason.as_str()),
            ("10_a.lua", 7, "attempt to index nil with 'x'")
        );
        assert_eq!(place("no place: here"), None);
    }

    #[test]
    fn keeps_only_quotes_that_are_the_authors() {
        let known = |text: &str| text == "queue";
        assert_eq!(redact("index nil with 'queue'", '\'', known), "index nil with 'queue'");
        assert_eq!(redact("index nil with '+4917012345'", '\'', known), "index nil with '...'");
        assert_eq!(redact("index nil with 'x'+49170'y'", '\'', known), "index nil with '...'");
    }
}
