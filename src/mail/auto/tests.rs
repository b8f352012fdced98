use proptest::prelude::*;

use super::*;

fn around<'a>(subject: &'a str, from: &'a str) -> Around<'a> {
    Around {
        subject,
        from,
        envelope_sender: Some(from),
        recipients: &["help@shop.example"],
        calendar_reply: false,
        trusted: true,
        is_ours: &|address| address.eq_ignore_ascii_case("help@shop.example"),
        gateway: "gw1",
    }
}

fn seen(header: &str, around: &Around<'_>) -> Auto {
    look(&Fields::read(header.as_bytes()).0, around)
}

fn of(header: &str) -> Auto {
    seen(header, &around("A question", "ann@example.net"))
}

#[test]
fn a_person_may_be_answered() {
    let auto = of("Received: a\nReceived: b\nAuto-Submitted: No (by hand)\nX-Auto-Response-Suppress: DR, RN\n\n");
    assert_eq!((auto.kind, auto.may_answer, auto.received_count), (Kind::Person, Ok(()), 2));
}

#[test]
fn fields_of_programs_name_kind_and_reason() {
    let cases = [
        ("Auto-Submitted: auto-replied (vacation)", Kind::AutoReply, "it carries Auto-Submitted: auto-replied"),
        ("Auto-Submitted: Auto-Generated; x=y", Kind::Notification, "it carries Auto-Submitted: auto-generated"),
        ("Precedence: Bulk", Kind::Bulk, "it carries Precedence: bulk"),
        ("Precedence: list", Kind::List, "it carries Precedence: list"),
        ("Precedence: auto_reply", Kind::AutoReply, "it carries Precedence: auto_reply"),
        ("List-Id: <x.example>", Kind::List, "it carries List-Id"),
        ("List-Unsubscribe: <https://x.example>", Kind::Bulk, "it carries List-Unsubscribe"),
        (
            "X-Auto-Response-Suppress: OOF, AutoReply",
            Kind::Person,
            "it carries X-Auto-Response-Suppress: OOF, AutoReply",
        ),
        ("X-Autoreply: yes", Kind::AutoReply, "it carries X-Autoreply"),
        ("X-Autorespond: away", Kind::AutoReply, "it carries X-Autorespond"),
        ("Feedback-ID: 1:2:3", Kind::Bulk, "it carries Feedback-ID"),
        ("X-Loop: gw1", Kind::Person, "it carries our own X-Loop"),
        ("X-Loop: help@shop.example", Kind::Person, "it carries our own X-Loop"),
        ("X-Failed-Recipients: a@b.example", Kind::Bounce, "it carries X-Failed-Recipients"),
        (
            "Content-Type: multipart/report; report-type=\"delivery-status\"",
            Kind::Bounce,
            "it is a report on another mail",
        ),
        (
            "Content-Type: Multipart/Report;\n report-type=feedback-report",
            Kind::Complaint,
            "it is a report on another mail",
        ),
        (
            "Content-Type: multipart/report; report-type=disposition-notification; a=b",
            Kind::Receipt,
            "it is a report on another mail",
        ),
    ];
    for (header, kind, why) in cases {
        let auto = of(&format!("{header}\n\n"));
        let said = auto.may_answer.map_err(|why| why.to_string());
        assert_eq!((auto.kind, said), (kind, Err(why.to_owned())), "{header}");
    }
    assert_eq!(of("Precedence: first-class\nX-Autoreply: no\nX-Loop: else\n\n").may_answer, Ok(()));
}

#[test]
fn what_stands_around_the_fields_decides_too() {
    let person = around("A question", "ann@example.net");
    let why = |around: Around<'_>| seen("\n", &around).may_answer.unwrap_err();
    assert_eq!(why(Around { envelope_sender: Some("<>"), ..person }), Silence::NoReturnPath);
    assert_eq!(why(Around { envelope_sender: None, ..person }), Silence::NoReturnPath);
    assert_eq!(why(Around { from: "Help@shop.example", ..person }), Silence::OurOwn);
    assert_eq!(why(Around { envelope_sender: Some("help@shop.example"), ..person }), Silence::OurOwn);
    assert_eq!(why(Around { trusted: false, ..person }), Silence::NotTrusted);
    assert_eq!(why(Around { calendar_reply: true, ..person }), Silence::CalendarReply);
    assert_eq!(why(Around { recipients: &["list@example.net"], ..person }), Silence::NotAddressed);
    assert_eq!(why(Around { from: "", ..person }), Silence::SystemSender);
    let returned = seen("Return-Path: <ann@example.net>\n\n", &Around { envelope_sender: None, ..person });
    assert_eq!(returned.may_answer, Ok(()));
}

#[test]
fn an_absence_is_one_with_or_without_fields() {
    let away = seen("\n", &around("Automatic reply: Order 5", "ann@example.net"));
    assert_eq!((away.kind, away.may_answer), (Kind::AutoReply, Err(Silence::Subject)));
    let away = seen("Auto-Submitted: auto-replied\n\n", &around("Abwesenheitsnotiz: Order", "ann@example.net"));
    assert_eq!(away.kind, Kind::OutOfOffice);
    let null = Around { envelope_sender: Some(""), ..around("Out of office", "ann@example.net") };
    assert_eq!(seen("\n", &null).kind, Kind::OutOfOffice);
    let bounce = Around { envelope_sender: Some(""), ..around("Undeliverable", "MAILER-DAEMON@mx.example") };
    assert_eq!(seen("\n", &bounce).kind, Kind::Bounce);
}

#[test]
fn local_parts_that_nobody_reads() {
    let system = [
        "MAILER-DAEMON",
        "postmaster",
        "no-reply",
        "noreply+abc",
        "No_Reply",
        "do-not-reply",
        "donotreply",
        "bounce",
        "bounces+7=a.example",
        "bounce-12",
        "shop-noreply",
        "no.reply.invoices",
        "news-request",
        "owner-list",
        "ne-pas-repondre",
    ];
    assert!(system.iter().all(|local| system_sender(local)), "{:?}", system.iter().find(|local| !system_sender(local)));
    let people = ["ann", "norbert.reply", "info", "support", "bouncer", "roots", "owner", "sysadmin", "daemonia"];
    assert!(people.iter().all(|local| !system_sender(local)));
}

#[test]
fn hops_and_loops_end_an_exchange() {
    let hops = "Received: x\n".repeat(MOST_HOPS) + "\n";
    assert_eq!(of(&hops).may_answer, Err(Silence::Hops(30)));
    assert_eq!(of(&"Received: x\n".repeat(29)).may_answer, Ok(()));
    let auto = of("X-Segue-Loop: gw2;2\nX-Segue-Loop: GW1; 1\n\n");
    assert_eq!((auto.loops, auto.own_loops, auto.may_answer), (2, 1, Ok(())));
    assert_eq!(of("X-Segue-Loop: gw2;3\n\n").may_answer, Err(Silence::Loops(3)));
    assert_eq!(of("X-Segue-Loop: nonsense\n\n").loops, 1);
}

#[test]
fn a_reason_is_short_and_of_one_line() {
    let auto = of(&format!("Auto-Submitted: auto-replied\tx{}\n\n", "y".repeat(500)));
    let said = auto.may_answer.unwrap_err().to_string();
    assert!(said.len() < 100 && !said.contains(char::is_control));
}

#[test]
fn no_bounce_of_the_corpus_is_answered() {
    let corpus = crate::mail::corpus_tests::folder().map(|corpus| corpus.join("email/sisimai"));
    let folder = corpus.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).flatten();
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for file in folder.filter(|file| file.path().extension().is_some_and(|end| end == "eml")) {
        let raw = std::fs::read(file.path()).unwrap();
        let (fields, _) = Fields::read(&raw);
        let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
        let from = mail.from().and_then(|list| list.first()?.address()).unwrap_or_default();
        let known = Around { envelope_sender: None, ..around(mail.subject().unwrap_or_default(), from) };
        let auto = look(&fields, &known);
        assert!(auto.may_answer.is_err(), "{:?}", file.file_name());
        if auto.kind != Kind::Bounce {
            println!("{:?} {:?} {:?} {from}", file.file_name(), auto.kind, mail.subject());
        }
        *kinds.entry(format!("{:?}", auto.kind)).or_default() += 1;
    }
    println!("{kinds:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_stop(raw in proptest::collection::vec(any::<u8>(), 0..300), subject in "\\PC{0,40}") {
        let _ = look(&Fields::read(&raw).0, &around(&subject, &subject));
    }
}
