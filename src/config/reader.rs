//! Walking a parsed TOML file: typed access to its keys, with every fault reported and none fatal.
//!
//! Why not `serde`: it stops at the first fault, and an operator who gets to hear of one mistake per run has a bad
//! evening. A [`Section`] remembers which keys it was asked for, so that [`Section::finish`] can name what is unknown and
//! what was probably meant; the list of valid names can therefore never be out of date.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};
use super::source::Source;
use super::units;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Report(RefCell<Vec<Problem>>);

impl Report {
    /// Adds one.
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// All of them.
    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table of the file, present or not.
pub(super) struct Section<'s> {
    source: &'s Source,
    report: &'s Report,
    table: Option<&'s DeTable<'s>>,
    span: Range<usize>,
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

/// A key that is there, with its value.
#[derive(Clone)]
pub(super) struct Field<'s> {
    source: &'s Source,
    report: &'s Report,
    value: &'s DeValue<'s>,
    span: Range<usize>,
    path: String,
}

impl<'s> Section<'s> {
    /// The top of a file.
    pub(super) fn top(source: &'s Source, report: &'s Report, table: &'s DeTable<'s>) -> Self {
        Section { source, report, table: Some(table), span: 0..0, path: String::new(), asked: RefCell::default() }
    }

    /// The value at `key`, if it is there. Asking makes the key known.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'s>> {
        self.asked.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        Some(Field {
            source: self.source,
            report: self.report,
            value: value.get_ref(),
            span: value.span(),
            path: self.path_of(key),
        })
    }

    /// The value at `key`; its absence is a problem.
    pub(super) fn need(&self, key: &'static str, expected: &str) -> Option<Field<'s>> {
        let field = self.get(key);
        if field.is_none() {
            self.error(key, format!("key `{key}` is missing"), expected);
        }
        field
    }

    /// The table at `key`; an absent one reads as empty.
    pub(super) fn table(&self, key: &'static str) -> Section<'s> {
        self.get(key).and_then(|field| field.table()).unwrap_or_else(|| Section {
            source: self.source,
            report: self.report,
            table: None,
            span: self.span.clone(),
            path: self.path_of(key),
            asked: RefCell::default(),
        })
    }

    /// The tables of the array `[[key]]`; none if it is absent.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'s>> {
        let Some(field) = self.get(key) else { return Vec::new() };
        if field.value.is_table() {
            field.wrong_type(&format!("an array of tables: `[[{key}]]` with two brackets"));
            return Vec::new();
        }
        field.list().iter().filter_map(Field::table).collect()
    }

    /// Every key with its value, for tables whose keys are names that the operator chose.
    pub(super) fn entries(&self) -> Vec<(&'s str, Field<'s>)> {
        let Some(table) = self.table else { return Vec::new() };
        let entry = |name: &'s str, value: &'s toml::Spanned<DeValue<'s>>| Field {
            source: self.source,
            report: self.report,
            value: value.get_ref(),
            span: value.span(),
            path: self.path_of(name),
        };
        table.iter().map(|(name, value)| (name.get_ref().as_ref(), entry(name.get_ref(), value))).collect()
    }

    /// Reports every key that nobody asked for, with the nearest that somebody did ask for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        let asked = self.asked.borrow();
        for name in table.keys() {
            let written: &str = name.get_ref();
            if !asked.contains(&written) {
                let mut problem = Problem::new(
                    self.source.place(&name.span()),
                    self.path_of(written),
                    format!("unknown key `{written}`"),
                )
                .near(written, asked.iter().copied());
                if problem.suggestion.is_none() {
                    let mut names = asked.clone();
                    names.sort_unstable();
                    problem = problem.expected(format!("one of {}", quoted(names)));
                }
                self.report.add(problem);
            }
        }
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.source.place(&self.span)
    }

    /// Reports a problem with the table as a whole, about its key `key`.
    pub(super) fn error(&self, key: &str, reason: impl Into<String>, expected: &str) {
        let problem = Problem::new(self.place(), self.path_of(key), reason);
        self.report.add(if expected.is_empty() { problem } else { problem.expected(expected) });
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'s> Field<'s> {
    /// The text.
    pub(super) fn text(&self) -> Option<&'s str> {
        self.text_for("a string")
    }

    /// The text; any other type is not what was `expected`.
    fn text_for(&self, expected: &str) -> Option<&'s str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type(expected);
        }
        text
    }

    /// The text, read by `parse`; where that gives nothing, the value is not what was `expected`.
    pub(super) fn parse<T>(&self, expected: &str, parse: impl FnOnce(&'s str) -> Option<T>) -> Option<T> {
        let text = self.text()?;
        let value = parse(text);
        if value.is_none() {
            self.add(self.problem(format!("{} is not valid", shown(text))).expected(expected));
        }
        value
    }

    /// True or false.
    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type("true or false");
        }
        flag
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(written) = self.value.as_integer() else {
            self.wrong_type(&expected);
            return None;
        };
        let value = u64::from_str_radix(written.as_str(), written.radix()).ok();
        self.within(value, &range, written, &expected)
    }

    /// A number within `range`.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let value = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
            _ => {
                self.wrong_type(&expected);
                return None;
            }
        };
        match value {
            Some(value) if range.contains(&value) => Some(value),
            _ => {
                self.add(self.problem("the number is out of range").expected(expected));
                None
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (from, to) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        let expected = format!("a duration from {from} to {to}, such as \"90s\" or \"2h\"");
        let text = self.text_for(&expected)?;
        let value = match units::duration(text) {
            Ok(value) => Some(value),
            Err(_) => {
                self.add(self.problem(format!("{} is no duration", shown(text))).expected(expected));
                return None;
            }
        };
        self.within(value, &range, text, &expected)
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = (units::show_size(*range.start()), units::show_size(*range.end()));
        let expected = format!("a size from {from} to {to}, such as \"2MiB\"");
        let text = self.text_for(&expected)?;
        let value = match units::size(text) {
            Ok(value) => Some(value),
            Err(_) => {
                self.add(self.problem(format!("{} is no size", shown(text))).expected(expected));
                return None;
            }
        };
        self.within(value, &range, text, &expected)
    }

    /// The elements of an array.
    pub(super) fn list(&self) -> Vec<Field<'s>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type("an array");
            return Vec::new();
        };
        let element = |(index, value): (usize, &'s toml::Spanned<DeValue<'s>>)| Field {
            source: self.source,
            report: self.report,
            value: value.get_ref(),
            span: value.span(),
            path: format!("{}[{index}]", self.path),
        };
        array.iter().enumerate().map(element).collect()
    }

    /// The elements of an array, each read by `parse` and expected to be different from the others.
    pub(super) fn set<T: PartialEq>(&self, parse: impl Fn(&Field<'s>) -> Option<T>) -> Vec<T> {
        let mut values = Vec::new();
        for field in self.list() {
            match parse(&field) {
                Some(value) if values.contains(&value) => field.error("listed twice"),
                Some(value) => values.push(value),
                None => {}
            }
        }
        values
    }

    /// The value as a table.
    pub(super) fn table(&self) -> Option<Section<'s>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.wrong_type("a table");
        }
        table.map(|table| Section {
            source: self.source,
            report: self.report,
            table: Some(table),
            span: self.span.clone(),
            path: self.path.clone(),
            asked: RefCell::default(),
        })
    }

    /// The value as it was parsed, for values of any type.
    pub(super) fn value(&self) -> &'s DeValue<'s> {
        self.value
    }

    /// Where the value stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(&self.span)
    }

    /// Whether everybody on this machine can read the file it stands in.
    pub(super) fn is_open_to_all(&self) -> bool {
        self.source.open_to_all
    }

    /// The path of the key, such as `helpdesk[0].url`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A problem with this value, for adding to and then reporting by [`Field::add`].
    pub(super) fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem::new(self.place(), self.path.clone(), reason)
    }

    /// Reports a problem.
    pub(super) fn add(&self, problem: Problem) {
        self.report.add(problem);
    }

    /// Reports that something is wrong with this value.
    pub(super) fn error(&self, reason: impl Into<String>) {
        self.add(self.problem(reason));
    }

    /// Reports that the value has a type that cannot be used.
    pub(super) fn wrong_type(&self, expected: &str) {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.add(self.problem(format!("this is {article} {}", self.value.type_str())).expected(expected));
    }

    fn within<T: PartialOrd>(
        &self,
        value: Option<T>,
        range: &RangeInclusive<T>,
        written: impl Display,
        expected: &str,
    ) -> Option<T> {
        match value {
            Some(value) if range.contains(&value) => Some(value),
            _ => {
                self.add(self.problem(format!("{written} is out of range")).expected(expected));
                None
            }
        }
    }
}

/// What was written, in backquotes, cut so that a pasted file does not fill the screen.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut cut: String = text.chars().take(MOST).map(printable).collect();
    if text.chars().nth(MOST).is_some() {
        cut.push('…');
    }
    format!("`{cut}`")
}

/// Names in backquotes, separated by commas.
pub(super) fn quoted<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
