//! `segue helpdesk`: try out a help desk's door.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use http::StatusCode;
use http::header::LOCATION;
use ring::hmac;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::report::{self, Paint, Style};
use crate::base::id::{EntryId, EventId};
use crate::base::{Clock, Error, Result, Timestamp};
use crate::config::{Config, HelpDesk, nearest};
use crate::flow::attempt::{Destination, signed_headers};
use crate::net::guard::Refusal;
use crate::net::{Client, ClientError, Fault, client};

/// The type of the event that is sent.
const EVENT: &str = "dev.segue.helpdesk.test.v1";

/// Arguments of `segue helpdesk`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue helpdesk test main")]
pub struct HelpdeskArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: HelpdeskCommand,
}

/// Commands about help desks.
#[derive(Debug, Subcommand)]
pub enum HelpdeskCommand {
    /// Send a signed sample event and show the answer
    Test(HelpdeskTestArgs),
}

/// Arguments of `segue helpdesk test`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue helpdesk test main --json")]
pub struct HelpdeskTestArgs {
    /// The help desk's name in the configuration
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If there is no such help desk, or the output cannot be written. A help desk that does not take the event is no error
/// but [`Exit::Unavailable`], with what is to be mended.
pub fn run(global: &Global, args: &HelpdeskArgs) -> Outcome {
    let HelpdeskCommand::Test(args) = &args.command;
    let config = global.load()?;
    let Some(helpdesk) = config.helpdesk(&args.name) else {
        let near = nearest(&args.name, config.helpdesks.iter().map(|helpdesk| helpdesk.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Error::config(format!("no help desk is named `{}`{hint}", args.name)));
    };
    let tried = block_on(attempt(&config, helpdesk))?;
    print(helpdesk, &tried, args.json)?;
    Ok(if tried.mend.is_none() { Exit::Ok } else { Exit::Unavailable })
}

/// What came of the attempt.
struct Tried {
    id: EventId,
    at: Timestamp,
    bytes: usize,
    took: Duration,
    /// The answer, or why there was none.
    answer: Result<StatusCode, String>,
    /// What is to be mended, if the event was not taken.
    mend: Option<String>,
}

/// Sends one event, signed as every delivery is, through the client that every delivery goes through.
async fn attempt(config: &Config, helpdesk: &HelpDesk) -> Result<Tried> {
    let client = Client::new(client::Settings {
        allow: config.outbound.allow.clone(),
        extra_roots: config.outbound.roots.clone(),
        ..client::Settings::default()
    })?;
    let at = Clock::system().now();
    let id = EventId::derive(EntryId::random(at), at, "test", 0);
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": config.public_url.as_deref().unwrap_or("segue"),
        "type": EVENT,
        "subject": helpdesk.name,
        "time": at,
        "datacontenttype": "application/json",
        "data": { "helpdesk": helpdesk.name, "text": "a test of the connection; nothing happened" },
    });
    let body = body.to_string();
    let destination = destination(helpdesk);
    let headers = signed_headers(&destination, &id.to_string(), at, body.as_bytes());
    let bytes = body.len();
    let request = client::Request::post(destination.url.clone(), body).headers(headers).timeout(destination.timeout);
    let begun = Instant::now();
    let outcome = client.send(request).await;
    let took = begun.elapsed();
    let (answer, mend) = match outcome {
        Ok(response) => {
            let location = response.headers.get(LOCATION).is_some();
            (Ok(response.status), mend_answer(response.status, location).map(str::to_owned))
        }
        Err(error) => (Err(error.fault().to_string()), Some(mend_failure(&error))),
    };
    Ok(Tried { id, at, bytes, took, answer, mend })
}

/// The help desk as deliveries see it. There is one attempt, so it has no schedule.
fn destination(helpdesk: &HelpDesk) -> Destination {
    let keys = helpdesk.secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.key()));
    Destination {
        name: helpdesk.name.clone(),
        url: helpdesk.url.to_string(),
        keys: keys.collect(),
        timeout: helpdesk.timeout,
        concurrency: 1,
        schedule: Vec::new(),
        jitter: 0.0,
        breaker: (u32::MAX, 1000),
    }
}

/// What an answer asks to be mended; nothing for a 2xx.
fn mend_answer(status: StatusCode, location: bool) -> Option<&'static str> {
    Some(match status.as_u16() {
        200..=299 => return None,
        300..=399 if location => "it redirects, and redirects are not followed: write the final URL into `url`",
        400 | 401 | 403 => {
            "it refuses the event: does it verify Standard Webhooks signatures over the raw body with the same \
             whsec_ secret, and is its clock right?"
        }
        404 | 405 => "nothing takes a POST there: is the path of `url` right?",
        410 => "it answers that it wants no more events: deliveries to it would end for good",
        413 => "it takes no body of this size: let it take at least 20 kB",
        415 => "it does not take `application/cloudevents+json`",
        429 => "it is asked too often: try again later",
        500..=599 => "it failed: its own log says why",
        _ => "only an answer of 2xx counts as taken",
    })
}

/// What a failure asks to be mended.
fn mend_failure(error: &ClientError) -> String {
    let host = error.host();
    match error.fault() {
        Fault::Refused(Refusal::NotPublic | Refusal::Port) => {
            format!("list the network of `{host}` under `allow` in [outbound] if events may go there")
        }
        Fault::Refused(Refusal::PlainHttp) => {
            format!("use https, or list the network of `{host}` under `allow` in [outbound]")
        }
        Fault::Refused(_) => "`url` must be a plain https URL without user or password".to_owned(),
        Fault::Dns => format!("is the name `{host}` right, and does this machine resolve it?"),
        Fault::Connect => format!("is anything listening at `{host}`, and does a firewall let this machine through?"),
        Fault::Tls => format!("the certificate of `{host}` is not trusted; `roots` in [outbound] adds an authority"),
        Fault::Timeout => "it should answer before it works; `timeout` of the help desk sets the patience".to_owned(),
        _ => "what answers there may not speak HTTP".to_owned(),
    }
}

fn print(helpdesk: &HelpDesk, tried: &Tried, as_json: bool) -> Result<()> {
    // A path may hold a credential; scheme, host and port do not.
    let door = helpdesk.url.origin().ascii_serialization();
    let millis = u64::try_from(tried.took.as_millis()).unwrap_or(u64::MAX);
    if as_json {
        return report::json(&json!({
            "ok": tried.mend.is_none(), "helpdesk": helpdesk.name, "origin": door, "event": tried.id, "at": tried.at,
            "bytes": tried.bytes, "signatures": helpdesk.secrets.len(), "millis": millis,
            "status": tried.answer.as_ref().ok().map(StatusCode::as_u16), "error": tried.answer.as_ref().err(),
            "mend": tried.mend,
        }));
    }
    let paint = Paint::stdout();
    let signatures = helpdesk.secrets.len();
    report::line(&format!(
        "sent     {} ({EVENT}, {} bytes, {signatures} signatures) to {door}",
        tried.id, tried.bytes
    ))?;
    let answer = match &tried.answer {
        Ok(status) => status.to_string(),
        Err(reason) => format!("none: {reason}"),
    };
    let style = if tried.mend.is_none() { Style::Good } else { Style::Bad };
    report::line(&format!("answer   {} after {millis} ms", paint.paint(style, &answer)))?;
    match &tried.mend {
        Some(mend) => report::line(&format!("to mend  {mend}")),
        None => Ok(()),
    }
}
