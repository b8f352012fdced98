//! Mails that a mail server hands over by LMTP.

use std::collections::BTreeSet;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::{MailServer, hand_over, submit};
use crate::support::{Random, seed, size, wait};

const JOURNALED: &str = "SELECT count(*) FROM entry WHERE kind = 6";

fn project(desk: &HelpDesk) -> Project {
    let options = "address = \"Support@example.test\"\naliases = [\"sales@example.test\"]\n";
    Project::new()
        .helpdesk("desk", desk, &["interaction.received"])
        .table("[lmtp]\naddress = \"127.0.0.1:0\"\n")
        .channel("mail", "email", options)
}

fn mail(number: usize) -> Vec<u8> {
    let head = format!("Message-ID: <m{number}@customer.example>\r\nFrom: Ada <ada{number}@customer.example>\r\n");
    let body = "A line.\r\n.\r\n..two\r\n\u{e4}\r\n".repeat(number % 50);
    format!("{head}To: support@example.test\r\nSubject: Question {number}\r\n\r\nSee m{number}.\r\n{body}").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_over_is_taken_for_our_addresses_and_for_no_others() {
    let desk = HelpDesk::start().await;
    let project = project(&desk);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let port = gateway.lmtp().await;
    hand_over(port, "sUPPORT+anything@example.test", &mail(7)).unwrap();
    let refused = hand_over(port, "somebody@example.test", &mail(8)).unwrap_err();
    assert!(refused.contains("550 5.1.1"), "{refused}");
    // The same mail for another address of the channel is the same mail.
    hand_over(port, "sales@example.test", &mail(7)).unwrap();
    hand_over(port, "sales@example.test", &mail(9)).unwrap();
    let taken = desk.wait_for(2).await;
    // Two customers are told of in any order.
    let ids: BTreeSet<&str> = taken.iter().map(|one| one.provider_id()).collect();
    assert_eq!(ids, BTreeSet::from(["m7@customer.example", "m9@customer.example"]));
    assert_eq!(project.number(JOURNALED), 2);
    // The original is had byte for byte.
    let told = taken.iter().find(|one| one.provider_id() == "m7@customer.example").unwrap().interaction();
    let (id, last) = (told["id"].as_str().unwrap(), told["parts"].as_array().unwrap().len() - 1);
    let path = format!("/v1/interactions/{id}/parts/{last}");
    let original = wait::until("the original is kept", wait::SOON, async || {
        Some(gateway.get(&token, &path).await).filter(|answer| answer.status == 200)
    });
    assert!(original.await.body.as_ref() == mail(7));
}

/// What was let in as a mail is let in as files, too, also where other files may not be as large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_of_a_mail_may_be_larger_than_other_files() {
    let desk = HelpDesk::start().await;
    let project = project(&desk).limits("media = \"64KiB\"\nmail = \"1MiB\"");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let mail = [mail(7), b"A longer line than that.\r\n".repeat(8 << 10)].concat();
    hand_over(gateway.lmtp().await, "sales@example.test", &mail).unwrap();
    let taken = desk.wait_for(1).await;
    let told = taken[0].interaction();
    let (id, last) = (told["id"].as_str().unwrap(), told["parts"].as_array().unwrap().len() - 1);
    let path = format!("/v1/interactions/{id}/parts/{last}");
    let original = wait::until("the original is kept", wait::SOON, async || {
        Some(gateway.get(&token, &path).await).filter(|answer| answer.status == 200)
    });
    assert!(original.await.body.as_ref() == mail);
}

/// Postfix keeps what the gateway did not take, and hands it over again: what is killed when, each mail comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_hands_over_each_mail_once_whatever_is_killed() {
    let (mails, kills) = (size(40, 2_000), size(3, 20));
    let mut random = Random(seed());
    let desk = HelpDesk::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let options = "address = \"support@example.test\"\n";
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .table(&format!("[lmtp]\naddress = \"127.0.0.1:{port}\"\n"))
        .channel("mail", "email", options);
    let mut gateway = Gateway::start(&project).await;
    let postfix = MailServer::postfix_to(port);
    let smtp = postfix.port("smtp");
    let sending = tokio::task::spawn_blocking(move || {
        for number in 0..mails {
            submit(smtp, "support@example.test", &mail(number)).unwrap();
        }
    });
    for number in 0..kills {
        let until = ((number * mails + random.below(mails)) / kills) as i64;
        wait::until_true("mails are taken", wait::LONG, async || project.number(JOURNALED) >= until).await;
        gateway.kill();
        gateway = Gateway::start(&project).await;
        postfix.flush();
    }
    sending.await.unwrap();
    wait::until_true("all mails are there", wait::LONG, async || {
        postfix.flush();
        project.number(JOURNALED) >= mails as i64
    })
    .await;
    let taken = desk.wait_for(mails).await;
    let ids: BTreeSet<String> = taken.iter().map(|one| one.provider_id().to_owned()).collect();
    assert_eq!((ids.len(), project.number(JOURNALED)), (mails, mails as i64));
}
