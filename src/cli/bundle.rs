//! `segue bundle`: what decisions depend on, as it was published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::{block_on, make_store, open_store};
use super::report::{self, Paint, Style};
use crate::app::bundle::{self, Content, Text};
use crate::app::setup;
use crate::base::{Clock, Error, Kind, Result, Retry};
use crate::config::{Config, Store};
use crate::store::{Bundles, Publication};

/// Arguments of `segue bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue bundle list\n  segue bundle publish\n  segue bundle export 12 ./bundle-12")]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BundleCommand,
}

/// Commands about bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// List what was published, the latest first
    List(BundleListArgs),
    /// Show what a bundle holds
    Show(BundleShowArgs),
    /// Publish what the files of this project say, or an earlier bundle again
    Publish(BundlePublishArgs),
    /// Write a bundle's files into a folder
    Export(BundleExportArgs),
}

/// Arguments of `segue bundle list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue bundle list --json")]
pub struct BundleListArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Print one JSON object a publication
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue bundle show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue bundle show\n  segue bundle show 12 --json")]
pub struct BundleShowArgs {
    /// A version, or the beginning of a hash; the one that rules if absent
    #[arg(value_name = "BUNDLE")]
    pub bundle: Option<String>,
    /// Print the whole bundle as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue bundle publish`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  segue bundle publish\n  segue bundle publish 12\n\nAll gateways on the same PostgreSQL \
run it within five seconds. On SQLite the files of the project rule and are published by the gateway itself."
)]
pub struct BundlePublishArgs {
    /// Publish this earlier bundle again: a version, or the beginning of a hash
    #[arg(value_name = "BUNDLE")]
    pub bundle: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue bundle export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue bundle export 12 ./bundle-12")]
pub struct BundleExportArgs {
    /// A version, or the beginning of a hash
    #[arg(value_name = "BUNDLE")]
    pub bundle: String,
    /// The folder, which must not exist or be empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If the store cannot be opened, there is no such bundle, the project is broken, or the output cannot be written.
pub fn run(global: &Global, args: &BundleArgs) -> Outcome {
    let config = global.load()?;
    if let BundleCommand::Publish(args) = &args.command {
        return publish(global, &config, args);
    }
    let opened = open_store(&config)?;
    let bundles = opened.store.bundles.as_ref();
    block_on(async {
        match &args.command {
            BundleCommand::List(args) => list(bundles, args).await,
            BundleCommand::Show(args) => show(bundles, args).await,
            BundleCommand::Export(args) => export(bundles, args).await,
            BundleCommand::Publish(_) => Ok(Exit::Ok),
        }
    })
}

async fn list(bundles: &dyn Bundles, args: &BundleListArgs) -> Outcome {
    let found = bundles.publications(args.limit as usize).await?;
    let newest = found.first().map(|publication| publication.version);
    let sizes: BTreeMap<String, Option<u64>> =
        bundles.all().await?.into_iter().map(|row| (row.hash, row.bytes)).collect();
    let row = |publication: &Publication| {
        let mut row = shown(publication);
        if let Value::Object(members) = &mut row {
            members.insert("rules".to_owned(), json!(Some(publication.version) == newest));
            members.insert("bytes".to_owned(), json!(sizes.get(&publication.hash).copied().flatten()));
        }
        row
    };
    let rows: Vec<Value> = found.iter().map(row).collect();
    report::rows(&rows, args.json, line, "nothing is published yet")?;
    Ok(Exit::Ok)
}

fn shown(publication: &Publication) -> Value {
    let Publication { version, hash, at, by, engine } = publication;
    json!({ "version": version, "hash": hash, "at": at, "by": by, "engine": engine })
}

fn line(row: &Value) -> String {
    let text = |name: &str| super::gateway::text(row, &[name]);
    let hash: String = text("hash").chars().take(12).collect();
    let rules = if row.get("rules") == Some(&json!(true)) {
        Paint::stdout().paint(Style::Good, "rules")
    } else {
        String::new()
    };
    let version = Paint::stdout().paint(Style::Strong, &format!("{:>6}", text("version")));
    format!("{version} {hash} {} {}, {} {rules}", text("at"), text("by"), text("engine")).trim_end().to_owned()
}

/// The hash that a version, or the beginning of a hash, stands for.
pub(super) async fn find(bundles: &dyn Bundles, wanted: Option<&str>) -> Result<String> {
    let Some(wanted) = wanted else {
        let current = bundles.current().await?;
        return current.map(|current| current.hash).ok_or_else(|| Error::not_found("nothing is published yet"));
    };
    const EVERY: usize = 1000;
    if let Ok(version) = wanted.parse::<i64>() {
        let found = bundles.publications(EVERY).await?.into_iter().find(|found| found.version == version);
        if let Some(found) = found {
            return Ok(found.hash);
        }
    }
    let hashes = bundles.all().await?.into_iter().map(|row| row.hash);
    let mut fitting: Vec<String> = hashes.filter(|hash| hash.starts_with(wanted)).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(hash), true) => Ok(hash),
        (Some(_), false) => {
            Err(Error::invalid(format!("several bundles begin with `{wanted}`; give more of the hash")))
        }
        (None, _) => Err(Error::not_found(format!("there is no bundle `{wanted}`; `segue bundle list` shows them"))),
    }
}

async fn show(bundles: &dyn Bundles, args: &BundleShowArgs) -> Outcome {
    let hash = find(bundles, args.bundle.as_deref()).await?;
    let content = bundle::fetch(bundles, &hash).await?;
    if args.json {
        report::json(&json!({ "hash": hash, "content": content }))?;
        return Ok(Exit::Ok);
    }
    let paint = Paint::stdout();
    report::line(&format!("{} {hash}", paint.paint(Style::Strong, "bundle")))?;
    report::line(&format!("source      {}", content.source))?;
    report::line(&format!(
        "queues      {} (default {})",
        content.policy.queues.join(", "),
        content.policy.default_queue
    ))?;
    let names: Vec<&str> = content.policy.templates.keys().map(String::as_str).collect();
    report::line(&format!("templates   {}", names.join(", ")))?;
    for (name, channel) in &content.channels {
        let secrets: Vec<&str> = channel.secrets.iter().map(String::as_str).collect();
        report::line(&format!("channel     {name}: {}, secrets {}", channel.connector, secrets.join(", ")))?;
    }
    for (path, text) in files(&content) {
        report::line(&format!("file        {path} ({} bytes)", text.bytes()?.len()))?;
    }
    Ok(Exit::Ok)
}

/// The files of a bundle, by path in a project.
fn files(content: &Content) -> impl Iterator<Item = (String, &Text)> {
    let scripts = content.policy.files.iter().map(|(path, text)| (format!("scripts/{path}"), text));
    let connectors = content
        .connectors
        .iter()
        .flat_map(|(name, files)| files.iter().map(move |(path, text)| (format!("connectors/{name}/{path}"), text)));
    scripts.chain(connectors)
}

fn publish(global: &Global, config: &Config, args: &BundlePublishArgs) -> Outcome {
    let sqlite = config.store == Store::Sqlite;
    if sqlite && args.bundle.is_some() {
        return Err(Error::new(
            Kind::Conflict,
            "on SQLite the files of the project rule; `segue bundle export` writes an earlier bundle's files",
        )
        .with_retry(Retry::Never));
    }
    let loaded = match args.bundle {
        Some(_) => None,
        None => Some(setup::load(config).map_err(|problems| {
            report::problems(&problems);
            global.refused(&problems)
        })?),
    };
    let opened = make_store(config).map_err(|error| match sqlite {
        true => error.context("on SQLite a running gateway publishes its files by itself"),
        false => error,
    })?;
    block_on(async {
        let bundles = opened.store.bundles.as_ref();
        let content = match &loaded {
            Some(loaded) => Content::clone(&loaded.content),
            None => bundle::fetch(bundles, &find(bundles, args.bundle.as_deref()).await?).await?,
        };
        let published = bundle::publish(bundles, &content, "the command line", &Clock::system()).await?;
        if args.json {
            report::json(&shown(&published))?;
        } else {
            report::line(&line(&shown(&published)))?;
        }
        Ok(Exit::Ok)
    })
}

async fn export(bundles: &dyn Bundles, args: &BundleExportArgs) -> Outcome {
    let hash = find(bundles, Some(&args.bundle)).await?;
    let content = bundle::fetch(bundles, &hash).await?;
    let dir = &args.dir;
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::invalid(format!("`{}` is not empty", dir.display())));
    }
    let mut count = 1;
    for (path, text) in files(&content) {
        // The paths were made by this program, but a store may have been tampered with.
        if Path::new(&path).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(Error::invalid(format!("bundle {hash} holds a file at `{path}`")));
        }
        write(&dir.join(&path), &text.bytes()?)?;
        count += 1;
    }
    let whole = serde_json::to_vec_pretty(&content).map_err(|e| Error::internal("failed to write JSON").because(e))?;
    write(&dir.join("bundle.json"), &whole)?;
    if args.json {
        report::json(&json!({ "hash": hash, "dir": dir, "files": count }))?;
    } else {
        report::line(&format!("{count} files in {}; settings are in bundle.json", dir.display()))?;
    }
    Ok(Exit::Ok)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = || path.display().to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("failed to create a folder", e).context(place()))?;
    }
    std::fs::write(path, bytes).map_err(|e| Error::io("failed to write", e).context(place()))
}
