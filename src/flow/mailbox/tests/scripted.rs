//! A mail server that is told what it holds and what goes wrong.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// A mail server with one folder.
#[derive(Default)]
pub(super) struct Server {
    pub(super) validity: u32,
    pub(super) next: u32,
    /// The mails by UID: when the server took them, and what they say.
    pub(super) mails: BTreeMap<u32, (&'static str, String)>,
    /// What was flagged, in order.
    pub(super) flagged: Vec<u32>,
    /// UIDs at which it breaks off rather than to send the mail.
    pub(super) breaks_at: Vec<u32>,
    /// A folder that it does not open.
    pub(super) refuses: Option<&'static str>,
    /// How long an answer may be; it breaks off rather than to send a longer one.
    pub(super) longest: Option<usize>,
    /// After how many mails of an answer it breaks off.
    pub(super) gives: Option<usize>,
    /// A mail whose size and date it tells as no client reads them.
    pub(super) odd: Option<u32>,
    /// Whether it tells flags in the place of sizes.
    pub(super) tells_no_sizes: bool,
    /// After how many openings of a folder it breaks off, behind each of which it tells of one more mail than there is. It
    /// ends each IDLE at once.
    pub(super) restless: Option<usize>,
    /// How often a folder was opened.
    pub(super) opened: usize,
}

impl Server {
    pub(super) fn put(&mut self, date: &'static str, text: &str) {
        self.next = self.next.max(1);
        self.mails.insert(self.next, (date, text.to_owned()));
        self.next += 1;
    }

    /// The answer to a command, or what it says of it before it breaks off.
    fn answer(&mut self, tag: &str, command: &str) -> Result<String, String> {
        let mut said = String::new();
        if self.refuses.is_some_and(|folder| command.contains(folder)) {
            return Ok(format!("{tag} NO no such folder\r\n"));
        }
        if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
            let (there, validity, next) = (self.mails.len(), self.validity, self.next.max(1));
            said = format!("* {there} EXISTS\r\n* OK [UIDVALIDITY {validity}] x\r\n* OK [UIDNEXT {next}] x\r\n");
            self.opened += 1;
            if self.restless.is_some_and(|most| self.opened > most) {
                return Err(String::new());
            }
        } else if command == "IDLE" && self.restless.is_some() {
            said = format!("* {} EXISTS\r\n", self.mails.len() + 1);
        } else if let Some(asked) = command.strip_prefix("UID FETCH ") {
            let (uids, what) = asked.split_once(' ').unwrap();
            let mails = self.mails.iter().filter(|(uid, _)| ranges(uids).any(|one| one.contains(uid)));
            for (place, (uid, (date, text))) in mails.enumerate() {
                let size = text.len();
                let told = match what {
                    "(UID)" => String::new(),
                    _ if what.contains("BODY") => {
                        if self.breaks_at.contains(uid) {
                            return Err(String::new());
                        } else if self.gives.is_some_and(|given| place >= given) {
                            return Err(said);
                        }
                        content(what, text)
                    }
                    _ if self.tells_no_sizes => " FLAGS (\\Seen)".to_owned(),
                    _ if self.odd == Some(*uid) => " RFC822.SIZE 99999999999 INTERNALDATE NIL".to_owned(),
                    _ => format!(" RFC822.SIZE {size} INTERNALDATE \"{date}\""),
                };
                said += &format!("* {uid} FETCH (UID {uid}{told})\r\n");
            }
        } else if let Some(stored) = command.strip_prefix("UID STORE ") {
            self.flagged.extend(ranges(stored.split(' ').next().unwrap()).flatten());
        }
        match self.longest {
            Some(longest) if said.len() > longest => Err(String::new()),
            _ => Ok(format!("{said}{tag} OK done\r\n")),
        }
    }
}

/// What a server gives of a mail that is asked for whole or in pieces.
fn content(what: &str, text: &str) -> String {
    let Some((_, piece)) = what.split_once('<') else { return format!(" BODY[] {{{}}}\r\n{text}", text.len()) };
    let (from, most) = piece.split_once('>').unwrap().0.split_once('.').unwrap();
    let (from, most): (usize, usize) = (from.parse().unwrap(), most.parse().unwrap());
    let piece = &text[from.min(text.len())..from.saturating_add(most).min(text.len())];
    format!(" BODY[]<{from}> {{{}}}\r\n{piece}", piece.len())
}

fn ranges(set: &str) -> impl Iterator<Item = RangeInclusive<u32>> {
    set.split(',').map(|range| {
        let (low, high) = range.split_once(':').unwrap_or((range, range));
        low.parse().unwrap()..=high.parse().unwrap()
    })
}

pub(super) async fn serve(server: Arc<Mutex<Server>>, stream: DuplexStream) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let (tag, command) = line.trim_end().split_once(' ').unwrap();
        let answer = server.lock().answer(tag, command);
        let (Ok(said) | Err(said)) = &answer;
        stream.write_all(said.as_bytes()).await.unwrap();
        if answer.is_err() {
            return;
        }
        line.clear();
    }
}
