//! Nothing that a person said, and nothing that tells who they are, is readable in any file, log or measurement.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::support::gateway::{Gateway, Project, SEGUE};
use crate::support::helpdesk::HelpDesk;
use crate::support::server::{Arrived, Reply, Server};
use crate::support::{provider, size, wait};

/// Words that must not be found, each one a person's own.
#[derive(Default)]
struct Canaries(Vec<String>);

impl Canaries {
    /// A new word: no program writes it by chance.
    fn word(&mut self, what: &str) -> String {
        let word = format!("canary{what}x{:05}zq", self.0.len());
        self.0.push(word.clone());
        word
    }

    /// A new telephone number.
    fn number(&mut self) -> String {
        let number = format!("4915{:09}", 730_000_000 + 7919 * self.0.len());
        self.0.push(number.clone());
        number
    }

    /// Those that lie readable in `bytes`.
    fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        // Looking for each of hundreds of words in all of a database would take minutes; all begin alike.
        let begins = ["canary", "49157"].into_iter().flat_map(|begin| memchr::memmem::find_iter(bytes, begin));
        let here = |at: usize| self.0.iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
        begins.filter_map(here).map(String::as_str).collect()
    }

    /// The same of every file in a folder, with the file's name.
    fn found_under(&self, folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => self.found_under(&path, found),
                // A file may go away while it is looked for.
                false => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    found.extend(self.found_in(&bytes).iter().map(|word| format!("{word} in {}", path.display())));
                }
            }
        }
    }
}

/// A person who writes: name, number and text are words of their own.
fn message(canaries: &mut Canaries, number: usize) -> serde_json::Value {
    let from = canaries.number();
    let mut message = match number % 4 {
        0 => {
            json!({ "type": "image", "image": { "id": format!("{number}"), "mime_type": "image/jpeg", "caption": canaries.word("caption") } })
        }
        1 => {
            json!({ "type": "location", "location": { "latitude": 1.5, "longitude": 2.5, "name": canaries.word("place"), "address": canaries.word("address") } })
        }
        _ => json!({ "type": "text", "text": { "body": canaries.word("text") } }),
    };
    message["from"] = json!(from);
    message["id"] = json!(format!("wamid.{number}"));
    message["timestamp"] = json!(provider::now().to_string());
    let contact = json!({ "profile": { "name": canaries.word("name") }, "wa_id": from });
    provider::whatsapp_change(json!({ "contacts": [contact], "messages": [message] }))
}

/// What is in the photo of this id.
fn photo(id: &str) -> String {
    format!("canaryphotox{id}zq")
}

/// A provider that gives photos.
async fn photos() -> Server {
    let decide = |request: Arrived| -> Reply {
        let id = request.target.rsplit('/').next().unwrap_or_default().to_owned();
        if !request.target.starts_with("/photo/") {
            let url = format!("http://{}/photo/{id}", request.header("host"));
            return Reply::json(200, &json!({ "url": url, "mime_type": "image/jpeg" }));
        }
        let body = photo(&id).repeat(1000).into();
        Reply::Answer { status: 200, headers: vec![("content-type", "image/jpeg".to_owned())], body }
    };
    Server::start(Arc::new(move |request| Box::pin(std::future::ready(decide(request))))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_what_people_said_is_readable_anywhere() {
    let desk = HelpDesk::start().await;
    // Some deliveries fail, so that errors and dead letters are written as well.
    let mut count = 0;
    desk.behave(move |_| {
        count += 1;
        if count % 7 == 0 { Reply::status(500) } else { Reply::status(200) }
    });
    let provider_of_photos = photos().await;
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received", "conversation.resolved"])
        .retry("schedule = [\"0s\"]\njitter = 0.0")
        .whatsapp("whatsapp", &provider_of_photos.url())
        .voice("voice");
    let token = project_token(&project);
    let gateway = Gateway::start(&project).await;
    let (mut canaries, people) = (Canaries::default(), size(40, 200));
    for number in 0..people {
        let body = message(&mut canaries, number).to_string();
        gateway.accept(&provider::meta("whatsapp", body)).await;
    }
    let from = canaries.number();
    let call = provider::twilio_call("voice", &format!("CA{:032}", 1), &format!("+{from}"), "ringing", &[]);
    gateway.accept(&call).await;
    // What nobody can read is set aside with its reason.
    let odd = json!({ "object": "whatsapp_business_account", "entry": canaries.word("odd") });
    gateway.accept(&provider::meta("whatsapp", odd.to_string())).await;
    gateway.settled(&project).await;
    let conversations = project.records("conversation");
    let id = conversations[0]["id"].as_str().unwrap();
    let reply = json!({ "text": canaries.word("reply"), "agent": canaries.word("agent") });
    let answer = gateway.post(&token, &format!("/v1/conversations/{id}/replies"), &reply).await;
    assert!(answer.status == 201 || answer.status == 422, "{}", answer.text());
    gateway.settled(&project).await;
    wait::until_true("a delivery is given up", wait::SOON, async || project.number("SELECT count(*) FROM dead") > 0)
        .await;
    let photos = (0..people).step_by(4).count() as i64;
    let fetched = async || project.number("SELECT count(*) FROM blob_use") == photos;
    wait::until_true("photos are fetched", wait::SOON, fetched).await;
    let backups = tempfile::tempdir().unwrap();
    let file = backups.path().join("backup");
    project.run(&["backup", "--to", file.to_str().unwrap()]);
    project.run(&["checkpoint", "--to", backups.path().join("checkpoint").to_str().unwrap()]);
    let metrics = gateway.get(&token, "/metrics").await.text();
    let log = gateway.log();
    let unsealed = project.run(&["dump", "--canonical"]);
    gateway.stop().await;
    // All of it is there for whoever has the root key.
    let unseen: Vec<&String> = canaries.0.iter().filter(|word| !unsealed.contains(*word)).collect();
    assert!(unseen.len() <= 3, "the dump lacks {unseen:?}");
    // Without it, nothing is, nor what is in the photos.
    canaries.0.extend((0..people).step_by(4).map(|id| photo(&id.to_string())));
    std::fs::remove_file(project.folder().join("secrets/root.key")).unwrap();
    let mut found = Vec::new();
    canaries.found_under(&project.database().folder(), &mut found);
    canaries.found_under(&project.folder().join("data"), &mut found);
    canaries.found_under(backups.path(), &mut found);
    found.extend(canaries.found_in(metrics.as_bytes()).iter().map(|word| format!("{word} in the metrics")));
    found.extend(canaries.found_in(log.as_bytes()).iter().map(|word| format!("{word} in the log")));
    assert!(found.is_empty(), "{found:#?}");
    let dump =
        Command::new(SEGUE).arg("--config").arg(project.folder()).args(["dump", "--canonical"]).output().unwrap();
    assert!(!dump.status.success(), "it is dumped without the root key");
    assert!(canaries.found_in(&dump.stdout).is_empty() && canaries.found_in(&dump.stderr).is_empty());
}

/// A token, made before the gateway runs.
fn project_token(project: &Project) -> String {
    project.write_config();
    project.token()
}
