//! `segue dump`: the state as it is meant, in a form in which two stores can be compared.

use std::io::{BufWriter, Write};

use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::block_on;
use super::moving::{place, sealing};
use super::progress::Bar;
use super::report;
use crate::base::Error;
use crate::store::archive::{Dumped, Opener, dump};

/// Arguments of `segue dump`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue dump --canonical | sha256sum\n  segue dump --digest\n\n\
Shows what people wrote. Works beside a running gateway.")]
pub struct DumpArgs {
    /// Print one canonical JSON object (RFC 8785) a record, sorted by their ids and keys; this is the only form there is
    #[arg(long)]
    pub canonical: bool,
    /// Print the SHA-256 of that and how many records there are of each kind, nothing else
    #[arg(long)]
    pub digest: bool,
    /// Leave the journal's entries out
    #[arg(long)]
    pub no_entries: bool,
    /// This store instead of the configured one: a data folder, a postgres:// URL, or file:PATH of a file that holds one
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// With --digest, print one JSON object
    #[arg(long, requires = "digest")]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If the store cannot be read, or the output not be written.
pub fn run(global: &Global, args: &DumpArgs) -> Outcome {
    let place = place(global, args.from.as_deref())?;
    let mut bar = Bar::new("dumping");
    let outcome = block_on(async {
        let view = place.view().await?;
        let mut out: Box<dyn Write + Send> = match args.digest {
            true => Box::new(std::io::sink()),
            false => Box::new(BufWriter::with_capacity(1 << 16, std::io::stdout())),
        };
        let seal = Opener::at(&place, &sealing(global)).await?;
        dump(&*view, &seal, !args.no_entries, &mut *out, &mut bar).await
    });
    bar.end();
    match outcome {
        Ok(dumped) if args.digest => tell(&dumped, args.json),
        Ok(_) => Ok(Exit::Ok),
        // A reader that went away (`segue dump | head`) is no error.
        Err(error) if went_away(&error) => Ok(Exit::Ok),
        Err(error) => Err(error),
    }
}

fn tell(dumped: &Dumped, as_json: bool) -> Outcome {
    let sha256 = HEXLOWER.encode(&dumped.sha256);
    if as_json {
        report::json(&json!({ "sha256": sha256, "records": dumped.records }))?;
        return Ok(Exit::Ok);
    }
    report::line(&format!("sha256 {sha256}"))?;
    for (kind, count) in &dumped.records {
        report::line(&format!("{kind:<14} {count}"))?;
    }
    Ok(Exit::Ok)
}

fn went_away(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
