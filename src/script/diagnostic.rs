//! What is wrong with a script, for the person who wrote it.

use std::fmt;

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, relative to the policy's folder.
    pub file: String,
    /// The line, from 1; 0 if the mistake belongs to the file as a whole.
    pub line: u32,
    /// The column, from 1; 1 where only the line is known.
    pub column: u32,
    /// What is wrong.
    pub reason: String,
    /// The nearest name that would have been right.
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// A mistake at a line.
    pub fn at(file: &str, line: u32, reason: impl Into<String>) -> Self {
        Diagnostic { file: file.to_owned(), line, column: 1, reason: reason.into(), suggestion: None }
    }

    /// The same with a suggestion.
    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: reason; did you mean `x`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.reason)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// The known name nearest to `name`, if one is near enough to have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// `; did you mean ...?`, or nothing.
pub(super) fn hint(suggestion: Option<String>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
