//! Which bundle this node runs.
//!
//! On SQLite the files of the project rule, and each load is published. On PostgreSQL the newest publication rules on all
//! nodes: one whose files changed publishes, the others take it up. A node that cannot run what rules keeps what it has
//! for its doors, and applies nothing: no entry is applied under a bundle that rules no more for longer than
//! [`SWITCH_WITHIN`] after this node saw its successor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Content, Own, Trial, build};
use crate::api::BundleReport;
use crate::base::id::EntryId;
use crate::base::{Clock, Error, Result};
use crate::config::{self, Config};
use crate::connector::Registry;
use crate::flow::{Context, Setup};
use crate::store::{Bundles, NewPublication, Publication};

/// How long a node goes on under the old bundle while it builds the new one.
pub(in crate::app) const SWITCH_WITHIN: Duration = Duration::from_secs(3);

/// The bundle in force, and what is known of the one that should be.
pub(in crate::app) struct Ruling {
    /// Whether other nodes publish too.
    shared: bool,
    /// What is in force.
    content: Arc<Content>,
    hash: String,
    /// The connectors in force.
    pub(in crate::app) registry: Registry,
    /// The newest publication, as far as it was seen.
    publication: Option<Publication>,
    /// The hash of what this node's own files say.
    own: String,
    /// Why the newest publication cannot be run here.
    refused: Vec<String>,
}

/// What came of taking up a publication.
enum Taken {
    /// It is ready.
    Built(Box<super::Built>, Arc<Content>),
    /// It cannot be run here.
    Refused(Vec<String>),
}

/// Who publishes, in words.
fn publisher() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "a gateway".to_owned(),
        host => format!("the gateway on {host}"),
    }
}

/// Keeps a bundle and makes it the one to run.
///
/// # Errors
///
/// `Limit` if it is too large; `Unavailable` or `Io` if the store does not take it.
pub async fn publish(bundles: &dyn Bundles, content: &Content, by: &str, clock: &Clock) -> Result<Publication> {
    let (hash, at) = (content.hash(), clock.now());
    // Kept before anything names it.
    bundles.put(hash.clone(), content.checked_bytes()?).await?;
    let id = *EntryId::random(at).as_bytes();
    bundles.publish(NewPublication { id, hash, at, by: by.to_owned() }).await
}

/// Reads a bundle that is kept.
///
/// # Errors
///
/// `NotFound` if its content is not kept; as [`Content::read`].
pub async fn fetch(bundles: &dyn Bundles, hash: &str) -> Result<Content> {
    let bytes = bundles.get(hash.to_owned()).await?;
    let bytes = bytes.ok_or_else(|| {
        Error::not_found(format!("the content of bundle {hash} is not kept; `segue bundle list` shows what is"))
    })?;
    Content::read(hash, &bytes)
}

async fn take(content: Content, config: &Config, known: &Registry) -> Result<Taken> {
    let (own, known) = (Own::of(config), known.clone());
    let building = tokio::task::spawn_blocking(move || {
        let built = build(&content, &own, &known, Trial::Tested);
        (built, content)
    });
    let (built, content) = building.await.map_err(|e| Error::internal("building a bundle ended early").because(e))?;
    Ok(match built {
        Ok(built) => Taken::Built(Box::new(built), Arc::new(content)),
        Err(faults) => Taken::Refused(faults.iter().map(ToString::to_string).collect()),
    })
}

impl Ruling {
    /// Finds the bundle to begin with: what the files say, or on PostgreSQL what is published. Gives the setup, and
    /// whether entries may be applied under it.
    ///
    /// # Errors
    ///
    /// If the store can be neither read nor written.
    pub(in crate::app) async fn begin(
        bundles: &dyn Bundles,
        config: &Config,
        loaded: crate::app::setup::Loaded,
        clock: &Clock,
    ) -> Result<(Ruling, Setup, bool)> {
        let shared = config.store != config::Store::Sqlite;
        let own = loaded.setup.hash.clone();
        let current = bundles.current().await?.filter(|current| shared && current.hash != own);
        let mut ruling = Ruling {
            shared,
            content: loaded.content,
            hash: own.clone(),
            registry: loaded.registry,
            publication: None,
            own,
            refused: Vec::new(),
        };
        let Some(current) = current else {
            let publication = publish(bundles, &ruling.content, &publisher(), clock).await?;
            ruling.publication = Some(publication);
            return Ok((ruling, loaded.setup, true));
        };
        let taken = match fetch(bundles, &current.hash).await {
            Ok(content) => take(content, config, &ruling.registry).await?,
            Err(error) if error.retry() == crate::base::Retry::Never => Taken::Refused(vec![error.full()]),
            Err(error) => return Err(error),
        };
        let (version, by) = (current.version, current.by.clone());
        ruling.publication = Some(current);
        match taken {
            Taken::Built(built, content) => {
                ruling.hash.clone_from(&built.setup.hash);
                (ruling.content, ruling.registry) = (content, built.registry);
                tracing::warn!(target: "segue::reload", version, %by, "the files of this node differ from the published bundle, which rules; `segue bundle publish` publishes them");
                Ok((ruling, built.setup, true))
            }
            Taken::Refused(why) => {
                ruling.refuse(why);
                Ok((ruling, loaded.setup, false))
            }
        }
    }

    /// Makes what the changed files say the bundle to run, where that is for this node to do. Gives why not, if not.
    ///
    /// # Errors
    ///
    /// If the store does not take it now: nothing has changed then, and it is to be tried again.
    pub(in crate::app) async fn changed(
        &mut self,
        context: &Context,
        config: &Config,
        loaded: crate::app::setup::Loaded,
    ) -> Result<()> {
        let bundles = context.store.bundles.as_ref();
        if let Some(newest) = self.publication.clone().filter(|_| !self.refused.is_empty()) {
            // What was missing, such as a secret, may be there now. Giving it is not meant to replace what rules.
            self.refused.clear();
            self.take_up(context, config, newest).await?;
            if self.refused.is_empty() || loaded.setup.hash == self.own {
                self.own = loaded.setup.hash;
                return Ok(());
            }
        } else if self.shared && loaded.setup.hash == self.own && self.hash != self.own {
            // Something of this node alone changed: what rules is built again with it.
            let content = Content::clone(&self.content);
            return self.finish(context, take(content, config, &self.registry).await?);
        }
        let publication = publish(bundles, &loaded.content, &publisher(), &context.clock).await?;
        self.own.clone_from(&loaded.setup.hash);
        if publication.hash != loaded.setup.hash {
            return self.take_up(context, config, publication).await;
        }
        (self.content, self.registry) = (loaded.content, loaded.registry);
        self.publication = Some(publication);
        self.put_in_force(context, loaded.setup);
        Ok(())
    }

    /// Takes up what was published since the last look. Gives whether anything changed.
    ///
    /// # Errors
    ///
    /// If the store cannot be read now.
    pub(in crate::app) async fn follow(&mut self, context: &Context, config: &Config) -> Result<bool> {
        if !self.shared {
            return Ok(false);
        }
        let Some(newest) = context.store.bundles.current().await? else { return Ok(false) };
        if self.publication.as_ref() == Some(&newest) {
            return Ok(false);
        }
        self.take_up(context, config, newest).await?;
        Ok(true)
    }

    async fn take_up(&mut self, context: &Context, config: &Config, newest: Publication) -> Result<()> {
        if newest.hash == self.hash {
            self.publication = Some(newest);
            self.refused.clear();
            context.held.store(false, Ordering::SeqCst);
            return Ok(());
        }
        let taken = self.taken(context, config, &newest).await;
        let taken = taken.inspect_err(|_| context.held.store(true, Ordering::SeqCst))?;
        tracing::info!(target: "segue::reload", version = newest.version, by = %newest.by, "a bundle was published");
        self.publication = Some(newest);
        self.finish(context, taken)
    }

    /// Builds a publication. Where that takes long, nothing is applied meanwhile.
    async fn taken(&self, context: &Context, config: &Config, newest: &Publication) -> Result<Taken> {
        let taking = async {
            match fetch(context.store.bundles.as_ref(), &newest.hash).await {
                Ok(content) => take(content, config, &self.registry).await,
                Err(error) if error.retry() == crate::base::Retry::Never => Ok(Taken::Refused(vec![error.full()])),
                Err(error) => Err(error),
            }
        };
        let mut taking = std::pin::pin!(taking);
        match tokio::time::timeout(SWITCH_WITHIN, &mut taking).await {
            Ok(taken) => taken,
            Err(_) => {
                // Others run the new one already: from here on nothing is applied under the old one.
                context.held.store(true, Ordering::SeqCst);
                taking.await
            }
        }
    }

    fn finish(&mut self, context: &Context, taken: Taken) -> Result<()> {
        match taken {
            Taken::Built(built, content) => {
                (self.content, self.registry) = (content, built.registry);
                self.put_in_force(context, built.setup);
            }
            Taken::Refused(why) => {
                context.held.store(true, Ordering::SeqCst);
                self.refuse(why);
            }
        }
        Ok(())
    }

    fn put_in_force(&mut self, context: &Context, setup: Setup) {
        self.hash.clone_from(&setup.hash);
        self.refused.clear();
        context.setup.store(Arc::new(setup));
        context.held.store(false, Ordering::SeqCst);
        tracing::info!(target: "segue::reload", bundle = %self.hash.get(..12).unwrap_or_default(), "in force");
    }

    fn refuse(&mut self, why: Vec<String>) {
        for why in &why {
            tracing::error!(target: "segue::reload", %why, "the published bundle cannot be run here; entries wait until it can");
        }
        self.refused = why;
    }

    /// What people are told.
    pub(in crate::app) fn report(&self) -> BundleReport {
        let newest = self.publication.as_ref();
        BundleReport {
            version: newest.map(|newest| newest.version),
            hash: newest.map_or_else(|| self.hash.clone(), |newest| newest.hash.clone()),
            published_at: newest.map(|newest| newest.at),
            published_by: newest.map(|newest| newest.by.clone()),
            own: newest.is_some_and(|newest| newest.hash != self.own).then(|| self.own.clone()),
            refused: self.refused.clone(),
        }
    }
}
