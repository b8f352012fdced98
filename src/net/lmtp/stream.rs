//! A connection as lines and pieces, each with its deadline, and replies that go out together.
//!
//! Replies wait until there is nothing more to read (RFC 2920, section 3.2), or until they are many. What has been read
//! and not yet asked for stays bounded: nothing is read while a whole line is at hand.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// The longest command, in bytes with its CR LF.
pub(super) const LINE_MOST: usize = 2048;
/// How much of a longer one is skipped before the client is given up.
const SKIP_MOST: usize = 64 * 1024;
/// Bytes read at once.
const READ: usize = 16 * 1024;
/// Bytes of replies that wait for others.
const WAITING_MOST: usize = 4096;
/// How long a client may go on sending after the last reply, so that it can read it: a reset would destroy it.
const LINGER: Duration = Duration::from_secs(2);
/// How many bytes of that are read and thrown away.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a connection runs over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Why nothing more can be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The deadline passed.
    Silent,
    /// The connection is closed, or it is to be closed without a word.
    Gone,
}

/// A line of a client.
pub(super) enum Line {
    /// Without its CR LF.
    Whole(BytesMut),
    /// It ended with a bare LF.
    Bare,
    /// It was longer than [`LINE_MOST`].
    Long,
}

/// A connection.
pub(super) struct Stream {
    io: Box<dyn Io>,
    input: BytesMut,
    output: BytesMut,
    write_timeout: Duration,
}

impl Stream {
    pub(super) fn new(io: Box<dyn Io>, write_timeout: Duration) -> Self {
        Stream { io, input: BytesMut::new(), output: BytesMut::new(), write_timeout }
    }

    /// Adds a reply to those that wait; the end of its last line is added here.
    pub(super) fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// The next line, which must have ended by `deadline`.
    pub(super) async fn line(&mut self, deadline: Instant) -> Result<Line, Stop> {
        if self.output.len() > WAITING_MOST {
            self.flush().await?;
        }
        let (mut searched, mut skipped) = (0, 0);
        loop {
            if let Some(at) = self.input.get(searched..).and_then(|fresh| memchr(b'\n', fresh)) {
                let line = self.input.split_to(searched + at + 1);
                return Ok(if skipped > 0 { Line::Long } else { whole(line) });
            }
            searched = self.input.len();
            if searched >= LINE_MOST {
                skipped += searched;
                self.input.clear();
                searched = 0;
            }
            if skipped > SKIP_MOST {
                return Err(Stop::Gone);
            }
            self.fill(deadline).await?;
        }
    }

    /// What comes next, at least one byte of it, whatever it is; to be followed by [`Stream::consume`].
    pub(super) async fn piece(&mut self, deadline: Instant) -> Result<&[u8], Stop> {
        if self.input.is_empty() {
            self.fill(deadline).await?;
        }
        Ok(&self.input)
    }

    /// Drops bytes that [`Stream::piece`] has shown.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.input.advance(bytes.min(self.input.len()));
    }

    /// Whether the client has sent more than was asked for so far.
    pub(super) fn is_ahead(&self) -> bool {
        !self.input.is_empty()
    }

    async fn fill(&mut self, deadline: Instant) -> Result<(), Stop> {
        self.flush().await?;
        self.input.reserve(READ);
        match timeout_at(deadline, self.io.read_buf(&mut self.input)).await {
            Ok(Ok(bytes)) if bytes > 0 => Ok(()),
            Ok(_) => Err(Stop::Gone),
            Err(_) => Err(Stop::Silent),
        }
    }

    /// Sends the replies that wait.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if self.output.is_empty() {
            return Ok(());
        }
        let writing = async {
            while self.output.has_remaining() {
                if self.io.write_buf(&mut self.output).await? == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
            }
            self.io.flush().await
        };
        match timeout(self.write_timeout, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Stop::Gone),
        }
    }

    /// Goes on over TLS.
    pub(super) async fn secure(&mut self, acceptor: &TlsAcceptor) -> Result<(), Stop> {
        self.flush().await?;
        let plain = std::mem::replace(&mut self.io, Box::new(tokio::io::empty()));
        match timeout(self.write_timeout, acceptor.accept(plain)).await {
            Ok(Ok(secured)) => {
                self.io = Box::new(secured);
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::debug!(target: "segue::net", %error, "the TLS handshake of an LMTP client failed");
                Err(Stop::Gone)
            }
            Err(_) => Err(Stop::Gone),
        }
    }

    /// Sends what waits and closes. What the client still sends is thrown away for a moment.
    pub(super) async fn part(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let mut left = LINGER_BYTES;
        let linger = async {
            self.io.shutdown().await?;
            while left > 0 {
                self.input.clear();
                self.input.reserve(READ);
                match self.io.read_buf(&mut self.input).await? {
                    0 => break,
                    bytes => left = left.saturating_sub(bytes),
                }
            }
            std::io::Result::Ok(())
        };
        // Whatever happens now, everything is said.
        let _ = timeout(LINGER, linger).await;
    }
}

/// A line with its LF.
fn whole(mut line: BytesMut) -> Line {
    if line.len() > LINE_MOST {
        return Line::Long;
    }
    if !line.ends_with(b"\r\n") {
        return Line::Bare;
    }
    line.truncate(line.len() - 2);
    Line::Whole(line)
}
