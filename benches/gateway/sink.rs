//! The sink: a help desk that verifies what it is sent and does nothing else.
//!
//! A process of its own with one thread. An event counts once: when the Standard Webhooks signature over its id, its time
//! and its exact bytes holds, and its id was not seen before. Every 20 ms it tells on standard output how far it is.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use ring::hmac;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::{Wire, header};
use crate::{Result, message, now_ms};

/// How often the sink tells how far it is.
const TELL: Duration = Duration::from_millis(20);
/// Messages numbered beyond this are none of ours.
const MOST: u64 = 1 << 32;

/// What the sink tells, one JSON object a line.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Events verified for the first time, ever.
    pub(crate) verified: u64,
    /// Every message below this number has arrived.
    pub(crate) low: u64,
    /// The longest way from sending to verification among the events since the last line, in milliseconds.
    pub(crate) lag_ms: u64,
    /// Events that came again.
    pub(crate) repeats: u64,
    /// Requests whose signature did not hold, or that held no message of ours.
    pub(crate) bad: u64,
}

/// The sink's state, held by its one thread.
struct Sink {
    key: hmac::Key,
    told: Told,
    ids: HashSet<Vec<u8>>,
    arrived: Vec<u64>,
}

/// Runs the sink until its standard output is closed. The first line names the port.
pub(crate) fn run(secret: &str) -> Result<()> {
    let secret = secret.strip_prefix("whsec_").ok_or("the secret does not begin with whsec_")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &data_encoding::BASE64.decode(secret.as_bytes())?);
    let sink = Rc::new(RefCell::new(Sink { key, told: Told::default(), ids: HashSet::new(), arrived: Vec::new() }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?.port());
        tokio::task::spawn_local(accept(listener, sink.clone()));
        let mut every = tokio::time::interval(TELL);
        loop {
            every.tick().await;
            let told = sink.borrow_mut().tell();
            // A closed pipe is the end: whoever started this process is gone or done.
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{}", serde_json::to_string(&told)?).and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
        }
    })
}

async fn accept(listener: TcpListener, sink: Rc<RefCell<Sink>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let sink = sink.clone();
        // An end of a connection is the gateway's to choose; it shows in what arrives, not here.
        tokio::task::spawn_local(async move { drop(serve(stream, &sink).await) });
    }
}

async fn serve(stream: TcpStream, sink: &RefCell<Sink>) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(request) = wire.receive().await? {
        let taken = sink.borrow_mut().take(wire.head(request), wire.body(request));
        wire.forget(request);
        let answer: &[u8] = match taken {
            Some(()) => b"HTTP/1.1 204 No Content\r\n\r\n",
            None => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        };
        wire.send(answer).await?;
    }
    Ok(())
}

impl Sink {
    fn tell(&mut self) -> Told {
        let told = self.told;
        self.told.lag_ms = 0;
        told
    }

    fn take(&mut self, head: &[u8], body: &[u8]) -> Option<()> {
        let taken = self.verify(head, body);
        if taken.is_none() {
            self.told.bad += 1;
        }
        taken
    }

    fn verify(&mut self, head: &[u8], body: &[u8]) -> Option<()> {
        let [id, at, signatures] =
            [&b"webhook-id"[..], b"webhook-timestamp", b"webhook-signature"].map(|name| header(head, name));
        let (id, at) = (id?, at?);
        let mut signed = hmac::Context::with_key(&self.key);
        [id, b".", at, b".", body].into_iter().for_each(|part| signed.update(part));
        let expected = data_encoding::BASE64.encode(signed.sign().as_ref());
        let holds = |signature: &[u8]| signature.strip_prefix(b"v1,") == Some(expected.as_bytes());
        if !signatures?.split(|byte| *byte == b' ').any(holds) {
            return None;
        }
        let (number, sent) = message::find(body).filter(|(number, _)| *number < MOST)?;
        if self.ids.insert(id.to_vec()) && self.mark(number) {
            self.told.verified += 1;
            self.told.lag_ms = self.told.lag_ms.max(now_ms().saturating_sub(sent));
        } else {
            self.told.repeats += 1;
        }
        Some(())
    }

    /// Notes that a message arrived, and how far all have; false if it had arrived before.
    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = (usize::try_from(number / 64).unwrap_or_default(), 1 << (number % 64));
        if self.arrived.len() <= word {
            self.arrived.resize(word + 1024, 0);
        }
        let Some(word) = self.arrived.get_mut(word).filter(|word| **word & bit == 0) else { return false };
        *word |= bit;
        let arrived = |low: u64| {
            let word = usize::try_from(low / 64).ok().and_then(|at| self.arrived.get(at));
            word.is_some_and(|word| word & (1 << (low % 64)) != 0)
        };
        while arrived(self.told.low) {
            self.told.low += 1;
        }
        true
    }
}
