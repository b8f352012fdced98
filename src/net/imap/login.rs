//! Logging in, over TLS only: the functions here take a [`Wire`], which `secure` makes of private streams alone.
//!
//! The invariant: what is said of a failed login repeats no part of the secret.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::error::{Fault, ImapError};
use super::name::quoted;
use super::refusal;
use super::wire::{Answer, Code, Outcome, Verdict, Wire};
use crate::net::login::Login;

/// Refusals of credentials that are answered before the server gives up.
const CHALLENGES: usize = 4;

/// Logs in; gives what the server can do then, in capitals.
pub(super) async fn log_in(wire: &mut Wire, login: &Login) -> Result<Vec<String>, ImapError> {
    let entered = enter(wire, login).await;
    entered.map_err(|error| {
        let secret = login.secret();
        let in_quotes = quoted(secret).map(Zeroizing::new).unwrap_or_default();
        let encoded = Zeroizing::new(BASE64.encode(in_mechanism(login).as_bytes()));
        // Compared with words of the server of which only these characters are left.
        let shown: Zeroizing<String> = Zeroizing::new(secret.chars().filter(|c| matches!(c, ' '..='~')).collect());
        error.hiding(&[shown.as_str(), in_quotes.trim_matches('"'), encoded.as_str()])
    })
}

/// What PLAIN or XOAUTH2 says, before it is encoded.
fn in_mechanism(login: &Login) -> Zeroizing<String> {
    Zeroizing::new(match login {
        Login::Password { user, password } => format!("\0{user}\0{}", password.as_str()),
        Login::Bearer { user, token } => format!("user={user}\x01auth=Bearer {}\x01\x01", token.as_str()),
    })
}

async fn enter(wire: &mut Wire, login: &Login) -> Result<Vec<String>, ImapError> {
    let before = capabilities(wire).await?;
    let has = |name: &str| before.iter().any(|one| one == name);
    let told = match login {
        Login::Password { user, password } if has("AUTH=PLAIN") => {
            authenticate(wire, "PLAIN", &in_mechanism(login), user, password).await?
        }
        Login::Password { .. } if has("LOGINDISABLED") => {
            return Err(ImapError::new(Fault::Auth, "the server takes no password, not even over TLS"));
        }
        Login::Password { user, password } => by_login(wire, user, password).await?,
        Login::Bearer { .. } if !has("AUTH=XOAUTH2") => {
            return Err(ImapError::new(Fault::Auth, "the server takes no OAuth tokens by XOAUTH2"));
        }
        Login::Bearer { user, token } => authenticate(wire, "XOAUTH2", &in_mechanism(login), user, token).await?,
    };
    match told {
        Some(after) => Ok(after),
        None => capabilities(wire).await,
    }
}

async fn capabilities(wire: &mut Wire) -> Result<Vec<String>, ImapError> {
    let tag = wire.send("CAPABILITY", 0).await?;
    let mut all = Vec::new();
    loop {
        match wire.receive().await? {
            Answer::Capabilities(told) => all = told,
            Answer::Done(done, Verdict::Ok, _) if done == tag => return Ok(all),
            answer => after_all(answer, tag)?,
        }
    }
}

/// What a command's loop does with an answer it has no use for.
fn after_all(answer: Answer, tag: u64) -> Result<(), ImapError> {
    match answer {
        Answer::Done(done, verdict, outcome) if done == tag => Err(refused(verdict, &outcome)),
        Answer::Done(..) => Err(ImapError::protocol("the server ends a command that was not sent")),
        Answer::Bye(text) => Err(ImapError::network("the server turned us away").saying(&text)),
        _ => Ok(()),
    }
}

fn refused(verdict: Verdict, outcome: &Outcome) -> ImapError {
    let not_now = refusal::has_passing_code(outcome);
    let crowded = outcome.text.to_ascii_lowercase().contains("too many");
    let error = match verdict {
        _ if not_now || crowded => ImapError::network("the server cannot let us in now"),
        Verdict::Bad => ImapError::protocol("the server does not understand how we log in"),
        _ => ImapError::new(Fault::Auth, "the server refuses the user's name or the password or token"),
    };
    error.saying(&outcome.text)
}

async fn by_login(wire: &mut Wire, user: &str, password: &str) -> Result<Option<Vec<String>>, ImapError> {
    no_control(user, password)?;
    let pair = quoted(user).zip(quoted(password).map(Zeroizing::new));
    let tag = if let Some((user, password)) = pair {
        let command = Zeroizing::new(format!("LOGIN {user} {}", password.as_str()));
        wire.send(&command, 0).await?
    } else {
        // Quotes hold ASCII only; a literal holds every byte, and the server says when to send it.
        let tag = wire.send(&format!("LOGIN {{{}}}", user.len()), 0).await?;
        consent(wire, tag).await?;
        wire.send_line(&format!("{user} {{{}}}", password.len())).await?;
        consent(wire, tag).await?;
        wire.send_line(password).await?;
        tag
    };
    ended(wire, tag).await
}

async fn consent(wire: &mut Wire, tag: u64) -> Result<(), ImapError> {
    loop {
        match wire.receive().await? {
            Answer::Continue => return Ok(()),
            Answer::Done(_, Verdict::Ok, _) => {
                return Err(ImapError::protocol("the server let us in before the password"));
            }
            answer => after_all(answer, tag)?,
        }
    }
}

async fn authenticate(
    wire: &mut Wire,
    how: &str,
    secret: &str,
    user: &str,
    password: &str,
) -> Result<Option<Vec<String>>, ImapError> {
    no_control(user, password)?;
    let tag = wire.send(&format!("AUTHENTICATE {how}"), 0).await?;
    consent(wire, tag).await?;
    wire.send_line(&Zeroizing::new(BASE64.encode(secret.as_bytes()))).await?;
    ended(wire, tag).await
}

/// Waits for the end; to every further question, which tells an error, the answer is empty.
async fn ended(wire: &mut Wire, tag: u64) -> Result<Option<Vec<String>>, ImapError> {
    let (mut told, mut questions) = (None, 0_usize);
    loop {
        match wire.receive().await? {
            Answer::Done(done, Verdict::Ok, outcome) if done == tag => {
                return Ok(if let Code::Capabilities(all) = outcome.code { Some(all) } else { told });
            }
            Answer::Capabilities(all) => told = Some(all),
            Answer::Continue if questions < CHALLENGES => {
                questions = questions.saturating_add(1);
                wire.send_line("").await?;
            }
            Answer::Continue => return Err(ImapError::protocol("the server asks without an end")),
            answer => after_all(answer, tag)?,
        }
    }
}

fn no_control(user: &str, password: &str) -> Result<(), ImapError> {
    if user.chars().chain(password.chars()).any(|c| matches!(c, '\0' | '\r' | '\n' | '\x01')) {
        return Err(ImapError::new(Fault::Auth, "the user's name or the password has control characters"));
    }
    Ok(())
}
