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

fn by(ids: &[&str], remove_forged: bool) -> TrustedServers {
    TrustedServers { ids: ids.iter().map(|&id| id.to_owned()).collect(), remove_forged }
}

fn stated_by(servers: &TrustedServers, mail: &str) -> Option<Stated> {
    trusted(&Fields::read(mail.as_bytes()).0, servers)?.dmarc("EXAMPLE.com")
}

fn stated(mail: &str) -> Option<Stated> {
    stated_by(&by(&["other", "MX.example.org"], false), mail)
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
        assert_eq!(stated(&mail), wanted.then_some(Stated::Pass), "{mail}");
    }
}

/// How a mail begins that came to Gmail, before what it says.
const GMAIL: &str = "Delivered-To: us@example.org\r\n\
    Received: by 2002:a05:6a10:1234:b0:5a1:b2c3:d4e5 with SMTP id x1csp1; Mon, 2 Nov 2026 02:00:01 -0800 (PST)\r\n\
    X-Received: by 2002:a17:90a:1 with SMTP id y2; Mon, 2 Nov 2026 02:00:01 -0800 (PST)\r\n\
    ARC-Authentication-Results: i=1; mx.google.com; dmarc=pass header.from=example.com\r\n\
    Return-Path: <b@example.com>\r\n\
    Received: from mail.example.com (mail.example.com. [192.0.2.1]) by mx.google.com with ESMTPS id z3 for \
    <us@example.org>; Mon, 2 Nov 2026 02:00:01 -0800 (PST)\r\n\
    Received-SPF: pass (google.com: domain of b@example.com designates 192.0.2.1) client-ip=192.0.2.1;\r\n";
/// How one begins that came to Postfix, whose milters say in a field each what they found.
const POSTFIX: &str = "Return-Path: <b@example.com>\r\nReceived: from mail.example.com (mail.example.com [192.0.2.1])\r\n\
    \t(using TLSv1.3) by mx.example.org (Postfix) with ESMTPS id 4F for <us@example.org>; Mon, 2 Nov 2026 10:00:00 \
    +0000 (UTC)\r\n";
/// A hop before that, as the sender's side wrote it.
const EARLIER: &str = "Received: from pc (pc [198.51.100.7]) by mail.example.com with ESMTPSA id 5; x\r\n";

#[test]
fn what_servers_write_below_their_own_received_counts_if_they_remove_forged_ones() {
    let google = OURS.replace("mx.example.org", "mx.google.com");
    let dkim = "Authentication-Results: mx.example.org; dkim=pass header.d=example.com\r\n";
    let of =
        |id: &str, result: &str| format!("Authentication-Results: {id}; dmarc={result} header.from=example.com\r\n");
    let (pass, fail) = (of("mx.example.org", "pass"), of("mx.example.org", "fail"));
    let (passed, failed) = (Some(Stated::Pass), Some(Stated::Fail));
    for (mail, wanted) in [
        (format!("{GMAIL}{google}{EARLIER}"), passed),
        (format!("{GMAIL}{google}DKIM-Signature: v=1\r\n"), passed),
        (format!("{POSTFIX}{pass}{EARLIER}"), passed),
        (format!("{POSTFIX}{dkim}DKIM-Filter: OpenDKIM\r\n{pass}{EARLIER}"), passed),
        (format!("{LMTP}{POSTFIX}{pass}{EARLIER}"), passed),
        (format!("{STORE}{POSTFIX}{}{pass}", of("else.example", "fail")), passed),
        // Of several the worst counts, but none of another hop.
        (format!("{POSTFIX}{pass}{fail}{EARLIER}"), failed),
        (format!("{POSTFIX}{pass}{EARLIER}{fail}"), passed),
        // Forged ones behind the next hop, below one that says otherwise or nothing of it.
        (format!("{POSTFIX}{fail}{EARLIER}{pass}"), failed),
        (format!("{POSTFIX}{dkim}{EARLIER}{pass}"), None),
        (format!("{POSTFIX}{}{EARLIER}{pass}", "Authentication-Results: mx.example.org; none\r\n"), None),
        (format!("{GMAIL}{}{EARLIER}{google}", of("mx.google.com", "fail")), failed),
        (format!("{POSTFIX}{}{EARLIER}", of("mx.example.org.evil", "pass")), None),
        (format!("{POSTFIX}{EARLIER}"), None),
        (pass.clone(), None),
    ] {
        let mail = format!("{mail}{END}");
        let ids = ["mx.google.com", "mx.example.org"];
        assert_eq!(stated_by(&by(&ids, true), &mail), wanted, "{mail}");
        assert_eq!(stated_by(&by(&ids, false), &mail), None, "{mail}");
    }
}

#[test]
fn what_stands_above_the_border_comes_before_what_stands_below() {
    let fail = OURS.replace("dmarc=pass", "dmarc=fail");
    for (mail, wanted) in [
        (format!("{fail}{BORDER}{OURS}"), Stated::Fail),
        (format!("{OURS}{BORDER}{fail}"), Stated::Pass),
        (format!("{LMTP}{OURS}{BORDER}{fail}"), Stated::Pass),
    ] {
        assert_eq!(stated_by(&by(&["mx.example.org"], true), &format!("{mail}{END}")), Some(wanted), "{mail}");
    }
}

#[test]
fn debug_shows_no_addresses() {
    let shown = format!("{:?}", read("mx; spf=pass smtp.mailfrom=ann@example.com"));
    assert!(shown.contains("spf=pass (1 properties)") && !shown.contains("ann"), "{shown}");
}

#[test]
fn without_a_configured_id_nothing_is_trusted() {
    let mail = format!("{OURS}{BORDER}{END}");
    assert_eq!(stated_by(&by(&[], true), &mail), None);
}

#[test]
fn what_is_said() {
    let mail = format!("{OURS}{BORDER}{END}");
    let (fields, _) = Fields::read(mail.as_bytes());
    let results = trusted(&fields, &by(&["mx.example.org"], false)).unwrap();
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
        assert_eq!(stated(&format!("{other}{BORDER}{END}")), Some(wanted));
        assert_eq!(stated(&format!("{OURS}{other}{BORDER}{END}")), Some(wanted), "the worst counts");
    }
    let unnamed = OURS.replace(" header.from=example.com", "");
    assert_eq!(stated(&format!("{unnamed}{BORDER}{END}")), None);
}

#[test]
fn long_and_deep_fields_are_read_to_their_end() {
    ends("fields", || {
        assert_eq!(read(&format!("mx; {}", "(".repeat(LONGEST))), None);
        assert_eq!(read(&format!("mx; {}", "(".repeat(LONGEST - 10))).map(|read| read.results.len()), Some(0));
        assert_eq!(read(&format!("mx{}", ";a=b".repeat(4000))).map(|read| read.results.len()), Some(MOST_RESULTS));
        let received = format!("Received: {}\r\n", "by with ".repeat(500_000));
        assert_eq!(stated(&format!("{received}{END}")), None);
    });
}

proptest! {
    #[test]
    fn no_field_panics(value in r#"[a-z.;=/()"\\ 1@]{0,80}"#) {
        let _ = read(&value);
        let mail = format!("Authentication-Results: {value}\r\nReceived: {value}\r\n\r\n");
        let _ = stated(&mail);
    }

    /// Whatever a sender puts into a mail, nothing of it is trusted once the border host wrote its field above it.
    #[test]
    fn nothing_below_the_border_is_trusted(order in proptest::collection::vec(0usize..5, 0..8)) {
        let pieces = [OURS, BORDER, LMTP, STORE, "X: y\r\n"];
        let below: String = order.iter().map(|place| pieces[*place]).collect();
        prop_assert_eq!(stated(&format!("{BORDER}{below}{END}")), None);
        prop_assert_eq!(stated(&format!("{LMTP}{BORDER}{below}{END}")), None);
        prop_assert_eq!(stated(&format!("{STORE}{BORDER}{below}{END}")), None);
    }

    /// Where servers remove forged fields, nothing that stands behind the hop before them says otherwise.
    #[test]
    fn nothing_of_earlier_hops_is_trusted(order in proptest::collection::vec(0usize..5, 0..8)) {
        let pieces = [OURS, BORDER, LMTP, STORE, "X: y\r\n"];
        let below: String = order.iter().map(|place| pieces[*place]).collect();
        let said = OURS.replace("dmarc=pass", "dmarc=none");
        let servers = by(&["mx.example.org"], true);
        let mail = format!("{POSTFIX}{said}{EARLIER}{below}{END}");
        prop_assert_eq!(stated_by(&servers, &mail), Some(Stated::NoPolicy));
    }
}
