//! The room's own tests: every shipped connector with its samples, the published signature vectors, and, where they are
//! present, payloads that others wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::*;
use crate::app::setup::build_map;
use crate::base::Timestamp;

const NOW: &str = "2026-03-02T10:00:00.000Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn shipped(name: &str) -> Connector {
    let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors").join(name)).unwrap();
    Connector::load(Arc::new(folder), Some(&build_map)).unwrap_or_else(|found| panic!("{}", lines(&found)))
}

fn lines(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// With `SEGUE_WRITE_SAMPLES=1` missing or differing expectations are written; the test fails all the same.
#[test]
fn every_shipped_connector_passes_its_samples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors");
    let write = std::env::var_os("SEGUE_WRITE_SAMPLES").is_some();
    let mut failed = Vec::new();
    for folder in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let folder = Arc::new(Folder::read(&folder).unwrap());
        let report = sample::run(&folder, Some(&build_map), write);
        for (path, content) in &report.proposed {
            std::fs::write(root.join(&folder.name).join(path), content).unwrap();
        }
        failed.extend(report.diagnostics.iter().map(ToString::to_string));
        for result in &report.results {
            if let Some(failure) = &result.failure {
                failed.push(format!("{}: {} ({}): {failure}", folder.name, result.name, result.shows));
            }
        }
        let refusals = report.results.iter().filter(|result| result.shows == "refusal").count();
        // What is fetched is refused by nobody.
        let fetched = Connector::load(folder.clone(), Some(&build_map)).is_ok_and(|c| c.transport() == Transport::Mail);
        assert!(report.results.len() >= 10 && (refusals > 0 || fetched), "{}: too few samples", folder.name);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The options with which a shipped connector's samples are run.
fn sample_account(connector: &Connector) -> Account {
    let text = connector.folder().files.get("samples/samples.toml").unwrap();
    let setting: Json = toml::from_str(std::str::from_utf8(text).unwrap()).unwrap();
    connector
        .account("sample", setting.get("options").unwrap().as_object().unwrap(), None)
        .unwrap_or_else(|w| panic!("{w:?}"))
}

/// Payloads of a provider, written by others; none where the corpus is not present.
fn corpus(provider: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/webhooks", "../../shared/corpus/webhooks"];
    let found = places.iter().map(|place| root.join(place).join(provider)).find(|place| place.is_dir());
    let Some(folder) = found else { return Vec::new() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_none_or(|e| e != "md") && !path.to_string_lossy().ends_with(".meta.json"));
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn json_request(body: &[u8]) -> Request {
    Request {
        method: "POST".to_owned(),
        url: "https://gateway.example/in/x".to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::copy_from_slice(body),
        signer: None,
    }
}

/// The files of the corpus that are no whole payloads: single values of a schema, a word in the place of the event.
const FRAGMENTS: [&str; 2] = ["spec-", "-events_assistant-build_payload"];

#[test]
fn payloads_of_others_are_understood() {
    let providers = [
        ("whatsapp", "meta-whatsapp"),
        ("telegram", "telegram"),
        ("meta-page", "meta-messenger"),
        ("meta-page", "meta-instagram"),
        ("slack", "slack"),
    ];
    for (name, provider) in providers {
        let connector = shipped(name);
        let account = sample_account(&connector);
        for (path, body) in corpus(provider) {
            let mut request = json_request(&body);
            if path.extension().is_some_and(|e| e == "form") {
                request.headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
            }
            let outcomes = connector.normalize(&request, &account, now());
            if provider == "slack" && FRAGMENTS.iter().any(|part| path.to_string_lossy().contains(part)) {
                assert!(matches!(outcomes.as_slice(), [Outcome::Quarantined { .. }]), "{}", path.display());
                continue;
            }
            for outcome in &outcomes {
                if let Outcome::Quarantined { reason } = outcome {
                    panic!("{}: quarantined: {reason}", path.display());
                }
            }
            let text = serde_json::to_string(&outcomes).unwrap();
            if std::env::var_os("SEGUE_SHOW_OUTCOMES").is_some() {
                println!("{}: {text}", path.file_name().unwrap().to_string_lossy());
            }
            // A file that is plainly a message must come out as one.
            let file = path.to_string_lossy();
            let says = file.contains("-message-") || file.contains("outgoing_message");
            if says && !file.contains("reaction_count") {
                assert!(!text.contains("\"ignored\""), "{}: {text}", path.display());
            }
        }
    }
}

/// The content type of a payload of the corpus, whose file does not tell it.
fn type_of(path: &Path, body: &[u8]) -> String {
    if path.extension().is_none_or(|e| e != "multipart") {
        return "application/json".to_owned();
    }
    let first = body.strip_prefix(b"--").unwrap_or(body).split(|byte| *byte == b'\r' || *byte == b'\n').next();
    format!("multipart/form-data; boundary=\"{}\"", String::from_utf8_lossy(first.unwrap_or_default()))
}

#[test]
fn payloads_of_mail_providers_hold_a_mail_or_a_reason() {
    for name in ["postmark", "mailgun", "sendgrid", "amazon-ses"] {
        let connector = shipped(name);
        let account = sample_account(&connector);
        for (path, mut body) in corpus(name) {
            let form = path.extension().is_some_and(|e| e == "multipart");
            if form && memchr::memmem::find(&body, b"\r\n").is_none() {
                // It was kept as text, which lost its line ends.
                body = String::from_utf8_lossy(&body).replace('\n', "\r\n").into_bytes();
            }
            let mut request = json_request(&body);
            request.headers = vec![("content-type".to_owned(), type_of(&path, &body))];
            let outcomes = connector.normalize(&request, &account, now());
            let file = path.file_name().unwrap().to_string_lossy();
            let holds = |what: &str| memchr::memmem::find(&body, what.as_bytes()).is_some();
            let whole = ["\"RawEmail\"", "name=\"email\"", "name=\"body-mime\""].into_iter().any(holds);
            match outcomes.as_slice() {
                [Outcome::Interaction(one)] if whole => {
                    let ix = &one.interaction;
                    assert!(ix.author.identifier.is_some() && !ix.text.expose().is_empty(), "{name}/{file}");
                }
                [Outcome::Quarantined { .. } | Outcome::Ignored { .. }, ..] if !whole => {}
                _ => panic!("{name}/{file}: {}", serde_json::to_string(&outcomes).unwrap()),
            }
        }
    }
}

/// Every file of the corpus of mails, whole: text, quotes, parts, invitations, reports. Only what is no mail is set aside.
#[test]
fn mails_of_others_are_taken_whole_and_only_what_is_none_is_set_aside() {
    use crate::mail::read::{Limits, read};
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus", "../../shared/corpus"].map(|place| root.join(place));
    let Some(folder) = places.into_iter().find(|place| place.is_dir()) else { return };
    let connector = shipped("email");
    let account = sample_account(&connector);
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let paths = manifest.lines().filter_map(|line| line.split('\t').next()).filter(|path| path.starts_with("email/"));
    let mut taken = 0;
    for path in paths {
        let raw = std::fs::read(folder.join(path)).unwrap();
        let is_mail = read(&raw, &Limits::default()).is_ok();
        let outcomes = connector.normalize_mail(&raw, &crate::model::entry::MailHead::unchecked(), &account, now());
        let set_aside = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Quarantined { .. }));
        assert_eq!((set_aside, outcomes.is_empty()), (!is_mail, false), "{path}");
        taken += usize::from(is_mail);
    }
    assert!(taken > 600, "{taken} mails");
}

/// Where the corpus is present: the vector that the provider publishes with its libraries.
#[test]
fn the_published_vector_of_p256_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/signature_vectors.json");
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let vectors: Json = serde_json::from_str(&text).unwrap();
    let vectors = vectors.as_array().or_else(|| vectors["vectors"].as_array()).unwrap();
    let vector = vectors.iter().find(|vector| vector["provider"] == "sendgrid").unwrap();
    let part = |name: &str| vector[name].as_str().unwrap().to_owned();
    let connector = shipped("sendgrid");
    let options = json!({ "address": "support@shop.example", "public_key": part("public_key") });
    let account = connector.account("mail", options.as_object().unwrap(), None).unwrap_or_else(|w| panic!("{w:?}"));
    let mut request = json_request(part("body").as_bytes());
    for name in ["timestamp", "signature"] {
        request.headers.push((format!("x-twilio-email-event-webhook-{name}"), part(name)));
    }
    assert_eq!(connector.verify(&request, &account, now()), Ok(VerifiedBy("ecdsa-p256".to_owned())));
    request.body = Bytes::copy_from_slice(request.body.trim_ascii_end());
    assert!(connector.verify(&request, &account, now()).is_err(), "the last line end is signed");
}

fn folder(manifest: &str) -> Arc<Folder> {
    let files = [("connector.toml".to_owned(), manifest.as_bytes().to_vec().into())];
    Arc::new(Folder { name: "demo".to_owned(), files: files.into() })
}

const SMALL: &str = r#"
[connector]
name = "demo"
version = "1"
summary = "A demonstration"
docs = "https://example.test"
transport = "webhook"
channel = "chat"
[options.secret]
help = "The key"
secret = true
required = true
[[verify]]
kind = "hmac"
algorithm = "sha256"
header = "X-Signature"
key = "secret"
signs = ["v0:", "header:X-Time", ":", "body"]
prefix = "v0="
window = { header = "X-Time", seconds = 300 }
[ack]
retry_window = "1h"
[[item]]
each = "message in body.messages"
[[item.case]]
provider_id = "message.id"
text = "message.text"
author = { identifiers = [{ type = "demo", value = "message.from", trust = "verified" }] }
"#;

fn found(manifest: &str) -> Vec<String> {
    match Connector::load(folder(manifest), None) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_broken_manifest_names_file_line_and_nearest_name() {
    assert_eq!(found(SMALL), Vec::<String>::new());
    let cases = [
        ("text = \"message.text\"", "txet = \"message.text\"", "unknown key `txet`", "did you mean `text`?"),
        ("value = \"message.from\"", "value = \"mesage.from\"", "unknown name `mesage`", "did you mean `message`?"),
        (
            "text = \"message.text\"",
            "text = \"lowr(message.text)\"",
            "unknown function `lowr`",
            "did you mean `lower`?",
        ),
        ("text = \"message.text\"", "text = \"option.secret\"", "is secret", ""),
        ("key = \"secret\"", "key = \"secrt\"", "option `secrt`, which is not declared", "did you mean `secret`?"),
        ("trust = \"verified\"", "trust = \"verifed\"", "unknown variant `verifed`", ""),
        (
            "provider_id = \"message.id\"",
            "when = \"message.id\"",
            "the last case of an `[[item]]` must have no `when`",
            "",
        ),
        (
            "[[verify]]\nkind = \"hmac\"",
            "[[verify]]\nkind = \"hmca\"",
            "unknown verification scheme",
            "did you mean `hmac`?",
        ),
        ("help = \"The key\"", "", "needs `help`", ""),
        ("name = \"demo\"", "name = \"other\"", "lies in the folder `demo`", ""),
    ];
    for (from, to, reason, hint) in cases {
        let changed = SMALL.replacen(from, to, 1);
        assert_ne!(changed, SMALL, "{from}");
        let found = found(&changed);
        let line = found.iter().find(|line| line.contains(reason)).unwrap_or_else(|| panic!("{to}: {found:?}"));
        assert!(line.starts_with("demo/connector.toml:") && line.contains(hint), "{line}");
    }
}

#[test]
fn what_says_how_a_mail_comes_is_checked_when_it_is_loaded() {
    let ed = ["[connector]", "[connector]\ndelivery_key = \"body.token\""];
    let keyed = SMALL.replacen(ed[0], ed[1], 1);
    let from = keyed.find("[[verify]]").unwrap();
    let to = keyed.find("[ack]").unwrap();
    let with = |lines: &str| {
        let verify = format!("[[verify]]\nkind = \"hmac-fields\"\nalgorithm = \"sha256\"\nkey = \"secret\"\n{lines}\n");
        found(&format!("{}{verify}{}", &keyed[..from], &keyed[to..]))
    };
    let whole =
        "signature = \"body.sig\"\ntimestamp = \"body.at\"\nsigns = [\"body.at\", \"body.token\"]\nseconds = 600";
    assert_eq!(with(whole), Vec::<String>::new());
    let cases = [
        (whole.replace(", \"body.token\"", ""), "must be the `delivery_key`"),
        (whole.replace("\nseconds = 600", ""), "needs `seconds`"),
        (whole.replace("body.sig", "bdy.sig"), "unknown name `bdy`"),
    ];
    for (lines, reason) in cases {
        let found = with(&lines);
        assert!(found.iter().any(|line| line.contains(reason)), "{lines}: {found:?}");
    }
    let mail = |lines: &str| found(&format!("{SMALL}\n[mail]\n{lines}"));
    assert_eq!(mail("let = [\"note = json(body.note)\"]\nraw = \"note.raw\""), Vec::<String>::new());
    for (lines, reason) in [
        ("spf = \"body.spf\"", "name one of them"),
        ("raw = \"body.a\"\nfield = \"a\"", "name one of them"),
        ("raw = \"body.a\"\nbase46 = \"body.b\"", "did you mean `base64`?"),
    ] {
        assert!(mail(lines).iter().any(|line| line.contains(reason)), "{lines}: {:?}", mail(lines));
    }
}

fn demo() -> (Connector, Account) {
    let connector = Connector::load(folder(SMALL), None).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let options = json!({"secret": ["new", "old"]});
    let account = connector.account("demo", options.as_object().unwrap(), None).unwrap_or_else(|w| panic!("{w:?}"));
    (connector, account)
}

fn signed(secret: &str, at: Timestamp, body: &str) -> Request {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, format!("v0:{}:{body}", at.seconds()).as_bytes());
    let tag = format!("v0={}", data_encoding::HEXLOWER.encode(tag.as_ref()));
    let mut request = json_request(body.as_bytes());
    request.headers.push(("x-time".to_owned(), at.seconds().to_string()));
    request.headers.push(("x-signature".to_owned(), tag));
    request
}

#[test]
fn a_timestamped_signature_holds_for_its_window_and_no_longer() {
    let (connector, account) = demo();
    let check = |request: &Request| connector.verify(request, &account, now()).map_err(|refusal| refusal.reason);
    assert_eq!(check(&signed("new", now(), "{}")), Ok(VerifiedBy("hmac-sha256".to_owned())));
    assert!(check(&signed("old", now().plus_millis(-299_000), "{}")).is_ok());
    for (at, secret) in [(-301_000, "new"), (301_000, "new"), (0, "guess")] {
        assert!(check(&signed(secret, now().plus_millis(at), "{}")).is_err());
    }
    let mut later = signed("new", now(), "{}");
    later.headers.iter_mut().filter(|(name, _)| name == "x-time").for_each(|(_, value)| *value += "0");
    assert!(check(&later).is_err());
    let mut changed = signed("new", now(), "{}");
    changed.body = Bytes::from_static(b"{} ");
    assert_eq!(check(&changed), Err("signature does not match".to_owned()));
}

#[test]
fn every_element_has_an_outcome_whatever_it_is() {
    let (connector, account) = demo();
    let body = r#"{"messages": [{"id": 9007199254740993, "text": "a", "from": "x"}, 1, null, [], {"text": "no id"}]}"#;
    let outcomes = connector.normalize(&json_request(body.as_bytes()), &account, now());
    assert_eq!(outcomes.len(), 5);
    let Some(Outcome::Interaction(first)) = outcomes.first() else { panic!("no interaction") };
    assert_eq!(first.interaction.channel.provider_id.as_deref(), Some("9007199254740993"));
    assert!(outcomes.iter().skip(1).all(|outcome| matches!(outcome, Outcome::Quarantined { .. })));
    for broken in ["", "{}", "[]", "{\"messages\": 7}", "nonsense", "{\"messages\": []}"] {
        let outcomes = connector.normalize(&json_request(broken.as_bytes()), &account, now());
        assert!(matches!(outcomes.as_slice(), [Outcome::Quarantined { .. }]), "{broken}");
    }
}

#[test]
fn a_bot_is_called_by_the_id_in_its_token_or_by_its_channel() {
    let connector = shipped("telegram");
    let account = |token: &str| {
        let options = json!({ "bot_token": token, "secret_token": "x" });
        let account = connector.account("tg", options.as_object().unwrap(), None).unwrap_or_else(|w| panic!("{w:?}"));
        let body = br#"{"message":{"message_id":1,"chat":{"id":2,"type":"private"},"text":"a","date":1}}"#;
        match connector.normalize(&json_request(body), &account, now()).as_slice() {
            [Outcome::Interaction(one)] => one.interaction.channel.account.clone(),
            other => panic!("{}", serde_json::to_string(other).unwrap()),
        }
    };
    assert_eq!(account("123456789:AAsample"), "123456789");
    assert_eq!(account("none"), "tg");
}

#[test]
fn reasons_call_a_step_by_its_label() {
    let account = demo().1;
    let reasons = |each: &str, body: Json| -> Vec<String> {
        let manifest = SMALL.replace("[[item]]\neach = \"message in body.messages\"", each);
        assert_ne!(manifest, SMALL);
        let connector = Connector::load(folder(&manifest), None).unwrap_or_else(|found| panic!("{}", lines(&found)));
        let outcomes = connector.normalize(&json_request(body.to_string().as_bytes()), &account, now());
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Quarantined { reason } | Outcome::Ignored { reason } => reason,
                _ => panic!("an interaction"),
            })
            .collect()
    };
    let bare = "[payload]\neach = \"entry in body.entry ?? body.list\"\n[[item]]\neach = \"message in entry.messages\"";
    assert_eq!(reasons(bare, json!({})), ["payload has no `body.entry ?? body.list`"]);
    let step = "{ step = \"entry in body.entry ?? body.list\", label = \"entry\" }";
    let named = bare.replace("\"entry in body.entry ?? body.list\"", step);
    assert_eq!(reasons(&named, json!({})), ["payload has no `entry`"]);
    assert_eq!(reasons(&named, json!({"entry": []})).first().unwrap(), "`entry` is empty");
    assert_eq!(reasons(&named, json!({"list": 7})), ["`entry` is not a list"]);
    let inner = "{ step = \"message in entry.messages\", label = \"messages of {entry.id ?? 'none'}\" }";
    let named = named.replace("\"message in entry.messages\"", inner);
    assert_eq!(reasons(&named, json!({"entry": [{"id": 5, "messages": 1}]})), ["`messages of 5` is not a list"]);
    let wrong = SMALL.replace("\"message in body.messages\"", "{ step = \"message in body.messages\", lable = \"x\" }");
    assert!(found(&wrong).iter().any(|line| line.contains("did you mean `label`?")));
    assert!(
        found(&SMALL.replace("\"message in body.messages\"", "7")).iter().any(|line| line.contains("must be a table"))
    );
}

#[test]
fn recipients_of_a_list_are_many_but_bounded() {
    let recipients = "recipients = [{ each = \"m in message.to\", role = \"mention\", type = \"demo\", \
                      value = \"when(m.kind == 'user', m.id)\" }]\nreply_to = \"index\"\n";
    let (manifest, account) = (format!("{SMALL}{recipients}"), demo().1);
    assert!(found(&manifest).iter().any(|line| line.contains("unknown name `index`")), "its names end with it");
    let manifest = manifest.replace("reply_to = \"index\"\n", "");
    let connector = Connector::load(folder(&manifest), None).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let named = |to: Json| -> Vec<String> {
        let body = json!({"messages": [{"id": "1", "text": "a", "to": to}]}).to_string();
        let outcomes = connector.normalize(&json_request(body.as_bytes()), &account, now());
        let [Outcome::Interaction(one)] = outcomes.as_slice() else { panic!("no interaction") };
        one.interaction.recipients.iter().map(|r| r.identifier.value.expose().clone()).collect()
    };
    let user = |id: usize| json!({"kind": "user", "id": id.to_string()});
    assert_eq!(named(json!([user(1), {"kind": "group", "id": "2"}, 7, user(3), user(1)])), ["1", "3"]);
    assert_eq!(named(json!("1")), Vec::<String>::new());
    assert_eq!(named((0..1000).map(user).collect()).len(), 256);
}

#[test]
fn an_author_without_identifier_has_the_trust_that_is_declared() {
    let manifest = SMALL
        .replace("in body.messages", "in body.messages ?? list(when(body.text, body))")
        .replace("author = { identifiers", "author = { trust = \"observed\", identifiers");
    let connector = Connector::load(folder(&manifest), None).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let account = demo().1;
    let trust = |body: &str| match connector.normalize(&json_request(body.as_bytes()), &account, now()).as_slice() {
        [Outcome::Interaction(one)] => Some(one.interaction.author.trust),
        _ => None,
    };
    use crate::model::Trust;
    assert_eq!(trust(r#"{"messages": [{"id": 1, "text": "a", "from": "x"}]}"#), Some(Trust::Verified));
    assert_eq!(trust(r#"{"messages": [{"id": 1, "text": "a"}]}"#), Some(Trust::Observed));
    // A message outside of its list.
    assert_eq!(trust(r#"{"id": 1, "text": "a"}"#), Some(Trust::Observed));
    assert_eq!(trust(r#"{"id": 1}"#), None);
}

#[test]
fn a_registry_keeps_the_old_connector_while_its_folder_is_broken() {
    let project = tempfile::tempdir().unwrap();
    let demo = project.path().join("demo");
    std::fs::create_dir(&demo).unwrap();
    let write = |text: &str| std::fs::write(demo.join("connector.toml"), text).unwrap();
    write(SMALL);
    let (first, wrong) = Registry::load(&Folder::embedded(), Some(project.path()), Some(&build_map));
    assert_eq!(lines(&wrong), "");
    assert!(first.get("demo").is_some() && first.get("whatsapp").is_some());
    write(&SMALL.replace("message.text", "mesage.text"));
    let (second, wrong) = first.reload(&Folder::embedded(), Some(project.path()), Some(&build_map));
    assert_eq!(wrong.len(), 1);
    assert!(Arc::ptr_eq(first.get("demo").unwrap(), second.get("demo").unwrap()));
    write(&SMALL.replace("version = \"1\"", "version = \"2\""));
    let (third, wrong) = second.reload(&Folder::embedded(), Some(project.path()), Some(&build_map));
    assert_eq!(lines(&wrong), "");
    assert_eq!(third.get("demo").unwrap().version(), "2");
    std::fs::remove_dir_all(&demo).unwrap();
    let (fourth, _) = third.reload(&Folder::embedded(), Some(project.path()), Some(&build_map));
    assert!(fourth.get("demo").is_none());
}

#[test]
fn a_script_gives_outcomes_that_are_completed() {
    struct Engine;
    impl MapEngine for Engine {
        fn call(&self, function: &str, arguments: &[&Value<'_>], extra: &Json) -> Result<Json> {
            assert_eq!((function, extra["account"].as_str()), ("convert", Some("demo")));
            let text = arguments[0].get("text").and_then(Value::as_str).unwrap();
            Ok(json!([{ "outcome": "interaction", "interaction": { "text": text, "channel": { "provider_id": "7" } } },
                      { "outcome": "ignored", "reason": "no" }, { "outcome": "nonsense" }]))
        }

        fn functions(&self) -> &[String] {
            static OFFERED: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["convert".to_owned()]);
            &OFFERED
        }
    }
    let (head, _) = SMALL.split_once("[[item.case]]").unwrap();
    let manifest =
        format!("{head}[[item.case]]\noutcome = \"script\"\nfunction = \"convert\"\narguments = [\"message\"]\n");
    let mut files = folder(&manifest).files.clone();
    files.insert("map.lua".to_owned(), b"return {}".to_vec().into());
    let with_script = Arc::new(Folder { name: "demo".to_owned(), files });
    let build: &BuildMap = &|_, _| Ok(Box::new(Engine) as Box<dyn MapEngine>);
    let connector = Connector::load(with_script, Some(build)).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let account = demo().1;
    let body = br#"{"messages": [{"text": "hello"}]}"#;
    let outcomes = connector.normalize(&json_request(body), &account, now());
    let [Outcome::Interaction(first), Outcome::Ignored { .. }, Outcome::Quarantined { .. }] = outcomes.as_slice()
    else {
        panic!("{}", serde_json::to_string(&outcomes).unwrap());
    };
    assert_eq!(first.interaction.text.expose(), "hello");
    assert!(found(&manifest).iter().any(|line| line.contains("map.lua: there is no such file")));
}

/// Expressions may call `map.lua` for one value; what fails there is absent, and what is not there is refused at once.
#[test]
fn an_expression_may_call_a_script() {
    let (head, _) = SMALL.split_once("[[item.case]]").unwrap();
    let manifest = |text: &str| format!("{head}[[item.case]]\nprovider_id = \"message.id\"\ntext = \"{text}\"\n");
    let source = "return { plain = function(m) return { said = string.upper(m.text) } end, \
                  fails = function() error('no') end }";
    let load = |text: &str| {
        let mut files = folder(&manifest(text)).files.clone();
        files.insert("map.lua".to_owned(), source.as_bytes().to_vec().into());
        Connector::load(Arc::new(Folder { name: "demo".to_owned(), files }), Some(&build_map))
    };
    let account = demo().1;
    let text = |connector: &Connector| {
        let outcomes = connector.normalize(&json_request(br#"{"messages":[{"id":"1","text":"hi"}]}"#), &account, now());
        match outcomes.as_slice() {
            [Outcome::Interaction(one)] => one.interaction.text.expose().clone(),
            other => panic!("{}", serde_json::to_string(other).unwrap()),
        }
    };
    for (written, given) in [
        ("'<{get(script('plain', message), 'said')}>'", "<HI>"),
        ("script('fails', message) ?? message.text", "hi"),
        ("get(script('plain', message.id), 'said') ?? 'none'", "none"),
    ] {
        let connector = load(written).unwrap_or_else(|found| panic!("{}", lines(&found)));
        assert_eq!(text(&connector), given, "{written}");
    }
    let refused = |text: &str| lines(&load(text).err().unwrap());
    assert!(refused("script('plan', message)").contains("there is no function `plan`; did you mean `plain`?"));
    assert!(refused("script(message.id)").contains("takes the name of the function as a literal text"));
    assert!(found(&manifest("script('plain', message)")).iter().any(|line| line.contains("there is no such file")));
    let elsewhere = SMALL.replace("channel = \"chat\"", "channel = \"chat\"\ndelivery_key = \"script('plain', body)\"");
    assert!(found(&elsewhere).iter().any(|line| line.contains("`script` can only be called in the mapping")));
}

/// The vectors of Twilio's and Slack's documentation and libraries; `twilio` signs URL and sorted form fields.
#[test]
fn published_twilio_vectors_hold() {
    let connector = shipped("twilio-voice");
    let account = |token: &str| {
        let options = json!({ "auth_token": token });
        connector.account("phone", options.as_object().unwrap(), None).unwrap_or_else(|w| panic!("{w:?}"))
    };
    let form = "application/x-www-form-urlencoded";
    let check = |token: &str, url: &str, media: &str, body: &str, signature: &str| {
        let headers = [("content-type", media), ("x-twilio-signature", signature)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let body = Bytes::from(body.to_owned());
        let request = Request { method: "POST".to_owned(), url: url.to_owned(), headers, body, signer: None };
        connector.verify(&request, &account(token), now()).is_ok()
    };
    let base = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let call = "Digits=1234&CallSid=CA1234567890ABCDE&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
    let t1 = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    assert!(check("12345", base, form, call, t1));
    assert!(!check("12346", base, form, call, t1));
    assert!(!check("12345", base, form, &call.replace("1234&", "1235&"), t1));
    assert!(check("12345", base, form, call, "kvajT1Ptam85bY51eRf/AJRuM3w="), "signed with :443");
    let port = "https://mycompany.com:1234/myapp.php?foo=1&bar=2";
    assert!(check("12345", port, form, call, t1), "signed without its port");
    let plain = base.replace("https", "http");
    assert!(check("12345", &plain, form, call, "0ZXoZLH/DfblKGATFgpif+LLRf4="), "signed with :80");
    let plain = plain.replace(".com/", ".com:1234/");
    assert!(check("12345", &plain, form, call, "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="), "signed with its port");
    let repeats = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
    assert!(check("12345", base, form, repeats, "IK+Dwps556ElfBT0I3Rgjkr1wJU="));
    let t6 = "AccountSid=AC123&CallSid=CA123&CallStatus=ringing&Called=%2B14155550199&Caller=%2B14155550100&\
              From=%2B14155550100&To=%2B14155550199";
    let url = "https://example.com/twilio/voice";
    assert!(check("twilio-test-token", url, form, t6, "vTMYeb4FrYjNFHkuYMDv271CgVI="));
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let (url, body) = (format!("{base}&bodySHA256={hash}"), "{\"property\": \"value\", \"boolean\": true}");
    let t7 = "a9nBmqA0ju/hNViExpshrM61xv4=";
    assert!(check("12345", &url, "application/json", body, t7));
    assert!(!check("12345", &url, "application/json", "{}", t7));
}

#[test]
fn an_account_without_its_key_accepts_nothing() {
    let connector = shipped("whatsapp");
    let account = connector.reading_account("x", None);
    let refusal = connector.verify(&json_request(b"{}"), &account, now()).err().unwrap();
    assert_eq!(refusal.status, 401);
}

/// A reference from a payload must not carry our credentials to a host that the payload chose.
#[test]
fn media_is_fetched_from_the_hosts_that_the_manifest_names() {
    let connector = shipped("whatsapp");
    let account = sample_account(&connector);
    let blob = Blob { provider_ref: Some("27548/../x".into()), ..Blob::default() };
    let first = connector.media_call(&blob, &account, 0, None).unwrap().unwrap();
    assert_eq!(first.call.url.expose(), "https://graph.facebook.com/v23.0/27548%2F..%2Fx");
    assert!(!first.last);
    let step = |url: &str| {
        let previous = json!({ "url": url }).to_string();
        connector.media_call(&blob, &account, 1, Some(previous.as_bytes()))
    };
    let second = step("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1").unwrap().unwrap();
    assert!(second.last && second.call.headers.iter().any(|(name, _)| name == "authorization"));
    for host in [
        "https://evil.example/",
        "http://lookaside.fbsbx.com/",
        "https://lookaside.fbsbx.com.evil.example/",
        "https://lookaside.fbsbx.com:8443/",
        "https://evilfbsbx.com/",
        "https://lookaside.fbsbx.com@evil.example/",
    ] {
        assert!(step(host).is_err(), "{host}");
    }
    assert!(connector.media_call(&blob, &account, 2, None).unwrap().is_none());

    let voice = shipped("twilio-voice");
    let blob = Blob { url: Some("https://api.twilio.com/x/RE1".into()), ..Blob::default() };
    let call = voice.media_call(&blob, &sample_account(&voice), 0, None).unwrap().unwrap().call;
    let (_, basic) = call.headers.iter().find(|(name, _)| name == "authorization").unwrap();
    let pair = data_encoding::BASE64.decode(basic.expose().strip_prefix("Basic ").unwrap().as_bytes()).unwrap();
    assert!(pair.starts_with(b"ACc0ffee00000000000000000000000000:sample-auth-token"));
    let telegram = shipped("telegram");
    let body = br#"{"ok":true,"result":{"file_path":"photos/file 1.jpg"}}"#;
    let call = telegram.media_call(&blob, &sample_account(&telegram), 1, Some(body)).unwrap().unwrap().call;
    assert!(call.url.expose().ends_with("/photos/file%201.jpg"));
    let body = br#"{"ok":true,"result":{"file_path":"../../x"}}"#;
    assert!(telegram.media_call(&blob, &sample_account(&telegram), 1, Some(body)).is_err());
}

/// Cut anywhere or with any byte changed, a payload still gives outcomes, and nothing panics.
#[test]
fn damaged_payloads_give_outcomes() {
    use proptest::test_runner::{Config, TestRunner};
    for name in ["whatsapp", "telegram", "twilio-voice", "meta-page"] {
        let connector = shipped(name);
        let account = sample_account(&connector);
        let requests: Vec<Request> = connector
            .folder()
            .files
            .iter()
            .filter(|(path, _)| path.ends_with(".http") && !path.contains(".expect."))
            .map(|(_, content)| sample::parse_http(content).unwrap())
            .collect();
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(2000) });
        let damage = (0..requests.len(), proptest::num::usize::ANY, proptest::num::u8::ANY, proptest::bool::ANY);
        runner
            .run(&damage, |(which, at, byte, cut)| {
                let mut request = requests[which].clone();
                let mut body = request.body.to_vec();
                let at = at % body.len().max(1);
                match cut {
                    true => body.truncate(at),
                    false => body.iter_mut().skip(at).take(1).for_each(|place| *place = byte),
                }
                request.body = Bytes::from(body);
                let outcomes = connector.normalize(&request, &account, now());
                proptest::prop_assert!(!outcomes.is_empty());
                let _ = connector.challenge(&request, &account, now());
                let _ = connector.waits(&request, &account);
                let _ = connector.delivery_key(&request, &account);
                Ok(())
            })
            .unwrap();
    }
}

/// Slack's published vector, by the general scheme: a version, the time and the body under one key.
#[test]
fn slacks_published_vector_holds() {
    let manifest = SMALL.replace("X-Time", "X-Slack-Request-Timestamp").replace("X-Signature", "X-Slack-Signature");
    let connector = Connector::load(folder(&manifest), None).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let options = json!({"secret": "8f742231b10e8888abcd99yyyzzz85a5"});
    let account = connector.account("demo", options.as_object().unwrap(), None).unwrap_or_else(|w| panic!("{w:?}"));
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
                trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let mut request = json_request(body.as_bytes());
    let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    for (name, value) in [("x-slack-request-timestamp", "1531420618"), ("x-slack-signature", signature)] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let then = Timestamp::from_seconds(1_531_420_618);
    assert!(connector.verify(&request, &account, then).is_ok());
    assert!(connector.verify(&request, &account, then.plus_millis(301_000)).is_err());
}
