//! How far a mail's sender is believed: four levels, and what each of them may do (threats T11 to T14, T23, T28).
//!
//! The level is about the one address in `From`. `Sender`, `Reply-To` and the name beside the address never raise it.
//! It is decided once, before the mail is taken, from what the DNS and the mailbox's host said then, and kept with the
//! mail.

use crate::model::MailLevel;

/// What was found out about DMARC by Segue itself, from the mail's bytes and the DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnDmarc {
    /// A signature of the domain is good.
    Pass,
    /// None is, though the domain has a policy.
    Fail {
        /// Whether SPF was known too, from a trusted host. Without it the mail might have passed by SPF.
        complete: bool,
        /// Whether the domain asks for such mail to be held or refused.
        enforced: bool,
    },
    /// The domain has no policy.
    NoPolicy,
    /// It could not be learned, or was not looked for.
    #[default]
    Unknown,
}

/// What a host says of DMARC for this domain that the operator trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatedDmarc {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It could not be learned.
    Temporary,
    /// There is no policy, or nothing trusted is said.
    #[default]
    Nothing,
}

/// What is known about a mail's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuthSeen {
    /// How many addresses stand in all `From` fields together. Only one can be believed; 0 if none can be read.
    pub from_addresses: usize,
    /// How many `From` fields there are.
    pub from_fields: usize,
    /// What Segue found out.
    pub own: OwnDmarc,
    /// What a trusted host says.
    pub stated: StatedDmarc,
    /// Whether the mail bears a good reply token that was made for the address in `From`.
    pub own_token: bool,
}

/// What a level rests on; kept with the mail and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Not exactly one address in exactly one `From`.
    FromUnclear,
    /// A good signature of the domain in `From`.
    SignaturePassed,
    /// A trusted host says that DMARC passed.
    HostSaysPass,
    /// A trusted host says that DMARC failed.
    HostSaysFail,
    /// Neither a signature nor SPF is the domain's.
    DmarcFailed,
    /// No signature is the domain's, and SPF is not known.
    NoSignature,
    /// The domain has no policy.
    NoPolicy,
    /// It could not be learned.
    NotLearned,
    /// A reply token made for the sender.
    ReplyToken,
}

impl Evidence {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::FromUnclear => "from_unclear",
            Evidence::SignaturePassed => "signature_passed",
            Evidence::HostSaysPass => "host_says_pass",
            Evidence::HostSaysFail => "host_says_fail",
            Evidence::DmarcFailed => "dmarc_failed",
            Evidence::NoSignature => "no_signature",
            Evidence::NoPolicy => "no_policy",
            Evidence::NotLearned => "not_learned",
            Evidence::ReplyToken => "reply_token",
        }
    }
}

/// A level and what it rests on, the deciding thing first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The level.
    pub level: MailLevel,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
}

/// Decides.
///
/// A pass counts whoever found it: the mailbox's host has seen the connection, and a signature is proof by itself. A
/// domain that asks for mail without proof to be held or refused is taken at its word even where SPF is not known; one
/// that asks for nothing is not. What a trusted host could not learn stays open: it knows more than is known here, and one
/// minute of bad DNS must not brand the mails of honest senders for good.
pub fn level(seen: &AuthSeen) -> Judged {
    if seen.from_fields != 1 || seen.from_addresses != 1 {
        return Judged { level: MailLevel::Failed, evidence: vec![Evidence::FromUnclear] };
    }
    let (base, mut evidence) = without_token(seen);
    if seen.own_token {
        evidence.push(Evidence::ReplyToken);
    }
    let level = if base == MailLevel::Authenticated && seen.own_token { MailLevel::Verified } else { base };
    Judged { level, evidence }
}

fn without_token(seen: &AuthSeen) -> (MailLevel, Vec<Evidence>) {
    let mut passes = Vec::new();
    passes.extend((seen.own == OwnDmarc::Pass).then_some(Evidence::SignaturePassed));
    passes.extend((seen.stated == StatedDmarc::Pass).then_some(Evidence::HostSaysPass));
    if !passes.is_empty() {
        return (MailLevel::Authenticated, passes);
    }
    if seen.stated == StatedDmarc::Fail {
        return (MailLevel::Failed, vec![Evidence::HostSaysFail]);
    }
    let (level, evidence) = match seen.own {
        OwnDmarc::Fail { .. } if seen.stated == StatedDmarc::Temporary => (MailLevel::Unknown, Evidence::NotLearned),
        OwnDmarc::Fail { complete: true, .. } => (MailLevel::Failed, Evidence::DmarcFailed),
        OwnDmarc::Fail { enforced: true, .. } => (MailLevel::Failed, Evidence::NoSignature),
        OwnDmarc::Fail { .. } => (MailLevel::Unknown, Evidence::NoSignature),
        OwnDmarc::NoPolicy => (MailLevel::Unknown, Evidence::NoPolicy),
        OwnDmarc::Unknown | OwnDmarc::Pass => (MailLevel::Unknown, Evidence::NotLearned),
    };
    (level, vec![evidence])
}

/// What a mail may bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Join the story of a reply token made for its sender.
    JoinByToken,
    /// Join the story of a mail that it refers to.
    JoinByGraph,
    /// Join the story of its subject.
    JoinBySubject,
}

/// Whether a level may. The token is evidence of its own, so an unknown sender may join by it; a failed one may
/// nothing.
pub fn may(level: MailLevel, act: Act) -> bool {
    let least = match act {
        Act::JoinByToken => MailLevel::Unknown,
        Act::JoinByGraph | Act::JoinBySubject => MailLevel::Authenticated,
    };
    level >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [OwnDmarc; 7] = [
        OwnDmarc::Pass,
        OwnDmarc::Fail { complete: true, enforced: true },
        OwnDmarc::Fail { complete: true, enforced: false },
        OwnDmarc::Fail { complete: false, enforced: true },
        OwnDmarc::Fail { complete: false, enforced: false },
        OwnDmarc::NoPolicy,
        OwnDmarc::Unknown,
    ];
    const STATED: [StatedDmarc; 4] =
        [StatedDmarc::Pass, StatedDmarc::Fail, StatedDmarc::Temporary, StatedDmarc::Nothing];

    fn seen(own: OwnDmarc, stated: StatedDmarc, own_token: bool) -> AuthSeen {
        AuthSeen { from_addresses: 1, from_fields: 1, own, stated, own_token }
    }

    /// The whole table: a row for each thing that Segue finds, with the level when the host says pass, fail, temporary error,
    /// nothing.
    #[test]
    fn every_case() {
        use MailLevel::{Authenticated as A, Failed as F, Unknown as U};
        let fails = [[A, F, U, F], [A, F, U, F], [A, F, U, F], [A, F, U, U]];
        let table = [&[[A; 4]][..], &fails, &[[A, F, U, U]; 2]].concat();
        for (own, row) in OWN.into_iter().zip(table) {
            for (stated, wanted) in STATED.into_iter().zip(row) {
                let judged = level(&seen(own, stated, false));
                assert_eq!(judged.level, wanted, "{own:?} {stated:?}");
                assert!(!judged.evidence.is_empty());
                let with_token = level(&seen(own, stated, true));
                assert_eq!(
                    with_token.level,
                    if wanted == A { MailLevel::Verified } else { wanted },
                    "a token raises a pass only"
                );
                assert_eq!(with_token.evidence.last(), Some(&Evidence::ReplyToken));
            }
        }
    }

    #[test]
    fn an_unclear_from_fails_whatever_else_is_known() {
        for (from_fields, from_addresses) in [(0, 0), (1, 0), (1, 2), (2, 1), (2, 2), (0, 1)] {
            for own in OWN {
                let judged = level(&AuthSeen { from_fields, from_addresses, ..seen(own, StatedDmarc::Pass, true) });
                assert_eq!(judged, Judged { level: MailLevel::Failed, evidence: vec![Evidence::FromUnclear] });
            }
        }
    }

    #[test]
    fn what_each_level_may() {
        let acts = [Act::JoinByToken, Act::JoinByGraph, Act::JoinBySubject];
        for (level, wanted) in [
            (MailLevel::Failed, [false; 3]),
            (MailLevel::Unknown, [true, false, false]),
            (MailLevel::Authenticated, [true; 3]),
            (MailLevel::Verified, [true; 3]),
        ] {
            assert_eq!(acts.map(|act| may(level, act)), wanted, "{level:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_unknown_and_never_more() {
        assert_eq!(level(&AuthSeen::default()).level, MailLevel::Failed, "no From");
        assert_eq!(level(&seen(OwnDmarc::default(), StatedDmarc::default(), true)).level, MailLevel::Unknown);
    }
}
