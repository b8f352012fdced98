//! What is said before TLS on a port with STARTTLS (RFC 3501 section 6.2.1): the greeting, `CAPABILITY`, `STARTTLS`.
//!
//! The invariants: nothing else is ever written here; nothing that came in clear is believed, but that the server wants
//! to go on with TLS; not one byte may lie behind its consent, since it would be taken for the server's private word.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::ImapError;

/// Longest line.
const LINE: usize = 8 * 1024;
/// Most lines in answer to one command.
const LINES: usize = 32;

/// Speaks until the server consents to TLS.
///
/// # Errors
///
/// `Tls` if it has no STARTTLS, refuses it, has logged us in already, or somebody put bytes behind its consent;
/// `Network` if it closes; `Protocol` if it does not speak IMAP.
pub(super) async fn start_tls<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), ImapError> {
    let mut lines = Lines { stream, held: Vec::new() };
    let greeting = lines.next().await?;
    match status(&greeting, "*") {
        Some("OK") => {}
        Some("PREAUTH") => {
            return Err(ImapError::tls("the server logged us in without TLS, so STARTTLS is impossible"));
        }
        Some("BYE") => return Err(ImapError::network("the server turned us away").saying(&greeting)),
        _ => return Err(ImapError::protocol("the server's greeting is not that of IMAP").saying(&greeting)),
    }
    lines.send("P1 CAPABILITY").await?;
    let offers = lines.until("P1").await?;
    if !offers.iter().any(|line| line.split(' ').any(|word| word.eq_ignore_ascii_case("STARTTLS"))) {
        return Err(ImapError::tls("the server offers no STARTTLS, and without TLS nothing is sent"));
    }
    lines.send("P2 STARTTLS").await?;
    let last = lines.until("P2").await?.pop().unwrap_or_default();
    if status(&last, "P2") != Some("OK") {
        return Err(ImapError::tls("the server refuses STARTTLS").saying(&last));
    }
    if lines.held.is_empty() {
        Ok(())
    } else {
        Err(ImapError::tls("somebody put bytes in clear behind the server's consent to TLS"))
    }
}

/// The status word of a line with this tag, in the capitals it has to have.
fn status(line: &str, tag: &str) -> Option<&'static str> {
    let mut words = line.split(' ');
    let of_tag = words.next() == Some(tag);
    let word = words.next().filter(|_| of_tag)?;
    ["OK", "NO", "BAD", "BYE", "PREAUTH"].into_iter().find(|known| word.eq_ignore_ascii_case(known))
}

struct Lines<'s, S> {
    stream: &'s mut S,
    held: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<'_, S> {
    async fn send(&mut self, command: &str) -> Result<(), ImapError> {
        let written = async {
            self.stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| ImapError::of_stream(&error))
    }

    /// All lines up to the one with this tag.
    async fn until(&mut self, tag: &str) -> Result<Vec<String>, ImapError> {
        let mut lines = Vec::new();
        while lines.len() < LINES {
            let line = self.next().await?;
            if status(&line, "*") == Some("BYE") {
                return Err(ImapError::network("the server turned us away").saying(&line));
            }
            let last = status(&line, tag).is_some();
            lines.push(line);
            if last {
                return Ok(lines);
            }
        }
        Err(ImapError::new(super::Fault::Limit, "the server says too much before TLS"))
    }

    async fn next(&mut self) -> Result<String, ImapError> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut self.held, rest);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.held.len() > LINE {
                return Err(ImapError::new(super::Fault::Limit, "a line of the server has no end"));
            }
            let mut block = [0; 1024];
            let came = self.stream.read(&mut block).await.map_err(|error| ImapError::of_stream(&error))?;
            if came == 0 {
                return Err(ImapError::network("the server closed the connection"));
            }
            self.held.extend(block.iter().take(came));
        }
    }
}
