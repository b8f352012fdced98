//! Stage 2, for mails: how far their sender is known.
//!
//! What the mailbox's own server says counts if its name is configured and it stands where only that server can have put it;
//! beside that, signatures are checked here (DKIM, RFC 6376) and held against what the domain in From asks for (DMARC,
//! RFC 9989). This needs the network, so it comes before the journal, and the journal keeps what was found.
//!
//! A provider that hands mails over in its requests may say itself what came of SPF and DMARC: it has seen the connection, and
//! its request was verified, so that its word counts like that of the mailbox's server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::ChannelSetup;
use super::send_mail::may_still_bounce;
use super::verify::{ReceivedMail, Verified};
use crate::base::id::{ConversationId, SendId};
use crate::base::{Pii, Timestamp};
use crate::mail::address::{Address, Addresses};
use crate::mail::auth_results::{self, Stated, TrustedServers};
use crate::mail::dkim::{Came, DkimOutcome, DkimResult};
use crate::mail::fields::{Field, Fields};
use crate::mail::read::{self, Opened};
use crate::mail::token::{self, TokenKey, VerifiedToken};
use crate::model::entry::{Believed, SenderFound};
use crate::model::{Evidence, MailLevel, MailToken};
use crate::net::dns::Dns;
use crate::rules::mail_trust::{self, AuthSeen, OwnDmarc, StatedDmarc};

mod standing;
#[cfg(test)]
mod tests;

use standing::{Ask, Patience, Spf};

/// How long the domain of a fetched mail's sender may take to be asked: nobody waits for it.
const FETCHED: Patience = Patience { within: Duration::from_secs(60), again: Some(Duration::from_secs(5)) };
/// The same for a mail in a request, whose provider waits to be told that it was taken. What was not found out by then is
/// unknown.
const IN_REQUEST: Patience = Patience { within: Duration::from_secs(2), again: None };

/// How many of the mails that one answers are looked at for a token.
const MOST_ANSWERED: usize = 12;
/// Fields with addresses that are looked at for one.
const MOST_PLACES: usize = 20;
/// Message-IDs in a report that are looked at.
const MOST_REPORTED: usize = 8;

/// What checking needs.
pub struct Checking {
    /// Whom the domains' records are asked of.
    pub dns: Dns,
    /// Under which our mails carry tokens.
    pub key: Arc<TokenKey>,
}

/// Finds out who sent a mail and which of ours it answers, and notes both in its head.
pub(super) async fn step(checking: &Checking, trusted: &TrustedServers, mail: &mut ReceivedMail) {
    if mail.raw.is_empty() {
        return;
    }
    // A signature that has ended since was good when the mail came.
    let at = mail.head.arrived.unwrap_or(mail.at);
    let came = Came { at: at.seconds().unsigned_abs(), by: mail.at.seconds().unsigned_abs() };
    let found = find(&checking.dns, &About::fetched(trusted), &mail.raw, came).await;
    mail.head.sender = judge(&checking.key, &found, &mail.head.envelope_to, &mail.raw, at);
}

/// As [`step`], for one mail that comes for several channels, each with the mail servers that it trusts. Whoever handed it
/// over waits for all of them, so the domains are asked once for those that trust the same servers, and at the same time
/// for those that do not.
pub(super) async fn step_together(checking: &Checking, mails: &mut [(TrustedServers, ReceivedMail)]) {
    notes_together(&checking.dns, &checking.key, mails).await;
}

async fn notes_together<A: Ask>(ask: &A, key: &TokenKey, mails: &mut [(TrustedServers, ReceivedMail)]) {
    let Some((_, first)) = mails.first() else { return };
    let (raw, at) = (first.raw.clone(), first.at);
    let mut found: BTreeMap<TrustedServers, Option<Found>> =
        mails.iter().map(|(trusted, _)| (trusted.clone(), None)).collect();
    let asked = found.iter_mut().map(async |(trusted, found)| {
        *found = Some(find(ask, &About::fetched(trusted), &raw, now(at)).await);
    });
    join_all(asked).await;
    for (trusted, mail) in mails {
        if let Some(Some(found)) = found.get(trusted) {
            mail.head.sender = judge(key, found, &mail.head.envelope_to, &raw, at);
        }
    }
}

/// Finds out who sent the mail that is in a request, if there is one, and notes it beside the request.
pub(super) async fn step_request(checking: &Checking, channel: &ChannelSetup, verified: &mut Verified) {
    let Some(Ok(mail)) = channel.connector.mail_in(&verified.request, &channel.account) else { return };
    let trusted = channel.account.trusted_servers();
    let spf = mail.spf.as_deref().filter(|said| *said != "temperror").map(|said| {
        let sender = mail.envelope_from.as_deref().and_then(|from| from.rsplit_once('@'));
        sender.map(|(_, domain)| domain.to_lowercase()).filter(|_| said == "pass")
    });
    let dmarc = match mail.dmarc.as_deref() {
        Some("pass") => StatedDmarc::Pass,
        Some("fail") => StatedDmarc::Fail,
        Some("temperror") => StatedDmarc::Temporary,
        _ => StatedDmarc::Nothing,
    };
    let about = About { trusted: &trusted, said: Said { spf, dmarc }, patience: IN_REQUEST };
    let found = find(&checking.dns, &about, &mail.raw, now(verified.at)).await;
    verified.sender = Some(judge(&checking.key, &found, &mail.envelope_to, &mail.raw, verified.at));
}

/// What is known of a mail beside its bytes, and how long finding out more may take.
struct About<'a> {
    trusted: &'a TrustedServers,
    said: Said,
    patience: Patience,
}

impl<'a> About<'a> {
    /// Of a mail that nobody says anything about.
    fn fetched(trusted: &'a TrustedServers) -> About<'a> {
        About { trusted, said: Said::default(), patience: FETCHED }
    }
}

/// What the provider says that handed the mail over.
#[derive(Default)]
struct Said {
    /// SPF: nothing if it says nothing, else the domain of the envelope's sender if that passed.
    spf: Option<Option<String>>,
    dmarc: StatedDmarc,
}

/// The token of ours that a mail carries: where it was sent to, in what it answers, or, in a report, in the mail it reports
/// of. Of several the one that was made for its sender. With it, which reports of the mail that it names are believed.
fn token_of(
    key: &TokenKey,
    (fields, raw): (&Fields<'_>, &[u8]),
    from: Option<&Address>,
    envelope_to: &[String],
    at: Timestamp,
) -> Option<(MailToken, Believed)> {
    let sender = from.map(|from| token::participant(&from.email));
    let now = at.seconds().unsigned_abs();
    let places = ["Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc"].into_iter();
    let places = places.flat_map(|name| fields.all(name)).map(|field| field.text().into_owned()).take(MOST_PLACES);
    let answered = ["In-Reply-To", "References"].into_iter().flat_map(|name| fields.all(name));
    let answered = answered.flat_map(last_answered).take(MOST_ANSWERED);
    let shown = envelope_to.iter().take(MOST_PLACES).cloned().chain(places).chain(answered);
    let verified = |text: String| token::read(key, &text, now);
    let shown: Vec<VerifiedToken> = shown.filter_map(verified).collect();
    let given_back: Vec<VerifiedToken> = reported(fields, raw).into_iter().filter_map(verified).collect();
    let of_sender = |token: &&VerifiedToken| sender.is_some_and(|sender| token.is_of(key, &sender));
    let found = || shown.iter().chain(&given_back);
    let best = found().find(of_sender).or_else(|| found().next())?;
    let named = MailToken {
        conversation_id: best.conversation().map(ConversationId::from_bytes),
        send_id: best.send().map(SendId::from_bytes),
        of_sender: of_sender(&best),
    };
    // A mail is given back by servers, never by whom it was sent to.
    let is_given_back = !named.of_sender && given_back.iter().any(|one| one.send() == best.send());
    let believed = match best.kind() {
        _ if !may_still_bounce(best, at) => Believed::Receipts,
        token::Kind::BounceAddress => Believed::All,
        _ if is_given_back => Believed::All,
        _ => Believed::ByMachine,
    };
    Some((named, believed))
}

/// The Message-IDs of a field that are looked at: what is answered last stands last.
fn last_answered(field: &Field<'_>) -> Vec<String> {
    field.text().split_whitespace().rev().take(MOST_ANSWERED).map(str::to_owned).collect()
}

/// The Message-IDs in the body of what may be a report: that of the mail it is about stands there, perhaps folded.
fn reported(fields: &Fields<'_>, raw: &[u8]) -> Vec<String> {
    let says = |name: &str, word: &str| fields.text(name).is_some_and(|text| text.to_ascii_lowercase().contains(word));
    let unanswerable = fields.text("Return-Path").is_some_and(|path| path.trim() == "<>");
    if !says("Content-Type", "multipart/report") && !says("From", "mailer-daemon") && !unanswerable {
        return Vec::new();
    }
    let beginnings = Opened::new(raw).beginnings();
    let (_, body) = Fields::read(&beginnings);
    let mut lines = body.split(|byte| *byte == b'\n').peekable();
    let mut found = Vec::new();
    while found.len() < MOST_REPORTED
        && let Some(line) = lines.next()
    {
        if !line.get(..11).is_some_and(|name| name.eq_ignore_ascii_case(b"message-id:")) {
            continue;
        }
        let mut text = String::from_utf8_lossy(line).into_owned();
        while let Some(folded) = lines.next_if(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            text.push_str(&String::from_utf8_lossy(folded));
        }
        found.push(text);
    }
    found
}

/// What the servers say of a mail's sender, the same whoever it comes to.
#[derive(Default)]
struct Found {
    own: OwnDmarc,
    stated: StatedDmarc,
    signed: Vec<DkimResult>,
}

/// The one address in From. Where another reader could see another one, nobody vouches for it; nor where not all of the
/// header was read.
fn author_of<'f>(fields: &Fields<'_>, from: &'f Addresses) -> Option<&'f Address> {
    match from.list.as_slice() {
        [address] if !from.ambiguous && fields.whole() => Some(address),
        _ => None,
    }
}

/// Of a mail that is given to us as it arrives.
fn now(at: Timestamp) -> Came {
    Came::from(at.seconds().unsigned_abs())
}

async fn find<A: Ask>(ask: &A, about: &About<'_>, raw: &[u8], came: Came) -> Found {
    let (fields, _) = Fields::of_mail(raw);
    let from = read::from_of(&fields);
    let domain = author_of(&fields, &from)
        .and_then(|author| author.email.rsplit_once('@'))
        .map(|(_, domain)| domain.to_lowercase());
    let domain = domain.and_then(|domain| url::Host::parse(&domain).ok()).map(|host| host.to_string());
    let Some(domain) = domain else { return Found::default() };
    let trusted = auth_results::trusted(&fields, about.trusted);
    let mut spf = trusted
        .as_ref()
        .map(|trusted| Spf { known: trusted.has_spf(), passed: trusted.spf_passes() })
        .unwrap_or_default();
    if let Some(said) = &about.said.spf {
        spf.known = true;
        spf.passed.extend(said.clone());
    }
    let stated = match trusted.as_ref().and_then(|trusted| trusted.dmarc(&domain)) {
        Some(Stated::Pass) => StatedDmarc::Pass,
        Some(Stated::Fail) => StatedDmarc::Fail,
        Some(Stated::Temporary) if about.said.dmarc == StatedDmarc::Nothing => StatedDmarc::Temporary,
        Some(Stated::NoPolicy | Stated::Temporary) | None => about.said.dmarc,
    };
    let standing = standing::find(ask, about.patience, (&domain, raw, came), &spf).await;
    Found { own: standing.own, stated, signed: standing.signed }
}

/// How far the sender is known, by what was found and the token that it carries where it was sent to.
fn judge(key: &TokenKey, found: &Found, envelope_to: &[String], raw: &[u8], at: Timestamp) -> SenderFound {
    let (fields, _) = Fields::of_mail(raw);
    let from = read::from_of(&fields);
    let (token, believed) = token_of(key, (&fields, raw), author_of(&fields, &from), envelope_to, at).unzip();
    let judged = mail_trust::level(&AuthSeen {
        from_addresses: from.list.len(),
        // Of a header that was read in part, nobody knows how many there are.
        from_fields: if fields.whole() { fields.all("From").count() } else { 0 },
        own: found.own,
        stated: found.stated,
        own_token: token.is_some_and(|token| token.of_sender && token.conversation_id.is_some()),
    });
    let mut evidence: Vec<Evidence> =
        found.signed.iter().map(|one| told("dkim", outcome(one.result), &one.domain, at)).collect();
    let result = match judged.level {
        MailLevel::Failed => "fail",
        level if level >= MailLevel::Authenticated => "pass",
        _ => "none",
    };
    evidence.extend(judged.evidence.iter().map(|why| told("dmarc", result, why.name(), at)));
    SenderFound { level: judged.level, evidence, token, believed: believed.unwrap_or_default() }
}

fn told(method: &str, result: &str, detail: &str, at: Timestamp) -> Evidence {
    Evidence {
        method: method.to_owned(),
        result: result.to_owned(),
        detail: (!detail.is_empty()).then(|| Pii::new(detail.to_owned())),
        at: Some(at),
    }
}

fn outcome(outcome: DkimOutcome) -> &'static str {
    match outcome {
        DkimOutcome::Pass => "pass",
        DkimOutcome::Fail => "fail",
        DkimOutcome::PermError => "permerror",
        DkimOutcome::TempError => "temperror",
        DkimOutcome::Neutral => "neutral",
    }
}
