//! J14: two hundred mails as they really come, in one go. All are taken and kept byte for byte, each goes on with its own story
//! and nobody else's, and no machine is answered.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;

use crate::support::gateway::{ANSWERING_POLICY, Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::hand_over;
use crate::support::scripted_smtp::{Act, ScriptSmtp};
use crate::support::signer::Signer;
use crate::support::{size, wait};

/// A mail of the journey.
struct Letter {
    /// What its subject has in it, by which it is known again.
    mark: String,
    /// Which story it belongs to.
    story: String,
    /// Whether a program wrote it.
    robot: bool,
    /// Our address that it goes to.
    to: &'static str,
    raw: Vec<u8>,
}

const SUPPORT: &str = "support@example.test";
const SALES: &str = "sales@example.test";

/// Makes the mails, each with a number of its own.
#[derive(Default)]
struct Sack(Vec<Letter>);

impl Sack {
    /// A mail of `from` with these fields and this body. `{mark}` in them is what it is known by.
    fn put(&mut self, from: &str, story: &str, fields: &str, body: &[u8]) -> &mut Letter {
        let mark = format!("mark{:03}", self.0.len());
        let from = format!("{from}@signed.example");
        let id = if fields.contains("Message-ID") {
            String::new()
        } else {
            format!("Message-ID: <{mark}@signed.example>\r\n")
        };
        let subject = if fields.contains("Subject") { "" } else { "Subject: About {mark}\r\n" };
        let fields = format!("{subject}{fields}").replace("{mark}", &mark);
        let head = format!(
            "Return-Path: <{from}>\r\nFrom: {from}\r\nTo: {SUPPORT}\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\n{id}{fields}\r\n"
        );
        let raw = [head.as_bytes(), body, b"\r\n"].concat();
        self.0.push(Letter { mark, story: story.to_owned(), robot: false, to: SUPPORT, raw });
        self.0.last_mut().unwrap()
    }
}

fn multipart(kind: &str, parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (fields, content) in parts {
        body.extend_from_slice(format!("--x\r\n{fields}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--");
    (format!("MIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary=x\r\n"), body)
}

/// The mails, but for what refers to stories that are known only later.
fn letters() -> Vec<Letter> {
    let mut sack = Sack::default();
    for number in 0..30 {
        let (who, story) = (format!("ada{number}"), format!("story {number}"));
        sack.put(&who, &story, &format!("Message-ID: <first{number}@signed.example>\r\n"), b"It does not boil.");
        let about =
            format!("In-Reply-To: <first{number}@signed.example>\r\nReferences: <first{number}@signed.example>\r\n");
        sack.put(&who, &story, &format!("Subject: AW: something else {{mark}}\r\n{about}"), b"Still not.");
    }
    for number in 0..10 {
        sack.put(&format!("noid{number}"), &format!("no id {number}"), "X-Was: Message-ID\r\n", b"Who am I?");
        let (who, story) = (format!("two{number}"), format!("two boxes {number}"));
        let first = sack.put(&who, &story, "", b"To both of you.");
        let (mark, raw) = (first.mark.clone(), first.raw.clone());
        sack.0.push(Letter { mark, story, robot: false, to: SALES, raw });
        let latin = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
        sack.put(&format!("char{number}"), &format!("charset {number}"), latin, b"Gr\xfc\xdfe");
        let invitation = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:Tea\r\nDTSTART:20260303T090000Z\r\nEND:VEVENT\r\nEND:VCALENDAR";
        let (fields, body) = multipart(
            "mixed",
            &[("Content-Type: text/plain", b"Come"), ("Content-Type: text/calendar; method=REQUEST", invitation)],
        );
        sack.put(&format!("cal{number}"), &format!("calendar {number}"), &fields, &body);
        let (fields, body) = match number % 2 {
            0 => multipart(
                "signed",
                &[("Content-Type: text/plain", b"Signed"), ("Content-Type: application/pgp-signature", b"s")],
            ),
            _ => multipart(
                "encrypted",
                &[
                    ("Content-Type: application/pgp-encrypted", b"Version: 1"),
                    ("Content-Type: application/octet-stream", b"e"),
                ],
            ),
        };
        sack.put(&format!("pgp{number}"), &format!("pgp {number}"), &fields, &body);
        // Passes on what somebody else wrote, and refers to it.
        let passed = format!("Subject: WG: {{mark}}\r\nReferences: <first{number}@signed.example>\r\n");
        sack.put(
            &format!("wg{number}"),
            &format!("passed on {number}"),
            &passed,
            b"-----Urspr\xfcngliche Nachricht-----\r\nVon: ada",
        );
        for (kind, fields) in [
            ("ooo", "Auto-Submitted: auto-replied\r\n"),
            ("list", "List-Id: <kettles.example>\r\nPrecedence: list\r\n"),
            ("bulk", "Precedence: bulk\r\n"),
        ] {
            sack.put(&format!("{kind}{number}"), &format!("{kind} {number}"), fields, b"By a program.").robot = true;
        }
    }
    for number in 0..5 {
        let (fields, body) = multipart(
            "report; report-type=delivery-status",
            &[
                ("Content-Type: text/plain", b"Gone"),
                (
                    "Content-Type: message/delivery-status",
                    b"Final-Recipient: rfc822; x@y.example\r\nAction: failed\r\nStatus: 5.1.1",
                ),
            ],
        );
        sack.put("mailer-daemon", &format!("bounce {number}"), &fields.replace("Return-Path", "X"), &body).robot = true;
        let letter = "In-Reply-To: <newsletter@example.test>\r\nReferences: <newsletter@example.test>\r\n";
        sack.put(&format!("reader{number}"), &format!("reader {number}"), letter, b"About your newsletter.");
        let (fields, body) = multipart(
            "mixed",
            &[
                ("Content-Type: text/plain", b"See"),
                ("Content-Type: application/ms-tnef; name=winmail.dat", b"\x78\x9f\x3e\x22\x01\x00"),
            ],
        );
        sack.put(&format!("tnef{number}"), &format!("tnef {number}"), &fields, &body);
        let injected = "Subject: =?utf-8?q?{mark}=0D=0ABcc:_eve@evil.example?=\r\n";
        sack.put(&format!("inject{number}"), &format!("injected {number}"), injected, b"Bcc: eve@evil.example");
        let references: Vec<String> = (0..10_000).map(|n| format!("<{number}.{n}@deep.example>")).collect();
        sack.put(
            &format!("deep{number}"),
            &format!("deep {number}"),
            &format!("References: {}\r\n", references.join("\r\n ")),
            b"Deep.",
        );
    }
    let file = BASE64.encode(&vec![7; size(3 << 20, 29 << 20)]);
    let lines: Vec<&[u8]> = file.as_bytes().chunks(76).collect();
    let (fields, body) = multipart(
        "mixed",
        &[(
            "Content-Type: application/pdf; name=all.pdf\r\nContent-Transfer-Encoding: base64",
            &lines.join(&b"\r\n"[..]),
        )],
    );
    sack.put("large", "large", &fields, &body);
    sack.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_mails_find_their_stories() {
    let server = ScriptSmtp::start(true, |_, _| Act::Go).await;
    let desk = HelpDesk::start().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .handed_over()
        .answering_by("support", SUPPORT, &server, "")
        .answering_by("sales", SALES, &server, "")
        .script(ANSWERING_POLICY);
    let signer = Signer::new(&project);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let port = gateway.lmtp().await;
    let mut letters = letters();
    // Strangers who know the numbers of stories.
    let first = signer.sign(&letters[0].raw);
    hand_over(port, SUPPORT, &first).unwrap();
    let known = desk.wait_for(1).await[0].conversation().to_owned();
    letters[0].raw = first;
    let mut sack = Sack(letters);
    while sack.0.len() < 200 {
        let number = sack.0.len();
        let subject = format!("Subject: Re: [#{known}] {{mark}}\r\nX-Ticket: {known}\r\n");
        sack.put(&format!("eve{number}"), &format!("stranger {number}"), &subject, format!("About {known}").as_bytes());
    }
    let mut letters = sack.0;
    let signed = signer.sign_all(letters.iter().skip(1).map(|letter| letter.raw.as_slice()));
    for (letter, signed) in letters.iter_mut().skip(1).zip(signed) {
        letter.raw = signed;
        hand_over(port, letter.to, &letter.raw).unwrap();
    }
    let count = letters.len();
    let taken = desk.wait_for(count).await;
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);

    // Which story each went into, and whose it is.
    let mut stories: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut authors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for one in &taken {
        let told = one.interaction();
        let subject = told["subject"].as_str().unwrap();
        let at = subject.find("mark").unwrap_or_else(|| panic!("`{subject}` is known by nothing"));
        let mark = &subject[at..at + 7];
        stories.insert((mark, told["channel"]["account"].as_str().unwrap()), one.conversation());
        authors.entry(one.conversation()).or_default().insert(told["author"]["identifier"]["value"].to_string());
    }
    assert_eq!(stories.len(), count);
    let joined: Vec<_> = authors.iter().filter(|(_, authors)| authors.len() > 1).collect();
    assert!(joined.is_empty(), "stories of several people: {joined:?}");
    let mut of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for letter in &letters {
        of.entry(&letter.story).or_default().insert(stories[&(letter.mark.as_str(), letter.to)]);
    }
    let wrong: Vec<_> = of.iter().filter(|(_, conversations)| conversations.len() > 1).collect();
    println!("{count} mails, {} stories, {} of them wrong", authors.len(), wrong.len());
    assert!(wrong.len() * 100 <= count, "{wrong:?}");

    // Whoever quotes a story's number has one of their own, which says so.
    for one in taken.iter().filter(|one| one.interaction()["subject"].to_string().contains(&known)) {
        let links = one.event["data"]["conversation"]["links"].to_string();
        assert!(one.conversation() != known && links.contains(&known), "{links}");
    }
    // The originals, byte for byte.
    for letter in &letters {
        let one = taken.iter().find(|one| {
            let told = one.interaction();
            told["subject"].as_str().unwrap().contains(&letter.mark) && told["channel"]["account"] == letter.to
        });
        let told = one.unwrap().interaction();
        let path = format!(
            "/v1/interactions/{}/parts/{}",
            told["id"].as_str().unwrap(),
            told["parts"].as_array().unwrap().len() - 1
        );
        let original = wait::until(&letter.mark, wait::SOON, async || {
            Some(gateway.get(&token, &path).await).filter(|answer| answer.status == 200)
        });
        assert!(original.await.body.as_ref() == letter.raw, "{} is not what was handed over", letter.mark);
    }
    // What a program wrote is known for it, and says why no program answers it.
    for letter in letters.iter().filter(|letter| letter.robot) {
        let told = taken.iter().find(|one| one.interaction()["subject"].to_string().contains(&letter.mark)).unwrap();
        let told = told.interaction();
        assert!(told["mail"]["no_auto_answer"].is_string(), "{}: {told:#}", letter.mark);
        assert!(told["flags"].as_array().unwrap().contains(&"automated".into()), "{}: {told:#}", letter.mark);
    }
    // Whom a machine answered.
    let robots: BTreeSet<String> = letters.iter().filter(|letter| letter.robot).map(from).collect();
    let answered: BTreeSet<String> = server.taken().into_iter().flat_map(|mail| mail.to).collect();
    println!("{} people were answered", answered.len());
    assert!(!answered.is_empty() && answered.is_disjoint(&robots), "{answered:?}");
}

fn from(letter: &Letter) -> String {
    let text = String::from_utf8_lossy(&letter.raw);
    let line = text.lines().find_map(|line| line.strip_prefix("From: ")).unwrap();
    line.to_owned()
}
