//! Waiting for mails where a server tells of none, or says nothing more at all.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// How a server does about IDLE.
#[derive(Clone, Copy, PartialEq)]
enum Idle {
    /// It begins and tells of nothing; then it ends as it should.
    TellsNothing,
    /// It begins, and nothing comes after that.
    Dies,
}

const MOST: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_secs(20);

/// A session that has a folder of nine mails open at such a server.
async fn opened(idle: Idle) -> Session {
    let (ours, theirs) = duplex(1 << 20);
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(theirs);
        let (mut lines, mut idling) = (BufReader::new(read).lines(), String::new());
        while let Ok(Some(line)) = lines.next_line().await {
            let said = match line.split_once(' ') {
                Some((tag, "IDLE")) => {
                    idling = tag.to_owned();
                    "+ idling\r\n".to_owned()
                }
                Some((tag, _)) => format!("* 9 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n{tag} OK done\r\n"),
                None if idle == Idle::Dies => continue,
                None => format!("{idling} OK done\r\n"),
            };
            if write.write_all(said.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let wire = Wire::new(Box::new(ours), Caps::default(), Times::default());
    let mut session = Session::new(wire, ["IDLE".to_owned()].into());
    session.open("INBOX", Access::Examine).await.unwrap();
    session
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_of_nothing_is_looked_at_all_the_same() {
    let (mut session, began) = (opened(Idle::TellsNothing).await, Instant::now());
    assert_eq!(session.wait(9, MOST, POLL).await.unwrap(), Wake::Time);
    assert_eq!(began.elapsed().as_secs(), MOST.as_secs());
    assert!(!session.is_broken());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_without_a_word_is_found_out() {
    let (mut session, began) = (opened(Idle::Dies).await, Instant::now());
    let error = session.wait(9, MOST, POLL).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Network, "{error}");
    assert!(began.elapsed() <= MOST + Times::default().quiet + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_idle_is_asked_from_time_to_time() {
    let mut asked = 0;
    let (mut session, heard) = server(&[], move |command| {
        asked += usize::from(command == "NOOP");
        if asked == 3 { "* 10 EXISTS\r\n".to_owned() } else { String::new() }
    });
    session.open("INBOX", Access::Examine).await.unwrap();
    let began = Instant::now();
    assert_eq!(session.wait(9, MOST, POLL).await.unwrap(), Wake::News);
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(!heard.lock().iter().any(|command| command == "IDLE"));
    assert_eq!(session.wait(10, MOST, POLL).await.unwrap(), Wake::Time);
    assert_eq!(began.elapsed().as_secs(), 180);
}
