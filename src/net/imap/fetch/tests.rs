use proptest::prelude::*;

use super::super::wire::Body;
use super::job::State;
use super::*;

fn listed(uid: u32, size: Option<u32>) -> Listed {
    Listed { uid, size, arrived: None }
}

fn body(offset: Option<u32>, bytes: &[u8]) -> Body {
    Body { offset, bytes: Some(bytes.to_vec()) }
}

fn fates(jobs: Vec<Job>) -> Vec<String> {
    jobs.into_iter()
        .map(|job| match job.has_ended() {
            true => format!("{:?}", job.results().collect::<Vec<_>>()),
            false => job.command(&Sizes::default()).unwrap().0,
        })
        .collect()
}

#[test]
fn sets_are_short() {
    assert_eq!(set([1, 2, 3, 5, 7, 8, u32::MAX].into_iter()), "1:3,5,7:8,4294967295");
    assert_eq!(set(std::iter::empty()), "");
}

#[test]
fn the_budget_bounds_what_is_asked_for() {
    let sizes = Sizes { flight: 1000, batch: 300, whole: 200, commands: 8, mails: 3, piece: 100, largest: 5000 };
    let mails = [100, 100, 150, 10, 10, 10, 10, 4000, 100, 6000].map(Some);
    let mails = mails.into_iter().zip(1..).map(|(size, uid)| listed(uid, size)).collect();
    let mut fetcher = Fetcher::new(7, mails, sizes);
    fetcher.plan();
    let commands = |fetcher: &Fetcher| fetcher.jobs.iter().filter_map(|job| job.command(&sizes)).collect::<Vec<_>>();
    let first: Vec<_> = commands(&fetcher).into_iter().map(|(text, _)| text).collect();
    let whole = |set: &str| format!("UID FETCH {set} (UID BODY.PEEK[])");
    assert_eq!(first, [whole("1:2"), whole("3:5"), whole("6:7")]);
    // A mail over the budget waits until it is alone.
    fetcher.jobs.clear();
    fetcher.plan();
    assert_eq!(commands(&fetcher), [("UID FETCH 8 (UID BODY.PEEK[]<0.100>)".to_owned(), 100)]);
    fetcher.jobs.clear();
    fetcher.plan();
    assert_eq!(fates(fetcher.jobs.into()), [whole("9"), "[Failed(10, TooLarge(6000))]".to_owned()]);
}

#[test]
fn pieces_end_when_all_is_here_and_not_before() {
    let sizes = Sizes { piece: 4, ..Sizes::default() };
    let run = |announced: Option<u32>, pieces: &[&[u8]]| {
        let mut job = Job::in_pieces(listed(1, announced), &sizes);
        for piece in pieces {
            let (command, _) = job.command(&sizes).unwrap();
            let offset = command.split_once('<').unwrap().1.split_once('.').unwrap().0.parse().unwrap();
            job.asked(1);
            job.take(1, body(Some(offset), piece), &sizes).unwrap();
            job = job.after_ok(&sizes).pop().unwrap();
        }
        job
    };
    assert!(run(Some(6), &[b"abcd", b"ef"]).has_ended());
    // Announced too small, too large, not at all; a piece that is short though more is there.
    assert!(!run(Some(3), &[b"abcd"]).has_ended());
    assert!(!run(Some(9), &[b"abcd", b"ef"]).has_ended());
    assert!(run(Some(9), &[b"abcd", b"ef", b""]).has_ended());
    assert!(!run(None, &[b"ab"]).has_ended());
    let Some(Fetched::Got(mail)) = run(Some(9), &[b"ab", b"cdef", b"ghi"]).results().next() else { panic!() };
    assert_eq!(mail.bytes, b"abcdefghi");
}

#[test]
fn another_piece_than_asked_for_is_refused() {
    let sizes = Sizes { piece: 4, ..Sizes::default() };
    for (offset, bytes) in [(1, &b"ab"[..]), (0, b"abcde")] {
        let mut job = Job::in_pieces(listed(1, Some(9)), &sizes);
        job.asked(1);
        assert_eq!(job.take(1, body(Some(offset), bytes), &sizes).unwrap_err().fault(), Fault::Protocol);
    }
    let mut job = Job::in_pieces(listed(1, Some(9)), &sizes);
    job.asked(1);
    job.take(1, body(Some(0), b"abcd"), &sizes).unwrap();
    assert!(job.take(1, body(Some(4), b"efgh"), &sizes).is_err(), "two pieces to one command");
}

#[test]
fn a_no_makes_everything_be_asked_for_again_in_halves() {
    let sizes = Sizes::default();
    let mut job = Job::whole((1..=3).map(|uid| listed(uid, Some(9))).collect());
    job.asked(1);
    job.take(2, body(None, b"x"), &sizes).unwrap();
    assert_eq!(fates(job.after_no("no")), ["UID FETCH 1 (UID BODY.PEEK[])", "UID FETCH 2:3 (UID BODY.PEEK[])"]);
}

#[test]
fn what_an_ok_leaves_out_is_asked_for_alone_and_looked_up() {
    let sizes = Sizes::default();
    let mut job = Job::whole((1..=3).map(|uid| listed(uid, Some(9))).collect());
    job.asked(1);
    job.take(2, body(None, b"x"), &sizes).unwrap();
    let mut apart = job.after_ok(&sizes);
    assert_eq!(apart.iter().map(Job::has_ended).collect::<Vec<_>>(), [false, true, false]);
    let mut alone = apart.remove(0);
    alone.asked(2);
    let mut looked_up = alone.after_ok(&sizes).pop().unwrap();
    assert_eq!(looked_up.command(&sizes).unwrap().0, "UID FETCH 1 (UID)");
    looked_up.asked(3);
    assert_eq!(fates(looked_up.after_ok(&sizes)), ["[Gone(1)]"]);
    let mut there = apart.remove(1);
    there.asked(4);
    let mut there = there.after_ok(&sizes).pop().unwrap();
    there.asked(5);
    there.seen();
    assert_eq!(fates(there.after_ok(&sizes)), ["[Failed(3, Withheld)]"]);
}

#[test]
fn debug_shows_no_content() {
    let mail = Mail { uid: 1, announced: None, arrived: None, bytes: b"secret".to_vec() };
    assert!(!format!("{:?}", Fetched::Got(mail)).contains("115"));
}

proptest! {
    /// Whatever a server does about its commands and however often connections break, each UID comes out once, in order.
    #[test]
    fn every_uid_comes_out_once(
        sizes in proptest::collection::vec(proptest::option::of(0..400_000_u32), 1..40),
        deeds in proptest::collection::vec(0..7_u8, 0..200),
    ) {
        let budget = Sizes { mails: 8, commands: 3, ..Sizes::default() };
        let count = sizes.len() as u32;
        let mails = sizes.into_iter().zip(1..).map(|(size, uid)| listed(uid, size)).collect();
        let mut fetcher = Fetcher::new(7, mails, budget);
        let (mut out, mut tag) = (Vec::new(), 0);
        // After the last deed all goes well.
        for deed in deeds.into_iter().chain(std::iter::repeat(0)) {
            fetcher.give_out();
            out.extend(fetcher.out.drain(..).map(|one| one.uid()));
            fetcher.plan();
            if fetcher.jobs.is_empty() {
                break;
            }
            if !fetcher.jobs.iter().any(Job::is_open) {
                fetcher.jobs.iter_mut().for_each(Job::try_again);
            }
            if !fetcher.jobs.iter().any(Job::is_open) {
                fetcher.another_came(99);
            }
            for job in &mut fetcher.jobs {
                if job.command(&budget).is_some() {
                    tag += 1;
                    job.asked(tag);
                }
            }
            serve(&mut fetcher, deed, &budget);
        }
        prop_assert_eq!(out, (1..=count).collect::<Vec<_>>());
    }
}

/// Does one thing about the first command under way.
fn serve(fetcher: &mut Fetcher, deed: u8, budget: &Sizes) {
    let Some(job) = fetcher.jobs.iter_mut().find(|job| job.tag().is_some()) else { return };
    let (tag, (command, _)) = (job.tag().unwrap(), {
        job.state = State::Waiting;
        let command = job.command(budget).unwrap();
        job.asked(99);
        command
    });
    job.state = State::Asked(tag);
    assert!(!command.contains("  "), "it asks for nothing: {command}");
    let uids: Vec<u32> = (1..=40).filter(|uid| job.has(*uid)).collect();
    let offset = command.split_once('<').map(|(_, rest)| rest.split_once('.').unwrap().0.parse().unwrap());
    let most = if deed == 1 { 1 } else { uids.len() };
    if !command.ends_with("(UID)") && deed < 3 {
        let bytes = if offset.unwrap_or(0) > 1000 { vec![] } else { vec![b'x'; 900] };
        for uid in uids.into_iter().take(most) {
            let _ = job.take(uid, body(offset, &bytes), budget);
        }
    }
    let ok = Outcome::default();
    match deed {
        0 | 1 | 3 => fetcher.take_end(tag, Verdict::Ok, &ok).unwrap(),
        2 => fetcher.broke(&ImapError::network("cut")),
        4 => fetcher.take_end(tag, Verdict::No, &ok).unwrap(),
        5 => {
            let throttled = Outcome { text: "throttled".to_owned(), ..Outcome::default() };
            if let Err(error) = fetcher.take_end(tag, Verdict::Bad, &throttled) {
                fetcher.broke(&error);
            }
        }
        _ => fetcher.broke(&ImapError::protocol("odd")),
    }
}

#[test]
fn a_server_that_breaks_with_every_mail_makes_none_fail() {
    let mut fetcher = Fetcher::new(7, (1..=3).map(|uid| listed(uid, Some(9))).collect(), Sizes::default());
    for _ in 0..100 {
        fetcher.plan();
        fetcher.give_out();
        if !fetcher.jobs.iter().any(Job::is_open) {
            fetcher.jobs.iter_mut().for_each(Job::try_again);
        }
        let job = fetcher.jobs.iter_mut().find(|job| job.is_open()).unwrap();
        job.asked(1);
        fetcher.broke(&ImapError::network("cut"));
        assert!(fetcher.out.is_empty());
    }
    // Then it serves the third.
    let job = fetcher.jobs.iter_mut().find(|job| job.has(3)).unwrap();
    job.try_again();
    job.asked(1);
    let part = Part { uid: Some(3), body: Some(body(Some(0), b"x")), ..Part::default() };
    fetcher.take_part(part).unwrap();
    fetcher.give_out();
    let out: Vec<_> = fetcher.out.drain(..).collect();
    assert!(matches!(out[..], [Fetched::Failed(1, Reason::Breaks)]), "{out:?}");
}
