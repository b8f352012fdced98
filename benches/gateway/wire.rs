//! The least of HTTP/1.1 that load and sink need: heads, bodies of a stated length, no pipelining.
//!
//! Load and sink share the machine with what they measure, so what they cost is taken from it. This reads one message at
//! a time into one buffer and never copies a body. It is no parser for strangers: it talks to the gateway only.

use std::io;

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes of a head or a body; more means that the two sides no longer understand each other.
const MOST: usize = 1 << 20;

/// One connection and what was read of it.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

/// A message that lies whole in the buffer of its connection, until [`Wire::forget`].
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    head: usize,
    whole: usize,
}

impl Wire {
    /// Wraps a connection; small writes leave at once.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, buffer: BytesMut::with_capacity(16 << 10) })
    }

    /// Writes all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits for one whole message; none if the other side closed in between two.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Extent>> {
        let mut searched = 0;
        let head = loop {
            // The blank line may straddle what was read last time and what is new.
            let from = usize::saturating_sub(searched, 3);
            if let Some(at) = self.buffer.get(from..).and_then(|fresh| memmem::find(fresh, b"\r\n\r\n")) {
                break from + at + 4;
            }
            searched = self.buffer.len();
            if !self.read().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let length = header(self.buffer.get(..head).unwrap_or_default(), b"content-length").unwrap_or(b"0");
        let length: usize = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|length| *length <= MOST)
            .ok_or_else(|| io::Error::other("content-length is no small number"))?;
        let whole = head + length;
        while self.buffer.len() < whole {
            if !self.read().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Some(Extent { head, whole }))
    }

    /// The first line and the headers of a message.
    pub(crate) fn head(&self, message: Extent) -> &[u8] {
        self.buffer.get(..message.head).unwrap_or_default()
    }

    /// The body of a message.
    pub(crate) fn body(&self, message: Extent) -> &[u8] {
        self.buffer.get(message.head..message.whole).unwrap_or_default()
    }

    /// Makes room for the next message.
    pub(crate) fn forget(&mut self, message: Extent) {
        self.buffer.advance(message.whole);
    }

    async fn read(&mut self) -> io::Result<bool> {
        if self.buffer.len() > MOST {
            return Err(io::Error::other("the head of a message does not end"));
        }
        self.buffer.reserve(8 << 10);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// The value of a header, by its name in lower case.
pub(crate) fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// The status code of an answer's head.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}
