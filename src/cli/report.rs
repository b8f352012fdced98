//! Output: for people in words, for programs as one JSON value a line; color only where a person looks on.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::base::{Error, Result};
use crate::config::{Problem, Severity};

/// How something is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Is doubtful.
    Doubtful,
    /// Is what the line is about.
    Strong,
    /// Is context.
    Faint,
}

/// Paints text for one stream, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Paint(std::io::stdout().is_terminal() && wanted())
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Paint(std::io::stderr().is_terminal() && wanted())
    }

    /// Without color.
    pub const fn plain() -> Self {
        Paint(false)
    }

    /// The text in this style.
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Doubtful => "33",
            Style::Strong => "1",
            Style::Faint => "2",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the environment lets us color: <https://no-color.org> and terminals without any.
fn wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints one line to standard output. A reader that went away (`segue ... | head`) is no error.
///
/// # Errors
///
/// [`Kind::Io`](crate::base::Kind) if the line cannot be written.
pub fn line(text: &str) -> Result<()> {
    #[cfg(test)]
    if capture::take(text, true) {
        return Ok(());
    }
    let written = writeln!(std::io::stdout().lock(), "{text}");
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("failed to write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value on a line of its own.
///
/// # Errors
///
/// As [`line()`]; [`Kind::Internal`](crate::base::Kind) if the value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string(value).map_err(|error| Error::internal("failed to write JSON").because(error))?)
}

/// Prints rows, each as JSON or as `shown` says; `none` is what is said to people where there is no row.
///
/// # Errors
///
/// As [`json()`].
pub fn rows<T: Serialize>(rows: &[T], as_json: bool, shown: impl Fn(&T) -> String, none: &str) -> Result<()> {
    for row in rows {
        if as_json {
            json(row)?;
        } else {
            line(&shown(row))?;
        }
    }
    if rows.is_empty() && !as_json {
        note(none);
    }
    Ok(())
}

/// Prints an error to standard error.
pub fn error(error: &Error) {
    let paint = Paint::stderr();
    note(&format!("{} {}", paint.paint(Style::Bad, "error:"), error.full()));
}

/// Prints a line to standard error; where even that fails there is nobody left to tell.
pub fn note(text: &str) {
    #[cfg(test)]
    if capture::take(text, false) {
        return;
    }
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints problems to standard error, each with the line it stands on and a mark under the column.
pub fn problems(problems: &[Problem]) {
    let paint = Paint::stderr();
    let mut files: HashMap<&Path, Option<String>> = HashMap::new();
    for problem in problems {
        let text = files.entry(&problem.file).or_insert_with(|| std::fs::read_to_string(&problem.file).ok());
        note(&render(problem, text.as_deref(), paint));
    }
}

/// One problem as text: the message, then the line it stands on from `source` with a mark under the column.
///
/// ```text
/// segue.toml:9:8: error: this is an integer; expected a size
///   |
/// 9 | body = 5
///   |        ^
/// ```
pub fn render(problem: &Problem, source: Option<&str>, paint: Paint) -> String {
    let (word, style) = match problem.severity {
        Severity::Error => ("error:", Style::Bad),
        Severity::Warning => ("warning:", Style::Doubtful),
    };
    let mut text = format!(
        "{} {} {}",
        paint.paint(Style::Strong, &format!("{}:", problem.place())),
        paint.paint(style, word),
        problem.message()
    );
    let excerpt = source.zip(problem.line.checked_sub(1)).and_then(|(source, above)| {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        source.lines().nth(above as usize)
    });
    if let Some(excerpt) = excerpt {
        let number = problem.line.to_string();
        let margin = " ".repeat(number.len());
        let bar = |left: &str| paint.paint(Style::Faint, &format!("{left} |"));
        let (shown, mark) = marked(excerpt, problem.column as usize);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{}\n{} {shown}\n{} {}",
            bar(&margin),
            bar(&number),
            bar(&margin),
            paint.paint(style, &mark)
        );
    }
    text
}

/// The part of a line around `column` (from 1), and the mark that goes under it. Tabs become spaces, so that the mark
/// stands right; what a quoted value holds is hidden where the key says that it is a secret.
fn marked(line: &str, column: usize) -> (String, String) {
    const WIDTH: usize = 100;
    let clean: Vec<char> = hidden(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = column.saturating_sub(1).min(clean.len());
    let start = if at > WIDTH * 3 / 4 { at - WIDTH / 2 } else { 0 };
    let shown: String = clean.iter().skip(start).take(WIDTH).collect();
    (shown.trim_end().to_owned(), format!("{}^", " ".repeat(at - start)))
}

/// The line with its values blotted out if it speaks of something secret: an excerpt must not carry a credential into a
/// terminal's history or a build log. Lengths are kept, so that columns hold. Values without quotes count too, since
/// leaving the quotes out is one of the faults that an excerpt is shown for.
fn hidden(line: &str) -> String {
    const SECRET: [&str; 6] = ["secret", "token", "password", "key", "sid", "whsec_"];
    let lower = line.to_lowercase();
    let header = line.trim_start().starts_with('[') && !line.contains('=');
    if header || (!SECRET.iter().any(|word| lower.contains(word)) && !lower.contains("://")) {
        return line.to_owned();
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let (length, keep) = match c {
            '"' | '\'' => {
                let inside = rest.get(1..).unwrap_or_default();
                let reference = inside.starts_with("env:") || inside.starts_with("file:");
                (inside.find(c).map_or(rest.len(), |at| at + 2), reference)
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
                (length, word.len() < 6 || is_key(word, after, out.trim().is_empty()))
            }
            c => (c.len_utf8(), true),
        };
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let blot = |c: char| if keep || matches!(c, '"' | '\'') { c } else { '*' };
        out.extend(piece.chars().map(blot));
        rest = after;
    }
    out
}

/// Characters of keys and of credentials.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '.' | ':')
}

/// Whether a word is a key of TOML: made of a key's characters, and followed by an equals sign and the beginning of a
/// value. The padding of base64 is an equals sign as well, so only the first word of a line may have nothing after it.
fn is_key(word: &str, after: &str, first: bool) -> bool {
    let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else { return false };
    let begins = value.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '\'' | '[' | '{' | '-'));
    let letters = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    letters && !word.contains("whsec") && (begins || first)
}

/// What a command under test printed, instead of printing it.
#[cfg(test)]
pub(super) mod capture {
    use std::cell::RefCell;

    thread_local!(static PRINTED: RefCell<Option<(String, String)>> = const { RefCell::new(None) });

    pub(super) fn take(text: &str, output: bool) -> bool {
        PRINTED.with_borrow_mut(|printed| {
            let Some((out, err)) = printed else { return false };
            let to = if output { out } else { err };
            to.push_str(text);
            to.push('\n');
            true
        })
    }

    /// Runs `command` on this thread and gives what it printed to standard output and to standard error.
    pub(in super::super) fn around<T>(command: impl FnOnce() -> T) -> (T, String, String) {
        PRINTED.set(Some(Default::default()));
        let result = command();
        let (out, err) = PRINTED.take().unwrap_or_default();
        (result, out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;
    use proptest::prelude::*;

    fn problem(line: u32, column: u32) -> Problem {
        Problem::new(Place { file: "segue.toml".into(), line, column }, "limits.body", "this is an integer")
    }

    #[test]
    fn shows_the_line_with_a_mark_under_the_column() {
        let text = render(&problem(2, 8), Some("[limits]\nbody = 5\n"), Paint::plain());
        assert_eq!(text, "segue.toml:2:8: error: this is an integer\n  |\n2 | body = 5\n  |        ^");
    }

    #[test]
    fn says_the_place_only_where_there_is_no_line() {
        assert_eq!(render(&problem(9, 1), Some("x"), Paint::plain()), "segue.toml:9:1: error: this is an integer");
        assert_eq!(render(&problem(0, 0), Some("x"), Paint::plain()), "segue.toml: error: this is an integer");
    }

    #[test]
    fn an_excerpt_shows_no_secret() {
        let secret = "options = { app_secret = \"hunter2\", page_token = 'hunter3', app = \"env:APP\" }";
        let text = render(&problem(1, 5), Some(secret), Paint::plain());
        assert!(!text.contains("hunter") && text.contains("\"*******\"") && text.contains("\"env:APP\""), "{text}");
        for bare in
            ["secrets = [whsec_hunter2==]", "bot_token = hunter2", "bot_token = 123456:hunter2=", "token = \"hunter2"]
        {
            let text = render(&problem(1, 5), Some(bare), Paint::plain());
            assert!(!text.contains("hunter") && text.contains("to") | text.contains("secrets"), "{text}");
        }
        assert!(!render(&problem(1, 8), Some("url = \"https://u:hunter2@x\""), Paint::plain()).contains("hunter"));
    }

    proptest! {
        #[test]
        fn renders_any_line_at_any_column(text: String, line in 0u32..9, column: u32) {
            let _ = render(&problem(line, column), Some(&text), Paint(true));
        }
    }
}
