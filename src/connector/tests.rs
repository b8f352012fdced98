//! The room's own tests: every shipped connector with its samples, the published signature vectors, and, where they are
//! present, payloads that others wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::base::Timestamp;

const NOW: &str = "2026-03-02T10:00:00.000Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn shipped(name: &str) -> Connector {
    let folder = Folder::embedded().into_iter().find(|folder| folder.name == name).unwrap();
    Connector::load(Arc::new(folder), None).unwrap_or_else(|found| panic!("{}", lines(&found)))
}

fn lines(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn object(value: Json) -> Map<String, Json> {
    value.as_object().cloned().unwrap()
}

/// With `SEGUE_WRITE_SAMPLES=1` missing or differing expectations are written; the test fails all the same.
#[test]
fn every_shipped_connector_passes_its_samples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors");
    let write = std::env::var_os("SEGUE_WRITE_SAMPLES").is_some();
    let mut failed = Vec::new();
    for folder in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let folder = Arc::new(Folder::read(&folder).unwrap());
        let report = sample::run(&folder, None, write);
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
        assert!(report.results.len() >= 10 && refusals > 0, "{}: too few samples", folder.name);
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
    files.retain(|path| {
        path.extension().is_some_and(|e| e == "json") && !path.to_string_lossy().ends_with(".meta.json")
    });
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn json_request(body: &[u8]) -> Request {
    Request {
        method: "POST".to_owned(),
        url: "https://gateway.example/in/x".to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::copy_from_slice(body),
    }
}

#[test]
fn payloads_of_others_are_understood() {
    for (name, provider) in [("whatsapp", "meta-whatsapp"), ("telegram", "telegram")] {
        let connector = shipped(name);
        let account = sample_account(&connector);
        for (path, body) in corpus(provider) {
            let outcomes = connector.normalize(&json_request(&body), &account, now());
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
            if path.to_string_lossy().contains("-message-") || path.to_string_lossy().contains("outgoing_message") {
                assert!(!text.contains("\"ignored\""), "{}: {text}", path.display());
            }
        }
    }
}
