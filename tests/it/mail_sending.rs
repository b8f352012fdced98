//! Where nothing gets out, by mail or by a provider, the operator hears why, and of nothing that a customer or a server said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::hand_over;
use crate::support::scripted_smtp::{Act, ScriptSmtp, Step};
use crate::support::{provider, wait};

const SUPPORT: &str = "support@example.test";

fn mail(number: usize) -> Vec<u8> {
    let head = format!("Message-ID: <m{number}@customer.example>\r\nFrom: Ada <ada{number}@customer.example>\r\n");
    format!("{head}To: {SUPPORT}\r\nSubject: Question {number}\r\n\r\nSee m{number}.\r\n").into_bytes()
}

async fn sending(gateway: &Gateway, token: &str) -> Value {
    let status = gateway.get(token, "/v1/status").await.json();
    status["channels"][0]["sending"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_shows_in_the_status_until_a_mail_gets_out() {
    let (desk, closed) = (HelpDesk::start().await, Arc::new(AtomicBool::new(true)));
    let refuses = closed.clone();
    let server = ScriptSmtp::start(true, move |step, _| match step {
        Step::Auth if refuses.load(Ordering::Relaxed) => Act::Say("535 5.7.8 ada1@customer.example: zebra".to_owned()),
        _ => Act::Go,
    })
    .await;
    let options = format!(
        "address = \"{SUPPORT}\"\nsmtp_host = \"localhost\"\nsmtp_port = {}\nsmtp_user = \"shop\"\n\
         smtp_password = \"canary-pass-4711\"\n",
        server.address.port()
    );
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .handed_over()
        .trusting_pem(&server.certificate)
        .channel("mail", "email", &options);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    assert_eq!(sending(&gateway, &token).await, json!({ "state": "ok" }));
    let port = gateway.lmtp().await;
    for number in 1..=3 {
        hand_over(port, SUPPORT, &mail(number)).unwrap();
    }
    let asked = desk.wait_for(3).await;
    let answer = async |number: usize| {
        let target = format!("/v1/conversations/{}/replies", asked[number].conversation());
        let answer = gateway.post(&token, &target, &json!({ "text": "We send a new one." })).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    answer(0).await;
    answer(1).await;
    let told = wait::until("two tries were put off", wait::SOON, async || {
        Some(sending(&gateway, &token).await).filter(|told| told["put_off"] == 2)
    })
    .await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("held_up"), &json!("AUTH: the server answered 535 5.7.8")));
    assert!(told["help"].as_str().unwrap().contains("password") && told["since"].is_string(), "{told}");
    // Somebody mends the account: what is sent next gets out.
    closed.store(false, Ordering::Relaxed);
    answer(2).await;
    wait::until_true("the status says so", wait::SOON, async || {
        sending(&gateway, &token).await == json!({ "state": "ok" })
    })
    .await;
    assert_eq!(server.taken().len(), 1);
    let log = gateway.log();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((lines("sends do not come through"), lines("sends come through again")), (1, 1), "{log}");
    assert!(!log.contains("zebra") && !log.contains("canary") && !log.contains("customer.example"), "{log}");
}

/// A server that lets in whoever comes, and then takes nothing from us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_mail_of_ours_shows_in_the_status() {
    let (desk, says) = (HelpDesk::start().await, Arc::new(Mutex::new("")));
    let said = says.clone();
    let server = ScriptSmtp::start(true, move |step, _| match (step, *said.lock().unwrap()) {
        (Step::Mail, text) if !text.is_empty() => Act::Say(format!("{text} ada1@customer.example: zebra")),
        _ => Act::Go,
    })
    .await;
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).handed_over().answering_by(
        "mail",
        SUPPORT,
        &server,
        "smtp_login = \"none\"\n",
    );
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let port = gateway.lmtp().await;
    for number in 1..=4 {
        hand_over(port, SUPPORT, &mail(number)).unwrap();
    }
    let asked = desk.wait_for(4).await;
    let troubles = [("530 5.7.0", "`smtp_user`"), ("550 5.4.5", "quota")];
    for (asked, (code, help)) in asked.chunks(2).zip(troubles) {
        for (asked, says_now) in asked.iter().zip([code, ""]) {
            *says.lock().unwrap() = says_now;
            let target = format!("/v1/conversations/{}/replies", asked.conversation());
            let answer = gateway.post(&token, &target, &json!({ "text": "We send a new one." })).await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            let state = if says_now.is_empty() { "ok" } else { "held_up" };
            let told = wait::until(state, wait::SOON, async || {
                Some(sending(&gateway, &token).await).filter(|told| told["state"] == state)
            })
            .await;
            if !says_now.is_empty() {
                assert_eq!(told["reason"], format!("MAIL: the server answered {code}"));
                assert!(told["help"].as_str().unwrap().contains(help), "{told}");
            }
        }
    }
    let log = gateway.log();
    assert!(!log.contains("zebra") && !log.contains("customer.example"), "{log}");
}

/// Nobody listens where the provider's API should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_not_reached_shows_in_the_status() {
    let desk = HelpDesk::start().await;
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).whatsapp("whatsapp", "http://127.0.0.1:9");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    gateway.accept(&provider::whatsapp_text("whatsapp", "15550001000", "wamid.1", "Hello")).await;
    let asked = desk.wait_for(1).await;
    let target = format!("/v1/conversations/{}/replies", asked[0].conversation());
    let answer = gateway.post(&token, &target, &json!({ "text": "Hello yourself" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let told = wait::until("sending is held up", wait::SOON, async || {
        Some(sending(&gateway, &token).await).filter(|told| told["state"] == "held_up")
    })
    .await;
    assert_eq!(told["reason"], "host `127.0.0.1`: no connection came about");
    assert!(gateway.log().contains("sends do not come through") && !gateway.log().contains("15550001000"));
}
