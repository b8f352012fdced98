//! What is said to which command, and what arrives.

use std::sync::atomic::Ordering;

use super::super::reply;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_mail_arrives_and_each_recipient_gets_its_verdict() {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings(), &keeper).connect();
    let client = &mut served.client;
    assert_eq!(client.reply().await, "220 gate.example LMTP\r\n");
    client.send("LHLO mx.example\r\n").await;
    let offered = "250-gate.example\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n";
    assert_eq!(client.reply().await, format!("{offered}250 SIZE 52428800\r\n"));
    client.say("MAIL FROM:<ann@home.example> SIZE=30 BODY=8BITMIME", "250 2.1.0").await;
    for to in ["bob", "later", "refused", "bob"] {
        client.say(&format!("RCPT TO:<{to}@shop.example>"), "250 2.1.5").await;
    }
    client.say("RCPT TO:<Postmaster>", "250 2.1.5").await;
    client.say("DATA", "354 ").await;
    client.send(b"Subject: dots\r\n\r\n..one\r\nb\xe4r\n\x00\r\n.\r\n").await;
    client.expect(["250 2.0.0", "451 4.3.0 the disk is full\r\n", "550 5.7.1 we are closed\r\n"]).await;
    client.expect(["250 2.0.0", "250 2.0.0"]).await;
    client.say("QUIT", "221 2.0.0").await;
    client.expect_end().await;
    let mails = keeper.mails.lock();
    let [mail] = mails.as_slice() else { panic!("{} mails", mails.len()) };
    assert_eq!(mail.from.as_deref(), Some("ann@home.example"));
    let names = ["bob@shop.example", "later@shop.example", "refused@shop.example", "bob@shop.example", "Postmaster"];
    assert_eq!(mail.to, names);
    assert_eq!(&mail.raw[..], b"Subject: dots\r\n\r\n.one\r\nb\xe4r\n\x00\r\n");
    assert_eq!(format!("{mail:?}"), "Arrived { from: 1, to: 5, raw: 30 bytes }");
}

#[tokio::test(start_paused = true)]
async fn a_whole_session_in_one_write() {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings(), &keeper).connect();
    let mail = "MAIL FROM:<>\r\nRCPT TO:<bob@shop.example>\r\nRCPT TO:<x@else.example>\r\nRCPT TO:<eve@shop.example>\r\nDATA\r\n";
    let session = format!("LHLO mx.example\r\n{mail}one\r\n.\r\nNOOP\r\n{mail}two\r\n.\r\nRSET\r\nQUIT\r\nNOOP\r\n");
    served.client.send(session).await;
    served.client.expect(["220 ", "250-"]).await;
    for _ in 0..2 {
        served
            .client
            .expect(["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "354 ", "250 2.0.0", "250 2.0.0"])
            .await;
        served.client.expect(["250 2.0.0"]).await;
    }
    served.client.expect(["221 2.0.0"]).await;
    served.client.expect_end().await;
    assert_eq!(keeper.contents(), ["one\r\n", "two\r\n"]);
    assert!(keeper.mails.lock().iter().all(|mail| mail.from.is_none() && mail.to.len() == 2));
}

#[tokio::test(start_paused = true)]
async fn commands_have_their_order() {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings(), &keeper).connect();
    let client = &mut served.client;
    client.expect(["220 "]).await;
    for (line, wanted) in [
        ("MAIL FROM:<>", reply::LHLO_FIRST),
        ("DATA", reply::LHLO_FIRST),
        ("EHLO mx.example", "500 5.5.1"),
        ("HELO mx.example", "500 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("NOOP", "250 2.0.0"),
        ("LHLO mx.example", "250-"),
        ("RCPT TO:<bob@shop.example>", reply::MAIL_FIRST),
        ("DATA", reply::MAIL_FIRST),
        ("MAIL FROM:<>", "250 2.1.0"),
        ("MAIL FROM:<>", reply::MAIL_TWICE),
        ("DATA", reply::RECIPIENT_FIRST),
        ("RCPT TO:<eve@else.example>", "550 5.1.1"),
        ("DATA", reply::RECIPIENT_FIRST),
        ("VRFY bob", "252 "),
        ("HELP", "214 "),
        ("RCPT TO:<bob@shop.example>", "250 2.1.5"),
        ("RSET", "250 2.0.0"),
        ("RCPT TO:<bob@shop.example>", reply::MAIL_FIRST),
        ("MAIL FROM:<>", "250 2.1.0"),
        ("LHLO mx.example", "250-"),
        ("RCPT TO:<bob@shop.example>", reply::MAIL_FIRST),
        ("NOOP\nNOOP", "500 5.5.2"),
    ] {
        client.say(line, wanted).await;
        if line.contains('\n') {
            client.expect(["250 2.0.0"]).await;
        }
    }
    assert!(keeper.mails.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_mail_is_smuggled_within_another() {
    let ends =
        ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\r\n\0.\r\n", "\r\n.\0\r\n"];
    for end in ends {
        let (mut served, keeper) = greeted(settings()).await;
        served.client.open("").await;
        let inner = "MAIL FROM:<boss@shop.example>\r\nRCPT TO:<bob@shop.example>\r\nDATA\r\nforged";
        served.client.send(format!("outer{end}{inner}\r\n.\r\nQUIT\r\n")).await;
        served.client.expect(["250 2.0.0", "221 "]).await;
        served.client.expect_end().await;
        let contents = keeper.contents();
        assert_eq!(contents.len(), 1, "{end:?}");
        assert_eq!(contents[0], format!("outer{}{inner}\r\n", end.replace("\r\n.", "\r\n")));
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_beyond_ascii_need_smtputf8() {
    let (mut served, keeper) = greeted(settings()).await;
    let client = &mut served.client;
    client.say("MAIL FROM:<zoë@home.example>", "553 5.6.7").await;
    client.say("MAIL FROM:<ann@home.example>", "250 2.1.0").await;
    client.say("RCPT TO:<zoë@shop.example>", "553 5.6.7").await;
    client.say("RSET", "250 ").await;
    client.say("MAIL FROM:<zoë@home.example> SMTPUTF8", "250 2.1.0").await;
    client.say("RCPT TO:<zoë@shop.example>", "250 2.1.5").await;
    client.say("DATA", "354 ").await;
    client.say(".", "250 2.0.0").await;
    let mails = keeper.mails.lock();
    assert_eq!((mails[0].from.as_deref(), mails[0].raw.len()), (Some("zoë@home.example"), 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_without_a_verdict() {
    let (mut served, keeper) = greeted(settings()).await;
    let client = &mut served.client;
    client.say("MAIL FROM:<>", "250 ").await;
    for to in ["bob", "short", "eve"] {
        client.say(&format!("RCPT TO:<{to}@shop.example>"), "250 ").await;
    }
    client.send("DATA\r\nx\r\n.\r\n").await;
    client.expect(["354 ", "250 2.0.0", "451 4.3.0", "451 4.3.0"]).await;
    keeper.panics.store(true, Ordering::Relaxed);
    client.open("").await;
    client.say("x\r\n.", "451 4.3.0").await;
    keeper.panics.store(false, Ordering::Relaxed);
    client.open("").await;
    client.say("x\r\n.", "250 2.0.0").await;
}
