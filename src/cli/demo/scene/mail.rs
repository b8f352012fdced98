//! The story by mail: what customers send to the mailbox, and what leaves for them by SMTP.
//!
//! Mails are taken apart here by a few lines of their own, so that the gateway's reading is not tried by itself.

use std::time::Instant;

use serde_json::json;

use super::super::screen::Shown;
use super::super::story::Step;
use super::super::tell::rows;
use super::{PATIENCE, Player};
use crate::base::{Result, Timestamp};

impl<'a> Player<'a> {
    /// A mail arrives in the mailbox, whose server tells the gateway.
    pub(super) async fn mail(&mut self, step: &'a Step) -> Result<Shown> {
        let mut shown = Shown::new(&step.name, &step.title);
        let mail = format!("{}\r\n", self.payload(&step.payload)?.trim_end().replace('\n', "\r\n"));
        let (from, to) = (field(&mail, "From"), field(&mail, "To"));
        let line = format!("a mail of {} bytes in the mailbox, read over IMAP", mail.len());
        let facts = json!({ "channel": step.channel, "bytes": mail.len(), "from": from, "to": to });
        shown.row("arrives", vec![line, format!("from {from} to {to}")], facts);
        let (mark, begun) = (self.scene.desk.mark(), Instant::now());
        self.scene.postbox.put(mail.clone().into_bytes());
        let event = self.event(step, mark).await;
        if let Some(event) = &event {
            rows(&mut shown, event, &self.labels);
        }
        self.hold(step, event.as_deref(), &mut shown.check);
        if step.expect.file {
            self.file(&mut shown, event.as_deref(), mark, ("the mail as it was sent", mail.as_bytes())).await;
        }
        self.received(&mut shown, step, event.as_deref(), mark, begun).await;
        Ok(shown)
    }

    /// What arrives at the mail server, and whether it carries the answer and an address that leads back to its story.
    pub(super) async fn mail_left(&mut self, step: &Step, shown: &mut Shown) -> bool {
        let Some(sent) = self.scene.postbox.next_sent(PATIENCE).await else { return false };
        let mail = String::from_utf8_lossy(&sent.raw);
        let fields = ["Message-ID", "In-Reply-To", "References", "Reply-To"].map(|name| (name, field(&mail, name)));
        let mut lines = vec![format!("by SMTP, from <{}> to <{}>", sent.from, sent.to.join(">, <"))];
        lines.extend(fields.iter().map(|(name, value)| format!("{name}: {value}")));
        let names = fields.iter().map(|(name, value)| (name.to_lowercase().replace('-', "_"), json!(value)));
        let mut facts: serde_json::Map<_, _> = names.collect();
        facts.extend([("from".to_owned(), json!(sent.from)), ("to".to_owned(), json!(sent.to))]);
        shown.row("leaves", lines, facts.into());
        for (name, expected) in &step.expect.letter {
            shown.check.same(format!("{name} {expected}"), format!("{name} {}", field(&mail, name)));
        }
        self.sent = field(&mail, "Message-ID").trim_matches(['<', '>']).to_owned();
        self.reply_to = address(&field(&mail, "Reply-To")).to_owned();
        let token = self.reply_to.split_once('+').and_then(|(_, rest)| rest.split_once('@'));
        let seen = token.map_or("Reply-To without a token", |_| "Reply-To with a token");
        shown.check.same("Reply-To with a token", seen);
        mail.contains(&step.text)
    }
}

/// The field of a mail, unfolded; empty if there is none.
fn field(mail: &str, name: &str) -> String {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap_or((mail, ""));
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let value = head.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

/// The address in a field that has one, without the name before it.
fn address(value: &str) -> &str {
    let inner = value.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(value, |(inner, _)| inner)
}

/// A time as mails say it (RFC 5322, section 3.3).
pub(super) fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_of_a_head() {
        let mail = "To: a@b.example\r\nReferences: <1@x>\r\n <2@x>\r\n\r\nSubject: not this\r\n";
        assert_eq!((field(mail, "references").as_str(), field(mail, "Subject").as_str()), ("<1@x> <2@x>", ""));
        assert_eq!((address("The Shop <a+b@c.example>"), address("a@b.example")), ("a+b@c.example", "a@b.example"));
        assert_eq!(date(Timestamp::from_seconds(1_772_445_580)), "Mon, 02 Mar 2026 09:59:40 +0000");
    }
}
