//! Lines in, bytes out: all that the two servers read and write, bounded in size and time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// Bytes of a line with its end.
pub(super) const LINE: usize = 8 << 10;
/// How long a peer may be silent before it has logged in, and then (RFC 3501, section 5.4).
const STRANGER: Duration = Duration::from_secs(60);
const GUEST: Duration = Duration::from_secs(30 * 60);
/// How long a peer may take to read an answer.
const READING: Duration = Duration::from_secs(60);

/// A connection.
pub(super) struct Lines<S> {
    stream: BufReader<S>,
    /// What came of a line whose end did not come yet.
    held: Vec<u8>,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    pub(super) fn new(stream: S) -> Self {
        Lines { stream: BufReader::new(stream), held: Vec::new(), patience: STRANGER }
    }

    /// The peer has logged in.
    pub(super) fn trust(&mut self) {
        self.patience = GUEST;
    }

    /// The next line without its CRLF; `InvalidData` if it is none. May be dropped while it waits.
    pub(super) async fn line(&mut self) -> io::Result<String> {
        let line = String::from_utf8(self.piece(LINE).await?).map_err(|_| io::ErrorKind::InvalidData)?;
        let text = line.strip_suffix("\r\n").filter(|text| !text.contains(['\r', '\0']));
        Ok(text.ok_or(io::ErrorKind::InvalidData)?.to_owned())
    }

    /// The bytes to the next LF and with it, or `most` bytes if it is not among them. May be dropped while it waits.
    pub(super) async fn piece(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut stream = (&mut self.stream).take(most.saturating_sub(self.held.len()) as u64);
        timeout(self.patience, stream.read_until(b'\n', &mut self.held)).await??;
        if self.held.last() != Some(&b'\n') && self.held.len() < most {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(std::mem::take(&mut self.held))
    }

    /// The next `count` bytes.
    pub(super) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        timeout(self.patience, self.stream.read_exact(&mut bytes)).await??;
        Ok(bytes)
    }

    /// Sends a line.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(format!("{text}\r\n").as_bytes()).await
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(READING, sending).await?
    }

    /// Closes the connection.
    pub(super) async fn close(mut self) -> io::Result<()> {
        timeout(READING, self.stream.shutdown()).await?
    }
}
