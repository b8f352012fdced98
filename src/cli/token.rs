//! `segue token`: bearer tokens of the API. Shown once when made; kept as hashes only.

use clap::{Args, Subcommand};

/// Arguments of `segue token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue token create --name desk --scope read --scope reply\n  segue token list")]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create(TokenCreateArgs),
    /// List the tokens, without their secrets
    List(TokenListArgs),
    /// Make a token invalid
    Revoke(TokenRevokeArgs),
}

/// Arguments of `segue token create`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue token create --name desk --scope read --scope reply")]
pub struct TokenCreateArgs {
    /// Whose token it is, for the list
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub scopes: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue token list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue token list --json")]
pub struct TokenListArgs {
    /// Print one JSON object a token
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `segue token revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  segue token revoke tk_01jn4...")]
pub struct TokenRevokeArgs {
    /// The token's id
    pub id: String,
}
