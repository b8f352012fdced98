//! Scripted clients. Where time matters the connection is one in memory, and the clock is tokio's, stopped.

mod life;
mod limits;
mod pieces;
mod rules;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::session::{Shared, Stage, converse};
use super::stream::Io;
use super::{Arrived, Deliver, Settings, Verdict};

/// Takes mails for `shop.example` and the postmaster, and keeps them.
#[derive(Default)]
pub(super) struct Keeper {
    mails: Mutex<Vec<Arrived>>,
    begun: watch::Sender<usize>,
    ended: watch::Sender<usize>,
    /// Deliveries wait for this to be taken away.
    held: Option<watch::Sender<bool>>,
    panics: AtomicBool,
}

impl Keeper {
    fn holding() -> Arc<Self> {
        Arc::new(Keeper { held: Some(watch::channel(true).0), ..Keeper::default() })
    }

    fn release(&self) {
        self.held.as_ref().unwrap().send_replace(false);
    }

    fn contents(&self) -> Vec<String> {
        self.mails.lock().iter().map(|mail| String::from_utf8(mail.raw.to_vec()).unwrap()).collect()
    }
}

impl Deliver for Keeper {
    fn knows(&self, recipient: &str) -> bool {
        recipient.ends_with("@shop.example") || recipient.eq_ignore_ascii_case("postmaster")
    }

    /// `later@` and `refused@` get what they say; `short@` and all behind it get no verdict.
    fn deliver(&self, mail: Arrived) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            self.begun.send_modify(|begun| *begun += 1);
            if let Some(held) = &self.held {
                held.subscribe().wait_for(|held| !held).await.unwrap();
            }
            assert!(!self.panics.load(Ordering::Relaxed), "as the test wants");
            let verdict = |to: &String| match to.split('@').next().unwrap() {
                "later" => Verdict::Later("the disk is full".into()),
                "refused" => Verdict::Refused("we are closed".into()),
                _ => Verdict::Taken,
            };
            let verdicts = mail.to.iter().take_while(|to| !to.starts_with("short@")).map(verdict).collect();
            self.mails.lock().push(mail);
            self.ended.send_modify(|ended| *ended += 1);
            verdicts
        })
    }
}

/// A client that a test speaks for.
pub(super) struct Client {
    io: Box<dyn Io>,
    input: BytesMut,
}

impl Client {
    fn new(io: impl Io + 'static) -> Self {
        Client { io: Box::new(io), input: BytesMut::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// One line, with its end; empty when the server has closed.
    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.input.iter().position(|byte| *byte == b'\n') {
                return String::from_utf8(self.input.split_to(at + 1).to_vec()).unwrap();
            }
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                assert!(self.input.is_empty(), "half a line");
                return String::new();
            }
        }
    }

    /// One reply with all its lines.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let line = self.line().await;
            reply += &line;
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Reads one reply for each of `wanted` and checks how it begins.
    async fn expect<const N: usize>(&mut self, wanted: [&str; N]) {
        for wanted in wanted {
            let got = self.reply().await;
            assert!(got.starts_with(wanted) && got.ends_with("\r\n"), "{got:?}, not {wanted:?}");
        }
    }

    async fn say(&mut self, line: &str, wanted: &str) {
        self.send(format!("{line}\r\n")).await;
        self.expect([wanted]).await;
    }

    /// Reads the greeting and says hello.
    async fn greet(&mut self) {
        self.expect(["220 "]).await;
        self.say("LHLO mx.example", "250-").await;
    }

    /// Opens a mail for one recipient, up to the content.
    async fn open(&mut self, parameters: &str) {
        self.say(&format!("MAIL FROM:<ann@home.example>{parameters}"), "250 2.1.0").await;
        self.say("RCPT TO:<bob@shop.example>", "250 2.1.5").await;
        self.say("DATA", "354 ").await;
    }

    async fn expect_end(&mut self) {
        assert_eq!(self.line().await, "");
    }
}

/// A connection in memory, served.
pub(super) struct Served {
    client: Client,
    stage: watch::Sender<Stage>,
    session: JoinHandle<()>,
}

/// Serves connections with common settings.
pub(super) struct House {
    shared: Arc<Shared>,
    deliveries: TaskTracker,
}

impl House {
    fn new(settings: Settings, keeper: &Arc<Keeper>) -> Self {
        let deliveries = TaskTracker::new();
        let shared = Arc::new(Shared::new(settings, Arc::clone(keeper) as Arc<dyn Deliver>, deliveries.clone()));
        House { shared, deliveries }
    }

    /// A connection over which `room` bytes may be under way each way.
    fn connect_with(&self, room: usize) -> Served {
        let (near, far) = duplex(room);
        let (stage, stages) = watch::channel(Stage::Serving);
        let session = tokio::spawn(converse(Box::new(far), Arc::clone(&self.shared), stages));
        Served { client: Client::new(near), stage, session }
    }

    fn connect(&self) -> Served {
        self.connect_with(64 * 1024)
    }
}

/// One connection, greeted, with `settings`.
pub(super) async fn greeted(settings: Settings) -> (Served, Arc<Keeper>) {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings, &keeper).connect();
    served.client.greet().await;
    (served, keeper)
}

pub(super) fn settings() -> Settings {
    Settings::new("gate.example")
}
