//! The replies of an SMTP server, put together from whatever bytes come (RFC 5321, section 4.2).
//!
//! The invariant: no server makes this hold more than [`MOST_REPLY`] bytes, and a reply that is given out is printable
//! ASCII in lines of at most [`MOST_TEXT`] characters, all of one code.

use std::io;
use std::time::Duration;

/// Bytes of one reply.
pub(super) const MOST_REPLY: usize = 64 * 1024;
/// Bytes of one line of a reply, as it comes.
const MOST_LINE: usize = 4096;
/// Characters of a line that are kept.
pub(super) const MOST_TEXT: usize = 500;
/// Characters of a reply that a reason repeats.
const MOST_REASON: usize = 300;
/// The longest wait a server's words can ask for.
const MOST_WAIT: Duration = Duration::from_secs(4 * 3600);

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// 200 to 599.
    pub(super) code: u16,
    /// The text of each line, without the code.
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// The enhanced code at the beginning of the text (RFC 3463), if its class is the code's.
    pub(super) fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut numbers = word.split('.');
        let class = numbers.next().filter(|class| class.len() == 1)?.parse::<u16>().ok()?;
        let rest: Vec<&str> = numbers.collect();
        let is_number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        (class == self.code / 100 && rest.len() == 2 && rest.iter().all(is_number)).then_some(word)
    }

    /// Code and text on one line, bounded.
    pub(super) fn reason(&self) -> String {
        let text = self.lines.iter().filter(|line| !line.is_empty()).map(|line| format!(" {line}")).collect::<String>();
        format!("{}{text}", self.code).chars().take(MOST_REASON).collect()
    }

    /// How long the text asks us to wait, as servers that greylist do: "try again in 5 minutes", "retry after 300s".
    pub(super) fn wait(&self) -> Option<Duration> {
        let text = self.lines.join(" ").to_ascii_lowercase();
        if !["grey", "gray", "retry", "again", "wait", "later"].iter().any(|word| text.contains(word)) {
            return None;
        }
        let words: Vec<&str> = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '.').collect();
        let next = words.iter().skip(1).map(Some).chain([None]);
        let found = words.iter().zip(next).find_map(|(word, next)| {
            let digits = word.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = word.split_at_checked(digits)?;
            let unit = if unit.is_empty() { *next? } else { unit };
            Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds(unit)?)?))
        })?;
        (!found.is_zero()).then(|| found.min(MOST_WAIT))
    }
}

fn seconds(unit: &str) -> Option<u64> {
    match unit.trim_end_matches('.') {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3600),
        _ => None,
    }
}

/// Bytes on the way to becoming replies.
#[derive(Default)]
pub(super) struct Replies {
    /// What came and is not looked at yet: never more than one read beyond a reply.
    raw: Vec<u8>,
    /// The lines of the reply that is being read.
    lines: Vec<String>,
    code: u16,
    /// Bytes of that reply so far.
    bytes: usize,
}

impl Replies {
    /// Adds what was read from the server.
    pub(super) fn push(&mut self, read: &[u8]) {
        self.raw.extend_from_slice(read);
    }

    /// Whether nothing is held: neither a line nor a piece of one.
    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.lines.is_empty()
    }

    /// The next reply, if it is whole. Lines may end in LF alone.
    ///
    /// # Errors
    ///
    /// `InvalidData` if this is no reply, or if it is larger than a reply may be. Nothing can be read after that.
    pub(super) fn next(&mut self) -> io::Result<Option<Reply>> {
        let raw = std::mem::take(&mut self.raw);
        let mut rest = raw.as_slice();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
            rest = after;
            self.bytes += line.len();
            if self.line(line)? {
                self.raw = rest.to_vec();
                self.bytes = 0;
                return Ok(Some(Reply { code: self.code, lines: std::mem::take(&mut self.lines) }));
            }
        }
        if rest.len() > MOST_LINE || self.bytes + rest.len() > MOST_REPLY {
            return Err(no_reply("is larger than a reply may be"));
        }
        self.raw = rest.to_vec();
        Ok(None)
    }

    /// Takes one line; true if it is the last of its reply.
    fn line(&mut self, line: &[u8]) -> io::Result<bool> {
        if line.len() > MOST_LINE || self.bytes > MOST_REPLY {
            return Err(no_reply("is larger than a reply may be"));
        }
        let (code, rest) = line.trim_ascii_end().split_at_checked(3).ok_or_else(|| no_reply("is no reply"))?;
        let code = std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        let code = code.and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
        let code = code.ok_or_else(|| no_reply("is no reply"))?;
        if !self.lines.is_empty() && code != self.code {
            return Err(no_reply("has two codes"));
        }
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(no_reply("is no reply")),
        };
        self.code = code;
        self.lines.push(printable(text));
        Ok(last)
    }
}

/// The text as a reply shows it.
pub(super) fn printable(text: &[u8]) -> String {
    let shown = text.trim_ascii().iter().take(MOST_TEXT);
    shown.map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' }).collect()
}

fn no_reply(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> io::Result<Option<Reply>> {
        let mut replies = Replies::default();
        replies.push(bytes);
        replies.next()
    }

    fn reply(bytes: &[u8]) -> Reply {
        read(bytes).unwrap().unwrap()
    }

    #[test]
    fn replies_of_all_forms_are_read() {
        let plain = |code, lines: &[&str]| Reply { code, lines: lines.iter().map(|line| line.to_string()).collect() };
        assert_eq!(reply(b"250 ok\r\n"), plain(250, &["ok"]));
        assert_eq!(reply(b"250\n"), plain(250, &[""]));
        assert_eq!(reply(b"250-one\r\n250-   \r\n250 two\n"), plain(250, &["one", "", "two"]));
        assert_eq!(reply(b"571 caf\xe9\r\n"), plain(571, &["caf?"]));
        assert_eq!(read(b"250-one\r\n250 tw").unwrap(), None);
    }

    #[test]
    fn what_is_no_reply_is_told() {
        let faulty: [&[u8]; 7] =
            [b"\r\n", b"25\r\n", b"ok\r\n", b"199 a\r\n", b"600 a\r\n", b"250_a\r\n", b"250-a\r\n550 b\r\n"];
        for bytes in faulty {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&[b'2'; MOST_LINE + 1]).is_err());
        assert!(read(&b"250-x\r\n".repeat(MOST_REPLY / 7 + 1)).is_err());
    }

    #[test]
    fn enhanced_codes_agree_with_the_code() {
        assert_eq!(reply(b"550 5.1.1 no such user\r\n").enhanced(), Some("5.1.1"));
        assert_eq!(reply(b"550 4.1.1 no such user\r\n").enhanced(), None);
        assert_eq!(reply(b"550 5.1.1.1 x\r\n").enhanced(), None);
        assert_eq!(reply(b"550 10.0.0.1 is listed\r\n").enhanced(), None);
        assert_eq!(reply(b"550 05.1.1 no such user\r\n").enhanced(), None);
        assert_eq!(reply(b"550 +5.1.1 no such user\r\n").enhanced(), None);
    }

    #[test]
    fn waits_are_read_from_the_words_of_greylisting_servers() {
        let wait = |text: &str| reply(format!("451 {text}\r\n").as_bytes()).wait().map(|wait| wait.as_secs());
        assert_eq!(wait("4.7.1 Greylisted, please try again in 300 seconds"), Some(300));
        assert_eq!(wait("4.2.0 Greylisting in action, retry in 5 minutes."), Some(300));
        assert_eq!(wait("4.7.1 Try again later (retry=120s)"), Some(120));
        assert_eq!(wait("Please wait 1h"), Some(3600));
        assert_eq!(wait("try again in 999999999999999999999 hours"), None);
        assert_eq!(wait("try again in 9999 hours"), Some(4 * 3600));
        assert_eq!(wait("4.7.1 10.0.0.1 try again later"), None);
        assert_eq!(wait("took 5 seconds"), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_unprintable_comes_out(
            bytes in proptest::collection::vec(
                prop_oneof![4 => proptest::sample::select(b"250- \r\n".to_vec()), 1 => any::<u8>()], 0..80),
            cut in 0..80usize,
        ) {
            let all = |pieces: &[&[u8]]| {
                let (mut replies, mut found) = (Replies::default(), Vec::new());
                for piece in pieces {
                    replies.push(piece);
                    loop {
                        match replies.next() {
                            Ok(Some(reply)) => found.push(reply),
                            Ok(None) => break,
                            Err(_) => return (found, true),
                        }
                    }
                }
                (found, false)
            };
            let cut = cut.min(bytes.len());
            let (found, failed) = all(&[&bytes]);
            prop_assert_eq!(all(&[&bytes[..cut], &bytes[cut..]]), (found.clone(), failed));
            for reply in found {
                prop_assert!(reply.lines.iter().all(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
                let _ = (reply.enhanced(), reply.reason(), reply.wait());
            }
        }
    }
}
