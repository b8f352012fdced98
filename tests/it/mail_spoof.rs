//! Mails that pretend to be somebody else's, each way against each victim and among good mails: none joins a story that
//! is not its sender's, none is believed more than it proves, and nobody learns a word of another's story. The good mails
//! are believed as ever.

mod letters;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use self::letters::{Letter, Signs, Victim, good, ways};
use crate::mail_trust::{customer, level, links};
use crate::support::answering::{Answering, SUPPORT};
use crate::support::helpdesk::Delivery;
use crate::support::mailserver::hand_over;
use crate::support::scripted_smtp::Taken;
use crate::support::signer::Signer;
use crate::support::{Random, seed, size, wait};

/// A mail on its way, and what is known of it.
struct Sent {
    id: String,
    /// How it pretends; none of a good one.
    pretends: Option<&'static str>,
    level: &'static str,
    /// The number of the victim, or of the honest customer.
    of: usize,
    letter: Letter,
    raw: Vec<u8>,
}

/// Every way against each victim, and their own good mails, in an order of its own each time.
fn all(victims: &[Victim]) -> Vec<Sent> {
    let mut all = Vec::new();
    for (number, of) in victims.iter().enumerate() {
        let other = &victims[(number + 1) % victims.len()];
        let pretended = ways(of, other).into_iter().map(|(how, level, letter)| (Some(how), level, letter));
        let own = good(of).map(|(level, letter)| (None, level, letter));
        for (pretends, level, letter) in pretended.chain(own) {
            let id = format!("m{}@mails.example", all.len());
            let raw = letter.raw(&id, number);
            all.push(Sent { id, pretends, level, of: number, letter, raw });
        }
    }
    Random(seed()).shuffle(&mut all);
    all
}

fn sign(mails: &mut [Sent], victims: &[Victim], signers: [(Signs, &Signer); 2]) {
    for (signs, signer) in signers {
        let mut own: Vec<&mut Sent> = mails.iter_mut().filter(|mail| mail.letter.signs == signs).collect();
        let signed = signer.sign_all(own.iter().map(|mail| mail.raw.as_slice()));
        own.iter_mut().zip(signed).for_each(|(mail, signed)| mail.raw = signed);
    }
    for mail in mails {
        mail.raw = (mail.letter.then)(std::mem::take(&mut mail.raw), &victims[mail.of]);
    }
}

/// What only a victim may read.
fn secret(number: usize) -> String {
    format!("canary-{number}-words")
}

/// A customer who wrote, and whom an agent answered.
async fn acquainted(scene: &Answering, number: usize) -> Victim {
    let (address, id) = (format!("ada{number}i@signed.example"), Victim::first(number));
    let letter = Letter::new(address.as_str(), Signs::Theirs)
        .with(format!("Subject: Kettle {number}\r\n"))
        .saying(format!("It says {}.", secret(number)));
    let first = scene.take(&id, &scene.signer.sign(&letter.raw(&id, number))).await;
    assert_eq!(level(&first), ("authenticated", "verified"));
    let words = format!("Descale it, as {} wants.", secret(number));
    answer(scene, &first, &words).await;
    let find = async || scene.server.taken().into_iter().find(|mail| text(mail).contains(&words));
    let sent = text(&wait::until("what an agent says", wait::SOON, find).await);
    let field = |name: &str| sent.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    Victim {
        number,
        address,
        customer: customer(&first).to_owned(),
        story: first.conversation().to_owned(),
        answered: field("Message-ID:"),
        reply_to: field("Reply-To:").trim_matches(['<', '>']).to_owned(),
    }
}

/// Has an agent say something in the story of a mail; whether there is anybody to say it to.
async fn answer(scene: &Answering, to: &Delivery, words: &str) -> bool {
    let path = format!("/v1/conversations/{}/replies", to.conversation());
    let said = scene.gateway.post(&scene.token, &path, &json!({ "text": words })).await;
    assert!(said.status == 201 || said.status == 409 || said.status == 422, "{}: {}", said.status, said.text());
    said.status == 201
}

fn text(mail: &Taken) -> String {
    String::from_utf8_lossy(&mail.bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_that_pretend_join_nothing_and_learn_nothing() {
    let options = format!("authserv_ids = [\"mx.example.test\"]\nreply_base = \"{SUPPORT}\"\n");
    let scene = Answering::start(&options).await;
    let another = Signer::of("another.example", &[&scene.project]);
    let mut victims = Vec::new();
    for number in 0..size(2, 11) {
        victims.push(acquainted(&scene, number).await);
    }
    let mut mails = all(&victims);
    sign(&mut mails, &victims, [(Signs::Theirs, &scene.signer), (Signs::Another, &another)]);
    for mail in &mails {
        hand_over(scene.lmtp, SUPPORT, &mail.raw).unwrap();
    }
    let heard = async || {
        let came = inbound(&scene);
        mails.iter().all(|mail| came.contains_key(&mail.id)).then_some(came)
    };
    let came = wait::until("every mail is heard of", wait::SOON, heard).await;
    // An agent answers in every story, also in those that were opened by a lie.
    let stories: BTreeMap<&str, &Delivery> = came.values().map(|one| (one.conversation(), one)).collect();
    let mut answered = 0;
    for (story, one) in &stories {
        answered += usize::from(answer(&scene, one, &format!("An agent's words in {story}.")).await);
    }
    scene.gateway.delivered(&scene.project).await;

    let mut wrong = Vec::new();
    for mail in &mails {
        wrong.extend(faults(mail, &came[&mail.id], &victims));
    }
    let pretended = mails.iter().filter(|mail| mail.pretends.is_some()).count();
    let (good, sent) = (mails.len() - pretended, scene.server.taken());
    println!("{pretended} mails that pretend and {good} good ones: {} stories, {answered} answered", stories.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for victim in &victims {
        let words = secret(victim.number);
        let readers: BTreeSet<&String> =
            sent.iter().filter(|mail| text(mail).contains(&words)).flat_map(|mail| &mail.to).collect();
        assert_eq!(readers, BTreeSet::from([&victim.address]), "who was told {words}");
    }
    let believed: BTreeSet<&str> =
        mails.iter().filter(|mail| mail.level != "failed").map(|mail| mail.id.as_str()).collect();
    for automatic in sent.iter().map(text).filter(|mail| mail.contains("Auto-Submitted: auto-replied")) {
        let about = automatic
            .lines()
            .find_map(|line| line.strip_prefix("In-Reply-To: <"))
            .unwrap()
            .trim_end_matches(['>', '\r']);
        assert!(believed.contains(about) || about.starts_with("first"), "a machine answered {about}");
    }
}

/// The mails that came in, by their Message-IDs, as the help desk heard of them.
fn inbound(scene: &Answering) -> BTreeMap<String, Delivery> {
    let taken = scene.desk.taken().into_iter().filter(|one| one.interaction()["direction"] == "inbound");
    taken.map(|one| (one.provider_id().to_owned(), one)).collect()
}

/// What is wrong with where a mail went.
fn faults(mail: &Sent, told: &Delivery, victims: &[Victim]) -> Vec<String> {
    let of = &victims[mail.of];
    let how = format!("{} {} of victim {}", mail.id, mail.pretends.unwrap_or("a good mail"), mail.of);
    let mut faults = Vec::new();
    let (found, joined) = (level(told).0.to_owned(), told.conversation() == of.story);
    if found != mail.level {
        faults.push(format!("{how}: its sender is {found}"));
    }
    if joined != mail.pretends.is_none() {
        faults.push(format!("{how}: joined the story: {joined}"));
    }
    let Some(pretends) = mail.pretends else { return faults };
    if customer(told) == of.customer {
        faults.push(format!("{how}: is taken for the customer"));
    }
    let author = told.interaction()["author"]["identifier"]["value"].as_str().unwrap_or_default();
    if author == of.address && mail.level != "failed" {
        faults.push(format!("{how}: has the address of the victim"));
    }
    if told.event.to_string().contains(&secret(mail.of)) {
        faults.push(format!("{how}: the event tells what the victim said"));
    }
    let names =
        mail.letter.fields.contains(&of.answered) || mail.letter.to.contains('+') || pretends.contains("number");
    if names && !links(told).iter().any(|(_, story)| *story == of.story) {
        faults.push(format!("{how}: no agent is shown the story that it names"));
    }
    faults
}
