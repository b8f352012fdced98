//! What the demo shows: steps as rows of label and text, a table of checks; as JSON one object a line.
//!
//! Lines are only ever added, so nothing flickers and a pipe gets the same as a terminal, without color.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::report::{self, Paint, Style};
use crate::base::Result;

/// The width that everything fits in.
const WIDTH: usize = 100;
/// Where the labels of rows begin, and their texts.
const LABEL: usize = 4;
const TEXT: usize = 16;
/// The widths of the table's columns: check, expected, seen; the result follows.
const COLUMNS: [usize; 3] = [29, 29, 29];

/// Something that had to hold.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Check {
    /// What was tried.
    pub(super) check: String,
    /// What was expected.
    pub(super) expected: Vec<String>,
    /// What was seen, in the same order.
    pub(super) seen: Vec<String>,
    /// Whether the two agree.
    pub(super) ok: bool,
}

impl Check {
    /// A check of which nothing is known yet.
    pub(super) fn new(check: impl Into<String>) -> Self {
        Check { check: check.into(), ok: true, ..Check::default() }
    }

    /// Adds a value: the check holds only if it is as expected.
    pub(super) fn same(&mut self, expected: impl Into<String>, seen: impl Into<String>) {
        let (expected, seen) = (expected.into(), seen.into());
        self.ok &= expected == seen;
        self.expected.push(expected);
        self.seen.push(seen);
    }

    fn result(&self, paint: Paint) -> String {
        if self.ok { paint.paint(Style::Good, "ok") } else { paint.paint(Style::Bad, "FAILED") }
    }
}

/// A step that was played.
#[derive(Serialize)]
pub(super) struct Shown {
    step: String,
    title: String,
    #[serde(skip)]
    rows: Vec<(&'static str, Vec<String>)>,
    #[serde(flatten)]
    facts: Map<String, Value>,
    /// What had to hold.
    pub(super) check: Check,
}

impl Shown {
    /// A step of which nothing is told yet.
    pub(super) fn new(step: &str, title: &str) -> Self {
        let (rows, facts) = (Vec::new(), Map::new());
        Shown { step: step.to_owned(), title: title.to_owned(), rows, facts, check: Check::new(title) }
    }

    /// Adds a row: lines for people, and the same for programs.
    pub(super) fn row(&mut self, label: &'static str, lines: Vec<String>, facts: Value) {
        self.facts.insert(label.replace(' ', "_"), facts);
        self.rows.push((label, lines));
    }
}

/// Where the demo writes.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    /// Whether programs read it.
    json: bool,
    paint: Paint,
}

impl Screen {
    /// Standard output: for people, or as JSON.
    pub(super) fn new(json: bool) -> Self {
        Screen { json, paint: if json { Paint::plain() } else { Paint::stdout() } }
    }

    /// Says what runs where.
    ///
    /// # Errors
    ///
    /// As [`report::line`].
    pub(super) fn opening(self, places: &[(&'static str, String)]) -> Result<()> {
        if self.json {
            let facts = places.iter().map(|(label, place)| (label.replace(' ', "_"), json!(place)));
            return report::json(&json!({ "started": Value::Object(facts.collect()) }));
        }
        let title = "segue demo: a gateway, a help desk, the providers and a mail server, all on this machine";
        report::line(&self.paint.paint(Style::Strong, title))?;
        report::line("")?;
        for (label, place) in places {
            report::line(&format!("{}{place}", self.paint.paint(Style::Faint, &pad(label, TEXT))))?;
        }
        report::line("")
    }

    /// Shows a step.
    ///
    /// # Errors
    ///
    /// As [`report::line`].
    pub(super) fn step(self, number: usize, shown: &Shown) -> Result<()> {
        if self.json {
            return report::json(shown);
        }
        let title = pad(&cut(&shown.title, WIDTH - LABEL - 8), WIDTH - LABEL - 7);
        let number = pad(&format!("{number:>2}"), LABEL);
        report::line(&format!(
            "{number}{} {}",
            self.paint.paint(Style::Strong, &title),
            shown.check.result(self.paint)
        ))?;
        for (label, lines) in &shown.rows {
            let mut label = pad(label, TEXT - LABEL);
            for text in lines.iter().flat_map(|line| wrap(line, WIDTH - TEXT)) {
                report::line(&format!("{}{}{text}", " ".repeat(LABEL), self.paint.paint(Style::Faint, &label)))?;
                label = " ".repeat(TEXT - LABEL);
            }
        }
        report::line("")
    }

    /// Shows what had to hold, and gives whether all of it did.
    ///
    /// # Errors
    ///
    /// As [`report::line`].
    pub(super) fn table(self, checks: &[Check]) -> Result<bool> {
        let failed = checks.iter().filter(|check| !check.ok).count();
        if self.json {
            report::json(&json!({ "summary": checks, "failed": failed, "ok": failed == 0 }))?;
            return Ok(failed == 0);
        }
        let head = ["check", "expected", "seen"];
        report::line(&self.paint.paint(Style::Strong, &format!("{}result", cells(&head, 0))))?;
        report::line(&self.paint.paint(Style::Faint, &"-".repeat(WIDTH)))?;
        for check in checks {
            let (expected, seen) = (check.expected.join(", "), check.seen.join(", "));
            let texts = [check.check.as_str(), &expected, &seen];
            let height = texts.iter().zip(COLUMNS).map(|(text, width)| wrap(text, width).len()).max().unwrap_or(1);
            for at in 0..height {
                let result = if at == 0 { check.result(self.paint) } else { String::new() };
                report::line(format!("{}{result}", cells(&texts, at)).trim_end())?;
            }
        }
        report::line(&self.paint.paint(Style::Faint, &"-".repeat(WIDTH)))?;
        let (style, verdict) = match failed {
            0 => (Style::Good, format!("all of {} held", checks.len())),
            _ => (Style::Bad, format!("{failed} of {} did not hold", checks.len())),
        };
        report::line(&self.paint.paint(style, &verdict))?;
        Ok(failed == 0)
    }

    /// Shows commands to type: lines that begin with `#` are comments.
    ///
    /// # Errors
    ///
    /// As [`report::line`].
    pub(super) fn commands(self, text: &str) -> Result<()> {
        if self.json {
            return report::json(&json!({ "commands": text }));
        }
        report::line("")?;
        report::line(
            &self.paint.paint(Style::Strong, "It stays up until Ctrl-C. Try it yourself, in another terminal:"),
        )?;
        report::line("")?;
        for line in text.lines() {
            let faint = line.starts_with('#');
            report::line(&if faint { self.paint.paint(Style::Faint, line) } else { line.to_owned() })?;
        }
        report::line("")
    }

    /// Shows an event as it comes.
    ///
    /// # Errors
    ///
    /// As [`report::line`].
    pub(super) fn event(self, event: &Value, brief: &[&str; 4]) -> Result<()> {
        if self.json {
            return report::json(&json!({ "received": event }));
        }
        let [time, kind, channel, text] = brief;
        let head = format!("{} {} {} ", pad(time, 8), pad(kind, 21), pad(channel, 13));
        let room = WIDTH - head.chars().count();
        report::line(&format!("{}{}", self.paint.paint(Style::Faint, &head), cut(text, room)))
    }
}

/// Line `at` of each wrapped cell, in columns.
fn cells(texts: &[&str; 3], at: usize) -> String {
    let cell = |(text, width): (&&str, usize)| pad(wrap(text, width).get(at).map_or("", String::as_str), width + 2);
    texts.iter().zip(COLUMNS).map(cell).collect()
}

/// The text filled up with spaces.
fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// The text cut to a width, with an ellipsis where something is gone.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

/// The text in lines of at most `width` characters, broken at spaces, and in words where one alone is too long.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() > width {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            lines.iter_mut().next_back().into_iter().for_each(|line| line.push(' '));
            used += 1;
        }
        while !rest.is_empty() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            let piece: Vec<char> = rest.drain(..rest.len().min(width - used)).collect();
            used += piece.len();
            lines.iter_mut().next_back().into_iter().for_each(|line| line.extend(&piece));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn breaks_at_spaces_and_long_words_where_it_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefgh", 4), ["a", "abcd", "efgh"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(cut("abcdef", 4), "abc\u{2026}");
    }

    #[test]
    fn a_check_holds_only_if_every_value_does() {
        let mut check = Check::new("x");
        check.same("200", "200");
        assert!(check.ok);
        check.same("vip", "general");
        check.same("a", "a");
        assert!(!check.ok);
        assert_eq!(check.seen, ["200", "general", "a"]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(text in "[a-zé ]{0,200}", width in 1usize..40) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
