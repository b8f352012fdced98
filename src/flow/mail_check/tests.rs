use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;
use zeroize::Zeroizing;

use super::standing::tests::{KEY, MAIL as SIGNED, POLICY, signature};
use super::*;
use crate::mail::dkim::TxtAnswer;
use crate::mail::token::Link;
use crate::model::entry::MailHead;
use crate::net::dns::Turn;
use crate::net::dns::tests::scripted::Dns as Server;

const MAIL: &str =
    "Received: from a by mx.example.org; Mon, 2 Nov 2026 10:00:00 +0000\r\nFrom: ada@signed.example\r\n\r\nHi.\r\n";

/// Answers every question with silence, and counts them.
#[derive(Default)]
struct Silent(AtomicUsize);

impl Ask for Silent {
    async fn txt(&self, _: &str, _: Turn) -> TxtAnswer {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

fn coming_to(address: &str, trusted: &[&str], raw: &str) -> (TrustedServers, ReceivedMail) {
    let head = MailHead { envelope_to: vec![address.to_owned()], ..MailHead::unchecked() };
    let at = Timestamp::from_seconds(1_790_000_000);
    let mail = ReceivedMail { channel: address.to_owned(), head, raw: raw.to_owned().into(), at, account: 0 };
    (TrustedServers { ids: trusted.iter().map(|id| (*id).to_owned()).collect(), remove_forged: false }, mail)
}

/// However many channels a mail comes to, its sender is looked into for as long as for one.
#[tokio::test(start_paused = true)]
async fn a_mail_for_many_channels_is_looked_into_once() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let link = Link { conversation: [3; 16], participant: token::participant("ada@signed.example"), last_day: 30_000 };
    let answering = token::reply_address(&key, "re@example.org", &link).unwrap();
    let stated = format!("Authentication-Results: mx.example.org; dmarc=pass header.from=signed.example\r\n{MAIL}");
    let mut mails: Vec<_> = (0..40).map(|number| coming_to(&format!("{number}@example.org"), &[], &stated)).collect();
    mails.push(coming_to(&answering, &[], &stated));
    mails.push(coming_to("last@example.org", &["mx.example.org"], &stated));
    let (silent, begun) = (Silent::default(), tokio::time::Instant::now());
    notes_together(&silent, &key, &mut mails).await;
    // The questions about one domain, once for those who trust nobody and once for those who trust the server.
    assert_eq!(silent.0.load(Ordering::Relaxed), 2);
    assert_eq!(begun.elapsed().as_secs(), FETCHED.within.as_secs(), "by the paused clock");
    let sender = |place: usize| &mails[place].1.head.sender;
    assert_eq!((sender(0).level, sender(0).token), (MailLevel::Unknown, None));
    assert_eq!(sender(40).token.map(|token| token.of_sender), Some(true), "each has the token of its own address");
    assert_eq!(sender(41).level, MailLevel::Authenticated, "each trusts whom it trusts");
}

/// Many servers write what they found below their own Received; only a channel that says that they remove forged fields
/// believes it.
#[tokio::test(start_paused = true)]
async fn what_stands_below_counts_for_those_who_say_so() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let told = "Authentication-Results: mx.example.org; dmarc=pass header.from=signed.example\r\nFrom:";
    let raw = MAIL.replace("From:", told);
    let mut mails: Vec<_> = (0..2).map(|_| coming_to("us@example.org", &["mx.example.org"], &raw)).collect();
    mails[1].0.remove_forged = true;
    notes_together(&Silent::default(), &key, &mut mails).await;
    let levels: Vec<MailLevel> = mails.iter().map(|(_, mail)| mail.head.sender.level).collect();
    assert_eq!(levels, [MailLevel::Unknown, MailLevel::Authenticated]);
}

/// The Message-ID of our mail counts wherever in a report it stands, also folded and behind a long notice.
#[test]
fn a_token_in_a_report_is_found() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let link = Link { conversation: [3; 16], participant: token::participant("ada@signed.example"), last_day: 30_000 };
    let id = token::message_id(&key, "example.org", &link, &[9; 16]);
    let at = Timestamp::from_seconds(1_790_000_000);
    let notice = "It could not be delivered, which is told at length here.\r\n";
    for (notices, name) in [(1, "Message-ID: "), (1, "Message-Id:\r\n\t"), (6_000, "Message-ID: ")] {
        let raw = format!(
            "From: MAILER-DAEMON@mx.example\r\nContent-Type: multipart/report; boundary=r\r\n\r\n--r\r\n\r\n{}\r\n--r\r\n\
             Content-Type: message/rfc822\r\n\r\nSubject: Your order\r\n{name}{id}\r\n\r\nHello.\r\n{}\r\n--r--\r\n",
            notice.repeat(notices),
            "Hello again.\r\n".repeat(60_000)
        );
        let found = judge(&key, &Found::default(), &[], raw.as_bytes(), at);
        assert_eq!(found.token.and_then(|token| token.send_id), Some(SendId::from_bytes([9; 16])), "{name:?}");
        assert_eq!(found.believed, Believed::All);
    }
}

/// Whoever answers a mail of ours shows its Message-ID, and may give it back in full; a server gives it back to us.
#[test]
fn words_alone_are_believed_of_whom_a_mail_was_not_sent_to() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let at = Timestamp::from_seconds(1_790_000_000);
    let link =
        Link { conversation: [3; 16], participant: token::participant("postmaster@hotel.example"), last_day: 21_117 };
    let id = token::message_id(&key, "example.org", &link, &[9; 16]);
    let bounces = token::bounce_address(&key, "re@example.org", &[9; 16], 20_730).unwrap();
    let (answers, given_back) = (format!("In-Reply-To: {id}\r\n"), format!("Message-ID: {id}\r\n"));
    for (to, from, more, text, believed) in [
        ("us@example.org", "postmaster@hotel.example", answers.as_str(), "It is lost.", Believed::ByMachine),
        ("us@example.org", "postmaster@hotel.example", "", &given_back, Believed::ByMachine),
        ("us@example.org", "postmaster@mx.example", &answers, "It is lost.", Believed::ByMachine),
        ("us@example.org", "postmaster@mx.example", "", &given_back, Believed::All),
        ("us@example.org", "postmaster@mx.example", &answers, &given_back, Believed::All),
        (&bounces, "postmaster@mx.example", &answers, "It is lost.", Believed::All),
    ] {
        let raw = format!("Return-Path: <>\r\nFrom: {from}\r\n{more}\r\n{text}\r\n");
        let found = judge(&key, &Found::default(), &[to.to_owned()], raw.as_bytes(), at);
        assert_eq!(found.token.and_then(|token| token.send_id), Some(SendId::from_bytes([9; 16])));
        assert_eq!(found.believed, believed, "to {to} from {from} {more}{text}");
    }
}

/// A report that comes weeks later is of no mail that a server still has: it may be anybody's.
#[test]
fn reports_are_believed_for_two_weeks() {
    const DAY: i64 = 86_400;
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let sent_at = 1_790_000_000;
    let last_day = u16::try_from(sent_at / DAY + 400).unwrap();
    let link = Link { conversation: [3; 16], participant: token::participant("ada@signed.example"), last_day };
    let id = token::message_id(&key, "example.org", &link, &[9; 16]);
    let raw = format!("From: MAILER-DAEMON@mx.example\r\n\r\nMessage-ID: {id}\r\n");
    for (days, believed) in
        [(0, Believed::All), (13, Believed::All), (15, Believed::Receipts), (400, Believed::Receipts)]
    {
        let found = judge(&key, &Found::default(), &[], raw.as_bytes(), Timestamp::from_seconds(sent_at + days * DAY));
        assert!(found.token.is_some() && found.believed == believed, "{days}: {:?}", found.believed);
    }
}

/// Knows one policy, and of no signature.
struct Policy(&'static str);

impl Ask for Policy {
    async fn txt(&self, name: &str, _: Turn) -> TxtAnswer {
        match name {
            "_dmarc.signed.example" => TxtAnswer::Found(vec![format!("v=DMARC1; p={}", self.0)]),
            _ => TxtAnswer::None,
        }
    }
}

/// A mail whose sender is vouched for by SPF alone is nobody's forgery while our own server cannot ask the DNS.
#[tokio::test]
async fn what_our_own_server_could_not_learn_is_open() {
    use MailLevel::{Failed, Unknown};
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let (from, sender) = ("header.from=signed.example", "smtp.mailfrom=signed.example");
    for (policy, stated, level) in [
        ("none", format!("spf=temperror {sender}; dmarc=temperror {from}"), Unknown),
        ("none", format!("spf=temperror {sender}"), Unknown),
        ("none", format!("spf=temperror {sender}; spf=none smtp.helo=mx.signed.example"), Unknown),
        ("none", format!("spf=fail {sender}; dmarc=temperror {from}"), Unknown),
        ("none", format!("spf=fail {sender}"), Failed),
        ("none", "spf=none".to_owned(), Failed),
        ("reject", format!("spf=temperror {sender}; dmarc=temperror {from}"), Unknown),
        ("reject", format!("spf=temperror {sender}; dmarc=temperror header.from=other.example"), Failed),
        ("reject", format!("spf=temperror {sender}; dmarc=fail {from}"), Failed),
    ] {
        let raw = format!("Authentication-Results: mx.example.org; {stated}\r\n{MAIL}");
        let mut mails = vec![coming_to("us@example.org", &["mx.example.org"], &raw)];
        notes_together(&Policy(policy), &key, &mut mails).await;
        assert_eq!(mails[0].1.head.sender.level, level, "p={policy}; {stated}");
    }
}

/// Another From, or the field that was signed, may stand in what is not read of a header. A sender who makes it so long is
/// not better off than one with two From fields, whatever a trusted server says.
#[tokio::test(start_paused = true)]
async fn nothing_is_proven_by_a_header_that_is_read_in_part() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let stated = format!("Authentication-Results: mx.example.org; dmarc=pass header.from=signed.example\r\n{MAIL}");
    let padded = |fields: usize| stated.replace("\r\n\r\n", &format!("\r\n{}\r\n", "a:\r\n".repeat(fields)));
    let mut mails: Vec<_> =
        [9000, 10_000].map(|fields| coming_to("us@example.org", &["mx.example.org"], &padded(fields))).into();
    for mail in mails.chunks_mut(1) {
        notes_together(&Silent::default(), &key, mail).await;
    }
    let levels: Vec<MailLevel> = mails.iter().map(|(_, mail)| mail.head.sender.level).collect();
    assert_eq!(levels, [MailLevel::Authenticated, MailLevel::Failed]);
}

/// Of what is answered, the last of each field are looked at, however many there are.
#[test]
fn a_token_is_found_behind_many_references() {
    let key = TokenKey::new(Zeroizing::new([7; 32]));
    let link = Link { conversation: [3; 16], participant: token::participant("ada@signed.example"), last_day: 30_000 };
    let id = token::message_id(&key, "example.org", &link, &[9; 16]);
    let at = Timestamp::from_seconds(1_790_000_000);
    for (before, behind, found) in [(300_000, 0, true), (10, 11, true), (10, 12, false)] {
        let raw =
            MAIL.replace("From:", &format!("References: {}{id}{}\r\nFrom:", "a ".repeat(before), " a".repeat(behind)));
        let token = judge(&key, &Found::default(), &[], raw.as_bytes(), at).token;
        assert_eq!(token.is_some(), found, "{before} before and {behind} behind");
    }
}

/// Mails whose signers' names all hang are checked beside those of honest senders, and keep none of these from being known.
#[tokio::test]
async fn a_storm_of_dead_names_leaves_honest_senders_known() {
    let names = Server::start();
    for (name, record) in [POLICY, KEY, ("_dmarc.evil.example", "v=DMARC1; p=none")] {
        names.add(name, record);
    }
    let within = Duration::from_millis(300);
    let key = Arc::new(TokenKey::new(Zeroizing::new([7; 32])));
    let checking = Checking { dns: Dns::waiting(&[names.address()], within, within * 2), key };
    let dead = |number| signature(&format!("a.b.c.d.e.z{number}.dead.evil.example"), "s1");
    let evil = (0..10).map(dead).collect::<String>() + &SIGNED.replace("signed.example", "evil.example");
    let honest = signature("signed.example", "s1") + SIGNED;
    let trusted = TrustedServers::default();
    // They come faster than look-ups are given up.
    let storm = join_all((0..60).map(|number| {
        let (checking, trusted, evil) = (&checking, &trusted, &evil);
        async move {
            sleep(Duration::from_millis(25) * number).await;
            let (_, mut mail) = coming_to("us@example.org", &[], evil);
            step(checking, trusted, &mut mail).await;
        }
    }));
    let known = async {
        while names.asked() < 100 {
            sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..3 {
            let (_, mut mail) = coming_to("us@example.org", &[], &honest);
            step(&checking, &trusted, &mut mail).await;
            assert_eq!(mail.head.sender.level, MailLevel::Authenticated);
        }
    };
    tokio::select! {
        () = known => {}
        () = async { drop(storm.await); std::future::pending().await } => {}
    }
}
