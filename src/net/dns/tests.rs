use futures_util::future::join_all;

use super::*;

#[allow(dead_code)]
#[path = "../../../tests/it/support/dns.rs"]
pub(crate) mod scripted;

use scripted::Dns as Server;

const WITHIN: Duration = Duration::from_millis(300);

fn asking(server: &Server) -> Dns {
    Dns::waiting(&[server.address()], WITHIN, Duration::from_millis(2000))
}

/// Asks for so many names at once, none of which is answered.
async fn ask_many(dns: &Dns, of: &str, many: usize) {
    let names: Vec<String> = (0..many).map(|number| format!("key{number}.{of}")).collect();
    let answers = join_all(names.iter().map(|name| dns.txt(name, Turn::Further))).await;
    assert!(answers.iter().all(|answer| *answer == Txt::Temporary), "{answers:?}");
}

/// More than silences are borne.
const MANY: usize = 2 * SILENCES as usize;

#[tokio::test]
async fn names_without_an_answer_keep_nobody_else_from_being_asked_about() {
    let dns = asking(&Server::start());
    ask_many(&dns, "dead.example", MANY).await;
    assert_eq!(dns.txt("_dmarc.other.example", Turn::Further).await, Txt::None);
}

#[tokio::test]
async fn servers_that_answer_nothing_are_left_alone_for_a_while() {
    let server = Server::start();
    let dns = asking(&server);
    // What they said before is no sign of life now.
    assert_eq!(dns.txt("one.example", Turn::First).await, Txt::None);
    assert!(dns.is_there().await);
    server.silence();
    ask_many(&dns, "two.example", MANY).await;
    let before = server.asked();
    assert_eq!(dns.txt("three.example", Turn::First).await, Txt::Temporary);
    assert_eq!(server.asked(), before);
}

/// More names without an answer than there are turns, and so many that the last turn comes when a look-up that began with
/// them would be long over.
#[tokio::test]
async fn waiting_for_a_turn_is_no_silence_and_what_comes_first_does_not_wait_for_the_rest() {
    let server = Server::start();
    let dns = Dns::waiting(&[server.address()], WITHIN, WITHIN * 2);
    let hostile = ask_many(&dns, "dead.example", 4 * AT_ONCE.1);
    let others = async {
        // Behind them in the line.
        while server.asked() < AT_ONCE.1 {
            tokio::task::yield_now().await;
        }
        let further = dns.txt("_dmarc.further.example", Turn::Further);
        let first = dns.txt("_dmarc.first.example", Turn::First);
        tokio::pin!(further);
        tokio::select! {
            biased;
            _ = &mut further => panic!("there was a turn"),
            first = first => assert_eq!(first, Txt::None),
        }
        assert_eq!(further.await, Txt::None);
    };
    tokio::join!(hostile, others);
}
