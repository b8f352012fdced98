//! `segue schema`: the JSON Schemas of what Segue promises the world, made from the Rust types.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use schemars::{Schema, schema_for};
use serde_json::json;

use super::exit::{Exit, Outcome};
use super::report;
use crate::base::{Error, Result};
use crate::model::{Customer, Decision, Event, EventData, Interaction, Outcome as Line};

/// Arguments of `segue schema`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue schema\n  segue schema interaction\n  segue schema --dir docs/schemas")]
pub struct SchemaArgs {
    /// Which schema to print; without it and without --dir, their names are listed
    #[arg(value_parser = PossibleValuesParser::new(FORMATS.map(|format| format.name)))]
    pub name: Option<String>,
    /// Write NAME.schema.json files into this folder, all of them or the one named
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// List the names as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// A format with a schema.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    make: fn() -> Schema,
}

/// All formats with a schema.
pub const FORMATS: [Format; 6] = [
    Format {
        name: "interaction",
        about: "one thing that one party did on one channel at one time (interaction.v1)",
        make: || schema_for!(Interaction),
    },
    Format { name: "customer", about: "one customer, as far as known (customer.v1)", make: || schema_for!(Customer) },
    Format { name: "event", about: "what help desks are sent: CloudEvents 1.0 JSON", make: || schema_for!(Event) },
    Format { name: "event-data", about: "the `data` of an event", make: || schema_for!(EventData) },
    Format { name: "decision", about: "what the policy decided about an interaction", make: || schema_for!(Decision) },
    Format { name: "outcome", about: "a line that `segue normalize` prints", make: || schema_for!(Line) },
];

impl Format {
    /// The schema (JSON Schema 2020-12) as indented JSON with a line end.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`](crate::base::Kind) if it cannot be written as JSON.
    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(&(self.make)());
        text.map(|text| text + "\n").map_err(|error| Error::internal("failed to write a JSON Schema").because(error))
    }
}

/// Prints one schema, lists them, or writes them to files.
///
/// # Errors
///
/// If there is no schema of that name, or the output cannot be written.
pub fn run(args: &SchemaArgs) -> Outcome {
    let chosen = args.name.as_deref().map(find).transpose()?;
    match (&args.dir, chosen) {
        (Some(dir), chosen) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Error::io(format!("failed to make folder `{}`", dir.display()), error))?;
            for format in FORMATS.iter().filter(|format| chosen.is_none_or(|chosen| chosen.name == format.name)) {
                let path = dir.join(format!("{}.schema.json", format.name));
                std::fs::write(&path, format.text()?)
                    .map_err(|error| Error::io(format!("failed to write `{}`", path.display()), error))?;
                report::line(&path.display().to_string())?;
            }
        }
        (None, Some(format)) => report::line(format.text()?.trim_end())?,
        (None, None) if args.json => {
            for format in FORMATS {
                report::json(&json!({ "name": format.name, "about": format.about }))?;
            }
        }
        (None, None) => {
            for format in FORMATS {
                report::line(&format!("{:<12} {}", format.name, format.about))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn find(name: &str) -> Result<Format> {
    let found = FORMATS.into_iter().find(|format| format.name == name);
    found.ok_or_else(|| Error::invalid(format!("no schema is named `{name}`")))
}
