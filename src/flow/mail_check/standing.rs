//! Whether the domain in From stands behind a mail: what is asked of the DNS, in which order, and for how long.
//!
//! The invariant: nothing that a sender chose decides whether the policy of the domain in From is learned. It is asked for
//! first, and of the signatures only those that could speak for that domain are looked into; so a forger's own name
//! servers, dead or slow, are never waited for. Nor do the names in one mail keep those in others from being asked about: a
//! mail has its share of the look-ups, and no more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::mail::dkim::{self, Came, DkimOutcome, DkimResult, Signature, TxtAnswer};
use crate::mail::dmarc::{self, Dmarc, Identity, Method, Organization, Policy};
use crate::net::dns::{Dns, Turn, Txt};
use crate::rules::mail_trust::OwnDmarc;

/// How many look-ups of one mail run at once.
const AT_ONCE: usize = 4;
/// How many there are in all. What is beyond is not learned.
const IN_ALL: usize = 24;
/// How many keys are asked for in the turns that come first: more than that few senders need.
const FIRST_KEYS: usize = 2;

// Else a forger could leave it open with signatures, though nobody's names are dead, whether one of them counts.
const _: () = assert!(dmarc::MOST_QUESTIONS + dkim::MOST_SIGNATURES <= IN_ALL);

/// Whom the domains' records are asked of.
pub(super) trait Ask: Sync {
    /// The TXT records of a name.
    fn txt(&self, name: &str, turn: Turn) -> impl Future<Output = TxtAnswer> + Send;
}

impl Ask for Dns {
    async fn txt(&self, name: &str, turn: Turn) -> TxtAnswer {
        match Dns::txt(self, name, turn).await {
            Txt::Found(records) => TxtAnswer::Found(records),
            Txt::None => TxtAnswer::None,
            Txt::Temporary => TxtAnswer::Temporary,
        }
    }
}

/// How much time there is.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For all questions together. What was not answered by then is not known.
    pub(super) within: Duration,
    /// After how long a key that could not be learned is asked for once more, if ever.
    pub(super) again: Option<Duration>,
}

/// What is known of SPF beside the mail.
#[derive(Default)]
pub(super) struct Spf {
    /// Whether somebody trusted says anything of it.
    pub(super) known: bool,
    /// The domains for which it passed.
    pub(super) passed: Vec<String>,
}

/// What was found out.
#[derive(Default)]
pub(super) struct Standing {
    /// Whether the domain stands behind the mail.
    pub(super) own: OwnDmarc,
    /// The signatures that could speak for it, checked.
    pub(super) signed: Vec<DkimResult>,
}

/// Finds out whether `from`, the domain in From, stands behind a mail.
pub(super) async fn find<A: Ask>(
    ask: &A,
    patience: Patience,
    (from, raw, came): (&str, &[u8], Came),
    spf: &Spf,
) -> Standing {
    let asking = Asking::new(ask, patience);
    let Some(organization) = asking.walk(from, Turn::First).await else { return Standing::default() };
    let mut signatures: Vec<Signature> = dkim::signatures(raw)
        .into_iter()
        .filter(|signature| dmarc::may_align(signature.domain(), from, &organization))
        .collect();
    // Those that need no walk go first.
    signatures.sort_by_key(|signature| dmarc::needs_walk(signature.domain(), from, &organization));
    let checked = signatures.iter().enumerate().map(|(place, signature)| {
        let turn = if place < FIRST_KEYS { Turn::First } else { Turn::Further };
        asking.check(signature, turn, came)
    });
    let signed = join_all(checked).await;
    let own = asking.judge(from, &organization, &signed, spf).await;
    Standing { own, signed }
}

/// The questions about one mail.
struct Asking<'a, A> {
    ask: &'a A,
    until: Instant,
    again: Option<Duration>,
    at_once: Semaphore,
    left: AtomicUsize,
}

impl<'a, A: Ask> Asking<'a, A> {
    fn new(ask: &'a A, patience: Patience) -> Asking<'a, A> {
        let until = Instant::now() + patience.within;
        let (at_once, left) = (Semaphore::new(AT_ONCE), AtomicUsize::new(IN_ALL));
        Asking { ask, until, again: patience.again, at_once, left }
    }

    /// Each question for itself ends with the time there is, so that the answers to the others are kept.
    async fn txt(&self, name: &str, turn: Turn) -> TxtAnswer {
        timeout_at(self.until, self.in_share(name, turn)).await.unwrap_or(TxtAnswer::Temporary)
    }

    async fn in_share(&self, name: &str, turn: Turn) -> TxtAnswer {
        let Ok(_place) = self.at_once.acquire().await else { return TxtAnswer::Temporary };
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_err() {
            return TxtAnswer::Temporary;
        }
        self.ask.txt(name, turn).await
    }

    /// A signature, checked by the key that its domain shows.
    async fn check(&self, signature: &Signature, turn: Turn, came: Came) -> DkimResult {
        let Some(name) = signature.key_name() else { return signature.verify(&TxtAnswer::None, came) };
        let mut key = self.txt(&name, turn).await;
        if key == TxtAnswer::Temporary
            && let Some(pause) = self.again.filter(|pause| Instant::now() + *pause < self.until)
        {
            sleep(pause).await;
            key = self.txt(&name, turn).await;
        }
        signature.verify(&key, came)
    }

    /// What a domain asks for, and its organization: by asking it and then the names above it, some at once since time is
    /// short, until it is known or cannot be. A name whose servers are dead holds one turn.
    async fn walk(&self, domain: &str, turn: Turn) -> Option<Organization> {
        let mut answers = Vec::new();
        let questions = dmarc::questions(domain);
        let (own, above) = questions.split_at(questions.len().min(1));
        for names in std::iter::once(own).chain(above.chunks(AT_ONCE)) {
            answers.extend(join_all(names.iter().map(|name| self.txt(name, turn))).await);
            if answers.iter().any(|answer| *answer == TxtAnswer::Temporary || dmarc::ends_walk(answer)) {
                break;
            }
        }
        dmarc::organization(domain, &answers)
    }

    /// Judges by the signatures and SPF.
    ///
    /// A key that could not be learned leaves it open, also where the domain wants mail without proof refused: else one
    /// minute of bad DNS would brand mails of honest senders for good. A forger gains nothing by it that is theirs to
    /// choose, since such a key lies with the domain they pretend to be, and an open case is never more than `unknown`. It
    /// is not handed back to the server that brought the mail either: that would bounce it to the forged address in the
    /// end, or hold up an honest one for days over a signature that is broken and not needed. Whose organization its signer
    /// is of is not asked then: it would still be no proof.
    async fn judge(&self, from: &str, organization: &Organization, signed: &[DkimResult], spf: &Spf) -> OwnDmarc {
        let by_key = signed.iter().filter_map(|one| match one.result {
            DkimOutcome::Pass => Some((Method::Dkim, one.domain.as_str(), true)),
            DkimOutcome::TempError => Some((Method::Dkim, one.domain.as_str(), false)),
            DkimOutcome::Fail | DkimOutcome::PermError | DkimOutcome::Neutral => None,
        });
        let by_host = spf.passed.iter().map(|domain| (Method::Spf, domain.as_str(), true));
        let walked = by_key.chain(by_host).map(|(method, domain, certain)| async move {
            let own = match certain && dmarc::needs_walk(domain, from, organization) {
                true => self.walk(domain, Turn::Further).await.map(|found| found.domain),
                false => None,
            };
            (method, domain, own, certain)
        });
        let walked = join_all(walked).await;
        let identities: Vec<Identity<'_>> = walked
            .iter()
            .map(|(method, domain, own, certain)| Identity {
                method: *method,
                domain,
                organization: own.as_deref(),
                certain: *certain,
            })
            .collect();
        let enforced = organization.record.is_some_and(|(_, policy)| policy > Policy::None);
        match dmarc::judge(from, Some(organization), &identities) {
            Dmarc::Pass => OwnDmarc::Pass,
            Dmarc::Fail => OwnDmarc::Fail { complete: spf.known, enforced },
            Dmarc::NoPolicy => OwnDmarc::NoPolicy,
            Dmarc::TempError => OwnDmarc::Unknown,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
