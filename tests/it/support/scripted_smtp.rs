//! An SMTP server that does at each step what a script says, with a reader of its own.
//!
//! It keeps every mail that it has taken, with the exact bytes, and every byte that reached it in clear.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Greeting,
    Ehlo,
    StartTls,
    /// EHLO within TLS.
    Hello,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// While the mail comes in.
    Body,
    Dot,
    Rset,
    Quit,
}

/// What the server does there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Goes on as it should.
    Go,
    /// Says this, with the line's end added, in place of its answer; while the mail comes in: and takes none.
    Say(String),
    /// Closes the connection.
    Cut,
    /// Says nothing more.
    Hang,
    /// One line that never ends.
    EndlessLine,
    /// Lines without a last one.
    EndlessLines,
    /// The right answer, byte by byte.
    Drip,
    /// The right answer and this behind it, in one write.
    Behind(String),
    /// At the dot: takes the mail and closes the connection.
    TakeThenCut,
    /// At the dot: takes the mail and says nothing more.
    TakeThenHang,
    /// At EHLO: offers no STARTTLS.
    Strip,
}

/// What may go wrong at any step and is told at once.
pub(crate) fn mishaps() -> Vec<Act> {
    let say = |text: &str| Act::Say(text.to_owned());
    vec![
        say("451 4.7.1 later"),
        say("554 5.7.1 no"),
        say("421 bye"),
        Act::Cut,
        Act::TakeThenCut,
        Act::Drip,
        Act::Behind("250 ok\r\n".to_owned()),
        say("what"),
    ]
}

/// One in so many steps goes wrong: the more often the more harm it may do.
pub(crate) fn one_in(step: Step) -> u64 {
    if step == Step::Dot { 2 } else { 12 }
}

/// A mail that the server has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) taken: Vec<Taken>,
    /// Each mail that came to its end, also those that were refused then.
    pub(crate) came: Vec<Vec<u8>>,
    pub(crate) clear: Vec<u8>,
    pub(crate) connections: usize,
    /// What was answered to the challenges of LOGIN.
    pub(crate) answers: Vec<String>,
}

type Decide = Arc<dyn Fn(Step, &str) -> Act + Send + Sync>;

/// The server.
pub(crate) struct ScriptSmtp {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) book: Arc<Mutex<Book>>,
    /// Its certificate in PEM, which is its own root.
    pub(crate) certificate: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ScriptSmtp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptSmtp {
    /// Starts one on a free port. `implicit`: TLS from the first byte.
    pub(crate) async fn start(implicit: bool, decide: impl Fn(Step, &str) -> Act + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Mutex::new(Book::default()));
        let (decide, kept): (Decide, _) = (Arc::new(decide), Arc::clone(&book));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                kept.lock().unwrap().connections += 1;
                let (acceptor, decide, book) = (acceptor.clone(), Arc::clone(&decide), Arc::clone(&kept));
                tokio::spawn(async move {
                    let _ = serve(socket, implicit, acceptor, decide, book).await;
                });
            }
        });
        ScriptSmtp { address, tls: client(&[certificate]), book, certificate: made.cert.pem(), task }
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.book.lock().unwrap().taken.clone()
    }
}

/// A client's settings that trust these certificates.
pub(crate) fn client(trusted: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|each| roots.add(each.clone()).unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn serve(
    socket: TcpStream,
    implicit: bool,
    acceptor: TlsAcceptor,
    decide: Decide,
    book: Arc<Mutex<Book>>,
) -> io::Result<()> {
    let mut talk = Talk { stream: socket, held: Vec::new(), decide, book };
    if !implicit {
        talk.answer(Step::Greeting, "", "220 script ready").await?;
        loop {
            let line = talk.line().await?;
            let clear = format!("{line}\r\n");
            talk.book.lock().unwrap().clear.extend_from_slice(clear.as_bytes());
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" if (talk.decide)(Step::Ehlo, &line) == Act::Strip => {
                    talk.say("250-script\r\n250 AUTH PLAIN\r\n").await?
                }
                "EHLO" => talk.answer(Step::Ehlo, &line, "250-script\r\n250-STARTTLS\r\n250 AUTH PLAIN").await?,
                "STARTTLS" => break,
                _ => talk.say("502 no\r\n").await?,
            }
        }
        if !talk.answer_is_good(Step::StartTls, "STARTTLS", "220 go").await? {
            // Whoever goes on in clear is caught.
            while let Ok(line) = talk.line().await {
                talk.book.lock().unwrap().clear.extend_from_slice(line.as_bytes());
            }
            return Ok(());
        }
    }
    let Talk { stream, decide, book, .. } = talk;
    let stream = acceptor.accept(stream).await?;
    let mut talk = Talk { stream, held: Vec::new(), decide, book };
    if implicit {
        talk.answer(Step::Greeting, "", "220 script ready").await?;
    }
    talk.session().await
}

struct Talk<S> {
    stream: S,
    held: Vec<u8>,
    decide: Decide,
    book: Arc<Mutex<Book>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn session(&mut self) -> io::Result<()> {
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            let word = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let inside = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            match word.as_str() {
                "EHLO" => {
                    let features = "250-script\r\n250-   \r\n250-SIZE 20000000\r\n250 AUTH PLAIN LOGIN XOAUTH2";
                    self.answer(Step::Hello, &line, features).await?;
                }
                "AUTH" => self.auth(&line).await?,
                "MAIL" => {
                    (from, to) = (inside, Vec::new());
                    self.answer(Step::Mail, &line, "250 2.1.0 ok").await?;
                }
                "RCPT" => {
                    if self.answer_is_good(Step::Rcpt, &line, "250 2.1.5 ok").await? {
                        to.push(inside);
                    }
                }
                "DATA" => {
                    if self.answer_is_good(Step::Data, &line, "354 go on").await? {
                        self.mail(&from, &to).await?;
                    }
                }
                "RSET" => self.answer(Step::Rset, &line, "250 ok").await?,
                "QUIT" => {
                    self.answer(Step::Quit, &line, "221 bye").await?;
                    return Ok(());
                }
                _ => self.say("500 what\r\n").await?,
            }
        }
    }

    async fn auth(&mut self, line: &str) -> io::Result<()> {
        let act = (self.decide)(Step::Auth, line);
        if act != Act::Go {
            return self.act(act, "235 ok").await.map(drop);
        }
        for _ in 0..if line.ends_with("LOGIN") { 2 } else { 0 } {
            self.say("334 x\r\n").await?;
            let answer = self.line().await?;
            self.book.lock().unwrap().answers.push(answer);
        }
        self.say("235 2.7.0 welcome\r\n").await
    }

    async fn mail(&mut self, from: &str, to: &[String]) -> io::Result<()> {
        let early = (self.decide)(Step::Body, "");
        match early.clone() {
            Act::Cut => {
                let _ = self.stream.read(&mut [0; 1000]).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Act::Hang => return std::future::pending().await,
            Act::Say(text) => self.say(&format!("{text}\r\n")).await?,
            _ => {}
        }
        let mut bytes = Vec::new();
        loop {
            let line = self.raw_line().await?;
            match line.as_slice() {
                b".\r\n" => break,
                line => bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(line)),
            }
        }
        self.book.lock().unwrap().came.push(bytes.clone());
        let act = (self.decide)(Step::Dot, from);
        if matches!((&early, &act), (Act::Say(_), act) if !matches!(act, Act::Say(_))) {
            // It has answered already.
            return Ok(());
        }
        let taken = Taken { from: from.to_owned(), to: to.to_vec(), bytes };
        let takes = matches!(&act, Act::Go | Act::Drip | Act::TakeThenCut | Act::TakeThenHang | Act::Behind(_));
        if takes {
            self.book.lock().unwrap().taken.push(taken);
        }
        self.act(act, "250 2.0.0 queued as 1").await.map(drop)
    }

    async fn answer(&mut self, step: Step, line: &str, good: &str) -> io::Result<()> {
        self.answer_is_good(step, line, good).await.map(drop)
    }

    async fn answer_is_good(&mut self, step: Step, line: &str, good: &str) -> io::Result<bool> {
        let act = (self.decide)(step, line);
        self.act(act, good).await
    }

    /// Does it; true if the good answer was given.
    async fn act(&mut self, act: Act, good: &str) -> io::Result<bool> {
        match act {
            Act::Go | Act::Strip => self.say(&format!("{good}\r\n")).await?,
            Act::Behind(more) => self.say(&format!("{good}\r\n{more}")).await?,
            Act::Say(text) => {
                self.say(&format!("{text}\r\n")).await?;
                return Ok(false);
            }
            Act::Cut | Act::TakeThenCut => return Err(io::ErrorKind::ConnectionAborted.into()),
            Act::Hang | Act::TakeThenHang => return std::future::pending().await,
            Act::EndlessLine => loop {
                self.say("250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx").await?;
            },
            Act::EndlessLines => loop {
                self.say("250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await?;
            },
            Act::Drip => {
                for byte in format!("{good}\r\n").into_bytes() {
                    self.stream.write_all(&[byte]).await?;
                    self.stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        Ok(true)
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        let line = self.raw_line().await?;
        let text = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(text.strip_suffix("\r\n").unwrap_or(&text).to_owned())
    }

    /// A line with its CRLF; LF alone ends none.
    async fn raw_line(&mut self) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.held[looked..].windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.held.split_off(looked + at + 2);
                return Ok(std::mem::replace(&mut self.held, rest));
            }
            looked = self.held.len().saturating_sub(1);
            let mut bytes = [0; 1024];
            match self.stream.read(&mut bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.held.extend_from_slice(&bytes[..count]),
            }
        }
    }
}
