use proptest::prelude::*;

use super::*;
use crate::base::ends::ends;

/// RFC 6376, appendix A.2, and the key of appendix C.
const RFC_6376: &str = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
";
const RFC_6376_KEY: &str = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

/// RFC 8463, appendix A: one mail signed with Ed25519 and with RSA.
const RFC_8463: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.

";
const ED25519_KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const RSA_KEY: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";

const NOW: u64 = 1_800_000_000;

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn found(record: &str) -> TxtAnswer {
    TxtAnswer::Found(vec![record.to_owned()])
}

/// The outcome and reason of each signature, with that one key.
fn outcomes(mail: &[u8], key: &str) -> Vec<(DkimOutcome, &'static str)> {
    let judged = signatures(mail).into_iter().map(|one| one.verify(&found(key), NOW));
    judged.map(|one| (one.result, one.why)).collect()
}

fn first(mail: &[u8], key: &str) -> (DkimOutcome, &'static str) {
    outcomes(mail, key)[0]
}

const GOOD: (DkimOutcome, &str) = (DkimOutcome::Pass, "the signature is good");
const BAD: (DkimOutcome, &str) = (DkimOutcome::Fail, "the signature is not good");

#[test]
fn the_mail_of_rfc_6376_passes() {
    let found_here = signatures(&crlf(RFC_6376));
    assert_eq!(found_here[0].key_name().as_deref(), Some("brisbane._domainkey.example.com"));
    let result = found_here[0].verify(&found(RFC_6376_KEY), NOW);
    assert_eq!(
        (result.result, result.rsa_bits, result.domain.as_str()),
        (DkimOutcome::Pass, Some(1024), "example.com")
    );
    assert_eq!(first(RFC_6376.as_bytes(), RFC_6376_KEY), GOOD, "stored with LF line ends");
}

#[test]
fn the_mail_of_rfc_8463_passes() {
    let found_here = signatures(&crlf(RFC_8463));
    let names: Vec<_> = found_here.iter().filter_map(Signature::key_name).collect();
    assert_eq!(names, ["brisbane._domainkey.football.example.com", "test._domainkey.football.example.com"]);
    assert_eq!(outcomes(&crlf(RFC_8463), ED25519_KEY), [GOOD, BAD]);
    assert_eq!(outcomes(&crlf(RFC_8463), RSA_KEY), [BAD, GOOD]);
}

#[test]
fn what_is_changed_fails() {
    for (from, to, wanted) in [
        ("Is dinner", "Is  dinner", BAD),
        ("Joe SixPack", "Joe Sixpack", BAD),
        ("lost the", "won the", (DkimOutcome::Fail, "the body was changed")),
        ("\n\nHi", "\nFrom: eve@example.com\n\nHi", BAD),
        ("Message-ID: <2", "Message-ID: <3", BAD),
        ("q=dns/txt;", "q=dns/txt; x=1900000000;", BAD),
    ] {
        let mail = RFC_6376.replace(from, to);
        assert_ne!(mail, RFC_6376);
        assert_eq!(first(&crlf(&mail), RFC_6376_KEY), wanted, "{to}");
    }
    // Fields that are not signed may come and go.
    assert_eq!(first(&crlf(&RFC_6376.replace("\n\nHi", "\nX-Spam: no\n\nHi")), RFC_6376_KEY), GOOD);
    // Relaxed: blanks do not matter. A second From is seen, because From was signed twice.
    let blanks =
        RFC_8463.replace("Is dinner", "Is \t dinner").replace("Subject: ", "SUBJECT :").replace("yet?", "yet?  ");
    assert_eq!(first(&crlf(&blanks), ED25519_KEY), GOOD);
    assert_eq!(first(&crlf(&RFC_8463.replace("\nTo:", "\nFrom: a@b.example\nTo:")), ED25519_KEY), BAD);
}

#[test]
fn the_answers_of_the_dns() {
    let signature = &signatures(&crlf(RFC_6376))[0];
    let by = |answer: &TxtAnswer| signature.verify(answer, NOW).result;
    assert_eq!(by(&TxtAnswer::None), DkimOutcome::PermError);
    assert_eq!(by(&TxtAnswer::Temporary), DkimOutcome::TempError);
    assert_eq!(by(&TxtAnswer::Found(Vec::new())), DkimOutcome::PermError);
    assert_eq!(by(&found("v=DKIM1; p=")), DkimOutcome::PermError);
    assert_eq!(by(&TxtAnswer::Found(vec!["v=spf1 -all".into(), RFC_6376_KEY.into()])), DkimOutcome::Pass);
    let strict = signature.verify(&found(&RFC_6376_KEY.replace("p=", "t=s; p=")), NOW);
    assert_eq!(strict.why, "the key is not for domains below");
}

/// Signed with `l=` by another program, under the key of RFC 8463.
const PART: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/simple; d=example.org;
 i=@example.org; l=18; q=dns/txt; s=brisbane; t=1795348077; h=from :
 subject; bh=4lZ1nClsGkMBZurBuduFZKbzYuRXBcUwMjQ9O83nPzU=;
 b=FN7RtDEaRYryqbxcf8M85bRnexX0W71gnit6bvhQaJ1XaJ5YtTC6gs+VetF7MX1bJ/qP6
 +F2+jYYNG8kMWOVDQ==
From: Desk <desk@example.org>
Subject: part

The signed part.
";

#[test]
fn a_signature_over_a_part_is_no_pass() {
    let neutral = (DkimOutcome::Neutral, "only a part of the body is signed");
    assert_eq!(first(&crlf(PART), ED25519_KEY), neutral, "even if that part is all");
    assert_eq!(first(&crlf(&format!("{PART}Added by somebody.\n")), ED25519_KEY), neutral);
    assert_eq!(signatures(&crlf(PART))[0].key_name(), None, "no key is asked for");
}

/// Nothing of this needs a good signature: the faults come before.
#[test]
fn claims_that_cannot_count() {
    for (from, to, why) in [
        ("v=1;", "v=2;", "the signature has another version"),
        ("rsa-sha256", "rsa-sha1", "SHA-1 is not safe"),
        ("rsa-sha256", "rsa-md5", "the signature's algorithm is unknown"),
        ("d=example.com", "d=", "the signature names no domain or selector"),
        ("s=brisbane", "s=a b", "the signature names no domain or selector"),
        ("From : To", "Sender : To", "From is not signed"),
        ("simple/simple", "simple/other", "the signature's form is unknown"),
        ("dns/txt", "carrier/pigeon", "the key is kept in an unknown way"),
        ("joe@football", "joe@notexample.com; n=football", "the agent is of another domain"),
        ("q=dns", "x=99999999999999999999; q=dns", "a number cannot be read"),
        ("bh=2jUS", "bh=*jUS", "the signature has no hash of the body"),
        ("q=dns", "v=1; q=dns", "the signature cannot be read"),
    ] {
        let mail = crlf(&RFC_6376.replace(from, to));
        assert_eq!(first(&mail, RFC_6376_KEY), (DkimOutcome::PermError, why), "{to}");
        assert_eq!(signatures(&mail)[0].key_name(), None, "{to}");
    }
}

#[test]
fn times() {
    for (tag, now, wanted) in [
        ("x=100", 100, BAD),
        ("x=100", 101, (DkimOutcome::Fail, "the signature's time is over")),
        ("t=200; x=100", 100, (DkimOutcome::Fail, "the signature's time is over")),
        ("t=1000", 600, (DkimOutcome::Fail, "the signature is from the future")),
        ("t=1000", 700, BAD),
    ] {
        let mail = crlf(&RFC_6376.replace("q=dns", &format!("{tag}; q=dns")));
        let result = signatures(&mail)[0].verify(&found(RFC_6376_KEY), now);
        assert_eq!((result.result, result.why), wanted, "{tag} at {now}");
    }
    // The server that took it may tell any time; what it tells is about the end alone.
    for (tag, came, wanted) in [
        ("t=100000", Came { at: 0, by: 100_000 }, BAD),
        ("t=100000; x=100100", Came { at: 0, by: 200_000 }, BAD),
        ("t=100000", Came { at: 0, by: 99_000 }, (DkimOutcome::Fail, "the signature is from the future")),
        ("x=100000", Came { at: 100_001, by: 200_000 }, (DkimOutcome::Fail, "the signature's time is over")),
    ] {
        let mail = crlf(&RFC_6376.replace("q=dns", &format!("{tag}; q=dns")));
        let result = signatures(&mail)[0].verify(&found(RFC_6376_KEY), came);
        assert_eq!((result.result, result.why), wanted, "{tag} at {came:?}");
    }
}

/// Nothing that stands behind what is kept of the header can be what was signed, nor hide it.
#[test]
fn a_header_that_is_kept_in_part_is_never_a_pass() {
    let long = (DkimOutcome::PermError, "the header is too long, or read in different ways");
    let padded = |padding: &str, more: &str| {
        let (header, body) = RFC_8463.split_once("\n\n").unwrap();
        crlf(&format!("{header}\n{padding}{more}\n\n{body}"))
    };
    assert_eq!(outcomes(&padded(&"a:\n".repeat(9000), "b:"), ED25519_KEY), [GOOD, BAD]);
    for from in ["b:", "From: eve@x.example"] {
        assert_eq!(outcomes(&padded(&"a:\n".repeat(10_000), from), ED25519_KEY), [long; 2]);
        assert_eq!(outcomes(&padded(&format!("a:{}\n", "a".repeat(1 << 20)), from), ED25519_KEY), [long; 2]);
    }
}

#[test]
fn ten_signatures_are_looked_at() {
    let many = format!("{}{RFC_6376}", "DKIM-Signature: junk\n".repeat(9));
    assert_eq!(outcomes(&crlf(&many), RFC_6376_KEY).last(), Some(&GOOD));
    let more = format!("{}{RFC_6376}", "DKIM-Signature: junk\n".repeat(5000));
    let found = outcomes(&crlf(&more), RFC_6376_KEY);
    assert!(found.len() == MOST_SIGNATURES && found.iter().all(|one| one.0 == DkimOutcome::PermError));
}

#[test]
fn debug_shows_no_words_of_the_mail() {
    let shown = format!("{:?}", signatures(&crlf(RFC_6376)));
    assert!(!shown.contains("dinner") && !shown.contains("joe"), "{shown}");
}

/// Ten signatures with forms and limits of their own, a name listed thousands of times, and a large body.
#[test]
fn hostile_mail_is_read_to_its_end() {
    let mut mail = String::new();
    for n in 0..10 {
        let names = "x:".repeat(7000);
        mail.push_str(&format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=e.org; s=s{n}; h={names}from; bh=AAAA; b=AAAA\r\n"
        ));
    }
    mail.push_str(&"X: y\r\n".repeat(40_000));
    mail.push_str("\r\n");
    mail.push_str(&"\r\n \t a \r\n".repeat(250_000));
    assert_eq!(ends("signatures", move || signatures(mail.as_bytes()).len()), 10);
}

proptest! {
    #[test]
    fn no_mail_panics(raw in proptest::collection::vec(any::<u8>(), 0..300), tags in "[vadshbcilqtx=;: 1@./\r\n]{0,60}") {
        let mut mail = format!("DKIM-Signature: {tags}\r\n").into_bytes();
        mail.extend_from_slice(&raw);
        for signature in signatures(&mail).iter().chain(signatures(&raw).iter()) {
            let result = signature.verify(&found(RFC_6376_KEY), NOW);
            prop_assert_ne!(result.result, DkimOutcome::Pass);
        }
    }

    /// No byte of what is signed can be another one.
    #[test]
    fn no_other_byte_passes(place in 0usize..1200, byte in any::<u8>()) {
        let good = crlf(RFC_6376);
        let signed_from = good.windows(9).position(|window| window == b"Received:").unwrap();
        let mut mail = good.clone();
        let place = signed_from + place % (good.len() - signed_from);
        mail[place] = byte;
        if mail != good {
            // Names have no case in relaxed forms only; in simple forms nothing may change but the last lines' ends.
            let passes = signatures(&mail).iter().any(|one| one.verify(&found(RFC_6376_KEY), NOW).result == DkimOutcome::Pass);
            let only_line_ends = mail.iter().zip(&good).all(|(new, old)| new == old || matches!(old, b'\r' | b'\n'));
            prop_assert!(!passes || only_line_ends);
        }
    }
}
