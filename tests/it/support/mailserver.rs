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

    /// Dovecot with the user `box`, who logs in with tokens that are asked about at `url`.
    pub(crate) fn dovecot_with_tokens(url: &str) -> MailServer {
        MailServer::start(&["dovecot", "--tokens", url])
    }

    /// Postfix, which hands all mail on to `next`, a Dovecot.
    pub(crate) fn postfix(next: &MailServer) -> MailServer {
        MailServer::postfix_to(next.port("lmtp"))
    }

    /// The same, to whatever takes mails by LMTP at a port.
    pub(crate) fn postfix_to(port: u16) -> MailServer {
        MailServer::start(&["postfix", "--lmtp", &port.to_string()])
    }

    /// Has Postfix try at once what it put off.
    pub(crate) fn flush(&self) {
        let etc = std::path::Path::new(self.told["folder"].as_str().unwrap()).join("etc");
        let run = Command::new("/usr/sbin/postqueue").arg("-c").arg(etc).arg("-f").output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    /// The mails in the inbox of a user, as they lie there.
    pub(crate) fn inbox(&self, user: &str) -> Vec<String> {
        let inbox = std::path::Path::new(self.told["folder"].as_str().unwrap()).join("mail").join(user);
        let mut mails = Vec::new();
        for folder in ["new", "cur"] {
            let Ok(files) = std::fs::read_dir(inbox.join(folder)) else { continue };
            mails.extend(files.flatten().filter_map(|file| std::fs::read(file.path()).ok()));
        }
        mails.into_iter().map(|mail| String::from_utf8_lossy(&mail).replace("\r\n", "\n")).collect()
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

    /// Hands a mail over to the user `box`, as the mail server of an organization does.
    pub(crate) fn deliver(&self, mail: &[u8]) {
        self.deliver_to("box@example.test", mail);
    }

    /// Hands a mail over to somebody else.
    pub(crate) fn deliver_to(&self, to: &str, mail: &[u8]) {
        hand_over(self.port("lmtp"), to, mail).unwrap();
    }
}

/// Hands a mail, whose last line has its end, over by LMTP (RFC 2033).
///
/// # Errors
///
/// What the server said in place of what was wanted.
pub(crate) fn hand_over(port: u16, to: &str, mail: &[u8]) -> Result<(), String> {
    converse(port, "LHLO", to, mail)
}

/// Submits one by SMTP (RFC 5321).
///
/// # Errors
///
/// As [`hand_over`].
pub(crate) fn submit(port: u16, to: &str, mail: &[u8]) -> Result<(), String> {
    converse(port, "EHLO", to, mail)
}

fn converse(port: u16, hello: &str, to: &str, mail: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut answers = BufReader::new(stream.try_clone().map_err(failed)?);
    let mut read = |wanted: &str| {
        loop {
            let mut line = String::new();
            answers.read_line(&mut line).map_err(failed)?;
            if !line.starts_with(wanted) {
                return Err(format!("{wanted} is wanted, and the server says {line}"));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    };
    read("220")?;
    let (hello, to) = (format!("{hello} tests.example"), format!("RCPT TO:<{to}>"));
    for (line, wanted) in
        [(hello.as_str(), "250"), ("MAIL FROM:<sender@customer.example>", "250"), (to.as_str(), "250"), ("DATA", "354")]
    {
        write!(stream, "{line}\r\n").map_err(failed)?;
        read(wanted)?;
    }
    let mut stuffed = Vec::with_capacity(mail.len());
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stream.write_all(&stuffed).map_err(failed)?;
    read("250")
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It removes its folder once its input ends.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
