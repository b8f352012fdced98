//! What PostgreSQL alone must withstand: other nodes, lost connections, servers that cannot be trusted.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::NoTls;

use super::{Options, Place, open};
use crate::base::telemetry::Metrics;
use crate::base::{Kind, Secret, Timestamp};
use crate::store::suite::{
    Open, commit, everything, first_contact, on_postgres, run_on, sealing, second, server, soon, start_server, webhook,
};
use crate::store::{
    Assert, Changeset, Committed, Cutoffs, MessageKey, MessageState, MessageStateWrite, Store, ThreadKey, Unwatched,
};

/// A connection of somebody else, for looking and for harm.
async fn client(database: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(server(database).expose(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Appends an entry and makes somebody's first contact of it.
async fn contact(store: &Store, seed: u8) -> Committed {
    let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
    commit(store, first_contact(store, position, seed)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_decides() {
    let (one, two) = (on_postgres("two_nodes"), on_postgres("two_nodes"));
    assert!(matches!(contact(&one.store, 1).await, Committed::Done(_)));
    // Both have read the same; only one may write.
    for version in 1..20 {
        let mut sets = Vec::new();
        for store in [&one.store, &two.store] {
            let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
            sets.push(second(store, position, 2 * version as u8, version).await);
        }
        let [mut first, mut other]: [_; 2] = sets.try_into().unwrap_or_else(|_| unreachable!());
        // What they write differs, so that only the asserts can stop the later one.
        for (set, seed) in [(&mut first, 2 * version as u8), (&mut other, 2 * version as u8 + 1)] {
            let own = [seed; 16];
            set.interactions[0].id = crate::base::id::InteractionId::from_bytes(own);
            set.interactions[0].item = None;
            set.asserts.retain(|assert| !matches!(assert, crate::store::Assert::ItemFree(_)));
            set.events[0].id = crate::base::id::EventId::from_bytes(own);
        }
        let (first, other) = tokio::join!(commit(&one.store, first), commit(&two.store, other));
        let done = [first, other].iter().filter(|outcome| matches!(outcome, Committed::Done(_))).count();
        assert_eq!((done, [first, other].contains(&Committed::Conflict)), (1, true), "{first:?} {other:?}");
    }
    // The same entry is applied once, whoever tries.
    let position = one.store.journal.append(webhook(None, b"")).await.unwrap().position;
    let (first, other) = tokio::join!(
        commit(&one.store, first_contact(&one.store, position, 200)),
        commit(&two.store, first_contact(&two.store, position, 201))
    );
    assert!([first, other].contains(&Committed::AlreadyApplied), "{first:?} {other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_nodes_meet_at_once_is_a_conflict_of_one() {
    let (one, two) = (on_postgres("same_key"), on_postgres("same_key"));
    for seed in 1..60 {
        let (first, other) = tokio::join!(contact(&one.store, seed), contact(&two.store, seed));
        let done = [first, other].iter().filter(|outcome| matches!(outcome, Committed::Done(_))).count();
        assert_eq!((done, [first, other].contains(&Committed::Conflict)), (1, true), "{first:?} {other:?}");
    }
    let counts = one.store.catalog.counts().await.unwrap();
    assert_eq!((counts["customer"], counts["event"], counts["pending"]), (59, 59, 59));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knew_one_of_two_nodes_makes_known() {
    let (one, two) = (on_postgres("unknown"), on_postgres("unknown"));
    for seed in 1..60_u8 {
        let mut sets = Vec::new();
        for (store, value) in [(&one.store, 1), (&two.store, 2)] {
            let position = store.journal.append(webhook(None, b"")).await.unwrap().position;
            let mut set = Changeset { position, bundle: "b1".to_owned(), ..Changeset::default() };
            if seed % 2 == 0 {
                let (key, state) =
                    (MessageKey([seed; 16]), MessageState { counted: vec![value], ..Default::default() });
                set.asserts.push(Assert::Message(key, None));
                set.messages.push(MessageStateWrite { key, state });
            } else {
                set.asserts.push(Assert::Thread(ThreadKey([seed; 16]), None));
                set.threads.push((ThreadKey([seed; 16]), value as i64));
            }
            sets.push(set);
        }
        let (other, first) = (sets.pop().unwrap(), sets.pop().unwrap());
        let (first, other) = tokio::join!(commit(&one.store, first), commit(&two.store, other));
        let done = [first, other].iter().filter(|outcome| matches!(outcome, Committed::Done(_))).count();
        assert_eq!((done, [first, other].contains(&Committed::Conflict)), (1, true), "{first:?} {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_help_desk_that_another_node_knows_is_kept_until_nobody_uses_it() {
    let (one, two) = (on_postgres("desks"), on_postgres("desks"));
    one.store.outbox.subscribe(vec![everything("first"), everything("second")]).await.unwrap();
    two.store.outbox.subscribe(vec![everything("second")]).await.unwrap();
    let other = client("desks").await;
    let known = "SELECT count(*) FROM settled";
    assert_eq!(number(&other, known).await, 2);
    let epoch = Timestamp::from_millis(0);
    let cutoffs = Cutoffs { raw: epoch, covered: i64::MAX, dedupe: epoch, events: epoch };
    two.store.retention.prune(cutoffs, 9).await.unwrap();
    assert_eq!(number(&other, known).await, 2);
    other.batch_execute("UPDATE settled SET used_at = now() - interval '31 days'").await.unwrap();
    two.store.retention.prune(cutoffs, 9).await.unwrap();
    assert_eq!(number(&other, "SELECT count(*) FROM settled WHERE helpdesk = 'second'").await, 1);
    assert_eq!(number(&other, known).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_at_rest_is_read_to_its_end_whoever_else_is_at_work() {
    let open = on_postgres("at_rest");
    let store = &open.store;
    assert!(matches!(contact(store, 1).await, Committed::Done(_)));
    let other = client("postgres").await;
    other.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    assert!(matches!(contact(store, 2).await, Committed::Done(_)));
    assert!(store.catalog.feed(0, 9).await.unwrap().len() < 2, "who delivers waits for every transaction");
    assert_eq!(store.catalog.all_events(0, 9).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_feed_passes_nothing_that_comes_later() {
    let nodes = [on_postgres("feed"), on_postgres("feed")];
    let reading = on_postgres("feed");
    reading.store.outbox.subscribe(vec![everything("desk")]).await.unwrap();
    let tail = reading.store.outbox.due_tail("desk");
    tail.catch_up();
    // A transaction that is slow to commit holds the numbers up, never is passed.
    let slow = client("feed").await;
    let writers = nodes.iter().enumerate().map(|(node, open)| {
        let store = open.store.clone();
        tokio::spawn(async move {
            for seed in 0..100 {
                assert!(matches!(contact(&store, node as u8 * 100 + seed + 1).await, Committed::Done(_)));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let disturbing = tokio::spawn(async move {
        for _ in 0..20 {
            slow.batch_execute("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.01); COMMIT").await.unwrap();
        }
    });
    let (mut last, mut seen) = (0, BTreeSet::new());
    soon(async {
        while seen.len() < 200 {
            for event in reading.store.catalog.feed(last, 7).await.unwrap() {
                assert!(event.no > last && seen.insert(event.no));
                last = event.no;
            }
        }
    })
    .await;
    for task in writers {
        task.await.unwrap();
    }
    disturbing.await.unwrap();
    // The tail, which other nodes only tell of, has them all and in order, too.
    let mut told = Vec::new();
    soon(async {
        while told.len() < 200 {
            let (events, behind) = tail.take(50);
            assert!(!behind);
            told.extend(events.into_iter().map(|event| event.no));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(told, seen.into_iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_cost_nothing_but_time() {
    let Open { store, _guard } = on_postgres("lost");
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..4_u8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for step in 0..40 {
                    let seed = task * 40 + step + 1;
                    let appended = store.journal.append(webhook(Some(seed), b"x")).await.unwrap();
                    assert!(!appended.repeat, "what this caller appended is told as somebody else's");
                    // Reads and numbers fail for a moment; a commit waits.
                    let outcome = commit(&store, first_contact(&store, appended.position, seed)).await;
                    assert!(matches!(outcome, Committed::Done(_) | Committed::AlreadyApplied), "{outcome:?}");
                }
            })
        })
        .collect();
    let harm = client("lost").await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = 'lost' AND application_name = 'segue'";
    // Ever more rarely: on a busy machine nothing is done between two losses that follow fast.
    let mut pause = 20;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        number(&harm, end).await;
        number(&harm, &format!("SELECT 1::int8 FROM pg_sleep(0.001 * {pause})")).await;
        pause += 2;
    }
    for task in tasks {
        task.await.unwrap();
    }
    for table in ["entry", "applied", "customer", "interaction", "event"] {
        assert_eq!(number(&harm, &format!("SELECT count(*) FROM {table}")).await, 160, "{table}");
    }
    assert_eq!(number(&harm, "SELECT count(*) FROM pending").await, 0);
    // The feed goes on by itself.
    let mut end = store.catalog.feed_end();
    let last = number(&harm, "SELECT max(no) FROM event").await;
    soon(end.wait_for(|end| *end == last)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_its_own_when_it_is_tried_again() {
    let Open { store, _guard } = on_postgres("own");
    let entry =
        || crate::store::NewEntry { id: crate::base::id::EntryId::from_bytes([7; 16]), ..webhook(Some(7), b"x") };
    let first = store.journal.append(entry()).await.unwrap();
    assert_eq!(store.journal.append(entry()).await.unwrap(), first);
    assert!(!first.repeat);
    assert!(store.journal.append(webhook(Some(7), b"x")).await.unwrap().repeat);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_with_nul_is_stored() {
    let Open { store, _guard } = on_postgres("nul");
    let position = store.journal.append(webhook(None, b"\0\xff")).await.unwrap().position;
    let mut set = first_contact(&store, position, 1);
    set.quarantined.push("odd\0reason".to_owned());
    set.conversations[0].row.owner = Some("a\0b".to_owned());
    assert!(matches!(commit(&store, set).await, Committed::Done(_)));
    assert_eq!(store.catalog.quarantine(i64::MAX, 9).await.unwrap()[0].reason, "odd\0reason");
}

fn refused(url: &str) -> String {
    let place = Place::parse(&Secret::new(url)).unwrap();
    let error = open(&place, Options::default(), &sealing(), &Unwatched::shared(), Metrics::new())
        .err()
        .expect("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{}", error.full());
    error.full()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_data_is_refused() {
    let url = server("careless");
    let said = refused(&format!("{}?options=-c%20synchronous_commit%3Doff", url.expose()));
    assert!(said.contains("synchronous_commit = on"), "{said}");
    let said = refused(url.expose().replace("careless", "missing").as_str());
    assert!(said.contains("the database of `store`"), "{said}");
    let (_end, careless) = start_server(&["-c", "fsync=off"]);
    let said = refused(&format!("{careless}/postgres"));
    assert!(said.contains("set `fsync = on`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_and_the_certificate_checked() {
    let (_end, said) = start_server(&["--tls"]);
    let (address, certificate) = said.lines().nth(1).unwrap().split_once(' ').unwrap();
    let place = |more: &str| {
        Place::parse(&Secret::new(format!("postgres://segue@{address}/postgres?sslmode=require{more}"))).unwrap()
    };
    let opened = open(
        &place(&format!("&sslrootcert={certificate}")),
        Options::default(),
        &sealing(),
        &Unwatched::shared(),
        Metrics::new(),
    )
    .unwrap();
    let plain = format!("postgres://segue@{address}/postgres?sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&plain, NoTls).await.unwrap();
    tokio::spawn(connection);
    let ours = |ssl: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
             WHERE a.application_name = 'segue' AND {ssl}"
        )
    };
    assert!(number(&client, &ours("s.ssl")).await > 0);
    assert_eq!(number(&client, &ours("NOT s.ssl")).await, 0);
    assert!(matches!(contact(&opened.store, 1).await, Committed::Done(_)));
    let error = open(&place(""), Options::default(), &sealing(), &Unwatched::shared(), Metrics::new())
        .err()
        .expect("nobody vouches for the certificate");
    assert!(error.full().contains("certificate"), "{}", error.full());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_and_a_schema_may_be_named() {
    drop(on_postgres("newer"));
    let url = server("newer");
    run_on(url.expose(), "UPDATE setting SET value = 99 WHERE name = 'schema'").await.unwrap();
    let said = refused(url.expose());
    assert!(said.contains("schema 99"), "{said}");
    let place = Place::parse(&Secret::new(format!("{}?search_path=beside", url.expose()))).unwrap();
    let opened = open(&place, Options::default(), &sealing(), &Unwatched::shared(), Metrics::new()).unwrap();
    assert_eq!(opened.store.journal.pending_count().await.unwrap(), 0);
    assert_eq!(number(&client("newer").await, "SELECT count(*) FROM beside.entry").await, 0);
}
