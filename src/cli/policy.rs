//! `segue policy`: test the Lua policy, run it on one interaction, write stubs for editors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::exit::{Exit, Outcome};
use super::report::{self, Paint, Style};
use super::{Global, indent, input};
use crate::app::setup;
use crate::base::id::{ConversationId, CustomerId, EntryId, InteractionId};
use crate::base::{Clock, Error, Pii, Result, Timestamp};
use crate::config::Config;
use crate::model::{self, Conversation, ConversationState, Customer, CustomerIdentifier, Decision, Interaction, Trust};
use crate::rules::destination;
use crate::script::{Bundle, PolicyInput, Verdict, stubs};

/// Arguments of `segue policy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue policy test\n  segue policy run interaction.json")]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// Commands about the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Run the tests of the policy
    Test(PolicyTestArgs),
    /// Decide about one interaction and say why
    Run(PolicyRunArgs),
    /// Print definitions for editors (LuaLS), with this project's queue, skill and template names
    Stubs(PolicyStubsArgs),
}

/// Arguments of `segue policy test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue policy test\n  segue policy test --filter vip --json\n  \
segue policy test ./scripts\n\nExit code 65 if a test fails.")]
pub struct PolicyTestArgs {
    /// The folder of the policy, instead of the project's
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Only tests whose name holds this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print one JSON object a test
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue policy run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue policy run interaction.json\n  \
segue normalize --connector my-channel body.json | segue policy run -")]
pub struct PolicyRunArgs {
    /// JSON interactions, or lines as `segue normalize` prints them; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The folder of the policy, instead of the project's
    #[arg(long = "scripts", alias = "script", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON decision a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue policy stubs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue policy stubs --out segue.d.lua")]
pub struct PolicyStubsArgs {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// If there is no project and no folder, an input is not what its format demands, or the output cannot be written. A
/// failed test is no error but [`Exit::Data`], a broken policy is [`Exit::Config`].
pub fn run(global: &Global, args: &PolicyArgs) -> Outcome {
    match &args.command {
        PolicyCommand::Test(args) => test(global, args),
        PolicyCommand::Run(args) => decide(global, args),
        PolicyCommand::Stubs(args) => write_stubs(global, args),
    }
}

/// The settings that a policy depends on: the project's, or the defaults where a folder is named and there is no project.
fn settings(global: &Global, dir: Option<&Path>) -> Result<Config> {
    let mut config = match dir {
        Some(_) if !global.exists() => {
            let file = PathBuf::from(crate::config::FILE_NAME);
            let mut config = crate::config::parse(&file, b"", &crate::config::Machine)
                .map_err(|_| Error::internal("the default configuration does not load"))?;
            // No project says which queues there are: a policy by itself may name any.
            config.policy.queues.clear();
            config
        }
        _ => global.load()?,
    };
    if let Some(dir) = dir {
        if !dir.is_dir() {
            return Err(Error::not_found(format!("there is no folder `{}`", dir.display())));
        }
        config.scripts = dir.to_owned();
    }
    Ok(config)
}

/// The policy, compiled; nothing where it is broken, which is told.
fn bundle(config: &Config) -> Option<Bundle> {
    setup::bundle(config).map_err(|problems| report::problems(&problems)).ok()
}

fn test(global: &Global, args: &PolicyTestArgs) -> Outcome {
    let config = settings(global, args.dir.as_deref())?;
    let Some(bundle) = bundle(&config) else { return Ok(Exit::Config) };
    let report = bundle.run_tests(args.filter.as_deref());
    let paint = Paint::stdout();
    for test in &report.results {
        let place = format!("{}:{}", config.scripts.join(&test.file).display(), test.line);
        if args.json {
            let passed = test.failure.is_none();
            report::json(&json!({
                "test": test.name, "file": test.file, "line": test.line, "passed": passed, "failure": test.failure,
            }))?;
            continue;
        }
        match &test.failure {
            None => report::line(&format!("{} {}", paint.paint(Style::Good, "ok    "), test.name))?,
            Some(failure) => {
                let mark = paint.paint(Style::Bad, "failed");
                let place = paint.paint(Style::Faint, &place);
                report::line(&format!("{mark} {} {place}\n{}", test.name, indent(failure, 7)))?;
            }
        }
    }
    let failed = report.results.iter().filter(|test| test.failure.is_some()).count();
    if !args.json {
        let passed = report.results.len() - failed;
        report::line(&format!("{passed} passed, {failed} failed; {} rules", bundle.rules().len()))?;
        if args.filter.is_none() && !report.uncovered.is_empty() {
            report::note(&format!("rules that no test reaches: {}", report.uncovered.join(", ")));
        }
    }
    if report.results.is_empty() {
        report::note("no test was run: there is none, or none has this name");
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Data })
}

fn write_stubs(global: &Global, args: &PolicyStubsArgs) -> Outcome {
    let text = stubs(&setup::facts(&global.load()?));
    match &args.out {
        None => report::line(text.trim_end())?,
        Some(path) => {
            std::fs::write(path, text)
                .map_err(|error| Error::io(format!("failed to write `{}`", path.display()), error))?;
            report::line(&format!("{} {}", Paint::stdout().paint(Style::Good, "wrote"), path.display()))?;
        }
    }
    Ok(Exit::Ok)
}

fn decide(global: &Global, args: &PolicyRunArgs) -> Outcome {
    let config = settings(global, args.dir.as_deref())?;
    let Some(bundle) = bundle(&config) else { return Ok(Exit::Config) };
    let hash = setup::hash_of(&config, &bundle);
    let mut exit = Exit::Ok;
    let mut decided = 0;
    for file in &args.files {
        for interaction in interactions(file, &input::read(file)?)? {
            let decision = ask(&config, &bundle, &hash, interaction);
            if decision.breach.is_some() {
                exit = Exit::Data;
            }
            match args.json {
                true => report::json(&decision)?,
                false if decided > 0 => report::line(&format!("\n{}", shown(&decision)))?,
                false => report::line(&shown(&decision))?,
            }
            decided += 1;
        }
    }
    if decided == 0 {
        report::note("there was no interaction to decide about");
    }
    Ok(exit)
}

/// The interactions in a file: JSON values one after another, each an interaction, an event, or a line of
/// `segue normalize`, of which receipts and the like are passed over.
fn interactions(file: &Path, bytes: &[u8]) -> Result<Vec<Interaction>> {
    let wrong = |error: serde_json::Error| {
        Error::invalid(format!("`{}` holds something that is no interaction", file.display())).because(error)
    };
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
        let value = value.map_err(wrong)?;
        if value.get("outcome").is_some() {
            match serde_json::from_value(value).map_err(wrong)? {
                model::Outcome::Interaction(normalized) => found.push(normalized.interaction),
                model::Outcome::Receipt { .. } => report::note("passed over: a receipt"),
                model::Outcome::Ignored { reason } => report::note(&format!("passed over: ignored: {reason}")),
                model::Outcome::Quarantined { reason } => report::note(&format!("passed over: quarantined: {reason}")),
            }
            continue;
        }
        let inner = value.pointer("/data/interaction").or_else(|| value.get("interaction")).cloned();
        found.push(serde_json::from_value(inner.unwrap_or(value)).map_err(wrong)?);
    }
    Ok(found)
}

/// Decides as the gateway would for somebody who writes for the first time.
fn ask(config: &Config, bundle: &Bundle, hash: &str, mut interaction: Interaction) -> Decision {
    let now = interaction.received_at.or(interaction.sent_at).unwrap_or_else(|| Clock::system().now());
    let entry = EntryId::random(now);
    interaction.id.get_or_insert_with(|| InteractionId::derive(entry, now, "interaction", 0));
    let customer = customer(&interaction, entry, now);
    let conversation = Conversation {
        id: *interaction.conversation_id.get_or_insert_with(|| ConversationId::derive(entry, now, "conversation", 0)),
        customer_id: customer.id,
        state: ConversationState::Open,
        seq: 1,
        opened_at: now,
        updated_at: now,
        queue: None,
        owner: None,
        links: Vec::new(),
    };
    let channel = interaction.channel.name.as_deref().and_then(|name| config.channel(name));
    let channel_queue = channel.and_then(|channel| channel.queue.clone());
    let input = PolicyInput {
        now,
        kind: "interaction.received",
        interaction: Arc::new(interaction),
        conversation: Some(Arc::new(conversation)),
        customer: Some(Arc::new(customer)),
    };
    let default_queue = &config.policy.default_queue;
    match bundle.decide(&input) {
        Verdict::Decided(opinion) => destination::guarantee(*opinion, channel_queue.as_deref(), default_queue, hash),
        Verdict::Breach(breach) => destination::fallback(default_queue, hash, breach.message()),
    }
}

/// Who would be known after the first interaction.
fn customer(interaction: &Interaction, entry: EntryId, now: Timestamp) -> Customer {
    let author = &interaction.author;
    let identifiers = author.identifier.iter().chain(&author.also).map(|identifier| CustomerIdentifier {
        kind: identifier.kind.clone(),
        value: identifier.value.clone(),
        trust: identifier.trust.unwrap_or(Trust::Anonymous),
        first_seen: now,
    });
    Customer {
        id: CustomerId::derive(entry, now, "customer", 0),
        names: author.display_name.iter().cloned().collect(),
        identifiers: identifiers.collect(),
        open_issues: Vec::new(),
        recent: Vec::new(),
        created_at: now,
    }
}

/// A decision for people: what, and why.
fn shown(decision: &Decision) -> String {
    let paint = Paint::stdout();
    let mut rows = vec![
        ("queue", paint.paint(Style::Strong, &decision.queue)),
        ("priority", decision.priority.to_string()),
        ("tags", decision.tags.join(", ")),
    ];
    let needs: Vec<String> = decision.needs.iter().map(|(skill, level)| format!("{skill} {level}")).collect();
    rows.push(("needs", needs.join(", ")));
    rows.extend(decision.replies.iter().map(|reply| ("reply", reply.template.clone())));
    rows.push(("notify", decision.notify.join(", ")));
    rows.extend(decision.answer.iter().map(|answer| ("answer", answer.name.clone())));
    rows.extend(decision.because.iter().map(Pii::expose).map(|why| ("because", why.clone())));
    rows.extend(decision.rules.iter().map(|rule| ("rule", rule.clone())));
    rows.extend(decision.breach.iter().map(|breach| ("breach", paint.paint(Style::Bad, breach))));
    rows.push(("bundle", paint.paint(Style::Faint, &decision.bundle)));
    let rows = rows.into_iter().filter(|(_, text)| !text.is_empty());
    rows.map(|(name, text)| format!("{name:<9} {text}")).collect::<Vec<_>>().join("\n")
}
