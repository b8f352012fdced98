//! What several nodes on one database owe each other.

use std::time::Duration;

use super::{Options, Place, open};
use crate::base::id::SendId;
use crate::base::telemetry::Metrics;
use crate::store::lease::{BUCKETS, Hold, MEDIA, Node, SENDS, UPKEEP, helpdesk};
use crate::store::suite::{commit, everything, first_contact, run_on, sealing, server, soon, webhook};
use crate::store::{Committed, NewEntry, Opened, Store, Unwatched};

/// Long enough that nothing is renewed in a test.
const LONG: Duration = Duration::from_secs(600);

fn node(database: &str, lease: Duration) -> Opened {
    let place = Place::parse(&server(database)).unwrap();
    let options = Options { lease, ..Options::default() };
    open(&place, options, &sealing(), &Unwatched::shared(), Metrics::new()).unwrap()
}

async fn member(database: &str, lease: Duration, desks: &[&str]) -> Opened {
    let node = node(database, lease);
    let desks = desks.iter().map(|desk| helpdesk(desk));
    let named = desks.chain([SENDS, MEDIA, UPKEEP].map(str::to_owned)).collect();
    node.store.leases.join(named).await.unwrap();
    node
}

fn held(store: &Store) -> usize {
    (0..=u8::MAX).filter(|bucket| store.leases.bucket(*bucket) == Hold::Yes).count()
}

/// Lets go whatever is to be left, and waits until every store holds as many buckets as it is to.
async fn divided(stores: &[(&Store, usize)]) {
    soon(async {
        while stores.iter().any(|(store, count)| held(store) != *count) {
            for (store, _) in stores {
                store.leases.let_buckets_go(&store.leases.leaving());
                for name in [SENDS, MEDIA, &helpdesk("desk")] {
                    if store.leases.named(name) == Hold::Leaving {
                        store.leases.let_go(name);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn entry(keys: &[u8]) -> NewEntry {
    NewEntry { keys: keys.iter().map(|key| [*key; 16]).collect(), ..webhook(None, b"") }
}

async fn append(store: &Store, keys: &[u8]) -> i64 {
    store.journal.append(entry(keys)).await.unwrap().position
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_evenly_and_take_over_from_those_that_end() {
    let one = member("share", LONG, &[]).await;
    assert_eq!(held(&one.store), BUCKETS);
    assert_eq!([SENDS, MEDIA, UPKEEP].map(|name| one.store.leases.named(name)), [Hold::Yes; 3]);
    let two = member("share", LONG, &[]).await;
    divided(&[(&one.store, 128), (&two.store, 128)]).await;
    let three = member("share", LONG, &[]).await;
    divided(&[(&one.store, 86), (&two.store, 86), (&three.store, 84)]).await;
    let stores = [&one.store, &two.store, &three.store];
    for bucket in 0..=u8::MAX {
        let holders = stores.iter().filter(|store| store.leases.bucket(bucket) != Hold::No).count();
        assert_eq!(holders, 1, "bucket {bucket}");
    }
    for name in [SENDS, MEDIA, UPKEEP] {
        soon(async {
            while stores.iter().filter(|store| store.leases.named(name) == Hold::Yes).count() != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let shown = two.store.leases.nodes().await.unwrap();
    let counts = |nodes: &[Node]| nodes.iter().map(|node| node.buckets).collect::<Vec<_>>();
    assert!(shown[0].own && !shown[1].own);
    assert_eq!(counts(&shown).iter().sum::<usize>(), BUCKETS);
    // Whoever leaves is replaced at once, and not after its lease.
    drop(one);
    divided(&[(&two.store, 128), (&three.store, 128)]).await;
    drop(three);
    divided(&[(&two.store, BUCKETS)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_delivers_applies_less() {
    let one = member("weight", LONG, &["desk"]).await;
    let two = member("weight", LONG, &["desk"]).await;
    let delivers = |store: &Store| store.leases.named(&helpdesk("desk")) == Hold::Yes;
    soon(async {
        while held(&one.store).min(held(&two.store)) != 96 || held(&one.store).max(held(&two.store)) != 160 {
            for store in [&one.store, &two.store] {
                store.leases.let_buckets_go(&store.leases.leaving());
                if store.leases.named(&helpdesk("desk")) == Hold::Leaving {
                    store.leases.let_go(&helpdesk("desk"));
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(async {
        while delivers(&one.store) == delivers(&two.store) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(held(if delivers(&one.store) { &one.store } else { &two.store }), 96);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_past_its_time_writes_nothing() {
    let one = member("past", LONG, &[]).await;
    let position = append(&one.store, &[1]).await;
    run_on(server("past").expose(), "UPDATE node SET until = clock_timestamp() - interval '1 s'").await.unwrap();
    assert_eq!(commit(&one.store, first_contact(&one.store, position, 1)).await, Committed::Fenced);
    let outbox = &one.store.outbox;
    let send = SendId::from_bytes([1; 16]);
    assert!(outbox.intend(send, one.store.leases.term()).await.is_err(), "its time is over");
    // Another takes its place, and may.
    let two = member("past", LONG, &[]).await;
    divided(&[(&two.store, BUCKETS)]).await;
    assert_eq!(two.store.journal.mine(false, 9).await.unwrap(), [position]);
    assert!(matches!(commit(&two.store, first_contact(&two.store, position, 1)).await, Committed::Done(_)));
    assert_eq!(commit(&one.store, first_contact(&one.store, position, 2)).await, Committed::AlreadyApplied);
    assert_eq!(one.store.catalog.counts().await.unwrap()["customer"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_let_go_is_written_for_no_more() {
    let one = member("let_go", LONG, &[]).await;
    let two = member("let_go", LONG, &[]).await;
    soon(async {
        while one.store.leases.leaving().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let bucket = one.store.leases.leaving()[0];
    let early = append(&two.store, &[bucket]).await;
    // Until then the node finishes what it has begun.
    assert_eq!(one.store.leases.bucket(bucket), Hold::Leaving);
    assert!(matches!(commit(&one.store, first_contact(&one.store, early, 1)).await, Committed::Done(_)));
    let late = append(&two.store, &[bucket]).await;
    one.store.leases.let_buckets_go(&[bucket]);
    assert_eq!(commit(&one.store, first_contact(&one.store, late, 2)).await, Committed::Fenced);
    soon(async {
        while two.store.leases.bucket(bucket) != Hold::Yes {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(commit(&two.store, first_contact(&two.store, late, 2)).await, Committed::Done(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_place_joins_again() {
    let one = member("again", Duration::from_millis(300), &[]).await;
    let before = one.store.leases.term();
    let mut changed = one.store.leases.changed();
    run_on(server("again").expose(), "DELETE FROM node").await.unwrap();
    soon(changed.wait_for(|_| held(&one.store) == 0)).await.unwrap();
    soon(changed.wait_for(|_| held(&one.store) == BUCKETS)).await.unwrap();
    let (outbox, desk) = (&one.store.outbox, || "desk".to_owned());
    assert!(outbox.set_aside(desk(), Vec::new(), before).await.is_err(), "others may have done it meanwhile");
    outbox.set_aside(desk(), Vec::new(), one.store.leases.term()).await.unwrap();
    let position = append(&one.store, &[1]).await;
    assert!(matches!(commit(&one.store, first_contact(&one.store, position, 1)).await, Committed::Done(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_waits_for_what_is_before_it_under_any_of_its_keys() {
    let one = node("before", LONG);
    let store = &one.store;
    let first = append(store, &[1, 2]).await;
    let second = append(store, &[2, 3]).await;
    let third = append(store, &[3]).await;
    let apart = append(store, &[4]).await;
    let set = |position: i64, seed: u8| first_contact(store, position, seed);
    let waiting = store.journal.pending_at(vec![third]).await.unwrap().0.remove(0);
    let before = store.journal.before(&waiting, 9).await.unwrap();
    assert_eq!(before.iter().map(|entry| entry.position).collect::<Vec<_>>(), [second]);
    assert_eq!(commit(store, set(third, 3)).await, Committed::Early);
    assert_eq!(commit(store, set(second, 2)).await, Committed::Early);
    assert!(matches!(commit(store, set(apart, 4)).await, Committed::Done(_)));
    // In one group, each after what it waits for.
    let outcome = store.commits.commit(vec![set(second, 2), set(first, 1), set(third, 3)]).await.unwrap();
    assert!(matches!(outcome[..], [Committed::Early, Committed::Done(_), Committed::Early]), "{outcome:?}");
    let outcome = store.commits.commit(vec![set(second, 2), set(third, 3)]).await.unwrap();
    assert!(matches!(outcome[..], [Committed::Done(_), Committed::Done(_)]), "{outcome:?}");
    run_on(server("before").expose(), "SELECT 1 / (1 - (SELECT count(*) FROM pending_more))").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_go_to_whoever_holds_their_bucket() {
    let (one, two) = (member("whose", LONG, &[]).await, member("whose", LONG, &[]).await);
    divided(&[(&one.store, 128), (&two.store, 128)]).await;
    for key in 0..=u8::MAX {
        let appended = one.store.journal.append(entry(&[key])).await.unwrap();
        assert_eq!(appended.here, one.store.leases.bucket(key) == Hold::Yes, "bucket {key}");
    }
    let mine = one.store.journal.mine(false, 999).await.unwrap();
    let others = two.store.journal.mine(false, 999).await.unwrap();
    assert_eq!((mine.len(), others.len()), (128, 128));
    assert!(mine.iter().all(|position| !others.contains(position)));
    // What nothing orders stays with whoever took it.
    for store in [&one.store, &two.store] {
        for _ in 0..50 {
            assert!(store.journal.append(entry(&[])).await.unwrap().here);
        }
    }
    // Others hear of it.
    let told = two.store.journal.others();
    let caller = NewEntry {
        interactive: true,
        ..entry(&[(0..=u8::MAX).find(|key| two.store.leases.bucket(*key) == Hold::Yes).unwrap()])
    };
    let position = one.store.journal.append(caller).await.unwrap().position;
    soon(async {
        while two.store.journal.mine(true, 9).await.unwrap() != [position] {
            told.notified().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_node_that_does_not_deliver_is_left_to_the_disk() {
    // It takes no part in the deliveries to this help desk.
    let one = member("passed", LONG, &[]).await;
    let store = &one.store;
    store.outbox.subscribe(vec![everything("desk")]).await.unwrap();
    let tail = store.outbox.due_tail("desk");
    // As a reader would that has got the deliveries while a page was on its way, and has read the disk.
    tail.catch_up();
    assert!(!tail.take(9).1);
    let position = append(store, &[1]).await;
    assert!(matches!(commit(store, first_contact(store, position, 1)).await, Committed::Done(_)));
    let mut end = store.catalog.feed_end();
    soon(end.wait_for(|end| *end > 0)).await.unwrap();
    assert_eq!((tail.take(9).0.len(), tail.take(9).1), (0, true), "the reader would never see it");
}
