//! A real mail server, started by `tests/mail` for one test; it ends with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::source;

/// The password of the user `box`.
pub(crate) const PASSWORD: &str = "box-password-7d3f";

/// A running server.
pub(crate) struct MailServer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    told: Value,
}

impl MailServer {
    /// Dovecot with one user, `box`.
    pub(crate) fn dovecot() -> MailServer {
        let mut server = MailServer::start(&["dovecot"]);
        server.ask(&format!("user box {PASSWORD}"));
        server
    }

    fn start(arguments: &[&str]) -> MailServer {
        let mut command = Command::new(source::root().join("tests/mail"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = MailServer { child, input, output, told: Value::Null };
        server.told = server.line();
        server
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("tests/mail says `{line}`: {e}"))
    }

    /// Has it do something; see `tests/mail`.
    pub(crate) fn ask(&mut self, command: &str) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
        let answer = self.line();
        assert!(answer["error"].is_null(), "{command}: {answer}");
        answer
    }

    /// Has all mails that are there be two hours old.
    pub(crate) fn age(&self) {
        let mails = std::path::Path::new(self.told["folder"].as_str().unwrap()).join("mail");
        let words = ["-type", "f", "-path", "*/new/*", "-exec", "touch", "-d", "2 hours ago", "{}", "+"];
        assert!(Command::new("find").arg(mails).args(words).status().unwrap().success());
    }

    /// One of its ports: `imap`, `imaps`, `lmtp`, `smtp`, `smtps`.
    pub(crate) fn port(&self, name: &str) -> u16 {
        self.told[name].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap()
    }

    /// The file with its certificate, which is its own root.
    pub(crate) fn certificate(&self) -> String {
        self.told["cert"].as_str().unwrap().to_owned()
    }

    /// Hands a mail, whose last line has its end, over by LMTP, as the mail server of an organization does.
    pub(crate) fn deliver(&self, mail: &[u8]) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port("lmtp"))).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut read = |wanted: &str| {
            loop {
                let mut line = String::new();
                answers.read_line(&mut line).unwrap();
                assert!(line.starts_with(wanted), "{wanted} is wanted, and LMTP says {line}");
                if line.as_bytes().get(3) != Some(&b'-') {
                    return;
                }
            }
        };
        read("220");
        for (line, wanted) in [
            ("LHLO tests.example", "250"),
            ("MAIL FROM:<sender@customer.example>", "250"),
            ("RCPT TO:<box@example.test>", "250"),
            ("DATA", "354"),
        ] {
            write!(stream, "{line}\r\n").unwrap();
            read(wanted);
        }
        let mut stuffed = Vec::with_capacity(mail.len());
        for line in mail.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stream.write_all(&stuffed).unwrap();
        stream.write_all(b".\r\n").unwrap();
        read("250");
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It removes its folder once its input ends.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
