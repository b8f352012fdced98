//! `cargo bench --bench gateway`: how many interactions a second, how fast the acknowledgement, how much memory.
//!
//! Starts the release binary on a project of its own. Load and sink are processes of this same executable, so that their
//! cost shows apart; all of them share the machine. An interaction counts once the sink has verified its event. Two
//! references are measured first, and the target shrinks with them on a machine that is slower than meant.
//!
//! `--postgres` measures on a PostgreSQL server that is started for it. `--compare` measures two ways in turn and divides:
//! `stores` (PostgreSQL by SQLite), `nodes` (two by one, each held to 30 % of a core) or `sealing` (with by without).
//!
//! Further options, after `--`: `--short` for a quick look, `--json` for one JSON object on standard output, `--no-references`,
//! `--gateway PATH` for another binary, `--connections N`, `--aim MS` for the age of the backlog that the load keeps.
//! Exit code 0 unless nothing could be measured: figures are judged by people, by the lines `PASS` and `MISS`.

mod cap;
mod compare;
mod gateway;
mod load;
mod message;
mod process;
mod reference;
mod report;
mod run;
mod server;
mod sink;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compare::{Question, Way};
use report::Report;

/// What goes wrong here is told once and ends the run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What was asked for.
struct Args {
    short: bool,
    json: bool,
    references: bool,
    postgres: bool,
    compare: Option<Question>,
    gateway: PathBuf,
    connections: usize,
    aim_ms: u64,
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("--role") {
        let (role, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        return match role.as_str() {
            "load" => load::run(&argument),
            "sink" => sink::run(&argument),
            "empty" => reference::serve_empty(),
            _ => Err(format!("there is no role `{role}`").into()),
        };
    }
    let args = Args::parse()?;
    if let Some(question) = args.compare {
        let root = root()?;
        let comparison = compare::run(&args, question, root.path())?;
        if args.json {
            println!("{}", serde_json::to_string(&comparison)?);
        } else {
            comparison.print();
        }
        return Ok(());
    }
    let report = measure(&args)?;
    if args.json {
        println!("{}", report.json()?);
    } else {
        report.print();
    }
    Ok(())
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Args {
            short: false,
            json: false,
            references: true,
            postgres: false,
            compare: None,
            gateway: env!("CARGO_BIN_EXE_segue").into(),
            connections: 128,
            aim_ms: 700,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
            match word.as_str() {
                "--short" => args.short = true,
                "--json" => args.json = true,
                "--no-references" => args.references = false,
                "--postgres" => args.postgres = true,
                "--compare" => args.compare = Some(Question::parse(&value()?)?),
                "--gateway" => args.gateway = PathBuf::from(value()?).canonicalize()?,
                "--connections" => args.connections = value()?.parse()?,
                "--aim" => args.aim_ms = value()?.parse()?,
                // Cargo says which kind of run this is.
                "--bench" => {}
                _ => return Err(format!("there is no option `{word}`").into()),
            }
        }
        Ok(args)
    }

    /// The longer time, or the shorter one of a quick run.
    fn seconds(&self, long: u64, short: u64) -> Duration {
        Duration::from_secs(if self.short { short } else { long })
    }
}

/// A folder that goes away, on the disk that the build is on: the usual place for temporary files is memory on many
/// machines.
fn root() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn measure(args: &Args) -> Result<Report> {
    let root = root()?;
    let mut report = Report::default();
    if args.references {
        let rate = run::empty_server(args)?;
        eprintln!("reference: empty hyper server {rate:.0}/s");
        report.empty_per_second = Some(rate);
        let rate = reference::sqlite(root.path(), args.seconds(6, 2))?;
        eprintln!("reference: SQLite, seven writes {rate:.0}/s");
        report.sqlite_per_second = Some(rate);
    }
    run::gateway(args, Way::alone(args.postgres), &root.path().join("project"), &mut report)?;
    Ok(report)
}

/// Milliseconds of the Unix epoch, the same for every process here.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
