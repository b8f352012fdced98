//! Both backends driven with the same random operations: each outcome is the same, and so is the canonical dump.

mod driver;
mod ops;

use proptest::prelude::*;
use tempfile::TempDir;

use driver::Backend;
use ops::{Op, op};

use super::archive::{Opener, Place, Plain, Source, apply_number, copy, digests, dump, move_keys};
use super::suite::{on_postgres, sealing, server, sqlite};
use super::*;

fn event(event: &DueEvent) -> String {
    format!("{} {} {}", event.id, event.previous, event.attempts)
}

/// The canonical dump of what lies at `place`.
pub(super) async fn dumped(place: &Place) -> String {
    let view = place.view().await.unwrap();
    let mut lines = Vec::new();
    let seal = Opener::at(place, &sealing()).await.unwrap();
    dump(&*view, &seal, true, &mut lines, &mut ()).await.unwrap();
    String::from_utf8(lines).unwrap()
}

/// The first line in which two dumps differ: a whole one would fill the screen.
pub(super) fn same(one: &str, other: &str, what: &str) {
    for (number, (a, b)) in one.lines().zip(other.lines()).enumerate() {
        assert_eq!(a, b, "{what}: line {}", number + 1);
    }
    assert_eq!(one.lines().count(), other.lines().count(), "{what}: the number of lines");
}

/// A copy of what lies at `from`, in a new store at `to`.
pub(super) async fn copied(from: &Place, to: &Place) {
    let view = from.view().await.unwrap();
    let mark = format!("{} {}", from.shown(), apply_number(&*view).await.unwrap());
    let source = Source { view: &*view, seal: &Plain, mark: &mark };
    let target = to.target().await.unwrap();
    move_keys(from, to).await.unwrap();
    let sums = copy(source, &*target, &Plain, &mut ()).await.unwrap();
    assert_eq!(sums, digests(&*view, &Plain, &mut ()).await.unwrap());
}

async fn run(ops: &[Op]) {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("differential_{}", folder.path().file_name().unwrap().to_string_lossy().replace('.', "_"));
    let path = folder.path().join("one");
    let (data, name) = (path.clone(), database.clone());
    let postgres_at = |name: &str| Place::Server(Box::new(postgres::Place::parse(&server(name)).unwrap()));
    let mut one = Backend::new(Box::new(move || sqlite(&data)), Place::Folder(path)).await;
    let mut two = Backend::new(Box::new(move || on_postgres(&name)), postgres_at(&database)).await;
    for (n, op) in ops.iter().enumerate() {
        let (a, b) = tokio::join!(one.step(n, op), two.step(n, op));
        assert_eq!(a, b, "operation {n}, {op:?}");
    }
    let (counts, others) = (one.store().catalog.counts().await.unwrap(), two.store().catalog.counts().await.unwrap());
    assert_eq!(counts, others);
    let lines = dumped(&one.place).await;
    // What was done left something to compare.
    for record in ["customer", "interaction", "event", "message", "send", "entry"] {
        assert!(ops.len() < 100 || lines.contains(&format!("\"record\":\"{record}\"")), "{record}");
    }
    same(&lines, &dumped(&two.place).await, "SQLite and PostgreSQL");
    copies(&folder, &one.place, &two.place, &postgres_at(&format!("{database}_copy")), &lines).await;
}

/// What was moved from one backend to the other is the same there, and goes on.
async fn copies(folder: &TempDir, one: &Place, two: &Place, on_server: &Place, lines: &str) {
    let in_folder = Place::Folder(folder.path().join("copy"));
    copied(one, on_server).await;
    same(lines, &dumped(on_server).await, "SQLite and its copy on PostgreSQL");
    copied(two, &in_folder).await;
    same(lines, &dumped(&in_folder).await, "PostgreSQL and its copy on SQLite");
}

#[test]
fn both_backends_do_the_same() {
    let full = std::env::var_os("SEGUE_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0");
    // 20,000 operations in a full run.
    let (cases, length) = if full { (40, 500) } else { (3, 120) };
    let config =
        ProptestConfig { cases, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ops = proptest::collection::vec(op(), length..=length);
    let outcome = runner.run(&ops, |ops| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(&ops));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
