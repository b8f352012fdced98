//! `segue token`: bearer tokens of the API. Shown once when made; kept as hashes only.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::exit::{Exit, Outcome};
use super::gateway::{Gateway, Reach, block_on, text};
use super::report::{self, Paint, Style};
use crate::api::token::{Scope, mint};
use crate::base::id::TokenId;
use crate::base::{Clock, Error, Secret};

/// Arguments of `segue token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue token create --name desk --scope read --scope write\n  segue token list")]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
    /// How a running gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// What a token may be for: reading, changing, the feed of events, everything.
const SCOPES: [&str; 4] = ["read", "write", "feed", "admin"];

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
#[command(after_help = "Example:\n  segue token create --name desk --scope read --scope write")]
pub struct TokenCreateArgs {
    /// Whose token it is, for the list
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true,
        value_parser = PossibleValuesParser::new(SCOPES))]
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

/// Runs the command.
///
/// # Errors
///
/// If there is no way to the data, no token has the id, or the output cannot be written.
pub fn run(global: &Global, args: &TokenArgs) -> Outcome {
    block_on(async {
        // The first token is made before the first start.
        let create = matches!(args.command, TokenCommand::Create(_));
        let gateway = Gateway::find(global, &args.reach, create)?;
        match &args.command {
            TokenCommand::Create(args) => make(&gateway, args).await,
            TokenCommand::List(args) => list(&gateway, args).await,
            TokenCommand::Revoke(args) => revoke(&gateway, args).await,
        }
    })
}

/// The scopes of these names; the command line lets no others through.
fn known(names: &[String]) -> Vec<Scope> {
    names.iter().filter_map(|name| Scope::parse(name)).collect()
}

async fn make(gateway: &Gateway, args: &TokenCreateArgs) -> Outcome {
    let mut scopes = args.scopes.clone();
    scopes.sort();
    scopes.dedup();
    let (id, token) = match gateway {
        Gateway::Store(opened) => {
            let (token, row) = mint(&args.name, &known(&scopes), Clock::system().now())?;
            let id = row.id.clone();
            opened.store.catalog.add_token(row).await?;
            (id, token)
        }
        Gateway::Api(api) => {
            let made = api.post("/v1/tokens", &json!({ "name": args.name, "scopes": scopes })).await?;
            let token = Secret::new(text(&made, &["token"]));
            if token.is_empty() {
                return Err(Error::invalid("the gateway's answer holds no token"));
            }
            (text(&made, &["id"]), token)
        }
    };
    if args.json {
        report::json(&json!({ "id": id, "name": args.name, "scopes": scopes, "token": token.expose() }))?;
        return Ok(Exit::Ok);
    }
    report::line(token.expose())?;
    report::note(&format!("token {id} for {} ({}); it is shown this once", args.name, scopes.join(", ")));
    Ok(Exit::Ok)
}

async fn list(gateway: &Gateway, args: &TokenListArgs) -> Outcome {
    let rows = gateway.tokens().await?;
    for row in &rows {
        if args.json {
            report::json(row)?;
            continue;
        }
        let paint = Paint::stdout();
        let revoked = match row.get("revoked_at") {
            None | Some(Value::Null) => String::new(),
            Some(_) => paint.paint(Style::Bad, &format!(" revoked {}", text(row, &["revoked_at"]))),
        };
        let (id, created) = (paint.paint(Style::Strong, &text(row, &["id"])), text(row, &["created_at"]));
        report::line(&format!("{id} {created} {} ({}){revoked}", text(row, &["name"]), text(row, &["scopes"])))?;
    }
    if rows.is_empty() && !args.json {
        report::note("there are no tokens; `segue token create` makes one");
    }
    Ok(Exit::Ok)
}

async fn revoke(gateway: &Gateway, args: &TokenRevokeArgs) -> Outcome {
    let id: TokenId = args.id.parse()?;
    if !gateway.revoke_token(&id.to_string()).await? {
        return Err(Error::not_found(format!("no token {id} that still holds; `segue token list` shows them")));
    }
    report::line(&format!("{} {id}", Paint::stdout().paint(Style::Good, "revoked")))?;
    Ok(Exit::Ok)
}
