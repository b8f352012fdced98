//! Peers that mean no good, on real sockets: bodies that come a byte at a time, and HTTP/2 connections flooded with frames.
//! Each is let go, everybody else is served meanwhile, and nothing grows or is stored.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::http::Call;
use crate::support::{provider, wait};

/// How long a body may take at this gateway.
const BODY_TIME: Duration = Duration::from_millis(500);
/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much more memory a flood may leave the gateway with, in KiB.
const GROWTH: u64 = 32 << 10;

async fn gateway() -> (Gateway, Project, HelpDesk) {
    let desk = HelpDesk::start().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .whatsapp("whatsapp", "http://127.0.0.1:9")
        .limits(&format!("body_timeout = \"{}ms\"", BODY_TIME.as_millis()));
    (Gateway::start(&project).await, project, desk)
}

/// A message that is good but for the way it is sent, as HTTP/1.1: its head and its body.
fn message() -> (Vec<u8>, Vec<u8>) {
    let call = provider::whatsapp_text("whatsapp", "15550009999", "wamid.slow", "hello");
    let headers: String = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = call.body.len();
    let head = format!("POST {} HTTP/1.1\r\nHost: gateway\r\n{headers}Content-Length: {length}\r\n\r\n", call.target);
    (head.into_bytes(), call.body.to_vec())
}

async fn connect(base: &str) -> TcpStream {
    let socket = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    // Each write is a packet of its own.
    socket.set_nodelay(true).unwrap();
    socket
}

/// Everybody else is served as ever: the door answers, and a message gets through.
async fn others_are_served(gateway: &Gateway, desk: &HelpDesk, id: &str) {
    let begun = Instant::now();
    assert_eq!(gateway.send(&Call::new(http::Method::GET, "/healthz")).await.status, 200);
    gateway.accept(&provider::whatsapp_text("whatsapp", "15550001000", id, "still here")).await;
    wait::promised("others are served", begun.elapsed(), Duration::from_secs(5));
    desk.wait_until(id, |delivery| delivery.provider_id() == id).await;
}

/// Sends a body a byte at a time, at this pace, until the gateway answers; gives the answer and how long it took.
async fn dribble(base: String, pace: Duration) -> (String, Duration) {
    let (head, body) = message();
    let mut socket = connect(&base).await;
    // Before the head, from which on the gateway counts.
    let begun = Instant::now();
    socket.write_all(&head).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let mut answer = Vec::new();
    let writes = async {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for byte in &body {
            ticks.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = timeout(PATIENCE, reader.read_to_end(&mut answer)) => drop(read.expect("a dribbling peer is let go")),
        () = writes => {}
    }
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_come_a_byte_at_a_time_are_cut_and_hold_nobody_up() {
    let (gateway, project, desk) = gateway().await;
    let before = gateway.memory();
    let (_, body) = message();
    // At this pace a whole body would take many times as long as it may.
    let pace = BODY_TIME * 20 / body.len() as u32;
    let peers: Vec<_> = (0..64).map(|_| tokio::spawn(dribble(gateway.base().to_owned(), pace))).collect();
    others_are_served(&gateway, &desk, "wamid.good.1").await;
    for peer in peers {
        let (answer, took) = peer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "after {took:?}: {answer}");
        assert!(took >= BODY_TIME, "cut too early, after {took:?}");
    }
    // One that is as chopped and in time is as good as any.
    let (head, body) = message();
    let mut socket = connect(gateway.base()).await;
    socket.write_all(&head).await.unwrap();
    for byte in &body {
        socket.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    others_are_served(&gateway, &desk, "wamid.good.2").await;
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 3);
    assert!(gateway.memory() < before + GROWTH, "{} KiB before, {} after", before, gateway.memory());
}

// === HTTP/2, by hand (RFC 9113, section 4.1) ===

const DATA_NEVER: u32 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The error code of a peer that is too much (section 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A head in HPACK (RFC 7541): GET / over http at `gw`.
fn head() -> Vec<u8> {
    vec![0x82, 0x86, 0x84, 0x41, 0x02, b'g', b'w']
}

/// A connection that has said its preface.
async fn http2(base: &str) -> TcpStream {
    let mut socket = connect(base).await;
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, DATA_NEVER, &[])[..]].concat();
    socket.write_all(&preface).await.unwrap();
    socket
}

/// What the gateway said before it closed the connection.
struct Said {
    /// The error code of its goodbye, if it said one.
    goodbye: Option<u32>,
    /// How many frames it sent.
    frames: usize,
}

/// Reads frames until the other side closes.
fn read_frames(bytes: &[u8]) -> Said {
    let mut said = Said { goodbye: None, frames: 0 };
    let mut rest = bytes;
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let Some(payload) = rest.get(9..9 + length) else { break };
        if rest[3] == GOAWAY && payload.len() >= 8 {
            said.goodbye = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
        }
        said.frames += 1;
        rest = &rest[9 + length..];
    }
    said
}

/// Writes `flood` again and again, reading what comes, until the gateway hangs up or `most` bytes are written.
async fn flood(base: &str, first: &[u8], flood: impl Fn(u32) -> Vec<u8>, most: usize) -> (Said, usize) {
    let mut socket = http2(base).await;
    let _ = socket.write_all(first).await;
    let (mut reader, mut writer) = socket.into_split();
    let writes = async {
        let (mut written, mut turn) = (0, 0);
        while written < most {
            let bytes = flood(turn);
            turn += 1;
            if writer.write_all(&bytes).await.is_err() {
                return written;
            }
            written += bytes.len();
        }
        let _ = writer.shutdown().await;
        written
    };
    let mut answer = Vec::new();
    // A connection that is reset instead of closed is as much at its end.
    let (written, _) = timeout(PATIENCE, async { tokio::join!(writes, reader.read_to_end(&mut answer)) })
        .await
        .expect("a flooded connection comes to its end");
    (read_frames(&answer), written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_end_the_connection() {
    let (gateway, project, desk) = gateway().await;
    let before = gateway.memory();
    const MOST: usize = 32 << 20;
    // A thousand requests at once, each taken back in the same breath (CVE-2023-44487).
    let resets = |turn: u32| {
        let streams = (0..1000).map(|n| 2 * (turn * 1000 + n) + 1);
        let pair = |stream: u32| {
            let cancel = 8u32.to_be_bytes();
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &head()), frame(RST_STREAM, 0, stream, &cancel)].concat()
        };
        streams.flat_map(pair).collect()
    };
    let (said, written) = flood(gateway.base(), &[], resets, MOST).await;
    assert!(written < MOST, "{written} bytes of resets were taken");
    // The goodbye may be lost where the connection is reset under what we still write.
    assert!(said.goodbye.is_none_or(|code| code == ENHANCE_YOUR_CALM), "goodbye {:?}", said.goodbye);
    others_are_served(&gateway, &desk, "wamid.good").await;
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 1);
    assert!(gateway.memory() < before + GROWTH, "{} KiB before, {} after", before, gateway.memory());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_ends_the_connection() {
    let (gateway, project, desk) = gateway().await;
    let before = gateway.memory();
    const MOST: usize = 32 << 20;
    // A head that never ends, in pieces (CVE-2024-27316): literal fields that are not indexed.
    let first = frame(HEADERS, END_STREAM, 1, &head());
    let field = [&[0x00, 0x01, b'x', 0x64][..], &[b'y'; 100][..]].concat();
    let pieces = |_| frame(CONTINUATION, 0, 1, &field.repeat(100));
    let (said, written) = flood(gateway.base(), &first, pieces, MOST).await;
    assert!(written < MOST, "{written} bytes of a head were taken");
    assert!(said.goodbye.is_none_or(|code| code != 0), "a head without end is no mistake of ours");
    // Empty pieces cost their sender next to nothing.
    let (_, written) = flood(gateway.base(), &first, |_| frame(CONTINUATION, 0, 1, &[]).repeat(1000), MOST).await;
    assert!(written < MOST, "{written} bytes of empty pieces were taken");
    others_are_served(&gateway, &desk, "wamid.good").await;
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 1);
    assert!(gateway.memory() < before + GROWTH, "{} KiB before, {} after", before, gateway.memory());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_without_end_make_nothing_grow() {
    let (gateway, _project, desk) = gateway().await;
    let before = gateway.memory();
    const MOST: usize = 8 << 20;
    for kind in [PING, SETTINGS] {
        let payload: &[u8] = if kind == PING { &[7; 8] } else { &[] };
        // Whoever reads the answers is answered.
        let (said, written) = flood(gateway.base(), &[], |_| frame(kind, 0, 0, payload).repeat(1000), MOST).await;
        assert!(said.goodbye.is_some() || said.frames > 1000 || written < MOST, "{} frames of {kind}", said.frames);
        // Whoever does not is not read any more: what it writes waits at its own end.
        let mut socket = http2(gateway.base()).await;
        let mut written = 0;
        let stuck = timeout(Duration::from_secs(3), async {
            while written < 16 * MOST {
                let frames = frame(kind, 0, 0, payload).repeat(1000);
                if socket.write_all(&frames).await.is_err() {
                    break;
                }
                written += frames.len();
            }
        });
        // Stuck, cut off, or all taken: in no case is anything kept.
        let _ = stuck.await;
        others_are_served(&gateway, &desk, &format!("wamid.good.{kind}")).await;
        assert!(gateway.memory() < before + GROWTH, "{} KiB before, {} after", before, gateway.memory());
        drop(socket);
    }
}
