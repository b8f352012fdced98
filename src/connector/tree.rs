//! TOML with positions: what every table of a manifest is read through.
//!
//! Each key that a table has must be asked for; what was not asked for is refused with the nearest name, so a typing
//! error never means "the default, silently".

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, nearest};

/// A TOML value that knows where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Raw,
}

/// The kinds of TOML value that a manifest uses.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Float(f64),
    Truth(bool),
    List(Vec<Node>),
    Table(Vec<(String, usize, Node)>),
}

impl Node {
    fn of(value: &DeValue<'_>, at: usize) -> Node {
        let value = match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                match i64::from_str_radix(&digits, number.radix()) {
                    Ok(number) => Raw::Integer(number),
                    Err(_) => Raw::Text(digits),
                }
            }
            DeValue::Float(number) => Raw::Float(number.as_str().replace('_', "").parse().unwrap_or_default()),
            DeValue::Boolean(truth) => Raw::Truth(*truth),
            DeValue::Datetime(time) => Raw::Text(time.to_string()),
            DeValue::Array(items) => {
                Raw::List(items.iter().map(|item| Node::of(item.get_ref(), item.span().start)).collect())
            }
            DeValue::Table(table) => Raw::Table(members(table)),
        };
        Node { at, value }
    }

    /// What kind of value this is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Raw::Text(_) => "a string",
            Raw::Integer(_) => "an integer",
            Raw::Float(_) => "a number",
            Raw::Truth(_) => "a boolean",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
        }
    }

    /// `over` laid over this: tables are merged key by key, anything else is replaced.
    pub(super) fn overlaid(&self, over: &Node) -> Node {
        match (&self.value, &over.value) {
            (Raw::Table(base), Raw::Table(upper)) => {
                let mut merged = base.clone();
                for (key, at, value) in upper {
                    match merged.iter_mut().find(|(name, _, _)| name == key) {
                        Some((_, place, old)) => {
                            *place = *at;
                            *old = old.overlaid(value);
                        }
                        None => merged.push((key.clone(), *at, value.clone())),
                    }
                }
                Node { at: over.at, value: Raw::Table(merged) }
            }
            _ => over.clone(),
        }
    }
}

fn members(table: &DeTable<'_>) -> Vec<(String, usize, Node)> {
    let mut members: Vec<(String, usize, Node)> = table
        .iter()
        .map(|(key, value)| {
            (key.get_ref().to_string(), key.span().start, Node::of(value.get_ref(), value.span().start))
        })
        .collect();
    // In the order of the file, which is the order that help texts and forms are shown in.
    members.sort_by_key(|(_, at, _)| *at);
    members
}

/// The file being read and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Notes<'s> {
    file: String,
    source: &'s str,
    pub(super) found: Vec<Diagnostic>,
}

impl<'s> Notes<'s> {
    pub(super) fn new(file: impl Into<String>, source: &'s str) -> Self {
        Notes { file: file.into(), source, found: Vec::new() }
    }

    /// Notes a mistake at a byte offset.
    pub(super) fn wrong(&mut self, at: usize, reason: impl Into<String>) {
        self.found.push(Diagnostic::at(self.file.clone(), self.source, at, reason));
    }

    /// Notes a wrong name with the nearest right one.
    pub(super) fn wrong_name<'n>(
        &mut self,
        at: usize,
        reason: impl Into<String>,
        wanted: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let diagnostic = Diagnostic::at(self.file.clone(), self.source, at, reason);
        self.found.push(diagnostic.suggest(nearest(wanted, known)));
    }

    /// Reads the file as one table.
    pub(super) fn parse(&mut self) -> Option<Table> {
        match DeTable::parse(self.source) {
            Ok(table) => Some(Table::new(0, "the manifest", members(table.get_ref()))),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let reason = error.message().lines().next().unwrap_or("not TOML").to_owned();
                self.wrong(at, reason);
                None
            }
        }
    }
}

/// One table, of which each key is asked for once.
pub(super) struct Table {
    pub(super) at: usize,
    what: String,
    members: Vec<(String, usize, Node)>,
    asked: Vec<&'static str>,
}

impl Table {
    pub(super) fn new(at: usize, what: impl Into<String>, members: Vec<(String, usize, Node)>) -> Self {
        Table { at, what: what.into(), members, asked: Vec::new() }
    }

    /// The table that `node` is, or nothing and a note.
    pub(super) fn of(node: Node, what: impl Into<String>, notes: &mut Notes<'_>) -> Option<Table> {
        let what = what.into();
        match node.value {
            Raw::Table(members) => Some(Table::new(node.at, what, members)),
            _ => {
                notes.wrong(node.at, format!("{what} must be a table, not {}", node.kind()));
                None
            }
        }
    }

    /// What this table is, for messages.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(name, _, _)| name == key)
    }

    /// Takes the value of `key`.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        let at = self.members.iter().position(|(name, _, _)| name == key)?;
        Some(self.members.remove(at).2)
    }

    /// Takes all members: for tables whose keys are the author's own names.
    pub(super) fn take_all(&mut self) -> Vec<(String, usize, Node)> {
        std::mem::take(&mut self.members)
    }

    pub(super) fn text(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Option<(String, usize)> {
        let node = self.take(key)?;
        match node.value {
            Raw::Text(text) => Some((text, node.at)),
            _ => {
                notes.wrong(node.at, format!("`{key}` in {} must be a string, not {}", self.what, node.kind()));
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn need(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Option<(String, usize)> {
        if !self.has(key) {
            self.asked.push(key);
            notes.wrong(self.at, format!("{} needs `{key}`", self.what));
            return None;
        }
        self.text(key, notes)
    }

    pub(super) fn truth(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Option<bool> {
        let node = self.take(key)?;
        match node.value {
            Raw::Truth(truth) => Some(truth),
            _ => {
                notes.wrong(node.at, format!("`{key}` in {} must be true or false, not {}", self.what, node.kind()));
                None
            }
        }
    }

    /// A whole number from `low` to `high`.
    pub(super) fn integer(&mut self, key: &'static str, low: i64, high: i64, notes: &mut Notes<'_>) -> Option<i64> {
        let node = self.take(key)?;
        match node.value {
            Raw::Integer(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                notes.wrong(node.at, format!("`{key}` in {} must be a whole number from {low} to {high}", self.what));
                None
            }
        }
    }

    /// A list of strings, or one string standing for a list of one.
    pub(super) fn texts(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Vec<(String, usize)> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let items = match node.value {
            Raw::Text(text) => return vec![(text, node.at)],
            Raw::List(items) => items,
            _ => {
                notes.wrong(node.at, format!("`{key}` in {} must be a list of strings", self.what));
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.value {
                Raw::Text(text) => texts.push((text, item.at)),
                _ => notes.wrong(item.at, format!("`{key}` in {} must hold strings only", self.what)),
            }
        }
        texts
    }

    /// The elements of a list, or one value standing for a list of one.
    pub(super) fn nodes(&mut self, key: &'static str) -> Vec<Node> {
        match self.take(key) {
            None => Vec::new(),
            Some(Node { value: Raw::List(nodes), .. }) => nodes,
            Some(node) => vec![node],
        }
    }

    pub(super) fn table(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Option<Table> {
        let node = self.take(key)?;
        Table::of(node, format!("`{key}` in {}", self.what), notes)
    }

    /// A list of tables (`[[key]]`), or one table standing for a list of one.
    pub(super) fn tables(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Vec<Table> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let items = match node.value {
            Raw::List(items) => items,
            _ => vec![node],
        };
        items.into_iter().filter_map(|item| Table::of(item, format!("`[[{key}]]`"), notes)).collect()
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(self, notes: &mut Notes<'_>) {
        for (key, at, _) in &self.members {
            let reason = format!("unknown key `{key}` in {}", self.what);
            notes.wrong_name(*at, reason, key, self.asked.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_nobody_asked_for_with_the_nearest_name() {
        let mut notes = Notes::new("x/connector.toml", "name = 'x'\nverzion = 'y'\n");
        let mut table = notes.parse().unwrap();
        table.text("name", &mut notes);
        table.text("version", &mut notes);
        table.finish(&mut notes);
        let said: Vec<String> = notes.found.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["x/connector.toml:2:1: unknown key `verzion` in the manifest; did you mean `version`?"]);
    }

    #[test]
    fn broken_toml_has_a_place() {
        let mut notes = Notes::new("x/connector.toml", "a = 1\nb = = 2\n");
        assert!(notes.parse().is_none());
        assert_eq!(notes.found.first().unwrap().line, 2);
    }

    #[test]
    fn overlays_merge_tables_and_replace_the_rest() {
        let read = |source: &str| {
            let table = DeTable::parse(source).unwrap();
            Node { at: 0, value: Raw::Table(members(table.get_ref())) }
        };
        let merged = read("a = 1\n[t]\nx = 1\ny = 2").overlaid(&read("b = 2\n[t]\ny = 3"));
        let Raw::Table(members) = merged.value else { panic!("not a table") };
        assert_eq!(members.iter().map(|(key, _, _)| key.as_str()).collect::<Vec<_>>(), ["a", "t", "b"]);
        let Some((_, _, Node { value: Raw::Table(inner), .. })) = members.get(1) else { panic!("no table") };
        assert_eq!(inner.get(1).unwrap().2.value, Raw::Integer(3));
    }
}
