//! Mails that providers hand over in their requests are read like those of a mailbox, and kept byte for byte.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use futures_util::future::select_all;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::mail_trust::level;
use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::{Delivery, HelpDesk};
use crate::support::http::Call;
use crate::support::server::{Arrived, Reply, Server};
use crate::support::signer::Signer;
use crate::support::wait;

/// What is attached: bytes of every kind.
fn attachment() -> Vec<u8> {
    (0..2000_u32).map(|n| (n * 7 % 256) as u8).collect()
}

/// A mail with an attachment, whose text is in Latin-1 and not encoded.
fn mail(id: &str) -> Vec<u8> {
    let head = format!(
        "Received: from a.customer.example by mx.provider.example with ESMTPS; Mon, 2 Mar 2026 09:58:00 +0000\r\n\
         Message-ID: <{id}>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: Ada <ada@signed.example>\r\n\
         To: box@example.test\r\nSubject: The broken kettle\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"inner\"\r\n\r\n--inner\r\n\
         Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr"
    );
    let between = "e, Ada\r\n--inner\r\nContent-Type: application/x-scan; name=\"scan.bin\"\r\n\
                   Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"scan.bin\"\r\n\r\n";
    let encoded = BASE64.encode(&attachment());
    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(76).collect();
    let file = lines.join(&b"\r\n"[..]);
    [head.as_bytes(), b"\xfc\xdf", between.as_bytes(), &file, b"\r\n--inner--\r\n"].concat()
}

/// The same with nothing in it that is no UTF-8.
fn plain_mail(id: &str) -> String {
    mail(id).into_iter().map(|byte| if byte.is_ascii() { char::from(byte) } else { 'u' }).collect()
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(format!("--outer\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
        body.extend_from_slice(value);
        body.extend(b"\r\n");
    }
    body.extend(b"--outer--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=outer";

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Waits for what the gateway gives for a part of an interaction.
async fn part(gateway: &Gateway, token: &str, delivery: &Delivery, place: usize) -> Bytes {
    let path = format!("/v1/interactions/{}/parts/{place}", delivery.interaction()["id"].as_str().unwrap());
    let there = wait::until("the part is kept", wait::SOON, async || {
        Some(gateway.get(token, &path).await).filter(|answer| answer.status == 200)
    });
    there.await.body
}

/// What the help desk is told of a mail, once its original and its attachment were found to be what was sent.
async fn taken(gateway: &Gateway, token: &str, desk: &HelpDesk, id: &str, raw: &[u8]) -> Delivery {
    let delivery = desk.wait_until(id, |delivery| delivery.provider_id() == id).await;
    let told = delivery.interaction();
    assert_eq!(
        (&told["subject"], &told["channel"]["kind"]),
        (&"The broken kettle".into(), &"email".into()),
        "{told:#}"
    );
    let parts = told["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{told:#}");
    assert_eq!(parts[0]["blob"]["filename"], "scan.bin");
    assert_eq!(part(gateway, token, &delivery, 0).await, attachment(), "{id}: the attachment");
    assert_eq!(part(gateway, token, &delivery, 1).await, raw, "{id}: the original");
    delivery
}

/// Says in a request from the address `from` of this machine that its body has so many bytes, and sends none of them.
async fn announce(gateway: &Gateway, from: &str, call: &Call, bytes: usize) -> TcpStream {
    let own = TcpSocket::new_v4().unwrap();
    own.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut socket = own.connect(gateway.base().trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let headers: String = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("POST {} HTTP/1.1\r\nHost: gateway\r\n{headers}Content-Length: {bytes}\r\n\r\n", call.target);
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// What is answered to it.
async fn announced(gateway: &Gateway, call: &Call, bytes: usize) -> String {
    status(&mut announce(gateway, "127.0.0.1", call, bytes).await).await
}

async fn status(socket: &mut TcpStream) -> String {
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Posts a request twice, the second time as a provider does that heard nothing of the first.
async fn post_twice(gateway: &Gateway, call: &Call) {
    gateway.accept(call).await;
    gateway.accept(call).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_in_a_json_body_is_read_and_its_sender_proven() {
    let desk = HelpDesk::start().await;
    let options = "address = \"box@example.test\"\nuser = \"postmark\"\npassword = \"a long one\"\n";
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).channel("mail", "postmark", options);
    let signer = Signer::new(&project);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let call = |raw: &str, id: &str, password: &str| {
        let body =
            json!({ "MessageID": id, "OriginalRecipient": "box@example.test", "RawEmail": raw, "TextBody": "no" });
        let basic = format!("Basic {}", BASE64.encode(format!("postmark:{password}").as_bytes()));
        Call::post("/in/mail", "application/json", body.to_string()).header("authorization", basic)
    };
    let signed = String::from_utf8(signer.sign(plain_mail("1@signed.example").as_bytes())).unwrap();
    assert_eq!(gateway.send(&call(&signed, "one", "a guess")).await.status, 401);
    post_twice(&gateway, &call(&signed, "one", "a long one")).await;
    let first = taken(&gateway, &token, &desk, "1@signed.example", signed.as_bytes()).await;
    assert_eq!(level(&first), ("authenticated", "verified"), "{:#}", first.interaction());
    // What was found out stands in the journal: nothing is asked again.
    let forged = plain_mail("2@signed.example");
    gateway.accept(&call(&forged, "two", "a long one")).await;
    let forged = taken(&gateway, &token, &desk, "2@signed.example", forged.as_bytes()).await;
    assert_eq!(level(&forged), ("failed", "anonymous"));
    // The provider is not kept waiting by those who are asked about a sender, and nothing unproven counts.
    project.dns().silence();
    let silent = plain_mail("3@signed.example").replace("ada@signed.example", "ada@silent.example");
    let began = Instant::now();
    gateway.accept(&call(&silent, "three", "a long one")).await;
    wait::promised("the provider is answered", began.elapsed(), Duration::from_secs(5));
    let silent = taken(&gateway, &token, &desk, "3@signed.example", silent.as_bytes()).await;
    assert_eq!(level(&silent), ("unknown", "observed"));
    // One that is larger than other requests may be, and one that is larger than a mail may be.
    let large = |bytes: usize| format!("{}{}", plain_mail("4@signed.example"), "x".repeat(bytes));
    gateway.accept(&call(&large(4 << 20), "four", "a long one")).await;
    taken(&gateway, &token, &desk, "4@signed.example", large(4 << 20).as_bytes()).await;
    assert!(announced(&gateway, &call("", "five", "a long one"), 80 << 20).await.starts_with("HTTP/1.1 413"));
    // Who does not know the password is not listened to.
    assert!(announced(&gateway, &call("", "five", "a guess"), 4 << 20).await.starts_with("HTTP/1.1 401"));
    gateway.delivered(&project).await;
    assert_eq!((project.number("SELECT count(*) FROM entry WHERE kind = 1"), desk.taken().len()), (4, 4));
    // Applied again from the journal it comes out the same.
    gateway.stop().await;
    let into = project.folder().join("again");
    let (code, said) = project.try_run(&["replay", "--json", "--into", into.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_in_a_form_is_kept_byte_for_byte_and_its_token_is_good_once() {
    let desk = HelpDesk::start().await;
    let options = "address = \"box@example.test\"\nsigning_key = \"key-of-tests\"\n";
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).channel("mail-mime", "mailgun", options);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let fields = |raw: &[u8], at: u64, once: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key-of-tests");
        let tag = HEXLOWER.encode(hmac::sign(&key, format!("{at}{once}").as_bytes()).as_ref());
        let at = at.to_string();
        form(&[
            ("sender", b"ada@signed.example"),
            ("recipient", b"box@example.test"),
            ("timestamp", at.as_bytes()),
            ("token", once.as_bytes()),
            ("signature", tag.as_bytes()),
            ("body-mime", raw),
        ])
    };
    let first = mail("1@signed.example");
    let call = Call::post("/in/mail-mime", FORM, fields(&first, now(), "f00d"));
    post_twice(&gateway, &call).await;
    let told = taken(&gateway, &token, &desk, "1@signed.example", &first).await;
    assert_eq!(told.interaction()["text"], "Gr\u{fc}\u{df}e, Ada");
    // Another mail with a signature that was used is the repeat that it looks like; an old signature is none.
    let other = Call::post("/in/mail-mime", FORM, fields(&mail("2@signed.example"), now(), "f00d"));
    gateway.accept(&other).await;
    let stale = Call::post("/in/mail-mime", FORM, fields(&mail("3@signed.example"), now() - 50_000, "beef"));
    assert_eq!(gateway.send(&stale).await.status, 401);
    // A stranger who announces large mails and sends none keeps nobody else from sending one.
    let nothing = Call::post("/in/mail-mime", FORM, "");
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(announce(&gateway, "127.0.0.2", &nothing, 4 << 20).await);
    }
    let refused = select_all(held.iter_mut().map(|socket| Box::pin(status(socket)))).await.0;
    assert_eq!(refused, "HTTP/1.1 503");
    let large = [mail("4@signed.example"), vec![b'x'; 4 << 20]].concat();
    gateway.accept(&Call::post("/in/mail-mime", FORM, fields(&large, now(), "cafe"))).await;
    taken(&gateway, &token, &desk, "4@signed.example", &large).await;
    // Nor does one who sends a trickle: of two who send as much and then nothing, the one who holds a turn is cut first.
    drop(held);
    let mut trickling = [
        announce(&gateway, "127.0.0.3", &nothing, 1 << 20).await,
        announce(&gateway, "127.0.0.3", &nothing, 4 << 20).await,
    ];
    for socket in &mut trickling {
        socket.write_all(&[b'x'; 8 << 10]).await.unwrap();
    }
    let first = select_all(trickling.iter_mut().map(|socket| Box::pin(status(socket)))).await;
    assert_eq!((first.0.as_str(), first.1), ("HTTP/1.1 408", 1));
    gateway.delivered(&project).await;
    assert_eq!((project.number("SELECT count(*) FROM entry WHERE kind = 1"), desk.taken().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_in_a_form_signed_by_a_public_key_is_taken() {
    let desk = HelpDesk::start().await;
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random).unwrap();
    let head = HEXLOWER.decode(b"3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let public = BASE64.encode(&[head, pair.public_key().as_ref().to_vec()].concat());
    let options = format!("address = \"box@example.test\"\npublic_key = \"{public}\"\n");
    let project =
        Project::new().helpdesk("desk", &desk, &["interaction.received"]).channel("mail", "sendgrid", &options);
    // SPF passed at the provider for a domain that asks for proof.
    project.dns().add("_dmarc.signed.example", "v=DMARC1; p=reject");
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    let raw = mail("1@signed.example");
    let envelope = json!({ "to": ["box@example.test"], "from": "ada@signed.example" }).to_string();
    let body = form(&[("email", &raw), ("envelope", envelope.as_bytes()), ("SPF", b"pass")]);
    let at = now().to_string();
    let signature = pair.sign(&random, &[at.as_bytes(), &body].concat()).unwrap();
    let call = Call::post("/in/mail", FORM, body)
        .header("x-twilio-email-event-webhook-timestamp", at)
        .header("x-twilio-email-event-webhook-signature", BASE64.encode(signature.as_ref()));
    let mut changed = call.clone();
    changed.body = [&changed.body[..], b"\r\n"].concat().into();
    assert_eq!(gateway.send(&changed).await.status, 401);
    post_twice(&gateway, &call).await;
    let told = taken(&gateway, &token, &desk, "1@signed.example", &raw).await;
    assert_eq!(level(&told), ("authenticated", "verified"), "{:#}", told.interaction());
    gateway.delivered(&project).await;
    assert_eq!((project.number("SELECT count(*) FROM entry WHERE kind = 1"), desk.taken().len()), (1, 1));
}

/// Amazon's side: a key, its certificate, and the host where it lies.
struct Sns {
    folder: tempfile::TempDir,
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

const TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:received";

impl Sns {
    async fn start() -> Sns {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (key, cert) = (path("key.pem"), path("cert.pem"));
        let request =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sns", "-keyout", &key, "-out", &cert];
        assert!(Command::new("openssl").args(request).output().unwrap().status.success());
        let pem = Bytes::from(std::fs::read(&cert).unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked.clone();
        let server = Server::start(Arc::new(move |request: Arrived| {
            seen.lock().unwrap().push(request.target.clone());
            let reply = Reply::Answer { status: 200, headers: Vec::new(), body: pem.clone() };
            Box::pin(std::future::ready(reply))
        }))
        .await;
        Sns { folder, server, asked }
    }

    fn sign(&self, digest: &str, text: &str) -> String {
        let key: PathBuf = self.folder.path().join("key.pem");
        let data = self.folder.path().join("data");
        std::fs::write(&data, text).unwrap();
        let run = Command::new("openssl").args(["dgst", digest, "-sign"]).args([&key, &data]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        BASE64.encode(&run.stdout)
    }

    /// A request with a message, signed in the version `version`.
    fn call(&self, version: &str, mut message: Value) -> Call {
        let more = json!({
            "TopicArn": TOPIC, "Timestamp": "2026-03-02T10:00:00.000Z", "SignatureVersion": version,
            "SigningCertURL": format!("{}/SimpleNotificationService-0123456789abcdef.pem", self.server.url()),
        });
        for (name, value) in more.as_object().unwrap() {
            message.as_object_mut().unwrap().entry(name).or_insert(value.clone());
        }
        let names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
        let held = names.iter().filter_map(|name| Some(format!("{name}\n{}\n", message[*name].as_str()?)));
        let text: String = held.collect();
        message["Signature"] = self.sign(if version == "1" { "-sha1" } else { "-sha256" }, &text).into();
        Call::post("/in/mail", "text/plain; charset=UTF-8", message.to_string())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_subscribed_to_and_its_mails_are_taken() {
    let (desk, sns) = (HelpDesk::start().await, Sns::start().await);
    let options =
        format!("address = \"box@example.test\"\ntopics = [\"{TOPIC}\"]\nsns_base = \"{}\"\n", sns.server.url());
    // Where nobody answers for the certificate.
    let nowhere = options.replace(&sns.server.url(), "http://127.0.0.1:9");
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .channel("mail", "amazon-ses", &options)
        .channel("nowhere", "amazon-ses", &nowhere);
    project.write_config();
    let token = project.token();
    let gateway = Gateway::start(&project).await;
    // Only the configured topic is subscribed to, and nothing is fetched for another.
    let subscribe = |topic: &str| {
        json!({
            "Type": "SubscriptionConfirmation", "MessageId": "s1", "Token": "t0ken", "TopicArn": topic,
            "Message": "You have chosen to subscribe", "SubscribeURL": format!("{}/?Action=ConfirmSubscription", sns.server.url()),
        })
    };
    assert_eq!(gateway.send(&sns.call("1", subscribe("arn:aws:sns:eu-west-1:111122223333:other"))).await.status, 401);
    assert!(sns.asked().is_empty(), "{:?}", sns.asked());
    gateway.accept(&sns.call("1", subscribe(TOPIC))).await;
    assert_eq!(sns.asked().last().map(String::as_str), Some("/?Action=ConfirmSubscription"), "{:?}", sns.asked());
    let note = |id: &str, raw: &[u8], dmarc: &str| {
        let note = json!({
            "notificationType": "Received", "content": BASE64.encode(raw),
            "mail": { "source": "ada@signed.example" },
            "receipt": {
                "recipients": ["box@example.test"], "spfVerdict": { "status": "GRAY" },
                "dmarcVerdict": { "status": dmarc }, "action": { "type": "SNS", "encoding": "BASE64" },
            },
        });
        json!({ "Type": "Notification", "MessageId": id, "Subject": "Received", "Message": note.to_string() })
    };
    let (first, second) = (mail("1@signed.example"), mail("2@signed.example"));
    post_twice(&gateway, &sns.call("2", note("m1", &first, "PASS"))).await;
    let told = taken(&gateway, &token, &desk, "1@signed.example", &first).await;
    assert_eq!(level(&told), ("authenticated", "verified"), "{:#}", told.interaction());
    gateway.accept(&sns.call("1", note("m2", &second, "FAIL"))).await;
    let told = taken(&gateway, &token, &desk, "2@signed.example", &second).await;
    assert_eq!(level(&told), ("failed", "anonymous"));
    // The certificate was fetched once for all of them.
    assert_eq!(sns.asked().iter().filter(|target| target.ends_with(".pem")).count(), 1, "{:?}", sns.asked());
    // While one cannot be had the message is neither taken nor refused for good.
    let mut message = note("m0", &first, "PASS");
    message["SigningCertURL"] = "http://127.0.0.1:9/SimpleNotificationService-0123456789abcdef.pem".into();
    let unchecked = Call { target: "/in/nowhere".to_owned(), ..sns.call("2", message) };
    assert_eq!(gateway.send(&unchecked).await.status, 503);
    let mut forged = sns.call("2", note("m3", &first, "PASS"));
    forged.body = String::from_utf8(forged.body.to_vec()).unwrap().replace("\"m3\"", "\"m4\"").into();
    assert_eq!(gateway.send(&forged).await.status, 401);
    gateway.delivered(&project).await;
    assert_eq!((project.number("SELECT count(*) FROM entry WHERE kind = 1"), desk.taken().len()), (2, 2));
}
