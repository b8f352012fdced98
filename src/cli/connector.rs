//! `segue connector`: look at connectors and run their samples.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::exit::{Exit, Outcome};
use super::report::{self, Paint, Style};
use super::{Global, indent};
use crate::app::setup;
use crate::base::{Error, Result};
use crate::connector::sample::{self, SampleReport};
use crate::connector::{Connector, Folder, Registry};

/// Arguments of `segue connector`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue connector list\n  segue connector test connectors/my-channel")]
pub struct ConnectorArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConnectorCommand,
}

/// Commands about connectors.
#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Run the samples of connectors
    Test(ConnectorTestArgs),
    /// List the connectors, built in and of this project
    List(ConnectorListArgs),
    /// Show one connector: what it can do, its options with help
    Show(ConnectorShowArgs),
}

/// Arguments of `segue connector test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue connector test\n  segue connector test telegram\n  \
segue connector test ./connectors/mine --filter forged\n  segue connector test ./connectors/mine --write\n\n\
Exit code 65 if a sample fails.")]
pub struct ConnectorTestArgs {
    /// Folders or names of connectors; all of them if none is given
    #[arg(value_name = "DIR|NAME")]
    pub targets: Vec<PathBuf>,
    /// Only samples whose name holds this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Write the expectations that are missing or differ into the folders; read the difference before you keep it
    #[arg(long)]
    pub write: bool,
    /// Print one JSON object a sample
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue connector list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue connector list --json")]
pub struct ConnectorListArgs {
    /// Print one JSON object a connector
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue connector show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue connector show whatsapp")]
pub struct ConnectorShowArgs {
    /// The connector's name
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If a folder cannot be read or the output cannot be written. A failed sample is no error but [`Exit::Data`], a broken
/// connector is [`Exit::Config`].
pub fn run(global: &Global, args: &ConnectorArgs) -> Outcome {
    match &args.command {
        ConnectorCommand::List(args) => list(global, args),
        ConnectorCommand::Show(args) => show(global, args),
        ConnectorCommand::Test(args) => test(global, args),
    }
}

fn list(global: &Global, args: &ConnectorListArgs) -> Outcome {
    let project = global.connectors_dir();
    let (registry, problems) = setup::connectors(&project, &Registry::default());
    for connector in registry.iter() {
        if args.json {
            report::json(&summary(connector, &project))?;
            continue;
        }
        let paint = Paint::stdout();
        let name = paint.paint(Style::Strong, &format!("{:<14}", connector.name()));
        let origin = paint.paint(Style::Faint, &format!("{:<8}", origin(connector, &project)));
        let (version, channel) = (connector.version(), kind(connector));
        report::line(&format!("{name} {version:<8} {channel:<8} {origin} {}", connector.summary()))?;
    }
    report::problems(&problems);
    Ok(if problems.is_empty() { Exit::Ok } else { Exit::Config })
}

fn show(global: &Global, args: &ConnectorShowArgs) -> Outcome {
    let project = global.connectors_dir();
    let (registry, problems) = setup::connectors(&project, &Registry::default());
    let Some(connector) = registry.get(&args.name) else {
        return Ok(global.no_connector(&args.name, &registry, &problems));
    };
    let mut whole = summary(connector, &project);
    if let Value::Object(members) = &mut whole {
        members.extend(details(connector));
    }
    if args.json {
        report::json(&whole)?;
        return Ok(Exit::Ok);
    }
    print(connector, origin(connector, &project))?;
    Ok(Exit::Ok)
}

/// Where a connector comes from.
fn origin(connector: &Connector, project: &Path) -> &'static str {
    if setup::own_folder(project, connector.name()).is_some() { "project" } else { "built in" }
}

/// The kind of channel as it is written everywhere.
fn kind(connector: &Connector) -> String {
    word(&connector.channel())
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn summary(connector: &Connector, project: &Path) -> Value {
    json!({
        "name": connector.name(),
        "version": connector.version(),
        "channel": kind(connector),
        "summary": connector.summary(),
        "from": origin(connector, project),
    })
}

fn details(connector: &Connector) -> serde_json::Map<String, Value> {
    let options = connector.options().iter().map(|option| {
        json!({
            "name": option.name, "help": option.help, "required": option.required, "secret": option.secret,
            "default": option.default,
        })
    });
    let answers = connector.answers().map(|answers| {
        let named = answers.names().map(|(name, help)| json!({ "name": name, "help": help }));
        json!({ "deadline_ms": answers.deadline_ms(), "named": named.collect::<Vec<_>>() })
    });
    let details = json!({
        "docs": connector.docs(),
        "options": options.collect::<Vec<_>>(),
        "verification": connector.verification(),
        "ack": connector.ack(),
        "answers": answers,
        "capabilities": connector.capabilities(),
        "samples": samples(connector.folder()),
    });
    match details {
        Value::Object(details) => details,
        _ => serde_json::Map::new(),
    }
}

/// How many samples a folder holds: requests, messages to send and responses.
fn samples(folder: &Folder) -> usize {
    let counts = |path: &str| {
        let request = path.ends_with(".http") && !path.ends_with(".expect.http");
        path.starts_with("samples/") && (request || path.ends_with(".send.json") || path.ends_with(".response.toml"))
    };
    folder.files.keys().filter(|path| counts(path)).count()
}

/// Prints a connector for people.
fn print(connector: &Connector, origin: &str) -> Result<()> {
    let paint = Paint::stdout();
    let head = |text: &str| report::line(&format!("\n{}", paint.paint(Style::Strong, text)));
    let row = |name: &str, text: &str| report::line(&format!("  {name:<16} {text}"));
    let title = paint.paint(Style::Strong, connector.name());
    report::line(&format!("{title} {} ({}, {origin})", connector.version(), kind(connector)))?;
    report::line(connector.summary())?;
    report::line(connector.docs())?;
    head("Options of an account")?;
    for option in connector.options() {
        let mut marks = vec![if option.required { "required" } else { "optional" }.to_owned()];
        marks.extend(option.secret.then(|| "secret".to_owned()));
        marks.extend(option.default.as_ref().map(|default| format!("default {default}")));
        row(
            &option.name,
            &format!("{} {}", paint.paint(Style::Faint, &format!("[{}]", marks.join(", "))), option.help),
        )?;
    }
    head("Requests")?;
    row("verified by", &connector.verification().join(", or "))?;
    let ack = connector.ack();
    row(
        "acknowledged",
        &format!("with {} within {} ms; under overload with {}", ack.status, ack.budget_ms, ack.overload_status),
    )?;
    let retries = match ack.retry_window_ms {
        0 => "the provider does not try again".to_owned(),
        window => format!("the provider tries again for {}", span(window)),
    };
    row("unacknowledged", &retries)?;
    row(
        "after an outage",
        &format!("the operator can reconcile by: {}; order: {}", word(&ack.reconcile), word(&ack.order)),
    )?;
    if let Some(answers) = connector.answers() {
        head(&format!("Answers that a rule may give, within {} ms", answers.deadline_ms()))?;
        for (name, help) in answers.names() {
            row(name, help)?;
        }
    }
    head("What the channel can carry")?;
    let can = serde_json::to_value(connector.capabilities())
        .map_err(|error| Error::internal("failed to show capabilities").because(error))?;
    for (name, value) in can.as_object().into_iter().flatten() {
        let shown = match value {
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Object(media) => media.keys().cloned().collect::<Vec<_>>().join(", "),
            other if name == "window_ms" => other.as_i64().map(span).unwrap_or_default(),
            other => other.to_string(),
        };
        row(name.trim_end_matches("_ms"), &shown)?;
    }
    report::line(&format!(
        "\n{} samples; `segue connector test {}` runs them",
        samples(connector.folder()),
        connector.name()
    ))
}

/// A length of time for people, from milliseconds.
fn span(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A folder whose samples are to be run.
struct Target {
    folder: Arc<Folder>,
    /// Where it lies, unless it is built in.
    path: Option<PathBuf>,
}

fn test(global: &Global, args: &ConnectorTestArgs) -> Outcome {
    let project = global.connectors_dir();
    let targets = match args.targets.as_slice() {
        [] => all(&project)?,
        some => some.iter().map(|target| find(target, &project)).collect::<Result<Vec<_>>>()?,
    };
    let bar = ProgressBar::with_draw_target(Some(targets.len() as u64), target_of(args.json));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut sum = Sum::default();
    for target in &targets {
        bar.set_message(target.folder.name.clone());
        let mut report = sample::run(&target.folder, Some(&setup::build_map), args.write);
        bar.inc(1);
        if let Some(filter) = &args.filter {
            report.results.retain(|result| result.name.contains(filter.as_str()));
        }
        bar.suspend(|| sum.tell(target, &report, args))?;
    }
    bar.finish_and_clear();
    if !args.json {
        let (good, bad) = (format!("{} passed", sum.passed), format!("{} failed", sum.failed));
        let bad = if sum.failed == 0 { bad } else { Paint::stdout().paint(Style::Bad, &bad) };
        report::line(&format!("{} connectors: {good}, {bad}", targets.len()))?;
    }
    match (sum.broken, sum.failed, sum.passed) {
        (0, 0, 0) => {
            report::note("no sample was run: there is none, or none has this name");
            Ok(Exit::Data)
        }
        (0, 0, _) => Ok(Exit::Ok),
        (0, _, _) => Ok(Exit::Data),
        _ => Ok(Exit::Config),
    }
}

/// Progress is for people who look on.
fn target_of(json: bool) -> ProgressDrawTarget {
    match !json && std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

/// Every folder: the project's, and the built-in ones that it does not replace.
fn all(project: &Path) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for folder in Folder::embedded() {
        if setup::own_folder(project, &folder.name).is_none() {
            targets.push(Target { folder: Arc::new(folder), path: None });
        }
    }
    let entries = match std::fs::read_dir(project) {
        Ok(entries) => entries,
        // A project without connectors of its own has no such folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(targets),
        Err(error) => return Err(Error::io(format!("failed to read `{}`", project.display()), error)),
    };
    for entry in entries.flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.path().is_dir() && !hidden {
            targets.push(read(&entry.path())?);
        }
    }
    targets.sort_by(|a, b| a.folder.name.cmp(&b.folder.name));
    Ok(targets)
}

/// The folder at a path, else the connector of this name.
fn find(target: &Path, project: &Path) -> Result<Target> {
    if target.join("connector.toml").is_file() {
        // `.` and the like have no name of their own.
        let path = target.canonicalize();
        return read(&path.map_err(|error| Error::io(format!("cannot read `{}`", target.display()), error))?);
    }
    let name = target.to_string_lossy();
    if let Some(own) = setup::own_folder(project, &name).filter(|_| !name.contains(['/', '\\', '.'])) {
        return read(&own);
    }
    let shipped = Folder::embedded();
    let near = crate::config::nearest(&name, shipped.iter().map(|folder| folder.name.as_str())).map(str::to_owned);
    match shipped.into_iter().find(|folder| folder.name == name) {
        Some(folder) => Ok(Target { folder: Arc::new(folder), path: None }),
        None => {
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(Error::not_found(format!("`{name}` is neither a folder with a `connector.toml` nor a connector{hint}")))
        }
    }
}

fn read(path: &Path) -> Result<Target> {
    let folder = Folder::read(path).map_err(|found| Error::not_found(found.to_string()))?;
    Ok(Target { folder: Arc::new(folder), path: Some(path.to_owned()) })
}

/// What became of all samples.
#[derive(Default)]
struct Sum {
    passed: usize,
    failed: usize,
    broken: usize,
}

impl Sum {
    /// Prints what became of one folder's samples, and writes what is to be written.
    fn tell(&mut self, target: &Target, report: &SampleReport, args: &ConnectorTestArgs) -> Result<()> {
        let name = &target.folder.name;
        let failed = report.results.iter().filter(|result| result.failure.is_some()).count();
        let passed = report.results.len() - failed;
        self.passed += passed;
        self.failed += failed;
        self.broken += usize::from(!report.diagnostics.is_empty());
        if args.json {
            for found in &report.diagnostics {
                report::json(&json!({ "connector": name, "passed": false, "problem": found.to_string() }))?;
            }
            for result in &report.results {
                let (sample, failure) = (&result.name, &result.failure);
                report::json(&json!({
                    "connector": name, "sample": sample, "shows": result.shows, "passed": failure.is_none(),
                    "failure": failure,
                }))?;
            }
        } else {
            table(name, passed, failed, report)?;
        }
        let Some(path) = &target.path else { return Ok(()) };
        for (file, content) in &report.proposed {
            let wanted = args.filter.as_ref().is_none_or(|filter| file.contains(filter.as_str()));
            if wanted {
                let file = path.join(file);
                std::fs::write(&file, content)
                    .map_err(|error| Error::io(format!("failed to write `{}`", file.display()), error))?;
                report::note(&format!("wrote {}", file.display()));
            }
        }
        Ok(())
    }
}

/// One folder's line, and below it what is wrong.
fn table(name: &str, passed: usize, failed: usize, report: &SampleReport) -> Result<()> {
    let paint = Paint::stdout();
    let good = report.diagnostics.is_empty() && failed == 0 && passed > 0;
    let mark = if good { paint.paint(Style::Good, "ok    ") } else { paint.paint(Style::Bad, "failed") };
    report::line(&format!("{mark} {name:<16} {passed:>3} passed {failed:>3} failed"))?;
    for found in &report.diagnostics {
        report::line(&format!("  {found}"))?;
    }
    for result in &report.results {
        if let Some(failure) = &result.failure {
            let sample = paint.paint(Style::Strong, &result.name);
            report::line(&format!("  {sample} ({}):\n{}", result.shows, indent(failure, 4)))?;
        }
    }
    Ok(())
}
