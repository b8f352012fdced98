//! Whole conversations with servers that follow a script.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex};

use super::wire::Wire;
use super::*;

/// What the client said, without tags.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server that answers each command with lines; in them `TAG` is the command's tag.
fn server(able: &[&str], mut answer: impl FnMut(&str) -> String + Send + 'static) -> (Session, Heard) {
    let (ours, theirs) = duplex(1 << 20);
    let heard = Heard::default();
    let hears = heard.clone();
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(theirs);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let (tag, command) = line.split_once(' ').unwrap();
            hears.lock().push(command.to_owned());
            let said = if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
                format!("* 9 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n{}", answer(command))
            } else {
                answer(command)
            };
            let said = if said.contains("TAG ") { said } else { format!("{said}TAG OK done\r\n") };
            if write.write_all(said.replace("TAG", tag).as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let able = able.iter().map(|name| name.to_string()).collect();
    (Session::new(Wire::new(Box::new(ours), Caps::default(), Times::default()), able), heard)
}

fn mails(uids: impl IntoIterator<Item = u32>) -> Vec<Listed> {
    uids.into_iter().map(|uid| Listed { uid, size: Some(1), arrived: None }).collect()
}

/// The UIDs that a command asks for, among those up to 20.
fn asked(command: &str) -> Vec<u32> {
    let set = command.strip_prefix("UID FETCH ").unwrap().split(' ').next().unwrap();
    let in_run = |uid: u32, run: &str| {
        let (low, high) = run.split_once(':').unwrap_or((run, run));
        (low.parse().unwrap()..=high.parse().unwrap()).contains(&uid)
    };
    (1..=20).filter(|uid| set.split(',').any(|run| in_run(*uid, run))).collect()
}

fn mail(uid: u32, command: &str) -> String {
    let piece = if command.contains('<') { "<0>" } else { "" };
    format!("* {uid} FETCH (UID {uid} BODY[]{piece} {{1}}\r\nx)\r\n")
}

/// The mails that are asked for, or a refusal if one of them is among `broken`.
fn gives(command: &str, broken: &[u32], refusal: &str) -> String {
    let asked = match command {
        "FETCH 1 (UID BODY.PEEK[]<0.1>)" => vec![1],
        "FETCH * (UID BODY.PEEK[]<0.1>)" => vec![20],
        _ => asked(command),
    };
    if asked.iter().any(|uid| broken.contains(uid)) {
        return refusal.to_owned();
    }
    asked.into_iter().map(|uid| mail(uid, command)).collect()
}

/// What comes of mails until all are through or there is an error; `+` before what came.
async fn fetched(fetcher: &mut Fetcher, session: &mut Session) -> (Vec<String>, Option<ImapError>) {
    session.open("INBOX", Access::Examine).await.unwrap();
    let mut all = Vec::new();
    loop {
        match fetcher.next(session).await {
            Ok(Some(Fetched::Got(mail))) => all.push(format!("+{}", mail.uid)),
            Ok(Some(other)) => all.push(format!("{other:?}")),
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
        }
    }
}

#[tokio::test]
async fn one_mail_that_is_always_refused_is_set_aside_wherever_it_lies() {
    for (uids, broken, refusal) in [
        (1..=9, vec![1], "TAG NO broken\r\n"),
        (1..=9, vec![5], "TAG BAD Command Error. 10\r\n"),
        (1..=9, vec![9], "TAG NO broken\r\n"),
        (1..=20, (2..=19).collect(), "TAG NO broken\r\n"),
    ] {
        let bad = broken.clone();
        let (mut session, _) = server(&[], move |command| match command.starts_with("EXAMINE") {
            true => String::new(),
            false => gives(command, &bad, refusal),
        });
        let mut fetcher = Fetcher::new(7, mails(uids.clone()), Sizes::default());
        let (all, error) = fetched(&mut fetcher, &mut session).await;
        assert_eq!(error, None, "{broken:?}");
        let wanted: Vec<bool> = uids.map(|uid| !broken.contains(&uid)).collect();
        assert_eq!(all.iter().map(|one| one.starts_with('+')).collect::<Vec<_>>(), wanted, "{all:?}");
    }
}

#[tokio::test]
async fn the_only_mail_that_is_asked_for_is_known_by_others_of_the_folder() {
    let (mut session, _) = server(&[], |command| match command {
        "FETCH * (UID BODY.PEEK[]<0.1>)" => mail(5, command),
        command if command.starts_with("EXAMINE") => String::new(),
        _ => "TAG NO broken\r\n".to_owned(),
    });
    let mut fetcher = Fetcher::new(7, mails([4]), Sizes::default());
    let (all, error) = fetched(&mut fetcher, &mut session).await;
    assert_eq!((all.len(), error), (1, None));
    assert!(all[0].contains("Refused(\"broken\")"), "{all:?}");
}

#[tokio::test]
async fn a_server_that_refuses_everything_makes_no_mail_fail() {
    // From the first command on, and from the fourth on.
    for works in [0, 3] {
        let mut fetcher = Fetcher::new(7, mails(1..=20), Sizes { mails: 1, ..Sizes::default() });
        for _ in 0..3 {
            let mut commands = 0;
            let (mut session, heard) = server(&[], move |command| {
                commands += usize::from(!command.starts_with("EXAMINE"));
                match commands {
                    0 => String::new(),
                    _ if commands <= works => gives(command, &[], ""),
                    _ => "TAG NO Internal error\r\n".to_owned(),
                }
            });
            let (all, error) = fetched(&mut fetcher, &mut session).await;
            assert_eq!(all.iter().filter(|one| one.starts_with('+')).count(), works, "{all:?}");
            assert_eq!(all.len(), works);
            let error = error.unwrap();
            assert_eq!(error.fault(), Fault::Mailbox);
            assert!(error.to_string().contains("Internal error"));
            assert!(heard.lock().len() < 40, "{:?}", heard.lock());
        }
        let (mut session, _) = server(&[], |command| match command.starts_with("EXAMINE") {
            true => String::new(),
            false => gives(command, &[], ""),
        });
        let (all, error) = fetched(&mut fetcher, &mut session).await;
        assert_eq!((all.len(), error), (20 - 3 * works, None));
    }
}

#[tokio::test]
async fn a_server_that_puts_off_gets_no_mail_set_aside() {
    for refusal in ["BAD Request is throttled. Suggested Backoff Time: 9 ms", "NO [SERVERBUG] oops", "NO [LIMIT] x"] {
        let mut fetcher = Fetcher::new(7, mails(1..=20), Sizes::default());
        // Longer than a mail is put off.
        for _ in 0..50 {
            let (mut session, heard) = server(&[], move |command| match command.starts_with("EXAMINE") {
                true => String::new(),
                false => format!("TAG {refusal}\r\n"),
            });
            let (all, error) = fetched(&mut fetcher, &mut session).await;
            let error = error.unwrap();
            assert!(all.is_empty() && error.is_put_off() && error.fault() == Fault::Network, "{error}");
            assert!(heard.lock().len() < 40, "{:?}", heard.lock());
        }
        let (mut session, _) = server(&[], |command| match command.starts_with("EXAMINE") {
            true => String::new(),
            false => gives(command, &[], ""),
        });
        assert_eq!(fetched(&mut fetcher, &mut session).await.0.len(), 20);
    }
}

#[tokio::test]
async fn one_mail_that_is_always_put_off_is_set_aside_after_many_connections() {
    let mut fetcher = Fetcher::new(7, mails(1..=9), Sizes::default());
    let mut all = Vec::new();
    for connections in 1.. {
        let (mut session, _) = server(&[], move |command| match command.starts_with("EXAMINE") {
            true => String::new(),
            false => gives(command, &[5], "TAG NO [SERVERBUG] cannot read it\r\n"),
        });
        let (some, error) = fetched(&mut fetcher, &mut session).await;
        all.extend(some);
        if error.is_none() {
            assert!((9..20).contains(&connections), "{connections}");
            break;
        }
    }
    let given = all.iter().map(|one| one.starts_with('+')).collect::<Vec<_>>();
    assert_eq!(given, (1..=9).map(|uid| uid != 5).collect::<Vec<_>>(), "{all:?}");
}

mod after;
mod waiting;
mod way_in;

#[tokio::test]
async fn what_is_empty_is_passed_over_with_few_commands() {
    let there = [5_u32, 1_700, 3_000_000_000];
    let (mut session, heard) = server(&[], move |command| {
        let Some(range) = command.strip_prefix("UID FETCH ") else { return String::new() };
        let (low, high) = range.split(' ').next().unwrap().split_once(':').unwrap();
        let range = low.parse().unwrap()..=high.parse().unwrap();
        let inside = there.iter().filter(|uid| range.contains(*uid));
        inside.map(|uid| format!("* 1 FETCH (UID {uid})\r\n")).collect()
    });
    session.open("INBOX", Access::Examine).await.unwrap();
    let last = u32::MAX - 1;
    assert_eq!(session.empty_to(1, last).await.unwrap(), 4);
    assert_eq!(session.empty_to(6, last).await.unwrap(), 1_699);
    assert_eq!(session.empty_to(1_701, last).await.unwrap(), 2_999_999_999);
    assert_eq!(session.empty_to(3_000_000_001, last).await.unwrap(), last);
    assert_eq!(session.empty_to(1_701, 2_000).await.unwrap(), 2_000);
    assert_eq!(session.empty_to(3_000_000_001, u32::MAX).await.unwrap(), u32::MAX);
    assert!(heard.lock().len() < 45, "{:?}", heard.lock());
}

#[tokio::test]
async fn what_the_server_refuses_to_look_at_counts_as_not_empty() {
    let (mut session, _) = server(&[], |command| match command.starts_with("EXAMINE") {
        true => String::new(),
        false => "TAG NO not that\r\n".to_owned(),
    });
    session.open("INBOX", Access::Examine).await.unwrap();
    assert_eq!(session.empty_to(7, 5_000).await.unwrap(), 6);
}
