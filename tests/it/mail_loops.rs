//! Machines that answer each other fall silent, and mails in somebody's name bring them nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::answering::{Answering, SUPPORT, TOLD};
use crate::support::gateway::{ANSWERING_POLICY, Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::{MailServer, PASSWORD, hand_over};
use crate::support::scripted_smtp::Taken;
use crate::support::signer::Signer;
use crate::support::{size, wait};

fn mail(id: &str, from: &str, to: &str, more: &str) -> Vec<u8> {
    let head = format!("Message-ID: <{id}>\r\nReturn-Path: <{from}>\r\nFrom: {from}\r\nTo: {to}\r\n{more}");
    let date = "Date: Mon, 2 Mar 2026 09:58:00 +0000\r\n";
    format!("{head}{date}Subject: About {id}\r\n\r\nThis is what {id} has to say.\r\n").into_bytes()
}

/// A gateway at a mailbox of Dovecot's, whose mails leave by Postfix, signed.
fn project(name: &str, desk: &HelpDesk, servers: (&MailServer, &MailServer), signer: &Signer) -> Project {
    let (dovecot, postfix) = servers;
    let options = format!(
        "address = \"{name}@{name}.example\"\nimap_host = \"localhost\"\nimap_port = {}\nuser = \"{name}\"\n\
         password = \"{PASSWORD}\"\nbegin = \"all\"\nsmtp_host = \"localhost\"\nsmtp_port = {}\nsmtp_login = \"none\"\n\
         dkim_selector = \"s1\"\ndkim_key = \"file:{}\"\n",
        dovecot.port("imaps"),
        postfix.port("smtps"),
        signer.key().display()
    );
    Project::new()
        .helpdesk("desk", desk, &TOLD)
        .trusting(dovecot.certificate())
        .trusting(postfix.certificate())
        .channel("mail", "email", &options)
        .script(ANSWERING_POLICY)
}

fn automatic(desk: &HelpDesk) -> usize {
    let taken = desk.taken();
    let sent = taken.iter().filter(|one| one.interaction()["author"]["role"] == "bot");
    sent.map(|one| one.interaction()["id"].to_string()).collect::<BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_that_answer_everything_fall_silent() {
    let mut dovecot = MailServer::dovecot();
    let postfix = MailServer::postfix(&dovecot);
    let (first_desk, second_desk) = (HelpDesk::start().await, HelpDesk::start().await);
    let (one, two) = (Signer::of("one.example", &[]), Signer::of("two.example", &[]));
    let first = project("one", &first_desk, (&dovecot, &postfix), &one);
    let second = project("two", &second_desk, (&dovecot, &postfix), &two);
    for project in [&first, &second] {
        one.publish(project);
        two.publish(project);
    }
    dovecot.ask(&format!("user one {PASSWORD}"));
    dovecot.ask(&format!("user two {PASSWORD}"));
    let _gateways = (Gateway::start(&first).await, Gateway::start(&second).await);
    // Somebody writes from the second's own address to the first, which answers; the second must not answer that.
    let begun = two.sign(&mail("1@two.example", "two@two.example", "one@one.example", ""));
    dovecot.deliver_to("one@one.example", &begun);
    let is_answer = |one: &Value| one["mail"]["auto_submitted"] == "auto-replied" && one["direction"] == "inbound";
    let told = second_desk.wait_until("the first's answer", |one| is_answer(one.interaction())).await;
    assert_eq!(told.interaction()["mail"]["level"], "authenticated", "{:#}", told.interaction());
    assert!(told.interaction()["mail"]["no_auto_answer"].is_string());
    // Both have still work to do after that, and say nothing more to each other.
    for (number, (to, signer, from, desk)) in
        [("one", &two, "two", &first_desk), ("two", &one, "one", &second_desk)].into_iter().enumerate()
    {
        let id = format!("later{number}@{from}.example");
        let later = signer.sign(&mail(&id, &format!("{from}@{from}.example"), &format!("{to}@{to}.example"), ""));
        dovecot.deliver_to(&format!("{to}@{to}.example"), &later);
        desk.wait_until(&id, |one| one.provider_id() == id).await;
    }
    let sent = automatic(&first_desk) + automatic(&second_desk);
    assert!((1..=2).contains(&sent), "{sent} automatic mails");
}

/// One that answers every mail at once, from a domain that vouches for it, and says nowhere that it is a machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_that_hides_is_answered_once() {
    let scene = Answering::start("").await;
    let responder = "ada@signed.example";
    let mut answered = String::new();
    for round in 0..size(5, 50) {
        let id = format!("{round}@signed.example");
        let told = scene.take(&id, &scene.signer.sign(&mail(&id, responder, SUPPORT, &answered))).await;
        let proven = if answered.is_empty() { "authenticated" } else { "verified" };
        assert_eq!(told.interaction()["mail"]["level"], proven, "{:#}", told.interaction());
        if answered.is_empty() {
            let sent = wait::until("the first is answered", wait::SOON, async || scene.server.taken().pop()).await;
            let text = String::from_utf8(sent.bytes).unwrap();
            let own = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().trim().to_owned();
            answered = format!("In-Reply-To: {own}\r\n");
        }
    }
    assert_eq!(scene.server.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_mails_bring_their_victim_nothing() {
    let forged = size(60, 1_000);
    let scene = Answering::start("").await;
    let (us, victim) = (SUPPORT, "victim@signed.example");
    let own = scene.signer.sign(&mail("0@signed.example", victim, us, ""));
    let first = scene.take("0@signed.example", &own).await;
    let story = first.conversation().to_owned();
    // In the victim's name, about the victim's story, with a stranger to read along and with its number in the subject.
    let more = format!(
        "Cc: eve@stranger.example\r\nReply-To: eve@stranger.example\r\nIn-Reply-To: <0@signed.example>\r\nComments: {story}\r\n"
    );
    for number in 1..=forged {
        hand_over(scene.lmtp, us, &mail(&format!("{number}@signed.example"), victim, us, &more)).unwrap();
    }
    let last = format!("{forged}@signed.example");
    let forgery = scene.desk.wait_until("the last forged mail", |one| one.provider_id() == last).await;
    scene.gateway.settled(&scene.project).await;
    wait::until_true("the victim's own mail is answered", wait::SOON, async || !scene.server.taken().is_empty()).await;
    let taken = scene.server.taken();
    let to: Vec<&[String]> = taken.iter().map(|mail| mail.to.as_slice()).collect();
    assert_eq!(to, [[victim.to_owned()]], "one answer, to the victim's own mail");
    // What an agent says in the story goes to the victim alone, whoever asked to read along.
    let path = format!("/v1/conversations/{story}/replies");
    let said = scene.gateway.post(&scene.token, &path, &json!({ "text": "It is on its way." })).await;
    assert_eq!(said.status, 201, "{}", said.text());
    wait::until_true("the agent's answer leaves", wait::SOON, async || scene.server.taken().len() > 1).await;
    // So does what is said in the forged story: who asked to be answered, or to read along, is shown to the agent only.
    let path = format!("/v1/conversations/{}/replies", forgery.conversation());
    let said = scene.gateway.post(&scene.token, &path, &json!({ "text": "Please tell us more." })).await;
    assert_eq!(said.status, 201, "{}", said.text());
    wait::until_true("the other answer leaves", wait::SOON, async || scene.server.taken().len() > 2).await;
    assert!(scene.server.taken().iter().all(|mail| mail.to == [victim]));
    let stranger = |mail: &Taken| String::from_utf8_lossy(&mail.bytes).contains("eve@stranger.example");
    assert!(!scene.server.taken().iter().any(stranger), "a stranger is named in an answer");
    let deliveries = scene.desk.taken();
    let inbound = deliveries.iter().filter(|one| one.interaction()["direction"] == "inbound");
    let stories: Vec<&str> = inbound.map(|one| one.conversation()).collect();
    assert_eq!(stories.iter().filter(|one| **one == story).count(), 1, "somebody joined the victim's story");
    let different = stories.iter().collect::<BTreeSet<_>>().len();
    println!("{forged} forged mails: {} events, {different} stories", deliveries.len());
    assert!(different <= 22, "{different} stories of one storm");
}
