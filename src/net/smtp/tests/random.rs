//! Random runs, judged by what the server has in the end.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::smtp::Pool;
use futures_util::future::join_all;

use super::script::{mishaps, one_in};
use super::*;

fn next(state: &AtomicU64) -> u64 {
    let step = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(step(x))).map_or(0, step) >> 33
}

/// One run: mails are tried until their fate is known, through whatever the server does.
async fn torture(seed: u64) -> [usize; 3] {
    let dice = AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let implicit = seed.is_multiple_of(2);
    let script = ScriptSmtp::start(implicit, move |step, _| {
        let acts = [mishaps(), vec![Act::EndlessLine, Act::TakeThenHang]].concat();
        if next(&dice).is_multiple_of(one_in(step)) { acts[next(&dice) as usize % acts.len()].clone() } else { Act::Go }
    })
    .await;
    let security = if implicit { Security::Implicit } else { Security::StartTls };
    let pool = Pool::new(server(&script, security, true), Box::new(To(script.address)), 2);
    let mut counts = [0; 3];
    for number in 0..3u64 {
        let mail = [mail(seed as usize % 5000), format!("number {number}\r\n").into_bytes()].concat();
        let copies = || script.taken().iter().filter(|each| each.bytes == mail).count();
        for _ in 0..40 {
            let before = copies();
            let outcome = pool.send(&envelope(&["anna@example.net"]), &mail).await.remove(0);
            let new = copies() - before;
            assert_no_secret(&outcome, &script.book.lock().unwrap().clear);
            match class(&outcome) {
                Class::Accepted => assert_eq!(new, 1, "{seed}: {outcome:?}"),
                Class::Uncertain => assert!(new <= 1, "{seed}: {outcome:?}"),
                _ => assert_eq!(new, 0, "{seed}: {outcome:?}"),
            }
            match class(&outcome) {
                Class::Later | Class::Mend => continue,
                Class::Accepted => counts[0] += 1,
                Class::Refused | Class::Barred => counts[1] += 1,
                Class::Uncertain => counts[2] += 1,
            }
            break;
        }
    }
    let all: usize = script.taken().len();
    assert!(all <= 3, "{seed}: a mail was taken twice without having been uncertain");
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_random_runs_lose_and_double_nothing() {
    let mut sums = [0; 3];
    for some in (0..200u64).collect::<Vec<_>>().chunks(40) {
        for counts in join_all(some.iter().map(|seed| torture(*seed))).await {
            (0..3).for_each(|at| sums[at] += counts[at]);
        }
    }
    println!("accepted {}, refused {}, uncertain {}", sums[0], sums[1], sums[2]);
    assert!(sums.iter().all(|sum| *sum > 20), "{sums:?}");
}
