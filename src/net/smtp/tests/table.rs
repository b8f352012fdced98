//! Every failure at every step.

use futures_util::future::join_all;

use super::*;

fn expected(step: Step, act: &Act) -> Class {
    let text = match act {
        Act::Drip | Act::Go => return Class::Accepted,
        Act::Say(text) => text.as_str(),
        _ => "",
    };
    match (step, text.as_bytes().first()) {
        (Step::Auth | Step::StartTls, Some(b'5')) => Class::Mend,
        (Step::Mail | Step::Rcpt | Step::Data | Step::Dot, Some(b'5')) if text.starts_with("530") => Class::Mend,
        (Step::Mail, Some(b'5')) if !text.starts_with("552") => Class::Barred,
        (Step::Mail | Step::Rcpt | Step::Data | Step::Dot, Some(b'5')) => Class::Refused,
        (Step::Dot, Some(b'4')) => Class::Later,
        (Step::Dot, _) => Class::Uncertain,
        _ => Class::Later,
    }
}

async fn check(security: Security, step: Step, act: Act) {
    let (at, does) = (step, act.clone());
    let script = ScriptSmtp::start(
        security == Security::Implicit,
        move |step, _| {
            if step == at { does.clone() } else { Act::Go }
        },
    )
    .await;
    let mut server = server(&script, security, false);
    if matches!(act, Act::Hang | Act::TakeThenHang) {
        let all = &mut server.deadlines;
        let waits = match step {
            Step::Auth => &mut all.login,
            Step::Mail | Step::Rcpt => &mut all.command,
            Step::Data => &mut all.data,
            Step::Body => &mut all.body,
            Step::Dot => &mut all.dot,
            _ => &mut all.hello,
        };
        *waits = Duration::from_millis(300);
    }
    if step == Step::Dot {
        server.deadlines.body = Duration::from_millis(300);
    }
    let mail = mail(if step == Step::Body { 8_000_000 } else { 2000 });
    let outcome = send(&server, script.address, &mail).await;
    assert_eq!(class(&outcome), expected(step, &act), "{security:?} {step:?} {act:?}: {outcome:?}");
    let taken = script.taken();
    assert_no_secret(&outcome, &script.book.lock().unwrap().clear);
    match class(&outcome) {
        Class::Accepted => assert_eq!(taken.len(), 1),
        Class::Uncertain => assert!(taken.len() <= 1),
        _ => assert!(taken.is_empty(), "{step:?} {act:?}: {outcome:?}, and yet the server has it"),
    }
    assert!(taken.iter().all(|each| each.bytes == mail), "the server has other bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_at_every_step_has_the_outcome_of_the_table() {
    let acts = [
        say("450 4.3.0 later"),
        say("550 5.7.1 no"),
        say("571 5.7.1 no"),
        say("530 5.7.0 log in"),
        say("552 too large"),
        say("421 4.3.2 closing"),
        say("350 odd"),
        say("not a reply"),
        say("250-one\r\n550 two"),
        Act::Cut,
        Act::Hang,
        Act::EndlessLine,
        Act::EndlessLines,
        Act::Drip,
    ];
    let steps = [Step::Greeting, Step::Hello, Step::Auth, Step::Mail, Step::Rcpt, Step::Data, Step::Dot];
    let mut cases = Vec::new();
    for security in [Security::Implicit, Security::StartTls] {
        for step in steps {
            // A greeting of the third hundred is let through as one.
            let fits = |act: &&Act| step != Step::Greeting || **act != say("350 odd");
            cases.extend(acts.iter().filter(fits).map(|act| (security, step, act.clone())));
        }
        cases.extend([(Step::Dot, Act::TakeThenCut), (Step::Dot, Act::TakeThenHang)].map(|(s, a)| (security, s, a)));
        cases.extend([(Step::Body, Act::Cut), (Step::Body, Act::Hang)].map(|(s, a)| (security, s, a)));
    }
    for step in [Step::Ehlo, Step::StartTls] {
        cases.extend(acts.iter().map(|act| (Security::StartTls, step, act.clone())));
    }
    for some in cases.chunks(12) {
        join_all(some.iter().cloned().map(|(security, step, act)| check(security, step, act))).await;
    }
}
