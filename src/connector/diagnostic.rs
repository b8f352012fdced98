//! What is wrong with a connector, said so that its author can mend it: file, line, column, reason, nearest name.

use std::fmt;

/// One mistake in a connector's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, relative to the folder that holds the connectors (`acme/connector.toml`).
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 where the whole line is meant.
    pub column: usize,
    /// What is wrong, without a full stop.
    pub reason: String,
    /// The nearest valid name or another way out, if there is one.
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// A mistake that concerns a whole file.
    pub fn of_file(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Diagnostic { file: file.into(), line: 0, column: 0, reason: reason.into(), suggestion: None }
    }

    /// A mistake at a byte offset of `source`.
    pub fn at(file: impl Into<String>, source: &str, offset: usize, reason: impl Into<String>) -> Self {
        let (line, column) = position(source, offset);
        Diagnostic { file: file.into(), line, column, reason: reason.into(), suggestion: None }
    }

    /// The same mistake with a way out.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.reason)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Line and column, both from 1, of a byte offset.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset.min(source.len())).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The known name closest to `wanted`, as a sentence, if one is close enough to be meant.
pub(super) fn nearest<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1) + usize::from(wanted.len() > 4))
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_line_and_column() {
        let source = "a = 1\nb = ü x\n";
        let diagnostic = Diagnostic::at("x/connector.toml", source, source.find('x').unwrap(), "wrong");
        assert_eq!(diagnostic.to_string(), "x/connector.toml:2:7: wrong");
    }

    #[test]
    fn finds_the_nearest_name_or_none() {
        let known = ["whatsapp", "telegram"];
        assert_eq!(nearest("watsapp", known).as_deref(), Some("did you mean `whatsapp`?"));
        assert_eq!(nearest("slack", known), None);
    }
}
