//! A start on a large journal: ready in seconds, with no more memory than with a small one, whatever lies in it.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::gateway::{Gateway, Project, Start};
use crate::support::helpdesk::HelpDesk;
use crate::support::oracle;
use crate::support::traffic::Traffic;
use crate::support::{Random, history, provider, seed, size, wait};

/// How soon the gateway is ready, however much it has seen.
const READY: Duration = Duration::from_secs(5);
/// How much memory it may have in use, in KiB.
const MEMORY: u64 = 150 << 10;

/// Starts and checks what that took. Gives the gateway.
async fn start(project: &Project) -> Gateway {
    let began = Instant::now();
    let gateway = Gateway::join(project, &Start::default()).await.unwrap();
    let (took, memory) = (began.elapsed(), gateway.memory());
    println!("{memory} KiB in use");
    wait::promised("ready", took, READY);
    assert!(memory <= MEMORY, "{memory} KiB are in use");
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_journal_makes_no_start_slow_and_none_large() {
    let (seed, entries) = (seed(), size(50_000, 1_000_000));
    let desk = HelpDesk::start().await;
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).whatsapp("whatsapp", "http://127.0.0.1:9");
    let gateway = Gateway::start(&project).await;
    for number in 0..50 {
        let (from, id) = (format!("1555000{number:04}"), format!("wamid.{number}"));
        gateway.accept(&provider::whatsapp_text("whatsapp", &from, &id, "my order has not arrived yet")).await;
    }
    oracle::all_to_end(&project).await;
    assert_eq!(gateway.stop().await, Some(0));
    let filled = Instant::now();
    tokio::task::block_in_place(|| history::multiply(project.database(), entries));
    println!("filled in {:?}", filled.elapsed());
    let journal = project.number("SELECT count(*) FROM entry");
    assert!(journal >= entries as i64, "the journal has {journal} entries");

    // After an orderly end, and after a kill in the middle of work.
    let mut gateway = start(&project).await;
    let (traffic, mut customers) = Traffic::start(6, usize::MAX, &mut Random(seed));
    traffic.open(vec![gateway.base().to_owned()]);
    let heard = async |more: usize| {
        let due = traffic.ledger().count() + more;
        wait::until_true("customers are heard", wait::SOON, async || traffic.ledger().count() >= due).await;
    };
    heard(300).await;
    gateway.kill();
    let gateway = start(&project).await;
    traffic.open(vec![gateway.base().to_owned()]);
    heard(300).await;
    traffic.end();
    while let Some(ended) = customers.join_next().await {
        ended.unwrap();
    }
    oracle::all_to_end(&project).await;
    let memory = gateway.memory();
    assert!(memory <= MEMORY, "after {} messages {memory} KiB are in use", traffic.ledger().count());
    // Who wrote before all that is still the same.
    let before = project.number("SELECT count(*) FROM customer");
    gateway.accept(&provider::whatsapp_text("whatsapp", "15550000007", "wamid.again", "still nothing")).await;
    oracle::all_to_end(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM customer"), before);
    assert_eq!(gateway.stop().await, Some(0));
}
