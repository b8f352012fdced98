//! Customers who write: signed webhooks over several connections, one in five repeated and some in another grouping, sent
//! again until they are acknowledged, as providers do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::{Call, Client};
use super::oracle::Ledger;
use super::{Random, provider};

/// Customers that one connection speaks for.
const SENDERS: usize = 4;
/// How long an answer is waited for before the request goes to another door.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody acknowledges anything any more.
const NEVER: Duration = Duration::from_secs(120);

/// Answers every message that begins with "ask".
pub(crate) const POLICY: &str = r#"
policy { name = "crash", version = 1, owner = "tests@example.org" }
rule("answers what is asked", { on = "interaction.received" }, function(e, d)
  d:queue("general")
  if e.ix.text:sub(1, 3) == "ask" then d:reply("answer", { text = e.ix.text }) end
end)
"#;

/// The customers.
pub(crate) struct Traffic {
    doors: watch::Sender<Vec<String>>,
    over: AtomicBool,
    ledger: Arc<Ledger>,
}

impl Traffic {
    /// Customers over `connections`, each of which sends so many messages to the channel `whatsapp`, and what to wait for
    /// at their end. A message goes to any of the doors.
    pub(crate) fn start(connections: usize, messages: usize, random: &mut Random) -> (Arc<Traffic>, JoinSet<()>) {
        let (doors, _) = watch::channel(Vec::new());
        let traffic = Arc::new(Traffic { doors, over: AtomicBool::new(false), ledger: Arc::new(Ledger::new()) });
        let mut running = JoinSet::new();
        for number in 0..connections {
            running.spawn(traffic.clone().connection(number, messages, Random(random.next())));
        }
        (traffic, running)
    }

    /// Where requests go from now on: `http://127.0.0.1:PORT` each.
    pub(crate) fn open(&self, doors: Vec<String>) {
        self.doors.send_replace(doors);
    }

    /// Ends it after the messages that are under way.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// What was acknowledged so far.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// All that was acknowledged, once every connection has ended.
    pub(crate) fn into_ledger(self: Arc<Self>) -> Ledger {
        let traffic = Arc::into_inner(self).expect("all connections have ended");
        Arc::into_inner(traffic.ledger).expect("nobody else holds the ledger")
    }

    /// Sends a request until it is acknowledged.
    async fn until_acknowledged(&self, client: &Client, call: &Call, random: &mut Random) {
        let deadline = Instant::now() + NEVER;
        loop {
            let doors = self.doors.borrow().clone();
            if !doors.is_empty() {
                let answer = client.send(&doors[random.below(doors.len())], call);
                let answer = tokio::time::timeout(PATIENCE, answer).await;
                if answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200)) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "a request is not acknowledged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One connection: its customers write in turn.
    async fn connection(self: Arc<Self>, number: usize, messages: usize, mut random: Random) {
        let client = Client::new();
        let mut previous: BTreeMap<usize, Value> = BTreeMap::new();
        for message in 0..messages {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let sender = random.below(SENDERS);
            let from = format!("1555{number:03}{sender:04}");
            let id = format!("wamid.{number}.{message}");
            let text = if random.below(4) == 0 { format!("ask {number} {message}") } else { format!("say {message}") };
            let new = provider::whatsapp_message(&from, &id, &text);
            // Now and then the one before comes again, in one request with the new one.
            let regrouped = previous.get(&sender).filter(|_| random.below(6) == 0).cloned();
            let items: Vec<Value> = regrouped.into_iter().chain([new.clone()]).collect();
            let call = provider::whatsapp("whatsapp", &items);
            self.until_acknowledged(&client, &call, &mut random).await;
            let (ledger, customer) = (self.ledger.clone(), from);
            tokio::task::spawn_blocking(move || ledger.note(&customer, &id)).await.unwrap();
            if random.below(5) == 0 {
                self.until_acknowledged(&client, &call, &mut random).await;
            }
            previous.insert(sender, new);
        }
    }
}
