//! Looks at what an IMAP server sends, byte for byte, before a parser sees it.
//!
//! The parser above allocates what a literal announces, recurses as deep as parentheses go, and panics on a few things.
//! So this refuses them first. The invariant: wherever the parser ends a response, this ends one too, so that no byte
//! that was let through as the content of a literal is ever read as syntax. It holds because a literal is known in one
//! place only, as the value of `BODY[..]` in a FETCH response outside inner parentheses, and refused everywhere else;
//! because a FETCH response ends with its parentheses closed; and because line ends occur nowhere else.
//!
//! What the parser is not needed for does not reach it: untagged responses other than a status, EXISTS, EXPUNGE and FETCH
//! are left out, so that none of an extension can end the connection. A list of capabilities, of which the parser is
//! too particular, goes on as the text of an `* OK`.
//!
//! The forms are those of RFC 3501 section 9 and RFC 9051 section 9.

use std::fmt;

/// What one response, and all responses to a command, may hold.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Bytes of a literal.
    pub literal: u32,
    /// Bytes of a response outside of literals. The parser begins anew with each block that comes, so its time grows with
    /// the square of this.
    pub line: usize,
    /// Parentheses open at once.
    pub depth: u32,
    /// Opening parentheses in a response, also those within quotes.
    pub opens: u32,
    /// Responses without one that ends a command.
    pub responses: u32,
}

impl Default for Caps {
    /// Literals of 1 MiB and a bit, lines of 64 KiB, depth 16, 64 parentheses, 100,000 responses.
    fn default() -> Self {
        Caps { literal: (1 << 20) + (64 << 10), line: 64 << 10, depth: 16, opens: 64, responses: 100_000 }
    }
}

/// Why bytes of a server were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A literal announces too much.
    #[error("a literal of {0} bytes is announced, which is over the limit")]
    Literal(u64),
    /// A response is too long outside of literals.
    #[error("a response has too many bytes outside of literals")]
    Line,
    /// Too many parentheses, at once or in all.
    #[error("a response nests too deep or has too many parentheses")]
    Depth,
    /// Response after response, none of which ends a command.
    #[error("too many responses without one that ends a command")]
    Responses,
    /// More bytes than a command was granted.
    #[error("more bytes than the command can need")]
    Bytes,
    /// No byte for too long.
    #[error("nothing came in time")]
    Idle,
    /// The command did not end in time.
    #[error("the command did not end in time")]
    Deadline,
    /// Not the syntax of IMAP, or a form of it that is not asked for.
    #[error("not the syntax of IMAP: {0}")]
    Syntax(&'static str),
}

/// What kind of response a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Fetch,
    Capability,
    /// Anything that ends with its line.
    Text,
    /// Not passed on.
    Skipped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Line,
    /// After a carriage return that ends a line.
    Return,
    Quoted {
        body: bool,
    },
    Escaped {
        body: bool,
    },
    /// In the number of a literal.
    Count {
        value: u64,
        digits: u8,
    },
    /// After its closing brace, then after the carriage return.
    Counted {
        value: u32,
        returned: bool,
    },
    Literal {
        left: u32,
    },
}

/// How far `{12}` at the end of a line, which is not a FETCH response, has been seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brace {
    No,
    Open,
    Closed,
}

/// Bytes that tell what a line is, at most: more than `* 4294967295 EXPUNGE `.
const HEAD: usize = 32;
const NO_DATE: &[u8] = b"INTERNALDATE NIL";

/// The state between two bytes.
pub(super) struct Tokens {
    caps: Caps,
    at: At,
    kind: Kind,
    brace: Brace,
    /// The beginning of the line, until it is known; it is passed on then.
    head: Vec<u8>,
    /// The last two bytes that were passed on.
    last: [u8; 2],
    line: usize,
    depth: u32,
    opens: u32,
    /// Bytes of [`NO_DATE`] seen.
    date: usize,
    responses: u32,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("line", &self.line).field("depth", &self.depth).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(caps: Caps) -> Self {
        let (at, kind, brace) = (At::Line, Kind::Unknown, Brace::No);
        let head = Vec::with_capacity(HEAD);
        Tokens { caps, at, kind, brace, head, last: [0; 2], line: 0, depth: 0, opens: 0, date: 0, responses: 0 }
    }

    /// A new command is on its way and none before it is open: responses are counted anew.
    pub(super) fn begin(&mut self) {
        self.responses = 0;
    }

    /// Whether a response has just ended, or none began yet.
    #[cfg(test)]
    fn is_between(&self) -> bool {
        self.at == At::Line && self.line == 0
    }

    /// Takes the next bytes and puts what is to be passed on behind `out`, never more than came since the last call and
    /// the beginning of a line. Bytes outside of ASCII in human text become `?`.
    ///
    /// # Errors
    ///
    /// Says why; then none of the bytes may be used, and nothing after them.
    pub(super) fn clean(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        while let Some((byte, after)) = bytes.split_first() {
            if let At::Literal { left } = self.at {
                let (run, after) = bytes.split_at_checked(left as usize).unwrap_or((bytes, &[]));
                out.extend_from_slice(run);
                let left = left.saturating_sub(u32::try_from(run.len()).unwrap_or(u32::MAX));
                self.at = if left == 0 { At::Line } else { At::Literal { left } };
                bytes = after;
                continue;
            }
            self.step(*byte, out)?;
            bytes = after;
        }
        Ok(())
    }

    /// One byte outside of literals.
    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.line = self.line.saturating_add(1);
        if self.line > self.caps.line {
            return Err(Refused::Line);
        }
        if byte == 0 {
            return Err(Refused::Syntax("a NUL outside of a literal"));
        }
        let kept = match self.at {
            At::Line => self.in_line(byte, out)?,
            At::Return if byte == b'\n' => Some(byte),
            At::Return => return Err(Refused::Syntax("a carriage return alone")),
            At::Quoted { body } => self.in_quotes(byte, body)?,
            At::Escaped { body } => {
                self.at = At::Quoted { body };
                Some(byte)
            }
            At::Count { value, digits } => self.in_count(byte, value, digits)?,
            At::Counted { value, returned } => self.after_count(byte, value, returned)?,
            At::Literal { .. } => Some(byte),
        };
        if let Some(kept) = kept.filter(|_| self.kind != Kind::Skipped) {
            self.opens = self.opens.saturating_add(u32::from(kept == b'('));
            if self.opens > self.caps.opens {
                return Err(Refused::Depth);
            }
            self.last = [self.last[1], kept];
            out.push(kept);
        }
        if self.at == At::Return && byte == b'\n' { self.end_line() } else { Ok(()) }
    }

    fn in_line(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<Option<u8>, Refused> {
        if byte == b'\n' {
            return Err(Refused::Syntax("a line feed alone"));
        }
        if byte == b'\r' && self.brace == Brace::Closed {
            return Err(Refused::Syntax("a literal where none belongs"));
        }
        self.brace = match (self.brace, byte) {
            (_, b'{') => Brace::Open,
            (Brace::Open, b'0'..=b'9' | b'+') => Brace::Open,
            (Brace::Open, b'}') => Brace::Closed,
            _ => Brace::No,
        };
        if self.kind == Kind::Unknown {
            let Some(kind) = kind(&self.head, byte) else {
                let doubled = byte == b' ' && self.head.last() == Some(&b' ');
                self.head.extend((!doubled).then_some(byte));
                return Ok(None);
            };
            self.kind = kind;
            match kind {
                Kind::Skipped => {}
                Kind::Capability => out.extend_from_slice(b"* OK CAPABILITY"),
                _ => out.extend_from_slice(&self.head),
            }
        }
        if byte == b'\r' {
            self.at = At::Return;
            return Ok(Some(byte));
        }
        if self.kind == Kind::Fetch {
            if byte == b' ' && self.last[1] == b' ' {
                return Ok(None);
            }
            self.in_fetch(byte)?;
        }
        Ok(Some(if byte.is_ascii() { byte } else { b'?' }))
    }

    fn in_fetch(&mut self, byte: u8) -> Result<(), Refused> {
        self.seek_date(byte)?;
        let value_of_body = matches!(self.last, [b']' | b'>', b' ']);
        match byte {
            b'(' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > self.caps.depth {
                    return Err(Refused::Depth);
                }
            }
            b')' => {
                self.depth = self.depth.checked_sub(1).ok_or(Refused::Syntax("a parenthesis too many"))?;
            }
            b'"' => self.at = At::Quoted { body: value_of_body },
            b'{' if self.depth == 1 && value_of_body => self.at = At::Count { value: 0, digits: 0 },
            b'{' => return Err(Refused::Syntax("a literal where none belongs")),
            _ => {}
        }
        Ok(())
    }

    /// The parser panics on a message without a date.
    fn seek_date(&mut self, byte: u8) -> Result<(), Refused> {
        let byte = byte.to_ascii_uppercase();
        self.date = if NO_DATE.get(self.date) == Some(&byte) {
            self.date.saturating_add(1)
        } else {
            usize::from(NO_DATE.first() == Some(&byte))
        };
        if self.date == NO_DATE.len() { Err(Refused::Syntax("a message without a date")) } else { Ok(()) }
    }

    fn in_quotes(&mut self, byte: u8, body: bool) -> Result<Option<u8>, Refused> {
        match byte {
            b'"' => self.at = At::Line,
            // The parser does not undo escapes, so the content would be another.
            b'\\' if body => return Err(Refused::Syntax("a message with escapes and not as a literal")),
            b'\\' => self.at = At::Escaped { body },
            b'\r' | b'\n' => return Err(Refused::Syntax("quotes that do not end")),
            _ => {}
        }
        Ok(Some(byte))
    }

    fn in_count(&mut self, byte: u8, value: u64, digits: u8) -> Result<Option<u8>, Refused> {
        match byte {
            b'0'..=b'9' if digits < 12 => {
                let value = value.saturating_mul(10).saturating_add(u64::from(byte.saturating_sub(b'0')));
                self.at = At::Count { value, digits: digits.saturating_add(1) };
            }
            b'}' if digits > 0 => {
                let size = u32::try_from(value).ok().filter(|size| *size <= self.caps.literal);
                self.at = At::Counted { value: size.ok_or(Refused::Literal(value))?, returned: false };
            }
            _ => return Err(Refused::Syntax("a literal without its size")),
        }
        Ok(Some(byte))
    }

    fn after_count(&mut self, byte: u8, value: u32, returned: bool) -> Result<Option<u8>, Refused> {
        self.at = match (returned, byte) {
            (false, b'\r') => At::Counted { value, returned: true },
            (true, b'\n') if value == 0 => At::Line,
            (true, b'\n') => At::Literal { left: value },
            _ => return Err(Refused::Syntax("a literal without a line end")),
        };
        Ok(Some(byte))
    }

    fn end_line(&mut self) -> Result<(), Refused> {
        if self.depth > 0 {
            return Err(Refused::Syntax("a parenthesis too few"));
        }
        let goes_on = self.head.first() == Some(&b'*');
        self.responses = if goes_on { self.responses.saturating_add(1) } else { 0 };
        if self.responses > self.caps.responses {
            return Err(Refused::Responses);
        }
        (self.at, self.kind, self.brace) = (At::Line, Kind::Unknown, Brace::No);
        self.head.clear();
        self.last = [0; 2];
        (self.line, self.opens, self.date) = (0, 0, 0);
        Ok(())
    }
}

/// What a line is that begins with `head`, if `byte`, which comes next, shows it.
fn kind(head: &[u8], byte: u8) -> Option<Kind> {
    let Some(words) = head.strip_prefix(b"* ") else {
        // Responses with a tag, and `+`.
        let goes_on = matches!((head, byte), ([], b'*') | (b"*", b' '));
        return (!goes_on).then_some(Kind::Text);
    };
    if !matches!(byte, b' ' | b'\r') {
        return (head.len() >= HEAD).then_some(Kind::Skipped);
    }
    let digits = words.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, word) = words.split_at_checked(digits).unwrap_or_default();
    let is = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
    if number.is_empty() {
        let status = ["OK", "NO", "BAD", "BYE", "PREAUTH"].iter().any(is);
        let other = if is(&"CAPABILITY") { Kind::Capability } else { Kind::Skipped };
        // A space doubled before the first word.
        let begun = !words.is_empty() || byte == b'\r';
        return begun.then_some(if status { Kind::Text } else { other });
    }
    match word {
        [] | b" " if byte == b' ' => None,
        _ if is(&" FETCH") => Some(Kind::Fetch),
        _ if is(&" EXISTS") || is(&" EXPUNGE") => Some(Kind::Text),
        _ => Some(Kind::Skipped),
    }
}

#[cfg(test)]
mod tests;
