//! `segue keys`: the root key and the key store. Keys themselves are never printed.

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::progress::Shown;
use super::{Global, report};
use crate::base::Result;
use crate::config::{Config, Store};
use crate::store::postgres::{self, Place};
use crate::store::seal::{KeyChest, RootKeys};
use crate::store::sqlite;

/// Arguments of `segue keys`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue keys init\n  segue keys show --json\n  segue keys rotate")]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make the root key, in a file that only its owner may read
    #[command(after_help = "Example:\n  segue keys init --json")]
    Init(KeysOutputArgs),
    /// Tell which root key there is and what it wraps; opens every key of the key store
    #[command(after_help = "Example:\n  segue keys show --json")]
    Show(KeysOutputArgs),
    /// Make a new root key and wrap all keys by it; the data is not touched, and the gateway may run
    #[command(after_help = "Example:\n  segue keys rotate --json")]
    Rotate(KeysOutputArgs),
}

/// How results are printed.
#[derive(Debug, Args)]
pub struct KeysOutputArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs `segue keys`.
///
/// # Errors
///
/// If the configuration cannot be used, the root key is missing or of another key store, or a key does not open.
pub fn run(global: &Global, args: &KeysArgs) -> Outcome {
    let config = global.load()?;
    match &args.command {
        KeysCommand::Init(output) => init(&config, output),
        KeysCommand::Show(output) => block_on(show(&config, output)),
        KeysCommand::Rotate(output) => block_on(rotate(&config, output)),
    }
}

async fn chest(config: &Config) -> Result<KeyChest> {
    match &config.store {
        Store::Sqlite => sqlite::key_chest(&config.data, false),
        Store::Postgres(url) => postgres::key_chest(&Place::parse(url)?).await,
    }
}

fn init(config: &Config, output: &KeysOutputArgs) -> Outcome {
    let made = RootKeys::create(&config.root_key)?;
    let (name, path) = (made.name(), config.root_key.display().to_string());
    match output.json {
        true => report::json(&json!({ "root": name, "file": path }))?,
        false => report::line(&format!(
            "made root key {name} in {path}; keep a copy in a safe place, apart from every backup of the data"
        ))?,
    }
    Ok(Exit::Ok)
}

async fn show(config: &Config, output: &KeysOutputArgs) -> Outcome {
    let roots = RootKeys::read(&config.root_key)?;
    let chest = chest(config).await?;
    let counts = chest.counts().await?;
    let opened = chest.verify(&roots).await?;
    if output.json {
        report::json(&json!({
            "root": roots.name(), "file": config.root_key.display().to_string(), "opened": opened, "store": counts,
        }))?;
        return Ok(Exit::Ok);
    }
    report::line(&format!("root key {} in {}", roots.name(), config.root_key.display()))?;
    report::line(&format!(
        "{opened} keys open: {} of customers, {} of days, {} others",
        counts.customers, counts.days, counts.others
    ))?;
    if roots.count() > 1 || counts.by_root.len() > 1 {
        report::line("a rotation was begun and did not end; run `segue keys rotate` again")?;
    }
    Ok(Exit::Ok)
}

async fn rotate(config: &Config, output: &KeysOutputArgs) -> Outcome {
    let roots = RootKeys::read(&config.root_key)?;
    let shown = Shown::new();
    let wrapped = chest(config).await?.rotate(&roots, &shown).await?;
    shown.end();
    let name = RootKeys::read(&config.root_key)?.name();
    match output.json {
        true => report::json(&json!({ "root": name, "wrapped": wrapped }))?,
        false => {
            report::line(&format!("{wrapped} keys are wrapped by root key {name} now"))?;
            if matches!(config.store, Store::Postgres(_)) {
                report::line(&format!("copy {} to every other node now", config.root_key.display()))?;
            }
            report::line("keep a copy of the new root key; the old one opens older backups of the key store only")?;
        }
    }
    Ok(Exit::Ok)
}
