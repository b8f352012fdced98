use proptest::prelude::*;

use super::*;

const LINK: Link = Link { conversation: [7; 16], participant: [9; 16], last_day: 20_800 };
const SEND: [u8; 16] = [0xab; 16];
const NOW: u64 = 20_800 * SECONDS_A_DAY + 5;

fn key() -> TokenKey {
    TokenKey::new(Zeroizing::new([3; 32]))
}

/// One of each kind: the address or Message-ID as we write it.
fn all() -> [String; 3] {
    [
        reply_address(&key(), "support@example.org", &LINK).unwrap(),
        message_id(&key(), "example.org", &LINK, &SEND),
        bounce_address(&key(), "bounces@example.org", &SEND, LINK.last_day).unwrap(),
    ]
}

#[test]
fn what_is_written_is_read() {
    let [reply, id, bounce] = all().map(|text| read(&key(), &text, NOW).unwrap());
    assert_eq!((reply.kind(), reply.conversation(), reply.send()), (Kind::ReplyAddress, Some([7; 16]), None));
    assert_eq!((id.kind(), id.conversation(), id.send()), (Kind::MessageId, Some([7; 16]), Some(SEND)));
    assert_eq!((bounce.kind(), bounce.conversation(), bounce.send()), (Kind::BounceAddress, None, Some(SEND)));
    assert_eq!(reply.last_day(), LINK.last_day);
    for token in [&reply, &id] {
        assert!(
            token.is_of(&key(), &[9; 16])
                && !token.is_of(&key(), &[8; 16])
                && !token.is_of(&TokenKey::new(Zeroizing::new([4; 32])), &[9; 16])
        );
    }
    assert!(!bounce.is_of(&key(), &[0; 16]));
}

#[test]
fn it_fits_into_an_address() {
    for text in [&all()[0], &all()[2]] {
        assert_eq!(text.split('@').next().unwrap().len(), 64);
    }
    assert_eq!(reply_address(&key(), "longerone@example.org", &LINK), None);
    assert_eq!(reply_address(&key(), "example.org", &LINK), None);
    assert_eq!(bounce_address(&key(), "@example.org", &SEND, 1), None);
    assert!(all()[1].len() < 140, "{}", all()[1].len());
}

#[test]
fn twenty_manglings_do_no_harm() {
    for text in all() {
        let bare = text.trim_matches(['<', '>']).to_owned();
        let token = bare.split('@').next().unwrap().rsplit('+').next().unwrap().to_owned();
        let (start, end) = token.split_at(20);
        let manglings = [
            bare.clone(),
            bare.to_uppercase(),
            bare.chars().enumerate().map(|(n, c)| if n % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect(),
            format!("<{bare}>"),
            format!("\"The desk, really\" <{bare}> (was: nobody)"),
            bare.replace('+', "="),
            bare.replace('+', "-"),
            bare.replace('+', "_"),
            bare.replace('+', "=2B"),
            bare.replace('+', "%2B"),
            format!("desk=3D{token}@example.org"),
            format!("&lt;{bare}&gt;"),
            format!("mailto:{bare}?subject=Re"),
            format!("SRS0=ab12=xy=example.org={bare}"),
            format!("prvs=1234567890={bare}"),
            format!("bounce-{}@list.example", bare.replace('@', "=")),
            format!("<a@b> <{bare}>\r\n <c@d>"),
            format!("{start}\r\n\t{end}@example.org"),
            format!("{start}=\r\n{end}@example.org"),
            format!("> Please write to {bare}."),
            format!("'{bare}'"),
            format!("{token}@MX.other.example"),
            format!("{bare}.invalid"),
        ];
        assert!(manglings.len() >= 20);
        for mangled in manglings {
            assert_eq!(read(&key(), &mangled, NOW), read(&key(), &text, NOW), "{mangled}");
            assert!(read(&key(), &mangled, NOW).is_some(), "{mangled}");
        }
    }
}

#[test]
fn it_runs_out_and_needs_its_key() {
    for text in all() {
        assert!(read(&key(), &text, NOW + SECONDS_A_DAY - 6).is_some());
        assert_eq!(read(&key(), &text, NOW + SECONDS_A_DAY), None);
        assert_eq!(read(&TokenKey::new(Zeroizing::new([4; 32])), &text, NOW), None);
    }
}

#[test]
fn a_token_is_of_one_kind_only() {
    let [reply, _, bounce] = all();
    let turn = |text: &str, from: char, to: char| text.replacen(&format!("+{from}"), &format!("+{to}"), 1);
    let (first, other) =
        (reply.split('+').nth(1).unwrap().chars().next(), bounce.split('+').nth(1).unwrap().chars().next());
    assert_eq!(first, other, "the kind is not in the first five bits");
    assert_eq!(read(&key(), &turn(&reply, 'c', 'd'), NOW), None);
}

#[test]
fn nothing_is_shown_and_nothing_is_endless() {
    assert_eq!(format!("{:?}", key()), "TokenKey");
    let token = read(&key(), &all()[0], NOW).unwrap();
    assert_eq!(format!("{token:?}"), "VerifiedToken { kind: ReplyAddress, last_day: 20800, .. }");
    for text in ["a".repeat(10_000_000), format!("{} ", "c".repeat(56)).repeat(20_000), "\u{fc}".repeat(LONGEST_TEXT)] {
        assert_eq!(crate::base::ends::ends("tokens", move || read(&key(), &text, NOW)), None);
    }
}

#[test]
fn a_participant_is_an_address_whatever_its_case() {
    assert_eq!(participant(" Ann@Example.ORG"), participant("ann@example.org"));
    assert_ne!(participant("ann@example.org"), participant("anne@example.org"));
}

proptest! {
    /// No change of one character, removal or addition gives a token that joins: none that is of its recipient.
    #[test]
    fn no_other_character_passes(which in 0usize..3, place in 0usize..200, character in "[a-z0-9A-Z@+=<> -]", how in 0usize..3) {
        let text = &all()[which];
        let token: String = text.chars().filter(|c| *c != '<' && *c != '>').take_while(|c| *c != '@').collect();
        let start = token.find('+').map_or(0, |plus| plus + 1);
        let place = start + place % (token.len() - start);
        let mut changed: Vec<char> = token.chars().collect();
        let new = character.chars().next().unwrap();
        prop_assume!(how == 2 || !changed[place].eq_ignore_ascii_case(&new));
        match how {
            0 => changed[place] = new,
            1 if place > start => changed.insert(place, new),
            _ => drop(changed.remove(place)),
        }
        let changed: String = changed.into_iter().collect();
        // What stands before a token is no part of it: one more of its first character, for example.
        prop_assume!(!changed.ends_with(&token[start..]));
        match read(&key(), &changed, NOW) {
            None => {}
            // In an address the recipient is sealed apart: a change there gives a token of nobody, which joins nothing.
            Some(found) => {
                prop_assert!(found.conversation().is_some() && !found.is_of(&key(), &LINK.participant));
            }
        }
    }

    #[test]
    fn no_text_is_a_token(text in "[a-z2-7+@<>=\r\n ]{0,300}", bytes in proptest::collection::vec(any::<u8>(), 35..68)) {
        prop_assert_eq!(read(&key(), &text, NOW), None);
        let guessed = data_encoding::BASE32_NOPAD.encode(&bytes);
        prop_assert_eq!(read(&key(), &guessed, NOW), None);
    }

    #[test]
    fn every_link_comes_back(conversation in any::<[u8; 16]>(), participant in any::<[u8; 16]>(), day in any::<u16>(), send in any::<[u8; 16]>()) {
        let link = Link { conversation, participant, last_day: day };
        let now = u64::from(day) * SECONDS_A_DAY;
        for text in [reply_address(&key(), "desk@e.org", &link).unwrap(), message_id(&key(), "e.org", &link, &send)] {
            let found = read(&key(), &text, now).unwrap();
            prop_assert_eq!(found.conversation(), Some(conversation));
            prop_assert!(found.is_of(&key(), &participant));
        }
    }
}
