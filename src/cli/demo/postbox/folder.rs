//! The account's folders and the mails in them, in memory; and how FETCH shows a mail (RFC 3501, section 7.4.2).
//!
//! The invariant: UIDs only grow and are never given twice, so a mail that is not known has a UID above all that are.

use std::collections::{BTreeMap, BTreeSet};

use super::command::number;

/// The folder in which mails arrive.
pub(super) const INBOX: &str = "INBOX";
/// The flags of RFC 3501, section 2.3.2, that can be changed.
pub(super) const SYSTEM: [&str; 5] = ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"];

/// Mails in a folder; when more come the oldest go.
const MAILS: usize = 1000;
/// Folders, bytes of a folder's name or a flag, and flags of a mail.
const FOLDERS: usize = 32;
const NAME: usize = 128;
const FLAGS: usize = 32;

/// A mail in a folder.
#[derive(Default)]
pub(super) struct Mail {
    raw: Vec<u8>,
    /// When it came, as INTERNALDATE says it.
    arrived: String,
    flags: BTreeSet<String>,
}

impl Mail {
    /// Adds flags as far as there is room.
    pub(super) fn mark(&mut self, flags: impl IntoIterator<Item = String>) {
        let room = FLAGS.saturating_sub(self.flags.len());
        self.flags.extend(flags.into_iter().take(room));
    }

    /// Removes flags; all of them if none are given.
    pub(super) fn unmark(&mut self, flags: Option<&[String]>) {
        self.flags.retain(|flag| flags.is_some_and(|flags| !flags.contains(flag)));
    }

    /// The response to FETCH with these items, in capitals; none if one is not known.
    pub(super) fn show(&self, number: u32, uid: u32, items: &[String]) -> Option<Vec<u8>> {
        let mut out = format!("* {number} FETCH").into_bytes();
        for (place, item) in items.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b" (" } else { b" " });
            match item.as_str() {
                "UID" => out.extend(format!("UID {uid}").into_bytes()),
                "FLAGS" => {
                    let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
                    out.extend(format!("FLAGS ({})", flags.join(" ")).into_bytes());
                }
                "RFC822.SIZE" => out.extend(format!("RFC822.SIZE {}", self.raw.len()).into_bytes()),
                "INTERNALDATE" => out.extend(format!("INTERNALDATE \"{}\"", self.arrived).into_bytes()),
                _ => self.show_body(item, &mut out)?,
            }
        }
        out.extend_from_slice(b")\r\n");
        Some(out)
    }

    /// `BODY[]` or `BODY[HEADER]`, maybe with `.PEEK`, maybe a piece of it as `<from.count>`.
    fn show_body(&self, item: &str, out: &mut Vec<u8>) -> Option<()> {
        let rest = item.strip_prefix("BODY.PEEK[").or_else(|| item.strip_prefix("BODY["))?;
        let (part, range) = rest.split_once(']')?;
        let raw = self.raw.as_slice();
        let bytes = match part {
            "" => raw,
            "HEADER" => {
                memchr::memmem::find(raw, b"\r\n\r\n").and_then(|at| raw.get(..at.saturating_add(4))).unwrap_or(raw)
            }
            _ => return None,
        };
        let (origin, bytes) = if range.is_empty() {
            (String::new(), bytes)
        } else {
            let (from, count) = range.strip_prefix('<')?.strip_suffix('>')?.split_once('.')?;
            let count = number::<usize>(count).filter(|count| *count > 0)?;
            let rest = bytes.get(number::<usize>(from)?..).unwrap_or_default();
            (format!("<{from}>"), rest.get(..count).unwrap_or(rest))
        };
        out.extend(format!("BODY[{part}]{origin} {{{}}}\r\n", bytes.len()).into_bytes());
        out.extend_from_slice(bytes);
        Some(())
    }
}

/// A flag as it is kept; none if it is not one that can be changed.
pub(super) fn flag(name: &str) -> Option<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'_' | b'-' | b'.');
    let keyword = || Some(name.to_owned()).filter(|name| (1..=NAME).contains(&name.len()) && name.bytes().all(good));
    let system = SYSTEM.iter().find(|system| system.eq_ignore_ascii_case(name));
    system.map(|system| (*system).to_owned()).or_else(keyword)
}

/// A folder: its mails by their UIDs, and the UID of the next.
struct Folder {
    mails: BTreeMap<u32, Mail>,
    next: u32,
}

impl Folder {
    fn new() -> Self {
        Folder { mails: BTreeMap::new(), next: 1 }
    }

    fn push(&mut self, mail: Mail) {
        self.mails.insert(self.next, mail);
        self.next = self.next.saturating_add(1);
        if self.mails.len() > MAILS {
            self.mails.pop_first();
        }
    }
}

/// All folders.
pub(super) struct Folders {
    folders: BTreeMap<String, Folder>,
    /// The UIDVALIDITY of all.
    pub(super) validity: u32,
}

impl Folders {
    /// INBOX alone. `random` makes the UIDVALIDITY another one than that of the run before.
    pub(super) fn new([a, b, c, d, ..]: [u8; 32]) -> Self {
        let folders = BTreeMap::from([(INBOX.to_owned(), Folder::new())]);
        Folders { folders, validity: u32::from_be_bytes([a, b, c, d]).max(1) }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.folders.keys().cloned().collect()
    }

    /// Makes a folder; false if there is one of this name, the name cannot be written in quotes, or there are too many.
    pub(super) fn create(&mut self, name: &str) -> bool {
        let good = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'*' | b'%');
        let may = !name.is_empty() && name.len() <= NAME && name.bytes().all(good) && self.folders.len() < FOLDERS;
        may && !self.folders.contains_key(name) && self.folders.insert(name.to_owned(), Folder::new()).is_none()
    }

    /// The UIDs in a folder, in order, and the UID that the next mail gets.
    pub(super) fn uids(&self, name: &str) -> Option<(Vec<u32>, u32)> {
        self.folders.get(name).map(|folder| (folder.mails.keys().copied().collect(), folder.next))
    }

    pub(super) fn mail(&mut self, name: &str, uid: u32) -> Option<&mut Mail> {
        self.folders.get_mut(name)?.mails.get_mut(&uid)
    }

    /// A mail arrives.
    pub(super) fn add(&mut self, name: &str, raw: Vec<u8>) {
        let arrived = jiff::Timestamp::now().strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
        if let Some(folder) = self.folders.get_mut(name) {
            folder.push(Mail { raw, arrived, flags: BTreeSet::new() });
        }
    }

    /// Moves mails to another folder; false if there is none of this name.
    pub(super) fn shift(&mut self, from: &str, uids: &[u32], to: &str) -> bool {
        for uid in uids.iter().filter(|_| self.folders.contains_key(to)).copied().collect::<Vec<u32>>() {
            let mail = self.folders.get_mut(from).and_then(|folder| folder.mails.remove(&uid));
            if let Some((mail, folder)) = mail.zip(self.folders.get_mut(to)) {
                folder.push(mail);
            }
        }
        self.folders.contains_key(to)
    }
}
