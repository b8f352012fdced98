//! Whatever the content, and however a session is cut on its way, the same arrives.

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::super::dots::stuff;
use super::*;

fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()];
    let word = prop_oneof![
        Just(b"\r\n.\r\n".to_vec()),
        Just(b"\r\n.".to_vec()),
        Just(b"\n.\n".to_vec()),
        Just(b"\r\n".to_vec()),
        proptest::collection::vec(byte, 0..20),
    ];
    proptest::collection::vec(word, 0..30).prop_map(|words| words.concat())
}

/// The contents that arrive, and all that is said.
async fn speak(session: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, String) {
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings(), &keeper).connect();
    let (mut rest, mut cuts) = (session, cuts.iter().cycle());
    while !rest.is_empty() {
        let at = cuts.next().map_or(rest.len(), |cut| (*cut).min(rest.len()));
        let (piece, behind) = rest.split_at(at);
        // Fails once the server has closed, which it may do before the end.
        let _ = served.client.io.write_all(piece).await;
        // Lets the server read it before the next one comes.
        tokio::time::sleep(std::time::Duration::from_micros(1)).await;
        rest = behind;
    }
    let mut said = String::new();
    served.client.io.read_to_string(&mut said).await.unwrap();
    let contents = keeper.mails.lock().iter().map(|mail| mail.raw.to_vec()).collect();
    (contents, said)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_cuts_of_a_session_change_nothing(
        contents in proptest::collection::vec(awkward(), 1..4),
        cuts in proptest::collection::vec(1usize..90, 0..12),
    ) {
        let mut session = b"LHLO mx.example\r\n".to_vec();
        for content in &contents {
            session.extend_from_slice(b"MAIL FROM:<>\r\nRCPT TO:<bob@shop.example>\r\nRCPT TO:<later@shop.example>\r\nDATA\r\n");
            session.extend_from_slice(&stuff(content));
        }
        session.extend_from_slice(b"QUIT\r\n");
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (arrived, said) = runtime.block_on(speak(&session, &cuts));
        let ended = |content: &Vec<u8>| {
            let whole = content.is_empty() || content.ends_with(b"\r\n");
            [&content[..], if whole { &b""[..] } else { b"\r\n" }].concat()
        };
        prop_assert_eq!(arrived, contents.iter().map(ended).collect::<Vec<_>>());
        prop_assert_eq!(said.matches("250 2.0.0 stored\r\n451 4.3.0").count(), contents.len());
        prop_assert!(said.ends_with("221 2.0.0 goodbye\r\n"));
    }

    #[test]
    fn any_bytes_are_answered_the_same_in_any_pieces(
        bytes in awkward(),
        cuts in proptest::collection::vec(1usize..30, 1..12),
    ) {
        let session = [b"LHLO x\r\nMAIL FROM:<>\r\n", &bytes[..], b"\r\nQUIT\r\n"].concat();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let whole = runtime.block_on(speak(&session, &[]));
        prop_assert_eq!(runtime.block_on(speak(&session, &cuts)), whole);
    }
}
