//! `cargo bench --bench stages`: what single stages cost, alone and on one thread.
//!
//! Every figure is the best and the median of many short rounds, since others use the machine too, and its ratio to a
//! yardstick that no change of ours moves: SHA-256 over 4 KiB. Compare ratios, not times. A word after `--` runs only
//! what has that word in its name.

mod commit;
#[path = "../gateway/message.rs"]
#[allow(dead_code, reason = "the sink's half of it is of no use here")]
mod message;
mod time;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use segue::base::Clock;
use segue::base::hash::sha256;
use segue::base::json::Value;
use segue::connector::{Account, Connector, Folder, Registry, Request};
use segue::model::{Interaction, Outcome};
use segue::script::{Budget, Bundle, PolicyFacts, PolicyFiles, PolicyInput};
use serde_json::json;

use time::Timer;

/// What goes wrong here is told once and ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The secret that signs WhatsApp messages here.
const SECRET: &str = "a secret of thirty-two letters..";

/// An update as Telegram delivers a text message.
const TELEGRAM: &str = r#"{"update_id":848151213,"message":{"message_id":1365,"from":{"id":8113522193,"is_bot":false,
"first_name":"Ana","last_name":"Silva","username":"anasilva","language_code":"pt"},"chat":{"id":8113522193,
"first_name":"Ana","last_name":"Silva","username":"anasilva","type":"private"},"date":1763712000,
"text":"My order 4711 has not arrived yet, can you tell me where it is?"}}"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stages bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let mut timer = Timer::new(only);
    let block = vec![7u8; 4096];
    timer.yardstick("yardstick: SHA-256 over 4 KiB", || sha256(black_box(&block)));

    let (registry, wrong) = Registry::load(&Folder::embedded(), None, None);
    wrong.iter().for_each(|wrong| eprintln!("left out: {}: {}", wrong.file, wrong.reason));
    let (request, payload) = whatsapp()?;
    timer.time("json: parse, WhatsApp text", || Value::parse(black_box(&payload)).is_ok());
    timer
        .time("json: parse by serde_json", || serde_json::from_slice::<serde_json::Value>(black_box(&payload)).is_ok());

    let connector = registry.get("whatsapp").ok_or("there is no connector `whatsapp`")?;
    let options = json!({"app_secret": SECRET, "verify_token": "t", "phone_number_id": message::PHONE_NUMBER_ID});
    let account = account(connector, &options)?;
    let now = Clock::system().now();
    connector.verify(&request, &account, now).map_err(|refusal| refusal.reason)?;
    timer.time("verify: WhatsApp text", || connector.verify(black_box(&request), &account, now).is_ok());
    timer.time("journal: delivery key, WhatsApp text", || connector.delivery_key(black_box(&request), &account));
    let interaction = normalize(&mut timer, "normalize: WhatsApp text", connector, &account, &request)?;

    if let Some(connector) = registry.get("telegram") {
        let account = self::account(connector, &json!({"secret_token": "abc", "bot_token": "1:abc"}))?;
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let body = Bytes::from_static(TELEGRAM.as_bytes());
        let request =
            Request { method: "POST".to_owned(), url: "https://x/in/telegram".to_owned(), headers, body, signer: None };
        normalize(&mut timer, "normalize: Telegram text", connector, &account, &request)?;
    }

    decide(&mut timer, &interaction)?;
    timer.time("commit: interaction to JSON", || serde_json::to_string(black_box(&interaction)).map(|text| text.len()));
    commit::run(&mut timer, &interaction)
}

/// The account of a connector with these options.
fn account(connector: &Connector, options: &serde_json::Value) -> Result<Account> {
    let options = options.as_object().cloned().unwrap_or_default();
    connector.account(connector.name(), &options, None).map_err(|wrong| wrong.join("; ").into())
}

/// One signed WhatsApp message of the gateway's load: the request, and its body alone.
fn whatsapp() -> Result<(Request, Bytes)> {
    let mut requests = message::Requests::new("127.0.0.1", SECRET)?;
    let now = u64::try_from(Clock::system().now().millis())?;
    let whole = String::from_utf8(requests.write(1, now).to_vec())?;
    let (head, body) = whole.split_once("\r\n\r\n").ok_or("the message has no body")?;
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let body = Bytes::from(body.to_owned());
    let url = "https://segue.example.org/in/whatsapp".to_owned();
    Ok((Request { method: "POST".to_owned(), url, headers, body: body.clone(), signer: None }, body))
}

/// Times normalizing and gives the interaction that comes of it.
fn normalize(
    timer: &mut Timer,
    name: &str,
    connector: &Connector,
    account: &Account,
    request: &Request,
) -> Result<Interaction> {
    let now = Clock::system().now();
    timer.time(name, || connector.normalize(black_box(request), account, now).len());
    match connector.normalize(request, account, now).into_iter().next() {
        Some(Outcome::Interaction(normalized)) => Ok(normalized.interaction),
        Some(Outcome::Quarantined { reason } | Outcome::Ignored { reason }) => Err(format!("{name}: {reason}").into()),
        _ => Err(format!("{name}: no interaction").into()),
    }
}

/// The shipped policy over one interaction.
fn decide(timer: &mut Timer, interaction: &Interaction) -> Result<()> {
    let files = PolicyFiles::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"))?;
    let facts = PolicyFacts { default_queue: "general".to_owned(), ..PolicyFacts::default() };
    let bundle = Bundle::build(files, facts, Budget::default()).map_err(|wrong| {
        let wrong: Vec<String> = wrong.into_iter().map(|wrong| format!("{}: {}", wrong.file, wrong.reason)).collect();
        wrong.join("; ")
    })?;
    let input = PolicyInput {
        now: Clock::system().now(),
        kind: "interaction.received",
        interaction: Arc::new(interaction.clone()),
        conversation: None,
        customer: None,
    };
    timer.time("decide: shipped policy", || bundle.decide(black_box(&input)));
    Ok(())
}
