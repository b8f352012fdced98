//! IMAP commands as words (RFC 3501, section 9), and the sets of numbers in them.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::lines::Lines;

/// Words of a command.
const WORDS: usize = 300;
/// Bytes of a literal: names and passwords, no mails.
const LITERAL: usize = 1024;
/// Ranges of a set.
const RANGES: usize = 256;

/// The words behind a command's tag. A list in parentheses is one of several texts or none.
pub(super) type Words = Vec<Vec<String>>;

/// Reads a command, asking for its literals: its tag, or `*`, and its words if it is one.
pub(super) async fn read<S>(lines: &mut Lines<S>) -> io::Result<(String, Option<Words>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let line = lines.line().await?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let parts = line.split_once(' ').filter(|(tag, _)| !tag.is_empty() && tag.bytes().all(good));
    let Some((tag, rest)) = parts else { return Ok(("*".to_owned(), None)) };
    let (mut scanner, mut rest) = (Scanner::default(), rest.to_owned());
    loop {
        match scanner.scan(rest.as_bytes()) {
            Some(None) => return Ok((tag.to_owned(), Some(scanner.words))),
            Some(Some(size)) if size <= LITERAL => {
                lines.say("+ go on").await?;
                let text = String::from_utf8(lines.exactly(size).await?).map_err(|_| io::ErrorKind::InvalidData)?;
                scanner.push(text);
                rest = lines.line().await?;
            }
            // A literal that comes without being asked for would be taken for commands.
            _ if rest.ends_with("+}") => return Err(io::ErrorKind::InvalidData.into()),
            _ => return Ok((tag.to_owned(), None)),
        }
    }
}

#[derive(Default)]
struct Scanner {
    words: Words,
    count: usize,
    /// Whether a parenthesis is open; none opens within.
    open: bool,
    /// Whether a word was just taken, so that a space must come before the next.
    after: bool,
}

impl Scanner {
    /// Takes a line; gives the size of the literal that it ends with. None if it is no part of a command.
    fn scan(&mut self, mut rest: &[u8]) -> Option<Option<usize>> {
        while self.count < WORDS {
            rest = match (self.after, rest) {
                (_, [b')', behind @ ..]) if self.open => {
                    (self.open, self.after, rest) = (false, true, behind);
                    continue;
                }
                (true, []) => return (!self.open).then_some(None),
                (true, [b' ', behind @ ..]) => behind,
                (true, _) => return None,
                (false, _) => rest,
            };
            rest = match rest {
                [b'(', behind @ ..] if !self.open => {
                    (self.open, self.after) = (true, false);
                    self.words.push(Vec::new());
                    behind
                }
                [b'"', behind @ ..] => self.quoted(behind)?,
                [b'{', size @ .., b'}'] => return number(std::str::from_utf8(size).ok()?).map(Some),
                _ => self.atom(rest)?,
            };
        }
        None
    }

    fn push(&mut self, text: String) {
        self.after = true;
        self.count = self.count.saturating_add(1);
        match self.words.last_mut().filter(|_| self.open) {
            Some(list) => list.push(text),
            None => self.words.push(vec![text]),
        }
    }

    fn atom<'a>(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let good = |byte: &&u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'(' | b')' | b'{' | b'"');
        let (atom, behind) = rest.split_at_checked(rest.iter().take_while(good).count())?;
        self.push(String::from_utf8(atom.to_vec()).ok().filter(|atom| !atom.is_empty())?);
        Some(behind)
    }

    /// Takes a quoted string after its first quote.
    fn quoted<'a>(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let (mut text, mut bytes) = (String::new(), rest.iter());
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => text.push(char::from(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?)),
                byte if byte.is_ascii() => text.push(char::from(*byte)),
                _ => return None,
            }
        }
        self.push(text);
        Some(bytes.as_slice())
    }
}

/// A number of digits only.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A set of numbers, as ranges.
pub(super) struct Set(Vec<(u32, u32)>);

impl Set {
    /// Reads a set such as `1,5:9,12:*`, in which `*` is `last`. None if it is not one.
    pub(super) fn read(text: &str, last: u32) -> Option<Set> {
        let one = |text: &str| if text == "*" { Some(last) } else { number(text).filter(|number| *number > 0) };
        let range = |part: &str| {
            let (first, second) = part.split_once(':').unwrap_or((part, part));
            let (first, second) = (one(first)?, one(second)?);
            Some((first.min(second), first.max(second)))
        };
        let ranges: Option<Vec<(u32, u32)>> = text.split(',').take(RANGES + 1).map(range).collect();
        ranges.filter(|ranges| ranges.len() <= RANGES).map(Set)
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&number))
    }

    /// Whether all its numbers are from 1 to `last`.
    pub(super) fn is_within(&self, last: u32) -> bool {
        self.0.iter().all(|(low, high)| *low > 0 && *high <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(line: &str) -> Option<String> {
        let mut scanner = Scanner::default();
        let literal = scanner.scan(line.as_bytes())?;
        let told = scanner.words.iter().map(|word| word.join("+"));
        Some(told.chain(literal.map(|size| format!("{{{size}"))).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn words_are_told_apart() {
        for (line, words) in [
            ("a NOOP", "a|NOOP"),
            ("a UID FETCH 1:* (UID BODY.PEEK[]<0.5>)", "a|UID|FETCH|1:*|UID+BODY.PEEK[]<0.5>"),
            (r#"a LOGIN "a \"b\\" x"#, r#"a|LOGIN|a "b\|x"#),
            ("a STORE 1 FLAGS ()", "a|STORE|1|FLAGS|"),
            ("a LOGIN {12}", "a|LOGIN|{12"),
            (r#"a LIST "" *"#, "a|LIST||*"),
        ] {
            assert_eq!(scan(line).as_deref(), Some(words), "{line}");
        }
        for line in ["", " a", "a  b", "a b ", "a (b", "a b)", "a ((b))", "a (b )", "a \"b", "a \"b\"c", "a {1"] {
            assert_eq!(scan(line), None, "{line}");
        }
        for line in ["a {}", "a {1+}", "a \"\\n\"", "a \"é\"", "a é", "a {99999999999999999999}", "a b(c)"] {
            assert_eq!(scan(line), None, "{line}");
        }
        assert_eq!(scan(&"a ".repeat(WORDS + 1)), None);
    }

    #[test]
    fn sets_of_the_standard() {
        let all = |text: &str| Set::read(text, 8).map(|set| (1..=12).filter(|n| set.has(*n)).collect::<Vec<u32>>());
        assert_eq!(all("1:*"), Some((1..=8).collect()));
        assert_eq!(all("5:9,12"), Some(vec![5, 6, 7, 8, 9, 12]));
        assert_eq!(all("10:*"), Some(vec![8, 9, 10]));
        assert_eq!(all("7,3:2,*,3,4294967295:11"), Some(vec![2, 3, 7, 8, 11, 12]));
        for wrong in ["", "0", "1,", ":", "1:", "1:2:3", "a", "+1", "4294967296", "1 2", "-1"] {
            assert_eq!(all(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn scanning_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Scanner::default().scan(&line);
        }

        #[test]
        fn a_set_has_what_its_ranges_have(ranges in proptest::collection::vec((1..40_u32, 1..40_u32), 1..8), n in 1..45_u32) {
            let text: Vec<String> = ranges.iter().map(|(a, b)| format!("{a}:{b}")).collect();
            let set = Set::read(&text.join(","), 1).unwrap();
            prop_assert!(set.is_within(40) && !set.is_within(0));
            let within = ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&n));
            prop_assert_eq!(set.has(n), within);
        }
    }
}
