//! Mails are fetched from a real server, once each, whatever breaks meanwhile.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::{MailServer, PASSWORD};
use crate::support::{Random, seed, size, wait};

/// What the journal holds of mails.
const JOURNALED: &str = "SELECT count(*) FROM entry WHERE kind = 6";

fn project(desk: &HelpDesk) -> Project {
    Project::new().helpdesk("desk", desk, &["interaction.received"])
}

fn mail(number: usize, text: &str) -> Vec<u8> {
    let from = format!("Ada {number} <ada{number}@customer.example>");
    let head =
        format!("Message-ID: <m{number}@customer.example>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: {from}\r\n");
    format!("{head}To: box@example.test\r\nSubject: Question {number}\r\n\r\n{text}\r\n").into_bytes()
}

/// How a channel's mailbox does, as the API says.
async fn told(gateway: &Gateway, token: &str) -> serde_json::Value {
    let status = gateway.get(token, "/v1/status").await.json();
    status["channels"][0]["mailbox"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_that_are_there_and_mails_that_come_are_taken_once_each() {
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    server.ask("fill box INBOX 30");
    server.ask("fill box Other 5");
    let options = "begin = \"all\"\nfolders = [\"INBOX\", \"Other\"]\nimap_security = \"starttls\"\n";
    let project = project(&desk).mailbox("mail", &server, server.port("imap"), options);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    desk.wait_for(35).await;
    // One that comes is told at once, and what it says is told apart from what it quotes.
    let text =
        "It is broken.\r\n\r\nOn Mon, 2 Mar 2026 at 10:30, Support <box@example.test> wrote:\r\n> Here it is.\r\n";
    let attached = mail(1, text);
    server.deliver(&attached);
    let delivery = desk.wait_until("the mail that came", |one| one.provider_id() == "m1@customer.example").await;
    let told_of = delivery.interaction();
    assert_eq!(
        (&told_of["subject"], &told_of["text_new"]),
        (&"Question 1".into(), &"It is broken.".into()),
        "{told_of:#}"
    );
    assert_eq!(told_of["author"]["identifier"]["value"], "ada1@customer.example");
    // The original is had byte for byte, but for what the server put on top of it.
    let (id, last) = (told_of["id"].as_str().unwrap(), told_of["parts"].as_array().unwrap().len() - 1);
    let path = format!("/v1/interactions/{id}/parts/{last}");
    let original = wait::until("the original is kept", wait::SOON, async || {
        Some(gateway.get(&token, &path).await).filter(|answer| answer.status == 200)
    });
    assert!(original.await.body.ends_with(&attached));
    let health = told(&gateway, &token).await;
    assert_eq!((&health["state"], &health["behind"]), (&"ok".into(), &0.into()), "{health}");
    // After a restart nothing comes again.
    gateway.stop().await;
    let gateway = Gateway::start(&project).await;
    server.deliver(&mail(2, "and another one"));
    desk.wait_until("the one after the restart", |one| one.provider_id() == "m2@customer.example").await;
    // A folder that nobody waits in is looked at all the same.
    server.ask("fill box Other 2");
    desk.wait_for(38).await;
    gateway.delivered(&project).await;
    assert_eq!((project.number(JOURNALED), desk.taken().len()), (39, 39));
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_taken_and_moved_and_what_was_there_is_left() {
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    server.ask("fill box INBOX 4");
    server.age();
    let options = "after = \"move\"\nmove_to = \"Done\"\n";
    let project = project(&desk).mailbox("mail", &server, server.port("imaps"), options);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    wait::until_true("the mailbox is read", wait::SOON, async || !told(&gateway, &token).await["read_at"].is_null())
        .await;
    server.deliver(&mail(1, "first"));
    server.deliver(&mail(2, "second"));
    desk.wait_for(2).await;
    let folders = |server: &MailServer| (count(server, "INBOX"), count(server, "Done"));
    wait::until_true("both are moved", wait::SOON, async || folders(&server) == (4, 2)).await;
    assert_eq!(project.number(JOURNALED), 2);
    // With new UIDs for all of them it is still so.
    server.ask("validity box INBOX");
    server.deliver(&mail(3, "third"));
    desk.wait_for(3).await;
    wait::until_true("it is moved", wait::SOON, async || folders(&server) == (4, 3)).await;
    assert_eq!(project.number(JOURNALED), 3);
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_too_large_is_set_aside_and_the_others_go_on() {
    let (desk, server) = (HelpDesk::start().await, MailServer::dovecot());
    let options = "begin = \"all\"\nafter = \"move\"\nmove_to = \"Done\"\n";
    let project = project(&desk).limits("mail = \"64KiB\"").mailbox("mail", &server, server.port("imaps"), options);
    project.write_config();
    let token = project.token();
    server.deliver(&mail(1, "before"));
    server.deliver(&mail(2, &"a long line\r\n".repeat(20_000)));
    server.deliver(&mail(3, "behind"));
    let gateway = Gateway::start(&project).await;
    desk.wait_for(2).await;
    gateway.settled(&project).await;
    let found = gateway.get(&token, "/v1/quarantine").await.json();
    let one = &found["quarantined"][0];
    assert!(one["reason"].as_str().unwrap().contains("over the limit"), "{found}");
    let shown = gateway.get(&token, &format!("/v1/quarantine/{}", one["entry"].as_str().unwrap())).await.json();
    assert_eq!((&shown["original"]["folder"], &shown["original"]["uid"]), (&"INBOX".into(), &2.into()), "{shown}");
    let metrics = gateway.get("", "/metrics").await.text();
    assert!(metrics.contains("segue_mailboxes{name=\"mail\",result=\"ok\"} 1"), "{metrics}");
    gateway.stop().await;
    // A restart sets it aside no second time, and the command shows it too.
    let gateway = Gateway::start(&project).await;
    wait::until_true("it is read", wait::SOON, async || !told(&gateway, &token).await["read_at"].is_null()).await;
    gateway.stop().await;
    assert_eq!(project.number(JOURNALED), 3);
    assert_eq!((count(&server, "INBOX"), count(&server, "Done")), (1, 2), "the mailbox keeps the only copy");
    let said = project.run(&["quarantine", "show", one["entry"].as_str().unwrap()]);
    assert!(said.contains("a mail of the folder INBOX, UID 2"), "{said}");
}

/// How many mails are in a folder, by another client.
fn count(server: &MailServer, folder: &str) -> usize {
    let script = "import imaplib, ssl, sys\n\
        box = imaplib.IMAP4_SSL('localhost', int(sys.argv[1]), ssl_context=ssl.create_default_context(cafile=sys.argv[2]))\n\
        box.login('box', sys.argv[4])\n\
        ok, said = box.select(sys.argv[3], readonly=True)\n\
        print(said[0].decode() if ok == 'OK' else 0)\n";
    let (port, cert) = (server.port("imaps").to_string(), server.certificate());
    let run = Command::new("python3").args(["-c", script, &port, &cert, folder, PASSWORD]).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    said.trim().parse().unwrap_or_else(|e| panic!("{said}: {e}: {}", String::from_utf8_lossy(&run.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_with_what_to_do_and_shown_to_nobody() {
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    let project = project(&desk).mailbox("mail", &server, server.port("imaps"), "");
    server.ask("user box another-one");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let broken = wait::until("it is found out", wait::SOON, async || {
        Some(told(&gateway, &token).await).filter(|told| told["state"] == "broken")
    });
    let said = broken.await["error"].as_str().unwrap().to_owned();
    assert!(said.contains("check `user` and `password`"), "{said}");
    // Mended in the file, it is read without a restart.
    let config = std::fs::read_to_string(project.folder().join("segue.toml")).unwrap();
    project.write("segue.toml", &config.replace(PASSWORD, "another-one"));
    let mended = async || told(&gateway, &token).await["state"] == "ok";
    wait::until_true("it is read", wait::SOON, mended).await;
    let log = gateway.log();
    assert!(![PASSWORD, "another-one"].iter().any(|password| log.contains(password) || said.contains(password)));
}

/// Carries connections to a port, and cuts each after so many bytes, until that was done often enough.
async fn cutting(to: u16, mut random: Random, cuts: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, done) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let cut = done.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let left = if cut.load(Ordering::Relaxed) < cuts { 2_000 + random.below(120_000) } else { usize::MAX };
            let cut = cut.clone();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let down = async {
                    let (mut left, mut buffer) = (left, vec![0; 16 << 10]);
                    while left > 0 {
                        let Ok(read @ 1..) = from_server.read(&mut buffer).await else { return };
                        if to_client.write_all(&buffer[..read.min(left)]).await.is_err() {
                            return;
                        }
                        left = left.saturating_sub(read);
                    }
                    cut.fetch_add(1, Ordering::Relaxed);
                };
                tokio::select! {
                    () = down => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                }
            });
        }
    });
    (port, done)
}

/// How much memory a gateway may ever have in use, in KiB, however large the mailbox.
const MEMORY: u64 = 150_000_000 >> 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_mailbox_is_taken_in_little_memory() {
    let mails = size(300, 10_000);
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    server.ask(&format!("fill box INBOX {mails} 4000"));
    let port = server.port("imaps").to_string();
    let mut other = Command::new("python3");
    other.args(["tests/peers/fetch_mails.py", &port, &server.certificate(), "box", PASSWORD]);
    let measured = other.output().unwrap();
    assert!(measured.status.success(), "{}", String::from_utf8_lossy(&measured.stderr));
    print!("{}", String::from_utf8_lossy(&measured.stdout));
    let project = project(&desk).mailbox("mail", &server, server.port("imaps"), "begin = \"all\"\n");
    project.write_config();
    let gateway = Gateway::start(&project).await;
    let began = tokio::time::Instant::now();
    let there = async || project.number(JOURNALED) >= mails as i64;
    wait::until_true("all mails are journaled", wait::LONG, there).await;
    let journaled = began.elapsed();
    gateway.delivered(&project).await;
    let (per_second, peak) = (mails as f64 / journaled.as_secs_f64(), gateway.peak());
    println!(
        "the gateway: {mails} mails journaled in {journaled:?}, {per_second:.0}/s, told after {:?}, {} MB at the peak",
        began.elapsed(),
        (peak << 10) / 1_000_000
    );
    assert!(peak <= MEMORY, "{peak} KiB were in use");
    assert_eq!((desk.taken().len(), project.number(JOURNALED)), (mails, mails as i64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_each_mail_is_taken_once() {
    let mut random = Random(seed());
    let (mails, kills, cuts) = (size(400, 10_000), size(3, 20), size(10, 200));
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    let filled = server.ask(&format!("fill box INBOX {mails} 4000"));
    println!("filled: {filled}");
    let (port, cut) = cutting(server.port("imaps"), Random(random.next()), cuts).await;
    let project = project(&desk).mailbox("mail", &server, port, "begin = \"all\"\n");
    project.write_config();
    let mut gateway = Gateway::start(&project).await;
    let began = tokio::time::Instant::now();
    let mut peak = 0;
    for kill in 1..=kills {
        let due = (mails * kill / (kills + 1)) as i64;
        let there = async || project.number(JOURNALED) >= due;
        wait::until_true("more mails are journaled", std::time::Duration::from_secs(120), there).await;
        peak = peak.max(gateway.peak());
        gateway.kill();
        if kill == kills / 2 + 1 {
            println!("{}", server.ask("validity box INBOX"));
        }
        gateway = Gateway::start(&project).await;
    }
    let there = async || project.number(JOURNALED) >= mails as i64;
    wait::until_true("all mails are journaled", std::time::Duration::from_secs(300), there).await;
    let (took, cut) = (began.elapsed(), cut.load(Ordering::Relaxed));
    gateway.delivered(&project).await;
    peak = peak.max(gateway.peak());
    println!("{mails} mails in {took:?}, {cut} connections cut, {} MB at the peak", (peak << 10) / 1_000_000);
    assert!(cut >= cuts && peak <= MEMORY, "{cut} connections cut, {peak} KiB in use");
    // A restart looks once more at all that is there.
    gateway.stop().await;
    let gateway = Gateway::start(&project).await;
    server.deliver(&mail(1, "the last one"));
    desk.wait_until("the last one", |one| one.provider_id() == "m1@customer.example").await;
    gateway.delivered(&project).await;
    assert_eq!(project.number(JOURNALED), mails as i64 + 1);
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);
    assert_eq!(project.number("SELECT count(*) FROM interaction"), mails as i64 + 1);
    let mut by_id: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for delivery in desk.taken() {
        by_id.entry(delivery.provider_id().to_owned()).or_default().insert(delivery.id.clone());
    }
    assert_eq!(by_id.len(), mails + 1);
    assert!(by_id.values().all(|events| events.len() == 1), "a mail is told of by two events");
}
