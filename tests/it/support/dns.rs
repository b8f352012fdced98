//! A DNS server that knows some TXT records and no other names (RFC 1035), and leaves those below `dead` open.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A running server. It answers until the process ends.
#[derive(Clone)]
pub(crate) struct Dns {
    address: SocketAddr,
    records: Arc<Mutex<BTreeMap<String, String>>>,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    /// One that knows nothing yet.
    pub(crate) fn start() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let dns = Dns { address, records: Arc::default(), silent: Arc::default(), asked: Arc::default() };
        let (records, silent, asked) = (dns.records.clone(), dns.silent.clone(), dns.asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::Relaxed);
                if silent.load(Ordering::Relaxed) {
                    continue;
                }
                if let Some(answer) = answer(&buffer[..length], &records.lock().unwrap()) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        dns
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers nothing from now on.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// How many questions have come.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Adds a record.
    pub(crate) fn add(&self, name: &str, text: &str) {
        self.records.lock().unwrap().insert(name.to_owned(), text.to_owned());
    }
}

/// The answer to a question for TXT: the record, or that there is no such name. None where the name is left open.
fn answer(question: &[u8], records: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    if labels.iter().any(|label| label == "dead") {
        return None;
    }
    // The name's end, type and class.
    let asked = &question[12..at + 5];
    let found = records.get(&labels.join("."));
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(asked);
    if let Some(text) = found {
        let pieces: Vec<u8> =
            text.as_bytes().chunks(255).flat_map(|piece| [&[piece.len() as u8], piece].concat()).collect();
        // The name again, TXT, IN, for a minute.
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        answer.extend((pieces.len() as u16).to_be_bytes());
        answer.extend(pieces);
    }
    Some(answer)
}
