//! Dialogs in IMAP, word by word.

use super::*;

#[tokio::test]
async fn idle_tells_what_comes_and_goes() {
    let shared = shared();
    let mut one = Talk::logged_in(&shared, Protocol::Imap).await;
    let mut two = Talk::logged_in(&shared, Protocol::Imap).await;
    one.ask("b SELECT inbox", "b OK [READ-WRITE]").await;
    two.ask("b SELECT INBOX", "b OK").await;
    one.ask("c IDLE", "+ ").await;
    shared.change(|folders| folders.add(INBOX, b"four\r\n".to_vec()));
    assert_eq!(one.line().await, "* 4 EXISTS\r\n");
    // Numbers stay as they are while they are in use, and are told anew after that.
    one.say("DONE\r\n").await;
    one.hears("c OK").await;
    assert_eq!(two.ask("c UID MOVE 2:3 Done", "c NO [TRYCREATE]").await, "* 4 EXISTS\r\n");
    two.ask("d CREATE Done", "d OK").await;
    assert_eq!(two.ask("e UID MOVE 2:3 Done", "e OK").await, "* 3 EXPUNGE\r\n* 2 EXPUNGE\r\n");
    assert_eq!(one.ask("d FETCH 1:* (UID)", "d OK").await, "* 1 FETCH (UID 1)\r\n* 4 FETCH (UID 4)\r\n");
    assert_eq!(one.ask("e FETCH 4 (UID)", "e OK").await, "* 4 FETCH (UID 4)\r\n");
    assert_eq!(one.ask("f IDLE", "* 2 EXPUNGE").await, "+ idling\r\n* 3 EXPUNGE\r\n");
    one.say("DO").await;
    shared.change(|folders| folders.add(INBOX, Vec::new()));
    assert_eq!(one.line().await, "* 3 EXISTS\r\n");
    one.ask("NE", "f OK").await;
    assert_eq!(one.ask("g FETCH 2 (UID)", "g OK").await, "* 2 FETCH (UID 4)\r\n");
    one.ask("h FETCH 4 (UID)", "h BAD").await;
    assert_eq!(one.ask("i UID FETCH 2:3 (FLAGS)", "i OK").await, "");
}

#[tokio::test]
async fn flags_are_stored_and_mails_searched() {
    let shared = shared();
    let mut talk = Talk::logged_in(&shared, Protocol::Imap).await;
    talk.ask("b FETCH 1 (UID)", "b BAD").await;
    talk.ask("b SELECT INBOX", "b OK").await;
    let told = talk.ask("c UID STORE 2 +FLAGS (\\seen $Done)", "c OK").await;
    assert_eq!(told, "* 2 FETCH (FLAGS ($Done \\Seen) UID 2)\r\n");
    assert_eq!(talk.ask("d STORE 1:2 -FLAGS.SILENT \\Seen", "d OK").await, "");
    assert_eq!(talk.ask("e FETCH 2 FLAGS", "e OK").await, "* 2 FETCH (FLAGS ($Done))\r\n");
    assert_eq!(talk.ask("e STORE 2 FLAGS (\\Deleted)", "e OK").await, "* 2 FETCH (FLAGS (\\Deleted))\r\n");
    assert_eq!(talk.ask("f FETCH 3 BODY[]", "f OK").await, "* 3 FETCH (BODY[] {7}\r\nthree\r\n FLAGS (\\Seen))\r\n");
    for (search, found) in [("ALL", " 1 2 3"), ("UID 2:*", " 2 3"), ("1,3", " 1 3"), ("UID 9", "")] {
        assert_eq!(talk.ask(&format!("g UID SEARCH {search}"), "g OK").await, format!("* SEARCH{found}\r\n"));
    }
    talk.ask("h CREATE Done", "h OK").await;
    assert_eq!(talk.ask("h MOVE 2 Done", "h OK").await, "* 2 EXPUNGE\r\n");
    assert_eq!(talk.ask("i SEARCH ALL", "i OK").await, "* SEARCH 1 2\r\n");
    assert_eq!(talk.ask("j UID SEARCH ALL", "j OK").await, "* SEARCH 1 3\r\n");
    talk.ask("j MOVE 2 Done", "j OK").await;
    for _ in 0..2 {
        shared.change(|folders| folders.add(INBOX, Vec::new()));
    }
    assert_eq!(talk.ask("j UID SEARCH ALL", "j OK").await, "* SEARCH 1\r\n* 3 EXISTS\r\n");
    assert_eq!(talk.ask("j UID SEARCH ALL", "j OK").await, "* SEARCH 1 4 5\r\n");
    talk.ask("k EXAMINE INBOX", "k OK [READ-ONLY]").await;
    for line in ["STORE 1 FLAGS (\\Seen)", "MOVE 1 Done"] {
        talk.ask(&format!("l {line}"), "l NO").await;
    }
    assert_eq!(talk.ask("m FETCH 1 (BODY[] FLAGS)", "m OK").await, "* 1 FETCH (BODY[] {5}\r\none\r\n FLAGS ())\r\n");
    let wrong = ["STORE 1 +FLAGS (\\Recent)", "STORE 1 ?FLAGS ()", "FETCH 1 ()", "FETCH 0 (UID)", "FETCH 4 (UID)"];
    for line in wrong.iter().chain(&["SEARCH", "SEARCH NOT ALL", "EXPUNGE", "UID NOOP", "LOGIN a b", "STATUS INBOX ()"])
    {
        talk.ask(&format!("n {line}"), "n BAD").await;
    }
}

#[tokio::test]
async fn a_mail_is_shown_in_parts() {
    let shared = shared();
    shared.change(|folders| folders.add(INBOX, b"Subject: x\r\n\r\ntext\r\n".to_vec()));
    let mut talk = Talk::logged_in(&shared, Protocol::Imap).await;
    talk.ask("b EXAMINE INBOX", "b OK").await;
    for (item, shown) in [
        ("rfc822.size", "RFC822.SIZE 20"),
        ("body.peek[]", "BODY[] {20}\r\nSubject: x\r\n\r\ntext\r\n"),
        ("BODY.PEEK[HEADER]", "BODY[HEADER] {14}\r\nSubject: x\r\n\r\n"),
        ("BODY.PEEK[HEADER]<9.2>", "BODY[HEADER]<9> {2}\r\nx\r"),
        ("BODY.PEEK[]<0.7>", "BODY[]<0> {7}\r\nSubject"),
        ("BODY.PEEK[]<14.99>", "BODY[]<14> {6}\r\ntext\r\n"),
        ("BODY.PEEK[]<20.1>", "BODY[]<20> {0}\r\n"),
        ("BODY.PEEK[]<4294967295.4294967295>", "BODY[]<4294967295> {0}\r\n"),
    ] {
        let told = talk.ask(&format!("c UID FETCH 4 (UID {item})"), "c OK").await;
        assert_eq!(told, format!("* 4 FETCH (UID 4 {shown})\r\n"));
    }
    let wrong = ["ENVELOPE", "BODY", "BODY[1]", "BODY[", "BODY[]<0>", "BODY[]<0.0>", "BODY[]<a.1>", "BODY[]<1.2>x"];
    for item in wrong.iter().chain(&["(FLAGS ENVELOPE)", "BODY[]<+1.2>", "(UID UID UID UID UID UID UID UID UID)"]) {
        talk.ask(&format!("d FETCH 4 {item}"), "d BAD").await;
    }
    let date = talk.ask("e FETCH 4 INTERNALDATE", "e OK").await;
    assert!(date.starts_with("* 4 FETCH (INTERNALDATE \"") && date.ends_with(" +0000\")\r\n"), "{date}");
}

#[tokio::test]
async fn folders_are_listed() {
    let mut talk = Talk::logged_in(&shared(), Protocol::Imap).await;
    talk.ask("b CREATE Done/demo", "b OK").await;
    talk.ask("b CREATE {4}", "+ ").await;
    talk.ask("D&-B", "b OK").await;
    for (line, told) in [
        ("\"\" *", "* LIST () NIL \"D&-B\"\r\n* LIST () NIL \"Done/demo\"\r\n* LIST () NIL \"INBOX\"\r\n"),
        ("\"\" inbox", "* LIST () NIL \"INBOX\"\r\n"),
        ("\"\" \"\"", "* LIST (\\Noselect) NIL \"\"\r\n"),
    ] {
        assert_eq!(talk.ask(&format!("c LIST {line}"), "c OK").await, told);
    }
    let refused =
        ["CREATE INBOX", "CREATE \"\"", "CREATE \"a\\\"b\"", "CREATE a*", "SELECT None", "LIST x *", "LIST \"\" D*"];
    for line in refused {
        talk.ask(&format!("d {line}"), "d NO").await;
    }
    for number in 3..32 {
        talk.ask(&format!("e CREATE f{number}"), "e OK").await;
    }
    talk.ask("f CREATE one-more", "f NO").await;
}

#[tokio::test]
async fn what_is_no_imap_is_refused() {
    let shared = shared();
    let mut talk = Talk::open(&shared, Protocol::Imap);
    talk.hears("* OK [CAPABILITY IMAP4rev1 ").await;
    for line in ["NOOP now", "SELECT INBOX", "UID NOOP", "X", "LOGIN a", "LOGIN a b c", "NOOP (", "LOGIN {9999999}"] {
        talk.ask(&format!("a {line}"), "a BAD").await;
    }
    talk.ask("a", "* BAD").await;
    talk.ask("", "* BAD").await;
    talk.ask("b AUTHENTICATE LOGIN", "b NO").await;
    talk.ask("b AUTHENTICATE PLAIN", "+ ").await;
    talk.ask("*", "b BAD").await;
    talk.ask("c LOGIN {4}", "+ ").await;
    talk.ask("some {4}", "+ ").await;
    talk.ask("body", "c NO [AUTHENTICATIONFAILED]").await;
    talk.ask("d AUTHENTICATE PLAIN AGEAYg==", "d NO").await;
    talk.ask("e LOGIN a \"\"", "e NO").await;
    assert_eq!(talk.rest().await, "* BYE too many wrong passwords\r\n");
    for line in ["a LOGIN {3+}\r\n", "a NOOP\n", "a\rNOOP\r\n", "a \0\r\n", &"a".repeat(lines::LINE)] {
        let mut talk = Talk::open(&shared, Protocol::Imap);
        talk.say(line).await;
        talk.hears("* OK").await;
        assert_eq!(talk.rest().await, "* BYE this is no line of IMAP\r\n", "{line:?}");
    }
    let mut talk = Talk::open(&shared, Protocol::Imap);
    assert_eq!(talk.ask("a LOGOUT", "a OK").await.lines().last(), Some("* BYE"));
    assert_eq!(talk.rest().await, "");
}
