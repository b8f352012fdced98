//! The door for mails, against a client that says anything.
//!
//! The invariants: what was taken is what was told to be stored, within the limits, however the bytes are cut.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::peer::{CUT, Peer, TURN};
use super::stopped_clock;
use crate::net::lmtp::{Arrived, Deliver, Settings, Verdict, serve};

/// Takes mails for `shop.example`, and keeps them.
#[derive(Default)]
struct Keeper(Mutex<Vec<Arrived>>);

impl Deliver for Keeper {
    fn knows(&self, recipient: &str) -> bool {
        recipient.ends_with("@shop.example")
    }

    /// Recipients that begin with `l` and `r` are told to come later and refused, behind one with `s` none is told.
    fn deliver(&self, mail: Arrived) -> BoxFuture<'_, Vec<Verdict>> {
        let verdicts = verdicts(&mail);
        self.0.lock().push(mail);
        Box::pin(async move { verdicts })
    }
}

fn verdicts(mail: &Arrived) -> Vec<Verdict> {
    let verdict = |to: &String| match to.bytes().next() {
        Some(b'l') => Verdict::Later("the disk is full".into()),
        Some(b'r') => Verdict::Refused("\r\n250 closed".into()),
        _ => Verdict::Taken,
    };
    mail.to.iter().take_while(|to| !to.starts_with('s')).map(verdict).collect()
}

fn settings() -> Settings {
    Settings { most_bytes: 1000, most_recipients: 4, most_held: 1500, ..Settings::new("gate.example") }
}

/// What a client of LMTP says; 0x1e and 0x1f part it into pieces, which must change nothing.
pub fn lmtp(bytes: &[u8]) {
    let pieces: Vec<u8> = bytes.iter().map(|byte| if *byte == TURN { CUT } else { *byte }).collect();
    let whole: Vec<u8> = pieces.iter().copied().filter(|byte| *byte != CUT).collect();
    let arrived = speak(&pieces);
    assert!(arrived == speak(&whole), "the pieces change what arrives");
    let (mails, said) = arrived;
    let taken = mails.iter().flat_map(verdicts).filter(|verdict| *verdict == Verdict::Taken).count();
    assert_eq!(said.matches("250 2.0.0 stored\r\n").count(), taken, "stored, but not so told, or the other way");
    for mail in &mails {
        assert!(mail.raw.len() <= 1000 && (1..=4).contains(&mail.to.len()));
        assert!(mail.to.iter().all(|to| to.ends_with("@shop.example") && !to.contains(['\r', '\n'])));
        assert!(mail.from.as_ref().is_none_or(|from| !from.contains(['\r', '\n'])));
    }
    assert!(said.ends_with("\r\n") && said.lines().all(|line| line.len() <= 512 && line.is_ascii()));
    assert!(said.lines().all(|line| line.as_bytes().first().is_some_and(u8::is_ascii_digit)), "a line without a code");
}

/// The mails that arrive, and all that is said.
fn speak(client: &[u8]) -> (Vec<Arrived>, String) {
    let (peer, heard) = Peer::new(client);
    let keeper = Arc::new(Keeper::default());
    stopped_clock(serve(peer, settings(), Arc::clone(&keeper) as Arc<dyn Deliver>));
    let mails = std::mem::take(&mut *keeper.0.lock());
    (mails, String::from_utf8_lossy(&heard.bytes()).into_owned())
}
