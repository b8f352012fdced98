//! Content lines: `NAME;PARAMETER=VALUE:VALUE`, folded over several lines (RFC 5545, section 3.1).

use std::borrow::Cow;

/// The most bytes read of a part.
const MOST_TEXT: usize = 512 * 1024;
/// The most bytes kept of a line that is folded; the rest is passed over.
const MOST_LINE: usize = 64 * 1024;

/// `text`, cut at `most` bytes or before the character there.
pub(super) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// The lines of a part with their folds undone.
pub(super) fn unfolded(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let text = cut(text, MOST_TEXT);
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty()).peekable();
    std::iter::from_fn(move || {
        let mut line = Cow::Borrowed(lines.next()?);
        while let Some(next) = lines.next_if(|next| next.starts_with([' ', '\t'])) {
            let rest = next.get(1..).unwrap_or_default();
            if line.len() + rest.len() <= MOST_LINE {
                line.to_mut().push_str(rest);
            }
        }
        Some(line)
    })
}

/// A content line.
pub(super) struct Line<'a> {
    /// The name as written.
    pub(super) name: &'a str,
    /// The parameters as written.
    parameters: &'a str,
    /// The value as written.
    pub(super) value: &'a str,
}

/// Splits a line. `None` if it is none.
pub(super) fn read(line: &str) -> Option<Line<'_>> {
    let line = line.trim_start_matches('\u{feff}');
    let name_end = line.find([';', ':'])?;
    let (name, rest) = line.split_at_checked(name_end)?;
    let colon = unquoted(rest, ':').next()?;
    let (parameters, value) = rest.split_at_checked(colon)?;
    Some(Line { name: name.trim(), parameters, value: value.get(1..).unwrap_or_default() })
}

/// Where `sign` stands outside of double quotes.
fn unquoted(text: &str, sign: char) -> impl Iterator<Item = usize> {
    let mut quoted = false;
    text.char_indices().filter_map(move |(at, c)| {
        quoted ^= c == '"';
        (c == sign && !quoted).then_some(at)
    })
}

impl Line<'_> {
    /// The value of a parameter, without its quotes, with the escapes of RFC 6868 undone.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut starts = unquoted(self.parameters, ';').map(|at| at + 1).peekable();
        while let Some(start) = starts.next() {
            let end = starts.peek().map_or(self.parameters.len(), |next| next - 1);
            let Some((key, value)) = self.parameters.get(start..end).and_then(|one| one.split_once('=')) else {
                continue;
            };
            if key.trim().eq_ignore_ascii_case(name) {
                return Some(unescaped(value.trim().trim_matches('"'), '^'));
            }
        }
        None
    }

    /// The value as text, with its escapes undone, at most `most` bytes of it. `None` if it is empty.
    pub(super) fn text(&self, most: usize) -> Option<String> {
        let text = unescaped(self.value, '\\');
        let text = cut(&text, most).trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// Undoes escapes: `n` behind the sign is a new line, `'` behind `^` is a double quote, anything else is itself.
fn unescaped(text: &str, sign: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != sign {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n' | 'N') => out.push('\n'),
            Some('\'') if sign == '^' => out.push('"'),
            Some(other) if sign == '^' && other != '^' => out.extend(['^', other]),
            Some(other) => out.push(other),
            None => out.push(sign),
        }
    }
    out
}
