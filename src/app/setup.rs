//! From a checked configuration to what decisions depend on: connectors, channels and policy, loaded in one place.
//!
//! `segue check` and the gateway itself call [`load`] and get the same answer: either everything holds together, or every
//! problem is told, each with its place. A policy's own tests run here too, so that a policy which fails them never
//! replaces one that passed. What the files say becomes a [`Content`] first, and what decides is built from that alone
//! ([`super::bundle`]), as it is where the bundle was published by another node.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bundle::{self, Content, Fault, Own, PolicyPart, Trial};
use crate::base::Error;
use crate::config::{Channel, Config, Place, Problem, Store};
use crate::connector::{self, Connector, Folder, OptionFault, Registry};
use crate::flow::{ChannelSetup, Setup};
use crate::script::{self, Bundle, PolicyFacts, PolicyFiles};
use crate::store::postgres;

pub use super::bundle::build_map;

/// What the files of the built-in policy and of the built-in connectors are called in a message.
const BUILT_IN: &str = "(built in)";

/// A project, loaded and checked.
pub struct Loaded {
    /// The connectors in force: the built-in ones and the project's.
    pub registry: Registry,
    /// What decisions depend on.
    pub setup: Setup,
    /// What the setup was built from.
    pub content: Arc<Content>,
    /// What is doubtful but no error. The configuration's own warnings are not repeated.
    pub warnings: Vec<Problem>,
}

/// Loads everything that `config` names.
///
/// # Errors
///
/// Every problem found, warnings among them; at least one is an error.
pub fn load(config: &Config) -> Result<Loaded, Vec<Problem>> {
    reload(config, &Registry::default())
}

/// Loads everything anew. A connector that is broken now and was not in `previous` stays as it was there, and that is a
/// warning; whatever else is wrong leaves nothing changed.
///
/// # Errors
///
/// As [`load`].
pub fn reload(config: &Config, previous: &Registry) -> Result<Loaded, Vec<Problem>> {
    let (registry, mut problems) = connectors(&config.connectors, previous);
    if let Store::Postgres(url) = &config.store
        && let Err(error) = postgres::Place::parse(url)
    {
        problems.push(Problem::new(Place::file(&config.file), "store", error.full()));
    }
    let channels = channels(config, &registry, &mut problems);
    let ruling = policy_part(config).and_then(|part| {
        let policy = bundle::policy(&part, Trial::Tested).map_err(|found| policy_problems(config, found))?;
        Ok((part, policy))
    });
    let ruling = ruling.map_err(|found| problems.extend(found)).ok();
    match ruling {
        Some((part, policy)) if !problems.iter().any(Problem::is_error) => {
            let content = Content::of(config, &channels, part);
            let made = bundle::channels(&content, &Own::of(config), &registry, Trial::Tested);
            let made = made.map_err(|found| policy_problems(config, found));
            let too_large = |error: Error| vec![Problem::new(Place::file(&config.file), "policy", error.full())];
            let channels = made.and_then(|made| content.checked_bytes().map(|_| made).map_err(too_large))?;
            let setup = bundle::assemble(&content, policy, channels);
            Ok(Loaded { registry, setup, content: Arc::new(content), warnings: problems })
        }
        _ => Err(problems),
    }
}

/// The connectors: the built-in ones, and those of the folder `project`, which need not exist. Broken ones are left out,
/// or stay as they are in `previous`, and are told as problems.
pub fn connectors(project: &Path, previous: &Registry) -> (Registry, Vec<Problem>) {
    let (registry, found) = previous.reload(&Folder::embedded(), Some(project), Some(&build_map));
    let problems = found.into_iter().map(|diagnostic| {
        let name = diagnostic.file.split('/').next().unwrap_or_default().to_owned();
        let problem = connector_problem(project, diagnostic);
        if previous.get(&name).is_none() {
            return problem;
        }
        let reason = format!("{}; connector `{name}` stays as it was", problem.reason);
        Problem { reason, ..problem }.warning()
    });
    let problems = problems.collect();
    (registry, problems)
}

/// A connector's mistake as a problem at its file, which lies in the folder `project` unless it is built in.
pub fn connector_problem(project: &Path, found: connector::Diagnostic) -> Problem {
    let name = found.file.split('/').next().unwrap_or_default();
    let own = project.join(name).is_dir();
    let file = match own {
        true => project.join(&found.file),
        // The folder of all connectors itself cannot be read.
        false if Path::new(&found.file) == project => project.to_owned(),
        false => Path::new(BUILT_IN).join(&found.file),
    };
    let line = u32::try_from(found.line).unwrap_or(0);
    let column = u32::try_from(found.column).unwrap_or(0).max(u32::from(line > 0));
    let reason = match &found.suggestion {
        Some(suggestion) => format!("{}; {suggestion}", found.reason),
        None => found.reason.clone(),
    };
    Problem::new(Place { file, line, column }, format!("connector.{name}"), reason)
}

/// A policy's mistake as a problem at its file in the folder `scripts`.
pub fn policy_problem(scripts: &Path, found: script::Diagnostic) -> Problem {
    let file = scripts.join(&found.file);
    let column = found.column.max(u32::from(found.line > 0));
    let problem = Problem::new(Place { file, line: found.line, column }, "policy", found.reason);
    Problem { suggestion: found.suggestion, ..problem }
}

/// The channels by name. A channel that cannot be made is told and left out.
fn channels(config: &Config, registry: &Registry, problems: &mut Vec<Problem>) -> HashMap<String, ChannelSetup> {
    let mut channels = HashMap::new();
    for channel in &config.channels {
        let key = || format!("channel.{}.connector", channel.name);
        let Some(connector) = registry.get(&channel.connector) else {
            // A connector that is there but broken was told already, at its own line.
            let broken = problems.iter().any(|problem| problem.key == format!("connector.{}", channel.connector));
            if !broken {
                let reason = format!("there is no connector `{}`", channel.connector);
                let names: Vec<&str> = registry.iter().map(|connector| connector.name()).collect();
                let mut problem = Problem::new(channel.connector_place.clone(), key(), reason)
                    .near(&channel.connector, names.iter().copied());
                if problem.suggestion.is_none() {
                    problem = problem.expected(format!("one of {}", names.join(", ")));
                }
                problems.push(problem);
            }
            continue;
        };
        if connector.unverified() {
            let reason =
                format!("connector `{}` checks no signature: anybody can write to this channel", connector.name());
            problems.push(Problem::new(channel.connector_place.clone(), key(), reason).warning());
        }
        problems.extend(exposed(channel, connector));
        let options = channel.options_json();
        match connector.account(&channel.name, &options, config.default_country.as_deref()) {
            Ok(account) => {
                let connector = Arc::clone(connector);
                let (queue, paused) = (channel.queue.clone(), channel.paused);
                channels.insert(channel.name.clone(), ChannelSetup { connector, account, queue, paused });
            }
            Err(reasons) => problems.extend(unfit(channel, connector.option_faults(&options), reasons)),
        }
    }
    channels
}

/// What is wrong with the options of a channel: with each of them, or else with what they need of each other.
fn unfit(channel: &Channel, faults: Vec<OptionFault>, reasons: Vec<String>) -> Vec<Problem> {
    if !faults.is_empty() {
        return faults.into_iter().map(|fault| channel.option_problem(&fault.option, fault.reason)).collect();
    }
    let key = || format!("channel.{}.options", channel.name);
    reasons.into_iter().map(|reason| Problem::new(channel.place.clone(), key(), reason)).collect()
}

/// Warnings about secrets that stand where everybody on the machine can read them.
fn exposed<'c>(channel: &'c Channel, connector: &'c Connector) -> impl Iterator<Item = Problem> + 'c {
    connector.options().iter().filter(|spec| spec.secret).filter_map(|spec| channel.exposed(&spec.name))
}

/// The policy of the project's scripts, or the built-in one where there is no such folder.
fn policy_part(config: &Config) -> Result<PolicyPart, Vec<Problem>> {
    let files = match config.scripts.is_dir() {
        false => built_in_policy(),
        true => PolicyFiles::read(&config.scripts)
            .map_err(|error| vec![Problem::new(Place::file(&config.scripts), "scripts", error.full())])?,
    };
    Ok(PolicyPart::of(config, &files))
}

/// What is wrong with a policy, each at its file in the project.
fn policy_problems(config: &Config, found: Vec<Fault>) -> Vec<Problem> {
    let problem = |fault| match fault {
        Fault::Policy(found) => policy_problem(&config.scripts, found),
        Fault::Connector(found) => connector_problem(&config.connectors, found),
        Fault::Test { name, file, line, reason } => {
            let place = Place { file: config.scripts.join(file), line, column: u32::from(line > 0) };
            Problem::new(place, "policy", format!("test `{name}` fails: {reason}"))
        }
        Fault::Channel { name, reason } => {
            let place = config.channel(&name).map_or_else(|| Place::file(&config.file), |found| found.place.clone());
            Problem::new(place, format!("channel.{name}"), reason)
        }
    };
    found.into_iter().map(problem).collect()
}

/// The policy, compiled and linted; its tests are not run.
///
/// # Errors
///
/// Every mistake found, each with its place.
pub fn bundle(config: &Config) -> Result<Bundle, Vec<Problem>> {
    bundle::compiled(&policy_part(config)?, Trial::Tested).map_err(|found| policy_problems(config, found))
}

/// The hash by which a gateway with this configuration would name what it decides by. Channels that cannot be made count
/// as absent.
pub fn hash_of(config: &Config, policy: &Bundle) -> String {
    let (registry, mut problems) = connectors(&config.connectors, &Registry::default());
    let channels = channels(config, &registry, &mut problems);
    Content::of(config, &channels, PolicyPart::of(config, policy.files())).hash()
}

/// The policy that rules where a project has none.
fn built_in_policy() -> PolicyFiles {
    PolicyFiles::from_memory([("fallback.lua".to_owned(), include_bytes!("fallback.lua").to_vec())])
}

/// The names and values of the configuration that scripts may speak of.
pub fn facts(config: &Config) -> PolicyFacts {
    PolicyPart::of(config, &PolicyFiles::default()).facts()
}

/// The files of a connector's folder in a project, if it has one of this name.
pub fn own_folder(project: &Path, name: &str) -> Option<PathBuf> {
    Some(project.join(name)).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::fs;

    /// A project with one WhatsApp channel; `files` are written over it.
    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let channel = "[[channel]]\nname = \"support\"\nconnector = \"whatsapp\"\n\
            options = { app_secret = \"s\", verify_token = \"t\", access_token = \"a\", phone_number_id = \"1\" }\n";
        for (path, text) in [("segue.toml", channel)].iter().chain(files) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config = config::load(folder.path()).unwrap_or_else(|found| panic!("{found:?}"));
        (folder, config)
    }

    fn wrong(config: &Config) -> Vec<String> {
        let root = format!("{}/", config.root.display());
        let lines = load(config).err().unwrap_or_default();
        lines.iter().filter(|p| p.is_error()).map(|problem| problem.to_string().replace(&root, "")).collect()
    }

    fn loaded(config: &Config) -> Loaded {
        load(config).unwrap_or_else(|found| panic!("{found:?}"))
    }

    #[test]
    fn a_project_without_scripts_has_the_built_in_policy() {
        let (_folder, config) = project(&[]);
        let loaded = loaded(&config);
        assert_eq!(loaded.setup.source, "segue");
        assert_eq!(loaded.setup.default_queue, "general");
        assert_eq!(loaded.setup.hash.len(), 64);
        assert_eq!(loaded.setup.policy.rules().len(), 1);
        assert_eq!(loaded.setup.channels["support"].connector.name(), "whatsapp");
    }

    #[test]
    fn everything_that_decisions_depend_on_changes_the_hash_and_nothing_else_does() {
        let (folder, config) = project(&[("scripts/a.lua", "rule(\"r\", function(e, d) d:tag(\"x\") end)")]);
        let first = loaded(&config).setup.hash;
        assert_eq!(loaded(&config).setup.hash, first);
        let again = |change: fn(&mut Config)| {
            let mut config = config.clone();
            change(&mut config);
            loaded(&config).setup.hash
        };
        assert_eq!(again(|config| config.log = "debug".into()), first);
        assert_eq!(again(|config| config.channels[0].paused = true), first);
        assert_ne!(again(|config| config.channels[0].queue = Some("general".into())), first);
        assert_ne!(again(|config| config.default_country = Some("DE".into())), first);
        assert_ne!(again(|config| drop(config.policy.templates.insert("a".into(), "b".into()))), first);
        assert_ne!(again(|config| config.policy.queues.push("vip".into())), first);
        assert_ne!(again(|config| config.policy.budget.memory /= 2), first);
        assert_eq!(hash_of(&config, &bundle(&config).unwrap_or_else(|found| panic!("{found:?}"))), first);
        // A data file, and a connector's map and manifest.
        fs::create_dir_all(folder.path().join("scripts/data")).unwrap();
        fs::write(folder.path().join("scripts/data/vip.csv"), "id\n1\n").unwrap();
        let with_data = loaded(&config).setup.hash;
        assert_ne!(with_data, first);
        let own = folder.path().join("connectors/whatsapp");
        fs::create_dir_all(&own).unwrap();
        let shipped = Folder::embedded().into_iter().find(|folder| folder.name == "whatsapp").unwrap();
        for (path, content) in shipped.files.iter().filter(|(path, _)| !path.contains('/')) {
            fs::write(own.join(path), content).unwrap();
        }
        assert_eq!(loaded(&config).setup.hash, with_data, "the same connector in a folder of the project's own");
        let manifest = fs::read_to_string(own.join("connector.toml")).unwrap();
        fs::write(own.join("connector.toml"), manifest + "\n# another\n").unwrap();
        assert_ne!(loaded(&config).setup.hash, with_data);
        assert_ne!(again(|config| config.public_url = Some("https://a.example".into())), first);
        fs::write(folder.path().join("scripts/a.lua"), "rule(\"r\", function(e, d) d:tag(\"y\") end)").unwrap();
        assert_ne!(loaded(&config).setup.hash, first);
    }

    #[test]
    fn names_the_line_of_every_mistake() {
        let (_folder, config) = project(&[
            (
                "segue.toml",
                "[[channel]]\nname = \"a\"\nconnector = \"watsapp\"\n[[channel]]\nname = \"b\"\nconnector = \"whatsapp\"\n\
                 options = { verify_token = \"t\", access_token = \"a\", phone_number_idd = \"1\" }\n",
            ),
            ("scripts/a.lua", "rule(\"r\", function(e, d)\n  d:queue(\"genral\")\nend)"),
            ("connectors/mine/connector.toml", "[connector]\nname = \"mine\"\nnonsense = 1\n"),
        ]);
        let wrong = wrong(&config);
        let has = |start: &str, part: &str| {
            assert!(
                wrong.iter().any(|line| line.starts_with(start) && line.contains(part)),
                "{start} {part}: {wrong:#?}"
            );
        };
        has("segue.toml:3:", "did you mean `whatsapp`?");
        has("segue.toml:7:", "did you mean `phone_number_id`?");
        has("segue.toml:4:", "`app_secret` is missing");
        has("scripts/a.lua:2:", "did you mean `general`?");
        has("connectors/mine/connector.toml:3:", "nonsense");
    }

    #[test]
    fn a_policy_that_fails_its_own_tests_is_refused() {
        let (_folder, config) = project(&[
            ("scripts/a.lua", "rule(\"r\", function(e, d) d:tag(\"x\") end)"),
            ("scripts/tests/a.lua", "test(\"never\", function(t)\n  error(\"no\")\nend)"),
        ]);
        let wrong = wrong(&config);
        assert!(wrong.len() == 1 && wrong[0].starts_with("scripts/tests/a.lua:1:"), "{wrong:?}");
        assert!(bundle(&config).is_ok());
    }

    #[test]
    fn a_broken_connector_stays_as_it_was() {
        let (folder, config) = project(&[]);
        let first = loaded(&config);
        let own = folder.path().join("connectors/whatsapp");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("connector.toml"), "[connector\n").unwrap();
        let next = reload(&config, &first.registry).unwrap_or_else(|found| panic!("{found:?}"));
        assert!(next.warnings.iter().any(|warning| warning.reason.contains("stays as it was")));
        assert_eq!(next.setup.hash, first.setup.hash);
        assert_eq!(wrong(&config).len(), 1, "a broken connector is told once");
    }
}
