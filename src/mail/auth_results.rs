//! What the mailbox's own host says about who sent a mail: `Authentication-Results` (RFC 8601).
//!
//! Anybody can write this field. [`trusted`] takes it only if it bears an id that the operator configured *and* stands
//! where no sender can have put it: above the first `Received` field of the operator's host. A host should remove
//! forged fields with its id (section 5), but nothing shows that it does, so everything below is passed over.

use std::fmt;

use super::fields::{Field, Fields};

/// The longest field that is read, in bytes, and the most fields and results.
const LONGEST: usize = 16 * 1024;
const MOST_FIELDS: usize = 16;
const MOST_RESULTS: usize = 64;

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

    /// Whether SPF was looked at, whatever came of it.
    pub fn has_spf(&self) -> bool {
        self.of("spf").next().is_some()
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

/// The results that can be trusted: of fields whose id is one of `authserv_ids` (exactly, whatever the case), above the
/// border.
///
/// The border is the first `Received` field from the top whose `by` is one of `received_by`; without such a list it is
/// the topmost `Received` that is not a hand-over by LMTP on the same host. The list must name every host that takes mail
/// from outside, because one that is not named is taken for an inner one. Gives nothing if there is no border, no id
/// is configured, or no such field stands there.
pub fn trusted(fields: &Fields<'_>, authserv_ids: &[String], received_by: &[String]) -> Option<TrustedResults> {
    let is_border = |field: &Field<'_>| {
        let trace = field.is("Received").then(|| Trace::read(&field.text()));
        // One that tells nothing may be the border's own: nothing below it counts.
        trace.is_some_and(|trace| match (trace, received_by) {
            (None, _) => true,
            (Some(trace), []) => !trace.lmtp,
            (Some(trace), hosts) => hosts.iter().any(|host| host.eq_ignore_ascii_case(&trace.by)),
        })
    };
    let border = fields.iter().position(is_border)?;
    let above = fields.iter().take(border).filter(|field| field.is("Authentication-Results"));
    let read = above.take(MOST_FIELDS).filter_map(|field| read(&field.text()));
    let ours = read.filter(|one| authserv_ids.iter().any(|id| id.eq_ignore_ascii_case(&one.id)));
    let results: Vec<MethodResult> = ours.flat_map(|one| one.results).collect();
    (!results.is_empty()).then_some(TrustedResults(results))
}

/// What is needed of a `Received` field: `by` and whether `with` is LMTP (RFC 3848).
struct Trace {
    by: String,
    lmtp: bool,
}

impl Trace {
    /// Reads one. A sender can have words of theirs in it, as their name in HELO or as MAIL FROM: a field that has `by`
    /// or `with` twice, or no `by`, tells nothing.
    fn read(text: &str) -> Option<Trace> {
        let words: Vec<String> = tokens(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text))
            .into_iter()
            .filter_map(Token::word)
            .collect();
        let behind = |name: &str| {
            let mut places = words.iter().enumerate().filter(|(_, word)| word.eq_ignore_ascii_case(name));
            let place = places.next().map(|(place, _)| place);
            places.next().is_none().then(|| place.and_then(|place| words.get(place + 1)).cloned())
        };
        let with = behind("with")?.unwrap_or_default().to_ascii_uppercase();
        Some(Trace { by: behind("by")??, lmtp: with.starts_with("LMTP") || with.starts_with("UTF8LMTP") })
    }
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
