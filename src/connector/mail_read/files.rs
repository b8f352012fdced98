//! The content of a mail's files again, by the references that [`super::parts`] gave them.
//!
//! The invariant: whatever number of files is taken out of it, a mail is taken apart once, and what is packed in one of
//! its parts is unpacked once as long as its files are asked for one after another.

use std::borrow::Cow;

use super::REFERENCE;
use crate::mail::read::Opened;
use crate::mail::{tnef, transfer};

/// Whether a blob's reference is one of a part of a mail.
pub fn is_mail_part(reference: &str) -> bool {
    reference.starts_with(REFERENCE)
}

/// A mail out of which files are taken.
pub struct MailFiles<'a> {
    raw: &'a [u8],
    opened: Opened<'a>,
    /// What was unpacked last: the place of what it was packed in, and the files that were in it.
    unpacked: Option<(String, Vec<Vec<u8>>)>,
}

impl<'a> MailFiles<'a> {
    /// Takes a mail apart; whatever the bytes are.
    pub fn new(raw: &'a [u8]) -> MailFiles<'a> {
        MailFiles { raw, opened: Opened::new(raw), unpacked: None }
    }

    /// The content of the file that a blob's reference names; nothing if it is no reference of a mail, or leads nowhere.
    pub fn content(&mut self, reference: &str) -> Option<Cow<'_, [u8]>> {
        let place = reference.strip_prefix(REFERENCE)?;
        if place.is_empty() {
            return Some(Cow::Borrowed(self.raw));
        }
        let Some(kind) = place.rfind(['t', 'u']) else { return self.opened.part_bytes(place).map(Cow::Owned) };
        let (pack, number) = place.split_at(kind + 1);
        // Files in a text are counted from 1.
        let number = number.parse::<usize>().ok()?.checked_sub(usize::from(pack.ends_with('u')))?;
        if self.unpacked.as_ref().is_none_or(|(known, _)| known != pack) {
            self.unpacked = Some((pack.to_owned(), self.unpack(pack)?));
        }
        self.unpacked.as_ref()?.1.get(number).map(|content| Cow::Borrowed(content.as_slice()))
    }

    /// The files in a `winmail.dat`, named as `2.1/t`, or those uuencoded in a text, as `2.1.u`.
    fn unpack(&self, pack: &str) -> Option<Vec<Vec<u8>>> {
        if let Some(part) = pack.strip_suffix("/t") {
            let packed = tnef::read(&self.opened.part_bytes(part)?)?;
            return Some(packed.attachments.into_iter().map(|file| file.data).collect());
        }
        let text = self.opened.part_bytes(pack.strip_suffix(".u")?)?;
        Some(transfer::uu_blocks(&text).map(|block| block.content()).collect())
    }
}
