//! The gateway: a project in a folder of its own, and the release binary serving it as a child process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use tempfile::TempDir;

use super::database::Database;
use super::dns::Dns;
use super::helpdesk::{self, HelpDesk};
use super::http::{Answer, Call, Client};
use super::mailserver::{MailServer, PASSWORD};
use super::provider;
use super::scripted_smtp::ScriptSmtp;
use super::wait;

/// The binary under test.
pub(crate) const SEGUE: &str = env!("CARGO_BIN_EXE_segue");

/// A policy that sends everything to one queue.
pub(crate) const PLAIN_POLICY: &str = r#"
policy { name = "plain", version = 1, owner = "tests@example.org" }
rule("everything", { on = "interaction.received", fallback = true }, function(e, d) d:queue("general") end)
"#;

/// A policy that sends everything to one queue and answers it.
pub(crate) const ANSWERING_POLICY: &str = r#"
policy { name = "answers", version = 1, owner = "tests@example.org" }
rule("everything", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue("general")
  d:reply("We have your mail.")
end)
"#;

/// A project: configuration, scripts, and the data of a gateway. Removed when dropped.
pub(crate) struct Project {
    folder: TempDir,
    database: Database,
    /// Another way to the database for the gateway, if it has one of its own.
    way: Option<String>,
    /// Tables of `segue.toml`, in order.
    tables: Vec<String>,
    limits: String,
    policy: String,
    retry: String,
    /// Certificates that the gateway trusts.
    roots: Vec<String>,
    /// What it asks about senders of mails.
    dns: Dns,
    channels: Vec<String>,
}

impl Project {
    /// A project with a plain policy, no channel and no help desk.
    pub(crate) fn new() -> Project {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(folder.path());
        Self::of(folder, database)
    }

    /// The same for several gateways at once.
    pub(crate) fn shared() -> Project {
        Self::on(Database::shared())
    }

    /// The same with its data in `database`.
    pub(crate) fn on(database: Database) -> Project {
        Self::of(tempfile::tempdir().unwrap(), database)
    }

    fn of(folder: TempDir, database: Database) -> Project {
        let project = Project {
            database,
            way: None,
            folder,
            tables: Vec::new(),
            limits: String::new(),
            policy: "queues = [\"billing\", \"general\", \"phone\", \"vip\"]\n".to_owned(),
            // Fast enough for tests, patient enough for a help desk that fails now and then.
            retry: "schedule = [\"0s\", \"100ms\", \"100ms\", \"200ms\", \"200ms\", \"500ms\", \"1s\", \"1s\", \"2s\", \"2s\"]\n\
                    jitter = 0.0\n"
                .to_owned(),
            roots: Vec::new(),
            dns: Dns::start(),
            channels: Vec::new(),
        };
        project.write("scripts/policy.lua", PLAIN_POLICY);
        project
    }

    /// Another node's project, with the same settings, the same database and the same root key.
    pub(crate) fn beside(&self) -> Project {
        let other = Project::on(self.database.clone());
        std::os::unix::fs::symlink(self.folder().join("secrets"), other.folder().join("secrets")).unwrap();
        other.write("scripts/policy.lua", &std::fs::read_to_string(self.folder().join("scripts/policy.lua")).unwrap());
        Project {
            tables: self.tables.clone(),
            limits: self.limits.clone(),
            policy: self.policy.clone(),
            retry: self.retry.clone(),
            roots: self.roots.clone(),
            dns: self.dns.clone(),
            channels: self.channels.clone(),
            ..other
        }
    }

    /// The project's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is really stored.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// One number from the database.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.database.number(sql)
    }

    /// Writes a file of the project whole, as editors do: beside it, then moved into place.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new~");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    }

    /// Adds a help desk that is sent events of these types.
    pub(crate) fn helpdesk(mut self, name: &str, desk: &HelpDesk, events: &[&str]) -> Self {
        let (url, secret) = (desk.url(), helpdesk::SECRET);
        self.tables.push(format!(
            "[[helpdesk]]\nname = \"{name}\"\nurl = \"{url}\"\nsecrets = [\"{secret}\"]\nevents = {events:?}\ntimeout = \"2s\"\n"
        ));
        self
    }

    /// Adds a table of settings.
    pub(crate) fn table(mut self, text: &str) -> Self {
        self.tables.push(text.to_owned());
        self
    }

    /// Has the gateway reach its database at `url`, where the test does not.
    pub(crate) fn reached_at(mut self, url: String) -> Self {
        self.way = Some(url);
        self
    }

    /// Has the gateway trust the certificate in this file.
    pub(crate) fn trusting(mut self, certificate: String) -> Self {
        self.roots.push(certificate);
        self
    }

    /// Adds lines to `[limits]`.
    pub(crate) fn limits(mut self, lines: &str) -> Self {
        let _ = writeln!(self.limits, "{lines}");
        self
    }

    /// Adds lines to `[policy]`.
    pub(crate) fn policy(mut self, lines: &str) -> Self {
        let _ = writeln!(self.policy, "{lines}");
        self
    }

    /// Replaces the lines of `[retry]`.
    pub(crate) fn retry(mut self, lines: &str) -> Self {
        self.retry = format!("{lines}\n");
        self
    }

    /// Replaces the policy's script.
    pub(crate) fn script(self, text: &str) -> Self {
        self.write("scripts/policy.lua", text);
        self
    }

    /// Adds a channel with these lines as its options.
    pub(crate) fn channel(mut self, name: &str, connector: &str, options: &str) -> Self {
        self.channels.push(channel_table(name, connector, options));
        self
    }

    /// What it asks about senders of mails.
    pub(crate) fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Takes mails by LMTP, at any port.
    pub(crate) fn handed_over(self) -> Self {
        self.table("[lmtp]\naddress = \"127.0.0.1:0\"\n")
    }

    /// Trusts a certificate, in PEM, beside those of the system.
    pub(crate) fn trusting_pem(self, certificate: &str) -> Self {
        let name = format!("trusted-{}.pem", self.roots.len());
        self.write(&name, certificate);
        let path = self.folder().join(name).display().to_string();
        self.trusting(path)
    }

    /// Adds a channel of mails to an address, whose answers leave by `server`, with further lines as its options.
    pub(crate) fn answering_by(self, name: &str, address: &str, server: &ScriptSmtp, options: &str) -> Self {
        let options = format!(
            "address = \"{address}\"\nsmtp_host = \"localhost\"\nsmtp_port = {}\nsmtp_user = \"u\"\n\
             smtp_password = \"p\"\n{options}",
            server.address.port()
        );
        self.trusting_pem(&server.certificate).channel(name, "email", &options)
    }

    /// Adds a mailbox of a server, reached at `port`, with further lines as its options.
    pub(crate) fn mailbox(mut self, name: &str, server: &MailServer, port: u16, options: &str) -> Self {
        self.roots.push(server.certificate());
        let options = format!(
            "address = \"box@example.test\"\nimap_host = \"localhost\"\nimap_port = {port}\nuser = \"box\"\n\
             password = \"{PASSWORD}\"\n{options}"
        );
        self.channel(name, "email", &options)
    }

    /// Adds a WhatsApp channel whose API is at `api`.
    pub(crate) fn whatsapp(self, name: &str, api: &str) -> Self {
        self.channel(name, "whatsapp", &whatsapp_options(api))
    }

    /// Adds a channel of Twilio calls.
    pub(crate) fn voice(self, name: &str) -> Self {
        let options = format!(
            "account_sid = \"{}\"\nauth_token = \"{}\"\n",
            provider::TWILIO_ACCOUNT,
            provider::TWILIO_AUTH_TOKEN
        );
        self.channel(name, "twilio-voice", &options)
    }

    /// Writes `segue.toml`.
    pub(crate) fn write_config(&self) {
        let mut text = format!("public_url = \"{}\"\ndefault_country = \"US\"\n", provider::PUBLIC_URL);
        match &self.way {
            Some(url) => {
                let _ = writeln!(text, "store = \"{url}\"");
            }
            None => text.push_str(&self.database.setting()),
        }
        text.push_str("[[listen]]\naddress = \"127.0.0.1:0\"\n");
        let _ = write!(text, "[limits]\n{}", self.limits);
        let _ = write!(
            text,
            "[outbound]\nallow = [\"127.0.0.0/8\"]\nroots = {:?}\ndns = {:?}\n",
            self.roots,
            [self.dns.address().to_string()]
        );
        let _ = write!(text, "[policy]\n{}[retry]\n{}", self.policy, self.retry);
        text.push_str("[retry.breaker]\nfailures = 10000\n");
        for table in self.tables.iter().chain(&self.channels) {
            text.push_str(table);
        }
        self.write("segue.toml", &text);
    }

    /// Runs a command of the binary to its end and gives what it printed.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let run = Command::new(SEGUE).arg("--config").arg(self.folder()).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "segue {arguments:?}: {}: {errors}", run.status);
        String::from_utf8(run.stdout).unwrap()
    }

    /// Runs a command of the binary to its end and gives its exit code and what it printed.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let run = Command::new(SEGUE).arg("--config").arg(self.folder()).args(arguments).output().unwrap();
        println!("segue {arguments:?}: {}: {}", run.status, String::from_utf8_lossy(&run.stderr));
        (run.status.code(), String::from_utf8(run.stdout).unwrap())
    }

    /// What is stored in a table, unsealed: its records of the canonical dump.
    pub(crate) fn records(&self, table: &str) -> Vec<serde_json::Value> {
        let dumped = self.run(&["dump", "--canonical", "--no-entries"]);
        let records = dumped.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.filter(|record| record["record"] == table).collect()
    }

    /// Makes a token that may do everything. The gateway must not be running.
    pub(crate) fn token(&self) -> String {
        let scopes = ["--scope", "read", "--scope", "write", "--scope", "feed", "--scope", "admin"];
        let said = self.run(&[&["token", "create", "--name", "tests"], &scopes[..]].concat());
        let token = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        token.into_iter().find(|word| word.starts_with("sg_")).expect("the token is printed").to_owned()
    }
}

/// The options of a WhatsApp channel whose API is at `api`.
pub(crate) fn whatsapp_options(api: &str) -> String {
    format!(
        "app_secret = \"{}\"\nverify_token = \"{}\"\naccess_token = \"EAAB-token\"\nphone_number_id = \"{}\"\n\
         api_base = \"{api}\"\n",
        provider::META_APP_SECRET,
        provider::META_VERIFY_TOKEN,
        provider::PHONE_NUMBER_ID
    )
}

/// A `[[channel]]` table.
pub(crate) fn channel_table(name: &str, connector: &str, options: &str) -> String {
    format!("[[channel]]\nname = \"{name}\"\nconnector = \"{connector}\"\n[channel.options]\n{options}")
}

/// How the binary is started.
#[derive(Clone, Default)]
pub(crate) struct Start {
    /// A program and its arguments in front of the binary, such as a tracer.
    pub(crate) wrapper: Vec<String>,
    /// Variables of its environment.
    pub(crate) env: Vec<(&'static str, &'static str)>,
}

/// The running gateway. Killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    base: String,
    /// Where it takes mails.
    lmtp: Arc<Mutex<Option<u16>>>,
    log: Arc<Mutex<String>>,
    client: Client,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- what the gateway logged last ---\n{}", self.log_end(60));
        }
    }
}

impl Gateway {
    /// Writes the configuration and starts; waits until it is ready.
    pub(crate) async fn start(project: &Project) -> Gateway {
        Self::start_as(project, &Start::default()).await.expect("the gateway starts")
    }

    /// Starts in another way.
    ///
    /// # Errors
    ///
    /// What it logged, if it ended before it was ready.
    pub(crate) async fn start_as(project: &Project, start: &Start) -> Result<Gateway, String> {
        project.write_config();
        Self::join(project, start).await
    }

    /// Starts one more on a project whose configuration is written, beside those that run.
    ///
    /// # Errors
    ///
    /// What it logged, if it ended before it was ready.
    pub(crate) async fn join(project: &Project, start: &Start) -> Result<Gateway, String> {
        let mut words = start.wrapper.iter().map(String::as_str).chain([SEGUE]);
        let mut command = Command::new(words.next().unwrap_or(SEGUE));
        command.args(words).arg("serve").arg("--config").arg(project.folder()).current_dir(project.folder());
        command.env("SEGUE_LOG", "info").envs(start.env.iter().copied());
        // A group of its own, so that a tracer and the gateway under it end together.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let errors = child.stderr.take().unwrap();
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = writeln!(lines.lock().unwrap(), "{line}");
            }
        });
        let said = child.stdout.take().unwrap();
        let address = Arc::new(Mutex::new(None));
        let found = address.clone();
        let lmtp = Arc::new(Mutex::new(None));
        let mails = lmtp.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if let Some(port) = line.strip_prefix("listening on lmtp:127.0.0.1:") {
                    *mails.lock().unwrap() = port.trim().parse().ok();
                } else if let Some(url) = line.strip_prefix("listening on ") {
                    found.lock().unwrap().get_or_insert(url.trim().trim_end_matches('/').to_owned());
                }
            }
        });
        let mut gateway = Gateway { child, base: String::new(), lmtp, log, client: Client::new() };
        let ready = wait::until("the gateway is ready", wait::SOON, async || {
            if let Some(status) = gateway.ended() {
                return Some(Err(format!("ended with {status}: {}", gateway.log())));
            }
            let url = address.lock().unwrap().clone()?;
            gateway.base = url;
            let answer = gateway.client.send(&gateway.base, &Call::new(Method::GET, "/readyz")).await.ok()?;
            (answer.status == 200).then_some(Ok(()))
        })
        .await;
        ready.map(|()| gateway)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Where it takes mails that are handed over.
    pub(crate) async fn lmtp(&self) -> u16 {
        wait::until("the door for mails", wait::SOON, async || *self.lmtp.lock().unwrap()).await
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn log_end(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The memory that it has in use, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        self.told_of_memory("VmRSS:")
    }

    /// The most that it ever had in use, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        self.told_of_memory("VmHWM:")
    }

    fn told_of_memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the system tells of memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether it says soon that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let call = Call::new(Method::GET, "/readyz");
        let answer = tokio::time::timeout(Duration::from_secs(2), self.client.send(&self.base, &call)).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
    }

    /// Sends a request.
    ///
    /// # Panics
    ///
    /// If it is not answered.
    pub(crate) async fn send(&self, call: &Call) -> Answer {
        self.client.send(&self.base, call).await.expect("the gateway answers")
    }

    /// Sends a request that must be answered with 200.
    pub(crate) async fn accept(&self, call: &Call) {
        let answer = self.send(call).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Asks the API.
    pub(crate) async fn get(&self, token: &str, target: &str) -> Answer {
        self.send(&Call::new(Method::GET, target).header("authorization", format!("Bearer {token}"))).await
    }

    /// Tells the API.
    pub(crate) async fn post(&self, token: &str, target: &str, body: &serde_json::Value) -> Answer {
        let call = Call::post(target, "application/json", body.to_string());
        self.send(&call.header("authorization", format!("Bearer {token}"))).await
    }

    /// Waits until every entry of the journal is applied.
    pub(crate) async fn settled(&self, project: &Project) {
        wait::until_true("everything is applied", wait::LONG, async || {
            project.number("SELECT count(*) FROM pending") == 0
        })
        .await;
    }

    /// Waits until every entry of the journal is applied, and the store knows that its help desks, which must all want
    /// `interaction.received`, have taken what customers said.
    pub(crate) async fn delivered(&self, project: &Project) {
        const OPEN: &str = "SELECT (SELECT count(*) FROM due)
            + (SELECT count(*) FROM event e JOIN settled s ON e.no > s.event WHERE e.kind = 1)";
        self.settled(project).await;
        wait::until_true("everything is delivered", wait::LONG, async || project.number(OPEN) == 0).await;
    }

    /// Stops it in the middle of whatever it does, as `kill -STOP` does.
    pub(crate) fn pause(&self) {
        signal("STOP", &format!("-{}", self.child.id()));
    }

    /// Has it go on.
    pub(crate) fn resume(&self) {
        signal("CONT", &format!("-{}", self.child.id()));
    }

    /// Ends it at once and as a whole, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            signal("KILL", &format!("-{}", self.child.id()));
            let _ = self.child.wait();
        }
    }

    /// Asks it to end and waits until it has; gives its exit code.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        // Under a tracer the gateway is the tracer's child; told to end, the tracer would leave it to itself.
        let pid = self.child.id();
        let traced = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let target = traced.split_whitespace().next().map_or_else(|| pid.to_string(), str::to_owned);
        signal("TERM", &target);
        let limit = Duration::from_secs(60);
        wait::until("the gateway has ended", limit, async || self.ended()).await.code()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it was killed by `kill -9`, by us or by a tracer.
    pub(crate) fn was_killed(&mut self) -> bool {
        self.ended().is_some_and(|status| status.signal() == Some(9) || status.code() == Some(128 + 9))
    }
}

/// Sends a signal through the shell, which needs no unsafe code.
fn signal(name: &str, target: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} -- {target}")]).stderr(Stdio::null()).status();
}
