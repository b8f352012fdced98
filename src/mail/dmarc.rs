//! DMARC (RFC 9989): whether the domain in `From` stands behind a mail.
//!
//! The DNS is asked by somebody else: [`questions`] says which names, [`organization`] reads the answers (the tree walk
//! of section 4.10, no list of public suffixes), and [`judge`] compares. A domain can stand behind a mail by its DKIM
//! signature, or by SPF; SPF needs the connection, so it counts only where a trusted host states it.

use super::dkim::TxtAnswer;
use super::tags::{is_below, is_domain};

/// The most names that are asked for one domain.
pub const MOST_QUESTIONS: usize = 8;

/// What a domain wants done with mail that it does not stand behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    /// Nothing.
    #[default]
    None,
    /// To be held as doubtful.
    Quarantine,
    /// To be refused.
    Reject,
}

impl Policy {
    fn read(text: &str) -> Option<Policy> {
        match text {
            "none" => Some(Policy::None),
            "quarantine" => Some(Policy::Quarantine),
            "reject" => Some(Policy::Reject),
            _ => None,
        }
    }
}

/// A policy record, `_dmarc.<domain>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// `p`: for the domain itself. A record without one, or with an unknown one, asks for nothing.
    pub policy: Policy,
    /// `sp`: for the names below it, if it is another.
    pub below: Option<Policy>,
    /// `np`: for names below it that do not exist, if it is another.
    pub absent: Option<Policy>,
    /// `adkim=s`: the signing domain must be the very domain.
    pub strict_dkim: bool,
    /// `aspf=s`: likewise for SPF.
    pub strict_spf: bool,
    /// `psd`: whether others register names below this one (`y`), or this is where an organization begins (`n`).
    pub public_suffix: Option<bool>,
    /// `t=y`: the policy is only tried out, and one level less is asked for.
    pub testing: bool,
}

impl Record {
    /// Reads one TXT record. Gives nothing if it is not one of this version. Tags that are unknown or cannot be read
    /// are passed over (section 4.7).
    pub fn read(text: &str) -> Option<Record> {
        let mut tags =
            text.split(';').filter_map(|tag| tag.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
        let (name, version) = tags.next()?;
        if !name.eq_ignore_ascii_case("v") || version != "DMARC1" || !text.trim_start().starts_with(name) {
            return None;
        }
        let mut record = Record::default();
        for (name, value) in tags {
            let (name, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
            match (name.as_str(), value.as_str()) {
                ("p", value) => record.policy = Policy::read(value).unwrap_or_default(),
                ("sp", value) => record.below = Policy::read(value),
                ("np", value) => record.absent = Policy::read(value),
                ("adkim", value) => record.strict_dkim = value == "s",
                ("aspf", value) => record.strict_spf = value == "s",
                ("psd", "y") => record.public_suffix = Some(true),
                ("psd", "n") => record.public_suffix = Some(false),
                ("t", value) => record.testing = value == "y",
                _ => {}
            }
        }
        Some(record)
    }

    /// The record in an answer: the only one of this version there. Of several none counts.
    fn of(answer: &TxtAnswer) -> Option<Record> {
        let TxtAnswer::Found(records) = answer else { return None };
        let mut read = records.iter().filter_map(|record| Record::read(record));
        read.next().filter(|_| read.next().is_none())
    }
}

/// The names whose TXT records must be known for `domain`, in the order in which to ask: at most [`MOST_QUESTIONS`].
/// None if it is no name of the DNS; a domain with other letters must be given in its ASCII form.
pub fn questions(domain: &str) -> Vec<String> {
    steps(domain).into_iter().map(|name| format!("_dmarc.{name}")).collect()
}

/// Whether the names behind this answer need not be asked.
pub fn ends_walk(answer: &TxtAnswer) -> bool {
    Record::of(answer).is_some_and(|record| record.public_suffix.is_some())
}

/// The domains of the tree walk, from the longest: the domain itself, then from seven labels on each one above.
fn steps(domain: &str) -> Vec<String> {
    if !is_domain(domain) {
        return Vec::new();
    }
    let domain = domain.to_ascii_lowercase();
    let labels = domain.split('.').count();
    let mut steps = vec![domain.clone()];
    let mut rest = domain.as_str();
    for left in (1..labels).rev() {
        rest = rest.split_once('.').map_or("", |(_, above)| above);
        if left < MOST_QUESTIONS {
            steps.push(rest.to_owned());
        }
    }
    steps
}

/// What the tree walk of a domain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// The organizational domain, in lower case: whose names below are its own.
    pub domain: String,
    /// The record that is for the domain from which the walk began, and what it asks for that domain.
    pub record: Option<(Record, Policy)>,
}

/// Reads the answers to [`questions`], in their order. `answers` may end early behind one that [`ends_walk`]. Gives
/// nothing if one that is needed could not be learned.
pub fn organization(domain: &str, answers: &[TxtAnswer]) -> Option<Organization> {
    let steps = steps(domain);
    let mut found: Vec<(usize, Record)> = Vec::new();
    for (place, _) in steps.iter().enumerate() {
        let answer = answers.get(place).unwrap_or(&TxtAnswer::Temporary);
        if *answer == TxtAnswer::Temporary {
            return None;
        }
        found.extend(Record::of(answer).map(|record| (place, record)));
        if ends_walk(answer) {
            break;
        }
    }
    // Where the walk ended: at a mark, or at the top with the record of the fewest labels.
    let last = found.last().copied();
    let place = match last {
        Some((place, record)) if record.public_suffix == Some(true) => place.saturating_sub(1),
        Some((place, _)) => place,
        None => 0,
    };
    let domain = steps.get(place).cloned().unwrap_or_else(|| domain.to_ascii_lowercase());
    // The domain's own record, else that of its organization, else that of the suffix above it.
    let at = |wanted: usize| found.iter().find(|(place, _)| *place == wanted).map(|(_, record)| *record);
    let above = || at(place).or(last.map(|(_, record)| record)).map(|record| (record, asked(&record, false)));
    let record = at(0).map(|record| (record, asked(&record, true))).or_else(above);
    Some(Organization { domain, record })
}

/// What a record asks for the domain it is of, or for one below. Whether a name below exists is not known here; `np` is
/// therefore left to the host that received the mail.
fn asked(record: &Record, own: bool) -> Policy {
    let policy = if own { record.policy } else { record.below.unwrap_or(record.policy) };
    match (record.testing, policy) {
        (true, Policy::Reject) => Policy::Quarantine,
        (true, _) => Policy::None,
        (false, policy) => policy,
    }
}

/// How a domain stands behind a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By a DKIM signature that covers the whole mail.
    Dkim,
    /// By SPF for MAIL FROM, stated by a trusted host.
    Spf,
}

/// A domain that stands behind a mail, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// How.
    pub method: Method,
    /// The domain.
    pub domain: &'a str,
    /// Its organizational domain, where [`needs_walk`] asks for it; None if it is not known.
    pub organization: Option<&'a str>,
    /// Whether it is certain; not if the key could not be learned now.
    pub certain: bool,
}

/// What DMARC says of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dmarc {
    /// The domain in `From` stands behind it.
    Pass,
    /// It does not, though it has a policy. Without SPF known this is only "not by a signature".
    Fail,
    /// It has no policy.
    NoPolicy,
    /// It could not be learned now.
    TempError,
}

/// Whether the organization of `signer` must be walked for, to know if it is that of `from`: only for a name below the
/// same organization that is neither `from` nor the organization itself. All others are decided without.
pub fn needs_walk(signer: &str, from: &str, organization: &Organization) -> bool {
    let own = signer.eq_ignore_ascii_case(from) || signer.eq_ignore_ascii_case(&organization.domain);
    !own && is_below(signer, &organization.domain)
}

/// Whether a signature of `signer` can speak for `from` at all. Nobody needs the keys of others.
pub fn may_align(signer: &str, from: &str, organization: &Organization) -> bool {
    let strict = organization.record.is_some_and(|(record, _)| record.strict_dkim);
    signer.eq_ignore_ascii_case(from) || (!strict && is_below(signer, &organization.domain))
}

/// Judges. `from` is the domain of the one address in `From`, `walk` what [`organization`] gave for it.
pub fn judge(from: &str, walk: Option<&Organization>, identities: &[Identity<'_>]) -> Dmarc {
    let Some(walk) = walk else { return Dmarc::TempError };
    let Some((record, _)) = &walk.record else { return Dmarc::NoPolicy };
    let mut doubtful = false;
    for identity in identities {
        match (alignment(from, walk, record, identity), identity.certain) {
            (Some(true), true) => return Dmarc::Pass,
            (Some(false), _) => {}
            _ => doubtful = true,
        }
    }
    if doubtful { Dmarc::TempError } else { Dmarc::Fail }
}

/// Whether an identity is of the domain in `From` (section 4.4); None if that is not known.
fn alignment(from: &str, walk: &Organization, record: &Record, identity: &Identity<'_>) -> Option<bool> {
    let strict = match identity.method {
        Method::Dkim => record.strict_dkim,
        Method::Spf => record.strict_spf,
    };
    if identity.domain.eq_ignore_ascii_case(from) {
        return Some(true);
    }
    if strict {
        return Some(false);
    }
    if needs_walk(identity.domain, from, walk) {
        return identity.organization.map(|organization| organization.eq_ignore_ascii_case(&walk.domain));
    }
    Some(identity.domain.eq_ignore_ascii_case(&walk.domain))
}

#[cfg(test)]
mod tests;
