//! What is kept running beside the stages: one delivery for each help desk, the reading of mailboxes, and pruning.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::checkpoints::Checkpoints;
use crate::base::Result;
use crate::config::{Config, HelpDesk, Retention};
use crate::connector::Mailbox;
use crate::flow::attempt::Destination;
use crate::flow::deliver;
use crate::flow::mail_check::Checking;
use crate::flow::mail_login::Logins;
use crate::flow::mailbox::{self, Fetching};

use crate::flow::{Context, stopped};
use crate::net::Client;
use crate::net::rate::RateLimits;
use crate::store::{Cutoffs, Subscription, lease};

/// Runs the deliveries that a configuration names.
pub(super) struct Keeper {
    context: Arc<Context>,
    client: Client,
    running: HashMap<String, Running>,
    fetching: Arc<Fetching>,
    mailboxes: HashMap<String, Reading>,
}

/// A mailbox that is read.
struct Reading {
    mailbox: Mailbox,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Running {
    helpdesk: HelpDesk,
    retry: crate::config::Retry,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A help desk as the deliver stage takes it.
pub(crate) fn destination(helpdesk: &HelpDesk, retry: &crate::config::Retry) -> Destination {
    Destination {
        name: helpdesk.name.clone(),
        url: helpdesk.url.as_str().to_owned(),
        keys: helpdesk.secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.key())).collect(),
        timeout: helpdesk.timeout,
        concurrency: usize::try_from(helpdesk.concurrency).unwrap_or(1).max(1),
        schedule: retry.schedule.iter().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).collect(),
        jitter: retry.jitter,
        breaker: (retry.breaker.failures, u64::try_from(retry.breaker.pause.as_millis()).unwrap_or(u64::MAX)),
    }
}

impl Keeper {
    pub(super) fn new(
        context: Arc<Context>,
        client: Client,
        mail: (Arc<Checking>, Arc<Logins>),
        config: &Config,
    ) -> Self {
        let fetching = Fetching::new(context.clone(), client.dialer(), mail, config.limits.mail);
        Keeper { context, client, running: HashMap::new(), fetching, mailboxes: HashMap::new() }
    }

    /// Makes what runs agree with the configuration. Deliveries that did not change go on untouched.
    ///
    /// # Errors
    ///
    /// If the store cannot take the subscriptions now.
    pub(super) async fn follow(&mut self, config: &Config) -> Result<()> {
        let subscriptions = config.helpdesks.iter().map(|helpdesk| Subscription {
            helpdesk: helpdesk.name.clone(),
            types: helpdesk.events.iter().map(|kind| *kind as u8).collect(),
            channels: helpdesk.channels.clone(),
        });
        self.context.store.outbox.subscribe(subscriptions.collect()).await?;
        let wanted = self.wanted_mailboxes();
        let desks = config.helpdesks.iter().map(|helpdesk| lease::helpdesk(&helpdesk.name));
        let boxes = wanted.keys().map(|channel| lease::mailbox(channel));
        let named = desks.chain(boxes).chain([lease::SENDS, lease::MEDIA, lease::UPKEEP].map(str::to_owned)).collect();
        if let Err(error) = self.context.store.leases.join(named).await {
            tracing::warn!(target: "segue::journal", error = %error.full(), "this node has no part in the work yet");
        }
        self.running.retain(|name, running| {
            let same = config.helpdesk(name) == Some(&running.helpdesk) && running.retry == config.retry;
            if !same {
                running.stop.send_replace(true);
            }
            same
        });
        for helpdesk in &config.helpdesks {
            if self.running.contains_key(&helpdesk.name) {
                continue;
            }
            let (stop, stopping) = watch::channel(false);
            let destination = destination(helpdesk, &config.retry);
            let task = tokio::spawn(deliver::run(self.context.clone(), self.client.clone(), destination, stopping));
            let running = Running { helpdesk: helpdesk.clone(), retry: config.retry.clone(), stop, task };
            self.running.insert(helpdesk.name.clone(), running);
        }
        self.read_mailboxes(wanted);
        let setup = self.context.setup.load_full();
        self.context.sending.keep(|channel| setup.channels.contains_key(channel));
        Ok(())
    }

    /// The mailboxes of the channels in force, by channel. One whose options do not fit is told of and left.
    fn wanted_mailboxes(&self) -> HashMap<String, Mailbox> {
        let setup = self.context.setup.load_full();
        let mut wanted = HashMap::new();
        for (name, channel) in setup.channels.iter().filter(|(_, channel)| !channel.paused) {
            match channel.connector.mailbox(&channel.account) {
                Ok(Some(mailbox)) => drop(wanted.insert(name.clone(), mailbox)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(target: "segue::mailbox", error = %error.full(), "a mailbox cannot be read");
                }
            }
        }
        wanted
    }

    /// Makes what is read agree with what is wanted. A mailbox that did not change is read on untouched.
    fn read_mailboxes(&mut self, wanted: HashMap<String, Mailbox>) {
        self.mailboxes.retain(|name, reading| {
            let same = wanted.get(name) == Some(&reading.mailbox);
            if !same {
                reading.stop.send_replace(true);
            }
            same
        });
        for (name, mailbox) in wanted {
            if self.mailboxes.contains_key(&name) {
                continue;
            }
            let (stop, stopping) = watch::channel(false);
            let task = tokio::spawn(mailbox::run(self.fetching.clone(), name.clone(), mailbox.clone(), stopping));
            self.mailboxes.insert(name, Reading { mailbox, stop, task });
        }
    }

    /// Ends all deliveries, after the attempts that are under way.
    pub(super) async fn stop(self) {
        for running in self.running.values() {
            running.stop.send_replace(true);
        }
        for reading in self.mailboxes.values() {
            reading.stop.send_replace(true);
        }
        for reading in self.mailboxes.into_values() {
            let _ = reading.task.await;
        }
        for running in self.running.into_values() {
            let _ = running.task.await;
        }
    }
}

/// Takes out what is older than its class allows, a batch at a time, so that pruning never holds up the writer. Originals go
/// once a checkpoint covers them.
pub(super) async fn prune(
    context: Arc<Context>,
    (retention, checkpoints): (Retention, Checkpoints),
    rates: Arc<RateLimits>,
    mut stop: watch::Receiver<bool>,
) {
    const BATCH: usize = 200;
    loop {
        rates.prune();
        let now = context.clock.now();
        let cutoffs = Cutoffs {
            raw: now.minus(retention.raw),
            covered: checkpoints.covered(),
            dedupe: now.minus(retention.dedupe),
            events: now.minus(retention.events),
        };
        let pause = match context.store.retention.prune(cutoffs, BATCH).await {
            Ok(0) if checkpoints.write_if_due(&context, cutoffs).await => Duration::ZERO,
            Ok(0) => {
                if let Err(error) = context.store.bundles.prune().await {
                    tracing::error!(target: "segue::journal", error = %error.full(), "bundles were not pruned");
                }
                Duration::from_secs(60)
            }
            Ok(_) => Duration::from_millis(100),
            Err(error) => {
                tracing::error!(target: "segue::journal", error = %error.full(), "pruning failed");
                Duration::from_secs(60)
            }
        };
        if stopped(&mut stop, pause).await {
            return;
        }
    }
}

/// Takes out files that no interaction names and that are older than `unused`, and what crashes left of files in the making,
/// a batch at a time.
pub(super) async fn collect(context: Arc<Context>, unused: Duration, mut stop: watch::Receiver<bool>) {
    const BATCH: usize = 100;
    const REST: Duration = Duration::from_secs(600);
    loop {
        let Some(blobs) = &context.blobs else { return };
        let pause = match blobs.collect(context.clock.now().minus(unused), BATCH).await {
            Ok(0) => REST,
            Ok(_) => Duration::from_millis(100),
            Err(error) => {
                tracing::error!(target: "segue::store", error = %error.full(), "files that nobody names were not deleted");
                REST
            }
        };
        if stopped(&mut stop, pause).await {
            return;
        }
    }
}
