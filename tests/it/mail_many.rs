//! Many mailboxes at one gateway: each is heard soon, whatever the largest of them has to be read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::{MailServer, PASSWORD};
use crate::support::{size, wait};

/// How soon a mail is told of, however many mailboxes there are.
const LAG: Duration = Duration::from_secs(120);

fn mail(number: usize) -> Vec<u8> {
    let from = format!("ada{number}@customer.example");
    let head =
        format!("Message-ID: <{number}@customer.example>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: {from}\r\n");
    format!("{head}To: m{number}@example.test\r\nSubject: Question {number}\r\n\r\nWhere is it?\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_mailbox_keeps_none_of_many_from_being_heard() {
    let (boxes, backlog) = (size(12, 300), size(200, 10_000));
    let (desk, mut server) = (HelpDesk::start().await, MailServer::dovecot());
    server.ask(&format!("fill box INBOX {backlog} 4000"));
    let port = server.port("imaps");
    let mut project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).mailbox(
        "large",
        &server,
        port,
        "begin = \"all\"\n",
    );
    for number in 0..boxes {
        server.ask(&format!("user m{number} {PASSWORD}"));
        let options = format!(
            "address = \"m{number}@example.test\"\nimap_host = \"localhost\"\nimap_port = {port}\nuser = \"m{number}\"\n\
             password = \"{PASSWORD}\"\nbegin = \"all\"\n"
        );
        project = project.channel(&format!("m{number}"), "email", &options);
    }
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let begun = Instant::now();
    for number in 0..boxes {
        server.deliver_to(&format!("m{number}@example.test"), &mail(number));
    }
    let heard = || desk.taken().iter().filter(|one| one.provider_id().ends_with("@customer.example")).count();
    wait::until_true("every mailbox is heard", wait::LONG, async || heard() == boxes).await;
    let (lag, before) = (begun.elapsed(), desk.taken().len() - boxes);
    println!("{boxes} mailboxes: the last was heard after {lag:?}, with {before} of {backlog} mails of the large one");
    wait::promised("the last of many mailboxes is heard", lag, LAG);
    wait::until_true("all is told", wait::LONG, async || desk.taken().len() == boxes + backlog).await;
    let ids: BTreeSet<String> = desk.taken().iter().map(|one| one.provider_id().to_owned()).collect();
    assert_eq!(ids.len(), boxes + backlog);
    let status = gateway.get(&token, "/v1/status").await.json();
    let channels = status["channels"].as_array().unwrap();
    let ok = channels.iter().filter(|channel| channel["mailbox"]["state"] == "ok").count();
    assert_eq!((channels.len(), ok), (boxes + 1, boxes + 1), "{status:#}");
    println!("{} MiB at the peak", gateway.peak() >> 10);
}
