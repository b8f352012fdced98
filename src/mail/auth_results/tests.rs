use proptest::prelude::*;

use super::*;
use crate::base::ends::ends;

fn one(value: &str) -> (String, Vec<String>) {
    let read = read(value).unwrap();
    let shown = read.results.iter().map(|result| {
        let properties: Vec<String> = result.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}={} [{}]", result.method, result.result, properties.join(" "))
    });
    (read.id, shown.collect())
}

/// The shapes of RFC 8601, appendix B, in our own words.
#[test]
fn shapes_of_the_rfc() {
    assert_eq!(one("mx.example.org 1; none"), ("mx.example.org".into(), vec![]));
    assert_eq!(
        one(
            "mx.example.org; spf=pass smtp.mailfrom=a@example.com;\tdkim=FAIL (bad (nested \\) key)) header.i=\"a b\"@example.com reason=\"x; y\""
        ),
        (
            "mx.example.org".into(),
            vec![
                "spf=pass [smtp.mailfrom=a@example.com]".into(),
                "dkim=fail [header.i=a b@example.com reason=x; y]".into()
            ]
        )
    );
    assert_eq!(
        one("(c) \"mx\" (v) 1 (v) ; DMARC/1 = Pass(p=none) header.From=example.com; dkim/2=pass"),
        ("mx".into(), vec!["dmarc=pass [header.from=example.com]".into()])
    );
    assert_eq!(one("mx; junk; spf==pass; dkim=pass header.b=ab= header.d=x").1, ["dkim=pass [header.b=ab header.d=x]"]);
    for none in ["", "spf=pass smtp.mailfrom=x", "mx 2; dkim=pass", "a b c; dkim=pass", ";dkim=pass"] {
        assert_eq!(read(none), None, "{none}");
    }
}

const OURS: &str = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.com; spf=pass smtp.mailfrom=b@example.com; dkim=pass header.d=Example.COM\r\n";
const BORDER: &str = "Received: from mail.example.com (x [192.0.2.1]) by mx.example.org (M) with ESMTPS id 1; Mon, 2 Nov 2026 10:00:00 +0000\r\n";
const LMTP: &str = "Received: from mx.example.org by mx.example.org with LMTP id 2; Mon, 2 Nov 2026 10:00:01 +0000\r\n";
const STORE: &str =
    "Received: from mx.example.org by store.internal with ESMTP id 3; Mon, 2 Nov 2026 10:00:01 +0000\r\n";
const END: &str = "From: a@example.com\r\n\r\nx";

fn stated(mail: &str, received_by: &[&str]) -> Option<Stated> {
    let received_by: Vec<String> = received_by.iter().map(|&host| host.to_owned()).collect();
    let (fields, _) = Fields::read(mail.as_bytes());
    trusted(&fields, &["other".to_owned(), "MX.example.org".to_owned()], &received_by)?.dmarc("EXAMPLE.com")
}

#[test]
fn only_what_stands_above_the_border_counts() {
    let forged_border = "Received: from a by mx.example.org with LMTP id 9; x\r\n";
    let helo = "Received: from with by LMTP with LMTP (x [192.0.2.6]) by mx.example.org with ESMTP id 1; x\r\n";
    let quoted = "Received: from a (x) by mx.example.org with esmtp (envelope-from <\"a) with LMTP (\"@b>) id 1; x\r\n";
    let unclosed = "Received: from \"a by mx.example.org with ESMTP id 1; x\r\n";
    for (mail, wanted) in [
        (format!("{quoted}{OURS}{BORDER}{END}"), false),
        (format!("{unclosed}{OURS}{BORDER}{END}"), false),
        (format!("{OURS}{BORDER}{END}"), true),
        (format!("Return-Path: <a@b>\r\n{OURS}X: y\r\n{BORDER}{END}"), true),
        (format!("{LMTP}{OURS}{BORDER}{END}"), true),
        (format!("{BORDER}{OURS}{END}"), false),
        (format!("{BORDER}{OURS}{BORDER}{END}"), false),
        (format!("{BORDER}{OURS}{forged_border}{BORDER}{END}"), false),
        (format!("{helo}{OURS}{BORDER}{END}"), false),
        (format!("{OURS}{END}"), false),
        (format!("{}{BORDER}{END}", OURS.replace("mx.example.org", "mx.example.org.evil")), false),
        (format!("{}{BORDER}{END}", OURS.replace("mx.example.org", "mx")), false),
    ] {
        assert_eq!(stated(&mail, &[]), wanted.then_some(Stated::Pass), "{mail}");
    }
}

#[test]
fn a_named_host_is_the_border() {
    assert_eq!(stated(&format!("{STORE}{OURS}{BORDER}{END}"), &["Mx.example.org"]), Some(Stated::Pass));
    assert_eq!(stated(&format!("{STORE}{OURS}{BORDER}{END}"), &[]), None);
    assert_eq!(stated(&format!("{STORE}{BORDER}{OURS}{BORDER}{END}"), &["mx.example.org"]), None);
    assert_eq!(stated(&format!("{STORE}{OURS}{END}"), &["mx.example.org"]), None, "no border");
    let helo = BORDER.replace("mail.example.com", "a by store.internal");
    assert_eq!(stated(&format!("{helo}{OURS}{BORDER}{END}"), &["mx.example.org"]), None);
}

#[test]
fn debug_shows_no_addresses() {
    let shown = format!("{:?}", read("mx; spf=pass smtp.mailfrom=ann@example.com"));
    assert!(shown.contains("spf=pass (1 properties)") && !shown.contains("ann"), "{shown}");
}

#[test]
fn without_a_configured_id_nothing_is_trusted() {
    let mail = format!("{OURS}{BORDER}{END}");
    assert_eq!(trusted(&Fields::read(mail.as_bytes()).0, &[], &[]), None);
}

#[test]
fn what_is_said() {
    let mail = format!("{OURS}{BORDER}{END}");
    let (fields, _) = Fields::read(mail.as_bytes());
    let results = trusted(&fields, &["mx.example.org".to_owned()], &[]).unwrap();
    assert_eq!(
        (results.spf_passes(), results.dkim_passes()),
        (vec!["example.com".to_owned()], vec!["example.com".to_owned()])
    );
    assert!(results.has_spf());
    assert_eq!(results.dmarc("example.net"), None, "about another domain");
    for (said, wanted) in [
        ("fail", Stated::Fail),
        ("none", Stated::NoPolicy),
        ("temperror", Stated::Temporary),
        ("bestguesspass", Stated::NoPolicy),
    ] {
        let other = OURS.replace("dmarc=pass", &format!("dmarc={said}"));
        assert_eq!(stated(&format!("{other}{BORDER}{END}"), &[]), Some(wanted));
        assert_eq!(stated(&format!("{OURS}{other}{BORDER}{END}"), &[]), Some(wanted), "the worst counts");
    }
    let unnamed = OURS.replace(" header.from=example.com", "");
    assert_eq!(stated(&format!("{unnamed}{BORDER}{END}"), &[]), None);
}

#[test]
fn long_and_deep_fields_are_read_to_their_end() {
    ends("fields", || {
        assert_eq!(read(&format!("mx; {}", "(".repeat(LONGEST))), None);
        assert_eq!(read(&format!("mx; {}", "(".repeat(LONGEST - 10))).map(|read| read.results.len()), Some(0));
        assert_eq!(read(&format!("mx{}", ";a=b".repeat(4000))).map(|read| read.results.len()), Some(MOST_RESULTS));
        let received = format!("Received: {}\r\n", "by with ".repeat(500_000));
        assert_eq!(stated(&format!("{received}{END}"), &[]), None);
    });
}

proptest! {
    #[test]
    fn no_field_panics(value in r#"[a-z.;=/()"\\ 1@]{0,80}"#) {
        let _ = read(&value);
        let mail = format!("Authentication-Results: {value}\r\nReceived: {value}\r\n\r\n");
        let _ = stated(&mail, &[]);
    }

    /// Whatever a sender puts into a mail, nothing of it is trusted once the border host wrote its field above it.
    #[test]
    fn nothing_below_the_border_is_trusted(order in proptest::collection::vec(0usize..5, 0..8)) {
        let pieces = [OURS, BORDER, LMTP, STORE, "X: y\r\n"];
        let below: String = order.iter().map(|place| pieces[*place]).collect();
        prop_assert_eq!(stated(&format!("{BORDER}{below}{END}"), &[]), None);
        prop_assert_eq!(stated(&format!("{LMTP}{BORDER}{below}{END}"), &[]), None);
        prop_assert_eq!(stated(&format!("{STORE}{BORDER}{below}{END}"), &["mx.example.org"]), None);
    }
}
