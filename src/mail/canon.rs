//! The canonical hash of a mail: equal for the same mail however it came, another one for other contents.
//!
//! What servers add or change on the way does not count: trace fields, the flags of mailboxes, line ends, empty lines at
//! the end, an mbox `From ` line. Only what has neither Message-ID nor Date is known by its first hop as well: else the same
//! words of a machine on another day would be the same mail.

use super::fields::Block;
use ring::digest::{Context, Digest, SHA256};

/// How many bytes are hashed at once.
const BLOCK: usize = 8192;

/// Names of fields that servers write, in lower case.
const TRACE: [&str; 10] = [
    "received",
    "return-path",
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "x-envelope-to",
    "authentication-results",
    "received-spf",
    "status",
    "x-status",
];
/// Beginnings of such names.
const TRACE_PREFIXES: [&str; 4] = ["arc-", "x-spam", "x-uid", "x-mozilla"];

/// SHA-256 of the mail without its trace fields, with LF as line ends.
pub fn hash(raw: &[u8]) -> [u8; 32] {
    let mut block = Block::new(raw);
    let mut hash = Lines { context: Context::new(&SHA256), held: Vec::with_capacity(BLOCK), empty: 0 };
    let (mut dated, mut first_hop) = (false, None);
    // All of them count, and none is kept.
    for field in block.by_ref() {
        if is_trace(field.name) {
            first_hop = Some(field).filter(|field| field.name.eq_ignore_ascii_case("received")).or(first_hop);
            continue;
        }
        dated |= ["message-id", "date"].iter().any(|name| field.name.eq_ignore_ascii_case(name));
        hash.update(field.whole);
        hash.end();
    }
    if let Some(hop) = first_hop.filter(|_| !dated) {
        hash.update(hop.whole);
        hash.end();
    }
    // The border between fields and body cannot be moved by what either says.
    hash.end();
    hash.update(block.rest);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    out
}

fn is_trace(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    TRACE.iter().any(|known| name.eq_ignore_ascii_case(known)) || TRACE_PREFIXES.iter().any(|prefix| starts(prefix))
}

/// Hashes lines with LF at their ends. Line ends are held back until more follows, so those at the end do not count.
struct Lines {
    context: Context,
    /// What is to be hashed next, so that short lines cost little.
    held: Vec<u8>,
    empty: usize,
}

impl Lines {
    fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            if !line.is_empty() {
                for _ in 0..std::mem::take(&mut self.empty) {
                    self.push(b"\n");
                }
                self.push(line);
            }
            let ends = if after.starts_with(b"\r\n") { 2 } else { usize::from(!after.is_empty()) };
            self.empty += usize::from(ends > 0);
            rest = after.get(ends..).unwrap_or_default();
        }
    }

    /// Ends a field: exactly one line end, whether the last one of the mail has it or not.
    fn end(&mut self) {
        self.empty = 0;
        self.push(b"\n");
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.held.len() + bytes.len() > BLOCK {
            self.context.update(&self.held);
            self.held.clear();
        }
        if bytes.len() > BLOCK {
            self.context.update(bytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn finish(mut self) -> Digest {
        self.context.update(&self.held);
        self.context.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"From: a@b\r\nDate: x\r\n y\r\n\r\none\r\n\r\ntwo\r\n";

    #[test]
    fn the_way_does_not_count() {
        let same: [&[u8]; 5] = [
            b"From: a@b\nDate: x\n y\n\none\n\ntwo",
            b"From: a@b\rDate: x\r y\r\rone\r\rtwo\r\r\r",
            b"From me Mon\nReceived: by x\n from y\nFrom: a@b\nX-Spam-Score: 1\nDate: x\n y\nSTATUS: RO\n\none\n\ntwo\n\n",
            b"Return-Path: <>\r\nARC-Seal: z\r\nDelivered-To: q\r\nFrom: a@b\r\nDate: x\r\n y\r\nX-UIDL: 1\r\n\r\none\r\n\r\ntwo\r\n",
            b"Authentication-Results: mx; dkim=pass\nFrom: a@b\nDate: x\n y\n\none\n\ntwo\n",
        ];
        for mail in same {
            assert_eq!(hash(mail), hash(MAIL));
        }
    }

    #[test]
    fn contents_count() {
        let other: [&[u8]; 6] = [
            b"From: a@c\r\nDate: x\r\n y\r\n\r\none\r\n\r\ntwo\r\n",
            b"Date: x\r\n y\r\nFrom: a@b\r\n\r\none\r\n\r\ntwo\r\n",
            b"From: a@b\r\nDate: x y\r\n\r\none\r\n\r\ntwo\r\n",
            b"From: a@b\r\nDate: x\r\n y\r\n\r\none\r\ntwo\r\n",
            b"From: a@b\r\n\r\nDate: x\r\n y\r\n\r\none\r\n\r\ntwo\r\n",
            b"From: a@b\r\nDate: x\r\n y\r\n\r\n\r\none\r\n\r\ntwo\r\n",
        ];
        for mail in other {
            assert_ne!(hash(mail), hash(MAIL));
        }
        let long = |last: &str| hash(("Date: b\r\n".repeat(300_000) + last + "\r\n\r\nbody").as_bytes());
        assert_eq!(long("From: a@b"), long("Received: by x\r\nFrom: a@b"));
        assert_ne!(long("From: a@b"), long("From: a@c"), "however far behind");
    }

    /// Scanners and alarms in the house often write neither field, and the same words each time.
    #[test]
    fn what_has_neither_id_nor_date_is_known_by_its_first_hop() {
        let mail =
            |more: &str| hash(format!("{more}From: door@b\r\nSubject: Open\r\n\r\nDoor 3 is open.\r\n").as_bytes());
        let (monday, tuesday) = ("Received: by relay; Mon\r\n", "Received: by relay; Tue\r\n");
        assert_ne!(mail(monday), mail(tuesday));
        assert_eq!(mail(monday), mail(&format!("Received: by us; Wed\r\nReturn-Path: <>\r\n{monday}")));
        for field in ["Date: d\r\n", "Message-ID: <1@b>\r\n"] {
            assert_eq!(mail(&format!("{field}{monday}")), mail(&format!("{tuesday}{field}")));
        }
    }
}
