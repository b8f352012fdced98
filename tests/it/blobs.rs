//! Files of messages: fetched, sealed, named, given out over the API, and collected once nobody names them, in a folder and
//! in a bucket.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::environment;
use crate::support::gateway::{Gateway, Project};
use crate::support::http::{Answer, Call};
use crate::support::server::{Arrived, Reply, Server};
use crate::support::{provider, wait};

/// What is found in every file, and must be found nowhere else.
const CANARY: &[u8] = b"canary-7d3f9a52c1e84b06";

/// A file of about so many bytes that nobody else sends.
fn photo(seed: u8, bytes: usize) -> Vec<u8> {
    let mut photo = Vec::with_capacity(bytes + 64);
    while photo.len() < bytes {
        photo.extend_from_slice(CANARY);
        photo.push(seed);
        photo.extend_from_slice(&photo.len().to_be_bytes());
    }
    photo
}

/// A provider that gives its files under `/file/NAME`: `small` and `large`, and others by their first byte.
async fn files() -> Server {
    let decide = |request: Arrived| -> Reply {
        let host = request.header("host").to_owned();
        let name = request.target.rsplit('/').next().unwrap_or_default().to_owned();
        if !request.target.starts_with("/file/") {
            return Reply::json(200, &json!({ "url": format!("http://{host}/file/{name}"), "mime_type": "image/png" }));
        }
        let size = if name.starts_with("large") { 12 << 20 } else { 100_000 };
        let body = photo(*name.as_bytes().last().unwrap(), size).into();
        Reply::Answer { status: 200, headers: vec![("content-type", "image/png".to_owned())], body }
    };
    Server::start(Arc::new(move |request| Box::pin(std::future::ready(decide(request))))).await
}

/// The gateway of a project, and a token for it.
async fn started(project: &Project) -> (Gateway, String) {
    project.write_config();
    let token = project.token();
    (Gateway::start(project).await, token)
}

/// A message with a photo, as WhatsApp tells of it.
fn message(from: &str, id: &str, file: &str) -> Call {
    let message = json!({
        "from": from, "id": id, "timestamp": provider::now().to_string(), "type": "image",
        "image": { "id": file, "mime_type": "image/png", "caption": "look" },
    });
    provider::whatsapp("whatsapp", &[message])
}

/// Delivers a message with a photo; gives where its file is in the API, with the answer there once it is fetched or given up.
async fn fetched(gateway: &Gateway, token: &str, from: &str, id: &str, file: &str) -> (String, Answer) {
    gateway.accept(&message(from, id, file)).await;
    let path = part(gateway, token, from, id).await;
    let answer = answered(gateway, token, &path).await;
    (path, answer)
}

/// Where the file of a message is in the API.
async fn part(gateway: &Gateway, token: &str, from: &str, id: &str) -> String {
    wait::until("the message is in its story", wait::SOON, async || {
        let found = gateway.get(token, &format!("/v1/customers?identifier=tel:%2B{from}")).await.json();
        let customer = found["customers"][0]["id"].as_str()?.to_owned();
        let timeline = gateway.get(token, &format!("/v1/customers/{customer}/timeline")).await.json();
        let item = |item: &Value| {
            let interaction = if item["interaction"].is_null() { item } else { &item["interaction"] };
            let part = interaction["parts"].as_array()?.iter().position(|part| !part["blob"].is_null())?;
            let ours = interaction["channel"]["provider_id"] == id;
            ours.then(|| format!("/v1/interactions/{}/parts/{part}", interaction["id"].as_str().unwrap()))
        };
        timeline["interactions"].as_array()?.iter().find_map(item)
    })
    .await
}

async fn answered(gateway: &Gateway, token: &str, path: &str) -> Answer {
    wait::until("the file is fetched or given up", wait::SOON, async || {
        Some(gateway.get(token, path).await).filter(|answer| answer.status != 409)
    })
    .await
}

/// Every file under a folder.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(all_files(&path)) } else { found.push(path) }
    }
    found
}

fn objects(project: &Project) -> Vec<PathBuf> {
    all_files(&project.folder().join("data/blobs"))
}

fn contains(file: &Path, needle: &[u8]) -> bool {
    std::fs::read(file).unwrap().windows(needle.len()).any(|window| window == needle)
}

fn rows(project: &Project, table: &str) -> i64 {
    project.number(&format!("SELECT count(*) FROM {table}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_is_sealed_on_disk_and_comes_back_byte_for_byte() {
    let provider = files().await;
    let project = Project::new().whatsapp("whatsapp", &provider.url());
    let (gateway, token) = started(&project).await;
    let (_, small) = fetched(&gateway, &token, "15550001001", "wamid.1", "small-a").await;
    assert_eq!((small.status, small.header("content-type")), (200, "image/png"), "{}", small.text());
    assert!(small.body == photo(b'a', 100_000));
    assert_eq!(small.header("content-length"), small.body.len().to_string());
    assert_eq!(small.header("x-content-type-options"), "nosniff");
    assert!(small.header("content-disposition").starts_with("attachment"));
    // The same file again is no second one; another customer's is.
    let (_, again) = fetched(&gateway, &token, "15550001001", "wamid.2", "small-a").await;
    assert!(again.body == small.body);
    assert_eq!((rows(&project, "blob"), rows(&project, "blob_use"), objects(&project).len()), (1, 2, 1));
    let (_, other) = fetched(&gateway, &token, "15550001002", "wamid.3", "small-a").await;
    assert!(other.body == small.body);
    let (_, large) = fetched(&gateway, &token, "15550001002", "wamid.4", "large-b").await;
    assert!(large.body == photo(b'b', 12 << 20));
    assert_eq!((rows(&project, "blob"), rows(&project, "blob_use"), objects(&project).len()), (3, 4, 3));
    wait::until_true("second copies are gone", wait::SOON, async || rows(&project, "loose") == 0).await;
    for file in all_files(&project.folder().join("data")) {
        assert!(!contains(&file, CANARY), "{}", file.display());
    }
    assert!(!gateway.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_too_large_is_refused_with_the_reason() {
    let provider = files().await;
    let project = Project::new().limits("media = \"1MiB\"").whatsapp("whatsapp", &provider.url());
    let (gateway, token) = started(&project).await;
    let (_, answer) = fetched(&gateway, &token, "15550001003", "wamid.5", "large-c").await;
    assert_eq!(answer.status, 410);
    assert!(answer.text().contains("larger than allowed"), "{}", answer.text());
    assert_eq!((rows(&project, "blob"), rows(&project, "loose"), objects(&project).len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_not_given_out() {
    let provider = files().await;
    let project = Project::new().whatsapp("whatsapp", &provider.url());
    let (gateway, token) = started(&project).await;
    let (path, answer) = fetched(&gateway, &token, "15550001004", "wamid.6", "small-d").await;
    assert_eq!(answer.status, 200);
    let object = objects(&project).pop().unwrap();
    let whole = std::fs::read(&object).unwrap();
    let mut damaged = whole.clone();
    damaged[5_000] ^= 1;
    std::fs::write(&object, &damaged).unwrap();
    assert_eq!(gateway.get(&token, &path).await.status, 500);
    std::fs::write(&object, &whole).unwrap();
    assert_eq!(gateway.get(&token, &path).await.status, 200);
    std::fs::remove_file(&object).unwrap();
    assert_eq!(gateway.get(&token, &path).await.status, 410);
}

/// A provider whose file never ends while `stalls` is true: a megabyte comes, then nothing.
async fn stalling(stalls: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let base = url.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (base, stalls) = (base.clone(), stalls.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { return };
                    head.push(byte);
                }
                let body = match head.starts_with(b"GET /file/") {
                    true => photo(b'k', 4 << 20),
                    false => json!({ "url": format!("{base}/file/k") }).to_string().into_bytes(),
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = socket.write_all(head.as_bytes()).await;
                if body.len() > 1 << 20 && stalls.load(Ordering::Relaxed) {
                    let _ = socket.write_all(&body[..1 << 20]).await;
                    std::future::pending::<()>().await;
                }
                let _ = socket.write_all(&body).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_file_it_leaves_nothing_that_is_not_collected() {
    let stalls = Arc::new(AtomicBool::new(true));
    let project = Project::new().whatsapp("whatsapp", &stalling(stalls.clone()).await);
    let (mut gateway, token) = started(&project).await;
    gateway.accept(&message("15550001005", "wamid.7", "k")).await;
    wait::until_true("a part of the file is written", wait::SOON, async || {
        rows(&project, "loose") == 1 && objects(&project).iter().any(|file| file.metadata().unwrap().len() > 500_000)
    })
    .await;
    gateway.kill();
    let left = objects(&project);
    assert_eq!(left.len(), 1);
    // A day goes by.
    project.database().change("UPDATE loose SET at = 1");
    stalls.store(false, Ordering::Relaxed);
    let gateway = Gateway::start(&project).await;
    let path = part(&gateway, &token, "15550001005", "wamid.7").await;
    let answer = answered(&gateway, &token, &path).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == photo(b'k', 4 << 20));
    wait::until_true("what was left is collected", wait::SOON, async || {
        rows(&project, "loose") == 0 && !left[0].exists() && objects(&project).len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_names_goes_and_what_is_named_stays() {
    let provider = files().await;
    let project = Project::new().whatsapp("whatsapp", &provider.url());
    let (gateway, token) = started(&project).await;
    let (gone, _) = fetched(&gateway, &token, "15550001006", "wamid.8", "small-e").await;
    let before = objects(&project);
    let (kept, _) = fetched(&gateway, &token, "15550001006", "wamid.9", "small-f").await;
    assert_eq!((before.len(), objects(&project).len()), (1, 2));
    assert_eq!(gateway.stop().await, Some(0));
    let first = project.number("SELECT min(interaction) FROM blob_use");
    project.database().change("UPDATE blob SET made_at = 1");
    project.database().change(&format!("DELETE FROM blob_use WHERE interaction = {first}"));
    let gateway = Gateway::start(&project).await;
    wait::until_true("the file is collected", wait::SOON, async || {
        rows(&project, "blob") == 1 && rows(&project, "loose") == 0 && !before[0].exists()
    })
    .await;
    assert_eq!(objects(&project).len(), 1);
    assert_eq!(gateway.get(&token, &gone).await.status, 410);
    let answer = gateway.get(&token, &kept).await;
    assert!(answer.status == 200 && answer.body == photo(b'f', 100_000));
    // And a file that is lost is found out.
    assert!(project.try_run(&["doctor"]).1.contains("1 files of messages are in their place"));
    std::fs::remove_file(&objects(&project)[0]).unwrap();
    let (code, said) = project.try_run(&["doctor"]);
    assert!(code == Some(65) && said.contains("1 of 1 files of messages are gone"), "{said}");
}

/// An S3 server that checks signatures.
struct Bucket {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    told: Value,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bucket {
    fn start() -> Bucket {
        let mut command = environment::python();
        command.arg("tests/peers/bucket.py").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut bucket = Bucket { child, ask, answers, told: Value::Null };
        bucket.told = bucket.answer();
        bucket
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the bucket answers")
    }

    /// `list` or `uploads`.
    fn ask(&mut self, what: &str) -> Value {
        writeln!(self.ask, "{what}").unwrap();
        self.answer()
    }

    fn objects(&mut self) -> Vec<Value> {
        self.ask("list").as_array().unwrap().clone()
    }

    /// The table of `segue.toml`, with this secret.
    fn table(&self, secret: &str) -> String {
        let (url, bucket, id) = (&self.told["url"], self.told["bucket"].as_str().unwrap(), &self.told["id"]);
        format!(
            "[blobs]\nurl = \"s3://{bucket}/all/files\"\nendpoint = {url}\nregion = \"eu-central-1\"\n\
             access_key_id = {id}\nsecret_access_key = \"{secret}\"\n"
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_what_a_folder_keeps() {
    let mut bucket = Bucket::start();
    let provider = files().await;
    let secret = bucket.told["secret"].as_str().unwrap().to_owned();
    let project = Project::new().table(&bucket.table(&secret)).whatsapp("whatsapp", &provider.url());
    let (gateway, token) = started(&project).await;
    let (small, answer) = fetched(&gateway, &token, "15550001007", "wamid.10", "small-g").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == photo(b'g', 100_000));
    // In several parts, and read in several ranges.
    let (large, answer) = fetched(&gateway, &token, "15550001007", "wamid.11", "large-h").await;
    assert!(answer.status == 200 && answer.body == photo(b'h', 12 << 20), "{}", answer.status);
    let (_, again) = fetched(&gateway, &token, "15550001007", "wamid.12", "large-h").await;
    assert!(again.body == answer.body);
    wait::until_true("the second copy is deleted", wait::SOON, async || rows(&project, "loose") == 0).await;
    let stored = bucket.objects();
    assert_eq!((stored.len(), bucket.ask("uploads")), (2, json!(0)), "{stored:?}");
    for object in &stored {
        assert!(object["key"].as_str().unwrap().starts_with("all/files/"), "{object}");
    }
    assert!(objects(&project).is_empty(), "files lie in the folder as well");
    assert!(project.try_run(&["doctor"]).1.contains("2 files of messages are in their place"));
    assert_eq!(gateway.stop().await, Some(0));
    let kept = project.number("SELECT min(interaction) FROM blob_use");
    project.database().change("UPDATE blob SET made_at = 1");
    project.database().change(&format!("DELETE FROM blob_use WHERE interaction <> {kept}"));
    let gateway = Gateway::start(&project).await;
    wait::until_true("the file is collected", wait::SOON, async || {
        rows(&project, "blob") == 1 && rows(&project, "loose") == 0
    })
    .await;
    assert_eq!(bucket.objects().len(), 1);
    assert_eq!(gateway.get(&token, &large).await.status, 410);
    assert_eq!(gateway.get(&token, &small).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_puts_the_file_off() {
    let mut bucket = Bucket::start();
    let provider = files().await;
    let project = Project::new().table(&bucket.table("wrong")).whatsapp("whatsapp", &provider.url());
    let gateway = Gateway::start(&project).await;
    gateway.accept(&message("15550001008", "wamid.13", "small-i")).await;
    wait::until_true("the refusal is told", wait::SOON, async || gateway.log().contains("was not fetched yet")).await;
    assert_eq!((rows(&project, "media"), rows(&project, "blob"), bucket.objects().len()), (1, 0, 0));
    assert!(gateway.log().contains("see `[blobs]`"), "{}", gateway.log());
}
