//! J1, as far as its mail goes: somebody chats, mails and calls about one matter, and tells it once. Whom the site of the chat
//! vouches for is known again by the address of a mail that is proven and by the number of a call; a stranger who writes under
//! that address is not.

use data_encoding::HEXLOWER;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::http::Call;
use crate::support::mailserver::hand_over;
use crate::support::scripted_smtp::{Act, ScriptSmtp};
use crate::support::signer::Signer;
use crate::support::stub::Provider;
use crate::support::{provider, source, wait};

const POLICY: &str = r#"
policy { name = "first", version = 1, owner = "tests@example.org" }
rule("the same hands", { on = "interaction.received" }, function(e, d)
  if e.conv and e.conv.queue then
    d:queue(e.conv.queue)
    d:because("goes on with what is open")
  end
end)
rule("by words", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue(if e.ix:mentions("charged", "refund") then "billing" else "general")
end)
"#;

const SUPPORT: &str = "support@example.test";
const ANA: &str = "ana@signed.example";
const NUMBER: &str = "+491701234567";
const SECRET: &str = "what the site signs by";

/// Adds the example of a connector for the chat of one's own site, as somebody would who drops it in.
fn drop_in_site_chat(project: &Project) {
    let folder = source::root().join("examples/connectors/site-chat");
    for file in source::files(&folder) {
        let path = format!("connectors/site-chat/{}", file.strip_prefix(&folder).unwrap().display());
        project.write(&path, &std::fs::read_to_string(&file).unwrap());
    }
    project.run(&["connector", "test", "site-chat"]);
}

/// What the site posts: the words of Ana, who is logged in.
fn chat(id: &str, text: &str) -> Call {
    let user = json!({ "id": "u7", "name": "Ana", "email": ANA, "phone": NUMBER });
    let at = provider::now();
    let body = json!({ "id": id, "chat": "c1", "at": at * 1000, "text": text, "user": user }).to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{at}:{body}").as_bytes());
    Call::post("/in/chat", "application/json", body)
        .header("site-time", at.to_string())
        .header("site-signature", format!("v0={}", HEXLOWER.encode(tag.as_ref())))
}

fn mail(id: &str, to: &str, text: &str) -> Vec<u8> {
    format!(
        "Message-ID: <{id}>\r\nDate: Mon, 2 Mar 2026 16:40:00 +0000\r\nFrom: Ana <{ANA}>\r\nTo: {to}\r\n\
         Subject: still waiting\r\n\r\n{text}\r\n"
    )
    .into_bytes()
}

/// What the help desk is told of what went before: the words, and by which kind of channel.
fn recent(event: &Delivery) -> String {
    event.event["data"]["customer"]["recent"].to_string()
}

fn queue(event: &Delivery) -> &Value {
    &event.event["data"]["decision"]["queue"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_chats_mails_and_calls_and_tells_it_once() {
    let (desk, site) =
        (HelpDesk::start().await, Provider::answering(|count| json!({ "id": format!("a{count}") })).await);
    let smtp = ScriptSmtp::start(true, |_, _| Act::Go).await;
    let of_chat = format!("site = \"shop.example\"\nsecret = \"{SECRET}\"\nanswers = \"{}\"\n", site.url());
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .handed_over()
        .channel("chat", "site-chat", &of_chat)
        .answering_by("mail", SUPPORT, &smtp, &format!("reply_base = \"{SUPPORT}\"\n"))
        .voice("voice")
        .script(POLICY);
    let signer = Signer::new(&project);
    project.write_config();
    drop_in_site_chat(&project);
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let lmtp = gateway.lmtp().await;
    let heard = async |id: &str| desk.wait_until(id, |told| told.provider_id() == id).await;
    let answer = async |conversation: &str, text: &str| {
        let path = format!("/v1/conversations/{conversation}/replies");
        let told = gateway.post(&token, &path, &json!({ "text": text, "agent": "ag_7" })).await;
        assert_eq!(told.status, 201, "{}", told.text());
    };

    // The chat, answered where it was asked.
    gateway.accept(&chat("m1", "Charged twice, order 48211, card ending 4242")).await;
    let first = heard("m1").await;
    let story = first.conversation().to_owned();
    assert_eq!((queue(&first), &first.interaction()["author"]["trust"]), (&json!("billing"), &json!("asserted")));
    answer(&story, "I open a refund check, answer by tomorrow noon").await;
    let said = wait::until("the chat is answered", wait::SOON, async || site.requests().pop()).await;
    assert_eq!(said.target, "/chats/c1");
    let words: Value = serde_json::from_slice(&said.body).unwrap();
    assert_eq!(words["text"], "I open a refund check, answer by tomorrow noon");

    // The mail, which answers nothing: proven by its domain, it goes on with the one open story of whose address it is.
    hand_over(lmtp, SUPPORT, &signer.sign(&mail("1@signed.example", SUPPORT, "Any news?"))).unwrap();
    let mailed = heard("1@signed.example").await;
    assert_eq!((mailed.conversation(), queue(&mailed)), (story.as_str(), &json!("billing")));
    assert_eq!(mailed.interaction()["mail"]["level"], "authenticated");
    for known in ["order 48211", "card ending 4242", "answer by tomorrow noon", "\"chat\""] {
        assert!(recent(&mailed).contains(known), "{known}: {}", recent(&mailed));
    }
    // Somebody else in her name, with the number of her order: a story of their own, without hers.
    hand_over(lmtp, SUPPORT, &mail("2@signed.example", SUPPORT, "Refund order 48211 to my card, please.")).unwrap();
    let forged = heard("2@signed.example").await;
    assert_ne!(forged.conversation(), story);
    assert!(!forged.event.to_string().contains("card ending 4242"), "{:#}", forged.event);

    // The answer leaves by mail, and what is said to it comes back to the story by its token alone.
    answer(&story, "The refund is under way.").await;
    let sent = wait::until("the mail is answered", wait::SOON, async || smtp.taken().pop()).await;
    assert_eq!(sent.to, [ANA]);
    let text = String::from_utf8(sent.bytes).unwrap();
    let reply_to = text.lines().find_map(|line| line.strip_prefix("Reply-To: ")).expect("a reply address");
    let address = reply_to.trim().trim_matches(['<', '>']);
    hand_over(lmtp, address, &signer.sign(&mail("3@signed.example", address, "Thanks."))).unwrap();
    let thanks = heard("3@signed.example").await;
    assert_eq!((thanks.conversation(), &thanks.interaction()["mail"]["level"]), (story.as_str(), &json!("verified")));

    // The call, from a number that the network vouches for.
    let sid = format!("CA{:032}", 1);
    let vouched = [("StirVerstat", "TN-Validation-Passed-A")];
    gateway.accept(&provider::twilio_call("voice", &sid, NUMBER, "ringing", &vouched)).await;
    let call = heard(&sid).await;
    assert_eq!((call.conversation(), queue(&call)), (story.as_str(), &json!("billing")));
    for known in ["Any news?", "The refund is under way.", "Thanks."] {
        assert!(recent(&call).contains(known), "{known}: {}", recent(&call));
    }
    let done = json!({ "disposition": "refund booked" });
    let told = gateway.post(&token, &format!("/v1/conversations/{story}/resolve"), &done).await;
    assert_eq!(told.status, 200, "{}", told.text());

    // One story by three channels; the other one is nobody's.
    let shown = gateway.get(&token, &format!("/v1/conversations/{story}")).await.json();
    assert_eq!(shown["state"], "resolved", "{shown:#}");
    let timeline = gateway.get(&token, &format!("/v1/conversations/{story}/timeline")).await.json();
    for kind in ["chat", "email", "voice"] {
        assert!(timeline.to_string().contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {timeline:#}");
    }
    assert_eq!(project.number("SELECT count(*) FROM conversation"), 2);
    assert_eq!(project.number("SELECT count(*) FROM customer"), 2);
}
