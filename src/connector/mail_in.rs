//! A whole mail in a provider's request: where it stands and what the provider says of it, as `[mail]` declares.
//!
//! The request is journaled as it came; the mail is taken out of it again whenever it is read. The invariant: the same request
//! gives the same bytes, and they are the mail's own. A form's field is taken as bytes, since mails need not be UTF-8.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::BASE64;

use super::compile::Compiler;
use super::eval::{Env, Val};
use super::expr::Expr;
use super::mapping::read_lets;
use super::request::{Opened, Request, form_field};
use super::tree::Table;
use super::{Account, Connector, Transport};
use crate::base::Timestamp;
use crate::base::json::Value;
use crate::model::Outcome;
use crate::model::entry::{MailHead, MailSource, SenderFound};

/// The most recipients of an envelope that are read.
const MOST_RECIPIENTS: usize = 256;

/// `[mail]`.
#[derive(Debug)]
pub(super) struct MailSpec {
    lets: Vec<(usize, Expr)>,
    source: Source,
    /// Whether it is base64; it is not where this is absent.
    base64: Option<Expr>,
    envelope_from: Option<Expr>,
    envelope_to: Option<Expr>,
    spf: Option<Expr>,
    dmarc: Option<Expr>,
}

/// Where the mail stands.
#[derive(Debug)]
enum Source {
    /// In the field of a form, byte for byte.
    Field(String),
    /// In a text.
    Text(Expr),
}

/// A mail that stands in a request, and what the provider says of how it came.
pub struct MailIn {
    /// All of it, byte for byte.
    pub raw: Bytes,
    /// By whom it was handed over, as the envelope says; nothing if the provider does not tell.
    pub envelope_from: Option<String>,
    /// To whom.
    pub envelope_to: Vec<String>,
    /// What the provider says of SPF for the envelope's sender, in lower case.
    pub spf: Option<String>,
    /// What it says of DMARC for the address in `From`, in lower case.
    pub dmarc: Option<String>,
}

impl MailSpec {
    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<MailSpec> {
        let scopes = c.names.scopes.len();
        let lets = read_lets(&mut table, c);
        let field = table.text("field", c.notes).map(|(name, _)| name);
        let written = table.has("raw");
        if field.is_some() == written {
            c.notes.wrong(table.at, "a mail stands in the `field` of a form or in a text, `raw`; name one of them");
        }
        let text = c.expr(&mut table, "raw");
        let spec = MailSpec {
            lets,
            source: field.map(Source::Field).or(text.map(Source::Text))?,
            base64: c.expr(&mut table, "base64"),
            envelope_from: c.expr(&mut table, "envelope_from"),
            envelope_to: c.expr(&mut table, "envelope_to"),
            spf: c.expr(&mut table, "spf"),
            dmarc: c.expr(&mut table, "dmarc"),
        };
        table.finish(c.notes);
        c.names.scopes.truncate(scopes);
        Some(spec)
    }

    /// The mail of a request whose scopes are in `env`; nothing if there is none, and why not if it cannot be read.
    fn take<'v>(&'v self, field: Option<Bytes>, env: &mut Env<'v>) -> Option<Result<MailIn, String>> {
        for (slot, expr) in &self.lets {
            let value = expr.eval(env);
            env.set(*slot, value);
        }
        let raw = match &self.source {
            Source::Field(_) => field?,
            Source::Text(expr) => Bytes::from(expr.string(env)?),
        };
        if raw.is_empty() {
            return None;
        }
        let raw = match self.base64.as_ref().is_some_and(|expr| expr.holds(env)) {
            false => raw,
            true => match unpacked(&raw) {
                Some(raw) => raw,
                None => return Some(Err("the mail in the request is not the base64 that it is said to be".to_owned())),
            },
        };
        let word = |expr: &Option<Expr>| Some(expr.as_ref()?.string(env)?.trim().to_ascii_lowercase());
        Some(Ok(MailIn {
            raw,
            envelope_from: self.envelope_from.as_ref().and_then(|expr| expr.string(env)).map(|text| bare(&text)),
            envelope_to: self.envelope_to.as_ref().map(|expr| addresses(expr, env)).unwrap_or_default(),
            spf: word(&self.spf),
            dmarc: word(&self.dmarc),
        }))
    }
}

/// Base64 with or without line ends.
fn unpacked(text: &[u8]) -> Option<Bytes> {
    let text: Cow<'_, [u8]> = match text.iter().any(u8::is_ascii_whitespace) {
        true => text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect(),
        false => Cow::Borrowed(text),
    };
    BASE64.decode(&text).ok().map(Bytes::from)
}

/// An address without the angle brackets of `Return-Path`.
fn bare(address: &str) -> String {
    address.trim().trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// One address, or a list of them.
fn addresses<'v>(expr: &'v Expr, env: &Env<'v>) -> Vec<String> {
    let Some(found) = expr.eval(env) else { return Vec::new() };
    let texts: Vec<String> = match found.elements() {
        Some(all) => all.iter().take(MOST_RECIPIENTS).filter_map(Val::text).map(|text| bare(&text)).collect(),
        None => found.text().map(|text| bare(&text)).into_iter().collect(),
    };
    texts.into_iter().filter(|address| !address.is_empty()).collect()
}

// The compiled expressions and the payload need only live as long as the call, which this says to the compiler.
fn take<'v>(spec: &'v MailSpec, field: Option<Bytes>, mut env: Env<'v>) -> Option<Result<MailIn, String>> {
    spec.take(field, &mut env)
}

impl Connector {
    /// Whether its requests may hold whole mails.
    pub fn takes_mails(&self) -> bool {
        self.mail.is_some()
    }

    /// Whether what it brings are mails, from a mailbox, by LMTP or in requests.
    pub fn brings_mails(&self) -> bool {
        self.takes_mails() || self.transport() == Transport::Mail
    }

    /// The mail in a request; nothing if there is none, and the reason if there is one that cannot be read.
    pub fn mail_in(&self, request: &Request, account: &Account) -> Option<Result<MailIn, String>> {
        let spec = self.mail.as_ref()?;
        let field = match &spec.source {
            Source::Field(name) => Some(form_field(request, name)?),
            Source::Text(_) => None,
        };
        let opened = Opened::leniently(request, self.json_in.as_deref());
        if matches!(opened.body, Value::Null) {
            return None;
        }
        take(spec, field, opened.env(account, &self.tables, false))
    }

    /// The outcomes of a verified request, as [`Connector::normalize`] gives them, with what was found out about the sender of
    /// the mail in it before it was journaled.
    pub fn normalize_found(
        &self,
        request: &Request,
        found: Option<&SenderFound>,
        account: &Account,
        received_at: Timestamp,
    ) -> Vec<Outcome> {
        let mail = match self.mail_in(request, account) {
            None => return self.mapped(request, account, received_at),
            Some(Err(reason)) => return vec![Outcome::Quarantined { reason }],
            Some(Ok(mail)) => mail,
        };
        let head = MailHead {
            source: MailSource::Webhook,
            envelope_to: mail.envelope_to,
            envelope_from: mail.envelope_from,
            sender: found.cloned().unwrap_or_default(),
            ..MailHead::unchecked()
        };
        self.normalize_mail(&mail.raw, &head, account, received_at)
    }
}
