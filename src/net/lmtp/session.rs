//! One connection from its greeting to its end.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::command::{self, Command};
use super::intake::{self, Budget, CONTENT_MOST, Received};
use super::stream::{Io, Line, Stop, Stream};
use super::{Arrived, Deliver, Settings, reply};

/// Wrong commands on one connection; then it is closed.
const MOST_WRONG: usize = 20;
/// Commands between two mails; then the connection is closed. So many that a client which names far more recipients than
/// it may still comes to its `DATA`.
const MOST_COMMANDS: usize = 2000;

/// What a listener is doing, as its connections are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// No mail is to be begun.
    Draining,
    /// Everything is closed.
    Cut,
}

/// What all connections of a listener have in common.
pub(super) struct Shared {
    settings: Settings,
    deliver: Arc<dyn Deliver>,
    deliveries: TaskTracker,
    budget: Budget,
    places: Arc<Semaphore>,
    acceptor: Option<TlsAcceptor>,
}

impl Shared {
    pub(super) fn new(mut settings: Settings, deliver: Arc<dyn Deliver>, deliveries: TaskTracker) -> Self {
        settings.most_bytes = settings.most_bytes.min(CONTENT_MOST);
        let budget = Budget::new(&settings);
        let places = Arc::new(Semaphore::new(settings.most_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let acceptor = settings.tls.clone().map(TlsAcceptor::from);
        Shared { settings, deliver, deliveries, budget, places, acceptor }
    }

    /// Whether a client from there may connect; `None` is this machine's file system.
    pub(super) fn admits(&self, ip: Option<IpAddr>) -> bool {
        ip.is_none_or(|ip| self.settings.admitted.iter().any(|net| net.contains(&ip)))
    }

    /// A place for one more connection, if one is free.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// Serves a client until either side closes, or the listener is cut.
pub(super) async fn converse(io: Box<dyn Io>, shared: Arc<Shared>, stages: watch::Receiver<Stage>) {
    let mut cut = stages.clone();
    let session = Session {
        stream: Stream::new(io, shared.settings.write_timeout),
        shared,
        stages,
        greeted: false,
        secured: false,
        mail: None,
        commands: 0,
        wrong: 0,
    };
    tokio::select! {
        biased;
        // An error means that the listener is gone.
        _ = cut.wait_for(|stage| *stage == Stage::Cut) => {}
        () = session.run() => {}
    }
}

/// Why a session ends.
enum End {
    /// After this last reply.
    Saying(&'static str),
    /// Without a word.
    Gone,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Silent => End::Saying(reply::SILENT),
            Stop::Gone => End::Gone,
        }
    }
}

/// A mail that `MAIL` has opened.
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
    size: Option<u64>,
    utf8: bool,
}

struct Session {
    stream: Stream,
    shared: Arc<Shared>,
    stages: watch::Receiver<Stage>,
    greeted: bool,
    secured: bool,
    mail: Option<Envelope>,
    /// Commands since the last mail.
    commands: usize,
    /// Wrong commands since the connection began.
    wrong: usize,
}

impl Session {
    async fn run(mut self) {
        self.stream.say(&format!("220 {} LMTP", self.shared.settings.name));
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        if let End::Saying(last) = end {
            self.stream.say(last);
            self.stream.part().await;
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        let line = self.line().await?;
        self.commands += 1;
        if self.commands > MOST_COMMANDS.max(self.shared.settings.most_recipients.saturating_mul(2)) {
            return Err(End::Saying(reply::TOO_MUCH));
        }
        match line {
            Line::Whole(line) => self.obey(&line).await,
            Line::Bare => self.refuse(reply::BARE),
            Line::Long => self.refuse(reply::LONG),
        }
    }

    /// The next line. No mail is begun while the listener drains.
    async fn line(&mut self) -> Result<Line, End> {
        let deadline = Instant::now() + self.shared.settings.command_timeout;
        if self.mail.is_some() {
            return Ok(self.stream.line(deadline).await?);
        }
        tokio::select! {
            biased;
            _ = self.stages.wait_for(|stage| *stage != Stage::Serving) => Err(End::Saying(reply::STOPPING)),
            line = self.stream.line(deadline) => Ok(line?),
        }
    }

    async fn obey(&mut self, line: &[u8]) -> Result<(), End> {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(refusal),
        };
        match command {
            Command::Lhlo => self.hello(),
            Command::Mail(_) | Command::Data if !self.greeted => return self.refuse(reply::LHLO_FIRST),
            Command::Mail(mail) => return self.open(mail),
            Command::Rcpt { to } => return self.recipient(to),
            Command::Data => return self.data().await,
            Command::StartTls => return self.start_tls().await,
            Command::Reset => {
                self.mail = None;
                self.stream.say(reply::OK);
            }
            Command::Nothing => self.stream.say(reply::OK),
            Command::Verify => self.stream.say(reply::CANNOT_VERIFY),
            Command::Help => self.stream.say(reply::HELP),
            Command::Quit => return Err(End::Saying(reply::BYE)),
        }
        Ok(())
    }

    /// Answers a command that was wrong.
    fn refuse(&mut self, refusal: &str) -> Result<(), End> {
        self.stream.say(refusal);
        self.wrong += 1;
        if self.wrong < MOST_WRONG { Ok(()) } else { Err(End::Saying(reply::TOO_WRONG)) }
    }

    fn hello(&mut self) {
        self.greeted = true;
        self.mail = None;
        let settings = &self.shared.settings;
        let tls = if self.shared.acceptor.is_some() && !self.secured { "250-STARTTLS\r\n" } else { "" };
        let text = format!(
            "250-{}\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{tls}250 SIZE {}",
            settings.name, settings.most_bytes
        );
        self.stream.say(&text);
    }

    fn open(&mut self, mail: command::Mail<'_>) -> Result<(), End> {
        if self.mail.is_some() {
            return self.refuse(reply::MAIL_TWICE);
        }
        let most = u64::try_from(self.shared.settings.most_bytes).unwrap_or(u64::MAX);
        if mail.size.is_some_and(|size| size > most) {
            self.stream.say(reply::TOO_BIG);
            return Ok(());
        }
        let from = mail.from.map(str::to_owned);
        self.mail = Some(Envelope { from, to: Vec::new(), size: mail.size, utf8: mail.utf8 });
        self.stream.say(reply::SENDER_OK);
        Ok(())
    }

    fn recipient(&mut self, to: &str) -> Result<(), End> {
        let Some(mail) = &mut self.mail else { return self.refuse(reply::MAIL_FIRST) };
        let answer = if !mail.utf8 && !to.is_ascii() {
            reply::UTF8_WANTED
        } else if mail.to.len() >= self.shared.settings.most_recipients {
            reply::TOO_MANY_RECIPIENTS
        } else if !self.shared.deliver.knows(to) {
            reply::UNKNOWN_RECIPIENT
        } else {
            mail.to.push(to.to_owned());
            reply::RECIPIENT_OK
        };
        self.stream.say(answer);
        Ok(())
    }

    async fn data(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let Some(mail) = self.mail.take() else { return self.refuse(reply::MAIL_FIRST) };
        if mail.to.is_empty() {
            self.mail = Some(mail);
            return self.refuse(reply::RECIPIENT_FIRST);
        }
        let Some(room) = shared.budget.room(mail.size, &shared.settings).await else {
            self.mail = Some(mail);
            self.stream.say(reply::NO_ROOM);
            return Ok(());
        };
        self.stream.say(reply::GO_AHEAD);
        let received = intake::receive(&mut self.stream, room, &shared.settings).await?;
        self.commands = 0;
        match received {
            Received::Whole(raw, permit) => self.hand_over(mail, raw, permit).await,
            Received::NoRoom => self.say_to_each(&mail, reply::NO_ROOM),
            Received::TooBig => self.say_to_each(&mail, reply::TOO_BIG),
            Received::Endless => return Err(End::Saying(reply::TOO_BIG)),
        }
        Ok(())
    }

    fn say_to_each(&mut self, mail: &Envelope, answer: &str) {
        mail.to.iter().for_each(|_| self.stream.say(answer));
    }

    /// Has a mail delivered, by a task that goes on if this connection is cut, and tells the verdicts.
    async fn hand_over(&mut self, mail: Envelope, raw: Vec<u8>, permit: OwnedSemaphorePermit) {
        let deliver = Arc::clone(&self.shared.deliver);
        let recipients = mail.to.len();
        let arrived = Arrived { from: mail.from, to: mail.to, raw: Bytes::from(raw) };
        let delivery = self.shared.deliveries.spawn(async move {
            let verdicts = deliver.deliver(arrived).await;
            drop(permit);
            verdicts
        });
        let verdicts = delivery.await.unwrap_or_else(|error| {
            let panicked = error.is_panic();
            tracing::error!(target: "segue::net", panicked, "the delivery of a mail did not end");
            Vec::new()
        });
        if verdicts.len() != recipients {
            tracing::error!(target: "segue::net", recipients, verdicts = verdicts.len(), "a mail got a wrong number of verdicts");
        }
        let mut verdicts = verdicts.iter();
        for _ in 0..recipients {
            match verdicts.next() {
                Some(verdict) => self.stream.say(&reply::of(verdict)),
                None => self.stream.say(reply::BROKEN),
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        let Some(acceptor) = self.shared.acceptor.clone() else { return self.refuse(reply::NOT_OFFERED) };
        if self.secured {
            return self.refuse(reply::TLS_ALREADY);
        }
        if !self.greeted {
            return self.refuse(reply::LHLO_FIRST);
        }
        if self.stream.is_ahead() {
            // Commands in clear that would be obeyed as if they had come over TLS (CVE-2011-0411).
            return Err(End::Saying(reply::TLS_PIPELINED));
        }
        self.stream.say(reply::TLS_READY);
        self.stream.secure(&acceptor).await?;
        (self.secured, self.greeted, self.mail) = (true, false, None);
        Ok(())
    }
}
