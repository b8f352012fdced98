//! What a mail server says of our mails shows on them; what people say in the same words reaches somebody.

use serde_json::json;

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::mailserver::hand_over;
use crate::support::scripted_smtp::{Act, ScriptSmtp};
use crate::support::wait;

const SUPPORT: &str = "support@example.test";
const TOLD: [&str; 3] = ["interaction.received", "interaction.sent", "delivery.updated"];

/// A mail to us: its id, who wrote it, further fields and what it says.
fn mail(id: &str, from: &str, more: &str, text: &str) -> Vec<u8> {
    let head = format!("Message-ID: <{id}>\r\nFrom: {from}\r\nTo: {SUPPORT}\r\nSubject: Re: The parcel\r\n");
    format!("{more}{head}\r\n{text}\r\n").into_bytes()
}

/// A gateway without `reply_base`: what comes back is known by our Message-IDs alone.
struct Scene {
    desk: HelpDesk,
    server: ScriptSmtp,
    gateway: Gateway,
    token: String,
    port: u16,
    /// Removed last.
    _project: Project,
}

impl Scene {
    async fn new() -> Scene {
        let (desk, server) = (HelpDesk::start().await, ScriptSmtp::start(true, |_, _| Act::Go).await);
        let project =
            Project::new().helpdesk("desk", &desk, &TOLD).handed_over().answering_by("mail", SUPPORT, &server, "");
        project.write_config();
        let token = project.token();
        let gateway = Gateway::start(&project).await;
        let port = gateway.lmtp().await;
        Scene { desk, server, gateway, token, port, _project: project }
    }

    async fn take(&self, id: &str, mail: &[u8]) -> Delivery {
        hand_over(self.port, SUPPORT, mail).unwrap();
        self.desk.wait_until(id, |one| one.provider_id() == id).await
    }

    /// Answers somebody who wrote before. Gives the answer's id and its Message-ID.
    async fn answered(&self, id: &str, from: &str) -> (String, String) {
        let asked = self.take(id, &mail(id, from, "", "Where is it?")).await;
        let target = format!("/v1/conversations/{}/replies", asked.conversation());
        let answer = self.gateway.post(&self.token, &target, &json!({ "text": format!("Look for {id}.") })).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json()["id"].as_str().unwrap().to_owned();
        self.became(&answer, "sent").await;
        let sent = self.server.taken().into_iter().map(|one| String::from_utf8(one.bytes).unwrap());
        let sent = sent.into_iter().find(|sent| sent.contains(&format!("Look for {id}."))).unwrap();
        let named = sent.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
        (answer, named.trim().to_owned())
    }

    async fn became(&self, answer: &str, state: &str) {
        wait::until_true(&format!("{answer} is {state}"), wait::SOON, async || {
            self.states(answer).last().is_some_and(|last| last == state)
        })
        .await;
    }

    /// What was told of an answer, in turn.
    fn states(&self, answer: &str) -> Vec<String> {
        let about = self.desk.taken().into_iter().filter(|one| one.interaction()["id"] == answer);
        about.filter_map(|one| one.interaction()["delivery"]["state"].as_str().map(str::to_owned)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_say_of_deliveries_is_no_report() {
    let scene = Scene::new().await;
    let (lost, delayed) = ("The parcel was not delivered.", "The delivery is delayed again.");
    let people = [
        ("1", "postmaster@hotel.example", "", lost),
        ("2", "\"Sysadmin Joe\" <joe@hotel.example>", "", delayed),
        ("3", "Ann <ann@customer.example>", "Return-Path: <>\r\n", "Shelf 5.1.3 is empty: it was not delivered."),
    ];
    for (number, from, more, text) in people {
        let (answer, named) = scene.answered(&format!("{number}@first.example"), from).await;
        let (id, more) = (format!("{number}@then.example"), format!("{more}In-Reply-To: {named}\r\n"));
        let told = scene.take(&id, &mail(&id, from, &more, text)).await;
        assert_eq!(told.interaction()["text"], text);
        // Who works with them is none that our mail was for.
        let (id, other) = (format!("{number}@other.example"), from.replace(".example", ".other.example"));
        scene.take(&id, &mail(&id, &other, &more, text)).await;
        assert_eq!(scene.states(&answer).last().map(String::as_str), Some("sent"), "{from}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mail_servers_give_back_shows_on_what_was_sent() {
    let scene = Scene::new().await;
    let (by_words, first) = scene.answered("1@first.example", "Ann <ann@customer.example>").await;
    let notice = "Hi. This is the qmail-send program. I wasn't able to deliver your message.\r\n\r\n\
                  <ann@customer.example>:\r\nno such user (#5.1.1)\r\n\r\n\
                  --- Below this line is a copy of the message.\r\n\r\n";
    let returned = format!("{notice}Subject: Re: The parcel\r\nMessage-ID: {first}\r\n\r\nLook.");
    hand_over(scene.port, SUPPORT, &mail("b@mx.example", "MAILER-DAEMON@mx.example", "", &returned)).unwrap();
    scene.became(&by_words, "failed").await;

    let (by_machine, second) = scene.answered("2@first.example", "Ben <ben@customer.example>").await;
    let more = format!("In-Reply-To: {second}\r\nContent-Type: multipart/report; boundary=r\r\n");
    let report = "--r\r\n\r\nNo.\r\n--r\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n\
                  Final-Recipient: rfc822; ben@customer.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--r--";
    hand_over(scene.port, SUPPORT, &mail("c@mx.example", "postmaster@customer.example", &more, report)).unwrap();
    scene.became(&by_machine, "failed").await;
    let received = scene.desk.taken().into_iter().filter(|one| one.interaction()["direction"] == "inbound").count();
    assert_eq!(received, 2, "reports are nobody's mails");
}
