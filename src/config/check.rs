//! From the text of the files to [`Config`]: the order in which tables are read, and what they need of each other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::blobs::Blobs;
use super::channel::Channel;
use super::helpdesk::{HelpDesk, Retry};
use super::limits::Limits;
use super::listen::{Listen, read_address, read_file, read_folder, read_network, read_public_url};
use super::lmtp::Lmtp;
use super::policy::{Policy, Retention};
use super::problem::{Place, Problem};
use super::reader::{Field, Report, Section};
use super::secret::{self, Host};
use super::source::{Source, told};
use super::{Config, Outbound, Store};

/// The most files of the channels folder that are read.
const MAX_FILES: usize = 10_000;

/// Checks `main` and, if `disk` allows, the folders it names.
pub(super) fn check(main: &Source, host: &dyn Host, disk: bool) -> Result<Config, Vec<Problem>> {
    let report = Report::default();
    let root = main.path.parent().unwrap_or(Path::new("")).to_owned();
    let table = parse(main, &report);
    let on = secret::Place { host, root: &root };
    let mut config = read(main, &report, table.get_ref(), on, disk);
    let problems = report.into_inner();
    if problems.iter().any(Problem::is_error) {
        return Err(in_order(problems, &main.path));
    }
    config.warnings = in_order(problems, &main.path);
    Ok(config)
}

/// Parses one file. What could be understood of a broken one is checked as well.
fn parse<'s>(source: &'s Source, report: &Report) -> Spanned<DeTable<'s>> {
    let (table, faults) = DeTable::parse_recoverable(&source.text);
    for fault in faults {
        let span = fault.span().unwrap_or(0..0);
        // The parser's messages quote at most a key, never a value.
        let reason = fault.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        report.add(Problem::new(source.place(&span), "", reason));
    }
    table
}

fn read(main: &Source, report: &Report, table: &DeTable<'_>, on: secret::Place<'_>, disk: bool) -> Config {
    let top = Section::top(main, report, table);
    let path = |key, default: &str| {
        let written = top.get(key).and_then(|field| field.text());
        on.root.join(written.unwrap_or(default))
    };
    let folder = |key, default: &str| {
        let written = top.get(key).map(|field| read_folder(&field, on.root, disk).unwrap_or_default());
        written.unwrap_or_else(|| on.root.join(default))
    };
    let channels_dir = folder("channels", "channels");
    let policy = Policy::read(top.table("policy"));
    let mut channels = Vec::new();
    Channel::read_all(&top, &on, &policy, &mut channels);
    if disk {
        read_channels(&channels_dir, report, &on, &policy, &mut channels);
    }
    let outbound = Outbound::read(top.table("outbound"), &on);
    let helpdesks = HelpDesk::read_all(&top, &on, &outbound, &channels);
    let store = top.get("store").and_then(|field| read_store(&field, &on));
    let data = path("data", "data");
    let config = Config {
        file: main.path.clone(),
        root: on.root.to_owned(),
        public_url: top.get("public_url").and_then(|field| read_public_url(&field)),
        blobs: Blobs::read(top.table("blobs"), &on, &outbound, &data),
        data,
        store: store.unwrap_or(Store::Sqlite),
        root_key: match on.host.variable("SEGUE_ROOT_KEY_FILE") {
            Some(named) => PathBuf::from(named.expose()),
            None => path("root_key", "secrets/root.key"),
        },
        scripts: folder("scripts", "scripts"),
        connectors: folder("connectors", "connectors"),
        channels_dir,
        default_country: top.get("default_country").and_then(|field| read_country(&field)),
        log: top.get("log").and_then(|field| read_filter(&field)).unwrap_or_else(|| "info".into()),
        listen: Listen::read_all(&top, &on),
        lmtp: Lmtp::read(top.table("lmtp"), &on),
        limits: Limits::read(top.table("limits")),
        channels,
        helpdesks,
        policy,
        retention: Retention::read(top.table("retention")),
        outbound,
        retry: Retry::read(top.table("retry")),
        warnings: Vec::new(),
    };
    top.finish();
    config
}

/// Reads every `*.toml` of the channels folder, by name. They hold `[[channel]]` tables and nothing else.
fn read_channels(folder: &Path, report: &Report, on: &secret::Place<'_>, policy: &Policy, channels: &mut Vec<Channel>) {
    let files = match list(folder) {
        Ok(files) => files,
        Err(reason) => return report.add(Problem::new(Place::file(folder), "channels", reason)),
    };
    for path in files {
        match Source::read(&path) {
            Ok(source) => {
                let table = parse(&source, report);
                let top = Section::top(&source, report, table.get_ref());
                Channel::read_all(&top, on, policy, channels);
                top.finish();
            }
            Err(problem) => report.add(*problem),
        }
    }
}

/// The `*.toml` files of a folder, sorted; none if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be read: {}", told(&error))),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot be read: {}", told(&error)))?.path();
        // Editors leave files such as `.#sms.toml` behind while somebody writes.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(format!("holds more than {MAX_FILES} files"));
        }
    }
    files.sort();
    Ok(files)
}

impl Outbound {
    fn read(section: Section<'_>, on: &secret::Place<'_>) -> Self {
        let outbound = Outbound {
            allow: section.get("allow").map(|field| field.set(read_network)).unwrap_or_default(),
            dns: section.get("dns").map(|field| field.set(read_address)).unwrap_or_default(),
            roots: section.get("roots").map(|field| field.set(|field| read_file(field, on))).unwrap_or_default(),
        };
        section.finish();
        outbound
    }
}

/// `sqlite`, or the URL of a PostgreSQL database, which may hold a password and so is read as a secret.
fn read_store(field: &Field<'_>, on: &secret::Place<'_>) -> Option<Store> {
    let expected = "\"sqlite\" or the URL of a database such as \"postgres://segue@db.example.org/segue\"";
    let (url, origin) = on.resolve(field)?;
    if url.expose() == "sqlite" {
        return Some(Store::Sqlite);
    }
    let Some((_, rest)) =
        url.expose().split_once("://").filter(|(scheme, _)| ["postgres", "postgresql"].contains(scheme))
    else {
        // Not shown: a mistyped URL holds its password, too.
        field.add(field.problem("not a store").expected(expected));
        return None;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    if password && origin == secret::Origin::Literal && field.is_open_to_all() {
        field.add(secret::exposed(field.place(), field.path()));
    }
    Some(Store::Postgres(url))
}

fn read_country(field: &Field<'_>) -> Option<String> {
    field.parse("a country code of ISO 3166-1 such as \"DE\"", |text| {
        let country: phonenumber::country::Id = text.parse().ok()?;
        (text.len() == 2).then(|| country.as_ref().to_owned())
    })
}

fn read_filter(field: &Field<'_>) -> Option<String> {
    field.parse("a log filter such as \"info\" or \"info,segue::flow=debug\"", |text| {
        let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
        (!text.trim().is_empty() && parsed.is_ok()).then(|| text.to_owned())
    })
}

/// Problems by file and place, the main file first, each once.
fn in_order(mut problems: Vec<Problem>, main: &Path) -> Vec<Problem> {
    problems.sort_by(|a, b| {
        let key = |p: &Problem| (p.file != main, p.file.clone(), p.line, p.column);
        key(a).cmp(&key(b))
    });
    problems.dedup();
    // Where the TOML itself is broken, what the parser made of it is no news.
    let broken: HashSet<Place> = problems.iter().filter(|p| p.key.is_empty()).map(Problem::place).collect();
    problems.retain(|problem| problem.key.is_empty() || !broken.contains(&problem.place()));
    problems
}
