//! STARTTLS.

use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::*;

/// Settings with a certificate, and a connector that trusts it.
fn secured() -> (Settings, TlsConnector) {
    let pair = rcgen::generate_simple_self_signed(vec!["gate.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Settings { tls: Some(Arc::new(server)), ..settings() }, Arc::new(client).into())
}

async fn secure(client: Client, connector: &TlsConnector) -> Client {
    assert!(client.input.is_empty());
    let name = ServerName::try_from("gate.example").unwrap();
    Client::new(connector.connect(name, client.io).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_mail_over_tls() {
    let (settings, connector) = secured();
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings, &keeper).connect();
    served.client.expect(["220 "]).await;
    served.client.say("STARTTLS", "503 5.5.1").await;
    served.client.send("LHLO x\r\n").await;
    assert!(served.client.reply().await.contains("250-STARTTLS\r\n"));
    served.client.say("MAIL FROM:<before@home.example>", "250 ").await;
    served.client.say("STARTTLS now", "501 5.5.4").await;
    served.client.say("STARTTLS", "220 2.0.0").await;
    let mut client = secure(served.client, &connector).await;
    // Nothing that was said in clear counts.
    client.say("RCPT TO:<bob@shop.example>", "503 ").await;
    client.say("MAIL FROM:<>", "503 5.5.1 say LHLO").await;
    client.send("LHLO x\r\n").await;
    assert!(!client.reply().await.contains("STARTTLS"));
    client.say("STARTTLS", "503 5.5.1 TLS is on").await;
    client.open("").await;
    let content = format!("{}\r\n", "x".repeat(100)).repeat(5000);
    client.say(&format!("{content}."), "250 2.0.0").await;
    client.say("QUIT", "221 ").await;
    client.expect_end().await;
    assert_eq!(keeper.contents(), [content]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_injected_before_tls() {
    let (settings, connector) = secured();
    let keeper = Arc::new(Keeper::default());
    let house = House::new(settings, &keeper);
    let injected = "LHLO evil\r\nMAIL FROM:<evil@home.example>\r\n";

    // With the command, in one piece.
    let mut served = house.connect();
    served.client.greet().await;
    served.client.send(format!("STARTTLS\r\n{injected}")).await;
    served.client.expect(["503 5.5.1"]).await;
    served.client.expect_end().await;

    // Behind its answer, as what a handshake should be.
    let mut served = house.connect();
    served.client.greet().await;
    served.client.say("STARTTLS", "220 ").await;
    served.client.send(injected).await;
    let name = ServerName::try_from("gate.example").unwrap();
    assert!(connector.connect(name, served.client.io).await.is_err());
    served.session.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let (settings, _) = secured();
    let keeper = Arc::new(Keeper::default());
    let mut served = House::new(settings, &keeper).connect();
    served.client.greet().await;
    served.client.say("STARTTLS", "220 ").await;
    let since = Instant::now();
    served.client.expect_end().await;
    assert_eq!(since.elapsed(), Duration::from_secs(60));
}
