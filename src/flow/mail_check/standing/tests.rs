use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::flow::mail_check::{FETCHED, IN_REQUEST};
use crate::mail::dkim_sign::{SigningKey, sign};

/// The key of RFC 8463, appendix A.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
pub(in crate::flow::mail_check) const MAIL: &str = "From: Ada <ada@signed.example>\r\nTo: desk@example.org\r\nSubject: Kettle\r\n\
    Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <a@signed.example>\r\n\r\nIt is broken.\r\n";
const NOW: i64 = 1_790_000_000;
pub(in crate::flow::mail_check) const POLICY: (&str, &str) = ("_dmarc.signed.example", "v=DMARC1; p=reject");
pub(in crate::flow::mail_check) const KEY: (&str, &str) = ("s1._domainkey.signed.example", PUBLIC);

/// Names with their records. Those with a part that `slow` says are given up after a while, and what stands in `failing`
/// fails so often.
#[derive(Default)]
struct Names {
    records: BTreeMap<String, &'static str>,
    slow: Vec<&'static str>,
    failing: Mutex<BTreeMap<&'static str, usize>>,
    asked: Mutex<Vec<(String, Turn)>>,
    /// How many questions are open, and how many were at once.
    open: AtomicUsize,
    at_once: AtomicUsize,
}

impl Names {
    fn knowing<const N: usize>(records: [(&'static str, &'static str); N]) -> Names {
        Names { records: records.map(|(name, record)| (name.to_owned(), record)).into(), ..Names::default() }
    }

    fn times(&self, end: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(name, _)| name.ends_with(end)).count()
    }
}

impl Ask for Names {
    async fn txt(&self, name: &str, turn: Turn) -> TxtAnswer {
        self.asked.lock().unwrap().push((name.to_owned(), turn));
        if self.slow.iter().any(|part| name.contains(part)) {
            self.at_once.fetch_max(self.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_secs(4)).await;
            self.open.fetch_sub(1, Ordering::Relaxed);
            return TxtAnswer::Temporary;
        }
        if let Some(left @ 1..) = self.failing.lock().unwrap().get_mut(name) {
            *left -= 1;
            return TxtAnswer::Temporary;
        }
        self.records.get(name).map_or(TxtAnswer::None, |record| TxtAnswer::Found(vec![(*record).to_owned()]))
    }
}

pub(in crate::flow::mail_check) fn signature(domain: &str, selector: &str) -> String {
    sign(MAIL.as_bytes(), &SigningKey::from_pem(PRIVATE).unwrap(), domain, selector, NOW as u64).unwrap()
}

async fn found(names: &Names, patience: Patience, signatures: &[String]) -> Standing {
    let raw = [&signatures.concat(), MAIL].concat();
    find(names, patience, ("signed.example", raw.as_bytes(), Came::from(NOW as u64)), &Spf::default()).await
}

const REFUSED: OwnDmarc = OwnDmarc::Fail { complete: false, enforced: true };

#[tokio::test(start_paused = true)]
async fn a_forger_s_own_servers_are_neither_asked_nor_waited_for() {
    let names = Names { slow: vec!["forger.example"], ..Names::knowing([POLICY, KEY]) };
    let forged: Vec<String> = (0..10).map(|number| signature("forger.example", &format!("s{number}"))).collect();
    for patience in [IN_REQUEST, FETCHED] {
        assert_eq!(found(&names, patience, &forged).await.own, REFUSED);
    }
    assert_eq!(names.times("forger.example"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_is_kept_when_time_runs_out() {
    let names = Names { slow: vec!["slow._domainkey.signed.example"], ..Names::knowing([POLICY, KEY]) };
    let both = [signature("signed.example", "slow"), signature("signed.example", "s1")];
    assert_eq!(found(&names, IN_REQUEST, &both).await.own, OwnDmarc::Pass);
    // Nothing but what cannot be learned: open, and never a pass.
    let standing = found(&names, IN_REQUEST, &both[..1]).await;
    assert_eq!(standing.own, OwnDmarc::Unknown);
    assert_eq!(standing.signed[0].result, DkimOutcome::TempError);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_could_not_be_learned_is_asked_for_once_more_where_nobody_waits() {
    let signed = [signature("signed.example", "s1")];
    for (patience, failures, wanted) in
        [(FETCHED, 1, OwnDmarc::Pass), (FETCHED, 2, OwnDmarc::Unknown), (IN_REQUEST, 1, OwnDmarc::Unknown)]
    {
        let names = Names::knowing([POLICY, KEY]);
        names.failing.lock().unwrap().insert(KEY.0, failures);
        assert_eq!(found(&names, patience, &signed).await.own, wanted, "{failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_nothing_is_known_and_no_key_is_asked_for() {
    let names = Names { slow: vec![POLICY.0], ..Names::knowing([KEY]) };
    assert_eq!(found(&names, IN_REQUEST, &[signature("signed.example", "s1")]).await.own, OwnDmarc::Unknown);
    assert_eq!(names.times("_domainkey.signed.example"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_below_may_speak_unless_the_policy_is_strict() {
    let below = [signature("news.signed.example", "s1")];
    let key = ("s1._domainkey.news.signed.example", PUBLIC);
    assert_eq!(found(&Names::knowing([POLICY, key]), FETCHED, &below).await.own, OwnDmarc::Pass);
    let strict = Names::knowing([(POLICY.0, "v=DMARC1; p=reject; adkim=s"), key]);
    assert_eq!(found(&strict, FETCHED, &below).await.own, REFUSED);
    assert_eq!(strict.times("_domainkey.news.signed.example"), 0);
}

/// Else a few mails from dead names would hold all turns that come first.
#[tokio::test(start_paused = true)]
async fn a_dead_name_in_from_holds_one_turn() {
    let names = Names { slow: vec!["dead.example"], ..Names::default() };
    let raw = MAIL.replace("signed.example", "a.b.c.dead.example");
    let standing =
        find(&names, IN_REQUEST, ("a.b.c.dead.example", raw.as_bytes(), Came::from(0)), &Spf::default()).await;
    assert_eq!(standing.own, OwnDmarc::Unknown);
    assert_eq!(names.at_once.load(Ordering::Relaxed), 1);
}

/// Names that hang take few turns, whatever a mail is signed with. Where the key is not learned, nobody asks whose
/// organization the signer is of.
#[tokio::test(start_paused = true)]
async fn a_mail_has_its_share_of_the_look_ups_and_no_more() {
    let domains: Vec<String> = (0..10).map(|number| format!("a.b.c.d.e.z{number}.signed.example")).collect();
    let signed: Vec<String> = domains.iter().map(|domain| signature(domain, "s1")).collect();
    // The two names of the domain in From; each key twice; each key and the first name of a walk; or what the share is.
    for (dead, wanted) in [("_domainkey", 2 + 2 * 10), ("_dmarc.a.b", 2 + 2 * 10), ("_dmarc.b.c", IN_ALL)] {
        let mut names = Names { slow: vec![dead], ..Names::knowing([POLICY]) };
        names.records.extend(domains.iter().map(|domain| (format!("s1._domainkey.{domain}"), PUBLIC)));
        assert_eq!(found(&names, FETCHED, &signed).await.own, OwnDmarc::Unknown, "{dead}");
        let asked = names.asked.lock().unwrap();
        assert_eq!(asked.len(), wanted, "{dead}: {asked:?}");
        assert!(names.at_once.load(Ordering::Relaxed) <= AT_ONCE);
        assert!(asked.iter().filter(|(_, turn)| *turn == Turn::First).count() <= 2 + 2 * FIRST_KEYS);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_domain_itself_signed_is_looked_into_first() {
    let names = Names { slow: vec![".z"], ..Names::knowing([POLICY, KEY]) };
    let dead = (0..9).map(|number| signature(&format!("a.z{number}.signed.example"), "s1"));
    let signed: Vec<String> = dead.chain([signature("signed.example", "s1")]).collect();
    assert_eq!(found(&names, IN_REQUEST, &signed).await.own, OwnDmarc::Pass);
}
