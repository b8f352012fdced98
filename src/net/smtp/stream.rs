//! The stream between an SMTP server and `lettre`, which trusts its server too much.
//!
//! It hands on one whole, printable, bounded reply at a time, and refuses to send anything while the server has said
//! more than it was asked. It keeps the last reply as it was, and it knows whether the end of a mail has been handed to
//! the connection: from then on, and not before, the server may have taken the mail.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply::{Replies, Reply};

/// The end of a mail (RFC 5321, section 4.1.1.4). Dot stuffing keeps it out of everything else that is sent.
const END: &[u8] = b"\r\n.\r\n";
/// Bytes read from the server at once.
const READ: usize = 4096;

/// What has passed the stream, for the one who drives the connection.
#[derive(Default)]
pub(super) struct Seen(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Reply>,
    /// How many bytes of [`END`] the bytes sent so far end with.
    matched: usize,
    ended: bool,
    /// Bytes sent.
    passed: u64,
}

impl Seen {
    /// Takes the last reply that was read, or the last that told of a failure: `lettre` says goodbye after some.
    pub(super) fn take_reply(&self) -> Option<Reply> {
        self.0.lock().last.take()
    }

    /// Forgets the mail before.
    pub(super) fn begin(&self) {
        *self.0.lock() = State::default();
    }

    /// Whether the end of the mail was handed to the connection.
    pub(super) fn ended(&self) -> bool {
        self.0.lock().ended
    }

    /// Bytes that were handed to the connection since [`Seen::begin`].
    pub(super) fn passed(&self) -> u64 {
        self.0.lock().passed
    }

    fn read(&self, reply: Reply) {
        let last = &mut self.0.lock().last;
        if last.as_ref().is_none_or(|last| last.code < 400) {
            *last = Some(reply);
        }
    }

    fn sent(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        let (matched, ended) = follow(state.matched, bytes);
        state.matched = matched;
        state.ended |= ended;
        state.passed += bytes.len() as u64;
    }

    fn would_end(&self, bytes: &[u8]) -> bool {
        follow(self.0.lock().matched, bytes).1
    }
}

/// How much of [`END`] is matched behind `bytes`, and whether all of it was on the way.
fn follow(matched: usize, bytes: &[u8]) -> (usize, bool) {
    bytes.iter().fold((matched, false), |(matched, ended), byte| {
        let matched = match END.get(matched) {
            Some(wanted) if wanted == byte => matched + 1,
            // The end begins with CR and has a second one; what does not go on there may begin anew.
            _ => usize::from(*byte == b'\r'),
        };
        (matched, ended || matched == END.len())
    })
}

/// See the module.
pub(super) struct Stream<S> {
    inner: S,
    peer: SocketAddr,
    replies: Replies,
    /// The reply that is being handed on, and how much of it is gone.
    out: Vec<u8>,
    given: usize,
    seen: Arc<Seen>,
}

impl<S> Stream<S> {
    /// `greeted`: whether the server's greeting came before TLS. There is none after it, and `lettre` waits for one.
    pub(super) fn new(inner: S, peer: SocketAddr, greeted: bool) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let out = if greeted { b"220 ready\r\n".to_vec() } else { Vec::new() };
        (Stream { inner, peer, replies: Replies::default(), out, given: 0, seen: Arc::clone(&seen) }, seen)
    }

    /// Gives what is left of the reply at hand; false if nothing is.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = self.out.get(self.given..).unwrap_or_default();
        let piece = left.get(..left.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(piece);
        self.given += piece.len();
        !piece.is_empty()
    }

    /// Whether the server has said nothing that was not handed on.
    fn is_quiet(&self) -> bool {
        self.replies.is_empty() && self.given == self.out.len()
    }
}

/// The reply in the form that `lettre` can read: it knows no second digit above 5, and stops at a blank line.
fn for_lettre(reply: &Reply) -> Vec<u8> {
    let code = if reply.code / 10 % 10 > 5 { reply.code / 100 * 100 + 50 + reply.code % 10 } else { reply.code };
    let last = reply.lines.len().saturating_sub(1);
    let line = |(at, text): (usize, &String)| {
        let (mark, text) = (if at == last { ' ' } else { '-' }, if text.is_empty() { "-" } else { text });
        format!("{code}{mark}{text}\r\n")
    };
    reply.lines.iter().enumerate().map(line).collect::<String>().into_bytes()
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads once what the server has said by now.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut bytes = [0; READ];
        let mut read = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(cx, &mut read)? {
            Poll::Ready(()) if read.filled().is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(()) => {
                self.replies.push(read.filled());
                self.replies.next()?.into_iter().for_each(|reply| self.seen.read(reply));
                Err(io::Error::new(io::ErrorKind::InvalidData, "the server answered before the mail ended"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.give(buffer) || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(reply) = this.replies.next()? {
                (this.out, this.given) = (for_lettre(&reply), 0);
                this.seen.read(reply);
                continue;
            }
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.replies.push(read.filled());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.seen.would_end(bytes) {
            // What came before the end is no answer to it, and a connection that is gone must not get it.
            this.poll_listen(cx)?;
        }
        if !this.is_quiet() {
            // Else it would be taken for the answer to what is sent now.
            let error = io::Error::new(io::ErrorKind::InvalidData, "the server answered before it was asked");
            return Poll::Ready(Err(error));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes));
        // TLS may have taken bytes even where it tells of a failure.
        let gone = written.as_ref().map_or(bytes.len(), |count| *count);
        this.seen.sent(bytes.get(..gone).unwrap_or(bytes));
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Stream<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 25))
    }

    #[test]
    fn the_end_of_a_mail_is_seen_in_any_pieces() {
        let end = |pieces: &[&[u8]]| {
            let seen = Seen::default();
            pieces.iter().for_each(|piece| seen.sent(piece));
            seen.ended()
        };
        assert!(end(&[b"a\r\n.\r\n"]) && end(&[b"a\r", b"\n", b".", b"\r", b"\n"]) && end(&[b"\r\r\n.\r\n"]));
        assert!(end(&[b"a\r\n\r\n.\r\n"]) && end(&[b"a\r\n.\r\r\n.\r\n"]));
        assert!(!end(&[b"a\r\n..\r\n"]) && !end(&[b"a\n.\n"]) && !end(&[b"a\r\n.\r"]) && !end(&[b"a\r\n.\n"]));
    }

    #[tokio::test]
    async fn one_reply_is_handed_on_and_a_second_stops_the_next_command() {
        let (near, mut far) = duplex(1024);
        let (mut stream, seen) = Stream::new(near, peer(), true);
        let mut buffer = [0; 200];
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"220 ready\r\n");
        stream.write_all(b"NOOP\r\n").await.unwrap();
        far.write_all(b"571-caf\xe9\n571 \n250 ok\r\n").await.unwrap();
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"551-caf?\r\n551 -\r\n");
        assert_eq!(seen.take_reply().map(|reply| reply.code), Some(571));
        assert_eq!(stream.write(b"NOOP\r\n").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_off() {
        let (near, mut far) = duplex(64 * 1024);
        let (mut stream, _) = Stream::new(near, peer(), false);
        far.write_all(&[b'2'; 16 * 1024]).await.unwrap();
        assert!(stream.read(&mut [0; 100]).await.is_err());
    }
}
