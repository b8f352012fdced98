//! What is done with mails that were taken.

use std::collections::BTreeMap;

use super::*;

/// A folder at the server, and what was copied or moved out of it.
#[derive(Default)]
struct Folders {
    /// The mails, and whether they are marked as deleted.
    mails: BTreeMap<u32, bool>,
    target: Vec<u32>,
    flagged: Vec<u32>,
}

/// How the server does about marking mails as deleted.
#[derive(Clone, Copy, PartialEq)]
enum Marks {
    Allowed,
    /// It says so when the folder is opened, and then does nothing.
    Told,
    Refused,
}

fn at_server(able: &[&str], marks: Marks) -> (Session, Arc<Mutex<Folders>>, Heard) {
    let mails = (1..=3).map(|uid| (uid, false)).collect();
    let inside = Arc::new(Mutex::new(Folders { mails, ..Folders::default() }));
    let state = inside.clone();
    let (session, heard) = server(able, move |command| {
        if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
            let told = if marks == Marks::Told { "\\Seen \\*" } else { "\\Seen \\Deleted" };
            return format!("* OK [PERMANENTFLAGS ({told})] x\r\n");
        }
        answer(&mut state.lock(), command, marks)
    });
    (session, inside, heard)
}

fn answer(inside: &mut Folders, command: &str, marks: Marks) -> String {
    let mut words = command.split(' ').skip(1);
    let (verb, set) = (words.next().unwrap(), words.next().unwrap());
    let asked = asked(&format!("UID FETCH {set} "));
    let there: Vec<u32> = asked.into_iter().filter(|uid| inside.mails.contains_key(uid)).collect();
    match verb {
        "FETCH" => {
            let flags = |uid: &u32| if inside.mails[uid] { "\\Deleted" } else { "" };
            return there.iter().map(|uid| format!("* 1 FETCH (UID {uid} FLAGS ({}))\r\n", flags(uid))).collect();
        }
        "COPY" => inside.target.extend(there),
        "MOVE" => {
            inside.mails.retain(|uid, _| !there.contains(uid));
            inside.target.extend(there);
        }
        "STORE" if !command.contains("\\Deleted") => inside.flagged = there,
        "STORE" if marks == Marks::Refused => return "TAG NO [NOPERM] no right\r\n".to_owned(),
        "STORE" if marks == Marks::Told => {}
        "STORE" => inside.mails.extend(there.into_iter().map(|uid| (uid, command.contains("+FLAGS")))),
        "EXPUNGE" => inside.mails.retain(|uid, marked| !(*marked && there.contains(uid))),
        _ => panic!("{command}"),
    }
    String::new()
}

#[tokio::test]
async fn moving_twice_moves_once() {
    for (able, left) in [(&["MOVE"][..], 0), (&["UIDPLUS"], 0), (&[], 3)] {
        let (mut session, inside, _) = at_server(able, Marks::Allowed);
        session.open("INBOX", Access::Select).await.unwrap();
        for _ in 0..3 {
            session.move_to(&[1, 2, 3], "Done").await.unwrap();
        }
        let inside = inside.lock();
        assert_eq!(inside.target, [1, 2, 3], "{able:?}");
        assert_eq!(inside.mails.len(), left);
        assert!(inside.mails.values().all(|marked| *marked));
    }
}

#[tokio::test]
async fn nothing_is_copied_where_nothing_may_be_marked() {
    for marks in [Marks::Told, Marks::Refused] {
        let (mut session, inside, heard) = at_server(&["UIDPLUS"], marks);
        session.open("INBOX", Access::Select).await.unwrap();
        for _ in 0..3 {
            let error = session.move_to(&[1, 2, 3], "Done").await.unwrap_err();
            assert_eq!(error.fault(), Fault::Mailbox);
            assert!(error.to_string().contains("may not mark them as deleted"), "{error}");
        }
        assert!(inside.lock().target.is_empty() && !session.is_broken());
        assert!(!heard.lock().iter().any(|command| command.contains("COPY")));
    }
}

#[tokio::test]
async fn flags_are_set_on_what_is_there_and_only_where_they_may_be() {
    let (mut session, inside, heard) = at_server(&[], Marks::Allowed);
    session.open("INBOX", Access::Examine).await.unwrap();
    assert_eq!(session.flag(&[1], "$SegueTaken").await.unwrap_err().fault(), Fault::Mailbox);
    session.open("INBOX", Access::Select).await.unwrap();
    assert_eq!(session.flag(&[1], "$Segue) x").await.unwrap_err().fault(), Fault::Mailbox);
    for _ in 0..2 {
        session.flag(&[3, 1, 9, 1], "$SegueTaken").await.unwrap();
        assert_eq!(inside.lock().flagged, [1, 3]);
    }
    assert_eq!(heard.lock().last().unwrap(), "UID STORE 1,3,9 +FLAGS.SILENT ($SegueTaken)");
}
