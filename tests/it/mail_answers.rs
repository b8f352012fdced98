//! Answers leave by mail: through a real mail server to a real mailbox, and what comes back finds its story.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::gateway::{ANSWERING_POLICY, Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::mailserver::MailServer;
use crate::support::signer::Signer;
use crate::support::stub::Provider;
use crate::support::wait;

const ADA: &str = "Ada <ada@signed.example>";
const TOLD: [&str; 3] = ["interaction.received", "interaction.sent", "delivery.updated"];

/// The gateway between a mailbox (Dovecot) and the server that takes our mails (Postfix), which hands them on to that
/// Dovecot again: everybody's mailbox is there.
struct Scene {
    desk: HelpDesk,
    dovecot: MailServer,
    _postfix: MailServer,
    signer: Signer,
    gateway: Gateway,
    token: String,
    /// Removed last.
    project: Project,
}

impl Scene {
    async fn new(policy: Option<&str>) -> Scene {
        let (desk, mut dovecot) = (HelpDesk::start().await, MailServer::dovecot());
        let postfix = MailServer::postfix(&dovecot);
        dovecot.ask("user ada ada-password");
        let options = format!(
            "begin = \"all\"\nname = \"Kettles Ltd\"\nreply_base = \"box@example.test\"\nsmtp_host = \"localhost\"\n\
             smtp_port = {}\nsmtp_login = \"none\"\n",
            postfix.port("smtps")
        );
        let project = Project::new().helpdesk("desk", &desk, &TOLD).trusting(postfix.certificate());
        let project = project.mailbox("mail", &dovecot, dovecot.port("imaps"), &options);
        let project = if let Some(policy) = policy { project.script(policy) } else { project };
        let signer = Signer::new(&project);
        project.write_config();
        let token = project.token();
        let gateway = Gateway::start(&project).await;
        Scene { desk, dovecot, _postfix: postfix, signer, gateway, token, project }
    }

    /// Hands a mail over to our mailbox, and waits for the help desk to hear of it.
    async fn take(&self, mail: &[u8], id: &str) -> Delivery {
        self.dovecot.deliver(mail);
        self.desk.wait_until(id, |one| one.provider_id() == id && one.interaction()["direction"] == "inbound").await
    }

    async fn answer(&self, to: &Delivery, message: Value) -> Value {
        let target = format!("/v1/conversations/{}/replies", to.conversation());
        let answer = self.gateway.post(&self.token, &target, &message).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// What became of an answer: its last event with that state.
    async fn became(&self, answer: &Value, state: &str) -> Value {
        let id = answer["id"].as_str().expect("an interaction").to_owned();
        let what = format!("{id} is {state}");
        let told = self.desk.wait_until(&what, |one| {
            one.interaction()["id"] == id.as_str() && one.interaction()["delivery"]["state"] == state
        });
        told.await.interaction().clone()
    }

    /// The next mail in Ada's mailbox that has these words in it.
    async fn got(&self, words: &str) -> String {
        let find = async || self.dovecot.inbox("ada").into_iter().find(|mail| mail.contains(words));
        wait::until(&format!("a mail with `{words}`"), wait::SOON, find).await
    }
}

/// A mail to us.
fn mail(id: &str, from: &str, more: &str) -> Vec<u8> {
    let to = if more.contains("To: ") { "" } else { "To: box@example.test\r\n" };
    let head = format!("Message-ID: <{id}>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: {from}\r\n{to}{more}");
    let subject = if more.contains("Subject:") { "" } else { "Subject: The broken kettle\r\n" };
    format!("{head}{subject}\r\nSee {id}.\r\n").into_bytes()
}

/// A field of a mail, unfolded.
fn field(mail: &str, name: &str) -> String {
    let head = mail.split("\n\n").next().unwrap().replace("\n\t", " ").replace("\n ", " ");
    let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_arrives_and_what_is_said_to_it_goes_on_with_the_story() {
    let scene = Scene::new(None).await;
    let about = "References: <0@signed.example>\r\nIn-Reply-To: <0@signed.example>\r\n";
    let first = scene.take(&scene.signer.sign(&mail("1@signed.example", ADA, about)), "1@signed.example").await;
    let html = json!({ "type": "html", "text": "<p>We send a <b>new</b> one.</p>" });
    let answer = scene.answer(&first, json!({ "text": "We send a new one.", "parts": [html] })).await;
    let sent = scene.became(&answer, "sent").await;

    let got = scene.got("We send a new one.").await;
    let id = field(&got, "Message-ID");
    assert_eq!(sent["channel"]["provider_id"].as_str().unwrap(), id.trim_matches(['<', '>']));
    assert_eq!(field(&got, "In-Reply-To"), "<1@signed.example>");
    assert_eq!(field(&got, "References"), "<0@signed.example> <1@signed.example>");
    assert_eq!(field(&got, "Subject"), "Re: The broken kettle");
    assert_eq!(field(&got, "To"), "<ada@signed.example>");
    assert!(field(&got, "From").contains("Kettles Ltd") && field(&got, "From").contains("<box@example.test>"), "{got}");
    assert!(field(&got, "Return-Path").starts_with("<box+"), "{got}");
    assert!(got.contains("multipart/alternative") && got.contains("<b>new</b>"), "{got}");
    assert!(!got.contains("Auto-Submitted"), "{got}");

    // To the address alone, under another subject: the token leads to the story.
    let reply_to = field(&got, "Reply-To");
    let to_token = format!("To: {reply_to}\r\nSubject: Thanks\r\n");
    let by_address =
        scene.take(&scene.signer.sign(&mail("2@signed.example", ADA, &to_token)), "2@signed.example").await;
    assert_eq!(by_address.conversation(), first.conversation());
    assert_eq!(by_address.interaction()["mail"]["level"], "verified", "{:#}", by_address.interaction());
    // By the Message-ID alone.
    let to_id = format!("In-Reply-To: {id}\r\nSubject: Thanks again\r\n");
    let by_id = scene.take(&scene.signer.sign(&mail("3@signed.example", ADA, &to_id)), "3@signed.example").await;
    assert_eq!(by_id.conversation(), first.conversation());

    // Whoever else has the token gets a story of their own, which says where the token is from.
    for (number, from) in [(4, "eve@stranger.example"), (5, ADA)] {
        let own = format!("{number}@other.example");
        let told = scene.take(&mail(&own, from, &to_token), &own).await;
        assert_ne!(told.conversation(), first.conversation(), "{from}");
        let links = told.event["data"]["conversation"]["links"].to_string();
        assert!(links.contains(first.conversation()), "{from}: {links}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_along_from_where_its_url_says() {
    let scene = Scene::new(None).await;
    let files = Provider::answering(|_| json!({ "how": "Descale it." })).await;
    let first = scene.take(&scene.signer.sign(&mail("1@signed.example", ADA, "")), "1@signed.example").await;
    let file = json!({ "type": "file", "url": format!("{}/manuals/kettle.json", files.url()) });
    let answer = scene.answer(&first, json!({ "text": "See the manual.", "parts": [file] })).await;
    scene.became(&answer, "sent").await;
    let got = scene.got("See the manual.").await;
    let encoded = BASE64.encode(json!({ "how": "Descale it." }).to_string().as_bytes());
    for part in ["multipart/mixed", "Content-Type: application/json", "kettle.json", encoded.as_str()] {
        assert!(got.contains(part), "{part}: {got}");
    }
    assert_eq!(files.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_shows_on_what_was_sent() {
    let scene = Scene::new(None).await;
    // Dovecot has no such user: Postfix takes our mail, and sends it back as a bounce.
    let gone = scene.take(&mail("1@gone.example", "gone@gone.example", ""), "1@gone.example").await;
    let answer = scene.answer(&gone, json!({ "text": "Are you still there?" })).await;
    let failed = scene.became(&answer, "failed").await;
    assert_eq!(failed["delivery"]["error"]["code"], "5.1.1", "{failed:#}");
    assert_eq!(failed["delivery"]["error"]["permanent"], true);
    // Postfix itself refuses this one.
    let no = scene.take(&mail("2@example.test", "refused@example.test", ""), "2@example.test").await;
    let answer = scene.answer(&no, json!({ "text": "And you?" })).await;
    let failed = scene.became(&answer, "failed").await;
    assert_eq!(failed["delivery"]["error"]["code"], "5.1.1");
    // The bounce is no mail of anybody's: nothing but the two mails came in.
    let inbound = scene.desk.taken().into_iter().filter(|one| one.interaction()["direction"] == "inbound");
    let ids: std::collections::BTreeSet<String> = inbound.map(|one| one.provider_id().to_owned()).collect();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["1@gone.example", "2@example.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_goes_the_whole_way_and_is_nobodys_mail() {
    let scene = Scene::new(None).await;
    let probe = async |name: &str| {
        let reach = ["channel", "--url", scene.gateway.base(), "--token", &scene.token, "probe", name, "--json"];
        let (project, reach) = (&scene.project, reach.map(str::to_owned));
        tokio::task::block_in_place(|| project.try_run(&reach.each_ref().map(String::as_str)))
    };
    let (code, said) = probe("mail").await;
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(0));
    assert!(told["took_ms"].is_u64() && told["message_id"].as_str().unwrap().ends_with("@example.test"), "{told}");
    assert_eq!(probe("other").await.0, Some(66));
    // What comes after it is the first that anybody hears of.
    scene.take(&mail("1@signed.example", ADA, ""), "1@signed.example").await;
    assert_eq!(scene.desk.taken().len(), 1);
    assert_eq!(scene.project.number("SELECT count(*) FROM quarantine"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_answers_who_is_proven_and_once_a_day() {
    let scene = Scene::new(Some(ANSWERING_POLICY)).await;
    let signed = |id: &str, more: &str| scene.signer.sign(&mail(id, ADA, more));
    // Forged, and from a machine: neither is answered.
    scene.take(&mail("1@signed.example", ADA, ""), "1@signed.example").await;
    let robot = scene
        .take(
            &signed("2@signed.example", "Auto-Submitted: auto-replied\r\nReturn-Path: <ada@signed.example>\r\n"),
            "2@signed.example",
        )
        .await;
    assert!(robot.interaction()["mail"]["no_auto_answer"].as_str().unwrap().contains("Auto-Submitted"));
    for number in 3..6 {
        let id = format!("{number}@signed.example");
        scene.take(&signed(&id, ""), &id).await;
    }
    let got = scene.got("We have your mail.").await;
    assert_eq!(field(&got, "In-Reply-To"), "<3@signed.example>", "the first that is proven and no machine's");
    assert_eq!(field(&got, "Subject"), "Your message to box@example.test");
    assert_eq!(field(&got, "Auto-Submitted"), "auto-replied");
    assert_eq!(field(&got, "X-Segue-Loop"), "segue;1");
    assert_eq!(field(&got, "Return-Path"), "<>");
    // An agent's answer goes after it, so what a machine sent has arrived by then.
    let last = scene.take(&signed("6@signed.example", ""), "6@signed.example").await;
    scene.answer(&last, json!({ "text": "The last word." })).await;
    scene.got("The last word.").await;
    let answers = scene.dovecot.inbox("ada").into_iter().filter(|mail| mail.contains("We have your mail.")).count();
    assert_eq!(answers, 1);
}
