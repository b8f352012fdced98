//! The client of mailboxes, against a server that says anything.
//!
//! The invariants: each mail that was listed is told of once, in order, within the limits; commands are written whole; and
//! nothing is said in clear but what leads to TLS. What the parser in use cannot bear is kept from it: a panic in it,
//! which the connection survives, is a failure here.

use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::peer::Peer;
use super::stopped_clock;
use crate::net::imap::{Access, Ask, Caps, Fetched, Fetcher, Folder, ImapError, Session, Sizes, bare};
use crate::net::login::Login;

/// Little, so that the limits are met.
const CAPS: Caps = Caps { literal: 2048, line: 1024, depth: 4, opens: 16, responses: 60 };
const SIZES: Sizes = Sizes { whole: 64, batch: 128, mails: 3, commands: 3, flight: 400, piece: 32, largest: 1000 };
/// UIDs that are listed.
const LISTED: u32 = 50;

/// What an IMAP server says, in turns (see `peer`). The first byte says how the client begins and what it thinks that
/// the server can do.
pub fn imap(bytes: &[u8]) {
    let Some((&kind, script)) = bytes.split_first() else { return };
    stopped_clock(async {
        before_tls(script).await;
        let (peer, heard) = Peer::new(script);
        let has = |bit: u8| kind & (1 << bit) != 0;
        let session = if has(0) {
            bare::log_in(peer, &login(has(1)), CAPS).await
        } else {
            let known = ["IDLE", "MOVE", "UIDPLUS"].into_iter().zip(1_u8..).filter(|(_, bit)| has(*bit));
            Ok(bare::session(peer, known.map(|(name, _)| name.to_owned()).collect(), CAPS))
        };
        if let Ok(mut session) = session
            && work(&mut session).await.is_ok()
        {
            assert!(!session.is_broken());
            session.leave().await;
        }
        let heard = heard.bytes();
        assert!(heard.is_empty() || heard.ends_with(b"\r\n"), "half a command");
        let words: Vec<&[u8]> = heard.split(|byte| *byte == b'\n').collect();
        let known = |line: &&[u8]| line.starts_with(b"S") || line.is_empty() || *line == b"DONE\r";
        assert!(has(0) || words.iter().all(known), "a line that is no command");
    });
}

fn login(bearer: bool) -> Login {
    let (user, secret) = ("anna".to_owned(), Zeroizing::new("caf\u{e9} 4711".to_owned()));
    if bearer { Login::Bearer { user, token: secret } } else { Login::Password { user, password: secret } }
}

/// In clear nothing is said but what leads to TLS.
async fn before_tls(script: &[u8]) {
    let (peer, heard) = Peer::new(script);
    let consents = timeout(Duration::from_secs(30), bare::start_tls(peer)).await.is_ok_and(|ended| ended.is_ok());
    let (said, all) = (heard.bytes(), b"P1 CAPABILITY\r\nP2 STARTTLS\r\n");
    assert!(all.starts_with(&said) && (!consents || said == all));
}

/// All that is done with a mailbox.
async fn work(session: &mut Session) -> Result<(), ImapError> {
    let folder = session.open("Inbox", Access::Select).await?;
    let taken = fetch(session, &folder).await?;
    session.wait(folder.exists, Duration::from_secs(60), Duration::from_secs(20)).await?;
    session.flag(&taken, "$Taken").await?;
    session.move_to(&taken, "Done").await?;
    session.noop().await.map(|_| ())
}

/// Fetches what is listed: each once, in order, and none that is too large.
async fn fetch(session: &mut Session, folder: &Folder) -> Result<Vec<u32>, ImapError> {
    let listed = session.list(1, LISTED, Ask::All).await?;
    assert!(listed.is_sorted_by(|a, b| a.uid < b.uid) && listed.iter().all(|mail| (1..=LISTED).contains(&mail.uid)));
    let mut left: Vec<u32> = listed.iter().rev().map(|mail| mail.uid).collect();
    let mut fetcher = Fetcher::new(folder.validity, listed, SIZES);
    let mut taken = Vec::new();
    while let Some(fate) = fetcher.next(session).await? {
        assert_eq!(left.pop(), Some(fate.uid()), "one that is not the next");
        if let Fetched::Got(mail) = fate {
            assert!(mail.bytes.len() as u64 <= SIZES.largest, "{} bytes", mail.bytes.len());
            taken.push(mail.uid);
        }
    }
    assert!(left.is_empty(), "some that came to no end");
    Ok(taken)
}
