//! `segue policy`: test the Lua policy, run it on one interaction, write stubs for editors.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
#[command(after_help = "Examples:\n  segue policy test\n  segue policy test --filter vip --json")]
pub struct PolicyTestArgs {
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
segue normalize --connector slack body.json | segue policy run -")]
pub struct PolicyRunArgs {
    /// A JSON interaction, or lines as `segue normalize` prints them; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON decision a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue policy stubs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue policy stubs --out scripts/segue.d.lua")]
pub struct PolicyStubsArgs {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
