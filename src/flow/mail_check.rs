//! Stage 2, for mails: how far their sender is known.
//!
//! What the mailbox's own server says counts if its name is configured and it stands where only that server can have put it;
//! beside that, signatures are checked here (DKIM, RFC 6376) and held against what the domain in From asks for (DMARC,
//! RFC 9989). This needs the network, so it comes before the journal, and the journal keeps what was found.
//!
//! A provider that hands mails over in its requests may say itself what came of SPF and DMARC: it has seen the connection, and
//! its request was verified, so that its word counts like that of the mailbox's server.

use std::time::Duration;

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::ChannelSetup;
use super::verify::{ReceivedMail, Verified};
use crate::base::id::{ConversationId, SendId};
use crate::base::{Pii, Timestamp};
use crate::mail::address::Address;
use crate::mail::auth_results::{self, Stated};
use crate::mail::dkim::{self, DkimOutcome, DkimResult, TxtAnswer};
use crate::mail::dmarc::{self, Dmarc, Identity, Method, Organization, Policy};
use crate::mail::fields::Fields;
use crate::mail::read;
use crate::mail::token::{self, TokenKey, VerifiedToken};
use crate::model::entry::SenderFound;
use crate::model::{Evidence, MailLevel, MailToken};
use crate::net::dns::{Dns, Txt};
use crate::rules::mail_trust::{self, AuthSeen, OwnDmarc, StatedDmarc};

/// How long the domains of a fetched mail's sender may take to be asked: nobody waits for it.
const FETCHED: Duration = Duration::from_secs(60);
/// The same for a mail in a request, whose provider waits to be told that it was taken. What was not found out by then is
/// unknown.
const IN_REQUEST: Duration = Duration::from_secs(2);

/// How many of the mails that one answers are looked at for a token.
const MOST_ANSWERED: usize = 12;
/// Fields with addresses that are looked at for one.
const MOST_PLACES: usize = 20;
/// Bytes of a report that are searched, and Message-IDs in it that are looked at.
const MOST_REPORT: usize = 256 << 10;
const MOST_REPORTED: usize = 8;

/// What checking needs.
pub struct Checking {
    /// Whom the domains' records are asked of.
    pub dns: Dns,
    /// Under which our mails carry tokens.
    pub key: Arc<TokenKey>,
}

/// Finds out who sent a mail and which of ours it answers, and notes both in its head.
pub(super) async fn step(checking: &Checking, authserv_ids: &[String], mail: &mut ReceivedMail) {
    if mail.raw.is_empty() {
        return;
    }
    let envelope_to = &mail.head.envelope_to;
    let about = About { authserv_ids, envelope_to, said: Said::default(), within: FETCHED };
    mail.head.sender = check(checking, &about, &mail.raw, mail.at).await;
}

/// Finds out who sent the mail that is in a request, if there is one, and notes it beside the request.
pub(super) async fn step_request(checking: &Checking, channel: &ChannelSetup, verified: &mut Verified) {
    let Some(Ok(mail)) = channel.connector.mail_in(&verified.request, &channel.account) else { return };
    let ids: Vec<String> = channel.account.options.list("authserv_ids").map(str::to_owned).collect();
    let spf = mail.spf.as_deref().map(|said| {
        let sender = mail.envelope_from.as_deref().and_then(|from| from.rsplit_once('@'));
        sender.map(|(_, domain)| domain.to_lowercase()).filter(|_| said == "pass")
    });
    let dmarc = match mail.dmarc.as_deref() {
        Some("pass") => StatedDmarc::Pass,
        Some("fail") => StatedDmarc::Fail,
        _ => StatedDmarc::Nothing,
    };
    let about =
        About { authserv_ids: &ids, envelope_to: &mail.envelope_to, said: Said { spf, dmarc }, within: IN_REQUEST };
    verified.sender = Some(check(checking, &about, &mail.raw, verified.at).await);
}

/// What is known of a mail beside its bytes, and how long finding out more may take.
struct About<'a> {
    authserv_ids: &'a [String],
    envelope_to: &'a [String],
    said: Said,
    within: Duration,
}

/// What the provider says that handed the mail over.
#[derive(Default)]
struct Said {
    /// SPF: nothing if it says nothing, else the domain of the envelope's sender if that passed.
    spf: Option<Option<String>>,
    dmarc: StatedDmarc,
}

/// The token of ours that a mail carries: where it was sent to, in what it answers, or, in a report, in the mail it reports
/// of. Of several the one that was made for its sender.
fn token_of(
    key: &TokenKey,
    (fields, body): (&Fields<'_>, &[u8]),
    from: Option<&Address>,
    envelope_to: &[String],
    at: Timestamp,
) -> Option<MailToken> {
    let sender = from.map(|from| token::participant(&from.email));
    let now = at.seconds().unsigned_abs();
    let said = |name: &'static str| fields.all(name).map(|field| field.text().into_owned()).collect::<Vec<_>>();
    let places =
        ["Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc"].into_iter().flat_map(said).take(MOST_PLACES);
    let answered = ["In-Reply-To", "References"].into_iter().flat_map(said);
    // What is answered last stands last.
    let ids: Vec<String> =
        answered.flat_map(|text| text.split_whitespace().rev().map(str::to_owned).collect::<Vec<_>>()).collect();
    let shown = envelope_to.iter().take(MOST_PLACES).cloned().chain(places).chain(ids.into_iter().take(MOST_ANSWERED));
    let found: Vec<VerifiedToken> =
        shown.chain(reported(fields, body)).filter_map(|text| token::read(key, &text, now)).collect();
    let of_sender = |token: &&VerifiedToken| sender.is_some_and(|sender| token.is_of(key, &sender));
    let best = found.iter().find(of_sender).or_else(|| found.first())?;
    Some(MailToken {
        conversation_id: best.conversation().map(ConversationId::from_bytes),
        send_id: best.send().map(SendId::from_bytes),
        of_sender: of_sender(&best),
    })
}

/// The Message-IDs in the body of what may be a report: that of the mail it is about stands there.
fn reported(fields: &Fields<'_>, body: &[u8]) -> Vec<String> {
    let says = |name: &str, word: &str| fields.text(name).is_some_and(|text| text.to_ascii_lowercase().contains(word));
    let unanswerable = fields.text("Return-Path").is_some_and(|path| path.trim() == "<>");
    if !says("Content-Type", "multipart/report") && !says("From", "mailer-daemon") && !unanswerable {
        return Vec::new();
    }
    let body = body.get(..body.len().min(MOST_REPORT)).unwrap_or_default();
    let lines = body.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let named = lines.filter(|line| line.get(..11).is_some_and(|name| name.eq_ignore_ascii_case("message-id:")));
    named.map(std::borrow::Cow::into_owned).take(MOST_REPORTED).collect()
}

async fn check(checking: &Checking, about: &About<'_>, raw: &[u8], at: Timestamp) -> SenderFound {
    let dns = &checking.dns;
    let (fields, body) = Fields::read(raw);
    let from = read::from_of(&fields);
    // Where another reader could see another address, nobody vouches for this one.
    let author = match from.list.as_slice() {
        [address] if !from.ambiguous => Some(address),
        _ => None,
    };
    let token = token_of(&checking.key, (&fields, body), author, about.envelope_to, at);
    let own_token = token.is_some_and(|token| token.of_sender && token.conversation_id.is_some());
    let mut seen = AuthSeen {
        from_addresses: from.list.len(),
        from_fields: fields.all("From").count(),
        own: OwnDmarc::Unknown,
        stated: StatedDmarc::Nothing,
        own_token,
    };
    let mut evidence = Vec::new();
    let domain = author.and_then(|author| author.email.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
    if let Some(domain) = domain.and_then(|domain| url::Host::parse(&domain).ok()).map(|host| host.to_string()) {
        let trusted = auth_results::trusted(&fields, about.authserv_ids, &[]);
        let mut spf = trusted.as_ref().map(|trusted| (trusted.has_spf(), trusted.spf_passes())).unwrap_or_default();
        if let Some(said) = &about.said.spf {
            spf.0 = true;
            spf.1.extend(said.clone());
        }
        seen.stated = match trusted.as_ref().and_then(|trusted| trusted.dmarc(&domain)) {
            Some(Stated::Pass) => StatedDmarc::Pass,
            Some(Stated::Fail) => StatedDmarc::Fail,
            Some(Stated::NoPolicy | Stated::Temporary) | None => about.said.dmarc,
        };
        let own = async {
            let signed = signatures(dns, raw, at).await;
            (own_dmarc(dns, &domain, &signed, &spf).await, signed)
        };
        if let Ok((own, signed)) = timeout(about.within, own).await {
            seen.own = own;
            evidence.extend(signed.iter().map(|one| told("dkim", outcome(one.result), &one.domain, at)));
        }
    }
    let judged = mail_trust::level(&seen);
    let result = if judged.level >= MailLevel::Authenticated { "pass" } else { "none" };
    let result = if judged.level == MailLevel::Failed { "fail" } else { result };
    evidence.extend(judged.evidence.iter().map(|why| told("dmarc", result, why.name(), at)));
    SenderFound { level: judged.level, evidence, token }
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

async fn txt(dns: &Dns, name: &str) -> TxtAnswer {
    match dns.txt(name).await {
        Txt::Found(records) => TxtAnswer::Found(records),
        Txt::None => TxtAnswer::None,
        Txt::Temporary => TxtAnswer::Temporary,
    }
}

/// The signatures of a mail, checked.
async fn signatures(dns: &Dns, raw: &[u8], at: Timestamp) -> Vec<DkimResult> {
    let now = at.seconds().unsigned_abs();
    let checked = dkim::signatures(raw).into_iter().map(|signature| async move {
        let key = match signature.key_name() {
            Some(name) => txt(dns, &name).await,
            None => TxtAnswer::None,
        };
        signature.verify(&key, now)
    });
    join_all(checked).await
}

/// What the domain asks for, and its organization: by asking upwards from the domain.
async fn walked(dns: &Dns, domain: &str) -> Option<Organization> {
    let mut answers = Vec::new();
    for name in dmarc::questions(domain) {
        let answer = txt(dns, &name).await;
        let ends = dmarc::ends_walk(&answer) || answer == TxtAnswer::Temporary;
        answers.push(answer);
        if ends {
            break;
        }
    }
    dmarc::organization(domain, &answers)
}

/// Whether the domain in From stands behind the mail.
async fn own_dmarc(dns: &Dns, from: &str, signed: &[DkimResult], (spf_known, spf): &(bool, Vec<String>)) -> OwnDmarc {
    let Some(organization) = walked(dns, from).await else { return OwnDmarc::Unknown };
    let by_key = signed.iter().filter_map(|one| match one.result {
        DkimOutcome::Pass => Some((Method::Dkim, one.domain.as_str(), true)),
        DkimOutcome::TempError => Some((Method::Dkim, one.domain.as_str(), false)),
        DkimOutcome::Fail | DkimOutcome::PermError | DkimOutcome::Neutral => None,
    });
    let by_host = spf.iter().map(|domain| (Method::Spf, domain.as_str(), true));
    let mut identities = Vec::new();
    for (method, domain, certain) in by_key.chain(by_host) {
        let own = match dmarc::needs_walk(domain, from, &organization) {
            true => walked(dns, domain).await.map(|found| found.domain),
            false => None,
        };
        identities.push((method, domain, own, certain));
    }
    let identities: Vec<Identity<'_>> = identities
        .iter()
        .map(|(method, domain, own, certain)| Identity {
            method: *method,
            domain,
            organization: own.as_deref(),
            certain: *certain,
        })
        .collect();
    let enforced = organization.record.is_some_and(|(_, policy)| policy > Policy::None);
    match dmarc::judge(from, Some(&organization), &identities) {
        Dmarc::Pass => OwnDmarc::Pass,
        Dmarc::Fail => OwnDmarc::Fail { complete: *spf_known, enforced },
        Dmarc::NoPolicy => OwnDmarc::NoPolicy,
        Dmarc::TempError => OwnDmarc::Unknown,
    }
}
