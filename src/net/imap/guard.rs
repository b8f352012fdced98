//! The stream below the IMAP parser: bytes are looked at, counted and timed before they are read.
//!
//! The invariant: no command takes longer, and nothing it makes the server send is larger, than was granted to it before.
//! Time counts only while somebody waits for the server, so a slow reader does not make the server look slow.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::tokens::{Caps, Refused, Tokens};

/// Bytes read at once: what a record of TLS holds.
const BLOCK: usize = 16 << 10;

/// A byte stream to a server that refuses what [`Refused`] lists.
pub struct Guard<S> {
    inner: S,
    tokens: Tokens,
    /// Where bytes are read to, before they are looked at.
    block: Box<[u8]>,
    /// What may be read, of which `given` bytes were.
    ready: Vec<u8>,
    given: usize,
    /// Bytes the server may still send.
    left: u64,
    /// Longest time without a byte.
    quiet: Duration,
    /// When the present wait began, or its last byte came.
    heard: Instant,
    /// When the command must be over.
    until: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> fmt::Debug for Guard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<S> Guard<S> {
    /// Guards `inner`. Nothing may be read before [`Guard::grant`] and [`Guard::wait`].
    pub fn new(inner: S, caps: Caps) -> Self {
        let now = Instant::now();
        let (quiet, alarm) = (Duration::ZERO, Box::pin(sleep_until(now)));
        let (tokens, block) = (Tokens::new(caps), vec![0; BLOCK].into_boxed_slice());
        Guard { inner, tokens, block, ready: Vec::new(), given: 0, left: 0, quiet, heard: now, until: now, alarm }
    }

    /// The server may send `bytes` more than what is left of earlier grants.
    pub fn grant(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes);
    }

    /// What is left of grants is at most `bytes`: commands ended that did not use theirs.
    pub fn grant_at_most(&mut self, bytes: u64) {
        self.left = self.left.min(bytes);
    }

    /// No command is open: what was not used of grants is void, `bytes` may come unasked.
    pub fn rest(&mut self, bytes: u64) {
        self.left = bytes;
        self.tokens.begin();
    }

    /// From now on somebody waits: at most `quiet` for a byte, at most `whole` in all.
    pub fn wait(&mut self, quiet: Duration, whole: Duration) {
        let now = Instant::now();
        self.quiet = quiet;
        self.heard = now;
        self.until = now.checked_add(whole).unwrap_or(now);
        self.set_alarm();
    }

    fn set_alarm(&mut self) {
        let silent = self.heard.checked_add(self.quiet).unwrap_or(self.until);
        self.alarm.as_mut().reset(silent.min(self.until));
    }

    /// Whether the time is over, once nothing else is to be done.
    fn alarmed(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.alarm.as_mut().poll(context));
        let over = Instant::now() >= self.until;
        Poll::Ready(refuse(if over { Refused::Deadline } else { Refused::Idle }))
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads a block into `ready`, which may stay empty; gives the bytes that came, 0 at the end of the stream.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut block = ReadBuf::new(&mut self.block);
        match Pin::new(&mut self.inner).poll_read(context, &mut block) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Poll::Ready(Err(ready!(self.alarmed(context)))),
        }
        let came = block.filled().len();
        self.heard = Instant::now();
        // A server that sends all the time never lets the alarm be asked.
        if self.heard >= self.until {
            return Poll::Ready(Err(refuse(Refused::Deadline)));
        }
        self.set_alarm();
        let rest = self.left.checked_sub(came as u64).ok_or_else(|| refuse(Refused::Bytes));
        self.left = rest?;
        let fresh = self.block.get(..came).unwrap_or_default();
        self.tokens.clean(fresh, &mut self.ready).map_err(refuse)?;
        Poll::Ready(Ok(came))
    }
}

fn refuse(why: Refused) -> io::Error {
    io::Error::other(why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.given >= this.ready.len() {
            this.ready.clear();
            this.given = 0;
            if ready!(this.fill(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let rest = this.ready.get(this.given..).unwrap_or_default();
        let rest = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(rest);
        this.given = this.given.saturating_add(rest.len());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_write(context, bytes) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Ready(Err(ready!(this.alarmed(context)))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Ready(Err(ready!(this.alarmed(context)))),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(error: &io::Error) -> Option<Refused> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()).copied()
    }

    #[tokio::test]
    async fn a_grant_is_not_passed() {
        let (ours, mut theirs) = duplex(1024);
        let mut guard = Guard::new(ours, Caps::default());
        guard.rest(8);
        guard.wait(SECOND, SECOND);
        theirs.write_all(b"* OK\r\n").await.unwrap();
        let mut block = [0; 6];
        guard.read_exact(&mut block).await.unwrap();
        theirs.write_all(b"* OK\r\n").await.unwrap();
        assert_eq!(refused(&guard.read_exact(&mut block).await.unwrap_err()), Some(Refused::Bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_dripping_both_end() {
        let (ours, mut theirs) = duplex(1024);
        let mut guard = Guard::new(ours, Caps::default());
        guard.rest(1024);
        guard.wait(SECOND, 5 * SECOND);
        let mut block = [0; 64];
        assert_eq!(refused(&guard.read(&mut block).await.unwrap_err()), Some(Refused::Idle));
        guard.wait(SECOND, 5 * SECOND);
        let drip = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SECOND / 2).await;
            }
        });
        let began = Instant::now();
        let error = loop {
            match guard.read(&mut block).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(refused(&error), Some(Refused::Deadline));
        assert!(began.elapsed() <= 6 * SECOND);
        drop(guard);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_read_is_not_waited_for() {
        let (ours, _theirs) = duplex(16);
        let mut guard = Guard::new(ours, Caps::default());
        guard.wait(SECOND, 5 * SECOND);
        assert_eq!(refused(&guard.write_all(&[b'x'; 64]).await.unwrap_err()), Some(Refused::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_all_dropped_are_no_end() {
        let (ours, mut theirs) = duplex(1024);
        let mut guard = Guard::new(ours, Caps::default());
        guard.rest(1024);
        guard.wait(SECOND, SECOND);
        theirs.write_all(b"* WHAT is this\r\n").await.unwrap();
        let more = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            theirs.write_all(b"* OK").await.unwrap();
            theirs.write_all(b" hello").await.unwrap();
        };
        let mut text = [0; 10];
        let (read, ()) = tokio::join!(guard.read_exact(&mut text), more);
        assert_eq!((read.unwrap(), &text), (10, b"* OK hello"));
    }
}
