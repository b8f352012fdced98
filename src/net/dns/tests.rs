use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use futures_util::future::join_all;
use tokio::net::UdpSocket;

use super::*;

/// A server that knows no name, leaves those of `dead.example` open, and can fall silent.
struct Server {
    address: SocketAddr,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Server { address: socket.local_addr().unwrap(), silent: Arc::default(), asked: Arc::default() };
        let (silent, asked) = (server.silent.clone(), server.asked.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                asked.fetch_add(1, Ordering::Relaxed);
                let question = &buffer[..length];
                let dead = question.to_ascii_lowercase().windows(5).any(|label| label == b"\x04dead");
                if !dead && !silent.load(Ordering::Relaxed) {
                    let end = question[12..].iter().position(|byte| *byte == 0).unwrap() + 17;
                    let answer = [&question[..2], &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0], &question[12..end]].concat();
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        server
    }

    fn dns(&self) -> Dns {
        Dns::waiting(&[self.address], Duration::from_millis(300), Duration::from_millis(2000))
    }
}

/// Asks for more names at once than silences are borne.
async fn ask_many(dns: &Dns, of: &str) {
    let names: Vec<String> = (0..2 * SILENCES).map(|number| format!("key{number}.{of}")).collect();
    let answers = join_all(names.iter().map(|name| dns.txt(name))).await;
    assert!(answers.iter().all(|answer| *answer == Txt::Temporary), "{answers:?}");
}

#[tokio::test]
async fn names_without_an_answer_keep_nobody_else_from_being_asked_about() {
    let server = Server::start().await;
    let dns = server.dns();
    ask_many(&dns, "dead.example").await;
    assert_eq!(dns.txt("_dmarc.other.example").await, Txt::None);
}

#[tokio::test]
async fn servers_that_answer_nothing_are_left_alone_for_a_while() {
    let server = Server::start().await;
    let dns = server.dns();
    // What they said before is no sign of life now.
    assert_eq!(dns.txt("one.example").await, Txt::None);
    assert!(dns.is_there().await);
    server.silent.store(true, Ordering::Relaxed);
    ask_many(&dns, "two.example").await;
    let before = server.asked.load(Ordering::Relaxed);
    assert_eq!(dns.txt("three.example").await, Txt::Temporary);
    assert_eq!(server.asked.load(Ordering::Relaxed), before);
}
