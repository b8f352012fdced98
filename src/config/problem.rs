//! Problems: what is wrong in a file, where, what was expected, and what was probably meant.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 where the file as a whole is meant.
    pub column: u32,
}

impl Place {
    /// A file as a whole.
    pub fn file(path: &Path) -> Self {
        Place { file: path.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but is probably not what was meant.
    Warning,
}

/// One problem in a configuration file.
///
/// Displayed on one line: `segue.toml:3:1: unknown key `listne`; did you mean `listen`?`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 where the file as a whole is meant.
    pub column: u32,
    /// The key concerned, as a path such as `limits.body`; empty for faults of the TOML itself.
    pub key: String,
    /// What is wrong. Never holds the value of a secret.
    pub reason: String,
    /// What was expected, if that says more than the reason.
    pub expected: Option<String>,
    /// The nearest valid name.
    pub suggestion: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl Problem {
    /// An error at `place` about `key`.
    pub fn new(place: Place, key: impl Into<String>, reason: impl Into<String>) -> Self {
        Problem {
            file: place.file,
            line: place.line,
            column: place.column,
            key: key.into(),
            reason: reason.into(),
            expected: None,
            suggestion: None,
            severity: Severity::Error,
        }
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Suggests the name among `valid` that is nearest to `written`, if one is near.
    #[must_use]
    pub fn near<'v>(mut self, written: &str, valid: impl IntoIterator<Item = &'v str>) -> Self {
        self.suggestion = nearest(written, valid).map(str::to_owned);
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Whether it keeps the configuration from being used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, column: self.column }
    }

    /// The message without its place.
    pub fn message(&self) -> String {
        let mut text = self.reason.clone();
        if let Some(expected) = &self.expected {
            text.push_str("; expected ");
            text.push_str(expected);
        }
        if let Some(name) = &self.suggestion {
            text.push_str(&format!("; did you mean `{name}`?"));
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.is_error() { "" } else { "warning: " };
        write!(f, "{}: {warning}{}", self.place(), self.message())
    }
}

/// The name among `valid` that is nearest to `written`, if it is near enough to be what was meant.
///
/// # Example
///
/// ```
/// use segue::config::nearest;
/// assert_eq!(nearest("listne", ["listen", "limits"]), Some("listen"));
/// assert_eq!(nearest("zebra", ["listen", "limits"]), None);
/// ```
pub fn nearest<'v>(written: &str, valid: impl IntoIterator<Item = &'v str>) -> Option<&'v str> {
    // A name of hundreds of characters is no slip of the finger, and comparing it would cost its square.
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase();
    let score = |name: &str| {
        let contained = written.len() >= 3 && name.len() >= 3 && (name.contains(&written) || written.contains(name));
        let begun = written.chars().zip(name.chars()).take_while(|(a, b)| a == b).count() >= 4;
        (strsim::damerau_levenshtein(&written, name), contained || begun)
    };
    valid
        .into_iter()
        .map(|name| (score(&name.to_lowercase()), name))
        .filter(|((distance, alike), name)| *alike || *distance <= (name.chars().count().max(3)) / 3)
        .min_by_key(|((distance, _), _)| *distance)
        .map(|(_, name)| name)
}
