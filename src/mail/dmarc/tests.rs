use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A DNS of policy records by domain; `!` is one that cannot be learned.
fn answers(domain: &str, zone: &[(&str, &str)]) -> Vec<TxtAnswer> {
    let zone: HashMap<&str, &str> = zone.iter().copied().collect();
    let one = |name: &String| match zone.get(name.trim_start_matches("_dmarc.")) {
        None => TxtAnswer::None,
        Some(&"!") => TxtAnswer::Temporary,
        Some(text) => TxtAnswer::Found(text.split('|').map(str::to_owned).collect()),
    };
    questions(domain).iter().map(one).collect()
}

fn walk(domain: &str, zone: &[(&str, &str)]) -> Option<Organization> {
    organization(domain, &answers(domain, zone))
}

#[test]
fn the_questions_of_the_walk() {
    assert_eq!(
        questions("A.mail.Example.com"),
        ["_dmarc.a.mail.example.com", "_dmarc.mail.example.com", "_dmarc.example.com", "_dmarc.com"]
    );
    let long = questions("a.b.c.d.e.f.g.h.i.j.mail.example.com");
    assert_eq!(long.len(), MOST_QUESTIONS);
    assert_eq!(&long[..2], ["_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com", "_dmarc.g.h.i.j.mail.example.com"]);
    assert_eq!(questions("a.b.c.d.e.f.g.com").len(), 8);
    assert_eq!(questions("com"), ["_dmarc.com"]);
    for none in ["", "a b", "127.0.0.1", "b\u{fc}cher.example", "a..b"] {
        assert!(questions(none).is_empty(), "{none}");
    }
}

#[test]
fn the_organizational_domain() {
    let p = "v=DMARC1; p=none";
    for (domain, zone, wanted) in [
        ("a.b.example.com", vec![("example.com", p)], "example.com"),
        ("a.b.example.com", vec![("example.com", p), ("a.b.example.com", p)], "example.com"),
        ("a.b.example.com", vec![("b.example.com", "v=DMARC1;psd=n"), ("example.com", p)], "b.example.com"),
        ("a.shop.bank", vec![("bank", "v=DMARC1; p=reject; psd=y")], "shop.bank"),
        ("a.shop.bank", vec![("bank", "v=DMARC1; p=reject; psd=y"), ("a.shop.bank", p)], "shop.bank"),
        ("bank", vec![("bank", "v=DMARC1; p=reject; psd=y")], "bank"),
        ("a.example.com", vec![], "a.example.com"),
        ("a.example.com", vec![("example.com", "v=DMARC1;p=none|v=DMARC1;p=reject")], "a.example.com"),
        ("a.example.com", vec![("example.com", "v=spf1|v=DMARC1;p=reject")], "example.com"),
    ] {
        assert_eq!(walk(domain, &zone).unwrap().domain, wanted, "{domain} {zone:?}");
    }
    assert_eq!(walk("a.example.com", &[("example.com", "!")]), None);
    assert_eq!(walk("a.example.com", &[("example.com", p), ("com", "!")]), None);
    // Behind a mark nothing is asked.
    assert!(walk("a.example.com", &[("example.com", "v=DMARC1;psd=n"), ("com", "!")]).is_some());
    assert!(ends_walk(&TxtAnswer::Found(vec!["v=DMARC1;psd=n".into()])));
    assert!(!ends_walk(&TxtAnswer::Found(vec!["v=DMARC1;psd=u".into()])) && !ends_walk(&TxtAnswer::None));
}

#[test]
fn the_policy_that_is_asked_for() {
    for (domain, zone, wanted) in [
        ("example.com", vec![("example.com", "v=DMARC1; p=reject; sp=none")], Some(Policy::Reject)),
        ("a.example.com", vec![("example.com", "v=DMARC1; p=reject; sp=none")], Some(Policy::None)),
        ("a.example.com", vec![("example.com", "v=DMARC1; p=reject; np=none")], Some(Policy::Reject)),
        (
            "a.example.com",
            vec![("example.com", "v=DMARC1; p=reject"), ("a.example.com", "v=DMARC1; p=none")],
            Some(Policy::None),
        ),
        (
            "a.b.example.com",
            vec![("example.com", "v=DMARC1; p=reject"), ("b.example.com", "v=DMARC1; p=none")],
            Some(Policy::Reject),
        ),
        ("a.shop.bank", vec![("bank", "v=DMARC1; p=quarantine; psd=y")], Some(Policy::Quarantine)),
        ("example.com", vec![("example.com", "v=DMARC1; p=reject; t=y")], Some(Policy::Quarantine)),
        ("example.com", vec![("example.com", "v=DMARC1; p=quarantine; T=Y")], Some(Policy::None)),
        ("example.com", vec![("example.com", "v=DMARC1")], Some(Policy::None)),
        ("example.com", vec![("com", "v=DMARC1")], Some(Policy::None)),
        ("example.com", vec![], None),
    ] {
        assert_eq!(walk(domain, &zone).unwrap().record.map(|(_, policy)| policy), wanted, "{domain} {zone:?}");
    }
}

#[test]
fn records() {
    let record = Record::read(" v = DMARC1 ; P=Reject; adkim=s; aspf=S; junk; ;psd=u; np=none; x=").unwrap();
    assert!(record.strict_dkim && record.strict_spf && !record.testing);
    assert_eq!((record.policy, record.absent, record.public_suffix), (Policy::Reject, Some(Policy::None), None));
    for none in ["", "v=DMARC2; p=none", "v=dmarc1; p=none", "p=none; v=DMARC1", "junk; v=DMARC1", "v=spf1 -all"] {
        assert_eq!(Record::read(none), None, "{none}");
    }
}

fn dkim<'a>(domain: &'a str, organization: Option<&'a str>) -> Identity<'a> {
    Identity { method: Method::Dkim, domain, organization, certain: true }
}

#[test]
fn alignment_by_table() {
    let relaxed = walk("mail.example.com", &[("example.com", "v=DMARC1; p=reject")]).unwrap();
    let strict = walk("mail.example.com", &[("example.com", "v=DMARC1; p=reject; adkim=s; aspf=s")]).unwrap();
    for (identity, when_relaxed, when_strict) in [
        (dkim("mail.example.com", None), Dmarc::Pass, Dmarc::Pass),
        (dkim("MAIL.example.com", None), Dmarc::Pass, Dmarc::Pass),
        (dkim("example.com", None), Dmarc::Pass, Dmarc::Fail),
        (dkim("news.example.com", Some("example.com")), Dmarc::Pass, Dmarc::Fail),
        (dkim("news.example.com", Some("news.example.com")), Dmarc::Fail, Dmarc::Fail),
        (dkim("news.example.com", None), Dmarc::TempError, Dmarc::Fail),
        (dkim("com", None), Dmarc::Fail, Dmarc::Fail),
        (dkim("notexample.com", None), Dmarc::Fail, Dmarc::Fail),
        (dkim("example.com.evil.example", Some("example.com")), Dmarc::Fail, Dmarc::Fail),
        (dkim("", None), Dmarc::Fail, Dmarc::Fail),
        (Identity { certain: false, ..dkim("example.com", None) }, Dmarc::TempError, Dmarc::Fail),
        (Identity { method: Method::Spf, ..dkim("example.com", None) }, Dmarc::Pass, Dmarc::Fail),
    ] {
        let identities = [dkim("other.example", None), identity];
        assert_eq!(judge("mail.example.com", Some(&relaxed), &identities), when_relaxed, "{identities:?}");
        assert_eq!(judge("mail.example.com", Some(&strict), &identities), when_strict, "{identities:?}");
    }
    assert_eq!(judge("mail.example.com", Some(&relaxed), &[]), Dmarc::Fail);
    assert_eq!(judge("mail.example.com", None, &[dkim("mail.example.com", None)]), Dmarc::TempError);
    let none = walk("mail.example.com", &[]).unwrap();
    assert_eq!(judge("mail.example.com", Some(&none), &[dkim("mail.example.com", None)]), Dmarc::NoPolicy);
}

proptest! {
    /// The short cuts of `needs_walk` give what two whole walks give.
    #[test]
    fn short_cuts_equal_two_walks(
        from in "(a\\.|b\\.){0,3}x\\.t", signer in "(a\\.|b\\.){0,3}(x\\.t|y\\.t|t)",
        marks in proptest::collection::vec((0usize..6, 0usize..4), 0..5),
    ) {
        let names = ["t", "x.t", "a.x.t", "b.x.t", "a.b.x.t", "b.a.x.t"];
        let texts = ["v=DMARC1;p=none", "v=DMARC1;psd=y", "v=DMARC1;psd=n", "other"];
        let zone: Vec<(&str, &str)> = marks.iter().map(|(name, text)| (names[*name], texts[*text])).collect();
        let (of_from, of_signer) = (walk(&from, &zone).unwrap(), walk(&signer, &zone).unwrap());
        prop_assume!(of_from.record.is_some());
        let short = judge(&from, Some(&of_from), &[dkim(&signer, Some(&of_signer.domain))]) == Dmarc::Pass;
        prop_assert_eq!(short, signer == from || of_from.domain == of_signer.domain, "{:?} {:?}", of_from, of_signer);
    }

    #[test]
    fn no_record_and_no_domain_panics(text in "[vpst=;DMARC1 ynone]{0,40}", domain in "[a.\u{fc}]{0,30}") {
        let _ = Record::read(&text);
        let asked = questions(&domain);
        prop_assert!(asked.len() <= MOST_QUESTIONS);
        let _ = organization(&domain, &vec![TxtAnswer::Found(vec![text]); asked.len()]);
        let _ = organization(&domain, &[]);
    }
}
