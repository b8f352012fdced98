//! What the table does not hold.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::smtp::{Concern, Pool, Reason};
use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn without_starttls_nothing_is_said_in_clear() {
    let script = ScriptSmtp::start(false, |step, _| if step == Step::Ehlo { Act::Strip } else { Act::Go }).await;
    let outcome = send(&server(&script, Security::StartTls, false), script.address, &mail(100)).await;
    assert_eq!(class(&outcome), Class::Mend, "{outcome:?}");
    assert_eq!(script.book.lock().unwrap().clear, b"EHLO gateway.example.org\r\n");
}

#[tokio::test]
async fn what_stands_behind_the_consent_to_tls_is_never_read_within() {
    let behind = Act::Behind("250-evil\r\n250 AUTH PLAIN\r\n".to_owned());
    let act = move |step, _: &str| if step == Step::StartTls { behind.clone() } else { Act::Go };
    let script = ScriptSmtp::start(false, act).await;
    let outcome = send(&server(&script, Security::StartTls, false), script.address, &mail(100)).await;
    assert_eq!(class(&outcome), Class::Later, "{outcome:?}");
    assert_eq!(script.book.lock().unwrap().clear, b"EHLO gateway.example.org\r\nSTARTTLS\r\n");
    assert!(script.taken().is_empty());
}

#[tokio::test]
async fn an_answer_before_its_question_is_not_believed() {
    for step in [Step::Hello, Step::Mail, Step::Rcpt, Step::Data] {
        let act = move |at, _: &str| if at == step { Act::Behind("250 ok\r\n".to_owned()) } else { Act::Go };
        let script = ScriptSmtp::start(true, act).await;
        let outcome = send(&server(&script, Security::Implicit, false), script.address, &mail(100)).await;
        assert_eq!(class(&outcome), Class::Later, "{step:?} {outcome:?}");
        assert!(script.taken().is_empty());
    }
}

#[tokio::test]
async fn each_recipient_has_its_own_outcome() {
    let script = ScriptSmtp::start(true, |step, line| match step {
        Step::Rcpt if line.contains("full@") => say("452 4.2.2 full, try again in 10 minutes"),
        Step::Rcpt if line.contains("gone@") => say("550-5.1.1 no such\r\n550 5.1.1 user"),
        _ => Act::Go,
    })
    .await;
    let server = server(&script, Security::Implicit, false);
    let mut session = Session::open(&server, TcpStream::connect(script.address).await.unwrap()).await.unwrap();
    let to = ["full@example.net", "anna@example.net", "gone@example.net", "a>b@example.net", "ben@example.net"];
    let outcomes = session.send(&envelope(&to), &mail(10)).await;
    let ten = Again::After(Duration::from_secs(600));
    let full = Reason {
        concern: Concern::Server,
        plain: "RCPT: the server answered 452 4.2.2".to_owned(),
        words: "RCPT: the server said 452 4.2.2 full, try again in 10 minutes".to_owned(),
    };
    assert_eq!(
        outcomes,
        [
            Outcome::NotSent(ten, full),
            Outcome::Accepted("250 2.0.0 queued as 1".to_owned()),
            Outcome::Refused(550, Some("5.1.1".to_owned()), "550 5.1.1 no such 5.1.1 user".to_owned()),
            Outcome::Refused(553, Some("5.1.3".to_owned()), "the recipient is not an address".to_owned()),
            Outcome::Accepted("250 2.0.0 queued as 1".to_owned()),
        ]
    );
    assert_eq!(script.taken()[0].to, ["anna@example.net", "ben@example.net"]);
    let outcomes = session.send(&envelope(&["gone@example.net"; 2]), &mail(10)).await;
    assert!(outcomes.iter().all(|outcome| class(outcome) == Class::Refused) && session.is_reusable());
    assert!(session.is_alive().await);
}

#[tokio::test]
async fn what_a_server_has_against_us_is_told_apart_from_what_it_has_against_a_mail() {
    let concern = async |step: Step, text: &'static str| {
        let script = ScriptSmtp::start(true, move |at, _| if at == step { say(text) } else { Act::Go }).await;
        match send(&server(&script, Security::Implicit, false), script.address, &mail(100)).await {
            Outcome::Refused(..) => None,
            Outcome::Barred(_, _, reason) => {
                assert_eq!(reason.words, text);
                Some((reason.concern, reason.plain))
            }
            Outcome::NotSent(Again::WhenMended, reason) => Some((reason.concern, reason.plain)),
            outcome => panic!("{outcome:?}"),
        }
    };
    let told = |concern, plain: &str| Some((concern, plain.to_owned()));
    for (step, text, wanted) in [
        (Step::Mail, "530 5.7.0 canary", told(Concern::Login, "MAIL: the server answered 530 5.7.0")),
        (Step::Rcpt, "530 log in", told(Concern::Login, "RCPT: the server answered 530")),
        (Step::Data, "538 5.7.11 no", told(Concern::Login, "DATA: the server answered 538 5.7.11")),
        (Step::Mail, "550 5.4.5 over", told(Concern::Sender, "MAIL: the server answered 550 5.4.5")),
        (Step::Mail, "552 5.2.2 over", told(Concern::Sender, "MAIL: the server answered 552 5.2.2")),
        (Step::Mail, "552 too large", None),
        (Step::Mail, "554 5.3.4 too large", None),
        (Step::Rcpt, "550 5.7.1 no", None),
        (Step::Dot, "554 5.7.1 no", None),
    ] {
        assert_eq!(concern(step, text).await, wanted, "{step:?} {text}");
    }
    // Nothing against us, if it refuses mails that nobody is to answer.
    let script = ScriptSmtp::start(true, |at, _| if at == Step::Mail { say("501 a sender, please") } else { Act::Go });
    let script = script.await;
    let socket = TcpStream::connect(script.address).await.unwrap();
    let mut session = Session::open(&server(&script, Security::Implicit, false), socket).await.unwrap();
    let automatic = Envelope { from: None, ..envelope(&["anna@example.net"]) };
    assert_eq!(class(&session.send(&automatic, &mail(100)).await[0]), Class::Refused);
}

#[tokio::test]
async fn too_large_a_mail_and_bare_line_ends_are_refused_here() {
    let script = ScriptSmtp::start(true, |_, _| Act::Go).await;
    let server = server(&script, Security::Implicit, false);
    for bad in [mail(20_000_030), b"a\r\n.\n".to_vec(), b"a\r.\r\n".to_vec(), b"a".to_vec()] {
        assert_eq!(class(&send(&server, script.address, &bad).await), Class::Refused);
    }
    assert!(script.taken().is_empty());
}

/// The forms in which servers have seen the end of a mail that was none.
#[tokio::test]
async fn no_form_of_a_dot_ends_a_mail_early() {
    let script = ScriptSmtp::start(true, |_, _| Act::Go).await;
    let server = server(&script, Security::Implicit, false);
    let ends = [
        "\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\r\n.\n",
        "\r\n.\r\n",
        "\n.\r",
        "\r\r\n.\r\n",
        "\r\n.\r\r\n",
        "\r\n\x00.\r\n",
        "\r\n.\x00\r\n",
        "\r\n..\r\n",
        "\r\n. \r\n",
    ];
    for end in ends {
        let mail = format!("Subject: a\r\n\r\nbefore{end}MAIL FROM:<evil@example.org>\r\n");
        let before = script.taken().len();
        let outcome = send(&server, script.address, mail.as_bytes()).await;
        let taken = script.taken().split_off(before);
        match class(&outcome) {
            Class::Accepted => assert!(taken.len() == 1 && taken[0].bytes == mail.as_bytes(), "{end:?}"),
            Class::Refused => assert!(taken.is_empty(), "{end:?}"),
            other => panic!("{end:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_way_to_log_in_works_and_a_failure_repeats_nothing() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let echo = move |step, line: &str| match step {
        Step::Auth => {
            seen.lock().unwrap().push(line.to_owned());
            if line.contains("PLAIN") { say(&format!("535 5.7.8 unknown: {line}")) } else { Act::Go }
        }
        _ => Act::Go,
    };
    let script = ScriptSmtp::start(true, echo).await;
    let mut server = server(&script, Security::Implicit, false);
    let outcome = send(&server, script.address, &mail(10)).await;
    assert_eq!(class(&outcome), Class::Mend);
    assert_no_secret(&outcome, b"");
    server.login = Some(Login::Bearer { user: "u".to_owned(), token: Zeroizing::new("tok".to_owned()) });
    assert_eq!(class(&send(&server, script.address, &mail(10)).await), Class::Accepted);
    let token = data_encoding::BASE64.encode(b"user=u\x01auth=Bearer tok\x01\x01");
    assert_eq!(lines.lock().unwrap()[1], format!("AUTH XOAUTH2 {token}"));
    assert!(!format!("{server:?}").contains("tok\""));
}

#[tokio::test]
async fn login_is_used_where_plain_is_not_and_xoauth2_failures_are_heard_out() {
    let act = |step, line: &str| match step {
        Step::Hello => say("250-x\r\n250 AUTH LOGIN XOAUTH2"),
        Step::Auth if line.contains("XOAUTH2") => say("334 eyJzdGF0dXMiOiI0MDEifQ=="),
        _ => Act::Go,
    };
    let script = ScriptSmtp::start(true, act).await;
    let mut server = server(&script, Security::Implicit, true);
    assert_eq!(class(&send(&server, script.address, &mail(10)).await), Class::Accepted);
    let answers = [USER, PASSWORD].map(|each| data_encoding::BASE64.encode(each.as_bytes()));
    assert_eq!(script.book.lock().unwrap().answers, answers);
    server.login = Some(Login::Bearer { user: "u".to_owned(), token: Zeroizing::new("tok".to_owned()) });
    let outcome = send(&server, script.address, &mail(10)).await;
    let Outcome::NotSent(Again::WhenMended, reason) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.words, "AUTH: the server said 500 what");
    assert_eq!((reason.plain.as_str(), reason.concern), ("AUTH: the server answered 500", Concern::Login));
}

#[tokio::test]
async fn connections_are_used_again_and_dead_ones_are_not() {
    let cut = Arc::new(AtomicU64::new(0));
    let when = Arc::clone(&cut);
    let act = move |step, _: &str| match step {
        Step::Rset if when.load(Ordering::SeqCst) == 1 => Act::Cut,
        _ => Act::Go,
    };
    let script = ScriptSmtp::start(true, act).await;
    let server = server(&script, Security::Implicit, false);
    let pool = Pool::with_patience(server.clone(), Box::new(To(script.address)), 2, Duration::from_secs(60));
    let (to, mail) = (envelope(&["anna@example.net"]), mail(100));
    for _ in 0..105 {
        assert_eq!(class(&pool.send(&to, &mail).await[0]), Class::Accepted);
    }
    assert_eq!(script.book.lock().unwrap().connections, 2, "a connection carries 100 mails");
    cut.store(1, Ordering::SeqCst);
    assert_eq!(class(&pool.send(&to, &mail).await[0]), Class::Accepted);
    assert_eq!(script.book.lock().unwrap().connections, 3, "a dead one is replaced");
    let all = join_all((0..20).map(|_| pool.send(&to, &mail))).await;
    assert!(all.iter().all(|outcomes| class(&outcomes[0]) == Class::Accepted));
    assert!(pool.waiting() <= 2);
    let pool = Pool::with_patience(server, Box::new(To(script.address)), 2, Duration::from_millis(10));
    assert_eq!(class(&pool.send(&to, &mail).await[0]), Class::Accepted);
    let ends = async {
        while pool.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ends).await.expect("nothing waits for ever");
    assert!(script.taken().iter().all(|each| each.bytes == mail));
}

#[tokio::test]
async fn a_refusal_that_came_early_does_not_answer_for_the_next_mail() {
    let script = ScriptSmtp::start(true, |step, _| match step {
        Step::Body | Step::Dot => say("552 5.3.4 too big"),
        _ => Act::Go,
    })
    .await;
    let server = server(&script, Security::Implicit, false);
    let mut session = Session::open(&server, TcpStream::connect(script.address).await.unwrap()).await.unwrap();
    let outcome = session.send(&envelope(&["anna@example.net"]), &mail(100)).await.remove(0);
    assert_eq!(outcome, Outcome::Refused(552, Some("5.3.4".to_owned()), "552 5.3.4 too big".to_owned()));
    assert!(!session.is_reusable());
}

#[tokio::test]
async fn a_certificate_for_another_name_or_of_another_root_is_not_trusted() {
    for implicit in [true, false] {
        let script = ScriptSmtp::start(implicit, |_, _| Act::Go).await;
        let security = if implicit { Security::Implicit } else { Security::StartTls };
        let mut other = server(&script, security, false);
        other.host = "mail.example.org".to_owned();
        assert_eq!(class(&send(&other, script.address, &mail(10)).await), Class::Later);
        let mut other = server(&script, security, false);
        other.tls = script::client(&[]);
        assert_eq!(class(&send(&other, script.address, &mail(10)).await), Class::Later);
        assert!(script.taken().is_empty());
    }
}

#[tokio::test]
async fn what_is_said_while_the_mail_goes_out_is_no_answer_to_its_end() {
    for (text, expected) in [("250 2.0.0 queued", Class::Later), ("421 bye", Class::Later), ("552 no", Class::Refused)]
    {
        let script = ScriptSmtp::start(true, move |step, _| if step == Step::Body { say(text) } else { Act::Go }).await;
        let server = server(&script, Security::Implicit, false);
        let outcome = send(&server, script.address, &mail(8_000_000)).await;
        assert_eq!(class(&outcome), expected, "{text}: {outcome:?}");
        assert!(script.taken().is_empty());
    }
}
