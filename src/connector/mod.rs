//! Room `connector`: what a channel is, as data.
//!
//! A connector is a folder: `connector.toml` (what it is, its options, how it is verified, acknowledged, mapped, answered
//! and sent to), an optional `map.lua`, and `samples/`. This room reads such folders and does, for any of them, what the
//! stages need: [`Connector::verify`] at intake, [`Connector::normalize`] after the journal, [`Connector::render`] and
//! [`Connector::read_response`] on the way out. No code here or above names a connector.
//!
//! The invariants it keeps: a request is verified over its raw bytes or refused with a reason; every item of a verified
//! payload gives at least one outcome; a folder with a mistake is refused whole, with file, line and nearest name.
//! The manifest is documented in `docs/reference/connector-manifest.md`.

mod answer;
mod capabilities;
mod compile;
mod convert;
mod credentials;
mod diagnostic;
mod eval;
mod expr;
mod folder;
mod http_call;
mod load;
mod mail_auto;
mod mail_in;
mod mail_read;
mod mailbox;
mod make;
mod mapping;
mod media;
mod options;
mod registry;
mod request;
pub mod sample;
mod send;
mod spec;
mod submission;
#[cfg(test)]
mod tests;
mod tree;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json};

pub use answer::AnswerSpec;
pub use capabilities::{Capabilities, MediaLimit, TextUnit};
pub use convert::e164;
pub use credentials::Credentials;
pub use diagnostic::Diagnostic;
pub use folder::Folder;
pub use http_call::HttpCall;
pub use mail_in::MailIn;
pub use mail_read::{MailFiles, is_mail_part};
pub use mailbox::{AfterTaking, Begin, Mailbox};
pub use media::MediaCall;
pub use options::{Account, OptionFault, OptionSpec, Options, Pattern};
pub use registry::Registry;
pub use request::{Answer, Request};
pub use send::SendReading;
pub use submission::{Dkim, Leaving, Submission};
pub use verify::{Refusal, VerifiedBy};

use crate::base::hash::{key16, sha256};
use crate::base::json::Value;
use crate::base::{Error, Result, Timestamp};
use crate::model::decision::CallAnswer;
use crate::model::{Blob, ChannelKind, Outbound, Outcome};
use eval::{Tables, Val};
use make::Common;
use request::Opened;

/// A compiled `map.lua`.
///
/// A function gets the values that the manifest names and a table of `connector`, `account` and `received_at`, and gives
/// a list of outcomes in the shape that `segue normalize` prints.
pub trait MapEngine: Send + Sync {
    /// Calls a function of the script.
    ///
    /// # Errors
    ///
    /// Whatever went wrong in the script, or the budget it passed.
    fn call(&self, function: &str, arguments: &[&Value<'_>], extra: &Json) -> Result<Json>;

    /// The functions that the script offers.
    fn functions(&self) -> &[String];
}

/// Compiles a `map.lua`: gets its file name and source.
pub type BuildMap = dyn Fn(&str, &str) -> std::result::Result<Box<dyn MapEngine>, Vec<Diagnostic>> + Send + Sync;

/// What the provider expects of an acknowledgement, and what it does without one: `[ack]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// Within how many milliseconds the provider wants its answer.
    pub budget_ms: u64,
    /// The status that acknowledges.
    pub status: u16,
    /// The media type of the acknowledging body.
    pub content_type: String,
    /// The acknowledging body.
    pub body: String,
    /// The status to answer under overload: one after which this provider tries again.
    pub overload_status: u16,
    /// For how long the provider tries again, in milliseconds; 0 if it does not.
    pub retry_window_ms: i64,
    /// How to find what was missed in an outage longer than that: for people, the gateway does not fetch it.
    pub reconcile: Reconcile,
    /// What order the provider keeps.
    pub order: Order,
}

/// How people find what was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconcile {
    /// It cannot be found.
    None,
    /// By asking the provider's API.
    Poll,
    /// From a dead-letter queue.
    Dlq,
}

/// How what customers say comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// By requests of the provider.
    Webhook,
    /// As mail: from a mailbox that is read over IMAP, or handed over by LMTP.
    Mail,
}

/// What sends a message.
pub enum Outgoing {
    /// Requests to the provider, in order.
    Requests(Vec<HttpCall>),
    /// A mail.
    Mail(Box<Leaving>),
}

/// What order a provider keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// None.
    None,
    /// That of each conversation.
    PerConversation,
}

/// A connector, loaded and checked.
pub struct Connector {
    name: String,
    version: String,
    summary: String,
    docs: String,
    transport: Transport,
    channel: ChannelKind,
    options: Vec<OptionSpec>,
    address: Option<expr::Expr>,
    verify: Vec<verify::Scheme>,
    challenges: Vec<answer::Challenge>,
    delivery_key: Option<expr::Expr>,
    ack: Ack,
    keep_headers: Vec<String>,
    answer: Option<AnswerSpec>,
    json_in: Option<String>,
    mapping: mapping::Mapping,
    mail: Option<mail_in::MailSpec>,
    script: Option<Box<dyn MapEngine>>,
    capabilities: Capabilities,
    by_smtp: bool,
    sends: Vec<send::SendSpec>,
    response: send::ResponseSpec,
    media: Vec<media::MediaSpec>,
    tables: Tables,
    folder: Arc<Folder>,
}

impl Connector {
    /// Reads and checks a folder. `map` compiles its `map.lua`, if it has one.
    ///
    /// # Errors
    ///
    /// Every mistake found, each with its place.
    pub fn load(folder: Arc<Folder>, map: Option<&BuildMap>) -> std::result::Result<Connector, Vec<Diagnostic>> {
        load::load(folder, map)
    }

    /// Its name: that of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, as the manifest says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it is, in one line.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The provider's documentation that it follows.
    pub fn docs(&self) -> &str {
        &self.docs
    }

    /// How what customers say comes in.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The kind of channel it serves, unless an interaction says otherwise.
    pub fn channel(&self) -> ChannelKind {
        self.channel
    }

    /// The options that it takes.
    pub fn options(&self) -> &[OptionSpec] {
        &self.options
    }

    /// How its requests are acknowledged.
    pub fn ack(&self) -> &Ack {
        &self.ack
    }

    /// What its channel can carry.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The headers to keep in the journal, in lower case: those that normalizing may read.
    pub fn keep_headers(&self) -> &[String] {
        &self.keep_headers
    }

    /// The folder it was read from.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Whether its requests go unchecked (`kind = "none"`), which health shows as a fault.
    pub fn unverified(&self) -> bool {
        self.verify.iter().any(|scheme| matches!(scheme, verify::Scheme::None))
    }

    /// The names of the schemes, any of which makes a request authentic.
    pub fn verification(&self) -> Vec<&'static str> {
        self.verify.iter().map(verify::Scheme::name).collect()
    }

    /// How somebody who waits is answered, where the channel has such requests.
    pub fn answers(&self) -> Option<&AnswerSpec> {
        self.answer.as_ref()
    }

    /// Checks the options of an account.
    ///
    /// # Errors
    ///
    /// Every mistake, with the nearest valid name.
    pub fn account(
        &self,
        channel: &str,
        options: &Map<String, Json>,
        default_country: Option<&str>,
    ) -> std::result::Result<Account, Vec<String>> {
        let options = options::check(&self.options, options)?;
        let mut env = eval::Env::new(&self.tables, default_country);
        env.set(0, Some(Val::Node(options.scope(true))));
        let address = self.address.as_ref().and_then(|expr| expr.string(&env));
        drop(env);
        let default_country = default_country.map(str::to_owned);
        let account = Account { channel: channel.to_owned(), options, default_country, address };
        let unfit = |error: Error| vec![error.message().to_owned()];
        self.mailbox(&account).map_err(unfit)?;
        self.submission(&account).map_err(unfit)?;
        Ok(account)
    }

    /// What is wrong with the options of an account, mistake by mistake: for whoever can point to the line of each.
    pub fn option_faults(&self, options: &Map<String, Json>) -> Vec<OptionFault> {
        options::read(&self.options, options).err().unwrap_or_default()
    }

    /// An account for applying again what was applied before: a word stands for each of `secrets`, so that what needs one
    /// to be rendered still is. Nothing can be verified or sent with it.
    pub fn account_without_secrets(
        &self,
        channel: &str,
        public: &Map<String, Json>,
        secrets: &BTreeSet<String>,
        default_country: Option<&str>,
    ) -> Account {
        let mut given = public.clone();
        given.extend(secrets.iter().map(|name| (name.clone(), Json::from("secret"))));
        // What a secret looks like cannot matter to what is decided.
        let specs = self.options.iter().cloned();
        let specs: Vec<OptionSpec> =
            specs.map(|spec| OptionSpec { pattern: spec.pattern.filter(|_| !spec.secret), ..spec }).collect();
        let (options, _) = options::fill(&specs, &given);
        let default_country = default_country.map(str::to_owned);
        Account { channel: channel.to_owned(), options, default_country, address: None }
    }

    /// An account for reading payloads only: options may be missing, and nothing can be verified or sent with it. What
    /// `segue normalize` uses where no channel is configured.
    pub fn reading_account(&self, channel: &str, default_country: Option<&str>) -> Account {
        let (options, _) = options::fill(&self.options, &Map::new());
        let default_country = default_country.map(str::to_owned);
        Account { channel: channel.to_owned(), options, default_country, address: None }
    }

    /// The answer to a provider's challenge, if the request is one. A challenge that fails its check is answered 403;
    /// a signed one that is not authentic is none, so that [`Connector::verify`] refuses it with its reason.
    pub fn challenge(&self, request: &Request, account: &Account, now: Timestamp) -> Option<Answer> {
        let mut opened: Option<Opened<'_>> = None;
        for challenge in self.challenges.iter().filter(|challenge| challenge.method == request.method) {
            let needle = challenge.contains.as_deref().unwrap_or_default();
            if memchr::memmem::find(&request.body, needle.as_bytes()).is_none() {
                continue;
            }
            let opened = opened.get_or_insert_with(|| Opened::leniently(request, self.json_in.as_deref()));
            let env = opened.env(account, &self.tables, false);
            if !challenge.when.holds(&env) || (challenge.signed && self.verify(request, account, now).is_err()) {
                continue;
            }
            if !challenge.token_holds(&env, account) {
                let body = "verification token does not match".to_owned();
                return Some(Answer { status: 403, content_type: "text/plain".to_owned(), body });
            }
            return Some(challenge.answer(&env));
        }
        None
    }

    /// Where the certificate lies by which a request can be checked, for whoever takes it to fetch and put into
    /// [`Request::signer`]; nothing if the connector needs none.
    ///
    /// # Errors
    ///
    /// The reason if the request would be refused whatever lies there.
    pub fn signer(&self, request: &Request, account: &Account) -> Option<std::result::Result<String, Refusal>> {
        self.verify.iter().find_map(|scheme| scheme.signer(request, account))
    }

    /// What is to be fetched to tell the provider that a verified request reached us, where it is one that asks for that.
    /// Nothing else is to be done with it.
    pub fn confirmation(&self, request: &Request, account: &Account) -> Option<String> {
        self.verify.iter().find_map(|scheme| scheme.confirmation(request, account))
    }

    /// Whether a request is authentic, over its raw bytes and in constant time.
    ///
    /// # Errors
    ///
    /// The reason of the first scheme, if none holds.
    pub fn verify(
        &self,
        request: &Request,
        account: &Account,
        now: Timestamp,
    ) -> std::result::Result<VerifiedBy, Refusal> {
        let mut first = None;
        let reading = verify::Reading { tables: &self.tables, json_in: self.json_in.as_deref() };
        for scheme in &self.verify {
            match scheme.check(request, account, now, &reading) {
                Ok(verified) => return Ok(verified),
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
        Err(first.unwrap_or(Refusal { reason: "nothing verifies this connector".to_owned(), status: 401 }))
    }

    /// Whether a request can be told authentic or not before its body is read.
    pub fn verifies_by_head(&self) -> bool {
        self.verify.iter().all(verify::Scheme::needs_no_body)
    }

    /// What makes a delivery the same delivery when it comes again: the key that the manifest names, else the SHA-256 of
    /// the raw body, as 16 bytes.
    pub fn delivery_key(&self, request: &Request, account: &Account) -> [u8; 16] {
        if let Some(expr) = &self.delivery_key {
            let opened = match expr.mentions(request::BODY) || expr.mentions(request::FORM) {
                true => Opened::leniently(request, self.json_in.as_deref()),
                false => Opened::with_body(request, Value::Null),
            };
            if let Some(key) = expr.string(&opened.env(account, &self.tables, false)) {
                return key16(&[b"key", key.as_bytes()]);
            }
        }
        // A request without a body is known by its URL.
        let query: &[u8] = if request.body.is_empty() { request.url.as_bytes() } else { b"" };
        key16(&[b"body", &sha256(&request.body), query])
    }

    /// How the request is to be answered, if somebody waits for the answer.
    pub fn waits(&self, request: &Request, account: &Account) -> Option<&AnswerSpec> {
        let spec = self.answer.as_ref()?;
        let opened = Opened::leniently(request, self.json_in.as_deref());
        let waits = {
            let env = opened.env(account, &self.tables, false);
            holds(&spec.when, &env)
        };
        waits.then_some(spec)
    }

    /// What policy decided, in the provider's language.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is no such answer or it lacks a value.
    pub fn answer(&self, spec: &AnswerSpec, said: &CallAnswer, account: &Account, request: &Request) -> Result<Answer> {
        let opened = Opened::leniently(request, self.json_in.as_deref());
        spec.render(said, &opened, account, &self.tables)
    }

    /// What is said if policy says nothing in time, or something that cannot be said.
    pub fn safe_default(&self, spec: &AnswerSpec, account: &Account, request: &Request) -> Answer {
        // Loading checks that the default has what it needs; should a value of the request be missing all the same, the
        // plain acknowledgement is still an answer that the provider understands.
        self.answer(spec, spec.default_answer(), account, request).unwrap_or_else(|_| Answer {
            status: 200,
            content_type: self.ack.content_type.clone(),
            body: self.ack.body.clone(),
        })
    }

    /// The outcomes of a verified request: at least one, and at least one for every item in it. Of the sender of a mail in it
    /// nothing is known.
    pub fn normalize(&self, request: &Request, account: &Account, received_at: Timestamp) -> Vec<Outcome> {
        self.normalize_found(request, None, account, received_at)
    }

    /// What the mapping gives.
    fn mapped(&self, request: &Request, account: &Account, received_at: Timestamp) -> Vec<Outcome> {
        let body = match request::read_body(request, self.json_in.as_deref()) {
            Ok(body) => body,
            Err(error) => return vec![Outcome::Quarantined { reason: error.to_string() }],
        };
        let opened = Opened::with_body(request, body);
        let common = Common { connector: &self.name, channel: self.channel, address: account.known_as(), received_at };
        let mut env = opened.env(account, &self.tables, false);
        env.set(7, Some(Val::Time(received_at)));
        run(&self.mapping, &mut env, &common, self.script.as_deref())
    }

    /// Whether what is sent by this connector leaves as mail.
    pub fn sends_mail(&self) -> bool {
        self.by_smtp
    }

    /// Whether messages can be sent by this account at all.
    pub fn can_send(&self, account: &Account) -> bool {
        match self.sends_mail() {
            true => account.options.text("smtp_host").is_some(),
            false => !self.sends.is_empty(),
        }
    }

    /// What sends a message: split and degraded to what the channel can carry.
    ///
    /// # Errors
    ///
    /// `Invalid` if the message is empty or the account has no way to send it.
    pub fn render(&self, message: &Outbound, account: &Account) -> Result<Outgoing> {
        if !self.can_send(account) {
            return Err(Error::invalid(match self.sends_mail() {
                true => format!("channel `{}` has no `smtp_host`, so it sends no mail", account.channel),
                false => format!("connector `{}` cannot send", self.name),
            }));
        }
        if self.sends_mail() {
            let leaving = submission::letter(&self.capabilities, message, account)?;
            return Ok(Outgoing::Mail(Box::new(leaving)));
        }
        send::render(&self.sends, &self.capabilities, message, account, &self.tables).map(Outgoing::Requests)
    }

    /// What the provider's response to a send means.
    pub fn read_response(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> SendReading {
        self.response.reading(status, headers, body, &self.tables)
    }

    /// The `step`-th request, from 0, on the way to a file; `previous` is the body of the response to the one before.
    /// Nothing if the connector fetches no files or there are no more steps.
    ///
    /// # Errors
    ///
    /// `Invalid` if a value is missing or the file lies at a host that the manifest does not name.
    pub fn media_call(
        &self,
        blob: &Blob,
        account: &Account,
        step: usize,
        previous: Option<&[u8]>,
    ) -> Result<Option<MediaCall>> {
        media::call(&self.media, blob, account, step, previous, &self.tables)
    }

    /// Media kinds with their largest size in bytes, for showing.
    pub fn media_limits(&self) -> BTreeMap<String, u64> {
        send::media_words(&self.capabilities)
    }
}

// The compiled expressions and the payload need only live as long as the call, which these two say to the compiler.

fn holds(expr: &expr::Expr, env: &eval::Env<'_>) -> bool {
    fn inner<'v>(expr: &'v expr::Expr, env: &eval::Env<'v>) -> bool {
        expr.holds(env)
    }
    inner(expr, env)
}

fn run<'v>(
    mapping: &'v mapping::Mapping,
    env: &mut eval::Env<'v>,
    common: &Common<'_>,
    script: Option<&'v dyn MapEngine>,
) -> Vec<Outcome> {
    mapping.run(env, common, script)
}
