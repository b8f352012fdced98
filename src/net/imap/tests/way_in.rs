//! The way to a session: what is not gone on with, and what errors show.

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::*;
use crate::net::login::Login;

/// A server that greets and answers each command with the next of these; gives also what it heard.
fn scripted(greeting: &str, answers: &[&str]) -> (impl Duplex + use<>, tokio::task::JoinHandle<String>) {
    let (ours, mut theirs) = duplex(1 << 16);
    let (greeting, answers) = (greeting.to_owned(), answers.iter().map(|one| one.to_string()).collect::<Vec<_>>());
    let heard = tokio::spawn(async move {
        let mut heard = String::new();
        theirs.write_all(greeting.as_bytes()).await.unwrap();
        let mut bytes = [0; 4096];
        for answer in answers {
            let count = theirs.read(&mut bytes).await.unwrap_or(0);
            heard += &String::from_utf8_lossy(&bytes[..count]);
            let _ = theirs.write_all(answer.as_bytes()).await;
        }
        let _ = theirs.read_to_string(&mut heard).await;
        heard
    });
    (ours, heard)
}

#[tokio::test]
async fn without_tls_nothing_is_said_that_matters() {
    let yes = "* CAPABILITY IMAP4rev1 STARTTLS\r\nP1 OK x\r\n";
    let asked = "P1 CAPABILITY\r\n";
    let both = "P1 CAPABILITY\r\nP2 STARTTLS\r\n";
    for (greeting, answers, said, offence) in [
        ("* OK x\r\n", &["* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nP1 OK x\r\n"][..], asked, "offers no STARTTLS"),
        ("* PREAUTH x\r\n", &[], "", "without TLS"),
        ("* OK x\r\n", &[yes, "P2 NO x\r\n"], both, "refuses STARTTLS"),
        ("* OK x\r\n", &[yes, "P2 OK x\r\n* OK mine\r\n"], both, "behind the server's consent"),
    ] {
        let (stream, heard) = scripted(greeting, answers);
        let error = bare::start_tls(stream).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Tls);
        assert!(error.to_string().contains(offence), "{error}");
        assert_eq!(heard.await.unwrap(), said);
    }
}

#[tokio::test]
async fn who_is_let_in_unasked_does_not_go_in() {
    let (stream, heard) = scripted("* PREAUTH welcome\r\n", &[]);
    let login = Login::Password { user: "anna".to_owned(), password: Zeroizing::new("pass42word".to_owned()) };
    let error = bare::log_in(stream, &login, Caps::default()).await.unwrap_err();
    assert_eq!((error.fault(), heard.await.unwrap()), (Fault::Protocol, String::new()));
}

#[tokio::test]
async fn a_refused_login_repeats_no_part_of_the_secret() {
    let (plain, bearer) = ("S1 OK x\r\n", "* CAPABILITY AUTH=PLAIN AUTH=XOAUTH2\r\nS1 OK x\r\n");
    let password =
        |password: &str| Login::Password { user: "anna".to_owned(), password: Zeroizing::new(password.to_owned()) };
    let long = format!("{}the-end", "0".repeat(900));
    let token = Login::Bearer { user: "anna".to_owned(), token: Zeroizing::new(long) };
    for (login, able, answers, hidden) in [
        (password("pass42word"), plain, &["S2 NO LOGIN anna pass42word failed\r\n"][..], true),
        (password("q\"u\\o\"t\"e"), plain, &["S2 NO LOGIN anna \"q\\\"u\\\\o\\\"t\\\"e\"\r\n"], true),
        (password("ab"), plain, &["* BYE pw:ab\r\n"], true),
        (password("pass42word"), bearer, &["+ \r\n", "S2 NO AGFubmEAcGFzczQyd29yZA==\r\n"], true),
        (token, bearer, &["+ \r\n", "S2 NO no such token ...0the-end\r\n"], true),
        (password("pass42word"), plain, &["S2 NO [AUTHENTICATIONFAILED] ask your admin\r\n"], false),
    ] {
        let answers: Vec<&str> = [able].into_iter().chain(answers.iter().copied()).collect();
        let (stream, _) = scripted("* OK x\r\n", &answers);
        let error = bare::log_in(stream, &login, Caps::default()).await.unwrap_err().to_string();
        assert_eq!(error.ends_with("the server says: (left out)"), hidden, "{error}");
        assert!(hidden || error.ends_with("ask your admin"));
    }
}
