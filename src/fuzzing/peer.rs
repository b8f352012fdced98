//! A peer that says what a script tells it, for the targets that read connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ends a turn: what follows is said only once the other side has said something.
pub(super) const TURN: u8 = 0x1e;
/// Ends a piece: what follows comes with another read.
pub(super) const CUT: u8 = 0x1f;

/// What was said to a peer.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// All of it, by now.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

/// One end of a connection. It closes behind its script.
pub(super) struct Peer {
    script: Vec<u8>,
    at: usize,
    /// The other side has said something since the last turn.
    asked: bool,
    waiting: Option<Waker>,
    heard: Heard,
}

impl Peer {
    /// One that takes turns as the script says.
    pub(super) fn new(script: &[u8]) -> (Peer, Heard) {
        let heard = Heard::default();
        (Peer { script: script.to_vec(), at: 0, asked: false, waiting: None, heard: heard.clone() }, heard)
    }
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = this.script.get(this.at..).unwrap_or_default();
            match rest.first() {
                Some(&TURN) if !this.asked => {
                    this.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Some(&mark @ (TURN | CUT)) => {
                    this.asked &= mark == CUT;
                    this.at += 1;
                }
                _ => {
                    let end = memchr::memchr2(TURN, CUT, rest).unwrap_or(rest.len()).min(buffer.remaining());
                    buffer.put_slice(rest.get(..end).unwrap_or_default());
                    this.at += end;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.heard.0.lock().extend_from_slice(bytes);
        this.asked = true;
        this.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
