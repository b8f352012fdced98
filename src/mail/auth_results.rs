//! What the mailbox's own host says about who sent a mail: `Authentication-Results` (RFC 8601).
//!
//! Anybody can write this field. [`trusted`] takes it only if it bears an id that the operator configured *and* stands
//! where no sender can have put it: above the topmost `Received` field. A host should remove forged fields with its id
//! (section 5), but nothing shows that it does, so what stands below counts only if the operator says so.

use std::fmt;

use super::fields::{Field, Fields};

/// The longest field that is read, in bytes, and the most fields and results.
const LONGEST: usize = 16 * 1024;
const MOST_FIELDS: usize = 16;
const MOST_RESULTS: usize = 64;
/// The most fields of a mail's way that are looked at below the border.
const MOST_TRACED: usize = 32;

const NAME: &str = "Authentication-Results";
const RECEIVED: &str = "Received";

/// One `method=result` with its properties. Its `Debug` shows none of them: they hold addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct MethodResult {
    /// `dkim`, `spf`, `dmarc` or another, in lower case, without its version.
    pub method: String,
    /// `pass`, `fail`, `none` or another, in lower case.
    pub result: String,
    /// `ptype.property` in lower case and its value as written, in their order.
    pub properties: Vec<(String, String)>,
}

impl fmt::Debug for MethodResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({} properties)", self.method, self.result, self.properties.len())
    }
}

impl MethodResult {
    /// The value of a property, such as `header.from`.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    /// The domain in a property: what stands behind its last `@`, in lower case.
    fn domain(&self, name: &str) -> Option<String> {
        let value = self.property(name)?;
        let domain = value.rsplit('@').next().unwrap_or(value).trim_end_matches('>');
        (!domain.is_empty()).then(|| domain.to_ascii_lowercase())
    }
}

/// One field: whose it is and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthResults {
    /// The authserv-id as written.
    pub id: String,
    /// Its results, in their order.
    pub results: Vec<MethodResult>,
}

/// What a host says that the operator trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedResults(Vec<MethodResult>);

/// What a trusted host says of DMARC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// The domain has no policy, or none that can be read.
    NoPolicy,
    /// It could not be learned.
    Temporary,
}

impl TrustedResults {
    /// All results, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &MethodResult> {
        self.0.iter()
    }

    fn of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a MethodResult> {
        self.0.iter().filter(move |result| result.method == method)
    }

    /// What is said of DMARC for the domain of the mail's `From`. A statement that names another domain, or none, is
    /// about something else than what is read here. Of several the worst counts.
    pub fn dmarc(&self, from_domain: &str) -> Option<Stated> {
        let about = |result: &&MethodResult| {
            result.domain("header.from").is_some_and(|domain| domain.eq_ignore_ascii_case(from_domain))
        };
        let stated = self.of("dmarc").filter(about).map(|result| match result.result.as_str() {
            "pass" => Stated::Pass,
            "fail" => Stated::Fail,
            "temperror" => Stated::Temporary,
            _ => Stated::NoPolicy,
        });
        stated.max_by_key(|stated| match stated {
            Stated::Pass => 0,
            Stated::NoPolicy => 1,
            Stated::Temporary => 2,
            Stated::Fail => 3,
        })
    }

    /// Whether it is known what came of SPF for MAIL FROM: not where it could not be learned, or HELO alone was looked at.
    pub fn has_spf(&self) -> bool {
        let of_helo = |one: &MethodResult| one.property("smtp.helo").is_some() && one.domain("smtp.mailfrom").is_none();
        self.of("spf").any(|one| one.result != "temperror" && !of_helo(one))
    }

    /// The domains of MAIL FROM for which SPF passed, in lower case.
    pub fn spf_passes(&self) -> Vec<String> {
        self.of("spf").filter(|one| one.result == "pass").filter_map(|one| one.domain("smtp.mailfrom")).collect()
    }

    /// The signing domains for which DKIM passed, in lower case.
    pub fn dkim_passes(&self) -> Vec<String> {
        let passed = self.of("dkim").filter(|one| one.result == "pass");
        passed.filter_map(|one| one.domain("header.d").or_else(|| one.domain("header.i"))).collect()
    }
}

/// The mail servers whose word counts, as the operator configured them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustedServers {
    /// The authserv-ids that they sign with; compared whole, whatever the case.
    pub ids: Vec<String>,
    /// Whether they remove fields with their ids from mails that come from outside.
    pub remove_forged: bool,
}

impl TrustedServers {
    /// What a field says, if it is one of theirs.
    fn said(&self, field: &Field<'_>) -> Option<AuthResults> {
        let told = field.is(NAME).then(|| read(&field.text())).flatten()?;
        self.ids.iter().any(|id| id.eq_ignore_ascii_case(&told.id)).then_some(told)
    }
}

/// The results that can be trusted: of fields of `servers` above the border, which is the topmost `Received` that is not
/// a hand-over by LMTP on the same host.
///
/// Many servers write theirs below their own `Received`, where a sender can write as well. If they remove forged ones and
/// nothing of theirs stands above the border, their topmost field below it counts, with the others of theirs before the
/// next `Received`. Gives nothing if there is no border, no id is configured, or no such field stands there.
pub fn trusted(fields: &Fields<'_>, servers: &TrustedServers) -> Option<TrustedResults> {
    // One that tells nothing may be the border's own: nothing below it counts.
    let is_border = |field: &Field<'_>| field.is(RECEIVED) && is_lmtp(&field.text()) != Some(true);
    let border = fields.iter().position(is_border)?;
    let above = fields.iter().take(border).filter(|field| field.is(NAME)).take(MOST_FIELDS);
    let mut found: Vec<AuthResults> = above.filter_map(|field| servers.said(field)).collect();
    if found.is_empty() && servers.remove_forged {
        found = topmost(fields.iter().skip(border), servers);
    }
    let results: Vec<MethodResult> = found.into_iter().flat_map(|one| one.results).collect();
    (!results.is_empty()).then_some(TrustedResults(results))
}

/// The topmost field of the servers and those of theirs that follow it before a `Received`.
fn topmost<'a>(fields: impl Iterator<Item = &'a Field<'a>>, servers: &TrustedServers) -> Vec<AuthResults> {
    let mut found = Vec::new();
    for field in fields.filter(|field| field.is(NAME) || field.is(RECEIVED)).take(MOST_TRACED) {
        if field.is(RECEIVED) && !found.is_empty() {
            break;
        }
        found.extend(servers.said(field));
    }
    found
}

/// Whether a `Received` field tells of a hand-over by LMTP (RFC 3848). A sender can have words of theirs in it, as their
/// name in HELO or as MAIL FROM: a field that has `by` or `with` twice, or no `by`, tells nothing.
fn is_lmtp(text: &str) -> Option<bool> {
    let words: Vec<String> = tokens(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text))
        .into_iter()
        .filter_map(Token::word)
        .collect();
    let behind = |name: &str| {
        let mut places = words.iter().enumerate().filter(|(_, word)| word.eq_ignore_ascii_case(name));
        let place = places.next().map(|(place, _)| place);
        places.next().is_none().then(|| place.and_then(|place| words.get(place + 1)))
    };
    behind("by")??;
    let with = behind("with")?.map(|with| with.to_ascii_uppercase()).unwrap_or_default();
    Some(with.starts_with("LMTP") || with.starts_with("UTF8LMTP"))
}

/// Reads the value of one field. Gives nothing if it has no authserv-id or a version that is not 1. Results that cannot
/// be read are passed over.
pub fn read(value: &str) -> Option<AuthResults> {
    let tokens = (value.len() <= LONGEST).then(|| tokens(value))?;
    let mut parts = tokens.split(|token| *token == Token::Semicolon);
    let id = match parts.next()? {
        [Token::Word(id)] => id.clone(),
        [Token::Word(id), Token::Word(version)] if version == "1" => id.clone(),
        _ => return None,
    };
    Some(AuthResults { id, results: parts.filter_map(result).take(MOST_RESULTS).collect() })
}

/// `method=result` and what follows it up to the semicolon.
fn result(tokens: &[Token]) -> Option<MethodResult> {
    let [Token::Word(method), Token::Equals, Token::Word(result), rest @ ..] = tokens else { return None };
    let (method, version) = method.split_once('/').unwrap_or((method, "1"));
    if version != "1" {
        return None;
    }
    let mut properties = Vec::new();
    let mut rest = rest;
    while let Some((_, after)) = rest.split_first() {
        rest = match rest {
            [Token::Word(name), Token::Equals, Token::Word(value), after @ ..] => {
                properties.push((name.to_ascii_lowercase(), value.clone()));
                after
            }
            _ => after,
        };
    }
    Some(MethodResult { method: method.to_ascii_lowercase(), result: result.to_ascii_lowercase(), properties })
}

#[derive(Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
    Semicolon,
}

impl Token {
    fn word(self) -> Option<String> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Cuts a structured field: comments go, whatever their depth; a quoted string belongs to the word it touches.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let (mut depth, mut quoted) = (0_usize, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if depth > 0 => drop(characters.next()),
            '(' if !quoted => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => continue,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
                continue;
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            _ if quoted => word.get_or_insert_default().push(character),
            ';' | '=' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if character == ';' { Token::Semicolon } else { Token::Equals });
            }
            _ if character.is_whitespace() => {}
            _ => {
                word.get_or_insert_default().push(character);
                continue;
            }
        }
        // Whatever is no part of a word ends it.
        if !quoted {
            tokens.extend(word.take().map(Token::Word));
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

#[cfg(test)]
mod tests;
