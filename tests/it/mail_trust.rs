//! Who sent a mail decides what it may do: a proven sender goes on with a story, nobody else does.

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::mailserver::MailServer;
use crate::support::signer::Signer;

/// A mail with further fields.
fn mail(id: &str, from: &str, more: &str) -> Vec<u8> {
    let head = format!("Message-ID: <{id}>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: {from}\r\n{more}");
    format!("{head}To: box@example.test\r\nSubject: The broken kettle\r\n\r\nSee {id}.\r\n").into_bytes()
}

/// How far the sender of a mail is known, and the trust of its author.
pub(crate) fn level(delivery: &Delivery) -> (&str, &str) {
    let interaction = delivery.interaction();
    (interaction["mail"]["level"].as_str().unwrap(), interaction["author"]["trust"].as_str().unwrap())
}

/// The stories that the story of a delivery says it is linked to, and how.
pub(crate) fn links(delivery: &Delivery) -> Vec<(String, String)> {
    let links = delivery.event["data"]["conversation"]["links"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    links.iter().map(|link| (text(&link["kind"]), text(&link["conversation_id"]))).collect()
}

pub(crate) fn customer(delivery: &Delivery) -> &str {
    delivery.event["data"]["customer"]["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proven_sender_goes_on_with_a_story_and_nobody_else_does() {
    let (desk, server) = (HelpDesk::start().await, MailServer::dovecot());
    let options = "begin = \"all\"\nauthserv_ids = [\"mx.example.test\"]\n";
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).mailbox(
        "mail",
        &server,
        server.port("imaps"),
        options,
    );
    let signer = Signer::new(&project);
    let _gateway = Gateway::start(&project).await;
    let take = async |mail: &[u8], id: &str| {
        server.deliver(mail);
        desk.wait_until(id, |delivery| delivery.provider_id() == id).await
    };
    let ada = "Ada <ada@signed.example>";
    let first = take(&signer.sign(&mail("1@signed.example", ada, "")), "1@signed.example").await;
    assert_eq!(level(&first), ("authenticated", "verified"), "{:#}", first.interaction());

    let about_first = "In-Reply-To: <1@signed.example>\r\nReferences: <1@signed.example>\r\n";
    let second = take(&signer.sign(&mail("2@signed.example", ada, about_first)), "2@signed.example").await;
    assert_eq!((second.conversation(), customer(&second)), (first.conversation(), customer(&first)));

    // Forged: the domain asks for such mail to be refused.
    let forged = take(&mail("3@signed.example", ada, about_first), "3@signed.example").await;
    assert_eq!(level(&forged), ("failed", "anonymous"));
    assert_ne!((forged.conversation(), customer(&forged)), (first.conversation(), customer(&first)));
    assert_eq!(links(&forged), [("mentioned".to_owned(), first.conversation().to_owned())]);

    // Changed after it was signed.
    let mut changed = signer.sign(&mail("4@signed.example", ada, about_first));
    let place = changed.windows(4).rposition(|piece| piece == b"See ").unwrap();
    changed[place] = b's';
    let changed = take(&changed, "4@signed.example").await;
    assert_eq!(level(&changed).0, "failed");
    assert_ne!(changed.conversation(), first.conversation());

    // A stranger who knows the reference, at a domain that says nothing, also under the name of another.
    let stranger = "\"Ada ada@signed.example\" <eve@stranger.example>";
    let told = take(&mail("5@stranger.example", stranger, about_first), "5@stranger.example").await;
    assert_eq!(level(&told), ("unknown", "observed"));
    assert_ne!(told.conversation(), first.conversation());
    assert_eq!(links(&told), [("mentioned".to_owned(), first.conversation().to_owned())]);
    // Their next mail is of the same customer, and of no story of anybody's.
    let more = take(&mail("6@stranger.example", stranger, ""), "6@stranger.example").await;
    assert_eq!(customer(&more), customer(&told));
    assert_ne!(more.conversation(), told.conversation());

    // What our own mail server says counts where only it can have written it.
    let results = "Authentication-Results: mx.example.test; dmarc=pass header.from=told.example\r\n";
    let received = "Received: from a by mx.example.test with ESMTPS; Mon, 2 Mar 2026 09:58:00 +0000\r\n";
    let bob = "bob@told.example";
    let below = [received.as_bytes(), results.as_bytes(), &mail("7@told.example", bob, "")].concat();
    let above = [results.as_bytes(), received.as_bytes(), &mail("8@told.example", bob, "")].concat();
    assert_eq!(level(&take(&below, "7@told.example").await).0, "unknown");
    assert_eq!(level(&take(&above, "8@told.example").await).0, "authenticated");

    // Two senders are none.
    let two = format!("{ada}, Mallory <mallory@stranger.example>");
    let two = take(&signer.sign(&mail("9@signed.example", &two, about_first)), "9@signed.example").await;
    assert_eq!(level(&two), ("failed", "anonymous"));
    assert!(two.interaction()["author"]["identifier"].is_null());

    // The story of the first is as its customer left it.
    let last = take(&signer.sign(&mail("10@signed.example", ada, "")), "10@signed.example").await;
    assert_eq!((last.conversation(), customer(&last)), (first.conversation(), customer(&first)));
    assert!(links(&last).is_empty(), "{:?}", links(&last));
}

/// Of a server that removes forged fields its word counts below its own `Received` as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_below_its_own_received_counts_where_it_removes_forged_fields() {
    let (desk, server) = (HelpDesk::start().await, MailServer::dovecot());
    let options = "begin = \"all\"\nauthserv_ids = [\"mx.example.test\"]\nauthserv_removes_forged = true\n";
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).mailbox(
        "mail",
        &server,
        server.port("imaps"),
        options,
    );
    let _signer = Signer::new(&project);
    let _gateway = Gateway::start(&project).await;
    let received = |by: &str| format!("Received: from a by {by} with ESMTPS; Mon, 2 Mar 2026 09:58:00 +0000\r\n");
    let said =
        |result: &str| format!("Authentication-Results: mx.example.test; dmarc={result} header.from=told.example\r\n");
    for (id, results, wanted) in [
        ("1@told.example", [said("pass"), String::new()], "authenticated"),
        ("2@told.example", [said("none"), said("pass")], "unknown"),
    ] {
        let [own, forged] = results;
        let head = [received("mx.example.test"), own, received("relay.told.example"), forged].concat();
        server.deliver(&[head.as_bytes(), &mail(id, "bob@told.example", "")].concat());
        let came = desk.wait_until(id, |delivery| delivery.provider_id() == id).await;
        assert_eq!(level(&came).0, wanted, "{id}");
    }
}
