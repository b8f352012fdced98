//! Data files beside the rules: CSV (RFC 4180, with a header line), JSON and TOML.

use mlua::{Lua, Value};
use serde_json::Value as Json;

use super::convert::to_lua;
use super::diagnostic::Diagnostic;
use super::files::PolicyFiles;

/// What a data file holds.
#[derive(Clone)]
pub(super) struct Data(pub Json);

impl Data {
    /// The content as a read-only table.
    pub(super) fn to_lua(&self, lua: &Lua) -> mlua::Result<Value> {
        to_lua(lua, &self.0, true)
    }
}

/// Reads all files in `folder`; what cannot be read is told.
pub(super) fn read_all(files: &PolicyFiles, folder: &str) -> (Vec<(String, Data)>, Vec<Diagnostic>) {
    let (mut data, mut wrong): (Vec<(String, Data)>, _) = (Vec::new(), Vec::new());
    for (name, path, bytes) in files.data(folder) {
        if data.iter().any(|(known, _)| known == name) {
            wrong.push(Diagnostic::at(path, 0, format!("there are two data files named `{name}`")));
            continue;
        }
        match read(path, bytes) {
            Ok(value) => data.push((name.to_owned(), Data(value))),
            Err((line, reason)) => wrong.push(Diagnostic::at(path, line, reason)),
        }
    }
    (data, wrong)
}

fn read(path: &str, bytes: &[u8]) -> Result<Json, (u32, String)> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        (line_at(before), "not UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv") => csv(text)?,
        Some("toml") => {
            let table: toml::Table = toml::from_str(text).map_err(|e: toml::de::Error| {
                let start = e.span().map_or(0, |span| span.start);
                (line_at(text.as_bytes().get(..start).unwrap_or_default()), e.message().to_owned())
            })?;
            serde_json::to_value(table).map_err(|e| (0, e.to_string()))?
        }
        _ => serde_json::from_str(text).map_err(|e| (u32::try_from(e.line()).unwrap_or(0), "not JSON".to_owned()))?,
    };
    match value {
        Json::Array(_) | Json::Object(_) => Ok(value),
        _ => Err((1, "expected a list or an object".to_owned())),
    }
}

fn line_at(before: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', before).count()).unwrap_or(0).saturating_add(1)
}

/// Rows as objects by the header's names; every value is text.
fn csv(text: &str) -> Result<Json, (u32, String)> {
    let mut records = records(text)?.into_iter();
    let Some((_, header)) = records.next() else { return Ok(Json::Array(Vec::new())) };
    let header: Vec<String> = header.into_iter().map(|name| name.trim().to_owned()).collect();
    if header.iter().any(String::is_empty) {
        return Err((1, "a column has no name".to_owned()));
    }
    let mut rows = Vec::new();
    for (line, record) in records {
        if record.len() != header.len() {
            return Err((line, format!("{} values under {} columns", record.len(), header.len())));
        }
        let row = header.iter().cloned().zip(record.into_iter().map(Json::from));
        rows.push(Json::Object(row.collect()));
    }
    Ok(Json::Array(rows))
}

/// The line that a record begins at, and its values.
type Record = (u32, Vec<String>);

/// All records; empty lines are passed over.
fn records(text: &str) -> Result<Vec<Record>, (u32, String)> {
    let (mut all, mut record, mut field): (Vec<Record>, _, _) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut quoted) = (1u32, 1u32, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err((line, "a quote in the middle of a value".to_owned())),
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                line += 1;
                if !(record.is_empty() && field.is_empty()) {
                    record.push(std::mem::take(&mut field));
                    all.push((begun, std::mem::take(&mut record)));
                }
                begun = line;
            }
            other => {
                line += u32::from(other == '\n');
                field.push(other);
            }
        }
    }
    if quoted {
        return Err((begun, "a quoted value has no end".to_owned()));
    }
    if !(record.is_empty() && field.is_empty()) {
        record.push(field);
        all.push((begun, record));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_csv_with_quotes_and_line_ends_of_both_kinds() {
        let rows = csv("phone,name\r\n+1,\"A \"\"B\"\", C\"\n\n+2,\"two\nlines\"").unwrap();
        assert_eq!(
            rows,
            serde_json::json!([{"phone": "+1", "name": "A \"B\", C"}, {"phone": "+2", "name": "two\nlines"}])
        );
        assert_eq!(csv("a,b\n1").unwrap_err().0, 2);
        assert_eq!(csv("a\n\"x").unwrap_err().0, 2);
    }

    #[test]
    fn tells_the_line_of_a_mistake() {
        assert_eq!(read("data/a.json", b"[\n1,,\n]").unwrap_err().0, 2);
        assert_eq!(read("data/a.toml", b"a = 1\nb = \n").unwrap_err().0, 2);
        assert_eq!(read("data/a.csv", b"a\n\xff").unwrap_err().0, 2);
        assert!(read("data/a.json", b"3").is_err());
    }
}
