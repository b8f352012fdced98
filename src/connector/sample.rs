//! The sample runner: a connector's own examples, run as the gateway would run them.
//!
//! `segue connector test` and the project's tests call [`run`]. A sample is a group of files in `samples/`:
//!
//! | file | what it is |
//! | --- | --- |
//! | `samples.toml` | clock, channel, country and options for all; `[cases.NAME]` overrides them for one |
//! | `NAME.eml` | a mail, byte for byte, for connectors that read a mailbox |
//! | `signer.pem` | the certificate that requests are signed by, where they name one |
//! | `NAME.http` | a request: request line, headers, blank line, body byte for byte |
//! | `NAME.expect.json` | the outcomes it gives, in order |
//! | `NAME.reject.toml` | `status` and `reason` of its refusal |
//! | `NAME.answer.toml` | `[[answer]]`: what a challenge or a waiting caller is answered |
//! | `NAME.send.json` | a message to send; `NAME.expect.http` holds the requests it becomes, `NAME.expect.txt` the mail |
//! | `NAME.response.toml` | `[[response]]`: what a provider's response is read as |
//!
//! A request without a signature of its own is signed with the options' first secret, unless its case says
//! `sign = false`. A case may say `same_delivery_as = "OTHER"`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Account, Answer, BuildMap, Connector, Diagnostic, Folder, Outgoing, Request, SendReading};
use crate::base::{Pii, Timestamp};
use crate::mail::write::{self, Letter};
use crate::model::decision::CallAnswer;
use crate::model::entry::MailHead;
use crate::model::{Outbound, Outcome};

/// What became of a connector's samples.
#[derive(Debug, Default)]
pub struct SampleReport {
    /// One line per sample, in order of name.
    pub results: Vec<SampleResult>,
    /// What is wrong with the folder itself; nothing was run then.
    pub diagnostics: Vec<Diagnostic>,
    /// Files that the runner would write to make the samples pass: path within the folder and content. Only filled
    /// where [`run`] was asked for it; an author reads the difference before keeping it.
    pub proposed: BTreeMap<String, String>,
}

/// What became of one sample.
#[derive(Debug)]
pub struct SampleResult {
    /// Its name.
    pub name: String,
    /// What it shows: `outcomes`, `refusal`, `answer`, `send`, `response`.
    pub shows: &'static str,
    /// Why it fails, if it does.
    pub failure: Option<String>,
}

impl SampleReport {
    /// Whether every sample passed, and there was at least one.
    pub fn passed(&self) -> bool {
        self.diagnostics.is_empty()
            && !self.results.is_empty()
            && self.results.iter().all(|result| result.failure.is_none())
    }
}

/// `samples.toml`, and each of its cases.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    now: Option<String>,
    channel: Option<String>,
    default_country: Option<String>,
    #[serde(default)]
    options: Map<String, Json>,
    sign: Option<bool>,
    same_delivery_as: Option<String>,
    #[serde(default)]
    cases: BTreeMap<String, Setting>,
}

/// `NAME.reject.toml`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reject {
    status: u16,
    reason: String,
}

/// `NAME.answer.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    answer: Vec<ExpectedAnswer>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAnswer {
    /// The answer that a policy names; the safe default, or a challenge's, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vars: BTreeMap<String, String>,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    body: String,
}

/// `NAME.response.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Responses {
    response: Vec<ExpectedReading>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedReading {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    reading: String,
    #[serde(default)]
    ids: Vec<String>,
    code: Option<String>,
    title: Option<String>,
    after_ms: Option<u64>,
}

/// Runs the samples of a folder; with `propose`, expectations that are missing or differ are given back as files.
pub fn run(folder: &Arc<Folder>, map: Option<&BuildMap>, propose: bool) -> SampleReport {
    let mut report = SampleReport::default();
    let connector = match Connector::load(Arc::clone(folder), map) {
        Ok(connector) => connector,
        Err(diagnostics) => return SampleReport { diagnostics, ..report },
    };
    let setting: Setting = match folder.text("samples/samples.toml").map(|text| text.map(toml::from_str)) {
        None => Setting::default(),
        Some(Ok(Ok(setting))) => setting,
        Some(Ok(Err(error))) => {
            let reason = error.message().to_owned();
            report.diagnostics.push(Diagnostic::of_file(format!("{}/samples/samples.toml", folder.name), reason));
            return report;
        }
        Some(Err(diagnostic)) => return SampleReport { diagnostics: vec![diagnostic], ..report },
    };
    let mut runner = Runner { connector: &connector, folder, setting: &setting, propose, report: &mut report };
    for path in folder.files.keys().filter_map(|path| path.strip_prefix("samples/")) {
        if let Some(name) = path.strip_suffix(".send.json") {
            runner.case(name, "send", Runner::send);
        } else if let Some(name) = path.strip_suffix(".response.toml") {
            runner.case(name, "response", Runner::responses);
        } else if let Some(name) = path.strip_suffix(".eml") {
            runner.case(name, "outcomes", Runner::mail);
        } else if let Some(name) = path.strip_suffix(".http").filter(|name| !name.ends_with(".expect")) {
            runner.request(name);
        }
    }
    for name in setting.cases.keys() {
        if !folder.files.keys().any(|path| path.starts_with(&format!("samples/{name}."))) {
            let file = format!("{}/samples/samples.toml", folder.name);
            report.diagnostics.push(Diagnostic::of_file(file, format!("there is no sample `{name}`")));
        }
    }
    report
}

struct Runner<'r> {
    connector: &'r Connector,
    folder: &'r Folder,
    setting: &'r Setting,
    propose: bool,
    report: &'r mut SampleReport,
}

type Outcome1 = Result<(), String>;

impl Runner<'_> {
    fn case(&mut self, name: &str, shows: &'static str, run: fn(&mut Self, &str) -> Outcome1) {
        let failure = run(self, name).err();
        self.report.results.push(SampleResult { name: name.to_owned(), shows, failure });
    }

    fn file(&self, path: &str) -> Option<&str> {
        self.folder.files.get(path).and_then(|content| std::str::from_utf8(content).ok())
    }

    fn merged(&self, name: &str) -> Setting {
        let mut merged = self.setting.clone();
        if let Some(case) = self.setting.cases.get(name) {
            merged.now = case.now.clone().or(merged.now);
            merged.channel = case.channel.clone().or(merged.channel);
            merged.default_country = case.default_country.clone().or(merged.default_country);
            merged.options.extend(case.options.clone());
            merged.sign = case.sign.or(merged.sign);
            merged.same_delivery_as = case.same_delivery_as.clone();
        }
        merged
    }

    fn account(&self, setting: &Setting) -> Result<Account, String> {
        let channel = setting.channel.as_deref().unwrap_or("sample");
        let account = self.connector.account(channel, &setting.options, setting.default_country.as_deref());
        account.map_err(|wrong| wrong.join(", "))
    }

    fn now(setting: &Setting) -> Result<Timestamp, String> {
        let text = setting.now.as_deref().ok_or("samples.toml says no `now`")?;
        text.parse().map_err(|_| "`now` in samples.toml is not RFC 3339".to_owned())
    }

    /// The request of a sample, signed if it is to be.
    fn opened(&self, name: &str) -> Result<(Request, Account, Timestamp), String> {
        let setting = self.merged(name);
        let account = self.account(&setting)?;
        let now = Self::now(&setting)?;
        let content = self.folder.files.get(&format!("samples/{name}.http"));
        let mut request = parse_http(content.ok_or_else(|| format!("there is no sample `{name}`"))?)?;
        if setting.sign.unwrap_or(true) {
            for scheme in &self.connector.verify {
                scheme.sign(&mut request, &account, now);
            }
        }
        if let Some(Ok(_)) = self.connector.signer(&request, &account) {
            request.signer = self.folder.files.get("samples/signer.pem").map(|pem| Bytes::copy_from_slice(pem));
        }
        Ok((request, account, now))
    }

    /// Runs one request through everything that its files say about it.
    fn request(&mut self, name: &str) {
        let has = |suffix: &str| self.folder.files.contains_key(&format!("samples/{name}.{suffix}"));
        let (reject, answer, expect) = (has("reject.toml"), has("answer.toml"), has("expect.json"));
        if reject {
            self.case(name, "refusal", Self::refusal);
        }
        if answer {
            self.case(name, "answer", Self::answers);
        }
        if expect || !(reject || answer) {
            self.case(name, "outcomes", Self::outcomes);
        }
    }

    fn refusal(&mut self, name: &str) -> Outcome1 {
        let (request, account, now) = self.opened(name)?;
        let path = format!("samples/{name}.reject.toml");
        let refused = match self.connector.verify(&request, &account, now) {
            Ok(by) => return Err(format!("it was accepted ({})", by.0)),
            Err(refusal) => Reject { status: refusal.status, reason: refusal.reason },
        };
        let text = self.file(&path).unwrap_or_default();
        let expected: Option<Reject> = toml::from_str(text).ok();
        if expected.as_ref() == Some(&refused) {
            return Ok(());
        }
        let given = toml::to_string(&refused).map_err(|error| error.to_string())?;
        self.differs(&path, given)
    }

    fn outcomes(&mut self, name: &str) -> Outcome1 {
        let (request, account, now) = self.opened(name)?;
        if self.connector.challenge(&request, &account, now).is_some() {
            return Err("it is a challenge; write its answer to `.answer.toml`".to_owned());
        }
        self.connector.verify(&request, &account, now).map_err(|refusal| format!("refused: {}", refusal.reason))?;
        if let Some(other) = self.merged(name).same_delivery_as {
            let (before, its_account, _) = self.opened(&other)?;
            if self.connector.delivery_key(&before, &its_account) != self.connector.delivery_key(&request, &account) {
                return Err(format!("it has another delivery key than `{other}`"));
            }
        }
        // As the gateway does: what is read again has only the headers that the manifest keeps.
        let kept = Request {
            headers: request
                .headers
                .iter()
                .filter(|(name, _)| self.connector.keep_headers().contains(name))
                .cloned()
                .collect(),
            ..request
        };
        self.expected(name, &self.connector.normalize(&kept, &account, now))
    }

    /// A mail, of which nothing is known but its bytes.
    fn mail(&mut self, name: &str) -> Outcome1 {
        let setting = self.merged(name);
        let (account, now) = (self.account(&setting)?, Self::now(&setting)?);
        let raw = self.folder.files.get(&format!("samples/{name}.eml")).cloned().unwrap_or_default();
        self.expected(name, &self.connector.normalize_mail(&raw, &MailHead::unchecked(), &account, now))
    }

    /// Compares outcomes with those in `NAME.expect.json`.
    fn expected(&mut self, name: &str, outcomes: &[Outcome]) -> Outcome1 {
        let given = serde_json::to_value(outcomes).map_err(|error| error.to_string())?;
        let again: Result<Vec<Outcome>, _> = serde_json::from_value(given.clone());
        if again.is_err() {
            return Err("what it gives is not in the published form".to_owned());
        }
        let path = format!("samples/{name}.expect.json");
        let expected: Option<Json> = self.file(&path).and_then(|text| serde_json::from_str(text).ok());
        if expected.as_ref() == Some(&given) {
            return Ok(());
        }
        let pretty = serde_json::to_string_pretty(&given).map_err(|error| error.to_string())? + "\n";
        let place =
            expected.map_or_else(|| "there is no expectation".to_owned(), |expected| difference("", &expected, &given));
        self.differs(&path, pretty).map_err(|_| place)
    }

    fn answers(&mut self, name: &str) -> Outcome1 {
        let (request, account, now) = self.opened(name)?;
        let path = format!("samples/{name}.answer.toml");
        let text = self.file(&path).unwrap_or_default();
        let mut expected: Answers = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let challenge = self.connector.challenge(&request, &account, now);
        let mut equal = true;
        for one in &mut expected.answer {
            let given: Answer = match &challenge {
                Some(answer) => answer.clone(),
                None => {
                    self.connector.verify(&request, &account, now).map_err(|refusal| refusal.reason)?;
                    let spec = self.connector.waits(&request, &account).ok_or("nobody waits for an answer")?;
                    match &one.name {
                        None => self.connector.safe_default(spec, &account, &request),
                        Some(name) => {
                            let vars =
                                one.vars.iter().map(|(key, value)| (key.clone(), Pii::new(value.clone()))).collect();
                            let said = CallAnswer { name: name.clone(), vars };
                            let answer = self.connector.answer(spec, &said, &account, &request);
                            answer.map_err(|error| error.to_string())?
                        }
                    }
                }
            };
            equal &= one.status == given.status && one.content_type == given.content_type && one.body == given.body;
            one.status = given.status;
            one.content_type = given.content_type;
            one.body = given.body;
        }
        if equal {
            return Ok(());
        }
        let given = toml::to_string(&expected).map_err(|error| error.to_string())?;
        self.differs(&path, given)
    }

    fn send(&mut self, name: &str) -> Outcome1 {
        let setting = self.merged(name);
        let account = self.account(&setting)?;
        let text = self.file(&format!("samples/{name}.send.json")).unwrap_or_default();
        let message: Outbound =
            serde_json::from_str(text).map_err(|error| format!("not an outbound message: {error}"))?;
        let (path, given) = match self.connector.render(&message, &account).map_err(|error| error.to_string())? {
            Outgoing::Requests(calls) => {
                let given: Vec<String> = calls.iter().map(|call| call.to_text() + "\n").collect();
                (format!("samples/{name}.expect.http"), given.join("###\n"))
            }
            Outgoing::Mail(leaving) => {
                // Its id is given to a mail when it is sent.
                let letter = Letter { message_id: format!("{}@sample.invalid", message.id), ..leaving.letter };
                let mail = write::write(&letter).map_err(|error| error.to_string())?;
                (format!("samples/{name}.expect.txt"), String::from_utf8_lossy(&mail).replace("\r\n", "\n"))
            }
        };
        if self.file(&path) == Some(given.as_str()) { Ok(()) } else { self.differs(&path, given) }
    }

    fn responses(&mut self, name: &str) -> Outcome1 {
        let text = self.file(&format!("samples/{name}.response.toml")).unwrap_or_default();
        let expected: Responses = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        for (at, one) in expected.response.iter().enumerate() {
            let headers: Vec<(String, String)> = one.headers.clone().into_iter().collect();
            let given = self.connector.read_response(one.status, &headers, one.body.as_bytes());
            let wanted = match one.reading.as_str() {
                "accepted" => SendReading::Accepted { ids: one.ids.clone() },
                "refused" => {
                    SendReading::Refused { code: one.code.clone(), title: one.title.clone().unwrap_or_default() }
                }
                "retry_later" => SendReading::RetryLater { after_ms: one.after_ms },
                "uncertain" => SendReading::Uncertain { title: one.title.clone().unwrap_or_default() },
                other => return Err(format!("response {at}: there is no reading `{other}`")),
            };
            if given != wanted {
                return Err(format!("response {at}: it is read as {}", words(&given)));
            }
        }
        Ok(())
    }

    /// Notes a difference, and proposes the file that would end it.
    fn differs(&mut self, path: &str, given: String) -> Outcome1 {
        let failure = format!("{path} should be:\n{given}");
        if self.propose {
            self.report.proposed.insert(path.to_owned(), given);
        }
        Err(failure)
    }
}

fn words(reading: &SendReading) -> String {
    match reading {
        SendReading::Accepted { ids } => format!("accepted {ids:?}"),
        SendReading::Refused { code, title } => format!("refused {code:?} {title:?}"),
        SendReading::RetryLater { after_ms } => format!("retry later {after_ms:?}"),
        SendReading::Uncertain { title } => format!("uncertain {title:?}"),
    }
}

/// The first place at which two JSON values differ.
fn difference(path: &str, expected: &Json, given: &Json) -> String {
    match (expected, given) {
        (Json::Object(expected), Json::Object(given)) => {
            for (key, value) in expected {
                match given.get(key) {
                    None => return format!("`{path}.{key}` is missing"),
                    Some(other) if other != value => return difference(&format!("{path}.{key}"), value, other),
                    Some(_) => {}
                }
            }
            let extra = given.keys().find(|key| !expected.contains_key(*key));
            format!("`{path}.{}` was not expected", extra.map(String::as_str).unwrap_or_default())
        }
        (Json::Array(expected), Json::Array(given)) if expected.len() == given.len() => {
            let pair = expected.iter().zip(given).enumerate().find(|(_, (left, right))| left != right);
            pair.map_or_else(String::new, |(at, (left, right))| difference(&format!("{path}[{at}]"), left, right))
        }
        _ => format!("`{path}` is {given}, expected {expected}"),
    }
}

/// Reads an HTTP/1.1 request as text. Lines of the head may end in LF alone; the body is everything after the blank line.
///
/// # Errors
///
/// What is wrong with the head.
pub fn parse_http(content: &[u8]) -> Result<Request, String> {
    let find = |needle: &[u8]| memchr::memmem::find(content, needle).map(|at| (at, at + needle.len()));
    let end = [find(b"\r\n\r\n"), find(b"\n\n")].into_iter().flatten().min();
    let (head_end, body_start) = end.unwrap_or((content.len(), content.len()));
    let head = content.get(..head_end).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| "the head of the request is not UTF-8")?;
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split_whitespace();
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        return Err("the request has no request line".to_owned());
    };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header line has no colon")?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let host = headers.iter().find(|(name, _)| name == "host").map_or("gateway.example", |(_, host)| host.as_str());
    let url = if target.contains("://") { target.to_owned() } else { format!("https://{host}{target}") };
    let body = Bytes::copy_from_slice(content.get(body_start..).unwrap_or_default());
    Ok(Request { method: method.to_owned(), url, headers, body, signer: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_body_byte_for_byte() {
        let request = parse_http(b"POST /in/x?a=1 HTTP/1.1\nHost: g.example\nX-A:  b \n\n{\"a\":1}\n").unwrap();
        assert_eq!(request.url, "https://g.example/in/x?a=1");
        assert_eq!(request.header("x-a"), Some("b"));
        assert_eq!(request.body.as_ref(), b"{\"a\":1}\n");
        assert!(parse_http(b"").is_err());
    }
}
