//! Verification: whether a request really comes from the provider.
//!
//! Always over the raw bytes, always in constant time, and never optional: a manifest that checks nothing must say
//! `kind = "none"`. Several schemes in one manifest are alternatives; one that holds is enough.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::{hmac, signature};

use super::options::Account;
use super::request::Request;
use super::tree::{Notes, Table};
use crate::base::Timestamp;
use crate::base::hash::{same_secret, sha256};

/// How a request was shown to be authentic: a word for the interaction's `raw.verified_by`, such as `hmac-sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBy(pub String);

/// Why a request is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In plain words, without any part of the request.
    pub reason: String,
    /// The HTTP status to answer.
    pub status: u16,
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Refusal { reason: reason.into(), status: 401 }
    }
}

/// One scheme of a manifest.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    /// A keyed hash in a header over declared pieces.
    Hmac { algorithm: hmac::Algorithm, name: &'static str, signature: Where, window: Option<Window>, key: String },
    /// Twilio's: URL and sorted parameters, or URL and the hash of the body.
    Twilio { header: String, key: String },
    /// A shared secret handed over as it is.
    Token { header: Option<String>, query: Option<String>, prefix: String, key: String },
    /// HTTP Basic (RFC 7617).
    Basic { user: String, password: String },
    /// Ed25519 (RFC 8032) in a header over declared pieces.
    Ed25519 { signature: Where, window: Option<Window>, key: String },
    /// Nothing is checked.
    None,
}

/// Where a signature stands, how it is written and what it covers.
#[derive(Debug, Clone)]
pub(super) struct Where {
    header: String,
    prefix: String,
    base64: bool,
    signs: Vec<Signed>,
}

/// A piece of what is signed.
#[derive(Debug, Clone)]
enum Signed {
    Body,
    Url,
    Method,
    Header(String),
    Literal(String),
}

/// How old a request may be by its own timestamp.
#[derive(Debug, Clone)]
pub(super) struct Window {
    header: String,
    seconds: i64,
}

impl Window {
    fn check(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let stated =
            request.header(&self.header).ok_or_else(|| Refusal::new(format!("no `{}` header", self.header)))?;
        let stated = super::convert::unix(stated)
            .ok_or_else(|| Refusal::new(format!("`{}` header is not a Unix time", self.header)))?;
        // Both ways: a timestamp from the future would stay valid for as long as its forger likes.
        if now.since(stated).abs() > self.seconds * 1000 {
            return Err(Refusal::new(format!("timestamp is more than {} s away from now", self.seconds)));
        }
        Ok(())
    }
}

impl Where {
    fn stated(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let header = &self.header;
        let text = request.header(header).ok_or_else(|| Refusal::new(format!("no `{header}` header")))?;
        let text = text.strip_prefix(self.prefix.as_str());
        let text =
            text.ok_or_else(|| Refusal::new(format!("`{header}` header does not start with `{}`", self.prefix)))?;
        let bytes =
            if self.base64 { BASE64.decode(text.as_bytes()) } else { HEXLOWER_PERMISSIVE.decode(text.as_bytes()) };
        bytes.map_err(|_| {
            Refusal::new(format!("`{header}` header is not {}", if self.base64 { "base64" } else { "hex" }))
        })
    }

    /// Hands each signed piece to `take`, in order.
    fn pieces(&self, request: &Request, mut take: impl FnMut(&[u8])) -> Result<(), Refusal> {
        for piece in &self.signs {
            match piece {
                Signed::Body => take(&request.body),
                Signed::Url => take(request.url.as_bytes()),
                Signed::Method => take(request.method.as_bytes()),
                Signed::Literal(text) => take(text.as_bytes()),
                Signed::Header(name) => {
                    let value = request.header(name).ok_or_else(|| Refusal::new(format!("no `{name}` header")))?;
                    take(value.as_bytes());
                }
            }
        }
        Ok(())
    }
}

impl Scheme {
    /// Reads one `[[verify]]` table.
    pub(super) fn read(mut table: Table, options: &[String], notes: &mut Notes<'_>) -> Option<Scheme> {
        const KINDS: [&str; 6] = ["hmac", "twilio", "token", "basic", "ed25519", "none"];
        let (kind, at) = table.need("kind", notes)?;
        let scheme = match kind.as_str() {
            "hmac" => read_hmac(&mut table, options, notes),
            "twilio" => {
                let header = lower(table.text("header", notes)).unwrap_or_else(|| "x-twilio-signature".to_owned());
                key(&mut table, "key", options, notes).map(|key| Scheme::Twilio { header, key })
            }
            "token" => {
                let header = lower(table.text("header", notes));
                let query = table.text("query", notes).map(|(text, _)| text);
                let prefix = table.text("prefix", notes).map(|(text, _)| text).unwrap_or_default();
                if header.is_some() == query.is_some() {
                    notes.wrong(table.at, "a token stands in a `header` or in a `query` parameter; name one of them");
                }
                key(&mut table, "key", options, notes).map(|key| Scheme::Token { header, query, prefix, key })
            }
            "basic" => {
                let user = key(&mut table, "user", options, notes);
                let password = key(&mut table, "password", options, notes);
                user.zip(password).map(|(user, password)| Scheme::Basic { user, password })
            }
            "ed25519" => {
                let signature = read_where(&mut table, notes);
                let window = read_window(&mut table, notes);
                let key = key(&mut table, "key", options, notes);
                signature.zip(key).map(|(signature, key)| Scheme::Ed25519 { signature, window, key })
            }
            "none" => Some(Scheme::None),
            _ => {
                notes.wrong_name(at, format!("unknown verification scheme `{kind}`"), &kind, KINDS);
                return None;
            }
        };
        table.finish(notes);
        scheme
    }

    /// Checks a request.
    pub(super) fn check(&self, request: &Request, account: &Account, now: Timestamp) -> Result<VerifiedBy, Refusal> {
        let verified = |by: &str| Ok(VerifiedBy(by.to_owned()));
        match self {
            Scheme::Hmac { algorithm, name, signature, window, key } => {
                let stated = signature.stated(request)?;
                if let Some(window) = window {
                    window.check(request, now)?;
                }
                for secret in keys(account, key)? {
                    let mut context = hmac::Context::with_key(&hmac::Key::new(*algorithm, secret.as_bytes()));
                    signature.pieces(request, |piece| context.update(piece))?;
                    if same_secret(context.sign().as_ref(), &stated) {
                        return verified(name);
                    }
                }
                Err(Refusal::new("signature does not match"))
            }
            Scheme::Twilio { header, key } => twilio(request, header, &keys(account, key)?),
            Scheme::Token { header, query, prefix, key } => {
                let stated = match (header, query) {
                    (Some(name), _) => request.header(name).map(str::to_owned),
                    (None, name) => {
                        let name = name.as_deref().unwrap_or_default();
                        let mut pairs = url::form_urlencoded::parse(request.query().as_bytes());
                        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
                    }
                };
                let stated = stated.ok_or_else(|| Refusal::new("no token in the request"))?;
                let stated = stated.strip_prefix(prefix.as_str()).ok_or_else(|| Refusal::new("token is malformed"))?;
                match keys(account, key)?.iter().any(|secret| same_secret(secret.as_bytes(), stated.as_bytes())) {
                    true => verified("token"),
                    false => Err(Refusal::new("token does not match")),
                }
            }
            Scheme::Basic { user, password } => basic(request, &keys(account, user)?, &keys(account, password)?),
            Scheme::Ed25519 { signature, window, key } => {
                let stated = signature.stated(request)?;
                if let Some(window) = window {
                    window.check(request, now)?;
                }
                let mut message = Vec::with_capacity(request.body.len() + 64);
                signature.pieces(request, |piece| message.extend_from_slice(piece))?;
                for text in keys(account, key)? {
                    let public =
                        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).or_else(|_| BASE64.decode(text.as_bytes()));
                    let public = public.map_err(|_| Refusal::new("configured public key is neither hex nor base64"))?;
                    let public = signature::UnparsedPublicKey::new(&signature::ED25519, public);
                    if public.verify(&message, &stated).is_ok() {
                        return verified("ed25519");
                    }
                }
                Err(Refusal::new("signature does not match"))
            }
            Scheme::None => verified("none"),
        }
    }

    /// The headers by which the provider would sign this request: what the sample runner sends.
    pub(super) fn sign(&self, request: &mut Request, account: &Account, now: Timestamp) {
        let secret = |key: &str| account.options.values(key).first().copied().unwrap_or_default().to_owned();
        match self {
            Scheme::Hmac { algorithm, signature, window, key, .. } => {
                if let Some(window) = window {
                    set_default(request, &window.header, now.seconds().to_string());
                }
                let mut context = hmac::Context::with_key(&hmac::Key::new(*algorithm, secret(key).as_bytes()));
                if signature.pieces(request, |piece| context.update(piece)).is_ok() {
                    let tag = context.sign();
                    let text = if signature.base64 {
                        BASE64.encode(tag.as_ref())
                    } else {
                        HEXLOWER_PERMISSIVE.encode(tag.as_ref())
                    };
                    set_default(request, &signature.header, format!("{}{text}", signature.prefix));
                }
            }
            Scheme::Twilio { header, key } => {
                let text = BASE64.encode(&twilio_tag(&request.url, &twilio_fields(request), &secret(key)));
                set_default(request, header, text);
            }
            Scheme::Token { header, query, prefix, key } => {
                let token = format!("{prefix}{}", secret(key));
                if let Some(header) = header {
                    set_default(request, header, token);
                } else if let Some(query) = query {
                    let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(query, &token).finish();
                    let separator = if request.url.contains('?') { '&' } else { '?' };
                    request.url = format!("{}{separator}{pair}", request.url);
                }
            }
            Scheme::Basic { user, password } => {
                let text = BASE64.encode(format!("{}:{}", secret(user), secret(password)).as_bytes());
                set_default(request, "authorization", format!("Basic {text}"));
            }
            // Its private half is the provider's; samples carry literal signatures.
            Scheme::Ed25519 { .. } | Scheme::None => {}
        }
    }
}

fn set_default(request: &mut Request, name: &str, value: String) {
    if request.header(name).is_none() {
        request.headers.push((name.to_owned(), value));
    }
}

fn keys<'a>(account: &'a Account, option: &str) -> Result<Vec<&'a str>, Refusal> {
    let values = account.options.values(option);
    if values.is_empty() {
        // Never "no key, no check": an account without its key accepts nothing.
        return Err(Refusal::new(format!("option `{option}` is not set, so nothing can be verified")));
    }
    Ok(values)
}

fn basic(request: &Request, users: &[&str], passwords: &[&str]) -> Result<VerifiedBy, Refusal> {
    let header = request.header("authorization").ok_or_else(|| Refusal::new("no `authorization` header"))?;
    let (scheme, text) = header.split_once(' ').unwrap_or_default();
    let pair = BASE64.decode(text.trim().as_bytes()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let pair = pair.ok_or_else(|| Refusal::new("`authorization` header is not HTTP Basic"))?;
    let split = pair.iter().position(|b| *b == b':').unwrap_or(pair.len());
    let (user, password) = pair.split_at_checked(split).unwrap_or_default();
    let password = password.get(1..).unwrap_or_default();
    let user = users.iter().any(|known| same_secret(known.as_bytes(), user));
    let password = passwords.iter().any(|known| same_secret(known.as_bytes(), password));
    if user & password {
        Ok(VerifiedBy("basic".to_owned()))
    } else {
        Err(Refusal::new("user or password does not match"))
    }
}

/// Twilio's request signature: <https://www.twilio.com/docs/usage/security>.
fn twilio(request: &Request, header: &str, secrets: &[&str]) -> Result<VerifiedBy, Refusal> {
    let stated = request.header(header).ok_or_else(|| Refusal::new(format!("no `{header}` header")))?;
    let stated =
        BASE64.decode(stated.as_bytes()).map_err(|_| Refusal::new(format!("`{header}` header is not base64")))?;
    let query = request.query();
    if let Some((_, stated_hash)) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256")
    {
        let actual = HEXLOWER_PERMISSIVE.encode(&sha256(&request.body));
        if !same_secret(actual.as_bytes(), stated_hash.to_ascii_lowercase().as_bytes()) {
            return Err(Refusal::new("body does not have the hash that the URL states"));
        }
    }
    let fields = twilio_fields(request);
    for url in url_variants(&request.url) {
        for secret in secrets {
            if same_secret(&twilio_tag(&url, &fields, secret), &stated) {
                return Ok(VerifiedBy("twilio-hmac-sha1".to_owned()));
            }
        }
    }
    Err(Refusal::new("signature does not match"))
}

/// What is signed beside the URL: the form's pairs sorted by bytes, repeats of one pair once.
fn twilio_fields(request: &Request) -> Vec<(String, String)> {
    // A JSON body is covered by the hash in the URL and a GET by the URL itself.
    if request.media_type() != "application/x-www-form-urlencoded" {
        return Vec::new();
    }
    let pairs = url::form_urlencoded::parse(&request.body);
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

fn twilio_tag(url: &str, fields: &[(String, String)], secret: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(url.as_bytes());
    for (name, value) in fields {
        context.update(name.as_bytes());
        context.update(value.as_bytes());
    }
    context.sign().as_ref().to_vec()
}

/// The URL as it is, without its port and with the standard one: Twilio signs one or the other, depending on product.
fn url_variants(url: &str) -> Vec<String> {
    let mut variants = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return variants };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let at = if user.is_empty() { "" } else { "@" };
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !bare.is_empty() => bare,
        _ => host,
    };
    let standard = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
    variants.push(format!("{scheme}://{user}{at}{bare}{path}"));
    variants.push(format!("{scheme}://{user}{at}{bare}:{standard}{path}"));
    variants
}

fn read_hmac(table: &mut Table, options: &[String], notes: &mut Notes<'_>) -> Option<Scheme> {
    const ALGORITHMS: [(&str, &str, hmac::Algorithm); 3] = [
        ("sha1", "hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("sha256", "hmac-sha256", hmac::HMAC_SHA256),
        ("sha512", "hmac-sha512", hmac::HMAC_SHA512),
    ];
    let algorithm = table.need("algorithm", notes).and_then(|(wanted, at)| {
        let found = ALGORITHMS.into_iter().find(|(known, ..)| *known == wanted);
        if found.is_none() {
            let known = ALGORITHMS.iter().map(|(known, ..)| *known);
            notes.wrong_name(at, format!("unknown algorithm `{wanted}`"), &wanted, known);
        }
        found
    });
    let signature = read_where(table, notes);
    let window = read_window(table, notes);
    let key = key(table, "key", options, notes);
    let (_, name, algorithm) = algorithm?;
    Some(Scheme::Hmac { algorithm, name, signature: signature?, window, key: key? })
}

fn read_where(table: &mut Table, notes: &mut Notes<'_>) -> Option<Where> {
    let header = lower(table.need("header", notes));
    let prefix = table.text("prefix", notes).map(|(text, _)| text).unwrap_or_default();
    let base64 = match table.text("encoding", notes) {
        None => false,
        Some((encoding, _)) if encoding == "hex" => false,
        Some((encoding, _)) if encoding == "base64" => true,
        Some((encoding, at)) => {
            notes.wrong_name(at, format!("unknown encoding `{encoding}`"), &encoding, ["hex", "base64"]);
            false
        }
    };
    let texts = table.texts("signs", notes);
    let mut signs: Vec<Signed> = texts
        .into_iter()
        .map(|(text, _)| match text.as_str() {
            "body" => Signed::Body,
            "url" => Signed::Url,
            "method" => Signed::Method,
            _ => match text.strip_prefix("header:") {
                Some(name) => Signed::Header(name.to_ascii_lowercase()),
                None => Signed::Literal(text),
            },
        })
        .collect();
    if signs.is_empty() {
        signs.push(Signed::Body);
    }
    if !signs.iter().any(|piece| matches!(piece, Signed::Body)) {
        notes.wrong(table.at, "`signs` must cover the `body`, or anybody can change it");
    }
    Some(Where { header: header?, prefix, base64, signs })
}

fn read_window(table: &mut Table, notes: &mut Notes<'_>) -> Option<Window> {
    let mut window = table.table("window", notes)?;
    let header = lower(window.need("header", notes));
    let seconds = window.integer("seconds", 1, 86_400, notes).unwrap_or(300);
    window.finish(notes);
    header.map(|header| Window { header, seconds })
}

fn key(table: &mut Table, name: &'static str, options: &[String], notes: &mut Notes<'_>) -> Option<String> {
    let (option, at) = table.need(name, notes)?;
    if !options.contains(&option) {
        let reason = format!("`{name}` names option `{option}`, which is not declared");
        notes.wrong_name(at, reason, &option, options.iter().map(String::as_str));
        return None;
    }
    Some(option)
}

fn lower(text: Option<(String, usize)>) -> Option<String> {
    text.map(|(text, _)| text.to_ascii_lowercase())
}
