//! Mails made to do harm cost little time and memory, and lose nothing.

use std::process::Command;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::Value;

use crate::support::gateway::{Gateway, Project, SEGUE};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::hand_over;
use crate::support::wait;

/// What one mail may cost.
const WITHIN: Duration = Duration::from_secs(2);
const KILOBYTES: u64 = 256 * 1024;

fn head(more: &str) -> String {
    format!(
        "Message-ID: <bomb@customer.example>\r\nFrom: ada@customer.example\r\nTo: box@example.test\r\nSubject: Boom\r\n{more}"
    )
}

fn nested(levels: usize) -> String {
    let mut mail = head("");
    for level in 0..levels {
        mail.push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{level}\"\r\n\r\n--b{level}\r\n"));
    }
    mail.push_str("Content-Type: text/plain\r\n\r\ndeep down\r\n");
    for level in (0..levels).rev() {
        mail.push_str(&format!("--b{level}--\r\n"));
    }
    mail
}

/// Invitations in a large mail: each is looked into.
fn many_invitations(invitations: usize) -> String {
    let mut mail = head("Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n");
    for number in 0..invitations {
        mail.push_str("--b\r\nContent-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n");
        mail.push_str(&format!("SUMMARY:no. {number}\r\nDESCRIPTION:{}\r\n", "x\r\n".repeat(2000)));
        mail.push_str("END:VEVENT\r\nEND:VCALENDAR\r\n");
    }
    mail.push_str("--b--\r\n");
    mail
}

fn many_parts(parts: usize) -> String {
    let mut mail = head("Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n");
    for part in 0..parts {
        mail.push_str(&format!("--b\r\nContent-Type: text/plain; name=\"{part}.txt\"\r\n\r\nno. {part}\r\n"));
    }
    mail.push_str("--b--\r\n");
    mail
}

/// Parts of which each has many fields, and nothing in them.
fn many_fields(parts: usize, fields: usize) -> String {
    let part = format!("--b\r\n{}\r\nhello\r\n", "a:\r\n".repeat(fields));
    head("Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n") + &part.repeat(parts) + "--b--\r\n"
}

/// Address fields of 250 kB in which no address is.
fn odd_addresses(names: &[&str], piece: &str) -> String {
    let value = piece.repeat(250_000 / piece.len());
    head(&names.iter().map(|name| format!("{name}: {value}\r\n")).collect::<String>()) + "\r\nhello"
}

/// Multiparts that name boundaries and never open them.
fn unopened(parts: usize) -> String {
    let mut mail = head("Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n");
    for part in 0..parts {
        mail.push_str(&format!("--b\r\nContent-Type: multipart/mixed; boundary=\"never{part}\"\r\n\r\n"));
    }
    mail
}

/// The same with one boundary for all, each in the one before it as far as a reader goes.
fn one_boundary(parts: usize) -> String {
    head("Content-Type: multipart/a; boundary=x\r\n\r\n")
        + &"--x\nContent-Type:multipart/a;boundary=y\n\n".repeat(parts)
}

/// A part that holds mails in each other, behind an encoding.
fn nested_behind_base64(mails: usize) -> String {
    let inner = BASE64.encode("Content-Type:message/rfc822\n\n".repeat(mails).as_bytes());
    head("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n") + &inner
}

/// A field whose parameter comes in very many pieces.
fn in_pieces(pieces: usize) -> String {
    let pieces: String = (1..=pieces).map(|piece| format!("a*{piece}=x;")).collect();
    head(&format!("Content-Type: text/plain;{pieces}\r\n\r\nhello"))
}

/// Pages that are small and cost much, one beside the other.
fn many_pages(pages: usize) -> String {
    let formats: String = (0..220).map(|format| format!("<tt a{format}>")).collect();
    let page = format!("--b\r\nContent-Type: text/html\r\n\r\n<p>{formats}{}\r\n", "<p>x".repeat(1000));
    head("Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n") + &page.repeat(pages) + "--b--\r\n"
}

/// A uuencoded file of lines that say that they hold 63 bytes, and hold none.
fn empty_lines(lines: usize) -> String {
    let first = "A".repeat(84);
    head("\r\n") + &format!("begin 644 a\n_{first}\n{}end\n", "_\n".repeat(lines))
}

/// Runs a command under a watch. Gives what it printed, the seconds that it worked and its largest size in kilobytes.
fn watched(arguments: &[&str]) -> (String, f64, u64) {
    let script = "import resource, subprocess, sys\n\
        run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)\n\
        used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
        figures = (run.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss)\n\
        sys.stdout.buffer.write(b'%d %f %d\\n' % figures + run.stdout)\n";
    let run = Command::new("python3").args(["-c", script, SEGUE]).args(arguments).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let (figures, printed) = said.split_once('\n').unwrap();
    let figures: Vec<&str> = figures.split(' ').collect();
    assert_eq!(figures[0], "0", "{}", String::from_utf8_lossy(&run.stderr));
    (printed.to_owned(), figures[1].parse().unwrap(), figures[2].parse().unwrap())
}

#[test]
fn mails_that_are_made_to_do_harm_cost_little_and_are_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let html = |inner: String| head("Content-Type: text/html\r\n\r\n") + &inner;
    let long_font = format!("<font color={}>", "A".repeat(60_000));
    let rfc822 = "Content-Type: message/rfc822\r\n\r\n";
    let bombs = [
        ("1,000 multiparts in each other", nested(1000), Some("too_deep")),
        ("10,000 parts", many_parts(10_000), Some("many_parts")),
        ("900 invitations", many_invitations(900), None),
        ("20,000 multiparts that are never opened", unopened(20_000), Some("many_parts")),
        ("1 MB of header", head(&format!("X-Long: {}\r\n\r\n", "x".repeat(1 << 20))), Some("long_header")),
        ("20,000 fields", head(&"X: y\r\n".repeat(20_000)) + "\r\nhello", Some("long_header")),
        ("24 parts of 262,144 fields", many_fields(24, 262_144), Some("long_header")),
        ("262,144 references", head(&format!("References: {}\r\n\r\nhello", "a ".repeat(1 << 18))), None),
        ("quotes in brackets in From", odd_addresses(&["From"], "<\"\\\""), None),
        ("a word of 250 kB in From", odd_addresses(&["From"], "a"), None),
        ("quotes in brackets in To and Cc", odd_addresses(&["To", "Cc", "To", "Cc"], "<\"\\\""), None),
        ("words of 250 kB in To and Cc", odd_addresses(&["To", "Cc", "To", "Cc"], "a"), None),
        ("100,000 mails in each other", head("") + &rfc822.repeat(100_000) + "hello", None),
        ("3,000 mails in each other in base64", nested_behind_base64(3000), None),
        ("16,000 mails in each other", head("") + &rfc822.repeat(16_000) + "hello", None),
        ("12,000 multiparts with one boundary", one_boundary(12_000), Some("many_parts")),
        ("40,000 pieces of a parameter", in_pieces(40_000), None),
        ("20,000 blocks in each other", html("<div>".repeat(20_000)), Some("html_left_out")),
        (
            "a long format in 99,999 paragraphs",
            html(format!("<p>{long_font}{}", "<p>x".repeat(99_999))),
            Some("html_left_out"),
        ),
        (
            "blocks behind what is no text",
            html(format!("<select><xmp></select>{}", "<div>".repeat(80_000))),
            Some("html_left_out"),
        ),
        ("2 MB of quotes", head("\r\n") + &"> ".repeat(1 << 20), None),
        ("2 MB of one character", head("\r\n") + &"_".repeat(2 << 20), None),
        (
            "20,000 addresses",
            head(&format!("Cc: {}z@example.test\r\n\r\nhello", "a@example.test, ".repeat(20_000))),
            Some("many_addresses"),
        ),
        ("64 pages with many formats", many_pages(64), Some("html_left_out")),
        ("a file of 12,000,000 empty lines", empty_lines(12_000_000), None),
        ("5 MB of base64", head("Content-Transfer-Encoding: base64\r\n\r\n") + &"QUJD\r\n".repeat(900_000), None),
    ];
    for (what, mail, mark) in bombs {
        let file = folder.path().join("bomb.eml");
        std::fs::write(&file, &mail).unwrap();
        let (printed, seconds, kilobytes) = watched(&["normalize", "--connector", "email", file.to_str().unwrap()]);
        println!("{what}: {} bytes, {seconds:.2} s, {} MB", mail.len(), kilobytes >> 10);
        wait::promised(what, Duration::from_secs_f64(seconds), WITHIN);
        assert!(kilobytes < KILOBYTES, "{what}: {kilobytes} kB");
        let outcome: Value = serde_json::from_str(&printed).unwrap();
        let interaction = &outcome["interaction"];
        let original = interaction["parts"].as_array().unwrap().last().unwrap();
        assert_eq!(original["blob"]["size"], mail.len(), "{what}: the original is kept whole");
        let marks = interaction["mail"]["marks"].as_array().cloned().unwrap_or_default();
        assert!(mark.is_none_or(|mark| marks.contains(&mark.into())), "{what}: {marks:?}");
    }
}

/// A mail of very many files is read, kept and told of once, and not once for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_mail_come_together() {
    let desk = HelpDesk::start().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received", "interaction.updated"])
        .table("[lmtp]\naddress = \"127.0.0.1:0\"\n")
        .channel("mail", "email", "address = \"box@example.test\"\n");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let mail = many_parts(10_000);
    hand_over(gateway.lmtp().await, "box@example.test", mail.as_bytes()).unwrap();
    let told = desk.wait_for(2).await;
    let [received, updated] = told.as_slice() else { panic!("{} events for one mail", told.len()) };
    let id = received.interaction()["id"].as_str().unwrap();
    assert_eq!(updated.interaction()["id"], id);
    let read = async |more: String| gateway.get(&token, &format!("/v1/interactions/{id}{more}")).await;
    let whole: Value = serde_json::from_slice(&read(String::new()).await.body).unwrap();
    let parts = whole["interaction"]["parts"].as_array().unwrap();
    assert!(parts.len() > 900, "{} parts", parts.len());
    assert!(parts.iter().all(|part| part["blob"]["fetch"] == "fetched"));
    assert_eq!(project.number("SELECT count(*) FROM entry WHERE kind = 5"), 1);
    assert_eq!(project.number("SELECT count(*) FROM media"), 0);
    let at = parts.len() / 2;
    let number = parts[at]["blob"]["filename"].as_str().unwrap().trim_end_matches(".txt");
    assert_eq!(read(format!("/parts/{at}")).await.body.as_ref(), format!("no. {number}").as_bytes());
    assert!(read(format!("/parts/{}", parts.len() - 1)).await.body.as_ref() == mail.as_bytes());
}
