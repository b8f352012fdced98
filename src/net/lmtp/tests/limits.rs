//! What a client may not do, by size, number, slowness or silence.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

fn small() -> Settings {
    Settings { most_bytes: 1000, most_recipients: 2, most_held: 1000, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn a_size_beyond_the_limit_is_refused_at_once() {
    let (mut served, _) = greeted(small()).await;
    served.client.say("MAIL FROM:<> SIZE=1001", "552 5.3.4").await;
    served.client.say("MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4").await;
    served.client.say("MAIL FROM:<> SIZE=1000", "250 2.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_grows_too_big_is_swallowed() {
    let (mut served, keeper) = greeted(small()).await;
    let client = &mut served.client;
    for (bytes, wanted) in [(998, "250 2.0.0"), (999, "552 5.3.4"), (1500, "552 5.3.4"), (998, "250 2.0.0")] {
        client.say("MAIL FROM:<> SIZE=10", "250 ").await;
        client.say("RCPT TO:<bob@shop.example>", "250 ").await;
        client.say("RCPT TO:<eve@shop.example>", "250 ").await;
        client.say("DATA", "354 ").await;
        client.say(&format!("{}\r\n.", "x".repeat(bytes)), wanted).await;
        client.expect([wanted]).await;
    }
    assert_eq!(keeper.contents().iter().map(String::len).collect::<Vec<_>>(), [1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_content_without_an_end_is_given_up() {
    let (mut served, keeper) = greeted(small()).await;
    served.client.open("").await;
    let line = format!("{}\r\n", "x".repeat(998));
    let mut sent = 0;
    while served.client.io.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 2 << 20, "still reading");
    }
    served.client.expect(["552 5.3.4"]).await;
    served.client.expect_end().await;
    assert!(keeper.mails.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn recipients_are_counted() {
    let (mut served, keeper) = greeted(small()).await;
    let client = &mut served.client;
    client.say("MAIL FROM:<>", "250 ").await;
    for (to, wanted) in [("a", "250 2.1.5"), ("b", "250 2.1.5"), ("c", "452 4.5.3"), ("d", "452 4.5.3")] {
        client.say(&format!("RCPT TO:<{to}@shop.example>"), wanted).await;
    }
    client.send("DATA\r\nx\r\n.\r\nNOOP\r\n").await;
    client.expect(["354 ", "250 2.0.0 stored", "250 2.0.0 stored", "250 2.0.0 fine"]).await;
    assert_eq!(keeper.mails.lock()[0].to, ["a@shop.example", "b@shop.example"]);
}

#[tokio::test(start_paused = true)]
async fn long_lines_are_refused_and_endless_ones_cut() {
    let noop = |bytes: usize| format!("NOOP {}", "x".repeat(bytes - "NOOP \r\n".len()));
    for size in [16, 100, 100_000] {
        let keeper = Arc::new(Keeper::default());
        let mut served = House::new(settings(), &keeper).connect_with(size);
        served.client.expect(["220 "]).await;
        served.client.say(&noop(2048), "250 2.0.0").await;
        served.client.say(&noop(2049), "500 5.5.2").await;
        served.client.say(&noop(60_000), "500 5.5.2").await;
        served.client.say("NOOP", "250 2.0.0").await;
        assert!(served.client.io.write_all(&[b'x'; 300_000]).await.is_err());
        served.client.expect_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_mistakes_are_too_many() {
    let (mut served, _) = greeted(settings()).await;
    for _ in 0..20 {
        served.client.say("WHAT", "500 5.5.1").await;
    }
    served.client.expect(["421 4.7.0"]).await;
    served.client.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn commands_are_counted_until_a_mail_comes() {
    let (mut served, _) = greeted(small()).await;
    for _ in 0..3 {
        for _ in 0..1996 {
            served.client.say("NOOP", "250 ").await;
        }
        served.client.open("").await;
        served.client.say("x\r\n.", "250 ").await;
    }
    for _ in 0..2000 {
        served.client.say("RSET", "250 ").await;
    }
    served.client.say("RSET", "421 4.7.0").await;
    served.client.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn all_contents_together_have_a_limit() {
    let keeper = Keeper::holding();
    let house = House::new(Settings { most_held: 1500, ..small() }, &keeper);
    let (mut one, mut two, mut three) = (house.connect(), house.connect(), house.connect());
    for served in [&mut one, &mut two, &mut three] {
        served.client.greet().await;
    }
    one.client.open(" SIZE=1000").await;
    one.client.send("one\r\n.\r\n").await;
    // Does not fit beside the first, which is being stored.
    two.client.say("MAIL FROM:<> SIZE=1000", "250 ").await;
    two.client.say("RCPT TO:<bob@shop.example>", "250 ").await;
    let asked = Instant::now();
    two.client.say("DATA", "452 4.3.1").await;
    assert_eq!(asked.elapsed(), Duration::from_secs(30));
    // Fits to begin with, then grows too big.
    three.client.open(" SIZE=100").await;
    three.client.say(&format!("{}\r\n.", "x".repeat(900)), "452 4.3.1").await;
    three.client.open(" SIZE=100").await;
    three.client.send("three\r\n.\r\n").await;
    tokio::task::yield_now().await;
    two.client.send("DATA\r\n").await;
    keeper.release();
    one.client.expect(["250 2.0.0"]).await;
    two.client.expect(["354 "]).await;
    two.client.say("two\r\n.", "250 2.0.0").await;
    three.client.expect(["250 2.0.0"]).await;
    assert_eq!(asked.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_mail_without_a_size_finds_its_room_as_it_grows() {
    let (mut served, keeper) = greeted(Settings { most_bytes: 1 << 20, most_held: 0, ..settings() }).await;
    for _ in 0..3 {
        served.client.open("").await;
        served.client.say(&format!("{}\r\n.", "x".repeat((1 << 20) - 2)), "250 2.0.0").await;
    }
    assert!(keeper.contents().iter().all(|content| content.len() == 1 << 20));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection() {
    let (mut served, _) = greeted(settings()).await;
    let since = Instant::now();
    // Bytes without an end are no command: they do not prolong it.
    served.client.send("NO").await;
    tokio::time::advance(Duration::from_secs(200)).await;
    served.client.send("OP").await;
    served.client.expect(["421 4.4.2"]).await;
    assert_eq!(since.elapsed(), Duration::from_secs(300));
    served.client.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_content_must_come_on() {
    let (mut served, keeper) = greeted(settings()).await;
    served.client.open("").await;
    // Much at once earns no right to stall.
    served.client.send("x".repeat(60_000)).await;
    served.client.send("x".repeat(60_000)).await;
    served.client.send("x".repeat(60_000)).await;
    let since = Instant::now();
    served.client.expect(["421 4.4.2"]).await;
    assert_eq!(since.elapsed(), Duration::from_secs(180));
    served.client.expect_end().await;

    let mut served = House::new(settings(), &keeper).connect();
    served.client.greet().await;
    served.client.open("").await;
    let since = Instant::now();
    for _ in 0..5 {
        served.client.send("x".repeat(100)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    served.client.expect(["421 4.4.2"]).await;
    assert_eq!(since.elapsed().as_millis(), 60_000 + 500 * 1000 / 1024);
    assert!(keeper.mails.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_not_waited_for() {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings(), &keeper).connect_with(64);
    let flood = "LHLO x\r\n".repeat(100);
    let since = Instant::now();
    assert!(served.client.io.write_all(flood.as_bytes()).await.is_err());
    served.session.await.unwrap();
    assert_eq!(since.elapsed(), Duration::from_secs(60));
}
