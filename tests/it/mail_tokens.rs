//! A mailbox that is logged in to with access tokens: a real Dovecot asks the endpoint about each.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::mailserver::MailServer;
use crate::support::server::{Arrived, Reply, Server};
use crate::support::wait;

/// A token endpoint that gives a new refresh token with each access token; the one before is void then.
#[derive(Default)]
struct Endpoint {
    given: usize,
    /// Whether it refuses for good.
    closed: bool,
    /// Whether the mail server believes the newest token.
    revoked: bool,
    asked: Vec<String>,
    logins: usize,
}

impl Endpoint {
    fn answer(&mut self, request: &Arrived) -> Reply {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let said = |name: &str| form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
        if request.target == "/introspect" {
            self.logins += 1;
            let active = !self.revoked && said("token") == format!("access-{}", self.given);
            return Reply::json(200, &json!({ "active": active, "username": "box" }));
        }
        assert_eq!((said("grant_type"), said("client_id")), ("refresh_token", "app"));
        self.asked.push(said("refresh_token").to_owned());
        let wanted = if self.given == 0 { "refresh-first".to_owned() } else { format!("refresh-{}", self.given) };
        if self.closed || said("refresh_token") != wanted {
            return Reply::json(400, &json!({ "error": "invalid_grant", "error_description": "canary-words" }));
        }
        (self.given, self.revoked) = (self.given + 1, false);
        let access = format!("access-{}", self.given);
        let refresh = format!("refresh-{}", self.given);
        let body =
            json!({ "access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh });
        Reply::json(200, &body)
    }
}

fn mail(number: usize) -> Vec<u8> {
    let head = format!("Message-ID: <m{number}@customer.example>\r\nFrom: Ada <ada@customer.example>\r\n");
    format!("{head}To: box@example.test\r\nSubject: Question {number}\r\n\r\nSee m{number}.\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_is_read_with_tokens_that_change() {
    let endpoint = Arc::new(Mutex::new(Endpoint::default()));
    let shared = endpoint.clone();
    let server = Server::start(Arc::new(move |request| {
        let reply = shared.lock().unwrap().answer(&request);
        Box::pin(std::future::ready(reply))
    }))
    .await;
    let dovecot = MailServer::dovecot_with_tokens(&format!("{}/introspect", server.url()));
    let desk = HelpDesk::start().await;
    let options = format!(
        "address = \"box@example.test\"\nimap_host = \"localhost\"\nimap_port = {}\nuser = \"box\"\nbegin = \"all\"\n\
         login = \"oauth\"\noauth_token_url = \"{}/token\"\noauth_client_id = \"app\"\n\
         oauth_refresh_token = \"refresh-first\"\n",
        dovecot.port("imaps"),
        server.url()
    );
    let project = Project::new()
        .helpdesk("desk", &desk, &["interaction.received"])
        .trusting(dovecot.certificate())
        .channel("mail", "email", &options);
    project.write_config();
    let api = project.token();
    let gateway = Gateway::start(&project).await;
    dovecot.deliver(&mail(1));
    desk.wait_for(1).await;
    assert_eq!(endpoint.lock().unwrap().asked, ["refresh-first"]);
    // The token that replaced the configured one outlives the gateway, unreadable on the disk.
    gateway.stop().await;
    endpoint.lock().unwrap().revoked = true;
    let gateway = Gateway::start(&project).await;
    dovecot.deliver(&mail(2));
    desk.wait_for(2).await;
    assert_eq!(endpoint.lock().unwrap().asked, ["refresh-first", "refresh-1"]);
    // Nothing can be renewed any more: somebody is told, in words of ours and without any secret.
    gateway.stop().await;
    endpoint.lock().unwrap().closed = true;
    let gateway = Gateway::start(&project).await;
    let broken = wait::until("it is told", wait::SOON, async || {
        let status = gateway.get(&api, "/v1/status").await.json();
        let mailbox: Value = status["channels"][0]["mailbox"].clone();
        (mailbox["state"] == "broken" && mailbox["alarm"].is_string()).then_some(mailbox)
    })
    .await;
    println!("{broken:#}");
    let told = format!("{broken} {}", gateway.log());
    for secret in ["canary", "refresh-1", "refresh-2", "access-"] {
        assert!(!told.contains(secret), "`{secret}` is told: {told}");
    }
}
