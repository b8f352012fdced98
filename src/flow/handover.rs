//! Stage 1, for mails that a mail server of the organization hands over by LMTP.
//!
//! A recipient is one of ours if a channel of mail has it for an address. What is taken is in the journal before the
//! server hears of it, one entry for each channel, and the same mail handed over twice is one. What was found out about its
//! sender is found out here, as for mails that are fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::mail_check::{self, Checking};
use super::verify::{self, ReceivedMail};
use super::{ChannelSetup, Context, enter_entry};
use crate::base::Timestamp;
use crate::base::telemetry::By;
use crate::connector::Transport;
use crate::model::entry::{MailHead, MailSource};
use crate::net::lmtp::{Arrived, Deliver, Verdict};

/// Takes mails that are handed over.
pub struct Handover {
    context: Arc<Context>,
    checking: Arc<Checking>,
}

impl Handover {
    /// One that checks senders by `checking`.
    pub fn new(context: Arc<Context>, checking: Arc<Checking>) -> Arc<Handover> {
        Arc::new(Handover { context, checking })
    }

    /// Journals the mail for its channel.
    async fn take(&self, mail: ReceivedMail) -> Verdict {
        let channel = mail.channel.clone();
        let result = match enter_entry(&self.context, verify::step_mail(mail)).await {
            Ok(appended) if appended.repeat => ("repeated", Verdict::Taken),
            Ok(_) => ("accepted", Verdict::Taken),
            Err(error) => {
                tracing::warn!(target: "segue::mailbox", %channel, error = %error.full(), "a mail was not journaled");
                ("unavailable", Verdict::Later("the journal takes nothing now".into()))
            }
        };
        self.context.metrics.intake.get_or_create(&By::new(&channel, result.0)).inc();
        result.1
    }
}

/// The mail as it comes to one channel, for its recipients there.
fn received(channel: &str, mail: &Arrived, to: Vec<String>, at: Timestamp) -> ReceivedMail {
    let head = MailHead {
        source: MailSource::Lmtp,
        envelope_to: to,
        envelope_from: Some(mail.from.clone().unwrap_or_default()),
        ..MailHead::unchecked()
    };
    ReceivedMail { channel: channel.to_owned(), head, raw: mail.raw.clone(), at, account: 0 }
}

/// Whether mails for this recipient are handed over to the channel.
fn is_of(setup: &ChannelSetup, recipient: &str) -> bool {
    setup.connector.transport() == Transport::Mail && setup.account.has_mail_address(recipient)
}

impl Deliver for Handover {
    fn knows(&self, recipient: &str) -> bool {
        self.context.setup.load().channels.values().any(|channel| is_of(channel, recipient))
    }

    fn deliver(&self, mail: Arrived) -> BoxFuture<'_, Vec<Verdict>> {
        async move {
            let setup = self.context.setup.load_full();
            // The channels that it is for, each with its recipients; a recipient of two channels is of the first by name.
            let names: std::collections::BTreeSet<&String> = setup.channels.keys().collect();
            let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            let of: Vec<Option<&str>> = mail
                .to
                .iter()
                .map(|to| {
                    let name =
                        names.iter().find(|name| setup.channels.get(**name).is_some_and(|one| is_of(one, to)))?;
                    wanted.entry(name.as_str()).or_default().push(to.clone());
                    Some(name.as_str())
                })
                .collect();
            let (mut verdicts, mut mails) = (BTreeMap::new(), Vec::new());
            let at = self.context.clock.now();
            for (name, to) in wanted {
                let Some(channel) = setup.channels.get(name) else { continue };
                if channel.paused {
                    verdicts.insert(name.to_owned(), Verdict::Later("this channel takes nothing for now".into()));
                    continue;
                }
                mails.push((channel.account.trusted_servers(), received(name, &mail, to, at)));
            }
            mail_check::step_together(&self.checking, &mut mails).await;
            for (_, mail) in mails {
                verdicts.insert(mail.channel.clone(), self.take(mail).await);
            }
            let gone = || Verdict::Refused("nobody takes mails for this address any more".into());
            of.into_iter().map(|name| name.and_then(|name| verdicts.get(name)).cloned().unwrap_or_else(gone)).collect()
        }
        .boxed()
    }
}
