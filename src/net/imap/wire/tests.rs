use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, DuplexStream, ReadBuf, duplex};

use super::super::error::Fault;
use super::*;

/// A stream that panics where the parser reads.
struct Panics;

impl AsyncRead for Panics {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("as the parser might")
    }
}

impl AsyncWrite for Panics {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn wire(stream: impl Duplex) -> Wire {
    Wire::new(Box::new(stream), Caps::default(), Times::default())
}

async fn talk(theirs: &mut DuplexStream, text: &str) {
    theirs.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_panic_breaks_the_connection_only() {
    let mut wire = wire(Panics);
    wire.send("NOOP", 0).await.unwrap();
    assert_eq!(wire.receive().await.unwrap_err().fault(), Fault::Protocol);
    assert_eq!(wire.send("NOOP", 0).await.unwrap_err().fault(), Fault::Network);
    assert!(wire.is_broken());
}

#[tokio::test]
async fn no_command_holds_another() {
    let (ours, mut theirs) = duplex(1024);
    let mut wire = wire(ours);
    for command in ["NOOP\r\nS9 LOGOUT", "NOOP\n", "NO\0OP"] {
        assert_eq!(wire.send(command, 0).await.unwrap_err().fault(), Fault::Protocol);
    }
    drop(wire);
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).await.unwrap();
    assert!(sent.is_empty());
}

#[tokio::test]
async fn half_a_command_is_not_gone_on_with() {
    let (ours, _theirs) = duplex(4);
    let mut wire = wire(ours);
    let dropped = tokio::time::timeout(Duration::from_millis(20), wire.send("NOOP", 0)).await;
    assert!(dropped.is_err());
    assert_eq!(wire.send("NOOP", 0).await.unwrap_err().fault(), Fault::Network);
}

#[tokio::test]
async fn what_a_command_did_not_use_is_void() {
    let (ours, mut theirs) = duplex(2 << 20);
    let mut wire = wire(ours);
    wire.send("NOOP", 1 << 30).await.unwrap();
    talk(&mut theirs, "S1 OK\r\n").await;
    assert!(matches!(wire.receive().await.unwrap(), Answer::Done(1, Verdict::Ok, _)));
    wire.send("NOOP", 0).await.unwrap();
    talk(&mut theirs, &"* 1 EXISTS\r\n".repeat(60_000)).await;
    let error = loop {
        match wire.receive().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.fault(), Fault::Limit, "{error}");
}

#[tokio::test]
async fn codes_and_words_are_read() {
    let (ours, mut theirs) = duplex(4096);
    let mut wire = wire(ours);
    talk(&mut theirs, "* OK [UIDNEXT 5]n\u{e4}chste\r\nS7 NO [AUTHENTICATIONFAILED] no\r\nX1 OK\r\n").await;
    wire.send("NOOP", 0).await.unwrap();
    let Answer::Remark(remark) = wire.receive().await.unwrap() else { panic!() };
    assert_eq!(remark.code, Code::UidNext(5));
    let Answer::Done(7, Verdict::No, outcome) = wire.receive().await.unwrap() else { panic!() };
    assert_eq!(outcome.code, Code::Named("AUTHENTICATIONFAILED".into()));
    assert!(matches!(wire.receive().await.unwrap(), Answer::Other));
}
