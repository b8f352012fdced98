//! `[[helpdesk]]` and `[retry]`: who is sent events, and how deliveries are tried again.
//!
//! Deliveries are signed as [Standard Webhooks](https://www.standardwebhooks.com) 1.0.0 says: secrets are 24 to 64 random
//! bytes, shown as `whsec_` and base64; two may be valid while one replaces the other.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use url::{Host, Url};
use zeroize::Zeroizing;

use super::Outbound;
use super::channel::{Channel, NAME_EXPECTED, read_name};
use super::listen::read_url;
use super::problem::Place;
use super::reader::{Field, Section, quoted, shown};
use super::secret::{self, Origin};
use crate::base::Secret;
use crate::model::EventType;

/// One destination of events.
#[derive(Debug, Clone, PartialEq)]
pub struct HelpDesk {
    /// `name`: lower-case letters, digits and `-`; unique. It is what the outbox keeps, so renaming it makes another.
    pub name: String,
    /// `url`: where events are posted.
    pub url: Url,
    /// `secrets`: one, or two while one replaces the other; every delivery is signed with each.
    pub secrets: Vec<WebhookSecret>,
    /// `events`: the types it is sent. Default: `["interaction.received"]`.
    pub events: Vec<EventType>,
    /// `channels`: the channels whose events it is sent; none listed means all. Default: all.
    pub channels: Vec<String>,
    /// `timeout`: how long one attempt may take. Default: `20s`.
    pub timeout: Duration,
    /// `concurrency`: most attempts at once; events of one conversation are never sent at once. Default: 16.
    pub concurrency: u32,
    /// Where the table stands.
    pub place: Place,
}

/// A secret of Standard Webhooks, with the key that it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret {
    text: Secret,
    key: Zeroizing<Vec<u8>>,
    origin: Origin,
}

/// `[retry]`: how deliveries are tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// `schedule`: the wait before each attempt, the first included. Default: `0`, `5s`, `5m`, `30m`, `2h`, `5h`, `10h`,
    /// `14h`, `20h`, `24h`, the example of Standard Webhooks.
    pub schedule: Vec<Duration>,
    /// `jitter`: by which part of itself a wait is lengthened or shortened at random, 0 to 1. Default: 0.2.
    pub jitter: f64,
    /// `breaker`: when a destination is left alone for a while.
    pub breaker: Breaker,
}

/// When a destination is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// `failures`: after this many failures in a row. Default: 10.
    pub failures: u32,
    /// `pause`: for this long; then one attempt shows whether it is back. Default: `30s`.
    pub pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        const SECONDS: [u64; 10] = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        Retry {
            schedule: SECONDS.into_iter().map(Duration::from_secs).collect(),
            jitter: 0.2,
            breaker: Breaker { failures: 10, pause: Duration::from_secs(30) },
        }
    }
}

impl WebhookSecret {
    /// Reads `whsec_` and the base64 of 24 to 64 bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use segue::config::WebhookSecret;
    /// let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    /// assert_eq!(secret.key().len(), 24);
    /// assert!(WebhookSecret::parse("whsec_c2hvcnQ=").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix("whsec_")?;
        // Providers print it with and without padding.
        let key = data_encoding::BASE64
            .decode(encoded.as_bytes())
            .or_else(|_| data_encoding::BASE64_NOPAD.decode(encoded.as_bytes()))
            .ok()
            .map(Zeroizing::new)?;
        (24..=64).contains(&key.len()).then(|| WebhookSecret { text: Secret::new(text), key, origin: Origin::Literal })
    }

    /// The secret as it was written, `whsec_...`.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// The key of the HMAC, 24 to 64 bytes.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How it was written.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn read(field: &Field<'_>, on: &secret::Place<'_>) -> Option<Self> {
        let (text, origin) = on.resolve(field)?;
        let secret = WebhookSecret::parse(text.expose()).map(|secret| WebhookSecret { origin, ..secret });
        let literal = |secret: &WebhookSecret| secret.origin == Origin::Literal;
        if secret.is_none() {
            let expected = "`whsec_` and the base64 of 24 to 64 random bytes";
            field.add(field.problem("not a webhook secret").expected(expected));
        } else if secret.as_ref().is_some_and(literal) && field.is_open_to_all() {
            field.add(secret::exposed(field.place(), field.path()));
        }
        secret
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl HelpDesk {
    /// Reads every `[[helpdesk]]` of the file's top.
    pub(super) fn read_all(
        top: &Section<'_>,
        on: &secret::Place<'_>,
        outbound: &Outbound,
        channels: &[Channel],
    ) -> Vec<Self> {
        let mut helpdesks: Vec<HelpDesk> = Vec::new();
        for section in top.tables("helpdesk") {
            if let Some(helpdesk) = HelpDesk::read(&section, on, outbound, channels, &helpdesks) {
                helpdesks.push(helpdesk);
            }
            section.finish();
        }
        helpdesks
    }

    fn read(
        section: &Section<'_>,
        on: &secret::Place<'_>,
        outbound: &Outbound,
        channels: &[Channel],
        others: &[HelpDesk],
    ) -> Option<Self> {
        let name = section.need("name", NAME_EXPECTED).and_then(|field| {
            let name = read_name(&field)?;
            if let Some(other) = others.iter().find(|other| other.name == name) {
                field.error(format!("a help desk named `{name}` stands already at {}", other.place));
                return None;
            }
            Some(name)
        });
        let url = section.need("url", "the URL that events are posted to");
        let url = url.and_then(|field| read_destination(&field, outbound));
        let secrets = section.need("secrets", "one or two secrets, such as [\"env:HELPDESK_SECRET\"]");
        let secrets = secrets.and_then(|field| {
            let written = field.list();
            if written.is_empty() || written.len() > 2 {
                field.error(format!("{} secrets are listed; one or two are needed", written.len()));
            }
            every(written.iter().map(|field| WebhookSecret::read(field, on)))
        });
        let events = section.get("events").map(|field| {
            let events = field.set(read_event);
            if field.value().as_array().is_some_and(|written| written.is_empty()) {
                field.error("at least one event type is needed");
            }
            events
        });
        let channels = section.get("channels").map(|field| field.set(|field| read_channel(field, channels)));
        let time = Duration::from_secs(1)..=Duration::from_secs(120);
        let timeout = section.get("timeout").and_then(|field| field.duration(time));
        let concurrency = section.get("concurrency").and_then(|field| field.integer(1..=1024));
        Some(HelpDesk {
            name: name?,
            url: url?,
            secrets: secrets?,
            events: events.unwrap_or_else(|| vec![EventType::InteractionReceived]),
            channels: channels.unwrap_or_default(),
            timeout: timeout.unwrap_or(Duration::from_secs(20)),
            concurrency: concurrency.and_then(|n| u32::try_from(n).ok()).unwrap_or(16),
            place: section.place(),
        })
    }

    /// Whether it wants events of type `event` from the channel `channel`; an event without a channel goes to all.
    pub fn wants(&self, event: EventType, channel: Option<&str>) -> bool {
        let listed = |name: &str| self.channels.iter().any(|channel| channel == name);
        self.events.contains(&event) && (self.channels.is_empty() || channel.is_none_or(listed))
    }
}

impl Retry {
    /// Reads the table.
    pub(super) fn read(section: Section<'_>) -> Self {
        let default = Retry::default();
        let schedule = section.get("schedule").and_then(|field| {
            let longest = Duration::from_secs(7 * 86_400);
            let written = field.list();
            if written.is_empty() || written.len() > 50 {
                field.error(format!("{} waits are listed; 1 to 50 are needed", written.len()));
                return None;
            }
            every(written.iter().map(|field| field.duration(Duration::ZERO..=longest)))
        });
        let jitter = section.get("jitter").and_then(|field| field.number(0.0..=1.0));
        let breaker = Breaker::read(section.table("breaker"), default.breaker);
        section.finish();
        Retry { schedule: schedule.unwrap_or(default.schedule), jitter: jitter.unwrap_or(default.jitter), breaker }
    }
}

impl Breaker {
    fn read(section: Section<'_>, default: Breaker) -> Self {
        let failures = section.get("failures").and_then(|field| field.integer(1..=10_000));
        let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
        let breaker = Breaker {
            failures: failures.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.failures),
            pause: section.get("pause").and_then(|field| field.duration(range)).unwrap_or(default.pause),
        };
        section.finish();
        breaker
    }
}

/// All values, if there are all of them. Every one is read first, so that each problem is reported.
fn every<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let values: Vec<Option<T>> = values.collect();
    values.into_iter().collect()
}

/// A URL that the guarded client can reach. Names are resolved only when they are dialled; what is certain is said here.
pub(super) fn read_destination(field: &Field<'_>, outbound: &Outbound) -> Option<Url> {
    let url = read_url(field)?;
    let address: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    let reachable = match address {
        Some(address) => outbound.allow.iter().any(|network| network.contains(&address)),
        None => !outbound.allow.is_empty(),
    };
    if url.scheme() == "http" && !reachable {
        let reason = "plain http is sent only to networks listed in `outbound.allow`";
        field.add(field.problem(reason).expected("`https`, or the network in `outbound.allow`"));
        return None;
    }
    Some(url)
}

fn read_event(field: &Field<'_>) -> Option<EventType> {
    let name = field.text()?;
    let event = EventType::parse(name);
    if event.is_none() {
        let names = || EventType::ALL.into_iter().map(EventType::name);
        let mut problem = field.problem(format!("event type {} does not exist", shown(name))).near(name, names());
        if problem.suggestion.is_none() {
            problem = problem.expected(format!("one of {}", quoted(names())));
        }
        field.add(problem);
    }
    event
}

fn read_channel(field: &Field<'_>, channels: &[Channel]) -> Option<String> {
    let name = field.text()?;
    if channels.iter().any(|channel| channel.name == name) {
        return Some(name.to_owned());
    }
    let names = channels.iter().map(|channel| channel.name.as_str());
    field.add(field.problem(format!("channel {} does not exist", shown(name))).near(name, names));
    None
}
