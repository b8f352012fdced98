//! Dialogs in SMTP, word by word.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn a_mail_is_kept_byte_for_byte() {
    let shared = Arc::new(Shared::new().unwrap());
    let mut talk = Talk::logged_in(&shared, Protocol::Smtp).await;
    talk.ask("mail from:<a@b.example> size=5 BODY=8bitmime", "250 ").await;
    talk.ask("rcpt to:<c@d.example>", "250 ").await;
    talk.ask("DATA", "354 ").await;
    let longest = "x".repeat(998);
    talk.ask(&format!("..\r\n...a\r\n\r\n.{longest}\r\n{longest}\r\n."), "250 2.0.0 taken as 1").await;
    let sent = timeout(PATIENCE, talk.shared.take_sent()).await.unwrap();
    assert_eq!(sent.raw, format!(".\r\n..a\r\n\r\n{longest}\r\n{longest}\r\n").as_bytes());
    // Everything at once is as good.
    talk.say("MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\nQUIT\r\n").await;
    talk.hears("250 2.0.0 taken as 2").await;
    assert_eq!(talk.rest().await, "221 2.0.0 goodbye\r\n");
    assert_eq!(timeout(PATIENCE, shared.take_sent()).await.unwrap().raw, b"");
}

#[tokio::test]
async fn a_mail_that_ends_nobody_knows_where_is_refused() {
    let shared = Arc::new(Shared::new().unwrap());
    let mut talk = Talk::logged_in(&shared, Protocol::Smtp).await;
    let long = "x".repeat(999);
    let cut = format!("{}\r\n", "x".repeat(1000));
    let bad = [
        "a\n.\r\nb\r\n",
        "a\r.\r\n",
        "a\r\n.\n",
        "\n",
        "\r",
        "\r\r\n",
        &format!("{long}\r\n"),
        &cut,
        &"x".repeat(3000),
    ];
    for body in bad {
        assert_eq!(talk.ask("MAIL FROM:<a@b.example>", "250 ").await, "");
        talk.ask("RCPT TO:<c@d.example>", "250 ").await;
        talk.ask("DATA", "354 ").await;
        talk.say(body).await;
        assert_eq!(talk.ask("\r\n.", "554 5.6.0").await, "");
    }
    talk.ask("MAIL FROM:<a@b.example>", "250 ").await;
    talk.ask("RCPT TO:<c@d.example>", "250 ").await;
    talk.ask("DATA", "354 ").await;
    let block = format!("{}\r\n", "x".repeat(998)).repeat(1000);
    for _ in 0..3 {
        talk.say(&block).await;
    }
    talk.ask(".", "552 5.3.4").await;
    assert!(shared.sent.lock().kept.is_empty());
}

#[tokio::test]
async fn what_is_no_smtp_is_refused() {
    let shared = Arc::new(Shared::new().unwrap());
    let mut talk = Talk::open(&shared, Protocol::Smtp);
    for (line, reply) in [
        ("AUTH PLAIN AGEAYg==", "503 "),
        ("MAIL FROM:<a@b.example>", "503 "),
        ("EHLO", "501 "),
        ("HELO here.example", "250 localhost"),
        ("MAIL FROM:<a@b.example>", "530 "),
        ("AUTH LOGIN", "504 "),
        ("VRFY a", "500 "),
        ("STARTTLS", "500 "),
        ("", "500 "),
        ("AUTH PLAIN AGEAYg==", "535 "),
        ("AUTH PLAIN =", "535 "),
        ("AUTH PLAIN", "334 "),
    ] {
        talk.ask(line, reply).await;
    }
    talk.say("\r\n").await;
    assert_eq!(talk.rest().await, "535 5.7.8 wrong user or password\r\n421 4.7.0 too many wrong passwords\r\n");
    let mut talk = Talk::logged_in(&shared, Protocol::Smtp).await;
    for (line, reply) in [
        ("RCPT TO:<a@b.example>", "503 "),
        ("DATA", "503 "),
        ("MAIL FROM:a@b.example", "501 "),
        ("MAIL FROM:<a b@c.example>", "501 "),
        ("MAIL FROM:<é@c.example>", "501 "),
        ("MAIL FROM:<a@b.example>SIZE=1", "501 "),
        ("MAIL FROM:<a@b.example> SIZE=2097153", "552 "),
        ("MAIL FROM:<a@b.example> SMTPUTF8", "555 "),
        ("MAIL FROM:<a@b.example> SIZE=2097152", "250 "),
        ("MAIL FROM:<a@b.example>", "503 "),
        ("DATA", "503 "),
        ("RCPT TO:<>", "501 "),
        ("RCPT TO:<a@b.example> NOTIFY=NEVER", "555 "),
        ("RCPT TO:<a@b.example>", "250 "),
        ("RSET", "250 "),
        ("DATA", "503 "),
        ("NOOP", "250 "),
    ] {
        talk.ask(line, reply).await;
    }
    talk.say("NOOP\n").await;
    assert_eq!(talk.rest().await, "500 5.5.2 this is no line of SMTP\r\n");
}

/// What comes of a mail that is sent as `body`, with the end behind it; and the reply.
fn sent(body: &[u8]) -> (Option<Vec<u8>>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = Arc::new(Shared::new().unwrap());
        let mut talk = Talk::logged_in(&shared, Protocol::Smtp).await;
        talk.say("MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n").await;
        talk.hears("354 ").await;
        talk.near.write_all(body).await.unwrap();
        talk.say(".\r\n").await;
        let reply = talk.line().await;
        assert_eq!(talk.ask("NOOP", "250 2.0.0 still here").await, "");
        let kept = shared.sent.lock().kept.pop_front();
        (kept.map(|mail| mail.raw), reply)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_mail_of_lines_comes_back(lines in proptest::collection::vec("[.]{0,3}[^\r\n]{0,30}", 0..8)) {
        let mail: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let dot = |line: &String| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") };
        let (kept, reply) = sent(lines.iter().map(dot).collect::<String>().as_bytes());
        prop_assert_eq!((kept, reply.as_str()), (Some(mail.into_bytes()), "250 2.0.0 taken as 1\r\n"));
    }

    #[test]
    fn anything_else_is_refused_and_ends_all_the_same(pieces in proptest::collection::vec("\r\n|[\r\n]|a{1,3}|[.]", 1..12)) {
        let body = format!("a\nb{}\r\n", pieces.concat());
        prop_assume!(!body.contains("\r\n.\r\n"));
        let (kept, reply) = sent(body.as_bytes());
        prop_assert!(kept.is_none() && reply.starts_with("554 5.6.0 "), "{}", reply);
    }
}
