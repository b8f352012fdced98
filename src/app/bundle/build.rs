//! From the content of a bundle to what decisions depend on. The only way there is: files become a content first.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{ChannelPart, Content, PolicyPart};
use crate::base::Result;
use crate::base::json::Value;
use crate::config::Config;
use crate::connector::{self, Connector, Folder, MapEngine, Registry};
use crate::flow::{ChannelSetup, Setup};
use crate::script::{self, Budget, Bundle, Helper, MapScript, PolicyFiles};

/// What the host lends to every `map.lua`. A map has no account's country, so national numbers stay as they came.
const HELPERS: [Helper; 1] = [("e164", |text| connector::e164(text, None))];
/// How long a script may take where its time was judged before: so long that only a script without an end is stopped.
const PATIENT: Duration = Duration::from_secs(60);

/// What a bundle is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// To decide from now on: the policy's own tests must pass.
    Tested,
    /// To decide again what was decided before: tests were passed then, secrets are not needed, and what took too long
    /// is in the applied records.
    Replayed,
}

/// What a node adds to a bundle and never publishes.
#[derive(Clone, Default)]
pub struct Own {
    /// Options by channel. Only those that the bundle calls secret are used.
    options: HashMap<String, Map<String, Json>>,
    /// Channels that take nothing for now.
    paused: HashSet<String>,
}

impl Own {
    /// What `config` gives.
    pub fn of(config: &Config) -> Own {
        let options = config.channels.iter().map(|channel| (channel.name.clone(), channel.options_json()));
        let paused = config.channels.iter().filter(|channel| channel.paused).map(|channel| channel.name.clone());
        Own { options: options.collect(), paused: paused.collect() }
    }
}

/// Why a bundle cannot be run here.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A connector of it is broken, or needs a newer program.
    Connector(connector::Diagnostic),
    /// A channel of it cannot be made.
    Channel {
        /// Which.
        name: String,
        /// Why, without a value.
        reason: String,
    },
    /// Its policy is broken.
    Policy(script::Diagnostic),
    /// A test of its policy fails.
    Test {
        /// The test.
        name: String,
        /// The file within the policy's folder.
        file: String,
        /// The line, from 1.
        line: u32,
        /// What failed.
        reason: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connector(found) => write!(f, "{}:{}: {}", found.file, found.line, found.reason),
            Fault::Channel { name, reason } => write!(f, "channel `{name}`: {reason}"),
            Fault::Policy(found) => write!(f, "{}:{}: {}", found.file, found.line, found.reason),
            Fault::Test { name, file, line, reason } => write!(f, "{file}:{line}: test `{name}` fails: {reason}"),
        }
    }
}

/// A bundle that is ready to decide.
pub struct Built {
    /// The connectors: the built-in ones with those of the bundle in their place.
    pub registry: Registry,
    /// What decisions depend on.
    pub setup: Setup,
}

/// A `map.lua` in the Lua engine.
struct Script(MapScript);

impl MapEngine for Script {
    fn call(&self, function: &str, arguments: &[&Value<'_>], extra: &Json) -> Result<Json> {
        self.0.call(function, arguments, extra)
    }

    fn functions(&self) -> &[String] {
        self.0.functions()
    }
}

/// Compiles a connector's `map.lua` in the Lua engine: what [`Registry::load`] and the sample runner take.
///
/// # Errors
///
/// Every mistake in the script, with its place.
pub fn build_map(file: &str, source: &str) -> Result<Box<dyn MapEngine>, Vec<connector::Diagnostic>> {
    map_within(Budget::default(), file, source)
}

fn map_within(budget: Budget, file: &str, source: &str) -> Result<Box<dyn MapEngine>, Vec<connector::Diagnostic>> {
    let diagnostic = |found: script::Diagnostic| connector::Diagnostic {
        file: found.file,
        line: found.line as usize,
        column: found.column as usize,
        reason: found.reason,
        suggestion: found.suggestion.map(|name| format!("did you mean `{name}`?")),
    };
    match MapScript::build(file, source, budget, &HELPERS) {
        Ok(map) => Ok(Box::new(Script(map))),
        Err(found) => Err(found.into_iter().map(diagnostic).collect()),
    }
}

/// Builds everything from `content`. Connectors that `known` holds in the same form are taken from there.
///
/// # Errors
///
/// Everything that keeps the bundle from running here.
pub fn build(content: &Content, own: &Own, known: &Registry, trial: Trial) -> Result<Built, Vec<Fault>> {
    let (registry, mut faults) = registry(content, known, trial);
    let built = channels(content, own, &registry, trial).map_err(|found| faults.extend(found)).ok();
    let ruling = policy(&content.policy, trial).map_err(|found| faults.extend(found)).ok();
    match (built, ruling) {
        (Some(channels), Some(policy)) if faults.is_empty() => {
            Ok(Built { registry, setup: assemble(content, policy, channels) })
        }
        _ => Err(faults),
    }
}

/// The policy, compiled and linted, and where it is to decide from now on, tested.
///
/// # Errors
///
/// Every mistake and every failed test.
pub fn policy(part: &PolicyPart, trial: Trial) -> Result<Bundle, Vec<Fault>> {
    let bundle = compiled(part, trial)?;
    if trial == Trial::Replayed {
        return Ok(bundle);
    }
    let tests = bundle.run_tests(None).results.into_iter();
    let failed: Vec<Fault> = tests
        .filter_map(|test| {
            let (name, file, line, reason) = (test.name, test.file, test.line, test.failure?);
            Some(Fault::Test { name, file, line, reason })
        })
        .collect();
    if failed.is_empty() { Ok(bundle) } else { Err(failed) }
}

/// The policy, compiled and linted.
///
/// # Errors
///
/// Every mistake.
pub(in crate::app) fn compiled(part: &PolicyPart, trial: Trial) -> Result<Bundle, Vec<Fault>> {
    let mut files = Vec::with_capacity(part.files.len());
    for (path, text) in &part.files {
        let broken = |e: crate::base::Error| vec![Fault::Policy(script::Diagnostic::at(path, 0, e.full()))];
        files.push((path.clone(), text.bytes().map_err(broken)?.into_owned()));
    }
    let mut budget = part.budget();
    if trial == Trial::Replayed {
        budget.wall = budget.wall.max(PATIENT);
    }
    Bundle::build(PolicyFiles::from_memory(files), part.facts(), budget)
        .map_err(|found| found.into_iter().map(Fault::Policy).collect())
}

fn registry(content: &Content, known: &Registry, trial: Trial) -> (Registry, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut folders: BTreeMap<String, Folder> =
        Folder::embedded().into_iter().map(|folder| (folder.name.clone(), folder)).collect();
    for (name, files) in &content.connectors {
        let mut folder = Folder { name: name.clone(), files: BTreeMap::new() };
        for (path, text) in files {
            match text.bytes() {
                Ok(bytes) => drop(folder.files.insert(path.clone(), Cow::Owned(bytes.into_owned()))),
                Err(e) => {
                    let found = connector::Diagnostic::of_file(format!("{name}/{path}"), e.full());
                    faults.push(Fault::Connector(found));
                }
            }
        }
        folders.insert(name.clone(), folder);
    }
    let folders: Vec<Folder> = folders.into_values().collect();
    let patient = |file: &str, source: &str| map_within(Budget { wall: PATIENT, ..Budget::default() }, file, source);
    let map: &connector::BuildMap = if trial == Trial::Replayed { &patient } else { &build_map };
    let (registry, found) = known.reload(&folders, None, Some(map));
    let used = |found: &connector::Diagnostic| {
        found.file.split('/').next().is_some_and(|name| content.connectors.contains_key(name))
    };
    faults.extend(found.into_iter().filter(used).map(Fault::Connector));
    (registry, faults)
}

/// The channels by name.
///
/// # Errors
///
/// Every channel that cannot be made.
pub(in crate::app) fn channels(
    content: &Content,
    own: &Own,
    registry: &Registry,
    trial: Trial,
) -> Result<HashMap<String, ChannelSetup>, Vec<Fault>> {
    let (mut made, mut faults) = (HashMap::new(), Vec::new());
    for (name, part) in &content.channels {
        match channel(content, name, part, own, registry, trial) {
            Ok(channel) => drop(made.insert(name.clone(), channel)),
            Err(reason) => faults.push(Fault::Channel { name: name.clone(), reason }),
        }
    }
    if faults.is_empty() { Ok(made) } else { Err(faults) }
}

fn channel(
    content: &Content,
    name: &str,
    part: &ChannelPart,
    own: &Own,
    registry: &Registry,
    trial: Trial,
) -> Result<ChannelSetup, String> {
    let connector = registry.get(&part.connector);
    let connector = connector.ok_or_else(|| format!("there is no connector `{}`", part.connector))?;
    let country = content.default_country.as_deref();
    let mut options: Map<String, Json> =
        part.options.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))).collect();
    let mut account = match trial {
        Trial::Replayed => connector.account_without_secrets(name, &options, &part.secrets, country),
        Trial::Tested => {
            add_secrets(name, part, connector, own, &mut options)?;
            connector.account(name, &options, country).map_err(|wrong| wrong.join("; "))?
        }
    };
    account.address.clone_from(&part.address);
    let paused = own.paused.contains(name);
    Ok(ChannelSetup { connector: Arc::clone(connector), account, queue: part.queue.clone(), paused })
}

/// Adds the secrets of a channel that this node has.
fn add_secrets(
    name: &str,
    part: &ChannelPart,
    connector: &Connector,
    own: &Own,
    options: &mut Map<String, Json>,
) -> Result<(), String> {
    let given = own.options.get(name);
    let secret = |option: &str| connector.options().iter().any(|spec| spec.secret && spec.name == option);
    let mut missing = BTreeSet::new();
    for option in part.secrets.iter().filter(|option| secret(option)) {
        match given.and_then(|given| given.get(option)) {
            Some(value) => drop(options.insert(option.clone(), value.clone())),
            None => drop(missing.insert(format!("`{option}`"))),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Err(format!(
        "this node has no {}; give a `[[channel]]` named `{name}` with it to the segue.toml of this node",
        missing.join(" and ")
    ))
}

/// Puts the parts together.
pub(in crate::app) fn assemble(content: &Content, policy: Bundle, channels: HashMap<String, ChannelSetup>) -> Setup {
    Setup {
        hash: content.hash(),
        channels,
        policy,
        default_queue: content.policy.default_queue.clone(),
        templates: content.policy.templates.clone().into_iter().collect(),
        source: content.source.clone(),
    }
}
