//! Tokens over the API: listed, made, revoked.
//!
//! A token's secret is in one answer only, the one to the request that made it; the store never has it.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::act::answer;
use super::call::{Answer, Call, bad, json};
use super::problem::Problem;
use super::token::{Scope, mint, mint_as};
use super::upkeep::Nothing;
use crate::base::hash::key16;
use crate::base::id::TokenId;
use crate::base::{Kind, Timestamp};
use crate::flow::submit::Submitted;
use crate::store::TokenRow;

/// The longest name of a token, in characters.
const MOST_NAME: usize = 100;

/// The tokens.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokens")]
pub(super) struct TokenList {
    /// Oldest first, revoked ones included.
    tokens: Vec<Token>,
}

/// A token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(super) struct Token {
    /// The public half.
    id: String,
    /// What it is for.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// When it was made.
    created_at: Timestamp,
    /// When it was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// The token itself: only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Token {
    fn of(row: TokenRow) -> Self {
        let TokenRow { id, name, scopes, created_at, revoked_at, .. } = row;
        Token { id, name, scopes, created_at, revoked_at, token: None }
    }
}

/// A token to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewToken")]
pub(super) struct NewToken {
    /// What it is for; 1 to 100 characters.
    name: String,
    /// What it may do; at least one.
    scopes: Vec<Scope>,
}

/// `GET /v1/tokens`
pub(super) async fn tokens(call: Call) -> Answer {
    let rows = call.api.context().store.catalog.tokens().await?;
    json(StatusCode::OK, &TokenList { tokens: rows.into_iter().map(Token::of).collect() })
}

/// `POST /v1/tokens`
///
/// With an `Idempotency-Key` the token's id follows from it, so the row itself tells a repeat; the secret is not kept
/// and cannot be shown again.
pub(super) async fn create_token(mut call: Call) -> Answer {
    let NewToken { name, mut scopes } = call.read().await?;
    scopes.sort_unstable();
    scopes.dedup();
    if name.trim().is_empty() || name.chars().count() > MOST_NAME || scopes.is_empty() {
        return Err(bad(format!("a token has a name of 1 to {MOST_NAME} characters and at least one scope")));
    }
    let asker = call.asker()?;
    let context = call.api.context();
    let now = context.clock.now();
    let (text, row) = match &asker.key {
        None => mint(&name, &scopes, now)?,
        Some(key) => {
            let id = TokenId::from_bytes(key16(&[b"token", asker.caller.as_bytes(), key.as_bytes()])).to_string();
            if let Some(made) = find(&call, &id).await? {
                return repeated(made, &name, &scopes);
            }
            mint_as(id, &name, &scopes, now)?
        }
    };
    match context.store.catalog.add_token(row.clone()).await {
        Ok(()) => {}
        // The same request came twice at once, and the other one was first.
        Err(error) if error.kind() == Kind::Conflict => {
            let made = find(&call, &row.id).await?.ok_or(error)?;
            return repeated(made, &name, &scopes);
        }
        Err(error) => return Err(error.into()),
    }
    call.api.tokens.forget();
    json(StatusCode::CREATED, &Token { token: Some(text.expose().to_owned()), ..Token::of(row) })
}

fn repeated(made: TokenRow, name: &str, scopes: &[Scope]) -> Answer {
    if made.name != name || !made.scopes.iter().map(String::as_str).eq(scopes.iter().map(|scope| scope.name())) {
        return answer(Submitted::Mismatch);
    }
    json(StatusCode::CREATED, &Token::of(made))
}

async fn find(call: &Call, id: &str) -> Result<Option<TokenRow>, Problem> {
    let rows = call.api.context().store.catalog.tokens().await?;
    Ok(rows.into_iter().find(|row| row.id == id))
}

/// `POST /v1/tokens/{id}/revoke`
pub(super) async fn revoke_token(mut call: Call) -> Answer {
    let Nothing {} = call.read().await?;
    let id = call.param("id").to_owned();
    call.api.context().store.catalog.revoke_token(id.clone()).await?;
    call.api.tokens.forget();
    // Revoking what is revoked changes nothing and is answered the same.
    let row = find(&call, &id).await?.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such token"))?;
    json(StatusCode::OK, &Token::of(row))
}
