use proptest::prelude::*;

use super::*;
use crate::base::ends::ends;

fn of(raw: &str) -> Option<Report> {
    let raw = raw.replace('\n', "\r\n");
    read(&Opened::new(raw.as_bytes()))
}

/// A report with the parts that a mail server would write.
fn report(kind: &str, machine: &str, returned: &str) -> String {
    format!(
        "From: Mailer-Daemon@mx.example\nTo: us@example.org\nSubject: Undelivered\nContent-Type: multipart/report; \
         report-type={kind}; boundary=b\n\n--b\n\nA notice.\n\n--b\n{machine}\n--b\n{returned}\n--b--\n"
    )
}

#[test]
fn a_delivery_report_gives_every_recipient() {
    let raw = report(
        "delivery-status",
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\nOriginal-Recipient: \
         rfc822;ann@example.net\nFinal-Recipient: rfc822; ann2@example.net\nAction: failed\nStatus: 5.1.1 (none)\n\
         Diagnostic-Code: smtp; 550 5.1.1 nobody\n here\nRemote-MTA: dns; mail.example.net\n\nFinal-Recipient: RFC822;\n \
         <bob@example.net>\nAction: DELAYED\nStatus: 4.2.2\n",
        "Content-Type: message/rfc822\n\nMessage-ID: <a.b@example.org>\nTo: Ann <ann@example.net>\nSubject: x\n\nHello",
    );
    let report = of(&raw).unwrap();
    assert_eq!((report.kind, report.permanent), (ReportKind::Failed, true));
    assert_eq!(report.original_message_id.as_deref(), Some("a.b@example.org"));
    assert_eq!(report.original_to.as_deref(), Some("ann@example.net"));
    let [ann, bob] = &report.recipients[..] else { panic!("{report:?}") };
    assert_eq!((ann.address.as_str(), ann.original.as_deref()), ("ann2@example.net", Some("ann@example.net")));
    assert_eq!((ann.status, ann.diagnostic.as_str()), (Some((5, 1, 1)), "550 5.1.1 nobody here"));
    assert_eq!(ann.remote.as_deref(), Some("mail.example.net"));
    assert_eq!(
        (bob.address.as_str(), bob.action.as_str(), bob.status),
        ("bob@example.net", "delayed", Some((4, 2, 2)))
    );
    assert!(!format!("{report:?}").contains("example.net"), "addresses stay out of logs");
}

#[test]
fn utf8_addresses_and_every_action() {
    let status = |action: &str| {
        report(
            "delivery-status",
            &format!(
                "Content-Type: message/global-delivery-status\n\nReporting-MTA: dns; x\n\nFinal-Recipient: utf-8; \
                 j\\x{{F6}}rg@ex\\x{{4E2D}}.example\nAction: {action}\nStatus: 2.0.0\n"
            ),
            "Content-Type: message/global-headers\n\nMessage-ID: <ü@example.org>\n",
        )
    };
    for (action, kind) in [
        ("delivered", ReportKind::Delivered),
        ("relayed", ReportKind::Relayed),
        ("expanded", ReportKind::Expanded),
        ("delayed", ReportKind::Delayed),
    ] {
        let report = of(&status(action)).unwrap();
        assert_eq!((report.kind, report.permanent), (kind, false));
        assert_eq!(report.recipients[0].address, "jörg@ex中.example");
        assert_eq!(report.original_message_id.as_deref(), Some("ü@example.org"));
    }
}

#[test]
fn a_server_that_gave_up_did_not_fail_for_good() {
    let machine = "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nFinal-Recipient: rfc822; \
                   a@example.net\nAction: failed\nStatus: 4.4.7\n";
    let report = of(&report("delivery-status", machine, "Content-Type: text/plain\n\n")).unwrap();
    assert_eq!((report.kind, report.permanent), (ReportKind::Failed, false));
}

#[test]
fn receipts_and_complaints_are_told_apart() {
    let machine = "Content-Type: message/disposition-notification\n\nReporting-UA: x\nFinal-Recipient: rfc822; \
                   ann@example.net\nOriginal-Message-ID: <q@example.org>\nDisposition: \
                   manual-action/MDN-sent-manually; displayed\n";
    let receipt = of(&report("disposition-notification", machine, "Content-Type: text/plain\n\n")).unwrap();
    assert_eq!((receipt.kind, receipt.recipients[0].action.as_str()), (ReportKind::Read, "displayed"));
    assert_eq!(receipt.original_message_id.as_deref(), Some("q@example.org"));
    let machine = "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\nOriginal-Rcpt-To: \
                   <ann@example.net>\n";
    let returned = "Content-Type: text/rfc822-headers\n\nMessage-ID: <r@example.org>\nTo: ann@example.net\n";
    let complaint = of(&report("feedback-report", machine, returned)).unwrap();
    assert_eq!((complaint.kind, complaint.recipients[0].action.as_str()), (ReportKind::Complaint, "abuse"));
    assert_eq!((complaint.original_message_id.as_deref(), complaint.permanent), (Some("r@example.org"), false));
}

#[test]
fn a_plain_notice_is_read_by_its_shape() {
    let raw = "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example\nTo: us@example.org\nSubject: failure notice\n\nSorry, this \
               could not be delivered.\n\n<ann@example.net>:\n192.0.2.5 does not like it.\nRemote host said: 550 no such \
               user\n\n<bob@example.net>:\nMailbox full (#4.2.2)\n\n--- Below this line is a copy of the \
               message.\n\nReceived: x\nMessage-ID:\n <a@example.org>\nTo: ann@example.net\n\nHello\n";
    let report = of(raw).unwrap();
    let found: Vec<_> = report.recipients.iter().map(|one| (one.address.as_str(), one.status)).collect();
    assert_eq!(found, [("ann@example.net", Some((5, 1, 1))), ("bob@example.net", Some((4, 2, 2)))]);
    assert_eq!((report.kind, report.permanent), (ReportKind::Failed, true));
    assert_eq!(report.original_message_id.as_deref(), Some("a@example.org"));
    assert_eq!(report.original_to.as_deref(), Some("ann@example.net"));
}

#[test]
fn a_warning_is_a_delay() {
    let raw = "From: postmaster@mx.example\nSubject: Warning\n\nYour mail to ann@example.net has been delayed.\nWe will go \
               on trying: 450 busy\n";
    let report = of(raw).unwrap();
    assert_eq!(
        (report.kind, report.recipients[0].status, report.permanent),
        (ReportKind::Delayed, Some((4, 0, 0)), false)
    );
}

#[test]
fn what_people_write_is_no_report() {
    let person =
        "From: ann@example.net\nSubject: Undeliverable: my parcel\n\nIt could not be delivered, says a@b.example.\n";
    let away = "Return-Path: <>\nFrom: ann@example.net\nSubject: Out of office\n\nI am back on Monday.\n";
    let within = "From: ann@example.net\nContent-Type: message/rfc822\n\nFrom: MAILER-DAEMON@x.example\nContent-Type: \
                  multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: \
                  rfc822; a@b.example\nAction: failed\n--b--\n";
    let shop = "From: no-reply@shop.example\nSubject: Delivery status\n\nYour parcel 5.1.1 could not be delivered.\n";
    let carrier = "Return-Path: <>\nFrom: parcels@x.example\nSubject: Delivery failed\n\nNobody was at home.\n";
    for raw in [person, away, within, shop, carrier] {
        assert_eq!(of(raw), None, "{raw}");
    }
}

#[test]
fn a_finer_status_of_the_server_is_taken() {
    let machine = "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@example.net\nStatus: 5.0.0\n\
                   Diagnostic-Code: smtp; 550 5.1.1 \x1b$B$O\x1b(B\n";
    let report = of(&report("delivery-status", machine, "Content-Type: text/plain\n\n")).unwrap();
    assert_eq!(report.recipients[0].status, Some((5, 1, 1)));
    assert_eq!(
        (report.recipients[0].diagnostic.as_str(), report.recipients[0].action.as_str()),
        ("550 5.1.1 は", "failed")
    );
}

#[test]
fn codes_are_not_taken_from_other_numbers() {
    assert_eq!(status::enhanced("host 5.1.1.9 [192.0.2.5] version 5.5.2652 (x4.2.2)"), None);
    assert_eq!(status::enhanced("said (#5.7.26)."), Some((5, 7, 26)));
    assert_eq!(status::read("after 50000 bytes"), None);
    assert_eq!(status::read("550-first\n550 second"), Some((5, 0, 0)));
}

#[test]
fn addresses_in_prose() {
    let found: Vec<&str> = notice::addresses("to <a@b.example>, 'c.d+e=f@g.example': x@ @y (z@h.example).").collect();
    assert_eq!(found, ["a@b.example", "c.d+e=f@g.example", "z@h.example"]);
}

/// The bounces of the corpus; in some a lone CR ends the lines.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = crate::mail::corpus_tests::folder().map(|corpus| corpus.join("email/sisimai"));
    let files = folder.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mails = files.flatten().filter(|file| file.path().extension().is_some_and(|end| end == "eml"));
    let mut mails: Vec<_> =
        mails.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect();
    mails.sort();
    mails
}

/// What is missing of a report, in words.
fn missing(raw: &[u8], report: &Report) -> Option<&'static str> {
    let holds = String::from_utf8_lossy(Fields::read(raw).1).to_lowercase().contains("message-id:");
    match report.kind {
        _ if holds && report.original_message_id.is_none() => Some("Message-ID"),
        _ if report.recipients.is_empty() => Some("recipient"),
        ReportKind::Complaint => None,
        _ => report.recipients.iter().any(|one| one.status.is_none()).then_some("status"),
    }
}

#[test]
fn bounces_of_the_corpus_are_read() {
    let mails = corpus();
    let (mut reports, mut whole, mut ids) = (0, 0, 0);
    for (name, raw) in &mails {
        let Some(report) = read(&Opened::new(raw)) else {
            println!("no report: {name}");
            continue;
        };
        reports += 1;
        ids += usize::from(report.original_message_id.is_some());
        match missing(raw, &report) {
            Some(what) => println!("without {what}: {name}"),
            None => whole += 1,
        }
    }
    println!("{} mails, {reports} reports, {whole} with all they could have, {ids} with a Message-ID", mails.len());
    if !mails.is_empty() {
        assert!(reports >= 191 && whole >= 185 && ids >= 158, "fewer bounces are read than before");
    }
}

#[test]
fn broken_bounces_of_the_corpus_do_not_stop_it() {
    for (_, raw) in corpus() {
        for part in 1..8 {
            let (front, back) = raw.split_at(raw.len() * part / 8);
            for piece in [front, back, &[back, front].concat()] {
                let _ = read(&Opened::new(piece));
            }
        }
    }
}

#[test]
fn mails_of_people_in_the_corpus_are_no_reports() {
    let folders =
        ["talon-standard_replies", "spamscope-mail-parser", "stalwart-mail-parser-legacy", "zbateson-mail-mime-parser"];
    let Some(corpus) = crate::mail::corpus_tests::folder() else { return };
    for folder in folders {
        let files = std::fs::read_dir(corpus.join("email").join(folder)).unwrap().flatten();
        for file in files {
            let raw = std::fs::read(file.path()).unwrap();
            let report = read(&Opened::new(&raw));
            // One of these is a bounce.
            let bounce = file.file_name() == "mail_malformed_2.eml";
            assert_eq!(report.is_some(), bounce, "{folder} {:?}", file.file_name());
        }
    }
}

#[test]
fn hostile_reports_are_read_to_their_end() {
    let many: String = (0..20_000).map(|n| format!("<a{n}@b.example>: no 5.1.1 x\n\n")).collect();
    let texts = [many, "a@b.example ".repeat(30_000), "@".repeat(400_000), "5.".repeat(200_000), "<".repeat(400_000)];
    for text in texts {
        for kind in ["plain", "html"] {
            let raw = format!(
                "From: mailer-daemon@x.example\nTo: {}\nSubject: undeliverable\nContent-Type: text/{kind}\n\n{text}",
                text.replace('\n', ", ")
            );
            let report = ends(kind, move || read(&Opened::new(raw.as_bytes())));
            println!("{kind} {} bytes, {:?}", text.len(), report.map(|report| report.recipients.len()));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_stop(raw in proptest::collection::vec(any::<u8>(), 0..400), head in 0..4usize) {
        let heads: [&[u8]; 4] = [
            b"", b"Return-Path: <>\nSubject: undeliverable\n\n", b"From: postmaster\nX-Failed-Recipients: a@b.c\n\nuser unknown\n",
            b"Content-Type: message/delivery-status\n\nFinal-Recipient: utf-8; \\x{",
        ];
        let mail = [heads[head], &raw].concat();
        let _ = read(&Opened::new(&mail));
    }

    #[test]
    fn no_text_makes_it_stop(text in "[a5. @<>:\\-\n{}x\\\\ö]{0,200}") {
        let _ = notice::read("", &text, &text, &[&text]);
        let _ = (notice::message_id(&text), notice::returned_to(&text), status::read(&text));
        let _ = groups::delivery(format!("Final-Recipient: utf-8; {text}").as_bytes());
    }
}
