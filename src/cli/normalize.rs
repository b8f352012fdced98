//! `segue normalize`: payloads in, one JSON outcome a line out.
//!
//! Runs what the normalize stage runs, without journal or signature. It needs no project: the built-in connectors are
//! there, and options that an account must have are filled in. Every payload gives at least one line.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value};

use super::exit::{Exit, Outcome};
use super::{Global, input, report};
use crate::app::setup;
use crate::base::{Clock, Error, Result, Timestamp};
use crate::config::nearest;
use crate::connector::{Account, Connector, Pattern, Registry, Request, Transport, sample};
use crate::model;
use crate::model::entry::MailHead;

/// Arguments of `segue normalize`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue normalize --connector whatsapp body.json\n  \
segue normalize --connector twilio-sms --content-type application/x-www-form-urlencoded - < body\n  \
segue normalize --connector slack request.http\n  segue normalize --connector email mail.eml\n\n\
Exit code 65 if a payload could not be understood.")]
pub struct NormalizeArgs {
    /// The connector whose payloads these are
    #[arg(long, value_name = "NAME")]
    pub connector: String,
    /// The content type of the bodies; otherwise told from the content. Not needed for .http files
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Take the account and the options of this channel of the configuration
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Files with a body each, raw requests with headers (.http), or mails; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Normalizes every file, in order.
///
/// # Errors
///
/// If the connector or the channel does not exist, the project cannot be used, or the output cannot be written. A payload
/// that cannot be understood is no error but a line and [`Exit::Data`]; a file that cannot be read is told, the others
/// are still processed, and the end is [`Exit::NoInput`].
pub fn run(global: &Global, args: &NormalizeArgs) -> Outcome {
    let (account, registry) = match account(global, args)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let Some(connector) = registry.get(&args.connector) else {
        return Err(Error::internal(format!("connector `{}` is gone", args.connector)));
    };
    let now = Clock::system().now();
    let mut exit = Exit::Ok;
    for file in &args.files {
        let payload = match input::read(file) {
            Ok(payload) => payload,
            Err(error) => {
                report::error(&error);
                exit = if exit == Exit::Data { exit } else { Exit::from(&error) };
                continue;
            }
        };
        for outcome in outcomes(connector, &account, file, args.content_type.as_deref(), payload, now) {
            if matches!(outcome, model::Outcome::Quarantined { .. }) {
                exit = Exit::Data;
            }
            report::json(&outcome)?;
        }
    }
    Ok(exit)
}

/// The account to read the payloads with, and the connectors. How to end, where there is none: the reason is printed.
fn account(global: &Global, args: &NormalizeArgs) -> Result<Result<(Account, Registry), Exit>> {
    let config = match (&args.channel, global.exists()) {
        (Some(_), _) => Some(global.load()?),
        // Without a channel the project matters for its connectors only, and its mistakes elsewhere do not.
        (None, true) => crate::config::load(&global.config).ok(),
        (None, false) => None,
    };
    let (registry, problems) = setup::connectors(&global.connectors_dir(), &Registry::default());
    let Some(connector) = registry.get(&args.connector) else {
        return Ok(Err(global.no_connector(&args.connector, &registry, &problems)));
    };
    let country = config.as_ref().and_then(|config| config.default_country.as_deref());
    let Some(name) = &args.channel else {
        let account = connector.account(&args.connector, &filled(connector), country).map_err(|wrong| {
            let reason = format!("connector `{}` needs options: {}", args.connector, wrong.join(", "));
            Error::config(format!("{reason}; name a configured account by --channel"))
        })?;
        return Ok(Ok((account, registry)));
    };
    let channels = config.as_ref().map(|config| config.channels.as_slice()).unwrap_or_default();
    let Some(channel) = channels.iter().find(|channel| channel.name == *name) else {
        let near = nearest(name, channels.iter().map(|channel| channel.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Error::config(format!("no channel is named `{name}`{hint}")));
    };
    if channel.connector != args.connector {
        let reason = format!("channel `{name}` is one of connector `{}`, not `{}`", channel.connector, args.connector);
        return Err(Error::config(reason));
    }
    let options = channel.options_json();
    match connector.account(name, &options, country) {
        Ok(account) => Ok(Ok((account, registry))),
        Err(_) => {
            let faults = connector.option_faults(&options).into_iter();
            let problems: Vec<_> = faults.map(|fault| channel.option_problem(&fault.option, fault.reason)).collect();
            report::problems(&problems);
            Ok(Err(Exit::Config))
        }
    }
}

/// Options for an account of nobody: those that must be there, with values of the right shape.
fn filled(connector: &Connector) -> Map<String, Value> {
    let missing = connector.options().iter().filter(|option| option.required && option.default.is_none());
    let value = |pattern: Option<Pattern>| match pattern {
        Some(Pattern::Digits) => "0",
        Some(Pattern::Url) => "https://gateway.example",
        Some(Pattern::E164) => "+14155550100",
        Some(Pattern::Host) => "mail.gateway.example",
        Some(Pattern::Port) => "1",
        Some(Pattern::Mail) => "support@gateway.example",
        Some(Pattern::Token) | None => "none",
    };
    missing.map(|option| (option.name.clone(), Value::from(value(option.pattern)))).collect()
}

/// What one payload gives: at least one outcome.
fn outcomes(
    connector: &Connector,
    account: &Account,
    file: &Path,
    content_type: Option<&str>,
    payload: Vec<u8>,
    now: Timestamp,
) -> Vec<model::Outcome> {
    let quarantined = |reason: &str| vec![model::Outcome::Quarantined { reason: reason.to_owned() }];
    if payload.is_empty() {
        return quarantined("the payload is empty");
    }
    if connector.transport() == Transport::Mail {
        return connector.normalize_mail(&payload, &MailHead::unchecked(), account, now);
    }
    let mut request = match request(file, payload) {
        Ok(request) => request,
        Err(reason) => return quarantined(&reason),
    };
    if let Some(given) = content_type {
        request.headers.retain(|(name, _)| name != "content-type");
        request.headers.push(("content-type".to_owned(), given.to_owned()));
    } else if request.header("content-type").is_none() {
        let guessed = guess(file, &request.body);
        request.headers.push(("content-type".to_owned(), guessed));
    }
    if connector.challenge(&request, account, now).is_some() {
        let reason = "a challenge, which is answered without an entry".to_owned();
        return vec![model::Outcome::Ignored { reason }];
    }
    if request.body.is_empty() && !request.url.contains('?') {
        return quarantined("the payload is empty");
    }
    // As in the gateway: what is read from the journal has only the headers that the manifest keeps.
    request.headers.retain(|(name, _)| connector.keep_headers().contains(name));
    connector.normalize(&request, account, now)
}

/// The request that a file holds: a raw one with its head, or a bare body.
fn request(file: &Path, payload: Vec<u8>) -> Result<Request, String> {
    let raw = extension(file).is_some_and(|extension| extension == "http");
    if raw || (input::is_stdin(file) && begins_as_request(&payload)) {
        return raw_request(payload);
    }
    let url = "https://gateway.example/".to_owned();
    Ok(Request { method: "POST".to_owned(), url, headers: Vec::new(), body: Bytes::from(payload), signer: None })
}

/// A raw request. Its request line may be left out, and so may its whole head, down to the blank line.
fn raw_request(payload: Vec<u8>) -> Result<Request, String> {
    let first = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = first.split(|byte| *byte == b':').next().unwrap_or_default();
    let header = name.len() < first.len() && !name.iter().any(u8::is_ascii_whitespace);
    let blank = first.iter().all(|byte| *byte == b'\r');
    let payload = if header || blank {
        let end: &[u8] = if first.ends_with(b"\r") { b"\r\n" } else { b"\n" };
        [b"POST / HTTP/1.1", end, &payload].concat()
    } else {
        payload
    };
    let mut request = sample::parse_http(&payload)?;
    // Editors end a file with a line end that the sender never sent; the declared length tells.
    let declared = request.header("content-length").and_then(|length| length.parse::<usize>().ok());
    if let Some(length) = declared.filter(|length| *length < request.body.len())
        && request.body.iter().skip(length).all(|byte| matches!(byte, b'\r' | b'\n'))
    {
        request.body.truncate(length);
    }
    Ok(request)
}

/// Whether the first line is a request line of HTTP/1.
fn begins_as_request(payload: &[u8]) -> bool {
    let first = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    first.ends_with(b" HTTP/1.1") || first.ends_with(b" HTTP/1.0")
}

fn extension(file: &Path) -> Option<String> {
    Some(file.extension()?.to_str()?.to_ascii_lowercase())
}

/// The content type of a body that nobody told: by the file's name, else by how it begins.
fn guess(file: &Path, body: &[u8]) -> String {
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    let start = body.trim_ascii_start();
    match extension(file).as_deref() {
        Some("json") => return JSON.to_owned(),
        Some("form") => return FORM.to_owned(),
        Some("xml") => return "application/xml".to_owned(),
        _ => {}
    }
    if let Some(boundary) = start.strip_prefix(b"--")
        && let Some(boundary) = boundary.split(|byte| matches!(byte, b'\r' | b'\n')).next()
        && let Ok(boundary) = std::str::from_utf8(boundary)
        // The characters and the length that RFC 2046, 5.1.1, allows, without those that would need quotes.
        && (1..=70).contains(&boundary.len())
        && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'+_-.".contains(&byte))
    {
        return format!("multipart/form-data; boundary={boundary}");
    }
    let name = start.split(|byte| *byte == b'=').next().unwrap_or_default();
    let form = name.len() < start.len()
        && !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.%[]+*".contains(byte));
    // What begins like neither is read as JSON, whose reader says best what is wrong with it.
    (if form && !start.starts_with(b"[") { FORM } else { JSON }).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whatsapp() -> (Connector, Account) {
        let folder = crate::connector::Folder::embedded().into_iter().find(|f| f.name == "whatsapp").unwrap();
        let connector = Connector::load(std::sync::Arc::new(folder), None).ok().unwrap();
        let account = connector.account("whatsapp", &filled(&connector), None).unwrap();
        (connector, account)
    }

    fn lines(file: &str, content_type: Option<&str>, payload: &[u8]) -> Vec<Value> {
        let (connector, account) = whatsapp();
        let outcomes =
            outcomes(&connector, &account, Path::new(file), content_type, payload.to_vec(), Timestamp::from_seconds(1));
        outcomes.iter().map(|outcome| serde_json::to_value(outcome).unwrap()).collect()
    }

    fn sample_of(name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/whatsapp/samples").join(name);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_body_and_a_raw_request_give_the_same_without_signature_or_project() {
        let raw = sample_of("text.http");
        let body = raw_request(raw.clone()).unwrap().body;
        let of_raw = lines("text.http", None, &raw);
        assert_eq!(of_raw[0]["outcome"], "interaction");
        assert_eq!(of_raw[0]["interaction"]["schema"], "interaction.v1");
        assert_eq!(lines("-", None, &raw), of_raw);
        assert_eq!(lines("-", None, &body), of_raw);
        assert_eq!(lines("body.json", None, &body), of_raw);
        assert_eq!(lines("body", Some("application/json"), &body), of_raw);
        assert_eq!(lines("receipts.http", None, &sample_of("receipts.http"))[0]["outcome"], "receipt");
    }

    #[test]
    fn what_cannot_be_understood_is_quarantined_with_its_reason() {
        for (file, payload) in [
            ("a.json", &b""[..]),
            ("a.json", b"{"),
            ("a.json", b"\xff\xfe"),
            ("a.http", b"no request at all"),
            ("a.http", b"POST / HTTP/1.1\nhost: x\n\n"),
            ("a.txt", b"a=b"),
            ("a", b"--x\r\nbroken"),
        ] {
            let lines = lines(file, None, payload);
            assert!(!lines.is_empty(), "{file}");
            assert!(
                lines.iter().all(|line| line["outcome"] == "quarantined" && line["reason"] != ""),
                "{file}: {lines:?}"
            );
        }
    }

    #[test]
    fn a_request_may_lack_its_request_line_or_its_whole_head() {
        let body = |payload: &[u8]| raw_request(payload.to_vec()).unwrap().body;
        assert_eq!(body(b"Content-Type: text/plain\n\nhello\n"), "hello\n");
        assert_eq!(body(b"Content-Type: text/plain\r\n\r\nhello"), "hello");
        assert_eq!(body(b"\nhello"), "hello");
        assert_eq!(body(b"\r\nhello"), "hello");
        assert_eq!(body(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello\n"), "hello");
        assert_eq!(body(b"POST / HTTP/1.1\ncontent-length: 2\n\nhello\n"), "hello\n");
    }

    #[test]
    fn tells_the_content_type_from_the_content() {
        let told = |file: &str, body: &str| guess(Path::new(file), body.as_bytes());
        assert_eq!(told("a", " {\"a\":\"b=c\"}"), "application/json");
        assert_eq!(told("a", "[1]"), "application/json");
        assert_eq!(told("a.txt", "Body=Hi&From=%2B1"), "application/x-www-form-urlencoded");
        assert_eq!(told("a.form", "x"), "application/x-www-form-urlencoded");
        assert_eq!(told("a.json", "Body=Hi"), "application/json");
        assert_eq!(told("-", "--abc\r\nContent-Disposition: x"), "multipart/form-data; boundary=abc");
    }

    #[test]
    fn every_shipped_connector_can_be_read_without_a_project() {
        let (registry, problems) = setup::connectors(Path::new("no-such-folder"), &Registry::default());
        assert_eq!(problems, []);
        for connector in registry.iter() {
            let account = connector.account("x", &filled(connector), None);
            assert!(account.is_ok(), "{}: {:?}", connector.name(), account.err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_line(bytes: Vec<u8>, file in "a\\.(http|json|form|txt|bin)") {
            let (connector, account) = whatsapp();
            let lines = outcomes(&connector, &account, Path::new(&file), None, bytes, Timestamp::from_seconds(1));
            prop_assert!(!lines.is_empty());
        }
    }
}
